"""From runs to results: paintings, seeds, samples, candidates, stored results; with networks that draw noise."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from photogram import judging
from photogram.cli import main
from photogram.data.folder import Folder
from photogram.data.inputs import grey_of, prepare_unpaired
from photogram.data.toy import write_toy
from photogram.errors import UsageError, UserError
from photogram.generator import Generator, NoOptions
from photogram.images import read_photo, write_image
from photogram.judging import Asked, Judged, compare, judge, write_page
from photogram.metrics import evaluate as evaluation
from photogram.metrics.cache import cache_folder
from photogram.metrics.diversity import diversity, flicker
from photogram.metrics.lpips import load_lpips
from photogram.metrics.pictures import Pictures
from photogram.metrics.protocol import Protocol
from photogram.metrics.reals import Reals, reals_of
from photogram.metrics.result import Result, read_result
from photogram.rasters import write_raster
from photogram.scene import Condition, SceneSpec, from_pixels, to_pixels
from photogram.synthesis import item_seed

SIZE, COUNT = (32, 48), 6
PROTOCOL = Protocol("toy-v1", "The toy world.", "val", SIZE, resamples=60)


class Noisy(Generator):
    """Each class in a grey of its own, and noise from the seed."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec = spec
        self.greys = torch.nn.Parameter(torch.linspace(-0.6, 0.6, spec.num_classes))

    @property
    def size_multiple(self) -> int:
        return 1

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Tensor:
        assert condition.layout is not None
        plain = self.greys[condition.layout.classes.long()][:, None].expand(-1, 3, -1, -1)
        return plain + 0.2 * torch.randn(plain.shape, generator=noise)


@dataclass(frozen=True)
class Which(NoOptions):
    """The number of a candidate, or all."""

    candidates: int | Literal["all"] = 0


class Several(Noisy):
    """Three candidates in a pass, each darker than the last, whatever the seed is."""

    Options: ClassVar[type[NoOptions]] = Which
    candidates = 3

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Tensor:
        assert condition.layout is not None and isinstance(options, Which)
        plain = self.greys[condition.layout.classes.long()][:, None].expand(-1, 3, -1, -1)
        found = torch.stack([plain - 0.1 * n for n in range(3)], 1)
        return found if options.candidates == "all" else found[:, options.candidates]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "data", size=SIZE, train=COUNT, val=COUNT, quiet=True)


@pytest.fixture(scope="module")
def reals(data) -> Reals:
    return reals_of(data, PROTOCOL, quiet=True)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("PHOTOGRAM_CACHE", str(tmp_path_factory.mktemp("cache")))


class Loads:
    """Opens one network, and counts how often it is asked to."""

    def __init__(self, network: Generator):
        self.network, self.times = network, 0

    def __call__(self, folder: Path) -> Generator:
        self.times += 1
        return self.network


def run_of(network: Generator, folder: Path) -> Path:
    network.save_pretrained(folder)
    return folder


def judged(data: Path, where: Path, network: Generator, protocol: Protocol = PROTOCOL, repeats: int = 1) -> Result:
    run = run_of(network, where / "run")
    return judge(Asked((run,), protocol, data, where / "out", Loads(network), repeats=repeats, quiet=True)).results[0]


def paintings(where: Path, reals: Reals, seed: int = 0, sample: str = "painted") -> Tensor:
    """What lies in the folder of a seed and sample, in [-1, 1]."""
    (folder,) = (where / "out" / "run" / f"seed-{seed}").glob(f"{sample}-*")
    pictures = Pictures(folder)
    return from_pixels(np.stack([pictures.read(name) for name in reals.names]))


def expected(data: Path, network: Generator, seed: int, options: object = None) -> Tensor:
    """The same without the machinery."""
    folder = Folder(data, "val", size=SIZE)
    painted = [network.sample(folder[n, 0].condition, item_seed(seed, folder.name(n)), options) for n in range(COUNT)]
    return from_pixels(torch.stack([to_pixels(p[0]) for p in painted]).numpy())


def images(where: Path, reals: Reals, seed: int = 0) -> Path:
    """Photographs with noise, as somebody else's paintings."""
    where.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    for n, name in enumerate(reals.names):
        pixels = reals.photo(n) + noise.normal(0, 20, (*SIZE, 3))
        write_image(pixels.clip(0, 255).astype(np.uint8), where / f"{name}.png")
    return where


