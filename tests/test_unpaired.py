"""Two collections without pairs: how scenes are drawn, and how commands open what a recipe learns from."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from photogram.commands.train import size_of_first
from photogram.data.folder import Folder
from photogram.data.unpaired import Unpaired, open_scenes
from photogram.errors import UserError
from photogram.rasters import write_raster
from photogram.recipe import Scenes
from photogram.scene import Scene, to_pixels

NATIVE = (24, 36)
ROWS, COLUMNS = np.indices(NATIVE)


def picture(number: int) -> np.ndarray:
    """Says which it is, and of each pixel where it was."""
    return np.stack([ROWS, COLUMNS, np.full(NATIVE, number)], axis=-1).astype(np.uint8)


def write(root: Path, inputs: int, photos: int, split: str = "train") -> Path:
    for part, count in (("inputs", inputs), ("photos", photos)):
        (root / split / part).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            write_raster(picture(n), root / split / part / f"{part}-{n:02}.png")
    return root


def both(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    assert scene.condition.image is not None and scene.photo is not None
    return to_pixels(scene.condition.image)[0].numpy(), to_pixels(scene.photo)[0].numpy()


@pytest.mark.parametrize(("inputs", "photos"), ((3, 5), (5, 3), (4, 4), (1, 6)))
def test_an_epoch_is_as_long_as_the_larger_collection(tmp_path, inputs, photos):
    scenes = Unpaired(write(tmp_path, inputs, photos))
    assert isinstance(scenes, Scenes) and len(scenes) == max(inputs, photos)
    for index in range(len(scenes)):
        assert both(scenes[index, 9])[0][0, 0, 2] == index % inputs
        image, photo = both(scenes[index, 0])  # as sheets show it
        assert scenes.name(index) == f"inputs-{image[0, 0, 2]:02} / photos-{photo[0, 0, 2]:02}"


def test_photographs_are_drawn_uniformly_by_the_number(tmp_path):
    scenes, again = Unpaired(write(tmp_path, 2, 5)), Unpaired(tmp_path)
    drawn = [both(scenes[0, draw])[1] for draw in range(600)]
    counts = Counter(int(photo[0, 0, 2]) for photo in drawn)
    assert sorted(counts) == [0, 1, 2, 3, 4] and all(abs(n - 120) < 50 for n in counts.values())
    for draw in (0, 1, 599):
        np.testing.assert_array_equal(both(again[0, draw])[1], drawn[draw])
    assert len({int(both(scenes[index, 0])[1][0, 0, 2]) for index in range(5)}) > 1  # sheets, where all draws are 0


def test_windows_and_flips_of_the_two_are_independent(tmp_path):
    """Check 10.9."""
    scenes = Unpaired(write(tmp_path, 3, 3), size=(24, 24), fit="crop", flip=True)
    flips, lefts = Counter(), []
    for draw in range(300):
        image, photo = both(scenes[0, draw])
        columns = [pixels[0, :, 1].astype(int) for pixels in (image, photo)]
        for pixels in columns:
            assert (np.diff(pixels) == 1).all() or (np.diff(pixels) == -1).all()
        flips[tuple(bool(c[0] > c[-1]) for c in columns)] += 1
        lefts.append([int(c.min()) for c in columns])
    assert len(flips) == 4 and all(45 < n < 110 for n in flips.values())
    assert abs(np.corrcoef(np.array(lefts).T)[0, 1]) < 0.2 and np.ptp(lefts, axis=0).tolist() == [12, 12]


@pytest.mark.parametrize(("inputs", "photos"), ((3, 5), (5, 3), (4, 4), (1, 6)))
def test_to_judge_sets_each_file_comes_once(tmp_path, inputs, photos):
    scenes = Unpaired(write(tmp_path, inputs, photos), drawn=False)
    assert len(scenes) == min(inputs, photos)
    shown = [[int(pixels[0, 0, 2]) for pixels in both(scenes[n, 7])] for n in range(len(scenes))]
    for numbers, count in zip(zip(*shown, strict=True), (inputs, photos), strict=True):
        assert list(numbers) == sorted(set(numbers)), "in order, none twice"
        assert np.ptp(np.diff([*numbers, count])) <= 1, "spread evenly"
    assert [scenes.name(n) for n in range(len(scenes))] == [f"inputs-{first:02}" for first, _ in shown]


def test_sizes_may_differ_where_one_is_asked_for(tmp_path):
    write(tmp_path, 2, 2)
    for n in range(2):
        write_raster(picture(n)[:10, :20], tmp_path / f"train/photos/photos-{n:02}.png")
    image, photo = both(Unpaired(tmp_path, size=(16, 16))[0, 0])
    assert image.shape == photo.shape == (16, 16, 3)


def test_each_collection_has_its_own_form(tmp_path):
    write(tmp_path, 2, 2)
    for n in range(2):
        raster = np.full((*NATIVE, 1), 40_000 + n, np.uint16)
        write_raster(raster, tmp_path / f"train/inputs/inputs-{n:02}.png")
    spec = Unpaired(tmp_path, size=(8, 8)).spec
    assert (spec.image_channels, spec.image_bits, spec.photo_channels, spec.photo_bits) == (1, 16, 3, 8)
    assert spec.num_classes == 0 and spec.size == (8, 8)
    image = Unpaired(tmp_path)[1, 0].condition.image
    assert image is not None and torch.allclose(image, torch.tensor(40_001 / 32767.5 - 1))


def test_the_fingerprint_tells_changes_in_both(tmp_path):
    write(tmp_path, 3, 3)
    prints = [Unpaired(tmp_path).settings()["data"]]
    for part in ("inputs", "photos"):
        write_raster(picture(77), tmp_path / f"train/{part}/{part}-01.png")
        prints.append(Unpaired(tmp_path, size=(8, 8), flip=True).settings()["data"])
    write_raster(picture(77), tmp_path / "train/photos/more.png")
    prints.append(Unpaired(tmp_path).settings()["data"])
    assert len(set(prints)) == 4
    settings = Unpaired(tmp_path, size=(8, 9), fit="crop", flip=True).settings()
    assert settings == {"data": prints[-1], "size": [8, 9], "fit": "crop", "flip": True}


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="none: no such folder"):
        Unpaired(tmp_path / "none")
    write(tmp_path, 0, 2)
    with pytest.raises(UserError, match="train/inputs: holds no images"):
        Unpaired(tmp_path)
    with pytest.raises(UserError, match="val/inputs: no such folder"):
        Unpaired(tmp_path, "val")
    write_raster(picture(0), tmp_path / "train/inputs/a.png")
    write_raster(picture(0), tmp_path / "train/inputs/a.tif")
    with pytest.raises(UserError, match=r"a\.tif: has the same stem as a\.png"):
        Unpaired(tmp_path)


def test_scenes_are_opened_by_what_a_recipe_learns_from(tmp_path):
    write(tmp_path, 2, 3)
    assert isinstance(open_scenes(tmp_path, "train", "unpaired"), Unpaired)
    photographs = open_scenes(tmp_path, "train", "photographs", size=(8, 8))
    assert isinstance(photographs, Folder) and len(photographs) == 3 and photographs[0, 0].condition.image is None
    with pytest.raises(UserError, match="no input has a photograph of the same stem"):
        open_scenes(tmp_path, "train", "images")
    assert len(open_scenes(tmp_path, "train", "images", photos=False)) == 2
    assert size_of_first(tmp_path, "unpaired") == (NATIVE, "photos-00.png")
    assert size_of_first(tmp_path, "photographs") == (NATIVE, "photos-00.png")


def test_windows_of_the_files_as_they_are(tmp_path):
    """Check 10.9: each of the two has a window of its own, of pixels that nothing has resized."""
    scenes = Unpaired(write(tmp_path, 3, 3), size=(20, 17), fit="window", flip=True)
    corners = Counter()
    for draw in range(200):
        for pixels, index in zip(both(scenes[0, draw]), (0, None), strict=True):
            index = int(pixels[0, 0, 2]) if index is None else index
            top, left = int(pixels[..., 0].min()), int(pixels[..., 1].min())
            plain = picture(index)[top : top + 20, left : left + 17]
            mirrored = pixels[0, 0, 1] > pixels[0, -1, 1]
            np.testing.assert_array_equal(pixels, plain[:, ::-1] if mirrored else plain)
            corners[top, left] += 1
    assert len(corners) > 90  # of 5 x 20
    with pytest.raises(UserError, match=r"inputs-00\.png: is \d+ x \d+, smaller than the window of 999 x 17"):
        Unpaired(tmp_path, size=(999, 17), fit="window")[0, 0]
