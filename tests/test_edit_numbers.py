"""Numbers of new objects, against loops over all pixels, and in streets that official tools would read."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_painter import CAR, LEFT, RIGHT, TREE, TinyPainter, painter, street

from photogram.edit_numbers import object_number
from photogram.editing import EditSession
from photogram.scene import Layout, SceneClass, SceneSpec

MARK = np.ones((2, 2), dtype=bool)
PERSON, AUTO, BUS, BICYCLE, TERRAIN = 24, 26, 28, 33, 22
THINGS = range(24, 34)


def network() -> TinyPainter:
    names = tuple(SceneClass(f"class {n}", (n, n, n), n == 0) for n in range(35))
    made = TinyPainter(SceneSpec(names, (24, 32), instances=True))
    made.style_centres.copy_(torch.rand(35, 4, 3, generator=torch.Generator().manual_seed(0)))
    made.style_counts.fill_(1)
    return made.eval()


def layout_of(*objects: tuple[int, int]) -> Layout:
    """Road (7) under sky (23), and objects of 2 x 2 pixels beside each other."""
    numbers = torch.full((1, 24, 32), 7, dtype=torch.int32)
    numbers[:, :8] = 23
    classes = numbers.to(torch.uint8)
    for n, (label, number) in enumerate(objects):
        classes[:, 20:22, 3 * n : 3 * n + 2], numbers[:, 20:22, 3 * n : 3 * n + 2] = label, number
    return Layout(classes, numbers)


def city(*objects: tuple[int, int]) -> EditSession:
    return EditSession(network(), layout_of(*objects), things=THINGS)


def test_new_objects_have_official_numbers_of_their_class() -> None:
    one = city((AUTO, 26000), (AUTO, 26004), (AUTO, 26), (BICYCLE, 33001))
    assert one.add(MARK, AUTO) == (AUTO, 26005), "and not 33002, which would be a bicycle"
    assert one.add(MARK, AUTO, None, (4, 0)) == (AUTO, 26006)
    assert one.brush(BICYCLE, [(20, 3)], 2) == (BICYCLE, 33002)
    assert one.add(MARK, PERSON, None, (8, 0)) == (PERSON, 24000), (
        "the first of its class; running numbers begin with 0"
    )
    assert one.relabel((AUTO, 26004), BUS) == (BUS, 28000) and one.relabel((AUTO, 26), BUS) == (BUS, 28001)
    one.remove((AUTO, 26006), fill=PERSON)
    assert (PERSON, 24001) in one.regions
    one.brush(TERRAIN, [(28, 3)], 2)
    official = {(label, number) for label, number in one.regions if number >= 1000}
    assert {number // 1000 for _, number in official} == {24, 26, 28, 33}
    assert all(number // 1000 == label for label, number in official), "official tools read the same classes"


def test_a_thousand_that_is_full_or_taken_is_left_alone() -> None:
    assert city((AUTO, 26998), (BUS, 28000)).add(MARK, AUTO) == (AUTO, 26999)
    assert city((AUTO, 26999), (BUS, 28000)).add(MARK, AUTO) == (AUTO, 28001), "26999 is the last; the next of all"
    assert city((AUTO, 26000), (AUTO, 25000)).add(MARK, AUTO) == (AUTO, 26001), "of two thousands: the next of all"
    assert city((AUTO, 26000), (AUTO, 25000), (BUS, 28007)).add(MARK, AUTO) == (AUTO, 28008)
    assert city((AUTO, 26000), (BUS, 26001)).add(MARK, AUTO) == (AUTO, 26002), "26001 is a bus's"
    assert city((BUS, 26000)).add(MARK, AUTO) == (AUTO, 26001), "a bus that has a car's number: not official"
    layout = layout_of((AUTO, 26000), (0, 26001))
    assert EditSession(network(), layout, things=THINGS).add(MARK, AUTO) == (AUTO, 26002), "void has numbers, too"
    last = (1 << 31) - 2
    assert city((AUTO, last)).add(MARK, AUTO) == (AUTO, last + 1), "the largest of 32 bits"


def test_with_train_ids_numbers_go_on_where_the_class_has_them() -> None:
    layout, car = layout_of((13, 26000), (13, 26003), (18, 33001)), 13
    classes = layout.classes.clone()
    classes[layout.classes == 7], classes[layout.classes == 23] = 0, 10
    one = EditSession(network(), Layout(classes, layout.instances), things=range(11, 19))
    assert one.add(MARK, car) == (car, 26004) and one.add(MARK, 18, None, (4, 0)) == (18, 33002)
    assert one.add(MARK, 15, None, (8, 0)) == (15, 33003), "which thousand a bus would have nobody says"


def test_a_number_whose_style_is_kept_is_not_given_again() -> None:
    one = city((AUTO, 26000), (AUTO, 26001), (BUS, 28000))
    one.set_style((AUTO, 26001), 3)
    one.add(np.ones((4, 4), dtype=bool), 7, None, (2, 19))  # paints over it: it is gone, its style is kept
    assert (AUTO, 26001) not in one.regions and (AUTO, 26001) in one.state.styles
    new = one.add(MARK, AUTO)
    assert new == (AUTO, 26002) and one.style_of(new) == one.state.defaults[AUTO]
    one.undo()
    one.undo()
    assert one.style_of((AUTO, 26001)) != one.style_of((AUTO, 26000)), "it is back, in its style"
    numbers = np.array([[7, 2000]], dtype=np.int32)
    kept = object_number(5, np.array([[7, 1]]), numbers, None, {(5, 3000), (5, 3001), (5, 8000)}, 3000)
    assert kept == 3002, "also of a file that says another next number"
    by_classes = painter(style_by="classes")
    two = EditSession(by_classes, street())
    two.set_style(LEFT, 2)
    assert (CAR, 0) in two.state.styles and two.add(MARK, CAR) == (CAR, 10), "a class's style is no object"


def test_what_counts_from_1_goes_on_from_the_last_of_all() -> None:
    layout = street()
    assert layout.instances is not None
    layout.classes[:, 28:40, 32:44] = TREE
    one = EditSession(painter(), layout)
    assert one.add(MARK, CAR) == (CAR, 10) and RIGHT not in one.regions, "8 is free, but so it is in all such layouts"


def twin(
    label: int, classes: np.ndarray, numbers: np.ndarray, void: int, styled: Collection[tuple[int, int]], fresh: int
) -> int:
    """Pixel by pixel and number by number, from the words of the document."""
    pixels = [(int(c), int(n)) for c, n in zip(classes.flat, numbers.flat, strict=True)]
    mine = [n for c, n in [*pixels, *styled] if c == label and (n < 0 or n > 999)]
    taken = {n for _, n in pixels} | {n for c, n in styled if c == label}
    known = [(c, n) for c, n in pixels if c not in (label, void)]
    stuff = [n for c, n in known if n == c]
    zero_is_none = any(n == 0 and c != 0 for c, n in pixels if c != void)
    official = bool(stuff) and not zero_is_none and label > 0
    for c, n in known:
        if n not in (0, c) and not (n > 999 and str(n)[:-3] == str(c)):
            official = False
    if mine and min(mine) > 0 and len({str(n)[:-3] for n in mine}) == 1:
        candidates = [n for n in range(max(mine) + 1, max(mine) + 1001) if str(n)[:-3] == str(max(mine))[:-3]]
    elif not mine and official:
        candidates = list(range(1000 * label, 1000 * label + 1000))
    else:
        candidates = []
    return next((n for n in candidates if n not in taken), fresh)


def test_numbers_of_objects_are_a_loop_over_pixels() -> None:
    kinds = set()
    for seed in range(400):
        draws = np.random.default_rng(seed)
        classes = draws.integers(0, 6, (4, 5))
        numbers = classes.astype(np.int32)
        own = draws.random((4, 5)) < draws.choice([0.1, 0.5])
        numbers[own] = (classes * 1000 + draws.choice([0, 1, 2, 997, 998, 999], (4, 5)))[own]
        if seed % 4 == 1:  # as anybody numbers
            numbers[draws.random((4, 5)) < 0.3] = int(draws.choice([0, 3, 2001, 4000, -7]))
        if seed % 4 == 2:  # other classes than the numbers say
            classes = (classes + 2) % 6
        styled = {(int(c), int(c) * 1000 + int(n)) for c, n in draws.integers(1, 6, (3, 2)) if seed % 3 == 0}
        fresh = max(1000, int(numbers.max()) + 1, *(n + 1 for _, n in styled))
        for label in range(6):
            found = object_number(label, classes, numbers, 0, styled, fresh)
            assert found == twin(label, classes, numbers, 0, styled, fresh), (seed, label)
            assert found not in numbers and (label, found) not in styled
            kinds.add("last" if found == fresh else "first" if found == 1000 * label else "next")
    assert kinds == {"last", "first", "next"}


SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
CITYSCAPES = SHARED / "data/cityscapes-sample/gtFine"


@pytest.mark.skipif(not CITYSCAPES.is_dir(), reason=f"needs {CITYSCAPES}")
def test_real_streets_stay_official() -> None:
    files = sorted(CITYSCAPES.rglob("*labelIds.png"))[::5]
    assert files
    for file in files:
        layout = Layout.open(file, str(file).replace("labelIds", "instanceIds"))
        one = EditSession(network(), layout, things=THINGS)
        for n, label in enumerate((AUTO, BUS, BICYCLE, BUS, 31, AUTO)):
            before = {number for of, number in one.regions if of == label and number >= 1000}
            new = one.add(MARK, label, None, (10 * n, 10))
            assert new == (label, max(before, default=1000 * label - 1) + 1), file.name
