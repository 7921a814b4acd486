"""pix2pix: the network and its counts, what is drawn and what is not, the game, and that it survives a stop."""

from __future__ import annotations

import copy
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
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
from photogram.images import resize_labels
from photogram.losses import discriminator_loss, generator_loss
from photogram.nn.asked import encoded
from photogram.nn.augment import augmented
from photogram.nn.color import grey_of, lightness_of, to_lab
from photogram.nn.jitter import jittered
from photogram.nn.layout_conv import LayoutLevel
from photogram.nn.noise import NoiseOptions
from photogram.nn.norms import BatchNorm
from photogram.optim import linear_decay
from photogram.recipe import Run
from photogram.recipes.pix2pix import Pix2Pix, Pix2PixTraining, UNet
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec
from photogram.training import Plan, train

SPEC = SceneSpec((*(SceneClass(f"class {n}", (n, 60 * n, 9)) for n in range(4)),), (16, 32))
SMALL = Pix2Pix(width=4, levels=4, patch=16, discriminator_width=4, jitter=0.0)
QUIET = NoiseOptions(dropout=False)


def unet(seed: int = 0, spec: SceneSpec = SPEC, **changes: Any) -> UNet:
    settings = {"width": 4, "levels": 4, "norm": "batch", "dropout_at": "paper", "layout_as": "planes", **changes}
    torch.manual_seed(seed)
    return UNet(spec=spec, **settings)


def loud(network: nn.Module) -> nn.Module:
    """Weights at which features are of size 1, so that nothing is near only because it is small."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
        elif isinstance(module, BatchNorm):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network


def scene(number: int = 0, n: int = 1, size: tuple[int, int] = (16, 32)) -> Scene:
    generator = torch.Generator().manual_seed(number)
    blocks = torch.randint(4, (n, size[0] // 4, size[1] // 4), generator=generator, dtype=torch.uint8)
    classes = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    palette = torch.rand(4, 3, generator=torch.Generator().manual_seed(99)) * 1.6 - 0.8
    photo = palette[classes.long()].movedim(-1, 1) + 0.05 * torch.randn(n, 3, *size, generator=generator)
    return Scene(Condition(Layout(classes)), photo.clamp(-1, 1).contiguous())


def layout_of(one: Scene) -> Layout:
    assert one.condition.layout is not None
    return one.condition.layout


def start(
    recipe: Pix2Pix = SMALL,
    spec: SceneSpec = SPEC,
    start_from: Path | None = None,
    precision: Literal["no", "bf16"] = "no",
    photographs: int = 10,
) -> Pix2PixTraining:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    run = Run(Accelerator(cpu=True, mixed_precision=precision), spec, photographs, 1, 0, start_from)
    return recipe.start(run)


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "norm", "parameters", "dropouts"),
    [
        (7, "batch", 41_828_995, 2),
        (7, "instance", 41_825_667, 2),
        (8, "batch", 54_413_955, 3),
        (8, "instance", 54_409_603, 3),
        (9, "batch", 66_998_915, 4),
        (9, "instance", 66_993_539, 4),
    ],
)
def test_counts_are_the_specifications(levels, norm, parameters, dropouts):
    """Check 10.1. From three channels to three, as in the original; the last column is of the authors' PyTorch code."""
    with torch.device("meta"):
        network = unet(width=64, levels=levels, norm=norm, layout_as="colors", dropout_at="torch")
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert list(network.drops) == list(range(1, 1 + dropouts))


def test_the_defaults_have_the_papers_counts():
    """54.41M and 2.77M with three channels in and out; planes add 16 x 64 a class."""
    colors = start(replace(Pix2Pix(), layout_as="colors"), replace(SPEC, size=(256, 256)))
    assert sum(p.numel() for p in colors.published_generator.parameters()) == 54_413_955
    assert sum(p.numel() for p in colors.judging.parameters()) == 2_768_705
    assert list(colors.published_generator.drops) == [0, 1, 2]
    with torch.device("meta"):
        planes = unet(width=64, levels=8)
    assert sum(p.numel() for p in planes.parameters()) == 54_413_955 + 1024


