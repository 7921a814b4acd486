"""From colour-coded layouts of any origin to a data folder: the preparer `palette`.

Without classes and a map each colour becomes a class `class-0`, `class-1` ..., most pixels first. With classes, colours
not listed become void (a class `unlabelled` is added where the list has no void class). Of classes with equal colours
the first is meant.

A map is JSON: `{"map": {"SOURCE": "TARGET", ...}, "classes": [...]}`. A SOURCE is the name or the index of a class of
the classes (or of the proposed ones), or a colour, `"#804080"` or `"128, 64, 128"`. A TARGET is the name of a class in
`"classes"`, a list as in `classes.json`; without that list the targets are new classes in the order of their first
mention, each in the colour of its first source. What is not mapped becomes void.

Layouts that were smoothed or stored as JPEG are refused (`photogram.data.colors.check_colors` says how they are told
from many classes). A tolerance N takes them all the same: each unknown colour goes to the nearest known one where
exactly one is nearest and no channel differs by more than N, else to void. Known are then the listed colours, or
without a list those that fill a 3 x 3 block somewhere and are more than N away from a more common one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from photogram.data.carrying import check_apart, in_parallel
from photogram.data.coding import (
    Coding,
    Mapping,
    apply_map,
    first_wins,
    parse_color,
    propose,
    read_map,
    read_palette,
    with_void,
)
from photogram.data.colors import (
    ColorTable,
    FileColors,
    check_colors,
    hexed,
    pack_color,
    read_colors,
    snap,
    survey_file,
    total_colors,
    unpack_color,
)
from photogram.data.preparing import (
    ColorCount,
    Labels,
    PaletteReport,
    Plan,
    Prepared,
    SourceScene,
    carry_out,
    check_share,
    held_out,
    read_objects,
)
from photogram.data.rewriting import split_scenes
from photogram.errors import UserError
from photogram.images import LABEL_SUFFIXES
from photogram.scene import SceneClass

_LAYOUT_SUFFIXES = (*LABEL_SUFFIXES, ".jpg", ".jpeg")
_SHOWN = 50  # colours without a class of their own that the report lists


def prepare_palette(
    source: Path,
    *,
    out: Path,
    map: Path | None = None,
    classes: Path | None = None,
    tolerance: int = 0,
    val_share: float = 0.1,
    quiet: bool = False,
) -> Prepared:
    """Prepare colour-coded layouts (RGB, grey or indexed colour), with or without photographs.

    `source` holds `train/`, `val/` ... with `layouts/` and, where there are such, `photos/` and `instances/`,
    paired by stem; or one set of `layouts/`, `photos/`, `instances/`; or layout images only. Without splits,
    the last `val_share` of the scenes with a photograph, by name, goes to val (by name, so that the frames of
    a sequence stay together), and every layout without a photograph.

    What `classes`, `map` and `tolerance` decide is said at the top of this file.

    Args:
        source: the folder of layouts.
        out: the data folder to write.
        map: a JSON file that sends classes to classes.
        classes: known classes and their colours: a `classes.json`, or `{"palette": [[r, g, b], ...]}` as
            published with CRN, with an optional list `"names"`.
        tolerance: the largest channel difference, 0..255, over which a colour snaps to a known one.
        val_share: the share of scenes for val, 0..1 (1 excluded), where the source has no splits.
        quiet: show no progress.

    Returns:
        What was made, with the colours and shares in `report`.

    Raises:
        UserError: where something is missing, damaged, unknown or does not fit.
    """
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give the folder that holds the layouts")
    if not 0 <= tolerance <= 255:
        raise UserError(f"--tolerance {tolerance}: must be in 0..255")
    check_share(val_share)
    items, warnings = _find(source, val_share)
    check_apart(source, Path(out), {i.layout.parent for i in items})
    known = read_palette(classes) if classes else None
    mapping = read_map(map) if map else None
    files = _surveyed(items, _listed(known, mapping), tolerance, quiet)
    coding, moved, notes = _decide(files, known, mapping, map, tolerance)
    table = ColorTable(_full(coding, moved), 0 if coding.void is None else coding.void)
    report = _report(files, coding, moved)
    settings = {
        "tolerance": tolerance,
        "val_share": val_share,
        "colors": {hexed(c): coding.classes[i].name for c, i in sorted(coding.colors.items())},
    }
    notes = (*warnings, *notes, *_share_notes(report))
    plan = Plan("palette", source, settings, coding.classes, items, notes)

    def read(item: SourceScene) -> Labels:
        return Labels(table(read_colors(item.layout))[0], read_objects(item))

    return carry_out(plan, read, Path(out), quiet, report)


def _find(source: Path, val_share: float) -> tuple[list[SourceScene], list[str]]:
    """The scenes of a source, with their splits, and warnings."""
    splits = sorted(p for p in source.iterdir() if (p / "layouts").is_dir() and not p.name.startswith("."))
    warnings: list[str] = []
    if splits:
        items = [scene for s in splits for scene in split_scenes(s, s.name, warnings)]
    elif (source / "layouts").is_dir():
        items = _split(split_scenes(source, "", warnings), val_share)
    else:
        images = [p for p in sorted(source.iterdir()) if p.suffix.lower() in _LAYOUT_SUFFIXES and p.is_file()]
        items = [SourceScene("val", p.stem, p) for p in images if not p.name.startswith(".")]
    if not items:
        raise UserError(
            f"{source}: no layouts found: neither train/layouts/ or the like, nor layouts/, nor images "
            f"({', '.join(_LAYOUT_SUFFIXES)})"
        )
    return items, warnings


def _split(items: list[SourceScene], val_share: float) -> list[SourceScene]:
    """The last share of those with a photograph to val; the others to val too."""
    stems = [i.stem for i in items if i.photo]
    train = set(stems[: len(stems) - held_out(len(stems), val_share)])
    return [SourceScene("train" if i.stem in train else "val", i.stem, i.layout, i.photo, i.instances) for i in items]


def _surveyed(items: list[SourceScene], listed: np.ndarray, tolerance: int, quiet: bool) -> list[FileColors]:
    """The colours of all layouts; blurred ones are refused, unless there is a tolerance."""
    most = None if tolerance else 256
    files = in_parallel(
        lambda item: survey_file(item.layout, listed, most), items, lambda i: i.stem, "counting colours", 0, quiet
    )
    if not tolerance:
        check_colors(files, listed)
    return files


def _listed(known: tuple[SceneClass, ...] | None, mapping: Mapping | None) -> np.ndarray:
    """The colours that a person vouched for, ascending. An added void's colour is no more than a way to draw
    it."""
    colors = {pack_color(c.color) for c in known or ()}
    colors |= {c for key in (mapping.pairs if mapping else ()) if (c := parse_color(key)) is not None}
    return np.array(sorted(colors), dtype=np.int32)


def _decide(
    files: list[FileColors],
    known: tuple[SceneClass, ...] | None,
    mapping: Mapping | None,
    map_path: Path | None,
    tolerance: int,
) -> tuple[Coding, dict[int, int], list[str]]:
    """The classes, the colours that snap to known ones, and warnings."""
    colors, pixels, solid = total_colors(files)
    listed = _listed(known, mapping)
    notes: list[str] = []
    if known is not None:
        coding, notes = first_wins(known)
    else:
        coding = propose(colors, pixels, solid, listed, tolerance)
    anchors = {*coding.colors, *listed.tolist()}
    moved = snap(colors[~np.isin(colors, list(anchors))], anchors, tolerance) if tolerance else {}
    if mapping is not None:
        coding = apply_map(coding, mapping)
        present = {*colors.tolist(), *moved.values()}
        unseen = [key for key in mapping.pairs if (c := parse_color(key)) is not None and c not in present]
        notes += [f"{map_path}: colour {unseen[0]} is in no layout ({len(unseen)} such)"] if unseen else []
    elif any(c not in coding.colors and c not in moved for c in colors.tolist()):
        coding = Coding(with_void(coding.classes), coding.colors)
    return coding, moved, notes


def _full(coding: Coding, moved: dict[int, int]) -> dict[int, int]:
    """The class index of every colour that has one, snapped ones included."""
    return coding.colors | {c: coding.colors[to] for c, to in moved.items() if to in coding.colors}


def _report(files: list[FileColors], coding: Coding, moved: dict[int, int]) -> PaletteReport:
    colors, pixels, _ = total_colors(files)
    _, which = np.unique(np.concatenate([f.colors for f in files]), return_inverse=True)
    in_files = np.bincount(which)
    table, void = _full(coding, moved), coding.void
    index = np.array([table.get(c, -1 if void is None else void) for c in colors.tolist()])
    total = int(pixels.sum())
    shares = np.bincount(index, pixels, minlength=len(coding.classes)) / total
    is_moved = np.isin(colors, list(moved))
    lost = ~np.isin(colors, list(table))
    order = np.lexsort((colors, -pixels))
    own = np.isin(colors, list(coding.colors))
    others = order[~own[order]][:_SHOWN]
    shown = [i for i in order.tolist() if own[i] or i in others]
    counts = []
    for i in shown:
        counts.append(
            ColorCount(unpack_color(int(colors[i])), int(pixels[i]), int(in_files[i]), coding.classes[index[i]].name)
        )
    return PaletteReport(
        pixels=total,
        colors=tuple(counts),
        distinct=colors.size,
        shares={c.name: float(s) for c, s in zip(coding.classes, shares, strict=True)},
        unlabelled=0.0 if void is None else float(shares[void]),
        snapped=(int(is_moved.sum()), int(pixels[is_moved].sum())),
        unlisted=(int(lost.sum()), int(pixels[lost].sum())),
    )


def _share_notes(report: PaletteReport) -> list[str]:
    notes = []
    if report.snapped[0]:
        colors, pixels = report.snapped
        notes.append(f"{colors:,} colours on {pixels:,} pixels ({pixels / report.pixels:.2%}) snapped to the nearest")
    if report.unlisted[0]:
        colors, pixels = report.unlisted
        notes.append(f"{colors:,} unknown colours on {pixels:,} pixels ({pixels / report.pixels:.2%}) became void")
    return notes
