"""The ways in which published numbers resized their images before a feature network saw them.

They differ enough to move a Fréchet distance by several points, so a number is only as good as the name of its filter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

Filter = Literal["tf1", "clean", "torch", "aa"]
FILTERS: tuple[Filter, ...] = get_args(Filter)


def resized(images: Float[Tensor, "n c h w"], size: tuple[int, int], how: Filter) -> Float[Tensor, "n c height width"]:
    """Images in 0..255 at another size, as float32, not rounded.

    Args:
        images: values in 0..255.
        size: height and width.
        how: `tf1`: TensorFlow 1's bilinear, corners aligned at 0, no antialiasing (the original FID and most of its
            ports); `clean`: Pillow's bicubic on floats, antialiased (Parmar et al. 2022); `torch`: bilinear of
            half-pixel centres, no antialiasing; `aa`: the same, antialiased.
    """
    images = images.float()
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    filters: dict[Filter, Callable[[Tensor, tuple[int, int]], Tensor]] = {
        "tf1": _tensorflow,
        "clean": _pillow,
        "torch": lambda x, s: F.interpolate(x, s, mode="bilinear", align_corners=False),
        "aa": lambda x, s: F.interpolate(x, s, mode="bilinear", align_corners=False, antialias=True),
    }
    return filters[how](images, size)


def _tensorflow(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Source place i * in / out, between it and the next pixel, the last repeated; columns first, as TensorFlow."""
    rows, columns = (_places(n, out, images.device) for n, out in zip(images.shape[-2:], size, strict=True))
    (top, bottom, down), (left, right, across) = rows, columns
    upper, lower = images[..., top, :], images[..., bottom, :]
    upper = upper[..., left] + (upper[..., right] - upper[..., left]) * across
    lower = lower[..., left] + (lower[..., right] - lower[..., left]) * across
    return upper + (lower - upper) * down[:, None]


def _places(length: int, out: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each output pixel: the source pixel before, the one after, and how far between them."""
    scale = np.float32(length) / np.float32(out)  # in float32, as there
    places = torch.arange(out, dtype=torch.float32, device=device) * float(scale)
    before = places.floor().long().clamp_max(length - 1)
    return before, (before + 1).clamp_max(length - 1), places - before


def _pillow(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Each channel as a float picture of its own, clipped to 0..255 and not rounded."""
    height, width = size
    planes = images.flatten(0, 1).cpu().numpy()
    made = [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BICUBIC)) for p in planes]
    stacked = torch.from_numpy(np.stack(made)).clamp(0, 255)
    return stacked.view(*images.shape[:2], height, width).to(images.device)
