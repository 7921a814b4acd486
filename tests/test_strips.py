"""Enlarging and convolving a few rows at a time, against doing it at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from photogram.nn import strips
from photogram.nn.strips import conv_of_upsampled, enlarged_rows, in_strips, is_large, upsampled
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.scene import Layout, SceneClass, SceneSpec


@pytest.mark.parametrize(("small", "size"), [((4, 6), (8, 12)), ((5, 3), (5, 7)), ((1, 1), (3, 4)), ((3, 8), (17, 8))])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("room", [1, 700, 1 << 20])
def test_it_is_the_convolution_of_the_enlarged(small, size, dilation: int, room: int, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", room)
    x = torch.randn(2, 5, *small, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(4, 5, 3, 3, dtype=torch.float64)
    expected = F.conv2d(upsampled(x, size), weight, None, 1, dilation, dilation)
    found = in_strips(x, weight, size, dilation)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_rows_are_those_of_the_whole():
    x = torch.randn(1, 3, 7, 9)
    whole = upsampled(x, (14, 18))
    torch.testing.assert_close(enlarged_rows(x, (14, 18), 4, 11), whole[:, :, 4:11], rtol=1e-5, atol=1e-5)


def test_bf16_differs_by_roundings_alone(monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 5000)
    x, weight = torch.randn(1, 16, 12, 20).bfloat16(), torch.randn(8, 16, 3, 3) / 12
    exact = F.conv2d(upsampled(x.double(), (24, 40)), weight.bfloat16().double(), padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = in_strips(x, weight, (24, 40))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-7, atol=2**-7)


def test_paintings_are_the_same_and_training_is_left_alone(monkeypatch):
    spec = SceneSpec(tuple(SceneClass(f"c{n}", (n, n, n)) for n in range(5)), (32, 64))
    torch.manual_seed(0)
    network = CascadedRefinementNetwork(spec=spec, widths=(12, 8, 8))
    layout = Layout(torch.randint(5, (1, 32, 64), dtype=torch.uint8))
    plain, taken = network.sample(layout), []
    monkeypatch.setattr(strips, "LARGE", 0)
    monkeypatch.setattr(strips, "STRIP", 3000)
    monkeypatch.setattr(strips, "in_strips", lambda *given: taken.append(1) or in_strips(*given))
    torch.testing.assert_close(network.sample(layout), plain, rtol=1e-4, atol=1e-5)
    assert len(taken) == 2
    network(layout).sum().backward()
    assert len(taken) == 2


def test_what_is_large():
    assert not is_large(torch.empty(1, 128, 512, 1024, device="meta"), (1024, 2048))  # of no processor
    assert is_large(torch.empty(1, 128, 4, 4), (512, 512)) and not is_large(torch.empty(1, 128, 4, 4), (64, 64))


@pytest.mark.parametrize(("small", "size"), [((4, 6), (8, 12)), ((5, 3), (5, 7)), ((4, 6), (4, 6))])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("learned", [(True, True), (True, False), (False, True)])
def test_gradients_are_those_of_enlarging_first(small, size, dilation: int, learned: tuple[bool, bool]):
    def gradients(conv):
        torch.manual_seed(0)
        x = torch.randn(2, 5, *small, dtype=torch.float64, requires_grad=learned[0])
        weight = torch.randn(4, 5, 3, 3, dtype=torch.float64, requires_grad=learned[1])
        made = conv(x, weight)
        (made * torch.randn_like(made)).sum().backward()
        return made, x.grad, weight.grad

    found = gradients(lambda x, weight: conv_of_upsampled(x, weight, size, dilation))
    expected = gradients(lambda x, weight: F.conv2d(upsampled(x, size), weight, None, 1, dilation, dilation))
    assert [one is None for one in found] == [one is None for one in expected]
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_is_enlarged_is_not_kept_for_the_gradient():
    kept = []
    x, weight = torch.randn(1, 6, 8, 8, requires_grad=True), torch.randn(4, 6, 3, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        conv_of_upsampled(x, weight, (16, 16))
    assert max(kept) == x.numel()
