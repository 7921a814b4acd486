"""Sheets: what was asked for, what was painted, what was photographed, side by side and labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from photogram.generator import Generator, Network
from photogram.recipe import Scenes
from photogram.scene import Scene, SceneSpec, draw, to_pixels

_MARGIN, _LINE = 6, 18


def sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> np.ndarray:
    """Put tiles (uint8 RGB [h, w, 3], of one size within a row) in labelled rows under labelled columns."""
    font = ImageFont.load_default(size=13)
    widths = [max(tiles[n].shape[1] for _, tiles in rows) for n in range(len(columns))]
    heights = [max(tile.shape[0] for tile in tiles) + _LINE + _MARGIN for _, tiles in rows]
    page = Image.new("RGB", (sum(widths) + _MARGIN * (len(columns) + 1), sum(heights) + _LINE + 2 * _MARGIN), "white")
    pen = ImageDraw.Draw(page)
    lefts = [_MARGIN * (n + 1) + sum(widths[:n]) for n in range(len(columns))]
    for left, title in zip(lefts, columns, strict=True):
        pen.text((left, _MARGIN // 2), title, fill="black", font=font)
    top = _LINE + _MARGIN
    for (label, tiles), height in zip(rows, heights, strict=True):
        for left, tile in zip(lefts, tiles, strict=True):
            page.paste(Image.fromarray(tile), (left, top))
        pen.text((_MARGIN, top + height - _LINE - _MARGIN), label, fill="#555555", font=font)
        top += height
    return np.asarray(page)


def scene_tiles(scene: Scene, spec: SceneSpec) -> dict[str, np.ndarray]:
    """The drawable parts of a scene, by the titles of their columns."""
    tiles: dict[str, np.ndarray] = {}
    layout, image = scene.condition
    if layout is not None:
        tiles["layout"] = draw(layout.classes[0].cpu().numpy(), spec)
    if image is not None:
        tiles["condition"] = _rgb(to_pixels(image[0]).cpu().numpy())
    if scene.photo is not None:
        tiles["photograph"] = _rgb(to_pixels(scene.photo[0]).cpu().numpy())
    return tiles


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Any number of channels as three: grey repeated, more than three cut off."""
    return np.repeat(pixels[..., :1], 3, axis=-1) if pixels.shape[-1] < 3 else np.ascontiguousarray(pixels[..., :3])


def scene_sheet(network: Network, scenes: Scenes, count: int) -> np.ndarray:
    """Paint some scenes, spread evenly over a data set, beside their layouts and photographs.

    What a scene lacks, the photograph of a layout that has none for instance, stays grey.

    Args:
        network: a `Generator` paints; of other networks only the scenes are shown.
        scenes: one or more.
        count: how many of them, at most.
    """
    count = min(count, len(scenes))
    rows = []
    for index in (len(scenes) * (2 * n + 1) // (2 * count) for n in range(count)):
        scene = scenes[index, 0]
        tiles = scene_tiles(scene, scenes.spec)
        if isinstance(network, Generator):
            tiles["painting"] = _rgb(to_pixels(network.sample(scene.condition)[0]).cpu().numpy())
        rows.append((scenes.name(index), tiles))
    known = ("layout", "condition", "painting", "photograph")
    columns = [title for title in known if any(title in tiles for _, tiles in rows)]
    blanks = [np.full_like(next(iter(tiles.values())), 230) for _, tiles in rows]
    return sheet(
        columns,
        [(name, [tiles.get(c, blank) for c in columns]) for (name, tiles), blank in zip(rows, blanks, strict=True)],
    )
