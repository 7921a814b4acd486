"""Generators with styles: drawing them, painting with them, finding them, and several paintings of one layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_painter import CAR, ROAD, SKY, TREE, TinyPainter, painter, spec, street

import photogram.recipes
from photogram.cli import main
from photogram.collecting import Item
from photogram.errors import UserError
from photogram.images import write_image
from photogram.nn.regions import spread
from photogram.paintings import told_once
from photogram.scene import Layout, to_pixels, write_classes
from photogram.styled import StyledGenerator, StyleOptions
from photogram.synthesis import item_seed, synthesize


def drawn(network: StyledGenerator, layout: Layout, seed: int) -> dict[tuple[int, int], list[float]]:
    regions = network.regions(layout)
    styles = network.draw_styles(regions, seed).tolist()
    return dict(zip(zip(regions.classes.tolist(), regions.objects.tolist(), strict=True), styles, strict=True))


def test_a_region_draws_a_cluster_of_its_class_whatever_the_others_are() -> None:
    network, layout = painter(), street()
    before = drawn(network, layout, 5)
    centres = network.style_centres.tolist()
    assert all(style in centres[label] for (label, _), style in before.items())
    assert layout.instances is not None
    fewer = Layout(layout.classes.clone(), layout.instances.clone())
    fewer.classes[fewer.instances == 7] = TREE  # pyright: ignore[reportOptionalOperand]
    after = drawn(network, fewer, 5)
    assert after[CAR, 9] == before[CAR, 9] and after[SKY, 0] == before[SKY, 0]
    assert len({tuple(drawn(network, layout, seed)[CAR, 9]) for seed in range(60)}) == 4, "all clusters come up"
    assert any(drawn(network, layout, seed)[CAR, 9] != drawn(network, layout, seed)[CAR, 7] for seed in range(9))


def test_a_class_without_clusters_has_style_0_and_never_an_unused_row() -> None:
    network = painter()
    assert drawn(network, street(), 1)[TREE, 0] == [0, 0, 0]
    network.style_counts[CAR, 2:] = 0
    found = {tuple(drawn(network, street(), seed)[CAR, 7]) for seed in range(60)}
    assert found == {tuple(centre) for centre in network.style_centres[CAR, :2].tolist()}


def test_the_commonest_style_is_the_first() -> None:
    network, regions = painter(), painter().regions(street())
    common = network.draw_styles(regions, 3, "common")
    assert torch.equal(common, network.style_centres[regions.classes, 0])


def test_styles_are_painted_where_their_regions_are() -> None:
    network, layout = painter(), street()
    regions = network.regions(layout)
    styles = network.draw_styles(regions, 5)
    photo = network.sample(layout, 5)
    assert torch.equal(network.sample_styles(layout, styles), photo)
    assert torch.equal(network.sample_features(layout, spread(styles, regions)), photo)


@pytest.mark.parametrize("size", [(48, 64), (45, 61)])
def test_features_are_grown_and_the_painting_cut_back(size: tuple[int, int]) -> None:
    network, whole = painter(multiple=16), street()
    layout = Layout(*(m[:, : size[0], : size[1]].contiguous() for m in whole if m is not None))
    regions = network.regions(layout)
    styles = network.draw_styles(regions, 2)
    photo = network.sample_styles(layout, styles)
    assert photo.shape == (1, 3, *size)
    assert torch.equal(network.sample_features(layout, spread(styles, regions)), photo)
    assert torch.equal(network.sample(layout, 2), photo), "what is grown has no style of its own"


def test_the_style_of_a_region_is_found_in_its_photograph() -> None:
    network, layout = painter(multiple=16), Layout(*(m[:, :45, :61] for m in street() if m is not None))
    photo = torch.rand(1, 3, 45, 61) * 2 - 1
    styles, regions = network.styles_in(photo, layout), network.regions(layout)
    for style, label, number in zip(styles, regions.classes, regions.objects, strict=True):
        assert layout.instances is not None
        mask = (layout.classes[0] == label) & (layout.instances[0] == number)
        torch.testing.assert_close(style, photo[0][:, mask].mean(1))


def test_what_does_not_fit_is_refused() -> None:
    network, layout = painter(), street()
    bare = TinyPainter(spec(), style_channels=0)
    with pytest.raises(UserError, match="trained without styles"):
        bare.sample_styles(layout, torch.zeros(5, 3))
    with pytest.raises(UserError, match="trained without styles"):
        bare.sample_features(layout, torch.zeros(1, 3, 48, 64))
    with pytest.raises(UserError, match=r"need \[5, 3\]"):
        network.sample_styles(layout, torch.zeros(4, 3))
    with pytest.raises(UserError, match=r"features are \[1, 3, 48, 63\]"):
        network.sample_features(layout, torch.zeros(1, 3, 48, 63))
    with pytest.raises(UserError, match="photograph is"):
        network.styles_in(torch.zeros(1, 3, 48, 63), layout)
    assert bare.sample(layout).shape == (1, 3, 48, 64), "without styles it paints all the same"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (StyleOptions(styles=0), "--styles 0: must be 1 to 64"),
        (StyleOptions(styles=65), "--styles 65"),
        (StyleOptions(styles=3, style="common"), "always the same"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: StyleOptions, said: str) -> None:
    with pytest.raises(UserError, match=said):
        painter().sample(street(), 0, options)


def test_several_styles_need_clusters() -> None:
    with pytest.raises(UserError, match="no clusters of styles; `photogram cluster`"):
        TinyPainter(spec()).sample(street(), 0, StyleOptions(styles=2))
    with pytest.raises(UserError, match="trained without styles"):
        TinyPainter(spec(), style_channels=0).sample(street(), 0, StyleOptions(styles=2))


def test_several_styles_are_paintings_of_as_many_seeds() -> None:
    network = painter()
    several = network.sample(street(), 11, StyleOptions(styles=3))
    assert several.shape == (1, 3, 3, 48, 64)
    for n in range(3):
        assert torch.equal(several[:, n], network.sample(street(), 11 + n))
    assert not torch.equal(several[:, 0], several[:, 1])


def written(folder: Path) -> Path:
    """The street's files, as a data folder has them."""
    layout = street()
    assert layout.instances is not None
    for part, pixels in (("layouts", layout.classes), ("instances", layout.instances)):
        (folder / part).mkdir(parents=True)
        write_image(
            Image.fromarray(pixels[0].numpy().astype(np.uint16 if part == "instances" else np.uint8)),
            (folder / part / "a.png"),
        )
    return folder / "layouts" / "a.png"


