"""How near an image is to the photograph that it should be: PSNR, SSIM, MS-SSIM. All in float64, on images in 0..1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales of MS-SSIM (Wang et al. 2003)."""
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
MULTI_SCALE_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)
"""The shorter side must be above this for MS-SSIM."""


def psnr(image: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, " n"]:
    """10 log10(1 / mean squared error) of each image, over all its channels; in decibels, infinite where equal.

    Raises:
        ValueError: for different shapes.
    """
    _check(image, photo)
    return -10 * (image.double() - photo.double()).square().mean((1, 2, 3)).log10()


def ssim(image: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, " n"]:
    """Structural similarity of each image (Wang et al. 2004), 1 where equal.

    An 11 x 11 Gaussian window of standard deviation 1.5, biased variances, only windows that lie wholly inside (so no
    border is made up), the mean over channels.

    Raises:
        ValueError: for images smaller than the window, or of different shapes.
    """
    _check(image, photo)
    _check_side(image, WINDOW - 1, "SSIM")
    similarity, _ = _compare(image.double(), photo.double())
    return similarity.mean(1)


def ms_ssim(image: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, " n"]:
    """Multi-scale structural similarity of each image (Wang et al. 2003).

    Contrast and structure at four scales, all of SSIM at the fifth, each scale half the last by the mean of 2 x 2
    pixels (at an odd border, of what there is); negative terms count as 0; the mean over channels of the product.

    Raises:
        ValueError: for images of 160 pixels a side or less, or of different shapes.
    """
    _check(image, photo)
    _check_side(image, MULTI_SCALE_SIDE, "MS-SSIM")
    image, photo = image.double(), photo.double()
    product = image.new_ones(image.shape[:2])
    for scale, weight in enumerate(SCALE_WEIGHTS, start=1):
        similarity, contrast = _compare(image, photo)
        term = similarity if scale == len(SCALE_WEIGHTS) else contrast
        product = product * term.clamp_min(0) ** weight
        image, photo = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (image, photo))  # or 161 pixels would end as 10
    return product.mean(1)


def _compare(image: Tensor, photo: Tensor) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """The means over the image of SSIM, and of its contrast and structure terms alone."""
    means = _blur(torch.cat([image, photo, image * image, photo * photo, image * photo], 1))
    a, b, aa, bb, ab = means.chunk(5, 1)
    contrast = (2 * (ab - a * b) + C2) / (aa - a * a + bb - b * b + C2)
    similarity = (2 * a * b + C1) / (a * a + b * b + C1) * contrast
    return similarity.mean((2, 3)), contrast.mean((2, 3))


def _blur(x: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window, channels = window / window.sum(), x.shape[1]
    x = F.conv2d(x, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def _check(image: Tensor, photo: Tensor) -> None:
    if image.shape != photo.shape:
        raise ValueError(f"an image of {tuple(image.shape)} does not compare with one of {tuple(photo.shape)}")


def _check_side(image: Tensor, above: int, name: str) -> None:
    if min(image.shape[-2:]) <= above:
        height, width = image.shape[-2:]
        raise ValueError(f"{name} needs more than {above} pixels a side, not {height} x {width}")
