"""Sizes that a recipe can train at: the door and plans must agree on them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from photogram.commands.dryrun import Imagined
from photogram.data.toy_layout import CLASSES
from photogram.errors import UserError
from photogram.generator import Network
from photogram.recipe import LearnsFrom, Run, Training
from photogram.recipes.crn import CRN
from photogram.recipes.pix2pixhd import Pix2PixHD
from photogram.scene import SceneSpec, Size
from photogram.sizes import least_side, sizes_below, smaller_size
from photogram.training import Plan, check_plan

SPEC = SceneSpec(CLASSES, (96, 192))


@dataclass(frozen=True)
class Plain:
    """A recipe that can train at all multiples of a number."""

    networks: ClassVar[tuple[type[Network], ...]] = ()
    learns_from: ClassVar[LearnsFrom] = "layouts"
    multiple: int = 1

    def size_multiple(self) -> int:
        return self.multiple

    def start(self, run: Run) -> Training:
        raise NotImplementedError


@dataclass(frozen=True)
class Choosy(Plain):
    """One that needs more pixels a side than that."""

    least: int = 1

    def least_side(self) -> int:
        return self.least


def refused(recipe: Plain | Pix2PixHD, size: Size) -> str:
    """What the door says; "" where it lets pass."""
    try:
        check_plan(recipe, Imagined(replace(SPEC, size=size), 4), Plan(steps=1))
    except UserError as e:
        return str(e)
    return ""


def test_the_least_side_is_a_multiple_and_the_recipes_own():
    assert least_side(Plain(16)) == 16 and least_side(CRN(widths=(8, 8, 8))) == CRN(widths=(8, 8, 8)).size_multiple()
    assert least_side(Pix2PixHD(downsamplings=3, enhancers=1)) == 32
    assert [least_side(Choosy(16, n)) for n in (1, 16, 17, 24, 32, 33)] == [16, 16, 32, 32, 32, 48]


@pytest.mark.parametrize(
    ("size", "multiple", "side", "expected"),
    [
        ((1024, 2048), 256, 1, ((512, 1024), (768, 1536))),
        ((192, 256), 64, 1, ((128, 128), (128, 192))),
        ((64, 64), 64, 1, (None,)),
        ((128, 128), 64, 1, ((64, 64), (64, 128))),
        ((64, 128), 64, 1, ((64, 64), None)),
        ((7, 9), 1, 1, ((4, 4), (5, 7))),
        ((192, 256), 64, 128, ((128, 128), (128, 192))),
        ((128, 256), 64, 128, ((128, 128), (128, 192))),
        ((128, 128), 64, 128, (None,)),
        ((1024, 2048), 256, 600, ((768, 1024), (768, 1536))),
    ],
)
def test_smaller_sizes_are_possible_and_grow(size, multiple, side, expected):
    recipe = Choosy(multiple, side)
    first = smaller_size(recipe, size, 0.5)
    assert first == expected[0]
    assert first is None or smaller_size(recipe, size, 0.75, first[0] * first[1]) == expected[1]


@pytest.mark.parametrize("recipe", [Plain(4), Choosy(4, 8), Choosy(4, 9), Choosy(8, 8)], ids=repr)
def test_smaller_sizes_are_those_that_the_door_lets_pass(recipe: Plain):
    """Against the obvious way: all sizes that there are, one by one."""
    sides = range(1, 33)
    allowed = {size for size in itertools.product(sides, sides) if not refused(recipe, size)}
    assert allowed and min(map(min, allowed)) == least_side(recipe)
    for size in allowed:
        below = {one for one in allowed if one[0] < size[0]}
        found = list(sizes_below(recipe, size))
        assert set(found) <= below and [one[0] for one in found] == sorted({one[0] for one in below}, reverse=True)
        for one in found:  # as near to the aspect as any of its rows
            distance = abs(one[1] - one[0] * size[1] / size[0])
            assert all(distance <= abs(w - one[0] * size[1] / size[0]) + 1e-9 for h, w in allowed if h == one[0])
        for share in (0.25, 0.5, 0.875):
            smaller = smaller_size(recipe, size, share)
            possible = {one for one in allowed if one[0] * one[1] < size[0] * size[1]}
            away = {one: sum(abs(n / m - share) for n, m in zip(one, size, strict=True)) for one in possible}
            if smaller is None:
                assert all(max(one[0] / size[0], one[1] / size[1]) == 1 for one in possible)
            else:
                assert smaller in possible and away[smaller] == pytest.approx(min(away.values()))


def test_the_door_names_sizes_that_it_lets_pass():
    for recipe, size in ((Choosy(16, 24), (16, 40)), (Pix2PixHD(downsamplings=3), (8, 100)), (Plain(16), (5, 40))):
        message = refused(recipe, size)
        heights, widths = message.split("heights are ")[1].split(", the nearest widths ")
        for height, width in itertools.product(heights.split(" and "), widths.split(" and ")):
            assert not refused(recipe, (int(height), int(width))), message
