"""The adversarial games on logits: closed forms (check 10.4 of the specification), gradients, plain formulas."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from photogram.losses import Game, discriminator_loss, generator_loss

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
