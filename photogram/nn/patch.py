"""The patch discriminator: is each patch of a picture photographed or painted?

P. Isola, J.-Y. Zhu, T. Zhou and A. A. Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, section 3.2.2. It gives a map of logits, one for each patch; a loss takes their mean.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn.layout_conv import LayoutLevel, layer
from photogram.nn.norms import JudgingNorm, judging_norm
from photogram.scene import Size

Shown = Float[Tensor, "n c h w"] | tuple[LayoutLevel | Float[Tensor, "n l h w"], Float[Tensor, "n c h w"]]
"""A picture, alone or after the layout that it was painted of."""

STRIDED = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Convolutions of stride 2, by the side of the patch that one logit sees, in pixels."""


class PatchDiscriminator(nn.Module):
    """4x4 convolutions of stride 2, 64-128-256-512-512, then two of stride 1; leaky ReLU; no norm first and last.

    With a patch of one pixel, three 1x1 convolutions. Norms always take the statistics of the batch that is shown.

    Args:
        channels: of the pictures, with those of the condition where it is shown too.
        width: features of the first convolution; they double up to eightfold.
        patch: pixels a side that one logit sees, one of `STRIDED`.
        norm: batch, instance or layer.
    """

    def __init__(self, channels: int, width: int = 64, patch: int = 70, norm: JudgingNorm = "batch"):
        super().__init__()
        strided = STRIDED[patch]
        kernel, pad = (4, 1) if strided else (1, 0)
        widths = [width * min(2**n, 8) for n in range(strided + 1)] if strided else [width, 2 * width]
        bias = norm == "instance"  # the others shift by themselves
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList(judging_norm(norm, c) for c in widths[1:])
        for n, (c_in, c_out) in enumerate(zip((channels, *widths), widths, strict=False)):
            stride = 2 if n < strided else 1
            self.convs.append(nn.Conv2d(c_in, c_out, kernel, stride, pad, bias=bias or n == 0))
        self.to_logits = nn.Conv2d(widths[-1], 1, kernel, 1, pad, bias=bias or strided > 0)

    def forward(self, shown: Shown) -> Float[Tensor, "n 1 h2 w2"]:
        first, *others = self.convs
        assert isinstance(first, nn.Conv2d)
        x = F.leaky_relu(layer(first, *shown) if isinstance(shown, tuple) else first(shown), 0.2)
        for conv, norm in zip(others, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return self.to_logits(x)


def check_patch(patch: int, size: Size) -> None:
    """Refuse patches that there are none of, and pictures too small for one logit.

    Raises:
        UserError: naming the flag, its value and the bound.
    """
    if patch not in STRIDED:
        raise UserError(f"--patch {patch}: must be one of {', '.join(map(str, STRIDED))}")
    least = 3 * 2 ** STRIDED[patch] if patch > 1 else 1
    if min(size) < least:
        raise UserError(
            f"--size {size[0]} {size[1]}: a discriminator of --patch {patch} needs {least} pixels a side or more; "
            "a smaller --patch needs less"
        )
