"""Lines of photographs and of drawings by hand: detectors against slow twins and scikit-image, and closed cases."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_lines import grounds, slow_parts, slow_thin

from photogram.data import edges as module
from photogram.data.edges import Canny, XDoG, edges, highest, ink, normalise_sketch, otsu
from photogram.data.lines import components
from photogram.errors import UserError
from photogram.images import read_photo

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
PHOTOS = SHARED / "data/camvid/train/photos"

needs_camvid = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"CamVid is not in {PHOTOS.parents[1]}")

BOTH = (Canny(), XDoG())


def scene(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A photograph of smooth areas with an object or two, and a little noise: uint8 [h, w, 3]."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    picture = small.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(3):
        x, y = draw.integers(0, max(1, size[1] - 6)), draw.integers(0, max(1, size[0] - 6))
        color = tuple(draw.integers(0, 256, 3).tolist())
        pen.rectangle([int(x), int(y), int(x) + size[1] // 4, int(y) + size[0] // 3], fill=color)
    return (np.asarray(picture) + draw.normal(0, 3, (*size, 3))).clip(0, 255).astype(np.uint8)


def drawn(lines: np.ndarray) -> np.ndarray:
    """The mask of a drawing, which has black and white alone."""
    assert lines.dtype == np.uint8 and set(np.unique(lines)) <= {0, 255}
    return lines == 0


def near(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the ink of one that has ink of the other within a pixel."""
    padded = np.pad(other, 1)
    h, w = other.shape
    around = np.any([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)
    return float((one & around).sum() / one.sum())


# --- twins, one pixel at a time --------------------------------------------------------------------------------------


def mirrored(plane: list[list[float]], y: int, x: int) -> float:
    """The value at a pixel, or at the one that stands for it: ... 2 1 0 | 0 1 2 ..."""
    place = []
    for at, length in ((y, len(plane)), (x, len(plane[0]))):
        at %= 2 * length
        place.append(at if at < length else 2 * length - 1 - at)
    return plane[place[0]][place[1]]


def slow_gaussian(plane: list[list[float]], sigma: float) -> list[list[float]]:
    reach = max(1, int(4 * sigma + 0.5))
    steps = range(-reach, reach + 1)
    weights = {(dy, dx): math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma)) for dy in steps for dx in steps}
    total = sum(weights.values())
    return [
        [
            sum(weight * mirrored(plane, y + dy, x + dx) for (dy, dx), weight in weights.items()) / total
            for x in range(len(plane[0]))
        ]
        for y in range(len(plane))
    ]


def slow_luma(photo: np.ndarray) -> list[list[float]]:
    return [[(0.299 * r + 0.587 * g + 0.114 * b) / 255 for r, g, b in row] for row in photo.tolist()]


def slow_canny(photo: np.ndarray, found: Canny) -> np.ndarray:
    """Canny's lines, of log(1 + 10 luma) / log 11, before thinning."""
    plane = slow_gaussian([[math.log(1 + 10 * v) / math.log(11) for v in row] for row in slow_luma(photo)], found.sigma)
    h, w = len(plane), len(plane[0])
    change = np.zeros((h, w, 2))
    for y in range(h):
        for x in range(w):
            for n, (dy, dx) in enumerate(((1, 0), (0, 1))):
                for side, weight in ((-1, 1), (0, 2), (1, 1)):
                    ahead = mirrored(plane, y + dy + side * dx, x + dx + side * dy)
                    behind = mirrored(plane, y - dy + side * dx, x - dx + side * dy)
                    change[y, x, n] += weight * (ahead - behind) / 8
    strength = np.sqrt((change**2).sum(axis=-1)).round(9)

    def at(y: int, x: int) -> float:
        return float(strength[y, x]) if 0 <= y < h and 0 <= x < w else 0.0

    crest = np.zeros((h, w), bool)
    for y in range(h):
        for x in range(w):
            if strength[y, x] < found.low:
                continue
            dy, dx = change[y, x] / np.abs(change[y, x]).max()  # to the side of the square of eight neighbours
            beside = []
            for way in (1, -1):
                ty, tx = way * dy, way * dx
                if abs(ty) == 1:
                    left = math.floor(tx)
                    value = at(y + round(ty), x + left) * (left + 1 - tx) + at(y + round(ty), x + left + 1) * (
                        tx - left
                    )
                else:
                    top = math.floor(ty)
                    value = at(y + top, x + round(tx)) * (top + 1 - ty) + at(y + top + 1, x + round(tx)) * (ty - top)
                beside.append(round(value, 9))
            crest[y, x] = strength[y, x] >= beside[0] and strength[y, x] > beside[1]
    kept = np.zeros((h, w), bool)
    for part in slow_parts(crest):
        if max(strength[place] for place in part) >= found.high:
            for place in part:
                kept[place] = True
    return kept


