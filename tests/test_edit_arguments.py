"""What an edit session is given: mistakes end in one line, and NumPy's numbers are as good as Python's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_painter import CAR, LEFT, ROAD, SKY, TREE, bits, painter, spec, street

from photogram.editing import EditSession
from photogram.errors import UserError
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import Layout


def any_(value: object) -> Any:
    """Of no type that a type checker knows."""
    return value


def test_a_network_that_was_trained_with_objects_asks_for_them(tmp_path: Path) -> None:
    network = CoarseToFineGenerator(spec=spec(), width=1, downsamplings=1, blocks=1).eval()
    bare = Layout(street().classes)
    said = r"CoarseToFineGenerator was trained with instance maps.*Layout\.open\(path, instances_path\)"
    with pytest.raises(UserError, match=said):
        EditSession(network, bare)
    with pytest.raises(UserError, match="CoarseToFineGenerator was trained with instance maps"):
        network.sample(bare)
    EditSession(network, street()).save(tmp_path / "a.npz")
    assert EditSession.load(tmp_path / "a.npz", network).regions == EditSession(network, street()).regions


def test_photographs_beyond_their_range_give_no_styles() -> None:
    one, photo = EditSession(painter(), street()), torch.rand(1, 3, 48, 64) * 2 - 1
    before = bits(one)
    photo[0, 0, 0, 0] = -1.05
    for wrong, said in (
        ((photo + 1) * 127.5, r"values from -6\.\d+ to 25\d\.?\d*, but they must be in \[-1, 1\]"),
        (photo / 0, "values from -inf to inf|from nan"),
        (photo.clamp(0).to(torch.uint8), r"tensor of uint8 \[1, 3, 48, 64\]; it must be floating"),
        (photo[0], r"tensor of float32 \[3, 48, 64\]"),
        ("photo.png", r"photo is a str; .*photogram\.scene\.open_photo"),
    ):
        for take in (one.take_styles, lambda wrong: one.take_style(LEFT, wrong, street(), LEFT)):
            with pytest.raises(UserError, match=said):
                take(any_(wrong))
    with pytest.raises(UserError, match="source: is of class 1, but the region of class 2"):
        one.take_style(LEFT, photo, street(), (SKY, 0))
    with pytest.raises(UserError, match="no object 3 of class 2"):
        one.take_style((CAR, 3), photo, street(), LEFT)
    with pytest.raises(UserError, match="layout is a str; give a Layout"):
        one.take_style(LEFT, photo, any_("layout.png"), LEFT)
    assert bits(one) == before
    one.take_styles(photo)
    assert bits(one) != before, "a little beyond is a sharp filter's"


def test_arguments_of_other_kinds_are_refused_in_one_line(tmp_path: Path) -> None:
    one, square = EditSession(painter(), street()), np.ones((2, 2), dtype=bool)
    before, network = bits(one), any_(one.generator)
    mistakes: dict[str, Callable[[], object]] = {
        "x 1.5: must be an integer": lambda: any_(one).at(x=1.5, y=0),
        "dx 0.5: must be an integer": lambda: any_(one).move(LEFT, 0.5, 1),
        r"position \(0.5, 1\): must be x and y, two integers": lambda: any_(one).add(square, CAR, None, (0.5, 1)),
        "position 3: must be": lambda: any_(one).add(square, CAR, position=3),
        "width 2.5: must be an integer": lambda: any_(one).brush(ROAD, [(1, 1)], 2.5),
        "width -3: must be 1 to": lambda: any_(one).brush(ROAD, [(1, 1)], -3),
        "points 3: a stroke": lambda: any_(one).brush(ROAD, 3, 3),
        r"points \[\('a', 1\)\]: a stroke": lambda: any_(one).brush(ROAD, [("a", 1)], 3),
        "nothing of the stroke would be inside": lambda: any_(one).brush(CAR, [(-50, -50)], 5),
        r"mask is an array of bool \[1, 2, 2\]; it must be": lambda: any_(one).add(square[None], CAR),
        r"mask is an array of float64 \[2, 2\]; it must be": lambda: any_(one).add(square * 1.0, CAR),
        "mask is a list": lambda: any_(one).add([[True]], CAR),
        r"\[0, 2\], but it marks no pixel": lambda: any_(one).add(square[:0], CAR),
        r"\[2, 2\], but it marks no pixel": lambda: any_(one).add(~square, CAR),
        "style 'red': must be the number of a cluster": lambda: any_(one).set_style(LEFT, "red"),
        "style None: must be": lambda: any_(one).set_style(LEFT, None),
        "region 26: must be a class and an object number": lambda: any_(one).set_style(26, 0),
        "region 'ab': must be": lambda: any_(one).remove("ab"),
        "into 7: must be": lambda: any_(one).brush(CAR, [(1, 1)], 3, into=7),
        r"regions: a|regions 3: must": lambda: any_(one).sample_styles(1, 3),
        "seed -1: must be": lambda: any_(one).sample_styles(-1),
        "label 'car': must be an integer": lambda: any_(one).relabel(LEFT, "car"),
        "fill 'foo': must be a class by its number, or 'nearest'": lambda: any_(one).remove(LEFT, fill="foo"),
        "factor '2': must be a number": lambda: any_(one).scale(LEFT, "2"),
        r"factor 1e\+300: must be at most 16, where it is 4 frames": lambda: any_(one).scale(LEFT, 1e300),
        "factor inf: must be at most": lambda: any_(one).scale(LEFT, float("inf")),
        "divisor 2.0: must be an integer": lambda: any_(one).preview(2.0),
        "path is a TinyPainter; give the name of a file": lambda: EditSession.load(network, any_(tmp_path)),
        "generator is an? .*Path; give a network": lambda: EditSession.load("a.npz", any_(tmp_path)),
        "generator is a str; give a network that paints": lambda: EditSession(any_("runs/g2"), street()),
        "layout is a str; give a Layout": lambda: EditSession(network, any_("layout.png")),
        "things 'car': must be a list of classes": lambda: EditSession(network, street(), things=any_("car")),
        "things 2.5: must be an integer": lambda: EditSession(network, street(), things=any_([2.5])),
        "seed 0.5: must be an integer": lambda: EditSession(network, street(), seed=any_(0.5)),
        "style 'best': must be common or drawn": lambda: EditSession(network, street(), style=any_("best")),
    }
    for said, mistake in mistakes.items():
        with pytest.raises(UserError, match=said) as raised:
            mistake()
        assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)
        assert bits(one) == before and not one.undo()


def test_numpys_numbers_are_as_good_as_pythons() -> None:
    one, twin, n = EditSession(painter(), street()), EditSession(painter(), street()), any_(np.int64)
    assert one.at(n(25), any_(np.uint8(30))) == LEFT
    one.set_style(LEFT, n(1))
    one.set_class_style(n(SKY), any_(np.array([0.5, 0.25, 0.0])))
    one.move((n(CAR), n(7)), n(-3), any_(np.int16(4)), fill=n(ROAD))
    added = one.add(np.ones((3, 3), dtype=bool), n(CAR), n(2), (n(40), n(2)))
    one.brush(n(TREE), any_(np.array([[5.5, 3.0], [9.0, 4.0]])), n(3))
    twin.set_style(LEFT, 1)
    twin.set_class_style(SKY, (0.5, 0.25, 0.0))
    twin.move(LEFT, -3, 4, fill=ROAD)
    assert added == twin.add(np.ones((3, 3), dtype=bool), CAR, 2, (40, 2))
    twin.brush(TREE, [(5.5, 3.0), (9.0, 4.0)], 3)
    assert bits(one) == bits(twin)
    assert all(type(v) is int for region in [added, *one.state.styles] for v in region)
