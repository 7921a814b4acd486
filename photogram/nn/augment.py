"""Differentiable augmentation: what the discriminator is shown is recoloured, moved and cut out, paintings too.

S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu and S. Han, "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS
2020. With few photographs the discriminator learns them by heart. Were photographs alone augmented, the generator would
learn to paint augmented pictures; so T is in all three places (equations 1 and 2), and gradients pass through it:

    D learns from D(T(photograph)) and D(T(painting)), G from D(T(painting))

T is one policy, drawn anew in each place and for each picture (section 3.2). Its parts, with the paper's bounds:

- color: brightness b added, -0.5 to 0.5; saturation 0 to 2 times; contrast 0.5 to 1.5 times; in that order.
- translation: up to an eighth of height and width each way, to the nearest pixel; what comes into view is 0.
- cutout: a window of half the height and width, anywhere, part of it perhaps outside, becomes 0.

The paper knows pictures alone. A discriminator that also sees what was asked for is shown both moved and cut alike, so
that they still belong together, while colours are the picture's alone. Where something is cut out or came into view
an image is 0; a layout is void where there is such a class, and else of no class: planes of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from photogram.errors import unfit
from photogram.nn.layout_conv import LayoutLevel
from photogram.nn.patch import Shown

Augmentation = Literal["color", "translation", "cutout"]
"""A part of the policy. The paper's for little data is all three."""

Shifts = Sequence[tuple[int, int]]
"""For each picture, by how many rows down and columns to the right it is moved."""

TRANSLATION = 1 / 8
CUTOUT = 1 / 2


def augmented(shown: Shown, policy: tuple[Augmentation, ...], channels: int, void: int | None) -> Shown:
    """What a discriminator is shown, under an augmentation drawn from torch's own generator.

    Colours come first, cutout last, in whatever order the policy names them.

    Args:
        shown: a picture, alone or with what it was asked by; in [-1, 1].
        policy: the parts that are on; none changes nothing.
        channels: of the picture, which are the last ones.
        void: the class of what is cut out of a layout or comes into view; None: no class.

    Returns:
        The same, differentiable by the picture. Colours may lie outside [-1, 1], as in the paper.
    """
    layout, planes = shown if isinstance(shown, tuple) else (None, shown)
    if "color" in policy:
        picture = recolored(planes[:, -channels:])
        planes = picture if planes.shape[1] == channels else torch.cat([planes[:, :-channels], picture], 1)
    size = (planes.shape[-2], planes.shape[-1])
    if "translation" in policy:
        shifts = _shifts(len(planes), size)
        planes = moved(planes, shifts, 0)
        layout = _moved_layout(layout, shifts, void)
    if "cutout" in policy:
        holes = _holes(len(planes), size).to(planes.device)
        planes = planes.masked_fill(holes[:, None], 0)
        layout = _cut_layout(layout, holes, void)
    return planes if layout is None else (layout, planes)


def recolored(picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Another brightness, saturation and contrast for each picture.

    Saturation is the distance of the channels from their mean, contrast that of all values from theirs.
    """
    draws = torch.rand(3, len(picture), 1, 1, 1).to(picture.device)
    brightness, saturation, contrast = draws[0] - 0.5, 2 * draws[1], draws[2] + 0.5
    picture = picture + brightness
    grey = picture.mean(1, keepdim=True)
    picture = grey + (picture - grey) * saturation
    mean = picture.mean((1, 2, 3), keepdim=True)
    return mean + (picture - mean) * contrast


def moved(maps: Shaped[Tensor, "n ... h w"], shifts: Shifts, value: int) -> Shaped[Tensor, "n ... h w"]:
    """Each map moved by its own shift; what comes into view has this value."""
    height, width = maps.shape[-2:]
    down, right = (max(abs(shift[axis]) for shift in shifts) for axis in (0, 1))
    padded = F.pad(maps, (right, right, down, down), value=value)
    windows = [(slice(down - y, down - y + height), slice(right - x, right - x + width)) for y, x in shifts]
    return torch.stack([one[..., *window] for one, window in zip(padded, windows, strict=True)])


def check_policy(name: str, policy: object) -> None:
    """Refuse parts that there are none of, and the same one twice.

    Raises:
        UserError: naming the flag, its value and what there is.
    """
    known = get_args(Augmentation)
    if not isinstance(policy, tuple) or any(part not in known for part in policy) or len({*policy}) < len(policy):
        raise unfit(name, policy, f"must be some of {', '.join(known)}, each once")


def _shifts(count: int, size: tuple[int, int]) -> Shifts:
    most = [int(n * TRANSLATION + 0.5) for n in size]
    rows, columns = (torch.randint(-n, n + 1, (count,)).tolist() for n in most)
    return list(zip(rows, columns, strict=True))


def _holes(count: int, size: tuple[int, int]) -> Bool[Tensor, "n h w"]:
    """Where each picture is cut out: the middle of the window is anywhere in the picture."""
    sides = []
    for length in size:
        cut = int(length * CUTOUT + 0.5)
        middles = torch.randint(0, length + 1 - cut % 2, (count, 1))
        places = torch.arange(length) - (middles - cut // 2)
        sides.append((places >= 0) & (places < cut))
    rows, columns = sides
    return rows[:, :, None] & columns[:, None, :]


Drawn = LayoutLevel | Float[Tensor, "n l h w"]
"""A layout as a discriminator sees it."""


def _moved_layout(layout: Drawn | None, shifts: Shifts, void: int | None) -> Drawn | None:
    if isinstance(layout, LayoutLevel) and void is not None:
        return LayoutLevel(moved(layout.classes, shifts, void), layout.num_classes)
    planes = layout.planes if isinstance(layout, LayoutLevel) else layout
    return None if planes is None else moved(planes, shifts, 0)


def _cut_layout(layout: Drawn | None, holes: Bool[Tensor, "n h w"], void: int | None) -> Drawn | None:
    if isinstance(layout, LayoutLevel) and void is not None:
        return LayoutLevel(layout.classes.masked_fill(holes, void), layout.num_classes)
    planes = layout.planes if isinstance(layout, LayoutLevel) else layout
    return None if planes is None else planes.masked_fill(holes[:, None], 0)
