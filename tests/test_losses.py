"""The objectives: closed forms (check 10.4 of the specification), gradients, plain formulas."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from photogram.losses import (
    Game,
    discriminator_loss,
    discriminator_loss_of_scales,
    feature_matching,
    generator_loss,
    generator_loss_of_scales,
    gradient_penalty,
)

GAMES = get_args(Game)


def constant(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape or (2, 1, 3, 4), value)


def test_vanilla_at_zero():
    zero = constant(0.0)
    assert discriminator_loss("vanilla", zero, zero).item() == pytest.approx(2 * math.log(2))
    assert generator_loss("vanilla", zero).item() == pytest.approx(math.log(2))


def test_lsgan_at_a_half_over_two_scales():
    half, scales = constant(0.5), 2
    assert scales * generator_loss("lsgan", half).item() == 0.5
    assert scales * 0.5 * discriminator_loss("lsgan", half, half).item() == 0.5


def test_hinge_where_the_discriminator_is_sure():
    assert discriminator_loss("hinge", constant(2.0), constant(-2.0)).item() == 0
    assert generator_loss("hinge", constant(-2.0)).item() == 2
    assert discriminator_loss("hinge", constant(0.25), constant(0.5)).item() == 0.75 + 1.5


def test_wgangp_is_a_difference_of_means():
    assert discriminator_loss("wgangp", constant(2.0), constant(-1.5)).item() == -3.5
    assert generator_loss("wgangp", constant(-1.5)).item() == 1.5


def test_the_penalty_of_a_plane_is_its_slope_less_one_squared():
    """D(x) = w . x + b has the slope w everywhere: (|w| - 1)^2, with the gradient 2 (1 - 1/|w|) w, and 0 for b."""
    w = torch.tensor([[[1.0, -2.0], [0.5, 4.0]]]).requires_grad_()  # of length sqrt(21.25)
    b = torch.tensor(3.0, requires_grad=True)
    photo, painting = torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    penalty = gradient_penalty(lambda x: (x * w).sum((1, 2, 3))[:, None] + b, photo, painting)
    length = math.sqrt(21.25)
    assert penalty.item() == pytest.approx((length - 1) ** 2)
    penalty.backward()
    assert w.grad is not None
    torch.testing.assert_close(w.grad, 2 * (1 - 1 / length) * w.detach())
    assert b.grad is not None and b.grad.item() == 0, "there, though 0: several processes average what is there"


def test_the_penalty_of_a_bowl_tells_where_it_looks():
    """D(x) = |x|^2 / 2 has the slope |x|: between photographs at 1 and paintings at 0, each x is its share."""
    photo, painting = torch.ones(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
    torch.manual_seed(5)
    penalty = gradient_penalty(lambda x: x.square().sum((1, 2, 3))[:, None] / 2, photo, painting)
    torch.manual_seed(5)
    share = torch.rand(4, 1, 1, 1)
    assert share.min() > 0 and share.unique().numel() == 4, "each scene by a draw of its own"
    assert penalty.item() == pytest.approx((share - 1).square().mean().item(), rel=1e-5)


def test_the_penalty_takes_the_mean_of_patches_as_the_game_does():
    maps = constant(1.0, 2, 1, 4, 4)
    weight = torch.tensor(3.0)
    few = gradient_penalty(lambda x: weight * x.mean((1, 2, 3))[:, None], maps, maps)
    many = gradient_penalty(lambda x: weight * x, maps, maps)  # a patch is a pixel
    assert few.item() == pytest.approx(many.item()) == pytest.approx((3 / 4 - 1) ** 2)


def test_the_penalty_where_nothing_is_looked_at():
    """A slope of 0 has no direction: the penalty is 1, and the gradient a number."""
    w = torch.zeros(1, 1, 2, 2, requires_grad=True)
    photo = torch.ones(1, 1, 2, 2)
    penalty = gradient_penalty(lambda x: (x * w).sum((1, 2, 3))[:, None], photo, photo)
    assert penalty.item() == 1
    (gradient,) = torch.autograd.grad(penalty, w)
    assert gradient.isfinite().all()


def test_the_penaltys_gradient_is_that_of_finite_differences():
    """Through a small network, in float64: gradients of gradients, against the slow way."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, 2, 1), torch.nn.GroupNorm(1, 3), torch.nn.Softplus())
    network = network.append(torch.nn.Conv2d(3, 1, 2)).double()
    photo, painting = torch.rand(2, 2, 4, 4).double(), torch.rand(2, 2, 4, 4).double()

    def penalty():
        torch.manual_seed(1)
        return gradient_penalty(network, photo, painting)

    weight = network[0].weight
    assert isinstance(weight, torch.Tensor)
    (found,) = torch.autograd.grad(penalty(), weight)
    for place in [(0, 0, 0, 0), (1, 1, 2, 1), (2, 0, 1, 1)]:
        values = []
        for step in (-1e-3, 1e-3):
            with torch.no_grad():
                weight[place] += step
            values.append(penalty().item())
            with torch.no_grad():
                weight[place] -= step
        slow = (values[1] - values[0]) / 2e-3
        assert found[place].item() == pytest.approx(slow, rel=2e-2, abs=1e-4)


