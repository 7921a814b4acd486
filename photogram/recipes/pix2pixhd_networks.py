"""pix2pixHD's networks: a coarse generator, enhancers around it for twice the size each, and an encoder of styles.

T.-C. Wang, M.-Y. Liu, J.-Y. Zhu, A. Tao, J. Kautz and B. Catanzaro, "High-Resolution Image Synthesis and Semantic
Manipulation with Conditional GANs", CVPR 2018, sections 3.2 to 3.4 (specification 4.2, 4.3, 4.6). Read this file before
`pix2pixhd.py`, which trains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.nn.attention import SelfAttention
from photogram.nn.gradients import kept_or_computed_again
from photogram.nn.halved import halved
from photogram.nn.layout_conv import LayoutLevel, layer
from photogram.nn.norms import instance_norm
from photogram.nn.regions import By, Regions, boundaries, pooled, spread
from photogram.nn.resnet import ResidualBlock
from photogram.optim import init_normal
from photogram.scene import Condition, Layout, Scene, SceneSpec
from photogram.styled import StyledGenerator

Boundary = Literal["auto", "objects", "classes", "none"]
"""What the edge channel marks: borders of objects and classes, of classes alone, or there is none; auto: of objects
where there are instance maps, of classes where there are layouts."""
Pad = Literal["zeros", "reflect"]
"""What the strided convolutions see beyond the border."""
Upsample = Literal["deconv", "nearest", "bilinear"]
"""How sizes are doubled: a transposed convolution, or an enlargement before a plain one."""
Pyramid = Literal["average", "nearest"]
"""What coarser networks are asked by: averages of all planes, or the layout in their size, as they first learned it."""
Asked = tuple[LayoutLevel | Float[Tensor, "_ _ _ _"] | None, Float[Tensor, "_ _ _ _"] | None]
"""A layout and channels beside it, either of which may be missing."""


class CoarseToFineGenerator(StyledGenerator):
    """Paint a layout: a residual network at the coarsest size, and enhancers that each double it.

    Each enhancer halves what it is asked by, adds what the network before it made of the same size, and doubles that.
    7x7 convolutions and blocks pad by reflection; every convolution has a bias, and instance norm no scale.

    Args:
        spec: what the scenes share.
        width: features of the coarse generator at its full size; an enhancer has half as many as the one before.
        enhancers: 0 for the coarse generator alone; each doubles the size.
        downsamplings: halvings of the coarse generator; its features double with each.
        blocks: residual blocks of the coarse generator.
        enhancer_blocks: residual blocks of each enhancer.
        boundary: what the edge channel marks.
        style_channels: numbers of a style, as channels beside the layout; 0: none.
        style_by: what has a style, each object or each class.
        encoder_width: features of the encoder's first convolution.
        encoder_shrink: the encoder reads photographs at this fraction of their size; 1: as they are.
        encodes: whether it has the encoder; a network that others published may have come without.
        clusters: the most that a class can have.
        pad: of the strided convolutions.
        upsample: how sizes are doubled.
        pyramid: what coarser networks are asked by.
        attention: self-attention in the middle of the coarse generator's blocks, which at first changes nothing
            (specification 6.6).
    """

    def __init__(
        self,
        *,
        spec: SceneSpec,
        width: int = 64,
        enhancers: int = 0,
        downsamplings: int = 4,
        blocks: int = 9,
        enhancer_blocks: int = 3,
        boundary: Boundary = "auto",
        style_channels: int = 0,
        style_by: By = "objects",
        encoder_width: int = 16,
        encoder_shrink: int = 1,
        encodes: bool = True,
        clusters: int = 10,
        pad: Pad = "zeros",
        upsample: Upsample = "deconv",
        pyramid: Pyramid = "average",
        attention: bool = False,
    ):
        super().__init__()
        sizes = {"width": width, "downsamplings": downsamplings, "encoder_width": encoder_width, "clusters": clusters}
        check_networks(
            **sizes, enhancers=enhancers, blocks=blocks, enhancer_blocks=enhancer_blocks, attention=attention
        )
        if boundary == "auto":
            boundary = "objects" if spec.instances else "classes" if spec.num_classes else "none"
        check_seen(spec, boundary, style_channels, style_by)
        if encoder_shrink not in {2**n for n in range(enhancers + 1)}:
            raise unfit("encoder_shrink", encoder_shrink, f"must be a power of 2, at most 2^enhancers ({2**enhancers})")
        self.spec, self.width, self.enhancers = spec, width, enhancers
        self.downsamplings, self.blocks, self.enhancer_blocks = downsamplings, blocks, enhancer_blocks
        self.style_channels = style_channels
        self.style_by: By = style_by
        self.encoder_width, self.encoder_shrink, self.clusters = encoder_width, encoder_shrink, clusters
        self.encodes = encodes
        self.boundary: Boundary = boundary
        self.pad: Pad = pad
        self.upsample: Upsample = upsample
        self.pyramid: Pyramid = pyramid
        self.attention = attention
        self.pads_with_void = False  # a border of void would be a border of an object, and training shows none there
        self.least_side = 2 * self.size_multiple  # blocks reflect, and have a variance, from two pixels a side on
        self.needs_objects = "objects" in (boundary, style_by if style_channels else "")
        channels = spec.num_classes + spec.image_channels + (boundary != "none") + style_channels
        self.coarse = CoarseNetwork(channels, width, downsamplings, blocks, pad, upsample, attention)
        self.finer = nn.ModuleList(
            Enhancer(channels, width >> n, enhancer_blocks, pad, upsample) for n in range(1, enhancers + 1)
        )
        self.last = _conv7(width >> enhancers, spec.photo_channels)
        self.encoder = None
        if style_channels and encodes:
            self.encoder = FeatureEncoder(spec.photo_channels, encoder_width, downsamplings, style_channels)
        self.add_clusters(spec.num_classes, clusters, style_channels)
        init_normal(self)
        # As convolutions want their weights, which saves turning them each time; published ones are read into the same.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @property
    def size_multiple(self) -> int:
        return 2 ** (self.downsamplings + self.enhancers)

    def asked(self, condition: Condition, features: Float[Tensor, "n f h w"] | None) -> list[Asked]:
        """What each network is asked by, from the finest to the coarsest."""
        found = [self.asked_alone(condition, features)]
        for n in range(1, self.enhancers + 1):
            if self.pyramid == "average":
                found.append(averaged(found[-1]))
            else:
                found.append(self.asked_alone(*_smaller(condition, features, 2**n)))
        return found

    def asked_alone(self, condition: Condition, features: Float[Tensor, "n f h w"] | None) -> Asked:
        """A layout, and beside it image, edges and styles, at one size."""
        layout, image = condition
        beside = [] if image is None else [image.float()]
        if layout is not None and self.boundary != "none":
            beside.append(boundaries(layout, "classes" if self.boundary == "classes" else "objects"))
        if features is not None:
            beside.append(features.float())
        planes = None if layout is None else LayoutLevel(layout.classes, self.spec.num_classes)
        return planes, torch.cat(beside, 1) if beside else None

    def before_last(self, asked: Sequence[Asked]) -> Float[Tensor, "n c h2 w2"]:
        """What all networks but the outermost enhancer make of it; of a coarse generator alone, all."""
        x = self.coarse(asked[-1], self.checkpointing)
        for enhancer, one in zip(list(self.finer)[:-1], asked[-2:0:-1], strict=True):
            x = enhancer(one, x, self.checkpointing)
        return x

    def finished(self, asked: Sequence[Asked], x: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, "n p h w"]:
        """The photograph, by the outermost enhancer, where there is one, and the last convolution."""
        if self.enhancers:
            x = self.finer[-1](asked[0], x, self.checkpointing)
        return torch.tanh(self.last(x))

    def forward(
        self, condition: Condition, features: Float[Tensor, "n f h w"] | None = None
    ) -> Float[Tensor, "n c h w"]:
        multiple = self.size_multiple
        if condition.size is not None and any(side % multiple for side in condition.size):
            height, width = condition.size
            raise UserError(f"{height} x {width}: heights and widths must be multiples of {multiple}; `sample` pads")
        asked = self.asked(condition, features)
        return self.finished(asked, self.before_last(asked))

    def painted(self, condition: Condition, features: Float[Tensor, "n f h w"] | None) -> Float[Tensor, "n c h w"]:
        return self(condition, features)

    def encoded(self, photo: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f h w"]:
        if self.encoder is None:
            raise UserError(
                "this network has no encoder, so it cannot take styles from photographs; draw them from its clusters, "
                "or import it again together with latest_net_E.pth"
            )
        if self.encoder_shrink == 1:
            return self.encoder(photo)
        small = F.interpolate(photo, scale_factor=1 / self.encoder_shrink, mode="bilinear", antialias=True)
        return F.interpolate(self.encoder(small), scale_factor=self.encoder_shrink, mode="nearest")


class CoarseNetwork(nn.Module):
    """G1 without its last convolution: 7x7, halvings, residual blocks, doublings, each with instance norm and ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        downsamplings: int,
        blocks: int,
        pad: Pad,
        upsample: Upsample,
        attention: bool,
    ):
        super().__init__()
        widths = [width << n for n in range(downsamplings + 1)]
        self.first = _conv7(channels, width)
        self.down = nn.ModuleList(_halving(a, b, pad) for a, b in pairwise(widths))
        self.body = nn.ModuleList(ResidualBlock(widths[-1], "instance", False) for _ in range(blocks))
        self.attention = SelfAttention(widths[-1]) if attention else None
        self.up = nn.ModuleList(Doubling(b, a, pad, upsample) for a, b in reversed(list(pairwise(widths))))

    def forward(self, asked: Asked, checkpointing: bool) -> Float[Tensor, "n c h w"]:
        x = normed(entered(self.first, asked))
        for conv in self.down:
            x = normed(conv(x))
        for n, block in enumerate(self.body, start=1):
            x = kept_or_computed_again(block, checkpointing, x, "image", False, None)
            if self.attention is not None and n == (len(self.body) + 1) // 2:
                x = self.attention(x)
        for double in self.up:
            x = normed(double(x))
        return x


