"""What all preparers share: a plan of files, carried out in parallel, that can be stopped and run again.

Every file is written beside its place and renamed, and `classes.json` comes last, so that a folder that is
not finished cannot be trained on by mistake. `prepare.json` keeps what was asked, so that a run with other
settings is refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from photogram.errors import UserError
from photogram.images import (
    NUMBER_LIMIT,
    copy_file,
    image_size,
    instances_suffix,
    read_instances,
    replacing,
    write_image,
    write_labels,
)
from photogram.progress import progress
from photogram.scene import SceneClass, read_classes, shape, write_classes

RECORD = "prepare.json"
"""The file in a prepared folder that says what it was prepared from, and how."""

_WRITING_ENDS = 3600  # seconds after which nobody writes a file any more, where there is no better way to know

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SourceScene:
    """The source files of one scene."""

    split: str
    stem: str
    layout: Path
    photo: Path | None = None
    instances: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What a preparer is going to write."""

    preparer: str
    source: Path
    settings: dict[str, object]
    """What else decides the result, in JSON's types; kept in `prepare.json` and compared on the next run."""
    classes: tuple[SceneClass, ...]
    items: list[SourceScene]
    warnings: tuple[str, ...] = ()


class Labels(NamedTuple):
    """What a preparer makes of the layout and the instance map of one scene."""

    layout: np.ndarray
    """Class indices, uint8 or uint16 [h, w]."""
    instances: np.ndarray | None = None
    """Object numbers, 0..`NUMBER_LIMIT`, [h, w]; None where the scene has no instance map."""
    warning: str | None = None


Read = Callable[[SourceScene], Labels]
"""How the labels of a scene are read, by several threads at once."""


@dataclass(frozen=True)
class PreparedSplit:
    """How many files one split of the prepared folder holds."""

    name: str
    layouts: int
    photos: int
    instances: int
    inputs: int = 0


@dataclass(frozen=True)
class ColorCount:
    """One colour of colour-coded layouts."""

    color: tuple[int, int, int]
    pixels: int
    files: int
    target: str
    """The name of the class that its pixels are given."""


@dataclass(frozen=True)
class PaletteReport:
    """What was found in colour-coded layouts, over all files."""

    pixels: int
    colors: tuple[ColorCount, ...]
    """Every colour that is a class's own, and the most common of the others, most pixels first."""
    distinct: int
    """How many distinct colours there are."""
    shares: dict[str, float]
    """The share of all pixels that each class has, by name, in order of the classes; sums to 1."""
    unlabelled: float
    """The share of all pixels that is void."""
    snapped: tuple[int, int]
    """Distinct colours that were moved to the nearest known one by `tolerance`, and their pixels."""
    unlisted: tuple[int, int]
    """Distinct colours that stand for no class and became void, and their pixels."""


@dataclass(frozen=True)
class Prepared:
    """What a preparer made."""

    out: Path
    splits: tuple[PreparedSplit, ...]
    classes: tuple[SceneClass, ...]
    written: int
    """Scenes written by this run."""
    skipped: int
    """Scenes that an earlier run had finished."""
    warnings: tuple[str, ...]
    report: PaletteReport | None = None
    """Colours and shares, from the preparer `palette`."""


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


def carry_out(plan: Plan, read: Read, out: Path, quiet: bool = False, report: PaletteReport | None = None) -> Prepared:
    """Write the data folder that a plan describes; what an earlier run finished is not done again.

    A file counts as finished where it is there and not older than its source.

    Raises:
        UserError: where `out` and the source overlap, `out` holds something else, was prepared otherwise, or
            a file of the source is damaged or does not fit its partners.
    """
    out = Path(out)
    if not plan.items:
        raise UserError(f"{plan.source}: no layouts found; nothing to prepare")
    _check_twins(plan)
    check_apart(plan.source, out, {p.parent for i in plan.items for p in (i.layout, i.photo, i.instances) if p})

    def done(item: SourceScene) -> bool:
        return all(is_done(s, t) for s, t in _files(item, out))

    return carry_out_with(plan, out, lambda item: _write(read, item, out), done, quiet, report=report)


