"""What every recipe of photogram must do, whatever it is: conformance tests over the union.

`SMALL` says how to try a recipe in seconds. A recipe that is missing there fails.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import safetensors.torch
import torch
from small_training import ENVIRONMENT, ROOT, Blocks, Colors, digest, outcome, published_in, run_python
from toy_scenes import ToyGreys, ToyPhotos, ToyUnpaired

from photogram.cli import RECIPES
from photogram.data.toy import Toy, write_toy
from photogram.data.toy_layout import CLASSES as TOY_CLASSES
from photogram.errors import UserError
from photogram.generator import Generator, Network, Reader
from photogram.recipe import Recipe, Scenes, Training
from photogram.recipes import (
    CRN,
    GAN,
    Colorization,
    CycleGAN,
    EncoderDecoder,
    FullResolution,
    GANSegmentation,
    Pix2Pix,
    Pix2PixHD,
    Segmenter,
    load,
    members,
    word,
)
from photogram.recipes.segmenter import SegmentationNetwork
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec, Size
from photogram.training import Plan, train


@dataclass(frozen=True)
class Small:
    """How to try a recipe.

    Args:
        recipe: settings that learn the toy scenes in seconds.
        size: height and width to try it at.
        steps: so many learn.
        batch_size: photographs a step.
        falls: the losses that must fall, and to which share of what they were in the first steps.
        parameters: of its networks with the paper's settings, by class, for a published count.
        paper: the scenes for which the paper counts.
        remembers: what to set besides, so that as much as can be has to survive a stop; an epoch is four steps.
        sums_over_processes: whether two processes learn what one with twice the batch does.
        near: whether its objective asks for the photograph itself.
        scenes: the toy world as it sees it.
    """

    recipe: Any
    size: Size
    steps: int
    batch_size: int
    falls: dict[str, float]
    parameters: dict[str, int]
    paper: SceneSpec
    remembers: dict[str, Any]
    sums_over_processes: bool
    near: bool = True
    scenes: type[Toy] = Toy


@cache
def toy_segmenter() -> str:
    """A published segmenter of the toy world that has learned nothing; processes that tests start share it."""
    if "PHOTOGRAM_TOY_SEGMENTER" in ENVIRONMENT:
        return ENVIRONMENT["PHOTOGRAM_TOY_SEGMENTER"]
    folder = ENVIRONMENT["PHOTOGRAM_TOY_SEGMENTER"] = tempfile.mkdtemp(prefix="photogram-segmenter-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SegmentationNetwork(spec=SceneSpec(TOY_CLASSES, (48, 64)), width=16)
        torch.nn.init.normal_(network.to_classes.weight)  # so that it is sure of what it reads, though it is wrong
        network.save_pretrained(folder)
    return folder


CITYSCAPES = SceneSpec(tuple(SceneClass(f"class {n}", (n, n, n)) for n in range(20)), (256, 512))

SMALL: dict[str, Small] = {
    "CRN": Small(
        recipe=CRN(widths=(16, 16, 16), perceptual="squeezenet", learning_rate=5e-3, calibrate_first=8),
        size=(16, 24),
        steps=60,
        batch_size=2,
        falls={"loss": 0.8, "image": 0.7, "conv1": 0.85, "fire5": 0.85},
        parameters={"CascadedRefinementNetwork": 97_863_171},
        paper=CITYSCAPES,
        remembers={"calibrate_epoch": 1},
        sums_over_processes=True,
    ),
    "FullResolution": Small(
        recipe=FullResolution(
            width=16, dilations=(4, 2, 1), perceptual="squeezenet", learning_rate=3e-3, calibrate_first=8
        ),
        size=(16, 24),
        steps=120,
        batch_size=2,
        falls={"loss": 0.85, "image": 0.8},
        parameters={"FullResolutionNetwork": 1_763_715},
        paper=CITYSCAPES,
        remembers={"calibrate_epoch": 1},
        sums_over_processes=True,
    ),
    "EncoderDecoder": Small(
        recipe=EncoderDecoder(
            down=(12, 16, 16), up=(16, 16), perceptual="squeezenet", learning_rate=3e-3, calibrate_first=8
        ),
        size=(16, 24),
        steps=120,
        batch_size=2,
        falls={"loss": 0.85, "image": 0.8},
        parameters={"EncoderDecoderNetwork": 118_856_195},
        paper=CITYSCAPES,
        remembers={"calibrate_epoch": 1},
        sums_over_processes=True,
    ),
    "Segmenter": Small(
        recipe=Segmenter(width=16, learning_rate=5e-3, warmup=0, schedule=400, jitter=0.1, average=0.9),
        size=(48, 64),
        steps=60,
        batch_size=4,
        falls={"loss": 0.75},
        parameters={"SegmentationNetwork": 942_196},
        paper=CITYSCAPES,
        remembers={"warmup": 8},
        sums_over_processes=False,  # each draws its own crops
    ),
    "Pix2Pix": Small(
        recipe=Pix2Pix(width=16, levels=3, patch=16, discriminator_width=8, learning_rate=2e-3),
        size=(16, 24),
        steps=60,
        batch_size=2,
        falls={"loss": 0.8, "l1": 0.8},
        parameters={  # a plane a class in place of three colours
            "UNet": 54_413_955 + 17 * 16 * 64,
            "ResNetGenerator": 11_383_427 + 17 * 49 * 64,
        },
        paper=CITYSCAPES,
        remembers={"epochs": 1, "decay_epochs": 1, "average": 4.0, "augment": ("color", "translation", "cutout")},
        sums_over_processes=False,  # each has its own statistics and noise
    ),
    "Pix2PixHD": Small(
        recipe=Pix2PixHD(
            **{"width": 16, "downsamplings": 1, "blocks": 1, "enhancers": 1, "enhancer_blocks": 1, "scales": 2},
            **{"features": "objects", "encoder_width": 8, "discriminator_width": 8, "strided": 1},
            **{"perceptual": "squeezenet", "learning_rate": 2e-3},
        ),
        size=(32, 48),
        steps=60,
        batch_size=2,
        falls={"loss": 0.8, "perceptual": 0.8},
        parameters={"CoarseToFineGenerator": 182_546_755 - 15 * 49 * 64},  # 20 classes in place of 35
        paper=CITYSCAPES,
        remembers={
            **{"discriminator": "hybrid", "spectral": True, "average": 4.0},
            **{"epochs": 1, "decay_epochs": 2},
        },
        sums_over_processes=False,  # biases before instance norm have gradients that are rounding alone
        near=False,
    ),
    "GAN": Small(
        recipe=GAN(z_size=8, width=8, discriminator_width=8, levels=3, learning_rate=2e-3),
        size=(16, 24),
        steps=60,
        batch_size=4,
        falls={},  # neither side wins; tests/test_gan.py looks at what is painted
        parameters={"DCGANGenerator": 3_576_704},
        paper=SceneSpec((), (64, 64)),
        remembers={"game": "wgangp", "average": 4.0, "augment": ("color", "translation", "cutout")},
        sums_over_processes=False,  # each has its own noise and statistics
        near=False,
        scenes=ToyPhotos,
    ),
    "CycleGAN": Small(
        recipe=CycleGAN(width=8, blocks=2, patch=16, discriminator_width=8, learning_rate=2e-3),
        size=(16, 24),
        steps=60,
        batch_size=2,
        falls={"loss": 0.8, "cycle_a": 0.8, "cycle_b": 0.8, "identity_a": 0.8, "identity_b": 0.8},
        parameters={"ResNetGenerator": 11_378_179},
        paper=SceneSpec((), (256, 256), image_channels=3),
        remembers={
            **{"epochs": 1, "decay_epochs": 1, "pool_size": 3},
            **{"average": 4.0, "augment": ("color", "translation", "cutout")},
        },
        sums_over_processes=False,  # each jitters for itself
        near=False,
        scenes=ToyUnpaired,
    ),
    "GANSegmentation": Small(
        recipe=GANSegmentation(
            segmenter=toy_segmenter(), widths=(16, 24, 32), discriminator_widths=(8, 8, 8), learning_rate=1e-3
        ),
        size=(16, 32),
        steps=60,
        batch_size=2,
        falls={"segmentation": 0.95},
        parameters={"BottleneckGenerator": 22_312_707},
        paper=CITYSCAPES,
        remembers={"average": 4.0, "augment": ("color", "translation", "cutout")},
        sums_over_processes=False,  # each has its own statistics
        near=False,
    ),
    "Colorization": Small(
        recipe=Colorization(width=8, epochs_automatic=0, hints_rate=2e-3),
        size=(16, 24),
        steps=60,
        batch_size=4,
        falls={"loss": 0.8, "huber": 0.8, "bins": 0.95},
        parameters={"ColorizationNetwork": 34_187_027},
        paper=SceneSpec((), (256, 256), image_channels=1),
        remembers={"epochs_automatic": 1, "learning_rate": 1e-3, "global_hints": True},
        sums_over_processes=False,  # each has its own statistics and hints
        scenes=ToyGreys,
    ),
}

RECIPES_UNDER_TEST = pytest.mark.parametrize("recipe_type", members(), ids=lambda r: r.__name__)


def small(recipe_type: type[Any]) -> Small:
    if recipe_type.__name__ not in SMALL:
        pytest.fail(f"{recipe_type.__name__} is in the union of recipes, but not in SMALL of tests/test_recipes.py")
    return SMALL[recipe_type.__name__]


def toys(case: Small, split: str = "train", count: int = 40) -> Toy:
    return case.scenes(split, size=case.size, count=count, flip=split == "train")


def plan(case: Small, steps: int, precision: Any = "fp32", **more: Any) -> Plan:
    settings = {"batch_size": case.batch_size, "save_every": 1000, "workers": 0, "quiet": True, **more}
    return Plan(steps=steps, precision=precision, **settings)


def losses(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Trained:
    case: Small
    out: Path
    generator: Any


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Trains each recipe once, however many tests look at it."""

    @cache
    def go(recipe_type: type[Any]) -> Trained:
        case = small(recipe_type)
        out = tmp_path_factory.mktemp("trained") / "run"
        train(case.recipe, toys(case), out, plan(case, case.steps), toys(case, "val", 3))
        return Trained(case, out, load(published_in(out)[0]))

    return go


