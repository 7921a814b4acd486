"""Convolutions by Winograd's filtering against plain ones: values, gradients, and where they are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_crn import Blur, spec_of
from test_crn_candidates import assert_checkpointing_changes_nothing_but_memory
from test_crn_training import RECIPE, run_of
from test_recipes import plan, toys
from test_recipes import small as smallest
from torch import Tensor, nn

from photogram.nn import perceptual, strips, winograd
from photogram.nn.kept_weights import KeptWeights
from photogram.nn.strips import conv_of_upsampled
from photogram.nn.winograd import Winograd, convolved, gradients, pays, transformed
from photogram.recipes.crn import CRN, CascadedRefinementNetwork
from photogram.scene import Layout
from photogram.synthesis import ready_to_paint
from photogram.training import train


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is too small, and no processor the wrong one."""
    monkeypatch.setattr(winograd, "_X86", True)
    monkeypatch.setattr(winograd, "CHANNELS", 1)
    monkeypatch.setattr(winograd, "TILES", 1)


def at(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def close(found: Tensor, expected: Tensor, rtol: float = 5e-5) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * float(expected.detach().abs().max()))


@pytest.mark.parametrize("size", [(12, 20), (9, 14), (3, 3), (4, 41)])
@pytest.mark.parametrize("padding", [(1, 1), (0, 1), (2, 0), (0, 0)])
@pytest.mark.parametrize("strip", [1, 1 << 25])
def test_it_is_the_plain_convolution_with_its_gradients(
    size: tuple[int, int], padding: tuple[int, int], strip: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(winograd, "STRIP", strip)
    x, weight = at(torch.randn(2, 5, *size)).requires_grad_(), torch.randn(7, 5, 3, 3, requires_grad=True)
    expected = F.conv2d(x.double(), weight.double(), padding=padding)
    grad = torch.randn_like(expected)
    of_x, of_weight = torch.autograd.grad(expected, (x, weight), grad)
    with torch.no_grad():
        found = convolved(x, transformed(weight), padding)
        both = gradients(at(grad.float()), x, weight, padding, (True, True))
    close(found, expected.float())
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(both, (of_x, of_weight), strict=True):
        assert one is not None
        close(one, other)


def test_rounding_is_some_ten_times_that_of_float32():
    """Of the largest output, for as many channels as networks have."""
    x, weight = torch.randn(1, 512, 32, 64).relu(), torch.randn(128, 512, 3, 3) / 68
    wide = x.double().requires_grad_(), weight.double().requires_grad_()
    exact = F.conv2d(*wide, padding=1)
    grad = torch.randn_like(exact)
    expected = exact.detach(), *torch.autograd.grad(exact, wide, grad)
    plain = torch.ops.aten.convolution_backward(
        grad.float(), x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    theirs = F.conv2d(x, weight, padding=1), *plain[:2]
    ours = convolved(x, transformed(weight), (1, 1)), *gradients(grad.float(), x, weight, (1, 1), (True, True))
    for found, bound in ((theirs, 4e-6), (ours, 4e-5)):
        for one, true in zip(found, expected, strict=True):
            assert one is not None and float((one - true).abs().max() / true.abs().max()) < bound


def counting(monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, int]:
    """How often functions are called from now on."""
    calls = dict.fromkeys(names, 0)

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object) -> object:
            calls[name] += 1
            return real(*given)

        return call

    for name in names:
        monkeypatch.setattr(winograd, name, counted(name, getattr(winograd, name)))
    return calls


def test_convolutions_are_taken_over_while_it_is_entered(small: None, monkeypatch: pytest.MonkeyPatch):
    taken = counting(monkeypatch, "convolved")
    layer, x = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), torch.randn(2, 4, 12, 16, requires_grad=True)
    found = []
    for mode in (False, True):
        with Winograd() if mode else torch.enable_grad():
            made = layer(x)
            grads = torch.autograd.grad(made.square().sum(), [x, *layer.parameters()])
        found.append((made, *grads))
        assert taken["convolved"] == 2 * mode  # the way there, and the gradient of the input
    for one, other in zip(*found, strict=True):
        close(other, one)
    assert Winograd.entered == 0


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 3, dilation=2, padding=2), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 5, padding=2), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 3, padding="same"), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 3, padding=3), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 3).double(), (1, 4, 12, 16)),
        (nn.Conv2d(4, 6, 3), (4, 12, 16)),
    ],
    ids=str,
)
def test_others_are_left_alone(layer: nn.Module, shape: tuple[int, ...], small: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(winograd, "convolved", None)
    x = torch.randn(shape, dtype=next(layer.parameters()).dtype)
    expected = layer(x)
    with Winograd():
        assert torch.equal(layer(x), expected)


def test_bfloat16_is_left_alone(small: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(winograd, "convolved", None)
    layer, x = nn.Conv2d(4, 6, 3), torch.randn(1, 4, 12, 16)
    with Winograd(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_it_pays_for_many_channels_and_many_tiles():
    def does(channels: tuple[int, int], size: tuple[int, int], n: int = 1, padding: tuple[int, int] = (1, 1)) -> bool:
        shape = torch.empty(n, channels[1], *size, device="meta")
        return pays(shape, torch.empty(*channels, 3, 3, device="meta"), padding)

    assert does((512, 512), (128, 256)) and does((1024, 1024), (32, 64)) and does((128, 128), (256, 512))
    assert not does((1024, 1024), (16, 32)) and does((1024, 1024), (16, 32), n=4)
    assert not does((64, 512), (128, 256)) and not does((3, 512), (128, 256))
    assert not does((512, 512), (2, 4000))  # half of each tile is thrown away
    assert not does((512, 512), (1, 400), padding=(0, 1))  # no output at all


@pytest.mark.parametrize("size", [(12, 16), (10, 16), (12, 13)])
def test_its_result_may_be_overwritten(size: tuple[int, int], small: None):
    x, weight = torch.randn(1, 3, *size, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    found = []
    for mode in (False, True):
        with Winograd() if mode else torch.enable_grad():
            made = F.leaky_relu_(F.conv2d(x, weight, padding=1).add_(1.0), 0.2)
            found.append((made, *torch.autograd.grad(made.square().sum(), (x, weight))))
    for one, other in zip(*found, strict=True):
        close(other, one)


def test_there_is_a_second_derivative(small: None):
    x, weight = torch.randn(1, 3, 8, 9, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    found = []
    for mode in (False, True):
        with Winograd() if mode else torch.enable_grad():
            made = F.conv2d(x, weight, padding=1).square().sum()
            (first,) = torch.autograd.grad(made, x, create_graph=True)
            found.append(torch.autograd.grad(first.square().sum(), (x, weight)))
    for one, other in zip(*found, strict=True):
        close(other, one)


@pytest.mark.parametrize("large", [False, True])
def test_enlarged_features_and_their_gradients(large: bool, small: None, monkeypatch: pytest.MonkeyPatch):
    if large:
        monkeypatch.setattr(strips, "LARGE", 0)
        monkeypatch.setattr(strips, "STRIP", 3000)
    x, weight = at(torch.randn(1, 5, 6, 8)).requires_grad_(), torch.randn(4, 5, 3, 3, requires_grad=True)
    found, taken = [], counting(monkeypatch, "convolved", "gradients")
    for mode in (False, True):
        with Winograd() if mode else torch.enable_grad():
            if large:
                with torch.no_grad():
                    found.append([conv_of_upsampled(x, weight, (12, 16))])
            else:
                made = F.leaky_relu(conv_of_upsampled(x, weight, (12, 16)), 0.2, inplace=True)
                found.append([made, *torch.autograd.grad(made.square().sum(), (x, weight))])
        assert (taken["convolved"] > 0) == mode and taken["gradients"] == int(mode and not large)
    for one, other in zip(*found, strict=True):
        close(other, one)


def test_a_weight_that_comes_again_is_transformed_once(small: None, monkeypatch: pytest.MonkeyPatch):
    taken = counting(monkeypatch, "transformed")
    layer, x = nn.Conv2d(4, 6, 3, padding=1), torch.randn(1, 4, 12, 16)
    with torch.no_grad(), KeptWeights(layer), Winograd():  # as a synthesis does
        for _ in range(3):
            layer(x)
        assert taken == {"transformed": 1}
        layer.weight.mul_(2)
        made = layer(x)
        assert taken == {"transformed": 2}
    close(made, layer(x))


def test_checkpointing_computes_again_what_was_computed(small: None, monkeypatch: pytest.MonkeyPatch):
    """A backward pass does not see the mode."""
    monkeypatch.setattr(perceptual, "load_trunk", lambda name: Blur())
    taken = counting(monkeypatch, "convolved")
    with Winograd():
        recipe = replace(RECIPE, widths=(8, 8, 8, 8))
        assert_checkpointing_changes_nothing_but_memory(recipe, run_of(spec_of(4, (32, 64))))
    assert taken["convolved"] > 0


def test_trainings_in_float32_take_it_and_resume_to_the_last_bit(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    case, taken = smallest(CRN), counting(monkeypatch, "convolved", "gradients")
    for out, steps in (("whole", [4]), ("parts", [2, 4])):
        for step in steps:
            train(case.recipe, toys(case), tmp_path / out, plan(case, step))
    assert taken["convolved"] > 0 and taken["gradients"] > 0
    files = [tmp_path / out / "model.safetensors" for out in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    taken["convolved"] = 0
    train(case.recipe, toys(case), tmp_path / "bf16", plan(case, 1, "bf16"))
    assert not taken["convolved"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_synthesis_in_float32_takes_it(precision: str, small: None, monkeypatch: pytest.MonkeyPatch):
    network = CascadedRefinementNetwork(spec=spec_of(4, (16, 32)), widths=(8, 8, 8))
    taken = counting(monkeypatch, "convolved")
    with ready_to_paint(network, precision):
        network.sample(Layout(torch.randint(4, (1, 16, 32), dtype=torch.uint8)))
    assert (taken["convolved"] > 0) == (precision == "fp32")
