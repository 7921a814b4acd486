"""Precision, recall, density and coverage: do two sets of features lie where the other lies?

Precision and recall: Kynkäänniemi et al. 2019. Density and coverage: Naeem et al. 2020, which a single outlier among
the reals cannot raise. All by balls around the points of one set that reach to their k-th nearest neighbour; distances
are made tile by tile, so that no matrix of all pairs ever exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TILE = 2048
TIE = 1e-12
"""Squared distances that differ by less than this share of the points' squared lengths are equal: what rounding in
another tile would make of a duplicate, or of a point on the border, must not decide."""


@dataclass(frozen=True)
class Overlap:
    """Shares in 0..1; density may exceed 1."""

    precision: float
    """Share of generated images within some real ball."""
    recall: float
    """Share of real images within some generated ball."""
    density: float
    """Real balls that a generated image lies in, on average, over k."""
    coverage: float
    """Share of real balls in which some generated image lies."""
    generated: Float[Tensor, "m 2"]
    """Of each generated image: whether it lies in a real ball, and in how many over k. Precision and density are the
    means."""
    real: Float[Tensor, "n 2"]
    """Of each real image: whether it lies in a generated ball, and whether its ball holds a generated image. Recall
    and coverage are the means."""


def overlap(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, k: int = 3, density_k: int = 5, tile: int = TILE
) -> Overlap:
    """How two sets of features overlap.

    Args:
        real: features of photographs.
        fake: features of generated images.
        k: neighbours that make a ball, for precision and recall; 3 in the paper.
        density_k: the same for density and coverage; 5 in the paper.
        tile: rows of both sides that are compared at a time.

    Raises:
        ValueError: where a set has too few points for its balls, or features are not finite.
    """
    most = max(k, density_k)
    if min(k, density_k) < 1:
        raise ValueError(f"a ball reaches to the first neighbour at least, not to number {min(k, density_k)}")
    for rows, name in ((real, "real"), (fake, "generated")):
        if len(rows) <= most:
            raise ValueError(f"{len(rows)} {name} images: balls of {most} neighbours need {most + 1} or more")
        if not rows.isfinite().all():
            raise ValueError(f"features of {name} images that are not finite have no neighbours")
    real, fake = real.double(), fake.double()
    centre = real.mean(0)
    real, fake = real - centre, fake - centre  # small norms keep the differences of squares exact
    nearest = _nearest(real, most, tile)
    precise, _, _ = _inside(fake, real, nearest[:, k - 1], tile)
    recalled, _, _ = _inside(real, fake, _nearest(fake, k, tile)[:, k - 1], tile)
    _, balls, met = _inside(fake, real, nearest[:, density_k - 1], tile)
    of_generated = torch.stack([precise.double(), balls.double() / density_k], 1)
    of_real = torch.stack([recalled.double(), met.double()], 1)
    (precision, density), (recall, coverage) = of_generated.mean(0).tolist(), of_real.mean(0).tolist()
    return Overlap(precision, recall, density, coverage, of_generated, of_real)


def _tiles(rows: Tensor, tile: int) -> Iterator[slice]:
    return (slice(start, min(start + tile, len(rows))) for start in range(0, len(rows), tile))


def _squared(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> tuple[Tensor, Tensor]:
    """Squared distances, and the sums of squared lengths that set the size of their rounding; both [n, m]."""
    lengths = x.square().sum(1)[:, None] + y.square().sum(1)
    return (lengths - 2 * x @ y.T).clamp_min(0), lengths


def _nearest(rows: Float[Tensor, "n d"], k: int, tile: int) -> Float[Tensor, "n k"]:
    """Squared distances to the k nearest other rows, ascending."""
    found = []
    for mine in _tiles(rows, tile):
        best = rows.new_full((mine.stop - mine.start, k), torch.inf)
        for theirs in _tiles(rows, tile):
            squared, _ = _squared(rows[mine], rows[theirs])
            if mine == theirs:
                squared.fill_diagonal_(torch.inf)  # oneself is no neighbour, a duplicate is
            best = torch.cat([best, squared], 1).topk(k, 1, largest=False).values
        found.append(best)
    return torch.cat(found)


def _inside(
    points: Float[Tensor, "m d"], centres: Float[Tensor, "n d"], radii: Float[Tensor, " n"], tile: int
) -> tuple[Bool[Tensor, " m"], Tensor, Bool[Tensor, " n"]]:
    """Which points lie in a ball, in how many each, and which balls hold a point. The border counts.

    `radii` are squared, as `_nearest` gives them.
    """
    count = torch.zeros(len(points), dtype=torch.long, device=points.device)
    met = torch.zeros(len(centres), dtype=torch.bool, device=points.device)
    for mine in _tiles(points, tile):
        for theirs in _tiles(centres, tile):
            squared, lengths = _squared(points[mine], centres[theirs])
            within = squared - TIE * lengths <= radii[theirs]
            count[mine] += within.sum(1)
            met[theirs] |= within.any(0)
    return count > 0, count, met
