"""Section 3 of the specification of metrics: the Fréchet distance, its bias, its extrapolation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from photogram.metrics.frechet import (
    Frechet,
    _line,
    expected_bias,
    extrapolated,
    frechet_distance,
    frechet_of_features,
)
from photogram.metrics.moments import Moments


def gaussian(mean: Tensor, covariance: Tensor, count: int = 10**9) -> Moments:
    """Exact moments, as of a great many rows."""
    moments = Moments(len(mean))
    moments.count, moments.mean, moments.scatter = count, mean.double(), covariance.double() * (count - 1)
    return moments


def random_gaussian(dim: int, seed: int) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return gaussian(torch.randn(dim, generator=generator, dtype=torch.float64), factor @ factor.T / dim)


def rows(count: int, dim: int, seed: int) -> Tensor:
    """Rows with correlated columns, the law of which depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64) @ mix + 0.2 * seed


def distance(a: Moments, b: Moments) -> float:
    return frechet_distance(a, b).distance


# Check 1: closed forms.


def test_check_1_diagonal():
    a = gaussian(torch.tensor([1.0, 2.0]), torch.diag(torch.tensor([4.0, 9.0])))
    found = frechet_distance(a, gaussian(torch.zeros(2), torch.eye(2)))
    assert (found.distance, found.mean_term, found.trace_term) == pytest.approx((10, 5, 5), rel=1e-12)


def test_check_1_one_dimension():
    a, b = (gaussian(torch.tensor([m]), torch.tensor([[s**2]])) for m, s in ((0.5, 3.0), (-1.0, 0.25)))
    assert distance(a, b) == pytest.approx(1.5**2 + 2.75**2, rel=1e-6)  # float32 constants


def test_check_1_covariances_that_commute():
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(9, 9, generator=generator, dtype=torch.float64)).Q
    first, second = (torch.rand(9, generator=generator, dtype=torch.float64) for _ in "ab")
    a, b = (gaussian(torch.zeros(9), turn @ torch.diag(v) @ turn.T) for v in (first, second))
    assert distance(a, b) == pytest.approx(float((first.sqrt() - second.sqrt()).square().sum()), rel=1e-10)


# Check 2: what it must do under changes of its arguments.


def test_check_2_equal_statistics_have_no_distance():
    a = random_gaussian(12, 0)
    assert 0 <= distance(a, a) < 1e-12
    few = Moments.of(rows(5, 12, 0))  # singular: rounding is seen through a root
    assert 0 <= distance(few, few) < 1e-6 * float(few.covariance.trace())


def test_check_2_symmetry():
    a, b = random_gaussian(12, 0), random_gaussian(12, 1)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-10)


def test_check_2_rotation():
    x, y = rows(50, 8, 0), rows(60, 8, 1)
    turn = torch.linalg.qr(rows(8, 8, 2)).Q
    expected = frechet_of_features(x, y).distance
    assert frechet_of_features(x @ turn, y @ turn).distance == pytest.approx(expected, rel=1e-10)
    assert frechet_of_features(x @ turn, y).distance != pytest.approx(expected, rel=1e-2)


def test_check_2_scale():
    x, y = rows(50, 8, 0), rows(60, 8, 1)
    expected = 2.5**2 * frechet_of_features(x, y).distance
    assert frechet_of_features(2.5 * x, 2.5 * y).distance == pytest.approx(expected, rel=1e-10)


def test_check_2_a_point():
    a, b = random_gaussian(7, 0), gaussian(torch.ones(7), torch.zeros(7, 7))
    expected = float((a.mean - 1).square().sum() + a.covariance.trace())
    assert distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert distance(b, a) == pytest.approx(expected, rel=1e-12)


# Check 3: four ways to the trace of the root.


def by_eigenvalues(x: Tensor, y: Tensor) -> float:
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    cross = np.real(np.sqrt(np.linalg.eigvals(a @ b).astype(complex))).sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross)


def by_root_of_matrix(x: Tensor, y: Tensor) -> float:
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    cross = np.trace(np.asarray(scipy.linalg.sqrtm(a @ b))).real
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross)


def by_nuclear_norm(x: Tensor, y: Tensor) -> float:
    a, b = ((z - z.mean(0)).numpy() / math.sqrt(len(z) - 1) for z in (x, y))
    cross = np.linalg.norm(a @ b.T, "nuc")
    return float((x.mean(0) - y.mean(0)).square().sum() + (a**2).sum() + (b**2).sum() - 2 * cross)


@pytest.mark.parametrize(("n", "m"), [(300, 200), (41, 300)])
def test_check_3_four_ways_agree_at_full_rank(n: int, m: int):
    x, y = rows(n, 40, 0), rows(m, 40, 1)
    found = frechet_distance(Moments.of(x), Moments.of(y)).distance
    assert frechet_of_features(x, y).distance == pytest.approx(found, rel=1e-12)
    for other in (by_eigenvalues, by_root_of_matrix, by_nuclear_norm):
        assert other(x, y) == pytest.approx(found, rel=1e-8), other.__name__


