"""K-means against plain loops and scipy, its starts, and its seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from photogram.nn.kmeans import kmeans, lloyd, starts


def blobs(seed: int, sizes: tuple[int, ...], spread: float = 0.05) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    middles = torch.tensor([[0.0, 0, 0], [5, 0, 0], [0, 5, 0], [0, 0, 5]])[: len(sizes)]
    return torch.cat(
        [m + spread * torch.randn(n, 3, generator=draws) for m, n in zip(middles, sizes, strict=True)]
    ).double()


def naive(points: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Lloyd's algorithm, point by point."""
    numbers: list[int] = []
    while True:
        now = [min(range(len(centres)), key=lambda k: ((p - centres[k]) ** 2).sum()) for p in points]
        if now == numbers:
            return centres, numbers
        numbers = now
        for k in range(len(centres)):
            mine = [n for n, number in enumerate(numbers) if number == k]
            if mine:
                centres[k] = sum(weights[n] * points[n] for n in mine) / sum(weights[n] for n in mine)


@pytest.mark.parametrize("seed", range(5))
def test_lloyd_is_a_loop_over_points(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 2, generator=draws, dtype=torch.float64)
    weights = torch.rand(60, generator=draws, dtype=torch.float64) + 0.1
    found = lloyd(points, weights, points[:7])
    centres, numbers = naive(points.numpy(), weights.numpy(), points[:7].numpy().copy())
    assert found.numbers.tolist() == numbers
    torch.testing.assert_close(found.centres, torch.from_numpy(centres))
    for k in range(7):
        assert float(found.weights[k]) == pytest.approx(float(weights[found.numbers == k].sum()))


def test_lloyd_is_scipys() -> None:
    vq = pytest.importorskip("scipy.cluster.vq")
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, numbers = vq.kmeans2(points.numpy(), points[:5].numpy(), iter=200, minit="matrix", missing="raise")
    found = lloyd(points, torch.ones(200, dtype=torch.float64), points[:5])
    torch.testing.assert_close(found.centres, torch.from_numpy(expected))
    assert found.numbers.tolist() == numbers.tolist()


def test_groups_that_are_apart_are_found_the_heaviest_first() -> None:
    sizes = (10, 40, 20, 30)
    found = kmeans(blobs(0, sizes), 4)
    assert found.weights.tolist() == [40, 30, 20, 10]
    expected = torch.tensor([[5.0, 0, 0], [0, 0, 5], [0, 5, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found.centres, expected, atol=0.1, rtol=0)
    assert [len(set(part.tolist())) for part in found.numbers.split(sizes)] == [1, 1, 1, 1]
    assert found.numbers[0] == 3 and found.numbers[10] == 0, "numbers follow the order of the groups"


def test_weights_count_as_so_many_points() -> None:
    points = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    weights = torch.tensor([3.0, 1.0, 1.0, 2.0])
    repeated = points.repeat_interleave(weights.long(), 0)
    found, twin = kmeans(points, 2, weights=weights), kmeans(repeated, 2)
    torch.testing.assert_close(found.centres, twin.centres)
    assert found.weights.tolist() == [4, 3] == twin.weights.tolist()
    assert found.centres.flatten().tolist() == [0.25, pytest.approx(34 / 3)]


def test_equal_seeds_give_equal_groups_and_leave_torchs_own_noise_alone() -> None:
    points = torch.randn(300, 3, generator=torch.Generator().manual_seed(2))
    before = torch.random.get_rng_state()
    first, again, other = (kmeans(points, 8, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.centres, other.centres)


def test_no_group_is_empty_where_points_are_the_same() -> None:
    points = torch.tensor([[0.1, 0.2]] * 5 + [[0.7, 0.7]] * 2)
    found = kmeans(points, 6)
    assert found.weights.tolist() == [5, 2]
    torch.testing.assert_close(found.centres, points[[0, 5]].double())
    assert kmeans(points[:1], 10).weights.tolist() == [1]


def test_starts_are_drawn_by_weight_and_squared_distance() -> None:
    """The second start of two, given the first: chances of 1 x 1, 1 x 4 and 2 x 9 of 23."""
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    weights = torch.tensor([1e9, 1.0, 1.0, 2.0], dtype=torch.float64)  # the first start is the heavy one
    noise, counts = torch.Generator().manual_seed(0), torch.zeros(4)
    for _ in range(4000):
        first, second = starts(points, weights, 2, noise).flatten().tolist()
        assert first == 0
        counts[int(second)] += 1
    torch.testing.assert_close(counts / 4000, torch.tensor([0, 1, 4, 18]) / 23, atol=0.03, rtol=0)


def test_ten_starts_find_what_one_may_miss() -> None:
    points, weights = blobs(3, (50, 50, 50, 50), 0.4), torch.ones(200, dtype=torch.float64)

    def error(centres: Tensor) -> float:
        return float(torch.cdist(points, centres).amin(1).square().sum())

    noise = torch.Generator().manual_seed(0)
    single = [error(lloyd(points, weights, starts(points, weights, 4, noise)).centres) for _ in range(100)]
    assert max(single) > 5 * min(single), "a start may miss a group"
    assert error(kmeans(points, 4, 5).centres) <= min(single) * (1 + 1e-9)
