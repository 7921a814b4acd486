"""Trainings that go on from what the official pix2pixHD has learned: check 10.8, from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from official_pix2pixhd import OfficialDiscriminator, OfficialEncoder, OfficialGenerator
from official_translators import loud, saved
from tiny_painter import painter
from torch import nn

from photogram.cli import main
from photogram.data.known_classes import cityscapes_35
from photogram.errors import UserError
from photogram.interop.pix2pixhd import import_pix2pixhd, read_discriminator
from photogram.recipe import Run
from photogram.recipes.pix2pixhd import Pix2PixHD, Pix2PixHDTraining
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.recipes.pix2pixhd_stages import JUDGES
from photogram.scene import Condition, Layout, Scene, SceneSpec

SIZE = (64, 96)
SPEC = SceneSpec(cityscapes_35(), SIZE, instances=True)


def imported(folder: Path, inputs: int) -> Path:
    """The folder of an official training with so many inputs, as ours."""
    folder.mkdir()
    parts: dict[str, nn.Module] = {"G": OfficialGenerator(inputs), "D": OfficialDiscriminator(min(inputs, 36) + 3, 2)}
    if inputs == 39:
        parts["E"] = OfficialEncoder()
    for name, network in parts.items():
        saved(loud(network), folder / f"latest_net_{name}.pth")
    return import_pix2pixhd(folder, out=folder / "ours", quiet=True).out


def go_on(folder: Path, **more: Any) -> Pix2PixHDTraining:
    AcceleratorState._reset_state(reset_partial_state=True)  # whatever a test before has asked for
    source = CoarseToFineGenerator.from_pretrained(folder)
    recipe = Pix2PixHD(
        width=source.width,
        downsamplings=source.downsamplings,
        blocks=source.blocks,
        boundary=source.boundary,
        features="objects" if source.style_channels else "none",
        encoder_width=source.encoder_width,
        discriminator_width=4,
        perceptual="none",
        **more,
    )
    spec = SPEC if source.spec.instances else SceneSpec(SPEC.classes, SIZE)
    return recipe.start(Run(Accelerator(cpu=True, mixed_precision="no"), spec, 4, 1, 0, folder))


def scene() -> Scene:
    torch.manual_seed(0)
    classes = torch.randint(35, (1, 4, 6), dtype=torch.uint8)
    layout = Layout(classes, torch.arange(24, dtype=torch.int32).view(1, 4, 6)).resized(SIZE)
    return Scene(Condition(layout), torch.rand(1, 3, *SIZE) * 2 - 1)


@pytest.mark.parametrize("enhancers", [0, 1])
@pytest.mark.parametrize("inputs", [35, 36, 39])
def test_a_training_goes_on_from_official_files(tmp_path, inputs, enhancers):
    folder = imported(tmp_path / "label2city", inputs)
    source = CoarseToFineGenerator.from_pretrained(folder)
    training = go_on(folder, enhancers=enhancers, scales=2 + enhancers)
    for name, tensor in source.coarse.state_dict().items():
        assert torch.equal(tensor, training.painter.coarse.state_dict()[name]), name
    judges = read_discriminator(folder.parent / "latest_net_D.pth")
    for scale in range(2):
        ours = training.judges.scales[scale + enhancers].state_dict()
        assert all(torch.equal(tensor, ours[name]) for name, tensor in judges.scales[scale].state_dict().items())
    assert training.facts()["discriminators"] == f"2 taken from --from, {enhancers} begun anew"
    assert bool(torch.isfinite(training.step(scene(), 0)["loss"]))


def test_a_generator_alone_begins_with_fresh_discriminators(tmp_path):
    folder = imported(tmp_path / "label2city", 36)
    (folder / JUDGES).unlink()
    assert go_on(folder).facts()["discriminators"].startswith("begun anew")


def test_damaged_discriminators_are_named(tmp_path):
    folder = imported(tmp_path / "label2city", 36)
    (folder / JUDGES).write_bytes((folder / JUDGES).read_bytes()[:1000])
    with pytest.raises(UserError, match=r"discriminator\.safetensors: cannot be read"):
        go_on(folder)


def test_what_is_not_there_is_asked_for_as_a_folder_or_a_file(tmp_path, capsys):
    assert main(["import", "pix2pixhd", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'none'}: no such file or folder; give the folder of a training" in said
    assert "or the .pth file of a generator" in said


@pytest.mark.parametrize("source", ["crn", "pix2pix", "cyclegan", "pix2pixhd"])
@pytest.mark.parametrize("name", ["", "model.safetensors", "config.json"])
def test_a_network_of_ours_is_not_imported_but_used(tmp_path, capsys, source, name):
    run = tmp_path / "run"
    painter().save_pretrained(run)
    assert main(["import", source, str(run / name), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"{run / name}: is a network of photogram already and needs no import" in said
    assert f"give {run} as it is to the commands" in said and not (tmp_path / "out").exists()


def test_files_of_these_names_that_are_not_ours_are_no_network_of_ours(tmp_path, capsys):
    """Other programs publish config.json and model.safetensors too."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert main(["import", "pix2pixhd", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "has no latest_net_G.pth" in capsys.readouterr().err
