"""The discriminators that pix2pixHD may have: patches at several scales, one with self-attention, or both.

The hybrid takes pix2pixHD's coarser discriminators (CVPR 2018, section 3.2) for structure, and at full size, for
detail, one with the self-attention of SAGAN (ICML 2019): specification 6.3 and 6.4. All answer in the same form.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import unfit
from photogram.nn.attention import BUDGET, SelfAttention
from photogram.nn.layout_conv import layer
from photogram.nn.multiscale import MultiScaleDiscriminator
from photogram.nn.norms import instance_norm
from photogram.nn.patch import Shown
from photogram.nn.spectral import normalise_spectrally
from photogram.optim import init_normal
from photogram.scene import Size

Kind = Literal["multiscale", "attention", "hybrid"]
"""Patches at several scales, self-attention at full size, or that with patches at the coarser scales."""
AttentionMode = Literal["full_image", "crop", "grid"]
"""Attention over whole pictures, over windows of them, or over a coarse grid of averages."""
DetailNorm = Literal["none", "instance"]
"""What the discriminator with self-attention has besides spectral norm."""
MOST_SCALES = 4


class DetailDiscriminator(nn.Module):
    """Judge detail: 4x4 convolutions with padding 1, three of stride 2, self-attention, then two of stride 1.

    Leaky ReLU; spectral norm on every convolution, those of the attention too; all but these have biases. Its passes
    belong into `photogram.nn.spectral.normalised`, as `MultiScaleDiscriminator` does it.

    Args:
        channels: of the pictures, with those of what they were asked by.
        width: features of the first convolution; they double up to eightfold.
        norm: instance norm after all but the first and the last, or none.
        kv_pool, budget, grid: of the attention (`SelfAttention`).
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        norm: DetailNorm = "none",
        kv_pool: int = 0,
        budget: int = BUDGET,
        grid: int = 0,
    ):
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[n], widths[n + 1], 4, 2 if n < 3 else 1, 1) for n in range(len(widths) - 1)
        )
        self.attention = SelfAttention(4 * width, kv_pool, budget, grid)
        self.to_logits = nn.Conv2d(widths[-1], 1, 4, 1, 1)
        self.norm: DetailNorm = norm
        init_normal(self)
        normalise_spectrally(self)

    def forward(self, shown: Shown) -> list[Tensor]:
        """The features of the strided convolutions, of the attention and of the convolution after it, then logits."""
        first, *strided, last = self.convs
        assert isinstance(first, nn.Conv2d)
        found = [F.leaky_relu(layer(first, *shown) if isinstance(shown, tuple) else first(shown), 0.2)]
        for conv in strided:
            found.append(self._activated(conv(found[-1])))
        found.append(self.attention(found[-1]))
        found.append(self._activated(last(found[-1])))
        return [*found, self.to_logits(found[-1])]

    def _activated(self, x: Tensor) -> Tensor:
        return F.leaky_relu(instance_norm(x) if self.norm == "instance" else x, 0.2)


def discriminators(
    kind: Kind,
    channels: int,
    width: int = 64,
    scales: int = 2,
    *,
    strided: int = 3,
    spectral: bool = False,
    detail_norm: DetailNorm = "none",
    attention_mode: AttentionMode = "full_image",
    attention_budget: int = BUDGET,
    kv_pool: int = 0,
    crop: int = 512,
    crops: int = 2,
    grid: int = 4096,
) -> MultiScaleDiscriminator:
    """The discriminators of that kind, the finest first, with first weights: N(0, 0.02), biases 0.

    Args:
        kind: `multiscale`: patches at all scales; `hybrid`: the finest has self-attention in their place; `attention`:
            that one alone, whatever `scales` says.
        channels: of the pictures, with those of what they were asked by.
        width: features of the first convolution of each.
        scales: how many there are, as `check_discriminators` allows.
        strided: convolutions of stride 2 of those that judge patches.
        spectral: whether those that judge patches have spectral norm besides; the one with attention always has.
        detail_norm: instance norm where there is attention, or none.
        attention_mode: what attention goes over; with `crop`, passes are shown windows (`draw_windows`).
        attention_budget: scores of one picture, up to which keys are not pooled further.
        kv_pool: side of the squares that keys and values are pooled by; 0: by the budget.
        crop: side of windows, in pixels, with `crop`.
        crops: windows of each picture, with `crop`.
        grid: most places that attention goes over, with `grid`.
    """
    if kind == "multiscale":
        return MultiScaleDiscriminator(channels, width, scales, strided, spectral)
    places = grid if attention_mode == "grid" else 0
    side = crop if attention_mode == "crop" else 0
    detail = DetailDiscriminator(channels, width, detail_norm, kv_pool, attention_budget, places)
    scales = 1 if kind == "attention" else scales
    return MultiScaleDiscriminator(channels, width, scales, strided, spectral, detail, side, crops)


def least_side(kind: Kind, scales: int) -> int:
    """Pixels of the shorter side that all scales can judge."""
    coarsest = 2 ** (scales - 1) + 1  # two pixels a side are left: instance norm needs more than one
    return coarsest if kind == "multiscale" else 24 if kind == "attention" else max(24, coarsest)


def check_discriminators(kind: Kind, scales: int, strided: int, size: Size) -> None:
    """Refuse numbers of discriminators that there cannot be, and pictures that are too small for them.

    Raises:
        UserError: naming the flag of that name, its value and the bound.
    """
    fewest = 2 if kind == "hybrid" else 1  # one alone would be `attention`
    if not fewest <= scales <= MOST_SCALES:
        raise unfit("scales", scales, f"must be {fewest} to {MOST_SCALES} with --discriminator {kind}")
    if not 1 <= strided <= 5:
        raise unfit("strided", strided, "must be 1 to 5")
    least = least_side(kind, scales)
    if min(size) < least:
        raise unfit("size", tuple(size), f"--discriminator {kind} with --scales {scales} needs {least} pixels a side")


def attention_facts(network: MultiScaleDiscriminator, size: Size) -> dict[str, str]:
    """What self-attention goes over at that size, for the run's record; nothing where there is none."""
    detail = network.scales[0]
    if not isinstance(detail, DetailDiscriminator):
        return {}
    height, width = ((min(network.crop, n) if network.crop else n) // 8 for n in size)
    shrink = detail.attention.shrink(height, width)
    height, width = -(-height // shrink), -(-width // shrink)
    pool = detail.attention.pooling(height, width)
    keys = -(-height // pool) * -(-width // pool)
    return {"places that attention goes over": f"{height * width:,}, keys pooled by {pool} to {keys:,}"}
