"""Normalisation over batches, whose statistics the caller chooses in so many words.

A batch norm that looks at `train()` and `eval()` changes what it computes behind the caller's back, and at a batch of
one the two differ most. Here `forward` is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["batch", "instance"]
"""Batch norm with a scale and a shift a channel (Ioffe and Szegedy 2015); instance norm with neither (Ulyanov et al.
2016)."""
JudgingNorm = Literal["batch", "instance", "layer"]
"""What a discriminator may have besides: layer norm with a scale and a shift a channel (Ba et al. 2016), for games
whose penalty is on each picture by itself."""
Statistics = Literal["batch", "image", "running"]
"""Means and variances of the whole batch, of each image by itself, or the running averages of training."""
Batch = TypeVar("Batch")
NEW = 0.1
"""How much of a batch's statistics its pass leaves in the running averages."""


class BatchNorm(nn.Module):
    """Batch normalisation. With a batch of one, `batch` and `image` are the same.

    Args:
        channels: of what is normalised.
        running: whether `batch` keeps running averages, for `running` later.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, channels: int, running: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels) if running else None)
        self.register_buffer("running_var", torch.ones(channels) if running else None)

    def forward(self, x: Float[Tensor, "n c h w"], statistics: Statistics = "batch") -> Float[Tensor, "n c h w"]:
        if statistics == "image":
            return instance_norm(x, self.weight, self.bias)
        averaged = statistics == "batch"  # and the running averages take their part of the new
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, averaged, NEW, 1e-5)


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and variance 1, whatever statistics are asked for."""

    def forward(self, x: Float[Tensor, "n c h w"], statistics: Statistics = "batch") -> Float[Tensor, "n c h w"]:
        return instance_norm(x)


def instance_norm(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, " c"] | None = None, bias: Float[Tensor, " c"] | None = None
) -> Float[Tensor, "n c h w"]:
    """Each channel of each image to mean 0 and variance 1, then scaled and shifted; more than one pixel a channel.

    Torch's own brings features into planes. On a CPU, where convolutions want channels last, that and the way back take
    four to nine times as long as a norm over the batch, which leaves them as they lie and of one image is the same. Its
    sums over large features are off by some 1e-5, which is nothing in bfloat16, and too much in float32.
    """
    quick = x.device.type == "cpu" and x.dtype == torch.bfloat16
    if not quick or not x.is_contiguous(memory_format=torch.channels_last):
        return F.instance_norm(x, weight=weight, bias=bias, eps=1e-5)
    images = [F.batch_norm(one, None, None, weight, bias, True, 0.0, 1e-5) for one in x.split(1)]
    return images[0] if len(images) == 1 else torch.cat(images)


def norm_layer(kind: Norm, channels: int, running: bool = True) -> BatchNorm | InstanceNorm:
    """The norm of that kind, for so many channels."""
    return BatchNorm(channels, running) if kind == "batch" else InstanceNorm()


def judging_norm(kind: JudgingNorm, channels: int) -> nn.Module:
    """The norm of that kind in a discriminator, which keeps no running averages."""
    if kind == "layer":
        return nn.GroupNorm(1, channels)  # one group: over all channels and places of a picture
    return norm_layer(kind, channels, running=False)


def running_averages(network: nn.Module) -> list[Tensor]:
    """Means and variances that a network's norms keep; none of a network whose norms keep none."""
    norms = (module for module in network.modules() if isinstance(module, BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


@torch.no_grad()
def share_statistics(network: nn.Module, mean: Callable[[Tensor], Tensor]) -> None:
    """Give all processes the same running averages: their mean. To be called after a step's last backward pass.

    Args:
        network: with running averages or without.
        mean: of a tensor over all processes.
    """
    buffers = running_averages(network)
    if not buffers:
        return
    together = mean(torch.cat([buffer.flatten() for buffer in buffers]))
    for buffer, part in zip(buffers, together.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))


@torch.no_grad()
def measure_statistics(network: nn.Module, run: Callable[[Batch], object], batches: Sequence[Batch]) -> None:
    """Give a network, as its running averages, the mean statistics of what its own weights make of some batches.

    An average of weights needs this: its features are not those of the network that it is the average of (P. Izmailov
    et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018, algorithm 1).

    Args:
        network: what its running averages were does not matter.
        run: a pass by the statistics of the batch.
        batches: what is run, one or more.
    """
    buffers = running_averages(network)
    means = [torch.zeros_like(buffer) for buffer in buffers]
    for batch in batches:
        for buffer in buffers:
            buffer.zero_()
        run(batch)  # leaves NEW of its own
        for mean, buffer in zip(means, buffers, strict=True):
            mean += buffer / (NEW * len(batches))
    for mean, buffer in zip(means, buffers, strict=True):
        buffer.copy_(mean)


@torch.no_grad()
def follow_statistics(network: nn.Module, run: Callable[[Batch], object], batch: Batch, share: float) -> None:
    """Move a network's running averages towards what its own weights make of a batch, as weights move too.

    Args:
        network: with running averages.
        run: a pass by the statistics of the batch.
        batch: what is run.
        share: how much of the new is in them afterwards; 1 forgets what they were.
    """
    buffers = running_averages(network)
    before = [buffer.clone() for buffer in buffers]
    measure_statistics(network, run, [batch])
    for buffer, old in zip(buffers, before, strict=True):
        buffer.copy_(old.lerp(buffer, share))
