"""Mean and covariance of features that stream by, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """The mean and the covariance of rows, chunk by chunk (Chan et al. 1979).

    Sums of squares would lose everything where the mean is large beside the spread; here deviations from the mean are
    summed, and chunks are merged exactly up to rounding, in any order and over any number of processes.

    Args:
        dim: length of a row.

    Raises:
        ValueError: where rows of another length are taken in.
    """

    def __init__(self, dim: int):
        self.count = 0
        self.mean: Tensor = torch.zeros(dim, dtype=torch.float64)
        self.scatter: Tensor = torch.zeros(dim, dim, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> Moments:
        """Those of rows that are all there."""
        moments = cls(features.shape[1])
        moments.update(features)
        return moments

    def update(self, features: Float[Tensor, "n d"]) -> None:
        """Take in more rows."""
        if not len(features):
            return
        chunk, rows = Moments(features.shape[1]), features.detach().cpu().double()
        chunk.count, chunk.mean = len(rows), rows.mean(0)
        centred = rows - chunk.mean
        chunk.scatter = centred.T @ centred
        self.merge(chunk)

    def merge(self, other: Moments) -> None:
        """Take in what another has seen."""
        if other.mean.shape != self.mean.shape:  # one of length 1 would spread over all
            raise ValueError(f"rows of {len(other.mean)} numbers do not go with rows of {len(self.mean)}")
        count = self.count + other.count
        if not count:
            return
        apart = other.mean - self.mean
        self.scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.count * other.count / count)
        self.mean = self.mean + apart * (other.count / count)
        self.count = count

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Unbiased, over n - 1.

        Raises:
            ValueError: for fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs two rows or more, not {self.count}")
        return self.scatter / (self.count - 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors alone, so that it can be kept in a file without pickle."""
        return {"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Moments:
        """What `state_dict` gave.

        Raises:
            ValueError: where it is anything else.
        """
        if set(state) != {"count", "mean", "scatter"} or state["scatter"].shape != state["mean"].shape * 2:
            raise ValueError(f"{', '.join(sorted(state))}: not the state of a mean and a covariance")
        moments = cls(len(state["mean"]))
        moments.count = int(state["count"])
        moments.mean, moments.scatter = state["mean"].double(), state["scatter"].double()
        return moments
