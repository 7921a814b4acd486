"""Ctrl-C and SIGTERM end long work where it can go on later; the second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The work was asked to stop; what is done is kept, and the same call goes on from there."""


@dataclass
class Stop:
    """Whether a person wants the work to stop."""

    asked: bool = False


@contextmanager
def stopping_softly(announcement: str | None) -> Iterator[Stop]:
    """Note the first signal, for the work to look at between two pieces of it; raise at the second.

    Args:
        announcement: what the first signal is answered with on stderr; None is quiet.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        if announcement is not None:
            with suppress(OSError):  # a closed stderr; and print is not for use in the midst of a print
                os.write(2, f"\n{announcement}\n".encode())

    with _answered_by(ask, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextmanager
def terminating_cleanly() -> Iterator[None]:
    """Let SIGTERM end work as Ctrl-C does, so that what it has made for itself is removed.

    Raises:
        KeyboardInterrupt: at the signal.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _answered_by(interrupt, signal.SIGTERM):
        yield


@contextmanager
def _answered_by(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    try:
        before = {number: signal.signal(number, handler) for number in signals}
    except ValueError:  # not in the main thread, where signals do not arrive
        before = {}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
