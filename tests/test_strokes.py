"""Brushes and what is nearest, against plain loops and the specification's counts."""

from __future__ import annotations

import numpy as np
import pytest

from photogram.strokes import nearest, stroke


def covered(points: list[tuple[float, float]], d: int, height: int, width: int) -> np.ndarray:
    """The rule of the specification, pixel by pixel, in Python's integers."""

    def place(v: float) -> int:
        return 2 * int(np.floor(v)) + 1 if d % 2 else 2 * int(np.floor(v + 0.5))

    found = np.zeros((height, width), dtype=bool)
    placed = [(place(x), place(y)) for x, y in points]
    for (ax, ay), (bx, by) in zip(placed, placed[1:] or placed, strict=False):
        n = (bx - ax) ** 2 + (by - ay) ** 2
        for y, x in np.ndindex(height, width):
            px, py = 2 * x + 1 - ax, 2 * y + 1 - ay
            dot = px * (bx - ax) + py * (by - ay)
            if dot <= 0 or n == 0:
                found[y, x] |= px**2 + py**2 < d**2
            elif dot >= n:
                found[y, x] |= (2 * x + 1 - bx) ** 2 + (2 * y + 1 - by) ** 2 < d**2
            else:
                found[y, x] |= (px * (by - ay) - py * (bx - ax)) ** 2 < d**2 * n
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_stroke_covers_what_the_rule_says(seed: int) -> None:
    draws = np.random.default_rng(seed)
    height, width, d = (int(draws.integers(1, most)) for most in (30, 40, 25))
    points = [tuple(draws.uniform(-15, 50, 2).tolist()) for _ in range(int(draws.integers(1, 4)))]
    found = stroke(points, d, (height, width))
    assert (found == covered(points, d, height, width)).all()
    assert (found == stroke(points[::-1], d, (height, width))).all()


def test_discs_and_lines_have_the_specifications_counts() -> None:
    counts = {1: 1, 2: 4, 3: 9, 4: 12, 5: 21, 6: 32, 7: 37, 8: 52, 9: 69, 16: 208, 32: 812, 33: 861, 64: 3228}
    for d, count in counts.items():
        assert stroke([(50, 50)], d, (100, 100)).sum() == count
    assert stroke([(10, 10), (20, 14)], 1, (30, 30)).sum() == 11
    assert stroke([(10, 10), (20, 14)], 3, (30, 30)).sum() == 43


def test_strokes_from_far_outside_do_not_overflow() -> None:
    far = stroke([(-1e9, 5.0), (1e9, 5.0)], 1023, (8, 8))
    assert far.all()
    assert not stroke([(-1e9, -1e9), (1e9, -1e9)], 1023, (8, 8)).any()


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_is_that_of_all_pairs(seed: int) -> None:
    draws = np.random.default_rng(seed)
    height, width = draws.integers(1, 25, 2)
    sources = draws.random((height, width)) < draws.choice([0.01, 0.1, 0.5])
    sources[draws.integers(height), draws.integers(width)] = True
    asked = draws.random((height, width)) < 0.4
    asked[draws.integers(height), draws.integers(width)] = True
    places = np.argwhere(sources)
    expected = [min((abs(y - r) + abs(x - c), r * width + c) for r, c in places)[1] for y, x in np.argwhere(asked)]
    assert nearest(sources, asked).tolist() == expected


@pytest.mark.parametrize(("at", "hole"), [((2, 3), (150, 180)), ((199, 0), (10, 250)), ((100, 100), (99, 99))])
def test_the_nearest_is_found_far_away(at: tuple[int, int], hole: tuple[int, int]) -> None:
    """Farther than the first look about."""
    sources, asked = np.zeros((200, 260), dtype=bool), np.zeros((200, 260), dtype=bool)
    sources[at], sources[60, 200], asked[hole] = True, True, True
    expected = min((abs(hole[0] - r) + abs(hole[1] - c), r * 260 + c) for r, c in (at, (60, 200)))[1]
    assert nearest(sources, asked).tolist() == [expected]
