"""The toy world: the same scenes everywhere, sound layouts, moods that layouts tell, and its data folder."""

import hashlib
import os
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from photogram.data.folder import Folder
from photogram.data.toy import Toy, ToyPixels, scene_pixels, write_toy
from photogram.data.toy_layout import (
    BUILDING,
    CAR,
    CLASSES,
    CLOUDY,
    EVENING,
    GRASS,
    MOON,
    NIGHT,
    PAVEMENT,
    PERSON,
    ROAD,
    SKY,
    SUN,
    TREE,
    VOID,
    Split,
    plan,
)
from photogram.data.toy_photo import mood_of
from photogram.errors import UserError
from photogram.images import resize_labels
from photogram.scene import Scene, check_layout, collate, read_classes, to_pixels, write_classes

SIZE = (48, 64)

HASHES = {
    (0, "train", 0, (96, 128)): "170f6482b850250a",
    (0, "train", 7, (64, 160)): "74a831d729d0a146",
    (0, "val", 0, (96, 128)): "07ad90ca8076e94b",
    (5, "train", 3, (47, 33)): "b665d4c1add14426",
}
"""A change here is a change of the world: raise `_WORLD` in photogram/data/toy.py with it."""


def digest(pixels: ToyPixels) -> str:
    joined = hashlib.sha256()
    for array in pixels:
        joined.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return joined.hexdigest()[:16]


def pixels_of(scene: Scene) -> ToyPixels:
    layout = scene.condition.layout
    assert layout is not None and layout.instances is not None and scene.photo is not None
    return ToyPixels(to_pixels(scene.photo)[0].numpy(), layout.classes[0].numpy(), layout.instances[0].numpy())


def assert_same(a: ToyPixels, b: ToyPixels) -> None:
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@cache
def made_once(split: Split, index: int, size: tuple[int, int]) -> ToyPixels:
    """For tests that only look at scenes."""
    made = scene_pixels(0, split, index, size)
    for array in made:
        array.flags.writeable = False
    return made


def some(count: int, size: tuple[int, int] = SIZE, split: Split = "train") -> list[ToyPixels]:
    return [made_once(split, i, size) for i in range(count)]


# The same scenes, always and everywhere


@pytest.mark.parametrize("key", HASHES)
def test_scenes_are_those_that_they_always_were(key):
    assert digest(scene_pixels(*key)) == HASHES[key]


def test_a_fresh_process_with_other_vector_instructions_makes_the_same_scenes():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    wide = [name for name in __cpu_dispatch__ if __cpu_features__[name]]  # else the process is merely fresh
    code = (
        "from tests.test_toy import HASHES, digest, scene_pixels\n"
        "print(*(digest(scene_pixels(*key)) for key in HASHES))"
    )
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(wide)}
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(HASHES.values())


def test_scenes_do_not_depend_on_the_order_in_which_they_are_made():
    toy = Toy(size=SIZE, count=6)
    forwards = [digest(toy.pixels(i)) for i in range(6)]
    assert [digest(toy.pixels(i)) for i in reversed(range(6))] == forwards[::-1]
    assert digest(Toy(size=SIZE, count=400).pixels(5)) == forwards[5]
    assert len(set(forwards)) == 6


def test_train_and_val_share_no_scene():
    def layouts_and_photos(split: Split) -> tuple[set[bytes], set[bytes]]:
        scenes = some(100, split=split)
        return {s.layout.tobytes() for s in scenes}, {s.photo.tobytes() for s in scenes}

    train, val = layouts_and_photos("train"), layouts_and_photos("val")
    assert len(train[0]) == len(val[0]) == 100
    assert not train[0] & val[0] and not train[1] & val[1]


def test_seeds_make_worlds_of_their_own():
    assert digest(scene_pixels(0, "train", 0, SIZE)) != digest(scene_pixels(1, "train", 0, SIZE))
    # a large seed is not mistaken for a small one
    assert digest(scene_pixels(0, "train", 0, SIZE)) != digest(scene_pixels(1 << 32, "train", 0, SIZE))


def test_a_scene_at_twice_the_size_shows_the_same_things():
    for i in range(8):
        small = scene_pixels(0, "train", i, (96, 128)).layout
        large = resize_labels(scene_pixels(0, "train", i, (192, 256)).layout, (96, 128))
        assert (small == large).mean() > 0.93


