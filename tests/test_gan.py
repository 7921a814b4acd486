"""GAN: both networks and their counts, sizes, the way between two z, the game, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_training import check_gradients
from torch import nn
from toy_scenes import ToyPhotos

from photogram.advice import is_diagnostic
from photogram.errors import UserError
from photogram.losses import discriminator_loss, generator_loss
from photogram.metrics.toy_moods import moods_seen
from photogram.nn.augment import augmented
from photogram.nn.norms import BatchNorm
from photogram.optim import average_decay
from photogram.recipe import Run
from photogram.recipes.gan import (
    GAN,
    DCGANDiscriminator,
    DCGANGenerator,
    DCGANOptions,
    GANTraining,
    interpolate,
    start_map,
)
from photogram.report import model_card
from photogram.scene import Condition, Scene, SceneClass, SceneSpec
from photogram.sheets import seed_sheet

SPEC = SceneSpec((), (16, 24))
SMALL = GAN(z_size=5, width=4, discriminator_width=4, levels=3)


def generator(spec: SceneSpec = SPEC, seed: int = 0, **changes: Any) -> DCGANGenerator:
    torch.manual_seed(seed)
    network = DCGANGenerator(spec=spec, **{"z_size": 5, "width": 4, "levels": 3, **changes})
    for module in network.modules():  # features of size 1, so that nothing is near only because it is small
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
        elif isinstance(module, BatchNorm):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network


def scene(number: int = 0, n: int = 3, spec: SceneSpec = SPEC) -> Scene:
    noise = torch.Generator().manual_seed(number)
    return Scene(Condition(), torch.rand(n, spec.photo_channels, *spec.size, generator=noise) * 2 - 1)


def start(
    recipe: GAN = SMALL,
    spec: SceneSpec = SPEC,
    start_from: Path | None = None,
    precision: Literal["no", "bf16"] = "no",
    batch_size: int = 3,
) -> GANTraining:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    run = Run(Accelerator(cpu=True, mixed_precision=precision), spec, 10, batch_size, 0, start_from)
    return recipe.start(run)


# --- the networks ----------------------------------------------------------------------------------------------------


def test_counts_are_the_specifications():
    """Section 1.2, at 64 x 64 with a z of 100: a 4 x 4 start map, which a 4 x 4 kernel of stride 1 makes of z."""
    recipe = GAN()
    with torch.device("meta"):
        painter = DCGANGenerator(
            spec=SceneSpec((), (64, 64)), z_size=recipe.z_size, width=recipe.width, levels=recipe.levels
        )
        critic = DCGANDiscriminator(3, (64, 64), recipe.discriminator_width, recipe.levels)
        layer = DCGANDiscriminator(3, (64, 64), recipe.discriminator_width, recipe.levels, "layer")
    assert sum(p.numel() for p in painter.parameters()) == 3_576_704
    assert sum(p.numel() for p in critic.parameters()) == sum(p.numel() for p in layer.parameters()) == 2_765_568

    def forms(convs: Any) -> list[tuple[object, ...]]:
        return [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convs]

    widths = (512, 256, 128, 64, 3)
    assert forms((painter.start, *painter.up)) == [
        (100, 512, (4, 4), (1, 1), (0, 0)),
        *((a, b, (4, 4), (2, 2), (1, 1)) for a, b in pairwise(widths)),
    ]
    form = [
        (c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in (*critic.down, critic.to_logit)
    ]
    assert form == [
        *((a, b, (4, 4), (2, 2), (1, 1)) for a, b in pairwise(widths[::-1])),
        (512, 1, (4, 4), (1, 1), (0, 0)),
    ]
    assert (recipe.learning_rate, recipe.beta1, recipe.game) == (2e-4, 0.5, "vanilla")


def test_both_are_the_plain_chains_of_layers():
    painter = generator()
    torch.manual_seed(1)
    critic = DCGANDiscriminator(3, SPEC.size, 4, 3)

    def plain(norm: Any) -> nn.BatchNorm2d:
        made = nn.BatchNorm2d(len(norm.weight))
        made.weight, made.bias = norm.weight, norm.bias
        return made

    chain: list[nn.Module] = [nn.Unflatten(1, (5, 1, 1)), painter.start]
    for norm, up in zip(painter.norms, painter.up, strict=True):
        chain += [plain(norm), nn.ReLU(), up]
    chain += [nn.Tanh(), critic.down[0], nn.LeakyReLU(0.2)]
    for norm, down in zip(critic.norms, critic.down[1:], strict=True):
        chain += [down, plain(norm), nn.LeakyReLU(0.2)]
    whole, z = nn.Sequential(*chain, critic.to_logit, nn.Flatten()), torch.randn(3, 5)
    results = []
    for go in (lambda: critic(painter(z)), lambda: whole(z)):
        for each in (painter, critic):
            each.zero_grad()
        logits = go()
        assert logits.shape == (3, 1)
        logits.square().sum().backward()
        results.append((logits, [p.grad.clone() for each in (painter, critic) for p in each.parameters()]))
    assert all(g.abs().sum() > 0 for g in results[0][1]), "gradients reach every parameter"
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "levels", "expected"), [((64, 64), 4, (4, 4)), ((32, 48), 3, (4, 6)), ((16, 96), 4, (1, 6))]
)
def test_sizes_need_not_be_square(size, levels, expected):
    assert start_map(size, levels) == expected
    spec = SceneSpec((), size)
    network = generator(spec, levels=levels)
    assert network.start(torch.randn(2, 5, 1, 1)).shape[-2:] == expected
    assert network.sample(None, 3).shape == (1, 3, *size)
    losses = start(replace(SMALL, levels=levels), spec, batch_size=2).step(scene(n=2, spec=spec), 0)
    assert all(value.isfinite() for value in losses.values())


def test_grey_photographs_are_painted():
    spec = replace(SPEC, photo_channels=1)
    training = start(spec=spec)
    training.step(scene(spec=spec), 0)
    assert training.published_generator.sample().shape == (1, 1, 16, 24)
    assert seed_sheet(training.published_generator, 4).shape[-1] == 3


def test_layer_norm_does_not_mix_pictures_and_batch_norm_does():
    pictures = scene(n=2).photo
    assert pictures is not None
    for norm, mixes in (("layer", False), ("batch", True)):
        torch.manual_seed(0)
        critic = DCGANDiscriminator(3, SPEC.size, 4, 3, norm)
        alone = torch.cat([critic(pictures[n : n + 1]) for n in range(2)])
        assert torch.allclose(critic(pictures), alone, rtol=1e-4, atol=1e-6) != mixes
    assert not any(isinstance(m, BatchNorm) for m in start(replace(SMALL, game="wgangp")).judging.modules())


# --- painting --------------------------------------------------------------------------------------------------------


def test_each_seed_is_another_photograph_and_the_same_one_again():
    network = generator()
    photos = torch.cat([network.sample(None, seed) for seed in range(8)])
    assert min(float((a - b).abs().mean()) for n, a in enumerate(photos) for b in photos[:n]) > 0.02
    assert torch.equal(network.sample(None, 5), photos[5:6])
    assert torch.equal(network.train().sample(None, 5), photos[5:6]) and network.training


def test_a_photograph_is_that_of_its_z_whatever_stands_beside_it():
    network = generator()
    network.run(torch.randn(64, 5), "batch")  # so that there are running averages
    z = torch.stack([network.latent(seed) for seed in range(3)])
    together = network.sample_latents(z)
    for seed in range(3):
        torch.testing.assert_close(together[seed : seed + 1], network.sample(None, seed), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(z), together, atol=1e-2), "training takes the statistics of the batch"


@pytest.mark.parametrize("latents", [torch.zeros(1, 4), torch.zeros(0, 5), torch.full((1, 5), math.nan)])
def test_latents_that_cannot_be_are_refused(latents):
    with pytest.raises(UserError, match=r"latents are .*; they must be finite, \[n, 5\]"):
        generator().sample_latents(latents)


def test_truncation_draws_anew_what_is_far_and_nothing_else():
    network, bound = generator(z_size=400), 0.7
    for seed in range(3):
        free, held = network.latent(seed), network.latent(seed, DCGANOptions(truncation=bound))
        near = free.abs() <= bound
        assert 0 < near.sum() < 400 and torch.equal(free[near], held[near])
        assert held.abs().max() <= bound
    # The variance of N(0, 1) between -t and t: 1 - 2 t phi(t) / (2 Phi(t) - 1).
    phi, inside = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi), math.erf(bound / math.sqrt(2))
    drawn = torch.cat([network.latent(seed, DCGANOptions(truncation=bound)) for seed in range(50)])
    assert drawn.var().item() == pytest.approx(1 - 2 * bound * phi / inside, rel=0.05)


@pytest.mark.parametrize("value", [0.05, -1.0, math.nan, 11.0])
def test_other_truncations_are_refused(value):
    with pytest.raises(UserError, match=r"--truncation .*: must be 0, or 0.1 to 10"):
        generator().sample(None, 0, DCGANOptions(truncation=value))


def test_conditions_are_refused():
    with pytest.raises(UserError, match="has 3 channels, but the network was trained on 0"):
        generator().sample(torch.zeros(1, 3, 16, 24))


# --- from one z to another -------------------------------------------------------------------------------------------


def test_the_ends_are_the_ends():
    a, b = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    way = interpolate(a, b, 5)
    assert way.shape == (5, 100) and torch.equal(way[0], a) and torch.equal(way[-1], b)
    assert torch.equal(interpolate(a, b, 2), torch.stack([a, b]))


def test_a_quarter_circle():
    way = interpolate(torch.tensor([2.0, 0, 0]), torch.tensor([0, 2.0, 0]), 4)
    third, half = math.pi / 6, math.sqrt(3)
    assert third * 3 == math.pi / 2
    torch.testing.assert_close(way, torch.tensor([[2, 0, 0], [half, 1, 0], [1, half, 0], [0, 2, 0]]))


def test_angles_are_even_and_lengths_go_along_a_line():
    a, b = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    b = 3 * b
    way = interpolate(a, b, 9).double()
    expected = torch.linspace(float(a.norm()), float(b.norm()), 9).double()
    torch.testing.assert_close(way.norm(dim=1), expected, rtol=1e-5, atol=1e-5)
    steps = F.cosine_similarity(way[1:], way[:-1]).acos()
    assert steps.std() < 1e-4
    assert steps.sum().item() == pytest.approx(F.cosine_similarity(a[None], b[None]).double().acos().item(), rel=1e-4)
    straight = torch.lerp(a, b / 3, 0.5)
    assert interpolate(a, b / 3, 3)[1].norm() > 1.2 * straight.norm(), "a line passes where no z is"


@pytest.mark.parametrize("factor", [-1.0, -1 - 1e-7, -2.5])
def test_opposite_ends_have_a_way_that_avoids_0(factor):
    a = torch.tensor([3.0, 0, 4.0])
    way = interpolate(a, factor * a, 5)
    assert way.isfinite().all()
    torch.testing.assert_close(way.norm(dim=1), torch.linspace(5, 5 * abs(factor), 5), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        F.cosine_similarity(way, a[None]), torch.linspace(0, math.pi, 5).cos(), atol=1e-5, rtol=0
    )


def test_equal_ends_stay_where_they_are():
    a = torch.tensor([3.0, 0, 4.0])
    torch.testing.assert_close(interpolate(a, a, 4), a.expand(4, 3))
    torch.testing.assert_close(interpolate(a, 2 * a, 3), torch.stack([a, 1.5 * a, 2 * a]))


@pytest.mark.parametrize(("a", "steps"), [(torch.ones(3), 1), (torch.zeros(3), 3)])
def test_ways_that_there_are_not_are_refused(a, steps):
    with pytest.raises(UserError, match=r"must be 2 or more|z is 0"):
        interpolate(a, torch.ones(3), steps)


# --- the game --------------------------------------------------------------------------------------------------------


POLICY = ("color", "translation", "cutout")


@pytest.mark.parametrize("policy", [(), POLICY])
@pytest.mark.parametrize("game", ["vanilla", "lsgan", "hinge", "wgangp"])
def test_a_step_is_the_game(game, policy):
    """Against the formulas: the discriminator first, then the generator against what it has become.

    What either is judged by is augmented anew in all three places; the slope, which is the discriminator's own, is not.
    """
    recipe, one = replace(SMALL, game=game, gradient_penalty=3.0, augment=policy, average=50.0), scene()
    training, twin = start(recipe), start(recipe)
    first = {name: value.clone() for name, value in training.published_generator.named_parameters()}
    torch.manual_seed(1)
    losses = training.step(one, 0)
    torch.manual_seed(1)
    photo, judge = one.photo, twin.judging
    assert photo is not None
    fake = twin.published_generator(torch.randn(3, 5))
    on_real, on_fake = (judge(augmented(picture, policy, 3, None)) for picture in (photo, fake.detach()))
    d_loss = total = discriminator_loss(game, on_real, on_fake)
    expected = {"discriminator": d_loss, "on_photographs": on_real.mean(), "on_paintings": on_fake.mean()}
    if game == "wgangp":
        share = torch.rand(3, 1, 1, 1)
        between = (share * photo + (1 - share) * fake.detach()).requires_grad_()
        slopes = [torch.autograd.grad(one, between, create_graph=True)[0] for one in judge(between)]
        lengths = torch.stack([slope.square().sum().sqrt() for slope in slopes])
        expected["penalty"] = (lengths - 1).square().mean()
        total = d_loss + 3 * expected["penalty"]
    adam = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
    total.backward()
    adam.step()
    expected["loss"] = generator_loss(game, judge(augmented(fake, policy, 3, None)))
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-6), name
    expected["loss"].backward()
    torch.optim.Adam(twin.published_generator.parameters(), lr=2e-4, betas=(0.5, 0.999)).step()
    for name in ("published_generator", "judging"):
        ours, theirs = getattr(training, name).state_dict(), getattr(twin, name).state_dict()
        for key, weight in theirs.items():
            torch.testing.assert_close(ours[key], weight, rtol=1e-4, atol=5e-5)
    left = average_decay(50.0, 0, 3)
    for name, value in training.published()["generator"].named_parameters():
        last = training.published_generator.get_parameter(name)
        torch.testing.assert_close(value, left * first[name] + (1 - left) * last, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("game", ["vanilla", "wgangp"])
def test_the_discriminator_is_shown_augmented_pictures_but_for_its_slope(game):
    """Each place is cut out anew; between a photograph and a painting nothing is."""
    training, shown = start(replace(SMALL, game=game, augment=("cutout",))), []
    training.discriminator.register_forward_pre_hook(lambda m, inputs: shown.append(inputs[0].detach()))
    training.step(scene(), 0)
    holes = [(picture == 0).all(1) for picture in shown]
    assert len(holes) == (4 if game == "wgangp" else 3)
    if game == "wgangp":
        assert not holes.pop(2).any()
    assert all(0.05 < cut.float().mean() < 0.5 for cut in holes)
    assert not torch.equal(holes[0], holes[1]) and not torch.equal(holes[1], holes[2])


def test_every_fifth_step_is_diagnosed():
    """Three photographs a step; of the game wgangp nothing says what is a photograph."""
    accuracies = {"accuracy/photographs", "accuracy/paintings"}
    for game, more in (("vanilla", accuracies), ("lsgan", accuracies), ("wgangp", set())):
        training = start(replace(SMALL, game=game))
        logged = [training.step(scene(n), 3 * n) for n in range(11)]
        found = [{name for name in losses if is_diagnostic(name)} for losses in logged]
        gradients = {"gradient/generator", "gradient/discriminator"}
        faults = {f"{what}/{of}" for what in ("saturated", "checkerboard") for of in ("photographs", "paintings")}
        expected = {*more, *gradients, *faults}
        assert found == [expected if n in (4, 9) else set() for n in range(11)]
    torch.testing.assert_close(logged[4]["saturated/photographs"], (scene(4).photo.abs() > 0.99).float().mean())


# --- averages --------------------------------------------------------------------------------------------------------


def test_the_average_is_published_and_what_learns_is_as_without():
    """The slow way: the weights of every step, weighed at the end; and numbers are drawn as without."""
    averaging, plain = start(replace(SMALL, average=7.0)), start()
    kept = [{k: v.clone() for k, v in plain.published_generator.named_parameters()}]
    for n in range(6):
        drawn = []
        for training in (averaging, plain):
            torch.manual_seed(n)
            training.step(scene(n), 50 * n)
            training.published()
            drawn.append(torch.rand(3))
        assert torch.equal(*drawn)
        kept.append({k: v.clone() for k, v in plain.published_generator.named_parameters()})
    ours, learning = averaging.published()["generator"], averaging.published_generator
    assert ours is not learning and plain.published()["generator"] is plain.published_generator
    for name, tensor in plain.published_generator.state_dict().items():
        assert torch.equal(learning.state_dict()[name], tensor), "the game is the same"
    for name, value in ours.named_parameters():
        expected = kept[0][name]
        for n, weights in enumerate(kept[1:]):
            left = 2 ** (-3 / min(7.0, 0.05 * (50 * n + 3)))
            expected = left * expected + (1 - left) * weights[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
        assert not value.requires_grad


def test_an_average_paints_by_statistics_of_its_own(one_thread):
    """As by those of one large batch. By the generator's, which are of other features, it paints other photographs."""
    toy = ToyPhotos(size=(16, 16), count=64)
    photos = torch.cat([toy[n, 0].photo for n in range(64)])
    recipe = GAN(z_size=8, width=8, discriminator_width=8, levels=2, learning_rate=1e-3, average=800.0)
    training = start(recipe, toy.spec, batch_size=16)
    for n in range(150):
        torch.manual_seed(n)
        batch = Scene(Condition(), photos[torch.randperm(64)[:16]])
        training.step(batch, 16 * n + 100_000)  # as late in a training: what rises at first has its half-life
    ours = training.averaged
    assert isinstance(ours, DCGANGenerator)
    z = torch.randn(2048, 8, generator=torch.Generator().manual_seed(5))
    for name, buffer in ours.named_buffers():
        buffer.copy_(training.published_generator.get_buffer(name))
    with torch.no_grad():
        others = ours.run(z, "running")
        settled = training.published()["generator"]
        assert isinstance(settled, DCGANGenerator)
        painted = settled.sample_latents(z)
        for name, buffer in ours.named_buffers():
            assert torch.equal(buffer, training.published_generator.get_buffer(name)), "publishing changes no state"
        exact = ours(z)
    spread = exact.std(0).mean()
    assert (painted - exact).square().mean().sqrt() < 0.12 * spread
    assert (others - exact).square().mean().sqrt() > 0.25 * spread
    again = training.published()["generator"].buffers()  # a function of the weights: whatever they were before
    assert all(torch.equal(a, b) for a, b in zip(settled.buffers(), again, strict=True))


