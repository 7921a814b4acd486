"""`python -m photogram` and the command `photogram`."""

import signal
import sys

from photogram.allocator import keep_memory


def main() -> None:
    """What the command `photogram` runs; ends the process with the exit status."""
    keep_memory(*sys.argv[1:2])
    try:
        from photogram.cli import main as run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # before anything had begun, or in the midst of an answer
        sys.stderr.write("photogram: interrupted\n")
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is written; leaving takes a moment, and is no work to stop
    sys.exit(status)


if __name__ == "__main__":
    main()