# Sound pixels


@pytest.mark.parametrize("size", [(96, 128), (64, 160), (128, 64), (32, 32), (47, 33), (16, 16), (16, 90), (101, 17)])
def test_any_size_makes_whole_scenes(size):
    for scene in some(12, size):
        assert scene.photo.shape == (*size, 3) and scene.photo.dtype == np.uint8
        assert scene.layout.shape == size and scene.layout.dtype == np.uint8
        assert scene.instances.shape == size and scene.instances.dtype == np.int32
        assert scene.layout.max() < len(CLASSES)
        assert scene.photo.std() > 10


def test_instances_cover_objects_alone_and_never_cross_classes():
    for scene in some(60):
        objects = np.isin(scene.layout, [BUILDING, TREE, CAR, PERSON])
        np.testing.assert_array_equal(scene.instances > 0, objects)
        numbers = np.unique(scene.instances[objects])
        np.testing.assert_array_equal(numbers, np.arange(1, len(numbers) + 1))
        for number in numbers:
            assert len(np.unique(scene.layout[scene.instances == number])) == 1


def test_several_objects_of_a_class_are_told_apart():
    cars = [len(np.unique(s.instances[s.layout == CAR])) for s in some(60)]
    assert max(cars) >= 3 and min(cars) == 0


def test_every_class_is_in_a_tenth_of_the_scenes_and_none_swallows_the_world():
    layouts = np.stack([s.layout for s in some(150)])
    for index, c in enumerate(CLASSES):
        assert (layouts == index).any(axis=(1, 2)).mean() >= 0.1, c.name
        assert (layouts == index).mean() < 0.4, c.name


def test_nearer_cars_are_lower_and_larger():
    """Of two cars that are seen whole, the one whose wheels are lower covers more rows."""
    compared = 0
    for i in range(60):
        planned = plan(0, "train", i, (96, 128))
        cars = [(t.foot, t.wide) for t, window, mask in planned.things if t.kind == CAR and mask.any()]
        for (foot, wide), (nearer, wider) in pairwise(cars):
            if nearer - foot > 4:
                assert wider > wide
                compared += 1
    assert compared > 10


def test_the_road_narrows_to_the_horizon():
    for scene in some(40, (96, 128)):
        ground = np.isin(scene.layout, [ROAD, PAVEMENT, GRASS])
        rows = np.flatnonzero((scene.layout == ROAD).any(axis=1))
        assert ground[rows[0] :].any(axis=1).all()
        assert (scene.layout[rows[0]] == ROAD).sum() < 0.3 * (scene.layout[rows[-1]] == ROAD).sum()


# Looks


def test_classes_have_looks_of_their_own_and_are_not_flat():
    scenes = [s for s in some(40, (96, 128)) if (s.layout == SKY).any()]
    assert len(scenes) > 10
    means = {}
    for index in (SKY, GRASS, ROAD, TREE, BUILDING):
        parts = [s.photo[s.layout == index].astype(float) for s in scenes if (s.layout == index).sum() > 50]
        assert np.median([part.std(axis=0).mean() for part in parts]) > 8, CLASSES[index].name
        means[index] = np.concatenate(parts).mean(axis=0)
    assert means[SKY][2] > means[SKY][0] + 20  # blue
    assert means[GRASS][1] > max(means[GRASS][0], means[GRASS][2]) + 20  # green
    assert np.ptp(means[ROAD]) < 25  # grey
    assert means[BUILDING][0] > means[BUILDING][2]  # warm
    assert means[TREE].sum() < means[GRASS].sum()


def evening(row: int) -> np.ndarray:
    """A layout of grass below an evening sky, with its sun in the given row."""
    layout = np.full((96, 128), GRASS, np.uint8)
    layout[:45], layout[row : row + 2, 3:5] = EVENING, SUN
    return layout


def test_the_mood_is_a_function_of_the_layout():
    day, golden, dusk, night, clouds = moods = [
        mood_of(layout)
        for layout in (
            evening(3) * 0,
            evening(3),
            evening(38),
            evening(3) * 0 + NIGHT,
            evening(3) * 0 + CLOUDY,
        )
    ]
    assert len(set(moods)) == 5
    assert day.lamps == 0 < golden.lamps < dusk.lamps < night.lamps
    assert day.low[0] < day.low[2] and dusk.low[0] > dusk.low[2] and clouds.direct < day.direct
    # every height of the sun makes an evening between
    lamps = [mood_of(evening(row)).lamps for row in range(2, 40)]
    assert lamps == sorted(lamps) and len(set(lamps)) > 15
    for i in range(20):
        seen = scene_pixels(0, "train", i, SIZE).layout
        assert mood_of(seen) == mood_of(seen[:, ::-1])


