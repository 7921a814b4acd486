"""The command behind `photogram train` on data folders with inputs, with photographs alone, and without pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from photogram.collecting import collect
from photogram.commands.train import TrainFlags, _run_training
from photogram.conditions import source_suffixes
from photogram.data.inputs import prepare_grey
from photogram.data.toy import write_toy
from photogram.errors import UserError
from photogram.generator import Generator
from photogram.rasters import read_raster, write_raster
from photogram.recipe import LearnsFrom, Run
from photogram.recipes.crn import CRN
from photogram.recipes.pix2pix import Pix2Pix
from photogram.scene import Condition, Scene, SceneSpec
from photogram.synthesis import synthesize

SIZE = (20, 24)


class Scaled(Generator):
    """What it is asked with, or a constant, times a learned gain, in the channels of the photographs."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec = spec
        self.gain = torch.nn.Parameter(torch.zeros(spec.photo_channels, 1, 1))

    @property
    def size_multiple(self) -> int:
        return 4

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] * self.gain

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Tensor:
        return self(torch.ones(1, 1, *self.spec.size) if condition.image is None else condition.image)


@dataclass(frozen=True)
class Scale:
    """Least squares."""

    networks: ClassVar[tuple[type[Generator], ...]] = (Scaled,)
    learns_from: ClassVar[LearnsFrom] = "images"

    rate: float = 0.3

    def size_multiple(self) -> int:
        return 4

    def start(self, run: Run) -> ScaleTraining:
        return ScaleTraining(self, run)


@dataclass(frozen=True)
class ScaleAlone(Scale):
    learns_from: ClassVar[LearnsFrom] = "photographs"


@dataclass(frozen=True)
class ScaleUnpaired(Scale):
    learns_from: ClassVar[LearnsFrom] = "unpaired"


