"""Coarse layouts (specification of CRN, 8.1): the pure function against a slow twin, and the preparer."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photogram.data.coarsen as module
from photogram.data.coarsen import STRENGTHS, coarsen, coarsen_scene, prepare_coarsen
from photogram.data.folder import Folder, pair_files
from photogram.errors import UserError
from photogram.images import read_labels
from photogram.scene import SceneClass, write_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
CAMVID = SHARED / "data/camvid"

needs_camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason=f"CamVid is not in {CAMVID}")

VOID = 9


def blobs(seed: int, size: tuple[int, int] = (40, 56), classes: int = 4, void: int = VOID) -> np.ndarray:
    """Smooth areas with ragged borders, some of them void."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (7, 9), dtype=np.uint8))
    smooth = np.asarray(small.resize((size[1], size[0]), Image.Resampling.BICUBIC)).astype(float)
    values = ((smooth + draw.normal(0, 4, size)) / 256 * (classes + 1)).clip(0, classes).astype(np.uint8)
    return np.where(values == classes, void, values).astype(np.uint8)


# The slow twin: one pixel at a time, in plain Python


def slow_components(values: np.ndarray) -> list[list[tuple[int, int]]]:
    """The 4-connected areas of equal value, by a flood from each pixel in turn; void (-1) left out."""
    h, w = values.shape
    seen: set[tuple[int, int]] = set()
    areas = []
    for first in itertools.product(range(h), range(w)):
        if first in seen or values[first] < 0:
            continue
        area, todo = [], [first]
        seen.add(first)
        while todo:
            y, x = todo.pop()
            area.append((y, x))
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= v < h and 0 <= u < w and (v, u) not in seen and values[v, u] == values[y, x]:
                    seen.add((v, u))
                    todo.append((v, u))
        areas.append(area)
    return areas