def test_no_gradient_of_the_penalty_reaches_the_painting():
    painting = torch.rand(2, 1, 3, 3, requires_grad=True)
    w = torch.ones(1, 3, 3, requires_grad=True)
    gradient_penalty(lambda x: (x * w).sum((1, 2, 3))[:, None], torch.rand(2, 1, 3, 3), painting).backward()
    assert painting.grad is None and w.grad is not None


def test_vanilla_is_cross_entropy_with_logits():
    torch.manual_seed(0)
    real, fake = 3 * torch.randn(2, 1, 5, 6), 3 * torch.randn(2, 1, 5, 6)

    def entropy(logits, target):
        return F.binary_cross_entropy(logits.double().sigmoid(), torch.full_like(logits, target, dtype=torch.float64))

    expected = entropy(real, 1.0) + entropy(fake, 0.0)
    assert discriminator_loss("vanilla", real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    assert generator_loss("vanilla", fake).item() == pytest.approx(entropy(fake, 1.0).item(), rel=1e-5)


def test_the_best_discriminator_scores_minus_log_4_plus_twice_the_divergence():
    """V = -log 4 + 2 JSD (section 1.1); a loss is -V. Two laws over two pictures, 3:1 and 1:3."""
    p, q = (torch.tensor(v, dtype=torch.float64) for v in ([0.75, 0.25], [0.25, 0.75]))
    logits = (p / q).log()  # of D* = p / (p + q)
    drawn = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1])
    value = discriminator_loss("vanilla", logits[drawn[0]], logits[drawn[1]])
    mean = (p + q) / 2
    divergence = 0.5 * ((p * (p / mean).log()).sum() + (q * (q / mean).log()).sum())
    assert value.item() == pytest.approx((math.log(4) - 2 * divergence).item(), rel=1e-6)


@pytest.mark.parametrize("game", GAMES)
def test_both_sides_pull_where_they_should(game):
    logits = torch.zeros(2, 1, 3, 3, requires_grad=True)
    (pull,) = torch.autograd.grad(generator_loss(game, logits), logits)
    assert (pull < 0).all(), "a step downhill raises the logits of paintings"
    real, fake = (torch.zeros(2, 1, 3, 3, requires_grad=True) for _ in range(2))
    up, down = torch.autograd.grad(discriminator_loss(game, real, fake), (real, fake))
    assert (up < 0).all() and (down >= 0).all() and (game == "lsgan" or (down > 0).all())


def test_vanilla_does_not_saturate_where_the_discriminator_is_sure():
    logits = torch.full((1, 1), -60.0, requires_grad=True)
    loss = generator_loss("vanilla", logits)
    assert loss.item() == 60
    assert torch.autograd.grad(loss, logits)[0].item() == -1
    far = discriminator_loss("vanilla", constant(-1e4), constant(1e4))
    assert far.item() == 2e4, "logits that a sigmoid would round away"


@pytest.mark.parametrize("game", GAMES)
def test_patches_and_pictures_weigh_alike_and_sizes_may_differ(game):
    torch.manual_seed(0)
    fake = torch.randn(2, 1, 4, 4)
    assert generator_loss(game, fake).item() == pytest.approx(generator_loss(game, fake.flatten()[:, None]).item())
    one, two = (
        discriminator_loss(game, fake[:1], fake).item(),
        discriminator_loss(game, fake[:1].repeat(3, 1, 1, 1), fake),
    )
    assert one == pytest.approx(two.item())


