"""The preparers: public data sets and colour-coded layouts to data folders."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import photogram.data.carrying as carrying
import photogram.data.preparing as preparing
from photogram.data.colors import ColorTable, blended, count_colors, pack, pack_color, read_colors, snap, solid_colors
from photogram.data.folder import Folder, pair_files
from photogram.data.known_classes import (
    CAMVID,
    CAMVID_11,
    CITYSCAPES,
    CITYSCAPES_TRAIN_IDS,
    COCO_STUFF,
    camvid_32,
    cityscapes_19,
    cityscapes_35,
    coco_stuff,
)
from photogram.data.palette import prepare_palette
from photogram.data.prepare import number_objects, prepare_camvid, prepare_cityscapes, prepare_coco_stuff
from photogram.errors import UserError
from photogram.images import read_labels, write_labels
from photogram.scene import read_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
DATA = SHARED / "data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real samples are not in {DATA}")

RED, GREEN, BLUE, BLACK = (200, 30, 40), (20, 190, 60), (30, 60, 220), (0, 0, 0)


def save(pixels: np.ndarray | Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path)
    return path


def blocks(*values: int, size: tuple[int, int] = (12, 24), dtype: type = np.uint8) -> np.ndarray:
    """Vertical stripes of the values given."""
    columns = np.arange(size[1]) * len(values) // size[1]
    return np.broadcast_to(np.array(values, dtype)[columns], size).copy()


def painted(*colors: tuple[int, int, int], size: tuple[int, int] = (12, 24)) -> np.ndarray:
    return np.array(colors, np.uint8)[blocks(*range(len(colors)), size=size)]


def photo(seed: int = 0, size: tuple[int, int] = (12, 24)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def tree(root: Path) -> dict[str, str]:
    """A hash of every file, and the time of its last change."""
    return {
        str(p.relative_to(root)): f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.stat().st_mtime_ns}"
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of every file but the record, which names the source."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name != carrying.RECORD)
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def same_edges(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two instance maps have their boundaries at the same places."""
    return all(np.array_equal(np.diff(a.astype(int), axis=k) != 0, np.diff(b.astype(int), axis=k) != 0) for k in (0, 1))


def palette_source(root: Path, scenes: int = 4) -> Path:
    for n in range(scenes):
        save(painted(RED, GREEN, BLUE), root / "layouts" / f"{n:02}.png")
        save(photo(n), root / "photos" / f"{n:02}.jpg")
    return root


# Cityscapes


