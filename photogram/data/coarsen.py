"""Coarse layouts from fine ones, as a hurried annotator would draw them: the preparer `coarsen`.

Specification of CRN, section 8.1: polygons with loose borders and much unlabelled area, at three strengths.
Contours are traced and filled here rather than by a library: Pillow's polygons include their border on all sides, so
that an unsimplified region would grow by half a pixel, and scikit-image would bring SciPy for three short functions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer

from photogram.data.carrying import in_parallel
from photogram.data.preparing import Labels, Plan, Prepared, SourceScene, carry_out, check_fit, read_objects
from photogram.data.rewriting import folder_scenes, read_layout
from photogram.errors import UserError
from photogram.images import read_labels, resize_labels
from photogram.scene import Size, void_of

Method = Literal["polygon", "nearest"]


@dataclass(frozen=True)
class Strength:
    """How coarse; lengths are pixels where a layout has 256 rows, and grow and shrink with its height."""

    tolerance: float
    """How far a region's outline may move when it becomes a polygon."""
    gap: float
    """What each region loses along its borders."""
    cell: float
    """The side of the blocks that `nearest` leaves."""
    smallest: float = 64.0
    """Regions with fewer pixels are left out."""


STRENGTHS = {1: Strength(4, 2, 4), 2: Strength(8, 4, 8), 3: Strength(16, 8, 16)}
"""The three strengths of the specification of CRN, section 8.1."""

_ROWS = 256  # the height that the numbers of a strength are for
_OBJECTS = 1 << 32  # object numbers lie below
_HEADINGS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (down, right): along the top of a pixel, its right, bottom and left


@dataclass(frozen=True)
class Coarsened:
    """What `prepare_coarsen` made."""

    prepared: Prepared
    unlabelled: dict[str, tuple[float, float]]
    """By split: the share of unlabelled pixels before and after, 0..1. Empty where there is no void class."""


def coarsen(
    classes: Integer[np.ndarray, "h w"], strength: int = 1, void: int | None = None, method: Method = "polygon"
) -> Integer[np.ndarray, "h w"]:
    """Make a layout coarse.

    `polygon`: the outline of each connected region (4 neighbours) becomes a polygon that stays within a tolerance of
    it (Douglas and Peucker 1973), holes included; smaller regions are drawn over larger ones; what no polygon covers is
    void. Then every pixel with another region within the gap becomes void, and so do regions that are too small by
    then. The border of the image is no border of a region. `nearest`: sampled down and up again, with stairs for
    borders and nothing unlabelled.

    Args:
        classes: class indices.
        strength: 1, 2 or 3, see `STRENGTHS`.
        void: the index of the void class; only `nearest` can do without.
        method: `polygon` or `nearest`.

    Returns:
        Class indices of the same shape and type. Equal input gives equal output.

    Raises:
        UserError: for another strength or method, or a missing void class.
    """
    return coarsen_scene(classes, None, strength, void, method)[0]


