"""Memory and time as a person says them."""

from __future__ import annotations

import re

from photogram.errors import UserError

GB = 2**30
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_memory(text: str) -> int:
    """Bytes of `12GB`, `800 MB` or `12` (GB); a GB is 2^30 bytes.

    Raises:
        UserError: where it is no amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise UserError(f"--memory {text}: must be an amount such as 12GB or 800MB")
    unit = found[2].upper() if re.search(r"[KMGTB]", text, re.IGNORECASE) else "G"
    return int(float(found[1]) * UNITS[unit])


def amount(count: int, decimals: int = 1) -> str:
    """Bytes as a person says them.

    Args:
        count: how many.
        decimals: of GB; 2 where it is told whether they are within a bound.
    """
    for unit, size in (("GB", GB), ("MB", 2**20)):
        if count >= size:
            return f"{count / size:.{decimals if unit == 'GB' else 0}f} {unit}"
    return f"{count / 2**10:.0f} kB"


def duration(seconds: float) -> str:
    """As a person says it."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
