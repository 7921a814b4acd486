"""Section 2 of the specification of metrics: streaming mean and covariance."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from photogram.metrics.moments import Moments


def rows(count: int, dim: int = 6, mean: float = 0.0, spread: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + spread * torch.randn(count, dim, generator=generator, dtype=torch.float64)


def streamed(chunks: list[Tensor]) -> Moments:
    moments = Moments(chunks[0].shape[1])
    for chunk in chunks:
        moments.update(chunk)
    return moments


def close(a: Moments, b: Moments, tolerance: float = 1e-12) -> None:
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.covariance, b.covariance, rtol=tolerance, atol=tolerance)


def plain(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """In two passes, row by row, in extended precision."""
    x = features.numpy().astype(np.longdouble)
    mean = x.sum(0) / len(x)
    scatter = np.zeros((x.shape[1],) * 2, np.longdouble)
    for row in x:
        scatter += np.outer(row - mean, row - mean)
    return mean, scatter / (len(x) - 1)


def relative_error(found: Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_equals_the_two_passes_of_the_definition_and_numpy():
    x = rows(57)
    moments = streamed(list(x.split(10)))
    mean, covariance = plain(x)
    assert moments.count == 57
    assert relative_error(moments.mean, mean) < 1e-14
    assert relative_error(moments.covariance, covariance) < 1e-14
    np.testing.assert_allclose(moments.covariance, np.cov(x.numpy().T), rtol=0, atol=1e-14)


def test_divides_by_one_less_than_the_number_of_rows():
    x = rows(5)
    over_n = np.cov(x.numpy().T, bias=True)  # what other code divides by; visible in small sets
    found = Moments.of(x).covariance
    np.testing.assert_allclose(found * 4 / 5, over_n, rtol=1e-13, atol=1e-14)
    assert float(found.trace()) == pytest.approx(1.25 * float(np.trace(over_n)))


def test_a_spread_that_is_small_beside_the_mean_survives():
    x = rows(4000, mean=50, spread=0.1).float()
    mean, covariance = plain(x)
    ours = streamed(list(x.split(64)))
    assert relative_error(ours.mean, mean) < 1e-14 and relative_error(ours.covariance, covariance) < 1e-13

    def by_squares(x: Tensor) -> Tensor:
        total, squares = x.sum(0), x.T @ x
        return (squares - torch.outer(total, total) / len(x)) / (len(x) - 1)

    assert relative_error(by_squares(x.double()), covariance) > 1e-11
    assert relative_error(by_squares(x).double(), covariance) > 0.01  # why it is not done so


@pytest.mark.parametrize("size", [1, 2, 7, 32, 100, 1000])
def test_the_batch_size_changes_nothing(size: int):
    x = rows(100, mean=3)
    close(streamed(list(x.split(size))), Moments.of(x))


def test_batches_without_rows_change_nothing():
    x = rows(9)
    found, expected = streamed([x[:0], x[:4], x[:0], x[4:]]), streamed([x[:4], x[4:]])
    assert torch.equal(found.mean, expected.mean) and torch.equal(found.scatter, expected.scatter)


def test_merges_in_any_order_and_grouping():
    x = rows(60, mean=-2)
    parts = [x[:1], x[1:20], x[20:23], x[23:]]
    for order in permutations(parts):
        one_by_one, first, second = Moments(6), streamed(list(order[:2])), streamed(list(order[2:]))
        for part in order:
            one_by_one.merge(Moments.of(part))
        first.merge(second)
        close(one_by_one, Moments.of(x))
        close(first, Moments.of(x))


def test_a_merge_leaves_what_it_took_in_as_it_was():
    x, other = rows(10), Moments.of(rows(4, seed=1))
    mean, scatter = other.mean.clone(), other.scatter.clone()
    moments = Moments(6)
    moments.merge(other)
    moments.update(x)
    moments.merge(Moments(6))
    assert other.count == 4 and torch.equal(other.mean, mean) and torch.equal(other.scatter, scatter)
    close(moments, Moments.of(torch.cat([rows(4, seed=1), x])))


def test_saved_loaded_and_continued_is_one_pass(tmp_path: Path):
    x = rows(50).float()
    whole = streamed(list(x.split(10)))
    half = streamed(list(x[:20].split(10)))
    safetensors.torch.save_file(half.state_dict(), tmp_path / "half.safetensors")
    loaded = Moments.from_state(safetensors.torch.load_file(tmp_path / "half.safetensors"))
    for chunk in x[20:].split(10):
        loaded.update(chunk)
    assert loaded.count == whole.count
    assert torch.equal(loaded.mean, whole.mean) and torch.equal(loaded.scatter, whole.scatter)


def test_a_state_stays_as_it_was_while_more_rows_come():
    moments = Moments.of(rows(5))
    state = moments.state_dict()
    kept = {key: value.clone() for key, value in state.items()}
    continued = Moments.from_state(state)
    for other in (moments, continued):
        other.update(rows(5, seed=1))
    assert all(torch.equal(state[key], kept[key]) for key in kept)


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape"])
def test_another_state_is_refused(spoil: str):
    state = Moments.of(rows(5)).state_dict()
    if spoil == "missing":
        del state["count"]
    elif spoil == "unknown":
        state["variance"] = state["mean"]
    else:
        state["scatter"] = state["scatter"][:3]
    with pytest.raises(ValueError, match="not the state of a mean"):
        Moments.from_state(state)


def test_rows_of_another_length_are_refused():
    moments = Moments.of(rows(5))
    with pytest.raises(ValueError, match="rows of 1 numbers do not go with rows of 6"):
        moments.update(rows(5, dim=1))
    with pytest.raises(ValueError, match="rows of 7 numbers"):
        moments.merge(Moments(7))


@pytest.mark.parametrize("count", [0, 1])
def test_a_covariance_needs_two_rows(count: int):
    with pytest.raises(ValueError, match=f"two rows or more, not {count}"):
        _ = Moments.of(rows(count)).covariance


def test_features_with_a_gradient_are_taken_without_it():
    assert not Moments.of(rows(5).requires_grad_()).scatter.requires_grad
