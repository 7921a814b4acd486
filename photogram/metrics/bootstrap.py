"""Intervals by resampling images: what would the number have been for other images of the same kind?

Nothing here knows how the images came about: the noise of a training, or of the choice of a seed, is no part of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SHARE = 0.95


class Interval(NamedTuple):
    """Bounds that hold the number in 95 of 100 resamples."""

    low: float
    high: float


def resampled(count: int, draws: int, seed: int) -> Float[Tensor, "draws count"]:
    """How often each of `count` images is in each resample; rows sum to `count`.

    Equal arguments give equal draws, so that two systems are compared on the same resamples (paired).
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randint(count, (count,), generator=generator) for _ in range(draws))
    return torch.stack([numbers.bincount(minlength=count) for numbers in drawn]).double()


def means(values: Float[Tensor, " n"], weights: Float[Tensor, "draws n"]) -> Float[Tensor, " draws"]:
    """The mean of each resample."""
    return weights @ values.double() / weights.sum(1)


def percentiles(draws: Float[Tensor, " draws"]) -> Interval:
    """What lies between the outer 2.5 % on both sides, of the draws that are finite."""
    finite = draws[draws.isfinite()]
    if not len(finite):
        return Interval(float("nan"), float("nan"))
    tail = (1 - SHARE) / 2
    return Interval(float(finite.quantile(tail)), float(finite.quantile(1 - tail)))


def around(value: float, draws: Float[Tensor, " draws"]) -> Interval:
    """The value and 1.96 standard deviations of the draws to both sides, for numbers that resampling shifts.

    Draws that are not finite are left out: a resample of one image alone has no covariance and no pairs.
    """
    finite = draws[draws.isfinite()].double()
    if len(finite) < 2:
        return Interval(float("nan"), float("nan"))
    return within(value, float(finite.std()))


def within(value: float, error: float) -> Interval:
    """The value and 1.96 standard errors to both sides."""
    return Interval(value - 1.959964 * error, value + 1.959964 * error)