@pytest.mark.parametrize(("n", "m"), [(20, 30), (30, 20), (2, 39)])
def test_check_3_ways_agree_where_rows_are_fewer_than_dimensions(n: int, m: int):
    x, y = rows(n, 40, 0), rows(m, 40, 1)
    found = frechet_of_features(x, y)
    assert found.distance == pytest.approx(found.mean_term + found.trace_term, rel=1e-15)
    assert distance(Moments.of(x), Moments.of(y)) == pytest.approx(found.distance, rel=1e-6)
    assert by_eigenvalues(x, y) == pytest.approx(found.distance, rel=1e-6)
    assert by_nuclear_norm(x, y) == pytest.approx(found.distance, rel=1e-12)


def test_features_in_float32_are_taken_in_float64():
    x, y = (rows(n, 40, n).float() for n in (20, 30))
    assert frechet_of_features(x, y) == frechet_of_features(x.double(), y.double())


# Check 4: bias.

HARMONIC = 1 / torch.arange(1, 33, dtype=torch.float64)


def harmonic(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 32, generator=generator, dtype=torch.float64) * HARMONIC.sqrt()


def test_check_4_the_bias_of_the_specification():
    found = [expected_bias(HARMONIC, n) for n in (200, 400, 800, 1600)]
    assert found == pytest.approx([0.1271, 0.0634, 0.0317, 0.0158], abs=1e-4)


def test_check_4_the_bias_is_the_plain_double_sum():
    values = [0.5, 2.0, 3.0]
    pairs = sum(a * b * (1 + (i == j)) / (a + b) for i, a in enumerate(values) for j, b in enumerate(values))
    assert expected_bias(torch.tensor(values), 7) == pytest.approx(sum(values) / 7 + pairs / 12, rel=1e-12)
    assert expected_bias(torch.tensor([*values, 0.0, 0.0]), 7) == expected_bias(torch.tensor(values), 7)


@pytest.mark.parametrize(("count", "within"), [(200, 0.02), (400, 0.015), (800, 0.01)])
def test_check_4_the_bias_in_simulation(count: int, within: float):
    generator, exact = torch.Generator().manual_seed(0), gaussian(torch.zeros(32), torch.diag(HARMONIC))
    found = torch.tensor([distance(Moments.of(harmonic(count, generator)), exact) for _ in range(2000)])
    assert float(found.std()) / 2000**0.5 < within / 4 * float(found.mean())  # else it would show nothing
    assert float(found.mean()) == pytest.approx(expected_bias(HARMONIC, count), rel=within)


def test_check_4_the_biases_of_two_sets_add():
    generator = torch.Generator().manual_seed(1)
    pairs = [(harmonic(300, generator), harmonic(600, generator)) for _ in range(300)]
    found = torch.tensor([frechet_of_features(x, y).distance for x, y in pairs])
    expected = expected_bias(HARMONIC, 300) + expected_bias(HARMONIC, 600)
    assert float(found.mean()) == pytest.approx(expected, rel=0.03)


# FID infinity.


def law(dim: int, scale: float, shift: float) -> tuple[Moments, float, Tensor]:
    """A reference, the exact distance of another law from it, and that law's roots of eigenvalues."""
    values = 1 / torch.arange(1, dim + 1, dtype=torch.float64)
    exact = dim * shift**2 + float(((scale - 1) ** 2 * values).sum())
    return gaussian(torch.zeros(dim), torch.diag(values)), exact, scale * values.sqrt()


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.3, 0.5)])
def test_check_4_the_intercept_lies_within_its_error_of_the_exact_distance(scale: float, shift: float):
    reference, exact, spread = law(8, scale, shift)
    generator = torch.Generator().manual_seed(0)
    apart, raw = [], []
    for seed in range(60):
        pool = torch.randn(1000, 8, generator=generator, dtype=torch.float64) * spread + shift
        line = extrapolated(pool, reference, seed=seed)
        apart.append((line.intercept - exact) / line.error)
        raw.append(line.distances[-1] - exact)
    z, raw = torch.tensor(apart), torch.tensor(raw)
    assert float((z.abs() > 3).double().mean()) <= 0.05
    assert 0.5 < float(z.std()) < 1.5  # an error too large would hide everything, too small would promise too much
    assert abs(float(z.mean())) < 0.5
    if not shift:  # what it is for: without it all are too large
        assert float(raw.mean()) > 5 * float(raw.std()) / 60**0.5


