"""The resize filters of section 1.2, each against a loop that follows its definition pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from photogram.metrics.resize import FILTERS, Filter, resized

Size = tuple[int, int]
SIZES = [((5, 7), (9, 4)), ((13, 6), (7, 19)), ((4, 4), (4, 9)), ((17, 11), (3, 3)), ((1, 2), (5, 5)), ((8, 8), (1, 1))]


def noise(height: int, width: int, n: int = 2, channels: int = 3) -> Tensor:
    """Whole numbers in 0..255, all over the range, so that filters overshoot."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(256, (n, channels, height, width), generator=generator).float()


def tensorflow(image: np.ndarray, size: Size) -> np.ndarray:
    """TensorFlow 1's bilinear, corners aligned at 0: every step in float32, columns before rows."""
    scales = [np.float32(a) / np.float32(b) for a, b in zip(image.shape, size, strict=True)]
    made = np.zeros(size, np.float32)
    for i, j in np.ndindex(size):
        y, x = np.float32(i) * scales[0], np.float32(j) * scales[1]
        top, left = int(y), int(x)
        bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
        down, across = y - np.float32(top), x - np.float32(left)
        upper = image[top, left] + (image[top, right] - image[top, left]) * across
        lower = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * across
        made[i, j] = upper + (lower - upper) * down
    return made


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def cubic(x: float) -> float:
    """Keys' cubic with a = -1/2."""
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def line(values: np.ndarray, out: int, kernel: Callable[[float], float], antialias: bool) -> np.ndarray:
    """One row: every pixel of the result is the kernel's mean of all pixels that there are."""
    scale = len(values) / out
    wide = max(1.0, scale) if antialias else 1.0
    made = np.zeros(out)
    for i in range(out):
        centre = (i + 0.5) * scale - 0.5
        if not antialias:  # the border repeats
            centre = min(max(centre, 0), len(values) - 1)
        weights = [kernel((j - centre) / wide) for j in range(len(values))]
        made[i] = np.dot(weights, values) / sum(weights)
    return made


def separable(image: np.ndarray, size: Size, kernel: Callable[[float], float], antialias: bool) -> np.ndarray:
    rows = np.stack([line(row, size[1], kernel, antialias) for row in image])
    return np.stack([line(column, size[0], kernel, antialias) for column in rows.T]).T


def of_each_plane(images: Tensor, work: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    planes = [torch.from_numpy(work(plane.numpy())) for plane in images.flatten(0, 1)]
    return torch.stack(planes).unflatten(0, images.shape[:2])


@pytest.mark.parametrize(("source", "size"), [*SIZES, ((3, 256), (2, 299)), ((2, 1024), (2, 299))])
def test_tf1_equals_its_loop_to_the_last_bit(source: Size, size: Size):
    images = noise(*source) + 1 / 3  # no whole numbers, so that the order of rounding shows
    assert torch.equal(resized(images, size, "tf1"), of_each_plane(images, lambda p: tensorflow(p, size)))


def test_tf1_aligns_corners_at_0_and_torch_aligns_centres():
    ramp = torch.tensor([0.0, 100.0]).view(1, 1, 1, 2)
    assert resized(ramp, (1, 4), "tf1").flatten().tolist() == [0, 50, 100, 100]
    assert resized(ramp, (1, 4), "torch").flatten().tolist() == [0, 25, 75, 100]
    steps = torch.arange(8.0).view(1, 1, 1, 8)
    assert resized(steps, (1, 4), "tf1").flatten().tolist() == [0, 2, 4, 6]  # no mean is taken: it aliases
    assert resized(steps, (1, 4), "torch").flatten().tolist() == [0.5, 2.5, 4.5, 6.5]


@pytest.mark.parametrize(("source", "size"), SIZES)
def test_torch_and_aa_equal_their_loops(source: Size, size: Size):
    images = noise(*source)
    kinds: tuple[tuple[Filter, bool], ...] = (("torch", False), ("aa", True))
    for how, antialias in kinds:
        expected = of_each_plane(images, lambda p, smooth=antialias: separable(p, size, triangle, smooth))
        torch.testing.assert_close(resized(images, size, how).double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("source", "size"), SIZES)
def test_clean_is_pillows_bicubic_of_each_channel_and_equals_its_loop(source: Size, size: Size):
    images = noise(*source)

    def pillow(plane: np.ndarray) -> np.ndarray:
        return np.array(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BICUBIC))

    found = resized(images, size, "clean")
    assert torch.equal(found, of_each_plane(images, pillow).clamp(0, 255))
    loop = of_each_plane(images, lambda p: separable(p, size, cubic, True)).clamp(0, 255)
    torch.testing.assert_close(found.double(), loop, rtol=0, atol=1e-3)


def test_clean_clips_what_overshoots_and_does_not_round():
    step = torch.tensor([0.0, 0, 0, 255, 255, 255]).view(1, 1, 1, 6).expand(1, 3, 6, 6)
    row = resized(step, (6, 18), "clean")[0, 0, 2]
    unclipped = torch.from_numpy(line(step[0, 0, 0].numpy(), 18, cubic, True))
    assert unclipped.min() < -5 and unclipped.max() > 260  # the filter overshoots on both sides
    assert row.min() == 0 and row.max() == 255
    assert (row != row.round()).any()


@pytest.mark.parametrize("how", FILTERS)
def test_one_size_stays_as_it_is_and_flat_stays_flat(how: Filter):
    images = noise(9, 12)
    assert torch.equal(resized(images, (9, 12), how), images)
    flat = torch.full((1, 3, 9, 12), 77.0)
    for size in ((4, 5), (20, 31)):
        torch.testing.assert_close(resized(flat, size, how), torch.full((1, 3, *size), 77.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(10, 12), (40, 30)])
def test_no_two_filters_are_alike(size: Size):
    images = noise(24, 20)
    made = {how: resized(images, size, how) for how in FILTERS}
    for a, b in combinations(FILTERS, 2):
        alike = {a, b} == {"torch", "aa"} and size[0] > 24  # growing, there is nothing to smooth
        assert ((made[a] - made[b]).abs().max() < 1e-3) == alike, (a, b)
    assert all(m.dtype == torch.float32 and tuple(m.shape[-2:]) == size for m in made.values())
