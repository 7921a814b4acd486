"""Two systems that paint nothing, between which every number of a real one is read.

- `random-photographs`: photographs of training, one for each layout, chosen at random: what another set of photographs
  measures. They are of all of training, whose mix of scenes is not that of the layouts that are judged.
- `retrieval`: the photograph of the training layout that is nearest. It flatters set measures, since every image is a
  photograph, and of a scene such as was asked for; it shows what the measures of pairs and of consistency are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from photogram.data.folder import Folder
from photogram.errors import UserError
from photogram.images import write_image
from photogram.metrics.protocol import Protocol
from photogram.progress import progress
from photogram.scene import to_pixels


@dataclass(frozen=True)
class Brackets:
    """The two folders, ready to be judged."""

    photographs: Path
    retrieval: Path

    @classmethod
    def within(cls, out: Path) -> Brackets:
        """Where `write_brackets` puts them."""
        return cls(out / "random-photographs", out / "retrieval")


def agreement(asked: Tensor, known: Tensor, ignored: int | None) -> Int[Tensor, " n"]:
    """In how many pixels each of some layouts [n, h, w] has the class that is asked for [h, w]; an ignored class counts
    nowhere."""
    equal = known == asked
    return (equal if ignored is None else equal & (asked != ignored)).sum((1, 2))


def write_brackets(data: Path, protocol: Protocol, out: Path, quiet: bool = False) -> Brackets:
    """Write both folders, at the protocol's size.

    Args:
        data: a data folder with train/ and the protocol's split.
        protocol: says which layouts, and the size.
        out: gets `random-photographs/` and `retrieval/`.
        quiet: show no progress.

    Raises:
        UserError: where there are fewer training photographs than layouts.
    """
    known = Folder(data, "train", size=protocol.size)
    asked = Folder(data, protocol.split, size=protocol.size, photos=False)
    count = protocol.count or len(asked)
    if len(known) < count:
        raise UserError(f"{data}: train has {len(known)} photographs, but {count} layouts are judged")
    with progress("reading layouts", len(known), 0, quiet) as advance:
        layouts = []
        for n in range(len(known)):
            layout = known[n, 0].condition.layout
            assert layout is not None
            layouts.append(layout.classes[0])
            advance(known.name(n))
    stacked = torch.stack(layouts)
    drawn = np.random.default_rng(protocol.seed).permutation(len(known))[:count]
    brackets = Brackets.within(out)
    for folder in (brackets.photographs, brackets.retrieval):
        folder.mkdir(parents=True, exist_ok=True)
    with progress("writing", count, 0, quiet) as advance:
        for n in range(count):
            layout = asked[n, 0].condition.layout
            assert layout is not None
            nearest = int(agreement(layout.classes[0], stacked, known.spec.void).argmax())
            for folder, chosen in ((brackets.photographs, int(drawn[n])), (brackets.retrieval, nearest)):
                photo = known[chosen, 0].photo
                assert photo is not None
                write_image(to_pixels(photo[0]).numpy(), folder / f"{asked.name(n)}.png")
            advance(asked.name(n))
    return brackets
