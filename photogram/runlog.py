"""What a training writes down at every step: `log.jsonl`, and TensorBoard's events."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from photogram.advice import STEPS, is_diagnostic
from photogram.errors import UserError


class RunLog:
    """`log.jsonl`, a line a step, in which nothing depends on the clock; and TensorBoard, which has the times.

    Args:
        out: the run's folder.
        main: whether this process writes; the others keep silent.
    """

    def __init__(self, out: Path, main: bool):
        self.path, self.main, self.board = out / "log.jsonl", main, None
        self.file: Any = None

    def cut(self, step: int) -> None:
        """Drop what was logged after a step, half lines included, and go on from there.

        Raises:
            UserError: where lines up to that step are missing or damaged.
        """
        if not self.main:
            return
        self.path.touch()
        with self.path.open("r+b") as file:
            for n in range(1, step + 1):
                if _step_of(file.readline()) != n:
                    raise UserError(
                        f"{self.path}: line {n} is not of step {n}, but the state is of step {step}; the log was cut "
                        "or changed by hand. Bring it back, or train into another folder"
                    )
            file.truncate(file.tell())
        self.file = self.path.open("a")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra `train` is not installed
            return
        self.board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, seen: int, losses: Mapping[str, float], speed: float) -> None:
        if not self.main:
            return
        self.file.write(json.dumps({"step": step, "seen": seen, **losses}) + "\n")
        self.file.flush()
        if self.board is not None and step % 10 == 0:
            for name, value in losses.items():
                self.board.add_scalar(name if is_diagnostic(name) else f"losses/{name}", value, step)
            self.board.add_scalar("speed/images per second", speed, step)

    def mark(self, step: int, values: Mapping[str, float]) -> None:
        """What was measured at a step, for TensorBoard's curves."""
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"evaluation/{name}", value, step)

    def flush(self) -> None:
        os.fsync(self.file.fileno())
        if self.board is not None:
            self.board.flush()

    def close(self) -> None:
        for written in (self.file, self.board):
            if written is not None:
                with suppress(OSError):  # what could not be written has been said when it was tried
                    written.close()

    def recent(self, count: int = 100) -> dict[str, float]:
        """The mean of each loss over the last steps."""
        lines = [json.loads(line) for line in self._last(count)]
        names = [name for name in (lines[-1] if lines else {}) if name not in ("step", "seen")]
        return {name: sum(line.get(name, 0.0) for line in lines) / len(lines) for name in names}

    def diagnostics(self) -> dict[str, float]:
        """The means that advice judges; none of a log with fewer steps."""
        return diagnostics_of(self._last(STEPS))

    def _last(self, count: int) -> list[str]:
        """The last lines; what is before them is passed over, of a long training most of the log."""
        with self.path.open() as file:
            return list(deque(file, count))


def diagnostics_of(lines: Sequence[str]) -> dict[str, float]:
    """The mean of each diagnostic over the last `STEPS` lines of a log; none of fewer."""
    if len(lines) < STEPS:
        return {}
    last = [json.loads(line) for line in lines[-STEPS:]]
    names = dict.fromkeys(name for line in last for name in line if is_diagnostic(name))
    known = {name: [line[name] for line in last if name in line] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}


def _step_of(line: bytes) -> int | None:
    """The step of a whole line of the log; None where it is cut short or no such line."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return step if isinstance(step, int) else None
