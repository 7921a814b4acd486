"""The residual generator: two halvings, blocks that add to what they are given, two doublings.

J. Johnson, A. Alahi and L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016,
in the form of J.-Y. Zhu, T. Park, P. Isola and A. A. Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks", ICCV 2017, appendix 7.2 (specification 2.3). CycleGAN's generators, and pix2pix's second one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Generator, NoOptions
from photogram.nn.asked import LayoutAs, channels, entered
from photogram.nn.color import Predict, check_predict, painted
from photogram.nn.gradients import kept_or_computed_again
from photogram.nn.noise import NoiseOptions, dropped
from photogram.nn.norms import Norm, Statistics, norm_layer
from photogram.optim import init_normal
from photogram.scene import Condition, SceneSpec, Size

LEAST = 8
"""Pixels a side: of fewer the blocks would see one, which has no neighbour to reflect and no variance."""


class ResidualBlock(nn.Module):
    """conv3, norm, ReLU, conv3, norm, added to what came in; no ReLU after the sum.

    Args:
        channels: in and out.
        norm: batch or instance.
        dropout: whether half of the features may be dropped between the convolutions.
    """

    def __init__(self, channels: int, norm: Norm, dropout: bool):
        super().__init__()
        self.dropout = dropout
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=norm != "batch") for _ in range(2)
        )
        self.norms = nn.ModuleList(norm_layer(norm, channels) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "n c h w"], statistics: Statistics, dropout: bool, noise: torch.Generator | None
    ) -> Float[Tensor, "n c h w"]:
        y = F.relu(self.norms[0](self.convs[0](x), statistics), inplace=True)
        if dropout and self.dropout:
            y = dropped(y, noise)
        return x + self.norms[1](self.convs[1](y), statistics)


class ResNetGenerator(Generator):
    """Paint a layout, an image or both.

    7x7 convolution to `width` features, two 3x3 of stride 2 that double them, residual blocks, two transposed 3x3 of
    stride 2, a 7x7 convolution and tanh. The 7x7 convolutions and the blocks pad by reflection, the others with zeros.

    Args:
        spec: what the scenes share.
        width: features of the first convolution.
        blocks: residual blocks; 6 for 128 x 128, 9 for 256 x 256 and more.
        norm: batch or instance.
        dropout: whether blocks drop half of their features as noise.
        layout_as: one plane a class, or its colour.
        predict: the photograph, or its colours alone, which join the lightness of a grey image.
    """

    Options: ClassVar[type[NoOptions]] = NoiseOptions
    least_side: int = LEAST

    def __init__(
        self,
        *,
        spec: SceneSpec,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        dropout: bool = False,
        layout_as: LayoutAs = "planes",
        predict: Predict = "photo",
    ):
        super().__init__()
        check_resnet(width, blocks)
        check_predict(predict, spec)
        self.spec, self.width, self.blocks, self.dropout = spec, width, blocks, dropout
        self.norm: Norm = norm
        self.layout_as: LayoutAs = layout_as
        self.predict: Predict = predict
        widths, bias = (width, 2 * width, 4 * width), norm != "batch"  # batch norm shifts by itself
        steps, painted_channels = list(pairwise(widths)), spec.photo_channels if predict == "photo" else 2
        seen = channels(spec, layout_as)
        self.first = nn.Conv2d(seen, width, 7, padding=3, padding_mode="reflect", bias=bias)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1, bias=bias) for a, b in steps)
        self.body = nn.ModuleList(ResidualBlock(widths[-1], norm, dropout) for _ in range(blocks))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 3, 2, 1, 1, bias=bias) for a, b in reversed(steps))
        self.norms = nn.ModuleList(norm_layer(norm, c) for c in (*widths, *reversed(widths[:-1])))
        self.last = nn.Conv2d(width, painted_channels, 7, padding=3, padding_mode="reflect")
        init_normal(self)

    @property
    def size_multiple(self) -> int:
        return 4

    def forward(self, condition: Condition) -> Float[Tensor, "n c h w"]:
        """As in training: the statistics of the batch, and dropout by torch's own generator."""
        return self.run(condition, "batch", True, None)

    def run(
        self, condition: Condition, statistics: Statistics, dropout: bool, noise: torch.Generator | None
    ) -> Float[Tensor, "n c h w"]:
        """The pass, with every choice made by the caller."""
        x = entered(self.first, condition, self.spec, self.layout_as)
        norms = iter(self.norms)
        x = F.relu(next(norms)(x, statistics))
        for conv in self.down:
            x = F.relu(next(norms)(conv(x), statistics))
        again = self.checkpointing and self.norm == "instance" and not self.dropout  # nothing drawn or averaged twice
        for block in self.body:
            x = kept_or_computed_again(block, again, x, statistics, dropout, noise)
        for conv in self.up:
            x = F.relu(next(norms)(conv(x), statistics))
        return torch.tanh(self.last(x))

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert isinstance(options, NoiseOptions)  # `sample` has checked it

        def run(asked: Condition) -> Tensor:
            return self.run(asked, options.statistics, options.dropout, noise)

        return (
            run(condition) if self.predict == "photo" else painted(run, condition, self.spec, self.size_multiple, LEAST)
        )


def check_resnet(width: int, blocks: int) -> None:
    """Refuse networks that there cannot be.

    Raises:
        UserError: naming the flag, its value and the bound.
    """
    if width < 1:
        raise unfit("width", width, "must be 1 or more")
    if blocks < 0:
        raise unfit("blocks", blocks, "must be 0 or more")


def check_resnet_size(size: Size) -> None:
    """Refuse pictures too small to train at.

    Raises:
        UserError: naming the size and the bound.
    """
    if min(size) < LEAST:
        raise UserError(f"--size {size[0]} {size[1]}: the residual generator needs {LEAST} pixels a side or more")
