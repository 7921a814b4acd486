"""The folder of a run: one training at a time in it, and the settings that it was started with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from photogram.checkpoint import saved_steps
from photogram.errors import UserError
from photogram.generator import CARD, CONFIG, WEIGHTS
from photogram.locking import held
from photogram.outputs import difference, read_record, write_record, writing

SETTINGS, LOCK, SOUND = "run.json", ".lock", "sound"
FOUND = "found"
"""What `run.json` keeps beside the settings: values that the training has found, such as calibrated loss weights."""


@contextmanager
def only_one(out: Path, main: bool) -> Iterator[None]:
    """Hold the folder, which is made where it is missing; see `photogram.locking.held`.

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
    with held(out / LOCK, f"{out}: another training is running in this folder; wait for it, or give another --out"):
        yield


def read_settings(out: Path) -> dict[str, object] | None:
    """The settings of the run in a folder; None where there is no run yet.

    Raises:
        UserError: where `run.json` is damaged.
    """
    record = read_record(out / SETTINGS, "train into another folder")
    return None if record is None else {name: value for name, value in record.items() if name != FOUND}


def write_found(out: Path, found: Mapping[str, str]) -> None:
    """Note in `run.json` what the training has found."""
    record = read_record(out / SETTINGS, "train into another folder")
    if record is not None and record.get(FOUND) != found:
        write_record(out / SETTINGS, {**record, FOUND: dict(found)})


def agree(out: Path, settings: dict[str, object], main: bool, defaults: Mapping[str, object]) -> None:
    """Refuse to go on with a run that was started otherwise, and to start one among other files.

    Args:
        out: the run's folder.
        settings: what is asked for now.
        main: whether this process looks at the folder, for all of them.
        defaults: what a setting is taken to have been where the run was started before there was such a one.
    """
    started = read_settings(out)
    if started is None:
        ours = (LOCK, *(p.name for p in _half_written(out, f".{SETTINGS}.*")))
        others = sorted(p.name for p in out.iterdir() if p.name not in ours) if main else []
        if others:
            raise UserError(f"{out}: is not empty ({others[0]} is there) and holds no run; give another --out")
        return
    differs = difference({**defaults, **started}, {**dict.fromkeys(started), **settings})
    if differs is not None and not saved_steps(out / "state"):
        return  # nothing was learned yet: it begins anew
    if differs is not None:
        advice = "Repeat the first command, or give another --out"
        if differs.startswith("data = "):
            advice = (
                "It is another folder, or its classes, layouts or photographs have changed since: bring it back, or go "
                f"on from what was learned, with another --out and --from {out}"
            )
        if differs.startswith("from = "):
            advice += "; where a run goes on, the folder of --from need not be there any more"
        raise UserError(
            f"{out}: this run was started with {differs}; only --steps (to more) and --workers may differ. {advice}"
        )


def settle(out: Path, settings: dict[str, object], main: bool) -> None:
    """Write `run.json`, once the recipe has started, so that a mistake before that can be mended in the same folder.

    What a training that was killed has left half-written goes.
    """
    if not main:
        return
    with writing(out):
        if read_settings(out) != settings:  # new, or begun anew
            write_record(out / SETTINGS, settings)
        for folder in (out, out / "samples", out / "state", *(p.parent for p in out.glob(f"*/{CONFIG}"))):
            for left_over in _half_written(folder):
                left_over.unlink(missing_ok=True)


def keep_sound(out: Path, blobs: bool) -> None:
    """Set the published network aside before one that paints bright blobs takes its place; to be called before that.

    `sound/` is there as long as what is published has blobs, and holds the last network that had none.

    Args:
        out: the run's folder.
        blobs: whether what is to be published has blobs.
    """
    place, beside = out / SOUND, out / f".{SOUND}.partial"
    for left in (beside, *(() if blobs else (place,))):
        if left.is_dir():
            shutil.rmtree(left)
    if blobs and not place.exists() and (out / CONFIG).is_file():
        beside.mkdir()
        for name in (CONFIG, WEIGHTS, CARD):
            shutil.copy2(out / name, beside / name)
        beside.rename(place)


def _half_written(folder: Path, name: str = ".*") -> list[Path]:
    """Files of a `photogram.images.replacing` that never came to its end."""
    return [p for p in folder.glob(f"{name}.partial") if p.is_file()]