def those_of(kind: type[Network]) -> list[type[Any]]:
    return [recipe for recipe in members() if issubclass(recipe.networks[0], kind)]


@pytest.fixture(params=members(), ids=lambda r: r.__name__)
def anyone(request, once) -> Trained:
    return once(request.param)


@pytest.fixture(params=those_of(Generator), ids=lambda r: r.__name__)
def trained(request, once) -> Trained:
    """What paints."""
    return once(request.param)


@pytest.fixture(params=those_of(Reader), ids=lambda r: r.__name__)
def reader(request, once) -> Trained:
    """What reads photographs."""
    return once(request.param)


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    """All that a run has published."""
    found = {folder.name: safetensors.torch.load_file(folder / "model.safetensors") for folder in published_in(out)}
    return {f"{name} {key}" if len(found) > 1 else key: w for name, all_ in found.items() for key, w in all_.items()}


def layout_of(scene: Scene) -> Layout:
    assert scene.condition.layout is not None
    return scene.condition.layout


# --- what a recipe is ------------------------------------------------------------------------------------------------


def test_every_recipe_is_tried():
    names = {recipe.__name__ for recipe in members()}
    assert names == set(SMALL), "the union of recipes and SMALL differ"
    assert {word(recipe) for recipe in members()} == set(RECIPES), "the union of recipes and the command line differ"


