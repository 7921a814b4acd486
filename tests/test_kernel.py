"""Section 4 of the specification of metrics: the kernel distance, and the intervals of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from photogram.metrics.kernel import (
    discrepancy_error,
    kernel_distance,
    polynomial_kernel,
    squared_discrepancy,
)


def normal(count: int, dim: int, seed: int, spread: float | Tensor = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(count, dim, generator=generator, dtype=torch.float64)


def k(a: list[float], b: list[float]) -> float:
    return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3


def plain(x: Tensor, y: Tensor) -> float:
    """Pair by pair."""
    a, b = x.tolist(), y.tolist()
    n, m = len(a), len(b)
    first = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    second = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return first + second - 2 * sum(k(p, q) for p in a for q in b) / (n * m)


# The estimate.


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 5), (7, 4)])
def test_equals_the_sums_of_the_definition(n: int, m: int):
    x, y = normal(n, 3, 0), normal(m, 3, 1, 1.5)
    assert squared_discrepancy(x, y) == pytest.approx(plain(x, y), rel=1e-12)
    assert squared_discrepancy(y, x) == pytest.approx(plain(x, y), rel=1e-12)


def test_an_exact_small_case():
    x, y = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [-1.0]])
    # within x: k(1, 0) = 1; within y: k(1, -1) = 0; across: 8, 0, 1, 1
    assert squared_discrepancy(x, y) == 1 + 0 - 2 * 10 / 4


def plain_paired(x: Tensor, y: Tensor) -> float:
    """Pair by pair, without those that belong together."""
    a, b, n = x.tolist(), y.tolist(), len(x)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    return sum(k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(b[i], a[j]) for i, j in pairs) / len(pairs)


def test_of_sets_that_belong_together_own_pairs_do_not_count():
    x, y = normal(7, 3, 0), normal(7, 3, 1, 1.5)
    assert squared_discrepancy(x, y, paired=True) == pytest.approx(plain_paired(x, y), rel=1e-12)
    assert squared_discrepancy(x, x.clone(), paired=True) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="as many on each side, not 7 and 6"):
        squared_discrepancy(x, y[:6], paired=True)


def test_images_that_are_like_their_own_photographs_do_not_bias_it():
    """Equal laws, x_i and y_i alike: the pairs x_i, y_i alone would pull the mean below 0."""
    paired, unpaired = [], []
    for seed in range(600):
        x, other = normal(12, 4, 2 * seed), normal(12, 4, 2 * seed + 1)
        y = 0.95 * x + (1 - 0.95**2) ** 0.5 * other
        paired.append(squared_discrepancy(x, y, paired=True))
        unpaired.append(squared_discrepancy(x, y))
    assert abs(np.mean(paired)) < 3 * np.std(paired) / 600**0.5
    assert np.mean(unpaired) < -10 * np.std(unpaired) / 600**0.5


def test_a_set_against_itself():
    x = normal(20, 4, 0)
    kernel = polynomial_kernel(x, x)
    expected = 2 / 19 * float(kernel.mean() - kernel.diagonal().mean())
    assert expected < 0
    assert squared_discrepancy(x, x) == pytest.approx(expected, rel=1e-12)


def spread_of(make_x: float | Tensor, make_y: float | Tensor, dim: int, shift: float = 0.0) -> Tensor:
    """Estimates from 40 draws of two laws."""
    move = torch.zeros(dim, dtype=torch.float64)
    move[0] = shift
    pairs = ((normal(1000, dim, 2 * s, make_x), normal(1000, dim, 2 * s + 1, make_y) + move) for s in range(40))
    return torch.tensor([squared_discrepancy(x, y) for x, y in pairs], dtype=torch.float64)


def is_mean_of(expected: float, draws: Tensor, within: float = 0.02) -> None:
    error = float(draws.std()) / len(draws) ** 0.5
    assert error < within * expected  # else it would show nothing
    assert abs(float(draws.mean()) - expected) < 3 * error


def test_population_value_of_two_spreads():
    expected = 3 * (1 - 1.5**2) ** 2 / 5
    assert expected == pytest.approx(0.9375)
    is_mean_of(expected, spread_of(1.0, 1.5, 5))


def test_population_value_of_two_covariances():
    first, second = torch.tensor([1.0, 2.0, 0.5, 1.0]).double(), torch.tensor([2.0, 1.0, 0.5, 1.5]).double()
    expected = 3 * float((first.square() - second.square()).square().sum()) / 16
    is_mean_of(expected, spread_of(first, second, 4), within=0.05)


def test_population_value_of_two_means():
    m, d = 0.7, 5
    expected = 3 * m**2 / d + 3 * m**4 / d**2 + ((m**3 + 3 * m) ** 2 + 3 * (d - 1) * m**2) / d**3
    assert expected == pytest.approx(0.4176, abs=5e-5)
    is_mean_of(expected, spread_of(1.0, 1.0, d, m), within=0.03)


@pytest.mark.parametrize("count", [5, 50])
def test_is_unbiased_at_any_number_and_may_be_negative(count: int):
    pairs = [(normal(count, 4, 2 * s), normal(count, 4, 2 * s + 1)) for s in range(1000)]
    draws = torch.tensor([squared_discrepancy(x, y) for x, y in pairs], dtype=torch.float64)
    assert abs(float(draws.mean())) < 3 * float(draws.std()) / 1000**0.5
    assert 0.3 < float((draws < 0).double().mean()) < 0.9


# Subsets.


def test_is_the_mean_over_subsets_without_replacement():
    x, y = normal(30, 3, 0), normal(20, 3, 1, 1.2)
    found = kernel_distance(x, y, subsets=7, subset_size=8, seed=5)
    generator, values = torch.Generator().manual_seed(5), []
    for _ in range(7):
        some, others = (torch.randperm(n, generator=generator)[:8] for n in (30, 20))
        assert len(set(some.tolist())) == 8
        values.append(plain(x[some], y[others]))
    mean = sum(values) / 7
    assert found.distance == pytest.approx(mean, rel=1e-12)
    assert found.deviation == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 7), rel=1e-10)
    assert (found.subsets, found.subset_size) == (7, 8)


def test_subsets_of_what_belongs_together_are_of_the_same_rows():
    x, y = normal(20, 3, 0), normal(20, 3, 1, 1.2)
    found = kernel_distance(x, y, subsets=7, subset_size=8, seed=5, paired=True)
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randperm(20, generator=generator)[:8] for _ in range(7)]
    values = [plain_paired(x[some], y[some]) for some in drawn]
    assert found.distance == pytest.approx(sum(values) / 7, rel=1e-12)
    with pytest.raises(ValueError, match="as many on each side, not 20 and 19"):
        kernel_distance(x, y[:19], paired=True)


def test_a_subset_is_never_larger_than_the_smaller_set():
    x, y = normal(30, 3, 0), normal(20, 3, 1)
    assert kernel_distance(x, y, subsets=2).subset_size == 20
    everything = kernel_distance(y, x[:20], subsets=3)
    assert everything.distance == pytest.approx(squared_discrepancy(y, x[:20]), rel=1e-10)
    assert everything.deviation == pytest.approx(0, abs=1e-12)


def test_the_seed_decides():
    x, y = normal(30, 3, 0), normal(20, 3, 1)
    first, again, other = (kernel_distance(x, y, subsets=3, subset_size=5, seed=s) for s in (1, 1, 2))
    assert first == again and first != other


class Slice(nn.Module):
    """Features of images that are given as such."""

    num_features = 24

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :24].double() / 255


@pytest.mark.parametrize(("subsets", "size"), [(1, 60), (10, 25)])
def test_torchmetrics_agrees(subsets: int, size: int):
    oracle = pytest.importorskip("torchmetrics.image.kid").KernelInceptionDistance
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(high, (60, 3, 4, 4), generator=generator).byte() for high in (256, 200))
    with pytest.warns(UserWarning, match="will save all extracted features"):
        metric = oracle(feature=Slice(), subsets=subsets, subset_size=size)
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    torch.manual_seed(4)  # it draws as we do
    mean, deviation = metric.compute()
    found = kernel_distance(Slice()(real), Slice()(fake), subsets=subsets, subset_size=size, seed=4)
    assert found.distance == pytest.approx(float(mean), rel=1e-4)
    assert found.deviation == pytest.approx(float(deviation), rel=1e-4, abs=1e-12)


# Resamples.


def plain_error(x: Tensor, y: Tensor) -> float:
    """Pair by pair."""
    a, b, n = x.tolist(), y.tolist(), len(x)
    h = [[k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(b[i], a[j]) for j in range(n)] for i in range(n)]
    rows = [sum(h[i][j] for j in range(n) if i != j) / (n - 1) for i in range(n)]
    mean = sum(rows) / n
    first = 4 * sum((r - mean) ** 2 for r in rows) / (n - 1) / n
    left = [(h[i][j] - rows[i] - rows[j] + mean) ** 2 for i in range(n) for j in range(n) if i != j]
    second = 2 * sum(left) / len(left) / (n * (n - 1))
    return max(first - second, first / 2) ** 0.5


@pytest.mark.parametrize("tile", [1, 4, 100])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_error_equals_its_plain_twin(tile: int, shift: float):
    x, y = normal(11, 3, 0), normal(11, 3, 1) + shift
    assert discrepancy_error(x, y, tile) == pytest.approx(plain_error(x, y), rel=1e-10)


@pytest.mark.parametrize(
    ("spread", "shift", "alike"), [(1.0, 0.0, 0.0), (1.0, 0.0, 0.9), (1.1, 0.0, 0.5), (1.5, 0.0, 0.0), (1.0, 0.5, 0.0)]
)
def test_the_error_is_that_of_other_images(spread: float, shift: float, alike: float):
    """The same laws, nearly the same ones with images like their photographs, and others."""
    values, errors = [], []
    for seed in range(300):
        x, other = normal(60, 20, 2 * seed), normal(60, 20, 2 * seed + 1)
        y = spread * (alike * x + (1 - alike**2) ** 0.5 * other) + shift
        values.append(squared_discrepancy(x, y, paired=True))
        errors.append(discrepancy_error(x, y))
    apart = np.abs(np.array(values) - np.mean(values))
    assert 0.91 < float((apart < 1.96 * np.array(errors)).mean()) < 0.98
    assert 0.9 < float(np.sqrt(np.mean(np.square(errors))) / np.std(values)) < 1.2


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 6)])
def test_the_error_needs_as_many_images_on_each_side(n: int, m: int):
    with pytest.raises(ValueError, match="three images or more, as many on each side"):
        discrepancy_error(normal(n, 3, 0), normal(m, 3, 1))


# Bad input.


def test_what_has_no_distance_is_refused():
    x = normal(5, 3, 0)
    with pytest.raises(ValueError, match="two images or more on each side, not 1 and 5"):
        squared_discrepancy(x[:1], x)
    with pytest.raises(ValueError, match="two images or more"):
        kernel_distance(x, x[:1])
    with pytest.raises(ValueError, match="one subset or more, not 0"):
        kernel_distance(x, x, subsets=0)
    for value in (math.nan, math.inf):
        spoilt = x.clone()
        spoilt[1, 1] = value
        with pytest.raises(ValueError, match="not finite"):
            kernel_distance(x, spoilt)
