"""How much paintings of one layout differ from each other, and frames of one shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.metrics.lpips import LPIPS


def diversity(samples: Sequence[Float[Tensor, "n c h w"]], lpips: LPIPS) -> Float[Tensor, " n"]:
    """The mean distance between all pairs of paintings of each layout (Zhu et al. 2017, BicycleGAN); 0 where equal.

    Args:
        samples: paintings of the same n layouts, from two seeds or more, in [-1, 1].
        lpips: the distance.

    Raises:
        ValueError: for fewer than two paintings of a layout.
    """
    if len(samples) < 2:
        raise ValueError(f"diversity needs two paintings of a layout or more, not {len(samples)}")
    pairs = [lpips(a, b) for a, b in combinations(samples, 2)]
    return torch.stack(pairs).mean(0).double()


@dataclass(frozen=True)
class Flicker:
    """Mean change of a pixel between frames, in grey levels (0..255), where its class stays the same."""

    images: Float[Tensor, " n"]
    """Of each pair of neighbouring frames."""
    photographs: Float[Tensor, " n"]
    """The same of what was filmed: things move there too, so that this much is no flicker."""


def flicker(
    images: Float[Tensor, "n c h w"], photos: Float[Tensor, "n c h w"], layouts: Int[Tensor, "n h w"]
) -> Flicker:
    """How restless the frames of a shot are beside the shot itself.

    A network that paints each frame by itself may change what stays; where the class of a pixel is the same in both
    frames, most of the change beyond that of the photographs is flicker. No motion is followed: compare only numbers
    of the same shot.

    Raises:
        ValueError: for fewer than two frames, or frames that differ in number or size.
    """
    if len(images) < 2 or not len(images) == len(photos) == len(layouts):
        raise ValueError(f"flicker needs two frames or more of each, not {len(images)}, {len(photos)}, {len(layouts)}")
    same = layouts[1:] == layouts[:-1]
    area = same.sum((1, 2))

    def change(frames: Tensor) -> Tensor:
        moved = 127.5 * (frames[1:].double() - frames[:-1].double()).abs().mean(1)
        return torch.where(area > 0, (moved * same).sum((1, 2)) / area.clamp_min(1), float("nan"))

    return Flicker(change(images), change(photos))
