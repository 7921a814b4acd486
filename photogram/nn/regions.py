"""Regions of layouts: the pixels of one class and one object. Where they meet, what is in them, what is put on them.

T.-C. Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018,
sections 3.3 (boundary maps) and 3.4 (instance-wise average pooling). The authors go by the object's number
alone, which in Cityscapes says the class too; we go by class and number, which is the same there, and right where all
that is no object has one number, 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.scene import Layout

By = Literal["objects", "classes"]
"""What makes a region: class and object number, or the class alone."""


class Regions(NamedTuple):
    """The regions of a batch of layouts, k of them, in the order of image, class and object number.

    Args:
        numbers: the region of each pixel, 0..k-1, counted over the batch.
        images: which layout of the batch each is in.
        classes: the class of each.
        objects: the object number of each; 0 where there are no instance maps, or they do not matter.
        pixels: how many each has, 1 or more.
    """

    numbers: Int[Tensor, "n h w"]
    images: Int[Tensor, " k"]
    classes: Int[Tensor, " k"]
    objects: Int[Tensor, " k"]
    pixels: Int[Tensor, " k"]


def find_regions(layout: Layout, by: By = "objects") -> Regions:
    """The regions of layouts. Object numbers are any integers of 32 bits."""
    n = len(layout.classes)
    key = _keys(layout, by) + (torch.arange(n, device=layout.classes.device) << 48).view(-1, 1, 1)
    found, index, pixels = torch.unique(key, return_inverse=True, return_counts=True)  # sorted
    objects = (found & 0xFFFFFFFF) - (1 << 31)
    return Regions(index, found >> 48, (found >> 32) & 0xFFFF, objects, pixels)


def boundaries(layout: Layout, by: By = "objects") -> Float[Tensor, "n 1 h w"]:
    """1 where a pixel's region differs from that of one of its four neighbours, else 0.

    Both sides of a border are marked; the image's own border is none.
    """
    key = _keys(layout, by)
    edge = torch.zeros(key.shape, dtype=torch.bool, device=key.device)
    across, down = key[:, :, 1:] != key[:, :, :-1], key[:, 1:] != key[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge.float()[:, None]


def pooled(features: Float[Tensor, "n c h w"], regions: Regions) -> Float[Tensor, "k c"]:
    """The mean of each region, in float32; each pixel's gradient is its region's, divided by the region's pixels.

    Summed in float64, where the device has it: of a region of a million pixels float32 is some 1e-5 off.
    """
    wide = torch.float32 if features.device.type == "mps" else torch.float64
    flat = features.permute(0, 2, 3, 1).flatten(0, 2).to(wide)
    sums = flat.new_zeros(len(regions.pixels), flat.shape[1]).index_add(0, regions.numbers.flatten(), flat)
    return (sums / regions.pixels[:, None]).float()


def spread(values: Float[Tensor, "k c"], regions: Regions) -> Float[Tensor, "n c h w"]:
    """Each region filled with its own values."""
    return values[regions.numbers].permute(0, 3, 1, 2)


def _keys(layout: Layout, by: By) -> Int[Tensor, "n h w"]:
    """A number for each pixel: 16 bits of class before 32 of object."""
    key = layout.classes.long() << 32
    if by == "classes" or layout.instances is None:
        return key + (1 << 31)
    return key + layout.instances.long() + (1 << 31)
