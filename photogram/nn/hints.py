"""Colour hints: which pixels a person has coloured, as a network sees them; and people who are simulated.

R. Zhang, J.-Y. Zhu, P. Isola, X. Geng, A. S. Lin, T. Yu and A. A. Efros, "Real-Time User-Guided Image Colorization with
Learned Deep Priors", SIGGRAPH 2017, section 3.2 (specification 2.10). A hint is a square patch of one ab; where there
is none, ab is 0 and the mask says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from photogram.errors import UserError
from photogram.nn.color import AB
from photogram.scene import Size, shape


class Spot(NamedTuple):
    """A hint in numbers.

    Args:
        x: column of its middle, 0 for the leftmost pixel of the image.
        y: row of its middle, 0 for the topmost.
        radius: it reaches so many pixels to each side; 0 is one pixel.
        a: green to red, in [-110, 110].
        b: blue to yellow, in [-110, 110].
    """

    x: float
    y: float
    radius: float
    a: float
    b: float


class Hints(NamedTuple):
    """Hints of a batch as planes.

    Args:
        ab: the colour of hinted pixels, in [-110, 110]; 0 elsewhere.
        mask: 1 where there is a hint, else 0.
    """

    ab: Float[Tensor, "n 2 h w"]
    mask: Float[Tensor, "n 1 h w"]


def spots_of(numbers: Sequence[float]) -> list[Spot]:
    """Hints from a flat list of x, y, radius, a and b.

    Raises:
        UserError: where their count is no multiple of five, or one is out of bounds.
    """
    if len(numbers) % len(Spot._fields):
        raise UserError(f"hints: {len(numbers)} numbers; five make a hint: x, y, radius, a, b")
    spots = [Spot(*numbers[n : n + 5]) for n in range(0, len(numbers), 5)]
    for n, spot in enumerate(spots, start=1):
        check_spot(spot, f"hint {n}")
    return spots


def is_number(value: object) -> bool:
    """Whether it is an int or a float that may be a place: no bool, not nan, and no integer too long for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9


def check_spot(spot: Spot, called: str) -> None:
    """Refuse what is no hint, wherever it is meant to be.

    Args:
        spot: whose values may be of any type.
        called: what messages call it.

    Raises:
        UserError: naming the value and the bound.
    """
    for name, value in spot._asdict().items():
        if not is_number(value):
            raise UserError(f"{called}: {name} is {repr(value)[:40]}; it is a number, within 10^9 of 0")
    if spot.radius < 0:
        raise UserError(f"{called}: radius is {spot.radius:g}; it is 0 or more pixels")
    for name in ("a", "b"):
        if abs(getattr(spot, name)) > AB:
            raise UserError(f"{called}: {name} is {getattr(spot, name):g}; it is -110 to 110")


def check_places(spots: Sequence[Spot], size: Size) -> None:
    """Refuse hints whose middle is outside the image, or that are wider than it.

    Raises:
        UserError: naming the hint, the value and the bound.
    """
    for n, spot in enumerate(spots, start=1):
        for name, sides in (("x", size[1]), ("y", size[0])):
            if not 0 <= getattr(spot, name) <= sides - 1:
                at = f"hint {n}: {name} is {getattr(spot, name):g}"
                raise UserError(f"{at}, but the image is {shape(size)}; {name} is 0 to {sides - 1}")
        if spot.radius > max(size):
            raise UserError(f"hint {n}: radius is {spot.radius:g}, wider than the image of {shape(size)}")


def none(ab: Float[Tensor, "n 2 h w"]) -> Hints:
    """No hints, for colours of that size."""
    return Hints(torch.zeros_like(ab), torch.zeros_like(ab[:, :1]))


def _window(middle: float, radius: float, pixels: int, shown: int) -> slice:
    """Which of `shown` rows or columns a hint covers whose middle and radius are given in those of the image."""
    scale = shown / pixels
    side = min(shown, max(1, round((2 * radius + 1) * scale)))
    first = math.floor((middle + 0.5) * scale - side / 2 + 0.5)
    first = min(max(0, first), shown - side)
    return slice(first, first + side)


def drawn(spots: Sequence[Spot], size: Size, shown: Float[Tensor, "n c h w"]) -> Hints:
    """Hints as planes of the size at which a network sees the image; of two that overlap, the later is on top.

    Args:
        spots: in pixels of the image.
        size: the image's.
        shown: anything of the size that the network sees, and on its device.
    """
    hints = none(shown.new_zeros(len(shown), 2, *shown.shape[-2:]))
    for spot in spots:
        rows = _window(spot.y, spot.radius, size[0], shown.shape[-2])
        columns = _window(spot.x, spot.radius, size[1], shown.shape[-1])
        hints.ab[:, 0, rows, columns], hints.ab[:, 1, rows, columns] = spot.a, spot.b
        hints.mask[:, :, rows, columns] = 1
    return hints


def _corner(side: int, patch: int) -> int:
    """The first row or column of a patch: normal about the middle, within the image."""
    room = side - patch
    return round(min(max(0.0, room / 2 + room / 4 * float(torch.randn(()))), float(room)))


def simulated(ab: Float[Tensor, "n 2 h w"], p: float, widest: int, whole: float) -> Hints:
    """Hints as a person might give of these colours: for each image a number of patches, each of its mean colour.

    Everything is drawn from torch's own generator, on the processor: k patches with probability p (1 - p)^k; sides
    uniform in 1 .. `widest`; corners normal with mean (H - P) / 2 and deviation (H - P) / 4, clipped to the image.

    Args:
        ab: the photographs' colours.
        p: of the geometric distribution; its mean is (1 - p) / p, and 1 gives no hints.
        widest: the largest side of a patch, in pixels.
        whole: the share of images all of whose colours are given.
    """
    hints = none(ab)
    height, width = ab.shape[-2:]
    for image in range(len(ab)):
        if float(torch.rand(())) < whole:
            hints.ab[image], hints.mask[image] = ab[image], 1
            continue
        uniform = 1 - float(torch.rand((), dtype=torch.float64))  # above 0
        count = math.floor(math.log(uniform) / math.log1p(-p)) if p < 1 else 0
        for _ in range(count):
            side = int(torch.randint(1, min(widest, height, width) + 1, ()))
            top, left = _corner(height, side), _corner(width, side)
            patch = (image, slice(None), slice(top, top + side), slice(left, left + side))
            hints.ab[patch] = ab[patch].mean((1, 2), keepdim=True)
            hints.mask[patch] = 1
    return hints
