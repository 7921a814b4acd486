"""The data doctor: looks at the files of a data folder and says, by name, what stops or spoils a training.

`check` reads, `Report` is what it found, for programs through `to_json`, and `render` shows it to people. Two
depths:

- full: every pixel of every file of every split, in parallel;
- quick, before a training: pairing, classes, the headers of all files and the values of all layouts in
  `train` and `val`. It decodes no photograph, input or instance map but a PNG or JPEG without the mark that ends it
  and instance maps of a type whose numbers may be too large (64 bits, or 32 without a sign), and beyond `QUICK_SCENES`
  scenes it stops after `QUICK_SECONDS` and says how many it has read; the rest are still checked when they are loaded.

Which files belong together depends on what is learned from them: `parts_of` says so of a recipe. Where no recipe is
named, everything that is there counts: layouts, inputs or both; inputs and photographs that have no name in common, or
come from `prepare unpaired`, are two collections; and photographs alone are for recipes that need no more.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from photogram.data.examine import Facts, Files, Finding, Severity, examine
from photogram.data.folder import Fit, Pairing, is_smaller, require_data
from photogram.data.naming import Kind, damage, kind_of, pairings_of
from photogram.data.report import SEVERITIES, ClassRow, InstanceCount, Report, SplitCount, forms_of, render
from photogram.errors import UserError
from photogram.progress import progress
from photogram.rasters import Form
from photogram.recipe import LearnsFrom
from photogram.scene import SceneClass, Size, read_classes, shape

QUICK_SCENES = 5000
"""So many scenes the quick check always reads."""
QUICK_SECONDS = 10.0
"""Beyond `QUICK_SCENES` scenes, the quick check reads on until so many seconds have passed."""

AREA_RANGE, ASPECT_RANGE = 4.0, 1.5
"""Sizes that differ more than this in area or in aspect are worth a note."""

_CHUNK = 256  # scenes between two looks at the clock

__all__ = ["Finding", "Report", "check", "render"]


def check(
    root: Path,
    *,
    quick: bool = False,
    size: Size | None = None,
    fit: Fit = "stretch",
    learns_from: LearnsFrom | None = None,
    quiet: bool = False,
) -> Report:
    """Examine a data folder.

    Args:
        root: the folder with the splits, and with `classes.json` where they have layouts.
        quick: only what can be done in seconds, see the module's text.
        size: height and width at which a training will show the photographs, to say which are smaller.
        fit: how it will bring them there; windows cannot be cut out of smaller ones.
        learns_from: what a recipe asks of it; None takes it for what it holds.
        quiet: show no progress.

    Raises:
        UserError: where `root` is no folder. Whatever is wrong inside it is a finding.
    """
    root = Path(root)
    require_data(root)
    found: list[Finding] = []
    kind = kind_of(root, learns_from)
    classes = _classes(root, found) if "layouts" in kind.parts else None
    pairings = pairings_of(root, quick, kind, found)
    scenes = [files for split, pairing in pairings.items() for files in _scenes(split, pairing, quick, kind)]
    facts = _examine_all(scenes, classes, quick, quiet, size if fit == "window" else None)
    if len(facts) < len(scenes):
        message = f"the quick check read {len(facts)} of {len(scenes)} scenes; the rest are checked when loaded"
        found.append(Finding("not-all-read", "note", str(root), f"{message}, or now by `photogram check {root}`"))
    found += [finding for fact in facts for finding in fact.findings]
    rows = _class_rows(classes or (), facts, list(pairings))
    found += [
        *_never_seen(rows, root),
        *_duplicates(facts),
        *_grey_photos(facts),
        *_sizes_differ(facts, root, None if fit == "window" else size),
        *_forms_differ(facts, kind),
    ]
    return Report(
        root=str(root),
        quick=quick,
        findings=sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.path)),
        splits={split: _count_split(pairing, split, facts, kind) for split, pairing in pairings.items()},
        classes=rows,
        sizes={split: _size_table(split, facts) for split in pairings},
        instances=_instance_counts(facts, list(pairings)),
        forms=forms_of(facts),
    )


def _classes(root: Path, found: list[Finding]) -> tuple[SceneClass, ...] | None:
    path = root / "classes.json"
    try:
        classes = read_classes(path)
        names = [c.name for c in classes]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            ids = " and ".join(str(n) for n, name in enumerate(names) if name == twice)
            message = f"classes {ids} are all called {twice!r}; what goes by name cannot tell them apart"
            found.append(Finding("twin-names", "warning", str(path), message))
        return classes
    except UserError as e:
        found.append(Finding("bad-classes", "error", str(path), str(e).removeprefix(f"{path}: ")))
    except Exception as e:  # RecursionError for JSON nested by the thousand, and what else a file may hold
        found.append(Finding("bad-classes", "error", str(path), f"cannot be read ({type(e).__name__})"))
    return None


def _scenes(split: str, pairing: Pairing, quick: bool, kind: Kind) -> Iterator[Files]:
    """What to read; photographs alone are read by the full check only, to say which are damaged."""
    if kind.unpaired:
        for pair in pairing.pairs:
            yield Files(split, None, None, None, damage(split), pair.input)
        for photo in sorted([*(pair.photo for pair in pairing.pairs if pair.photo), *pairing.lonely_photos]):
            yield Files(split, None, photo, None, damage(split))
        return
    for pair in pairing.pairs:
        used = split != "train" or pair.photo is not None
        yield Files(split, pair.layout, pair.photo, pair.instances, damage(split, used), pair.input)
    for photo in pairing.lonely_photos if not quick else []:
        yield Files(split, None, photo, None, "warning")


def _examine_all(
    scenes: list[Files], classes: tuple[SceneClass, ...] | None, quick: bool, quiet: bool, window: Size | None
) -> list[Facts]:
    """Examine scenes in threads, since decoders let others run; what is kept of a scene is small."""
    limit = QUICK_SCENES if quick else len(scenes)
    if len(scenes) > limit:  # so that what is read in time is spread evenly
        scenes = [scenes[i] for i in np.random.default_rng(0).permutation(len(scenes))]
    facts: list[Facts] = []
    started = time.monotonic()
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def one(files: Files) -> Facts:
        return examine(files, classes, quick, window)

    workers, what = min(workers, 16), "quick check" if quick else "check"
    with ThreadPoolExecutor(workers) as pool, progress(what, len(scenes), quiet=quiet) as advance:
        for start in range(0, len(scenes), _CHUNK):
            if start >= limit and time.monotonic() - started > QUICK_SECONDS:
                break
            for fact in pool.map(one, scenes[start : start + _CHUNK]):
                facts.append(fact)
                advance(fact.split)
    return facts


def _count_split(pairing: Pairing, split: str, facts: list[Facts], kind: Kind) -> SplitCount:
    photos = len(pairing.with_photos) + len(pairing.lonely_photos)
    return SplitCount(
        layouts=sum(pair.layout is not None for pair in pairing.pairs) + len(pairing.lonely_layouts),
        photos=photos,
        pairs=0 if kind.unpaired else len(pairing.with_photos),
        instances=sum(pair.instances is not None for pair in pairing.pairs) + len(pairing.lonely_instances),
        read=sum(fact.split == split for fact in facts),
        inputs=sum(pair.input is not None for pair in pairing.pairs) + len(pairing.lonely_inputs),
        scenes=min(len(pairing.pairs), photos) if kind.unpaired else len(pairing.pairs),
    )


def _forms_differ(facts: list[Facts], kind: Kind) -> Iterator[Finding]:
    """Inputs, and photographs where layouts are not all that there is, must have the channels and bits of the first."""
    for part in ("inputs", "photos"):
        files = sorted((f.split != "train", f.split, *f.forms[part]) for f in facts if part in f.forms)
        if not files:
            continue
        (_, _, first, form) = files[0]
        colour = part == "photos" and (form.colours, form.bits) == (3, 8)
        for _, split, path, other in files[1:]:
            grey = colour and (other.colours, other.bits) == (1, 8)
            plain = colour and kind.parts == ("layouts",)  # of these, 8 bits are taken
            if not (_same(other, form, part) or grey or plain):
                message = f"has {other}, but {first.name}, the first, has {form}; all must be alike"
                yield Finding("form-mismatch", damage(split), str(path), message)


def _same(one: Form, other: Form, part: str) -> bool:
    if part == "photos":  # an opacity is dropped
        return (one.colours, one.bits) == (other.colours, other.bits)
    return (one.channels, one.bits) == (other.channels, other.bits)


def _class_rows(classes: tuple[SceneClass, ...], facts: list[Facts], splits: list[str]) -> list[ClassRow]:
    pixels = {split: np.zeros(len(classes), dtype=np.int64) for split in splits}
    layouts = {split: np.zeros(len(classes), dtype=np.int64) for split in splits}
    for fact in facts:
        for index, count in (fact.classes or {}).items():
            if 0 <= index < len(classes):
                pixels[fact.split][index] += count
                layouts[fact.split][index] += 1
    counted = [split for split in splits if pixels[split].any()]
    return [
        ClassRow(
            id=index,
            name=entry.name,
            void=entry.void,
            shares={split: float(pixels[split][index] / pixels[split].sum()) for split in counted},
            layouts={split: int(layouts[split][index]) for split in counted},
        )
        for index, entry in enumerate(classes)
    ]


def _never_seen(rows: list[ClassRow], root: Path) -> Iterator[Finding]:
    """Classes that a training would never see: a warning where they will be asked for, else a note."""
    for row in rows:
        if row.void or row.layouts.get("train", 1):
            continue
        elsewhere = [split for split, count in row.layouts.items() if count]
        where = (
            f"no layout of train, but in {row.layouts[elsewhere[0]]} of {elsewhere[0]}" if elsewhere else "no layout"
        )
        severity: Severity = "warning" if elsewhere else "note"
        yield Finding(
            "class-never-seen",
            severity,
            str(root / "classes.json"),
            f"class {row.id} ({row.name}) is in {where}",
        )


def _duplicates(facts: list[Facts]) -> Iterator[Finding]:
    """Photographs with the same pixels: a warning where one is in `train` and one is not, else a note."""
    groups: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for fact in facts:  # those of train come first
        if fact.photo is not None:
            groups[fact.photo.digest].append((fact.split, fact.photo.path))
    for group in groups.values():
        first_split, first = group[0]
        for split, path in group[1:]:
            if first_split == "train" != split:
                message = f"has the same pixels as {first}; results on {split} would flatter"
                yield Finding("duplicate-photo", "warning", path, message)
            else:
                yield Finding("repeated-photo", "note", path, f"has the same pixels as {first}")


def _grey_photos(facts: list[Facts]) -> Iterator[Finding]:
    photos = [fact.photo for fact in facts if fact.photo is not None]
    grey = [photo for photo in photos if photo.grey]
    for photo in grey if 2 * len(grey) < len(photos) else []:
        yield Finding(
            "grey-photo",
            "note",
            photo.path,
            f"is grey, but most are in colour ({len(grey)} of {len(photos)} are grey)",
        )


def _sizes_differ(facts: list[Facts], root: Path, size: Size | None) -> Iterator[Finding]:
    sizes = [fact.size for fact in facts if fact.size is not None and fact.split == "train"]
    if not sizes:
        return
    areas, aspects = [h * w for h, w in sizes], [w / h for h, w in sizes]
    if max(areas) >= AREA_RANGE * min(areas) or max(aspects) >= ASPECT_RANGE * min(aspects):
        (low, low_w), (high, high_w) = (tuple(f(side) for side in zip(*sizes, strict=True)) for f in (min, max))
        message = (
            f"{len(set(sizes))} different sizes: heights {low}..{high}, widths {low_w}..{high_w}, "
            f"width / height {min(aspects):.2f}..{max(aspects):.2f}; "
            "cropping to one size keeps shapes, stretching does not"
        )
        yield Finding("sizes-differ", "note", str(root / "train"), message)
    if size is not None and (smaller := sum(is_smaller(found, size) for found in sizes)):
        message = f"{smaller} of {len(sizes)} scenes are smaller than {shape(size)} and will be enlarged"
        yield Finding("smaller-than-asked", "note", str(root / "train"), message)


def _size_table(split: str, facts: list[Facts]) -> dict[str, int]:
    counts = Counter(fact.size for fact in facts if fact.split == split and fact.size is not None)
    return {shape(size): count for size, count in counts.most_common()}


def _instance_counts(facts: list[Facts], splits: list[str]) -> dict[str, InstanceCount]:
    by_split = {split: [f for f in facts if f.split == split and f.objects is not None] for split in splits}
    return {
        split: InstanceCount(
            files=len(found),
            objects=sum(f.objects or 0 for f in found),
            most=max(f.objects or 0 for f in found),
            crossing=sum(f.crossing for f in found),
            ragged=sum(f.ragged for f in found),
        )
        for split, found in by_split.items()
        if found
    }
