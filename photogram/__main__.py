"""`python -m photogram` and the command `photogram`."""

import os
import signal
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
    try:
        from photogram.cli import main as run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # before anything had begun, or in the midst of an answer
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is written; leaving takes a moment, and is no work to stop
    sys.exit(status)


if __name__ == "__main__":
    main()
