"""Edits of layouts whose numbers say the class where nothing is counted, as Cityscapes' do: what has objects there, and
what stands behind them; the numbers of what is new."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_painter import CAR, ROAD, SKY, TREE, TinyPainter, painter, street

from photogram import edit_numbers, edits
from photogram.data.toy_layout import VOID, plan
from photogram.editing import EditSession
from photogram.errors import UserError
from photogram.nn.regions import boundaries, find_regions
from photogram.scene import Layout, SceneClass, SceneSpec


def coded_street(coarse: bool = False) -> Layout:
    """Sky (23) over road (7), two cars (26) that touch, a crowd of others, and a pole (17); or of 19 classes and void,
    with the numbers as they were."""
    numbers = torch.full((48, 64), 7, dtype=torch.int32)
    numbers[:20], numbers[10:40, 4:6] = 23, 17
    numbers[28:40, 20:32], numbers[28:40, 32:44], numbers[30:36, 50:60] = 26000, 26001, 26
    numbers[:2, :5], numbers[:2, 5:9] = 1, 4  # the frame of a rectified picture, and what moved
    official = torch.where(numbers >= 1000, numbers // 1000, numbers)
    if not coarse:
        return Layout(official.to(torch.uint8)[None], numbers[None])
    learned = torch.full((35,), 19, dtype=torch.uint8)
    learned[[7, 17, 23, 26]] = torch.tensor([0, 5, 10, 13], dtype=torch.uint8)
    return Layout(learned[official.long()][None], numbers[None])


def city(layout: Layout, **more: object) -> EditSession:
    count = 35 if int(layout.classes.max()) > 19 else 20
    names = [SceneClass(f"class {n}", (n, n, n), count == 20 and n == 19) for n in range(count)]
    network = TinyPainter(SceneSpec(tuple(names), (48, 64), instances=True))
    network.style_centres.copy_(torch.rand(count, 4, 3, generator=torch.Generator().manual_seed(0)))
    network.style_counts.fill_(1)
    return EditSession(network.eval(), layout, **more)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_a_street_in_cityscapes_coding_is_edited_like_any_other(coarse: bool, told: bool) -> None:
    layout = coded_street(coarse)
    car, road, sky = (13, 0, 10) if coarse else (26, 7, 23)
    things = list(range(11, 19) if coarse else range(24, 34))
    one = city(layout, things=things if told else None)
    assert one.state.things == frozenset(things if told else [car])
    left, behind = (car, 26000), one.state.mask((car, 26000))
    before = dict(one.regions)
    one.move(left, 0, -25)
    assert set(one.regions) == set(before), "road stays one region, with its number"
    assert one.regions[left] == before[left] and (one.state.mask((road, 7)) & behind).any()
    one.remove(left)
    assert set(one.regions) == set(before) - {left} and one.regions[road, 7] > before[road, 7]
    assert not boundaries(one.layout)[0, 0, 29:39, 20:30].any(), "no border where it stood"
    assert one.brush(sky, [(30, 24)], 5) == (sky, 23) == one.relabel((road, 7), sky)
    one.undo()
    assert one.brush(car, [(50, 5)], 3) == (car, 26002), "what has objects gets a new one"
    assert one.add(np.ones((3, 3), dtype=bool), road, None, (1, 44)) == (road, 7)
    assert one.relabel((car, 26001), road) == (road, 7)
    one.remove((car, 26002), fill=road)
    one.remove((sky, 23), fill=road)
    assert one.regions[road, 7] > before[road, 7] + before[sky, 23] // 2 and (road, 0) not in one.regions
    assert one.brush(sky, [(30, 24)], 5) == (sky, 1 if coarse else 23), (
        "what is not there gets a number that no other class has"
    )
    assert one.styled is not None
    expected = one.styled.sample_styles(one.layout, torch.tensor([one.style_of(region) for region in one.regions]))
    assert torch.equal(one.render().photo, expected)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_filled_is_the_nearest_of_all_stuff(seed: int) -> None:
    draws, layout = np.random.default_rng(seed), coded_street()
    assert layout.instances is not None
    speckled = torch.from_numpy(draws.random((48, 64)) < 0.1)
    layout.classes[0, speckled], layout.instances[0, speckled] = 17, 17
    one = city(layout)
    state, region = one.state, list(one.regions)[int(draws.integers(len(one.regions)))]
    hole = state.mask(region)
    sources = [(int(y), int(x)) for y, x in np.argwhere(~hole) if state.classes[y, x] != 26]
    one.remove(region)
    for y, x in np.argwhere(hole)[:: 1 + int(hole.sum()) // 40]:
        _, row, column = min((abs(y - r) + abs(x - c), r, c) for r, c in sources)
        assert one.at(x, y) == state.at(column, row), "class and number, and never a crowd's"
    assert (one.state.classes[~hole] == state.classes[~hole]).all()


def test_a_crowd_is_a_region_and_never_what_stands_behind() -> None:
    one = city(coded_street())
    crowd = (26, 26)
    assert one.at(55, 33) == crowd
    one.set_style(crowd, 1)
    one.move(crowd, -14, 0)
    assert one.styled is not None
    assert one.at(41, 33) == crowd and one.style_of(crowd) == tuple(one.styled.style_centres[26, 1].tolist())
    one.remove((26, 26000))
    assert (26, 26000) not in one.regions and one.regions[crowd] == 60
    alone = Layout(*(m[:, 28:, 46:] for m in coded_street() if m is not None))
    assert city(alone).state.things == frozenset(), "nothing is counted there, so nothing has objects"


def test_numbers_that_count_are_told_from_numbers_that_say_the_class() -> None:
    def things(*pairs: tuple[int, int], void: int | None = None) -> frozenset[int]:
        classes, numbers = (np.array([[pair[part] for pair in pairs]]) for part in (0, 1))
        return edit_numbers.counted(classes, numbers.astype(np.int32), void)

    assert things((0, 0), (2, 7), (2, 9)) == {2}, "0 where no object is"
    assert things((0, 0), (2, 1)) == {2} and things((0, 0), (2, 1), (3, 2)) == {2, 3}
    assert things((1, 0), (2, 2)) == {2} and things((1, 0), (0, 1), (2, 2), (3, 3), (3, 4)) == {0, 2, 3}
    assert things((1, 0), (2, 2001), (2, 2002), (3, 3)) == {2, 3}, "class * 1000 + number, and less"
    assert things((0, 0), (2, 1), (2, 2), (3, 0), (9, 9), void=3) == {2}, "void tells nothing: 9 may be its class"
    assert things((0, 256), (104, 104), (182, 182), void=182) == {0}, "COCO by `coco-stuff`: 256 (class + 1) + number"
    assert things((7, 7), (23, 23), (26, 26), (26, 26003)) == {26}
    assert things((0, 7), (10, 23), (13, 26), (13, 26003), (19, 0), (19, 4), void=19) == {13}
    assert things((0, 7), (10, 23), (19, 0), (19, 3), void=19) == frozenset()
    assert things((0, 7), (10, 23), (13, 5), (13, 6)) == {0, 10, 13}, "of two numbers one counts"
    assert things((0, 7), (10, 7)) == {0, 10} and things((0, 7), (10, 0)) == {0}
    assert things((2, -5), (2, 2)) == {2}


def open_again(one: EditSession) -> EditSession:
    """A session of the layout as another leaves it, without what its file would say."""
    return EditSession(one.generator, one.layout)


def test_objects_that_are_counted_from_1_are_found_whatever_their_class() -> None:
    coincidences = 0
    for index in range(24):  # the toy world
        made = plan(3, "train", index, (48, 64))
        numbered = {(int(c), int(n)) for c, n in zip(made.layout.flat, made.instances.flat, strict=True) if c != VOID}
        expected = {label for label, number in numbered if number}
        assert edit_numbers.counted(made.layout, made.instances, VOID) == expected
        coincidences += any({n for c, n in numbered if c == label} == {label} for label in expected)
    assert coincidences, "a class whose only number is its index"
    for seed in range(50):  # COCO: things 0..79 and stuff above, where what is no object has 0
        draws = np.random.default_rng(seed)
        labels = [*draws.integers(0, 80, 12).tolist(), *draws.integers(92, 182, 3).tolist()]
        labels[1], numbers = 2, [*range(1, 13), 0, 0, 0]
        found = edit_numbers.counted(np.array([labels]), np.array([numbers], dtype=np.int32), 182)
        assert found == set(labels[:12]), "2 has number 2"


@pytest.mark.parametrize("seed", range(3))
def test_the_pairs_of_a_layout_are_those_of_all_its_pixels(seed: int) -> None:
    draws = np.random.default_rng(seed)
    classes, picked = draws.integers(0, 4, (9, 11)), draws.integers(0, 5, (9, 11))
    instances = np.array([0, 1, 7, -(1 << 31), (1 << 31) - 1], dtype=np.int32)[picked]
    expected = {(int(c), int(n)) for c, n in zip(classes.flat, instances.flat, strict=True)}
    assert edit_numbers.pairs_of(classes, instances, None) == expected
    assert edit_numbers.pairs_of(classes, instances, 2) == {pair for pair in expected if pair[0] != 2}


@pytest.mark.parametrize(
    ("coarse", "absent", "numbers"), [(False, (8, 0, 22), (8, 0, 22)), (True, (1, 7, 2), (2, 1, 3))]
)
def test_stuff_that_was_not_there_does_not_turn_cityscapes_stuff_into_objects(
    coarse: bool, absent: tuple[int, ...], numbers: tuple[int, ...]
) -> None:
    one = city(coded_street(coarse))
    things = one.state.things
    for label, number in zip(absent, numbers, strict=True):
        assert one.brush(label, [(30 + 4 * label % 30, 24)], 3) == (label, number)
        assert open_again(one).state.things == things
    one.remove((absent[0], numbers[0]), fill=absent[1])
    again = open_again(one)
    assert again.state.things == things and again.regions == one.regions
    assert again.brush(absent[1], [(50, 4)], 3) == (absent[1], numbers[1])


def test_stuff_that_was_not_there_has_0_where_that_is_no_object() -> None:
    one = EditSession(painter(), street())
    one.remove((TREE, 0))
    assert one.brush(TREE, [(5, 5)], 3) == (TREE, 0)
    assert open_again(one).state.things == one.state.things == {CAR}


@pytest.mark.parametrize("coarse", [False, True])
def test_the_first_object_of_a_picture_of_stuff_is_found_again(coarse: bool) -> None:
    layout, car = coded_street(coarse), 13 if coarse else 26
    top = Layout(*(m[:, :28, :44] for m in layout if m is not None))
    one = city(top, things=[car])
    assert one.state.things == {car} and open_again(one).state.things == frozenset()
    first, second = one.brush(car, [(30, 24)], 3), one.brush(car, [(20, 24)], 3)
    begin = 1000 if coarse else 26000
    assert (first, second) == ((car, begin), (car, begin + 1)) and open_again(one).state.things == {car}
    plain = EditSession(painter(), Layout(street().classes), things=[CAR, TREE])
    assert plain.brush(CAR, [(3, 3)], 3) == (CAR, 1), "where 0 is no object, from 1 on"


def test_where_every_class_has_one_object_numbers_cannot_tell() -> None:
    classes = torch.tensor([[[ROAD, ROAD, SKY, CAR, CAR, TREE]]], dtype=torch.uint8)
    numbers = torch.tensor([[[5, 5, 6, 7, 7, 8]]], dtype=torch.int32)
    assert EditSession(painter(), Layout(classes, numbers)).state.things == frozenset()
    one = EditSession(painter(), Layout(classes, numbers), things=[CAR, TREE])
    one.remove((CAR, 7))
    assert one.regions == {(ROAD, 5): 2, (SKY, 6): 3, (TREE, 8): 1}, "filled with stuff, and never with the tree"


def test_object_numbers_go_up_to_the_largest_of_32_bits(tmp_path: Path) -> None:
    largest, layout = (1 << 31) - 1, street()
    assert layout.instances is not None
    layout.instances[layout.instances == 9] = largest - 1
    one = EditSession(painter(), layout)
    last = one.brush(CAR, [(5, 5)], 3)
    assert last == (CAR, largest)
    one.save(tmp_path / "a.npz")
    for session in (one, open_again(one), EditSession.load(tmp_path / "a.npz", one.generator)):
        assert session.regions[last] == 9
        session.move(last, 10, 0)
        assert session.at(15, 5) == last and find_regions(session.layout).objects.max() == largest
        with pytest.raises(UserError, match="object 2147483648: there are no larger numbers"):
            session.brush(CAR, [(25, 5)], 3)
    for number in (1 << 31, -(1 << 31) - 1):
        beyond = Layout(layout.classes, torch.full((1, 48, 64), number))
        with pytest.raises(UserError, match=rf"object number {number}: must be -2147483648 to 2147483647 \(32 bits\)"):
            edits.first_state(painter(), beyond, None)


def test_a_class_of_several_numbers_has_none_for_what_joins_it() -> None:
    layout = street()
    assert layout.instances is not None
    layout.instances[:, :20], layout.instances[:, 10:30, 2:10] = 3, 5
    one = EditSession(painter(), layout, things=[CAR])
    assert one.brush(SKY, [(40, 44)], 3) == (SKY, 3)
    layout.instances[:, :10] = 4
    one = EditSession(painter(), layout, things=[CAR])
    assert one.brush(SKY, [(40, 44)], 3) == (SKY, 0) and one.brush(SKY, [(40, 44)], 3, into=(SKY, 4)) == (SKY, 4)
    one.remove((SKY, 4), fill=SKY)
    assert (SKY, 4) not in one.regions
    with pytest.raises(UserError, match=r"there is no object 4 of class 1"):
        one.brush(SKY, [(40, 44)], 3, into=(SKY, 4))


SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
AACHEN = SHARED / "data/cityscapes-sample/gtFine/train/aachen"


@pytest.mark.skipif(not AACHEN.is_dir(), reason=f"needs {AACHEN}")
def test_what_has_objects_in_real_streets_of_cityscapes() -> None:
    official = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    learned = np.full(256, 19, dtype=np.uint8)
    learned[official] = np.arange(19)
    streets = sorted(AACHEN.glob("*labelIds.png"))[:4]
    assert streets
    for street_file in streets:
        layout = Layout.open(street_file, str(street_file).replace("labelIds", "instanceIds"))
        assert layout.instances is not None
        classes, numbers = layout.classes[0].numpy(), layout.instances[0].numpy().astype(np.int32)
        expected = {int(label) for label in np.unique(classes[numbers >= 1000])}
        assert expected and edit_numbers.counted(classes, numbers, 0) == expected == edit_numbers.counted(
            classes, numbers, None
        )
        renumbered = {int(learned[label]) for label in expected} - {19}
        assert edit_numbers.counted(learned[classes], numbers, 19) == renumbered


@pytest.mark.skipif(not AACHEN.is_dir(), reason=f"needs {AACHEN}")
def test_a_real_street_of_cityscapes_is_edited() -> None:
    files = (AACHEN / f"aachen_000004_000019_gtFine_{kind}Ids.png" for kind in ("label", "instance"))
    one = city(Layout.open(*files))
    before = dict(one.regions)
    assert one.state.things == {label for label, number in before if number >= 1000} > {24, 26, 33}
    assert (26, 26) in before and (33, 33) in before, "it has crowds"
    cars = [region for region in before if region[0] == 26 and region[1] >= 1000]
    one.move(cars[0], 40, 30)
    one.remove(cars[1])
    assert set(one.regions) <= set(before) - {cars[1]}, "nothing is broken in two"
    assert all(number in (label, 0) for label, number in one.regions if label not in one.state.things)
    one.add(np.ones((40, 60), dtype=bool), 26, 2, (900, 700))
    road = one.regions[7, 7]
    assert one.brush(7, [(100.0, 100.0), (500.0, 150.0)], 40) == (7, 7) and one.regions[7, 7] > road + 400 * 40
    while one.undo():
        pass
    assert one.regions == before
