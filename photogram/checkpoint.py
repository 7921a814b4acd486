"""The state of a training on disk: written beside and renamed, checked when read, the last two kept."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from photogram.errors import UserError
from photogram.images import names_to_disk

KEEP = 2
"""States that are kept: the newest, and the one before in case the newest is damaged."""

_NAME = re.compile(r"step-(\d{8,})")


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
            _to_disk(file.fileno(), file.flush)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with (beside / "sha256").open("w") as file:
            file.write(digest)
            _to_disk(file.fileno(), file.flush)
        final = _place(folder, step)
        if final.exists():  # left by hand: `discard_after` has removed what a resumed run had seen
            _remove(final)
        beside.rename(final)
        names_to_disk(folder)
    except (OSError, RuntimeError) as e:  # torch reports a failed write as a RuntimeError
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(
            f"{folder}: the state of step {step} cannot be written ({_reason(e)}); {last_good(folder, step)}"
        ) from e
    for old in [s for s in saved_steps(folder) if s <= step][:-KEEP]:
        with suppress(OSError):  # one state too many does no harm
            _remove(_place(folder, old))


def _remove(path: Path) -> None:
    """Remove a state whole: it loses its name first, and is swept later where that is all it comes to."""
    nameless = path.with_name(f".partial-{path.name}")
    path.rename(nameless)
    shutil.rmtree(nameless)


def _to_disk(descriptor: int, flush: Callable[[], object]) -> None:
    flush()
    os.fsync(descriptor)


def _reason(e: OSError | RuntimeError) -> str:
    while isinstance(e, RuntimeError) and isinstance(e.__context__, OSError):  # what torch's error came from
        e = e.__context__
    return (e.strerror or str(e)) if isinstance(e, OSError) else "the disk may be full"


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08}"


def saved_steps(folder: Path) -> list[int]:
    """The steps of which there is a state, damaged or not, in order."""
    names = (_NAME.fullmatch(p.name) for p in folder.glob("step-*") if p.is_dir())
    return sorted(int(name[1]) for name in names if name)


def last_good(folder: Path, step: int) -> str:
    """What to say of the states when a run ends after `step` for a reason of its own."""
    kept = [s for s in saved_steps(folder) if s <= step]
    return f"the last good state is of step {kept[-1]}" if kept else "no state was saved yet"


def discard_after(folder: Path, step: int) -> None:
    """Remove the states after the one that a run goes on from: they are damaged."""
    for later in saved_steps(folder):
        if later > step:
            _remove(_place(folder, later))


def load_state(folder: Path, warn: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
    """The newest state that is whole, and its step; None where there is none yet. It changes nothing on disk.

    Args:
        folder: the run's `state` folder.
        warn: told of each damaged state that is passed over.

    Raises:
        UserError: where there are states, and all are damaged; or where one holds more than tensors, numbers and text,
            which no training has written.
    """
    steps = saved_steps(folder)
    for step in reversed(steps):
        path = _place(folder, step)
        if _is_whole(path):
            return step, _read(path / "state.pt")
        warn(f"{path}: is damaged; going back to the state before it")
    if steps:
        raise UserError(f"{folder}: every state is damaged ({len(steps)} of them); train into another folder")
    return None


def state_beside(network: Path | None) -> dict[str, Any] | None:
    """The newest whole state of the training that published a network; None where its folder has none.

    Args:
        network: the folder of a run, or of another published network; None where there is none.

    Raises:
        UserError: as `load_state` does.
    """
    found = None if network is None else load_state(network / "state", lambda damaged: None)
    return None if found is None else found[1]["training"]


def _is_whole(path: Path) -> bool:
    try:
        with (path / "state.pt").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return found.encode() == (path / "sha256").read_bytes().strip()
    except OSError:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # never runs what a pickle asks for
    except Exception as e:  # torch.load raises anything on what it does not know
        raise UserError(
            f"{path}: is refused, no training wrote it: it holds more than tensors, numbers and text, or cannot be "
            f"read ({type(e).__name__})"
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds {type(state).__name__}, not the state of a training; it is refused")
    return state
