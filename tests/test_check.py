"""The data doctor: every kind of damage, one by one in written folders, and by the dozen in real ones."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from rich.console import Console

from photogram.data import check as doctor
from photogram.data import examine
from photogram.data.check import Finding, Report, check, render
from photogram.data.folder import Folder
from photogram.data.prepare import prepare_coco_stuff
from photogram.errors import UserError
from photogram.images import read_instances, read_labels, read_photo, write_labels
from photogram.rasters import write_raster
from photogram.scene import SceneClass, SceneSpec, draw, read_classes, write_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))

CLASSES = (
    SceneClass("sky", (70, 130, 180)),
    SceneClass("road", (128, 64, 128)),
    SceneClass("car", (0, 0, 142)),
    SceneClass("unlabelled", (0, 0, 0), void=True),
)
SIZE = (24, 32)


def a_photo(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def a_layout(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Sky over road, two cars beside each other, a void strip below."""
    labels = np.zeros(size, np.uint8)
    labels[8 + seed % 4 :] = 1
    labels[12:18, 4:10] = labels[12:18, 14:20] = 2
    labels[-2:] = 3
    return labels


def some_instances(labels: np.ndarray) -> np.ndarray:
    instances = np.zeros(labels.shape, np.uint16)
    instances[labels == 2] = 2001
    instances[:, 12:][labels[:, 12:] == 2] = 2002
    return instances


