"""What people look at: sheets, the report, the model card."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_training import CLASSES, Blocks, ClassColors, Colors

from photogram.generator import Network
from photogram.images import read_photo, write_image
from photogram.nn.resnet import ResNetGenerator
from photogram.rasters import raster_form
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.report import model_card, write_report
from photogram.scene import Condition, Layout, Scene, SceneSpec, draw, to_pixels
from photogram.sheets import scene_sheet, scene_tiles, sheet
from photogram.training import Plan, train

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"}
CLOSES_ITSELF = {"html", "tr", "th", "td"}  # HTML lets their end be left out


class Page(HTMLParser):
    """A page as a browser sees it: elements that are properly nested, their text, and what they ask for."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in CLOSES_ITSELF:
            self.open.pop()
        assert self.open and self.open[-1] == tag, f"</{tag}> closes nothing; open are {self.open}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report") / "my <run> & co"
    plan = Plan(steps=9, save_every=4, precision="fp32", workers=0, quiet=True)
    return train(Colors(mode="</td> & <b>"), Blocks(), out, plan, Blocks(count=3))


def page_of(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_is_one_sound_file_that_opens_offline(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!doctype html>") and set(page.open) <= CLOSES_ITSELF
    assert page.all("title") and page.all("meta")[0]["charset"] == "utf-8"
    for tag, attributes in page.elements:
        assert tag not in ("link", "script", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                assert (value or "").startswith("data:"), f"<{tag} {name}={value!r}> is elsewhere"
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text


def test_the_report_has_the_curves(run):
    page = page_of(run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines = page.all("polyline")
    assert len(page.all("svg")) == len(lines) == 2
    words = " ".join(page.words)
    for name, line in zip(("loss", "half"), lines, strict=True):
        points = [tuple(map(float, point.split(","))) for point in (line["points"] or "").split()]
        values = np.array([entry[name] for entry in log])
        np.testing.assert_allclose([x for x, _ in points], np.linspace(0, 300, 9), atol=0.06)
        scaled = 100 - 100 * (values - values.min()) / np.ptp(values)
        np.testing.assert_allclose([y for _, y in points], scaled, atol=0.06)
        assert f"{name}: {values[-1]:.4g} ({values.min():.4g} to {values.max():.4g})" in words


def test_long_logs_are_drawn_as_means(tmp_path):
    values = np.random.default_rng(0).random(10_000)
    lines = "".join(json.dumps({"step": n + 1, "seen": n + 1, "loss": v}) + "\n" for n, v in enumerate(values))
    (tmp_path / "log.jsonl").write_text(lines)
    write_report(tmp_path, {})
    (line,) = page_of(tmp_path).all("polyline")
    points = [tuple(map(float, point.split(","))) for point in (line["points"] or "").split()]
    assert 300 <= len(points) <= 400 and points[0][0] == 0 and points[-1][0] == 300
    means = values[: 33 * (10_000 // 33)].reshape(-1, 33).mean(1)
    assert np.corrcoef([y for _, y in points][: len(means)], means)[0, 1] < -0.99, "high values stand high"


def logged(tmp_path: Path, steps: int, **values: float | list[float]) -> Page:
    """The report of a run that logged these, each a number or one for each step."""
    lines = (
        {"step": n + 1, "seen": n + 1, "loss": 1.0} | {k: v[n] if isinstance(v, list) else v for k, v in values.items()}
        for n in range(steps)
    )
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(tmp_path, {})
    return page_of(tmp_path)


WELL = {"accuracy/photographs": 0.7, "accuracy/paintings": 0.6, "gradient/generator": 1.0}


def test_diagnostics_are_a_group_of_their_own(tmp_path):
    page = logged(tmp_path, 100, **WELL)
    words = " ".join(page.words)
    assert words.index("Losses") < words.index("loss: 1") < words.index("Diagnostics") < words.index("accuracy/photog")
    assert len(page.all("svg")) == 4 and "Nothing is out of range (means of the last 100 steps)." in words
    assert "Diagnostics" not in " ".join(logged(tmp_path, 100).words), "where there are none"


def test_the_last_hundred_steps_are_judged_and_no_fewer(tmp_path):
    wrong = {"accuracy/photographs": 1.0, "accuracy/paintings": 1.0}
    said = "The discriminator is right of 100% of photographs and 100% of paintings"
    assert said in " ".join(logged(tmp_path, 100, **wrong).words)
    words = " ".join(logged(tmp_path, 99, **wrong).words)
    assert said not in words and "by their means over 100 steps, and there are not as many yet" in words
    mended = {name: [1.0] * 500 + [0.6] * 100 for name in wrong}
    assert "Nothing is out of range" in " ".join(logged(tmp_path, 600, **mended).words)
    once = {name: [0.6] * 599 + [1.0] for name in wrong}
    assert "Nothing is out of range" in " ".join(logged(tmp_path, 600, **once).words), "a single step says little"


@pytest.mark.parametrize("steps", (1000, 45_000, 100_000))
def test_diagnostics_of_every_fifth_step_are_drawn_however_long_the_log(tmp_path, steps):
    """Of 100,000 steps every fifth line is read."""
    lines = ({"step": n, "seen": n, "loss": 1.0} | (WELL if n % 5 == 0 else {}) for n in range(1, steps + 1))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(tmp_path, {})
    page = page_of(tmp_path)
    assert len(page.all("svg")) == 4 and "Nothing is out of range" in " ".join(page.words)
    for line in page.all("polyline"):
        assert 2 <= len((line["points"] or "").split()) <= 600


def test_diagnostics_that_begin_in_the_middle_of_a_log_are_drawn(tmp_path):
    """As of a run that an older version began."""
    lines = [{"step": n + 1, "seen": n + 1, "loss": 1.0} | (WELL if n >= 50 else {}) for n in range(120)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(tmp_path, {})
    page = page_of(tmp_path)
    assert len(page.all("svg")) == 4 and "Nothing is out of range" in " ".join(page.words)


@pytest.mark.parametrize("count", (0, 1, 2))
def test_short_logs_are_drawn_too(tmp_path, count):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "seen": 1, "loss": 2.0}\n' * count)
    write_report(tmp_path, {})
    lines = page_of(tmp_path).all("polyline")
    assert len(lines) == min(count, 1)
    assert all(len((line["points"] or "").split()) == 2 for line in lines), "a line has two ends"


def test_the_report_shows_the_newest_sheet(run):
    page = page_of(run)
    (picture,) = page.all("img")
    assert picture["alt"]
    encoded = (picture["src"] or "").removeprefix("data:image/png;base64,")
    newest = run / "samples" / "step-00000009.png"
    assert base64.b64decode(encoded, validate=True) == newest.read_bytes()
    assert "step-00000009" in " ".join(page.words)


def test_of_several_networks_the_report_shows_the_newest_sheet_of_each(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "log.jsonl").write_text("")
    for n, name in enumerate(("a-step-00000009", "b-step-00000009", "a-step-00000010", "b-step-00000010", "notes")):
        write_image(np.full((4, 4, 3), n, np.uint8), tmp_path / "samples" / f"{name}.png")
    write_report(tmp_path, {})
    pictures = page_of(tmp_path).all("img")
    shown = [base64.b64decode((p["src"] or "").partition(",")[2]) for p in pictures]
    assert [int(np.asarray(Image.open(io.BytesIO(s)))[0, 0, 0]) for s in shown] == [2, 3]


def test_the_report_tells_the_run_and_escapes_it(run):
    page = page_of(run)
    rows = " ".join(page.words)
    for fact in ("my <run> & co", "</td> & <b>", "learning_rate", "0.05", "Colors", "0123", "batch_size"):
        assert fact in rows, fact
    assert not page.all("b") and not page.all("run")


def test_the_report_says_what_share_of_the_time_waited_for_data(tmp_path):
    class Slow(Blocks):
        def __getitem__(self, key) -> Scene:
            import time

            time.sleep(0.03)
            return super().__getitem__(key)

    def share(data: Blocks, recipe: Colors, name: str) -> float:
        train(recipe, data, tmp_path / name, Plan(steps=8, precision="fp32", workers=0, quiet=True))
        words = page_of(tmp_path / name).words
        said = words[words.index("waited for data") + 1]
        assert said.endswith(" % of the time")
        return float(said.split()[0])

    assert share(Slow(), Colors(), "slow data") > 60
    assert share(Blocks(), Colors(slow=0.05), "slow steps") < 30


# --- the model card --------------------------------------------------------------------------------------------------


def test_the_model_card_tells_what_it_is(run):
    card = (run / "README.md").read_text(encoding="utf-8")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    loss = sum(entry["loss"] for entry in log) / len(log)
    for line in (
        "# ClassColors",
        "9 parameters, trained at 6 x 8 (height x width).",
        "- 0: sky",
        "- 2: car",
        "- data: blocks of colour (fingerprint 0123)",
        "- of the recipe: a fact",
        "- size: [6, 8]",
        "- photographs: 7, block_00 to block_06",
        "- steps: 9",
        "- recipe: Colors",
        f"- losses (mean of the last 100 steps): loss {loss:.4g}  half {loss / 2:.4g}",
        "## Licence",
    ):
        assert line in card, line
    assert "photogram.load(" in card and "Apache-2.0" in card
    assert "waited" not in card, "the card does not depend on the clock"


def test_the_model_card_marks_the_void_class():
    classes = (CLASSES[0], CLASSES[1].__class__("unlabelled", (0, 0, 0), void=True))
    network = ClassColors(spec=SceneSpec(classes), bias=0.0)
    assert "- 0: sky\n- 1: unlabelled (void)\n" in model_card(network, {})


def test_the_code_of_the_model_card_runs(run, tmp_path, monkeypatch):
    """As written, but for the folder and the network, which `load` does not know."""
    import photogram

    code = (run / "README.md").read_text().split("```python\n")[1].split("```")[0]
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "layout.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(photogram, "load", lambda folder: ClassColors.from_pretrained(run), raising=False)
    exec(code.replace("this folder", str(run)), {})  # noqa: S102
    assert read_photo(tmp_path / "photo.png").shape == (6, 8, 3)


# --- sheets ----------------------------------------------------------------------------------------------------------


def test_the_code_of_the_card_of_a_network_of_objects_runs(tmp_path, monkeypatch):
    spec = SceneSpec(CLASSES, (16, 16), instances=True)
    network = CoarseToFineGenerator(spec=spec, width=4, downsamplings=1, blocks=1)
    network.save_pretrained(tmp_path / "this folder", card=model_card(network, {}))
    for file in ("layout.png", "instances.png"):
        write_image(np.zeros((20, 24), np.uint8), tmp_path / file)
    _, code, _ = (tmp_path / "this folder/README.md").read_text(encoding="utf-8").split("```", 2)
    monkeypatch.chdir(tmp_path)
    exec(compile(code.removeprefix("python\n"), "card", "exec"), {})  # noqa: S102
    assert read_photo(tmp_path / "photo.png").shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("channels", "bits", "suffix"), [(3, 8, "png"), (1, 16, "png"), (2, 16, "tif"), (3, 32, "tif")]
)
@pytest.mark.parametrize("layouts", [False, True])
def test_the_code_of_the_card_of_a_network_of_images_runs(layouts, channels, bits, suffix, tmp_path, monkeypatch):
    """A painting has the channels and the bits of the photographs."""
    spec = SceneSpec(CLASSES if layouts else (), (16, 16), image_channels=1, photo_channels=channels, photo_bits=bits)
    network = ResNetGenerator(spec=spec, width=4, blocks=1, norm="instance", dropout=False)
    network.save_pretrained(tmp_path / "this folder", card=model_card(network, {}))
    image = tmp_path / "image.png"
    if layouts:
        image = tmp_path / "inputs/a.png"
        (tmp_path / "layouts").mkdir()
        write_image(np.zeros((20, 24), np.uint8), tmp_path / "layouts/a.png")
    image.parent.mkdir(exist_ok=True)
    write_image(np.zeros((20, 24), np.uint8), image)
    _, code, _ = (tmp_path / "this folder/README.md").read_text(encoding="utf-8").split("```", 2)
    monkeypatch.chdir(tmp_path)
    exec(compile(code.removeprefix("python\n"), "card", "exec"), {})  # noqa: S102
    assert raster_form(tmp_path / f"photo.{suffix}")[:4] == (16, 16, channels, bits)


def test_a_sheet_holds_every_tile_where_it_belongs():
    rng = np.random.default_rng(0)
    rows = [
        ("first", [rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(3)]),
        ("second", [rng.integers(0, 256, (40, 24, 3), dtype=np.uint8) for _ in range(3)]),
    ]
    page = sheet(["layout", "painting", "photograph"], rows)
    assert page.dtype == np.uint8 and page.shape[1] > 3 * 30 and page.shape[0] > 20 + 40
    corners = [find(page, tile) for _, tiles in rows for tile in tiles]
    tops, lefts = zip(*corners, strict=True)
    assert tops[0] == tops[1] == tops[2] < tops[3] - 20 and tops[3] == tops[4] == tops[5]
    assert lefts[:3] == lefts[3:] and lefts[0] + 30 <= lefts[1] and lefts[1] + 30 <= lefts[2]
    band = page[tops[0] + 20 : tops[3], :120]
    assert (band < 200).any(), "the row has its label"
    for left in lefts[:3]:
        assert (page[: tops[0], left : left + 30] < 100).any(), "the column has its title"


def test_a_label_does_not_run_into_the_next_group():
    """Of rows that stand side by side; the last one may not run out of the page either."""
    tiles = [np.zeros((20, 30, 3), np.uint8)]
    long, short = (sheet(["painting"], [(label, tiles)] * 8) for label in ("iii" * 40, "iii"))
    assert long.shape == short.shape
    group, line = long.shape[1] // 2, 18
    label = (long[line + 6 + 20 : line + 6 + 20 + line] < 200).any((0, 2))  # below the first tiles, by columns
    assert label[:group].sum() > (short[line + 26 : line + 26 + line] < 200).any((0, 2))[:group].sum()
    assert not label[group - 4 : group].any() and not label[-4:].any()


def find(page: np.ndarray, tile: np.ndarray) -> tuple[int, int]:
    height, width = tile.shape[:2]
    places = [
        (y, x)
        for y, x in np.argwhere((page[: -height + 1, : -width + 1] == tile[0, 0]).all(-1))
        if np.array_equal(page[y : y + height, x : x + width], tile)
    ]
    assert len(places) == 1
    return int(places[0][0]), int(places[0][1])


def test_a_sheet_of_scenes_shows_layout_painting_and_photograph():
    scenes, network = Blocks((30, 40), count=9), ClassColors(spec=SceneSpec(CLASSES, (30, 40)), bias=0.0)
    page = scene_sheet(network, scenes, 3)
    for row, index in enumerate((1, 4, 7)):  # spread evenly
        scene = scenes[index, 0]
        assert scene.photo is not None and scene.condition.layout is not None
        tiles = (
            draw(scene.condition.layout.classes[0].numpy(), scenes.spec),
            to_pixels(network.sample(scene.condition))[0].numpy(),
            to_pixels(scene.photo)[0].numpy(),
        )
        for column, tile in enumerate(tiles):
            top, left = place(row, column, (30, 40))
            np.testing.assert_array_equal(page[top : top + 30, left : left + 40], tile)


def place(row: int, column: int, size: tuple[int, int]) -> tuple[int, int]:
    """Where a tile of a sheet of few rows stands: below the titles, each row with its label below it."""
    margin, line = 6, 18
    return line + margin + row * (size[0] + line + margin), margin + column * (size[1] + margin)


def test_a_sheet_has_no_more_rows_than_there_are_scenes():
    network = ClassColors(spec=SceneSpec(CLASSES, (30, 40)), bias=0.0)
    heights = [scene_sheet(network, Blocks((30, 40), count=2), count).shape[0] for count in (1, 2, 6, 50)]
    assert heights[0] + 30 < heights[1] == heights[2] == heights[3]


def test_many_small_tiles_stand_side_by_side():
    tile = np.full((20, 30, 3), 120, np.uint8)
    page = sheet(["layout", "painting"], [(f"scene {n}", [tile + n, tile + n]) for n in range(40)])
    assert page.shape[1] <= 1200 and page.shape[0] < 40 * 20
    assert all((page == 120 + n).all(-1).sum() >= 2 * 20 * 30 for n in range(40)), "all of them"
    narrow = sheet(["layout", "painting"], [(f"scene {n}", [tile, tile]) for n in range(40)], width=100)
    assert narrow.shape[1] < 200 and narrow.shape[0] > 40 * 20


@pytest.mark.parametrize("bare", (0, 1, 2))
def test_a_scene_without_a_photograph_leaves_its_place_grey(bare):
    scenes, network = Blocks((30, 40), count=3, bare=bare), ClassColors(spec=SceneSpec(CLASSES, (30, 40)), bias=0.0)
    page = scene_sheet(network, scenes, 3)
    for row in range(3):
        top, left = place(row, 2, (30, 40))
        tile = page[top : top + 30, left : left + 40]
        assert (len(np.unique(tile.reshape(-1, 3), axis=0)) == 1) == (row == bare)


class Judge(Network):
    """A network that does not paint."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec = spec


def test_of_a_network_that_does_not_paint_only_the_scenes_are_shown():
    spec, scenes = SceneSpec(CLASSES, (30, 40)), Blocks((30, 40))
    wide, narrow = (scene_sheet(n, scenes, 2) for n in (ClassColors(spec=spec, bias=0.0), Judge(spec=spec)))
    assert wide.shape[1] - narrow.shape[1] == 40 + 6


def test_tiles_of_images_with_any_number_of_channels():
    spec = SceneSpec(CLASSES, (6, 8))
    layout = Layout(torch.zeros(1, 6, 8, dtype=torch.uint8))
    for channels in (1, 2, 3, 4):
        image = torch.linspace(-1, 1, channels * 48).reshape(1, channels, 6, 8)
        tiles = scene_tiles(Scene(Condition(layout, image), image[:, :1]), spec)
        assert list(tiles) == ["layout", "condition", "photograph"]
        assert all(tile.shape == (6, 8, 3) and tile.dtype == np.uint8 for tile in tiles.values())
        grey = tiles["photograph"]
        np.testing.assert_array_equal(grey[..., 0], to_pixels(image[0])[..., 0].numpy())
        np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    assert list(scene_tiles(Scene(Condition(None, image)), spec)) == ["condition"]


def test_the_sheets_of_a_run_are_pictures(run):
    for path in sorted((run / "samples").iterdir()):
        height, width, _ = read_photo(path).shape
        assert height > 3 * 6 and width > 3 * 8
