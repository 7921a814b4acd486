"""Which kinds of the toy world paintings show: read off photographs, of which it is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_scenes import ToyPhotos

from photogram.advice import is_diagnostic
from photogram.cli import main
from photogram.data.toy import Toy, is_toy, write_toy
from photogram.data.toy_layout import CLASSES, CLOUDY, EVENING, NIGHT, SKY
from photogram.errors import UserError
from photogram.generator import NoOptions, UnaskedGenerator
from photogram.metrics.toy_moods import MOODS, SEEDS, mood_asked, mood_of_photos, moods_seen, toy_moods
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.recipes.gan import GAN
from photogram.scene import Scene, SceneSpec
from photogram.training import Plan, train


@pytest.fixture(scope="module")
def held_out() -> tuple[Tensor, Tensor]:
    """Photographs, and the kinds that their layouts ask for."""
    toy = Toy("val", size=(32, 48), count=100)
    scenes = [toy[i, 0] for i in range(100)]
    kinds = [mood_asked(s.condition.layout.classes) for s in scenes if s.condition.layout is not None]
    return torch.cat([s.photo for s in scenes if s.photo is not None]), torch.tensor(kinds)


def test_the_kinds_are_the_worlds():
    assert [CLASSES[n].name for n in range(4)] == ["sky", "evening sky", "night sky", "cloudy sky"]
    assert (SKY, EVENING, NIGHT, CLOUDY) == (0, 1, 2, 3) and len(MOODS) == 4
    assert mood_asked(torch.tensor([[9, 9, 9], [2, 2, 3]])) == 2 and mood_asked(torch.tensor([[9, 8]])) == 0


def test_photographs_that_it_has_not_seen_are_read_right(held_out):
    photos, kinds = held_out
    read = mood_of_photos(photos)
    assert (read == kinds).float().mean() >= 0.9
    for kind in range(4):
        assert (read == kind)[kinds == kind].float().mean() >= 0.8, MOODS[kind]


def test_photographs_show_all_kinds_in_their_shares(held_out):
    photos, kinds = held_out
    found = toy_moods(photos)
    assert found.covered == 1 and sum(found.shares.values()) == pytest.approx(1)
    true = torch.bincount(kinds, minlength=4) / len(kinds)
    for name, share in zip(MOODS, true.tolist(), strict=True):
        assert found.shares[name] == pytest.approx(share, abs=0.08)


def test_a_collapse_is_seen(held_out):
    """To one kind, to two, to a single painting, and to the mean of all photographs with some noise."""
    photos, kinds = held_out
    for kept, least, most in (((NIGHT,), 1, 1), ((SKY,), 1, 2), ((EVENING, NIGHT), 2, 3)):
        of_them = torch.stack([kinds == kind for kind in kept]).any(0)
        covered = toy_moods(photos[of_them]).covered * 4
        assert least <= covered <= most, kept
    assert toy_moods(photos[:1].expand(64, -1, -1, -1)).covered == 0.25
    blurred = photos.mean(0) + 0.05 * torch.randn(64, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert toy_moods(blurred).covered == 0.25


def test_too_few_paintings_are_refused(held_out):
    with pytest.raises(UserError, match=r"^15 paintings: give 16 or more"):
        toy_moods(held_out[0][:15])


# --- of a training ---------------------------------------------------------------------------------------------------


class Album(UnaskedGenerator):
    """Paints photographs that it holds, a seed any of them."""

    def __init__(self, photos: Tensor):
        super().__init__()
        self.spec, self.photos = SceneSpec((), (32, 48)), nn.Parameter(photos)
        self.most = 0

    @property
    def size_multiple(self) -> int:
        return 1

    def draw_latents(self, count: int, noise: torch.Generator, options: object) -> Tensor:
        assert type(options) is NoOptions
        return torch.rand(count, 1, generator=noise)

    def paint_latents(self, latents: Tensor) -> Tensor:
        self.most = max(self.most, len(latents))
        return self.photos[(latents[:, 0] * len(self.photos)).long()]

    def between(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        raise NotImplementedError


def test_what_is_logged_of_a_generator_is_what_its_seeds_show(held_out):
    photos, kinds = held_out
    album = Album(photos)
    torch.manual_seed(3)
    logged = moods_seen({"other": CascadedRefinementNetwork(spec=Toy().spec, widths=(4,)), "generator": album})
    drawn = torch.rand(4)
    torch.manual_seed(3)
    CascadedRefinementNetwork(spec=Toy().spec, widths=(4,))
    assert torch.equal(torch.rand(4), drawn), "no numbers are drawn"
    shown = toy_moods(torch.cat([album.sample(None, seed) for seed in range(SEEDS)]))
    assert list(logged) == ["modes/covered", *(f"modes/{name}" for name in MOODS)]
    assert all(is_diagnostic(name) for name in logged) and album.most <= 8
    assert list(logged.values()) == [shown.covered, *shown.shares.values()] and shown.covered == 1
    assert moods_seen({"generator": Album(photos[:1])})["modes/covered"] == 0.25, "copies of one photograph"
    nights = moods_seen({"generator": Album(photos[kinds == MOODS.index("night")])})
    assert nights["modes/covered"] == 0.25 and nights["modes/night"] > 0.9
    assert moods_seen({"crn": CascadedRefinementNetwork(spec=Toy().spec, widths=(4,))}) == {}


RECIPE = GAN(z_size=4, width=4, discriminator_width=4, levels=3, average=40.0)
PLAN = Plan(steps=110, batch_size=2, save_every=1000, precision="fp32", workers=0, quiet=True)


class Kept(ToyPhotos):
    """Photographs that are made once."""

    def __init__(self, **settings: object):
        super().__init__("train", **settings)
        self.kept = [ToyPhotos.__getitem__(self, (index, 0)) for index in range(len(self))]

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        return self.kept[key[0]]


def lines_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_every_hundredth_step_is_looked_at_and_training_is_the_same(tmp_path):
    """Stopped and resumed, too, wherever the stop is."""
    data = Kept(size=(16, 24), count=8)
    train(RECIPE, data, tmp_path / "through", PLAN, look=moods_seen)
    train(RECIPE, data, tmp_path / "without", PLAN)
    for steps in (100, 110):
        train(RECIPE, data, tmp_path / "parts", replace(PLAN, steps=steps), look=moods_seen)
    for name in ("log.jsonl", "model.safetensors"):
        assert (tmp_path / "through" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    log = lines_of(tmp_path / "through")
    assert [line["step"] for line in log if "modes/covered" in line] == [100]
    losses = [{k: v for k, v in line.items() if not k.startswith("modes/")} for line in log]
    assert losses == lines_of(tmp_path / "without")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("through", "without")]
    assert weights[0] == weights[1]


def test_a_collapse_is_told_in_the_report(tmp_path, capsys):
    """By the command line, of the toy world's folder alone. A generator that has learned nothing paints grey."""
    data = write_toy(tmp_path / "toy", size=(16, 24), train=8, val=2, quiet=True)
    reports = []
    for name in ("toy", "other"):
        flags = ["--data", str(data), "--batch-size", "2", "--steps", "101", "--workers", "0", "--width", "4"]
        flags += ["--levels", "3", "--learning-rate", "1e-9", "--out", str(tmp_path / name / "run")]
        assert main(["train", "gan", *flags]) == 0
        reports.append((tmp_path / name / "run" / "report.html").read_text())
        (data / "classes.json").unlink(missing_ok=True)  # photographs alone need none
    capsys.readouterr()
    said = "The generator paints 25% of the toy world&#x27;s kinds of scene (day "
    assert said in reports[0] and "modes/covered: 0.25" in reports[0] and "modes/night: " in reports[0]
    assert "Diagnostics" in reports[1] and "modes/" not in reports[1] and "toy world" not in reports[1]


def test_the_toy_world_is_known_by_its_folder(tmp_path):
    written = write_toy(tmp_path / "toy", size=(16, 24), train=1, val=1, quiet=True)
    assert is_toy(written) and not is_toy(tmp_path) and not is_toy(tmp_path / "nothing")
    (written / "prepare.json").write_text("{}")
    assert not is_toy(written), "its photographs may have other colours"
    (written / "prepare.json").unlink()
    (written / "classes.json").write_text("{")
    assert not is_toy(written)