def save(pixels: np.ndarray, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A data folder without fault: 4 scenes in train, 2 in val, with instances."""
    root = tmp_path / "world"
    for n in range(6):
        part = root / ("train" if n < 4 else "val")
        labels = a_layout(n)
        save(a_photo(n), part / "photos" / f"{n}.png")
        save(labels, part / "layouts" / f"{n}.png")
        save(some_instances(labels), part / "instances" / f"{n}.png")
    write_classes(CLASSES, root / "classes.json")
    return root


def found(root: Path, quick: bool = False, **options: object) -> list[Finding]:
    return check(root, quick=quick, quiet=True, **options).findings  # pyright: ignore[reportArgumentType]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, "\n".join(f"{f.severity} {f.kind} {f}" for f in findings)
    return findings[0]


def expect(root: Path, kind: str, severity: str, path: Path | str, *words: str, quick: bool | None = None) -> None:
    """The full check finds this and nothing else; if `quick`, so does the quick one, else it finds nothing."""
    finding = only(found(root))
    assert (finding.kind, finding.severity, finding.path) == (kind, severity, str(root / path))
    for word in words:
        assert word in finding.message, finding.message
    assert "\n" not in finding.message
    assert not finding.message.startswith(str(root))
    if quick is not None:
        assert found(root, quick=True) == ([finding] if quick else [])
    assert check(root, quiet=True).stops_training == (severity == "error")


# ---- a clean folder


def test_a_clean_folder_has_no_findings(world: Path):
    report = check(world, quiet=True)
    assert report.findings == [] and not report.stops_training
    report.require()
    assert found(world, quick=True) == []


def test_counts_are_those_of_a_plain_loop(world: Path):
    report = check(world, quiet=True)
    files = {split: sorted((world / split / "layouts").iterdir()) for split in ("train", "val")}
    labels = {split: [np.array(Image.open(path)) for path in paths] for split, paths in files.items()}
    assert [row.id for row in report.classes] == [0, 1, 2, 3]
    assert [(row.name, row.void) for row in report.classes] == [(c.name, c.void) for c in CLASSES]
    for row in report.classes:
        for split, maps in labels.items():
            assert row.shares[split] == pytest.approx(np.mean([m == row.id for m in maps]))
            assert row.layouts[split] == sum((m == row.id).any() for m in maps)
    train, val = report.splits["train"], report.splits["val"]
    assert (train.layouts, train.photos, train.pairs, train.instances, train.read) == (4, 4, 4, 4, 4)
    assert (val.layouts, val.photos, val.pairs, val.instances, val.read) == (2, 2, 2, 2, 2)
    assert report.sizes == {"train": {"24 x 32": 4}, "val": {"24 x 32": 2}}
    counts = report.instances["train"]
    assert (counts.files, counts.objects, counts.most, counts.crossing, counts.ragged) == (4, 8, 2, 0, 0)


def test_wide_labels_and_palettes_are_fine(world: Path):
    path = world / "train/layouts/0.png"
    labels = np.array(Image.open(path))
    save(labels.astype(np.uint16), path)
    palette = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    palette.putpalette([v for c in CLASSES for v in c.color])
    palette.save(world / "train/layouts/1.png")
    report = check(world, quiet=True)
    assert report.findings == []
    assert report.classes[2].layouts == {"train": 4, "val": 2}


def test_not_a_folder(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere: no such folder; make one with `photogram prepare`"):
        check(tmp_path / "nowhere", quiet=True)
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(
        UserError, match=r"data\.zip: is a file, but a data folder is needed; give the folder that holds"
    ):
        check(tmp_path / "data.zip", quiet=True)


# ---- names, pairs, classes, splits


def test_photo_without_layout(world: Path):
    (world / "train/layouts/1.png").unlink()
    (world / "train/instances/1.png").unlink()
    expect(world, "photo-without-layout", "warning", "train/photos/1.png", "1.png", quick=True)


def test_layout_without_photo(world: Path):
    (world / "val/photos/5.png").unlink()
    expect(world, "layout-without-photo", "note", "val/layouts/5.png", quick=True)
    save(a_photo(5), world / "val/photos/5.png")
    (world / "train/photos/3.png").unlink()
    expect(world, "layout-without-photo", "warning", "train/layouts/3.png", "leaves it out", quick=True)


def test_instances_without_layout(world: Path):
    save(np.zeros(SIZE, np.uint16), world / "val/instances/9.png")
    expect(world, "instances-without-layout", "warning", "val/instances/9.png", quick=True)


def test_instances_partly_missing(world: Path):
    (world / "train/instances/2.png").unlink()
    alone = "is missing, of 4 instance maps this one alone, so that none is used"
    expect(world, "instances-partly-missing", "warning", "train/instances/2.png", alone, quick=True)
    assert only(found(world)).message == alone, "the path names it"
    (world / "train/instances/3.png").unlink()
    other = "is missing, as is 1 other of 4 instance maps, so that none is used: 3"
    expect(world, "instances-partly-missing", "warning", "train/instances/2.png", other, quick=True)
    (world / "train/instances/1.png").unlink()
    others = "is missing, as are 2 others of 4 instance maps, so that none is used: 2, 3"
    expect(world, "instances-partly-missing", "warning", "train/instances/1.png", others, quick=True)


def test_instances_in_one_split_only(world: Path):
    shutil.rmtree(world / "val/instances")
    expect(world, "instances-partly-missing", "warning", "val/instances", "train has some", quick=True)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("part", ["photos", "layouts", "instances"])
def test_same_stem_twice(world: Path, split: str, part: str):
    stem = "0" if split == "train" else "4"
    shutil.copy(world / split / part / f"{stem}.png", world / split / part / f"{stem}.tif")
    expect(world, "same-stem", "error", f"{split}/{part}/{stem}.tif", f"{stem}.png", quick=True)


def test_unknown_type(world: Path):
    (world / "train/photos/Thumbs.db").write_bytes(b"x")
    expect(world, "unknown-type", "warning", "train/photos/Thumbs.db", "no known type", quick=True)
    (world / "train/photos/Thumbs.db").unlink()
    (world / "train/layouts/aachen").mkdir()
    expect(world, "unknown-type", "warning", "train/layouts/aachen", "is a folder", quick=True)
    (world / "train/layouts/aachen").rmdir()
    (world / "val/layouts/x.png").symlink_to(world / "nothing.png")
    expect(world, "unknown-type", "warning", "val/layouts/x.png", "link to nothing", quick=True)


def test_hidden_files_are_nobodys_business(world: Path):
    (world / "train/photos/.DS_Store").write_bytes(b"x")
    (world / ".git").mkdir()
    (world / "README.md").write_text("mine")
    assert found(world) == []


def test_two_classes_of_one_name(world: Path):
    path = world / "classes.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([{**entries[0], "name": entries[2]["name"]}, *entries[1:]]))
    words = f"classes 0 and 2 are all called {entries[2]['name']!r}"
    expect(world, "twin-names", "warning", "classes.json", words, quick=True)


def test_bad_classes(world: Path):
    path = world / "classes.json"
    entries = json.loads(path.read_text())
    for bad, word in [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "read"),
        (json.dumps(entries[1:]).encode(), "0 is missing"),
        (json.dumps([{**entries[0], "color": [0, 0, 300]}, *entries[1:]]).encode(), "300"),
    ]:
        path.write_bytes(bad)
        expect(world, "bad-classes", "error", "classes.json", word, quick=True)
    path.unlink()
    expect(world, "bad-classes", "error", "classes.json", "no such file", quick=True)
    assert check(world, quiet=True).classes == []


def test_class_never_seen(world: Path):
    bus = SceneClass("bus", (0, 60, 100))
    write_classes((*CLASSES[:3], bus, CLASSES[3]), world / "classes.json")
    for path in (*world.glob("*/layouts/*"),):
        labels = np.array(Image.open(path))
        save(np.where(labels == 3, 4, labels).astype(np.uint8), path)
    expect(world, "class-never-seen", "note", "classes.json", "class 3 (bus)", "no layout", quick=False)
    labels = np.array(Image.open(world / "val/layouts/4.png"))
    labels[0, 0] = 3
    save(labels, world / "val/layouts/4.png")
    expect(world, "class-never-seen", "warning", "classes.json", "class 3 (bus)", "1 of val", quick=False)


def test_no_train_split(world: Path):
    (world / "train").rename(world / "Train")
    by_kind = {f.kind: f for f in found(world)}
    assert (by_kind["no-train-split"].severity, by_kind["no-train-split"].path) == (
        "error",
        str(world / "train"),
    )
    assert "Train" in by_kind["no-train-split"].message
    inner = check(world / "Train", quiet=True)
    assert inner.stops_training
    assert any("give the folder above it" in f.message for f in inner.findings)


def test_no_val_split(world: Path):
    shutil.rmtree(world / "val")
    expect(world, "no-val-split", "note", "val", quick=True)


def test_empty_splits(world: Path):
    for path in world.glob("val/*/*"):
        path.unlink()
    expect(world, "empty-split", "warning", "val", "no layout", quick=True)
    (world / "train/layouts").rename(world / "train/labels")
    findings = {f.kind: f for f in found(world) if f.severity == "error"}
    assert set(findings) == {"no-pairs"} and "labels" in findings["no-pairs"].message


def test_train_without_any_pair(world: Path):
    for path in (world / "train/photos").iterdir():
        path.unlink()
    assert [f.kind for f in found(world, quick=True) if f.severity == "error"] == ["no-pairs"]


def test_other_splits_are_checked_in_full_and_stop_nothing(world: Path):
    shutil.copytree(world / "val", world / "test")
    for n in (4, 5):
        save(a_photo(20 + n), world / f"test/photos/{n}.png")
    (world / "test/layouts/4.png").write_bytes(b"")
    expect(world, "unreadable", "warning", "test/layouts/4.png", "empty", quick=False)


# ---- damaged files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


def animation(path: Path) -> None:
    frames = [Image.fromarray(a_layout(n)) for n in range(2)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


HEADLESS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("<html>not found</html>"), "no image"),
    "bomb": (bomb, "limit"),
    "animation": (animation, "frames"),
}


@pytest.mark.parametrize("damage", [*HEADLESS, "cut"])
@pytest.mark.parametrize("part", ["photos", "layouts", "instances"])
def test_unreadable_files(world: Path, part: str, damage: str):
    path = world / "train" / part / "2.png"
    harm, word = HEADLESS.get(damage, (cut, "damaged or cut short"))
    harm(path)
    expect(world, "unreadable", "error", f"train/{part}/2.png", word, quick=True)


def test_a_cut_jpeg_is_found(world: Path):
    (world / "val/photos/4.png").unlink()
    cut(save(a_photo(4), world / "val/photos/4.jpg", quality=95))
    expect(world, "unreadable", "error", "val/photos/4.jpg", quick=True)


def test_the_quick_look_decodes_no_photograph_but_those_without_an_end(world: Path, monkeypatch: pytest.MonkeyPatch):
    decoded: list[str] = []
    real = examine.read_raster

    def read(path: Path) -> np.ndarray:
        decoded.append(path.name)
        return real(path)

    monkeypatch.setattr(examine, "read_raster", read)
    (world / "val/photos/4.png").unlink()
    jpeg = save(a_photo(4), world / "val/photos/4.jpg", quality=95)
    tail = save(a_photo(1), world / "train/photos/1.png")
    tail.write_bytes(tail.read_bytes() + b"tail")
    assert found(world, quick=True) == [] and not decoded
    jpeg.write_bytes(jpeg.read_bytes() + bytes(4000))  # as some cameras do: whole, though its end is not at the end
    assert found(world, quick=True) == [] and decoded == ["4.jpg"]


def test_damage_to_what_training_leaves_out_is_a_warning(world: Path):
    (world / "train/layouts/1.png").unlink()
    (world / "train/instances/1.png").unlink()
    cut(world / "train/photos/1.png")
    (world / "train/photos/3.png").unlink()
    (world / "train/layouts/3.png").write_bytes(b"")
    report = check(world, quiet=True)
    assert not report.stops_training
    assert [Path(f.path).name for f in report.findings if f.kind == "unreadable"] == ["3.png", "1.png"]
    assert len(Folder(world)) == 2


def test_even_a_decoder_that_breaks_is_a_finding(world: Path, monkeypatch: pytest.MonkeyPatch):
    def break_down(path: Path) -> np.ndarray:
        raise MemoryError("no memory left")

    monkeypatch.setattr("photogram.data.examine.read_raster", break_down)
    findings = found(world)
    assert len(findings) == 6
    assert all(f.kind == "unreadable" and "MemoryError" in f.message for f in findings)


@pytest.mark.parametrize("part", ["photos", "instances"])
def test_size_mismatch(world: Path, part: str):
    path = world / "train" / part / "3.png"
    Image.open(path).crop((0, 0, 31, 24)).save(path)
    expect(world, "size-mismatch", "error", f"train/{part}/3.png", "24 x 31", "3.png is 24 x 32", quick=True)


def test_a_layout_of_another_size_is_seen_from_both_sides(world: Path):
    save(np.zeros((12, 32), np.uint8), world / "val/layouts/4.png")
    assert {(f.kind, Path(f.path).parent.name) for f in found(world) if f.severity == "error"} == {
        ("size-mismatch", "photos"),
        ("size-mismatch", "instances"),
    }


# ---- what layouts hold


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_class_out_of_range_names_pixel_and_value(world: Path, dtype: type):
    path = world / "train/layouts/1.png"
    labels = np.array(Image.open(path)).astype(dtype)
    labels[7, 30] = 255
    labels[9, 2:5] = 4
    save(labels, path)
    words = ("class 255 at (row 7, column 30)", "0..3", "4 such pixels", "4, 255")
    expect(world, "class-out-of-range", "error", "train/layouts/1.png", *words, quick=True)
    with pytest.raises(UserError, match=r"layouts/1.png: class 255 at \(row 7, column 30\)"):
        check(world, quick=True, quiet=True).require()


def test_colour_layouts(world: Path):
    labels = np.array(Image.open(world / "train/layouts/0.png"))
    save(np.array([c.color for c in CLASSES], np.uint8)[labels], world / "train/layouts/0.png")
    expect(world, "colour-layout", "error", "train/layouts/0.png", "mode RGB", "prepare palette", quick=True)


def test_colour_instances(world: Path):
    save(a_photo(3), world / "val/instances/4.png")
    expect(world, "colour-instances", "error", "val/instances/4.png", "mode RGB", quick=True)


@pytest.mark.parametrize("name", ["0.jpg", "0.png"])
def test_jpeg_layouts_whatever_their_name(world: Path, name: str):
    labels = np.array(Image.open(world / "train/layouts/0.png"))
    (world / "train/layouts/0.png").unlink()
    Image.fromarray(labels).save(world / "train/layouts" / name, "JPEG")
    expect(world, "jpeg-layout", "error", f"train/layouts/{name}", "JPEG", quick=True)


def test_palettes_that_number_their_own_colours(world: Path):
    """What `Image.quantize` makes of a colour-coded layout: indices in range, and wrong."""
    path = world / "train/layouts/2.png"
    labels = np.array(Image.open(path))
    order = np.array([3, 0, 1, 2], np.uint8)  # class -> index in the palette
    image = Image.frombytes("P", labels.shape[::-1], order[labels].tobytes())
    image.putpalette([v for i in np.argsort(order) for v in CLASSES[i].color])
    image.save(path)
    shutil.rmtree(world / "train/instances")
    shutil.rmtree(world / "val/instances")
    expect(
        world,
        "palette-differs",
        "warning",
        "train/layouts/2.png",
        "index 0 (sky)",
        "class 1 (road)",
        quick=False,
    )


def test_palettes_for_show_are_no_news(world: Path):
    for n, values in enumerate(([v for i in range(256) for v in (i, i, i)], list(range(200, 212)))):
        path = world / f"train/layouts/{n}.png"
        labels = np.array(Image.open(path))
        image = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
        image.putpalette(values)
        image.save(path)
    assert found(world) == []


def test_void_and_constant_layouts(world: Path):
    save(np.full(SIZE, 3, np.uint8), world / "train/layouts/0.png")
    expect(world, "all-void", "warning", "train/layouts/0.png", "class 3, unlabelled", quick=False)
    save(np.full(SIZE, 1, np.uint8), world / "train/layouts/0.png")
    save(np.zeros(SIZE, np.uint16), world / "train/instances/0.png")
    expect(world, "constant-layout", "warning", "train/layouts/0.png", "class 1 (road)", quick=False)


def test_instances_that_cross_classes(world: Path):
    path = world / "val/instances/5.png"
    instances = np.array(Image.open(path))
    instances[9:15, 4:8] = 2001  # into what lies above the car of rows 12 to 17
    save(instances, path)
    words = ("instance 2001", "36 px of class 2 (car)", "12 px of class 1 (road)", "(row 9, column 4)")
    expect(world, "instance-crosses-classes", "warning", "val/instances/5.png", *words, quick=False)
    counts = check(world, quiet=True).instances["val"]
    assert (counts.objects, counts.crossing) == (4, 1)


def test_ragged_instances_are_a_note(world: Path):
    path = world / "train/instances/1.png"
    instances = np.array(Image.open(path))
    instances[11, 14] = 2002
    save(instances, path)
    words = ("2002 (class 2 (car), class 1 (road))",)
    expect(world, "ragged-instances", "note", "train/instances/1.png", *words, quick=False)


def test_no_object_and_void_may_lie_anywhere(world: Path):
    for n, nothing in ((0, 0), (1, 255)):  # zero in 16 bits; 255 in 8 bits, as COCO-Stuff has it
        labels = np.array(Image.open(world / f"train/layouts/{n}.png"))
        instances = np.full(SIZE, nothing, np.uint8 if nothing else np.uint16)
        instances[labels == 2] = 7
        instances[-2:, :4] = 7  # void below the car
        save(instances, world / f"train/instances/{n}.png")
    assert found(world) == []


# ---- what photographs hold


def test_duplicates_between_train_and_val_by_pixels(world: Path):
    Image.open(world / "train/photos/2.png").save(world / "val/photos/4.png", compress_level=1, pnginfo=None)
    train, val = world / "train/photos/2.png", world / "val/photos/4.png"
    assert train.read_bytes() != val.read_bytes(), "the same pixels in other bytes"
    expect(world, "duplicate-photo", "warning", "val/photos/4.png", str(train), quick=False)
    shutil.copy(train, val)
    expect(world, "duplicate-photo", "warning", "val/photos/4.png", str(train), quick=False)


def test_repeats_within_a_split_are_a_note(world: Path):
    shutil.copy(world / "train/photos/0.png", world / "train/photos/3.png")
    expect(world, "repeated-photo", "note", "train/photos/3.png", "train/photos/0.png", quick=False)


def test_a_layout_among_the_photographs(world: Path):
    labels = np.array(Image.open(world / "train/layouts/0.png"))
    save(np.array([c.color for c in CLASSES], np.uint8)[labels], world / "train/photos/0.png")
    expect(world, "looks-like-layout", "warning", "train/photos/0.png", "4 colours", quick=False)


def test_blank_photo(world: Path):
    save(np.full((*SIZE, 3), (9, 8, 7), np.uint8), world / "train/photos/0.png")
    expect(world, "blank-photo", "warning", "train/photos/0.png", "one single colour", quick=False)


def test_swapped_folders(world: Path):
    (world / "train/photos").rename(world / "train/x")
    (world / "train/layouts").rename(world / "train/photos")
    (world / "train/x").rename(world / "train/layouts")
    kinds = [f.kind for f in found(world)]
    assert kinds.count("colour-layout") == 4 and kinds.count("looks-like-layout") == 4


def test_grey_photo_in_a_colour_set(world: Path):
    save(a_photo(1)[..., 0], world / "train/photos/1.png")
    expect(world, "grey-photo", "note", "train/photos/1.png", "1 of 6", quick=False)
    for path in world.glob("*/photos/*"):
        save(a_photo(int(path.stem))[..., 0], path)
    assert found(world) == [], "a grey set is no news"


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_rotated_photo(world: Path, orientation: int):
    (world / "train/photos/1.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = a_photo(1, SIZE if orientation == 3 else (SIZE[1], SIZE[0]))
    save(stored, world / "train/photos/1.jpg", exif=exif)
    expect(world, "exif-rotated", "note", "train/photos/1.jpg", "24 x 32", "handled", quick=False)


def test_very_different_sizes(world: Path):
    size = (96, 40)
    save(a_photo(0, size), world / "train/photos/0.png")
    save(a_layout(0, size), world / "train/layouts/0.png")
    save(np.zeros(size, np.uint16), world / "train/instances/0.png")
    expect(world, "sizes-differ", "note", "train", "heights 24..96", "widths 32..40", quick=True)


def test_smaller_than_asked(world: Path):
    finding = only(found(world, size=(48, 64)))
    assert (finding.kind, finding.severity) == ("smaller-than-asked", "note") and "4 of 4" in finding.message
    assert found(world, size=SIZE) == []


# ---- reports, order, quickness


def test_a_report_is_json_and_frozen(world: Path):
    (world / "train/layouts/1.png").write_bytes(b"")
    report = check(world, quiet=True)
    values = json.loads(json.dumps(report.to_json()))
    assert values["stops_training"] is True
    assert values["findings"] == [
        {
            "kind": "unreadable",
            "severity": "error",
            "path": str(world / "train/layouts/1.png"),
            "message": "is empty",
        }
    ]
    assert values["classes"][2]["layouts"] == {"train": 3, "val": 2}
    with pytest.raises(AttributeError):
        report.root = "x"  # pyright: ignore[reportAttributeAccessIssue]


def test_require_names_the_first_and_counts_the_rest(world: Path):
    (world / "train/layouts/0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"train/layouts/0.png: is empty$"):
        check(world, quick=True, quiet=True).require()
    (world / "train/layouts/1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"train/layouts/0.png: is empty \(1 more: `photogram check"):
        check(world, quick=True, quiet=True).require()


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    render(report, console)
    return console.export_text()


def test_render_groups_cuts_and_counts(world: Path):
    (world / "train/photos/[bold]1.png").write_bytes(b"")
    for n in range(20):
        (world / f"train/photos/{n:02}.txt").write_bytes(b"")
    text = shown(check(world, quiet=True))
    assert "channels of 8 bits" not in text, "as photographs are"
    assert "unknown-type (20)" in text and "00.txt" in text and "12 more of this kind" in text
    assert f"`photogram check {world} --json` lists all" in text.replace("\n", ""), "train shows it too"
    assert "19.txt" not in text
    assert "[bold]1.png" in text, "names are no markup"
    assert "unlabelled (void)" in text and "24 x 32 (4)" in text
    assert "0 errors, 22 warnings, 0 notes: nothing stops a training" in text
    cut(world / "train/layouts/0.png")
    assert "1 error, 22 warnings, 0 notes: training would stop" in shown(check(world, quiet=True))


def test_render_with_many_classes_and_with_none(world: Path):
    many = (*CLASSES, *(SceneClass(f"c{i}", (i, i, i)) for i in range(60)))
    write_classes(many, world / "classes.json")
    assert "and 24 smaller classes" in shown(check(world, quiet=True))
    (world / "classes.json").unlink()
    assert "bad-classes" in shown(check(world, quiet=True))


def test_a_large_folder_is_read_evenly_until_the_time_is_up(world: Path, monkeypatch: pytest.MonkeyPatch):
    for n in range(100, 120):
        for part in ("photos", "layouts", "instances"):
            shutil.copy(world / "train" / part / "0.png", world / "train" / part / f"{n}.png")
    monkeypatch.setattr(doctor, "QUICK_SCENES", 8)
    monkeypatch.setattr(doctor, "_CHUNK", 4)
    assert found(world, quick=True) == [], "within the time, all are read"
    monkeypatch.setattr(doctor, "QUICK_SECONDS", 0.0)
    report = check(world, quick=True, quiet=True)
    finding = only(report.findings)
    assert (finding.kind, finding.severity) == (
        "not-all-read",
        "note",
    ) and "8 of 26 scenes" in finding.message
    assert sum(split.read for split in report.splits.values()) == 8
    assert len(check(world, quiet=True).findings) == 20, "the full check reads all; 20 photographs are repeated"


def test_what_the_doctor_passes_the_folder_reads(world: Path):
    """No error means that training can read every scene; each error below stops it."""
    for split in ("train", "val"):
        folder = Folder(world, split)
        for index in range(len(folder)):
            folder[index, 0]
    for harm in (
        cut,
        bomb,
        lambda path: save(a_photo(0), path),
        lambda path: save(np.full(SIZE, 9, np.uint8), path),
    ):
        keep = (world / "train/layouts/0.png").read_bytes()
        harm(world / "train/layouts/0.png")
        assert check(world, quick=True, quiet=True).stops_training
        with pytest.raises(UserError):
            Folder(world)[0, 0]
        (world / "train/layouts/0.png").write_bytes(keep)


# ---- real folders, damaged in many ways at once


class Vandal:
    """Damages a real data folder at places that follow from a seed, and notes what the doctor must say.

    Every scene is damaged at most once, so that each damage must be found by itself.
    """

    def __init__(self, root: Path, clean: list[Finding], seed: int):
        self.root, self.draw = root, np.random.default_rng(seed)
        self.before = {(f.kind, f.path) for f in clean}
        self.classes = read_classes(root / "classes.json")
        self.instances = (root / "train/instances").is_dir()
        stems = [(p.parent.parent.name, p.stem) for p in sorted(root.glob("*/layouts/*.png"))]
        self.free = [stems[i] for i in self.draw.permutation(len(stems))]
        self.expected: dict[tuple[str, str], tuple[str, ...]] = {}
        """(kind, path) -> words of the message."""

    def take(self, split: str | None = None) -> tuple[Path, str]:
        """A scene that nothing has happened to, `(folder of its split, stem)`."""
        scene = next(s for s in self.free if split in (None, s[0]))
        self.free.remove(scene)
        return self.root / scene[0], scene[1]

    def file(self, part: str, split: str | None = None) -> Path:
        folder, stem = self.take(split)
        return next((folder / part).glob(f"{stem}.*"))

    def expect(self, kind: str, path: Path, *words: str) -> None:
        self.expected[kind, str(path)] = words

    def damage_photos(self) -> None:
        cut(path := self.file("photos", "train"))
        self.expect("unreadable", path)
        (path := self.file("photos", "train")).write_text("<html>404</html>")
        self.expect("unreadable", path, "no image")
        photo = read_photo(path := self.file("photos", "train"))
        Image.fromarray(photo[:, 1:]).save(path)
        self.expect("size-mismatch", path, f"{photo.shape[0]} x {photo.shape[1] - 1}", f"{photo.shape[1]}")
        path = self.file("photos", "train")
        labels = read_labels(path.parent.parent / "layouts" / f"{path.stem}.png")
        Image.fromarray(draw(labels, SceneSpec(self.classes))).save(path.with_suffix(".png"))
        if path.suffix != ".png":
            path.unlink()
        self.expect("looks-like-layout", path.with_suffix(".png"), "colours")
        (path := self.file("photos", "train")).unlink()
        self.expect("layout-without-photo", path.parent.parent / "layouts" / f"{path.stem}.png")
        path = self.file("photos", "train")
        for part in ("layouts", "instances"):
            (path.parent.parent / part / f"{path.stem}.png").unlink(missing_ok=True)
        self.expect("photo-without-layout", path)
        path = self.file("photos", "train")
        shutil.copy(path, path.with_suffix(".tif"))
        self.expect("same-stem", path.with_suffix(".tif"), path.name)
        (path := self.root / "val/layouts/Thumbs.db").write_bytes(b"x")
        self.expect("unknown-type", path)

    def leak_a_scene(self) -> None:
        """Into val, with all that was noted of it before."""
        folder, stem = self.take("train")
        for part in ("photos", "layouts", "instances"):
            for path in (folder / part).glob(f"{stem}.*"):
                (copy := self.root / "val" / part / f"leaked{path.suffix}").parent.mkdir(exist_ok=True)
                if part == "photos":  # the same pixels in another file
                    Image.fromarray(read_photo(path)).save(copy := copy.with_suffix(".png"), compress_level=0)
                    self.expect("duplicate-photo", copy, path.name)
                else:
                    shutil.copy(path, copy)
                for kind in (kind for kind, noted in self.before if noted == str(path)):
                    self.expect(kind, copy)

    def damage_layouts(self) -> None:
        labels = read_labels(path := self.file("layouts"))
        row, column = (int(self.draw.integers(side)) for side in labels.shape)
        labels[row, column] = 200
        save(labels, path)
        self.expect("class-out-of-range", path, f"class 200 at (row {row}, column {column})")
        labels = read_labels(path := self.file("layouts"))
        save(draw(labels, SceneSpec(self.classes)), path)
        self.expect("colour-layout", path, "mode RGB")
        Image.open(path := self.file("layouts")).save(path, "JPEG", quality=100)
        self.expect("jpeg-layout", path)
        cut(path := self.file("layouts"))
        self.expect("unreadable", path, "damaged or cut short")
        (path := self.file("layouts")).write_bytes(b"")
        self.expect("unreadable", path, "is empty")
        if len(self.free) > 5:  # Cityscapes' sample is too small for all
            bomb(path := self.file("layouts"))
            self.expect("unreadable", path, "limit")
        labels = read_labels(path := self.file("layouts"))
        void = next(i for i, c in enumerate(self.classes) if c.void)
        save(np.full_like(labels, void), path)
        self.expect("all-void", path, self.classes[void].name)

    def damage_instances(self) -> None:
        (path := self.file("instances", "val")).unlink()
        self.expect("instances-partly-missing", path, "so that none is used")
        crossed = {Path(path).stem for kind, path in self.before if kind == "instance-crosses-classes"}
        self.free.sort(key=lambda scene: scene[1] in crossed)  # one in which none crosses
        path = self.file("instances")
        labels, instances = read_labels(path.parent.parent / "layouts" / path.name), read_labels(path)
        void = next(i for i, c in enumerate(self.classes) if c.void)
        number = int(self.draw.choice(np.unique(instances[(labels != void) & (instances > 255)])))
        main = int(np.bincount(labels[(instances == number) & (labels != void)]).argmax())
        pixels = int((instances == number).sum())
        rows, columns = np.nonzero((labels != void) & (labels != main))
        start = int(self.draw.integers(max(1, len(rows) - pixels)))
        instances[rows[start : start + pixels], columns[start : start + pixels]] = number
        save(instances.astype(np.uint16), path)
        self.expect("instance-crosses-classes", path, f"instance {number} ", self.classes[main].name)
        cut(path := self.file("instances"))
        self.expect("unreadable", path)
        instances = read_labels(path := self.file("instances")).astype(np.uint16)
        save(instances[1:], path)
        self.expect("size-mismatch", path, f"{instances.shape[0] - 1} x", f"{instances.shape[0]} x")


def real_camvid(out: Path) -> None:
    for split, count in (("train", 18), ("val", 6)):
        for part in ("photos", "layouts"):
            (out / split / part).mkdir(parents=True)
            paths = sorted((SHARED / "data/camvid" / split / part).iterdir())
            for path in paths[:: len(paths) // count][:count]:
                shutil.copy(path, out / split / part)
    shutil.copy(SHARED / "data/camvid/classes.json", out)


def real_cityscapes(out: Path) -> None:
    """The 19 classes and void, at half size to be quick."""
    source, ids = SHARED / "data/cityscapes-sample", (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
    table = np.full(256, 19, np.uint8)
    table[list(ids)] = np.arange(19)
    for path in source.glob("gtFine/*/*/*_labelIds.png"):
        (split, city), stem = path.parts[-3:-1], path.name.removesuffix("_gtFine_labelIds.png")
        save(table[read_labels(path)[1::2, 1::2]], out / split / "layouts" / f"{stem}.png", compress_level=1)
        instances = path.with_name(f"{stem}_gtFine_instanceIds.png")
        halved = read_labels(instances)[1::2, 1::2].astype(np.uint16)
        save(halved, out / split / "instances" / f"{stem}.png", compress_level=1)
        photo = source / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
        if photo.exists():
            save(read_photo(photo)[::2, ::2], out / split / "photos" / f"{stem}.png", compress_level=1)
    classes = [SceneClass(f"class {i}", (10 * i, 0, 255 - 10 * i)) for i in range(19)]
    write_classes([*classes, SceneClass("unlabelled", (0, 0, 0), void=True)], out / "classes.json")


REAL: dict[str, Callable[[Path], object]] = {
    "camvid": real_camvid,
    "cityscapes-sample": real_cityscapes,
    "coco-stuff-sample": lambda out: prepare_coco_stuff(SHARED / "data/coco-stuff-sample", out=out, quiet=True),
}


@pytest.mark.parametrize("name", REAL)
def test_every_damage_to_a_real_folder_is_found(name: str, tmp_path: Path):
    if not (SHARED / "data" / name).is_dir():
        pytest.skip(f"needs shared/data/{name}")
    REAL[name](root := tmp_path / name)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    clean = check(root, quiet=True)
    assert not clean.stops_training
    vandal = Vandal(root, clean.findings, seed=len(name))
    vandal.damage_photos()
    vandal.leak_a_scene()
    vandal.damage_layouts()
    if vandal.instances:
        vandal.damage_instances()
    assert len(vandal.expected) >= 12

    report = check(root, quiet=True)
    new = {(f.kind, f.path): f.message for f in report.findings if (f.kind, f.path) not in vandal.before}
    # which classes are never seen, and how sizes differ, follows from what could be read
    accused = {key for key in new if key[0] not in ("class-never-seen", "sizes-differ")}
    assert accused == set(vandal.expected)
    for key, words in vandal.expected.items():
        assert all(word in new[key] for word in words), (new[key], words)
    quick = {(f.kind, f.path) for f in check(root, quick=True, quiet=True).findings}
    seen_quickly = ("class-out-of-range", "colour-layout", "jpeg-layout", "size-mismatch", "same-stem")
    assert {key for key in vandal.expected if key[0] in seen_quickly or "/layouts/" in key[1]} - quick <= {
        key for key in vandal.expected if key[0] == "all-void"
    }
    assert report.stops_training


# images as conditions


def write_images(root: Path, split: str, stem: str, bits: int = 8, photo: bool = True) -> None:
    rng = np.random.default_rng([*stem.encode()])
    for part in ("inputs", *(["photos"] if photo else [])):
        (root / split / part).mkdir(parents=True, exist_ok=True)
    values = rng.random((24, 32, 1), dtype=np.float32)
    raster = {8: (values * 255).astype(np.uint8), 16: (values * 65535).astype(np.uint16), 32: values}[bits]
    write_raster(raster, root / split / "inputs" / f"{stem}.{'npy' if bits == 32 else 'png'}")
    if photo:
        write_raster(rng.integers(0, 256, (24, 32, 3), np.uint8), root / split / "photos" / f"{stem}.png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for stem in "abc":
        write_images(tmp_path, "train", stem)
    write_images(tmp_path, "val", "d")
    return tmp_path


def by_kind(report: Report) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        found.setdefault(finding.kind, []).append(str(finding))
    return found


@pytest.mark.parametrize("quick", (False, True))
def test_images_and_photographs_need_no_classes(images: Path, quick: bool):
    report = check(images, quick=quick, quiet=True)
    assert not report.findings and not report.stops_training and not report.classes
    train = report.splits["train"]
    assert (train.inputs, train.photos, train.pairs, train.layouts, train.scenes) == (3, 3, 3, 0, 3)
    assert report.sizes == {"train": {"24 x 32": 3}, "val": {"24 x 32": 1}}
    assert report.forms == {"inputs": {"1 channel of 8 bits": 4}, "photos": {"3 channels of 8 bits": 4}}
    assert "inputs: 1 channel of 8 bits; photos: 3 channels of 8 bits\n" in shown(report)
    write_raster(np.zeros((24, 32, 5), np.uint16), images / "val/inputs/d.png.tif")
    (images / "val/inputs/d.png.tif").rename(images / "val/inputs/d.png")  # by its bytes
    assert "inputs: 1 channel of 8 bits (3), 5 channels of 16 bits (1); photos" in shown(check(images, quick=quick))


def test_what_is_wrong_with_inputs_is_named(images: Path):
    train = images / "train"
    (train / "inputs/lonely.png").write_bytes((train / "inputs/a.png").read_bytes())
    (train / "photos/b.png").unlink()
    write_raster(np.zeros((24, 30, 1), np.uint8), train / "inputs/a.png")
    write_raster(np.full((24, 32, 1), 300, np.uint16), train / "inputs/c.png")
    (train / "photos/alone.png").write_bytes((train / "photos/c.png").read_bytes())
    found = by_kind(check(images, quiet=True))
    assert sorted(found) == [
        "constant-input",
        "form-mismatch",
        "input-without-photo",
        "photo-without-input",
        "repeated-photo",
        "size-mismatch",
    ]
    assert [line.split(":")[0].rpartition("/")[2] for line in found["input-without-photo"]] == ["b.png", "lonely.png"]
    assert (
        "inputs/c.png: has 1 channel of 16 bits, but a.png, the first, has 1 channel of 8 bits"
        in found["form-mismatch"][0]
    )
    assert "photos/a.png: is 24 x 32, but its input a.png is 24 x 30" in found["size-mismatch"][0]
    assert "every value is 300" in found["constant-input"][1]


@pytest.mark.parametrize(("value", "word"), ((np.nan, "nan"), (1.5, "1.5"), (-0.1, "-0.1")))
def test_floats_that_are_no_levels_are_found(tmp_path: Path, value: float, word: str):
    for stem in "ab":
        write_images(tmp_path, "train", stem, 32)
    raster = np.load(tmp_path / "train/inputs/a.npy")
    raster[3, 4] = value
    np.save(tmp_path / "train/inputs/a.npy", raster)
    report = check(tmp_path, quiet=True)
    assert report.stops_training and f"a.npy: holds {word} at (row 3, column 4" in by_kind(report)["out-of-range"][0]
    with pytest.raises(UserError, match="floating-point values must lie in"):
        Folder(tmp_path, learns_from="images")[0, 0]


def test_two_collections_are_no_damage(images: Path):
    for path in (images / "train/photos").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    write_images(images, "train", "more", photo=False)
    (images / "val/photos/d.png").rename(images / "val/photos/y.png")
    report = check(images, quiet=True)
    assert not report.stops_training and {f.severity for f in report.findings} == {"note"}
    assert "4 inputs and 3 photographs" in by_kind(report)["unpaired"][0]
    assert report.splits["train"].scenes == 3 and report.splits["train"].pairs == 0
    paired = by_kind(check(images, learns_from="images", quiet=True))
    assert "no input has a photograph of the same stem" in paired["no-pairs"][0]
    shutil.rmtree(images / "train/inputs")
    alone = check(images, learns_from="unpaired", quiet=True)
    assert alone.stops_training and "train/inputs: holds no images" in by_kind(alone)["empty-collection"][0]


def test_photographs_alone_are_for_recipes_that_need_no_more(images: Path):
    for split in ("train", "val"):
        shutil.rmtree(images / split / "inputs")
    report = check(images, quiet=True)
    assert not report.findings and report.splits["train"].scenes == 3
    assert check(images, learns_from="photographs", quiet=True).findings == []
    assert check(images, learns_from="layouts", quiet=True).stops_training


def test_layouts_and_inputs_belong_together_by_name(world: Path):
    for path in (world / "train/photos").iterdir():
        (world / "train/inputs").mkdir(exist_ok=True)
        (world / "train/inputs" / path.name).write_bytes(path.read_bytes())
    first = min((world / "train/inputs").iterdir())
    first.unlink()
    found = by_kind(check(world, quiet=True))
    assert f"layouts/{first.stem}.png: has no input of the stem {first.stem}" in found["layout-without-input"][0]
    assert "layout-without-input" not in by_kind(check(world, learns_from="layouts", quiet=True))


# ---- instance maps of 32 bits; windows


@pytest.mark.parametrize("suffix", (".npy", ".tif"))
def test_instance_maps_of_32_bits_are_examined_like_others(world: Path, suffix: str):
    before = check(world, quiet=True).instances
    for path in sorted(world.glob("*/instances/*.png")):
        numbers = read_labels(path).astype(np.int64)
        write_labels(np.where(numbers == 0, 0, numbers + 2**31 - 3000), path.with_suffix(suffix))
        path.unlink()
    assert found(world) == found(world, quick=True) == []
    assert check(world, quiet=True).instances == before
    np.save(world / "val/instances/4.npy", np.zeros((3, 4), int))
    (world / "val/instances/4.tif").unlink(missing_ok=True)
    expect(world, "size-mismatch", "error", "val/instances/4.npy", "is 3 x 4", quick=True)
    np.save(world / "val/instances/4.npy", np.full(SIZE, 2**31))
    expect(world, "unreadable", "error", "val/instances/4.npy", "2147483648", "2147483647", quick=True)


@pytest.mark.parametrize("kind", (">i8", "<u8", ">u4", "<u4", "tiff"))
def test_numbers_too_large_to_read_are_found_before_a_training_begins(world: Path, kind: str):
    """By the quick check, which reads no other instance maps: the training would end at the scene."""
    old = world / "train/instances/0.png"
    numbers = read_labels(old).astype(np.int64)
    numbers[3, 4] += 2**31 - 1
    path = old.with_suffix(".tif" if kind == "tiff" else ".npy")

    def write() -> None:
        if kind == "tiff":
            tifffile.imwrite(path, numbers.astype(np.uint32), byteorder="<")
        else:
            np.save(path, numbers.astype(kind))

    old.unlink()
    assert numbers[3, 4] == 2**31 - 1, "no object is there"
    write()
    assert found(world, quick=True) == []
    numbers[3, 4] = 2**31 + 5
    write()
    words = ("holds 2147483653 at (row 3, column 4), but 2147483647 is the largest number that is read",)
    expect(world, "unreadable", "error", path.relative_to(world), *words, quick=True)
    with pytest.raises(UserError, match=rf"train/instances/{path.name}: holds 2147483653 .* 2147483647 is the largest"):
        Folder(world)[0, 0]


def test_the_quick_check_reads_no_instance_map_whose_numbers_cannot_be_too_large(world: Path, monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(examine, "read_instances", lambda path: (read.append(path.name), read_instances(path))[1])
    for n, kind in enumerate(("uint16", "int32", "int64")):
        old = world / f"train/instances/{n}.png"
        np.save(old.with_suffix(".npy"), read_labels(old).astype(kind))
        old.unlink()
    (world / "val/instances/4.png").rename(world / "val/instances/4.npy")  # what it is, its bytes say
    assert found(world, quick=True) == [] and read == ["2.npy"]
    assert found(world) == [] and len(read) == 1 + 6


def test_scenes_smaller_than_a_window_stop_a_training(world: Path):
    height, width = SIZE
    assert found(world, quick=True, size=SIZE, fit="window") == []
    for size in ((height + 1, width), (height, width + 1)):
        for quick in (True, False):
            findings = found(world, quick=quick, size=size, fit="window")
            assert len(findings) == 6 and {f.kind for f in findings} == {"smaller-than-window"}
            assert {f.severity for f in findings} == {"error"}
            assert findings[0].path == str(world / "train/layouts/0.png")
            assert f"smaller than the window of {size[0]} x {size[1]}; use --fit crop" in findings[0].message
        assert only(found(world, quick=True, size=size, fit="crop")).kind == "smaller-than-asked"