def carry_out_with(
    plan: Plan,
    out: Path,
    write: Callable[[SourceScene], list[str]],
    done: Callable[[SourceScene], bool],
    quiet: bool = False,
    at_once: bool = True,
    report: PaletteReport | None = None,
) -> Prepared:
    """`carry_out` for scenes whose files are no plain copies.

    Args:
        plan: its scenes name the files that are written; they need not be there.
        out: the data folder to write, known to be apart from the source.
        write: writes the files of a scene, the layout last; returns warnings.
        done: whether an earlier run wrote them all.
        quiet: show no progress.
        at_once: in threads, or one scene after another.
        report: what is known of the colours of a palette.

    Raises:
        UserError: where two scenes have one name, `out` holds something else or was prepared otherwise, or it cannot
            be written.
    """
    _check_twins(plan)
    record = _record(plan)
    check_record(record, out)
    check_classes(plan.classes, out)
    todo = [item for item in plan.items if not done(item)]
    try:
        make_folders({target.parent for item in plan.items for _, target in _files(item, out)}, out, record)
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror or e})") from None

    def work(item: SourceScene) -> list[str]:
        try:
            return write(item)
        except OSError as e:
            raise UserError(f"{out / item.split}: cannot be written ({e.strerror or e})") from None

    title, skipped = f"preparing {plan.preparer}", len(plan.items) - len(todo)
    if at_once:
        found = in_parallel(work, todo, lambda i: i.stem, title, skipped, quiet)
    else:
        found = []
        with progress(title, len(plan.items), skipped, quiet) as advance:
            for item in todo:
                found.append(work(item))
                advance(item.stem)
    if not (out / "classes.json").exists():
        write_classes(plan.classes, out / "classes.json")
    warnings = (*plan.warnings, *_summed([w for part in found for w in part]), *_foreign(plan, out))
    return Prepared(out, _count(plan.items), plan.classes, len(todo), skipped, warnings, report)


def targets(item: SourceScene, out: Path) -> dict[str, Path]:
    """Where the parts of a scene are written: `layouts`, and `photos` and `instances` where it has them."""
    return {target.parent.name: target for _, target in _files(item, out)}


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


def _check_twins(plan: Plan) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for item in plan.items:
        other = seen.setdefault((item.split, item.stem), item.layout)
        if other is not item.layout:
            raise UserError(f"{item.layout}: has the same name as {other} in split {item.split!r}; remove one")


def _record(plan: Plan) -> dict[str, object]:
    classes = [[c.name, list(c.color), c.void] for c in plan.classes]
    asked = {"preparer": plan.preparer, "source": str(plan.source.resolve())}
    return {**asked, "settings": plan.settings, "classes": classes}


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


def _files(item: SourceScene, out: Path) -> list[tuple[Path, Path]]:
    """Source and target of each file of an item."""
    split = out / item.split
    pairs = [(item.layout, split / "layouts" / f"{item.stem}.png")]
    if item.photo:
        pairs.append((item.photo, split / "photos" / f"{item.stem}{item.photo.suffix.lower()}"))
    if item.instances:
        pairs.append((item.instances, split / "instances" / f"{item.stem}{instances_suffix(item.instances)}"))
    return pairs


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


def _write(read: Read, item: SourceScene, out: Path) -> list[str]:
    """Write the files of one scene, the layout last, after checking that they fit."""
    layout, instances, warning = read(item)
    targets = dict(_files(item, out))
    check_fit(item, layout, instances)
    if item.photo and not is_done(item.photo, targets[item.photo]):
        copy_file(item.photo, targets[item.photo])
    if item.instances and instances is not None:
        write_labels(instances.astype(np.int32), targets[item.instances])
    write_image(layout, targets[item.layout])
    return [warning] if warning else []


def check_fit(item: SourceScene, layout: np.ndarray, instances: np.ndarray | None) -> None:
    """Refuse a photograph or object numbers of another size than the layout's.

    Raises:
        UserError: naming both files and both sizes.
    """
    sizes = {} if item.photo is None else {item.photo: image_size(item.photo)}
    if item.instances and instances is not None:
        sizes[item.instances] = (instances.shape[0], instances.shape[1])
    for path, size in sizes.items():
        if size != layout.shape:
            raise UserError(f"{path}: is {shape(size)}, but its layout {item.layout} is {shape(layout)}")


def read_objects(item: SourceScene) -> np.ndarray | None:
    """The object numbers of an item as they are in its file, int32 of 0 or more; None where it has none.

    Raises:
        UserError: where the file cannot be read as such.
    """
    if item.instances is None:
        return None
    objects = read_instances(item.instances)
    if int(objects.min()) < 0:
        raise UserError(f"{item.instances}: object number {objects.min()} is outside 0..{NUMBER_LIMIT}")
    return objects


def _summed(warnings: list[str]) -> list[str]:
    return warnings if len(warnings) <= 5 else [*warnings[:5], f"... and {len(warnings) - 5} more such warnings"]


def _foreign(plan: Plan, out: Path) -> list[str]:
    """Note files in the output that this source does not have, such as those of scenes removed since."""
    expected = {target for item in plan.items for _, target in _files(item, out)}
    present = {
        path for folder in {t.parent for t in expected} for path in folder.iterdir() if not path.name.startswith(".")
    }
    extra = sorted(present - expected)
    return (
        [f"{extra[0]}: is not from this source ({len(extra)} such files); remove what is not wanted"] if extra else []
    )


def _count(items: list[SourceScene]) -> tuple[PreparedSplit, ...]:
    order = {"train": 0, "val": 1}
    names = sorted({i.split for i in items}, key=lambda n: (order.get(n, 2), n))
    return tuple(
        PreparedSplit(
            name,
            sum(i.split == name for i in items),
            sum(i.split == name and i.photo is not None for i in items),
            sum(i.split == name and i.instances is not None for i in items),
        )
        for name in names
    )