def slow_xdog(photo: np.ndarray, found: XDoG) -> np.ndarray:
    """XDoG's strokes before thinning, with the paper's soft threshold, cut at a half; phi is 1000."""
    luma = slow_luma(photo)
    narrow, wide = slow_gaussian(luma, found.sigma), slow_gaussian(luma, 1.6 * found.sigma)
    phi = 1000.0
    epsilon = found.epsilon + math.atanh(0.5) / phi
    mask = np.zeros(photo.shape[:2], bool)
    for y, x in np.ndindex(mask.shape):
        u = narrow[y][x] - found.tau * wide[y][x]
        mask[y, x] = (1.0 if u >= epsilon else 1 + math.tanh(phi * (u - epsilon))) < 0.5
    return mask


def slow_edges(mask: np.ndarray, smallest: int) -> np.ndarray:
    thinned = slow_thin(mask)
    lines = np.full(mask.shape, 255, np.uint8)
    for part in slow_parts(thinned):
        if len(part) >= smallest:
            for place in part:
                lines[place] = 0
    return lines


@pytest.mark.parametrize("seed", range(3))
def test_canny_is_what_its_slow_twin_does(seed: int) -> None:
    for found in (Canny(), Canny(sigma=0.7, low=0.03, high=0.1)):
        photo = scene(seed)
        expected = slow_edges(slow_canny(photo, found), 5)
        assert 0.02 < (expected == 0).mean() < 0.3
        assert np.array_equal(edges(photo, found), expected)


@pytest.mark.parametrize("seed", range(3))
def test_xdog_is_what_its_slow_twin_does(seed: int) -> None:
    for found in (XDoG(), XDoG(sigma=0.7, tau=1.0, epsilon=-0.01)):
        photo = scene(seed)
        expected = slow_edges(slow_xdog(photo, found), 5)
        assert 0.02 < (expected == 0).mean() < 0.3
        assert np.array_equal(edges(photo, found), expected)


def test_canny_against_scikit_image() -> None:
    """The same definition; theirs keeps both of two equal neighbours, and knows nothing beyond the border."""
    feature = pytest.importorskip("skimage.feature")
    inner = (slice(8, -8), slice(8, -8))
    for seed in range(4):
        luma = scene(seed, (120, 160)) @ (np.array([0.299, 0.587, 0.114]) / 255)
        theirs = feature.canny(
            np.log1p(10 * luma) / np.log(11), 1.2, 8 * 0.015, 8 * 0.04
        )  # their Sobel sums, not means
        ours = Canny().mask(luma)
        assert np.array_equal(ours[inner], theirs[inner]) and theirs[inner].sum() > 100


# --- closed cases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", BOTH)
@pytest.mark.parametrize("dark", ["left", "right"])
def test_a_step_is_one_line_on_its_dark_side(found: Canny | XDoG, dark: str) -> None:
    photo = np.full((40, 60, 3), 200, np.uint8)
    photo[:, :30] = 60
    photo = photo if dark == "left" else photo[:, ::-1].copy()
    for turned in (False, True):
        lines = drawn(edges(photo.swapaxes(0, 1).copy() if turned else photo, found))
        lines = lines.T if turned else lines
        columns = lines.any(axis=0).nonzero()[0]
        at = 29 if dark == "left" else 30
        assert (columns.tolist() == [at]) if isinstance(found, Canny) else abs(columns - at).max() <= 1
        assert lines.sum(axis=1).max() == 1 and lines.sum() >= 38  # thinning may take the last pixel of a stroke


