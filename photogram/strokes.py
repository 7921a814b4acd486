"""Which pixels a brush covers, and what lies nearest: exact, in integers, so that other programs can do the same.

Coordinates are doubled: pixel (x, y) has its middle at (2x + 1, 2y + 1), and corners of pixels are even.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from photogram.scene import Size

WIDEST = 1023
"""Pixels of the widest brush."""
_FAR = 16_384  # pixels; where pointers are off by more they are taken to be there
_STEP = 1 << 40  # more than any picture's pixels: distance before place in one integer


class Box(NamedTuple):
    """A rectangle of pixels: rows top to bottom - 1, columns left to right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> Size:
        return self.bottom - self.top, self.right - self.left

    def grown(self, by: int, size: Size) -> Box:
        """Larger by so many pixels on each side, within a frame."""
        top, left, bottom, right = self.top - by, self.left - by, self.bottom + by, self.right + by
        return Box(max(0, top), max(0, left), min(size[0], bottom), min(size[1], right))

    def at_least(self, side: int, size: Size) -> Box:
        """With so many pixels a side, where the frame has them, about the same middle where it is not in the way."""
        ends = []
        for low, high, most in ((self.top, self.bottom, size[0]), (self.left, self.right, size[1])):
            length = min(max(high - low, side), most)
            first = min(max(0, (low + high - length) // 2), most - length)
            ends.append((first, first + length))
        return Box(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def box_of(mask: Bool[np.ndarray, "h w"]) -> Box | None:
    """The smallest box around all that is marked; None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def stroke(points: Sequence[tuple[float, float]], width: int, size: Size) -> Bool[np.ndarray, "h w"]:
    """The pixels that a round brush covers on its way from point to point.

    Args:
        points: x and y of each, in pixels; 0, 0 is the corner of the first pixel. They may lie outside the frame.
        width: the brush's diameter, 1 to `WIDEST`; 1 covers one pixel at each point.
        size: of the frame.
    """
    covered = np.zeros(size, dtype=bool)
    places = [tuple(_place(min(max(v, -_FAR), _FAR), width) for v in point) for point in points]
    for (ax, ay), (bx, by) in zip(places, places[1:] or places, strict=False):
        top, bottom = max(0, (min(ay, by) - width) // 2), min(size[0], (max(ay, by) + width) // 2 + 1)
        left, right = max(0, (min(ax, bx) - width) // 2), min(size[1], (max(ax, bx) + width) // 2 + 1)
        if top >= bottom or left >= right:
            continue
        y = (2 * np.arange(top, bottom, dtype=np.int64) + 1 - ay)[:, None]
        x = (2 * np.arange(left, right, dtype=np.int64) + 1 - ax)[None]
        across, down = bx - ax, by - ay
        length = across**2 + down**2
        along = x * across + y * down
        near = x**2 + y**2 < width**2
        if length:
            beside = math.isqrt(width**2 * length - 1)  # cross^2 < width^2 length, without squares of 66 bits
            at_end = (x - across) ** 2 + (y - down) ** 2 < width**2
            near = np.where(along <= 0, near, np.where(along >= length, at_end, abs(x * down - y * across) <= beside))
        covered[top:bottom, left:right] |= near
    return covered


def _place(value: float, width: int) -> int:
    """The doubled coordinate of a brush's middle: of a pixel for odd widths, of a corner for even ones."""
    return 2 * math.floor(value) + 1 if width % 2 else 2 * math.floor(value + 0.5)


def nearest(sources: Bool[np.ndarray, "h w"], asked: Bool[np.ndarray, "h w"]) -> Int64[np.ndarray, " n"]:
    """For each pixel that asks, in order, the source at the smallest distance along rows and columns.

    Of several as near, the first in the order of rows.

    Args:
        sources: one or more.
        asked: one or more.

    Returns:
        Indices into the flattened frame.
    """
    size, around, margin = (sources.shape[0], sources.shape[1]), box_of(asked), 32
    assert around is not None and sources.any()
    while True:  # look about in a box; what it does not hold is farther away than its margin
        box = around.grown(margin, size)
        found = _nearest_keys(sources[box.slices])[asked[box.slices]]
        if box.size == size or bool((found < (margin + 1) * _STEP).all()):
            break
        margin *= 4
    row, column = np.divmod(found & (_STEP - 1), box.size[1])
    return (row + box.top) * size[1] + column + box.left


def _nearest_keys(sources: Bool[np.ndarray, "h w"]) -> Int64[np.ndarray, "h w"]:
    """Of each pixel the distance to the nearest source, times `_STEP`, and that one's index.

    Sources of a row are compared along it, then the best of each row along columns: minima of sums of distance and
    index, running forward and backward.
    """
    keys = np.where(sources, np.arange(sources.size, dtype=np.int64).reshape(sources.shape), 1 << 62)
    for axis in (1, 0):
        ramp = np.arange(keys.shape[axis], dtype=np.int64) * _STEP
        ramp = ramp if axis else ramp[:, None]
        forward = np.minimum.accumulate(keys - ramp, axis) + ramp
        backward = np.flip(np.minimum.accumulate(np.flip(keys + ramp, axis), axis), axis) - ramp
        keys = np.minimum(forward, backward)
    return keys