def slow_outline(area: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Walk around an area with a hand on the wall: unit steps from corner to corner, the area to the right."""
    inside = set(area)
    steps: set[tuple[int, int, int, int]] = set()
    for y, x in area:  # start and heading of every side towards the outside
        steps |= {(y, x, 0, 1)} if (y - 1, x) not in inside else set()
        steps |= {(y, x + 1, 1, 0)} if (y, x + 1) not in inside else set()
        steps |= {(y + 1, x + 1, 0, -1)} if (y + 1, x) not in inside else set()
        steps |= {(y + 1, x, -1, 0)} if (y, x - 1) not in inside else set()
    loops = []
    order = {(0, 1): 0, (1, 0): 1, (0, -1): 2, (-1, 0): 3}
    while steps:
        step = first = min(steps, key=lambda s: (order[s[2], s[3]], s[0], s[1]))
        corners, before = [], None
        while True:
            steps.discard(step)
            y, x, dy, dx = step
            if (dy, dx) != before:
                corners.append((y, x))
            before = (dy, dx)
            ends = [(y + dy, x + dx, *turn) for turn in ((dx, -dy), (dy, dx), (-dx, dy))]  # right, straight, left
            step = next((s for s in ends if s in steps or s == first), first)
            if step == first:
                break
        loops.append(corners)
    return loops


def slow_simplify(loop: list[tuple[int, int]], tolerance: float, size: tuple[int, int]) -> list[tuple[int, int]]:
    def distance(p: tuple[int, int], a: tuple[int, int], b: tuple[int, int]) -> Fraction:
        """Squared, and exact, for on a grid many corners are equally far."""
        along = (b[0] - a[0], b[1] - a[1])
        t = Fraction((p[0] - a[0]) * along[0] + (p[1] - a[1]) * along[1], max(along[0] ** 2 + along[1] ** 2, 1))
        t = min(max(t, Fraction(0)), Fraction(1))
        return (p[0] - a[0] - t * along[0]) ** 2 + (p[1] - a[1] - t * along[1]) ** 2

    def between(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The corners that stay, without the last."""
        far = [distance(p, points[0], points[-1]) for p in points[1:-1]]
        if not far or max(far) <= tolerance**2:
            return points[:1]
        middle = 1 + far.index(max(far))
        return between(points[: middle + 1]) + between(points[middle:])

    away = [distance(p, loop[0], loop[0]) for p in loop]
    anchors = {0, away.index(max(away))}
    anchors |= {n for n, (y, x) in enumerate(loop) if y in (0, size[0]) or x in (0, size[1])}
    places = [*sorted(anchors), len(loop)]
    closed = [*loop, loop[0]]
    return [p for a, b in itertools.pairwise(places) for p in between(closed[a : b + 1])]


def slow_inside(y: float, x: float, loops: list[list[tuple[int, int]]]) -> bool:
    """Whether a line from the left edge to a point crosses the loops an odd number of times."""
    crossings = 0
    for loop in loops:
        for (y0, x0), (y1, x1) in zip(loop, [*loop[1:], loop[0]], strict=True):
            if (y0 > y) != (y1 > y):
                crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return crossings % 2 == 1


def slow_coarsen(classes: np.ndarray, tolerance: float, radius: int, smallest: float) -> np.ndarray:
    """`coarsen` by polygons, with void as -1."""
    h, w = classes.shape
    drawn = np.full((h, w), -1)
    areas = sorted(slow_components(classes), key=len, reverse=True)
    for area in areas:
        loops = [slow_simplify(loop, tolerance, (h, w)) for loop in slow_outline(area)]
        loops = [loop for loop in loops if len(loop) > 2]
        for y, x in itertools.product(range(h), range(w)):
            if slow_inside(y + 0.5, x + 0.5, loops):
                drawn[y, x] = classes[area[0]]
    result = drawn.copy()
    for y, x in itertools.product(range(h), range(w)):
        window = drawn[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        if (window != drawn[y, x]).any():
            result[y, x] = -1
    for area in slow_components(result):
        if len(area) < smallest:
            for place in area:
                result[place] = -1
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [1, 2, 3])
def test_coarsen_is_what_its_slow_twin_does(seed: int, strength: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = module.Strength(tolerance=(8, 14, 25)[strength - 1], gap=(2, 5, 9)[strength - 1], cell=4, smallest=200)
    monkeypatch.setitem(module.STRENGTHS, strength, wanted)
    classes = blobs(seed)
    scale = classes.shape[0] / 256
    twin = slow_coarsen(
        np.where(classes == VOID, -1, classes.astype(int)),
        wanted.tolerance * scale,
        max(1, round(wanted.gap * scale)),
        wanted.smallest * scale**2,
    )
    found = coarsen(classes, strength, VOID)
    assert found.dtype == classes.dtype
    assert np.array_equal(found, np.where(twin < 0, VOID, twin))
    assert 0.02 < (found != VOID).mean() < 0.98 or strength == 3


@pytest.mark.parametrize("seed", range(8))
def test_parts_against_their_twins(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(-1, 2 + seed % 3, (11, 13))  # salt and pepper: many corners that only touch
    areas = module._components(values)
    expected = np.full(values.shape, -1)
    for n, area in enumerate(slow_components(values)):
        for place in area:
            expected[place] = n
    assert np.array_equal(areas, expected)
    loops = module._loops(areas)
    for n, area in enumerate(slow_components(values)):
        assert sorted(map(sorted, slow_outline(area))) == sorted(sorted(map(tuple, p.tolist())) for p in loops[n])
        assert np.array_equal(module._fill(loops[n], (11, 13)), areas == n)
    assert np.array_equal(module._polygons(values, 0.0), values)  # with no tolerance nothing moves
    points = [(int(y), int(x)) for y, x in draw.integers(0, 30, (25, 2))]  # a line that crosses itself
    for tolerance in (0.0, 2.5, 9.0):
        found = module._simplify(np.array(points), tolerance, (30, 30))
        assert found.tolist() == [list(p) for p in slow_simplify(points, tolerance, (30, 30))]
        if len(found) > 2:
            corners = [[(int(y), int(x)) for y, x in found]]
            twin = [[slow_inside(y + 0.5, x + 0.5, corners) for x in range(30)] for y in range(30)]
            assert np.array_equal(module._fill([found], (30, 30)), np.array(twin))


def test_a_square_loses_its_gap_and_a_hole_stays() -> None:
    classes = np.zeros((256, 256), np.uint8)
    classes[60:160, 60:160] = 1
    classes[100:130, 100:130] = VOID
    classes[200:205, 200:210] = 2  # too small for its gap
    found = coarsen(classes, 1, VOID)
    expected = np.full((256, 256), VOID)
    inner = np.zeros((256, 256), bool)
    inner[62:158, 62:158] = True
    inner[98:132, 98:132] = False
    outer = np.ones((256, 256), bool)
    outer[58:162, 58:162] = False
    expected[inner], expected[outer] = 1, 0
    away = np.ones((256, 256), bool)
    away[190:216, 190:220] = False  # around the small one, which leaves void behind
    assert np.array_equal(found[away], expected[away])
    assert set(np.unique(found[~away])) == {0, VOID} and found[202, 204] == VOID
    assert found[0, 0] == found[255, 255] == 0  # the border of the image is none of a region's


def test_numbers_are_those_of_256_rows() -> None:
    assert [(s.tolerance, s.gap, s.cell, s.smallest) for s in STRENGTHS.values()] == [
        (4, 2, 4, 64),
        (8, 4, 8, 64),
        (16, 8, 16, 64),
    ]
    for strength, gap in ((1, 2), (2, 4), (3, 8)):
        halves = np.repeat(np.arange(2, dtype=np.uint8), 128)[None].repeat(256, axis=0)
        assert (coarsen(halves, strength, VOID)[100] == VOID).sum() == 2 * gap
        double = halves.repeat(2, axis=0).repeat(2, axis=1)
        assert (coarsen(double, strength, VOID)[100] == VOID).sum() == 4 * gap
    classes = np.full((256, 256), VOID, np.uint8)
    classes[10:22, 10:22] = 1  # 8 x 8 after the gap: just 64
    assert (coarsen(classes, 1, VOID) == 1).sum() == 64
    classes[10, 10:22] = VOID
    assert (coarsen(classes, 1, VOID) == 1).sum() == 0


def test_nearest_leaves_blocks() -> None:
    classes = blobs(3, (256, 384))
    for strength, cell in ((1, 4), (2, 8), (3, 16)):
        found = coarsen(classes, strength, None, "nearest")
        middles = classes[cell // 2 :: cell, cell // 2 :: cell]  # floor((i + 0.5) * cell)
        assert np.array_equal(found, middles.repeat(cell, axis=0).repeat(cell, axis=1))
    tall = classes.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(coarsen(tall, 1, None, "nearest")[::8, ::8], tall[4::8, 4::8])
    assert coarsen(classes[:9, :5], 3, None, "nearest").shape == (9, 5)


@pytest.mark.parametrize("second", (700, 65536 * 5 + 1, 2**31 - 1))
def test_objects_are_regions_of_their_own(second: int) -> None:
    classes = np.full((256, 256), 3, np.uint16)
    instances = np.repeat([1, second], 128)[None].repeat(256, axis=0).astype(np.int32)
    assert (coarsen(classes, 1, VOID) == 3).all()
    found, objects = coarsen_scene(classes, instances, 1, VOID)
    assert objects is not None and found.dtype == np.uint16 and objects.dtype == np.int32
    assert np.array_equal(found[0] == VOID, (np.arange(256) >= 126) & (np.arange(256) < 130))
    assert np.array_equal(objects, np.where(found == VOID, 0, instances))
    found, objects = coarsen_scene(classes, instances, 3, None, "nearest")
    assert objects is not None and np.array_equal(objects, instances) and np.array_equal(found, classes)


def test_whole_and_empty_layouts() -> None:
    for size in ((1, 1), (1, 40), (40, 1), (64, 64)):
        for strength in (1, 2, 3):
            assert (coarsen(np.full(size, VOID, np.uint8), strength, VOID) == VOID).all()
            one = coarsen(np.zeros(size, np.uint8), strength, VOID)
            large = size[0] * size[1] >= 64 * (size[0] / 256) ** 2
            assert (one == (0 if large else VOID)).all()


def test_what_is_unknown_is_refused() -> None:
    classes = np.zeros((8, 8), np.uint8)
    for strength in (0, 4):
        with pytest.raises(UserError, match=f"--strength {strength}: must be one of 1, 2, 3"):
            coarsen(classes, strength, VOID)
    with pytest.raises(UserError, match="no void class; use --method nearest"):
        coarsen(classes, 1, None)


# Folders


def data_folder(root: Path, void: bool = True, instances: bool = True) -> Path:
    draw = np.random.default_rng(5)
    for n, (split, stem) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        for part in ("photos", "layouts", "instances"):
            (root / split / part).mkdir(parents=True, exist_ok=True)
        layout = blobs(n, (64, 96), 2, void=2)
        Image.fromarray(layout).save(root / split / "layouts" / f"{stem}.png")
        Image.fromarray(draw.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(root / split / f"photos/{stem}.jpg")
        if instances:
            Image.fromarray(layout.astype(np.uint16) * 400).save(root / split / "instances" / f"{stem}.png")
    classes = (SceneClass("sky", (1, 2, 3)), SceneClass("road", (4, 5, 6)), SceneClass("none", (0, 0, 0), void))
    write_classes(classes, root / "classes.json")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("method", ["polygon", "nearest"])
def test_a_folder(tmp_path: Path, method: module.Method) -> None:
    source = data_folder(tmp_path / "fine")
    before = contents(source)
    made = prepare_coarsen(source, out=tmp_path / "out", strength=2, method=method, quiet=True)
    assert contents(source) == before
    splits = [(s.name, s.layouts, s.photos, s.instances) for s in made.prepared.splits]
    assert splits == [("train", 2, 2, 2), ("val", 1, 1, 1)]
    voids: dict[str, list[tuple[float, float]]] = {"train": [], "val": []}
    for path in sorted(source.glob("*/layouts/*.png")):
        split, name = path.parent.parent.name, path.name
        layout, objects = read_labels(path), read_labels(source / split / "instances" / name)
        expected = coarsen_scene(layout, objects, 2, 2, method)
        found = read_labels(tmp_path / "out" / split / "layouts" / name)
        assert expected[1] is not None and np.array_equal(found, expected[0])
        assert np.array_equal(read_labels(tmp_path / "out" / split / "instances" / name), expected[1])
        photo = Path(split) / "photos" / f"{path.stem}.jpg"
        assert (tmp_path / "out" / photo).read_bytes() == (source / photo).read_bytes()
        assert (tmp_path / "out" / photo).stat().st_nlink == 1  # no link
        voids[split].append((float((layout == 2).mean()), float((found == 2).mean())))
    for split, pairs in voids.items():
        assert made.unlabelled[split] == pytest.approx(tuple(np.mean(pairs, axis=0)))
        assert method == "nearest" or made.unlabelled[split][1] > made.unlabelled[split][0]
    assert len(Folder(tmp_path / "out")) == 2
    whole = contents(tmp_path / "out")
    (tmp_path / "out/train/layouts/b.png").unlink()
    again = prepare_coarsen(source, out=tmp_path / "out", strength=2, method=method, quiet=True)
    assert (again.prepared.written, again.prepared.skipped) == (1, 2) and again.unlabelled == made.unlabelled
    assert contents(tmp_path / "out") == whole
    with pytest.raises(UserError, match="was prepared with strength 2, now 3"):
        prepare_coarsen(source, out=tmp_path / "out", strength=3, method=method, quiet=True)


def test_a_folder_without_void(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "fine", void=False, instances=False)
    with pytest.raises(UserError, match=r"classes.json: has no void class.*or use --method nearest"):
        prepare_coarsen(source, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()
    made = prepare_coarsen(source, out=tmp_path / "out", method="nearest", quiet=True)
    assert made.unlabelled == {} and made.prepared.written == 3


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "fine")
    with pytest.raises(UserError, match="--strength 5"):
        prepare_coarsen(source, out=tmp_path / "out", strength=5, quiet=True)
    with pytest.raises(UserError, match="overlaps the source"):
        prepare_coarsen(source, out=source / "coarse", quiet=True)
    with pytest.raises(UserError, match="no such folder"):
        prepare_coarsen(tmp_path / "none", out=tmp_path / "out", quiet=True)
    (source / "train/photos/x.jpg").write_bytes(b"")
    made = prepare_coarsen(source, out=tmp_path / "ok", quiet=True)
    assert any("x.jpg: left out (1 photographs without a layout)" in w for w in made.prepared.warnings)
    Image.new("L", (96, 63)).save(source / "val/instances/c.png")
    with pytest.raises(UserError, match=r"c.png: is 63 x 96, but its layout .* is 64 x 96"):
        prepare_coarsen(source, out=tmp_path / "out", quiet=True)
    Image.new("L", (96, 64), 7).save(source / "val/layouts/c.png")
    with pytest.raises(UserError, match=r"c.png: class 7 at \(row 0, column 0\), but classes.json lists 0..2"):
        prepare_coarsen(source, out=tmp_path / "out2", quiet=True)
    Image.new("L", (96, 64)).save(source / "val/layouts/c.bmp")
    with pytest.raises(UserError, match="has the same stem as"):
        prepare_coarsen(source, out=tmp_path / "out3", quiet=True)
    (tmp_path / "bare").mkdir()
    write_classes((SceneClass("a", (0, 0, 0), True),), tmp_path / "bare/classes.json")
    with pytest.raises(UserError, match="no layouts in train/layouts/"):
        prepare_coarsen(tmp_path / "bare", out=tmp_path / "out4", quiet=True)


@needs_camvid
def test_real_layouts_lose_more_with_each_strength() -> None:
    void = 11
    for pair in pair_files(CAMVID / "val").pairs[::40]:
        fine = read_labels(pair.layout)
        shares = [(fine == void).mean()]
        for strength in (1, 2, 3):
            coarse = coarsen(fine, strength, void)
            labelled = coarse != void
            assert (coarse[labelled] == fine[labelled]).mean() > (0.97, 0.96, 0.93)[strength - 1]
            shares.append((coarse == void).mean())
        assert all(a < b for a, b in itertools.pairwise(shares)) and shares[3] < 0.7