def test_sun_and_moon_hang_in_their_skies():
    for scene in some(60):
        skies = set(np.unique(scene.layout)) & {SKY, EVENING, NIGHT, CLOUDY}
        assert len(skies) == 1
        assert not (scene.layout == MOON).any() or skies == {NIGHT}
        assert not (scene.layout == SUN).any() or skies <= {SKY, EVENING}


def test_photographs_have_the_mood_that_their_layout_tells():
    """Brightness and warmth of grass in a photograph follow from the mood of its layout alone."""
    light, seen = [], []
    for scene in some(100):
        mood, grass = mood_of(scene.layout), scene.layout == GRASS
        if grass.sum() < 100:
            continue
        light.append([a + 0.75 * d for a, d in zip(mood.ambient, mood.direct, strict=True)])
        seen.append(scene.photo[grass].mean(axis=0) / 255)
    expected, found = np.array(light), np.array(seen)
    assert np.corrcoef(expected.sum(axis=1), found.sum(axis=1))[0, 1] > 0.8
    warmth = [colors[:, 0] / colors[:, 2] for colors in (expected, found)]
    assert np.corrcoef(warmth[0], warmth[1])[0, 1] > 0.8


# The protocol of a data set


def test_it_is_a_data_set_like_a_folder():
    toy = Toy("val", size=SIZE, count=5)
    assert len(toy) == 5 and toy.split == "val"
    assert toy.spec.size == SIZE and toy.spec.instances and toy.spec.void == VOID
    scene = toy[3, 0]
    assert scene.condition.layout is not None and scene.photo is not None
    check_layout(scene.condition.layout, toy.spec)
    assert scene.condition.layout.classes.dtype == torch.uint8 and scene.photo.dtype == torch.float32
    assert_same(pixels_of(scene), toy.pixels(3))
    batch = collate([toy[0, 0], toy[1, 0]])
    assert batch.photo is not None and batch.photo.shape == (2, 3, *SIZE)
    names = [toy.name(i) for i in range(5)]
    assert names == sorted(set(names))
    with pytest.raises(IndexError):
        toy[5, 0]


def test_fingerprints_tell_worlds_apart():
    worlds = [
        Toy(size=SIZE),
        Toy("val", size=SIZE),
        Toy(size=(48, 48)),
        Toy(size=SIZE, seed=1),
        Toy(size=SIZE, count=9),
    ]
    assert len({w.fingerprint() for w in worlds}) == len(worlds)
    assert Toy(size=SIZE).fingerprint() == worlds[0].fingerprint()


def test_a_flip_mirrors_photograph_layout_and_instances_alike():
    toy, plain = Toy(size=SIZE, count=2, flip=True), Toy(size=SIZE, count=2)
    mirrored = 0
    for draw in range(40):
        found, straight = pixels_of(toy[1, draw]), pixels_of(plain[1, draw])
        turned = ToyPixels(*(np.ascontiguousarray(part[:, ::-1]) for part in straight))
        flipped = not np.array_equal(found.layout, straight.layout)
        assert_same(found, turned if flipped else straight)
        mirrored += flipped
    assert 10 <= mirrored <= 30


# The data folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "data", size=SIZE, train=4, val=2, quiet=True)


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("val", 2)])
def test_the_folder_reads_back_as_the_toy_world(written, split, count):
    folder, toy = Folder(written, split, size=SIZE, flip=True), Toy(split, size=SIZE, count=count, flip=True)
    assert len(folder) == len(toy) and folder.spec == toy.spec
    for index in range(count):
        assert folder.name(index) == toy.name(index)
        for draw in range(4):
            read, made = folder[index, draw], toy[index, draw]
            assert_same(pixels_of(read), pixels_of(made))
            assert read.photo is not None and made.photo is not None and torch.equal(read.photo, made.photo)


