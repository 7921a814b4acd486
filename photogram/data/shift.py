"""How far layouts are from those of a training set, by shares of classes: a game's, for instance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from photogram.data.folder import Folder
from photogram.errors import UserError
from photogram.progress import progress
from photogram.scene import void_of


@dataclass(frozen=True)
class Shift:
    """What two sets of layouts have of each class.

    Args:
        shares: by class name, here and there; void left out, so that each side sums to 1.
        divergence: of Jensen and Shannon, in bits: 0 where the shares are equal, 1 where no class is in both.
        void: the share of void pixels, here and there.
    """

    shares: dict[str, tuple[float, float]]
    divergence: float
    void: tuple[float, float]


def shift(
    ours: Mapping[str, float], theirs: Mapping[str, float], void: tuple[str | None, str | None] = (None, None)
) -> Shift:
    """Compare shares of pixels by class name (specification of CRN, section 8.2).

    Args:
        ours: 0..1; a class that is missing has none.
        theirs: the same of the other set.
        void: the class of each side that is left out there; their names may differ.

    Raises:
        UserError: where a side has nothing but void.
    """
    counted = [{k: v for k, v in side.items() if k != left} for side, left in zip((ours, theirs), void, strict=True)]
    names = list(dict.fromkeys([*counted[0], *counted[1]]))
    sides = []
    for side, what in zip(counted, ("these layouts", "the layouts they are compared with"), strict=True):
        total = sum(side.values())
        if total <= 0:
            raise UserError(f"{what} have no pixel of any class but void; there are no shares to compare")
        sides.append([side.get(name, 0.0) / total for name in names])
    pairs = list(zip(*sides, strict=True))
    divergence = sum(_half(p, (p + q) / 2) + _half(q, (p + q) / 2) for p, q in pairs)
    left = [0.0 if name is None else side.get(name, 0.0) for side, name in zip((ours, theirs), void, strict=True)]
    return Shift(dict(zip(names, pairs, strict=True)), min(1.0, max(0.0, divergence)), (left[0], left[1]))


def _half(p: float, mean: float) -> float:
    return 0.5 * p * math.log2(p / mean) if p > 0 else 0.0


def shares_of(data: Path, split: str = "train", quiet: bool = False) -> tuple[dict[str, float], str | None]:
    """The share of each class in all layouts of a split, and the name of the void class.

    Raises:
        UserError: where there are no such layouts.
    """
    folder = Folder(data, split, photos=False)
    counts = [0] * len(folder.classes)
    with progress("counting classes", len(folder), 0, quiet) as advance:
        for n in range(len(folder)):
            layout = folder[n, 0].condition.layout
            assert layout is not None
            for index, pixels in enumerate(layout.classes.flatten().long().bincount(minlength=len(counts)).tolist()):
                counts[index] += pixels
            advance(folder.name(n))
    total = sum(counts)
    void = void_of(folder.classes)
    shares = {c.name: counts[n] / total for n, c in enumerate(folder.classes)}
    return shares, None if void is None else folder.classes[void].name