class Enhancer(nn.Module):
    """A local enhancer: halve what is asked, add what the coarser network made, residual blocks, double.

    Args:
        channels: of what is asked.
        width: features at its full size; twice as many at half.
        blocks: residual blocks.
        pad, upsample: as in `CoarseToFineGenerator`.
    """

    def __init__(self, channels: int, width: int, blocks: int, pad: Pad, upsample: Upsample):
        super().__init__()
        self.first = _conv7(channels, width)
        self.down = _halving(width, 2 * width, pad)
        self.body = nn.ModuleList(ResidualBlock(2 * width, "instance", False) for _ in range(blocks))
        self.up = Doubling(2 * width, width, pad, upsample)

    def forward(
        self, asked: Asked, coarser: Float[Tensor, "n c h2 w2"], checkpointing: bool
    ) -> Float[Tensor, "n d h w"]:
        x = normed(self.down(normed(entered(self.first, asked)))) + coarser
        for block in self.body:
            x = kept_or_computed_again(block, checkpointing, x, "image", False, None)
        return normed(self.up(x))


class FeatureEncoder(nn.Module):
    """E: of a photograph, a few numbers at each pixel, which are then averaged over each object (section 3.4)."""

    def __init__(self, channels: int, width: int, downsamplings: int, features: int):
        super().__init__()
        widths = [width << n for n in range(downsamplings + 1)]
        self.first = _conv7(channels, width)
        self.down = nn.ModuleList(_halving(a, b, "zeros") for a, b in pairwise(widths))
        self.up = nn.ModuleList(Doubling(b, a, "zeros", "deconv") for a, b in reversed(list(pairwise(widths))))
        self.last = _conv7(width, features)

    def forward(self, photo: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f h w"]:
        x = normed(self.first(photo))
        for conv in (*self.down, *self.up):
            x = normed(conv(x))
        return torch.tanh(self.last(x))


class Playing(nn.Module):
    """A painting as training makes it: styles read from the photograph, all networks, some of them frozen."""

    def __init__(self, generator: CoarseToFineGenerator, train_encoder: bool):
        super().__init__()
        self.generator, self.train_encoder, self.frozen = generator, train_encoder, False
        self.read: tuple[Tensor, Regions] | None = None  # the styles that were read last
        if generator.encoder is not None:
            generator.encoder.requires_grad_(train_encoder)

    def freeze(self, frozen: bool) -> None:
        """Let all but the outermost enhancer, the last convolution and the encoder learn, or not."""
        self.frozen = frozen
        for part in (self.generator.coarse, *list(self.generator.finer)[:-1]):
            part.requires_grad_(not frozen)

    def forward(self, scene: Scene) -> Float[Tensor, "n c h w"]:
        generator, features = self.generator, None
        learning = generator.encoder is not None and self.train_encoder
        if generator.encoder is not None:
            assert scene.photo is not None and scene.condition.layout is not None
            regions = generator.regions(scene.condition.layout)
            with torch.set_grad_enabled(torch.is_grad_enabled() and learning):
                seen = generator.encoded(scene.photo)
            styles = pooled(seen, regions)
            self.read, features = (styles.detach(), regions), spread(styles, regions)
        asked = generator.asked(scene.condition, features)
        # Of what is frozen nothing is kept, but where a gradient must reach the encoder through it.
        with torch.set_grad_enabled(torch.is_grad_enabled() and (learning or not self.frozen)):
            inner = generator.before_last(asked)
        return generator.finished(asked, inner)


class Doubling(nn.Module):
    """To twice the size: a transposed 3x3 convolution, as published, or an enlargement before a plain one."""

    def __init__(self, channels: int, out: int, pad: Pad, upsample: Upsample):
        super().__init__()
        self.upsample: Upsample = upsample
        if upsample == "deconv":
            self.conv = nn.ConvTranspose2d(channels, out, 3, 2, 1, 1)
        else:
            self.conv = nn.Conv2d(channels, out, 3, padding=1, padding_mode=pad)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        if self.upsample == "nearest":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        elif self.upsample == "bilinear":
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(x)


def _conv7(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 7, padding=3, padding_mode="reflect")


def _halving(channels: int, out: int, pad: Pad) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, 2, 1, padding_mode=pad)