@pytest.mark.parametrize(("levels", "billions"), [(7, "1.51"), (8, "6.05"), (9, "24.2")])
def test_multiplications_are_the_specifications(levels, billions):
    """Check 10.1."""
    total = 0
    with torch.device("meta"):
        network = unet(width=64, levels=levels)  # whose first step we count as of three channels

    def counted(module: Any, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            total += inputs[0].numel() * module.out_channels * 16
        else:
            total += output.numel() * (3 if module is network.down[0] else module.in_channels) * 16

    for module in (*network.down, *network.up):
        module.register_forward_hook(counted)
    layout = Layout(torch.empty(1, 2**levels, 2**levels, dtype=torch.uint8, device="meta"))
    painting = network(Condition(layout))
    assert painting.shape == (1, 3, 2**levels, 2**levels)
    assert f"{total / 1e9:#.3g}" == billions


class Twin(nn.Module):
    """The U-Net as the recursion that it is usually written as, with torch's own norms, for one pair of steps."""

    def __init__(self, network: UNet, inside: nn.Module | None, depth: int):
        super().__init__()
        self.depth, self.inside, n = depth, inside, network.levels
        self.down, self.up = network.down[depth], network.up[n - 1 - depth]
        self.drop = n - 1 - depth in network.drops
        self.norm = self.torchs(network, network.down_norms[depth - 1]) if inside and depth else None
        self.up_norm = self.torchs(network, network.up_norms[n - 1 - depth]) if depth else None

    @staticmethod
    def torchs(network: UNet, ours: nn.Module) -> nn.Module:
        if network.norm == "instance":
            return nn.InstanceNorm2d(1)  # as many as there are: without parameters it does not ask
        plain = nn.BatchNorm2d(len(ours.weight))
        plain.weight, plain.bias = ours.weight, ours.bias
        return plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.down(F.leaky_relu(x, 0.2) if self.depth else x)
        y = self.norm(y) if self.norm is not None else y
        y = self.inside(y) if self.inside is not None else y
        y = self.up(F.relu(y))
        if self.up_norm is None:
            return y.tanh()
        y = self.up_norm(y)
        if self.drop:
            y = y * torch.empty(y.shape).bernoulli_(0.5) / 0.5
        return torch.cat([F.leaky_relu(x, 0.2), y], 1)  # the skip after the activation: ReLU makes them the same


@pytest.mark.filterwarnings("ignore:input's size at dim")
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("layout_as", ["planes", "colors"])
@pytest.mark.parametrize("dropout_at", ["paper", "torch"])
def test_it_is_the_recursion(norm, layout_as, dropout_at):
    network = loud(unet(norm=norm, layout_as=layout_as, levels=6, dropout_at=dropout_at))
    twin: nn.Module | None = None
    for depth in reversed(range(6)):
        twin = Twin(network, twin, depth)
    assert twin is not None
    layout = layout_of(scene(n=2, size=(64, 128)))
    shown, results = encoded(layout.classes, SPEC, layout_as), []
    planes = shown.planes if isinstance(shown, LayoutLevel) else shown
    for run in (lambda: network(Condition(layout)), lambda: twin(planes)):
        network.zero_grad()
        torch.manual_seed(5)
        painting = run()
        painting.square().mean().backward()
        results.append((painting, [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    assert results[0][0].std() > 0.1
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-5)


def test_the_innermost_map_may_be_one_pixel_and_the_batch_one():
    network = unet(levels=4)
    assert network(Condition(Layout(torch.zeros(1, 16, 16, dtype=torch.uint8)))).isfinite().all()


@pytest.mark.parametrize("levels", [2, 3, 6])
def test_any_depth_paints(levels):
    network = unet(levels=levels)
    side = 2**levels
    assert network.size_multiple == side
    assert network(Condition(Layout(torch.zeros(2, side, 2 * side, dtype=torch.uint8)))).shape == (2, 3, side, 2 * side)
    assert list(network.drops) == list(range(min(3, levels - 1)))


@pytest.mark.parametrize(("changes", "words"), [({"levels": 1}, "--levels 1"), ({"width": 0}, "--width 0")])
def test_a_network_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=f"{words}: must be"):
        unet(**changes)


# --- layouts as integers and in colours ------------------------------------------------------------------------------


def test_planes_and_colors():
    classes = torch.tensor([[[0, 3], [2, 2]]], dtype=torch.uint8)
    level = encoded(classes, SPEC, "planes")
    assert isinstance(level, LayoutLevel)
    planes = level.planes
    assert planes.shape == (1, 4, 2, 2) and torch.equal(planes.argmax(1), classes.long())
    assert (planes.sum(1) == 1).all()
    colors = encoded(classes, SPEC, "colors")
    expected = torch.tensor([[SPEC.classes[int(c)].color for c in row] for row in classes[0]]) / 127.5 - 1
    torch.testing.assert_close(colors, expected.movedim(-1, 0)[None])


def test_classes_that_share_a_color_are_refused_in_colors_alone():
    twins = replace(SPEC, classes=(*SPEC.classes, SceneClass("twin", (1, 60, 9))))
    start(spec=twins)
    with pytest.raises(UserError, match=r"'class 1' and 'twin' share the colour \(1, 60, 9\).* use planes"):
        start(replace(SMALL, layout_as="colors"), twins)


def test_an_unknown_class_never_becomes_a_color():
    with pytest.raises(UserError, match="class 4 at"):
        unet(layout_as="colors").sample(Layout(torch.full((1, 16, 16), 4, dtype=torch.uint8)))


# --- what synthesis draws --------------------------------------------------------------------------------------------


def test_dropout_is_the_noise_and_seeds_draw_it():
    network, layout = loud(unet()), layout_of(scene())
    first = network.sample(layout, seed=3)
    torch.manual_seed(1)
    assert torch.equal(network.sample(layout, seed=3), first)
    assert not torch.equal(network.sample(layout, seed=4), first)
    still = [network.sample(layout, seed, QUIET) for seed in (3, 4)]
    assert torch.equal(*still) and not torch.equal(still[0], first)


def test_half_of_the_features_are_dropped_and_the_mean_stays():
    from photogram.recipes.pix2pix import dropped

    x = torch.ones(4, 8, 50, 50)
    found = dropped(x, torch.Generator().manual_seed(0))
    assert set(found.unique().tolist()) == {0.0, 2.0} and found.mean().item() == pytest.approx(1, abs=0.01)
    again = dropped(x.bfloat16().contiguous(memory_format=torch.channels_last), torch.Generator().manual_seed(0))
    assert torch.equal(again.float(), found), "precision and layout in memory draw the same"
    torch.manual_seed(7)
    ours = dropped(x, None)
    torch.manual_seed(7)
    assert torch.equal(dropped(x, None), ours)


def test_sampling_takes_each_paintings_own_statistics():
    """As a batch of one, whatever else is in the batch; the running averages only where they are asked for."""
    network, both = loud(unet()), layout_of(scene(n=2))
    together = network.sample(both, options=QUIET)
    alone = torch.cat([network.sample(Layout(one[None]), options=QUIET) for one in both.classes])
    torch.testing.assert_close(together, alone)
    trained = network.run(Condition(Layout(both.classes[:1])), "batch", False, None)
    torch.testing.assert_close(alone[:1], trained.detach(), rtol=1e-4, atol=1e-5)
    running = network.sample(both, options=NoiseOptions(dropout=False, norm_stats="running"))
    assert not torch.allclose(running, together, atol=1e-2)


def test_modes_change_nothing_and_painting_teaches_nothing():
    network, layout = loud(unet()), layout_of(scene())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.equal(network.train().sample(layout), network.eval().sample(layout))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_instance_norm_knows_no_running_averages():
    network, layout = loud(unet(norm="instance")), layout_of(scene())
    a, b = (network.sample(layout, options=NoiseOptions(False, stats)) for stats in ("batch", "running"))
    assert torch.equal(a, b) and not list(network.buffers())


def test_unknown_statistics_are_refused():
    options = NoiseOptions()
    object.__setattr__(options, "norm_stats", "mine")
    with pytest.raises(UserError, match="--norm-stats mine: must be batch or running"):
        unet().sample(layout_of(scene()), options=options)


def test_saved_and_reloaded_it_paints_the_same_with_every_option(tmp_path):
    training = start()
    for n in range(3):
        training.step(scene(n), n)
    training.published_generator.save_pretrained(tmp_path)
    again, layout = UNet.from_pretrained(tmp_path), layout_of(scene(5))
    for options in (None, QUIET, NoiseOptions(norm_stats="running")):
        assert torch.equal(training.published_generator.sample(layout, 2, options), again.sample(layout, 2, options))


# --- the game --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", ["vanilla", "lsgan", "hinge", "wgangp"])
def test_a_step_is_the_papers_game(game):
    """Against the formulas, with dropout drawn alike: the discriminator first, then the generator against it."""
    recipe, one = replace(SMALL, game=game, l1=7.0, gan=2.0), scene()
    training, twin = start(recipe), start(recipe)
    torch.manual_seed(1)
    losses = training.step(one, 0)
    torch.manual_seed(1)
    layout, photo = layout_of(one), one.photo
    planes = F.one_hot(layout.classes.long(), 4).movedim(-1, 1).float()
    fake = twin.published_generator(one.condition)
    judge = twin.judging

    def judged(picture):
        return judge(torch.cat([planes, picture], 1))

    expected = {"discriminator": 0.5 * discriminator_loss(game, judged(photo), judged(fake.detach()))}
    d_loss = expected["discriminator"]
    if game == "wgangp":  # where it is, between a photograph and a painting of one layout, is drawn
        assert photo is not None
        share = torch.rand(1, 1, 1, 1)
        between = (share * photo + (1 - share) * fake.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(judged(between).mean(), between, create_graph=True)
        expected["penalty"] = (slope.square().sum().sqrt() - 1).square()
        d_loss = d_loss + 0.5 * 10 * expected["penalty"]
    adam = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_loss.backward()
    adam.step()
    adversarial, l1 = generator_loss(game, judged(fake)), (fake - photo).abs().mean()
    expected |= {"loss": 2 * adversarial + 7 * l1, "adversarial": adversarial, "l1": l1}
    assert {name for name in losses if not is_diagnostic(name)} == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
    expected["loss"].backward()
    torch.optim.Adam(twin.published_generator.parameters(), lr=2e-4, betas=(0.5, 0.999)).step()
    for name, weight in twin.published_generator.state_dict().items():
        torch.testing.assert_close(training.published_generator.state_dict()[name], weight, rtol=1e-4, atol=5e-5)
    for name, weight in judge.state_dict().items():
        torch.testing.assert_close(training.judging.state_dict()[name], weight, rtol=1e-4, atol=5e-5)


def test_gradients_reach_every_parameter_and_none_that_is_frozen():
    """Check 10.5: the discriminator's step leaves the generator alone, and the other way round."""
    check_gradients(start(replace(SMALL, norm="batch")), scene(n=2))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_penalty_is_on_each_pair_by_itself(norm):
    """A discriminator that mixes a batch would be asked for the slope of something else."""
    training, both = start(replace(SMALL, game="wgangp", norm=norm)), scene(n=2)
    loud(training.judging)
    photo, classes = both.photo, layout_of(both).classes
    assert photo is not None
    together = training.judge(both.condition, photo)
    alone = [training.judge(Condition(Layout(classes[n : n + 1])), photo[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    training.step(both, 0)
    found = {name: p.grad for name, p in training.judging.named_parameters()}
    shift = found.pop("to_logits.bias")
    assert shift is not None and not shift.any(), "a difference of logits does not know it, but it is averaged too"
    assert all(g is not None and g.isfinite().all() and g.any() for g in found.values())


def test_each_side_computes_only_what_it_uses(monkeypatch):
    """The discriminator looks twice for itself and once for the generator, who paints once."""
    training, looks = start(), []
    for name in ("generator", "discriminator"):
        network = getattr(training, name)
        network.register_forward_hook(
            lambda m, i, o, name=name: looks.append((name, next(m.parameters()).requires_grad))
        )
    training.step(scene(), 0)
    assert looks == [("generator", True), ("discriminator", True), ("discriminator", True), ("discriminator", False)]


def test_without_a_game_nobody_judges():
    training = start(replace(SMALL, gan=0.0))
    before = [p.clone() for p in training.judging.parameters()]
    losses = training.step(scene(), 4)  # of which there are diagnostics
    assert {name for name in losses if not is_diagnostic(name)} == {"loss", "l1"} and "saturated/paintings" in losses
    assert not any("accuracy" in name or name == "gradient/discriminator" for name in losses)
    assert losses["loss"].item() == pytest.approx(100 * losses["l1"].item())
    assert all(torch.equal(a, b) for a, b in zip(before, training.judging.parameters(), strict=True))


def test_without_l1_the_game_alone_is_played():
    losses = start(replace(SMALL, l1=0.0)).step(scene(), 0)
    assert losses["loss"].item() == losses["adversarial"].item()


@pytest.mark.parametrize("layout_as", ["planes", "colors"])
def test_the_discriminator_sees_the_pair_or_the_picture_alone(layout_as):
    for sees in (True, False):
        training = start(replace(SMALL, discriminator_sees_input=sees, layout_as=layout_as))
        inputs = {"planes": 4, "colors": 3}[layout_as]
        assert training.judging.convs[0].in_channels == 3 + sees * inputs
        a, b = (scene(n).condition for n in (0, 1))
        photo = scene(0).photo
        assert torch.equal(training.judge(a, photo), training.judge(b, photo)) != sees


def test_the_rate_follows_photographs_seen():
    """Check 10.6."""
    training, rates = start(replace(SMALL, epochs=2, decay_epochs=3)), []
    for seen in (0, 19, 20, 39, 40, 49, 500):
        training.step(scene(), seen)
        rates.append({g["lr"] for a in (training.generator_adam, training.discriminator_adam) for g in a.param_groups})
    assert rates == [{2e-4 * linear_decay(seen, 10, 2, 3)} for seen in (0, 19, 20, 39, 40, 49, 500)]
    assert [len(r) for r in rates] == [1] * 7 and rates[0] == {2e-4} and rates[-1] == {5e-5}


def test_one_pair_is_learned_by_heart():
    training, one = start(replace(SMALL, width=16, discriminator_width=8, learning_rate=2e-3)), scene()
    l1 = []
    for n in range(150):
        torch.manual_seed(n)
        l1.append(training.step(one, n)["l1"].item())
    assert sum(l1[-10:]) / 10 < 0.2 * l1[0], (l1[0], l1[-10:])


def shapes(number: int) -> Scene:
    """Four scenes of three rectangles on a ground; the last class is striped, and where stripes begin nobody says."""
    colors = torch.tensor([[-0.6, 0.1, 0.7], [0.5, 0.6, -0.5], [0.7, -0.4, -0.3], [-0.2, -0.2, -0.2]])
    generator = torch.Generator().manual_seed(number)
    classes, photo = torch.zeros(4, 64, 64, dtype=torch.uint8), torch.empty(4, 3, 64, 64)
    for n in range(4):
        for c in (1, 2, 3):
            height, width = (int(side) for side in torch.randint(20, 32, (2,), generator=generator))
            y, x = (int(torch.randint(0, 64 - side, (), generator=generator)) for side in (height, width))
            classes[n, y : y + height, x : x + width] = c
        start_at = int(torch.randint(8, (), generator=generator))
        stripes = 0.15 * ((torch.arange(64) + start_at) // 4 % 2 * 2.0 - 1)
        photo[n] = colors[classes[n].long()].movedim(-1, 0) + stripes * (classes[n] == 3)
    return Scene(Condition(Layout(classes)), photo)


@pytest.mark.timeout(300)
def test_a_game_paints_the_stripes_that_l1_averages_away():
    """Check 10.14a: a mean absolute difference below 0.05 on new scenes, and the texture of the photographs."""
    small = Pix2Pix(width=16, levels=4, patch=34, discriminator_width=16, jitter=0.0, learning_rate=2e-3)
    spec, errors, textures = replace(SPEC, size=(64, 64)), dict[float, float](), dict[float, float]()
    new = [shapes(10_000), shapes(10_001)]
    for gan in (0.0, 1.0):
        training = start(replace(small, gan=gan), spec, photographs=2000)
        for n in range(500):
            torch.manual_seed(n)
            training.step(shapes(n), 4 * n)
        difference, texture = [], []
        for one in new:
            assert one.photo is not None
            painted = training.published_generator.sample(one.condition, seed=0)
            difference.append((painted - one.photo).abs().mean().item())
            for photo, classes in zip(painted, layout_of(one).classes, strict=True):
                texture.append(photo[:, classes == 3].var(1).mean().item())
        errors[gan], textures[gan] = sum(difference) / len(difference), sum(texture) / len(texture)
    assert errors[1.0] < 0.05
    assert textures[1.0] > 2 * textures[0.0], textures
    off = {gan: abs(math.log(texture / 0.15**2)) for gan, texture in textures.items()}  # stripes of 0.15 up and down
    assert off[1.0] < off[0.0], textures


def test_bf16_is_another_rounding_of_the_same_step():
    losses = []
    for precision in ("no", "bf16"):
        torch.manual_seed(0)
        training = start(precision=precision)
        torch.manual_seed(1)
        losses.append({k: v.item() for k, v in training.step(scene(), 0).items()})
        assert all(p.dtype == torch.float32 for p in training.published_generator.state_dict().values())
    assert losses[0] != losses[1]
    assert all(losses[0][k] == pytest.approx(losses[1][k], rel=0.02) for k in losses[0])


# --- averages and augmentation ---------------------------------------------------------------------------------------


def test_the_average_is_published_and_what_learns_is_as_without():
    """The slow way: the weights of every step, weighed at the end."""
    averaging, plain = start(replace(SMALL, average=3.0)), start()
    kept = [{k: v.clone() for k, v in plain.published_generator.state_dict().items()}]
    for n in range(6):
        for training in (averaging, plain):
            torch.manual_seed(n)
            training.step(scene(n), 50 * n)
        kept.append({k: v.clone() for k, v in plain.published_generator.state_dict().items()})
    ours, learning = averaging.published()["generator"], averaging.published_generator
    assert ours is not learning and plain.published()["generator"] is plain.published_generator
    half_lives = [min(3.0, 0.05 * (50 * n + 1)) for n in range(6)]
    for name, last in kept[-1].items():
        assert torch.equal(learning.state_dict()[name], last), "the game is the same"
        expected = kept[0][name]
        for half_life, weights in zip(half_lives, kept[1:], strict=True):
            left = 2 ** (-1 / half_life)
            expected = left * expected + (1 - left) * weights[name]
        if "running" in name:
            continue  # see the next test
        torch.testing.assert_close(ours.state_dict()[name], expected, rtol=1e-5, atol=1e-7)
    assert not any(p.requires_grad for p in ours.parameters())


def test_an_average_has_running_statistics_of_its_own():
    """By a pass of its own in steps 1, 6 and 11: the mean of what it made of these, of weights that it had then."""
    training, found = start(replace(SMALL, average=30.0, dropout_at="none", learning_rate=2e-2)), list[list[Any]]()
    for n in range(12):
        before = [buffer.clone() for buffer in training.averaged.buffers()]
        training.step(scene(n), n)
        now = [buffer.clone() for buffer in training.averaged.buffers()]
        assert any(torch.equal(a, b) for a, b in zip(before, now, strict=True)) == (n % 5 != 0)
        if n % 5 == 0:
            twin = copy.deepcopy(training.averaged)
            for buffer in twin.buffers():
                buffer.zero_()
            twin(scene(n).condition)
            found.append([10 * buffer for buffer in twin.buffers()])
    for buffer, *parts in zip(training.averaged.buffers(), *found, strict=True):
        torch.testing.assert_close(buffer, torch.stack(parts).mean(0), rtol=1e-4, atol=1e-6)
    theirs = training.published_generator.buffers()
    assert not any(torch.allclose(a, b, rtol=0.05) for a, b in zip(training.averaged.buffers(), theirs, strict=True))


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("layout_as", ["planes", "colors"])
@pytest.mark.parametrize("void", [True, False])
def test_the_discriminator_is_shown_augmented_pairs_alone(sees, layout_as, void, monkeypatch):
    """In all three places; the generator is shown what was asked for as it is."""
    spec = replace(SPEC, classes=(*SPEC.classes[:3], replace(SPEC.classes[3], void=void)))
    recipe = replace(SMALL, augment=("translation", "cutout"), discriminator_sees_input=sees, layout_as=layout_as)
    training, one, shown = start(recipe, spec), scene(n=2), []
    training.discriminator.register_forward_pre_hook(lambda m, inputs: shown.append(inputs[0]))
    painted = []
    training.generator.register_forward_pre_hook(lambda m, inputs: painted.append(inputs[0]))
    losses = training.step(one, 0)
    assert all(value.isfinite() for value in losses.values()) and len(shown) == 3 and painted[0] is one.condition
    for pair in shown:
        assert isinstance(pair, tuple) == sees
        picture = pair[1] if sees else pair
        gone = (picture == 0).all(1)
        assert 0.05 < gone.float().mean() < 0.8
        if sees and layout_as == "planes" and void:
            assert (pair[0].classes[gone] == 3).all()
        elif sees:
            assert (pair[0].movedim(1, -1)[gone] == 0).all()
    places = [(pair[1] if sees else pair).eq(0).all(1) for pair in shown]
    assert not torch.equal(places[0], places[1]) and not torch.equal(places[1], places[2])
    assert training.published_generator.down[0].weight.grad.abs().sum() > 0


def test_the_void_of_an_augmented_layout_is_a_class_of_the_spec():
    """Look-ups and planes alike: what is shown has no class that the discriminator does not know."""
    recipe = replace(SMALL, augment=("translation",))
    spec = replace(SPEC, classes=(*SPEC.classes[:3], replace(SPEC.classes[3], void=True)))
    training = start(recipe, spec)
    one = scene(n=2)
    torch.manual_seed(0)
    logits = training.judge(one.condition, one.photo)
    torch.manual_seed(0)
    pair = (LayoutLevel(layout_of(one).classes, 4), one.photo)
    layout, picture = augmented(pair, ("translation",), 3, 3)
    torch.testing.assert_close(logits, training.judging(torch.cat([layout.planes, picture], 1)))


# --- jitter ----------------------------------------------------------------------------------------------------------


def test_the_papers_jitter_is_286_to_256(monkeypatch):
    sizes = []
    interpolate = F.interpolate

    def watched(x, size, **more):
        sizes.append(size)
        return interpolate(x, size, **more)

    monkeypatch.setattr(F, "interpolate", watched)
    layout = Layout(torch.zeros(1, 256, 256, dtype=torch.uint8))
    jittered(Scene(Condition(layout), torch.zeros(1, 3, 256, 256)), Pix2Pix.jitter)
    assert sizes == [(286, 286)]


def test_jitter_moves_layout_and_photograph_alike():
    """The photograph shows the layout in grey: after the jitter it must still do so, but for the borders of classes."""
    classes = layout_of(scene(n=6)).classes.repeat_interleave(4, 1).repeat_interleave(4, 2)[..., :96]
    photo = (classes.float() / 2 - 0.75)[:, None].expand(-1, 3, -1, -1)
    torch.manual_seed(0)
    condition, shown = jittered(Scene(Condition(Layout(classes), photo[:, :1]), photo), 0.25)
    assert condition.layout is not None and condition.image is not None and shown is not None
    moved = condition.layout.classes
    assert torch.equal(condition.image, shown[:, :1])
    assert moved.shape == classes.shape and shown.shape == photo.shape and moved.dtype == classes.dtype
    apart = (moved.float() / 2 - 0.75 - shown[:, 0]).abs()
    assert (apart < 1e-3).float().mean() > 0.5 and apart.mean() < 0.05  # bicubic rings near the borders
    assert shown.abs().max() <= 1
    large = [torch.from_numpy(resize_labels(one.numpy(), (80, 120))) for one in classes]
    places = [
        [(t, x) for t in range(17) for x in range(25) if torch.equal(big[t : t + 64, x : x + 96], one)]
        for big, one in zip(large, moved, strict=True)
    ]
    assert all(found for found in places), "a window of the enlarged layout"
    assert len({found[0] for found in places}) > 1, "each scene its own"


def test_no_jitter_touches_nothing():
    one = scene()
    assert jittered(one, 0.0) is one


def test_what_shows_two_places_is_moved_apart():
    torch.manual_seed(0)
    photo = torch.rand(1, 3, 32, 32) * 2 - 1
    moved = [jittered(Scene(Condition(image=photo), photo), 0.5, together=both) for both in (True, False)]
    assert [torch.equal(m.condition.image, m.photo) for m in moved] == [True, False]


# --- stopping, going on, starting from -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_it_goes_on_to_the_last_bit(norm):
    """Check 10.7."""
    recipe = replace(SMALL, norm=norm, jitter=0.2, epochs=1, decay_epochs=1)

    def steps(training: Pix2PixTraining, span: range) -> list[dict[str, float]]:
        found = []
        for n in span:
            torch.manual_seed(n)
            found.append({k: v.item() for k, v in training.step(scene(n), 5 * n).items()})
        return found

    through = start(recipe)
    log = steps(through, range(6))
    parts = start(recipe)
    steps(parts, range(3))
    kept = io.BytesIO()
    torch.save(parts.state_dict(), kept)
    again = start(recipe)
    steps(again, range(1))  # whatever it held is overwritten
    again.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    assert steps(again, range(3, 6)) == log[3:]
    for a, b in zip(through.state_dict().values(), again.state_dict().values(), strict=True):
        assert str(a) == str(b)
    for name in ("generator", "discriminator"):
        ours, theirs = through.state_dict()[name], again.state_dict()[name]
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_it_starts_from_a_published_one(tmp_path):
    first = start()
    first.step(scene(), 0)
    first.published_generator.save_pretrained(tmp_path)
    second = start(start_from=tmp_path)
    for name, tensor in first.published_generator.state_dict().items():
        assert torch.equal(second.published_generator.state_dict()[name], tensor)
    start(replace(SMALL, dropout_at="torch"), start_from=tmp_path)  # of which no weight depends
    for changes, words in (({"width": 8}, "has width 4, not 8"), ({"layout_as": "colors"}, "has layout_as planes")):
        with pytest.raises(UserError, match=words):
            start(replace(SMALL, **changes), start_from=tmp_path)
    with pytest.raises(UserError, match=r"trained on 4 classes, but the data has 3"):
        start(spec=replace(SPEC, classes=SPEC.classes[:3]), start_from=tmp_path)


def test_a_run_from_before_there_were_averages_goes_on(tmp_path):
    """With the new fields at their defaults, to the last bit; with others it is refused."""
    recipe, data = Pix2Pix(width=4, levels=3, patch=16, discriminator_width=4), Toy(size=(16, 24), count=4)
    plan = Plan(steps=3, precision="fp32", workers=0, quiet=True)
    train(recipe, data, tmp_path / "through", plan)
    train(recipe, data, tmp_path / "parts", replace(plan, steps=2))
    settings = tmp_path / "parts" / "run.json"
    older = {k: v for k, v in json.loads(settings.read_text()).items() if k not in ("average", "augment")}
    assert len(older) == len(json.loads(settings.read_text())) - 2
    settings.write_text(json.dumps(older))
    for changes in ({"average": 9.0}, {"augment": ("cutout",)}):
        with pytest.raises(UserError, match=f"this run was started with {next(iter(changes))}"):
            train(replace(recipe, **changes), data, tmp_path / "parts", plan)
    train(recipe, data, tmp_path / "parts", plan)
    for name in ("log.jsonl", "model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "through" / name).read_bytes()


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0}, "--width 0: must be 1 or more"),
        ({"levels": 17}, "--levels 17: must be 2 to 16"),
        ({"norm": "layer"}, "--norm layer: must be one of batch, instance"),
        ({"dropout_at": "lua"}, "--dropout-at lua: must be one of paper, torch"),
        ({"layout_as": "colours"}, "--layout-as colours: must be one of planes, colors"),
        ({"game": "wgan"}, "--game wgan: must be one of vanilla, lsgan, hinge, wgangp"),
        ({"gradient_penalty": -1.0}, "--gradient-penalty -1.0: must be 0 or more"),
        ({"patch": 64}, "--patch 64: must be one of 1, 16, 34, 70, 142, 286"),
        ({"discriminator_width": 0}, "--discriminator-width 0: must be 1 or more"),
        ({"l1": -1.0}, "--l1 -1.0: must be 0 or more"),
        ({"gan": float("nan")}, "--gan nan: must be 0 or more, and finite"),
        ({"gan": 0.0, "l1": 0.0}, "--gan 0 --l1 0: there is nothing to learn from"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be above 0"),
        ({"beta1": 1.0}, "--beta1 1.0: must be 0 or more, and below 1"),
        ({"jitter": 1.5}, "--jitter 1.5: must be 0 or more, and below 1"),
        ({"decay_epochs": -1}, "--decay-epochs -1: must be 0 or more"),
        ({"average": -1.0}, "--average -1.0: must be 0 or more, and finite"),
        ({"average": float("inf")}, "--average inf: must be 0 or more, and finite"),
        ({"augment": ("colour",)}, "--augment colour: must be some of color, translation, cutout, each once"),
        ({"augment": ("color",), "predict": "ab"}, "--augment color: --predict ab paints colours alone; give trans"),
    ],
)
def test_values_that_no_training_can_have_are_refused(changes, words):
    recipe = copy.copy(SMALL)
    for name, value in changes.items():
        object.__setattr__(recipe, name, value)  # past the check of types, which only tests have
    with pytest.raises(UserError) as e:
        recipe.size_multiple()
    assert words in str(e.value) and "\n" not in str(e.value)


def test_a_residual_generator_needs_8_pixels():
    small = replace(SMALL, generator="resnet", blocks=1, patch=1)
    start(small, replace(SPEC, size=(8, 8))).step(scene(size=(8, 8)), 0)
    with pytest.raises(UserError, match="--size 4 8: the residual generator needs 8 pixels a side or more"):
        start(small, replace(SPEC, size=(4, 8)))


def test_sizes_that_a_depth_cannot_do_are_refused_with_the_nearest(tmp_path):
    data = Toy(size=(48, 64), count=2)
    with pytest.raises(
        UserError, match=r"--size 48 64: Pix2Pix .* multiples of 32; the nearest possible heights are 32 "
    ):
        train(replace(SMALL, levels=5), data, tmp_path, Plan(steps=1, quiet=True))
    assert Pix2Pix().size_multiple() == 256 and Pix2Pix(levels=6).size_multiple() == 64


def test_images_are_painted_alone_and_with_layouts():
    """The discriminator sees them too; a game is the same for both networks."""
    one = scene(n=2)
    assert one.photo is not None
    grey = one.photo.mean(1, keepdim=True)
    for spec, condition, shown in (
        (replace(SPEC, classes=(), image_channels=1), Condition(image=grey), 1),
        (replace(SPEC, image_channels=1), Condition(one.condition.layout, grey), 5),
    ):
        for recipe in (SMALL, replace(SMALL, generator="resnet", blocks=1)):
            training = start(recipe, spec)
            assert training.judging.convs[0].in_channels == shown + 3
            losses = training.step(Scene(condition, one.photo), 0)
            assert all(value.isfinite() for value in losses.values())
            assert training.published_generator.sample(condition).shape == (2, 3, 16, 32)
            changed = condition._replace(image=-grey)
            assert not torch.equal(training.judge(condition, one.photo), training.judge(changed, one.photo))


def test_colours_are_learned_of_grey_inputs():
    """Three channels are judged: lightness and two of colour. Paintings keep the lightness of what was asked."""
    spec, one = replace(SPEC, classes=(), image_channels=1), scene()
    assert one.photo is not None
    recipe = replace(SMALL, predict="ab", width=16, learning_rate=2e-3, dropout_at="torch")
    training, asked = start(recipe, spec), Condition(image=grey_of(one.photo))
    assert training.judging.convs[0].in_channels == 3 and training.published_generator.up[-1].out_channels == 2
    first, *_, last = (training.step(Scene(asked, one.photo), n)["l1"].item() for n in range(80))
    assert last < 0.4 * first
    painting = training.published_generator.sample(asked, options=QUIET)
    assert (to_lab(painting)[:, :1] - lightness_of(asked.image)).abs().mean() < 1
    assert (painting - one.photo).abs().mean() < 0.5 * (asked.image - one.photo).abs().mean()


def test_scenes_without_a_condition_and_too_small_pictures_are_refused():
    with pytest.raises(UserError, match="pix2pix paints layouts or images, but this data has photographs alone"):
        start(spec=replace(SPEC, classes=()))
    with pytest.raises(UserError, match=r"--size 16 32: a discriminator of --patch 70 needs 24 pixels a side"):
        start(replace(SMALL, patch=70))
    start(replace(SMALL, patch=70, gan=0.0))  # nobody judges


def test_grey_photographs_are_painted():
    training = start(spec=replace(SPEC, photo_channels=1))
    one = scene()
    assert one.photo is not None
    training.step(one._replace(photo=one.photo[:, :1]), 0)
    assert training.published_generator.sample(one.condition).shape == (1, 1, 16, 32)


def test_scenes_as_files_give_them_are_learned(tmp_path):
    """Through the loop, with every part switched on: colours, hinge, instance norm."""
    recipe = Pix2Pix(
        width=8, levels=3, patch=16, discriminator_width=8, layout_as="colors", game="hinge", norm="instance"
    )
    data = Toy(size=(24, 32), count=8, flip=True)
    out = train(recipe, data, tmp_path, Plan(steps=4, batch_size=2, workers=0, quiet=True), Toy("val", size=(24, 32)))
    painted = UNet.from_pretrained(out).sample(data[0, 0].condition)
    assert painted.shape == (1, 3, 24, 32) and np.isfinite(painted.numpy()).all()
    assert "upward steps with dropout" in (out / "README.md").read_text()
