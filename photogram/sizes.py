"""Which sizes a recipe can train at, and the smaller ones that take the place of one: for the door, and for plans."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from photogram.recipe import Recipe
from photogram.scene import Size


def least_side(recipe: Recipe) -> int:
    """The least height and the least width that a recipe can train at, in pixels: a multiple of its `size_multiple`.

    Most recipes can train at one such multiple. One that needs more has a method `least_side` (`Recipe`).

    Raises:
        UserError: where the recipe's values cannot be.
    """
    multiple = recipe.size_multiple()
    least = getattr(recipe, "least_side", lambda: multiple)()
    return max(multiple, math.ceil(least / multiple) * multiple)


def smaller_size(recipe: Recipe, size: Size, share: float, above: int = 0) -> Size | None:
    """The size nearest to a share of each side that a recipe can train at.

    Args:
        recipe: it says at which sizes.
        size: height and width, at which it can train.
        share: of each side, between 0 and 1.
        above: the size has more pixels than this, and fewer than `size`.

    Returns:
        None where each side's two multiples around the share make no such size.
    """
    multiple, side = recipe.size_multiple(), least_side(recipe)
    rows, columns = (
        {max(side, count(n * share / multiple) * multiple) for count in (math.floor, math.ceil)} for n in size
    )
    possible = [(h, w) for h, w in itertools.product(rows, columns) if above < h * w < size[0] * size[1]]
    away = {one: sum(abs(n / m - share) for n, m in zip(one, size, strict=True)) for one in possible}
    return min(possible, key=lambda one: (away[one], one), default=None)


def sizes_below(recipe: Recipe, size: Size) -> Iterator[Size]:
    """The sizes of fewer rows at which a recipe can train, the largest first, in the aspect of `size` or near it."""
    multiple, side, (height, width) = recipe.size_multiple(), least_side(recipe), size
    for rows in range((height - 1) // multiple * multiple, side - 1, -multiple):
        yield rows, max(side, round(rows * width / height / multiple) * multiple)
