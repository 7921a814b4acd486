"""The state of a training on disk: written beside and renamed, checked when read, the last two kept."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from photogram.errors import UserError

KEEP = 2
"""States that are kept: the newest, and the one before in case the newest is damaged."""


def save_state(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state of a step as `folder/step-NNNNNNNN/`, which appears whole or not at all; older ones go.

    Args:
        folder: the run's `state` folder.
        step: how many steps the state has seen.
        state: tensors, numbers and text in dicts and lists.

    Raises:
        UserError: where it cannot be written, a full disk for instance; earlier states are as they were.
    """
    beside = folder / f".partial-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".partial-*"):
            shutil.rmtree(left_over)
        beside.mkdir()
        with (beside / "state.pt").open("w+b") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        (beside / "sha256").write_text(digest)
        final = folder / f"step-{step:08}"
        if final.exists():  # damaged, or from a state after the one that was resumed
            shutil.rmtree(final)
        beside.rename(final)
    except (OSError, RuntimeError) as e:  # torch reports a failed write as a RuntimeError
        shutil.rmtree(beside, ignore_errors=True)
        kept = saved_steps(folder)
        last = f"the last good state is of step {kept[-1]}" if kept else "no state was saved yet"
        reason = (e.strerror or str(e)) if isinstance(e, OSError) else "the disk may be full"
        raise UserError(f"{folder}: the state of step {step} cannot be written ({reason}); {last}") from e
    for old in saved_steps(folder)[:-KEEP]:
        shutil.rmtree(folder / f"step-{old:08}", ignore_errors=True)


def saved_steps(folder: Path) -> list[int]:
    """The steps of which there is a state, damaged or not, in order."""
    return sorted(int(p.name.removeprefix("step-")) for p in folder.glob("step-*") if p.is_dir())


def load_state(folder: Path, warn: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
    """The newest state that is whole, and its step; None where there is none yet.

    Args:
        folder: the run's `state` folder.
        warn: told of each damaged state that is passed over.

    Raises:
        UserError: where there are states, and all are damaged.
    """
    steps = saved_steps(folder)
    for step in reversed(steps):
        path = folder / f"step-{step:08}"
        try:
            with (path / "state.pt").open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == (path / "sha256").read_text().strip()
        except OSError:
            whole = False
        if whole:
            for damaged in steps[steps.index(step) + 1 :]:
                shutil.rmtree(folder / f"step-{damaged:08}")
            return step, torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        warn(f"{path}: is damaged; going back to the state before it")
    if steps:
        raise UserError(f"{folder}: every state is damaged ({len(steps)} of them); train into another folder")
    return None