def test_synthesize_files_each_style_and_a_sheet_of_them(tmp_path: Path) -> None:
    """As with the candidates of CRN: a/0.png ... and a.png, where they stand side by side."""
    network, layout, out = painter(), written(tmp_path / "val"), tmp_path / "out"
    options = StyleOptions(styles=3)
    summary = synthesize(
        network, [Item(layout, "a")], out, seed=4, sheet=True, options=options, precision="fp32", quiet=True
    )
    assert (summary.painted, summary.failures) == (1, ())
    assert sorted(path.name for path in (out / "a").iterdir()) == ["0.png", "1.png", "2.png"]
    expected = network.sample(street(), item_seed(4, "a"), options)[0]
    sheet = np.asarray(Image.open(out / "a.png"))
    for n in range(3):
        pixels = np.asarray(Image.open(out / "a" / f"{n}.png"))
        assert (pixels == to_pixels(expected[n]).numpy()).all()
        assert stands_in(sheet, pixels), f"style {n} is on the sheet"
    assert (out / "sheet.png").is_file()
    again = synthesize(network, [Item(layout, "a")], out, seed=4, options=options, precision="fp32", quiet=True)
    assert (again.painted, again.skipped) == (0, 1)
    with pytest.raises(UserError, match="was begun with options"):
        synthesize(network, [Item(layout, "a")], out, seed=4, precision="fp32", quiet=True)


@pytest.fixture
def of_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published network that needs instance maps."""
    monkeypatch.setattr(TinyPainter, "needs_objects", True)
    monkeypatch.setattr(photogram.recipes, "kind", lambda folder: TinyPainter)
    painter().save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def many(folder: Path, count: int) -> Path:
    """The street so many times, without instance maps."""
    one = written(folder)
    shutil.rmtree(folder / "instances")
    for n in range(1, count):
        shutil.copy(one, folder / "layouts" / f"{n}.png")
    one.rename(folder / "layouts" / "0.png")
    return folder / "layouts"


def test_what_is_wrong_with_a_whole_folder_is_told_once_after_classes_that_differ(
    of_objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts = many(tmp_path / "data" / "val", 5)
    write_classes(spec().classes[:3], tmp_path / "data" / "classes.json")
    assert main(["synthesize", str(of_objects), str(layouts), "--out", str(tmp_path / "out")]) == 1
    classes, instances = [line for line in capsys.readouterr().err.splitlines() if line.startswith("photogram: ")]
    assert classes.startswith(
        f"photogram: {tmp_path / 'data' / 'classes.json'}: the network was trained on 5 classes, but the data has 3"
    )
    assert instances.startswith(f"photogram: {layouts / '0.png'} and 4 other files: has no instance map")
    assert "folder `instances` beside that of the layouts" in instances and "Layout(" not in instances


def test_classes_that_agree_are_not_told_and_few_files_are_named_each(
    of_objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts = many(tmp_path / "data" / "val", 3)
    write_classes(spec().classes, tmp_path / "data" / "classes.json")
    assert main(["synthesize", str(of_objects), str(layouts), "--out", str(tmp_path / "out")]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("photogram: ")]
    assert [line.split(": ")[1] for line in said] == [str(layouts / f"{n}.png") for n in range(3)]


def test_only_faults_in_the_same_words_are_told_once() -> None:
    alike, other = [f"{n}.png: is empty" for n in range(1200)], ["a.png: is damaged", "no file at all"]
    assert told_once([*alike[:2], *other, *alike[2:]]) == ["0.png and 1,199 other files: is empty", *other]
    assert told_once([*alike[:3], *other]) == [*alike[:3], *other]


def stands_in(page: np.ndarray, tile: np.ndarray) -> bool:
    height, width = tile.shape[:2]
    corners = np.argwhere((page == tile[0, 0]).all(-1))
    return any(
        (page[y : y + height, x : x + width] == tile).all()
        for y, x in corners
        if (y + height <= page.shape[0] and x + width <= page.shape[1])
    )


def test_road_and_sky_have_styles_of_their_own() -> None:
    """Styles by class: both cars have one."""
    network = painter(style_by="classes")
    found = network.regions(street())
    assert found.classes.tolist() == [ROAD, SKY, CAR, TREE]
    photo = network.sample(street(), 8)
    assert torch.equal(photo[..., 34, 25], photo[..., 34, 38])
