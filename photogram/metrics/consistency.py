"""Segmentation consistency: does a network that reads photographs find in an image what its layout asked for?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Integer, Num
from torch import Tensor


@dataclass(frozen=True)
class Consistency:
    """Scores of one confusion matrix, shares in 0..1."""

    pixel_accuracy: float
    class_accuracy: float
    """The mean over the classes that are there."""
    mean_iou: float
    """The mean over the classes that are there or were found."""
    weighted_iou: float
    """Weighted by how much of each class is there."""
    iou: tuple[float | None, ...]
    """By class; None where it is neither there nor found."""
    accuracy: tuple[float | None, ...]
    """By class; None where it is not there."""
    classes: int
    """How many count in the mean IoU."""


class Confusion:
    """How often class i was read as class j, over as many images as come.

    Args:
        num_classes: of both sides.
        ignored: classes of the layout whose pixels do not count, such as void.
    """

    def __init__(self, num_classes: int, ignored: tuple[int, ...] = ()):
        self.num_classes, self.ignored = num_classes, ignored
        self.counts: Tensor = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, asked: Integer[Tensor, "*n h w"], read: Integer[Tensor, "*n h2 w2"]) -> None:
        """Count the pixels of some images; as `confusion`."""
        self.counts += confusion(asked, read, self.num_classes, self.ignored)

    def merge(self, other: Confusion) -> None:
        """Take in what another has counted.

        Raises:
            ValueError: where it counted other classes.
        """
        if (self.num_classes, set(self.ignored)) != (other.num_classes, set(other.ignored)):
            raise ValueError("confusions of other classes do not add up")
        self.counts += other.counts

    def scores(self) -> Consistency:
        """What the counts come to."""
        return scores(self.counts)


def confusion(
    asked: Integer[Tensor, "*n h w"], read: Integer[Tensor, "*n h2 w2"], num_classes: int, ignored: tuple[int, ...] = ()
) -> Int[Tensor, "k k"]:
    """Counts [asked, read] of the pixels whose asked class is not ignored; an ignored class may be out of range.

    Raises:
        ValueError: for different shapes, or classes out of range.
    """
    if asked.shape != read.shape:
        raise ValueError(f"layouts of {tuple(asked.shape)} do not compare with readings of {tuple(read.shape)}")
    asked, read = asked.long(), read.long()
    keep = torch.ones_like(asked, dtype=torch.bool)
    for label in ignored:
        keep &= asked != label
    true, found = asked[keep], read[keep]
    for values, name in ((true, "asked for"), (found, "read")):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            outside = int(values[(values < 0) | (values >= num_classes)][0])
            raise ValueError(f"class {outside} was {name}, but there are 0..{num_classes - 1}")
    return torch.bincount(true * num_classes + found, minlength=num_classes**2).view(num_classes, num_classes).cpu()


def scores(counts: Num[Tensor, "k k"]) -> Consistency:
    """Scores of a confusion matrix n_ij (asked i, read j); images may be weighted. See `tally` and `scored`."""
    return scored(tally(counts))


def tally(counts: Num[Tensor, "k k"]) -> Num[Tensor, "3 k"]:
    """What all scores of a confusion matrix depend on, of each class: asked t_i, read sum_j n_ji, and both n_ii."""
    return torch.stack([counts.sum(1), counts.sum(0), counts.diagonal()])


def scored(tallies: Num[Tensor, "3 k"]) -> Consistency:
    """Scores of a tally, or of the sum of many.

    Pixel accuracy sum n_ii / sum t_i; class accuracy mean n_ii / t_i; IoU_i = n_ii / (t_i + sum_j n_ji - n_ii).

    Raises:
        ValueError: where nothing was counted.
    """
    there, found, right = tallies.double()
    if not there.sum():
        raise ValueError("no pixel counts: every class of the layouts is ignored")
    either = there + found - right
    seen, counted = there > 0, either > 0
    iou, accuracy = right / either, right / there
    return Consistency(
        pixel_accuracy=float(right.sum() / there.sum()),
        class_accuracy=float(accuracy[seen].mean()),
        mean_iou=float(iou[counted].mean()),
        weighted_iou=float((there * iou)[seen].sum() / there.sum()),
        iou=_listed(iou, counted),
        accuracy=_listed(accuracy, seen),
        classes=int(counted.sum()),
    )


def _listed(values: Float[Tensor, " k"], valid: Tensor) -> tuple[float | None, ...]:
    return tuple(float(v) if ok else None for v, ok in zip(values, valid, strict=True))
