"""Convolutions of enlarged features, which are large and soon forgotten: they are never kept."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from photogram.nn.gradients import first_only
from photogram.nn.layout_conv import as_computed
from photogram.nn.winograd import gradients_of_convolution
from photogram.scene import Size

LARGE = 1 << 26
"""Bytes of an enlarged feature map above which it is made in strips."""
STRIP = 1 << 24
"""Bytes of it that are there at once, about."""


def upsampled(x: Float[Tensor, "n c h w"], size: Size) -> Float[Tensor, "n c H W"]:
    """Bilinear, corners aligned, as the authors' library of CRN does it."""
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def conv_of_upsampled(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], size: Size, dilation: int = 1
) -> Float[Tensor, "n o H W"]:
    """A 3x3 convolution, zero-padded, of features that are enlarged bilinearly, corners aligned.

    The same as enlarging first, up to rounding. In training the enlarged features are made again for the gradient of
    the weight; at synthesis, where they are large, they are made a few rows at a time.

    Args:
        x: the features.
        weight: of the convolution.
        size: height and width to enlarge to.
        dilation: of the convolution.
    """
    if x.shape[-2:] == size:
        return F.conv2d(x, weight, None, 1, dilation, dilation)
    if torch.is_grad_enabled():
        weight = as_computed(weight)
        return cast(Tensor, _ConvOfUpsampled.apply(x.to(weight.dtype), weight, size, dilation))
    if is_large(x, size):
        return in_strips(x, weight, size, dilation)
    return F.conv2d(upsampled(x, size), weight, None, 1, dilation, dilation)


class _ConvOfUpsampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, size: Size, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.size, ctx.dilation = size, dilation  # pyright: ignore[reportAttributeAccessIssue]
        return F.conv2d(upsampled(x, size), weight, None, 1, dilation, dilation)

    @staticmethod
    @first_only
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), size, dilation = ctx.saved_tensors, ctx.size, ctx.dilation  # pyright: ignore
        needed = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue]
        with torch.enable_grad():  # its gradient too is torch's own choice: on a GPU another one is deterministic
            x = x.detach().requires_grad_(needed[0])
            enlarged = upsampled(x, size)
        large, of_weight = gradients_of_convolution(grads[0], enlarged.detach(), weight, dilation, needed[:2])
        small = torch.autograd.grad(enlarged, x, large)[0] if needed[0] else None
        return small, of_weight, None, None


def is_large(x: Float[Tensor, "n c h w"], size: Size) -> bool:
    """Whether features, once enlarged, are better made in strips."""
    count = x.shape[0] * x.shape[1] * size[0] * size[1]
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and count * x.element_size() > LARGE


def in_strips(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], size: Size, dilation: int = 1
) -> Float[Tensor, "n o H W"]:
    """`conv_of_upsampled` a few rows at a time; channels last."""
    n, channels = x.shape[:2]
    dtype = as_computed(weight[:0]).dtype  # the weight itself is cast where it is convolved, or kept so
    out = torch.empty(n, len(weight), *size, dtype=dtype, device=x.device, memory_format=torch.channels_last)
    rows = max(1, STRIP // (n * channels * size[1] * x.element_size()))
    rows = math.ceil(size[0] / math.ceil(size[0] / rows))  # strips of one height, as far as that goes
    x = x.to(dtype)
    for top in range(0, size[0], rows):
        bottom = min(top + rows, size[0])
        strip = enlarged_rows(x, size, top - dilation, bottom + dilation)
        out[:, :, top:bottom] = F.conv2d(strip, weight, None, 1, (0, dilation), dilation)
    return out


def enlarged_rows(x: Float[Tensor, "n c h w"], size: Size, first: int, last: int) -> Float[Tensor, "n c r W"]:
    """Rows first..last-1 of features enlarged to a size, bilinearly, corners aligned; zeros above and below it."""
    (n, channels, height, _), (tall, wide) = x.shape, size
    inside = range(max(0, first), min(tall, last))
    step = (height - 1) / (tall - 1) if tall > 1 else 0.0
    above = [min(int(row * step), height - 1) for row in inside]
    lowest = min(above[-1] + 1, height - 1)
    few = x[:, :, above[0] : lowest + 1]
    lines = F.interpolate(few, size=(few.shape[2], wide), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    made = torch.empty(n, last - first, wide, channels, dtype=x.dtype, device=x.device)  # whole lines lie together
    made[:, : inside.start - first] = 0
    made[:, inside.stop - first :] = 0
    for row, upper in zip(inside, above, strict=True):
        one, next_one = (lines[:, at - above[0]] for at in (upper, min(upper + 1, lowest)))
        torch.lerp(one, next_one, row * step - upper, out=made[:, row - first])
    return made.permute(0, 3, 1, 2)
