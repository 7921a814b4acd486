"""Section 4 of the specification of metrics: the Inception score."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from photogram.metrics.bootstrap import resampled
from photogram.metrics.inception_score import inception_score, resampled_scores

SURE = 1e4
"""So many logits more, and all other classes have probability 0 in float64."""


def certain(classes: list[int], count: int) -> Tensor:
    return SURE * torch.eye(count)[classes]


def random_logits(n: int, k: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def plain(logits: Tensor, splits: int) -> tuple[float, float]:
    """Image by image and class by class."""
    scores = []
    for i in range(splits):
        part = logits[math.floor(i * len(logits) / splits) : math.floor((i + 1) * len(logits) / splits)].double()
        p = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in part.tolist()]
        mean = [sum(column) / len(p) for column in zip(*p, strict=True)]
        divergences = [sum(a * math.log(a / b) for a, b in zip(row, mean, strict=True)) for row in p]
        scores.append(math.exp(sum(divergences) / len(p)))
    centre = sum(scores) / splits
    return centre, math.sqrt(sum((s - centre) ** 2 for s in scores) / splits)


def test_a_constant_prediction_scores_1():
    found = inception_score(random_logits(1, 7).expand(40, 7))
    assert found.score == pytest.approx(1, abs=1e-12) and found.deviation == pytest.approx(0, abs=1e-12)
    assert found.splits == 10


def test_certain_and_uniform_over_k_classes_scores_k():
    found = inception_score(certain(list(range(7)) * 10, 7), splits=10)
    assert found.score == pytest.approx(7, rel=1e-12) and found.deviation == pytest.approx(0, abs=1e-12)


def test_certain_with_a_law_of_classes_scores_the_exponential_of_its_entropy():
    law = [0.5, 0.3, 0.2]
    found = inception_score(certain([0] * 5 + [1] * 3 + [2] * 2, 4), splits=1)
    assert found.score == pytest.approx(math.exp(-sum(p * math.log(p) for p in law)), rel=1e-12)


@pytest.mark.parametrize(("count", "splits"), [(40, 1), (40, 10), (23, 4), (10, 10)])
def test_equals_the_plain_definition(count: int, splits: int):
    logits = random_logits(count, 5)
    found = inception_score(logits, splits)
    assert (found.score, found.deviation) == pytest.approx(plain(logits, splits), rel=1e-12, abs=1e-12)


def test_the_order_within_a_split_does_not_matter_but_splits_do():
    logits = random_logits(30, 5)
    within = torch.cat([part.flip(0) for part in logits.split(10)])
    across = logits[torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    found = inception_score(logits, 3)
    assert inception_score(within, 3).score == pytest.approx(found.score, rel=1e-13)
    assert inception_score(across, 3).score != pytest.approx(found.score, rel=1e-4)


def test_probabilities_that_underflow_contribute_nothing():
    logits = certain([0, 1, 2, 2], 3).float()
    p = logits.softmax(1)
    naive = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()
    assert naive.isnan()
    expected = math.exp(-(0.5 * math.log(0.25) + 0.5 * math.log(0.5)))
    assert inception_score(logits, 1).score == pytest.approx(expected, rel=1e-12)
    banned = logits.masked_fill(logits == 0, -math.inf)
    assert inception_score(banned, 1).score == pytest.approx(expected, rel=1e-12)


def test_resampled_scores_are_those_of_images_as_often_as_they_were_drawn():
    logits, weights = random_logits(23, 5), resampled(23, 40, 0)
    bounds = [i * 23 // 4 for i in range(5)]
    for found, often in zip(resampled_scores(logits, weights, 4).tolist(), weights.long(), strict=True):
        parts = [logits[a:b].repeat_interleave(often[a:b], 0) for a, b in pairwise(bounds)]
        drawn = [plain(part, 1)[0] for part in parts if len(part)]
        assert found == pytest.approx(sum(drawn) / len(drawn), rel=1e-12)


def test_a_split_from_which_nothing_was_drawn_has_no_score():
    logits, weights = random_logits(4, 3), torch.tensor([[0.0, 0.0, 3.0, 1.0]]).double()
    expected, _ = plain(logits[2:].repeat_interleave(torch.tensor([3, 1]), 0), 1)
    assert float(resampled_scores(logits, weights, 2)) == pytest.approx(expected, rel=1e-12)


class Given(nn.Module):
    """A classifier that was asked already."""

    def forward(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize("splits", [2, 5])
def test_torchmetrics_agrees(splits: int):
    oracle = pytest.importorskip("torchmetrics.image.inception").InceptionScore
    logits = random_logits(200, 12)
    with pytest.warns(UserWarning, match="will save all extracted features"):
        metric = oracle(feature=Given(), splits=splits)
    metric.update(logits)
    torch.manual_seed(3)
    shuffled = logits[torch.randperm(len(logits))]  # as it does
    torch.manual_seed(3)
    score, deviation = metric.compute()
    found = inception_score(shuffled, splits)
    assert found.score == pytest.approx(float(score), rel=1e-4)
    over_splits = math.sqrt((splits - 1) / splits)  # it divides by one less
    assert found.deviation == pytest.approx(float(deviation) * over_splits, rel=1e-4)


@pytest.mark.parametrize("splits", [0, 4])
def test_splits_must_fit(splits: int):
    with pytest.raises(ValueError, match=f"3 images cannot be cut into {splits} splits"):
        inception_score(random_logits(3, 2), splits)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(value: float):
    logits = random_logits(20, 3)
    logits[7, 1] = value
    with pytest.raises(ValueError, match="no numbers"):
        inception_score(logits)
