"""COCO's panoptic annotations to data folders: files of the official form that the tests write, and the real sample."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from photogram.cli import main
from photogram.data.check import check
from photogram.data.coco_panoptic import prepare_coco_panoptic
from photogram.data.folder import Folder, pair_files
from photogram.data.prepare import prepare_coco_stuff
from photogram.errors import UserError
from photogram.images import read_instances, read_labels
from photogram.scene import read_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
SAMPLE = SHARED / "data/coco-stuff-sample"

CATEGORIES = [  # in no order, and with gaps
    {"id": 200, "name": "rug-merged", "isthing": 0, "supercategory": "furniture-stuff"},
    {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
    {"id": 90, "name": "toothbrush", "isthing": 1, "supercategory": "indoor"},
    {"id": 92, "name": "banner", "isthing": 0, "supercategory": "textile"},
]
PERSON, TOOTHBRUSH, BANNER, RUG, VOID = range(5)
SEGMENTS = [  # id, category, crowd
    (9_000_001, 1, 0),
    (70_000, 200, 0),
    (257, 1, 1),
    (16_777_215, 90, 0),
    (5, 1, 0),
]
STRIPES = [9_000_001, 70_000, 0, 257, 16_777_215, 5]


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def colored(ids: np.ndarray) -> np.ndarray:
    """Ids [h, w] as a panoptic map: the bytes of each number, the lowest first."""
    return np.ascontiguousarray(ids, dtype="<u4")[..., None].view(np.uint8)[..., :3].copy()


def photo(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def described(segments: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    keys = ("id", "category_id", "iscrowd")
    return [dict(zip(keys, segment, strict=True)) | {"bbox": [0, 0, 1, 1], "area": 1} for segment in segments]


def official(
    root: Path,
    scenes: dict[str, tuple[np.ndarray, list[tuple[int, int, int]]]],
    split: str = "train",
    photos: bool = True,
) -> Path:
    """The official tree of one split: of each picture its ids [h, w] and segments."""
    content: dict[str, Any] = {"info": {}, "licenses": [], "categories": CATEGORIES, "images": [], "annotations": []}
    for n, (stem, (ids, segments)) in enumerate(scenes.items()):
        size = dict(zip(("height", "width"), ids.shape, strict=True))
        content["images"].append({"id": 1000 + n, "file_name": f"{stem}.jpg", **size})
        content["annotations"].append(
            {"image_id": 1000 + n, "file_name": f"{stem}.png", "segments_info": described(segments)}
        )
        save(colored(ids), root / f"annotations/panoptic_{split}2017/{stem}.png")
        if photos:
            save(photo(n, ids.shape), root / f"{split}2017/{stem}.jpg")
    (root / f"annotations/panoptic_{split}2017.json").write_text(json.dumps(content))
    return root


def stripes(size: tuple[int, int] = (12, 24)) -> np.ndarray:
    columns = np.arange(size[1]) * len(STRIPES) // size[1]
    return np.broadcast_to(np.array(STRIPES)[columns], size).copy()


def changed(root: Path, change: Any, split: str = "train") -> Path:
    """The tree, once its JSON was changed."""
    path = root / f"annotations/panoptic_{split}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    official(tmp_path / "coco", {"000000000001": (stripes(), SEGMENTS), "000000000002": (stripes((9, 18)), SEGMENTS)})
    return official(tmp_path / "coco", {"000000000139": (stripes(), SEGMENTS)}, "val")


def test_segments_become_layouts_and_numbers(source: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    made = prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [("train", 2, 2, 2), ("val", 1, 1, 1)]
    assert made.warnings == ()
    for stem in ("train/{}/000000000001", "val/{}/000000000139"):
        layout = read_labels(tmp_path / f"out/{stem.format('layouts')}.png")
        assert layout.dtype == np.uint8
        assert layout[0, ::4].tolist() == [PERSON, RUG, VOID, PERSON, TOOTHBRUSH, PERSON]
        numbers = read_instances(tmp_path / f"out/{stem.format('instances')}.png")
        assert numbers[0, ::4].tolist() == [1, 0, 0, 0, 2, 3]  # the crowd, stuff and void are no single objects
    classes = read_classes(tmp_path / "out/classes.json")
    assert [c.name for c in classes] == ["person", "toothbrush", "banner", "rug-merged", "unlabelled"]
    assert [c.void for c in classes] == [False] * 4 + [True]
    kept = tmp_path / "out/val/photos/000000000139.jpg"
    assert kept.read_bytes() == (source / "val2017/000000000139.jpg").read_bytes()
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    assert Folder(tmp_path / "out", "train").spec.instances


def test_a_map_equals_the_slow_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ids = rng.choice(2**24 - 1, 60, replace=False) + 1
    segments = [(int(i), int(rng.choice([1, 90, 92, 200])), int(rng.integers(0, 2))) for i in ids]
    picture = rng.choice([0, *ids.tolist()], (40, 50))
    picture[0, :60] = ids[:50]
    prepare_coco_panoptic(official(tmp_path / "coco", {"a": (picture, segments)}), out=tmp_path / "out", quiet=True)
    order = [1, 90, 92, 200]
    things = [i for i, category, crowd in segments if category in (1, 90) and not crowd]
    category_of = {i: category for i, category, _ in segments}
    classes = [[order.index(category_of[i]) if i else VOID for i in row] for row in picture.tolist()]
    numbers = [[things.index(i) + 1 if i in things else 0 for i in row] for row in picture.tolist()]
    assert read_labels(tmp_path / "out/train/layouts/a.png").tolist() == classes
    assert read_instances(tmp_path / "out/train/instances/a.png").tolist() == numbers


@pytest.mark.parametrize("where", ["beside", "nested", "unpacked"])
def test_maps_are_found_where_archives_put_them(source: Path, tmp_path: Path, where: str) -> None:
    for split in ("train", "val"):
        folder = source / f"annotations/panoptic_{split}2017"
        if where == "beside":
            folder.rename(source / folder.name)
        elif where == "nested":
            folder.rename(source / "aside")
            folder.mkdir()
            (source / "aside").rename(folder / folder.name)
    if where == "unpacked":
        (source / "panoptic_annotations_trainval2017").mkdir()
        (source / "annotations").rename(source / "panoptic_annotations_trainval2017/annotations")
    (source / "images").mkdir()
    (source / "val2017").rename(source / "images/val2017")
    made = prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 2, 2), ("val", 1, 1)]


def test_more_classes_and_objects_than_a_byte_has(tmp_path: Path) -> None:
    ids = np.arange(1, 401).reshape(20, 20) * 7919
    segments = [(int(i), n + 1, 0) for n, i in enumerate(ids.ravel())]
    things = [{"id": n + 1, "name": f"thing {n}", "isthing": 1} for n in range(400)]
    root = changed(official(tmp_path / "coco", {"a": (ids, segments)}), lambda c: c.update(categories=things))
    prepare_coco_panoptic(root, out=tmp_path / "out", quiet=True)
    assert np.array_equal(read_labels(tmp_path / "out/train/layouts/a.png").ravel(), np.arange(400))
    assert np.array_equal(read_instances(tmp_path / "out/train/instances/a.png").ravel(), np.arange(1, 401))
    assert read_classes(tmp_path / "out/classes.json")[400].void


def test_what_does_not_belong_together_is_left_out_and_told(source: Path, tmp_path: Path) -> None:
    (source / "annotations/panoptic_train2017/000000000001.png").unlink()
    save(colored(stripes()), source / "annotations/panoptic_train2017/stranger.png")
    (source / "annotations/panoptic_val2017/000000000139.png").rename(source / "gone.png")
    (source / "annotations/panoptic_val2017.zip").write_bytes(b"")
    made = prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 1, 1)]
    words = [
        "panoptic_val2017.json: no folder panoptic_val2017 with its maps beside it; unzip",
        "panoptic_train2017.json: names 000000000001.png, which is not in",
        "stranger.png: has no annotation in panoptic_train2017.json (1 such left out)",
        "train2017/000000000001.jpg: has no map (1 such left out)",
    ]
    assert len(made.warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, made.warnings, strict=True))


def test_a_segment_without_pixels_is_told(tmp_path: Path) -> None:
    root = official(tmp_path / "coco", {"a": (stripes(), [*SEGMENTS, (6, 1, 0), (8, 92, 0)])})
    made = prepare_coco_panoptic(root, out=tmp_path / "out", quiet=True)
    assert len(made.warnings) == 1
    assert made.warnings[0].endswith("a.png: segment 6 has no pixel (2 such in this map)")


def first(content: dict[str, Any]) -> dict[str, Any]:
    return content["annotations"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("annotations"), r"the file has no list 'annotations'; is it one of COCO's"),
        (lambda c: c.update(images=[3]), r"the file has 3 as entry 0 of 'images'; they must be objects"),
        (
            lambda c: c["images"][0].pop("height"),
            r"image 0 has height None; it must be a whole number in 1..2147483647",
        ),
        (lambda c: c["images"][0].update(id=[1]), r"image 0 has id \[1\]; it must be a whole number or a text"),
        (lambda c: c["images"][1].update(id=1000), r"image 1 has the id 1000, as another has"),
        (lambda c: c["images"][1].update(file_name="b/000000000001.png"), r"are both called '000000000001'"),
        (lambda c: c["images"][0].update(file_name="\ud800\0.jpg"), r"image 0 has file_name .* no file can be called"),
        (lambda c: c["categories"][1].update(id=200), r"category 1 \(person\) has the id 200, as 'rug-merged' has"),
        (lambda c: c["categories"][1].pop("isthing"), r"category 1 \(person\) has isthing None; .* in 0..1"),
        (lambda c: c["categories"].clear(), r"lists 0 categories; 1..65535 can be classes"),
        (lambda c: first(c).update(image_id=7), r"annotation 0 has image_id 7, which no image has"),
        (lambda c: first(c).update(file_name=""), r"annotation 0 has file_name ''; it must be a text"),
        (
            lambda c: first(c).update(image_id=1001),
            r"annotation 1 \(000000000002.png\) is of the picture '000000000002', as annotation 0 is; a picture has",
        ),
        (
            lambda c: first(c).update(file_name="000000000002.png"),
            r"annotation 1 \(000000000002.png\) names the map '000000000002', as annotation 0 does; every pict",
        ),
        (lambda c: first(c)["segments_info"][2].update(id=5), r"segment 4 of annotation 0 .* has the id 5, as another"),
        (lambda c: first(c)["segments_info"][0].update(id=0), r"segment 0 of .* has id 0; .* in 1..16777215"),
        (lambda c: first(c)["segments_info"][0].update(id=2**24), r"has id 16777216; it must be .* in 1..16777215"),
        (lambda c: first(c)["segments_info"][0].update(id=True), r"has id True; it must be"),
        (lambda c: first(c)["segments_info"][1].update(category_id=2), r"category_id 2, which is not among its categ"),
        (lambda c: first(c)["segments_info"][1].update(iscrowd=2), r"segment 1 of .* has iscrowd 2; .* in 0..1"),
        (lambda c: first(c)["segments_info"][0].update(iscrowd="no"), r"has iscrowd 'no'; it must be .* in 0..1"),
        (lambda c: first(c).pop("segments_info"), r"annotation 0 \(000000000001.png\) has no list 'segments_info'"),
    ],
)
def test_json_that_is_wrong_is_refused_by_its_entry(source: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        prepare_coco_panoptic(changed(source, change), out=tmp_path / "out", quiet=True)
    assert str(caught.value).startswith(str(source / "annotations/panoptic_train2017.json: "))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()  # all of it is examined before anything is written


def test_files_that_are_wrong_are_refused(source: Path, tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words):
            prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
        assert not (tmp_path / "out/classes.json").exists()  # not finished, so not to be trained on

    path = source / "annotations/panoptic_train2017/000000000001.png"
    strange = stripes()
    strange[3, 5] = 70_001
    save(colored(strange), path)
    refused(r"000000000001.png: id 70001 at \(row 3, column 5\) is no segment of it in panoptic_train2017.json")
    save(colored(stripes((12, 20))), path)
    refused(r"000000000001.png: is 12 x 20, but panoptic_train2017.json says 12 x 24")
    save(colored(stripes())[..., 0], path)
    refused(r"000000000001.png: has 1 channel of 8 bits; panoptic maps have 3 channels of 8 bits")
    path.write_bytes(path.read_bytes()[:60])
    refused(r"000000000001.png: cannot be decoded, damaged or cut short")
    save(colored(stripes()), path)
    save(photo(0, (12, 23)), source / "train2017/000000000001.jpg")
    refused(r"000000000001.jpg: is 12 x 23, but its layout .* is 12 x 24")
    save(photo(0, (12, 24)), source / "train2017/000000000001.jpg")
    made = prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)  # mended, it goes on
    assert made.written + made.skipped == 3 and made.written >= 1


def test_folders_that_are_wrong_are_refused(source: Path, tmp_path: Path) -> None:
    for folder, words in (
        (tmp_path / "none", "no such folder"),
        (source / "train2017", r"no panoptic_train2017.json or panoptic_val2017.json"),
    ):
        with pytest.raises(UserError, match=words):
            prepare_coco_panoptic(folder, out=tmp_path / "out", quiet=True)
    with pytest.raises(UserError, match="overlaps the source"):
        prepare_coco_panoptic(source, out=source / "train2017/out", quiet=True)
    path = source / "annotations/panoptic_val2017.json"
    whole = path.read_text()
    path.write_text(whole[:100])
    with pytest.raises(UserError, match=r"panoptic_val2017.json: cannot be read as JSON .*; is the download whole\?"):
        prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"panoptic_val2017.json: cannot be read as JSON"):
        prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    path.write_text(whole)
    changed(source, lambda c: c["categories"][0].update(name="rug"), "val")
    with pytest.raises(UserError, match=r"panoptic_val2017.json: has other categories than .*panoptic_train2017.json"):
        prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    path.unlink()
    for file in (source / "annotations/panoptic_train2017").iterdir():
        file.rename(file.with_name(f"x{file.name}"))
    with pytest.raises(UserError, match=r"panoptic_train2017: holds no map that .* names; do they belong together"):
        prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    (source / "panoptic_train2017.json").write_text("{}")
    with pytest.raises(UserError, match=r"panoptic_train2017.json: is there twice"):
        prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)


def test_a_second_run_does_what_changed(source: Path, tmp_path: Path) -> None:
    prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    again = prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    assert (again.written, again.skipped) == (0, 3)
    (tmp_path / "out/train/instances/000000000002.png").unlink()
    again = prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)
    assert (again.written, again.skipped) == (1, 2)
    changed(source, lambda c: first(c)["segments_info"][0].update(category_id=90))
    with pytest.raises(UserError, match=r"was prepared with panoptic_train2017.json '[0-9a-f]{16}', now"):
        prepare_coco_panoptic(source, out=tmp_path / "out", quiet=True)


def sample_as_panoptic(root: Path, seed: int = 0) -> Path:
    """Some of the real sample in the official form, with ids of 24 bits drawn at random; of its prepared maps."""
    prepared, some = root.with_name("stuff"), root.with_name("some")
    for part in ("train_img", "train_label", "train_inst", "val_img", "val_label", "val_inst"):
        (some / part).mkdir(parents=True)
        for path in sorted((SAMPLE / part).iterdir())[:3]:
            (some / part / path.name).write_bytes(path.read_bytes())
    classes = prepare_coco_stuff(some, out=prepared, quiet=True).classes
    listed = [{"id": n + 1, "name": c.name, "isthing": int(n < 91)} for n, c in enumerate(classes[:-1])]
    rng = np.random.default_rng(seed)
    for split in ("train", "val"):
        scenes = {}
        for pair in pair_files(prepared / split).pairs:
            assert pair.layout and pair.instances and pair.photo
            labels, objects = read_labels(pair.layout).astype(int), read_instances(pair.instances)
            keys, which = np.unique(np.where(objects > 255, objects << 8, 0) + labels, return_inverse=True)
            ids = rng.choice(2**24 - 1, len(keys), replace=False) + 1
            ids[keys & 255 == 182] = 0  # outlines reach over what has no label
            listing = [  # what has the label of a thing and is no object is told as a crowd
                (int(i), int(key & 255) + 1, int(key < 91)) for i, key in zip(ids, keys, strict=True) if i
            ]
            scenes[pair.stem] = (ids[which].reshape(labels.shape), listing)
            (root / f"{split}2017").mkdir(parents=True, exist_ok=True)
            (root / f"{split}2017/{pair.photo.name}").write_bytes(pair.photo.read_bytes())
        changed(official(root, scenes, split, photos=False), lambda c: c.update(categories=listed), split)
    return root


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"the real sample is not in {SAMPLE}")
def test_the_real_sample_from_panoptic_files_to_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = sample_as_panoptic(tmp_path / "coco"), tmp_path / "out"
    assert main(["prepare", "coco-panoptic", str(source), "--out", str(out)]) == 0
    assert "train 3 layouts and 3 photographs, val 3 layouts and 3 photographs; 183 classes" in capsys.readouterr().out
    objects = 0
    for split in ("train", "val"):
        for pair in pair_files(out / split).pairs:
            assert pair.layout and pair.instances
            known = tmp_path / f"stuff/{split}"
            labels, before = read_labels(pair.layout), read_instances(known / f"instances/{pair.stem}.png")
            assert np.array_equal(labels, read_labels(known / f"layouts/{pair.stem}.png"))
            numbers = read_instances(pair.instances)
            assert np.array_equal(numbers > 0, (before > 255) & (labels < 91))
            inside = numbers > 0
            pairs = np.unique(np.stack([numbers[inside], before[inside], labels[inside]]), axis=1)
            assert len(np.unique(pairs[0])) == pairs.shape[1]  # one number, one object and class, and so the other way
            objects += pairs.shape[1]
    assert objects > 30
    report = check(out, quiet=True)
    assert not [f for f in report.findings if f.severity == "error"]
    assert not [f for f in report.findings if "instance" in f.kind]
    command = ["train", "pix2pixhd", "--data", str(out), "--out", str(tmp_path / "run"), "--steps", "2"]
    small = ["--size", "64", "64", "--width", "4", "--downsamplings", "2", "--blocks", "1", "--perceptual", "none"]
    assert main([*command, *small, "--features", "objects"]) == 0
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2
