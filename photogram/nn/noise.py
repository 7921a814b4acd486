"""Dropout as the noise of a painter that has no z, said aloud instead of left to `train()` and `eval()`.

P. Isola, J.-Y. Zhu, T. Zhou and A. A. Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, sections 3.1 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from photogram.errors import unfit
from photogram.generator import Generator, NoOptions
from photogram.nn.norms import Statistics


def dropped(x: Float[Tensor, "n c h w"], noise: torch.Generator | None) -> Float[Tensor, "n c h w"]:
    """Half of the features, drawn from `noise` or else from torch's own generator, become 0, the others twice as much.

    What is drawn depends on neither the precision nor the layout in memory.
    """
    keep = torch.empty(x.shape, device=x.device).bernoulli_(0.5, generator=noise)
    return x * (2 * keep).to(x.dtype)


@dataclass(frozen=True)
class NoiseOptions(NoOptions):
    """What can be chosen when a network with dropout and norms paints."""

    dropout: bool = True
    """Draw the paper's noise. Without it every seed gives the same photograph, which keeps a video from flickering."""
    norm_stats: Literal["batch", "running"] = "batch"
    """Batch norm by the statistics of each painting, as a batch of one, or by the running averages of training."""

    def check(self, network: Generator) -> None:
        if self.norm_stats not in ("batch", "running"):
            raise unfit("norm_stats", self.norm_stats, "must be batch or running")

    @property
    def statistics(self) -> Statistics:
        """Photographs of a batch do not mix."""
        return "image" if self.norm_stats == "batch" else "running"
