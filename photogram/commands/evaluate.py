"""`photogram evaluate`: judge by a protocol, and print tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from photogram import flags
from photogram.metrics.shipped import shipped

if TYPE_CHECKING:
    from photogram.metrics.result import Result

_PROTOCOL = tyro.conf.arg(help=f"{', '.join(shipped())}, or a file")


def run(arguments: Sequence[str]) -> int:
    """`photogram evaluate SUBJECTS ...`."""

    def command(
        subjects: Positional[tuple[Path, ...]],
        /,
        *,
        protocol: Annotated[str | None, _PROTOCOL] = None,
        data: Path | None = None,
        out: Path | None = None,
        segmenter: Path | None = None,
        trunk_file: Path | None = None,
        repeats: int = 1,
        brackets: bool = False,
        html: bool = False,
    ) -> int:
        """Judge runs or folders of images by a protocol, side by side, so that anyone can repeat it.

        Of two collections that nobody paired (`prepare unpaired`), paintings of inputs are compared with photographs as
        sets alone; for a network that goes the other way, prepare a folder with the two exchanged.

        Args:
            subjects: runs, folders of images that have the names of the layouts, and result.json files of earlier
                evaluations, which are compared as they are, and alone need no protocol and no data.
            protocol: by name, or its file.
            data: the data folder, whose split the protocol names.
            out: paintings and results go into a folder in it that has the protocol's name; without it, evaluation.
            segmenter: a network that reads photographs, in place of the protocol's: a run, or the JSON description of
                an ONNX or torch.export file.
            trunk_file: weights of the protocol's feature network, where it is no embedded one.
            repeats: seeds, from the protocol's on: mean and spread.
            brackets: also judge real photographs of training, at random and those of the nearest layouts.
            html: also write evaluation.html, one file to open.
        """
        from photogram.judging import compare
        from photogram.recipes import load

        found = compare(
            subjects,
            load,
            protocol=protocol,
            data=data,
            out=out,
            segmenter=segmenter,
            trunk_file=trunk_file,
            repeats=repeats,
            brackets=brackets,
            html=html,
        )
        _show(found.results)
        if found.opened is not None:
            print(f"written: {found.opened}")
        return 0

    return flags.run(command, "photogram evaluate", arguments)


def _show(results: Sequence[Result]) -> None:
    """Print the tables of some results, and what a reader must know about them."""
    from rich.console import Console

    from photogram.metrics.table import tables

    console = Console(width=None if sys.stdout.isatty() else 200)
    for table in tables(results):
        console.print(table)
    for warning in dict.fromkeys(w for result in results for w in result.warnings):
        print(f"photogram: note: {warning}", file=sys.stderr)
