"""Intervals by resampling: do 95 of 100 hold the truth?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from photogram.metrics.bootstrap import Interval, around, means, percentiles, resampled
from photogram.metrics.frechet import frechet_of_features


def normal(count: int, seed: int, *more: int) -> Tensor:
    return torch.randn(count, *more, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Resamples.


def test_every_resample_has_as_many_images_as_there_are():
    weights = resampled(13, 50, 0)
    assert weights.shape == (50, 13) and weights.dtype == torch.float64
    assert weights.sum(1).tolist() == [13] * 50
    assert torch.equal(weights, weights.round()) and weights.min() == 0


def test_images_are_drawn_alike_and_with_replacement():
    """Each count is binomial with n = 20 and p = 1 / 20."""
    weights = resampled(20, 5000, 0)
    expected = scipy.stats.binom.pmf(range(4), 20, 1 / 20)
    shares = [float((weights == n).double().mean()) for n in range(4)]
    assert shares == pytest.approx(expected.tolist(), abs=0.006)
    assert weights.mean(0).tolist() == pytest.approx([1] * 20, abs=0.07)


def test_equal_arguments_give_equal_resamples():
    assert torch.equal(resampled(9, 30, 1), resampled(9, 30, 1))
    assert not torch.equal(resampled(9, 30, 1), resampled(9, 30, 2))
    assert torch.equal(resampled(9, 10, 1), resampled(9, 30, 1)[:10])  # fewer draws are the first of them


def test_means_equal_those_of_the_images_as_often_as_they_were_drawn():
    values, weights = normal(11, 0), resampled(11, 40, 0)
    found = means(values.float(), weights)
    for draw, often in zip(found.tolist(), weights.long(), strict=True):
        repeated = values.float().double().repeat_interleave(often)
        assert draw == pytest.approx(float(repeated.mean()), rel=1e-12)


# Intervals.


def test_percentiles_are_those_of_numpy():
    draws = normal(400, 0)
    assert tuple(percentiles(draws)) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), rel=1e-12)


def test_around_is_the_value_and_its_deviations():
    draws = 3 + 2 * normal(4000, 0)
    low, high = around(10, draws)
    assert (low + high) / 2 == pytest.approx(10)
    assert high - low == pytest.approx(2 * scipy.stats.norm.ppf(0.975) * float(np.std(draws.numpy(), ddof=1)), rel=1e-6)


def test_draws_that_are_not_finite_are_left_out():
    draws = normal(100, 0)
    spoilt = torch.cat([draws, torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)])
    assert percentiles(spoilt) == percentiles(draws)
    assert around(1, spoilt) == around(1, draws)


@pytest.mark.parametrize("draws", [[], [math.nan, math.nan], [math.inf]])
def test_without_draws_there_is_no_interval(draws: list[float]):
    for interval in (percentiles(torch.tensor(draws)), around(1, torch.tensor(draws))):
        assert isinstance(interval, Interval) and math.isnan(interval.low) and math.isnan(interval.high)


# Coverage.


def hits(values: Tensor, truth: float, interval) -> float:
    """The share of rows of values whose interval holds the truth."""
    weights = resampled(values.shape[1], 1000, 0)
    found = [interval(row, means(row, weights)) for row in values]
    return sum(low <= truth <= high for low, high in found) / len(found)


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_intervals_of_a_mean_hold_it_95_times_in_100(law: str):
    values = normal(1500, 1, 100)
    if law == "uniform":
        values = torch.special.ndtr(values) - 0.5
    assert 0.93 <= hits(values, 0, lambda row, draws: percentiles(draws)) <= 0.97
    assert 0.93 <= hits(values, 0, lambda row, draws: around(float(row.mean()), draws)) <= 0.97
    assert hits(values, 0.1 * float(values.std()), lambda row, draws: percentiles(draws)) < 0.9  # it can miss


def test_paired_resamples_see_a_difference_that_separate_ones_do_not():
    """Two systems on the same images, the second better by .05, images differing by 1."""
    images = normal(100, 0)
    a, b = images, images + 0.05 + 0.1 * normal(100, 1)
    same, other = resampled(100, 1000, 0), resampled(100, 1000, 1)
    paired = percentiles(means(b, same) - means(a, same))
    separate = percentiles(means(b, other) - means(a, same))
    assert 0 < paired.low < 0.05 < paired.high < 0.1
    assert separate.low < 0 < separate.high


def test_an_interval_around_the_frechet_distance_holds_what_other_images_give():
    """Copies shift it, so that percentiles of the draws would lie above; its deviation is still what it should be."""
    spread, weights = 1 / torch.arange(1, 9).double(), resampled(60, 60, 0).long()
    values, within, shifted = [], [], []
    for seed in range(40):
        x, y = normal(60, 2 * seed, 8) * spread, normal(60, 2 * seed + 1, 8) * spread + 0.4
        values.append(frechet_of_features(x, y).distance)
        pairs = ((x.repeat_interleave(w, 0), y.repeat_interleave(w, 0)) for w in weights)
        draws = torch.tensor([frechet_of_features(a, b).distance for a, b in pairs], dtype=torch.float64)
        within.append(around(values[-1], draws))
        shifted.append(float(draws.mean()) - values[-1])
    expected = sum(values) / len(values)
    assert sum(low <= expected <= high for low, high in within) >= 0.85 * len(values)
    assert sum(shifted) / len(shifted) > 2 * float(np.std(shifted, ddof=1)) / len(shifted) ** 0.5
