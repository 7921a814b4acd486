"""In which precision networks compute: what can be asked for, and what that comes to on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch

from photogram.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
"""`bf16` computes convolutions in bfloat16; `auto` does so where the device has it, and 8 bits are enough."""


def check_precision(precision: str) -> None:
    """Refuse a word that is no `Precision`, with a `UserError`."""
    if precision not in get_args(Precision):
        raise UserError(f"--precision {precision}: must be one of {', '.join(get_args(Precision))}")


def resolved(precision: Precision, started: Mapping[str, object] | None, bits: int = 8) -> Literal["fp32", "bf16"]:
    """What `auto` comes to. It is decided once, when work begins, and kept wherever that goes on.

    Args:
        precision: what is asked for.
        started: the settings that the work was started with; None where it is new.
        bits: that the outcome is kept in; of more than 8 `auto` is fp32, since a bfloat16 has 8.
    """
    kept = None if started is None else started.get("precision")
    for asked in (precision, kept):
        if asked in ("fp32", "bf16"):
            return asked
    if bits > 8:
        return "fp32"
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16") else "fp32"
