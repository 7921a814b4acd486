"""Section 7 of the specification of metrics: perceptual path length, by squared distances of pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from photogram.metrics.path_length import cropped_face, lerp, path_length, shrunk, slerp, trimmed

Ends = tuple[Tensor, Tensor]


def normal_ends(dim: int):
    def ends(count: int, generator: torch.Generator) -> Ends:
        both = torch.randn(2, count, dim, generator=generator, dtype=torch.float64)
        return both[0], both[1]

    return ends


class Recorded:
    """Squared distances of pixels, and all that were asked for, before outliers are left out."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self.found.append((a - b).flatten(1).square().sum(1))
        return self.found[-1]

    @property
    def mean(self) -> float:
        return float(torch.cat(self.found).double().mean())


def as_images(latents: Tensor) -> Tensor:
    return latents[:, :, None, None]


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Closed forms.


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("step", [1e-4, 1e-2, 0.5])
def test_a_linear_generator(whole: bool, step: float):
    weight, bias, recorded = matrix(40, 100) / 10, matrix(1, 40, 1), Recorded()
    expected = 2 * float(weight.square().sum())
    found = path_length(
        lambda w: as_images(w @ weight.T + bias),
        normal_ends(100),
        recorded,
        pairs=4000,
        batch_size=1000,
        whole=whole,
        step=step,
    )
    assert recorded.mean / step**2 == pytest.approx(expected, rel=0.02)
    assert found.length == pytest.approx(expected, rel=0.02)
    assert found.pairs == 4000 and 3920 <= found.kept <= 3922


def test_each_step_of_a_linear_generator_has_its_length_exactly():
    weight, recorded, ends = matrix(6, 4), Recorded(), normal_ends(4)
    found = path_length(lambda w: as_images(w @ weight.T), ends, recorded, pairs=50, whole=True, seed=3)
    a, b = ends(50, torch.Generator().manual_seed(3))
    lengths = ((b - a) @ weight.T).square().sum(1)
    torch.testing.assert_close(torch.cat(recorded.found) / 1e-8, lengths, rtol=1e-7, atol=0)
    assert found.length == pytest.approx(trimmed(lengths).length, rel=1e-7)


@pytest.mark.parametrize(
    ("dim", "expected"),
    [(2, math.pi**2 / 3), (3, (math.pi**2 - 4) / 2), (512, math.pi**2 / 4 + 1 / 512)],
)
@pytest.mark.parametrize("whole", [False, True])
def test_arcs_of_the_identity(dim: int, expected: float, whole: bool):
    recorded = Recorded()
    path_length(as_images, normal_ends(dim), recorded, pairs=20_000, batch_size=5000, arc=True, whole=whole)
    assert recorded.mean / 1e-8 == pytest.approx(expected, rel=0.02)


def test_a_constant_generator_has_no_length():
    found = path_length(lambda w: torch.ones(len(w), 3, 4, 4), normal_ends(8), Recorded(), pairs=40, whole=True)
    assert (found.length, found.pairs, found.kept) == (0, 40, 40)


def test_three_times_the_contrast_is_nine_times_the_length():
    weight = matrix(6, 4)
    once, thrice = (
        path_length(lambda w, c=c: as_images(w @ weight.T * c), normal_ends(4), Recorded(), pairs=100).length
        for c in (1, 3)
    )
    assert thrice == pytest.approx(9 * once, rel=1e-9)


def test_the_step_does_not_matter_where_the_generator_is_smooth():
    weight = matrix(30, 16)
    found = [
        path_length(
            lambda w: as_images((w @ weight.T).tanh()), normal_ends(16), Recorded(), pairs=300, whole=True, step=step
        ).length
        for step in (1e-3, 1e-4)
    ]
    assert found[0] == pytest.approx(found[1], rel=0.01)


# Paths.


def test_lines_and_arcs_end_where_they_should():
    a, b = matrix(9, 5), matrix(9, 5, 1)
    zero, one = torch.zeros(9, dtype=torch.float64), torch.ones(9, dtype=torch.float64)
    torch.testing.assert_close(lerp(a, b, zero), a)
    torch.testing.assert_close(lerp(a, b, one), b)
    torch.testing.assert_close(lerp(a, b, one / 4), 0.75 * a + 0.25 * b)
    for t, end in ((zero, a), (one, b)):
        torch.testing.assert_close(slerp(a, b, t), end / end.norm(dim=1, keepdim=True))


def test_arcs_equal_the_formula_of_sines():
    a, b, t = matrix(50, 5), matrix(50, 5, 1), torch.linspace(0, 1, 50, dtype=torch.float64)
    p, q = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    angle = (p * q).sum(1).arccos()
    expected = (((1 - t) * angle).sin()[:, None] * p + (t * angle).sin()[:, None] * q) / angle.sin()[:, None]
    found = slerp(a, b, t)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(50, dtype=torch.float64))


def test_an_arc_between_equal_ends_stays_there():
    a = matrix(3, 5)
    found = slerp(a, 2 * a, torch.tensor([0, 0.3, 1], dtype=torch.float64))
    torch.testing.assert_close(found, a / a.norm(dim=1, keepdim=True), rtol=0, atol=1e-7)


