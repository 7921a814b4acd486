"""Weights of convolutions as the processor computes with them: cast and packed once, for many paintings.

A convolution on a CPU first casts its weight to bfloat16, where that is asked for, and brings it into blocks that suit
the processor. Where the features are small that takes longer than the convolution: for 512 channels at 4 x 8, ten
times (benchmarks/speed.py, pix2pix). `KeptWeights` keeps what comes of it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_NAMES = {
    torch.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    torch.conv_transpose2d: ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
}
_OPERATIONS = (
    "_convolution_pointwise",
    "_convolution_transpose_pointwise",
    "_reorder_convolution_weight",
    "_reorder_convolution_transpose_weight",
    "_is_mkldnn_bf16_supported",
)
_PACKS = (
    torch.backends.mkldnn.is_available()
    and platform.machine() in ("x86_64", "AMD64")
    and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)  # of torch's own, which may change
)
_DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}


class _Packed(NamedTuple):
    """A weight in blocks that suit inputs of one shape."""

    form: tuple[object, ...]
    """The input's shape, and which of the weight's values these are."""
    weight: Tensor


class KeptWeights(TorchFunctionMode):
    """While it is entered, convolutions with a network's weights on a CPU find them cast and packed.

    For synthesis: where gradients are computed it does nothing. It keeps one form of each weight, which is as large as
    the weight in the precision of the computation; an input of another shape, or a weight that was changed in its
    place, makes it anew, so that what a picture becomes does not depend on the pictures before it. Weights that were
    moved elsewhere are unknown to it, and convolved as if it were not there.

    Args:
        network: whose weights, and parts of them, are kept.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        storages = [p.untyped_storage() for p in network.parameters() if p.device.type == "cpu"]
        self.ours = {storage.data_ptr(): storage for storage in storages}  # held, so that no other takes its address
        self.packed: dict[tuple[object, ...], _Packed] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _NAMES and not torch.is_grad_enabled():
            given = called(func, args, kwargs or {})
            if self._is_for_us(given):
                return self._convolved(func is torch.conv_transpose2d, given)
        return func(*args, **(kwargs or {}))

    def _is_for_us(self, given: dict[str, Any]) -> bool:
        x, weight = given["input"], given["weight"]
        known = _PACKS and weight.device.type == "cpu" and weight.untyped_storage().data_ptr() in self.ours
        if not known or isinstance(given["padding"], str) or x.dim() != 4 or not x.numel():
            return False
        dtype = computed(x)
        return dtype == torch.float32 or (dtype == torch.bfloat16 and _has_bfloat16())

    def _convolved(self, transposed: bool, given: dict[str, Any]) -> Tensor:
        x, weight, bias = given["input"], given["weight"], given["bias"]
        dtype = computed(x)
        pairs = ("padding", "output_padding", "stride", "dilation") if transposed else ("padding", "stride", "dilation")
        geometry = [*(list(pair(given[name])) for name in pairs), given["groups"]]
        key = (weight.data_ptr(), weight.shape, weight.stride(), dtype, str(geometry))
        form = (*x.shape, 0 if weight.is_inference() else weight._version)
        kept = self.packed.get(key)
        if kept is None or kept.form != form:
            reorder = (
                torch.ops.mkldnn._reorder_convolution_transpose_weight
                if transposed
                else torch.ops.mkldnn._reorder_convolution_weight
            )
            kept = _Packed(form, reorder(weight.detach().to(dtype), *geometry, list(x.shape)))
            self.packed[key] = kept
        run = (
            torch.ops.mkldnn._convolution_transpose_pointwise if transposed else torch.ops.mkldnn._convolution_pointwise
        )
        return run(x.to(dtype), kept.weight, None if bias is None else bias.to(dtype), *geometry, "none", [], "")


def called(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a convolution by their names, with those that were left out."""
    return {**_DEFAULTS, **dict(zip(_NAMES[func], args, strict=False)), **kwargs}


def computed(x: Tensor) -> torch.dtype:
    """The precision in which autocast computes with a convolution's input."""
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def _has_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """A number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
