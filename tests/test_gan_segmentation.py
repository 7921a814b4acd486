"""GAN with semantic segmentation: both networks, the frozen reader, the game, and that it survives a stop."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_training import check_gradients
from torch import nn

from photogram.advice import is_diagnostic
from photogram.data.toy import Toy
from photogram.errors import UserError
from photogram.nn.norms import BatchNorm
from photogram.nn.trunks import weights_digest
from photogram.recipe import Run
from photogram.recipes.gan_segmentation import (
    BottleneckGenerator,
    GANSegmentation,
    GANSegmentationOptions,
    GANSegmentationTraining,
    PictureDiscriminator,
)
from photogram.recipes.segmenter import SegmentationNetwork, Segmenter, counted, cross_entropy
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec
from photogram.training import Plan, train

SPEC = SceneSpec((*(SceneClass(f"class {n}", (n, 60 * n, 9), n == 3) for n in range(4)),), (32, 48))
CITYSCAPES = SceneSpec(tuple(SceneClass(f"class {n}", (n, n, n)) for n in range(20)), (256, 512))
RUNNING = GANSegmentationOptions(norm_stats="running")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> str:
    """A published segmenter that has learned nothing yet but what its encoder knew."""
    torch.manual_seed(0)
    network = SegmentationNetwork(spec=SPEC, width=16)
    network.save_pretrained(folder := tmp_path_factory.mktemp("segmenter"))
    return str(folder)


@pytest.fixture
def small(segmenter: str) -> GANSegmentation:
    return GANSegmentation(segmenter=segmenter, widths=(4, 6, 8), discriminator_widths=(4, 6, 8))


def scene(number: int = 0, n: int = 1) -> Scene:
    generator = torch.Generator().manual_seed(number)
    blocks = torch.randint(4, (n, 4, 6), generator=generator, dtype=torch.uint8)
    photo = torch.rand(n, 3, 32, 48, generator=generator) * 2 - 1
    return Scene(Condition(Layout(blocks.repeat_interleave(8, 1).repeat_interleave(8, 2))), photo)


def layout_of(one: Scene) -> Layout:
    assert one.condition.layout is not None
    return one.condition.layout


def start(
    recipe: GANSegmentation,
    spec: SceneSpec = SPEC,
    start_from: Path | None = None,
    precision: Literal["no", "bf16"] = "no",
    batch_size: int = 1,
) -> GANSegmentationTraining:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    run = Run(Accelerator(cpu=True, mixed_precision=precision), spec, 10, batch_size, 0, start_from)
    return recipe.start(run)


def generator(widths: tuple[int, ...] = (4, 6, 8), loud: bool = True) -> BottleneckGenerator:
    torch.manual_seed(0)
    network = BottleneckGenerator(spec=SPEC, widths=widths)
    for module in network.modules() if loud else ():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
        elif isinstance(module, BatchNorm):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network


# --- the networks ----------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_specifications():
    """Section 6, B1: six steps down to 4 x 8 and up, of these widths; norms after all but the last."""
    recipe, down = GANSegmentation(), (64, 128, 256, 512, 512, 512)
    with torch.device("meta"):
        network = BottleneckGenerator(spec=CITYSCAPES, widths=recipe.widths)
        judge = PictureDiscriminator(3, CITYSCAPES.size, recipe.discriminator_widths)
    assert [conv.out_channels for conv in network.down] == list(down)
    assert [c.out_channels for c in (*network.up, network.to_photo)] == [512, 512, 256, 128, 64, 3]
    assert [len(n.weight) for n in (*network.down_norms, *network.up_norms)] == [*down, 512, 512, 256, 128, 64]
    assert [conv.out_channels for conv in judge.convs] == list(down)
    assert [len(n.weight) for n in judge.norms] == list(down[1:])
    convs = [*network.down, *network.up, network.to_photo, *judge.convs]
    assert all((c.kernel_size, c.stride, c.padding) == ((4, 4), (2, 2), (1, 1)) for c in convs)
    assert [c.bias is not None for c in convs] == [False] * 11 + [True] + [True] + [False] * 5
    assert judge.to_logit.in_features == 512 * 4 * 8 and judge.to_logit.out_features == 1
    pairs = list(zip((20, *down), down, strict=False))
    theirs = [(3, 64), *pairs[1:]]
    weights = 16 * (sum(a * b for a, b in pairs) + sum(a * b for a, b in theirs)) + 3
    assert sum(p.numel() for p in network.parameters()) == weights + 2 * (sum(down) + sum(down[:-1]))
    assert sum(p.numel() for p in judge.parameters()) == (
        16 * sum(a * b for a, b in theirs) + 64 + 2 * sum(down[1:]) + 512 * 32 + 1
    )


def test_the_innermost_map_is_4_by_8():
    with torch.device("meta"):
        network = BottleneckGenerator(spec=CITYSCAPES, widths=GANSegmentation.widths)
        seen: list[torch.Size] = []
        network.down[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
        painting = network(Layout(torch.empty(1, 256, 512, dtype=torch.uint8)))
    assert seen == [(1, 512, 4, 8)] and painting.shape == (1, 3, 256, 512)


@pytest.mark.parametrize("n", [1, 2])
def test_both_are_the_plain_chains_of_layers(n):
    network, x = generator(), layout_of(scene(n=n))
    torch.manual_seed(1)
    judge = PictureDiscriminator(3, SPEC.size, (4, 6, 8))

    def plain(norm: BatchNorm) -> nn.BatchNorm2d:
        made = nn.BatchNorm2d(len(norm.weight))
        made.weight, made.bias = norm.weight, norm.bias
        return made

    painter: list[nn.Module] = []
    for conv, norm in zip(network.down, network.down_norms, strict=True):
        painter += [conv, plain(norm), nn.LeakyReLU(0.2)]
    for conv, norm in zip(network.up, network.up_norms, strict=True):
        painter += [conv, plain(norm), nn.ReLU()]
    critic: list[nn.Module] = [judge.convs[0], nn.LeakyReLU(0.2)]
    for conv, norm in zip(judge.convs[1:], judge.norms, strict=True):
        critic += [conv, plain(norm), nn.LeakyReLU(0.2)]
    planes = F.one_hot(x.classes.long(), 4).movedim(-1, 1).float()
    chain = nn.Sequential(*painter, network.to_photo, nn.Tanh(), *critic, nn.Flatten(), judge.to_logit)
    results = []
    for go in (lambda: judge(network(x)), lambda: chain(planes)):
        for each in (network, judge):
            each.zero_grad()
        logits = go()
        assert logits.shape == (n, 1)
        logits.square().sum().backward()
        results.append((logits, [p.grad.clone() for each in (network, judge) for p in each.parameters()]))
    assert all(g.abs().sum() > 0 for g in results[0][1]), "gradients reach every parameter"
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


def test_painting_is_by_each_paintings_own_statistics_and_draws_nothing():
    network, both = generator(), layout_of(scene(n=2))
    together = network.sample(both)
    alone = torch.cat([network.sample(Layout(one[None]), seed=9) for one in both.classes])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(alone[:1], network(Layout(both.classes[:1])).detach(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network.sample(both, options=RUNNING), together, atol=1e-2)
    assert torch.equal(network.train().sample(both), network.eval().sample(both))


def test_unknown_statistics_are_refused():
    options = GANSegmentationOptions()
    object.__setattr__(options, "norm_stats", "mine")
    with pytest.raises(UserError, match="--norm-stats mine: must be batch or running"):
        generator().sample(layout_of(scene()), options=options)


def test_saved_and_reloaded_it_paints_the_same(small, tmp_path):
    training = start(small)
    for n in range(3):
        training.step(scene(n), n)
    network = training.published_generator
    network.save_pretrained(tmp_path)
    again, layout = BottleneckGenerator.from_pretrained(tmp_path), layout_of(scene(5))
    for options in (None, RUNNING):
        assert torch.equal(network.sample(layout, 0, options), again.sample(layout, 0, options))


# --- what is read ----------------------------------------------------------------------------------------------------


def test_misreading_is_the_mean_over_what_is_not_void():
    logits = torch.tensor([0.0, math.log(3), 0.0]).view(1, 3, 1, 1).expand(1, 3, 1, 4)
    classes = torch.tensor([[[1, 1, 0, 2]]], dtype=torch.uint8)
    right, wrong = -math.log(3 / 5), -math.log(1 / 5)
    assert cross_entropy(logits, counted(classes, None)).item() == pytest.approx((2 * right + 2 * wrong) / 4)
    assert cross_entropy(logits, counted(classes, 2)).item() == pytest.approx((2 * right + wrong) / 3)
    assert cross_entropy(logits, counted(torch.full_like(classes, 2), 2)).item() == 0


def test_the_segmenter_is_frozen_and_passes_gradients_on(small):
    training = start(small)
    before = weights_digest(training.segmenter)
    painting = torch.zeros(1, 3, 32, 48, requires_grad=True)
    cross_entropy(training.segmenter(painting), counted(layout_of(scene()).classes, 3)).backward()
    assert painting.grad is not None and painting.grad.abs().sum() > 0
    training.step(scene(), 0)
    assert weights_digest(training.segmenter) == before == training.state_dict()["segmenter"]
    assert all(p.grad is None for p in training.segmenter.parameters())
    assert not training.segmenter.training


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (replace(SPEC, classes=SPEC.classes[:3]), "was trained on 4 classes, but the data has 3; give one that reads"),
        (replace(SPEC, photo_channels=1), "reads photographs of 3 channels, but this data's have 1"),
    ],
)
def test_a_segmenter_of_other_scenes_is_refused(small, spec, words):
    with pytest.raises(UserError) as e:
        start(small, spec)
    assert f"--segmenter {small.segmenter}: " in str(e.value) and words in str(e.value)


def test_a_missing_segmenter_is_refused(small, tmp_path):
    with pytest.raises(UserError, match=r"--segmenter: name the published segmenter.*`photogram train segmenter`"):
        replace(small, segmenter="").size_multiple()  # before the size is looked at
    with pytest.raises(UserError, match=f"{tmp_path}/none: no such folder"):
        start(replace(small, segmenter=str(tmp_path / "none")))
    generator().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="holds a BottleneckGenerator, not a SegmentationNetwork"):
        start(replace(small, segmenter=str(tmp_path)))


# --- the game --------------------------------------------------------------------------------------------------------


def test_a_step_is_the_game(small):
    recipe, one = replace(small, segmentation=3.0), scene(n=2)
    training, twin = start(recipe), start(recipe)
    losses = training.step(one, 0)
    fake, judge = twin.published_generator(layout_of(one)), twin.judging
    bce = F.binary_cross_entropy_with_logits
    on_real, on_fake = judge(one.photo), judge(fake.detach())
    d_loss = bce(on_real, torch.ones_like(on_real)) + bce(on_fake, torch.zeros_like(on_fake))
    d_loss.backward()
    torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999)).step()
    on_fake = judge(fake)
    adversarial = bce(on_fake, torch.ones_like(on_fake))
    read = F.cross_entropy(twin.segmenter(fake), layout_of(one).classes.long(), ignore_index=3)
    expected = {
        "loss": adversarial + 3 * read,
        "adversarial": adversarial,
        "segmentation": read,
        "discriminator": d_loss,
    }
    assert {name for name in losses if not is_diagnostic(name)} == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
    expected["loss"].backward()
    torch.optim.Adam(twin.published_generator.parameters(), lr=2e-4, betas=(0.5, 0.999)).step()
    for ours, theirs in ((training.published_generator, twin.published_generator), (training.judging, judge)):
        for name, weight in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], weight, rtol=1e-4, atol=5e-5)


def test_gradients_reach_every_parameter_and_none_that_is_frozen(small):
    check_gradients(start(small), scene(n=2))


def test_bf16_is_another_rounding_of_the_same_step(small):
    a, b = ({k: v.item() for k, v in start(small, precision=p).step(scene(), 0).items()} for p in ("no", "bf16"))
    assert a != b and all(a[k] == pytest.approx(b[k], rel=0.03) for k in a)


def test_paintings_come_to_be_read_as_they_were_asked_for(tmp_path):
    """With a segmenter of the toy world: what it reads in paintings of unseen layouts beats the commonest class."""
    toys, size = Toy(size=(32, 48), count=60, flip=True), (32, 48)
    quick = Plan(steps=60, batch_size=4, workers=0, quiet=True, precision="fp32")
    reader = Segmenter(width=16, learning_rate=5e-3, warmup=0, schedule=240, jitter=0.1, average=0.9)
    seg = train(reader, toys, tmp_path / "seg", quick)
    recipe = GANSegmentation(
        segmenter=str(seg), widths=(24, 32, 48), discriminator_widths=(8, 16, 32), learning_rate=1e-3
    )
    out = train(recipe, toys, tmp_path / "gan", replace(quick, steps=90, batch_size=2))
    network, read = BottleneckGenerator.from_pretrained(out), SegmentationNetwork.from_pretrained(seg)
    held_out, right, common, total = Toy("val", size=size, count=12), 0, 0, 0
    for i in range(len(held_out)):
        one = held_out[i, 0]
        classes = layout_of(one).classes
        right += int((read.predict(network.sample(one.condition)) == classes).sum())
        common += int(torch.bincount(classes.flatten().long()).max())
        total += classes.numel()
    assert right / total > common / total + 0.05, (right / total, common / total)
    assert weights_digest(read) in (out / "README.md").read_text()


# --- stopping, going on, starting from -------------------------------------------------------------------------------


def test_it_goes_on_to_the_last_bit(small):
    def steps(training: GANSegmentationTraining, span: range) -> list[dict[str, float]]:
        return [{k: v.item() for k, v in training.step(scene(n), n).items()} for n in span]

    through = start(small)
    log = steps(through, range(6))
    parts, again, kept = start(small), start(small), io.BytesIO()
    steps(parts, range(3))
    torch.save(parts.state_dict(), kept)
    steps(again, range(1))
    again.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    assert steps(again, range(3, 6)) == log[3:]
    for name in ("generator", "discriminator"):
        ours: Any = through.state_dict()[name]
        theirs: Any = again.state_dict()[name]
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_a_segmenter_that_has_changed_stops_a_resume(small):
    training = start(small)
    state = copy.deepcopy(training.state_dict())
    with torch.no_grad():
        training.segmenter.to_classes.bias.add_(1)  # pyright: ignore
    with pytest.raises(UserError, match=r"--segmenter .*: holds other weights than when this run was started"):
        training.load_state_dict(state)


def test_it_starts_from_a_published_one(small, tmp_path):
    first = start(small)
    first.step(scene(), 0)
    first.published_generator.save_pretrained(tmp_path)
    second = start(small, start_from=tmp_path)
    for name, tensor in first.published_generator.state_dict().items():
        assert torch.equal(second.published_generator.state_dict()[name], tensor)
    with pytest.raises(UserError, match=r"has widths \(4, 6, 8\), not \(4, 6, 9\)"):
        start(replace(small, widths=(4, 6, 9)), start_from=tmp_path)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": ()}, "--widths: must be 1 to 16 positive integers"),
        ({"widths": (4, 0)}, "--widths 4 0: must be 1 to 16 positive integers"),
        ({"discriminator_widths": (-1,)}, "--discriminator-widths -1: must be 1 to 16"),
        ({"segmentation": float("inf")}, "--segmentation inf: must be 0 or more, and finite"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be above 0 and finite"),
        ({"beta1": -0.1}, "--beta1 -0.1: must be 0 or more, and below 1"),
        ({"average": -2.0}, "--average -2.0: must be 0 or more, and finite"),
        ({"augment": ("cutout", "cutout")}, "--augment cutout cutout: must be some of color, translation, cutout"),
    ],
)
def test_values_that_no_training_can_have_are_refused(small, changes, words):
    with pytest.raises(UserError) as e:
        replace(small, **changes).size_multiple()
    assert words in str(e.value) and "\n" not in str(e.value)


def test_sizes_are_multiples_of_what_all_three_networks_need(small):
    assert GANSegmentation(segmenter="any").size_multiple() == 64
    assert small.size_multiple() == 16  # the segmenter's
    assert replace(small, discriminator_widths=(4,) * 5).size_multiple() == 32


def test_a_single_innermost_pixel_is_refused(small):
    spec, deep = replace(SPEC, size=(16, 16)), (4, 4, 4, 4)
    for name in ("widths", "discriminator_widths"):
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} 4 4 4 4: halve 16 x 16 down to one pixel"):
            start(replace(small, **{name: deep}), spec)
        start(replace(small, **{name: deep}), spec, batch_size=2)


def test_other_conditions_are_refused(small):
    for spec in (replace(SPEC, classes=()), replace(SPEC, image_channels=1)):
        with pytest.raises(UserError, match="paints from layouts alone"):
            start(small, spec)