# --- paintings -------------------------------------------------------------------------------------------------------


def test_a_run_that_was_trained_on_is_painted_and_judged_anew(tmp_path, data, reals):
    network = Noisy(spec=reals.spec)
    first = judged(data, tmp_path, network)
    with torch.no_grad():
        network.greys += 0.1
    second = judged(data, tmp_path, network)
    assert first.subject["sha256"] != second.subject["sha256"]
    assert len(list((tmp_path / "out" / "run" / "seed-0").iterdir())) == 2  # the old paintings may stay
    assert read_result(tmp_path / "out" / "run" / "result.json") == second


def test_another_size_under_the_same_name_is_painted_anew(tmp_path, data, reals):
    network = Noisy(spec=reals.spec)
    judged(data, tmp_path, network)
    found = judged(data, tmp_path, network, replace(PROTOCOL, size=(48, 64)))
    assert found.protocol.size == (48, 64)


def test_finished_paintings_are_taken_as_they_are(tmp_path, data, reals):
    network = Noisy(spec=reals.spec)
    judged(data, tmp_path, network)
    (folder,) = (tmp_path / "out" / "run" / "seed-0").iterdir()
    path = folder / f"{reals.names[0]}.png"
    write_image(np.full((*SIZE, 3), 7, np.uint8), path)
    judged(data, tmp_path, network)
    assert (paintings(tmp_path, reals)[0] == from_pixels(np.full((1, *SIZE, 3), 7, np.uint8))).all()


# --- seeds and samples -----------------------------------------------------------------------------------------------


def test_every_seed_paints_its_own_and_the_network_is_loaded_once(tmp_path, data, reals):
    network = Noisy(spec=reals.spec)
    run, loads = run_of(network, tmp_path / "run"), Loads(network)
    protocol = replace(PROTOCOL, seed=5, samples=2, frames=True)
    asked = Asked((run,), protocol, data, tmp_path / "out", loads, repeats=2, quiet=True)
    found = judge(asked).results[0]
    assert loads.times == 2  # to see that it paints, before anything that takes long; and to paint, for all seeds
    for seed in (5, 6):
        assert torch.equal(paintings(tmp_path, reals, seed), expected(data, network, seed))
        other = paintings(tmp_path, reals, seed, "sample-1")
        assert torch.equal(other, expected(data, network, seed + 1_000_003))
    assert not torch.equal(paintings(tmp_path, reals, 5), paintings(tmp_path, reals, 6))
    for key in ("LPIPS[squeeze]", "diversity[squeeze]", "flicker"):
        assert len(set(found.repeats[key].values)) == 2 and found.repeats[key].deviation > 0


def test_diversity_is_that_of_the_samples(tmp_path, data, reals):
    network = Noisy(spec=reals.spec)
    found = judged(data, tmp_path, network, replace(PROTOCOL, samples=3)).measures["diversity[squeeze]"]
    stacks = [paintings(tmp_path, reals, sample=name) for name in ("painted", "sample-1", "sample-2")]
    distances = diversity(stacks, load_lpips())
    assert found.value == pytest.approx(float(distances.mean()), rel=1e-5) and found.value > 0.01
    assert found.interval is not None and found.interval.low < found.value < found.interval.high


@pytest.mark.parametrize("samples", [2, 3])
def test_samples_are_the_candidates_of_one_pass(tmp_path, data, reals, samples):
    network = Several(spec=reals.spec)
    found = judged(data, tmp_path, network, replace(PROTOCOL, samples=samples))
    for n in range(samples):
        painted = paintings(tmp_path, reals, sample=f"sample-{n}" if n else "painted")
        assert torch.equal(painted, expected(data, network, 0, Which(n)))
    assert found.measures["diversity[squeeze]"].value > 0


def test_more_samples_than_candidates_are_of_other_seeds(tmp_path, data, reals):
    network = Several(spec=reals.spec)
    judged(data, tmp_path, network, replace(PROTOCOL, samples=4))
    for name in ("painted", "sample-3"):
        assert torch.equal(paintings(tmp_path, reals, sample=name), expected(data, network, 0))


