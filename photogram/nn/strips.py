"""Large layers a few rows at a time, for synthesis: what is big and soon forgotten is never there as a whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from photogram.nn.layout_conv import as_computed
from photogram.scene import Size

LARGE = 1 << 26
"""Bytes of an enlarged feature map above which it is made in strips."""
STRIP = 1 << 23
"""Bytes of it that are there at once, about."""


def is_large(x: Float[Tensor, "n c h w"], size: Size) -> bool:
    """Whether features, once enlarged, are better made in strips: only where no gradient is wanted."""
    count = x.shape[0] * x.shape[1] * size[0] * size[1]
    return not torch.is_grad_enabled() and x.device.type == "cpu" and count * x.element_size() > LARGE


def conv_of_upsampled(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], size: Size, dilation: int = 1
) -> Float[Tensor, "n o H W"]:
    """A 3x3 convolution, zero-padded, of features that are enlarged bilinearly, corners aligned; channels last.

    The same as enlarging first, up to rounding, without the enlarged features.

    Args:
        x: the features.
        weight: of the convolution.
        size: height and width to enlarge to.
        dilation: of the convolution.
    """
    weight = as_computed(weight)
    n, channels = x.shape[:2]
    out = torch.empty(n, len(weight), *size, dtype=weight.dtype, device=x.device, memory_format=torch.channels_last)
    rows = max(1, STRIP // (n * channels * size[1] * x.element_size()))
    for top in range(0, size[0], rows):
        bottom = min(top + rows, size[0])
        first, last = max(0, top - dilation), min(size[0], bottom + dilation)
        strip = enlarged_rows(x, size, first, last).to(weight.dtype)
        missing = (dilation - (top - first), dilation - (last - bottom))
        if any(missing):
            strip = F.pad(strip, (0, 0, *missing)).contiguous(memory_format=torch.channels_last)
        out[:, :, top:bottom] = F.conv2d(strip, weight, None, 1, (0, dilation), dilation)
    return out


def enlarged_rows(x: Float[Tensor, "n c h w"], size: Size, first: int, last: int) -> Float[Tensor, "n c r W"]:
    """Rows first..last-1 of features enlarged to a size, bilinearly, corners aligned, in float32 or wider."""
    height = x.shape[2]
    step = (height - 1) / (size[0] - 1) if size[0] > 1 else 0.0
    place = torch.arange(first, last, dtype=torch.float64, device=x.device) * step
    above = place.floor().long().clamp(max=height - 1)
    wide = torch.promote_types(x.dtype, torch.float32)
    share = (place - above).to(wide)[:, None, None]
    lines = x.permute(0, 2, 3, 1)  # n h w c: whole lines lie together
    upper, lower = (lines.index_select(1, rows).to(wide) for rows in (above, (above + 1).clamp(max=height - 1)))
    rows = torch.lerp(upper, lower, share).permute(0, 3, 1, 2)
    return F.interpolate(rows, size=(last - first, size[1]), mode="bilinear", align_corners=True)
