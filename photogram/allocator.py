"""How the C library is told to manage memory; it needs no torch, before which `keep_memory` is to be called."""

from __future__ import annotations

import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
"""M_TRIM_THRESHOLD and so on, of malloc.h."""


def keep_memory(verb: str = "") -> None:
    """Let the allocator keep big buffers from step to step, in huge pages, instead of asking the kernel for each anew.

    Networks with large activations run up to twice as fast. It must come before torch is imported, and does nothing
    where the C library is not glibc. `synthesize` gives the largest buffers back, since kept ones do not fit each
    other: a painting of 1024 x 2048 at full width took 3.2 GiB instead of 2.4.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    _tell((TRIM_THRESHOLD, 2**31 - 1), (ARENA_MAX, 1))
    if verb == "synthesize":
        give_back()
    else:
        _tell((MMAP_MAX, 0))


def give_back() -> None:
    """From now on, return the largest buffers to the system when they are free: less memory, in more time.

    It holds until the process ends, and may come at any time. A training of pix2pixHD at 1024 x 2048 with
    `checkpointing` took 9.0 GiB in its second step instead of 10.9, and a third to a half more time (LOG.md).
    """
    _tell((MMAP_MAX, 1 << 16), (MMAP_THRESHOLD, 32 << 20))  # 32 MiB is the most


def _tell(*options: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    for option, value in options:
        mallopt(option, value)
