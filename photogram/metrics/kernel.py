"""The kernel distance: an unbiased squared maximum mean discrepancy (Bińkowski et al. 2018, "KID").

Unlike the Fréchet distance it does not depend on the number of images on average, so it is the one to read where there
are few. It can be negative.

As published, the two sets are independent of each other. Where each painting belongs to a photograph, that of its own
layout, the pairs (x_i, y_i) are no draws from two independent laws; left in, they pull the distance down by something
like 1 / n. `paired` leaves them out, which makes it unbiased for such sets too (and equal on average for others).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TILE = 1024


@dataclass(frozen=True)
class Kernel:
    """A kernel distance: the mean and the standard deviation over random subsets."""

    distance: float
    deviation: float
    subsets: int
    subset_size: int


def polynomial_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """k(x, y) = (x . y / d + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_discrepancy(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], paired: bool = False) -> float:
    """The unbiased estimate: means over pairs of different rows, minus twice the mean over pairs across.

    Args:
        x: features of one set.
        y: features of the other.
        paired: x_i and y_i belong together, so that the pair of them does not count.

    Raises:
        ValueError: for fewer than two rows on a side; unequal numbers of rows where they are paired.
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"the kernel distance needs two images or more on each side, not {n} and {m}")
    if paired:
        _check_paired(x, y)
        return float(_without_own(_joint(x, y, 0, n), 0).sum() / (n * (n - 1)))
    within_x, within_y, across = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    first = (within_x.sum() - within_x.diagonal().sum()) / (n * (n - 1))
    second = (within_y.sum() - within_y.diagonal().sum()) / (m * (m - 1))
    return float(first + second - 2 * across.mean())


def _check_paired(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise ValueError(f"images that belong together are as many on each side, not {len(x)} and {len(y)}")


def kernel_distance(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    paired: bool = False,
) -> Kernel:
    """The mean over subsets of equal size on both sides, drawn without replacement.

    Args:
        x: features of one set.
        y: features of the other.
        subsets: how many.
        subset_size: rows of each; no more than the smaller set has.
        seed: of the subsets.
        paired: x_i and y_i belong together: subsets take the same rows of both, and the pairs do not count.

    Raises:
        ValueError: for fewer than two rows on a side, no subsets, or features that are not finite; unequal numbers of
            rows where they are paired.
    """
    if subsets < 1:
        raise ValueError(f"the kernel distance is the mean over one subset or more, not {subsets}")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("features that are not finite have no kernel distance")
    if paired:
        _check_paired(x, y)
    size = min(subset_size, len(x), len(y))
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: Tensor) -> Tensor:
        return torch.randperm(len(rows), generator=generator)[:size].to(rows.device)

    found = []
    for _ in range(subsets):
        some = draw(x)
        found.append(squared_discrepancy(x[some], y[some if paired else draw(y)], paired))
    values = torch.tensor(found, dtype=torch.float64)
    return Kernel(float(values.mean()), float(values.std(unbiased=False)), subsets, size)


def discrepancy_error(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], tile: int = TILE) -> float:
    """The standard error of the distance: how much it scatters over other images of the same kind.

    With h(i, j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j) the paired distance is the mean of h over pairs
    of different rows (a U-statistic, Hoeffding 1948; the unpaired one differs by the few pairs x_i, y_i). A part of its
    variance falls like 1 / n, from the means of the rows of h, and a part like 1 / n^2, from what those leave of it;
    the second is most of it where both laws are almost the same.

    Args:
        x: features of one set; three rows or more.
        y: features of the other, as many.
        tile: rows of h that are made at a time.

    Raises:
        ValueError: for fewer rows, or unequal numbers of them.
    """
    n = len(x)
    if n != len(y) or n < 3:
        raise ValueError(f"the error of a distance needs three images or more, as many on each side, not {n}, {len(y)}")
    x, y = x.double(), y.double()
    starts, pairs = range(0, n, tile), n * (n - 1)
    rows = torch.cat([_without_own(_joint(x, y, start, tile), start).sum(1) for start in starts]) / (n - 1)
    squares = 0.0
    for start in starts:
        left = _joint(x, y, start, tile) - rows[start : start + tile, None] - rows + rows.mean()
        squares += float(_without_own(left, start).square().sum())
    first, second = 4 * float(rows.var()) / n, 2 * squares / pairs**2  # the noise of the second is in `rows` twice
    return max(first - second, first / 2) ** 0.5


def _joint(x: Tensor, y: Tensor, start: int, tile: int) -> Tensor:
    """Rows of h from `start` on."""
    a, b = x[start : start + tile], y[start : start + tile]
    within, across = polynomial_kernel(a, x) + polynomial_kernel(b, y), polynomial_kernel(a, y)
    return within - across - polynomial_kernel(b, x)


def _without_own(rows: Tensor, start: int) -> Tensor:
    """0 where a row meets itself."""
    rows.diagonal(start).zero_()
    return rows
