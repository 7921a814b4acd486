"""Colour hints: people who are simulated, hints in their places, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from test_colorization import network, scene

from photogram.errors import UserError
from photogram.nn.hints import Spot, check_places, drawn, simulated, spots_of
from photogram.recipes.colorization import ColorizationOptions


def test_the_number_of_hints_is_geometric_with_mean_7():
    """Check 10.10. Patches of one pixel on a large image seldom meet."""
    torch.manual_seed(0)
    ab = torch.rand(1, 2, 1, 1).expand(400, 2, 400, 400)
    counts = simulated(ab, 0.125, 1, 0.0).mask.sum((1, 2, 3))
    assert counts.mean().item() == pytest.approx(7, abs=4 * math.sqrt(56 / 400))
    for k in (0, 1, 2):
        share = float((counts == k).float().mean())
        chance = 0.125 * 0.875**k
        assert share == pytest.approx(chance, abs=4 * math.sqrt(chance / 400))


def test_no_hints_with_p_of_one_and_all_colours_of_the_share_asked_for():
    torch.manual_seed(0)
    ab = torch.rand(500, 2, 8, 8) * 100
    none = simulated(ab, 1.0, 9, 0.0)
    assert none.mask.sum() == 0 and none.ab.abs().sum() == 0
    some = simulated(ab, 1.0, 9, 0.1)
    whole = some.mask.flatten(1).amin(1) == 1
    assert float(whole.float().mean()) == pytest.approx(0.1, abs=0.06)
    assert torch.equal(some.ab[whole], ab[whole]) and some.mask[~whole].sum() == 0


def test_a_patch_is_exactly_as_wide_as_drawn_and_of_its_mean_colour():
    """One patch an image, found again in the mask: a square of 1 to 9, all sides alike often."""
    torch.manual_seed(1)
    ab = (torch.rand(1, 2, 32, 48) * 200 - 100).expand(700, 2, 32, 48)
    hints, sides, lefts = simulated(ab, 0.6, 9, 0.0), [], []
    for n in range(len(ab)):
        rows, columns = hints.mask[n, 0].amax(1).nonzero()[:, 0], hints.mask[n, 0].amax(0).nonzero()[:, 0]
        if not len(rows) or len(hints.ab[n].flatten(1).T.unique(dim=0)) != 2:
            continue  # none, or several
        top, left, side = int(rows[0]), int(columns[0]), len(rows)
        assert len(columns) == side and int(rows[-1]) - top == int(columns[-1]) - left == side - 1
        assert hints.mask[n].sum() == side * side
        patch = (slice(None), slice(top, top + side), slice(left, left + side))
        expected = ab[n][patch].mean((1, 2), keepdim=True).expand(2, side, side)
        torch.testing.assert_close(hints.ab[n][patch], expected, rtol=1e-4, atol=1e-4)
        sides.append(side)
        lefts.append((left, side))
    counts = torch.bincount(torch.tensor(sides), minlength=10)[1:]
    assert len(sides) > 120 and (counts - len(sides) / 9).abs().max() < 4 * math.sqrt(len(sides) / 9)
    normal = torch.tensor([(left - (48 - side) / 2) / ((48 - side) / 4) for left, side in lefts])
    assert normal.mean().abs() < 0.25 and normal.std().item() == pytest.approx(0.96, abs=0.15)  # clipped at 2
    assert normal.abs().max() <= 2.03


def test_where_there_is_no_hint_there_is_no_colour():
    torch.manual_seed(2)
    hints = simulated(torch.rand(20, 2, 16, 16) * 90 + 10, 0.125, 9, 0.01)
    assert (hints.ab[hints.mask.expand_as(hints.ab) == 0] == 0).all()
    assert (hints.ab[hints.mask.expand_as(hints.ab) == 1] != 0).all()
    assert set(hints.mask.unique().tolist()) == {0.0, 1.0}


def test_hints_fit_into_images_smaller_than_they():
    torch.manual_seed(0)
    assert simulated(torch.ones(50, 2, 3, 5), 0.125, 9, 0.0).mask.sum() > 0


def test_the_draws_are_of_torchs_generator_and_of_nothing_else():
    ab = torch.rand(8, 2, 16, 24)
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(simulated(ab, 0.125, 9, 0.01))
    assert torch.equal(found[0].mask, found[1].mask) and torch.equal(found[0].ab, found[1].ab)
    assert not torch.equal(found[0].mask, found[2].mask)


@pytest.mark.parametrize(
    ("spot", "size", "small", "rows", "columns"),
    [
        (Spot(10, 4, 2, 1, 2), (16, 24), (16, 24), (2, 7), (8, 13)),
        (Spot(0, 0, 0, 1, 2), (16, 24), (16, 24), (0, 1), (0, 1)),
        (Spot(23, 15, 0, 1, 2), (16, 24), (16, 24), (15, 16), (23, 24)),
        (Spot(23, 15, 1, 1, 2), (16, 24), (16, 24), (13, 16), (21, 24)),  # moved into the image, whole
        (Spot(10, 4, 1.5, 1, 2), (16, 24), (8, 12), (1, 3), (4, 6)),
        (Spot(100, 40, 0, 1, 2), (160, 240), (16, 24), (4, 5), (10, 11)),  # never lost
        (Spot(3, 3, 16, 1, 2), (16, 24), (16, 24), (0, 16), (0, 24)),
    ],
)
def test_a_hint_is_drawn_at_its_place(spot, size, small, rows, columns):
    hints = drawn([spot], size, torch.zeros(1, 1, *small))
    mask = torch.zeros(1, 1, *small)
    mask[:, :, slice(*rows), slice(*columns)] = 1
    assert torch.equal(hints.mask, mask)
    assert torch.equal(hints.ab, torch.cat([mask * spot.a, mask * spot.b], 1))


def test_the_later_of_two_hints_is_on_top():
    first, second = Spot(5, 5, 2, 10, 20), Spot(6, 5, 1, -30, -40)
    hints = drawn([first, second], (16, 24), torch.zeros(2, 1, 16, 24))
    assert hints.ab[1, :, 5, 5].tolist() == [-30, -40] and hints.ab[1, :, 5, 4].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 2, 3, 4), "4 numbers; five make a hint"),
        ((1, 2, -1, 0, 0), "hint 1: radius is -1; it is 0 or more"),
        ((1, 2, 3, 0, 0, 1, 2, 3, 111, 0), "hint 2: a is 111; it is -110 to 110"),
        ((1, 2, 3, 0, -110.5), "hint 1: b is -110.5"),
        ((float("nan"), 2, 3, 0, 0), "hint 1: x is nan"),
        ((1, float("inf"), 3, 0, 0), "hint 1: y is inf"),
    ],
)
def test_numbers_that_are_no_hints_are_refused(numbers, words):
    with pytest.raises(UserError, match=words):
        spots_of(numbers)
    with pytest.raises(UserError, match=words):
        network().sample(scene(1).condition, options=ColorizationOptions(hints=numbers))


@pytest.mark.parametrize(
    ("spot", "words"),
    [
        (Spot(24, 0, 1, 0, 0), "hint 1: x is 24, but the image is 16 x 24; x is 0 to 23"),
        (Spot(0, -1, 1, 0, 0), "hint 1: y is -1, but the image is 16 x 24; y is 0 to 15"),
        (Spot(0, 0, 25, 0, 0), "radius is 25, wider than the image of 16 x 24"),
    ],
)
def test_hints_outside_the_image_are_refused(spot, words):
    with pytest.raises(UserError, match=words):
        check_places([spot], (16, 24))
    with pytest.raises(UserError, match=words):
        network().sample(scene(1).condition, options=ColorizationOptions(hints=tuple(spot)))
