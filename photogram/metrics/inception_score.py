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
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(f"{count} images cannot be cut into {splits} splits")
    log_p = logits.double().log_softmax(1)
    if log_p.isnan().any():
        raise ValueError("logits that are no numbers have no score")
    bounds = [i * count // splits for i in range(splits + 1)]
    scores = torch.stack([_score(log_p[a:b]) for a, b in pairwise(bounds)])
    return InceptionScore(float(scores.mean()), float(scores.std(unbiased=False)), splits)


def _score(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    mean = p.mean(0)
    own = torch.where(p > 0, p * log_p, 0.0).sum(1).mean()  # a probability of 0 contributes 0, not nan
    return (own - torch.xlogy(mean, mean).sum()).exp()
