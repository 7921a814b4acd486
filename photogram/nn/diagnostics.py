"""What can be seen of a game while it is played, cheaply: who wins, how steep it is, and faults of the paintings.

Nothing here has gradients or draws numbers, so that training is the same with and without. What the values mean, and
what to do where they are out of range, is in `photogram.advice`.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

BOUNDARY = {"vanilla": 0.0, "lsgan": 0.5, "hinge": 0.0}
"""Logits above this say photograph, by the game. Games that are missing here, such as wgangp, have no such bound."""

EVERY = 5
"""Steps from one look to the next."""
LOOKED_AT = 4
"""Pictures of a batch that are looked at for checkerboards, so that large batches cost no more."""


@torch.no_grad()
def accuracy(game: str, on_real: Float[Tensor, "*r"], on_fake: Float[Tensor, "*f"]) -> dict[str, Float[Tensor, ""]]:
    """The share of photographs, and of paintings, that the discriminator takes for what they are.

    Args:
        game: what is played for; of one without a bound between the two, nothing is said.
        on_real: logits of photographs, or of their patches.
        on_fake: logits of paintings.
    """
    if game not in BOUNDARY:
        return {}
    bound = BOUNDARY[game]
    return {
        "accuracy/photographs": (on_real > bound).float().mean(),
        "accuracy/paintings": (on_fake < bound).float().mean(),
    }


@torch.no_grad()
def gradient_norm(network: nn.Module) -> Float[Tensor, ""]:
    """The Euclidean length of all gradients of a network's parameters together; 0 where there are none."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=next(network.parameters()).device)
    norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
    return torch.linalg.vector_norm(torch.stack(norms).float())


@torch.no_grad()
def saturated(pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """The share of values within a hundredth of the least or the most that there is: |x| > 0.99."""
    return (pictures.abs() > 0.99).float().mean()


FEW = 256
"""This part of the area is looked at for what stands out."""


@torch.no_grad()
def concentration(features: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """How much of all the energy of features lies in the strongest 256th of their area: bright blobs hold most of it.

    A place has the sum of its features' squares. Where activations explode at few places they take over the statistics
    of instance norms, which leave next to nothing elsewhere; a norm bounds each feature, but not this share. The mean
    over the batch, from 1/256, where all places are alike, to 1; healthy networks have some hundredths. Of a place of
    which only a part belongs to that area, such a part of its energy counts: of fewer than 256 places the share is at
    most places / 256, so that up to 128 it is never above a half.
    """
    energy = features.float().square().mean(1).flatten(1)
    whole, part = divmod(energy.shape[1], FEW)
    strongest = energy.topk(min(whole + 1, energy.shape[1])).values
    few = strongest[:, :whole].sum(1) + strongest[:, -1] * (part / FEW)
    return (few / energy.sum(1).clamp(min=1e-12)).mean()


def period_of(height: int, width: int) -> int | None:
    """The period in which `checkerboard` looks for patterns: 4 pixels where there is room, else 2, else None."""
    return next((p for p in (4, 2) if min(height, width) // p >= 3), None)


@torch.no_grad()
def checkerboard(pictures: Float[Tensor, "n c h w"], period: int = 4) -> Float[Tensor, ""]:
    """How much more there is of patterns that repeat every `period` pixels than of patterns nearly like them.

    Convolutions that enlarge by two leave marks of a period of 2 pixels, and of 4 where another follows (A. Odena, V.
    Dumoulin and C. Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016). Their energy stands in single
    frequencies, those that are multiples of 1 / period, while that of what pictures show changes slowly from frequency
    to frequency. So each of these frequencies is compared with its neighbours at a distance of one and two. Energies
    are weighed by the square of the frequency, since those of pictures fall about as fast: P of the frequencies, N the
    mean of their neighbours,

        checkerboard = P / (P + N): 1 of a checkerboard, 1/2 on average of noise, and about that of photographs

    It is 0 of a picture of one colour. The detector is ours, of no paper.

    Args:
        pictures: height and width are cut to multiples of the period, and must be three times it or more.
        period: 2 or more, in pixels.
    """
    height, width = (n // period * period for n in pictures.shape[-2:])
    assert min(height, width) >= 3 * period, "`period_of` says what fits"
    planes = pictures[..., :height, :width].float().flatten(0, 1)
    planes = planes - planes.mean((1, 2), keepdim=True)
    device = planes.device.type if planes.device.index is None else f"{planes.device.type}:{planes.device.index}"
    rows, columns = (_waves(length, period, device) for length in (height, width))
    cosines, sines = (planes @ columns.mT).unflatten(-1, (2, -1)).unbind(-2)  # few frequencies: no fast transform
    (cos_cos, sin_cos), (cos_sin, sin_sin) = (
        (rows @ half).unflatten(-2, (2, -1)).unbind(-3) for half in (cosines, sines)
    )
    power = ((cos_cos - sin_sin).square() + (cos_sin + sin_cos).square()).sum(0)
    found, around = (power * _weights(height, width, period, device)).sum((1, 2))
    return found / (found + around).clamp_min(1e-12)


def _frequencies(length: int, period: int) -> list[int]:
    """Those that are looked at along a side: 0, the multiples of 1 / period, and their neighbours."""
    return sorted({0} | {(n * length // period + d) % length for n in range(1, period) for d in (-2, -1, 0, 1, 2)})


@cache
def _waves(length: int, period: int, device: str) -> Float[Tensor, "k n"]:
    """Cosines of these frequencies, then sines."""
    turns = torch.outer(torch.tensor(_frequencies(length, period)), torch.arange(length)) % length
    angles = turns.double() * (2 * math.pi / length)
    return torch.cat([angles.cos(), angles.sin()]).float().to(device)


@cache
def _weights(height: int, width: int, period: int, device: str) -> Float[Tensor, "2 k l"]:
    """How much each frequency counts in P, and in N."""
    at_row, at_column = ({f: n for n, f in enumerate(_frequencies(length, period))} for length in (height, width))
    weights = torch.zeros(2, len(at_row), len(at_column))
    for i in range(period):
        for j in range(i == 0, period):  # without the mean of the picture
            row, column = i * height // period, j * width // period
            weight = sum((min(n, period - n) / period) ** 2 for n in (i, j))
            weights[0, at_row[row], at_column[column]] += weight
            # Along an axis there is more than beside it, of straight edges: stay on it.
            near = [(row, column + d) for d in (-2, -1, 1, 2) if j] + [(row + d, column) for d in (-2, -1, 1, 2) if i]
            for y, x in near:
                weights[1, at_row[y % height], at_column[x % width]] += weight / len(near)
    return weights.to(device)


def of_pictures(name: str, pictures: Float[Tensor, "n c h w"]) -> dict[str, Float[Tensor, ""]]:
    """What is measured of photographs and of paintings alike, to be compared.

    Args:
        name: photographs or paintings.
        pictures: in [-1, 1].
    """
    found = {f"saturated/{name}": saturated(pictures)}
    period = period_of(pictures.shape[-2], pictures.shape[-1])
    if period is not None:
        found[f"checkerboard/{name}"] = checkerboard(pictures[:LOOKED_AT], period)
    return found