def test_its_files_are_of_the_documented_types(written):
    def mode(part: str) -> str:
        with Image.open(written / "train" / part / "train_000000.png") as image:
            return image.mode

    assert (mode("photos"), mode("layouts"), mode("instances")) == ("RGB", "L", "I;16")
    assert read_classes(written / "classes.json") == CLASSES


def test_writing_resumes_after_an_interruption(written, tmp_path, monkeypatch):
    out, before = tmp_path / "again", 0
    import photogram.data.toy as module

    write = module.write_image

    def failing(pixels: np.ndarray, path: Path) -> None:
        nonlocal before
        before += 1
        if before == 9:  # within the third scene
            raise KeyboardInterrupt
        write(pixels, path)

    monkeypatch.setattr(module, "write_image", failing)
    with pytest.raises(KeyboardInterrupt):
        write_toy(out, size=SIZE, train=4, val=2, quiet=True)
    assert len(contents(out)) == 1 + 8
    (out / "train" / "photos" / ".train_000002.png.1.partial").write_bytes(b"left by a killed run")
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    monkeypatch.setattr(module, "write_image", write)
    assert write_toy(out, size=SIZE, train=4, val=2, quiet=True) == out
    assert {p: p.stat().st_mtime_ns for p in times} == times  # what was finished was not written again
    (out / "train" / "photos" / ".train_000002.png.1.partial").unlink()
    assert contents(out) == contents(written)


def test_a_finished_folder_can_grow(tmp_path, written):
    out = write_toy(tmp_path / "data", size=SIZE, train=2, val=1, quiet=True)
    write_toy(out, size=SIZE, train=4, val=2, quiet=True)
    assert contents(out) == contents(written)


def test_progress_is_shown_on_stderr_unless_quiet(tmp_path, capfd):
    write_toy(tmp_path / "a", size=SIZE, train=1, val=1)
    shown = capfd.readouterr()
    assert "toy world: 2/2" in shown.err and not shown.out
    write_toy(tmp_path / "b", size=SIZE, train=1, val=1, quiet=True)
    assert capfd.readouterr() == ("", "")


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "split 'trian'.*did you mean 'train'"),
        ({"size": (8, 128)}, "size 8 x 128.*16 to 8192"),
        ({"size": (96, 10_000)}, "size 96 x 10000.*16 to 8192"),
        ({"count": 0}, "count 0.*1 to 1000000"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1 << 63}, "seed 9223372036854775808"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Toy(**arguments)


def test_an_index_outside_the_world_is_refused():
    with pytest.raises(UserError, match=r"index 1000000.*0\.\.999999"):
        scene_pixels(0, "train", 1_000_000, SIZE)


def refused(out: Path, message: str, **changes: object) -> None:
    before = contents(out) if out.is_dir() else None
    with pytest.raises(UserError, match=message) as error:
        write_toy(out, **{"size": SIZE, "train": 4, "val": 2, "quiet": True, **changes})
    assert "\n" not in str(error.value) and str(out) in str(error.value)
    if before is not None:
        assert contents(out) == before


def test_another_data_set_is_left_alone(tmp_path):
    write_classes(CLASSES[:3], tmp_path / "classes.json")
    refused(tmp_path, "classes.json: lists the classes of another data set")


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    refused(tmp_path, "is no toy world, it holds 'holiday.jpg'")


def test_a_file_is_left_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file", "is a file")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "is not the scene of seed 1"),
        ({"size": (48, 80)}, "is 48 x 64, not 48 x 80"),
        ({"train": 3}, "train_000003.png: is not among the 3 train scenes asked for"),
        ({"val": 1}, "val_000001.png: is not among the 1 val scenes asked for"),
    ],
)
def test_two_worlds_are_never_mixed_in_one_folder(written, changes, message):
    refused(written, message, **changes)


def test_a_damaged_file_is_named(tmp_path):
    out = write_toy(tmp_path / "data", size=SIZE, train=1, val=1, quiet=True)
    (out / "train" / "layouts" / "train_000000.png").write_bytes(b"")
    refused(out, "train_000000.png: is empty", train=1, val=1)


@pytest.mark.skipif(os.name != "posix", reason="needs /dev/null to stand in for a disk that takes nothing")
def test_an_unwritable_place_is_named():
    with pytest.raises(UserError, match=r"/dev/null/toy.*cannot be written"):
        write_toy("/dev/null/toy", size=SIZE, train=1, val=1, quiet=True)
