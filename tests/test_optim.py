"""Freezing, first weights, averages, and learning rates as functions of photographs seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from photogram.nn.norms import BatchNorm
from photogram.optim import RISING, average_decay, ema, frozen, init_normal, late_decay, linear_decay, set_learning_rate


def test_what_is_frozen_gets_no_gradient_and_passes_it_on():
    judge, painting = nn.Conv2d(3, 1, 3), torch.rand(1, 3, 5, 5, requires_grad=True)
    with frozen(judge):
        assert not any(p.requires_grad for p in judge.parameters())
        logits = judge(painting)
    logits.sum().backward()  # after it, as training steps do
    assert all(p.grad is None for p in judge.parameters())
    assert painting.grad is not None and painting.grad.abs().sum() > 0
    assert all(p.requires_grad for p in judge.parameters())


def test_what_was_frozen_before_stays_so_and_errors_thaw():
    judge = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ZeroDivisionError), frozen(judge):
        raise ZeroDivisionError
    assert [p.requires_grad for p in judge.parameters()] == [True, True, False, False]


def test_first_weights_are_normal():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 64, 4), nn.ConvTranspose2d(64, 64, 4), BatchNorm(5000), nn.Linear(300, 300))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    init_normal(network)
    for module in network:
        centre = 1.0 if isinstance(module, BatchNorm) else 0.0
        assert module.weight.mean().item() == pytest.approx(centre, abs=1e-3)
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (module.bias == 0).all()


@pytest.mark.parametrize(("epoch", "share"), [(1, 1.0), (100, 1.0), (101, 0.990099), (150, 0.504950), (200, 0.009901)])
def test_the_rate_falls_as_specified(epoch, share):
    """Section 2.5: 100 epochs at the full rate, 100 falling."""
    photographs = 400
    for seen in ((epoch - 1) * photographs, epoch * photographs - 1):
        assert linear_decay(seen, photographs, 100, 100) == pytest.approx(share, abs=5e-7)


def test_the_rate_never_rises_nor_reaches_zero():
    rates = [linear_decay(seen, 7, 2, 3) for seen in range(100)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0.25
    assert [linear_decay(7 * e, 7, 2, 3) for e in range(6)] == [1, 1, 0.75, 0.5, 0.25, 0.25]
    assert linear_decay(10**6, 7, 2, 0) == 1


def test_the_rate_is_set_for_all_parameters():
    groups = [{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 9.0}]
    adam = torch.optim.Adam(groups, lr=1.0)
    set_learning_rate(adam, 0.5)
    assert [group["lr"] for group in adam.param_groups] == [0.5, 0.5]


# --- moving averages -------------------------------------------------------------------------------------------------


def test_an_average_is_the_sum_of_all_that_was_weighed():
    """Against the plain sum: each network's weights, times its share, times what later steps left of it."""
    torch.manual_seed(0)
    decays = (0.0, 0.3, 0.9, 0.5)
    networks = [nn.Sequential(nn.Conv2d(3, 4, 3), BatchNorm(4)) for _ in range(5)]
    for network in networks:
        network(torch.randn(2, 3, 6, 6))
        nn.init.normal_(network[1].weight)
    averaged = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNorm(4)).requires_grad_(False)
    averaged.load_state_dict(networks[0].state_dict())
    for network, decay in zip(networks[1:], decays, strict=True):
        ema(averaged, network, decay)
    for name, value in averaged.named_parameters():
        expected = networks[0].state_dict()[name].double()
        for network, decay in zip(networks[1:], decays, strict=True):
            expected = decay * expected + (1 - decay) * network.state_dict()[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    for ours, first in zip(averaged.buffers(), networks[0].buffers(), strict=True):
        assert torch.equal(ours, first), "running statistics are of other features, and left alone"
    assert len(list(averaged.buffers())) == 2
    assert all(p.requires_grad for p in networks[-1].parameters()) and all(
        p.grad_fn is None for p in averaged.parameters()
    )


def test_after_a_half_life_half_of_it_is_left_however_many_are_shown_a_step():
    for shown in (1, 4, 100):
        left = 1.0
        for seen in range(1_000_000, 1_010_000, shown):  # long after the beginning
            left *= average_decay(10_000, seen, shown)
        assert left == pytest.approx(0.5, rel=1e-6), shown


def test_first_weights_are_soon_forgotten():
    """At first the half-life is a twentieth of what was shown; from there on it is the one that was asked for."""
    assert average_decay(1000, 0, 1) == average_decay(1000, 0, 8) == pytest.approx(2.0**-20)
    for shown in (1, 8):
        left = 1.0
        for seen in range(0, 200 * shown, shown):
            left *= average_decay(1e9, seen, shown)
        assert left < 1e-20
    late = 1000 / RISING
    assert average_decay(1000, round(late) - 4, 4) == average_decay(1000, 10 * round(late), 4) == 0.5 ** (4 / 1000)
    assert average_decay(1000, round(late / 2) - 4, 4) == pytest.approx(0.5 ** (4 / 500))


def test_late_decay_is_pix2pixhds():
    """Specification 4.8: of 100 + 100 epochs, 101 is still at the full rate, 102 at 0.99, 200 at 0.01 (check 10.6)."""
    rates = {epoch: late_decay((epoch - 1) * 40, 40, 100, 100) for epoch in (1, 100, 101, 102, 200, 300)}
    assert rates == pytest.approx({1: 1, 100: 1, 101: 1, 102: 0.99, 200: 0.01, 300: 0.01})
    assert late_decay(10**6, 40, 100, 0) == 1
