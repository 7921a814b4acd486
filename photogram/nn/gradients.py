"""Gradients of operations of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.autograd.function import once_differentiable


def first_only(backward: Callable[..., Any]) -> Any:
    """For the backward of a function whose gradient has none itself: to ask for it is an error, not a wrong answer."""
    return once_differentiable(backward)
