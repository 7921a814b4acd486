"""The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017, "FID").

It is biased: with N images it is too large by about c / N, so that only distances at equal N compare, and it depends
on the feature network and on how images were resized. `extrapolated` removes the first of these (Chong and Forsyth
2020, "FID infinity").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from photogram.metrics.moments import Moments

NEGATIVE = 1e-6
"""A distance may be so far below 0 by rounding, as a share of the traces."""


@dataclass(frozen=True)
class Frechet:
    """A squared Fréchet distance and its two parts."""

    distance: float
    mean_term: float
    """|mu_1 - mu_2|^2."""
    trace_term: float
    """tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2)."""


def frechet_distance(a: Moments, b: Moments) -> Frechet:
    """d^2 = |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2).

    The trace of the root is that of the symmetric (R S_b R)^(1/2) with R = S_a^(1/2): real eigenvalues, no jitter.

    Raises:
        ValueError: for rows of different lengths, fewer than two of them, or values that are not finite.
    """
    _check_lengths(len(a.mean), len(b.mean))
    first, second = a.covariance, b.covariance
    _check_finite(a.mean, b.mean, first, second)
    root = _root(first)
    cross = _trace_of_root(root @ second @ root)
    return _sum(a.mean - b.mean, first.trace() + second.trace(), cross)


def frechet_of_features(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Frechet:
    """The same from the features themselves: quicker and more exact where there are fewer rows than dimensions.

    With X the centred rows over sqrt(n - 1), tr (S_a S_b)^(1/2) is the nuclear norm of X_a X_b^T.

    Raises:
        ValueError: as `frechet_distance`.
    """
    _check_lengths(a.shape[1], b.shape[1])
    if max(len(a), len(b)) >= a.shape[1]:
        return frechet_distance(Moments.of(a), Moments.of(b))
    _check_finite(a, b)
    (mu_a, x), (mu_b, y) = _centred(a), _centred(b)
    cross = torch.linalg.svdvals(x @ y.T).sum()
    return _sum(mu_a - mu_b, x.square().sum() + y.square().sum(), cross)


def _check_lengths(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"features of {a} and {b} dimensions have no distance")


def _check_finite(*values: Tensor) -> None:
    if not all(v.isfinite().all() for v in values):
        raise ValueError("features that are not finite have no distance")


def _centred(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and the rows X without it of which X^T X is the covariance."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs two rows or more, not {len(features)}")
    rows = features.double()
    mean = rows.mean(0)
    return mean, (rows - mean) / (len(rows) - 1) ** 0.5


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _trace_of_root(symmetric: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(symmetric).clamp_min(0).sqrt().sum()


def _sum(apart: Tensor, traces: Tensor, cross: Tensor) -> Frechet:
    mean_term, trace_term = float(apart.square().sum()), float(traces - 2 * cross)
    if trace_term < -NEGATIVE * float(traces):
        raise ValueError(f"the Fréchet distance came out negative ({trace_term:.3g}); the features are not usable")
    trace_term = max(trace_term, 0.0)
    return Frechet(mean_term + trace_term, mean_term, trace_term)


def expected_bias(eigenvalues: Float[Tensor, " d"], count: int) -> float:
    """By how much `count` rows of a Gaussian are expected to lie from it, to first order in 1 / count.

    sum_i l_i / N + 1/(2 (N - 1)) sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j), with the N - 1 of an unbiased covariance;
    for two finite sets, add both.

    Args:
        eigenvalues: of the covariance.
        count: N, the number of rows; 2 or more.
    """
    values = eigenvalues.double()
    values = values[values > 0]  # a direction in which nothing varies adds nothing
    pairs = values[:, None] * values / (values[:, None] + values)
    return float(values.sum() / count + (pairs.sum() + pairs.diagonal().sum()) / (2 * (count - 1)))


@dataclass(frozen=True)
class Extrapolation:
    """A straight line through distances against 1 / N, and where it meets infinity."""

    intercept: float
    """The distance of infinitely many images."""
    error: float
    """The intercept's standard error, what all points share by coming from one pool included."""
    r2: float
    """How much of the points' variance the line explains; near 0 where the bias is small beside the noise."""
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def extrapolated(
    features: Float[Tensor, "n d"], reference: Moments, *, points: int = 15, smallest: int | None = None, seed: int = 0
) -> Extrapolation:
    """The distance to a reference, extrapolated to infinitely many images by least squares against 1 / N.

    Args:
        features: a pool of rows; subsets of it are drawn.
        reference: the reals, which stay as they are; their own bias stays too, so there should be many.
        points: how many sizes, equally spaced.
        smallest: the first size; a tenth of the pool without it.
        seed: of the subsets.

    Raises:
        ValueError: for a pool or a number of sizes too small to draw a line, and as `frechet_distance`.
    """
    count = len(features)
    smallest = max(count // 10, 2) if smallest is None else smallest
    sizes = sorted({round(float(n)) for n in torch.linspace(smallest, count, points, dtype=torch.float64)})
    if len(sizes) < 3 or not 2 <= smallest < count:
        raise ValueError(f"{count} images, {points} sizes from {smallest} on: a line needs three sizes of two or more")
    _check_lengths(features.shape[1], len(reference.mean))
    covariance = reference.covariance
    _check_finite(features, reference.mean, covariance)
    root, total = _root(covariance), covariance.trace()
    generator, distances = torch.Generator().manual_seed(seed), []
    for size in sizes:
        rows = features[torch.randperm(count, generator=generator)[:size].to(features.device)]
        mean, x = _centred(rows.cpu())
        seen = x @ root  # its singular values are the roots whose sum is sought; the smaller of both squares has them
        cross = _trace_of_root(seen @ seen.T if size < seen.shape[1] else seen.T @ seen)
        distances.append(_sum(mean - reference.mean, x.square().sum() + total, cross).distance)
    return _line(sizes, distances, count)


def _line(sizes: list[int], distances: list[float], pool: int) -> Extrapolation:
    """Least squares against 1 / N.

    To first order a distance of N rows scatters with variance s^2 / N. Subsets of a pool of M rows share s^2 / M of
    that, which moves the whole line and which no residual shows; s^2 itself is had from the residuals.
    """
    n, y = torch.tensor(sizes, dtype=torch.float64), torch.tensor(distances, dtype=torch.float64)
    design = torch.stack([torch.ones_like(n), 1 / n], 1)
    solve = torch.linalg.pinv(design)
    residual = torch.eye(len(n), dtype=torch.float64) - design @ solve
    own = 1 / n - 1 / pool
    squares = (residual @ y).square()
    expected = residual.square() @ own  # of those squares, for s^2 = 1
    variance = (n * squares).sum() / (n * expected).sum() * (solve[0].square() @ own + 1 / pool)
    total = (y - y.mean()).square().sum()
    r2 = 1 - float(squares.sum() / total) if total > 0 else 0.0
    return Extrapolation(float(solve[0] @ y), float(variance.sqrt()), r2, tuple(sizes), tuple(distances))
