"""Random jitter: enlarge a scene a little and cut a window of its size, as pix2pix does (section 6.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Integer
from torch import Tensor

from photogram.scene import Condition, Layout, Scene, Size

Windows = list[tuple[slice, slice]]


def jittered(scene: Scene, jitter: float, together: bool = True) -> Scene:
    """Enlarged by the share `jitter`, then a window of the old size cut out, each scene by draws of its own.

    Class indices and object numbers by the nearest rule, images and photographs bicubic.

    Args:
        scene: with a photograph.
        jitter: 0 leaves it as it is.
        together: whether condition and photograph show the same place and get the same window.
    """
    (layout, image), photo = scene
    assert photo is not None
    size = (photo.shape[-2], photo.shape[-1])
    large = (round(size[0] * (1 + jitter)), round(size[1] * (1 + jitter)))
    if large == size:
        return scene
    windows = _windows(len(photo), size, large)
    others = windows if together else _windows(len(photo), size, large)
    if layout is not None:
        classes, objects = layout
        objects = None if objects is None else _cut(_nearest(objects, large), windows)
        layout = Layout(_cut(_nearest(classes, large), windows), objects)
    if image is not None:
        image = _cut(_enlarged(image, large), windows)
    return Scene(Condition(layout, image), _cut(_enlarged(photo, large), others))


def _windows(count: int, size: Size, large: Size) -> Windows:
    tops, lefts = (torch.randint(b - a + 1, (count,)).tolist() for a, b in zip(size, large, strict=True))
    return [(slice(t, t + size[0]), slice(s, s + size[1])) for t, s in zip(tops, lefts, strict=True)]


def _nearest(maps: Integer[Tensor, "n h w"], size: Size) -> Integer[Tensor, "n H W"]:
    rows, columns = (
        ((2 * torch.arange(out, device=maps.device) + 1) * n) // (2 * out)
        for n, out in zip(maps.shape[1:], size, strict=True)
    )
    return maps[:, rows[:, None], columns]


def _enlarged(image: Tensor, size: Size) -> Tensor:
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)


def _cut(planes: Tensor, windows: Windows) -> Tensor:
    return torch.stack([one[..., *window] for one, window in zip(planes, windows, strict=True)])
