"""`photogram cluster`: which regions count, what becomes of them, and how the network is published again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_painter import CAR, NOTHING, ROAD, SKY, TREE, TinyPainter, painter, spec
from torch import Tensor

import photogram.recipes
from photogram.cli import main
from photogram.errors import UserError
from photogram.rasters import write_raster
from photogram.scene import Condition, Layout, Scene, SceneSpec, to_pixels, write_classes
from photogram.styled import StyledGenerator
from photogram.styling import Reservoir, area, card_with, cluster_styles, find_styles, is_large, with_styles
from photogram.synthesis import fingerprint

COLORS = {
    ROAD: ((-0.5, -0.5, -0.5),),
    SKY: ((0.2, 0.4, 0.9), (0.9, 0.4, 0.2)),
    CAR: ((0.8, -0.8, -0.8), (-0.8, 0.8, 0)),
}
"""What the classes look like in the photographs; the first of two twice as often."""


def scenes(count: int = 6) -> list[Scene]:
    """Sky over road, a large car and a small one, and a tree of a few pixels."""
    made = []
    for n in range(count):
        classes = torch.full((1, 48, 64), ROAD, dtype=torch.uint8)
        numbers = torch.zeros(1, 48, 64, dtype=torch.int32)
        classes[:, :20], classes[:, 22, 3:5] = SKY, TREE
        classes[:, 30:40, 20:44], numbers[:, 30:40, 20:44] = CAR, 7
        classes[:, 42:44, 2:6], numbers[:, 42:44, 2:6] = CAR, 8
        photo = torch.zeros(1, 3, 48, 64)
        for label, colors in COLORS.items():
            photo[:, :, classes[0] == label] = torch.tensor(colors[n % 3 // 2 % len(colors)])[None, :, None]
        made.append(Scene(Condition(Layout(classes, numbers)), photo))
    return made


class Scenes:
    def __init__(self, made: list[Scene]):
        self.made, self.spec, self.source = made, spec(), "scenes"

    def __len__(self) -> int:
        return len(self.made)

    def name(self, index: int) -> str:
        return str(index)

    def settings(self) -> dict[str, object]:
        return {}

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        return self.made[key[0]]


def test_a_region_is_kept_from_8193_pixels_of_512_x_1024_on() -> None:
    assert [is_large(n, 512 * 1024, Fraction(1, 64)) for n in (8191, 8192, 8193)] == [False, False, True]
    for pixels in range(0, 20000, 7):  # the authors' rule
        assert is_large(pixels, 512 * 1024, Fraction(1, 64)) == (pixels / ((512 * 1024) // 32) > 0.5)


@pytest.mark.parametrize(("pixels", "kept"), [(8192, 0), (8193, 1)])
def test_the_bound_holds_for_styles(pixels: int, kept: int) -> None:
    classes = torch.full((1, 512, 1024), NOTHING, dtype=torch.uint8)
    classes.view(-1)[:pixels] = SKY
    network = painter()
    network.spec = network.spec.resized((512, 1024))
    scene = Scene(
        Condition(Layout(classes, torch.zeros_like(classes, dtype=torch.int32))), torch.zeros(1, 3, 512, 1024)
    )
    found = find_styles(network, Scenes([scene]), quiet=True)
    assert found.regions[SKY] == 1
    assert (SKY in found.kept) == bool(kept)


def test_styles_of_classes_are_found_and_counted() -> None:
    network = painter()
    found = find_styles(network, Scenes(scenes()), quiet=True)
    assert found.regions == {ROAD: 6, SKY: 6, CAR: 12, TREE: 6}
    assert {label: one.seen for label, one in found.kept.items()} == {ROAD: 6, SKY: 6, CAR: 6}
    styles = cluster_styles(found, 5, clusters=3)
    assert styles.counts.tolist() == [[6, 0, 0], [4, 2, 0], [4, 2, 0], [0, 0, 0], [0, 0, 0]]
    for label, colors in COLORS.items():
        torch.testing.assert_close(styles.centres[label, : len(colors)], torch.tensor(colors), atol=1e-4, rtol=0)
    assert not styles.centres[styles.counts == 0].any()


def test_a_reservoir_keeps_each_of_a_stream_with_the_same_chance() -> None:
    counts = torch.zeros(20)
    for seed in range(3000):
        one = Reservoir(5, [seed, 1])
        for n in range(20):
            one.add(torch.tensor([float(n)]))
        assert len(one.kept) == 5 and one.seen == 20
        counts[torch.cat(one.kept).long()] += 1
    torch.testing.assert_close(counts / 3000, torch.full((20,), 0.25), atol=0.03, rtol=0)


def test_memory_is_bounded_and_the_draw_seeded() -> None:
    def kept(seed: int) -> Tensor:
        found = find_styles(painter(), Scenes(scenes(30)), seed=seed, most=4, quiet=True)
        assert found.kept[SKY].seen == 30
        return torch.stack(found.kept[SKY].kept)

    assert kept(0).shape == (4, 3)
    assert torch.equal(kept(0), kept(0))
    assert any(not torch.equal(kept(0), kept(seed)) for seed in range(1, 6))


@pytest.mark.parametrize("clusters", [4, 7, 1])
def test_the_network_takes_any_number_of_clusters_and_paints_as_before_otherwise(clusters: int) -> None:
    network = painter()
    with torch.no_grad():
        network.gain.fill_(0.3)
    styles = cluster_styles(find_styles(network, Scenes(scenes()), quiet=True), 5, clusters)
    made = with_styles(network, styles)
    assert isinstance(made, TinyPainter) and made.clusters == clusters == made.style_counts.shape[1]
    assert (made is network) == (clusters == 4)
    assert made.gain.item() == pytest.approx(0.3)
    assert torch.equal(made.style_centres, styles.centres)
    assert made.sample(scenes()[0].condition, 1).shape == (1, 3, 48, 64)


def test_nothing_large_enough_is_told() -> None:
    found = find_styles(painter(), Scenes(scenes()), least_area=Fraction(9, 10), quiet=True)
    with pytest.raises(UserError, match="none of 30 regions is large enough"):
        cluster_styles(found, 5)


@pytest.mark.parametrize("text", ["x", "1", "-1/64", "1/0", "nan", ""])
def test_areas_that_are_no_shares_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--least-area"):
        area(text)


def test_areas_are_exact() -> None:
    assert area("1/64") == Fraction(1, 64) and area("0.02") == Fraction(1, 50) and area("0") == 0


def test_the_card_keeps_what_it_says_and_has_one_section_of_styles() -> None:
    card = "# Net\n\nwords\n\n## Classes\n\n- 0: road\n\n## Licence\n\nfree\n"
    once = card_with(card, ["made so", "car: 2"])
    assert (
        once == "# Net\n\nwords\n\n## Classes\n\n- 0: road\n\n## Styles\n\n- made so\n- car: 2\n\n## Licence\n\nfree\n"
    )
    assert card_with(card_with(card, ["old"]), ["made so", "car: 2"]) == once
    assert card_with("# Net\n", ["a"]) == "# Net\n\n## Styles\n\n- a\n"


def written(root: Path, made: list[Scene], instances: bool = True, its: SceneSpec | None = None) -> Path:
    for part in ("photos", "layouts", *(["instances"] if instances else [])):
        (root / "train" / part).mkdir(parents=True)
    write_classes((its or spec()).classes, root / "classes.json")
    for n, scene in enumerate(made):
        layout = scene.condition.layout
        assert layout is not None and layout.instances is not None and scene.photo is not None
        write_raster(to_pixels(scene.photo[0]).numpy(), root / "train/photos" / f"{n}.png")
        write_raster(layout.classes[0].numpy()[..., None], root / "train/layouts" / f"{n}.png")
        if instances:
            numbers = layout.instances[0].numpy().astype(np.uint16)[..., None]
            write_raster(numbers, root / "train/instances" / f"{n}.png")
    return root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(photogram.recipes, "load", TinyPainter.from_pretrained)
    TinyPainter(spec()).save_pretrained(tmp_path / "run", "# TinyPainter\n\n## Licence\n\nfree\n")
    return tmp_path / "run"


def test_the_command_clusters_and_publishes_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "data", scenes())
    (run / "other.txt").write_text("stays")
    assert main(["cluster", str(run), "--data", str(data), "--clusters", "6"]) == 0
    said = capsys.readouterr().out
    assert "car: 2 clusters of 6 regions" in said and "nothing: none; it does not occur" in said
    assert "tree: none; no region of 6 is larger than 1/64 of its picture" in said
    assert "cluster again" in said and "data, train" in said
    network = TinyPainter.from_pretrained(run)
    assert network.clusters == 6 and network.has_styles
    assert network.style_counts[CAR].tolist() == [4, 2, 0, 0, 0, 0]
    torch.testing.assert_close(network.style_centres[CAR, :2], torch.tensor(COLORS[CAR]), atol=0.01, rtol=0)
    card = (run / "README.md").read_text()
    assert "## Styles" in card and card.index("## Styles") < card.index("## Licence") and "seed 0" in card
    assert sorted(path.name for path in run.iterdir()) == ["README.md", "config.json", "model.safetensors", "other.txt"]
    before = fingerprint(network)
    assert main(["cluster", str(run), "--data", str(data), "--clusters", "6"]) == 0
    assert fingerprint(TinyPainter.from_pretrained(run)) == before, "the same again"
    assert (run / "README.md").read_text() == card


def test_photographs_are_brought_to_size_as_they_were_in_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice as wide as the network paints: a tree of 8 x 7 pixels is 1/55 of a window, and 1/110 of what was shrunk."""
    made = []
    for scene in scenes(3):
        layout = scene.condition.layout
        assert layout is not None and layout.instances is not None and scene.photo is not None
        layout.classes[:, 22:30, 3:10], layout.instances[:, 22:30, 3:10] = TREE, 9
        numbers = torch.cat([layout.instances, layout.instances + 10], 2)
        wide = Layout(layout.classes.repeat(1, 1, 2), numbers)
        made.append(Scene(Condition(wide), scene.photo.repeat(1, 1, 1, 2)))
    data = written(tmp_path / "data", made)
    for fit, told in ((None, "tree: none"), ("window", "tree: 1 cluster of 3 regions"), ("stretch", "tree: none")):
        if fit is not None:
            (run / "run.json").write_text(json.dumps({"recipe": "Pix2PixHD", "fit": fit}))
        assert main(["cluster", str(run), "--data", str(data)]) == 0
        assert told in (said := capsys.readouterr().out) and f"({fit or 'stretch'})" in said
    assert main(["cluster", str(run), "--data", str(data), "--fit", "window"]) == 0
    assert "tree: 1 cluster of 3 regions" in capsys.readouterr().out
    alone = written(tmp_path / "alone", made[:1])
    assert main(["cluster", str(run), "--data", str(alone), "--fit", "window"]) == 0
    assert "tree: 1 cluster of 1 region\n" in capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["cluster", *map(str, arguments)]) != 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("photogram: "))
    return line


