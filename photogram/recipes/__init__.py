"""The systems, one file each. `Recipe` is the list of them; `load` opens what any of them published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from photogram.errors import UserError
from photogram.generator import CONFIG, Network, read_config
from photogram.recipes.crn import CRN
from photogram.recipes.segmenter import Segmenter

Recipe = CRN | Segmenter
"""The union of all recipes; the command line and the conformance tests iterate over its members."""


def members(union: Any = Recipe) -> tuple[type[Any], ...]:
    """The recipes of a union, in order."""
    return getattr(union, "__args__", (union,))


def load(folder: str | Path) -> Any:
    """Open a published network: the folder of a run, or of a network that was saved by `save_pretrained`.

    Raises:
        UserError: where there is none, it is damaged, or no recipe of this version publishes it.
    """
    folder = Path(folder)
    known: dict[str, type[Network]] = {n.__name__: n for recipe in members() for n in recipe.networks}
    name = str(read_config(folder)["network"])
    if name not in known:
        raise UserError(f"{folder / CONFIG}: holds a {name}; this version knows {', '.join(sorted(known))}")
    return known[name].from_pretrained(folder)
