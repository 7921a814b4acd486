"""What a network is asked for, as its first convolution takes it: a layout, an image, both or neither."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn.layout_conv import LayoutLevel, layer
from photogram.nn.patch import Shown
from photogram.scene import Condition, SceneSpec, from_pixels

LayoutAs = Literal["planes", "colors"]
"""A layout as one plane a class, or as the colours of its classes."""


def encoded(
    classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"], spec: SceneSpec, layout_as: LayoutAs
) -> LayoutLevel | Float[Tensor, "n c h w"]:
    """A layout as a network sees it: as of one plane a class, or three that hold the class's colour in [-1, 1]."""
    if layout_as == "planes":
        return LayoutLevel(classes, spec.num_classes)
    palette = from_pixels(np.array([[c.color for c in spec.classes]], dtype=np.uint8))[:, 0]
    planes = palette.to(classes.device)[:, classes.long()].movedim(0, 1)
    return planes.contiguous(memory_format=torch.channels_last)


def entered(conv: nn.Conv2d, condition: Condition, spec: SceneSpec, layout_as: LayoutAs) -> Float[Tensor, "n o h2 w2"]:
    """What a network's first convolution makes of the layout, the image or both."""
    layout, image = condition
    if layout is None:
        assert image is not None
        return conv(image)
    return layer(conv, encoded(layout.classes, spec, layout_as), image)


def beside(condition: Condition, picture: Float[Tensor, "n p h w"], spec: SceneSpec, layout_as: LayoutAs) -> Shown:
    """A picture with what it was asked by, for a discriminator."""
    layout, image = condition
    planes = picture if image is None else torch.cat([image.to(picture.dtype), picture], 1)
    return planes if layout is None else (encoded(layout.classes, spec, layout_as), planes)


def channels(spec: SceneSpec, layout_as: LayoutAs) -> int:
    """How many channels `entered` takes."""
    planes = spec.num_classes if layout_as == "planes" else 3
    return (planes if spec.num_classes else 0) + spec.image_channels


def check_colors(spec: SceneSpec, layout_as: LayoutAs) -> None:
    """Refuse colours that do not tell classes apart.

    Raises:
        UserError: naming two such classes.
    """
    if layout_as != "colors":
        return
    known: dict[tuple[int, int, int], str] = {}
    for one in spec.classes:
        if one.color in known:
            raise UserError(
                f"--layout-as colors: classes {known[one.color]!r} and {one.name!r} share the colour {one.color}; "
                "give one another in classes.json, or use planes"
            )
        known[one.color] = one.name
