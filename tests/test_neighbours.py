"""Section 5 of the specification of metrics: precision and recall, density and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from photogram.metrics.neighbours import Overlap, overlap


def normal(count: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def four(found: Overlap) -> tuple[float, float, float, float]:
    return found.precision, found.recall, found.density, found.coverage


def distances(x: Tensor, y: Tensor, dtype: type = np.float64) -> np.ndarray:
    """Each from the difference of two rows: nothing cancels."""
    a, b = x.numpy().astype(dtype), y.numpy().astype(dtype)
    return np.stack([np.sqrt(np.square(b - row).sum(1)) for row in a])


def plain(real: Tensor, fake: Tensor, k: int, density_k: int, dtype: type = np.float64) -> dict:
    """What is decided of each image, by all distances at once; means of it are the four numbers."""
    within_real, within_fake = np.sort(distances(real, real, dtype)), np.sort(distances(fake, fake, dtype))
    across = distances(real, fake, dtype)
    dense = across <= within_real[:, density_k, None]  # the first in a row is the row's own 0
    return {
        "precision": np.any(across <= within_real[:, k, None], axis=0),
        "recall": np.any(across <= within_fake[:, k], axis=1),
        "density": dense.sum(0) / density_k,
        "coverage": np.any(dense, axis=1),
    }


# Check 1: the same set, sets apart, a dropped mode.


def test_check_1_the_same_set_on_both_sides():
    x = normal(50, 6, 0)
    found = overlap(x, x)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density >= 1


def test_check_1_two_clusters_far_apart():
    assert four(overlap(normal(30, 4, 0), normal(40, 4, 1, shift=100))) == (0, 0, 0, 0)


def test_check_1_a_dropped_mode_lowers_recall_and_an_invented_one_precision():
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(200, 1, generator=generator, dtype=torch.float64)
    again = torch.rand(200, 1, generator=generator, dtype=torch.float64)
    both = torch.cat([one, one + 100])
    wide = {"k": 40, "density_k": 40}  # balls that reach far, so that chance does not decide
    dropped, invented = overlap(both, again, **wide), overlap(again, both, **wide)
    assert (dropped.precision, dropped.recall, dropped.coverage) == (1, 0.5, 0.5)
    assert (invented.precision, invented.recall, invented.coverage) == (0.5, 1, 1)


# Check 2: by hand.


def test_check_2_in_one_dimension():
    found = overlap(column(0, 1, 2, 3), column(-1.5, 0.5, 3.9, 9), k=1, density_k=1)
    assert found.precision == 2 / 4
    assert found.generated[:, 0].tolist() == [0, 1, 1, 0]
    assert found.density == 3 / 4 and found.generated[:, 1].tolist() == [0, 2, 1, 0]
    # generated balls reach 2, 2, 3.4 and 5.1: to .5, 2.5, [.5, 7.3] and [3.9, 14.1]
    assert found.real[:, 0].tolist() == [1, 1, 1, 1] and found.recall == 1
    assert found.real[:, 1].tolist() == [1, 1, 0, 1] and found.coverage == 3 / 4


def test_check_2_the_border_counts():
    real = column(0, 1, 2, 3)
    assert overlap(real, column(4, 8, 12), k=1, density_k=1).precision == 1 / 3
    assert overlap(real, column(4 + 1e-6, 8, 12), k=1, density_k=1).precision == 0


# Check 3: the same law on both sides.


def expected_coverage(n: int, m: int, k: int) -> float:
    return 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))


def test_check_3_expected_density_and_coverage():
    expected = expected_coverage(60, 40, 5)
    assert expected == pytest.approx(0.93, abs=5e-5)
    found = [overlap(normal(60, 3, 2 * s), normal(40, 3, 2 * s + 1)) for s in range(200)]
    for values, target in (([f.density for f in found], 1.0), ([f.coverage for f in found], expected)):
        error = float(np.std(values, ddof=1)) / 200**0.5
        assert error < 0.02
        assert abs(float(np.mean(values)) - target) < 3 * error


def test_check_3_coverage_of_large_sets_tends_to_all_but_one_in_2_to_the_k():
    assert expected_coverage(10**6, 10**6, 3) == pytest.approx(1 - 2**-3, abs=1e-5)
    found = overlap(normal(2000, 2, 0), normal(2000, 2, 1), density_k=3)
    assert found.coverage == pytest.approx(1 - 2**-3, abs=0.03)


# Check 4: tiles.


@pytest.mark.parametrize(("n", "m", "k", "density_k"), [(61, 47, 3, 5), (20, 90, 1, 2), (90, 8, 7, 3)])
def test_check_4_tiled_equals_untiled_equals_the_plain_definition(n: int, m: int, k: int, density_k: int):
    real, fake = normal(n, 5, 0), normal(m, 5, 1, shift=0.3)
    expected = plain(real, fake, k, density_k)
    assert 0 < expected["precision"].mean() < 1 or 0 < expected["coverage"].mean() < 1
    for tile in (1, 7, 13, 64, 1000):
        found = overlap(real, fake, k=k, density_k=density_k, tile=tile)
        assert found.generated[:, 0].tolist() == expected["precision"].tolist()
        assert found.real[:, 0].tolist() == expected["recall"].tolist()
        assert found.generated[:, 1].tolist() == expected["density"].tolist()
        assert found.real[:, 1].tolist() == expected["coverage"].tolist()
        assert four(found) == pytest.approx(tuple(v.mean() for v in expected.values()), rel=1e-14)


def test_check_4_float32_decides_alike():
    real, fake = normal(400, 30, 0, shift=5), normal(400, 30, 1, shift=5.1)
    found, single = overlap(real.float(), fake.float()), plain(real, fake, 3, 5, np.float32)
    differ = (found.generated[:, 0].numpy() != single["precision"]).mean()
    differ += (found.real[:, 0].numpy() != single["recall"]).mean()
    differ += (found.real[:, 1].numpy() != single["coverage"]).mean()
    assert differ < 1e-3
    assert 0 < found.precision < 1 and 0 < found.recall < 1


# Duplicates.


@pytest.mark.parametrize("tile", [3, 17, 1000])
def test_duplicates_are_at_no_distance_however_long_the_features(tile: int):
    """Every photograph four times: all balls have radius 0, and only exact copies lie in them."""
    once = 50 + 3 * normal(30, 200, 0)  # of length 700
    real = once.repeat(4, 1)[1:]  # in products of other shapes the same rows are summed in another order
    for copies in (once[:20], once[1:20], once[3:9]):
        found = overlap(real, copies, k=2, density_k=2, tile=tile)
        held = sum(bool((row == copies).all(1).any()) for row in real)
        assert found.precision == 1 and found.coverage == held / 119
        assert overlap(real, copies + 1e-4, k=2, density_k=2, tile=tile).precision == 0


def test_copies_of_one_image_lower_recall_and_coverage_but_not_precision():
    real, fake = normal(200, 3, 0), normal(200, 3, 1)
    copied = fake[:10].repeat(20, 1)
    fair, poor = overlap(real, fake), overlap(real, copied)
    assert poor.recall < 0.2 * fair.recall and poor.coverage < 0.2 * fair.coverage
    assert poor.precision > fair.precision - 0.15


def test_an_outlier_among_photographs_raises_precision_but_hardly_density():
    real, fake = normal(100, 3, 0), normal(100, 3, 1, shift=30)
    real[0] = 60  # far away, so that its ball holds all images
    found = overlap(real, fake)
    assert found.precision == 1
    assert found.density <= 1 / 5 and found.coverage == 1 / 100


# The rest.


def test_neither_a_shift_nor_the_order_nor_a_rotation_matters():
    real, fake = normal(60, 5, 0), normal(50, 5, 1)
    turn = torch.linalg.qr(normal(5, 5, 2)).Q
    expected = four(overlap(real, fake))
    for shift in (150, 1e6):  # without centring the second would cancel away
        assert four(overlap(real @ turn + shift, fake @ turn + shift)) == pytest.approx(expected, rel=1e-12)
    assert four(overlap(real.flip(0), fake.flip(0))) == pytest.approx(expected, rel=1e-12)


def test_columns_of_each_image_have_the_numbers_as_means():
    found = overlap(normal(60, 3, 0), normal(50, 3, 1, shift=0.5))
    assert found.generated.shape == (50, 2) and found.real.shape == (60, 2)
    means = (*found.generated.mean(0).tolist(), *found.real.mean(0).tolist())
    assert means == (found.precision, found.density, found.recall, found.coverage)


def test_too_few_images_are_refused():
    x = normal(20, 3, 0)
    with pytest.raises(ValueError, match="5 real images: balls of 5 neighbours need 6 or more"):
        overlap(x[:5], x)
    with pytest.raises(ValueError, match="7 generated images: balls of 9 neighbours need 10 or more"):
        overlap(x, x[:7], k=9)
    with pytest.raises(ValueError, match="not to number 0"):
        overlap(x, x, k=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(value: float):
    x, spoilt = normal(20, 3, 0), normal(20, 3, 1)
    spoilt[3, 1] = value
    with pytest.raises(ValueError, match="of generated images that are not finite"):
        overlap(x, spoilt)
    with pytest.raises(ValueError, match="of real images that are not finite"):
        overlap(spoilt, x)
