"""Masks of lines: each operation against a slow, obvious twin or scikit-image, and closed cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from photogram.data.lines import close_gaps, components, resized, thicken, thin, touching, without_small

AROUND = [(dy, dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2) if (dy, dx) != (0, 0)]


def picture(*rows: str) -> np.ndarray:
    """A mask drawn with `#`."""
    return np.array([[mark == "#" for mark in row] for row in rows])


def blobs(seed: int, size: tuple[int, int] = (30, 37)) -> np.ndarray:
    """Ragged areas, strokes and specks."""
    draw = np.random.default_rng(seed)
    noise = np.pad(draw.random(size), 2, mode="edge")
    smooth = sum(noise[2 + y : 2 + y + size[0], 2 + x : 2 + x + size[1]] for y in (-1, 0, 1) for x in (-2, 0, 2))
    return np.asarray(smooth) / 9 < draw.uniform(0.45, 0.6)


# Twins, one pixel at a time


def slow_parts(lines: np.ndarray) -> list[set[tuple[int, int]]]:
    """The 8-connected parts, by a flood from each pixel in turn."""
    seen: set[tuple[int, int]] = set()
    parts = []
    for first in map(tuple, np.argwhere(lines).tolist()):
        if first in seen:
            continue
        part, todo = {first}, [first]
        while todo:
            y, x = todo.pop()
            for dy, dx in AROUND:
                place = (y + dy, x + dx)
                inside = 0 <= place[0] < lines.shape[0] and 0 <= place[1] < lines.shape[1]
                if inside and lines[place] and place not in part:
                    part.add(place)
                    todo.append(place)
        seen |= part
        parts.append(part)
    return parts


def grounds(lines: np.ndarray) -> int:
    """How many areas the lines part the paper into, across sides of pixels; the outside is one."""
    paper = {(y, x) for y, x in np.argwhere(~np.pad(lines, 1)).tolist()}
    count = 0
    while paper:
        todo, count = [paper.pop()], count + 1
        while todo:
            y, x = todo.pop()
            beside = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & paper
            paper -= beside
            todo += beside
    return count


def slow_thin(lines: np.ndarray) -> np.ndarray:
    """Guo and Hall 1989, as it is written down: P2 is above, P3 above to the right, and on clockwise."""
    now = np.pad(lines, 1)
    while True:
        before = now.copy()
        for half in (0, 1):
            leaves = []
            for y, x in np.argwhere(now).tolist():
                p2, p3, p4, p5, p6, p7, p8, p9 = (
                    bool(now[y + dy, x + dx])
                    for dy, dx in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
                )
                c = (
                    (not p2 and (p3 or p4))
                    + (not p4 and (p5 or p6))
                    + (not p6 and (p7 or p8))
                    + (not p8 and (p9 or p2))
                )
                n1 = (p9 or p2) + (p3 or p4) + (p5 or p6) + (p7 or p8)
                n2 = (p2 or p3) + (p4 or p5) + (p6 or p7) + (p8 or p9)
                m = (p6 or p7 or not p9) and p8 if half else (p2 or p3 or not p5) and p4
                if c == 1 and 2 <= min(n1, n2) <= 3 and not m:
                    leaves.append((y, x))
            for place in leaves:
                now[place] = False
        if np.array_equal(now, before):
            return now[1:-1, 1:-1]


@pytest.mark.parametrize("seed", range(6))
def test_thin_is_what_its_slow_twin_does(seed: int) -> None:
    lines = blobs(seed)
    found = thin(lines)
    assert 0 < found.sum() < lines.sum()
    assert np.array_equal(found, slow_thin(lines))
    assert np.array_equal(thin(found), found)


def test_thin_is_what_scikit_image_does() -> None:
    morphology = pytest.importorskip("skimage.morphology")
    for seed in range(20):
        lines = blobs(seed, (90, 120))
        assert np.array_equal(thin(lines), morphology.thin(lines))


@pytest.mark.parametrize("seed", range(6))
def test_thinning_parts_nothing_and_fills_no_hole(seed: int) -> None:
    lines = blobs(seed)
    found = thin(lines)
    assert len(slow_parts(found)) == len(slow_parts(lines))
    assert grounds(found) == grounds(lines)


def test_small_squares_and_diagonal_strokes_stay() -> None:
    """What Zhang and Suen's rule lets vanish."""
    square = np.zeros((6, 6), bool)
    square[2:4, 2:4] = True
    assert thin(square).sum() == 1
    diagonal = np.eye(12, dtype=bool) | np.eye(12, k=1, dtype=bool)
    assert thin(diagonal).sum() >= 11