def test_flicker_is_that_of_the_frames_and_has_an_interval(tmp_path, data, reals):
    found = judged(data, tmp_path, Noisy(spec=reals.spec), replace(PROTOCOL, frames=True)).measures
    photos = from_pixels(np.stack([reals.photo(n) for n in range(COUNT)]))
    layouts = torch.from_numpy(np.stack([reals.layout(n) for n in range(COUNT)])).long()
    change = flicker(paintings(tmp_path, reals), photos, layouts)
    assert found["flicker"].value == pytest.approx(float(change.images.mean()), rel=1e-12)
    assert found["flicker of photographs"].value == pytest.approx(float(change.photographs.mean()), rel=1e-12)
    assert found["flicker"].value != pytest.approx(found["flicker of photographs"].value, rel=1e-3)
    for measure in (found["flicker"], found["flicker of photographs"]):
        assert measure.interval is not None and measure.interval.low < measure.value < measure.interval.high


def test_the_images_of_a_folder_are_looked_at_once_for_all_seeds(tmp_path, data, reals, monkeypatch):
    looks, look = [], evaluation.look
    monkeypatch.setattr(evaluation, "look", lambda *a: looks.append(a[3]) or look(*a))
    folder = images(tmp_path / "images", reals)
    asked = Asked((folder,), PROTOCOL, data, tmp_path / "out", Loads(Noisy(spec=reals.spec)), repeats=3, quiet=True)
    found = judge(asked).results[0]
    assert looks == ["looking at images"]
    assert len(set(found.repeats["KD[squeezenet]"].values)) == 3  # other subsets
    assert len(set(found.repeats["LPIPS[squeeze]"].values)) == 1


def test_the_first_result_is_as_it_was_measured(tmp_path, data, reals):
    """Several seeds add to it, and change nothing that was."""
    once = judged(data, tmp_path / "a", Noisy(spec=reals.spec))
    thrice = judged(data, tmp_path / "b", Noisy(spec=reals.spec), repeats=3)
    assert thrice.measures == once.measures and thrice.warnings == once.warnings


def test_equal_paintings_of_all_seeds_are_mentioned(tmp_path, data, reals):
    found = judged(data, tmp_path / "a", Several(spec=reals.spec), repeats=2)
    assert any("run paints the same for every seed" in warning for warning in found.warnings)
    found = judged(data, tmp_path / "b", Noisy(spec=reals.spec), repeats=2)
    assert not any("for every seed" in warning for warning in found.warnings)


