"""Sheets: what was asked for, what was painted, what was photographed, side by side and labelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from photogram.generator import Generator, Network, Reader, UnaskedGenerator
from photogram.recipe import Scenes
from photogram.scene import Scene, SceneSpec, Size, draw, to_pixels

_MARGIN, _LINE = 6, 18


def sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]], width: int = 1200
) -> UInt8[np.ndarray, "h w 3"]:
    """Put tiles (uint8 RGB [h, w, 3]) in labelled rows under labelled columns.

    Args:
        columns: the titles.
        rows: a label and a tile for each column.
        width: where tiles are small, rows stand side by side up to about so many pixels, four or more deep.
    """
    tile_width = [max(tiles[n].shape[1] for _, tiles in rows) for n in range(len(columns))]
    height = max(tile.shape[0] for _, tiles in rows for tile in tiles) + _LINE + _MARGIN
    group = sum(tile_width) + _MARGIN * len(columns) + 2 * _MARGIN
    across = max(1, min(width // group, -(-len(rows) // 4)))
    deep = -(-len(rows) // across)
    page = Image.new("RGB", (across * group, _LINE + _MARGIN + deep * height), "white")
    font, pen = ImageFont.load_default(size=13), ImageDraw.Draw(page)
    lefts = [_MARGIN * (n + 1) + sum(tile_width[:n]) for n in range(len(columns))]
    for g in range(across):
        for left, title in zip(lefts, columns, strict=True):
            pen.text((g * group + left, _MARGIN // 2), title, fill="black", font=font)
    for place, (label, tiles) in enumerate(rows):
        x, y = (place // deep) * group, _LINE + _MARGIN + (place % deep) * height
        for left, tile in zip(lefts, tiles, strict=True):
            page.paste(Image.fromarray(tile), (x + left, y))
        while pen.textlength(label, font) > group - 2 * _MARGIN and len(label) > 1:  # into the next group, else
            label = label.removesuffix("…")[:-1] + "…"
        pen.text((x + _MARGIN, y + height - _LINE - _MARGIN), label, fill="#555555", font=font)
    return np.asarray(page)


COLUMNS = ("layout", "condition", "painting", "reading", "photograph")
"""The tiles that a row of a sheet may have, by the titles of their columns, in this order."""


def sheet_of(rows: Sequence[tuple[str, Mapping[str, np.ndarray]]], blank: int) -> UInt8[np.ndarray, "h w 3"]:
    """A sheet of rows that need not have all tiles.

    Args:
        rows: a label, and tiles by the titles of `COLUMNS`; one tile or more.
        blank: the grey, 0..255, of tiles that a row lacks.
    """
    columns = [title for title in COLUMNS if any(title in tiles for _, tiles in rows)]
    blanks = [np.full_like(next(iter(tiles.values())), blank) for _, tiles in rows]
    full = [(name, [tiles.get(c, b) for c in columns]) for (name, tiles), b in zip(rows, blanks, strict=True)]
    return sheet(columns, full)


def numbered(tiles: Sequence[np.ndarray], first: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Tiles of one size (uint8 RGB [h, w, 3]) in a square, row by row, each under its number, from the first's on."""
    height, width = tiles[0].shape[:2]
    across = math.ceil(math.sqrt(len(tiles)))
    step_y, step_x = height + _LINE, width + _MARGIN
    page = Image.new("RGB", (across * step_x + _MARGIN, -(-len(tiles) // across) * step_y + _MARGIN), "white")
    font, pen = ImageFont.load_default(size=13), ImageDraw.Draw(page)
    for n, tile in enumerate(tiles):
        x, y = _MARGIN + n % across * step_x, n // across * step_y
        pen.text((x, y + 1), str(first + n), fill="black", font=font)
        page.paste(Image.fromarray(tile), (x, y + _LINE))
    return np.asarray(page)


def seed_sheet(network: UnaskedGenerator, count: int) -> UInt8[np.ndarray, "h w 3"]:
    """The photographs of the seeds from 0 on, so many: of one step of a training and the next, the same z."""
    return numbered([rgb(network.sample(None, seed)[0]) for seed in range(count)])


def shrunk_size(pixels: np.ndarray, most: int) -> Size:
    """The height and width at which a picture [h, w, c] has at most so many pixels a side, in proportion."""
    height, width = pixels.shape[:2]
    by = min(1.0, most / max(height, width))
    return max(1, round(height * by)), max(1, round(width * by))


def rgb(photo: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A photograph in [-1, 1], of any number of channels, as a tile: grey repeated, more than three cut off."""
    pixels = to_pixels(photo).cpu().numpy()
    return np.repeat(pixels[..., :1], 3, axis=-1) if pixels.shape[-1] < 3 else np.ascontiguousarray(pixels[..., :3])


def scene_tiles(scene: Scene, spec: SceneSpec) -> dict[str, np.ndarray]:
    """The drawable parts of a scene, by the titles of their columns."""
    tiles: dict[str, np.ndarray] = {}
    layout, image = scene.condition
    if layout is not None:
        tiles["layout"] = draw(layout.classes[0].cpu().numpy(), spec)
    if image is not None:
        tiles["condition"] = rgb(image[0])
    if scene.photo is not None:
        tiles["photograph"] = rgb(scene.photo[0])
    return tiles


def scene_sheet(
    network: Network, scenes: Scenes, count: int, view: Callable[[Scene], Scene] = lambda scene: scene
) -> np.ndarray:
    """Paint some scenes, spread evenly over a data set, beside their layouts and photographs.

    What a scene lacks, the photograph of a layout that has none for instance, stays grey.

    Args:
        network: a `Generator` paints, a `Reader` reads; of other networks only the scenes are shown.
        scenes: one or more.
        count: how many of them, at most.
        view: a scene as the network meets it.
    """
    count = min(count, len(scenes))
    rows = []
    for index in (len(scenes) * (2 * n + 1) // (2 * count) for n in range(count)):
        scene = view(scenes[index, 0])
        tiles = scene_tiles(scene, scenes.spec)
        if isinstance(network, Generator):
            tiles["painting"] = rgb(network.sample(scene.condition)[0])
        if isinstance(network, Reader) and scene.photo is not None:
            tiles["reading"] = draw(network.predict(scene.photo)[0].cpu().numpy(), scenes.spec)
        rows.append((scenes.name(index), tiles))
    return sheet_of(rows, 230)
