"""Colours as lightness and two opponent axes: CIE L*a*b* under D65 (specification 2.9).

L is 0 to 100; of what sRGB can show, a is -86.2 to 98.3 and b -107.9 to 94.5. Networks see L / 50 - 1 and ab / 110,
which tanh can reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from photogram.errors import UserError
from photogram.scene import Condition, SceneSpec, Size

Predict = Literal["photo", "ab"]
"""What a generator paints: all of a photograph, or its colours alone, which are joined with the lightness asked by."""

AB = 110.0
"""What ab is divided by for a network."""
_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
_KNEE, _SLOPE, _SHIFT = 0.008856, 7.787, 16 / 116


def _times(matrix: Tensor, planes: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    with torch.autocast(planes.device.type, enabled=False):  # in bfloat16 colours are off by up to 20 of 255 levels
        return torch.einsum("oc,nchw->nohw", matrix.to(planes), planes)


def to_linear(rgb: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """sRGB in [-1, 1] to light in [0, 1]."""
    values = ((rgb + 1) / 2).clamp(0, 1)
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_linear(light: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Light in [0, 1], clipped, to sRGB in [-1, 1]."""
    light = light.clamp(0, 1)
    values = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-9) ** (1 / 2.4) - 0.055)
    return 2 * values - 1


def to_lab(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """sRGB in [-1, 1] to L, a and b."""
    white = torch.tensor(_WHITE, device=rgb.device, dtype=rgb.dtype)[:, None, None]
    t = _times(torch.tensor(_TO_XYZ, dtype=torch.float64), to_linear(rgb)) / white
    f = torch.where(t > _KNEE, t.clamp(min=_KNEE) ** (1 / 3), _SLOPE * t + _SHIFT)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def light_of(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """L, a and b to light, beyond [0, 1] where sRGB cannot show it."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp(min=0)], 1)
    t = torch.where(f > _SLOPE * _KNEE + _SHIFT, f**3, (f - _SHIFT) / _SLOPE)
    white = torch.tensor(_WHITE, device=lab.device, dtype=lab.dtype)[:, None, None]
    return _times(torch.tensor(_TO_XYZ, dtype=torch.float64).inverse(), t * white)


def from_lab(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """L, a and b to sRGB in [-1, 1]; what sRGB cannot show is clipped."""
    return from_linear(light_of(lab))


def _can_be_shown(lab: Float[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
    """Whether sRGB has a colour, but for rounding."""
    light = light_of(lab)
    return ((light >= -1e-5) & (light <= 1 + 1e-5)).all(1)


def within_srgb(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Colours that sRGB cannot show made paler until it can: L and hue stay, which clipping would change.

    Args:
        lab: whose L is 0 to 100.
    """
    beyond = ~_can_be_shown(lab)
    if not bool(beyond.any()):
        return lab
    pixels = lab.movedim(1, -1)[beyond].T[None, :, :, None]  # [1, 3, k, 1]: mostly few
    low = torch.zeros_like(pixels[:, :1])  # greys can always be shown
    high = torch.ones_like(low)
    for _ in range(12):  # to a fortieth of a unit of ab
        middle = (low + high) / 2
        fits = _can_be_shown(torch.cat([pixels[:, :1], middle * pixels[:, 1:]], 1))[:, None]
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    paler = torch.cat([pixels[:, :1], low * pixels[:, 1:]], 1)[0, :, :, 0].T
    return lab.movedim(1, -1).masked_scatter(beyond[..., None], paler).movedim(-1, 1)


def grey_of(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """The grey of the same lightness, in [-1, 1]."""
    weights = torch.tensor(_TO_XYZ[1], device=rgb.device, dtype=rgb.dtype)[:, None, None]
    return from_linear((to_linear(rgb) * weights).sum(1, keepdim=True))


def lightness_of(grey: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """L of a grey image in [-1, 1]."""
    return to_lab(grey.expand(-1, 3, -1, -1))[:, :1]


def seen_lightness(grey: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """L as a network sees it, in [-1, 1]."""
    return lightness_of(grey) / 50 - 1


def seen_colors(photo: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2 h w"]:
    """ab of a photograph as a network sees it, within [-0.981, 0.893]."""
    return to_lab(photo)[:, 1:] / AB


def colored(grey: Float[Tensor, "n 1 h w"], ab: Float[Tensor, "n 2 h2 w2"]) -> Float[Tensor, "n 3 h w"]:
    """A grey image in the colours that a network gave, which may be of a smaller size; its lightness stays.

    Colours too strong for that lightness become paler.
    """
    size = grey.shape[-2:]
    if ab.shape[-2:] != size:
        ab = F.interpolate(ab.float(), size, mode="bilinear", align_corners=False)
    return from_lab(within_srgb(torch.cat([lightness_of(grey.float()), AB * ab.float()], 1)))


def working_size(size: Size, trained: Size, multiple: int, least: int = 1) -> Size:
    """At which colours are predicted: about as many pixels as it was trained on, in the image's own aspect."""
    share = min(1.0, math.sqrt(trained[0] * trained[1] / (size[0] * size[1])))
    height, width = (max(least, multiple, round(share * n / multiple) * multiple) for n in size)
    return height, width


def as_trained(
    grey: Float[Tensor, "n 1 h w"], trained: Size, multiple: int, least: int = 1
) -> Float[Tensor, "n 1 h2 w2"]:
    """A grey image at the size at which colours are predicted (see `working_size`)."""
    size = (grey.shape[-2], grey.shape[-1])
    small = working_size(size, trained, multiple, least)
    return F.interpolate(grey, small, mode="bicubic", antialias=True).clamp(-1, 1) if small != size else grey


def painted(
    run: Callable[[Condition], Tensor], condition: Condition, spec: SceneSpec, multiple: int, least: int = 1
) -> Float[Tensor, "n 3 h w"]:
    """Colour a grey image at its own size by a network that predicts ab at about the size it was trained at.

    Args:
        run: gives ab / 110 of a condition whose image is L / 50 - 1.
        condition: whose image is grey, in [-1, 1].
        spec: what the network was trained on.
        multiple: sizes that it can do are multiples of this,
        least: and not below this, which is such a multiple.
    """
    grey = condition.image
    assert grey is not None  # `check_predict` refused others
    shown = as_trained(grey, spec.size, multiple, least)
    layout = None if condition.layout is None else condition.layout.resized((shown.shape[-2], shown.shape[-1]))
    return colored(grey, run(Condition(layout, seen_lightness(shown.float()))))


def check_predict(predict: Predict, spec: SceneSpec) -> None:
    """Refuse scenes that have no lightness or no colours.

    Raises:
        UserError: saying what there is.
    """
    if predict == "ab" and (spec.image_channels, spec.photo_channels) != (1, 3):
        raise UserError(
            f"--predict ab: colours grey images, but inputs have {spec.image_channels} channels and photographs "
            f"{spec.photo_channels}, not 1 and 3; `photogram prepare grey` makes such inputs of photographs"
        )
