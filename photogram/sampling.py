"""Photographs of a network that is asked for nothing, by number and resumably; and morphs from one to the next.

An output folder has `000007.png`, which is `generator.sample(seed=7)` with the channels and bits of the photographs
that the network learned from, for each seed that was asked for, and
`synthesis.json` (by which network, in which precision, with which options; the same command goes on, another is
refused). A photograph is a function of these and of its number alone, so more seeds may be added to a folder. Beside
them stand `sheet.png`, the first of them under their numbers, and `morph.png`, where they were asked for. What stands
there under its own name is finished.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from photogram.collecting import is_there
from photogram.errors import UserError, unfit
from photogram.generator import UnaskedGenerator
from photogram.images import resize_photo, write_image
from photogram.interrupts import Interrupted, stopping_softly
from photogram.outputs import writing
from photogram.paintings import SHEET, Format, begun, bits_for, format_for
from photogram.precision import Precision, check_precision
from photogram.progress import progress
from photogram.rasters import read_rgb, write_raster
from photogram.scene import to_levels
from photogram.sheets import numbered, rgb, sheet, shrunk_size
from photogram.synthesis import fingerprint, ready_to_paint

MORPH = "morph.png"
MOST_STEPS, MORPHS = 64, 6
"""Bound of the photographs in one morph, and how many morphs `morph.png` shows."""
TILES, TILE = 64, 256
"""How many photographs a sheet shows at most, and how many pixels a side of one has at most."""


@dataclass(frozen=True)
class Sampled:
    """What came of a call.

    Args:
        painted: how many photographs were made.
        skipped: how many were finished before.
        sheet: where it is, where one was asked for.
        morph: where it is, where one was asked for.
    """

    painted: int
    skipped: int
    sheet: Path | None = None
    morph: Path | None = None


def sample(
    generator: UnaskedGenerator,
    out: str | Path,
    *,
    count: int,
    seed: int = 0,
    format: Format | None = None,
    sheet: bool = False,
    morph: int = 0,
    options: object | None = None,
    precision: Precision = "auto",
    overwrite: bool = False,
    source: str | Path | None = None,
    quiet: bool = False,
) -> Sampled:
    """Paint the photographs of some seeds into a folder, or go on painting them: finished ones are skipped.

    Args:
        generator: what paints; it is moved to the GPU where there is one.
        out: the folder: new, empty, or of an earlier call.
        count: how many seeds, 1 or more.
        seed: the first of them; the others follow it.
        format: of the photographs' files; None is png where that keeps their channels and bits, else tif. jpg and webp
            keep 8 bits.
        sheet: also draw `sheet.png`, the first of these seeds.
        morph: also draw `morph.png`, so many photographs on the way from each of the first seeds to the next; 0: none.
        options: an instance of `generator.Options`.
        precision: as in `photogram.synthesis.synthesize`.
        overwrite: paint anew what is finished.
        source: where the generator was loaded from, to be noted in `synthesis.json`.
        quiet: show no progress.

    Raises:
        UserError: where a value is out of bounds, or `out` was begun otherwise or cannot be written.
        Interrupted: after Ctrl-C or SIGTERM, when the photograph under way is written.
    """
    out, options = Path(out), generator.checked_options(options)
    _check(count, seed, morph)
    format = format_for(generator.spec, format)
    check_precision(precision)
    bits = bits_for(generator.spec, format)
    names = {n: f"{n:06}" for n in range(seed, seed + count)}
    settings: dict[str, object] = {
        "network": fingerprint(generator),
        "format": format,
        "precision": precision,
        "options": json.loads(json.dumps(asdict(options))),  # pyright: ignore[reportArgumentType]
    }
    with (
        begun(out, settings, {*names.values(), Path(MORPH).stem}, bits, source, overwrite) as decided,
        ready_to_paint(generator, decided),
    ):
        paths = {n: out / f"{name}.{format}" for n, name in names.items()}
        painted = _paint(generator, paths, out, options, bits, quiet)
        made = _draw_sheet(paths, out) if sheet else None
        drawn = _draw_morph(generator, range(seed, seed + min(count, MORPHS)), morph, out, options) if morph else None
    return Sampled(painted, count - painted, made, drawn)


def _check(count: int, seed: int, morph: int) -> None:
    """Refuse at the door what could only fail later."""
    if count < 1:
        raise unfit("count", count, "must be 1 or more")
    if seed < 0 or seed + count >= 1 << 63:
        raise unfit("seed", seed, "must be 0 or more, and the last below 2^63")
    if morph and not 2 <= morph <= MOST_STEPS:
        raise unfit("morph", morph, f"must be 2 to {MOST_STEPS} photographs, both ends included, or 0 for none")


def _paint(
    generator: UnaskedGenerator, paths: dict[int, Path], out: Path, options: object, bits: int, quiet: bool
) -> int:
    """Paint what is not finished; how many that were."""
    missing = {n: path for n, path in paths.items() if not is_there(path)}
    painted, began = 0, time.monotonic()
    announcement = None if quiet else "stopping after this photograph; once more to stop at once"
    with (
        stopping_softly(announcement) as stop,
        progress("painting", len(paths), len(paths) - len(missing), quiet) as advance,
    ):
        for n, path in missing.items():
            photo = generator.sample(None, n, options)[0]
            if not bool(torch.isfinite(photo).all()):
                raise UserError(f"{path}: the photograph holds values that are not finite; try --precision fp32")
            levels = to_levels(photo, bits)
            with writing(out, f"{painted} photographs are written, the same command goes on from there"):
                write_raster(levels, path)
            painted += 1
            advance(f"{painted / (time.monotonic() - began):.2f} images/s")
            if stop.asked:
                raise Interrupted(f"stopped after {painted} photographs; the same command goes on from there")
    return painted


def _draw_sheet(paths: dict[int, Path], out: Path) -> Path:
    """The first photographs, under their numbers."""
    shown = list(paths.values())[:TILES]
    with writing(out):
        write_image(numbered([_shrunk(read_rgb(path)) for path in shown], first=min(paths)), out / SHEET)
    return out / SHEET


def _draw_morph(generator: UnaskedGenerator, seeds: Sequence[int], steps: int, out: Path, options: object) -> Path:
    """A row from each of the seeds to the one after it, so many photographs long."""
    rows = []
    for n in seeds:
        way = generator.between(generator.latent(n, options), generator.latent(n + 1, options), steps)
        tiles = [_shrunk(rgb(generator.sample_latents(latent[None])[0])) for latent in way]
        rows.append((f"seed {n} to {n + 1}", tiles))
    titles = [f"{100 * step / (steps - 1):.0f} %" for step in range(steps)]
    with writing(out):
        write_image(sheet(titles, rows, width=0), out / MORPH)
    return out / MORPH


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """At most `TILE` pixels a side."""
    size = shrunk_size(pixels, TILE)
    return pixels if size == pixels.shape[:2] else resize_photo(pixels, size)
