"""Regions of layouts against plain loops, and the specification's examples (checks 10.3)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from photogram.nn.regions import boundaries, find_regions, pooled, spread
from photogram.scene import Layout


def objects(rows: list[list[int]]) -> Layout:
    numbers = torch.tensor([rows])
    return Layout(torch.zeros_like(numbers), numbers)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([[1, 1, 2], [1, 1, 2], [3, 3, 2]], [[0, 1, 1], [1, 1, 1], [1, 1, 1]]),
        (
            [[7, 7, 7, 7], [7, 26001, 26001, 7], [7, 26001, 26002, 7], [7, 7, 7, 7]],
            [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]],
        ),
        (
            [[5] * 5, [5] * 5, [5, 5, 33005, 5, 5], [5] * 5, [5] * 5],
            [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5],
        ),
    ],
)
def test_boundaries_are_the_specifications(numbers: list[list[int]], expected: list[list[int]]) -> None:
    assert boundaries(objects(numbers))[0, 0].int().tolist() == expected


def test_classes_meet_in_a_boundary_where_all_that_is_no_object_has_number_0() -> None:
    layout = Layout(torch.tensor([[[1, 1, 2, 2]]]), torch.zeros(1, 1, 4, dtype=torch.int32))
    assert boundaries(layout)[0, 0].int().tolist() == [[0, 1, 1, 0]]
    cars = Layout(torch.tensor([[[1, 1, 1, 1]]]), torch.tensor([[[1, 1, 2, 2]]]))
    assert boundaries(cars)[0, 0].int().tolist() == [[0, 1, 1, 0]]
    assert not boundaries(cars, "classes").any()


def test_the_mean_of_each_object() -> None:
    means = spread(pooled(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), r := find_regions(objects([[5, 5], [7, 7]]))), r)
    assert means[0, 0].tolist() == [[1.5, 1.5], [3.5, 3.5]]


def test_equal_numbers_in_two_layouts_of_a_batch_stay_apart() -> None:
    layout = Layout(torch.zeros(2, 1, 2, dtype=torch.uint8), torch.tensor([[[5, 5]], [[5, 5]]]))
    regions = find_regions(layout)
    assert regions.images.tolist() == [0, 1]
    assert pooled(torch.tensor([[[[1.0, 3.0]]], [[[10.0, 30.0]]]]), regions).flatten().tolist() == [2, 20]


def naive(features: Tensor, layout: Layout, by: str) -> Tensor:
    """A loop over pixels' keys."""
    assert layout.instances is not None
    result = torch.empty_like(features)
    for image in range(len(features)):
        for one in layout.classes[image].unique().tolist():
            mask = layout.classes[image] == one
            numbers = layout.instances[image][mask].unique().tolist() if by == "objects" else [None]
            for number in numbers:
                part = mask if number is None else mask & (layout.instances[image] == number)
                result[image][:, part] = features[image][:, part].mean(1, keepdim=True)
    return result


@pytest.mark.parametrize("by", ["objects", "classes"])
def test_pooling_is_a_loop_over_regions_values_and_gradients(by) -> None:
    torch.manual_seed(0)
    layout = Layout(
        torch.randint(0, 3, (2, 6, 7), dtype=torch.uint8), torch.randint(-2, 3, (2, 6, 7), dtype=torch.int32) * 2**30
    )
    features = torch.randn(2, 3, 6, 7, requires_grad=True)
    regions = find_regions(layout, by)
    painted = spread(pooled(features, regions), regions)
    expected = naive(features, layout, by)
    torch.testing.assert_close(painted, expected)
    towards = torch.randn_like(painted)
    (ours,) = torch.autograd.grad((painted * towards).sum(), features)
    (theirs,) = torch.autograd.grad((expected * towards).sum(), features)
    torch.testing.assert_close(ours, theirs)
    (share,) = torch.autograd.grad(pooled(features, regions)[:, 0].sum(), features)
    torch.testing.assert_close(share[:, 0], 1 / regions.pixels[regions.numbers])  # 1 / count, of every pixel


def test_the_mean_of_a_large_region_is_that_of_exact_sums() -> None:
    torch.manual_seed(0)
    layout = objects([[1] * 1024] * 1024)
    features = 0.7 + 0.1 * torch.randn(1, 2, 1024, 1024)
    exact = features.double().mean((2, 3))
    assert pooled(features, find_regions(layout)).dtype == torch.float32
    torch.testing.assert_close(pooled(features, find_regions(layout)).double(), exact, rtol=1e-7, atol=0)


def test_regions_know_what_they_are() -> None:
    layout = Layout(torch.tensor([[[26, 26, 7], [26, 26, 7]]]), torch.tensor([[[33005, -4, 0], [33005, -4, 0]]]))
    regions = find_regions(layout)
    assert regions.classes.tolist() == [7, 26, 26]
    assert regions.objects.tolist() == [0, -4, 33005]
    assert regions.pixels.tolist() == [2, 2, 2]
    assert find_regions(layout, "classes").objects.tolist() == [0, 0]
    assert find_regions(Layout(layout.classes)).classes.tolist() == [7, 26]
