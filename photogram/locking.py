"""A lock on a folder, which falls with the process that holds it, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from photogram.errors import UserError
from photogram.outputs import writing


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, which is made where it is missing, as is its folder; others are refused meanwhile.

    A folder that was made for it, and that nothing else came into, is removed again.

    Processes that this one forks do not inherit the lock: readers live on for some seconds where it is killed.

    Args:
        path: the lock file; it stays, empty, and nothing else may open it.
        busy: what is said where another process holds it, or this one does already.

    Raises:
        UserError: where it is held, or cannot be written.
    """
    made = not path.parent.exists()
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_open_here(path):
            raise UserError(busy)
        file = path.open("w")
    with file:
        with writing(path.parent):
            if not _locked(file):
                raise UserError(busy)
        try:
            yield
        finally:
            if made and [other.name for other in path.parent.iterdir()] == [path.name]:
                with suppress(PermissionError):  # Windows keeps open files
                    path.unlink()
                    path.parent.rmdir()


def _locked(file: IO[str]) -> bool:
    """Lock the open file for this process, until it is closed; False where another process has done so."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # lockf and not flock, which forked processes inherit

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of the two depends on the system
        return False
    return True


def _is_open_here(path: Path) -> bool:
    """Whether this process has the file open: `lockf` would not refuse it, and to close it again would unlock it."""
    try:
        numbers, wanted = os.listdir("/dev/fd"), path.stat()  # noqa: PTH208  names are all that is needed
    except (FileNotFoundError, NotADirectoryError):  # no such file yet; or Windows, whose locks know their owner
        return False
    return any(_is_file(int(number), wanted) for number in numbers)


def _is_file(number: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(number), wanted)
    except OSError:  # closed since, such as that of the listing itself
        return False
