"""Run lengths as numbers and as text, and polygons as pixels, against slow obvious twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photogram.data.coco_masks import check_runs, inside_polygon, polygons_patch, runs_patch, unpack_runs


def drawn(patch, size: tuple[int, int]) -> np.ndarray:
    """A patch in its picture."""
    picture = np.zeros(size, dtype=bool)
    patch.of(picture)[...] = patch.mask
    return picture


def packed(runs: list[int]) -> str:
    """Run lengths as text, the slow way: in two's complement as a string of bits, cut into fives from the right."""
    written = ""
    for n, run in enumerate(runs):
        value = run - runs[n - 2] if n > 2 else run
        pieces = 1
        while not -(16 * 32 ** (pieces - 1)) <= value < 16 * 32 ** (pieces - 1):
            pieces += 1
        bits = format(value % 32**pieces, f"0{5 * pieces}b")
        fives = [bits[at : at + 5] for at in range(0, len(bits), 5)][::-1]
        written += "".join(chr(48 + int("1" + five, 2)) for five in fives[:-1]) + chr(48 + int("0" + fives[-1], 2))
    return written


def columns_first(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    """The pixels of run lengths, one after the other."""
    picture, at = np.zeros(size, dtype=bool), 0
    for n, run in enumerate(runs):
        for _ in range(run):
            picture[at % size[0], at // size[0]] = n % 2 == 1
            at += 1
    return picture


def encloses(points: np.ndarray, x: float, y: float) -> bool:
    """Whether a ray from a point to the left meets the polygon an odd number of times."""
    odd = False
    for k in range(len(points)):
        (x0, y0), (x1, y1) = points[k - 1], points[k]
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            odd = not odd
    return odd


@pytest.mark.parametrize(
    ("written", "runs"),
    [
        ("51\\91hFje08", [5, 1, 300, 2, 4, 700, 12]),
        ("T3l13UNg21", [100, 60, 3, 1, 90, 2]),
        ("06", [0, 6]),
        ("6", [6]),
    ],
)
def test_texts_that_cocos_own_tools_wrote(written, runs):
    assert unpack_runs(written) == runs and packed(runs) == written


@given(st.lists(st.integers(0, 2**27), max_size=30))
def test_text_and_run_lengths_are_inverse(runs):
    assert unpack_runs(packed(runs)) == runs


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("5 3", r"has ' ' as character 1, but '0' to 'o' are used"),
        ("5p", r"has 'p' as character 1"),
        ("5é", r"has 'é' as character 1"),
        ("5o", "ends within a number; it was cut short"),
        ("ooooooooo0", r"has a number of more than 40 bits at character 7"),
    ],
)
def test_texts_that_are_none(written, words):
    with pytest.raises(ValueError, match=words):
        unpack_runs(written)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([3, 2], r"has run lengths of 5 pixels, but 2 x 3 are 6"),
        ([9, -3], r"has the run length -3, but they are whole numbers of 0 or more"),
        ([3.0, 3], r"has the run length 3.0"),
        ([True, 5], r"has the run length True"),
        ([3, "3"], r"has the run length '3'"),
        ([None, 6], r"has the run length None"),
        ([10**30], r"pixels, but 2 x 3 are 6"),
        ([], r"has run lengths of 0 pixels"),
    ],
)
def test_run_lengths_that_are_none(runs, words):
    with pytest.raises(ValueError, match=words):
        check_runs(runs, (2, 3))


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_run_lengths_go_down_the_columns(height, width, data):
    ends = sorted(data.draw(st.lists(st.integers(0, height * width), max_size=6)))
    runs = [b - a for a, b in zip([0, *ends], [*ends, height * width], strict=True)]
    patch = runs_patch(check_runs(runs, (height, width)), (height, width))
    expected = columns_first(runs, (height, width))
    assert np.array_equal(drawn(patch, (height, width)), expected)
    assert (
        patch.mask.size <= (np.ptp(np.argwhere(expected), axis=0) + 1).prod() if expected.any() else not patch.mask.size
    )


def test_run_lengths_by_hand():
    patch = runs_patch(check_runs([3, 2, 1], (2, 3)), (2, 3))
    assert drawn(patch, (2, 3)).astype(int).tolist() == [[0, 0, 1], [0, 1, 0]]


@given(
    st.lists(st.tuples(st.integers(-8, 40), st.integers(-8, 40)), min_size=3, max_size=9), st.sampled_from([1, 2, 3])
)
def test_pixels_are_of_a_polygon_where_their_centre_is(corners, parts):
    points = np.array(corners, dtype=np.float64) / parts  # halves meet centres, thirds miss them
    size = (12, 15)
    expected = [[encloses(points, x + 0.5, y + 0.5) for x in range(size[1])] for y in range(size[0])]
    found = inside_polygon(points, size)
    if parts == 3:  # what is met at a centre up to rounding may fall on either side
        assert np.count_nonzero(found != expected) <= 2
    else:
        assert np.array_equal(found, expected)
    assert np.array_equal(drawn(polygons_patch([points], size), size), found)


def test_polygons_by_hand():
    square = np.array([[1, 1], [4, 1], [4, 3], [1, 3]], dtype=np.float64)
    assert drawn(polygons_patch([square], (4, 5)), (4, 5)).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    other = square + np.array([2, 1])  # overlaps the first, and leaves the picture: together they are one object
    both = drawn(polygons_patch([square, other], (4, 5)), (4, 5))
    assert both.astype(int).tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    away = polygons_patch([square + 100], (4, 5))
    assert not drawn(away, (4, 5)).any() and not drawn(polygons_patch([], (4, 5)), (4, 5)).any()


def test_polygons_that_share_an_edge_share_no_pixel():
    cuts = np.random.default_rng(0).uniform(1, 19, (40, 2, 2))
    for (x0, y0), (x1, y1) in cuts:
        if abs(y1 - y0) < 0.1:
            continue
        low, high = ((x0 + (y - y0) / (y1 - y0) * (x1 - x0), y) for y in (0.0, 20.0))
        left = np.array([(-500, 0), low, high, (-500, 20)])
        right = np.array([(500, 0), low, high, (500, 20)])
        both = [drawn(polygons_patch([side], (20, 20)), (20, 20)) for side in (left, right)]
        assert np.array_equal(both[0], ~both[1])
