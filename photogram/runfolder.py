"""The folder of a run: one training at a time in it, and the settings that it was started with."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from photogram.errors import UserError
from photogram.generator import CONFIG
from photogram.images import replacing

SETTINGS, LOCK = "run.json", ".lock"


@contextmanager
def only_one(out: Path, main: bool) -> Iterator[None]:
    """Hold the folder, which is made where it is missing; the lock falls with the process, however it ends.

    Processes that read data do not inherit it: they live on for some seconds where this one is killed.

    Args:
        out: the run's folder.
        main: whether this process holds it, for all of them.

    Raises:
        UserError: where it is held already, is a file, or cannot be written.
    """
    if not main:
        yield
        return
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, not a folder; give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror}); give another --out") from None
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # which of the two depends on the system
            raise UserError(f"{out}: another training is running in this folder") from None
        yield


def read_settings(out: Path) -> dict[str, object] | None:
    """The settings of the run in a folder; None where there is no run yet.

    Raises:
        UserError: where `run.json` is damaged.
    """
    path = out / SETTINGS
    try:
        settings = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):  # `only_one` has a word for the latter
        return None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); train into another folder") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: does not hold the settings of a run; train into another folder")
    return settings


def agree(out: Path, settings: dict[str, object], main: bool) -> None:
    """Refuse to go on with a run that was started otherwise, and to start one among other files."""
    started = read_settings(out)
    if started is None:
        ours = (LOCK, *(p.name for p in _half_written(out, f".{SETTINGS}.*")))
        others = sorted(p.name for p in out.iterdir() if p.name not in ours) if main else []
        if others:
            raise UserError(f"{out}: is not empty ({others[0]} is there) and holds no run; give another --out")
        return
    for name in {**started, **settings}:
        if started.get(name) != settings.get(name):
            raise UserError(
                f"{out}: this run was started with {name} = {json.dumps(started.get(name))}, not "
                f"{json.dumps(settings.get(name))}; only --steps (to more) and --workers may differ. "
                "Repeat the first command, or give another --out"
            )


def settle(out: Path, settings: dict[str, object], main: bool) -> None:
    """Write `run.json`, once the recipe has started, so that a mistake before that can be mended in the same folder.

    What a training that was killed has left half-written goes.
    """
    if not main:
        return
    try:
        if not (out / SETTINGS).exists():
            with replacing(out / SETTINGS) as file:
                file.write((json.dumps(settings, indent=2) + "\n").encode())
        for folder in (out, out / "samples", out / "state", *(p.parent for p in out.glob(f"*/{CONFIG}"))):
            for left_over in _half_written(folder):
                left_over.unlink(missing_ok=True)
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror or e}); give another --out") from None


def _half_written(folder: Path, name: str = ".*") -> list[Path]:
    """Files of a `photogram.images.replacing` that never came to its end."""
    return [p for p in folder.glob(f"{name}.partial") if p.is_file()]
