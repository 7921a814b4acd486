"""Convolutions over integer layouts against the same over one-hot planes, values and gradients."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.nn import layout_conv
from photogram.nn.layout_conv import LayoutLevel, Window, layer, pyramid


def layout(n: int, h: int, w: int, classes: int, block: int = 8, seed: int = 0) -> Tensor:
    """Regions with ragged borders, and some noise."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randint(classes, (n, -(-h // block), -(-w // block)), generator=draw)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    map_ = coarse[:, ((y + x // 3 % 5) // block).clamp(max=coarse.shape[1] - 1), x // block]
    noise = torch.rand(n, h, w, generator=draw) < 0.02
    return torch.where(noise, torch.randint(classes, (n, h, w), generator=draw), map_)


def planes(classes: Tensor, num_classes: int, factor: int) -> Tensor:
    return F.avg_pool2d(F.one_hot(classes.long(), num_classes).movedim(-1, 1).double(), factor)


def twin(classes: Tensor, num_classes: int, factor: int, weight: Tensor, window: Window) -> Tensor:
    x = planes(classes, num_classes, factor).to(weight.dtype)
    pad = [window.padding] * 4
    x = F.pad(x, pad, mode="reflect") if window.reflect else F.pad(x, pad)
    return F.conv2d(x, weight, None, window.stride, 0, window.dilation)


WINDOWS = [
    Window(3, padding=1),
    Window(3, padding=4, dilation=4),
    Window(3, 2, 1, reflect=True),
    Window(4, 2, 2),
    Window(5, 3, 2),
    Window(7, padding=3, reflect=True),
    Window(1),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("factor", "num_classes"), [(1, 2), (1, 300), (2, 20), (4, 5), (4, 182)])
def test_values_and_gradients_are_those_of_planes(window: Window, factor: int, num_classes: int, monkeypatch):
    monkeypatch.setattr(layout_conv, "CHUNK", 100)  # several
    monkeypatch.setattr(layout_conv, "WIDE", 300)
    classes = layout(2, 24 * factor, 20 * factor, num_classes, block=6 * factor)
    torch.manual_seed(1)
    weight = torch.randn(6, num_classes, window.taps, window.taps, dtype=torch.float64, requires_grad=True)
    ours = LayoutLevel(classes, num_classes, factor).sums(weight, window)
    theirs = twin(classes, num_classes, factor, weight, window)
    assert ours.shape == theirs.shape and ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # shares and sums of taps are kept in float32
    grad = torch.randn_like(theirs)
    (a,), (b,) = (torch.autograd.grad(out, weight, grad) for out in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("factor", "num_classes", "small"), [(1, 40, 0), (2, 40, 0), (1, 5, 1 << 40)])
def test_it_can_be_added_to_what_there_is(factor: int, num_classes: int, small: int, monkeypatch):
    """Which is overwritten; its own gradient passes through."""
    monkeypatch.setattr(layout_conv, "WIDE", 500)
    monkeypatch.setattr(layout_conv, "SMALL", small)
    classes, window = layout(2, 24, 32, num_classes), Window(3, padding=1)
    x = torch.randn(2, 4, 24 // factor, 32 // factor, requires_grad=True)
    weight = torch.randn(5, num_classes, 3, 3, requires_grad=True)
    mine = torch.randn(5, 4, 3, 3)
    found = []
    for run in (
        lambda there: LayoutLevel(classes, num_classes, factor).conv(weight, window, there),
        lambda there: there + twin(classes, num_classes, factor, weight, window),
    ):
        there = F.conv2d(x, mine, padding=1).contiguous(memory_format=torch.channels_last)
        out = run(there)
        found.append([out, *torch.autograd.grad(out.square().sum(), [x, weight])])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_will_do(dtype: torch.dtype):
    classes, window = layout(1, 16, 24, 7), Window(3, padding=1)
    weight = torch.randn(4, 7, 3, 3)
    ours = LayoutLevel(classes.to(dtype), 7, 2).sums(weight, window)
    torch.testing.assert_close(ours, twin(classes, 7, 2, weight, window), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [torch.zeros(1, 8, 8, dtype=torch.int64), torch.arange(64).view(1, 8, 8)])
def test_one_region_and_none_alike(classes: Tensor):
    """All windows but those at the rim of one class; and no two pixels equal."""
    for factor in (1, 2):
        weight = torch.randn(3, 64, 3, 3)
        ours = LayoutLevel(classes, 64, factor).sums(weight, Window(3, padding=1))
        torch.testing.assert_close(ours, twin(classes, 64, factor, weight, Window(3, padding=1)))


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_planes_are_shares(factor: int):
    classes = layout(2, 32, 16, 9)
    ours = LayoutLevel(classes, 9, factor).planes
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, planes(classes, 9, factor).float(), rtol=0, atol=1e-7)


def test_bf16_sums_in_float32():
    """The error is that of one rounding of the result and of the weights, not of a sum of half a million in bf16."""
    classes, window = layout(1, 512, 512, 4, block=64), Window(3, padding=1)
    weight = torch.randn(5, 4, 3, 3).bfloat16().requires_grad_()
    exact = weight.detach().double().requires_grad_()
    ours, theirs = LayoutLevel(classes, 4).sums(weight, window), twin(classes, 4, 1, exact, window)
    torch.testing.assert_close(ours.double(), theirs, rtol=2**-8, atol=2e-2)
    grad = torch.rand(1, 5, 512, 512).bfloat16()
    (a,) = torch.autograd.grad(ours, weight, grad)
    (b,) = torch.autograd.grad(theirs, exact, grad.double())
    torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=0)


