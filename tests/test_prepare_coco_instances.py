"""COCO's instance annotations beside pixel maps: polygons, run lengths, crowds; the real sample."""

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
from photogram.data.coco_instances import Outline, draw_objects, prepare_coco_instances
from photogram.data.coco_masks import inside_polygon
from photogram.data.folder import pair_files
from photogram.data.prepare import prepare_coco_stuff
from photogram.errors import UserError
from photogram.images import read_instances, read_labels
from photogram.scene import read_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
SAMPLE = SHARED / "data/coco-stuff-sample"

CATEGORIES = [{"id": i, "name": name} for i, name in ((62, "chair"), (1, "person"), (3, "car"))]
PERSON, CAR, CHAIR, SKY = 0, 2, 61, 156


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def box(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    """A rectangle of pixels as a polygon."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask, down its columns."""
    flat = mask.T.ravel()
    ends = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1), len(flat)]
    return [0] * bool(flat[0]) + np.diff(ends).tolist()


def scene(size: tuple[int, int] = (10, 20)) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Sky; a car, a person before it and one beside; a crowd of persons with one who is told apart."""
    labels = np.full(size, SKY, dtype=np.uint8)
    labels[4:9, 1:9] = CAR
    labels[2:8, 4:6] = PERSON
    labels[2:8, 10:12] = PERSON
    labels[1:9, 14:20] = PERSON
    labels[0, 0] = 255
    crowd = np.zeros(size, dtype=bool)
    crowd[1:9, 14:20] = True
    return labels, [
        {"category_id": 1, "iscrowd": 0, "segmentation": box(2, 4, 8, 6)},
        {"category_id": 3, "iscrowd": 0, "segmentation": box(4, 1, 9, 9)},
        {"category_id": 1, "iscrowd": 0, "segmentation": box(2, 10, 8, 12)},
        {"category_id": 1, "iscrowd": 1, "segmentation": {"size": [*size], "counts": runs(crowd)}},
        {"category_id": 1, "iscrowd": 0, "segmentation": box(4, 16, 8, 17)},
    ]


def expected(size: tuple[int, int] = (10, 20)) -> np.ndarray:
    """The numbers of that scene: the car is the largest; then two persons in the file's order, and the small one."""
    numbers = np.zeros(size, dtype=int)
    numbers[4:9, 1:9] = 1
    numbers[2:8, 4:6] = 2
    numbers[2:8, 10:12] = 3
    numbers[4:8, 16:17] = 4
    return numbers


def official(
    root: Path,
    scenes: dict[str, tuple[np.ndarray, list[dict[str, Any]]]],
    split: str = "train",
    maps: str = "stuffthingmaps/{}",
    categories: list[dict[str, Any]] = CATEGORIES,
) -> Path:
    """The official tree of one split: of each picture its labels [h, w] and annotations."""
    content: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": categories}
    for n, (stem, (labels, entries)) in enumerate(scenes.items()):
        height, width = labels.shape
        content["images"].append({"id": n, "file_name": f"{stem}.jpg", "height": height, "width": width})
        for entry in entries:
            content["annotations"].append({"id": len(content["annotations"]) + 500, "image_id": n, **entry})
        save(labels, root / maps.format(f"{split}2017") / f"{stem}.png")
        pixels = np.random.default_rng(n).integers(0, 256, (height, width, 3), dtype=np.uint8)
        save(pixels, root / f"{split}2017/{stem}.jpg")
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


def changed(root: Path, change: Any, split: str = "train") -> Path:
    """The tree, once its JSON was changed."""
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    official(tmp_path / "coco", {"a": scene(), "b": scene((10, 20))})
    return official(tmp_path / "coco", {"c": scene((12, 22))}, "val")


