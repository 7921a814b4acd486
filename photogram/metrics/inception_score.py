"""The Inception score: confident and varied predictions (Salimans et al. 2016). It looks at no real photograph."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class InceptionScore:
    """The mean and the standard deviation over splits."""

    score: float
    deviation: float
    splits: int


def inception_score(logits: Float[Tensor, "n k"], splits: int = 10) -> InceptionScore:
    """exp of the mean divergence of each image's classes from the mean of its split.

    Args:
        logits: of a classifier; the original protocol leaves out its bias.
        splits: how many; split i begins at floor(i n / splits).

    Raises:
        ValueError: for fewer images than splits, or logits that are no numbers.
    """
    once = torch.ones(1, len(logits), dtype=torch.float64, device=logits.device)
    scores = _scores(logits, once, splits)[0]
    return InceptionScore(float(scores.mean()), float(scores.std(unbiased=False)), splits)


def resampled_scores(
    logits: Float[Tensor, "n k"], weights: Float[Tensor, "draws n"], splits: int = 10
) -> Float[Tensor, " draws"]:
    """The score of each resample: images count as often as they were drawn, in the split that they are in.

    Args:
        logits: of a classifier.
        weights: how often each image is in each resample.
        splits: how many; one from which no image was drawn has no score and is left out.

    Raises:
        ValueError: as `inception_score`.
    """
    return _scores(logits, weights, splits).nanmean(1)


def _scores(logits: Tensor, weights: Tensor, splits: int) -> Float[Tensor, "draws splits"]:
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(f"{count} images cannot be cut into {splits} splits")
    log_p = logits.double().log_softmax(1)
    if log_p.isnan().any():
        raise ValueError("logits that are no numbers have no score")
    bounds = [i * count // splits for i in range(splits + 1)]
    return torch.stack([_score(log_p[a:b], weights[:, a:b]) for a, b in pairwise(bounds)], 1)


def _score(log_p: Float[Tensor, "n k"], weights: Float[Tensor, "draws n"]) -> Float[Tensor, " draws"]:
    shares, p = weights / weights.sum(1, keepdim=True), log_p.exp()  # nan where none was drawn
    mean = shares @ p
    own = shares @ torch.where(p > 0, p * log_p, 0.0).sum(1)  # a probability of 0 contributes 0, not nan
    return (own - torch.xlogy(mean, mean).sum(1)).exp()
