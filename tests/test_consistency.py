"""Segmentation consistency: section 9, with loops over pixels and classes as twins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from photogram.metrics.consistency import Confusion, Consistency, confusion, scores


def maps(n: int, classes: int, seed: int = 0, size: tuple[int, int] = (9, 11)) -> Tensor:
    return torch.randint(classes, (n, *size), generator=torch.Generator().manual_seed(seed))


def pairs(n: int = 6, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Layouts, and readings that are right more often than chance."""
    asked, other = maps(n, classes, seed), maps(n, classes, seed + 1)
    right = torch.rand(asked.shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    return asked, torch.where(right, asked, other)


def counted(asked: Tensor, read: Tensor, classes: int, ignored: tuple[int, ...] = ()) -> Tensor:
    """Pixel by pixel."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for a, r in zip(asked.flatten().tolist(), read.flatten().tolist(), strict=True):
        if a not in ignored:
            counts[a, r] += 1
    return counts


def by_sets(asked: np.ndarray, read: np.ndarray, classes: int) -> dict[str, float]:
    """The measures by their words: intersections and unions of sets of pixels."""
    ious, accuracies, weighted = [], [], 0.0
    for c in range(classes):
        there, found = asked == c, read == c
        if (there | found).any():
            ious.append((there & found).sum() / (there | found).sum())
            weighted += there.mean() * ious[-1]
        if there.any():
            accuracies.append((there & found).sum() / there.sum())
    return {
        "pixel_accuracy": float((asked == read).mean()),
        "class_accuracy": float(np.mean(accuracies)),
        "mean_iou": float(np.mean(ious)),
        "weighted_iou": float(weighted),
    }


def assert_scores(found: Consistency, expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12), name


def test_the_worked_example():
    found = scores(torch.tensor([[3, 1], [2, 4]]))
    assert found.pixel_accuracy == pytest.approx(0.7)
    assert found.class_accuracy == pytest.approx(0.708333, abs=1e-6)
    assert found.iou == pytest.approx((0.5, 4 / 7))
    assert found.mean_iou == pytest.approx(0.535714, abs=1e-6)
    assert found.weighted_iou == pytest.approx(0.542857, abs=1e-6)
    assert found.accuracy == pytest.approx((3 / 4, 4 / 6)) and found.classes == 2


def test_perfect_readings_score_1():
    asked = maps(3, 5)
    found = scores(confusion(asked, asked, 5))
    assert (found.pixel_accuracy, found.class_accuracy, found.mean_iou, found.weighted_iou) == (1, 1, 1, 1)
    assert found.iou == found.accuracy == (1,) * 5 and found.classes == 5


@pytest.mark.parametrize("ignored", [(), (2,), (0, 4)])
def test_counts_equal_a_loop_over_pixels(ignored: tuple[int, ...]):
    asked, read = pairs()
    counts = confusion(asked, read, 5, ignored)
    assert torch.equal(counts, counted(asked, read, 5, ignored)) and counts.dtype == torch.int64
    for kind in (torch.uint8, torch.int32):
        assert torch.equal(confusion(asked.to(kind), read.to(kind), 5, ignored), counts)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_intersections_and_unions_of_sets(seed: int):
    asked, read = pairs(seed=seed)
    assert_scores(scores(confusion(asked, read, 5)), by_sets(asked.numpy(), read.numpy(), 5))


def test_torchmetrics_agrees_on_the_matrix_and_its_own_mean_is_another_number():
    """The mean over images of each image's IoU, which must not be taken for the IoU of the whole set."""
    classification = pytest.importorskip("torchmetrics.classification")
    segmentation = pytest.importorskip("torchmetrics.segmentation")
    asked, read = pairs(n=4, classes=4)
    theirs = classification.MulticlassConfusionMatrix(num_classes=4)
    theirs.update(read, asked)
    assert torch.equal(confusion(asked, read, 4), theirs.compute())
    jaccard = classification.MulticlassJaccardIndex(num_classes=4)
    jaccard.update(read, asked)
    whole = scores(confusion(asked, read, 4)).mean_iou
    assert whole == pytest.approx(float(jaccard.compute()), rel=1e-5)
    asked = torch.stack([torch.zeros(10, 10), torch.ones(10, 10)]).long()
    read = asked.clone()
    read[1, :5] = 0
    by_image = segmentation.MeanIoU(num_classes=2, input_format="index")
    by_image.update(read, asked)
    assert scores(confusion(asked, read, 2)).mean_iou == pytest.approx((100 / 150 + 50 / 100) / 2)
    assert abs(float(by_image.compute()) - (100 / 150 + 50 / 100) / 2) > 0.05


def test_labels_may_be_renamed():
    asked, read = pairs()
    order = torch.tensor([3, 0, 4, 1, 2])
    before, after = scores(confusion(asked, read, 5)), scores(confusion(order[asked], order[read], 5))
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou", "weighted_iou"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-12)
    assert [after.iou[i] for i in order] == pytest.approx(list(before.iou), rel=1e-12)
    assert before.iou != pytest.approx(after.iou, rel=1e-3)  # they did move


def test_ignored_pixels_count_nowhere_by_what_was_asked_alone():
    asked, read = pairs()
    mixed = asked.clone()
    mixed[:, :4] = 255
    anything = read.clone()
    anything[:, :4] = 77  # what is read there does not matter, be it out of range
    counts = confusion(mixed, anything, 5, (255,))
    assert torch.equal(counts, counted(asked[:, 4:], read[:, 4:], 5)) and counts.sum() == asked[:, 4:].numel()
    # A class that is ignored may still be read, wrongly, where another was asked for.
    counts = confusion(torch.tensor([[[0, 1, 2]]]), torch.tensor([[[2, 1, 2]]]), 3, (2,))
    found = scores(counts)
    assert counts.sum() == 2 and found.pixel_accuracy == 0.5 and found.iou == (0, 1, 0) and found.accuracy[2] is None


def test_a_class_that_is_absent_counts_only_where_it_was_read():
    absent = scores(torch.tensor([[6, 0, 2], [0, 0, 0], [1, 0, 7]]))
    assert absent.iou[1] is None and absent.accuracy[1] is None and absent.classes == 2
    assert absent.mean_iou == pytest.approx((6 / 9 + 7 / 10) / 2) and absent.class_accuracy == pytest.approx(13 / 16)
    read = scores(torch.tensor([[6, 1, 1], [0, 0, 0], [1, 0, 7]]))
    assert read.iou[1] == 0 and read.accuracy[1] is None and read.classes == 3
    assert read.mean_iou == pytest.approx((6 / 9 + 0 + 7 / 9) / 3)
    assert read.weighted_iou == pytest.approx((8 * 6 / 9 + 8 * 7 / 9) / 16)
    assert all(math.isfinite(v) for v in (read.mean_iou, read.class_accuracy, read.weighted_iou, absent.weighted_iou))


def test_images_that_come_one_by_one_or_in_parts_count_as_one_set(tmp_path: Path):
    asked, read = pairs(n=7)
    whole = confusion(asked, read, 5, (1,))
    stream, first, second = (Confusion(5, (1,)) for _ in range(3))
    for a, r in zip(asked.split(1), read.split(1), strict=True):
        stream.update(a, r)
    first.update(asked[:3], read[:3])
    second.update(asked[3:], read[3:])
    alone = first.counts.clone()
    second.merge(first)
    assert torch.equal(stream.counts, whole) and torch.equal(second.counts, whole)
    assert torch.equal(first.counts, alone)  # what is taken in stays as it is
    assert stream.scores() == scores(whole)
    safetensors.torch.save_file({"counts": first.counts}, tmp_path / "state.safetensors")
    resumed = Confusion(5, (1,))
    resumed.counts = safetensors.torch.load_file(tmp_path / "state.safetensors")["counts"]
    resumed.update(asked[3:], read[3:])
    assert torch.equal(resumed.counts, whole)
    for other in (Confusion(4, (1,)), Confusion(5)):
        with pytest.raises(ValueError, match="confusions of other classes do not add up"):
            second.merge(other)


def test_counts_beyond_32_bits_stay_exact():
    nothing = torch.zeros(1, 8, 8, dtype=torch.long)
    step = confusion(nothing, nothing, 2)
    many = Confusion(2)
    many.counts += torch.tensor([[2**31 - 64, 2**33], [5, 2**40]])
    for _ in range(3):
        many.counts += step
    assert int(many.counts[0, 0]) == 2**31 + 128
    n = [[2**31 + 128, 2**33], [5, 2**40]]
    assert many.scores().pixel_accuracy == pytest.approx((n[0][0] + n[1][1]) / sum(map(sum, n)), rel=1e-15)
    assert many.scores().iou[0] == pytest.approx(n[0][0] / (n[0][0] + n[0][1] + n[1][0]), rel=1e-15)


def test_weighted_images_score_as_repeated_ones():
    """The bootstrap weighs images by how often they are drawn."""
    asked, read = pairs(n=3)
    each = torch.stack([confusion(a, r, 5) for a, r in zip(asked, read, strict=True)])
    often = torch.tensor([2, 0, 3])
    repeated = confusion(asked.repeat_interleave(often, 0), read.repeat_interleave(often, 0), 5)
    assert scores((often.double() @ each.flatten(1).double()).view(5, 5)) == scores(repeated)


def test_what_cannot_be_counted_is_refused():
    asked = maps(1, 5)
    with pytest.raises(ValueError, match=r"layouts of \(1, 9, 11\) do not compare with readings of \(1, 9, 10\)"):
        confusion(asked, asked[..., :10], 5)
    with pytest.raises(ValueError, match=r"class 5 was read, but there are 0\.\.4"):
        confusion(asked, asked + 1, 5)
    with pytest.raises(ValueError, match=r"class -1 was asked for, but there are 0\.\.4"):
        confusion(asked - 1, asked, 5)
    with pytest.raises(ValueError, match="no pixel counts"):
        scores(confusion(asked * 0, asked, 5, (0,)))