def coarsen_scene(
    classes: Integer[np.ndarray, "h w"],
    instances: Integer[np.ndarray, "h w"] | None,
    strength: int = 1,
    void: int | None = None,
    method: Method = "polygon",
) -> tuple[Integer[np.ndarray, "h w"], Integer[np.ndarray, "h w"] | None]:
    """Make a layout and its instance map coarse together: each object is a region of its own, as in Cityscapes'
    coarse annotation; void pixels of polygons have the object number 0. The rest is as in `coarsen`."""
    if strength not in STRENGTHS:
        raise UserError(f"--strength {strength}: must be one of {', '.join(map(str, STRENGTHS))}")
    if method not in ("polygon", "nearest"):
        raise UserError(f"--method {method}: must be polygon or nearest")
    if method == "nearest":
        small = tuple(max(1, round(n * _ROWS / (classes.shape[0] * STRENGTHS[strength].cell))) for n in classes.shape)
        around = [a if a is None else _there_and_back(a, (small[0], small[1])) for a in (classes, instances)]
        assert around[0] is not None
        return around[0], around[1]
    if void is None:
        raise UserError("coarse polygons leave unlabelled gaps, but there is no void class; use --method nearest")
    keys = classes.astype(np.int64) * _OBJECTS + (0 if instances is None else instances.astype(np.int64))
    values, regions = np.unique(keys, return_inverse=True)
    regions = np.where(classes == void, -1, regions.reshape(classes.shape))
    scale, wanted = classes.shape[0] / _ROWS, STRENGTHS[strength]
    regions = _polygons(regions, wanted.tolerance * scale)
    regions = _with_gaps(regions, max(1, round(wanted.gap * scale)))
    regions = _without_small(regions, wanted.smallest * scale**2)
    kept = np.where(regions < 0, void * _OBJECTS, values[regions])
    objects = None if instances is None else (kept % _OBJECTS).astype(instances.dtype)
    return (kept // _OBJECTS).astype(classes.dtype), objects


def _there_and_back(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_labels(resize_labels(labels, size), (labels.shape[0], labels.shape[1]))


def _components(values: np.ndarray) -> np.ndarray:
    """Number the 4-connected areas of equal value 0, 1, ... by their first pixels; -1 where the value is negative."""
    h, w = values.shape
    starts = np.ones((h, w), dtype=bool)  # of runs along rows, which are then joined across rows
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(h, w) - 1
    count = int(runs[-1, -1]) + 1
    same = values[1:] == values[:-1]
    touching = np.unique(runs[:-1][same] * count + runs[1:][same])
    parent = list(range(count))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    for upper, lower in zip((touching // count).tolist(), (touching % count).tolist(), strict=True):
        first, second = sorted((root(upper), root(lower)))
        parent[second] = first
    roots = np.array([root(run) for run in range(count)])[runs]
    roots[values < 0] = -1
    found, numbers = np.unique(roots, return_inverse=True)
    return numbers.reshape(h, w) - int(found[0] == -1)


def _loops(areas: np.ndarray) -> dict[int, list[np.ndarray]]:
    """The outlines of each area of `_components`, their corners [n, 2] as (row, column) between pixels.

    A side of a pixel towards another area is an edge, walked with the area on the right hand: outer loops run
    clockwise, holes the other way. Where two pixels of an area touch at a corner only, the walk does not cross. Edges
    are numbered side * pixels + pixel; the sides are top (walked eastwards), right, bottom, left.
    """
    h, w = areas.shape
    padded = np.pad(areas, 1, constant_values=-1)
    pixel = np.arange(h * w).reshape(h, w)
    onward = np.full((4, h, w), -1)
    for side in range(4):
        (dy, dx), (oy, ox) = _HEADINGS[side], _HEADINGS[side - 1]  # ahead, and out of the area

        def ours(y: int, x: int) -> np.ndarray:
            return padded[1 + y : 1 + y + h, 1 + x : 1 + x + w] == areas

        right = (side + 1) % 4 * h * w + pixel
        straight = side * h * w + pixel + dy * w + dx
        left = (side + 3) % 4 * h * w + pixel + (dy + oy) * w + dx + ox
        turned = np.where(~ours(dy, dx), right, np.where(~ours(dy + oy, dx + ox), straight, left))
        onward[side] = np.where(~ours(oy, ox) & (areas >= 0), turned, -1)
    return _walk(onward.ravel().tolist(), areas)


def _walk(onward: list[int], areas: np.ndarray) -> dict[int, list[np.ndarray]]:
    """Follow the edges until all are used; of each loop only the corners are kept."""
    h, w = areas.shape
    loops: dict[int, list[np.ndarray]] = {}
    for first in range(len(onward)):
        if onward[first] < 0:
            continue
        corners: list[int] = []  # the edges after a turn; the first edge is one, for none of a lower number precedes it
        edge, before = first, -1
        while onward[edge] >= 0:
            side = edge // (h * w)
            if side != before:
                corners.append(edge)
            onward[edge], edge, before = -1, onward[edge], side  # the right hand is read first
        sides, pixels = np.divmod(np.array(corners), h * w)
        starts = np.stack([pixels // w + (sides >= 2), pixels % w + ((sides == 1) | (sides == 2))], axis=1)
        loops.setdefault(int(areas.flat[pixels[0]]), []).append(starts)
    return loops


def _simplify(loop: np.ndarray, tolerance: float, size: Size) -> np.ndarray:
    """Drop corners [n, 2] of a closed line, so that it stays within the tolerance of each (Douglas and Peucker).

    The first corner, the one farthest from it, and those on the border of an image of this size are kept.
    """
    count = len(loop)
    closed = np.concatenate([loop, loop[:1]]).astype(np.int64)
    keep = ((closed == 0) | (closed == size)).any(axis=1)
    keep[[0, int(((loop - loop[0]) ** 2).sum(axis=1).argmax()), count]] = True
    anchors = np.flatnonzero(keep).tolist()
    todo = list(itertools.pairwise(anchors))
    while todo:
        start, end = todo.pop()
        if end - start < 2:
            continue
        away, unit = _distances(closed[start + 1 : end], closed[start], closed[end])
        worst = int(away.argmax())
        if away[worst] > tolerance**2 * unit:
            middle = start + 1 + worst
            keep[middle] = True
            todo += [(start, middle), (middle, end)]
    return loop[keep[:count]]


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, int]:
    """Squared distances from points [n, 2] to the line from start to end, all integers, times a unit, which follows.

    In integers, since on a grid many corners are equally far, and rounding would choose among them.
    """
    along, from_start = end - start, points - start
    unit, place = int(along @ along), from_start @ along
    if unit == 0:
        return (from_start**2).sum(axis=1), 1
    beside = (from_start[:, 0] * along[1] - from_start[:, 1] * along[0]) ** 2
    before, behind = ((points - corner) ** 2 @ np.array([unit, unit]) for corner in (start, end))
    return np.where(place < 0, before, np.where(place > unit, behind, beside)), unit


def _fill(loops: list[np.ndarray], size: Size) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centres lie inside an odd number of closed lines of corners [n, 2] (row, column)."""
    start = np.concatenate(loops)
    end = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    line = np.repeat(np.arange(len(start)), high - low)  # each line crosses the centres of rows low .. high - 1
    row = np.arange(line.size) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[line]
    (y0, x0), (y1, x1) = start[line].T, end[line].T
    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.ceil(crossing - 0.5).astype(np.int64)  # the first pixel whose centre is not left of it
    flips = np.bincount(row * (size[1] + 1) + column, minlength=size[0] * (size[1] + 1))
    inside = np.cumsum(flips.reshape(size[0], size[1] + 1), axis=1) % 2 == 1
    return inside[:, :-1]


def _polygons(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Redraw each connected area of a value as a polygon, larger ones first; -1 where there is none."""
    areas = _components(values)
    loops = _loops(areas)
    pixels = np.bincount(areas[areas >= 0], minlength=len(loops))
    value_of = dict(zip(*(a[areas >= 0].tolist() for a in (areas, values)), strict=True))
    drawn = np.full_like(values, -1)
    for area in np.argsort(-pixels, kind="stable").tolist():
        lines = [_simplify(loop, tolerance, (values.shape[0], values.shape[1])) for loop in loops[area]]
        lines = [line for line in lines if len(line) > 2]
        if not lines:
            continue
        corners = np.concatenate(lines)
        (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
        inside = _fill([line - (top, left) for line in lines], (int(bottom - top), int(right - left)))
        drawn[top:bottom, left:right][inside] = value_of[area]
    return drawn


def _with_gaps(values: np.ndarray, radius: int) -> np.ndarray:
    """-1 where a square of `radius` pixels to each side holds another value: where two neighbours in it differ."""
    h, w = values.shape
    changes = np.zeros((2, h, w), dtype=np.int64)  # from a pixel to the next one in its column, and in its row
    changes[0, :-1] = values[1:] != values[:-1]
    changes[1, :, :-1] = values[:, 1:] != values[:, :-1]
    sums = np.pad(changes.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    row, column = np.arange(h)[:, None], np.arange(w)[None, :]
    top, left = np.maximum(row - radius, 0), np.maximum(column - radius, 0)
    bottom, right = np.minimum(row + radius, h - 1), np.minimum(column + radius, w - 1)

    def within(plane: np.ndarray, bottom: np.ndarray, right: np.ndarray) -> np.ndarray:
        return plane[bottom, right] - plane[top, right] - plane[bottom, left] + plane[top, left]

    found = within(sums[0], bottom, right + 1) + within(sums[1], bottom + 1, right)
    return np.where(found == 0, values, -1)


def _without_small(values: np.ndarray, smallest: float) -> np.ndarray:
    """-1 on connected areas of fewer than `smallest` pixels."""
    areas = _components(values)
    pixels = np.bincount(areas[areas >= 0], minlength=int(areas.max()) + 1)
    small = np.append(pixels < smallest, True)  # the last is that of -1
    return np.where(small[areas], -1, values)


def prepare_coarsen(
    source: Path, *, out: Path, strength: int = 1, method: Method = "polygon", quiet: bool = False
) -> Coarsened:
    """Prepare a data folder with the photographs of another one and coarse layouts.

    Every split is made coarse. Where a scene has an instance map, each object is a region of its own and the map is
    made coarse alike. Photographs are copied, not linked: a link would let a change to one folder reach the other.

    Args:
        source: a data folder.
        out: the data folder to write.
        strength: 1, 2 or 3, see `STRENGTHS`.
        method: `polygon` or `nearest`, see `coarsen`.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or does not fit, or polygons are asked for and there is no
            void class.
    """
    classes, items, warnings = folder_scenes(Path(source))
    void = void_of(classes)
    if void is None and method == "polygon":
        raise UserError(
            f"{source}/classes.json: has no void class, which the gaps of coarse polygons need; "
            'mark one with "void": true, or use --method nearest'
        )

    def read(item: SourceScene) -> Labels:
        layout, objects = read_layout(item.layout, len(classes)), read_objects(item)
        check_fit(item, layout, objects)
        return Labels(*coarsen_scene(layout, objects, strength, void, method))

    coarsen_scene(np.zeros((1, 1), np.uint8), None, strength, void, method)  # refuses what is unknown, before writing
    settings: dict[str, object] = {"strength": strength, "method": method}
    plan = Plan("coarsen", Path(source), settings, classes, items, tuple(warnings))
    made = carry_out(plan, read, Path(out), quiet)
    return Coarsened(made, {} if void is None else _shares(items, made.out, void, quiet))


def _shares(items: list[SourceScene], out: Path, void: int, quiet: bool) -> dict[str, tuple[float, float]]:
    """The share of void pixels by split, in the source and in what was written."""

    def count(item: SourceScene) -> tuple[int, int, int]:
        before, after = (read_labels(p) for p in (item.layout, out / item.split / "layouts" / f"{item.stem}.png"))
        return int((before == void).sum()), int((after == void).sum()), before.size

    counted = in_parallel(count, items, lambda i: i.stem, "counting unlabelled pixels", 0, quiet)
    shares: dict[str, tuple[float, float]] = {}
    for split in dict.fromkeys(item.split for item in items):
        before, after, pixels = (
            sum(numbers)
            for numbers in zip(*(c for c, i in zip(counted, items, strict=True) if i.split == split), strict=True)
        )
        shares[split] = (before / pixels, after / pixels)
    return shares
