"""`photogram colorize`: a grey photograph in colours, by hints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from photogram import flags
from photogram.errors import UserError

Pixel = Annotated[tuple[int, int], tyro.conf.arg(metavar="X Y")]


def run(arguments: Sequence[str]) -> int:
    """`photogram colorize RUN IMAGE ...`."""

    def command(
        run: Positional[Path],
        image: Positional[Path],
        /,
        *,
        out: Path | None = None,
        hints: Path | None = None,
        reference: Path | None = None,
        suggest: Pixel | None = None,
    ) -> int:
        """Colour a photograph with what a run has learned; its size and its lightness stay.

        Hints are a JSON list such as [{"x": 120, "y": 80, "radius": 3, "color": "#c81e1e"}]: a square patch that
        reaches `radius` pixels from column x and row y; a colour may also be [200, 30, 30].

        Args:
            run: a run or a published network: colorization, or any that paints photographs of grey images, such as
                pix2pix with --predict ab, which takes no hints.
            image: the photograph, grey or not: its colours are not looked at.
            out: the file for the photograph in colours: .png, .jpg or .webp.
            hints: the file of hints; without it, the network colours by itself.
            reference: a photograph whose colours the whole should have; for runs with --global-hints.
            suggest: say which colours this column and row might have, with their shares.
        """
        return _run(run, image, out, hints, reference, suggest)

    return flags.run(command, "photogram colorize", arguments)


def _run(
    run: Path, image: Path, out: Path | None, hints: Path | None, reference: Path | None, suggest: Pixel | None
) -> int:
    from photogram.coloring import colorize, read_hints, suggestions
    from photogram.generator import Generator
    from photogram.images import check_suffix
    from photogram.recipes import load
    from photogram.scene import open_photo, save
    from photogram.synthesis import ready_to_paint

    if out is None and suggest is None:
        raise UserError("--out: name the file for the photograph, or --suggest X Y for colours that a pixel might have")
    if out is not None:
        check_suffix(out)
        if out.resolve() in {path.resolve() for path in (image, reference, hints) if path is not None}:
            raise UserError(f"--out {out}: would be written over what it is made of; give another name")
    network = load(run)
    if not isinstance(network, Generator):
        raise UserError(f"{run}: holds a {type(network).__name__}, which paints nothing")
    given = [] if hints is None else read_hints(hints)
    photo = open_photo(image)
    with ready_to_paint(network, "fp32"):
        if suggest is not None:
            for (red, green, blue), share in suggestions(network, photo, *suggest, given, reference):
                print(f"#{red:02x}{green:02x}{blue:02x} {share:.3f}")
        if out is not None:
            save(colorize(network, photo, given, reference), out)
            print(f"{out}: in colours, by {len(given)} hint{'' if len(given) == 1 else 's'}")
    return 0
