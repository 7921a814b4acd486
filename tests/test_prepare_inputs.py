"""Preparers of images as conditions: halves of files, lists of files, two folders, and grey photographs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photogram.cli import main
from photogram.data.check import check
from photogram.data.folder import Folder
from photogram.data.inputs import grey_of, prepare_grey, prepare_manifest, prepare_pairs, prepare_unpaired
from photogram.data.toy import write_toy
from photogram.data.unpaired import Unpaired
from photogram.errors import UserError
from photogram.images import write_image
from photogram.nn.color import AB, colored, to_lab
from photogram.rasters import bits_of, read_raster, write_raster
from photogram.scene import SceneClass, from_pixels, read_classes, to_levels, to_pixels, write_classes

PHOTOGRAPHS = os.environ.get("PHOTOGRAM_PHOTOGRAPHS")
"""A folder of real photographs, for those who have one."""


def photo(seed: int, size: tuple[int, int] = (10, 14), bits: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, (*size, channels)).astype(f"u{bits // 8}")


def put(raster: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(raster, path)
    return path


def times(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


# pairs


@pytest.mark.parametrize("direction", ("AtoB", "BtoA"))
@pytest.mark.parametrize(("bits", "channels"), ((8, 3), (16, 3), (16, 1)))
def test_halves_become_inputs_and_photographs(tmp_path, direction, bits, channels):
    for split in ("train", "val", "test"):
        for n in range(2):
            put(photo(n, bits=bits, channels=channels), tmp_path / f"in/{split}/{n}.png")
    made = prepare_pairs(tmp_path / "in", out=tmp_path / "out", direction=direction, quiet=True)
    assert [(s.name, s.inputs, s.photos, s.layouts) for s in made.splits] == [
        ("train", 2, 2, 0),
        ("val", 2, 2, 0),
        ("test", 2, 2, 0),
    ]
    for n in range(2):
        halves = [read_raster(tmp_path / f"out/val/{part}/{n}.png") for part in ("inputs", "photos")]
        halves = halves if direction == "AtoB" else halves[::-1]
        np.testing.assert_array_equal(np.concatenate(halves, axis=1), photo(n, bits=bits, channels=channels))
    before = times(tmp_path / "out")
    again = prepare_pairs(tmp_path / "in", out=tmp_path / "out", direction=direction, quiet=True)
    assert (again.written, again.skipped) == (0, 6) and times(tmp_path / "out") == before
    other = "BtoA" if direction == "AtoB" else "AtoB"
    with pytest.raises(UserError, match=f"was prepared with direction '{direction}', now '{other}'"):
        prepare_pairs(tmp_path / "in", out=tmp_path / "out", direction=other, quiet=True)
    spec = Folder(tmp_path / "out", learns_from="images").spec
    assert (spec.image_channels, spec.image_bits, spec.photo_bits) == (channels, bits, bits)
    assert not check(tmp_path / "out", quiet=True).stops_training


def test_files_without_splits_are_split_by_name(tmp_path):
    for n in range(10):
        put(photo(n), tmp_path / f"in/{n:02}.png")
    prepare_pairs(tmp_path / "in", out=tmp_path / "out", val_share=0.2, quiet=True)
    held = sorted(p.stem for p in (tmp_path / "out/val/inputs").iterdir())
    assert held == ["08", "09"] and len(Folder(tmp_path / "out", learns_from="images")) == 8
    for share in (-0.1, 1.0):
        with pytest.raises(UserError, match=f"--val-share {share}: must be at least 0 and below 1"):
            prepare_pairs(tmp_path / "in", out=tmp_path / "no", val_share=share, quiet=True)


def test_what_an_earlier_run_wrote_of_files_that_are_gone_is_told(tmp_path):
    for n in range(3):
        put(photo(n), tmp_path / f"in/{n}.png")
    assert prepare_pairs(tmp_path / "in", out=tmp_path / "out", val_share=0, quiet=True).warnings == ()
    (tmp_path / "in/1.png").unlink()
    again = prepare_pairs(tmp_path / "in", out=tmp_path / "out", val_share=0, quiet=True)
    assert again.warnings == (
        f"{tmp_path}/out/train/inputs/1.png: is not from this source (2 such files); remove what is not wanted",
    )


def test_what_jpegs_hold_is_stored_without_loss(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(0, (16, 32))).save(tmp_path / "in/a.jpg")
    prepare_pairs(tmp_path / "in", out=tmp_path / "out", quiet=True)
    halves = [read_raster(tmp_path / f"out/train/{part}/a.png") for part in ("inputs", "photos")]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), read_raster(tmp_path / "in/a.jpg"))


def test_odd_widths_and_narrow_files(tmp_path):
    put(photo(0, (4, 9)), tmp_path / "in/a.png")
    made = prepare_pairs(tmp_path / "in", out=tmp_path / "out", quiet=True)
    assert "a.png: is 9 pixels wide, which is odd; the last column was left out" in made.warnings[0]
    np.testing.assert_array_equal(read_raster(tmp_path / "out/train/photos/a.png"), photo(0, (4, 9))[:, 4:8])
    put(photo(0, (4, 1)), tmp_path / "thin/a.png")
    with pytest.raises(UserError, match=r"a\.png: is 4 x 1, too narrow"):
        prepare_pairs(tmp_path / "thin", out=tmp_path / "no", quiet=True)
    with pytest.raises(UserError, match="overlaps the source"):
        prepare_pairs(tmp_path / "in", out=tmp_path / "in/out", quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        prepare_pairs(tmp_path / "empty", out=tmp_path / "no", quiet=True)


# manifest


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    lines = ["photo,split,input,layout"]
    for n, split in enumerate(("train", "train", "val")):
        put(photo(n), tmp_path / f"shots/{n}/rgb.png")
        write_raster(np.full((10, 14, 1), n / 4, np.float32), tmp_path / f"shots/{n}/depth.npy")
        put(photo(n, channels=1) % np.uint8(2), tmp_path / f"shots/{n}/labels.png")
        lines.append(f"shots/{n}/rgb.png,{split},shots/{n}/depth.npy,shots/{n}/labels.png")
    write_classes([SceneClass("a", (1, 2, 3)), SceneClass("b", (4, 5, 6))], tmp_path / "classes.json")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return tmp_path / "list.csv"


def test_a_manifest_says_what_belongs_together(listed, tmp_path):
    made = prepare_manifest(listed, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.inputs, s.photos, s.layouts) for s in made.splits] == [("train", 2, 2, 2), ("val", 1, 1, 1)]
    scenes = Folder(tmp_path / "out", learns_from="any")
    assert [scenes.name(n) for n in range(2)] == ["shots-0-rgb", "shots-1-rgb"]  # all are called rgb
    scene = scenes[1, 0]
    assert scene.condition.layout is not None and scene.condition.image is not None and scene.photo is not None
    assert float(scene.condition.image.unique()) == pytest.approx(-0.5)
    np.testing.assert_array_equal(to_pixels(scene.photo)[0].numpy(), photo(1))
    assert prepare_manifest(listed, out=tmp_path / "out", quiet=True).skipped == 3
    assert not check(tmp_path / "out", quiet=True).stops_training


@pytest.mark.parametrize(
    ("old", "new", "words"),
    (
        ("photo,split", "foto,split", "line 1: the column 'foto' is unknown (did you mean 'photo'?)"),
        ("photo,split", "split,split", "line 1: the column 'split' is there twice"),
        ("photo,split,input,layout", "photo,split", "line 1: has no column input"),
        ("shots/1/depth.npy", "shots/1/none.npy", "line 3: input 'shots/1/none.npy': no such file"),
        ("shots/1/depth.npy", "", "line 3: input '': no such file"),
        ("shots/1/labels.png", "list.csv", "line 3: layout 'list.csv': is of no type that is read"),
        (",val,", ",a/b,", "line 4: split is 'a/b'; it is the name of a folder"),
        (",val,", ",,", "line 4: split is ''"),
        (",val,", ",val,x,", "line 4: has 5 values, but there are 4 columns"),
        ("shots/1/rgb.png,train", "shots/0/rgb.png,train", "line 3: train/shots-0-rgb is in line 2 already"),
        ("shots/1/depth.npy", "shots/odd.npy", "line 3: "),
        ("shots/1/labels.png", "shots/2/labels7.png", "line 3: "),
    ),
)
def test_a_manifest_is_refused_by_its_line(listed, tmp_path, old, new, words):
    write_raster(np.zeros((5, 5, 1), np.float32), tmp_path / "shots/odd.npy")
    put(np.full((10, 14, 1), 7, np.uint8), tmp_path / "shots/2/labels7.png")
    listed.write_text(listed.read_text(encoding="utf-8-sig").replace(old, new))
    with pytest.raises(UserError) as caught:
        prepare_manifest(listed, out=tmp_path / "out", quiet=True)
    message = str(caught.value)
    assert message.startswith(f"{listed}, ") and words in message and "\n" not in message
    assert not (tmp_path / "out/classes.json").exists()


def test_files_that_are_no_manifest(tmp_path):
    (path := tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00")
    for content in (b"\xff\xfe\x00", b"", b"split,input,photo\n", b'split,input,photo\n"a'):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"list\.csv"):
            prepare_manifest(path, out=tmp_path / "out", quiet=True)
    with pytest.raises(UserError, match="no such file"):
        prepare_manifest(tmp_path / "none.csv", out=tmp_path / "out", quiet=True)


def test_a_source_is_never_overwritten(listed, tmp_path):
    with pytest.raises(UserError, match=r"shots: holds the source .*rgb\.png, which is never written to"):
        prepare_manifest(listed, out=tmp_path / "shots", quiet=True)


# unpaired


def test_two_folders_become_two_collections(tmp_path):
    for n in range(4):
        put(photo(n), tmp_path / f"horses/{n}.png")
    for n in range(6):
        put(photo(n, (8, 8)), tmp_path / f"zebras/{'old' if n < 2 else 'new'}/{n % 2}{n}.png")
    made = prepare_unpaired(
        tmp_path / "horses", tmp_path / "zebras", out=tmp_path / "out", b_glob="**/*.png", val_share=0.25, quiet=True
    )
    assert [(s.name, s.inputs, s.photos) for s in made.splits] == [("train", 3, 4), ("val", 1, 2)]
    scenes = Unpaired(tmp_path / "out", size=(8, 8))
    assert len(scenes) == 4 and scenes[0, 0].photo is not None
    np.testing.assert_array_equal(read_raster(tmp_path / "out/train/inputs/2.png"), photo(2))
    report = check(tmp_path / "out", quiet=True)
    assert {f.kind for f in report.findings if f.severity != "note"} == set()
    with pytest.raises(UserError, match=r"zebras: holds no pictures that --b-glob '\*\.gif' names"):
        prepare_unpaired(tmp_path / "horses", tmp_path / "zebras", out=tmp_path / "no", b_glob="*.gif", quiet=True)
    with pytest.raises(UserError, match="--a-glob '/etc': is no pattern"):
        prepare_unpaired(tmp_path / "horses", tmp_path / "zebras", out=tmp_path / "no", a_glob="/etc", quiet=True)
    with pytest.raises(UserError, match="was prepared with"):
        prepare_unpaired(tmp_path / "horses", tmp_path / "horses", out=tmp_path / "out", quiet=True)


def test_a_picture_in_both_collections_is_warned_of(tmp_path):
    for n in range(4):
        put(photo(n), tmp_path / f"in/{n}.png")
    folders = {"a": tmp_path / "in", "b": tmp_path / "in"}
    apart = prepare_unpaired(**folders, out=tmp_path / "apart", a_glob="[01].png", b_glob="[23].png", quiet=True)
    assert apart.warnings == ()
    some = prepare_unpaired(**folders, out=tmp_path / "some", a_glob="[012].png", quiet=True)
    (warning,) = some.warnings
    assert "in/0.png: is in both collections (3 such pictures); --a-glob and --b-glob" in warning


def test_equal_names_in_two_collections_are_no_pairs(tmp_path):
    for n in range(4):
        put(photo(n), tmp_path / f"horses/{n}.png")
        put(photo(n + 9, (8, 8)), tmp_path / f"zebras/{n}.png")
    prepare_unpaired(tmp_path / "horses", tmp_path / "zebras", out=tmp_path / "out", quiet=True)
    report = check(tmp_path / "out", quiet=True)
    assert {f.severity for f in report.findings} == {"note"} and report.splits["train"].pairs == 0
    paired = [f for f in check(tmp_path / "out", learns_from="images", quiet=True).findings if f.kind == "unpaired"]
    assert paired[0].severity == "warning" and "do not belong together" in paired[0].message
    (tmp_path / "out/prepare.json").write_text("[")  # by names, they are pairs
    assert check(tmp_path / "out", quiet=True).splits["train"].pairs == 3


# grey


@pytest.mark.parametrize(("bits", "suffix"), ((8, ".png"), (16, ".png"), (16, ".tif")))
def test_photographs_in_grey_become_inputs(tmp_path, bits, suffix):
    for split, count in (("train", 3), ("val", 1)):
        for n in range(count):
            put(photo(n, bits=bits), tmp_path / f"data/{split}/photos/{n}{suffix}")
    made = prepare_grey(tmp_path / "data", out=tmp_path / "out", quiet=True)
    assert [(s.name, s.inputs, s.photos) for s in made.splits] == [("train", 3, 3), ("val", 1, 1)]
    grey = read_raster(tmp_path / "out/train/inputs/1.png")
    assert grey.shape == (10, 14, 1) and bits_of(grey) == bits
    colors = from_pixels(photo(1, bits=bits))[None]
    lightness = to_lab(colors)[:, :1]
    assert (to_lab(from_pixels(grey)[None].expand(-1, 3, -1, -1))[:, :1] - lightness).abs().max() < 100 / 2**bits
    back = colored(from_pixels(grey)[None], to_lab(colors)[:, 1:] / AB)
    apart = np.abs(to_levels(back[0], bits).astype(int) - photo(1, bits=bits))
    assert apart.max() < 257 if bits == 16 else apart.mean() < 0.5, (
        "rounded greys; small values of strong colours feel it most"
    )
    np.testing.assert_array_equal(read_raster(tmp_path / f"out/train/photos/1{suffix}"), photo(1, bits=bits))
    spec = Folder(tmp_path / "out", learns_from="images").spec
    assert (spec.image_channels, spec.image_bits, spec.photo_channels, spec.photo_bits) == (1, bits, 3, bits)


def test_greys_of_greys_are_themselves():
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, -1)
    np.testing.assert_array_equal(grey_of(levels)[0, :, 0], np.arange(256))
    assert grey_of(np.ones((1, 1, 3), np.float32)).tolist() == [[[1.0]]]


def test_layouts_go_along_where_they_fit(tmp_path):
    """So that colours can be judged by a protocol that reads paintings."""
    data = write_toy(tmp_path / "toy", size=(16, 24), train=2, val=1, quiet=True)
    out = tmp_path / "out"
    made = prepare_grey(data, out=out, quiet=True)
    assert [(s.name, s.inputs, s.photos, s.layouts) for s in made.splits] == [("train", 2, 2, 2), ("val", 1, 1, 1)]
    assert read_classes(out / "classes.json") == read_classes(data / "classes.json")
    for path in data.glob("*/layouts/*"):
        assert (out / path.relative_to(data)).read_bytes() == path.read_bytes()
    assert Folder(out, learns_from="images").spec.num_classes == 0
    (layout,) = (data / "val/layouts").iterdir()
    write_image(np.zeros((16, 23), np.uint8), layout)
    with pytest.raises(UserError, match="is 16 x 23, but its photograph is 16 x 24"):
        prepare_grey(data, out=tmp_path / "other", quiet=True)


def test_photographs_without_colour_teach_none(tmp_path):
    put(photo(0, channels=1), tmp_path / "data/train/photos/a.png")
    with pytest.raises(UserError, match=r"a\.png: has 1 channel of 8 bits; colours are learned from"):
        prepare_grey(tmp_path / "data", out=tmp_path / "out", quiet=True)


# the command line


def test_the_command_line_prepares_and_checks(tmp_path, capsys):
    for n in range(3):
        put(photo(n, (40, 80)), tmp_path / f"in/{n}.png")
    assert main(["prepare", "pairs", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--direction", "BtoA"]) == 0
    said = capsys.readouterr().out
    assert "train 2 inputs and 2 photographs, val 1 inputs and 1 photographs; 0 scenes" in said
    assert main(["check", str(tmp_path / "out")]) == 0
    assert main(["prepare", "grey", str(tmp_path / "out"), "--out", str(tmp_path / "grey")]) == 0
    assert main(["prepare", "unpaired", str(tmp_path / "in"), str(tmp_path / "in"), "--out", str(tmp_path / "u")]) == 0
    assert main(["prepare", "manifest", str(tmp_path / "none.csv"), "--out", str(tmp_path / "m")]) == 1


@pytest.mark.skipif(not PHOTOGRAPHS, reason="PHOTOGRAM_PHOTOGRAPHS names no folder")
def test_real_photographs(tmp_path):
    source = Path(str(PHOTOGRAPHS))
    made = prepare_unpaired(source, source, out=tmp_path / "two", a_glob="**/*", b_glob="**/*", quiet=True)
    assert sum(s.inputs for s in made.splits) == sum(s.photos for s in made.splits) > 1
    scenes = Unpaired(tmp_path / "two", size=(64, 64), fit="crop")
    for index in range(min(4, len(scenes))):
        scene = scenes[index, index]
        assert scene.condition.image is not None and scene.condition.image.shape == (1, 3, 64, 64)
    grey = prepare_grey(tmp_path / "two", out=tmp_path / "grey", quiet=True)
    assert sum(s.inputs for s in grey.splits) == sum(s.photos for s in made.splits)
