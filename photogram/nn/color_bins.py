"""Colours in bins: a grid of 10 units over ab, its histograms, and the few colours that a distribution suggests.

R. Zhang et al., "Real-Time User-Guided Image Colorization with Learned Deep Priors", SIGGRAPH 2017, sections 3.2 and
3.3 (specification 2.10). The grid is 23 x 23, with centres from -110 to 110; sRGB reaches 262 of its bins. The authors'
list of 313 is a published array that no rule gives, and is not taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from photogram.nn.color import AB, to_lab
from photogram.nn.kmeans import lloyd

SIDE, STEP = 23, 10.0
BINS = SIDE * SIDE
OVERALL = BINS + 3
"""Numbers that say what a whole photograph is like: see `overall_of`."""
SHARPNESS = 0.2
"""What logits are multiplied by before colours are suggested: rarer ones then come up too."""


def quarter(photo: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2 h4 w4"]:
    """ab of a photograph at a quarter of its size, averaged before the conversion."""
    return to_lab(F.avg_pool2d(photo, 4))[:, 1:]


def bin_of(ab: Float[Tensor, "n 2 h w"]) -> Int[Tensor, "n h w"]:
    """In which bin a colour is: 23 times that of a, and that of b."""
    a, b = ((ab + AB) / STEP).round().long().clamp(0, SIDE - 1).unbind(1)
    return SIDE * a + b


def centres() -> Float[Tensor, "529 2"]:
    """The colour in the middle of each bin, in float64."""
    axis = torch.arange(SIDE, dtype=torch.float64) * STEP - AB
    return torch.cartesian_prod(axis, axis)


def saturation(photo: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1"]:
    """The mean saturation of HSV: how far the weakest channel is below the strongest, as a share of it."""
    values = ((photo + 1) / 2).clamp(0, 1)
    strongest = values.amax(1)
    shares = torch.where(strongest > 0, (strongest - values.amin(1)) / strongest.clamp(min=1e-6), 0.0)
    return shares.mean((1, 2))[:, None]


def overall_of(photo: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 532"]:
    """What a photograph is like as a whole: shares of the bins and 1, mean saturation and 1.

    The ones say that what stands before them is known; see `revealed`.
    """
    classes = bin_of(quarter(photo)).flatten(1)
    shares = torch.zeros(len(photo), BINS, device=photo.device).scatter_add_(
        1, classes, torch.full(classes.shape, 1 / classes.shape[1], device=photo.device)
    )
    one = shares.new_ones(len(photo), 1)
    return torch.cat([shares, one, saturation(photo), one], 1)


def revealed(overall: Float[Tensor, "n 532"], shares: bool | Tensor, saturation: bool | Tensor) -> Tensor:
    """The same with what is not to be known at 0, its indicator included.

    Args:
        overall: see `overall_of`.
        shares: whether the shares of the bins are known: of all, or of each [n].
        saturation: whether the saturation is.
    """
    known = torch.ones_like(overall)
    known[:, : BINS + 1] *= torch.as_tensor(shares, device=overall.device).float().reshape(-1, 1)
    known[:, BINS + 1 :] *= torch.as_tensor(saturation, device=overall.device).float().reshape(-1, 1)
    return overall * known


def suggested(logits: Float[Tensor, " 529"], count: int = 5) -> list[tuple[float, float, float]]:
    """A few colours that stand for a distribution over bins: k-means of it, the most frequent first.

    The authors cluster 25,000 samples; here every bin weighs what it is likely, the limit of ever more samples, so that
    nothing is drawn. The first centre is the likeliest bin, each further one the bin of most likelihood times squared
    distance from those before.

    Args:
        logits: of one pixel.
        count: how many colours.

    Returns:
        a, b and the share of each; the shares make 1.
    """
    weights = (SHARPNESS * logits.detach().double().cpu()).softmax(0)
    points = centres()
    found = points[weights.argmax()][None]
    while len(found) < count:
        far = torch.cdist(points, found).amin(1)
        found = torch.cat([found, points[(weights * far.square()).argmax()][None]])
    clusters = lloyd(points, weights, found)
    order = clusters.weights.argsort(descending=True, stable=True)
    return [(*clusters.centres[n].tolist(), float(clusters.weights[n])) for n in order]