def normed(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Instance norm without a scale, and ReLU."""
    return F.relu(instance_norm(x), inplace=True)


def entered(conv: nn.Conv2d, asked: Asked) -> Float[Tensor, "n o h2 w2"]:
    """What a network's first convolution makes of what it is asked by."""
    layout, beside = asked
    if layout is None:
        assert beside is not None
        return conv(beside)
    return layer(conv, layout, beside)


def averaged(asked: Asked) -> Asked:
    """What is asked, in planes of half the size."""
    layout, beside = asked
    return None if layout is None else halved(layout), None if beside is None else halved(beside)


def _smaller(
    condition: Condition, features: Float[Tensor, "n f h w"] | None, factor: int
) -> tuple[Condition, Float[Tensor, "n f h2 w2"] | None]:
    """At a fraction of the size as a data folder would give it: integers and styles nearest, images averaged."""
    layout, image = condition
    if layout is not None:
        objects = None if layout.instances is None else _nearest(layout.instances, factor)
        layout = Layout(_nearest(layout.classes, factor), objects)
    if image is not None:
        image = F.interpolate(image, scale_factor=1 / factor, mode="bicubic", antialias=True).clamp(-1, 1)
    return Condition(layout, image), None if features is None else _nearest(features, factor)


def _nearest(maps: Tensor, factor: int) -> Tensor:
    """The rule of `photogram.images.resize_labels`, for whole factors."""
    return maps[..., factor // 2 :: factor, factor // 2 :: factor]


def check_networks(
    width: int,
    enhancers: int,
    downsamplings: int,
    blocks: int,
    enhancer_blocks: int,
    encoder_width: int = 16,
    clusters: int = 10,
    attention: bool = False,
) -> None:
    """Refuse networks that there cannot be.

    Raises:
        UserError: naming the flag, its value and the bound.
    """
    least = {"width": 1, "encoder_width": 1, "clusters": 1, "blocks": 0, "enhancer_blocks": 0, "enhancers": 0}
    values = (width, encoder_width, clusters, blocks, enhancer_blocks, enhancers)
    for (name, bound), value in zip(least.items(), values, strict=True):
        if value < bound:
            raise unfit(name, value, f"must be {bound} or more")
    if attention and not blocks:
        raise UserError("--generator-attention stands between blocks; give --blocks 1 or more")
    if not 1 <= downsamplings <= 8:
        raise unfit("downsamplings", downsamplings, "must be 1 to 8")
    if width % 2**enhancers:
        raise unfit("width", width, f"must be a multiple of 2^enhancers ({2**enhancers}): each enhancer has half of it")


def check_seen(spec: SceneSpec, boundary: Boundary, style_channels: int, style_by: By) -> None:
    """Refuse networks that ask for what scenes do not have.

    Raises:
        UserError: naming what is missing and what to do.
    """
    for name, value, kind in (("boundary", boundary, Boundary), ("style_by", style_by, By)):
        if value not in get_args(kind):
            raise unfit(name, value, f"must be one of {', '.join(get_args(kind))}")
    if not spec.num_classes and not spec.image_channels:
        raise UserError("pix2pixHD paints layouts or images, but this data has photographs alone")
    if not spec.num_classes and (boundary != "none" or style_channels):
        raise UserError(
            "this data has images and no layouts, so there are no borders and no objects: give --boundary none "
            "--features none"
        )
    for flag, by in (("--boundary", boundary), ("--features", style_by if style_channels else "none")):
        if by == "objects" and not spec.instances:
            raise UserError(
                f"{flag} objects: this data has no instance maps (or some scenes lack one); give {flag} classes or none"
            )
