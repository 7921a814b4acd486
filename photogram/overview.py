"""Some finished paintings beside their layouts and photographs: `sheet.png`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photogram.errors import UserError
from photogram.images import PHOTO_SUFFIXES, read_photo, resize_photo, write_image
from photogram.outputs import writing
from photogram.paintings import SHEET, Place
from photogram.scene import Layout, SceneSpec, check_layout, draw
from photogram.sheets import sheet

ROWS, TILE = 24, 512
"""How many layouts a sheet shows at most, and how many pixels a side of a tile has at most."""


def open_layout(path: Path, spec: SceneSpec) -> Layout:
    """Read a layout that a network can paint.

    Raises:
        UserError: where it cannot be read, or holds classes that the network does not know.
    """
    layout = Layout.open(path)
    check_layout(layout, spec, str(path))
    return layout


def beside(source: Path) -> Path | None:
    """The photograph of a layout in a data folder: its folder's sibling `photos` may have one of the same stem."""
    photos, stem = source.absolute().parent.parent / "photos", source.stem
    return next((p for s in PHOTO_SUFFIXES if (p := photos / f"{stem}{s}").is_file()), None)


def draw_overview(
    done: Sequence[Place], spec: SceneSpec, out: Path, several: bool = False
) -> tuple[Path | None, list[str]]:
    """Draw some of the finished paintings, chosen evenly, and say what could not be drawn.

    Args:
        done: what is finished, one or more.
        spec: what the layouts hold.
        out: the folder of the paintings.
        several: whether each painting is a numbered sheet of candidates.
    """
    count, chosen = min(ROWS, len(done)), sorted(done, key=lambda place: place.target)
    rows: list[tuple[str, dict[str, np.ndarray]]] = []
    failures: list[str] = []
    for place in (chosen[len(done) * (2 * n + 1) // (2 * count)] for n in range(count)):
        try:
            name = os.fsencode(place.target.relative_to(out)).decode(errors="replace")
            rows.append((name, _tiles(place, spec, several)))
        except UserError as e:
            failures.append(f"{e}; left out of the sheet")
    if not rows:
        return None, failures
    columns = [c for c in ("layout", "painting", "photograph") if any(c in tiles for _, tiles in rows)]
    full = [(name, [tiles.get(c, np.full_like(tiles["layout"], 255)) for c in columns]) for name, tiles in rows]
    with writing(out):
        write_image(sheet(columns, full), out / SHEET)
    return out / SHEET, failures


def _tiles(place: Place, spec: SceneSpec, several: bool) -> dict[str, np.ndarray]:
    """Layout, painting and, where there is one, photograph, at one painting's size or smaller."""
    painting = read_photo(place.target)
    one = read_photo(place.target.with_suffix("") / f"0{place.target.suffix}") if several else painting
    size = _shrunk(one)
    layout = open_layout(place.source, spec).resized(size)
    shown = resize_photo(painting, _shrunk(painting, 2 * TILE if several else TILE))
    tiles = {"layout": draw(layout.classes[0].numpy(), spec), "painting": shown}
    photo = beside(place.source)
    return tiles if photo is None else tiles | {"photograph": resize_photo(read_photo(photo), size)}


def _shrunk(pixels: np.ndarray, most: int = TILE) -> tuple[int, int]:
    """Height and width, each at most so much, in proportion."""
    height, width = pixels.shape[:2]
    by = min(1.0, most / max(height, width))
    return max(1, round(height * by)), max(1, round(width * by))
