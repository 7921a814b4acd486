"""How gradients are computed, where that is not left to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from photogram.nn.winograd import recomputing


def first_only(backward: Callable[..., Any]) -> Any:
    """For the backward of a function whose gradient has none itself: to ask for it is an error, not a wrong answer."""
    return once_differentiable(backward)


def kept_or_computed_again(run: Callable[..., Tensor], checkpointing: bool, *inputs: object) -> Tensor:
    """What a part of a network makes of its inputs; with checkpointing, nothing in it is kept for its gradients."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=recomputing)
    return run(*inputs)