@RECIPES_UNDER_TEST
def test_a_recipe_is_flat_and_survives_json(recipe_type):
    small(recipe_type)
    for recipe in (recipe_type(), SMALL[recipe_type.__name__].recipe):
        assert isinstance(recipe, Recipe)
        values = json.loads(json.dumps({f.name: getattr(recipe, f.name) for f in fields(recipe)}))
        again = recipe_type(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        assert again == recipe and hash(again) == hash(recipe)
        assert replace(recipe) == recipe
        hints = get_type_hints(recipe_type)
        for f in fields(recipe):
            value = getattr(recipe, f.name)
            flat = value if isinstance(value, tuple) else (value,)
            assert all(type(v) in (int, float, bool, str) for v in flat), f.name
            changed = {bool: lambda v: not v, str: lambda v: v + "x", tuple: lambda v: (*v, *v[:1])}
            other = changed.get(type(value), lambda v: v + 1)(value)
            if get_origin(hints[f.name]) is Literal:
                other = next(choice for choice in get_args(hints[f.name]) if choice != value)
            if other != value:
                assert replace(recipe, **{f.name: other}) != recipe
    with pytest.raises(AttributeError):
        setattr(recipe_type(), fields(recipe_type)[0].name, None)


@RECIPES_UNDER_TEST
def test_every_field_says_what_it_is(recipe_type):
    """The docstring under each field becomes its help on the command line."""
    import inspect

    source = "".join(inspect.getsource(base) for base in recipe_type.__mro__ if base is not object)
    for f in fields(recipe_type):
        after = source.split(f"\n    {f.name}: ", 1)[1].split("\n", 1)[1]
        assert after.lstrip().startswith('"""'), f"{f.name} has no docstring"


@RECIPES_UNDER_TEST
def test_parameters_are_the_papers(recipe_type):
    case = small(recipe_type)
    with torch.device("meta"):
        arguments = {f.name: getattr(recipe_type(), f.name) for f in fields(recipe_type)}
        built = {}
        for network in recipe_type.networks:
            import inspect

            wanted = [p for p in inspect.signature(network.__init__).parameters if p in arguments]
            built[network.__name__] = network(spec=case.paper, **{p: arguments[p] for p in wanted})
    assert {name: sum(p.numel() for p in network.parameters()) for name, network in built.items()} == case.parameters


# --- learning --------------------------------------------------------------------------------------------------------


def test_it_learns_the_toy_scenes(anyone):
    log = losses(anyone.out)
    assert all(math.isfinite(v) for line in log for v in line.values())
    for name, share in anyone.case.falls.items():
        values = [line[name] for line in log]
        first, last = (sum(part) / len(part) for part in (values[:5], values[-len(values) // 5 :]))
        assert last < share * first, f"{name} went from {first:.4g} to {last:.4g}"


def test_its_paintings_are_nearer_than_a_mean_image(trained):
    """To photographs that it has not seen. The mean photograph is the best that can be done without the layout."""
    if not trained.case.near:
        pytest.skip("nothing in its objective asks for the photograph itself")
    data, held_out = toys(trained.case), toys(trained.case, "val", 16)
    mean = torch.stack([data[i, 0].photo for i in range(len(data))]).mean(0)
    painted = unpainted = 0.0
    for i in range(len(held_out)):
        scene = held_out[i, 0]
        assert scene.photo is not None
        painted += float((trained.generator.sample(scene.condition) - scene.photo).abs().mean())
        unpainted += float((mean - scene.photo).abs().mean())
    assert painted < 0.9 * unpainted


def test_it_leaves_a_sheet_a_card_and_a_report(anyone):
    names = {str(p.relative_to(anyone.out)) for p in anyone.out.rglob("*") if p.is_file() and p.name[0] != "."}
    assert {"run.json", "log.jsonl", "report.html"} <= names
    folders = published_in(anyone.out)
    assert folders
    for folder in folders:
        assert all((folder / name).exists() for name in ("config.json", "model.safetensors", "README.md"))
        prefix = "" if folder == anyone.out else f"{folder.name}-"
        assert f"samples/{prefix}step-{anyone.case.steps:08}.png" in names


def test_it_reads_better_than_the_commonest_class(reader):
    """On scenes that it has not seen."""
    held_out = toys(reader.case, "val", 16)
    right = common = total = 0
    for i in range(len(held_out)):
        scene = held_out[i, 0]
        assert scene.photo is not None
        classes = layout_of(scene).classes
        right += int((reader.generator.predict(scene.photo) == classes).sum())
        common += int(torch.bincount(classes.flatten().long()).max())  # of each scene, which no constant can do
        total += classes.numel()
    assert right / total > common / total + 0.05


def test_saved_and_reloaded_it_reads_the_same(reader, tmp_path):
    reader.generator.save_pretrained(tmp_path / "again")
    photo = toys(reader.case, "val")[0, 0].photo
    assert torch.equal(reader.generator.predict(photo), load(tmp_path / "again").predict(photo))


def test_it_reads_any_size(reader):
    photo = toys(reader.case, "val")[0, 0].photo
    assert photo is not None
    read = reader.generator.predict(photo[..., :-3, :-5])
    assert read.shape == (1, photo.shape[-2] - 3, photo.shape[-1] - 5)
    assert 0 <= int(read.min()) <= int(read.max()) < reader.generator.spec.num_classes


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ("fp32", "bf16"))
@RECIPES_UNDER_TEST
def test_stopped_and_resumed_is_the_same_to_the_last_bit(recipe_type, precision, tmp_path):
    case = small(recipe_type)
    recipe, data = replace(case.recipe, **case.remembers), toys(case, count=4 * case.batch_size)
    settings = plan(case, 9, precision, save_every=9)
    train(recipe, data, tmp_path / "through", settings, toys(case, "val", 2))
    for steps in (1, 3, 6, 9):
        train(recipe, data, tmp_path / "parts", replace(settings, steps=steps), toys(case, "val", 2))
    assert len(losses(tmp_path / "through")) == 9
    through, parts = ((tmp_path / name / "log.jsonl").read_bytes() for name in ("through", "parts"))
    assert through == parts
    assert any(name.endswith("model.safetensors") for name in outcome(tmp_path / "through"))
    assert outcome(tmp_path / "through").items() <= outcome(tmp_path / "parts").items()


@RECIPES_UNDER_TEST
def test_precisions_and_seeds_differ(recipe_type, tmp_path):
    """So that the test above cannot pass by training nothing, or in one precision alone."""
    case = small(recipe_type)
    for name, precision, seed in (("a", "fp32", 0), ("b", "bf16", 0), ("c", "fp32", 1)):
        train(case.recipe, toys(case), tmp_path / name, plan(case, 3, precision, seed=seed))
    weights = [weights_of(tmp_path / name) for name in "abc"]
    for other in weights[1:]:
        assert any(not torch.equal(weights[0][k], other[k]) for k in other)
    learned = [k for k in weights[0] if not k.startswith("style_")]  # styles are what an encoder says, no weights
    near = [torch.allclose(weights[0][k], weights[1][k], atol=0.1) for k in learned]
    assert all(near), "bf16 is another rounding, not another network"


# --- painting --------------------------------------------------------------------------------------------------------


def test_saved_and_reloaded_it_paints_the_same(trained, tmp_path):
    trained.generator.save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again")
    first = published_in(trained.out)[0]
    assert digest(tmp_path / "again" / "model.safetensors") == digest(first / "model.safetensors")
    for i in range(3):
        condition = toys(trained.case, "val")[i, 0].condition
        assert torch.equal(trained.generator.sample(condition, seed=i), again.sample(condition, seed=i))


@RECIPES_UNDER_TEST
def test_what_is_published_is_what_was_trained(recipe_type, tmp_path, monkeypatch):
    case = small(recipe_type)
    kept: list[Training] = []
    start = recipe_type.start

    def watched(self, run):
        kept.append(start(self, run))
        return kept[-1]

    monkeypatch.setattr(recipe_type, "start", watched)
    train(case.recipe, toys(case), tmp_path, plan(case, 2))
    networks = kept[0].published()
    for name, network in networks.items():
        folder = tmp_path if len(networks) == 1 else tmp_path / name
        published, scene = load(folder), kept[0].scene_for(name, toys(case, "val")[0, 0])
        if isinstance(network, Generator):
            assert torch.equal(network.sample(scene.condition, seed=1), published.sample(scene.condition, seed=1))
        else:
            assert torch.equal(network.predict(scene.photo), published.predict(scene.photo))


def test_the_same_seed_gives_the_same_photograph(trained):
    condition = toys(trained.case, "val")[1, 0].condition
    first = trained.generator.sample(condition, seed=7)
    torch.manual_seed(0)  # other randomness must not matter
    trained.generator.sample(condition, seed=8)
    assert torch.equal(trained.generator.sample(condition, seed=7), first)
    assert first.shape == (1, 3, *trained.case.size) and first.dtype == torch.float32
    assert first.min() >= -1 and first.max() <= 1


def test_it_paints_any_size(trained):
    """Sizes that it cannot do are padded and cropped back."""
    layout, image = toys(trained.case, "val")[0, 0].condition
    height, width = (n - 3 for n in trained.case.size)
    if layout is not None:
        layout = Layout(*(None if m is None else m[:, :height, :width] for m in layout))
    if image is not None:
        image = image[..., :height, :width]
    if layout is None and image is None:
        pytest.skip("nothing tells it a size")
    assert trained.generator.sample(Condition(layout, image)).shape == (1, 3, height, width)


def test_an_unknown_class_is_refused_by_number(trained):
    if not trained.generator.spec.num_classes:
        pytest.skip("it sees no layouts")
    layout = layout_of(toys(trained.case, "val")[0, 0])
    known = trained.generator.spec.num_classes
    classes = layout.classes.clone()
    classes[0, 5, 3] = known
    with pytest.raises(UserError, match=rf"class {known} at \(row 5, column 3\).* only classes 0\.\.{known - 1}"):
        trained.generator.sample(Condition(Layout(classes, layout.instances)))


# --- two processes ---------------------------------------------------------------------------------------------------

TWO = """
import os, sys
import torch
torch.set_num_threads(1)
from test_recipes import SMALL, calibrating, plan, toys
from photogram.training import train

name, out, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
case, kept = calibrating(SMALL[name]), []
start = type(case.recipe).start

def watched(self, run):
    kept.append(start(self, run))
    return kept[-1]

type(case.recipe).start = watched
def go(steps):
    return train(case.recipe, toys(case, count=12), out + "/two", plan(case, steps, seed=seed), toys(case, "val", 2))

go(2)
go(5)  # and the state is taken up by both
rank = os.environ["RANK"]
assert kept[-1].run.accelerator.num_processes == 2
torch.save({n: m.state_dict() for n, m in kept[-1].published().items()}, out + f"/rank{rank}.pt")
"""


def calibrating(case: Small) -> Small:
    """With everything that is found on the way; twelve photographs are three steps of two processes."""
    return replace(case, recipe=replace(case.recipe, **case.remembers))


def trained_by_two(recipe_type: type[Any], out: Path, seed: int) -> list[dict[str, dict[str, Any]]]:
    """What both processes published."""
    out.mkdir()
    (out / "two.py").write_text(TWO)
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    done = run_python(
        "import sys; from runpy import run_module; sys.argv = sys.argv[1:]; run_module(sys.argv[0], None, '__main__')",
        *launch,
        str(out / "two.py"),
        recipe_type.__name__,
        str(out),
        str(seed),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"rank{n}.pt", weights_only=True) for n in (0, 1)]


def distances(case: Small, out: Path, seed: int) -> tuple[float, float]:
    """How far two processes end from one with twice the batch: the weights, as a share of how far training on half of
    the photographs is, and the most that a loss differs, as a share of it."""
    for folder, factor in (("one", 2), ("half", 1)):
        asked = plan(case, 5, batch_size=factor * case.batch_size, seed=seed)
        train(calibrating(case).recipe, toys(case, count=12), out / folder, asked)
    two, one, half = (weights_of(out / n) for n in ("two", "one", "half"))
    near, far = (sum(float((one[k] - w[k]).square().sum()) for k in one) ** 0.5 for w in (two, half))
    apart = [0.0]
    for a, b in zip(losses(out / "one"), losses(out / "two"), strict=True):
        assert a.keys() == b.keys() and (a["step"], a["seen"]) == (b["step"], b["seen"])
        apart += [abs(a[k] - b[k]) / abs(b[k]) for k in a if b[k]]
    return near / far, max(apart)


START = 3
"""The seed of a start at which no activation lies within rounding of its kink in five steps, with 1, 2 and 4 threads.
Where one does, its gradient is another one, and Adam makes a step of full size of the difference (LOG.md)."""


@RECIPES_UNDER_TEST
def test_two_processes_end_with_equal_weights(recipe_type, tmp_path):
    """And those of one process with twice the batch, up to rounding, where nothing is drawn or normalised by process.

    Without the mean over processes the share is about 1.
    """
    out = tmp_path / "run"
    ranks = trained_by_two(recipe_type, out, START)
    published = weights_of(out / "two")
    for name, weights in ranks[0].items():
        assert all(torch.equal(tensor, ranks[1][name][k]) for k, tensor in weights.items())
    if len(ranks[0]) == 1:
        assert all(torch.equal(tensor, published[k]) for k, tensor in next(iter(ranks[0].values())).items())
    if small(recipe_type).sums_over_processes:
        share, apart = distances(small(recipe_type), out, START)
        assert share < 0.02, f"they differ by {share:.3g} of what training on half of the photographs does"
        assert apart < 1e-3


def test_the_command_that_torchrun_starts(tmp_path):
    """In an environment that says nothing of accelerate: the processes find each other, also where there is no GPU."""
    data = write_toy(tmp_path / "data", size=(16, 24), train=8, val=2, quiet=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ACCELERATE")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--standalone",
        "-m",
        "photogram",
        "train",
        "crn",
    ]
    command += ["--data", str(data), "--out", str(tmp_path / "run"), "--widths", "4", "4", "--perceptual", "squeezenet"]
    for steps in ("2", "3"):
        asked = [sys.executable, *command, "--steps", steps, "--workers", "0"]
        done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert [line["seen"] for line in losses(tmp_path / "run")] == [2, 4, 6]


# --- a recipe from outside -------------------------------------------------------------------------------------------


def test_a_recipe_from_outside_trains(tmp_path):
    """A file that defines a recipe can end with a call to `train`; nothing in photogram need know of it."""
    assert isinstance(Colors(), Recipe) and isinstance(Blocks(), Scenes)
    assert Colors not in members()
    data = Blocks()
    out = train(Colors(), data, tmp_path / "run", Plan(steps=150, workers=0, quiet=True), data)
    network = Colors.networks[0].from_pretrained(out)
    photo, scene = network.sample(data[3, 0].condition), data[3, 0]
    assert scene.photo is not None and float((photo - scene.photo).abs().mean()) < 0.2
    with pytest.raises(UserError, match="holds a ClassColors; this version knows BottleneckGenerator, Cas"):
        load(out)
