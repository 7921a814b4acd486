"""Outlines of COCO's objects as pixels: polygons, and run lengths as numbers or as text.

A pixel is of a polygon where its centre is. COCO's own tools round a polygon's points to a fifth of a pixel first, so
that they differ from this here and there along an outline, by a pixel.

Run lengths count pixels column by column, from above to below: so many outside, so many inside, and so on. As text each
number is written in pieces of 5 bits, the lowest first, one letter a piece: the letter is chr(48 + piece), with 32
added where a further piece follows. Bit 16 of the last piece is the sign. From the fourth number on, what is written is
the difference to the number two before.

Source: the description of the format in the COCO API (Lin et al. 2014, `MaskApi`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

_MOST_BITS = 40  # of a number: far more than any picture has pixels


class Patch(NamedTuple):
    """A window of a picture, and which of its pixels are an object's."""

    top: int
    left: int
    mask: Bool[np.ndarray, "height width"]

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The same window of another map of the picture [h, w], as a view."""
        rows, columns = self.mask.shape
        return picture[self.top : self.top + rows, self.left : self.left + columns]


def unpack_runs(text: str) -> list[int]:
    """The run lengths that a text holds.

    Raises:
        ValueError: where it has other letters than 48..111, or ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for place, letter in enumerate(text):
        piece = ord(letter) - 48
        if not 0 <= piece < 64:
            raise ValueError(f"has {letter!r} as character {place}, but '0' to 'o' are used")
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            if shift >= _MOST_BITS:
                raise ValueError(f"has a number of more than {_MOST_BITS} bits at character {place}")
            continue
        if piece & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("ends within a number; it was cut short")
    return runs


def check_runs(runs: Sequence[object], size: tuple[int, int]) -> Int64[np.ndarray, " n"]:
    """Run lengths as an array, once they are known to fill a picture of (height, width).

    Raises:
        ValueError: naming the number that cannot be one, or both sums.
    """
    wrong = [run for run in runs if type(run) is not int or run < 0]
    if wrong:
        raise ValueError(f"has the run length {wrong[0]!r:.40}, but they are whole numbers of 0 or more")
    total = sum(run for run in runs if isinstance(run, int))
    if total != size[0] * size[1]:
        raise ValueError(f"has run lengths of {total:,} pixels, but {size[0]} x {size[1]} are {size[0] * size[1]:,}")
    return np.array(runs, dtype=np.int64)


def runs_patch(runs: Int64[np.ndarray, " n"], size: tuple[int, int]) -> Patch:
    """The pixels of run lengths that fill a picture of (height, width), in the smallest window."""
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0]).T
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return Patch(0, 0, inside[:0, :0])
    return Patch(int(rows[0]), int(columns[0]), inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def polygons_patch(polygons: Sequence[Float64[np.ndarray, "_ 2"]], size: tuple[int, int]) -> Patch:
    """The pixels whose centre is in one of the polygons, or in several.

    Args:
        polygons: points (x, y) in pixels from the upper left corner of the picture, finite; the last is joined to the
            first. What one polygon encloses twice is outside of it (even-odd rule).
        size: height and width of the picture; what lies beyond it is left out.
    """
    points = np.concatenate([*polygons, np.empty((0, 2))])
    if not len(points):
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    left, top = (int(np.clip(np.floor(points[:, k].min()), 0, size[1 - k])) for k in (0, 1))
    right, bottom = (int(np.clip(np.ceil(points[:, k].max()), 0, size[1 - k])) for k in (0, 1))
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for polygon in polygons:
        mask |= inside_polygon(polygon - (left, top), (bottom - top, right - left))
    return Patch(top, left, mask)


def inside_polygon(points: Float64[np.ndarray, "k 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Which pixels of a window of (height, width) have their centre in a polygon, by the even-odd rule.

    Each row is walked along from the left, and each edge that its line of centres meets is a change between outside and
    inside. An edge holds its upper end and not its lower one, so that a corner counts once.
    """
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    first, last = (np.clip(np.ceil(f(y0, y1) - 0.5), 0, size[0]).astype(int) for f in (np.minimum, np.maximum))
    edge = np.repeat(np.arange(len(points)), last - first)
    starts = np.cumsum(last - first) - (last - first)
    row = np.arange(len(edge)) - starts[edge] + first[edge]
    along = (row + 0.5 - y0[edge]) / (y1 - y0)[edge]
    met = x0[edge] + along * (x1 - x0)[edge]
    column = np.clip(np.ceil(met - 0.5), 0, size[1]).astype(int)
    width = size[1] + 1  # the last column takes what is met beyond the window
    changes = np.bincount(row * width + column, minlength=size[0] * width).reshape(size[0], width)
    return (np.cumsum(changes, axis=1) % 2 == 1)[:, :-1]
