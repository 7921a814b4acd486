"""What fields of a recipe can be. What they cannot is refused in one line, with the flag, its value and the bound.

Recipes call these from their `check`, not on construction, where the parser of flags would answer.
"""

from __future__ import annotations

import math
from typing import get_args

from photogram.errors import unfit


def check_words(recipe: object, **kinds: object) -> None:
    """Refuse fields that hold none of the words of their type.

    Args:
        recipe: has the fields.
        kinds: a `Literal` of words for each.

    Raises:
        UserError: naming the first.
    """
    for name, kind in kinds.items():
        words = get_args(kind)
        if getattr(recipe, name) not in words:
            raise unfit(name, getattr(recipe, name), f"must be one of {', '.join(words)}")


def check_least(recipe: object, least: float, *names: str) -> None:
    """Refuse numbers below a bound, and those that are not finite.

    Raises:
        UserError: naming the first.
    """
    for name in names:
        value = getattr(recipe, name)
        if not least <= value < math.inf:  # nor nan
            raise unfit(name, value, f"must be {least:g} or more{', and finite' if isinstance(value, float) else ''}")


def check_positive(recipe: object, *names: str) -> None:
    """Refuse numbers that are not above 0, and those that are not finite.

    Raises:
        UserError: naming the first.
    """
    for name in names:
        if not 0 < getattr(recipe, name) < math.inf:  # nor nan
            raise unfit(name, getattr(recipe, name), "must be above 0 and finite")


def check_below_one(recipe: object, *names: str) -> None:
    """Refuse numbers outside 0 to 1, and 1 itself.

    Raises:
        UserError: naming the first.
    """
    for name in names:
        if not 0 <= getattr(recipe, name) < 1:  # nor nan
            raise unfit(name, getattr(recipe, name), "must be 0 or more, and below 1")