@pytest.mark.parametrize("game", GAMES)
def test_half_precision_is_summed_in_float32(game):
    logits = constant(0.25, 1, 1, 300, 300).bfloat16()
    for loss in (generator_loss(game, logits), discriminator_loss(game, logits, logits)):
        assert loss.dtype == torch.float32
    assert generator_loss(game, logits).item() == pytest.approx(generator_loss(game, logits.float()).item())


# Several discriminators, each with features and logits (specification 4.5, 6.5).


def judged(features: list[list[Tensor]], logits: float = 0.5) -> list[list[Tensor]]:
    return [[*one, constant(logits)] for one in features]


def test_lsgan_over_scales_at_a_half():
    """Check 10.4."""
    scales = judged([[], []])
    assert generator_loss_of_scales("lsgan", scales).item() == 0.5
    assert 0.5 * discriminator_loss_of_scales("lsgan", scales, scales).item() == 0.5


@pytest.mark.parametrize("game", GAMES)
def test_games_are_summed_over_scales(game):
    torch.manual_seed(0)
    on_real, on_fake = ([[torch.randn(2, 5), torch.randn(2, 1, n, n)] for n in (6, 4, 3)] for _ in range(2))
    expected = sum(discriminator_loss(game, on_real[n][1], on_fake[n][1]).item() for n in range(3))
    assert discriminator_loss_of_scales(game, on_real, on_fake).item() == pytest.approx(expected, rel=1e-6)
    finest, *others = [generator_loss(game, one[1]).item() for one in on_fake]
    for weight in (0.0, 0.3, 1.0):
        found = generator_loss_of_scales(game, on_fake, weight).item()
        assert found == pytest.approx(weight * finest + sum(others), rel=1e-5)


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("depths", [(4,), (5, 4), (2,)])
def test_features_that_differ_by_c_cost_40_c_however_many_there_are(scales, depths):
    """Check 10.4: lambda is 10. Those of the discriminator with attention are five."""
    c, depths = 0.25, [*depths, *depths[-1:] * 2][:scales]
    real = judged([[torch.randn(1, 3, 8, 8).round() for _ in range(depth)] for depth in depths])
    fake = judged([[one + (-1) ** n * c for n, one in enumerate(scale[:-1])] for scale in real], logits=9.0)
    assert 10 * feature_matching(real, fake).item() == pytest.approx(40 * c)


def test_feature_matching_is_the_plain_formula_and_pulls_the_painting_alone():
    torch.manual_seed(0)
    real, fake = (
        [[torch.randn(2, c, 9 - c, 5, requires_grad=True) for c in range(1, 5 - n)] for n in range(2)] for _ in range(2)
    )
    found = feature_matching(real, fake)
    expected = torch.zeros(())
    for a, b in zip(fake, real, strict=True):  # the last are logits and do not count
        for n in range(len(a) - 1):
            expected = expected + (a[n] - b[n].detach()).abs().mean() * 4 / (len(a) - 1) / 2
    torch.testing.assert_close(found, expected)
    ours = [one for scale in fake for one in scale[:-1]]
    torch.testing.assert_close(torch.autograd.grad(found, ours), torch.autograd.grad(expected, ours))
    feature_matching(real, fake).backward()
    assert all(one.grad is None for scale in real for one in scale)
    assert fake[0][-1].grad is None and fake[0][0].grad is not None


def test_feature_matching_sums_half_precision_in_float32():
    real, fake = [[constant(0.0, 1, 64, 90, 90)] * 2], [[constant(0.001, 1, 64, 90, 90).bfloat16()] * 2]
    found = feature_matching([[one.bfloat16() for one in real[0]]], fake)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(4 * fake[0][0].flatten()[0].item(), rel=1e-5)


def test_discriminators_of_another_form_are_not_compared():
    one = judged([[constant(0.0)]])
    for other in (judged([[constant(0.0)]] * 2), judged([[constant(0.0)] * 2])):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            feature_matching(one, other)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        discriminator_loss_of_scales("lsgan", one, one * 2)
