"""Scenes: class lists, specs, layouts, batches, and the way between pixels and [-1, 1]."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from photogram.errors import UserError
from photogram.images import read_photo, resize_labels, write_image
from photogram.scene import (
    Condition,
    Layout,
    Scene,
    SceneClass,
    SceneSpec,
    check_layout,
    collate,
    draw,
    from_pixels,
    one_hot,
    open_photo,
    read_classes,
    save,
    to_pixels,
    write_classes,
)

MANY = settings(deadline=None, database=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
BYTE = st.integers(0, 255)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
KINDS = st.builds(SceneClass, NAME, st.tuples(BYTE, BYTE, BYTE))


@st.composite
def class_lists(draw, least: int = 1):
    classes = draw(st.lists(KINDS, min_size=least, max_size=6))
    void = draw(st.none() | st.integers(0, max(0, len(classes) - 1)))
    return tuple(replace(c, void=i == void) for i, c in enumerate(classes))


def spec_of(number: int) -> SceneSpec:
    return SceneSpec((SceneClass("c", (1, 2, 3)),) * number)


def random_layout(n: int, h: int, w: int, classes: int = 9, instances: bool = True) -> Layout:
    rng = np.random.default_rng(h * 100 + w)
    maps = torch.from_numpy(rng.integers(0, classes, (n, h, w)).astype(np.uint8))
    objects = torch.from_numpy(rng.integers(0, 70000, (n, h, w)).astype(np.int32))
    return Layout(maps, objects if instances else None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scene")


# classes.json

GOOD = {"id": 0, "name": "sky", "color": [1, 2, 3]}
BAD_CLASSES = {
    "no json": ("[{", "cannot be read as JSON"),
    "no text": (b"\xff\xfe\x00", "cannot be read as JSON"),
    "an object": ({}, "must be a list"),
    "nothing": ([], "at least one class"),
    "no entry": ([7], "entry 0 is 7"),
    "unknown key": ([GOOD | {"colour": 1}], "unknown key 'colour'", "id, name, color, void"),
    "no id": ([{"name": "sky", "color": [1, 2, 3]}], "entry 0 has id None"),
    "text id": ([GOOD | {"id": "0"}], "id '0'", "0..65535"),
    "true id": ([GOOD | {"id": True}], "id True"),
    "float id": ([GOOD | {"id": 0.0}], "id 0.0"),
    "negative id": ([GOOD | {"id": -1}], "id -1", "0..65535"),
    "large id": ([GOOD | {"id": 65536}], "id 65536", "0..65535"),
    "no name": ([{"id": 0, "color": [1, 2, 3]}], "name None"),
    "empty name": ([GOOD | {"name": ""}], "name ''"),
    "number name": ([GOOD | {"name": 3}], "name 3"),
    "no color": ([{"id": 0, "name": "sky"}], "color None", "[red, green, blue]"),
    "two colors": ([GOOD | {"color": [1, 2]}], "(sky) has color [1, 2]"),
    "bright color": ([GOOD | {"color": [1, 2, 256]}], "0..255"),
    "dark color": ([GOOD | {"color": [1, 2, -1]}], "0..255"),
    "float color": ([GOOD | {"color": [0.5, 0.5, 0.5]}], "0..255"),
    "text color": ([GOOD | {"color": "#123"}], "'#123'"),
    "text void": ([GOOD | {"void": "yes"}], "\"void\": 'yes'", "true or false"),
    "number void": ([GOOD | {"void": 1}], '"void": 1', "true or false"),
    "given twice": ([GOOD, GOOD | {"name": "sea"}], "id 0 is given twice", "'sky'", "'sea'"),
    "a gap": ([GOOD, GOOD | {"id": 2}], "without gaps", "1 is missing"),
    "starts at 1": ([GOOD | {"id": 1}], "0 is missing"),
    "two voids": (
        [GOOD | {"void": True}, GOOD | {"id": 1, "name": "sea", "void": True}],
        "only one",
        "'sky', 'sea'",
    ),
}


@pytest.mark.parametrize("name", BAD_CLASSES)
def test_a_wrong_class_list_is_refused_in_one_line(tmp_path, name):
    content, *words = BAD_CLASSES[name]
    path = tmp_path / "classes.json"
    if isinstance(content, str | bytes):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    else:
        path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        read_classes(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and all(w in message for w in words), message


def test_a_class_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"classes\.json: no such file"):
        read_classes(tmp_path / "classes.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_classes(tmp_path)


def test_the_order_of_the_file_does_not_matter_and_void_is_optional(tmp_path):
    entries = [
        {"id": 1, "name": "b", "color": [4, 5, 6], "void": True},
        GOOD,
        {**GOOD, "id": 2, "void": False},
    ]
    (tmp_path / "classes.json").write_text(json.dumps(entries))
    classes = read_classes(tmp_path / "classes.json")
    assert [c.name for c in classes] == ["sky", "b", "sky"] and [c.void for c in classes] == [
        False,
        True,
        False,
    ]
    assert SceneSpec(classes).void == 1 and SceneSpec(classes[:1]).void is None


@MANY
@given(class_lists())
def test_written_classes_are_read_back(folder, classes):
    write_classes(classes, folder / "classes.json")
    assert read_classes(folder / "classes.json") == classes


# SceneSpec

COUNT = st.integers(0, 2**40)
SPECS = st.builds(
    SceneSpec,
    class_lists(0),
    st.tuples(COUNT, COUNT),
    st.booleans(),
    COUNT,
    st.sampled_from((8, 16, 32)),
    COUNT,
    COUNT,
)


@MANY
@given(SPECS)
def test_a_spec_survives_json(spec):
    again = SceneSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and hash(again) == hash(spec) and SceneSpec.from_json(spec.to_json()) == spec


def test_a_spec_counts_its_classes_and_changes_its_size():
    assert spec_of(12).num_classes == 12 and SceneSpec().num_classes == 0
    assert spec_of(3).resized((10, 20)) == replace(spec_of(3), size=(10, 20))


@pytest.mark.parametrize(
    ("change", "words"),
    (
        ({"extra": 1}, "extra"),
        ({"size": None}, "size"),
        ({"size": [1]}, r"size is \[1\]"),
        ({"size": [1.5, 2]}, "height, width"),
        ({"size": "12"}, "height, width"),
        ({"instances": 1}, "instances is 1"),
        ({"photo_bits": "8"}, "photo_bits is '8'"),
        ({"image_channels": -1}, "image_channels is -1"),
        ({"image_channels": True}, "image_channels is True"),
        ({"classes": 3}, "classes is 3"),
        ({"classes": [3]}, "class 0 is 3"),
        ({"classes": [{"name": "a", "color": [1, 2, 3]}]}, "name, color and void"),
        ({"classes": [{"name": "a", "color": [1, 2], "void": False}]}, "color"),
        ({"classes": [{"name": "a", "color": [1, 2, 3], "void": False, "id": 0}]}, "name, color and void"),
    ),
)
def test_a_spec_that_does_not_fit_is_refused(change, words):
    with pytest.raises(UserError, match=words) as caught:
        SceneSpec.from_json({**spec_of(2).to_json(), **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", SceneSpec().to_json())
def test_a_spec_with_a_field_missing_is_refused(field):
    values = spec_of(2).to_json()
    del values[field]
    with pytest.raises(UserError, match=field):
        SceneSpec.from_json(values)


# layouts


@MANY
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 300))
def test_one_hot_is_a_loop(n, h, w, number):
    classes = torch.from_numpy(np.random.default_rng(n).integers(0, number, (n, h, w)).astype(np.int32))
    for typed in (classes, classes.long(), *([classes.to(torch.uint8)] if number <= 256 else [])):
        planes = one_hot(typed, number)
        slow = torch.zeros(n, number, h, w)
        for i, row, column in np.ndindex(n, h, w):
            slow[i, int(classes[i, row, column]), row, column] = 1
        assert planes.dtype == torch.float32 and torch.equal(planes, slow)


def test_an_unknown_class_is_named_with_its_place():
    layout = random_layout(2, 6, 8)
    layout.classes[1, 3, 5], layout.classes[1, 4, 0] = 34, 35
    with pytest.raises(UserError) as caught:
        check_layout(layout, spec_of(20), "layouts/0007.png")
    assert str(caught.value) == (
        "layouts/0007.png: class 34 at (row 3, column 5), but there are only classes 0..19; "
        "`photogram prepare palette --map` sends the classes of other data to these"
    )
    check_layout(layout, spec_of(36))


@pytest.mark.parametrize("dtype", (torch.uint8, torch.int16, torch.int32, torch.int64))
@pytest.mark.parametrize("number", (1, 20, 255, 256, 257, 300, 40000))
def test_all_numbers_of_classes_are_checked_alike(dtype, number):
    last = min(number - 1, torch.iinfo(dtype).max)
    check_layout(Layout(torch.tensor([[[0, last]]], dtype=dtype)), spec_of(number))
    if number <= torch.iinfo(dtype).max:
        with pytest.raises(UserError, match=rf"class {number} at \(row 0, column 1\)"):
            check_layout(Layout(torch.tensor([[[0, number]]], dtype=dtype)), spec_of(number))
    if dtype != torch.uint8:
        with pytest.raises(UserError, match=r"class -1 at \(row 1, column 0\)"):
            check_layout(Layout(torch.tensor([[[0], [-1]]], dtype=dtype)), spec_of(number))


def test_a_layout_opens_with_its_instances_or_says_why_not(tmp_path):
    classes, objects = random_layout(1, 10, 14)
    assert objects is not None
    write_image(classes[0].numpy(), tmp_path / "a.png")
    write_image((objects[0] % 65536).numpy().astype(np.uint16), tmp_path / "i.png")
    layout = Layout.open(tmp_path / "a.png", tmp_path / "i.png")
    assert layout.size == Condition(layout).size == (10, 14) and torch.equal(layout.classes, classes)
    assert layout.instances is not None and torch.equal(layout.instances, objects % 65536)
    assert Layout.open(tmp_path / "a.png").instances is None
    write_image(np.zeros((14, 10), np.uint16), tmp_path / "j.png")
    with pytest.raises(UserError, match=r"j\.png: is 14 x 10, but the layout .*a\.png is 10 x 14"):
        Layout.open(tmp_path / "a.png", tmp_path / "j.png")


@pytest.mark.parametrize("suffix", ("png", "tif", "npy"))
@pytest.mark.parametrize(("most_class", "most_object"), ((34, 33005), (255, 255), (256, 65535), (65535, 1)))
def test_a_layout_is_written_and_opened_again(tmp_path, suffix, most_class, most_object):
    draws = np.random.default_rng(0)
    classes = torch.from_numpy(draws.integers(0, most_class + 1, (1, 7, 9)).astype(np.int32))
    objects = torch.from_numpy(draws.integers(0, most_object + 1, (1, 7, 9)))
    classes[0, 0, 0], objects[0, 0, 0] = most_class, most_object
    for kind in (torch.int32, torch.int64, torch.uint8) if most_class < 256 else (torch.int32, torch.int64):
        first, second = tmp_path / f"a.{suffix}", tmp_path / f"i.{suffix}"
        Layout(classes.to(kind), objects).save(first, second)
        again = Layout.open(first, second)
        assert again.instances is not None and again.instances.tolist() == objects.tolist()
        assert again.classes.tolist() == classes.tolist()
        assert again.classes.dtype == (torch.uint8 if most_class < 256 else torch.int32)
    if suffix == "png":
        with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "i.png") as i:
            assert a.mode == ("L" if most_class < 256 else "I;16") and i.mode == "I;16"
    Layout(classes, objects).save(str(tmp_path / "alone.png"))
    assert Layout.open(tmp_path / "alone.png").classes.tolist() == classes.tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{suffix}", "alone.png", f"i.{suffix}"]


def test_numbers_of_32_bits_are_written_as_tiff(tmp_path):
    layout = Layout(torch.zeros(1, 1, 3, dtype=torch.uint8), torch.tensor([[[0, 65536, 2**31 - 1]]]))
    layout.save(tmp_path / "a.png", tmp_path / "i.tif")
    again = Layout.open(tmp_path / "a.png", tmp_path / "i.tif")
    assert again.instances is not None and again.instances.tolist() == [[[0, 65536, 2**31 - 1]]]


def test_a_layout_that_cannot_be_written_is_refused_in_one_line_and_nothing_is(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder.png").mkdir()
    zeros = torch.zeros(1, 2, 2, dtype=torch.int32)
    plain, alone = Layout(zeros, zeros), Layout(zeros)
    cases = (
        (
            Layout(zeros.repeat(2, 1, 1)),
            "a.png",
            None,
            "a.png: holds one layout, integers [1, h, w], but this is torch.int32 [2, 2, 2]",
        ),
        (Layout(zeros[:0]), "a.png", None, "this is torch.int32 [0, 2, 2]"),
        (Layout(zeros[:, :0]), "a.png", None, "this is torch.int32 [1, 0, 2]"),
        (
            Layout(zeros[0]),
            "a.png",
            None,
            "a.png: holds one layout, integers [1, h, w], but this is torch.int32 [2, 2]",
        ),
        (Layout(zeros[None]), "a.png", None, "this is torch.int32 [1, 1, 2, 2]"),
        (Layout(zeros + 0.5), "a.png", None, "this is torch.float32 [1, 2, 2]"),
        (Layout(zeros.numpy()), "a.png", None, "this is ndarray"),  # pyright: ignore[reportArgumentType]
        (Layout(zeros, zeros + 0.5), "a.png", "i.png", "i.png: holds one layout, integers"),
        (plain, "a.png", "folder.png/../a.png", "a.png: cannot hold classes and object numbers; give two files"),
        (alone, "a.png", "i.png", "i.png: the layout has no object numbers; leave this file out"),
        (Layout(zeros, zeros[:, :1]), "a.png", "i.png", "i.png: object numbers [1, 1, 2], classes [1, 2, 2]"),
        (plain, "a.jpg", "i.png", "a.jpg: layouts are written as .png, .tif or .npy"),
        (plain, "a", "i.png", "a: layouts are written as"),
        (plain, "a.png", "i.jpg", "i.jpg: label maps are written as .png, .tif or .npy"),
        (plain, "a.png", "a.png", "a.png: cannot hold classes and object numbers; give two files"),
        (Layout(zeros - 1, zeros), "a.png", "i.png", "a.png: class -1: must be 0..65535"),
        (Layout(zeros + 65536, zeros), "a.tif", "i.png", "a.tif: class 65536: must be 0..65535"),
        (Layout(zeros, zeros - 5), "a.png", "i.png", "i.png: cannot hold -5, but 0..65535"),
        (Layout(zeros, zeros + 65536), "a.png", "i.png", "i.png: cannot hold 65536, but 0..65535; a .tif holds it"),
        (Layout(zeros, zeros.long() + 2**31), "a.png", "i.tif", "i.tif: cannot hold 2147483648, but 0..2147483647"),
        (Layout(zeros, zeros.long() + 2**32), "a.png", "i.npy", "i.npy: cannot hold 4294967296, but 0..2147483647"),
        (plain, "a.png", "none/i.png", "none/i.png: cannot be written (No such file or directory)"),
        (alone, "file/a.png", None, "file/a.png: cannot be written (Not a directory)"),
        (alone, "folder.png", None, "folder.png: cannot be written (Is a directory)"),
    )
    for layout, path, instances, words in cases:
        with pytest.raises(UserError) as caught:
            layout.save(tmp_path / path, None if instances is None else tmp_path / instances)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_condition_has_the_size_of_what_it_holds():
    assert Condition().size is None
    assert Condition(image=torch.zeros(1, 2, 5, 7)).size == (5, 7)


@pytest.mark.parametrize("instances", (True, False))
def test_a_layout_is_resized_by_the_nearest_rule(instances):
    layout = random_layout(2, 12, 20, instances=instances)
    small = layout.resized((5, 9))
    assert small.size == (5, 9) and small.classes.dtype == torch.uint8
    for n in range(2):
        np.testing.assert_array_equal(small.classes[n], resize_labels(layout.classes[n].numpy(), (5, 9)))
        if layout.instances is not None and small.instances is not None:
            np.testing.assert_array_equal(small.instances[n], resize_labels(layout.instances[n].numpy(), (5, 9)))
    assert (small.instances is None) == (not instances)


@pytest.mark.parametrize("void", (None, 0, 11, 255))
@pytest.mark.parametrize("size", ((6, 8), (9, 8), (6, 15), (16, 16)))
def test_a_layout_is_padded_below_and_to_the_right(void, size):
    layout = random_layout(2, 6, 8)
    assert layout.instances is not None
    padded = layout.padded(size, void)
    assert padded.size == size and padded.instances is not None and padded.classes.dtype == torch.uint8
    more = ((0, 0), (0, size[0] - 6), (0, size[1] - 8))
    for map, grown, value in (
        (layout.classes, padded.classes, void),
        (layout.instances, padded.instances, None if void is None else 0),  # what goes on is the same object
    ):
        edge, plain = np.pad(map, more, mode="edge"), np.pad(map, more, constant_values=value or 0)
        np.testing.assert_array_equal(grown, edge if value is None else plain)


# batches


@pytest.mark.parametrize("instances", (True, False))
@pytest.mark.parametrize("photos", (True, False))
@pytest.mark.parametrize("image", (True, False))
def test_scenes_are_joined_part_by_part(instances, photos, image):
    scenes = [
        Scene(
            Condition(random_layout(1, 4, 6, n + 2, instances), torch.full((1, 2, 4, 6), n / 9) if image else None),
            torch.full((1, 3, 4, 6), n / 5) if photos else None,
        )
        for n in range(3)
    ]
    batch = collate(scenes)
    assert batch.condition.layout is not None
    for n, scene in enumerate(scenes):
        parts = zip(flat(batch), flat(scene), strict=True)
        for joined, single in parts:
            assert (joined is None) == (single is None)
            assert joined is None or torch.equal(joined[n], single[0])
    assert collate([Scene(Condition(), torch.zeros(1, 3, 2, 2))] * 2).condition == Condition()


def flat(scene: Scene) -> list:
    layout = scene.condition.layout
    assert layout is not None
    return [layout.classes, layout.instances, scene.condition.image, scene.photo]


def test_scenes_that_lack_a_part_do_not_join_others():
    layout, photo = random_layout(1, 4, 6), torch.zeros(1, 3, 4, 6)
    with pytest.raises(UserError, match="1 of 2 scenes have a photograph"):
        collate([Scene(Condition(layout), photo), Scene(Condition(layout))])
    with pytest.raises(UserError, match="1 of 2 scenes have an instance map"):
        collate([Scene(Condition(layout)), Scene(Condition(Layout(layout.classes)))])
    with pytest.raises(UserError, match="1 of 2 scenes have a layout"):
        collate([Scene(Condition(layout), photo), Scene(Condition(), photo)])


def test_narrow_and_wide_layouts_join_without_loss():
    narrow, wide = (
        torch.full((1, 2, 2), 255, dtype=torch.uint8),
        torch.full((1, 2, 2), 65535, dtype=torch.int32),
    )
    batch = collate([Scene(Condition(Layout(narrow))), Scene(Condition(Layout(wide)))]).condition.layout
    assert batch is not None and batch.classes[:, 0, 0].tolist() == [255, 65535]


# pixels


def test_all_pixel_values_come_back():
    values = np.arange(256, dtype=np.uint8)
    pixels = np.stack([values.reshape(16, 16), values[::-1].reshape(16, 16), values.reshape(16, 16).T], axis=-1)
    photo = from_pixels(pixels)
    assert photo.shape == (3, 16, 16) and photo.min() == -1 and photo.max() == 1
    np.testing.assert_array_equal(to_pixels(photo), pixels)
    assert from_pixels(pixels[..., :1]).shape == (1, 16, 16) and pixels[0, 1, 0] == 1, "its input stays"
    batch = from_pixels(torch.from_numpy(pixels)[None])
    assert batch.shape == (1, 3, 16, 16) and torch.equal(to_pixels(batch)[0], torch.from_numpy(pixels))


def test_the_output_map_of_the_specification():  # specs/crn.md, check 6; 127.5 is rounded up
    z = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 3)
    assert ((z + 1) * 127.5).flatten().tolist() == [0, 127.5, 255]
    assert to_pixels(z).flatten().tolist() == [0, 128, 255]


@MANY
@given(st.floats(-3, 3, width=32))
def test_pixels_are_rounded_half_up_and_clamped(value):
    pixel = int(to_pixels(torch.full((1, 1, 1), value)))
    exact = np.float32(np.float32(value) + np.float32(1)) * np.float32(127.5)
    assert pixel == min(255, max(0, int(np.floor(np.float32(exact + np.float32(0.5))))))
    assert abs(pixel - min(255, max(0, (value + 1) * 127.5))) <= 0.5001
    for dtype in (torch.float64, torch.bfloat16):
        there = torch.full((1, 1, 1), value, dtype=dtype)
        assert int(to_pixels(there)) == int(to_pixels(there.float()))


def test_a_layout_is_drawn_in_its_colours():
    spec = SceneSpec((SceneClass("a", (1, 2, 3)), SceneClass("b", (255, 0, 9), void=True)))
    drawn = draw(np.array([[0, 1], [1, 1]]), spec)
    assert drawn.dtype == np.uint8
    assert drawn.tolist() == [[[1, 2, 3], [255, 0, 9]], [[255, 0, 9], [255, 0, 9]]]


# saving


@pytest.mark.parametrize("suffix", ("png", "jpg", "webp"))
@pytest.mark.parametrize("channels", (1, 3))
def test_photographs_are_saved_and_opened(tmp_path, suffix, channels):
    photo = torch.linspace(-1, 1, 24 * 32).reshape(1, 1, 24, 32).expand(1, channels, 24, 32)
    for n, shaped in enumerate((photo, photo[0])):
        path = tmp_path / f"{n}.{suffix}"
        save(shaped, path)
        with Image.open(path) as image:
            assert image.size == (32, 24) and (image.mode == "L") == (channels == 1 and suffix != "webp")
        again = open_photo(path)
        assert again.shape == (1, 3, 24, 32) and (again - photo).abs().max() < (0.004 if suffix == "png" else 0.1)
    np.testing.assert_array_equal(read_photo(tmp_path / f"0.{suffix}"), read_photo(tmp_path / f"1.{suffix}"))


def test_what_cannot_be_saved_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    cases = (
        (torch.zeros(2, 3, 4, 4), "a.png", "there are 2"),
        (torch.zeros(1, 3, 4, 4), "a.gif", "'.gif'; use .png, .jpg or .webp"),
        (torch.zeros(1, 3, 4, 4), "a", "without a suffix"),
        (torch.zeros(1, 3, 4, 4), "none/a.png", "cannot be written (No such file or directory)"),
        (torch.zeros(1, 3, 4, 4), "file/a.png", "cannot be written (Not a directory)"),
    )
    for photo, name, words in cases:
        with pytest.raises(UserError) as caught:
            save(photo, tmp_path / name)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"old"


OTHERS = """
import numpy as np, torch
from photogram.editing import Rendering
from photogram.errors import UserError
from photogram.scene import Condition, Layout, Scene, save
photo, layout = torch.zeros(1, 3, 4, 4), Layout(torch.zeros(1, 4, 4, dtype=torch.uint8))
for given in (
    Rendering(photo, 0), Scene(Condition(layout), photo), layout, Scene(Condition(layout)), photo[0, 0], photo.byte(),
    photo.numpy(), "a.png", None,
):
    try:
        save(given, "a.png")
    except UserError as e:
        print(e)
"""


def test_what_is_no_photograph_is_told_what_to_give(tmp_path):
    """In a process of its own, where nothing else looks at the types of arguments."""
    asked = "a floating-point tensor [c, h, w] or [1, c, h, w] in [-1, 1]"
    expected = [
        f"Rendering; give its .photo, or {asked}",
        f"Scene; give its .photo, or {asked}",
        "Layout; it has a save of its own",
        f"Scene; give {asked}",
        f"Tensor of float32 [4, 4]; give {asked}",
        f"Tensor of uint8 [1, 3, 4, 4]; give {asked}",
        f"ndarray; give {asked}",
        f"str; give {asked}",
        f"NoneType; give {asked}",
    ]
    ran = subprocess.run([sys.executable, "-c", OTHERS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == [f"a.png: is to be a photograph, but this is a {e}" for e in expected], ran.stderr
    assert not list(tmp_path.iterdir())


def test_saving_onto_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save(torch.zeros(1, 3, 8, 8), tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.jpg: cannot be written \(No space left on device\)"):
        save(torch.ones(1, 3, 8, 8), tmp_path / "a.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]
    assert (tmp_path / "a.jpg").read_bytes() == before
