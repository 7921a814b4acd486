"""Some finished paintings beside what was asked for and photographs: `sheet.png`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photogram.conditions import open_condition, sibling
from photogram.errors import UserError
from photogram.images import resize_photo, write_image
from photogram.outputs import writing
from photogram.paintings import SHEET, Place
from photogram.rasters import read_rgb
from photogram.scene import Scene, SceneSpec
from photogram.sheets import scene_tiles, sheet_of, shrunk_size

ROWS, TILE = 24, 512
"""How many paintings a sheet shows at most, and how many pixels a side of a tile has at most."""


def draw_overview(
    done: Sequence[Place], spec: SceneSpec, out: Path, several: bool = False
) -> tuple[Path | None, list[str]]:
    """Draw some of the finished paintings, chosen evenly, and say what could not be drawn.

    Args:
        done: what is finished, one or more.
        spec: the network's, which says what was asked for.
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
    with writing(out):
        write_image(sheet_of(rows, 255), out / SHEET)
    return out / SHEET, failures


def _tiles(place: Place, spec: SceneSpec, several: bool) -> dict[str, np.ndarray]:
    """What was asked for, painting and, where there is one, photograph, at one painting's size or smaller."""
    painting = read_rgb(place.target)
    one = read_rgb(place.target.with_suffix("") / f"0{place.target.suffix}") if several else painting
    size = shrunk_size(one, TILE)
    shown = resize_photo(painting, shrunk_size(painting, 2 * TILE if several else TILE))
    tiles = {**scene_tiles(Scene(open_condition(place.source, spec, size)), spec), "painting": shown}
    photo = sibling(place.source, "photos")
    return tiles if photo is None else tiles | {"photograph": resize_photo(read_rgb(photo), size)}