@pytest.mark.parametrize("found", BOTH)
@pytest.mark.parametrize("light", [False, True])
def test_a_circle_is_closed_and_one_pixel_wide(found: Canny | XDoG, light: bool) -> None:
    y, x = np.mgrid[:80, :100]
    inside = np.clip(25.5 - np.hypot(y - 40.3, x - 50.6), 0, 1)  # a smooth border
    grey = np.round(40 + 180 * (inside if light else 1 - inside)).astype(np.uint8)
    lines = drawn(edges(np.repeat(grey[..., None], 3, axis=2), found))
    assert len(slow_parts(lines)) == 1 and grounds(lines) == 2
    assert np.array_equal(slow_thin(lines), lines)
    radius = np.hypot(y - 40.3, x - 50.6)[lines]
    assert np.abs(radius - 25).max() < (1.5 if isinstance(found, Canny) else 3.5)  # a pen draws on the dark side
    assert 0.85 < lines.sum() / (2 * math.pi * radius.mean()) < 1


@pytest.mark.parametrize("found", [*BOTH, XDoG(tau=1.0), XDoG(epsilon=-0.1)])
@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_constant_photograph_has_no_lines(found: Canny | XDoG, value: int) -> None:
    for size in ((1, 1), (1, 50), (3, 2), (40, 50)):
        photo = np.full((*size, 3), value, np.uint8)
        assert (edges(photo, found) == 255).all() and edges(photo, found).shape == size


def test_small_parts_go() -> None:
    photo = np.full((40, 60, 3), 200, np.uint8)
    photo[10:12, 10:12] = 60
    photo[20:36, 30:50] = 60
    every, large = (drawn(edges(photo, Canny(), smallest=n)) for n in (0, 20))
    assert len(slow_parts(every)) == 2 and len(slow_parts(large)) == 1
    assert large[:18].sum() == 0 and np.array_equal(every[18:], large[18:])
    assert min(len(part) for part in slow_parts(drawn(edges(scene(3, (96, 128)), XDoG())))) >= 5


@pytest.mark.parametrize("found", BOTH)
def test_a_mirrored_photograph_has_mirrored_lines(found: Canny | XDoG) -> None:
    for seed in range(3):
        photo = scene(seed, (96, 128))
        for flip in (np.fliplr, np.flipud):
            luma = photo @ (np.array([0.299, 0.587, 0.114]) / 255)
            assert np.array_equal(flip(found.mask(luma)), found.mask(np.ascontiguousarray(flip(luma))))
            here, there = drawn(edges(photo, found)), flip(drawn(edges(np.ascontiguousarray(flip(photo)), found)))
            assert near(here, there) > 0.99 and near(there, here) > 0.99  # thinning begins at one side


def test_wide_lines_are_the_thin_ones_and_their_neighbours() -> None:
    photo = scene(5, (48, 64))
    one, two = (drawn(edges(photo, Canny(), width=width)) for width in (1, 2))
    assert (two | one).sum() == two.sum() > 1.5 * one.sum() and near(two, one) == 1.0