@pytest.mark.parametrize("seed", range(6))
def test_components_and_what_is_kept_of_them(seed: int) -> None:
    lines = blobs(seed) & (np.random.default_rng(seed).random((30, 37)) < 0.6)
    expected = np.full(lines.shape, -1)
    for number, part in enumerate(slow_parts(lines)):
        for place in part:
            expected[place] = number
    assert expected.max() > 5
    assert np.array_equal(components(lines), expected)
    large = {place for part in slow_parts(lines) if len(part) >= 5 for place in part}
    assert set(map(tuple, np.argwhere(without_small(lines, 5)).tolist())) == large
    seeds = np.random.default_rng(seed).random(lines.shape) < 0.02
    held = {place for part in slow_parts(lines) if any(seeds[p] for p in part) for place in part}
    assert set(map(tuple, np.argwhere(touching(lines, seeds)).tolist())) == held


def test_a_long_spiral_is_one_part() -> None:
    spiral = np.zeros((61, 61), bool)
    y, x, dy, dx, run = 30, 30, 0, 1, 2
    for turn in range(28):
        for _ in range(run):
            spiral[y, x] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
        run += 2 * (turn % 2)
    assert spiral.sum() == 420 and components(spiral).max() == 0


def test_parts_of_four_go_and_of_five_stay() -> None:
    lines = picture("####......", "..........", "#.........", ".#.....#..", "..#...#.#.", "...#......", "....#.....")
    assert components(lines).max() == 2
    kept = without_small(lines, 5)
    assert kept.sum() == 5 and kept[2, 0] and kept[6, 4]
    assert np.array_equal(without_small(lines, 0), lines)


@pytest.mark.parametrize("gap", [1, 2, 3, 6])
def test_gaps_up_to_the_widest_are_closed(gap: int) -> None:
    lines = np.zeros((9, 30), bool)
    lines[4, :10] = True
    lines[4, 9 + gap :] = True
    assert close_gaps(lines, gap)[4].all() and close_gaps(lines, gap)[:4].sum() == 0
    if gap > 1:
        assert np.array_equal(close_gaps(lines, gap - 0.5), lines)
    assert np.array_equal(close_gaps(lines, 0), lines)


def test_only_what_lies_ahead_of_a_loose_end_is_joined() -> None:
    beside = np.zeros((12, 30), bool)
    beside[4, 3:27] = beside[7, 3:27] = True  # side by side, three pixels apart
    assert np.array_equal(close_gaps(beside, 6), beside)
    towards = np.zeros((12, 30), bool)
    towards[:, 20] = True
    towards[5, 3:17] = True  # ends before the other, as the leg of a T
    closed = close_gaps(towards, 6)
    assert np.array_equal(closed, towards | (np.arange(30) < 20) & (np.arange(30) > 16) & (np.arange(12) == 5)[:, None])
    dot = np.zeros((12, 30), bool)
    dot[5, 10] = dot[5, 13] = True
    assert np.array_equal(close_gaps(dot, 6), dot)


def test_an_open_circle_is_closed() -> None:
    y, x = np.mgrid[:60, :60]
    angle = np.arctan2(y - 30, x - 30)
    circle = thin(np.abs(np.hypot(y - 30, x - 30) - 20) < 1)
    for middle in (0.3, 1.2, 2.0, -1.0):
        broken = circle & ~(np.abs(angle - middle) < 0.1)
        assert grounds(broken) == 1  # the inside leaks
        assert grounds(close_gaps(broken, 6)) == 2


def test_widths() -> None:
    lines = picture("....", ".#..", "....", "....")
    assert np.array_equal(thicken(lines, 1), lines)
    assert np.array_equal(thicken(lines, 2), picture("....", ".##.", ".##.", "...."))
    edge = picture("...", "...", "..#")
    assert np.array_equal(thicken(edge, 2), edge)


@pytest.mark.parametrize("size", [(30, 37), (7, 11), (1, 1), (15, 37), (60, 80), (29, 50)])
def test_resizing_against_its_twin(size: tuple[int, int]) -> None:
    lines = blobs(1) & (np.random.default_rng(0).random((30, 37)) < 0.1)
    expected = np.zeros(size, bool)
    for y, x in np.ndindex(size):
        rows = [r for r in range(30) if r < (y + 1) * 30 / size[0] and r + 1 > y * 30 / size[0]]
        columns = [c for c in range(37) if c < (x + 1) * 37 / size[1] and c + 1 > x * 37 / size[1]]
        expected[y, x] = lines[np.ix_(rows, columns)].any()
    assert np.array_equal(resized(lines, size), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (4, 4)])
def test_the_smallest_masks(size: tuple[int, int]) -> None:
    for full in (False, True):
        lines = np.full(size, full)
        assert thin(lines).any() == full
        assert components(lines).max() == (0 if full else -1)
        assert close_gaps(lines, 6).any() == full
        assert without_small(lines, 100).sum() == 0
        assert resized(lines, (3, 2)).all() == full