@pytest.mark.parametrize("game", ["vanilla", "wgangp"])
def test_gradients_reach_every_parameter_and_none_that_is_frozen(game):
    """Check 10.5; wgangp's through gradients of gradients."""
    check_gradients(start(replace(SMALL, game=game)), scene())


@pytest.mark.parametrize("game", ["vanilla", "lsgan", "hinge", "wgangp"])
def test_bf16_is_another_rounding_of_the_same_step(game):
    found = {}
    for precision in ("no", "bf16"):
        training = start(replace(SMALL, game=game), precision=precision)
        torch.manual_seed(1)
        found[precision] = training.step(scene(), 0)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in training.judging.parameters())
    for name, value in found["no"].items():
        assert found["bf16"][name].item() == pytest.approx(value.item(), rel=0.05, abs=0.05), name


@pytest.fixture
def one_thread():
    """Steps of networks this small wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_its_photographs_become_like_those_of_the_toy_world(one_thread):
    """In their mean and in how they vary; and the discriminator stays unsure: 2 log 2 where it can tell nothing."""
    toy = ToyPhotos(size=(16, 16), count=64)
    photos = torch.cat([toy[n, 0].photo for n in range(64)])
    recipe = GAN(z_size=8, width=16, discriminator_width=16, levels=2, learning_rate=1e-3)
    training, log = start(recipe, toy.spec, batch_size=16), []
    assert moods_seen(training.published())["modes/covered"] == 0.25, "grey is of one kind"
    for n in range(200):
        torch.manual_seed(n)
        batch = Scene(Condition(), photos[torch.randperm(64)[:16]])
        log.append(training.step(batch, 16 * n)["discriminator"].item())
    painted = torch.cat([training.published_generator.sample(None, seed) for seed in range(64)])
    grey = float(photos.mean(0).abs().mean())  # how far the first weights' paintings are, which are grey
    assert float((painted.mean(0) - photos.mean(0)).abs().mean()) < 0.75 * grey
    assert 0.25 < float(painted.std(0).mean() / photos.std(0).mean()) < 1.5, "seeds differ as photographs do"
    assert 0.5 < sum(log[-50:]) / 50 < 2 * math.log(2) + 0.1
    assert moods_seen(training.published())["modes/covered"] >= 0.5, "day and night come to be told from clouds"


def test_it_learns_two_colours_without_painting_their_mean(one_thread):
    """Half of the photographs are of one colour, half of another; seeds come to show both."""
    spec, palette = SceneSpec((), (8, 8)), torch.tensor([[0.8, -0.6, -0.6], [-0.7, 0.1, 0.7]])
    recipe = GAN(z_size=4, width=16, discriminator_width=8, levels=2, learning_rate=2e-3, game="wgangp")
    training = start(recipe, spec, batch_size=32)
    for n in range(450):
        torch.manual_seed(n)
        photo = palette[torch.randint(2, (32,))][:, :, None, None] + 0.05 * torch.randn(32, 3, 8, 8)
        training.step(Scene(Condition(), photo.clamp(-1, 1)), 32 * n)
    colours = torch.cat([training.published_generator.sample(None, seed) for seed in range(64)]).mean((2, 3))
    distance, nearest = torch.cdist(colours, palette).min(1)
    assert distance.median() < 0.4, "their mean is 1.05 from both"
    assert 12 <= int(nearest.sum()) <= 52


# --- going on, starting from, what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("game", ["vanilla", "wgangp"])
def test_it_goes_on_to_the_last_bit(game):
    recipe = replace(SMALL, game=game, average=20.0, augment=POLICY)

    def steps(training: GANTraining, span: range) -> list[dict[str, float]]:
        found = []
        for n in span:
            torch.manual_seed(n)
            found.append({k: v.item() for k, v in training.step(scene(n), 3 * n).items()})
        return found

    through, parts, again = start(recipe), start(recipe), start(recipe)
    log = steps(through, range(6))
    steps(parts, range(2))
    parts.published()  # which the state is saved before, or not
    steps(again, range(1))  # whatever it held is overwritten
    again.load_state_dict(parts.state_dict())
    assert steps(again, range(2, 6)) == log[2:]
    for name in ("generator", "discriminator", "averaged"):
        ours, theirs = through.state_dict()[name], again.state_dict()[name]
        assert isinstance(ours, dict) and isinstance(theirs, dict)
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items()), name


def test_it_starts_from_a_published_one(tmp_path):
    training = start()
    training.step(scene(), 0)
    training.published_generator.save_pretrained(tmp_path)
    further = start(start_from=tmp_path)
    for name, weight in training.published_generator.state_dict().items():
        assert torch.equal(weight, further.published_generator.state_dict()[name])
    with pytest.raises(UserError, match="has width 4, not 8"):
        start(replace(SMALL, width=8), start_from=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"z_size": 0}, "--z-size 0: must be 1 or more"),
        ({"width": 0}, "--width 0: must be 1 or more"),
        ({"discriminator_width": 0}, "--discriminator-width 0"),
        ({"levels": 0}, "--levels 0: must be 1 to 12"),
        ({"game": "chess"}, "--game chess: must be one of vanilla, lsgan, hinge, wgangp"),
        ({"gradient_penalty": math.nan}, "--gradient-penalty nan: must be 0 or more"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be above 0"),
        ({"beta1": 1.0}, "--beta1 1.0"),
        ({"average": -1.0}, "--average -1.0: must be 0 or more, and finite"),
        ({"average": math.inf}, "--average inf: must be 0 or more, and finite"),
        ({"augment": ("colour",)}, "--augment colour: must be some of color, translation, cutout, each once"),
        ({"augment": ("color", "color")}, "--augment color color: must be some of"),
    ],
)
def test_values_that_no_training_can_have_are_refused(changes, words):
    recipe = GAN()
    for name, value in changes.items():
        object.__setattr__(recipe, name, value)
    with pytest.raises(UserError, match=words):
        recipe.size_multiple()


def test_data_that_asks_for_something_is_refused():
    for spec in (replace(SPEC, classes=(SceneClass("sky", (0, 0, 0)),)), replace(SPEC, image_channels=1)):
        with pytest.raises(UserError, match="gan learns from photographs alone"):
            start(spec=spec)


def test_one_pixel_of_one_photograph_cannot_be_normalised():
    with pytest.raises(UserError, match="--batch-size 1 --levels 3: 8 x 8 starts from one pixel"):
        start(spec=SceneSpec((), (8, 8)), batch_size=1)
    with pytest.raises(UserError, match="--size 12 16: with --levels 3, both must be multiples of 8"):
        generator(SceneSpec((), (12, 16)))


def test_the_card_says_how_to_paint_with_seeds():
    card = model_card(generator(), {})
    assert "generator.sample(seed=0)" in card and "Layout" not in card and "## Classes" not in card