def test_objects_are_numbered_from_the_largest(source: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    made = prepare_coco_instances(source, out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [("train", 2, 2, 2), ("val", 1, 1, 1)]
    assert made.warnings == ()
    labels = scene()[0]
    assert np.array_equal(read_labels(tmp_path / "out/train/layouts/a.png"), np.where(labels == 255, 182, labels))
    assert np.array_equal(read_instances(tmp_path / "out/train/instances/a.png"), expected())
    assert np.array_equal(read_instances(tmp_path / "out/val/instances/c.png"), expected((12, 22)))
    classes = read_classes(tmp_path / "out/classes.json")
    assert len(classes) == 183 and classes[61].name == "chair" and classes[182].void
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    again = prepare_coco_instances(source, out=tmp_path / "out", quiet=True)
    assert (again.written, again.skipped) == (0, 3)
    assert not [f for f in check(tmp_path / "out", quiet=True).findings if f.severity == "error"]


def test_the_maps_of_stuff_alone_get_their_things_from_the_outlines(tmp_path: Path) -> None:
    labels, annotations = scene()
    things = (labels != SKY) & (labels != 255)
    stuff = np.where(things, 183, np.where(labels == 255, 0, labels + 1)).astype(np.uint8)
    stuff[9, 19] = 183  # a thing that nobody outlined
    root = official(tmp_path / "coco", {"a": (stuff, annotations)}, maps="annotations/stuff_{}_pixelmaps")
    assert prepare_coco_instances(root, out=tmp_path / "out", quiet=True).warnings == ()
    layout = np.where(labels == 255, 182, labels)
    layout[9, 19] = 182
    assert np.array_equal(read_labels(tmp_path / "out/train/layouts/a.png"), layout)
    assert np.array_equal(read_instances(tmp_path / "out/train/instances/a.png"), expected())
    save(np.where(stuff == 0, 50, stuff).astype(np.uint8), root / "annotations/stuff_train2017_pixelmaps/a.png")
    with pytest.raises(UserError, match=r"a.png: label 50 at \(row 0, column 0\); known are 0 and 92..183"):
        prepare_coco_instances(root, out=tmp_path / "out", quiet=True)


def test_drawing_equals_the_slow_way() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        size = (14, 17)
        layout = rng.choice([0, 1, 2, 182], size).astype(np.uint8)
        things = rng.random(size) < 0.5 if rng.random() < 0.5 else None
        polygons = [rng.uniform(-3, 20, (rng.integers(3, 7), 2)) for _ in range(9)]
        outlines = [Outline(int(rng.integers(0, 3)), bool(rng.random() < 0.3), (p,)) for p in polygons]
        masks = [inside_polygon(p, size) for p in polygons]
        singles = sorted((n for n in range(9) if not outlines[n].crowd), key=lambda n: (-masks[n].sum(), n))
        crowds = sorted((n for n in range(9) if outlines[n].crowd), key=lambda n: (-masks[n].sum(), n))
        classes, numbers = layout.astype(int), np.zeros(size, dtype=int)
        for y in range(size[0]):
            for x in range(size[1]):
                over = [n for n in [*crowds, *singles] if masks[n][y, x]]
                if things is None:
                    over = [n for n in over if outlines[n].label == layout[y, x]]
                elif not things[y, x]:
                    over = []
                if over:  # the last that is drawn is what is seen
                    classes[y, x] = outlines[over[-1]].label
                    numbers[y, x] = singles.index(over[-1]) + 1 if over[-1] in singles else 0
        found = draw_objects(layout, outlines, things)
        assert np.array_equal(found[0], classes) and np.array_equal(found[1], numbers)
        assert found[2] == len(singles) - len(set(numbers.ravel().tolist()) - {0})


def test_outlines_of_all_kinds_draw_the_same(tmp_path: Path) -> None:
    labels = np.full((32, 32), SKY, dtype=np.uint8)
    mask = (np.arange(7) % 2).repeat([5, 1, 300, 2, 4, 700, 12]).reshape(32, 32).T.astype(bool)
    labels[mask] = PERSON
    kinds = {
        "numbers": {"size": [32, 32], "counts": [5, 1, 300, 2, 4, 700, 12]},
        "text": {"size": [32, 32], "counts": "51\\91hFje08"},  # by COCO's own tools
        "polygons": [box(y, x, y + 1, x + 1)[0] for y, x in np.argwhere(mask).tolist()],
    }
    scenes = {name: (labels, [{"category_id": 1, "segmentation": kind}]) for name, kind in kinds.items()}
    prepare_coco_instances(official(tmp_path / "coco", scenes), out=tmp_path / "out", quiet=True)
    for name in kinds:
        assert np.array_equal(read_instances(tmp_path / f"out/train/instances/{name}.png"), mask), name


def test_what_does_not_belong_together_is_left_out_and_told(source: Path, tmp_path: Path) -> None:
    (source / "stuffthingmaps/train2017/a.png").rename(source / "stuffthingmaps/train2017/stranger.png")
    (source / "stuffthingmaps/val2017").rename(source / "gone")

    def change(content: dict[str, Any]) -> None:
        content["annotations"][6]["segmentation"] = [[1, 1, 2, 2], []]

    made = prepare_coco_instances(changed(source, change), out=tmp_path / "out", quiet=True)
    assert [(s.name, s.layouts, s.photos) for s in made.splits] == [("train", 1, 1)]
    words = [
        "instances_val2017.json: no pixel maps stuffthingmaps/val2017/*.png or annotations/stuff_val2017_pixelmaps/",
        "instances_train2017.json: annotation 6 (id 506) encloses nothing (1 such left out)",
        "instances_train2017.json: has the picture 'a', which has no map in",
        "stranger.png: is of no picture in instances_train2017.json (1 such left out)",
        "train2017/a.jpg: has no map (1 such left out)",
    ]
    assert len(made.warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, made.warnings, strict=True))


def test_maps_of_other_pictures_are_told(tmp_path: Path) -> None:
    labels, annotations = scene()
    root = official(tmp_path / "coco", {"a": (labels[:, ::-1].copy(), annotations[:3])})
    made = prepare_coco_instances(root, out=tmp_path / "out", quiet=True)
    assert len(made.warnings) == 1
    assert made.warnings[0].endswith(
        "a.png: 2 of its 3 objects are nowhere of their class; does instances_train2017.json belong to it?"
    )


def test_the_year_that_has_maps_is_taken(source: Path, tmp_path: Path) -> None:
    known = source / "annotations/instances_train2017.json"
    known.with_name("instances_train2014.json").write_text(known.read_text())
    made = prepare_coco_instances(source, out=tmp_path / "out", quiet=True)
    assert len(made.warnings) == 1 and "instances_train2014.json: no pixel maps" in made.warnings[0]
    save(scene()[0], source / "stuffthingmaps/train2014/a.png")
    with pytest.raises(UserError, match=r"instances_train2017.json: is for train, as is .*instances_train2014.json"):
        prepare_coco_instances(source, out=tmp_path / "other", quiet=True)


def outline(content: dict[str, Any], value: object) -> None:
    content["annotations"][0]["segmentation"] = value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["categories"][2].update(name="truck"), r"category 3 is 'truck', but 'car' in COCO-Stuff"),
        (
            lambda c: c["categories"][2].update(id=92),
            r"category 92 \(car\) is none of COCO's things, .* ids 1..91; give",
        ),
        (lambda c: c["categories"][2].update(id=0), r"category 0 \(car\) is none of COCO's things, .* ids 1..91; give"),
        (
            lambda c: c["annotations"][0].update(category_id=4),
            r"annotation 0 \(id 500\) has category_id 4, which is not",
        ),
        (
            lambda c: c["annotations"][0].update(image_id=9),
            r"annotation 0 \(id 500\) has image_id 9, which no image has",
        ),
        (lambda c: c["annotations"][3].update(iscrowd=None), r"annotation 3 \(id 503\) has iscrowd None; .* in 0..1"),
        (lambda c: c["annotations"][0].pop("segmentation"), r"has segmentation None; it must be polygons or run"),
        (lambda c: outline(c, [[1, 2, 3, 4, 5]]), r"has a polygon of 5 numbers; it must be x, y, x, y"),
        (lambda c: outline(c, [1, 2, 3, 4, 5, 6]), r"has a polygon of 1; it must be x, y"),
        (lambda c: outline(c, [[1, 2, 3, 4, 5, "6"]]), r"has a polygon of \[1, 2, 3, 4, 5, '6'\]; it must be x, y"),
        (lambda c: outline(c, [[1, 2, 3, 4, 5, float("nan")]]), r"numbers that are not finite, or beyond 1e\+09"),
        (lambda c: outline(c, [[1, 2, 3, 4, 5, -1e10]]), r"numbers that are not finite, or beyond 1e\+09"),
        (lambda c: outline(c, [[1, 2, 3, 4, 5, 10**400]]), r"has a polygon of \[1, 2"),
        (
            lambda c: outline(c, {"size": [20, 10], "counts": [200]}),
            r"run lengths for the size \[20, 10\], but .* 10 x 20",
        ),
        (lambda c: outline(c, {"size": [10, 20], "counts": 200}), r"has counts 200; they must be a list or a text"),
        (
            lambda c: outline(c, {"size": [10, 20], "counts": [100, 99]}),
            r"500\) has run lengths of 199 pixels, but 10 x 20",
        ),
        (lambda c: outline(c, {"size": [10, 20], "counts": [300, -100]}), r"500\) has the run length -100, but"),
        (lambda c: outline(c, {"size": [10, 20], "counts": "04 "}), r"500\) has ' ' as character 2, but '0' to 'o'"),
        (lambda c: outline(c, {"size": [10, 20], "counts": "o"}), r"500\) ends within a number; it was cut short"),
    ],
)
def test_json_that_is_wrong_is_refused_by_its_entry(source: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        prepare_coco_instances(changed(source, change), out=tmp_path / "out", quiet=True)
    assert str(caught.value).startswith(str(source / "annotations/instances_train2017.json: "))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()  # all of it is examined before anything is written


def test_files_that_are_wrong_are_refused(source: Path, tmp_path: Path) -> None:
    path = source / "stuffthingmaps/train2017/a.png"
    for labels, words in (
        (scene((10, 21))[0], r"a.png: is 10 x 21, but instances_train2017.json says 10 x 20"),
        (np.full((10, 20), 190, np.uint8), r"a.png: label 190 at \(row 0, column 0\); known are 0..181 and 255"),
        (scene()[0] // 255 * 182, r"a.png: label 182 at \(row 0, column 0\); known are 0..181 and 255"),
        (np.zeros((10, 20, 3), np.uint8), r"a.png: holds colours"),
    ):
        save(labels, path)
        with pytest.raises(UserError, match=words):
            prepare_coco_instances(source, out=tmp_path / "out", quiet=True)
        assert not (tmp_path / "out/classes.json").exists()  # not finished, so not to be trained on
    save(scene()[0], path)
    assert (
        prepare_coco_instances(source, out=tmp_path / "out", quiet=True).splits[0].instances == 2
    )  # mended, it goes on
    with pytest.raises(
        UserError, match=r"no instances_train2017.json or instances_val2017.json in it or in annotations"
    ):
        prepare_coco_instances(tmp_path / "out", out=tmp_path / "other", quiet=True)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"the real sample is not in {SAMPLE}")
def test_the_real_sample_from_outlines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects of the sample's own instance maps, told as run lengths, come back: one number each, apart as before."""
    for part in ("val_img", "val_label", "val_inst"):
        (tmp_path / "some" / part).mkdir(parents=True)
        for path in sorted((SAMPLE / part).iterdir())[:3]:
            (tmp_path / "some" / part / path.name).write_bytes(path.read_bytes())
    prepare_coco_stuff(tmp_path / "some", out=tmp_path / "stuff", quiet=True)
    scenes = {}
    for pair in pair_files(tmp_path / "stuff/val").pairs:
        assert pair.layout and pair.instances
        objects = read_instances(pair.instances)
        scenes[pair.stem] = (
            read_labels(SAMPLE / f"val_label/{pair.stem}.png"),
            [
                {
                    "category_id": int(number) // 256,
                    "iscrowd": 0,
                    "segmentation": {"size": [*objects.shape], "counts": runs(objects == number)},
                }
                for number in np.unique(objects[objects > 255])
                if number // 256 <= 91
            ],
        )
    used = sorted({entry["category_id"] for _, entries in scenes.values() for entry in entries})
    names = {n + 1: c.name for n, c in enumerate(read_classes(tmp_path / "stuff/classes.json"))}
    categories = [{"id": n, "name": names[n]} for n in used]
    root = official(tmp_path / "coco", scenes, "val", categories=categories)
    assert main(["prepare", "coco-instances", str(root), "--out", str(tmp_path / "out")]) == 0
    assert "val 3 layouts and 3 photographs; 183 classes" in capsys.readouterr().out
    total = 0
    for pair in pair_files(tmp_path / "out/val").pairs:
        assert pair.layout and pair.instances
        layout, numbers = read_labels(pair.layout), read_instances(pair.instances)
        before = read_instances(tmp_path / f"stuff/val/instances/{pair.stem}.png")
        assert np.array_equal(layout, read_labels(tmp_path / f"stuff/val/layouts/{pair.stem}.png"))
        assert np.array_equal(numbers > 0, (before // 256 == layout.astype(int) + 1) & (layout < 91))
        pairs = np.unique(np.stack([numbers, before])[:, numbers > 0], axis=1)
        assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
        total += pairs.shape[1]
    assert total > 20
