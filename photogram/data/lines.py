"""Line drawings as masks: thinning, small parts, gaps, stroke widths and sizes. True is ink; neighbours are eight.

What detectors find in photographs and what people draw by hand go through the same few steps, so that a network meets
one style of line in training and afterwards. They are written here rather than taken from scikit-image, which would
bring SciPy and three more packages (some 150 MB) for them; it is an oracle in their tests.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Bool, Integer

from photogram.scene import Size

_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise from above
_TAIL = 5  # pixels of a stroke that tell where its end points to
_AHEAD = 0.5  # the cosine of 60 degrees: a gap is closed within so much of where a stroke's end points to


# --- thinning --------------------------------------------------------------------------------------------------------


def thin(lines: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Thin strokes to one pixel, by Guo and Hall 1989 (Parallel Thinning with Two-Subiteration Algorithms, A1).

    Pixels are taken away along the outlines, from below and the right, then from above and the left, as long as that
    parts no stroke, shortens no line and opens or closes no hole. The older rule of Zhang and Suen 1984 is not used:
    it lets squares of 2 x 2 pixels vanish, and with them dots and diagonal strokes two pixels wide.
    """
    padded = np.pad(lines, 1)
    flat, width = padded.ravel(), padded.shape[1]
    steps = np.array([dy * width + dx for dy, dx in _AROUND])
    ink = np.flatnonzero(flat)
    gone = True
    while gone:
        gone = False
        for removable in _removable():
            code = (flat[ink[:, None] + steps] << np.arange(8)).sum(axis=1)
            leaves = removable[code]
            flat[ink[leaves]] = False
            gone |= bool(leaves.any())
            ink = ink[~leaves]
    return flat.reshape(padded.shape)[1:-1, 1:-1].copy()


@functools.cache
def _removable() -> tuple[np.ndarray, np.ndarray]:
    """Whether a pixel may go, by its neighbours (bit k is `_AROUND[k]`), in the first and the second half of a pass."""
    n, ne, e, se, s, sw, w, nw = ((np.arange(256) >> k & 1).astype(bool) for k in range(8))
    crossings = sum((~a & (b | c)).astype(int) for a, b, c in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n)))
    one = sum((a | b).astype(int) for a, b in ((nw, n), (ne, e), (se, s), (sw, w)))
    other = sum((a | b).astype(int) for a, b in ((n, ne), (e, se), (s, sw), (w, nw)))
    fewest = np.minimum(one, other)
    may = (crossings == 1) & (fewest >= 2) & (fewest <= 3)
    return may & ~((n | ne | ~se) & e), may & ~((s | sw | ~nw) & w)


# --- parts -----------------------------------------------------------------------------------------------------------