def test_dusk_is_drawn_like_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a quarter of the light some half of the lines are there still; without the logarithm hardly any are."""
    photos = [scene(seed, (96, 128)) for seed in range(5, 9)]

    def kept() -> float:
        pairs = [(drawn(edges(photo, Canny())), drawn(edges(photo // 4, Canny()))) for photo in photos]
        return float(np.mean([near(day, dusk) for day, dusk in pairs]))

    compressed = kept()
    monkeypatch.setattr(module, "_STRETCH", 1e-6)  # which is luma itself
    assert compressed > 0.5 > 0.2 > kept()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Canny(sigma=0), "--sigma 0: must be more than 0 and at most 50 pixels"),
        (Canny(sigma=math.nan), "--sigma nan"),
        (XDoG(sigma=1e9), "--sigma 1000000000.0"),
        (Canny(low=0), "--low 0: a change of brightness"),
        (Canny(high=math.inf), "--high inf"),
        (Canny(low=0.3, high=0.2), "--low 0.3: must not be more than --high, which is 0.2"),
        (XDoG(tau=0), "--tau 0"),
        (XDoG(tau=1.5), "--tau 1.5: must be more than 0 and at most 1"),
        (XDoG(epsilon=math.nan), "--epsilon nan"),
    ],
)
def test_settings_that_cannot_be_are_refused(found: Canny | XDoG, message: str) -> None:
    with pytest.raises(UserError) as refused:
        found.check()
    assert message in str(refused.value)


@needs_camvid
@pytest.mark.parametrize("size", [(360, 480), (96, 128)])
def test_real_streets_have_a_useful_share_of_lines(size: tuple[int, int]) -> None:
    from photogram.images import resize_photo

    for path in sorted(PHOTOS.glob("*.jpg"))[::60]:
        for found in BOTH:
            lines = drawn(edges(resize_photo(read_photo(path), size), found))
            assert 0.02 < lines.mean() < 0.2
            assert min(len(p) for p in slow_parts(lines)) >= 5


# --- drawings by hand ------------------------------------------------------------------------------------------------


def sketch(scale: float = 1.0, pen: float = 5, dark: int = 30, light: int = 240, gap: float = 0) -> np.ndarray:
    """A house with a door, drawn with a pen: grey [h, w]; `gap` of its outline is missing, in the roof."""
    picture = Image.new("L", (round(200 * scale), round(160 * scale)), light)
    brush, width = ImageDraw.Draw(picture), max(1, round(pen * scale))

    def line(*points: tuple[float, float]) -> None:
        brush.line([(x * scale, y * scale) for x, y in points], dark, width, joint="curve")

    line((100 - gap / 2, 30), (40, 30), (40, 130), (160, 130), (160, 30), (100 + gap / 2, 30))
    line((90, 130), (90, 90), (120, 90), (120, 130))
    return np.array(picture)


@pytest.mark.parametrize("pen", [1, 2, 5, 9])
@pytest.mark.parametrize("width", [1, 2])
def test_strokes_have_the_width_that_is_asked_for(pen: int, width: int) -> None:
    lines = drawn(normalise_sketch(sketch(pen=pen), width=width))
    assert grounds(lines) == 3 and len(slow_parts(lines)) == 1  # outside, house and door
    middle = lines[60:80]  # crosses two walls
    assert (middle.sum(axis=1) == 2 * width).all()
    assert np.abs(middle[0].nonzero()[0][[0, -1]] - [40, 160]).max() <= 2
    if width == 1:
        assert np.array_equal(slow_thin(lines), lines)


def test_light_on_dark_is_dark_on_light() -> None:
    paper = sketch()
    assert np.array_equal(normalise_sketch(255 - paper), normalise_sketch(paper))
    rgb = np.repeat(paper[..., None], 3, axis=2)
    assert np.array_equal(normalise_sketch(rgb), normalise_sketch(paper))


def test_shadow_and_grain_are_paper() -> None:
    clean = sketch()
    draw = np.random.default_rng(0)
    shadow = np.linspace(0.45, 1, clean.shape[1])[None]
    photographed = (clean * shadow + draw.normal(0, 5, clean.shape)).clip(0, 255).astype(np.uint8)
    assert (photographed[:, :8].max() < photographed[:, -8:].mean()) and photographed[5, 5] < 128
    one, other = drawn(normalise_sketch(clean)), drawn(normalise_sketch(photographed))
    assert near(one, other) > 0.99 and near(other, one) > 0.99
    pencil = (sketch(dark=180, light=220) + draw.normal(0, 4, clean.shape)).astype(np.uint8)
    assert near(one, drawn(normalise_sketch(pencil))) > 0.99


@pytest.mark.parametrize("value", [0, 90, 255])
def test_empty_paper_stays_empty(value: int) -> None:
    draw = np.random.default_rng(1)
    for size in ((1, 1), (1, 30), (50, 70)):
        paper = (np.full(size, value) + draw.normal(0, 3, size)).clip(0, 255).astype(np.uint8)
        assert (normalise_sketch(paper) == 255).all()
        assert normalise_sketch(paper, size=(9, 12)).shape == (9, 12)


def test_gaps_are_closed_at_the_size_of_the_result() -> None:
    for gap, closed in ((4, True), (30, False)):
        lines = drawn(normalise_sketch(sketch(pen=3, gap=gap), gap=6))
        assert (grounds(lines) == 3) == closed
    large = sketch(4, pen=3, gap=3)  # 12 pixels there are 3 here
    assert grounds(drawn(normalise_sketch(large, size=(160, 200), gap=6))) == 3
    assert grounds(drawn(normalise_sketch(large, size=(160, 200), gap=0))) == 2
    assert grounds(drawn(normalise_sketch(sketch(), gap=0))) == 3


@pytest.mark.parametrize("scale", [0.5, 3, 9])
def test_no_line_is_lost_at_another_size(scale: float) -> None:
    """A line of a large drawing that averaging would let fade into the paper is as black as the others."""
    lines = drawn(normalise_sketch(sketch(scale, pen=2 / max(1, scale)), size=(64, 80)))
    assert lines.shape == (64, 80) and grounds(lines) == 3 and len(slow_parts(lines)) == 1
    assert near(lines, drawn(normalise_sketch(sketch(1, pen=2), size=(64, 80)))) > 0.97


def test_filled_areas_and_dots_become_outlines_and_specks_go() -> None:
    picture = Image.fromarray(np.full((160, 200), 240, np.uint8))
    pen = ImageDraw.Draw(picture)
    pen.rectangle([20, 30, 80, 90], fill=20)
    pen.ellipse([120, 40, 128, 48], fill=20)
    pen.rectangle([150, 120, 151, 121], fill=20)
    lines = drawn(normalise_sketch(np.array(picture)))
    assert grounds(lines) == 3 and len(slow_parts(lines)) == 2
    assert lines[30, 40:70].all() and not lines[34:86, 24:76].any()
    assert not lines[110:].any()


def test_a_normal_drawing_stays_as_it_is() -> None:
    once = normalise_sketch(sketch())
    assert np.array_equal(normalise_sketch(once), once)
    of_photo = edges(scene(2, (96, 128)), Canny())
    again = drawn(normalise_sketch(of_photo, gap=0))
    assert near(drawn(of_photo), again) > 0.99 and near(again, drawn(of_photo)) > 0.99


def test_parts_of_the_way_against_their_twins() -> None:
    draw = np.random.default_rng(4)
    plane = draw.random((13, 17))
    for reach in (1, 2, 3, 6, 20):
        expected = [
            [plane[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].max() for x in range(17)]
            for y in range(13)
        ]
        assert np.array_equal(highest(plane, reach), np.array(expected))
    grey = np.concatenate([draw.normal(80, 20, 300), draw.normal(200, 10, 900)]).clip(0, 255).astype(np.uint8)
    grey = grey.reshape(30, 40)
    variances = []
    for t in range(256):
        dark, light = grey[grey <= t], grey[grey > t]
        variances.append(len(dark) * len(light) * (dark.mean() - light.mean()) ** 2 if len(dark) and len(light) else 0)
    assert otsu(grey) == int(np.argmax(variances))
    filters = pytest.importorskip("skimage.filters")
    assert otsu(grey) == filters.threshold_otsu(grey)


def test_ink_is_what_is_dark_against_its_paper() -> None:
    grey = np.full((60, 80), 230, np.uint8)
    grey[20, 10:70] = 40
    assert np.array_equal(ink(grey), grey == 40) and components(ink(grey)).max() == 0
    assert not ink(np.full((60, 80), 230, np.uint8)).any()


def test_detectors_are_named_and_numbered() -> None:
    assert {name: kind.name for name, kind in module.DETECTORS.items()} == {"canny": "canny", "xdog": "xdog"}
    assert replace(Canny(), sigma=2.0).name == "canny" and module.VERSION == 1