def test_what_does_not_fit_is_refused_and_nothing_changed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    small = [Scene(Condition(Layout(*(m[:, :32] for m in s.condition.layout))), s.photo[:, :, :32]) for s in scenes(1)]
    flat = written(tmp_path / "flat", scenes(2), instances=False)
    assert "lacks instance maps" in refusal(capsys, run, "--data", flat)
    other = SceneSpec(spec().classes[:4], (48, 64))
    foreign = written(tmp_path / "foreign", scenes(2), its=other)
    assert "was trained on 5 classes, but the data has 4" in refusal(capsys, run, "--data", foreign)
    data = written(tmp_path / "data", scenes(2))
    assert "no split" in (said := refusal(capsys, run, "--data", data, "--split", "vla")) or "no such folder" in said
    assert "--clusters 0: must be 1 to 1000" in refusal(capsys, run, "--data", data, "--clusters", 0)
    assert "--seed -1" in refusal(capsys, run, "--data", data, "--seed", -1)
    assert "use --fit crop" in refusal(capsys, run, "--data", written(tmp_path / "small", small), "--fit", "window")
    assert "--least-area 2" in refusal(capsys, run, "--data", data, "--least-area", 2)
    assert "give a smaller --least-area" in refusal(capsys, run, "--data", data, "--least-area", "0.9")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    (run / "run.json").write_text("{")
    said = refusal(capsys, run, "--data", data)
    assert "run.json: cannot be read" in said and said.endswith("; say how photographs are brought to size with --fit")
    assert main(["cluster", str(run), "--data", str(data), "--fit", "stretch"]) == 0