def test_a_size_far_from_the_one_trained_at_is_mentioned(tmp_path, data, reals):
    height, width = PROTOCOL.size
    for size, far in (((height * 4 // 3, width), False), ((height * 2, width), True), ((height, width // 2), True)):
        network = Noisy(spec=replace(reals.spec, size=size))
        found = judged(data, tmp_path / f"{size[0]}-{size[1]}", network)
        assert any(f"run was trained at {size[0]} x {size[1]}" in w for w in found.warnings) == far


# --- what is written -------------------------------------------------------------------------------------------------


def test_each_images_scores_are_a_table(tmp_path, data, reals):
    found = judged(data, tmp_path, Noisy(spec=reals.spec))
    with (tmp_path / "out" / "run" / "per-image.csv").open() as file:
        head, *lines = csv.reader(file)
    assert head == ["name", *found.per_image] and [line[0] for line in lines] == reals.names
    column = head.index("LPIPS[squeeze]")
    assert [float(line[column]) for line in lines] == found.per_image["LPIPS[squeeze]"]
    measure = found.measures["LPIPS[squeeze]"]
    assert measure.median == pytest.approx(np.median(found.per_image["LPIPS[squeeze]"]))
    assert measure.deviation == pytest.approx(np.std(found.per_image["LPIPS[squeeze]"], ddof=1))
    stored = json.loads((tmp_path / "out" / "run" / "result.json").read_text())["measures"]["LPIPS[squeeze]"]
    assert (stored["median"], stored["deviation"]) == (measure.median, measure.deviation)


def test_another_photograph_is_another_entry_of_the_cache(tmp_path, data, reals):
    copy = write_toy(tmp_path / "data", size=SIZE, train=1, val=COUNT, quiet=True)
    judged(copy, tmp_path / "a", Noisy(spec=reals.spec))
    judged(copy, tmp_path / "b", Noisy(spec=reals.spec))
    assert len(list(cache_folder().iterdir())) == 1
    path = sorted((copy / "val" / "photos").iterdir())[0]
    write_image(np.zeros((*SIZE, 3), np.uint8), path)
    judged(copy, tmp_path / "c", Noisy(spec=reals.spec))
    assert len(list(cache_folder().iterdir())) == 2


# --- stored results --------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path, data, reals) -> tuple[Path, Path]:
    """Stored results of two systems of one name."""
    files = []
    for n, where in enumerate(("mine", "theirs")):
        folder = images(tmp_path / where / "images", reals, seed=n)
        asked = Asked((folder,), PROTOCOL, data, tmp_path / where / "out", Loads(Noisy(spec=reals.spec)), quiet=True)
        judge(asked)
        files.append(tmp_path / where / "out" / "images" / "result.json")
    return files[0], files[1]


def protocol_file(where: Path, **changes: object) -> str:
    (where / "toy.json").write_text(json.dumps({**PROTOCOL.to_json(), **changes}))
    return str(where / "toy.json")


def test_results_of_one_name_get_names_of_their_own(two, capsys):
    mine, theirs = map(str, two)
    assert main(["evaluate", mine, theirs]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "images (" in printed and "images minus images" not in printed
    found = compare(two, Loads)  # pyright: ignore[reportArgumentType]
    assert [r.subject["name"] for r in found.results] == [f"images ({path})" for path in two]
    again = compare((two[0], two[0]), Loads)  # pyright: ignore[reportArgumentType]
    assert [r.subject["name"] for r in again.results] == [f"images ({two[0]})", f"images ({two[0]}) #2"]


def test_a_stored_result_beside_what_is_judged_now(tmp_path, data, reals, two):
    folder = images(tmp_path / "now" / "images", reals, seed=7)
    load = Loads(Noisy(spec=reals.spec))
    found = compare((folder, two[0]), load, protocol=protocol_file(tmp_path), data=data, out=tmp_path / "o", quiet=True)
    names = [r.subject["name"] for r in found.results]
    assert names == ["images", f"images ({two[0]})"] and found.opened == tmp_path / "o" / "toy-v1" / "evaluation.html"
    page = found.opened.read_text()
    assert page.count(f"<th>images ({two[0]})</th>") and f"images ({two[0]}) minus images" in page


def test_what_does_not_compare_is_said_before_anything_is_judged(tmp_path, data, reals, two):
    run, load = run_of(Noisy(spec=reals.spec), tmp_path / "run"), Loads(Noisy(spec=reals.spec))
    other = {"resize": "tf1"}
    with pytest.raises(UserError, match="images does not compare with what is to be judged: the protocol's resize is"):
        compare(
            (run, two[0]),
            load,
            protocol=protocol_file(tmp_path, **other),
            data=tmp_path / "is not even read",
            out=tmp_path / "o",
            brackets=True,
        )
    changed = json.loads(two[0].read_text())
    changed["provenance"]["lpips"]["sha256"] = "other"
    two[0].write_text(json.dumps(changed))
    with pytest.raises(UserError, match="images does not compare with what is to be judged: their lpips differ"):
        compare((run, two[0]), load, protocol=protocol_file(tmp_path), data=data, out=tmp_path / "o", quiet=True)
    assert load.times == 1 and not (tmp_path / "o").exists()  # to see that it paints; nothing was painted


@pytest.mark.parametrize(
    "flags",
    [
        {"html": True, "out": Path("x")},
        {"brackets": True},
        {"repeats": 2},
        {"segmenter": Path("s")},
        {"trunk_file": Path("t")},
        {"protocol": "p", "data": Path("d")},
    ],
)
def test_flags_of_no_use_are_refused(two, flags):
    with pytest.raises(UsageError, match="no use where nothing is judged, since all results are stored") as e:
        compare(two, Loads, **flags)  # pyright: ignore[reportArgumentType]
    assert all(f"--{name.replace('_', '-')}" in str(e.value) for name in flags) and "\n" not in str(e.value)


def test_the_page_shows_where_systems_differ_most(tmp_path, data, reals, monkeypatch):
    shown, drawn = [], judging.contact_sheet
    monkeypatch.setattr(judging, "contact_sheet", lambda names, *rest: shown.append(names) or drawn(names, *rest))
    a, b = images(tmp_path / "a", reals), images(tmp_path / "b", reals)
    for at in (4, 1):  # in one of the two these are far off, the fifth most
        write_image(np.full((*SIZE, 3), 255 if at == 4 else 120, np.uint8), b / f"{reals.names[at]}.png")
    asked = Asked((a, b), PROTOCOL, data, tmp_path / "o", Loads(Noisy(spec=reals.spec)), quiet=True)
    found: Judged = judge(asked)
    write_page(found, tmp_path / "o")
    apart = np.subtract(*(r.per_image["LPIPS[squeeze]"] for r in found.results))
    assert set(shown[0][:2]) == {reals.names[4], reals.names[1]}
    assert shown[0] == [reals.names[n] for n in np.argsort(-np.abs(apart), kind="stable")]


# images as conditions


class Dimmed(Generator):
    """The image that it is asked with, a little darker."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec = spec
        self.gain = torch.nn.Parameter(torch.tensor(0.9))

    @property
    def size_multiple(self) -> int:
        return 1

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Tensor:
        assert condition.image is not None
        return condition.image.expand(-1, 3, -1, -1) * self.gain


@pytest.mark.parametrize("with_layouts", (False, True))
def test_networks_that_paint_from_images_are_judged(data, tmp_path, with_layouts):
    own = tmp_path / "own"
    shutil.copytree(data / "val", own / "val", ignore=None if with_layouts else lambda *_: ["layouts", "instances"])
    if with_layouts:
        shutil.copy(data / "classes.json", own)
    (own / "val/inputs").mkdir()
    for path in (own / "val/photos").iterdir():
        write_raster(grey_of(read_photo(path)), own / f"val/inputs/{path.stem}.png")
    network = Dimmed(spec=SceneSpec((), SIZE, image_channels=1))
    result = judged(own, tmp_path, network)
    reals = reals_of(own, PROTOCOL, quiet=True)
    scenes = Folder(own, "val", size=SIZE, learns_from="images")
    painted = torch.cat([network.sample(scenes[n, 0].condition) for n in range(COUNT)])
    assert torch.equal(paintings(tmp_path, reals), from_pixels(to_pixels(painted)))
    assert np.isfinite([m.value for m in result.measures.values()]).all()
    asked = reals.asked(0)
    assert asked.shape == (*SIZE, 3) and asked.dtype == np.uint8
    if not with_layouts:
        image = scenes[0, 0].condition.image
        assert image is not None
        np.testing.assert_array_equal(asked[..., :1], to_pixels(image)[0].numpy())


@pytest.mark.parametrize("equal_names", (False, True))
def test_two_collections_are_compared_as_sets_alone(data, tmp_path, equal_names):
    """What CycleGAN paints: the measures of sets as ever, and none of pairs."""
    (greys := tmp_path / "greys").mkdir()
    for path in (data / "val/photos").iterdir():
        name = path.stem if equal_names else f"grey-{path.stem}"
        write_raster(grey_of(read_photo(path)), greys / f"{name}.png")
    own = tmp_path / "own"
    prepare_unpaired(greys, data / "val/photos", out=own, val_share=(COUNT - 1) / COUNT, quiet=True)
    network = Dimmed(spec=SceneSpec((), SIZE, image_channels=1))
    result = judged(own, tmp_path, network)
    assert {name.partition("[")[0] for name in result.measures} == {"KD", "FD"} and result.per_image == {}
    assert result.warnings[0].startswith("nobody paired these photographs")
    stored = tmp_path / "out/run/result.json"
    assert read_result(stored).measures == result.measures
    found = compare(
        (tmp_path / "run", stored),
        Loads(network),
        protocol=protocol_file(tmp_path),
        data=own,
        out=tmp_path / "page",
        quiet=True,
    )
    assert found.opened is not None and "<h2>The first</h2>" in found.opened.read_text()
    assert [r.measures for r in found.results] == 2 * [result.measures]
    if equal_names:  # without the record they are pairs, in the same order
        (own / "prepare.json").unlink()
        paired = judged(own, tmp_path, network)
        assert "PSNR" in paired.measures and paired.measures.items() >= result.measures.items()