def test_autocast_decides_the_precision():
    level, weight = LayoutLevel(layout(1, 16, 16, 5), 5), torch.randn(4, 5, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = level.conv(weight, Window(3, padding=1))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and weight.grad is not None and weight.grad.dtype == torch.float32


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_planes_are_another_way_to_the_same(window: Window):
    level, weight = LayoutLevel(layout(2, 32, 32, 6), 6, 2), torch.randn(4, 6, window.taps, window.taps)
    torch.testing.assert_close(level.conv_of_planes(weight, window), level.sums(weight, window), rtol=1e-4, atol=1e-5)


def test_the_rule_takes_look_ups_for_many_classes_and_large_layouts():
    small, large = (torch.zeros(1, h, 2 * h, dtype=torch.uint8) for h in (16, 512))
    for classes, bf16, learned, expected in (
        (2, False, False, False),
        (20, False, False, True),
        (20, False, True, True),
        (20, True, False, True),
        (20, True, True, False),
        (182, True, True, True),
    ):
        weight = torch.empty(64, classes, 3, 3, requires_grad=learned)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            assert LayoutLevel(large, classes).looked_up(weight) == expected
            assert not LayoutLevel(small, classes).looked_up(weight)
            assert not LayoutLevel(large, classes).looked_up(weight, stride=64)
            assert not LayoutLevel(large, classes).looked_up(weight.to("meta"))


def test_what_is_frozen_gets_no_gradient_and_none_is_computed(monkeypatch):
    monkeypatch.setattr(layout_conv, "_runs", None)
    monkeypatch.setattr(layout_conv, "_gather", None)
    level, onto = LayoutLevel(layout(1, 24, 32, 9), 9), torch.randn(1, 4, 24, 32, requires_grad=True)
    at = (2 * onto).contiguous(memory_format=torch.channels_last)
    level.sums(torch.randn(4, 9, 3, 3), Window(3, padding=1), at).sum().backward()
    assert onto.grad is not None and (onto.grad == 2).all()


def test_there_is_no_second_derivative():
    weight = torch.randn(4, 9, 3, 3, requires_grad=True)
    made = LayoutLevel(layout(1, 24, 32, 9), 9).sums(weight, Window(3, padding=1))
    (first,) = torch.autograd.grad(made.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_both_ways_are_taken(monkeypatch):
    """And give the same, so that nobody notices."""
    classes, weight, taken = layout(1, 64, 64, 30), torch.randn(4, 30, 3, 3), []
    for name in ("sums", "conv_of_planes"):
        way = getattr(LayoutLevel, name)
        monkeypatch.setattr(LayoutLevel, name, lambda *given, way=way, name=name: (taken.append(name), way(*given))[1])
    found = []
    for bound in (1 << 40, 0):
        monkeypatch.setattr(layout_conv, "SMALL", bound)
        found.append(LayoutLevel(classes, 30).conv(weight, Window(3, padding=1)))
    assert taken == ["conv_of_planes", "sums"]
    torch.testing.assert_close(*found)


def test_a_pyramid_goes_from_coarse_to_fine_and_averages_once(monkeypatch):
    monkeypatch.setattr(layout_conv, "POOLED", 64)
    classes = layout(2, 32, 16, 9)  # 4 x 2, 8 x 4, 16 x 8, 32 x 16 cells
    levels = pyramid(classes, 9, 4)
    assert [level.factor for level in levels] == [8, 4, 2, 1]
    assert [level.finer is not None for level in levels] == [True, False, False, False]
    for level in levels:
        torch.testing.assert_close(level.planes, planes(classes, 9, level.factor).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("beside", [0, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_over_a_layout_and_more(mode: Literal["zeros", "reflect"], beside: int, bias: bool, monkeypatch):
    """With look-ups, with planes, and as the layer is without us: one result, and the same gradients."""
    torch.manual_seed(0)
    conv = nn.Conv2d(40 + beside, 6, 4, 2, 1, bias=bias, padding_mode=mode)
    classes, others = layout(2, 32, 48, 40), torch.randn(2, beside, 32, 48) if beside else None
    grad, found = torch.randn(2, 6, 16, 24), []
    whole = torch.cat([planes(classes, 40, 1).float(), *([] if others is None else [others])], 1)
    for small, run in (
        (0, lambda: layer(conv, LayoutLevel(classes, 40), others)),
        (1 << 40, lambda: layer(conv, LayoutLevel(classes, 40), others)),
        (0, lambda: layer(conv, planes(classes, 40, 1).float(), others)),
        (0, lambda: conv(whole)),
    ):
        monkeypatch.setattr(layout_conv, "SMALL", small)
        out = run()
        found.append([out, *torch.autograd.grad(out, list(conv.parameters()), grad)])
    for other in found[:-1]:
        torch.testing.assert_close(other, found[-1], rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no multiple of 4"):
        LayoutLevel(torch.zeros(1, 10, 12, dtype=torch.uint8), 3, 4)
    with pytest.raises(ValueError, match="reflection by 3"):
        LayoutLevel(torch.zeros(1, 3, 12, dtype=torch.uint8), 3).conv(torch.zeros(1, 3, 7, 7), Window(7, 1, 3, 1, True))
