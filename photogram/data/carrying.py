"""How preparers write a folder: many scenes at once, that can be stopped and run again.

Every file is written beside its place and renamed, and `classes.json` comes last, so that a folder that is not finished
cannot be trained on by mistake. `prepare.json` keeps what was asked, so that a run with other settings is refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from photogram.errors import UserError
from photogram.images import replacing
from photogram.progress import progress
from photogram.scene import SceneClass, read_classes, write_classes

RECORD = "prepare.json"
"""The file in a prepared folder that says what it was prepared from, and how."""

_WRITING_ENDS = 3600  # seconds after which nobody writes a file any more, where there is no better way to know


@runtime_checkable
class Named(Protocol):
    """One scene to be written."""

    @property
    def stem(self) -> str:
        """What its files are called."""
        ...


Job = TypeVar("Job")
Scene = TypeVar("Scene", bound=Named)
Result = TypeVar("Result")


def write_folder(
    out: Path,
    record: dict[str, object],
    scenes: Sequence[Scene],
    *,
    files: Callable[[Scene], Iterable[Path]],
    done: Callable[[Scene], bool],
    write: Callable[[Scene], Result],
    classes: tuple[SceneClass, ...] = (),
    at_once: bool = True,
    quiet: bool = False,
) -> list[tuple[Scene, Result]]:
    """Write what an earlier run has not finished.

    Args:
        out: the folder, known to be apart from the source.
        record: what was asked, see `record_of`.
        scenes: all of them.
        files: those of a scene, in `out`.
        done: whether an earlier run wrote them all.
        write: writes them.
        classes: go to `classes.json`, last.
        at_once: in threads, or one scene after another.
        quiet: show no progress.

    Returns:
        The scenes of this run, and what `write` gave of them.

    Raises:
        UserError: where `out` holds something else, was prepared otherwise, or cannot be written.
    """
    check_record(record, out)
    check_classes(classes, out)
    todo = [scene for scene in scenes if not done(scene)]

    def work(scene: Scene) -> Result:
        try:
            return write(scene)
        except OSError as e:
            raise UserError(f"{out}: cannot be written ({e.strerror or e})") from None

    try:
        make_folders({path.parent for scene in scenes for path in files(scene)}, out, record)
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror or e})") from None
    title, skipped = f"preparing {record['preparer']}", len(scenes) - len(todo)
    if at_once:
        results = in_parallel(work, todo, lambda scene: scene.stem, title, skipped, quiet)
    else:
        results = []
        with progress(title, len(scenes), skipped, quiet) as advance:
            for scene in todo:
                results.append(work(scene))
                advance(scene.stem)
    if classes and not (out / "classes.json").exists():
        write_classes(classes, out / "classes.json")
    return list(zip(todo, results, strict=True))


def in_parallel(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    name: Callable[[Job], str],
    title: str,
    done: int,
    quiet: bool,
) -> list[Result]:
    """Do all jobs on all processors, in threads (decoders and numpy let go of the interpreter), in order.

    The first error, in the order of the jobs, or Ctrl-C ends it: jobs under way finish, the others are not
    begun.
    """
    results: list[Result] = []
    workers = max(1, min(len(jobs), os.cpu_count() or 1, 16))
    with progress(title, len(jobs) + done, done, quiet) as advance, ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for job, future in zip(jobs, futures, strict=True):
                results.append(future.result())
                advance(name(job))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    return results


def check_apart(source: Path, out: Path, folders: set[Path]) -> None:
    """Refuse an output folder that is, holds, or lies in a source folder, links followed.

    Raises:
        UserError: naming both.
    """
    target = out.resolve()
    for folder in (source, *sorted(folders)):
        origin = folder.resolve()
        if target == origin or origin in target.parents or target in origin.parents:
            raise UserError(f"{out}: overlaps the source {folder}, which is never written to; choose another --out")


def record_of(
    preparer: str, source: Path, settings: dict[str, object], classes: tuple[SceneClass, ...]
) -> dict[str, object]:
    """What was asked of a preparer, for `prepare.json`.

    Args:
        preparer: its name.
        source: where it reads.
        settings: what else decides the result, in JSON's types.
        classes: of the layouts that it writes.
    """
    listed = [[c.name, list(c.color), c.void] for c in classes]
    return {"preparer": preparer, "source": str(source.resolve()), "settings": settings, "classes": listed}


def check_record(wanted: dict[str, object], out: Path) -> None:
    """Refuse, with a `UserError`, to write into a folder that is not ours, or was prepared otherwise than `wanted`."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError(f"{out}: is a file; --out names a folder")
    record = out / RECORD
    if not record.is_file():
        raise UserError(
            f"{out}: is not empty and was not made by `photogram prepare`; choose another --out or empty it"
        )
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise UserError(f"{record}: cannot be read as JSON ({e}); choose another --out") from None
    difference = _difference("", before, json.loads(json.dumps(wanted)))
    if difference:
        raise UserError(f"{out}: was prepared with {difference}; choose another --out or remove this one")


