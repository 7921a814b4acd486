"""What preparers of layouts share: a plan of scenes with layouts, photographs and instance maps, carried out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from photogram.data.carrying import check_apart, foreign, is_done, record_of, summed, write_folder
from photogram.errors import UserError
from photogram.images import (
    NUMBER_LIMIT,
    copy_file,
    image_size,
    instances_suffix,
    read_instances,
    write_image,
    write_labels,
)
from photogram.scene import SceneClass, shape


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
    found = write_folder(
        out,
        record_of(plan.preparer, plan.source, plan.settings, plan.classes),
        plan.items,
        files=lambda item: targets(item, out).values(),
        done=done,
        write=write,
        classes=plan.classes,
        at_once=at_once,
        quiet=quiet,
    )
    parts = [(item.split, targets(item, out)) for item in plan.items]
    strangers = foreign({path for _, paths in parts for path in paths.values()})
    warnings = (*plan.warnings, *summed([w for _, some in found for w in some]), *strangers)
    return Prepared(out, counted(parts), plan.classes, len(found), len(plan.items) - len(found), warnings, report)


def targets(item: SourceScene, out: Path) -> dict[str, Path]:
    """Where the parts of a scene are written: `layouts`, and `photos` and `instances` where it has them."""
    return {target.parent.name: target for _, target in _files(item, out)}


def _check_twins(plan: Plan) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for item in plan.items:
        other = seen.setdefault((item.split, item.stem), item.layout)
        if other is not item.layout:
            raise UserError(f"{item.layout}: has the same name as {other} in split {item.split!r}; remove one")


def _files(item: SourceScene, out: Path) -> list[tuple[Path, Path]]:
    """Source and target of each file of an item."""
    split = out / item.split
    pairs = [(item.layout, split / "layouts" / f"{item.stem}.png")]
    if item.photo:
        pairs.append((item.photo, split / "photos" / f"{item.stem}{item.photo.suffix.lower()}"))
    if item.instances:
        pairs.append((item.instances, split / "instances" / f"{item.stem}{instances_suffix(item.instances)}"))
    return pairs


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


def counted(scenes: Sequence[tuple[str, Collection[str]]]) -> tuple[PreparedSplit, ...]:
    """How many files each split holds, train and val first; of scenes by split, and what each has: `photos` ..."""

    def files(split: str, part: str) -> int:
        return sum(there == split and part in parts for there, parts in scenes)

    splits = sorted({split for split, _ in scenes}, key=lambda name: (name != "train", name != "val", name))
    parts = ("layouts", "photos", "instances", "inputs")
    return tuple(PreparedSplit(split, *(files(split, part) for part in parts)) for split in splits)


def check_share(val_share: float) -> None:
    """Refuse, with a `UserError`, shares of scenes that cannot be held out."""
    if not 0 <= val_share < 1:
        raise UserError(f"--val-share {val_share}: must be at least 0 and below 1")


def held_out(count: int, val_share: float) -> int:
    """How many scenes of so many are held out: at least one where there are two, unless the share is 0."""
    return min(max(round(count * val_share), 1 if val_share else 0), max(count - 1, 0))
