"""Two of the systems that Cascaded Refinement Networks were compared with, under the same loss.

Q. Chen and V. Koltun, ICCV 2017, section 4 ("full-resolution network", "encoder-decoder"). The paper describes them in
words; where it gives no figure, ours are a reconstruction, and the docstrings say which.

The other three: `crn --perceptual none` (image-space loss), `pix2pix` (Isola et al.), `gan-segmentation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, flag
from photogram.generator import Generator, Network
from photogram.nn.gradients import kept_or_computed_again
from photogram.nn.layout_conv import LayoutLevel, pyramid
from photogram.nn.strips import upsampled
from photogram.recipe import LearnsFrom, Run, layouts_alone, start_from
from photogram.recipes.crn import (
    RefinementModule,
    Regression,
    RegressionTraining,
    are_widths,
    begin,
)
from photogram.scene import Condition, Layout, SceneSpec, Size


class FullResolutionNetwork(Generator):
    """Every layer at full resolution: dilated convolutions, to which the layout is given again at each stage.

    After the multi-scale context aggregation of Yu and Koltun (2016). The paper says that the layout enters at six
    resolutions; width and dilations are ours.

    Args:
        spec: what the scenes share.
        width: features of every layer.
        dilations: of each stage; stage j sees the layout area-averaged by 2^(stages - 1 - j).
    """

    def __init__(self, *, spec: SceneSpec, width: int, dilations: tuple[int, ...]):
        super().__init__()
        if type(width) is not int or width < 1 or not are_widths(dilations):
            raise UserError(f"width {width}, dilations {dilations}: must be positive integers, one dilation or more")
        self.spec, self.width, self.dilations = spec, width, dilations
        inputs = (0, *(width,) * (len(dilations) - 1))
        stages = zip(inputs, dilations, strict=True)
        self.stages = nn.ModuleList(RefinementModule(c_in, spec.num_classes, width, d) for c_in, d in stages)
        self.to_rgb = nn.Conv2d(width, spec.photo_channels, 1)
        begin(self)

    @property
    def size_multiple(self) -> int:
        return 2 ** (len(self.dilations) - 1)

    def forward(self, layout: Layout) -> Float[Tensor, "n 1 c h w"]:
        size, x = (layout.classes.shape[1], layout.classes.shape[2]), None
        levels = pyramid(layout.classes, self.spec.num_classes, len(self.stages))
        for stage, level in zip(self.stages, levels, strict=True):
            x = kept_or_computed_again(self._refined, self.checkpointing, stage, x, level, size)
        return self.to_rgb(x)[:, None]

    def _refined(self, stage: nn.Module, x: Tensor | None, level: LayoutLevel, size: Size) -> Tensor:
        """A stage, shown its layout at full size: as integers, or coarse planes that are enlarged."""
        if level.factor == 1:
            return stage(x, level)
        return stage(x, upsampled(level.planes.to(self.to_rgb.weight.dtype), size))

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert condition.layout is not None  # `sample` has checked it
        return self(condition.layout)[:, 0]


class EncoderDecoderNetwork(Generator):
    """Down to a few pixels and up again; the layout enters at full resolution alone.

    The paper calls it u-net style; the encoder's widths are ours, the decoder's are the cascade's.

    Args:
        spec: what the scenes share.
        down: features of each level of the encoder, from fine to coarse; between two the size halves.
        up: features of each level of the decoder, from the second coarsest to the finest.
        no_skips: leaves out what a level of the decoder also sees, the encoder's of its size.
    """

    def __init__(self, *, spec: SceneSpec, down: tuple[int, ...], up: tuple[int, ...], no_skips: bool = False):
        super().__init__()
        if not are_widths(down) or not are_widths(up) or len(down) != len(up) + 1:
            raise UserError(f"down {down}, up {up}: must be positive integers, one more down than up")
        self.spec, self.down, self.up, self.no_skips = spec, down, up, no_skips
        levels = zip((spec.num_classes, *down), down, strict=False)
        self.encoder = nn.ModuleList(RefinementModule(0, c_in, c_out) for c_in, c_out in levels)
        beside = (0,) * len(up) if no_skips else down[-2::-1]
        above = zip((down[-1], *up), beside, up, strict=False)
        modules = (
            RefinementModule(0, c_in, c_out) if no_skips else RefinementModule(c_in, c_skip, c_out)
            for c_in, c_skip, c_out in above
        )
        self.decoder = nn.ModuleList(modules)
        self.to_rgb = nn.Conv2d(up[-1], spec.photo_channels, 1)
        begin(self)

    @property
    def size_multiple(self) -> int:
        return 2 ** len(self.up)

    def forward(self, layout: Layout) -> Float[Tensor, "n 1 c h w"]:
        x: LayoutLevel | Tensor = LayoutLevel(layout.classes, self.spec.num_classes)
        seen: list[Tensor] = []
        for level in self.encoder:
            x = F.avg_pool2d(x, 2) if isinstance(x, Tensor) else x
            x = kept_or_computed_again(level, self.checkpointing, None, x)
            seen.append(x)
        for level, skip in zip(self.decoder, seen[-2::-1], strict=True):
            assert isinstance(x, Tensor)
            size = (skip.shape[-2], skip.shape[-1])
            inputs = (None, upsampled(x, size)) if self.no_skips else (x, skip)
            x = kept_or_computed_again(level, self.checkpointing, *inputs)
        return self.to_rgb(x)[:, None]

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert condition.layout is not None  # `sample` has checked it
        return self(condition.layout)[:, 0]


@dataclass(frozen=True)
class FullResolution(Regression):
    """The full-resolution baseline of Chen and Koltun 2017: dilated convolutions, nothing ever small."""

    networks: ClassVar[tuple[type[Network], ...]] = (FullResolutionNetwork,)
    learns_from: ClassVar[LearnsFrom] = "layouts"

    width: int = 128
    """Features of every layer."""
    dilations: tuple[int, ...] = (32, 16, 8, 4, 2, 1)
    """Of each stage. With six, the coarsest layout of a 256 x 512 picture is 8 x 16, as in the paper."""

    def check(self) -> None:
        super().check()
        if self.width < 1 or not are_widths(self.dilations):
            values = f"{flag('width', self.width)} {flag('dilations', self.dilations)}"
            raise UserError(f"{values}: must be positive integers, one dilation or more")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2 ** (len(self.dilations) - 1)

    def start(self, run: Run) -> RegressionTraining:
        self.check()
        layouts_alone(run, "full-resolution")
        generator = FullResolutionNetwork(spec=run.spec, width=self.width, dilations=self.dilations)
        start_from(run, generator)
        return RegressionTraining(self, run, generator)


@dataclass(frozen=True)
class EncoderDecoder(Regression):
    """The encoder-decoder baseline of Chen and Koltun 2017: the layout at full resolution alone, down and up again."""

    networks: ClassVar[tuple[type[Network], ...]] = (EncoderDecoderNetwork,)
    learns_from: ClassVar[LearnsFrom] = "layouts"

    down: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512)
    """Features of each level of the encoder, from fine to coarse."""
    up: tuple[int, ...] = (1024, 1024, 1024, 1024, 512, 512)
    """Features of each level of the decoder, from coarse to fine: one fewer."""
    no_skips: bool = False
    """Without the connections from each level of the encoder to that of the decoder of its size."""

    def check(self) -> None:
        super().check()
        if not are_widths(self.down) or not are_widths(self.up) or len(self.down) != len(self.up) + 1:
            values = f"{flag('down', self.down)} {flag('up', self.up)}"
            raise UserError(f"{values}: must be positive integers, one more down than up")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2 ** len(self.up)

    def start(self, run: Run) -> RegressionTraining:
        self.check()
        layouts_alone(run, "encoder-decoder")
        generator = EncoderDecoderNetwork(spec=run.spec, down=self.down, up=self.up, no_skips=self.no_skips)
        start_from(run, generator)
        return RegressionTraining(self, run, generator)