# What is left out.


def test_up_to_a_hundred_values_nothing_is_left_out():
    found = trimmed(torch.arange(1.0, 101))
    assert (found.length, found.pairs, found.kept) == (50.5, 100, 100)


def test_of_a_thousand_values_the_10th_to_the_991st_are_kept():
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0)) + 1.0
    found = trimmed(shuffled)
    assert (found.kept, found.pairs) == (982, 1000)
    assert found.length == np.arange(10, 992).mean()


@pytest.mark.parametrize("count", [1, 2, 99, 101, 150, 201, 701, 1001, 2048])
def test_cuts_are_those_of_numpy(count: int):
    values = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64) ** 3
    low, high = np.percentile(values, 1, method="lower"), np.percentile(values, 99, method="higher")
    kept = [v for v in values.tolist() if low <= v <= high]
    found = trimmed(values)
    assert (found.length, found.kept) == (pytest.approx(sum(kept) / len(kept), rel=1e-12), len(kept))


# Crop and size.


@pytest.mark.parametrize("side", [64, 1024])
def test_the_face_is_rows_three_to_seven_and_columns_two_to_six_of_eight(side: int):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    found = cropped_face(torch.stack([rows, columns])[None].float())
    assert found.shape == (1, 2, side // 2, side // 2)
    assert found[0, :, 0, 0].tolist() == [side * 3 / 8, side * 2 / 8]
    assert found[0, :, -1, -1].tolist() == [side * 7 / 8 - 1, side * 6 / 8 - 1]


@pytest.mark.parametrize(("height", "width", "expected"), [(16, 24, (4, 6)), (7, 7, (7, 7)), (4, 4, (4, 4))])
def test_blocks_are_averaged_down_to_a_side(height: int, width: int, expected: tuple[int, int]):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    found, factor = shrunk(images, 4), height // expected[0]
    assert found.shape == (2, 3, *expected)
    for i in range(expected[0]):
        for j in range(expected[1]):
            block = images[:, :, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            torch.testing.assert_close(found[:, :, i, j], block.mean((2, 3)))


def test_cropped_faces_of_1024_come_to_256_or_as_published_later_to_128():
    face = cropped_face(torch.zeros(1, 3, 1024, 1024))
    assert shrunk(face).shape[-2:] == (256, 256)
    assert shrunk(face, 128).shape[-2:] == (128, 128)


# How it goes through its pairs.


@pytest.mark.parametrize("arc", [False, True])
def test_the_batch_size_changes_nothing_and_the_seed_does(arc: bool):
    weight = matrix(6, 4)

    def length(batch_size: int, seed: int) -> float:
        return path_length(
            lambda w: as_images((w @ weight.T).sin()),
            normal_ends(4),
            Recorded(),
            pairs=50,
            batch_size=batch_size,
            arc=arc,
            whole=True,
            seed=seed,
        ).length

    expected = length(50, 1)
    for batch_size in (1, 7, 1000):
        assert length(batch_size, 1) == pytest.approx(expected, rel=1e-7)
    assert length(50, 2) != pytest.approx(expected, rel=1e-3)


def test_both_ends_of_each_step_come_in_one_batch():
    seen: list[Tensor] = []
    done: list[int] = []

    def generate(w: Tensor) -> Tensor:
        seen.append(w)
        return as_images(w)

    ends = normal_ends(4)
    path_length(generate, ends, Recorded(), pairs=7, batch_size=3, step=0.01, advance=done.append)
    assert [len(w) for w in seen] == [6, 6, 2] and done == [3, 6, 7]
    a, b = ends(7, torch.Generator().manual_seed(0))
    beginnings, stops = (torch.cat([w.chunk(2)[half] for w in seen]) for half in (0, 1))
    torch.testing.assert_close(beginnings, a)
    torch.testing.assert_close(stops, a + 0.01 * (b - a))


def test_steps_lie_anywhere_on_the_path_or_at_its_beginning():
    seen: list[Tensor] = []

    def generate(w: Tensor) -> Tensor:
        seen.append(w)
        return as_images(w)

    ends = normal_ends(4)
    path_length(generate, ends, Recorded(), pairs=2000, batch_size=2000, whole=True)
    path_length(generate, ends, Recorded(), pairs=2000, batch_size=2000)
    a, b = ends(2000, torch.Generator().manual_seed(0))
    anywhere, beginning = (((w[:2000] - a) * (b - a)).sum(1) / (b - a).square().sum(1) for w in seen)
    torch.testing.assert_close(seen[0][:2000], a + anywhere[:, None] * (b - a))
    assert scipy.stats.kstest(anywhere.numpy(), "uniform").pvalue > 0.01
    assert torch.equal(beginning, torch.zeros_like(beginning))


def test_what_has_no_length_is_refused():
    with pytest.raises(ValueError, match="0 pairs, 16 at a time"):
        path_length(as_images, normal_ends(4), Recorded(), pairs=0)
    with pytest.raises(ValueError, match="not finite"):
        path_length(lambda w: as_images(w / 0), normal_ends(4), Recorded(), pairs=5)
