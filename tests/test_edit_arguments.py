"""What an edit session is given: mistakes end in one line, and NumPy's numbers are as good as Python's."""

from __future__ import annotations

import inspect
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
        "regions 3: must be a list of regions": lambda: any_(one).sample_styles(1, 3),
        "seed -1: must be": lambda: any_(one).sample_styles(-1),
        "label 'car': must be a class by its number, its id in classes.json$": lambda: any_(one).relabel(LEFT, "car"),
        "fill 'foo': must be a class by its number, or 'nearest'": lambda: any_(one).remove(LEFT, fill="foo"),
        "factor '2': must be a number": lambda: any_(one).scale(LEFT, "2"),
        r"factor 1e\+300: must be at most 16, where it is 4 frames": lambda: any_(one).scale(LEFT, 1e300),
        "factor inf: must be at most": lambda: any_(one).scale(LEFT, float("inf")),
        "divisor 2.0: must be an integer": lambda: any_(one).preview(2.0),
        "path is a TinyPainter; give the name of a file": lambda: EditSession.load(network, any_(tmp_path)),
        "generator is a (Posix|Windows)Path; give a network": lambda: EditSession.load("a.npz", any_(tmp_path)),
        "generator is a str; give a network that paints": lambda: EditSession(any_("runs/g2"), street()),
        "layout is a str; give a Layout": lambda: EditSession(network, any_("layout.png")),
        "things 'car': must be a list of classes": lambda: EditSession(network, street(), things=any_("car")),
        "things 2.5: must be a class by its number, its id in classes.json$": lambda: EditSession(
            network, street(), things=any_([2.5])
        ),
        "seed 0.5: must be an integer": lambda: EditSession(network, street(), seed=any_(0.5)),
        "style 'best': must be common or drawn": lambda: EditSession(network, street(), style=any_("best")),
    }
    for said, mistake in mistakes.items():
        with pytest.raises(UserError, match=said) as raised:
            mistake()
        assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)
        assert bits(one) == before and not one.undo()


HUGE = 10**400
VAST = 10**5000
"""More digits than Python writes out."""
NEVER: dict[str, object] = {
    "bytes": b"ab",
    "no bytes": b"",
    "bytearray": bytearray(b"\x02\x07"),
    "text": "12",
    "listed text": ["12", "34"],
    "listed bytes": [b"12"],
    "nan": float("nan"),
    "listed nan": [float("nan"), 7],
    "huge": HUGE,
    "vast": VAST,
    "listed huge": [HUGE, 1],
    "listed vast": [VAST, 1],
    "huge pairs": [(HUGE, 1)],
    "complex": 1j,
    "a real number without dimensions": np.array(0.5),
    "a tensor without dimensions": torch.tensor(0.5),
    "no object": np.array(None),
    "a vast array": np.array(VAST, dtype=object),
    "text without dimensions": np.array("nearest"),
    "nan array": np.full(2, np.nan),
    "an array of three dimensions": np.ones((1, 2, 2)),
    "nested": [[[1, 2]], [[3, 4]]],
    "ragged": [[1, 2], [3]],
    "a nested tensor": torch.ones(1, 1, 2),
    "arrays in a list": [np.array([[5.0]]), np.array([[1.0]])],
    "a table": {"a": 1},
    "a table in a list": [{1: 2, 3: 4}],
    "a set in a list": [{1.5, 2.5}],
    "nothing": object(),
}
EMPTY: dict[str, object] = {"list": [], "array": np.zeros(0), "tensor": torch.zeros(0), "pairs": np.zeros((0, 2))}
LISTS = ("regions", "things")
"""Of these parameters an empty list is one."""


def parameters(one: EditSession, folder: Path) -> dict[str, Callable[[Any], object]]:
    """Every parameter of a session's constructor and methods, each given by itself."""
    two, network = any_(one), any_(one.generator)
    square, photo = np.ones((2, 2), dtype=bool), torch.zeros(1, 3, 48, 64)
    one.save(folder / "a.npz")
    return {
        "generator": lambda v: EditSession(v, street()),
        "layout": lambda v: EditSession(network, v),
        "things": lambda v: EditSession(network, street(), things=v),
        "seed": lambda v: EditSession(network, street(), seed=v),
        "options": lambda v: EditSession(network, street(), options=v),
        "style (how it begins)": lambda v: EditSession(network, street(), style=v),
        "x": lambda v: two.at(v, 1),
        "y": lambda v: two.at(1, v),
        "region (style_of)": lambda v: two.style_of(v),
        "region (box)": lambda v: two.box(v),
        "least": lambda v: two.box(LEFT, v),
        "divisor": lambda v: two.preview(v),
        "region (gallery)": lambda v: two.gallery(v),
        "label (brush)": lambda v: two.brush(v, [(1, 1)], 3),
        "points": lambda v: two.brush(CAR, v, 3),
        "width": lambda v: two.brush(CAR, [(1, 1)], v),
        "into": lambda v: two.brush(CAR, [(1, 1)], 3, v),
        "mask": lambda v: two.add(v, CAR),
        "label (add)": lambda v: two.add(square, v),
        "style (add)": lambda v: two.add(square, CAR, v),
        "position": lambda v: two.add(square, CAR, None, v),
        "region (move)": lambda v: two.move(v, 1, 1),
        "dx": lambda v: two.move(LEFT, v, 1),
        "dy": lambda v: two.move(LEFT, 1, v),
        "fill": lambda v: two.move(LEFT, 1, 1, v),
        "region (scale)": lambda v: two.scale(v, 2.0),
        "fill (scale)": lambda v: two.scale(LEFT, 2.0, v),
        "region (remove)": lambda v: two.remove(v),
        "fill (remove)": lambda v: two.remove(LEFT, v),
        "region (relabel)": lambda v: two.relabel(v, ROAD),
        "label (relabel)": lambda v: two.relabel(LEFT, v),
        "region (set_style)": lambda v: two.set_style(v, 0),
        "style (set_style)": lambda v: two.set_style(LEFT, v),
        "label (set_class_style)": lambda v: two.set_class_style(v, 0),
        "style (set_class_style)": lambda v: two.set_class_style(CAR, v),
        "seed (sample_styles)": lambda v: two.sample_styles(v),
        "regions": lambda v: two.sample_styles(1, v),
        "region (take_style)": lambda v: two.take_style(v, photo, street(), LEFT),
        "photo": lambda v: two.take_style(LEFT, v, street(), LEFT),
        "layout (take_style)": lambda v: two.take_style(LEFT, photo, v, LEFT),
        "source": lambda v: two.take_style(LEFT, photo, street(), v),
        "photo (take_styles)": lambda v: two.take_styles(v),
        "generator (load)": lambda v: EditSession.load(folder / "a.npz", v),
        "options (load)": lambda v: EditSession.load(folder / "a.npz", network, options=v),
        "strict": lambda v: EditSession.load(folder / "a.npz", network, strict=v),
    }