def test_the_line_equals_its_plain_twin():
    reference, _, spread = law(8, 1.2, 0.1)
    pool = torch.randn(300, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * spread
    line = extrapolated(pool, reference, points=9, smallest=30, seed=7)
    assert line.sizes == tuple(round(30 + 270 * i / 8) for i in range(9))
    generator, found = torch.Generator().manual_seed(7), []
    for size in line.sizes:
        some = pool[torch.randperm(300, generator=generator)[:size]]
        found.append(distance(Moments.of(some), reference))
    assert line.distances == pytest.approx(found, rel=1e-9)
    x = 1 / np.array(line.sizes)
    slope, intercept = np.polyfit(x, found, 1)
    assert line.intercept == pytest.approx(intercept, rel=1e-9)
    assert line.r2 == pytest.approx(np.corrcoef(x, found)[0, 1] ** 2, rel=1e-9)
    assert slope > 0


def test_the_line_of_fewer_rows_than_dimensions_is_the_same():
    pool, reference = rows(60, 40, 0), Moments.of(rows(500, 40, 1))
    line = extrapolated(pool, reference, points=6, smallest=10, seed=3)
    assert min(line.sizes) < 40 < max(line.sizes)
    generator = torch.Generator().manual_seed(3)
    for size, found in zip(line.sizes, line.distances, strict=True):
        some = pool[torch.randperm(60, generator=generator)[:size]]
        assert found == pytest.approx(distance(Moments.of(some), reference), rel=1e-6)


def test_the_error_of_the_line_equals_a_simulation_of_its_assumptions():
    """Distances of subsets that scatter with s^2 / N, of which s^2 / M is common to all."""
    sizes, pool, noise = [100, 250, 400, 550, 700, 850, 1000], 1000, np.random.default_rng(0)
    intercepts, errors = [], []
    for _ in range(4000):
        common = noise.normal() / pool**0.5
        own = noise.normal(size=7) * np.sqrt([1 / n - 1 / pool for n in sizes])
        line = _line(sizes, [0.3 + 20 / n + common + e for n, e in zip(sizes, own.tolist(), strict=True)], pool)
        intercepts.append(line.intercept)
        errors.append(line.error)
    assert float(np.mean(intercepts)) == pytest.approx(0.3, abs=0.01)
    assert float(np.mean(np.square(errors))) == pytest.approx(float(np.var(intercepts)), rel=0.08)


def test_the_same_seed_gives_the_same_line():
    pool, reference = rows(60, 5, 0), Moments.of(rows(200, 5, 1))
    assert extrapolated(pool, reference, seed=1) == extrapolated(pool, reference, seed=1)
    assert extrapolated(pool, reference, seed=1) != extrapolated(pool, reference, seed=2)


@pytest.mark.parametrize(("count", "points", "smallest"), [(60, 2, None), (3, 15, None), (60, 15, 1), (60, 15, 60)])
def test_too_little_for_a_line_is_refused(count: int, points: int, smallest: int | None):
    with pytest.raises(ValueError, match="a line needs three sizes of two or more"):
        extrapolated(rows(count, 5, 0), Moments.of(rows(200, 5, 1)), points=points, smallest=smallest)


# Check 5: torchmetrics with the same features.


class Slice(nn.Module):
    """Features of images that are given as such."""

    num_features = 24

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :24].double()


@pytest.mark.parametrize("count", [100, 16])
def test_check_5_torchmetrics_agrees(count: int):
    oracle = pytest.importorskip("torchmetrics.image.fid").FrechetInceptionDistance
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(high, (count, 3, 4, 4), generator=generator).byte() for high in (256, 200))
    metric = oracle(feature=Slice())
    metric.set_dtype(torch.float64)
    for side, is_real in ((real, True), (fake, False)):
        for batch in side.split(30):
            metric.update(batch, real=is_real)
    found = frechet_of_features(Slice()(real), Slice()(fake)).distance
    assert found == pytest.approx(float(metric.compute()), rel=1e-4)


# Check 6: streams.


def test_check_6_neither_batches_nor_the_order_of_merging_matter():
    x, y = rows(90, 12, 0), Moments.of(rows(80, 12, 1))
    expected = distance(Moments.of(x), y)
    for size in (1, 7, 64):
        parts = [Moments.of(part) for part in x.split(size)]
        for order in (parts, parts[::-1]):
            whole = Moments(12)
            for part in order:
                whole.merge(part)
            assert distance(whole, y) == pytest.approx(expected, rel=1e-10)


# Bad input.


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="features of 3 and 4 dimensions"):
        frechet_distance(random_gaussian(3, 0), random_gaussian(4, 0))


@pytest.mark.parametrize("count", [50, 4])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(count: int, value: float):
    x, y = rows(count, 12, 0), rows(count, 12, 1)
    x[1, 2] = value
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match="not finite"):
            frechet_of_features(*pair)
    with pytest.raises(ValueError, match="not finite"):
        extrapolated(x, Moments.of(rows(20, 12, 1)), points=3, smallest=2)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("others", [5, 50])
def test_a_single_row_is_refused(count: int, others: int):
    with pytest.raises(ValueError, match=f"two rows or more, not {count}"):
        frechet_of_features(rows(count, 12, 0), rows(others, 12, 1))


def test_a_negative_distance_is_refused_beyond_rounding():
    """Of what is no covariance; as much as rounding makes is taken for 0."""
    zero, one = torch.zeros(2), torch.diag(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="came out negative"):
        frechet_distance(gaussian(zero, one), gaussian(zero, torch.diag(torch.tensor([4.0, -4.0]))))
    nearly = gaussian(zero, torch.diag(torch.tensor([1.0, -1e-8])))
    assert frechet_distance(gaussian(zero, one), nearly) == Frechet(0.0, 0.0, 0.0)
