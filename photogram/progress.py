"""Progress that a person sees: a bar on a terminal, a line now and then elsewhere. All of it goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[str], None]
"""Called once for each finished item, with a short text to show beside the bar."""


@contextmanager
def progress(
    title: str, total: int | None, done: int = 0, quiet: bool = False, every: float = 30.0
) -> Iterator[Advance]:
    """Show how far a job of `total` items (None: nobody knows yet) is, `done` of them finished before.

    Where stderr is no terminal (a log file, a job scheduler), a plain line is written every `every` seconds and at the
    end. `quiet` shows nothing.
    """
    if quiet:
        yield lambda text: None
        return
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=console) as bar:
            task: TaskID = bar.add_task(title, total=total, completed=done, text="")
            yield lambda text: bar.update(task, advance=1, text=text)
        return
    lines = _Lines(console, title, total, done, every)
    yield lines.advance
    lines.finish()


class _Lines:
    """Plain lines instead of a bar."""

    def __init__(self, console: Console, title: str, total: int | None, done: int, every: float):
        self.console, self.title, self.total, self.done, self.every = console, title, total, done, every
        self.before, self.started = done, time.monotonic()
        self.last, self.shown, self.text = self.started, -1, ""

    def advance(self, text: str) -> None:
        self.done, self.text = self.done + 1, text
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            self.write(now)

    def finish(self) -> None:
        if self.shown != self.done and self.done > self.before:
            self.write(time.monotonic())

    def write(self, now: float) -> None:
        self.shown = self.done
        speed = (self.done - self.before) / max(now - self.started, 1e-9)
        far = f"{self.done}"
        if self.total is not None:
            far += f"/{self.total}, {_clock((self.total - self.done) / max(speed, 1e-9))} left"
        self.console.print(
            f"{self.title}: {far}  {self.text}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
