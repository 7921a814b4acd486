"""K-means: groups of points, by weight, in float64; equal seeds give equal groups.

S. Lloyd, "Least squares quantization in PCM", 1982, begun as D. Arthur and S. Vassilvitskii, "k-means++: The Advantages
of Careful Seeding", SODA 2007. (scipy has it too, but is no dependency of the package; it is the tests' oracle.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

RESTARTS = 10
"""Tries, of which the best is kept; what scikit-learn took where pix2pixHD's authors clustered."""
_TURNS = 100  # Lloyd's end far earlier: each turn lowers a sum that has finitely many values


class Clusters(NamedTuple):
    """Groups of points.

    Args:
        centres: the mean of each, in float64.
        weights: the weight of its points together; their number, where none had weights.
        numbers: the group of each point.
    """

    centres: Float[Tensor, "k c"]
    weights: Float[Tensor, " k"]
    numbers: Int[Tensor, " n"]


def kmeans(
    points: Float[Tensor, "n c"], count: int, seed: int = 0, weights: Float[Tensor, " n"] | None = None
) -> Clusters:
    """Group points around means, so that the weighted sum of squared distances to these is small.

    Args:
        points: one or more, finite.
        count: groups, 1 or more; where there are fewer different points, as many as these.
        seed: of the starts.
        weights: of the points, above 0; without them all count alike.

    Returns:
        Groups that are never empty, the heaviest first.
    """
    points = points.detach().double().cpu()
    weights = points.new_ones(len(points)) if weights is None else weights.detach().double().cpu()
    noise = torch.Generator().manual_seed(seed)
    best, least = None, torch.inf
    for _ in range(RESTARTS):
        found = lloyd(points, weights, starts(points, weights, count, noise))
        error = float((weights * (points - found.centres[found.numbers]).square().sum(1)).sum())
        if best is None or error < least:
            best, least = found, error
    assert best is not None
    order = best.weights.argsort(descending=True, stable=True)[: int((best.weights > 0).sum())]
    places = torch.empty(len(best.weights), dtype=torch.int64)
    places[order] = torch.arange(len(order))
    return Clusters(best.centres[order], best.weights[order], places[best.numbers])


def starts(
    points: Float[Tensor, "n c"], weights: Float[Tensor, " n"], count: int, noise: torch.Generator
) -> Float[Tensor, "k c"]:
    """Different points, each drawn by its weight times its squared distance from those before (k-means++, 2.2)."""
    chance, found = weights, []
    far = torch.full_like(weights, torch.inf)
    while len(found) < count and bool((chance > 0).any()):
        found.append(points[int(torch.multinomial(chance / chance.max(), 1, generator=noise))])
        far = torch.minimum(far, (points - found[-1]).square().sum(1))  # exactly 0 where it is the same point
        chance = weights * far
    return torch.stack(found)


def lloyd(points: Float[Tensor, "n c"], weights: Float[Tensor, " n"], centres: Float[Tensor, "k c"]) -> Clusters:
    """Move centres to the means of the points that are nearest to them, until nothing changes.

    Args:
        points: in float64.
        weights: 0 or more.
        centres: to begin with; one that no point is near stays where it is, with weight 0.
    """
    numbers = torch.cdist(points, centres).argmin(1)
    for _ in range(_TURNS):
        shares = weights.new_zeros(len(centres)).index_add_(0, numbers, weights)
        sums = torch.zeros_like(centres).index_add_(0, numbers, weights[:, None] * points)
        centres = torch.where(shares[:, None] > 0, sums / shares[:, None].clamp(min=1e-300), centres)
        before, numbers = numbers, torch.cdist(points, centres).argmin(1)
        if torch.equal(before, numbers):
            break
    return Clusters(centres, weights.new_zeros(len(centres)).index_add_(0, numbers, weights), numbers)