def cityscapes_source(root: Path, kind: str = "labelIds") -> Path:
    ids = blocks(7, 26, 18, 34, 255, 23)
    objects = np.where(ids == 26, 26001, ids.astype(np.uint16)).astype(np.uint16)
    for split, city, n in (("train", "aachen", 1), ("train", "bochum", 1), ("val", "lindau", 1), ("test", "bonn", 1)):
        stem = f"{city}_{n:06}_000019"
        save(ids, root / f"gtFine/{split}/{city}/{stem}_gtFine_{kind}.png")
        save(objects, root / f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png")
        if split != "val":
            save(photo(n), root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
    return root


def test_cityscapes_19_is_in_the_order_of_the_palette(tmp_path: Path) -> None:
    source = cityscapes_source(tmp_path / "src")
    before = tree(source)
    made = prepare_cityscapes(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [
        ("train", 2, 2, 2),
        ("val", 1, 0, 1),
        ("test", 1, 1, 1),
    ]
    layout = read_labels(tmp_path / "out/train/layouts/aachen_000001_000019.png")
    assert layout.dtype == np.uint8
    assert layout[0, ::4].tolist() == [0, 13, 19, 19, 19, 10]  # pole group, plate and -1 are unlabelled
    objects = read_labels(tmp_path / "out/val/instances/lindau_000001_000019.png")
    assert objects[0, ::4].tolist() == [7, 26001, 18, 34, 255, 23]
    photos = "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png"
    assert (tmp_path / "out/train/photos/aachen_000001_000019.png").read_bytes() == (source / photos).read_bytes()
    classes = read_classes(tmp_path / "out/classes.json")
    assert len(classes) == 20 and classes[13].name == "car" and classes[19].void
    assert tree(source) == before
    assert len(Folder(tmp_path / "out", "train")) == 2


def test_cityscapes_35_keeps_the_ids(tmp_path: Path) -> None:
    made = prepare_cityscapes(cityscapes_source(tmp_path / "src"), out=tmp_path / "out", classes=35, quiet=True)
    layout = read_labels(tmp_path / "out/train/layouts/aachen_000001_000019.png")
    assert layout[0, ::4].tolist() == [7, 26, 18, 34, 34, 23]
    assert len(made.classes) == 35 and made.classes[34].name == "license plate" and made.classes[0].void


def test_cityscapes_palette_is_that_of_the_specification() -> None:
    names = (
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, "
    )
    names += "rider, car, truck, bus, train, motorcycle, bicycle, unlabelled"
    assert [c.name for c in cityscapes_19()] == names.split(", ")
    assert (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33) == CITYSCAPES_TRAIN_IDS
    assert cityscapes_35()[33].name == "bicycle" and CITYSCAPES[29] == ("caravan", (0, 0, 90))


@pytest.mark.parametrize("kind", ["labelTrainIds", "color"])
def test_cityscapes_other_label_files(tmp_path: Path, kind: str) -> None:
    source = cityscapes_source(tmp_path / "src", kind)
    for path in source.rglob(f"*_{kind}.png"):
        save(blocks(0, 13, 255) if kind == "labelTrainIds" else painted((128, 64, 128), (0, 0, 142), (1, 2, 3)), path)
    prepare_cityscapes(source, out=tmp_path / "out", quiet=True)
    layout = read_labels(tmp_path / "out/val/layouts/lindau_000001_000019.png")
    assert layout[0, ::8].tolist() == [0, 13, 19]
    with pytest.raises(UserError, match=r"has only .* files; 35 classes need"):
        prepare_cityscapes(source, out=tmp_path / "other", classes=35, quiet=True)


def test_cityscapes_is_found_where_archives_put_it(tmp_path: Path) -> None:
    source = cityscapes_source(tmp_path / "src")
    (source / "gtFine_trainvaltest").mkdir()
    (source / "gtFine").rename(source / "gtFine_trainvaltest/gtFine")
    (source / "leftImg8bit_trainvaltest").mkdir()
    (source / "leftImg8bit").rename(source / "leftImg8bit_trainvaltest/leftImg8bit")
    made = prepare_cityscapes(source, out=tmp_path / "out", quiet=True)
    assert sum(s.photos for s in made.splits) == 3
    inner = prepare_cityscapes(cityscapes_source(tmp_path / "flat") / "gtFine", out=tmp_path / "inner", quiet=True)
    assert sum(s.photos for s in inner.splits) == 3


def test_cityscapes_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder gtFine"):
        prepare_cityscapes(tmp_path, out=tmp_path / "out", quiet=True)
    source = cityscapes_source(tmp_path / "src")
    wrong = blocks(7, 77)
    save(wrong, source / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png")
    with pytest.raises(UserError, match=r"aachen_000001_000019_gtFine_labelIds.png: label 77 at \(row 0, column 12\)"):
        prepare_cityscapes(source, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out/classes.json").exists()  # not finished, so not to be trained on
    save(blocks(7, size=(12, 20)), source / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png")
    with pytest.raises(UserError, match=r"leftImg8bit.png: is 12 x 24, but its layout .* is 12 x 20"):
        prepare_cityscapes(source, out=tmp_path / "out2", quiet=True)


@needs_data
def test_cityscapes_sample(tmp_path: Path) -> None:
    source = DATA / "cityscapes-sample"
    made = prepare_cityscapes(source, out=tmp_path / "out", classes=35, quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [("train", 8, 8, 8), ("val", 10, 0, 10)]
    for pair in pair_files(tmp_path / "out/val").pairs[:3]:
        ids = read_labels(source / f"gtFine/val/frankfurt/{pair.stem}_gtFine_labelIds.png")
        assert np.array_equal(read_labels(pair.layout), ids)
        assert pair.instances
        objects = read_labels(pair.instances)
        assert np.array_equal(objects, read_labels(source / f"gtFine/val/frankfurt/{pair.stem}_gtFine_instanceIds.png"))
        assert np.array_equal(np.where(objects < 1000, objects, objects // 1000), ids)


# COCO-Stuff


def test_coco_names_are_the_published_ones() -> None:
    assert len(COCO_STUFF) == 182
    known = {0: "person", 11: "street sign", 61: "chair", 89: "toothbrush", 90: "hair brush", 91: "banner"}
    known |= {105: "clouds", 123: "grass", 148: "road", 156: "sky-other", 168: "tree", 181: "wood"}
    assert {i: COCO_STUFF[i] for i in known} == known
    colors = [c.color for c in coco_stuff()]
    assert len(set(colors)) == 183 and colors[182] == BLACK and coco_stuff()[182].void


@pytest.mark.parametrize("form", ["spade", "official", "images", "mixed"])
def test_coco_forms(tmp_path: Path, form: str) -> None:
    source = tmp_path / "src"
    for split in ("train", "val"):
        photos, labels = {
            "spade": (f"{split}_img", f"{split}_label"),
            "official": (f"{split}2017", f"stuffthingmaps/{split}2017"),
            "images": (f"images/{split}2017", f"annotations/{split}2017"),
            "mixed": (f"{split}2017", f"{split}2017"),
        }[form]
        save(photo(), source / photos / "000000000001.jpg")
        save(blocks(0, 156, 255), source / labels / "000000000001.png")
        if form == "spade":
            save(blocks(0, 156, 255), source / f"{split}_inst/000000000001.png")
    before = tree(source)
    made = prepare_coco_stuff(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [
        (split, 1, 1, int(form == "spade")) for split in ("train", "val")
    ]
    layout = read_labels(tmp_path / "out/val/layouts/000000000001.png")
    assert layout[0, ::8].tolist() == [0, 156, 182]
    assert tree(source) == before


def test_coco_maps_that_count_from_one_are_refused(tmp_path: Path) -> None:
    save(photo(), tmp_path / "src/val_img/1.jpg")
    save(blocks(1, 157, 182), tmp_path / "src/val_label/1.png")
    with pytest.raises(UserError, match=r"1.png: label 182 .*known are 0..181 and 255"):
        prepare_coco_stuff(tmp_path / "src", out=tmp_path / "out", quiet=True)


def test_coco_objects_are_told_from_regions() -> None:
    labels = np.array([[0, 0, 3, 3, 156, 1, 1, 0]])
    numbers = np.array([[0, 0, 1, 1, 156, 1, 1, 0]])  # object 1 is a car (2 pixels of label 3) or bicycles (label 1)
    found = number_objects(labels, numbers)
    # Object 1: most things are label 1 and 3 alike, the first of them wins; what kept label 1 merges with it.
    assert found.tolist() == [[256, 256, 513, 513, 156, 513, 513, 256]]
    labels = np.array([[5, 5, 5, 2, 2, 120]])
    numbers = np.array([[2, 2, 2, 2, 2, 120]])  # object 2 is a bus; the region of label 2 is no object
    assert number_objects(labels, numbers).tolist() == [[256 * 6 + 2] * 3 + [2, 2, 120]]
    labels = np.array([[0, 7, 7, 100, 100]])
    numbers = np.array([[0, 1, 1, 1, 100]])  # its outline reaches over stuff
    assert number_objects(labels, numbers).tolist() == [[256, 256 * 8 + 1, 256 * 8 + 1, 256 * 8 + 1, 100]]


def test_coco_objects_that_touch_stay_apart() -> None:
    labels = np.full((2, 9), 2)  # three cars in a row, then a bus of label 5
    labels[:, 6:] = 5
    numbers = np.repeat([[0, 1, 2, 0, 0]], 2, axis=0).repeat([2, 2, 2, 2, 1], axis=1)
    numbers[:, 6:] = 3
    found = number_objects(labels, numbers)
    assert found[0, ::2].tolist() == [256 * 3, 256 * 3 + 1, 256 * 3 + 2, 256 * 6 + 3, 256 * 6 + 3]
    assert same_edges(found, numbers)
    labels, numbers = np.full((1, 256), 2), np.arange(256)[None].copy()
    numbers[0, 255] = 254  # 255 objects of one class, all that there can be
    assert len(np.unique(number_objects(labels, numbers))) == 255


def test_coco_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither train_label"):
        prepare_coco_stuff(tmp_path, out=tmp_path / "out", quiet=True)
    save(blocks(0, 200), tmp_path / "src/val_label/1.png")
    with pytest.raises(UserError, match=r"1.png: label 200 at \(row 0, column 12\); known are 0..181 and 255"):
        prepare_coco_stuff(tmp_path / "src", out=tmp_path / "out", quiet=True)


@needs_data
def test_coco_sample(tmp_path: Path) -> None:
    source = DATA / "coco-stuff-sample"
    made = prepare_coco_stuff(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [
        ("train", 13, 13, 13),
        ("val", 8, 8, 8),
    ]
    untold = 0
    for pair in [*pair_files(tmp_path / "out/train").pairs, *pair_files(tmp_path / "out/val").pairs]:
        split = pair.layout.parent.parent.name
        labels = read_labels(source / f"{split}_label/{pair.stem}.png")
        assert np.array_equal(read_labels(pair.layout), np.where(labels == 255, 182, labels))
        assert pair.instances and pair.photo
        objects, classes = read_labels(pair.instances).astype(int), read_labels(pair.layout)
        assert objects.max() > 255  # there are objects
        assert np.array_equal(objects[objects < 256], classes[objects < 256])
        raw = read_labels(source / f"{split}_inst/{pair.stem}.png")
        pairs = np.unique(raw.astype(int) * 65536 + objects)  # a number is split only where it stood for a region too
        split_up = np.unique(pairs // 65536).size < pairs.size
        assert split_up or same_edges(objects, raw)
        untold += split_up
        assert (source / f"{split}_img/{pair.photo.name}").read_bytes() == pair.photo.read_bytes()
    assert untold < 10


# CamVid


def camvid_source(root: Path, scenes: int = 6) -> Path:
    for sequence in ("0001TP", "Seq05VD"):
        for n in range(scenes):
            save(photo(n), root / "701_StillsRaw_full" / f"{sequence}_f{n:05}.png")
            colors = [c for _, c, _ in CAMVID[:16]] if n % 2 else [c for _, c, _ in CAMVID[16:]]
            layout = painted(*colors, size=(12, 48))[:, ::2]
            save(layout, root / "LabeledApproved_full" / f"{sequence}_f{n:05}_L.png")
    return root


@pytest.mark.parametrize("classes", [11, 32])
def test_camvid_original(tmp_path: Path, classes: int) -> None:
    source = camvid_source(tmp_path / "src")
    before = tree(source)
    made = prepare_camvid(source, out=tmp_path / "out", classes=11 if classes == 11 else 32, quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 10, 10), ("val", 2, 2)]
    assert [p.stem for p in pair_files(tmp_path / "out/val").pairs] == ["0001TP_f00005", "Seq05VD_f00005"]
    layouts = [read_labels(tmp_path / f"out/{s}/layouts/0001TP_f{n:05}.png") for s, n in (("val", 5), ("train", 0))]
    row = np.concatenate([a[0] for a in layouts])
    order = [i for half in (range(16), range(16, 32)) for i in np.array(half)[np.arange(48) * 16 // 48][::2]]
    assert row.tolist() == [i if classes == 32 else CAMVID[i][2] for i in order]
    assert tree(source) == before


def test_camvid_classes() -> None:
    assert len(CAMVID) == len({c for _, c, _ in CAMVID}) == 32
    assert camvid_32()[30].void and camvid_32()[30].name == "Void"
    groups = {name: CAMVID_11[g][0] if g < 11 else "void" for name, _, g in CAMVID}
    assert groups["SUVPickupTruck"] == "car" and groups["LaneMkgsDriv"] == "road" and groups["Child"] == "pedestrian"
    assert groups["Void"] == "void" and list(groups.values()).count("void") == 1


def test_camvid_lists_and_folders_split(tmp_path: Path) -> None:
    source = camvid_source(tmp_path / "src", 3)
    (source / "train.txt").write_text("0001TP_f00002.png\nx/0001TP_f00000_L.png\n")
    (source / "val.txt").write_text("Seq05VD_f00001\n")
    made = prepare_camvid(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts) for s in made.splits] == [("train", 2), ("val", 1)]
    assert "3 such scenes left out" in made.warnings[0]
    (source / "val.txt").write_text("Seq05VD_f00009\n")
    with pytest.raises(UserError, match=r"val.txt: lists 'Seq05VD_f00009', which has no layout"):
        prepare_camvid(source, out=tmp_path / "out2", quiet=True)
    for split in ("train", "test"):
        save(painted((128, 0, 0)), tmp_path / f"kaggle/{split}_labels/{split}_1_L.png")
        save(photo(), tmp_path / f"kaggle/{split}/{split}_1.png")
    made = prepare_camvid(tmp_path / "kaggle", out=tmp_path / "out3", quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 1, 1), ("test", 1, 1)]


def test_camvid_segnet_form(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        save(photo(), tmp_path / f"src/CamVid/{split}/0001TP_1.png")
        save(blocks(0, 8, 11), tmp_path / f"src/CamVid/{split}annot/0001TP_1.png")
    made = prepare_camvid(tmp_path / "src", out=tmp_path / "out", quiet=True)
    assert [(s.name, s.photos) for s in made.splits] == [("train", 1), ("val", 1), ("test", 1)]
    assert read_labels(tmp_path / "out/test/layouts/0001TP_1.png")[0, ::8].tolist() == [0, 8, 11]
    with pytest.raises(UserError, match="which 32 cannot be made from"):
        prepare_camvid(tmp_path / "src", out=tmp_path / "out2", classes=32, quiet=True)


def test_camvid_stray_colors(tmp_path: Path) -> None:
    layout = painted((128, 0, 0), (128, 128, 128), size=(40, 40))
    layout[0, 0] = (1, 2, 3)
    save(layout, tmp_path / "src/a_1_L.png")
    made = prepare_camvid(tmp_path / "src", out=tmp_path / "out", quiet=True)
    assert "1 pixels of unknown colours became void" in made.warnings[0]
    layout[:5] = (1, 2, 3)
    save(layout, tmp_path / "src/a_1_L.png")
    with pytest.raises(UserError, match=r"a_1_L.png: 200 pixels \(12.5%\) have none of the 32 colours"):
        prepare_camvid(tmp_path / "src", out=tmp_path / "out2", quiet=True)
    with pytest.raises(UserError, match="neither"):
        prepare_camvid(save(photo(), tmp_path / "no/a.png").parent, out=tmp_path / "out3", quiet=True)


@needs_data
def test_camvid_own_form(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for split, count in (("train", 4), ("val", 2)):
        for pair in pair_files(DATA / "camvid" / split).pairs[:count]:
            for path in (pair.layout, pair.photo):
                assert path
                target = source / split / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    (source / "classes.json").write_bytes((DATA / "camvid/classes.json").read_bytes())
    made = prepare_camvid(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 4, 4), ("val", 2, 2)]
    for pair in pair_files(source / "val").pairs:
        assert np.array_equal(read_labels(pair.layout), read_labels(tmp_path / "out/val/layouts" / pair.layout.name))
    assert read_classes(tmp_path / "out/classes.json") == read_classes(DATA / "camvid/classes.json")
    with pytest.raises(UserError, match="lists 12 classes; --classes 32 takes 32"):
        prepare_camvid(source, out=tmp_path / "out2", classes=32, quiet=True)


# Colours


def test_colors_read_alike_in_every_form(tmp_path: Path) -> None:
    rgb = painted(RED, GREEN, BLUE, RED)
    indexed = Image.fromarray(blocks(3, 1, 2, 0))
    indexed.putpalette([*RED, *GREEN, *BLUE, *RED])  # two entries of one colour
    paths = [
        save(rgb, tmp_path / "rgb.png"),
        save(Image.merge("RGBA", (*Image.fromarray(rgb).split(), Image.new("L", (24, 12), 7))), tmp_path / "rgba.png"),
        save(indexed, tmp_path / "indexed.png"),
        save(rgb, tmp_path / "rgb.bmp"),
    ]
    for path in paths:
        assert np.array_equal(read_colors(path), pack(rgb)), path
    with pytest.raises(UserError, match="more than 8 bits"):
        read_colors(save(blocks(1, 2, dtype=np.uint16), tmp_path / "deep.png"))


def test_color_table_equals_the_slow_way() -> None:
    draw = np.random.default_rng(1)
    palette = draw.integers(0, 1 << 24, 40)
    colors = palette[draw.integers(0, 40, (31, 17))].astype(np.int32)
    table = {int(c): i for i, c in enumerate(palette[:30])}
    found, unlisted = ColorTable(table, 99)(colors)
    slow = [[table.get(int(c), 99) for c in row] for row in colors]
    assert found.tolist() == slow and unlisted == int((found == 99).sum()) > 0
    known, pixels = count_colors(colors)
    assert {int(c): int(n) for c, n in zip(known, pixels, strict=True)} == {
        int(c): int((colors == c).sum()) for c in np.unique(colors)
    }
    assert ColorTable({1: 300}, 0)(np.array([[1]], np.int32))[0].dtype == np.uint16
    assert ColorTable({}, 4)(colors)[0].max() == 4


def test_solid_colors_equals_the_slow_way() -> None:
    draw = np.random.default_rng(2)
    colors = np.kron(draw.integers(0, 30, (9, 9)), np.ones((3, 3), int))[1:, 1:-4].astype(np.int32)
    height, width = colors.shape
    slow = {
        int(colors[y, x])
        for y in range(1, height - 1)
        for x in range(1, width - 1)
        if (colors[y - 1 : y + 2, x - 1 : x + 2] == colors[y, x]).all()
    }
    assert solid_colors(colors).tolist() == sorted(slow)


def test_blends_are_seen_and_small_objects_are_not() -> None:
    rgb = np.tile(painted(RED, BLUE), (2, 1, 1))
    rgb[:, 12] = (np.array(RED) + BLUE) // 2
    rgb[3, 3] = GREEN
    colors = pack(rgb)
    suspects = np.unique(np.concatenate([pack(np.array([GREEN])), colors[:1, 12]]))
    looked_at, blends = blended(colors, suspects)
    assert dict(zip(suspects.tolist(), zip(looked_at.tolist(), blends.tolist(), strict=True), strict=True)) == {
        pack_color(GREEN): (1, 0),
        int(colors[0, 12]): (24, 24),
    }


def test_snap_leaves_out_ties_and_what_is_beyond() -> None:
    anchors = [0x000000, 0x0A0A0A]
    colors = np.array([0x020304, 0x050505, 0x100A0A, 0x300000], np.int32)
    assert snap(colors, anchors, 6) == {0x020304: 0, 0x100A0A: 0x0A0A0A}


def test_two_megapixels_in_well_under_a_second() -> None:
    rgb = np.kron(
        np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)
    )
    colors = pack(rgb)
    table = ColorTable({int(c): i % 20 for i, c in enumerate(np.unique(colors))}, 19)
    best = min(_timed(lambda: (table(pack(rgb)), count_colors(colors), solid_colors(colors))) for _ in range(3))
    assert best < 1.0


def _timed(work: object) -> float:
    start = time.perf_counter()
    work()  # pyright: ignore[reportCallIssue]
    return time.perf_counter() - start


# The preparer `palette`


def test_palette_proposes_classes(tmp_path: Path) -> None:
    source = tmp_path / "src"
    wide = painted(RED, RED, GREEN, BLUE)
    for split, names in (("train", "ab"), ("val", "c")):
        for name in names:
            save(wide, source / split / "layouts" / f"{name}.png")
            save(photo(), source / split / "photos" / f"{name}.jpg")
            save(blocks(1, 2, dtype=np.uint16), source / split / "instances" / f"{name}.png")
    before = tree(source)
    made = prepare_palette(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [("train", 2, 2, 2), ("val", 1, 1, 1)]
    assert [(c.name, c.color, c.void) for c in read_classes(tmp_path / "out/classes.json")] == [
        ("class-0", RED, False),
        ("class-1", GREEN, False),
        ("class-2", BLUE, False),
    ]
    assert read_labels(tmp_path / "out/val/layouts/c.png")[0, ::6].tolist() == [0, 0, 1, 2]
    report = made.report
    assert report and report.pixels == 3 * 288 and report.distinct == 3 and report.unlabelled == 0
    assert report.shares == {"class-0": 0.5, "class-1": 0.25, "class-2": 0.25}
    assert [(c.color, c.pixels, c.files) for c in report.colors] == [(RED, 432, 3), (GREEN, 216, 3), (BLUE, 216, 3)]
    assert tree(source) == before
    assert Folder(tmp_path / "out", "train")[(0, 0)].condition.layout is not None


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_palette_keeps_instance_maps_as_they_are(tmp_path: Path, suffix: str) -> None:
    """Check 10.3."""
    source = palette_source(tmp_path / "src")
    (source / "instances").mkdir()
    most = 65535 if suffix == ".png" else 2**31 - 1
    numbers = np.where(read_labels(save(blocks(0, 1, 2), tmp_path / "b.png")) == 1, 33005, most)
    for n in range(4):
        write_labels(numbers, source / f"instances/{n:02}{suffix}")
    for skipped in (0, 4):  # the second time all is there
        made = prepare_palette(source, out=tmp_path / "out", quiet=True)
        assert [(s.name, s.layouts, s.instances) for s in made.splits] == [("train", 3, 3), ("val", 1, 1)]
        assert made.warnings == () and made.skipped == skipped
    scenes = Folder(tmp_path / "out", "train")
    layout = scenes[1, 0].condition.layout
    assert scenes.spec.instances and layout is not None and layout.instances is not None
    assert np.array_equal(layout.instances[0], numbers)
    (source / f"instances/00{suffix}").unlink()
    save(np.zeros((12, 24, 3), np.uint8), source / "instances/00.png")
    with pytest.raises(UserError, match=r"instances/00\.png: holds colours \(mode RGB\), not object numbers"):
        prepare_palette(source, out=tmp_path / "again", quiet=True)


def test_palette_without_splits(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src", 10)
    save(painted(RED, BLUE), source / "layouts/00b.png")  # no photograph
    made = prepare_palette(source, out=tmp_path / "out", val_share=0.3, quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 7, 7), ("val", 4, 3)]
    assert [p.stem for p in pair_files(tmp_path / "out/val").pairs] == ["00b", "07", "08", "09"]
    flat = prepare_palette(source / "layouts", out=tmp_path / "flat", quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in flat.splits] == [("val", 11, 0)]
    with pytest.raises(UserError, match=r"--val-share 1\.5"):
        prepare_palette(source, out=tmp_path / "x", val_share=1.5, quiet=True)


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_palette_with_known_classes(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src")
    listed = [{"id": 0, "name": "blue", "color": list(BLUE)}, {"id": 1, "name": "red", "color": list(RED)}]
    listed.append({"id": 2, "name": "also red", "color": list(RED)})
    made = prepare_palette(source, out=tmp_path / "out", classes=write_json(tmp_path / "c.json", listed), quiet=True)
    assert [(c.name, c.void) for c in made.classes] == [
        ("blue", False),
        ("red", False),
        ("also red", False),
        ("unlabelled", True),
    ]
    assert read_labels(tmp_path / "out/train/layouts/00.png")[0, ::8].tolist() == [1, 3, 0]
    assert made.report and made.report.unlabelled == pytest.approx(1 / 3) and made.report.unlisted == (1, 4 * 96)
    assert any("'also red' has the colour of 'red'" in w for w in made.warnings)


def test_palette_map(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src")
    classes = write_json(tmp_path / "c.json", {"palette": [list(RED), list(GREEN)], "names": ["red", "green"]})
    mapping = {"red": "warm", "1": "cold", "30, 60, 220": "cold"}
    path = write_json(tmp_path / "map.json", {"map": mapping})
    made = prepare_palette(source, out=tmp_path / "out", classes=classes, map=path, quiet=True)
    assert [(c.name, c.color, c.void) for c in made.classes] == [
        ("warm", RED, False),
        ("cold", GREEN, False),
        ("unlabelled", BLACK, True),
    ]
    assert read_labels(tmp_path / "out/train/layouts/00.png")[0, ::8].tolist() == [0, 1, 1]
    targets = [{"id": 0, "name": "gone", "color": [1, 1, 1], "void": True}, {"id": 1, "name": "x", "color": [2, 2, 2]}]
    path = write_json(tmp_path / "map2.json", {"map": {"#14be3c": "x", "#010203": "x"}, "classes": targets})
    made = prepare_palette(source, out=tmp_path / "out2", map=path, quiet=True)
    assert read_labels(tmp_path / "out2/train/layouts/00.png")[0, ::8].tolist() == [0, 1, 0]
    assert made.report and made.report.unlabelled == pytest.approx(2 / 3)
    assert any("colour #010203 is in no layout" in w for w in made.warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be"),
        ({"map": {}}, "must be"),
        ({"map": {"class-0": "a"}, "clases": []}, "unknown key 'clases'.*did you mean 'classes'"),
        ({"map": {"clas-0": "a"}}, "'clas-0' is no class .*did you mean 'class-0'"),
        ({"map": {"class-0": 3}}, "'class-0' is sent to 3"),
        ({"map": {"300, 0, 0": "a"}}, "'300, 0, 0' is no class"),
        ({"map": {"class-0": "b"}, "classes": [{"id": 0, "name": "a", "color": [0, 0, 0]}]}, "'b', which is no class"),
        ({"map": {"class-0": "a"}, "classes": [{"id": 1, "name": "a", "color": [0, 0, 0]}]}, "ids of its classes"),
        ({"map": {"class-0": "a", "0": "b"}}, "'class-0' and '0' are both #[0-9a-f]{6}, but go to 'a' and 'b'"),
    ],
)
def test_palette_map_is_validated(tmp_path: Path, content: object, message: str) -> None:
    source = palette_source(tmp_path / "src", 2)
    with pytest.raises(UserError, match=message) as error:
        prepare_palette(source, out=tmp_path / "out", map=write_json(tmp_path / "m.json", content), quiet=True)
    assert "m.json" in str(error.value) and "\n" not in str(error.value)


def test_palette_map_twice_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"map": {"class-0": "a", "class-0": "b"}}')
    with pytest.raises(UserError, match="'class-0' is given twice"):
        prepare_palette(palette_source(tmp_path / "src", 2), out=tmp_path / "out", map=path, quiet=True)


def smooth(rgb: np.ndarray) -> Image.Image:
    """Anti-aliased: drawn at four times the size and averaged."""
    image = Image.fromarray(rgb).rotate(9, Image.Resampling.NEAREST)
    return image.resize((image.width // 4, image.height // 4), Image.Resampling.BOX)


def lossy(rgb: np.ndarray, quality: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_palette_refuses_smoothed_layouts(tmp_path: Path) -> None:
    big = painted(RED, GREEN, BLUE, size=(160, 160))
    save(big, tmp_path / "src/a.png")
    save(smooth(big), tmp_path / "src/b.png")
    with pytest.raises(UserError, match=r"b.png: [\d,]+ stray colours on [\d,]+ pixels .*--tolerance") as error:
        prepare_palette(tmp_path / "src", out=tmp_path / "out", quiet=True)
    assert "a.png" not in str(error.value) and not (tmp_path / "out").exists()
    classes = write_json(tmp_path / "p.json", {"palette": [list(RED), list(GREEN), list(BLUE), [0, 0, 0]]})
    with pytest.raises(UserError, match=r"b.png: [\d,]+ stray colours"):
        prepare_palette(tmp_path / "src", out=tmp_path / "out", classes=classes, quiet=True)


@pytest.mark.parametrize("quality", [60, 95, 100])
def test_palette_refuses_what_was_a_jpeg_and_tolerance_mends_it(tmp_path: Path, quality: int) -> None:
    clean = painted(RED, GREEN, BLUE, size=(64, 96))
    clean[20:40, 30:70] = (230, 220, 90)
    save(lossy(clean, quality), tmp_path / "src/a.png")
    with pytest.raises(UserError, match=r"a.png: [\d,]+ stray colours on"):
        prepare_palette(tmp_path / "src", out=tmp_path / "out", quiet=True)
    colors = [list(c) for c in (RED, GREEN, BLUE, (230, 220, 90))]
    classes = write_json(tmp_path / "p.json", {"palette": colors})
    with pytest.raises(UserError, match=r"a.png: [\d,]+ stray colours on"):
        prepare_palette(tmp_path / "src", out=tmp_path / "out", classes=classes, quiet=True)
    made = prepare_palette(tmp_path / "src", out=tmp_path / "out", classes=classes, tolerance=40, quiet=True)
    found, truth = read_labels(tmp_path / "out/val/layouts/a.png"), blocks(0, 1, 2, size=(64, 96))
    truth[20:40, 30:70] = 3
    assert (found == truth).mean() > 0.93 and ((found == truth) | (found == 4)).mean() > 0.98
    assert made.report and made.report.snapped[0] > 20
    assert made.report.snapped[1] + made.report.unlisted[1] <= made.report.pixels
    assert made.report.unlisted[1] == int((found == 4).sum())
    assert any("snapped" in w for w in made.warnings)


def test_palette_tolerance_proposes_the_solid_colors(tmp_path: Path) -> None:
    layout = painted(RED, GREEN, size=(30, 30))
    layout[0:3, 0] = (203, 30, 40)
    layout[9, 9] = (210, 30, 40)
    layout[9, 20] = (200, 200, 200)
    save(layout, tmp_path / "src/a.png")
    made = prepare_palette(tmp_path / "src", out=tmp_path / "out", tolerance=5, quiet=True)
    assert [(c.name, c.color) for c in made.classes] == [("class-0", GREEN), ("class-1", RED), ("unlabelled", BLACK)]
    assert made.report and made.report.snapped == (1, 3) and made.report.unlisted == (2, 2)
    found = read_labels(tmp_path / "out/val/layouts/a.png")
    assert (found[0, 0], found[9, 9], found[9, 20]) == (1, 2, 2)
    with pytest.raises(UserError, match="--tolerance 256"):
        prepare_palette(tmp_path / "src", out=tmp_path / "x", tolerance=256, quiet=True)


def test_palette_takes_many_true_classes(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    palette = draw.integers(0, 256, (300, 3), dtype=np.uint8)
    for n in range(4):
        save(palette[np.kron(draw.integers(0, 300, (12, 12)), np.ones((5, 5), int))], tmp_path / f"src/{n}.png")
    save(palette[np.kron(draw.integers(0, 300, (12, 12)), np.ones((1, 1), int))], tmp_path / "src/small.png")
    made = prepare_palette(tmp_path / "src", out=tmp_path / "out", quiet=True)
    assert len(made.classes) > 256
    layout = read_labels(tmp_path / "out/val/layouts/0.png")
    assert layout.dtype == np.int32  # 16-bit
    colors = np.array([c.color for c in made.classes], np.uint8)
    assert np.array_equal(colors[layout], np.asarray(Image.open(tmp_path / "src/0.png")))
    grey = draw.integers(0, 40, (40, 40)).astype(np.uint8)  # class numbers as greys, next to each other
    grey = np.kron(grey, np.ones((4, 4), np.uint8))
    save(grey, tmp_path / "grey/a.png")
    assert len(prepare_palette(tmp_path / "grey", out=tmp_path / "out2", quiet=True).classes) == 40


def test_palette_refuses_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(UserError, match="no layouts found"):
        prepare_palette(tmp_path / "src", out=tmp_path / "out", quiet=True)
    with pytest.raises(UserError, match="no such folder"):
        prepare_palette(tmp_path / "none", out=tmp_path / "out", quiet=True)
    source = palette_source(tmp_path / "src", 2)
    save(painted(RED), source / "layouts/00.bmp")
    with pytest.raises(UserError, match="has the same stem"):
        prepare_palette(source, out=tmp_path / "out", quiet=True)
    with pytest.raises(UserError, match=r"is neither a classes.json nor"):
        prepare_palette(source / "layouts", out=tmp_path / "out", classes=write_json(tmp_path / "c", {}), quiet=True)


@needs_data
def test_published_layout_counts(tmp_path: Path) -> None:
    """Check 14 of the specification: counts of layout 100027 at 256p, by CRN's palette, as RGB and as indexed
    colour."""
    source = tmp_path / "src"
    original = DATA / "crn-layouts/Label256Full/00100027.png"
    rgb = Image.open(original).convert("RGB")
    save(rgb, source / "rgb.png")
    save(rgb.quantize(64), source / "indexed.png")
    with Image.open(source / "indexed.png") as image:
        assert image.mode == "P"
    made = prepare_palette(source, out=tmp_path / "out", classes=DATA / "crn-layouts/palette.json", quiet=True)
    expected = [
        40254,
        10655,
        9719,
        1640,
        3464,
        2420,
        638,
        960,
        26030,
        0,
        4868,
        829,
        10,
        11850,
        0,
        0,
        1701,
        382,
        47,
        15605,
    ]
    for name in ("rgb", "indexed"):
        layout = read_labels(tmp_path / f"out/val/layouts/{name}.png")
        assert np.bincount(layout.ravel(), minlength=20).tolist() == expected
    assert made.classes == cityscapes_19()


@needs_data
@pytest.mark.parametrize("name", ["Label256Full", "gta"])
def test_published_layouts_need_no_list(tmp_path: Path, name: str) -> None:
    made = prepare_palette(DATA / "crn-layouts" / name, out=tmp_path / "out", quiet=True)
    assert len(made.classes) == (22 if name == "Label256Full" else 17)
    known = prepare_palette(
        DATA / "crn-layouts" / name, out=tmp_path / "known", classes=DATA / "crn-layouts/palette.json", quiet=True
    )
    assert known.report and 0.07 < known.report.unlabelled < 0.15  # specification 5.3


@needs_data
def test_published_layouts_damaged_are_refused(tmp_path: Path) -> None:
    image = Image.open(DATA / "crn-layouts/Label256Full/00100167.png").convert("RGB")
    save(image, tmp_path / "src/a.png")
    for n, damaged in enumerate((lossy(np.asarray(image), 98), image.resize((700, 350), Image.Resampling.BILINEAR))):
        save(damaged, tmp_path / "src/b.png")
        with pytest.raises(UserError, match=r"b.png: [\d,]+ stray colours"):
            prepare_palette(tmp_path / "src", out=tmp_path / f"out{n}", quiet=True)


# What all preparers share


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cityscapes_source(tmp_path / "src")
    prepare_cityscapes(source, out=tmp_path / "whole", quiet=True)
    real = preparing.write_image
    calls: list[Path] = []

    def failing(pixels: np.ndarray, path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(pixels, path)

    monkeypatch.setattr(preparing, "write_image", failing)
    monkeypatch.setattr(carrying.os, "cpu_count", lambda: 1)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare_cityscapes(source, out=out, quiet=True)
    monkeypatch.setattr(preparing, "write_image", real)
    assert not (out / "classes.json").exists()
    assert len(calls) < 8
    halfway = contents(out)
    whole = contents(tmp_path / "whole")
    assert 0 < len(halfway) < len(whole) and all(whole[name] == data for name, data in halfway.items())
    made = prepare_cityscapes(source, out=out, quiet=True)
    assert made.skipped >= 1 and made.written + made.skipped == 4
    assert contents(out) == whole  # so nothing is half written, and the same bytes come out


def test_a_broken_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = palette_source(tmp_path / "src")

    def full(pixels: np.ndarray, path: Path) -> None:
        with carrying.replacing(path) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparing, "write_image", full)
    with pytest.raises(UserError, match=r"cannot be written .No space left on device"):
        prepare_palette(source, out=tmp_path / "out", quiet=True)
    assert not list((tmp_path / "out").rglob("*.png")) and not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.parametrize(("age", "runs"), ((0, True), (3500, True), (3700, False)))
def test_where_processes_cannot_be_asked_the_age_decides(
    age: int, runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = tmp_path / ".00.png.99999999.partial"
    partial.touch()
    os.utime(partial, (time.time() - age,) * 2)
    windows = SimpleNamespace(name="nt", getpid=os.getpid)  # with no `kill`, which would be a Ctrl-C there
    monkeypatch.setattr(carrying, "os", windows)
    assert carrying._runs_still(partial) is runs
    assert not carrying._runs_still(tmp_path / f".00.png.{os.getpid()}.partial")


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src")
    out = tmp_path / "out"
    prepare_palette(source, out=out, quiet=True)
    dead, alive = out / "train/layouts/.00.png.99999999.partial", out / "train/layouts/.01.png.1.partial"
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")  # process 1 is always there
    (out / "train/layouts/00.png").unlink()
    made = prepare_palette(source, out=out, quiet=True)
    assert (made.written, made.skipped) == (1, 3)
    assert not dead.exists() and alive.exists()


def test_a_second_run_does_what_changed(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src")
    out = tmp_path / "out"
    prepare_palette(source, out=out, quiet=True)
    before = tree(out)
    again = prepare_palette(source, out=out, quiet=True)
    assert (again.written, again.skipped) == (0, 4) and tree(out) == before
    save(painted(BLUE, GREEN, RED), source / "layouts/01.png")
    later = time.time() + 100
    os.utime(source / "layouts/01.png", (later, later))
    assert prepare_palette(source, out=out, quiet=True).written == 1
    assert read_labels(out / "train/layouts/01.png")[0, 0] != read_labels(out / "train/layouts/00.png")[0, 0]
    save(photo(), out / "train/photos/stranger.jpg")
    assert any(
        "stranger.jpg: is not from this source" in w for w in prepare_palette(source, out=out, quiet=True).warnings
    )


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    source = cityscapes_source(tmp_path / "src")
    out = tmp_path / "out"
    prepare_cityscapes(source, out=out, quiet=True)
    with pytest.raises(UserError, match="was prepared with classes 19, now 35"):
        prepare_cityscapes(source, out=out, classes=35, quiet=True)
    with pytest.raises(UserError, match=r"was prepared with source '.*src', now '.*other'"):
        prepare_cityscapes(cityscapes_source(tmp_path / "other"), out=out, quiet=True)
    with pytest.raises(UserError, match="was prepared with preparer 'cityscapes', now 'palette'"):
        prepare_palette(palette_source(tmp_path / "pal"), out=out, quiet=True)
    classes = out / "classes.json"
    classes.write_text(classes.read_text().replace('"road"', '"street"'))
    with pytest.raises(UserError, match=r"classes.json: was changed since"):
        prepare_cityscapes(source, out=out, quiet=True)
    prepare_palette(tmp_path / "pal", out=tmp_path / "out2", quiet=True)
    with pytest.raises(UserError, match="was prepared with tolerance 0, now 3"):
        prepare_palette(tmp_path / "pal", out=tmp_path / "out2", tolerance=3, quiet=True)
    save(np.full((12, 24, 3), 250, np.uint8), tmp_path / "pal/layouts/00.png")
    with pytest.raises(UserError, match="was prepared with #fafafa None, now 'class-3'"):
        prepare_palette(tmp_path / "pal", out=tmp_path / "out2", quiet=True)


def test_the_source_is_never_written_to(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "a/src")
    before = tree(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(source, target_is_directory=True)
    outs = [source, source / "out", source / "train", tmp_path / "a", link / "new", source / "layouts" / "x"]
    for out in outs:
        with pytest.raises(UserError, match="overlaps the source"):
            prepare_palette(source, out=out, quiet=True)
    with pytest.raises(UserError, match="overlaps the source"):
        prepare_palette(link, out=source / "out", quiet=True)
    city = cityscapes_source(tmp_path / "real")
    (tmp_path / "views").mkdir()
    (tmp_path / "views/gtFine").symlink_to(city / "gtFine", target_is_directory=True)
    with pytest.raises(UserError, match="overlaps the source"):
        prepare_cityscapes(tmp_path / "views", out=city / "gtFine/train", quiet=True)
    link.unlink()
    assert {k: v for k, v in tree(tmp_path).items() if k in before} == before
    assert not (source / "out").exists()


def test_other_output_is_not_overwritten(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and was not made by"):
        prepare_palette(source, out=tmp_path / "full", quiet=True)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="is a file"):
        prepare_palette(source, out=tmp_path / "full/thesis.txt", quiet=True)
    out = tmp_path / "out"
    prepare_palette(source, out=out, quiet=True)
    elsewhere = tmp_path / "elsewhere"
    (out / "train/layouts").rename(elsewhere)
    (out / "train/layouts").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(UserError, match="is a link that leads out of"):
        prepare_palette(source, out=out, quiet=True)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    source = palette_source(tmp_path / "src")
    whole = (source / "photos/02.jpg").read_bytes()
    (source / "photos/02.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"02.jpg: is no image"):
        prepare_palette(source, out=tmp_path / "out", quiet=True)
    (source / "photos/02.jpg").write_bytes(whole)
    assert prepare_palette(source, out=tmp_path / "out", quiet=True).written >= 1
    layout = (source / "layouts/03.png").read_bytes()
    (source / "layouts/03.png").write_bytes(layout[: len(layout) // 2])
    with pytest.raises(UserError, match=r"03.png: cannot be decoded"):
        prepare_palette(source, out=tmp_path / "out2", quiet=True)


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_palette(palette_source(tmp_path / "src"), out=tmp_path / "out")
    shown = capsys.readouterr()
    assert "counting colours: 4/4" in shown.err and "preparing palette: 4/4" in shown.err and shown.out == ""
