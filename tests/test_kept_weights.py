"""Convolutions whose weights are kept as the processor computes with them, against the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from photogram.nn import kept_weights
from photogram.nn.kept_weights import KeptWeights

packs = pytest.mark.skipif(not kept_weights._PACKS, reason="weights are not packed on this processor")


def at(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    tolerance = 2e-2 if found.dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@packs
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(5, 6, 3, padding=1),
        nn.Conv2d(5, 6, 3, padding=1, bias=False, padding_mode="reflect"),
        nn.Conv2d(5, 7, 4, 2, 1),
        nn.Conv2d(5, 6, 3, padding=4, dilation=4),
        nn.Conv2d(5, 6, (1, 3), padding=(0, 1)),
        nn.Conv2d(5, 10, 3, groups=5),
        nn.ConvTranspose2d(5, 6, 4, 2, 1),
        nn.ConvTranspose2d(5, 6, 3, 2, 1, output_padding=1, bias=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_is_the_plain_convolution(layer: nn.Module, precision: str, channels_last: bool):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        kept = KeptWeights(layer)
        for shape in ((1, 5, 12, 20), (1, 5, 12, 20), (2, 5, 6, 8)):  # made, found again, made anew
            x = torch.randn(shape)
            x = at(x) if channels_last else x
            expected = layer(x)
            with kept:
                close(layer(x), expected)
        assert len(kept.packed) == 1


@pytest.mark.parametrize("layer", [nn.Conv2d(5, 6, 3, padding="same"), nn.Conv1d(5, 6, 3)], ids=str)
def test_what_it_cannot_keep_is_convolved_as_it_comes(layer: nn.Module):
    x = torch.randn((1, 5, 12, 20) if isinstance(layer, nn.Conv2d) else (1, 5, 12))
    with torch.inference_mode():
        expected = layer(x)
        with KeptWeights(layer) as kept:
            assert torch.equal(layer(x), expected)
    assert not kept.packed


def test_where_weights_cannot_be_packed_nothing_is_kept(monkeypatch: pytest.MonkeyPatch):
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    monkeypatch.setattr(kept_weights, "_PACKS", False)
    with torch.inference_mode(), KeptWeights(layer) as kept:
        layer(x)
    assert not kept.packed


def test_changed_weights_are_noticed_and_moved_ones_left_alone():
    """A network that goes on learning between two looks, and one that is brought into another memory layout."""
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    kept = KeptWeights(layer)
    for change in (lambda: None, lambda: layer.load_state_dict(nn.Conv2d(3, 4, 3).state_dict())):
        change()
        with torch.inference_mode():
            expected = layer(x)
            with kept:
                close(layer(x), expected)
    layer.double().float()
    before = dict(kept.packed)
    with torch.inference_mode(), kept:
        layer(x)
        nn.Conv2d(3, 4, 3)(x)
    assert kept.packed == before


@packs
def test_parts_of_a_weight_are_told_apart():
    layer, x = nn.Conv2d(6, 4, 3, padding=1, bias=False), torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        first, last = layer.weight.split(3, 1)
        kept = KeptWeights(layer)
        for _ in range(2):
            expected = F.conv2d(x, first, padding=1), F.conv2d(x, last, padding=1), F.conv2d(x, last, padding=2)
            with kept:
                found = F.conv2d(x, first, padding=1), F.conv2d(x, last, padding=1), F.conv2d(x, last, padding=2)
            for one, other in zip(found, expected, strict=True):
                close(one, other)
        assert len(kept.packed) == 3


@packs
def test_one_form_of_a_weight_is_kept():
    layer = nn.Conv2d(3, 4, 3)
    with torch.inference_mode(), KeptWeights(layer) as kept:
        for size in (8, 16, 8, 24):
            layer(torch.randn(1, 3, size, size))
    assert len(kept.packed) == 1


def test_other_weights_are_left_alone():
    layer, other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    with torch.inference_mode(), KeptWeights(layer) as kept:
        other(torch.randn(1, 3, 8, 8))
        F.conv2d(torch.randn(1, 3, 8, 8), other.weight.clone())
    assert not kept.packed


def test_where_gradients_are_wanted_nothing_is_kept():
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    with KeptWeights(layer) as kept:
        layer(x).sum().backward()
    assert layer.weight.grad is not None and not kept.packed


def test_float64_is_computed_as_it_comes():
    layer, x = nn.Conv2d(3, 4, 3).double(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    with torch.inference_mode(), KeptWeights(layer) as kept:
        assert torch.equal(layer(x), layer(x)) and layer(x).dtype == torch.float64
    assert not kept.packed