def check_classes(classes: tuple[SceneClass, ...], out: Path) -> None:
    """Refuse, with a `UserError`, a folder whose `classes.json` was changed by hand."""
    written = out / "classes.json"
    if written.exists() and read_classes(written) != classes:
        raise UserError(f"{written}: was changed since it was prepared; choose another --out to prepare again")


def _difference(name: str, before: object, now: object) -> str | None:
    """Name the first thing in which two records differ, with both values."""
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            found = _difference(str(key), before.get(key), now.get(key))
            if found:
                return found
    if isinstance(before, list) and isinstance(now, list) and name == "classes":
        for index in range(max(len(before), len(now))):
            pair = [part[index] if index < len(part) else None for part in (before, now)]
            if pair[0] != pair[1]:
                return f"class {index} {pair[0]!r}, now {pair[1]!r}"
    return f"{name} {before!r}, now {now!r}"


def is_done(source: Path, target: Path) -> bool:
    """Whether a file was written after its source last changed."""
    try:
        return target.stat().st_mtime >= source.stat().st_mtime
    except FileNotFoundError:
        return False


def make_folders(folders: set[Path], out: Path, record: dict[str, object]) -> None:
    """Make folders in `out`, clear away what killed runs left half written in them, and keep what was asked."""
    for folder in sorted(folders):
        folder.mkdir(parents=True, exist_ok=True)
        if out.resolve() not in (folder.resolve(), *folder.resolve().parents):
            raise UserError(f"{folder}: is a link that leads out of {out}; remove it")
        for left in folder.glob(".*.partial"):  # what a killed run left behind
            if not _runs_still(left):
                left.unlink(missing_ok=True)
    if not (out / RECORD).exists():
        with replacing(out / RECORD) as file:
            file.write((json.dumps(record, indent=1) + "\n").encode())


def _runs_still(partial: Path) -> bool:
    """Whether the process that writes `.name.PID.partial` is another one that is still there."""
    number = partial.name.split(".")[-2]
    if not number.isdigit() or int(number) == os.getpid():
        return False
    if os.name == "nt":  # where `kill` is no question, but a Ctrl-C to everybody
        return time.time() - partial.stat().st_mtime < _WRITING_ENDS
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def summed(warnings: Sequence[str]) -> list[str]:
    """The first five of many warnings, and how many more there are."""
    return [*warnings] if len(warnings) <= 5 else [*warnings[:5], f"... and {len(warnings) - 5} more such warnings"]


def foreign(files: set[Path]) -> list[str]:
    """Note what lies beside the files of a folder and is none of them, such as files of scenes removed since."""
    present = {p for folder in {f.parent for f in files} for p in folder.iterdir() if not p.name.startswith(".")}
    extra = sorted(present - files)
    return (
        [f"{extra[0]}: is not from this source ({len(extra)} such files); remove what is not wanted"] if extra else []
    )
