"""Data folders: files are paired by stem, and flips and crops act on photograph, layout and instances alike."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photogram.data.folder import Folder, pair_files
from photogram.errors import UserError
from photogram.images import (
    INSTANCE_SUFFIXES,
    LABEL_SUFFIXES,
    read_photo,
    resize_labels,
    resize_photo,
    write_image,
    write_labels,
)
from photogram.rasters import RASTER_SUFFIXES, write_raster
from photogram.scene import Condition, Scene, SceneClass, to_levels, to_pixels, write_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
MANY = settings(deadline=None, database=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
CLASSES = tuple(SceneClass(f"c{i}", (40 * i, 255 - 40 * i, i)) for i in range(6))
NATIVE = (60, 90)
ROWS, COLUMNS = np.indices(NATIVE)


def classes_at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    return (row // 5 * 2 + column // 7) % 6


def write_scene(split: Path, stem: str, photo: bool = True, instances: bool = True, shift: int = 0) -> None:
    """A scene that tells of each pixel where it was: the instance exactly, the photograph within a pixel."""
    for name in ("photos", "layouts", "instances"):
        (split / name).mkdir(parents=True, exist_ok=True)
    write_image(classes_at(ROWS + shift, COLUMNS).astype(np.uint8), split / "layouts" / f"{stem}.png")
    if instances:
        write_image((ROWS * NATIVE[1] + COLUMNS).astype(np.uint16), split / "instances" / f"{stem}.png")
    if photo:
        pixels = np.stack([ROWS * 2, COLUMNS * 2, classes_at(ROWS, COLUMNS) * 40], axis=-1).astype(np.uint8)
        write_image(pixels, split / "photos" / f"{stem}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_classes(CLASSES, root / "classes.json")
    for stem in ("a", "b"):
        write_scene(root / "train", stem, shift=3 * (stem == "b"))
    write_scene(root / "val", "c", photo=False)
    return root


@pytest.fixture
def own(data, tmp_path) -> Path:
    """A copy of the data to damage."""
    return shutil.copytree(data, tmp_path / "own")


def parts(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    layout = scene.condition.layout
    assert layout is not None and layout.instances is not None and scene.photo is not None
    assert layout.classes.dtype == torch.uint8 and layout.instances.dtype == torch.int32
    return layout.classes[0].numpy(), layout.instances[0].numpy(), to_pixels(scene.photo)[0].numpy()


# pairing

NAMES = st.tuples(
    st.sampled_from(("", ".", "._")),
    st.sampled_from(("a", "b", "a.b", "0001", "zwei Wörter", "桜", "ok.final")),
    st.sampled_from((".png", ".jpg", ".JPG", ".tif", ".webp", ".npy", ".txt", ".partial", "")),
).map("".join)


@MANY
@given(*[st.sets(NAMES, max_size=9)] * 3, st.sets(st.sampled_from(("photos", "layouts", "instances"))))
def test_files_are_paired_by_stem(tmp_path_factory, photos, layouts, instances, missing):
    split = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    kinds = {"photos": photos, "layouts": layouts, "instances": instances}
    for folder, names in kinds.items():
        if folder not in missing:
            (split / folder).mkdir()
            for name in names:
                (split / folder / name).touch()
    found = pair_files(split)

    def known(folder: str, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
        paths = [p for p in sorted((split / folder).glob("*")) if p.name[0] != "." and p.suffix.lower() in suffixes]
        return {p.stem: [q for q in paths if q.stem == p.stem] for p in paths}

    photo_files = known("photos", RASTER_SUFFIXES)
    layout_files = known("layouts", (*LABEL_SUFFIXES, ".jpg", ".jpeg"))
    instance_files = known("instances", INSTANCE_SUFFIXES)
    assert [pair.stem for pair in found.pairs] == sorted(layout_files)
    for pair in found.pairs:
        assert pair.layout == layout_files[pair.stem][0]
        assert pair.photo == next(iter(photo_files.get(pair.stem, [])), None)
        assert pair.instances == next(iter(instance_files.get(pair.stem, [])), None)
    assert found.with_photos == [pair for pair in found.pairs if pair.stem in photo_files]
    assert {p.stem for p in found.lonely_photos} == set(photo_files) - set(layout_files)
    assert {p.stem for p in found.lonely_instances} == set(instance_files) - set(layout_files)
    assert all(first.stem == second.stem and first.parent == second.parent for first, second in found.twins)

    # every visible file is told of, once
    told = [p for pair in found.pairs for p in (pair.layout, pair.photo, pair.instances) if p]
    told += [
        *found.lonely_photos,
        *found.lonely_instances,
        *found.strangers,
        *(second for _, second in found.twins),
    ]
    assert sorted(told) == sorted(p for p in split.glob("*/*") if p.name[0] != ".")


def test_a_folder_with_an_images_name_is_a_stranger(tmp_path):
    (tmp_path / "photos" / "a.png").mkdir(parents=True)
    assert pair_files(tmp_path).strangers == [tmp_path / "photos" / "a.png"]


# flips and crops


# windows of the files as they are


def positions(of: np.ndarray) -> np.ndarray:
    return np.stack([of // NATIVE[1], of % NATIVE[1]])


@MANY
@given(
    st.integers(1, NATIVE[0]),
    st.integers(1, NATIVE[1]),
    st.booleans(),
    st.integers(0, 2**64 - 1),
    st.sampled_from(("photographs", "layouts", "images", "any")),
)
def test_a_window_is_the_same_pixels_of_all_files(coded, height, width, flip, draw, learns_from):
    """Check 10.9: every file tells of each pixel where it was, and all of them tell of one rectangle."""
    scene = Folder(coded, size=(height, width), fit="window", flip=flip, learns_from=learns_from)[0, draw]
    assert scene.photo is not None
    told = [to_levels(scene.photo[0], 16)[..., 0]]
    if learns_from in ("images", "any"):
        told.append(to_levels(image_tensor(scene), 16)[..., 0])
    layout = scene.condition.layout
    if learns_from in ("layouts", "any"):
        assert layout is not None and layout.instances is not None and layout.instances.dtype == torch.int32
        told.append(layout.instances[0].numpy() - FIRST)
        np.testing.assert_array_equal(layout.classes[0], told[0] % CODES)
    else:
        assert layout is None
    where = told[0].astype(int)
    rows, columns = positions(where)
    for other in told[1:]:
        np.testing.assert_array_equal(other, where)
    top, left = rows.min(), columns.min()
    plain = np.arange(NATIVE[0] * NATIVE[1]).reshape(NATIVE)[top : top + height, left : left + width]
    mirrored = width > 1 and columns[0, 0] > columns[0, -1]
    np.testing.assert_array_equal(where, plain[:, ::-1] if mirrored else plain)
    assert flip or not mirrored


CODES = 251
FIRST = 2**31 - 1 - NATIVE[0] * NATIVE[1]
"""Object numbers that no float of 32 bits holds."""


@pytest.fixture(scope="module")
def coded(tmp_path_factory) -> Path:
    """One scene whose photograph, input and instance map hold at each pixel the number of the pixel, and whose layout
    holds a rest of it."""
    root = tmp_path_factory.mktemp("coded")
    numbers = ROWS * NATIVE[1] + COLUMNS
    write_classes([SceneClass(f"c{i}", (0, 0, 0)) for i in range(CODES)], root / "classes.json")
    for part in ("photos", "inputs", "layouts", "instances"):
        (root / "train" / part).mkdir(parents=True)
    for part in ("photos", "inputs"):
        write_raster(numbers.astype(np.uint16)[..., None], root / f"train/{part}/a.png")
    write_labels((numbers % CODES).astype(np.uint8), root / "train/layouts/a.png")
    write_labels(numbers + FIRST, root / "train/instances/a.tif")
    return root


def image_tensor(scene: Scene) -> torch.Tensor:
    assert scene.condition.image is not None
    return scene.condition.image[0]


def test_windows_reach_all_of_a_file_and_both_ways_round(coded):
    scenes = Folder(coded, size=(50, 60), fit="window", flip=True)
    corners, mirrored = set(), 0
    for draw in range(400):
        layout = scenes[0, draw].condition.layout
        assert layout is not None
        assert layout.instances is not None
        rows, columns = positions(layout.instances[0].numpy() - FIRST)
        corners.add((int(rows.min()), int(columns.min())))
        mirrored += int(columns[0, 0] > columns[0, -1])
    assert {row for row, _ in corners} == set(range(11)) and {column for _, column in corners} == set(range(31))
    assert 150 < mirrored < 250


def test_a_scene_smaller_than_the_window_is_refused_by_name(coded):
    assert Folder(coded, size=NATIVE, fit="window")[0, 3].photo is not None
    assert Folder(coded, fit="window")[0, 3].photo is not None
    for size in ((61, 90), (60, 91)):
        words = rf"layouts/a\.png: is 60 x 90, smaller than the window of {size[0]} x {size[1]}; use --fit crop"
        with pytest.raises(UserError, match=words):
            Folder(coded, size=size, fit="window")[0, 0]
        with pytest.raises(UserError, match=r"photos/a\.png: is 60 x 90, smaller"):
            Folder(coded, size=size, fit="window", learns_from="photographs")[0, 0]


def test_a_run_remembers_that_it_learns_from_windows(coded):
    assert Folder(coded, size=(8, 8), fit="window").settings()["fit"] == "window"


# instance maps


@pytest.mark.parametrize("suffix", (".png", ".tif", ".npy"))
@pytest.mark.parametrize("fit", ("stretch", "crop", "window"))
def test_object_numbers_are_those_of_the_file(own, suffix, fit):
    """Check 10.3: 33005, which 16 signed bits cannot hold, and where the file has room the largest there is."""
    large = 65535 if suffix == ".png" else 2**31 - 1
    numbers = np.where(COLUMNS < 40, 33005, np.where(ROWS < 30, large, 0))
    for stem in "ab":
        (own / f"train/instances/{stem}.png").unlink()
        write_labels(numbers, own / f"train/instances/{stem}{suffix}")
    scenes = Folder(own, size=(31, 47), fit=fit, flip=True)
    found = set()
    for draw in range(20):
        layout = scenes[0, draw].condition.layout
        assert layout is not None and layout.instances is not None and layout.instances.dtype == torch.int32
        found |= set(layout.instances.unique().tolist())
    assert found == {0, 33005, large}
    np.testing.assert_array_equal(parts(Folder(own)[0, 0])[1], numbers)


def test_an_instance_map_in_colours_or_too_large_a_number_is_refused(own):
    """Check 10.9."""
    path = own / "train/instances/a.png"
    write_image(np.zeros((*NATIVE, 3), np.uint8), path)
    with pytest.raises(UserError, match=r"instances/a\.png: holds colours \(mode RGB\), not object numbers; store one"):
        Folder(own)[0, 0]
    path.unlink()
    numbers = np.zeros(NATIVE, np.int64)
    numbers[12, 34] = 2**31
    np.save(path.with_suffix(".npy"), numbers)
    words = r"a\.npy: holds 2147483648 at \(row 12, column 34\), but 2147483647 is the largest number"
    with pytest.raises(UserError, match=words):
        Folder(own)[0, 0]


@MANY
@given(
    st.sampled_from((None, NATIVE, (30, 45), (45, 30), (48, 64), (64, 48), (20, 100), (90, 60), (13, 17), (60, 40))),
    st.sampled_from(("stretch", "crop")),
    st.booleans(),
    st.integers(0, 2**64 - 1),
    st.integers(0, 1),
)
def test_photograph_layout_and_instances_are_seen_alike(data, size, fit, flip, draw, index):
    scene = Folder(data, size=size, fit=fit, flip=flip)[index, draw]
    classes, instances, photo = parts(scene)
    to = size or NATIVE
    assert classes.shape == instances.shape == photo.shape[:2] == to
    rows, columns = np.divmod(instances, NATIVE[1])
    np.testing.assert_array_equal(classes, classes_at(rows + 3 * index, columns))
    # the photograph is a ramp of 2 levels a pixel, and the nearest pixel lies within half a step of its place
    scales = (
        [n / t for n, t in zip(NATIVE, to, strict=True)]
        if fit == "stretch"
        else [1 / max(t / n for n, t in zip(NATIVE, to, strict=True))] * 2
    )
    for ramp, place, scale in ((photo[..., 0], rows, scales[0]), (photo[..., 1], columns, scales[1])):
        assert np.abs(ramp.astype(int) - 2 * place).max() <= 2 * max(1, scale) + 1
    # nothing is stretched but as asked, and only flips turn columns around
    np.testing.assert_array_equal(rows, rows[:, :1].repeat(to[1], 1))
    np.testing.assert_array_equal(columns, columns[:1].repeat(to[0], 0))
    assert (np.diff(rows[:, 0]) >= 0).all()
    mirrored = columns[0, 0] > columns[0, -1]
    steps = np.diff(columns[0]) * (-1 if mirrored else 1)
    assert flip or not mirrored
    for values, scale in ((np.diff(rows[:, 0]), scales[0]), (steps, scales[1])):
        assert values.min() >= np.floor(scale * 0.95) and values.max() <= np.ceil(scale * 1.05)


@pytest.mark.parametrize("size", ((60, 40), (25, 90)))
def test_a_crop_that_resizes_nothing_is_exact(data, size):
    scenes = Folder(data, size=size, fit="crop", flip=True)
    whole = read_photo(data / "train/photos/a.png")
    for draw in range(20):
        classes, instances, photo = parts(scenes[0, draw])
        rows, columns = np.divmod(instances, NATIVE[1])
        np.testing.assert_array_equal(photo, whole[rows, columns])
        np.testing.assert_array_equal(classes, classes_at(rows, columns))


def test_stretching_is_the_two_documented_resizes(data):
    classes, instances, photo = parts(Folder(data, size=(33, 71))[0, 5])
    np.testing.assert_array_equal(photo, resize_photo(read_photo(data / "train/photos/a.png"), (33, 71)))
    np.testing.assert_array_equal(classes, resize_labels(classes_at(ROWS, COLUMNS), (33, 71)))
    np.testing.assert_array_equal(instances, resize_labels(ROWS * NATIVE[1] + COLUMNS, (33, 71)))


def same(one: Scene, other: Scene) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(parts(one), parts(other), strict=True))


def test_equal_draws_give_equal_scenes_and_others_differ(data):
    scenes = Folder(data, size=(60, 40), fit="crop", flip=True)
    again = Folder(data, size=(60, 40), fit="crop", flip=True)
    drawn = [scenes[0, draw] for draw in range(40)]
    assert all(same(again[0, draw], scene) for draw, scene in enumerate(drawn))
    columns = [parts(scene)[1][0] % NATIVE[1] for scene in drawn]
    assert len({int(c.min()) for c in columns}) > 15  # windows
    assert min(c.min() for c in columns) <= 5 and max(c.max() for c in columns) >= NATIVE[1] - 6  # up to both ends
    assert 8 <= sum(int(c[0] > c[-1]) for c in columns) <= 32  # flips


def test_without_flips_and_crops_all_draws_are_equal(data):
    scenes = Folder(data, size=(30, 40))
    assert all(same(scenes[1, 0], scenes[1, draw]) for draw in range(1, 12))


# what is there and what is not


def test_the_folder_says_what_it_holds(data):
    scenes = Folder(data, size=(30, 40))
    assert len(scenes) == 2 and [scenes.name(i) for i in range(2)] == ["a", "b"]
    assert scenes.spec.classes == CLASSES and scenes.spec.size == (30, 40) and scenes.spec.instances


def test_instances_count_only_where_all_scenes_have_them(own):
    (own / "train/instances/b.png").unlink()
    scenes = Folder(own)
    assert not scenes.spec.instances
    for index in range(2):
        layout = scenes[index, 0].condition.layout
        assert layout is not None and layout.instances is None


def test_layouts_without_photographs_are_scenes_where_asked(data):
    scene = Folder(data, "val", photos=False)[0, 0]
    assert scene.photo is None and scene.condition.layout is not None
    np.testing.assert_array_equal(scene.condition.layout.classes[0], classes_at(ROWS, COLUMNS))
    with pytest.raises(UserError, match="val: no layout has a photograph of the same stem"):
        Folder(data, "val")


def test_scenes_without_photographs_are_left_out_of_training(own):
    (own / "train/photos/a.png").unlink()
    scenes, all_scenes = Folder(own), Folder(own, photos=False)
    assert [scenes.name(i) for i in range(len(scenes))] == ["b"]
    assert [scene.photo is None for scene in (all_scenes[0, 0], all_scenes[1, 0])] == [True, False]


@pytest.mark.parametrize("stem", ("zwei Wörter", "桜", "a.b.c", "-rf", "100%", "a" * 200, 'o\'clock "x"', "[1]{2}*?"))
def test_odd_names_are_names(own, stem):
    write_scene(own / "odd", stem)
    scenes = Folder(own, "odd")
    assert [scenes.name(i) for i in range(len(scenes))] == [stem]
    assert scenes[0, 0].photo is not None and scenes.spec.instances and len(scenes.fingerprint()) == 16


def damage(root: Path, how: str) -> str:
    """Damage a data folder; what its message must name."""
    train = root / "train"
    if how == "photo size":
        write_image(np.zeros((90, 60, 3), np.uint8), train / "photos/a.png")
        return "photos/a.png: is 90 x 60, but its layout a.png is 60 x 90"
    if how == "instance size":
        write_image(np.zeros((61, 90), np.uint16), train / "instances/a.png")
        return "instances/a.png: is 61 x 90, but its layout a.png is 60 x 90"
    if how == "class":
        labels = classes_at(ROWS, COLUMNS).astype(np.uint8)
        labels[12, 34] = 6
        write_image(labels, train / "layouts/a.png")
        return "layouts/a.png: class 6 at (row 12, column 34), but there are only classes 0..5"
    if how == "colours":
        write_image(np.zeros((60, 90, 3), np.uint8), train / "layouts/a.png")
        return "layouts/a.png: holds colours"
    if how == "jpeg layout":
        (train / "layouts/a.png").unlink()
        write_image(np.zeros((60, 90), np.uint8), train / "layouts/a.jpg")
        return "layouts/a.jpg: is a JPEG"
    whole = (train / "photos/a.png").read_bytes()
    (train / "photos/a.png").write_bytes(whole[: len(whole) // 2])
    return "photos/a.png: cannot be decoded, damaged or cut short"


@pytest.mark.parametrize("how", ("photo size", "instance size", "class", "colours", "jpeg layout", "cut short"))
@pytest.mark.parametrize("size", (None, (30, 45)))
def test_a_damaged_scene_is_named_when_it_is_read(own, how, size):
    words = damage(own, how)
    scenes = Folder(own, size=size)
    with pytest.raises(UserError) as caught:
        scenes[0, 0]
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert scenes[1, 0].photo is not None


def refused(root: Path, *words: str, split: str = "train") -> None:
    with pytest.raises(UserError) as caught:
        Folder(root, split)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_a_folder_that_lacks_something_says_what(own, tmp_path):
    refused(tmp_path / "none", "none: no such folder", "photogram prepare")
    refused(own / "classes.json", "classes.json: is a file, but a data folder is needed; give the folder that holds")
    refused(own, "trian/layouts: no such folder", "did you mean 'train'?", "val", split="trian")
    shutil.copy(own / "train/photos/a.png", own / "train/photos/a.jpg")
    refused(own, "a.png: has the same stem as a.jpg", "Remove one")
    for file in (own / "train/photos").iterdir():
        file.unlink()
    refused(own, "train: no layout has a photograph of the same stem", "photogram check")
    (own / "classes.json").unlink()
    refused(own, "classes.json: no such file")
    (own / "train/layouts").rename(own / "train/inputs")
    refused(own, "train: has inputs/ but no layouts/, which are needed here", "such as pix2pix")


def test_an_empty_folder_says_so(tmp_path):
    write_classes(CLASSES, tmp_path / "classes.json")
    refused(tmp_path, "train/layouts: no such folder", "no split of ")
    (tmp_path / "train" / "layouts").mkdir(parents=True)
    refused(tmp_path, "train: no layout has a photograph")
    with pytest.raises(UserError, match="no layout is there"):
        Folder(tmp_path, photos=False)


# the fingerprint


def test_the_fingerprint_stays_when_the_folder_moves(own, tmp_path):
    before = Folder(own).fingerprint()
    moved = shutil.copytree(own, tmp_path / "elsewhere" / "city")
    for path in moved.rglob("*.png"):
        os.utime(path, (0, 0))
    (moved / "train/photos/.DS_Store").touch()
    (moved / "train/notes.txt").touch()
    assert Folder(moved).fingerprint() == before == Folder(moved, size=(30, 40), flip=True).fingerprint()


def change(root: Path, how: str) -> None:
    train = root / "train"
    if how == "one label":
        labels = classes_at(ROWS, COLUMNS).astype(np.uint8)
        labels[30, 40] ^= 1
        write_image(labels, train / "layouts/a.png")
    elif how == "class":
        write_classes((*CLASSES[:-1], SceneClass("c5", (0, 0, 0), void=True)), root / "classes.json")
    elif how == "more":
        write_scene(train, "z")
    elif how == "fewer":
        (train / "photos/b.png").unlink()
    elif how == "stem":
        for folder in ("photos", "layouts", "instances"):
            (train / folder / "b.png").rename(train / folder / "bb.png")
    elif how == "instances":
        (train / "instances/b.png").unlink()
    else:
        write_image(np.zeros((*NATIVE, 3), np.uint8), train / "photos/a.png")


@pytest.mark.parametrize("how", ("one label", "class", "more", "fewer", "stem", "instances", "photograph"))
def test_the_fingerprint_tells_a_change(own, how):
    before = Folder(own).fingerprint()
    change(own, how)
    assert Folder(own).fingerprint() != before


def test_the_fingerprint_tells_a_change_that_keeps_the_size(own):
    path, prints = own / "train/layouts/a.png", []
    for last in range(6):
        labels = classes_at(ROWS, COLUMNS).astype(np.uint8)
        labels[0, 0] = last
        write_image(labels, path, compress_level=0)
        prints.append((path.stat().st_size, Folder(own).fingerprint()))
    assert len({size for size, _ in prints}) == 1 and len(set(prints)) == 6


def test_real_photographs_are_read_as_they_are():
    root = SHARED / "data/camvid"
    if not root.is_dir():
        pytest.skip("needs shared/data/camvid")
    train, val = Folder(root, size=(96, 128)), Folder(root, "val")
    assert (len(train), len(val), train.spec.num_classes, train.spec.void) == (294, 73, 12, 11)
    small, whole = train[0, 0], val[0, 0]
    assert small.photo is not None and small.photo.shape == (1, 3, 96, 128) and small.photo.abs().max() <= 1
    assert whole.photo is not None and whole.photo.shape == (1, 3, 360, 480)
    assert not {train.name(i) for i in range(294)} & {val.name(i) for i in range(73)}


# images as conditions


TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}


def ramp(bits: int, channels: int = 1) -> np.ndarray:
    """An input that says of each pixel where it was: rows and columns in turn, one channel each."""
    most = {8: 255, 16: 65535, 32: 1}[bits]
    planes = [(ROWS / NATIVE[0] if n % 2 == 0 else COLUMNS / NATIVE[1]) * most for n in range(channels)]
    return np.stack(planes, axis=-1).astype(TYPES[bits])


def write_inputs(split: Path, stems: str, bits: int = 8, channels: int = 2, suffix: str = ".tif") -> None:
    (split / "inputs").mkdir(parents=True, exist_ok=True)
    for stem in stems:
        write_raster(ramp(bits, channels), split / "inputs" / f"{stem}{suffix}")


def test_photographs_alone_are_not_enough_for_what_paints_from_something(tmp_path):
    (tmp_path / "data/train/photos").mkdir(parents=True)
    write_raster(np.zeros((8, 8, 3), np.uint8), tmp_path / "data/train/photos/a.png")
    with pytest.raises(UserError, match="data/train: has neither layouts/ nor inputs/ to paint"):
        Folder(tmp_path / "data", learns_from="any")
    with pytest.raises(UserError, match=r"data/val/photos: no such folder; .* has it in train$"):
        Folder(tmp_path / "data", "val", learns_from="any")


@pytest.fixture
def both(own) -> Path:
    write_inputs(own / "train", "ab", 16)
    return own


def image_of(scene: Scene) -> np.ndarray:
    assert scene.condition.image is not None and scene.condition.image.dtype == torch.float32
    return np.moveaxis(scene.condition.image[0].numpy(), 0, -1)


@MANY
@given(
    st.sampled_from((None, NATIVE, (30, 45), (48, 64), (64, 48), (90, 60), (13, 17))),
    st.sampled_from(("stretch", "crop")),
    st.booleans(),
    st.integers(0, 2**64 - 1),
    st.sampled_from((8, 16, 32)),
)
def test_inputs_are_seen_as_layouts_and_photographs_are(data, tmp_path_factory, size, fit, flip, draw, bits):
    root = tmp_path_factory.getbasetemp() / f"both-{bits}"
    if not root.exists():
        shutil.copytree(data, root)
        write_inputs(root / "train", "ab", bits)
    scene = Folder(root, size=size, fit=fit, flip=flip, learns_from="any")[0, draw]
    alone = Folder(root, size=size, fit=fit, flip=flip, learns_from="images")[0, draw]
    plain = Folder(root, size=size, fit=fit, flip=flip)[0, draw]
    for found, expected in zip(parts(scene), parts(plain), strict=True):
        np.testing.assert_array_equal(found, expected)
    _, instances, _ = parts(scene)
    image = image_of(scene)
    np.testing.assert_array_equal(image, image_of(alone))
    assert alone.condition.layout is None and torch.equal(alone.photo, scene.photo)
    rows, columns = np.divmod(instances, NATIVE[1])
    to = size or NATIVE
    scales = [n / t for n, t in zip(NATIVE, to, strict=True)]
    if fit == "crop":
        scales = [1 / max(t / n for n, t in zip(NATIVE, to, strict=True))] * 2
    for n, (place, native) in enumerate(((rows, NATIVE[0]), (columns, NATIVE[1]))):
        where = (image[..., n] + 1) / 2 * native
        assert np.abs(where - place).max() <= max(1, scales[n]) + native / 255


def test_the_spec_says_what_inputs_and_photographs_are(both):
    spec = Folder(both, size=(30, 40), learns_from="any").spec
    assert (spec.image_channels, spec.image_bits, spec.photo_channels, spec.photo_bits) == (2, 16, 3, 8)
    assert spec.classes == CLASSES and spec.instances
    spec = Folder(both, size=(30, 40), learns_from="images").spec
    assert spec.classes == () and not spec.instances and spec.image_channels == 2
    assert Folder(both).spec.image_channels == 0
    (both / "classes.json").unlink()
    assert Folder(both, learns_from="images").spec.image_bits == 16  # no layouts, no classes
    with pytest.raises(UserError, match=r"classes\.json: no such file"):
        Folder(both, learns_from="any")


@pytest.mark.parametrize(("bits", "channels"), ((8, 1), (16, 1), (16, 3), (32, 2), (8, 4)))
def test_targets_of_any_channels_and_bits(own, bits, channels):
    write_inputs(own / "train", "ab", 8, 1, ".png")
    shutil.rmtree(own / "train/photos")
    (own / "train/photos").mkdir()
    for stem in "ab":
        write_raster(ramp(bits, channels), own / f"train/photos/{stem}.npy")
    scenes = Folder(own, learns_from="images")
    assert (scenes.spec.photo_channels, scenes.spec.photo_bits) == (channels, bits)
    photo = scenes[0, 0].photo
    assert photo is not None and photo.shape == (1, channels, *NATIVE)
    np.testing.assert_allclose(to_levels(photo[0], bits), ramp(bits, channels), atol=1e-7 if bits == 32 else 0)


def test_photographs_alone_need_nothing_else(own, tmp_path):
    shutil.copytree(own / "train/photos", tmp_path / "photographs/train/photos")
    scenes = Folder(tmp_path / "photographs", learns_from="photographs")
    assert len(scenes) == 2 and scenes.spec.num_classes == scenes.spec.image_channels == 0
    scene = scenes[0, 0]
    assert scene.condition == Condition() and scene.photo is not None
    np.testing.assert_array_equal(to_pixels(scene.photo)[0].numpy(), read_photo(own / "train/photos/a.png"))
    shutil.rmtree(tmp_path / "photographs/train/photos")
    with pytest.raises(UserError, match="train/photos: no such folder"):
        Folder(tmp_path / "photographs", learns_from="photographs")


def test_scenes_that_lack_a_part_are_left_out(both):
    write_inputs(both / "train", "z", 16)
    (both / "train/inputs/a.tif").unlink()
    assert [Folder(both, learns_from="any").name(n) for n in range(1)] == ["b"]
    found = pair_files(both / "train", ("layouts", "inputs"))
    assert [p.name for p in found.lonely_layouts] == ["a.png"] and [p.name for p in found.lonely_inputs] == ["z.tif"]
    assert [p.name for p in found.lonely_photos] == ["a.png"]
    with pytest.raises(UserError, match=r"val/inputs: no such folder; .* has it in train$"):
        Folder(both, "val", learns_from="any")  # which is opened as train is


def test_what_differs_from_the_first_is_refused_by_name(both):
    scenes = Folder(both, learns_from="images")
    write_raster(ramp(8, 2), both / "train/inputs/b.tif")
    with pytest.raises(UserError, match=r"b\.tif: has 2 channels of 8 bits, but the others have 2 channels of 16"):
        scenes[1, 0]
    write_raster(ramp(16, 2)[:50], both / "train/inputs/b.tif")
    with pytest.raises(UserError, match=r"photos/b\.png: is 60 x 90, but its input b\.tif is 50 x 90"):
        scenes[1, 0]
    write_raster(ramp(16, 2), both / "train/inputs/b.tif")
    write_raster(ramp(16, 3), both / "train/photos/b.png")
    with pytest.raises(UserError, match=r"b\.png: has 3 channels of 16 bits, but the others have 3 channels of 8"):
        scenes[1, 0]
    assert scenes[0, 0].photo is not None


def test_inputs_count_in_the_fingerprint_where_they_are_read(both):
    before, plain = Folder(both, learns_from="any").fingerprint(), Folder(both).fingerprint()
    raster = ramp(16, 2)
    raster[30, 40] += 1
    write_raster(raster, both / "train/inputs/a.tif")
    assert Folder(both, learns_from="any").fingerprint() != before and Folder(both).fingerprint() == plain
    shutil.rmtree(both / "train/inputs")
    assert Folder(both, learns_from="any").settings() == Folder(both).settings()


def test_what_plain_layout_data_is_known_by_stays(tmp_path):
    """Runs that were begun before there were inputs must go on."""
    write_classes(CLASSES, tmp_path / "classes.json")
    for part, content in (("layouts", b"layout"), ("photos", b"photo" * 100)):
        (tmp_path / "train" / part).mkdir(parents=True)
        (tmp_path / "train" / part / "a.png").write_bytes(content)
    write_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "train/photos/a.png", compress_level=0)
    files = [hashlib.sha256(b"layout").hexdigest()]
    content = (tmp_path / "train/photos/a.png").read_bytes()
    files += [f"{len(content)} {hashlib.sha256(content[-256:]).hexdigest()}", "none"]
    expected = hashlib.sha256(repr(CLASSES).encode() + f"'a' {tuple(files)}\n".encode()).hexdigest()[:16]
    settings = {"data": expected, "size": [8, 8], "fit": "stretch", "flip": False}
    assert Folder(tmp_path, size=(8, 8)).settings() == settings


def test_grey_photographs_of_layouts_stay_rgb(own):
    for stem in "ab":
        write_image(np.full(NATIVE, 77, np.uint8), own / f"train/photos/{stem}.png")
    scenes = Folder(own)
    assert scenes.spec.photo_channels == 3 and parts(scenes[0, 0])[2].shape == (*NATIVE, 3)
