"""The full-resolution network and the encoder-decoder: counts of the specification, structure, hand-over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_crn import Blur, count_flops, random_layout, randomise_norms, spec_of
from test_crn_candidates import assert_checkpointing_changes_nothing_but_memory
from test_crn_training import run_of, scene
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.generator import Generator
from photogram.nn import perceptual
from photogram.recipes.crn import Regression
from photogram.recipes.crn_baselines import (
    EncoderDecoder,
    EncoderDecoderNetwork,
    FullResolution,
    FullResolutionNetwork,
)
from photogram.scene import Layout, one_hot

PAPER = spec_of(20, (256, 512))
FULL = FullResolution(width=6, dilations=(4, 2, 1), perceptual="blur")
CODER = EncoderDecoder(down=(4, 5, 6), up=(6, 5), perceptual="blur")


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "load_trunk", lambda perceptual: Blur())


def small(recipe: Regression, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    network: Any = (
        FullResolutionNetwork(spec=spec_of(4), width=recipe.width, dilations=recipe.dilations)
        if isinstance(recipe, FullResolution)
        else EncoderDecoderNetwork(spec=spec_of(4), down=recipe.down, up=recipe.up, no_skips=recipe.no_skips)  # type: ignore[attr-defined]
    )
    randomise_norms(network)
    return network


PAPERS = [  # of section 6: parameters, GMAC
    (lambda: FullResolutionNetwork(spec=PAPER, width=128, dilations=(32, 16, 8, 4, 2, 1)), 1_763_715, 230.8),
    (lambda: EncoderDecoderNetwork(spec=PAPER, down=EncoderDecoder.down, up=EncoderDecoder.up), 118_856_195, 1176.6),
    (
        lambda: EncoderDecoderNetwork(spec=PAPER, down=EncoderDecoder.down, up=EncoderDecoder.up, no_skips=True),
        101_456_387,
        1086.6,
    ),
]


@pytest.mark.parametrize(("made", "parameters", "gmac"), PAPERS)
def test_parameters_and_work_are_the_specifications(made: Any, parameters: int, gmac: float):
    with torch.device("meta"):
        network, layout = made(), Layout(torch.zeros(1, 256, 512, dtype=torch.uint8))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert count_flops(lambda: network(layout)) / 2e9 == pytest.approx(gmac, abs=0.06)


def norm(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), keepdim=True, unbiased=False)
    scaled = (x - mean) / (var + 1e-12).sqrt()
    return F.leaky_relu(scaled * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1), 0.2)


def two(module: Any, x: Tensor, d: int = 1) -> Tensor:
    """Two convolutions of a concatenation, each with norm and leaky ReLU, written out."""
    x = norm(F.conv2d(x, module.conv1.weight, None, 1, d, d), module.norm1)
    return norm(F.conv2d(x, module.conv2.weight, None, 1, d, d), module.norm2)


def up(x: Tensor, size: Any) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def test_the_full_resolution_network_is_the_plain_one():
    network = small(FULL).double()
    assert isinstance(network, FullResolutionNetwork)
    layout = random_layout((16, 24), n=2)
    planes = one_hot(layout.classes, 4).double()
    x = two(network.stages[0], up(F.avg_pool2d(planes, 4), (16, 24)), 4)
    x = two(network.stages[1], torch.cat([x, up(F.avg_pool2d(planes, 2), (16, 24))], 1), 2)
    x = two(network.stages[2], torch.cat([x, planes], 1), 1)
    torch.testing.assert_close(network(layout)[:, 0], network.to_rgb(x))


@pytest.mark.parametrize("skips", [True, False])
def test_the_encoder_decoder_is_the_plain_one(skips: bool):
    network = small(replace(CODER, no_skips=not skips)).double()
    assert isinstance(network, EncoderDecoderNetwork)
    layout = random_layout((16, 24), n=2)
    first = two(network.encoder[0], one_hot(layout.classes, 4).double())
    second = two(network.encoder[1], F.avg_pool2d(first, 2))
    x = two(network.encoder[2], F.avg_pool2d(second, 2))
    for module, skip in zip(network.decoder, (second, first), strict=True):
        x = up(x, skip.shape[-2:])
        x = two(module, torch.cat([x, skip], 1) if skips else x)
    torch.testing.assert_close(network(layout)[:, 0], network.to_rgb(x))


@pytest.mark.parametrize("recipe", [FULL, CODER, replace(CODER, no_skips=True)])
def test_every_parameter_learns(recipe: Regression, blur: None):
    training = recipe.start(run_of(spec_of(4, (16, 24))))  # type: ignore[attr-defined]
    before = [p.detach().clone() for p in training.published_generator.parameters()]
    training.step(scene(0, size=(16, 24)), 0)
    for (name, p), old in zip(training.published_generator.named_parameters(), before, strict=True):
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, name
        assert not torch.equal(p.detach(), old), name


@pytest.mark.parametrize("recipe", [FULL, CODER, replace(CODER, no_skips=True)])
def test_checkpointing_changes_nothing_but_memory(recipe: Any, blur: None):
    assert_checkpointing_changes_nothing_but_memory(recipe, run_of(spec_of(4, (32, 64))))


@pytest.mark.parametrize("recipe", [FULL, CODER])
def test_it_starts_from_its_own_kind_alone(recipe: Any, blur: None, tmp_path: Path):
    source = small(recipe, seed=3)
    source.save_pretrained(tmp_path / "net")
    run = replace(run_of(spec_of(4, (16, 24))), start_from=tmp_path / "net")
    taken = recipe.start(run).published_generator
    assert all(torch.equal(a, b) for a, b in zip(taken.parameters(), source.parameters(), strict=True))
    wider = replace(recipe, width=7) if recipe is FULL else replace(recipe, down=(4, 5, 7))
    with pytest.raises(UserError, match=r"has (width 6, not 7|down \(4, 5, 6\), not \(4, 5, 7\)); give it the same"):
        wider.start(run)
    with pytest.raises(UserError, match="was trained with class 0 as"):
        recipe.start(replace(run, spec=spec_of(4, (16, 24), names="d")))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (replace(FULL, width=0), "--width 0 --dilations 4 2 1: must be positive integers"),
        (replace(FULL, dilations=()), "--dilations"),
        (replace(CODER, up=(5,)), "--down 4 5 6 --up 5: must be positive integers, one more down than up"),
        (replace(CODER, learning_rate=0.0), "--learning-rate 0.0: must be above 0"),
    ],
)
def test_recipes_that_no_training_can_have(recipe: Any, words: str):
    with pytest.raises(UserError, match=words):
        recipe.check()


def test_networks_that_cannot_be():
    with pytest.raises(UserError, match="width 0"):
        FullResolutionNetwork(spec=spec_of(4), width=0, dilations=(1,))
    with pytest.raises(UserError, match="one more down than up"):
        EncoderDecoderNetwork(spec=spec_of(4), down=(4, 4), up=(4, 4))