def components(lines: Bool[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """Number the 8-connected parts 0, 1, ... by their first pixels, row by row; -1 where there is no ink.

    Of two parts that touch, the later becomes one with the earlier, all at once, until none touch: as each round at
    least halves the parts that still have to be joined, there are few.
    """
    number = np.full((lines.shape[0] + 1, lines.shape[1] + 2), -1)
    number[:-1, 1:-1][lines] = np.arange(np.count_nonzero(lines))
    flat, width = number.ravel(), number.shape[1]
    ink = np.flatnonzero(flat >= 0)
    pairs = [np.stack([flat[ink], flat[ink + step]]) for step in (1, width - 1, width, width + 1)]
    first, second = np.concatenate(pairs, axis=1) if len(ink) else np.empty((2, 0), np.int64)
    first, second = first[second >= 0], second[second >= 0]
    parent = np.arange(len(ink))
    while True:
        a, b = parent[first], parent[second]
        apart = a != b
        if not apart.any():
            break
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(onward := parent[parent], parent):
            parent = onward
    parts = np.full(lines.shape, -1)
    parts[lines] = np.unique(parent, return_inverse=True)[1]
    return parts


def without_small(lines: Bool[np.ndarray, "h w"], smallest: float) -> Bool[np.ndarray, "h w"]:
    """Take away 8-connected parts of fewer than `smallest` pixels."""
    parts = components(lines)
    enough = np.bincount(parts[lines]) >= smallest
    kept = lines.copy()
    kept[lines] = enough[parts[lines]]
    return kept


def touching(lines: Bool[np.ndarray, "h w"], seeds: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The 8-connected parts of `lines` that hold at least one of the seeds: Canny's hysteresis."""
    parts = components(lines)
    wanted = np.zeros(int(parts.max(initial=-1)) + 1, dtype=bool)
    wanted[parts[seeds & lines]] = True
    kept = lines.copy()
    kept[lines] = wanted[parts[lines]]
    return kept


# --- gaps ------------------------------------------------------------------------------------------------------------


def close_gaps(lines: Bool[np.ndarray, "h w"], gap: float) -> Bool[np.ndarray, "h w"]:
    """Go on from the ends of strokes, straight to the nearest ink ahead of them, where it is near enough.

    An outline that is open lets what is inside leak out. Morphological closing would fill narrow shapes and join
    strokes that run side by side; only loose ends are drawn on here, and only forwards, within 60 degrees. Dots have no
    direction and stay.

    Args:
        lines: strokes one pixel wide, as `thin` leaves them.
        gap: how far apart, in pixels from centre to centre, what is joined may be.
    """
    padded = np.pad(lines, 1)
    reach = int(gap)
    rows, columns = (part.ravel() for part in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    far = np.hypot(rows, columns)
    order = np.argsort(far, kind="stable")
    order = order[(far[order] > 0) & (far[order] <= gap)]
    offsets, far = np.stack([rows[order], columns[order]], axis=1), far[order]
    for y, x in np.argwhere(_neighbours(padded) == 1).tolist():
        tail = _tail(padded, y, x)
        if tail is None:  # joined since, from the other side
            continue
        ahead = np.array([y - tail[0], x - tail[1]]) / np.hypot(y - tail[0], x - tail[1])
        places = offsets + np.array([y, x])
        there = ((places >= 0) & (places < padded.shape)).all(axis=1) & (offsets @ ahead >= _AHEAD * far - 1e-9)
        places = places[there]
        found = places[padded[places[:, 0], places[:, 1]]]
        if len(found):
            steps = int(np.abs(found[0] - (y, x)).max())
            way = np.linspace((y, x), found[0], steps + 1).round().astype(int)
            padded[way[:, 0], way[:, 1]] = True
    return padded[1:-1, 1:-1].copy()


def _neighbours(padded: np.ndarray) -> np.ndarray:
    """How many of the eight are ink, on ink; 0 elsewhere. The border of the array is empty."""
    count = np.zeros(padded.shape, np.int64)
    h, w = padded.shape
    for dy, dx in _AROUND:
        count[1:-1, 1:-1] += padded[1 + dy : h - 1 + dy, 1 + dx : w - 1 + dx]
    return np.where(padded, count, 0)


def _tail(padded: np.ndarray, y: int, x: int) -> tuple[int, int] | None:
    """Where one is a few pixels back along the stroke that ends at (y, x), or None where none ends there."""
    seen = {(y, x)}
    here = (y, x)
    for step in range(_TAIL):
        onward = [(here[0] + dy, here[1] + dx) for dy, dx in _AROUND if padded[here[0] + dy, here[1] + dx]]
        onward = [place for place in onward if place not in seen]
        if step == 0 and len(onward) != 1:
            return None
        if not onward:
            break
        seen |= set(onward)
        here = onward[0]
    return here


# --- widths and sizes ------------------------------------------------------------------------------------------------


def thicken(lines: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """Strokes of one pixel made `width` (1 or 2) wide: 2 adds the pixels to the right, below and in between."""
    if width == 1:
        return lines.copy()
    padded = np.pad(lines, ((1, 0), (1, 0)))
    return padded[1:, 1:] | padded[:-1, 1:] | padded[1:, :-1] | padded[:-1, :-1]


def resized(lines: Bool[np.ndarray, "h w"], size: Size) -> Bool[np.ndarray, "H W"]:
    """At another size, with no stroke lost: a pixel is ink where any of the ink falls into it.

    Averaging, as photographs are resized, would let a thin line of a large drawing fade into the paper.
    """
    h, w = lines.shape
    if (h, w) == tuple(size):
        return lines.copy()
    whole = lines
    for axis, (length, wanted) in enumerate(((h, size[0]), (w, size[1]))):
        start = np.arange(wanted) * length // wanted
        end = np.maximum(-(-(np.arange(wanted) + 1) * length // wanted), start + 1)
        sums = np.cumsum(np.insert(whole, 0, 0, axis=axis), axis=axis, dtype=np.int64)
        whole = sums.take(end, axis=axis) > sums.take(start, axis=axis)
    return whole