def test_no_argument_of_another_kind_ends_in_a_traceback(tmp_path: Path) -> None:
    one = EditSession(painter(), street())
    given = parameters(one, tmp_path)
    asked = {(name, p) for name, f in vars(EditSession).items() for p in _parameters_of(name, f)}
    assert {p for _, p in asked} == {name.split()[0] for name in given} | {"factor", "path"}, "every parameter"
    before = bits(one)
    for name, give in given.items():
        wrong = NEVER if name.split()[0] in LISTS else NEVER | EMPTY
        for kind, value in wrong.items():
            with pytest.raises(UserError) as raised:
                give(value)
                pytest.fail(f"{name}: {kind} was taken")
            said = str(raised.value)
            assert len(said) < 200 and "\n" not in said, f"{name}: {kind}: {said}"
            assert bits(one) == before and not one.undo(), f"{name}: {kind}"
    for kind, value in (NEVER | EMPTY).items():
        if kind in ("a real number without dimensions", "a tensor without dimensions"):
            continue  # they are factors
        with pytest.raises(UserError, match=r"^factor"):
            any_(one).scale(LEFT, value)
        if isinstance(value, str):
            continue  # it may be a path
        for use in (any_(one).save, lambda v: EditSession.load(v, any_(one.generator))):
            with pytest.raises(UserError, match=r"^path is an?"):
                use(value)
    for name in ("", ".", "/", "a\0.npz"):
        for use in (one.save, lambda v: EditSession.load(v, one.generator)):
            with pytest.raises(UserError, match=r"^path .*: is no name of a file"):
                use(name)
    assert bits(one) == before and not one.undo()


def _parameters_of(name: str, member: object) -> list[str]:
    """The parameters of a constructor or public method."""
    member = member.__func__ if isinstance(member, classmethod) else member
    if not inspect.isfunction(member) or (name.startswith("_") and name != "__init__"):
        return []
    return [p for p in inspect.signature(member).parameters if p not in ("self", "cls")]


def test_what_is_wrong_is_said_with_what_it_must_be() -> None:
    one, network = EditSession(painter(), street()), any_(painter())
    begin = EditSession
    for said, mistake in {
        "style an int: must be the number of a cluster": lambda: any_(one).set_style(LEFT, VAST),
        "style a list: must be the number of a cluster": lambda: any_(one).set_style(LEFT, [VAST]),
        r"style \[1000.*000\]: must be the number of a cluster": lambda: any_(one).set_style(LEFT, [HUGE]),
        r"style an array of float64 \[1, 3\]": lambda: any_(one).set_style(LEFT, np.ones((1, 3))),
        "things an array of int64 \\[\\]: must be a list of classes": lambda: begin(
            network, street(), things=any_(np.array(2))
        ),
        "things b'\\\\x02': must be a list of classes": lambda: begin(network, street(), things=any_(b"\x02")),
        r"style an array of int64 \[2\]: must be common or drawn": lambda: begin(
            network, street(), style=any_(np.array([1, 2]))
        ),
        "seed 9223372036854775808: must be an integer of 0 or more": lambda: any_(one).sample_styles(1 << 63),
        "x 9223372036854775808: must be an integer of at most 64 bits": lambda: any_(one).at(1 << 63, 0),
        "label 'road': must be a class by its number, its id in classes.json$": lambda: any_(one).brush(
            "road", [(1, 1)], 3
        ),
        "things 'car': must be a class by its number": lambda: begin(network, street(), things=any_(["car"])),
        "things 'car': must be a list of classes, each by its number$": lambda: begin(
            network, street(), things=any_("car")
        ),
        "strict 1: must be True or False": lambda: EditSession.load("a.npz", network, strict=any_(1)),
    }.items():
        with pytest.raises(UserError, match=said):
            mistake()


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
