"""`photogram sample`: its flags, and those of the network that a folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from photogram.commands import network_flags
from photogram.errors import UserError


@dataclass(frozen=True)
class SampleFlags:
    """Photographs of a run that is asked for nothing, a GAN for instance. Number 7 is that of seed 7, always.

    Finished photographs are skipped. What a network lets you choose besides (truncation, ...) is listed by
    `photogram sample RUN --help`.
    """

    run: Positional[Path]
    """A run, or a published network."""
    out: Path
    """The folder for the photographs."""
    count: int = 16
    """How many."""
    seed: int = 0
    """The number of the first; the others follow."""
    format: Literal["png", "jpg", "webp", "tif"] | None = None
    """Of the photographs' files; without it, png where that keeps the channels and bits that were learned, else tif.
    jpg and webp keep 8 bits."""
    sheet: bool = False
    """Also write sheet.png: the first 64 of them under their numbers."""
    morph: int = 0
    """Also write morph.png: so many photographs on the way from one to the next, for the first six. 0: none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Auto takes bf16 where the processor has it."""
    overwrite: bool = False
    """Paint over what was painted with other settings."""


def run(arguments: Sequence[str]) -> int:
    """`photogram sample RUN ...`."""
    return _run_sampling(
        *network_flags.filled("sample", SampleFlags, lambda kind, folder: _checked(kind, folder).Options, arguments)
    )


def _checked(network: type[Any], folder: str | Path) -> type[Any]:
    """Refuse networks that are asked for something.

    Raises:
        UserError: naming the verb that paints with them.
    """
    from photogram.generator import Generator, UnaskedGenerator

    if issubclass(network, UnaskedGenerator):
        return network
    if issubclass(network, Generator):
        raise UserError(
            f"{folder}: holds a {network.__name__}, which needs to be told what to paint; "
            f"`photogram synthesize {folder} FILES --out DIR` does that"
        )
    raise UserError(f"{folder}: holds a {network.__name__}, which paints nothing")


def _run_sampling(asked: SampleFlags, options: Any) -> int:
    from photogram.recipes import load
    from photogram.sampling import sample

    network = load(asked.run)
    _checked(type(network), asked.run)
    done = sample(
        network,
        asked.out,
        count=asked.count,
        seed=asked.seed,
        format=asked.format,
        sheet=asked.sheet,
        morph=asked.morph,
        options=options,
        precision=asked.precision,
        overwrite=asked.overwrite,
        source=asked.run,
    )
    print(f"{asked.out}: {done.painted} painted, {done.skipped} were there")
    for picture in filter(None, (done.sheet, done.morph)):
        print(f"open {picture}")
    return 0