class ScaleTraining:
    def __init__(self, recipe: Scale, run: Run):
        self.run, self.network = run, Scaled(spec=run.spec)
        self.trained, self.sgd = run.accelerator.prepare(
            self.network, torch.optim.SGD(self.network.parameters(), recipe.rate)
        )

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.photo is not None
        image = scene.condition.image
        asked = torch.ones_like(scene.photo[:, :1]) if image is None else image
        loss = (self.trained(asked) - scene.photo).square().mean()
        self.sgd.zero_grad()
        self.run.accelerator.backward(loss)
        self.sgd.step()
        return {"loss": loss}

    def published(self) -> dict[str, Generator]:
        return {"network": self.network}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        return scene

    def facts(self) -> dict[str, str]:
        return {}

    def state_dict(self) -> dict[str, object]:
        return {"network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.network.load_state_dict(state["network"])  # pyright: ignore[reportArgumentType]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Targets of 16 bits in three channels: the input of 16 bits as it is, halved about grey, and turned round."""
    for split, count in (("train", 4), ("val", 2)):
        for part in ("inputs", "photos"):
            (tmp_path / "data" / split / part).mkdir(parents=True)
        for n in range(count):
            image = np.random.default_rng(n).integers(0, 65536, (*SIZE, 1)).astype(np.uint16)
            low, high = image // 2 + 16384, 65535 - image
            write_raster(image, tmp_path / f"data/{split}/inputs/{n}.png")
            write_raster(np.concatenate([image, low, high], axis=-1), tmp_path / f"data/{split}/photos/{n}.tif")
    return tmp_path / "data"


def asked(data: Path, out: Path, **options: object) -> TrainFlags:
    given = {"steps": 120, "save_every": 60, "workers": 0, "precision": "fp32"}
    return TrainFlags(data, out, **{**given, **options})  # pyright: ignore[reportArgumentType]


def test_images_are_learned_from_and_painted_with_the_bits_of_the_targets(data, tmp_path):
    assert _run_training(asked(data, tmp_path / "run", evaluate_every=60), Scale()) == 0
    network = Scaled.from_pretrained(tmp_path / "run")
    assert network.spec == SceneSpec((), SIZE, False, 1, 16, 3, 16)
    torch.testing.assert_close(network.gain.flatten(), torch.tensor([1.0, 0.5, -1.0]), atol=0.01, rtol=0)
    assert (tmp_path / "run/evaluation.jsonl").exists() and list((tmp_path / "run/samples").iterdir())
    inputs = collect([data / "val/inputs"], None, source_suffixes(network.spec))
    summary = synthesize(network, inputs, tmp_path / "out", sheet=True, precision="fp32", quiet=True)
    assert summary.painted == 2 and not summary.failures
    found, target = read_raster(tmp_path / "out/1.tif"), read_raster(data / "val/photos/1.tif")
    assert found.dtype == np.uint16 and np.abs(found.astype(int) - target).max() < 700


@pytest.mark.parametrize("by", ["any", "layouts", "images"])
def test_where_there_are_both_it_is_said_what_a_training_is_asked_by(by, tmp_path, capsys):
    toy = write_toy(tmp_path / "toy", size=(16, 16), train=2, val=1, quiet=True)
    prepare_grey(toy, out=tmp_path / "greys", quiet=True)
    flags = asked(tmp_path / "greys", tmp_path / "run", steps=1, asked_by=by, check_memory=False)
    small = Pix2Pix(width=4, levels=2, patch=1, discriminator_width=4)
    assert _run_training(flags, small) == 0
    said = "asked by layouts and inputs together" in " ".join(capsys.readouterr().err.split())
    assert said == (by == "any")


def test_it_goes_on_and_notices_a_changed_input(data, tmp_path):
    _run_training(asked(data, tmp_path / "run", steps=20), Scale())
    _run_training(asked(data, tmp_path / "run", steps=40), Scale())
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 40
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert json.dumps(settings).count('"fit": "stretch"') == 1
    image = read_raster(data / "train/inputs/0.png")
    write_raster(65535 - image, data / "train/inputs/0.png")
    with pytest.raises(UserError, match="data"):
        _run_training(asked(data, tmp_path / "run", steps=60), Scale())


def test_photographs_alone_and_two_collections(data, tmp_path):
    _run_training(asked(data, tmp_path / "alone", steps=4), ScaleAlone())
    assert Scaled.from_pretrained(tmp_path / "alone").spec.image_channels == 0
    (data / "train/photos/3.tif").rename(data / "train/photos/another.tif")
    (data / "train/inputs/0.png").unlink()
    _run_training(asked(data, tmp_path / "unpaired", steps=4), ScaleUnpaired())
    assert Scaled.from_pretrained(tmp_path / "unpaired").spec.image_bits == 16
    for recipe in (ScaleAlone(), ScaleUnpaired()):
        with pytest.raises(UserError, match="compares paintings with photographs of the same scene"):
            _run_training(asked(data, tmp_path / "no", evaluate_every=2), recipe)


def test_what_would_stop_a_training_stops_it_before(data, tmp_path):
    write_raster(np.zeros((*SIZE, 1), np.uint8), data / "train/inputs/2.png")
    with pytest.raises(UserError, match="the data would stop the training"):
        _run_training(asked(data, tmp_path / "run"), Scale())
    with pytest.raises(UserError, match=r"data/train: has inputs/ but no layouts/, which are needed here"):
        _run_training(asked(data, tmp_path / "run"), CRN())
    assert not (tmp_path / "run").exists()


def test_windows_are_learned_from_looked_at_and_kept_to(data, tmp_path):
    """Inputs and photographs are cut by one window: else three numbers could not say how they belong together."""
    window = (SIZE[0], SIZE[1] - 4)
    flags = {"fit": "window", "size": window, "flip": True, "check_memory": False}
    assert _run_training(asked(data, tmp_path / "run", evaluate_every=60, **flags), Scale()) == 0
    network = Scaled.from_pretrained(tmp_path / "run")
    assert network.spec.size == window
    torch.testing.assert_close(network.gain.flatten(), torch.tensor([1.0, 0.5, -1.0]), atol=0.01, rtol=0)
    assert json.loads((tmp_path / "run/run.json").read_text())["fit"] == "window"
    assert (tmp_path / "run/evaluation.jsonl").exists() and list((tmp_path / "run/samples").iterdir())
    with pytest.raises(UserError, match="fit"):
        _run_training(asked(data, tmp_path / "run", size=window, steps=140, check_memory=False, flip=True), Scale())
    with pytest.raises(UserError, match=r"--fit window: needs --size"):
        _run_training(asked(data, tmp_path / "none", fit="window"), Scale())
    with pytest.raises(UserError, match="the data would stop the training"):
        _run_training(asked(data, tmp_path / "none", fit="window", size=(400, 4), check_memory=False), Scale())
    assert not (tmp_path / "none").exists()
