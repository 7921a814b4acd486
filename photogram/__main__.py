"""`python -m photogram` and the command `photogram`."""

import os
import sys


def keep_memory() -> None:
    """Let the allocator keep big buffers from step to step, in huge pages, instead of asking the kernel for each anew.

    Networks with large activations run up to twice as fast. It must come before torch is imported, and does nothing
    where the C library is not glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    mmap_max, trim_threshold, arena_max = -4, -1, -8  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (arena_max, 1)):
        mallopt(option, value)


def main() -> None:
    """What the command `photogram` runs; ends the process with the exit status."""
    keep_memory()
    from photogram.cli import main as run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
