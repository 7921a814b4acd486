"""What training steps call: freezing, first weights, averages of them, and rates as functions of photographs seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from photogram.nn.norms import BatchNorm


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients for a network's parameters from what passes through it here.

    Gradients still pass through it, to what it was shown. Parameters that were frozen before stay so.
    """
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@torch.no_grad()
def init_normal(network: nn.Module, std: float = 0.02) -> None:
    """First weights as in DCGAN (Radford et al. 2016): N(0, std), scales of norms N(1, std), biases and shifts 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | BatchNorm):
            module.weight.normal_(float(isinstance(module, BatchNorm)), std)
            if module.bias is not None:
                module.bias.zero_()


def load_adam(adam: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state, and lay its moments in memory as the weights are that they belong to.

    torch's fused Adam on a CPU (2.13) goes over all of them in one order, whatever theirs is: moments that a version
    saved whose weights lay otherwise would move the wrong ones, and nobody would be told.
    """
    adam.load_state_dict(state)
    for weight, held in adam.state.items():
        for name, moment in held.items():
            if isinstance(moment, Tensor) and moment.shape == weight.shape and moment.stride() != weight.stride():
                held[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)


RISING = 0.05
"""The half-life of an average is at most this share of the photographs shown so far: first weights are soon forgotten
(1/2^20 of them is left after the first step, whatever the batch)."""


def average_decay(half_life: float, seen: int, shown: int) -> float:
    """How much of a moving average of weights stays in a step.

    After `half_life` photographs half of what it was is left, however many are shown a step. Averages of generators:
    Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019; half-lives in photographs:
    Karras et al., "Progressive Growing of GANs", ICLR 2018. That they rise at first (`RISING`) is not in these papers.

    Args:
        half_life: in photographs, above 0.
        seen: photographs shown before the step, over all processes.
        shown: photographs of the step, over all processes.
    """
    return 0.5 ** (shown / min(half_life, RISING * (seen + shown)))


@torch.no_grad()
def ema(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average towards a network: averaged = decay averaged + (1 - decay) network.

    Buffers are left alone: running statistics of norms are those of the network's features, which an average's are not
    (see `photogram.nn.norms.measure_statistics`).

    Args:
        averaged: changed; of the same form and on the same device.
        network: what it is the average of.
        decay: 0 copies the network, 1 leaves the average alone.
    """
    ours: list[Tensor] = list(averaged.parameters())
    theirs: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]


def linear_decay(seen: int, photographs: int, constant: int, falling: int) -> float:
    """The share of the learning rate in the epoch that follows `seen` photographs: 1, then falling along a line.

    In epoch e, counted from 1, it is 1 - max(0, e - constant) / (falling + 1); it keeps its last value,
    1 / (falling + 1), in any epoch after those, so that a training may be extended.

    Args:
        seen: photographs shown so far, over all processes.
        photographs: that make an epoch.
        constant: epochs at the full rate.
        falling: epochs over which it falls; 0 never lets it fall.
    """
    epoch = seen // photographs + 1
    return 1 - min(max(0, epoch - constant), falling) / (falling + 1)


def late_decay(seen: int, photographs: int, constant: int, falling: int) -> float:
    """The same as pix2pixHD's published code has it: 1 - max(0, e - 1 - constant) / falling in epoch e.

    The first epoch after the constant ones is still at the full rate; the last is at 1 / falling, which is kept.

    Args:
        seen, photographs, constant, falling: as in `linear_decay`.
    """
    late = min(max(0, seen // photographs - constant), max(0, falling - 1))
    return 1 - late / falling if falling else 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters of an optimizer this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
