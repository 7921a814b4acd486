"""`photogram synthesize`: its flags, and those of the network that a folder holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from photogram.commands import network_flags
from photogram.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from photogram.scene import SceneSpec
    from photogram.synthesis import Choose


_SIZE = tyro.conf.arg(metavar="HEIGHT WIDTH|native")


@dataclass(frozen=True)
class SynthesizeFlags:
    """Paint layouts or images with what a run has learned. Finished ones are skipped; the same seed, the same bytes.

    What a network lets you choose besides (candidates, mix, ...) is listed by `photogram synthesize RUN --help`.
    """

    run: Positional[Path]
    """A run, or a published network."""
    layouts: Positional[tuple[str, ...]]
    """Layout files, folders of them, or - for a list of files on stdin, one a line; images where the network paints
    from images. Of one that needs both, layouts: their images are those of the same stem in inputs/ beside."""
    out: Path
    """The folder for the paintings."""
    seed: int = 0
    """Of whatever the network draws."""
    size: Annotated[tuple[int, int] | Literal["native"] | None, _SIZE] = None
    """Height and width to paint at, or native for each file's own; without it, the size trained at, where it paints
    best."""
    format: Literal["png", "jpg", "webp", "tif"] | None = None
    """Of the paintings' files: without it, png where that keeps the channels and bits learned from, else tif."""
    sheet: bool = False
    """Also write sheet.png: up to 24 layouts beside their paintings, and beside photographs where there are some."""
    animate: float = 0
    """Also write animation.webp, the paintings by name at so many a second: the frames of a shot. 0: none."""
    compile: bool = False
    """Let torch compile the network first: a minute or two, then small networks paint 1.3 times as fast. For thousands
    of paintings of one size; it needs a C++ compiler."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Auto takes bf16 where the processor has it, and fp32 for paintings of 16 bits or more."""
    overwrite: bool = False
    """Paint over what was painted with other settings."""


def run(arguments: Sequence[str]) -> int:
    """`photogram synthesize RUN LAYOUTS ...`."""
    return _run_synthesis(*network_flags.filled("synthesize", SynthesizeFlags, _options_of, arguments))


def _options_of(network: type[Any], folder: str) -> type[Any] | None:
    """What can be chosen of a network.

    Raises:
        UserError: naming the verb that paints with it, where it is asked for nothing.
    """
    from photogram.generator import Generator, UnaskedGenerator

    if issubclass(network, UnaskedGenerator):
        raise UserError(
            f"{folder}: holds a {network.__name__}, which paints from seeds and not from layouts; "
            f"`photogram sample {folder} --out DIR` does that"
        )
    return network.Options if issubclass(network, Generator) else None


def _run_synthesis(asked: SynthesizeFlags, options: Any) -> int:
    from photogram.conditions import source_suffixes
    from photogram.generator import Generator
    from photogram.paintings import told_once
    from photogram.recipes import load
    from photogram.recipes.crn import Choice
    from photogram.synthesis import collect, synthesize

    network = load(asked.run)
    if not isinstance(network, Generator):
        raise UserError(f"{asked.run}: holds a {type(network).__name__}, which paints nothing")
    for words in _other_classes(network.spec, [Path(path) for path in asked.layouts if path != "-"]):
        print(f"photogram: {words}", file=sys.stderr)
    best = isinstance(options, Choice) and options.candidates == "best"
    summary = synthesize(
        network,
        collect(asked.layouts, sys.stdin, source_suffixes(network.spec)),
        asked.out,
        seed=asked.seed,
        size=asked.size,
        format=asked.format,
        sheet=asked.sheet,
        animate=asked.animate,
        compile=asked.compile,
        precision=asked.precision,
        overwrite=asked.overwrite,
        source=asked.run,
        options=options,
        choose=_nearest() if best else None,
    )
    for failure in told_once(summary.failures):
        print(f"photogram: {failure}", file=sys.stderr)
    print(f"{asked.out}: {summary.painted} painted, {summary.skipped} were there, {summary.failed} failed")
    return 1 if summary.failures else 0


def _other_classes(spec: SceneSpec, given: Sequence[Path]) -> list[str]:
    """A line for each classes.json of the layouts that lists other classes than the network knows.

    Only told: layouts whose numbers the network has are painted, though they mean something else to it.
    """
    from photogram.scene import SceneSpec, class_difference, read_classes

    if not spec.num_classes:
        return []
    lines: dict[Path, str] = {}
    for path in given:
        folder = path.absolute() if path.is_dir() else path.absolute().parent
        # Of DATA/SPLIT/layouts, DATA/SPLIT or DATA, the file is DATA/classes.json.
        near = (above / "classes.json" for above in (folder, *folder.parents[:2]))
        known = next((file for file in near if file.is_file()), None)
        if known is None or known in lines:
            continue
        try:
            classes = read_classes(known)
        except UserError:  # painting asks for no more than the numbers
            continue
        unnamed = [one.name for one in spec.classes] == [f"class {n}" for n in range(len(classes))]  # as imported ones
        differs = None if unnamed else class_difference(spec, SceneSpec(classes, spec.size))
        if differs is not None:
            lines[known] = (
                f"{known}: the network {differs}, so that layouts mean other things to it; "
                "`photogram prepare palette --map` sends the classes of other data to its own"
            )
    return list(lines.values())


def _nearest() -> Choose:
    """Keeps the candidate that is nearest, in LPIPS, to the photograph beside the layout, and says which."""
    import torch

    from photogram.conditions import sibling
    from photogram.images import resize_photo
    from photogram.metrics.lpips import load_lpips
    from photogram.rasters import read_rgb
    from photogram.scene import from_pixels

    lpips = load_lpips()

    def choose(candidates: Tensor, layout: Path) -> int:
        path = sibling(layout, "photos")
        if path is None:
            raise UserError(
                f"{layout}: has no photograph beside it (photos/{layout.stem}.*) that could tell which candidate is "
                "best; --candidates takes a number, or all"
            )
        size = (candidates.shape[-2], candidates.shape[-1])
        photo = from_pixels(resize_photo(read_rgb(path), size))[None]
        with torch.autocast(candidates.device.type, enabled=False):  # near ties are not for rounding to decide
            found = lpips(candidates.float().cpu(), photo.expand(len(candidates), -1, -1, -1))
        number = int(found.argmin())
        print(f"{layout}: candidate {number}")
        return number

    return choose