def test_by_classes_no_instance_maps_are_needed(run: Path, tmp_path: Path) -> None:
    TinyPainter(spec(), style_by="classes").save_pretrained(run)
    data = written(tmp_path / "flat", scenes(6), instances=False)
    assert main(["cluster", str(run), "--data", str(data)]) == 0
    assert TinyPainter.from_pretrained(run).style_counts[ROAD].sum() == 6


def test_a_network_without_styles_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path / "data", scenes(2))
    TinyPainter(spec(), style_channels=0).save_pretrained(run)
    assert "trained without styles" in refusal(capsys, run, "--data", data)


def disturbed(monkeypatch: pytest.MonkeyPatch, disturb: Callable[[Path], None]) -> None:
    """Something happens when the network was written, and is not yet in its place."""
    save = StyledGenerator.save_pretrained

    def saving(self: StyledGenerator, folder: Path, card: str = "") -> None:
        save(self, folder, card)
        disturb(Path(folder).parent)

    monkeypatch.setattr(StyledGenerator, "save_pretrained", saving)


def test_a_network_that_a_training_published_meanwhile_is_not_overwritten(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, newer = written(tmp_path / "data", scenes(3)), b"newer weights"

    def train(folder: Path) -> None:
        (folder / "beside").write_bytes(newer)
        os.replace(folder / "beside", folder / "model.safetensors")  # noqa: PTH105

    disturbed(monkeypatch, train)
    assert "published anew meanwhile" in refusal(capsys, run, "--data", data)
    assert (run / "model.safetensors").read_bytes() == newer
    assert not list(run.glob(".styles*"))


def test_a_failure_while_it_is_written_leaves_the_network_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "data", scenes(3))
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    disturbed(monkeypatch, full)
    assert "No space left" in refusal(capsys, run, "--data", data)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_the_networks_of_pix2pixhd_are_clustered(tmp_path: Path) -> None:
    from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator

    network = CoarseToFineGenerator(
        spec=spec(), width=4, downsamplings=2, blocks=1, style_channels=3, encoder_width=4, clusters=4
    ).eval()
    styles = cluster_styles(find_styles(network, Scenes(scenes()), quiet=True), 5, 6)
    assert styles.counts.sum(1).tolist() == [6, 6, 6, 0, 0]
    made = with_styles(network, styles)
    made.save_pretrained(tmp_path)
    again = CoarseToFineGenerator.from_pretrained(tmp_path)
    assert again.clusters == 6 and torch.equal(again.style_centres, styles.centres)
    layout = scenes()[0].condition
    assert torch.equal(again.sample(layout, 3), made.sample(layout, 3))
