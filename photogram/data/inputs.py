"""Data folders with images as conditions: the preparers `pairs`, `manifest`, `unpaired` and `grey`.

They write `out/SPLIT/inputs/` and `out/SPLIT/photos/`, leave their sources alone, and can be stopped and run again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from photogram.data.carrying import check_apart, foreign, is_done, record_of, summed, write_folder
from photogram.data.folder import pair_files, refuse_twins
from photogram.data.preparing import Prepared, check_share, counted, held_out
from photogram.data.rewriting import read_layout
from photogram.errors import UserError, nearest
from photogram.images import LABEL_SUFFIXES, copy_file
from photogram.nn import color
from photogram.rasters import (
    RASTER_SUFFIXES,
    bits_of,
    raster_form,
    read_raster,
    suffix_for,
    write_raster,
)
from photogram.scene import SceneClass, from_pixels, read_classes, shape, to_levels

Direction = Literal["AtoB", "BtoA"]


@dataclass(frozen=True)
class Made:
    """One scene to be written: for each part, such as `inputs`, the file that it is made from and the new suffix."""

    split: str
    stem: str
    sources: Mapping[str, Path]
    suffixes: Mapping[str, str]

    def targets(self, out: Path) -> dict[str, Path]:
        return {part: out / self.split / part / f"{self.stem}{suffix}" for part, suffix in self.suffixes.items()}

    def done(self, out: Path) -> bool:
        return all(is_done(self.sources[part], target) for part, target in self.targets(out).items())


Write = Callable[[Made, dict[str, Path]], list[str]]
"""Writes the files of a scene, by part; returns warnings."""


def prepare_pairs(
    source: Path, *, out: Path, direction: Direction = "AtoB", val_share: float = 0.1, quiet: bool = False
) -> Prepared:
    """Prepare files that hold A and B side by side, split at the middle (pix2pix family, section 2.5).

    Halves are written as PNG (as TIFF what PNG cannot hold), so that nothing is lost. Of an odd width the last column
    is left out, and an opacity too.

    Args:
        source: a folder of such files, or of folders train, val and test with them.
        out: the data folder to write.
        direction: AtoB makes the left half the input, BtoA the right.
        val_share: the share for val, 0..1 (1 excluded), where the source has no splits; the last by name.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or too narrow to be halved.
    """
    source = _folder(source)
    splits = {name: _pictures(source / name) for name in ("train", "val", "test") if (source / name).is_dir()}
    if not splits:
        check_share(val_share)
        splits = _held_out(_pictures(source), val_share)
    made = []
    for split, files in splits.items():
        for stem, path in _by_stem(files, source).items():
            form = raster_form(path)
            suffix = f".{'png' if form.colours in (1, 3) and form.bits <= 16 else suffix_for(form.colours, form.bits)}"
            made.append(Made(split, stem, dict.fromkeys(_PARTS, path), dict.fromkeys(_PARTS, suffix)))

    def write(scene: Made, targets: dict[str, Path]) -> list[str]:
        path = scene.sources["inputs"]
        form, raster = raster_form(path), read_raster(path)
        middle = form.width // 2
        if middle < 1:
            raise UserError(f"{path}: is {shape(form.size)}, too narrow to hold two pictures side by side")
        halves = [raster[:, :middle, : form.colours], raster[:, middle : 2 * middle, : form.colours]]
        for part, half in zip(_PARTS, halves if direction == "AtoB" else reversed(halves), strict=True):
            write_raster(np.ascontiguousarray(half), targets[part])
        odd = f"{path}: is {form.width} pixels wide, which is odd; the last column was left out"
        return [odd] if form.width % 2 else []

    settings: dict[str, object] = {"direction": direction, "val_share": val_share}
    return _carry_out("pairs", [source], settings, made, write, out, quiet)


_PARTS = ("inputs", "photos")


def prepare_manifest(source: Path, *, out: Path, classes: Path | None = None, quiet: bool = False) -> Prepared:
    """Prepare what a CSV file lists: columns split, input, photo and perhaps layout, in any order.

    Files are copied as they are; scenes are called as their photographs, with the folders above where that is not
    enough.

    Args:
        source: the CSV file, in UTF-8; its paths are relative to its folder.
        out: the data folder to write.
        classes: the classes.json of the layouts; None is the one beside the CSV file.
        quiet: show no progress.

    Raises:
        UserError: naming the line, and what is wrong with it.
    """
    source = Path(source)
    rows = _rows(source)
    known: tuple[SceneClass, ...] = ()
    if any("layouts" in row.files for row in rows):
        known = read_classes(classes or source.parent / "classes.json")
    elif classes is not None:
        raise UserError(f"--classes {classes}: {source} has no column layout; leave it out")
    names = _names([row.files["photos"] for row in rows], source.parent)
    taken: dict[tuple[str, str], int] = {}
    made = []
    for row, name in zip(rows, names, strict=True):
        first = taken.setdefault((row.split, name), row.line)
        if first != row.line:
            raise UserError(f"{source}, line {row.line}: {row.split}/{name} is in line {first} already")
        suffixes = {part: path.suffix.lower() for part, path in row.files.items()}
        made.append(Made(row.split, name, row.files, suffixes))
    lines = {(m.split, m.stem): row.line for m, row in zip(made, rows, strict=True)}

    def write(scene: Made, targets: dict[str, Path]) -> list[str]:
        place = f"{source}, line {lines[scene.split, scene.stem]}"
        try:
            _check_alike(scene.sources, len(known))
        except UserError as e:
            raise UserError(f"{place}: {e}") from None
        for part, target in targets.items():
            copy_file(scene.sources[part], target)
        return []

    return _carry_out("manifest", [source], {}, made, write, out, quiet, known)


def _check_alike(files: Mapping[str, Path], num_classes: int) -> None:
    """Refuse files of one scene that differ in size, or a layout that cannot be read."""
    size = raster_form(files["inputs"]).size
    for part in ("photos", "layouts"):
        if part not in files:
            continue
        labels = read_layout(files[part], num_classes) if part == "layouts" else None
        found = raster_form(files[part]).size if labels is None else (labels.shape[0], labels.shape[1])
        if found != size:
            raise UserError(f"{files[part]}: is {shape(found)}, but its input {files['inputs'].name} is {shape(size)}")


@dataclass(frozen=True)
class _Row:
    line: int
    split: str
    files: dict[str, Path]


_COLUMNS = {"input": "inputs", "photo": "photos", "layout": "layouts"}


def _rows(source: Path) -> list[_Row]:
    """The checked lines of a manifest."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{source}: cannot be read as CSV in UTF-8 ({e})") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    columns = ("split", *_COLUMNS)
    for name in header:
        if name not in columns or header.count(name) > 1:
            what = "is there twice" if name in columns else f"is unknown{nearest(name, list(columns))}"
            raise UserError(f"{source}, line 1: the column {name!r} {what}; known are {', '.join(columns)}")
    missing = [name for name in columns[:3] if name not in header]
    if missing:
        raise UserError(f"{source}, line 1: has no column {missing[0]}; a manifest begins with split,input,photo")
    if len(lines) < 2:
        raise UserError(f"{source}: lists no scenes below its columns")
    return [_row(source, line, header, cells) for line, cells in lines[1:]]


def _row(source: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> _Row:
    place = f"{source}, line {line}"
    if len(cells) != len(header):
        raise UserError(f"{place}: has {len(cells)} values, but there are {len(header)} columns")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    split = values.pop("split")
    if not split or split.startswith(".") or "/" in split or "\\" in split:
        raise UserError(f"{place}: split is {split!r}; it is the name of a folder, such as train or val")
    files: dict[str, Path] = {}
    for name, value in values.items():
        path = source.parent / value
        suffixes = LABEL_SUFFIXES if name == "layout" else RASTER_SUFFIXES
        if not value or "\0" in value or not path.is_file():
            raise UserError(f"{place}: {name} {value!r}: no such file")
        if path.suffix.lower() not in suffixes:
            raise UserError(f"{place}: {name} {value!r}: is of no type that is read ({', '.join(suffixes)})")
        files[_COLUMNS[name]] = path
    return _Row(line, split, files)


def prepare_unpaired(
    a: Path,
    b: Path,
    *,
    out: Path,
    a_glob: str = "*",
    b_glob: str = "*",
    val_share: float = 0.1,
    quiet: bool = False,
) -> Prepared:
    """Prepare two folders of pictures that nobody paired (pix2pix family, section 3): A to inputs, B to photographs.

    Files are copied as they are. The last share of each by name is held out. What is in both is warned of.

    Args:
        a: the folder of inputs.
        b: the folder of photographs.
        out: the data folder to write.
        a_glob: which files of A, as `pathlib` has it.
        b_glob: which files of B.
        val_share: the share for val, 0..1 (1 excluded).
        quiet: show no progress.

    Raises:
        UserError: where a folder is missing, or holds no such pictures.
    """
    check_share(val_share)
    made: list[Made] = []
    seen: list[set[Path]] = []
    for part, folder, pattern, name in zip(_PARTS, (a, b), (a_glob, b_glob), ("a", "b"), strict=True):
        files = _pictures(_folder(folder), pattern, f"--{name}-glob")
        seen.append({path.resolve() for path in files})
        for split, chosen in _held_out(files, val_share).items():
            for stem, path in _by_stem(chosen, folder).items():
                made.append(Made(split, stem, {part: path}, {part: path.suffix.lower()}))

    def write(scene: Made, targets: dict[str, Path]) -> list[str]:
        for part, target in targets.items():
            raster_form(scene.sources[part])  # so that what cannot be read is refused now
            copy_file(scene.sources[part], target)
        return []

    settings: dict[str, object] = {"b": str(Path(b).resolve()), "a_glob": a_glob, "b_glob": b_glob}
    prepared = _carry_out("unpaired", [a, b], settings | {"val_share": val_share}, made, write, out, quiet)
    both = sorted(seen[0] & seen[1])
    if not both:
        return prepared
    warning = f"{both[0]}: is in both collections ({len(both)} such pictures); --a-glob and --b-glob can part them"
    return replace(prepared, warnings=(warning, *prepared.warnings))


def prepare_grey(source: Path, *, out: Path, quiet: bool = False) -> Prepared:
    """Prepare photographs with their grey versions, in one channel of the same bits, as inputs: to learn colours.

    Photographs are copied as they are, and layouts too, where there are some: paintings can be judged by them.

    Args:
        source: a data folder; every split with photos/ is taken.
        out: the data folder to write.
        quiet: show no progress.

    Raises:
        UserError: where there are no photographs, they are not in colour, or a layout does not fit its photograph.
    """
    source = _folder(source)
    laid_out = any(source.glob("[!.]*/layouts/*"))
    classes = read_classes(source / "classes.json") if laid_out else ()
    made = []
    for split in sorted(p.parent for p in source.glob("[!.]*/photos") if p.is_dir()):
        pairing = pair_files(split, ())
        refuse_twins(pairing)
        layouts = {p.stem: p.layout for p in pair_files(split).pairs} if laid_out else {}
        for pair in pairing.with_photos:
            assert pair.photo is not None
            form = raster_form(pair.photo)
            if form.colours != 3:
                raise UserError(f"{pair.photo}: has {form}; colours are learned from photographs of 3 channels")
            sources: dict[str, Path] = dict.fromkeys(_PARTS, pair.photo)
            suffixes = {"inputs": f".{suffix_for(1, form.bits)}", "photos": pair.photo.suffix.lower()}
            layout = layouts.get(pair.stem)
            if layout is not None:
                sources["layouts"], suffixes["layouts"] = layout, layout.suffix.lower()
            made.append(Made(split.name, pair.stem, sources, suffixes))

    def write(scene: Made, targets: dict[str, Path]) -> list[str]:
        photo = read_raster(scene.sources["photos"])
        if "layouts" in targets:
            layout = scene.sources["layouts"]
            size = read_layout(layout, len(classes)).shape
            if size != photo.shape[:2]:
                raise UserError(f"{layout}: is {shape(size)}, but its photograph is {shape(photo.shape[:2])}")
            copy_file(layout, targets["layouts"])
        write_raster(grey_of(photo[..., :3]), targets["inputs"])
        copy_file(scene.sources["photos"], targets["photos"])
        return []

    return _carry_out("grey", [source], {}, made, write, out, quiet, classes)


def grey_of(raster: np.ndarray) -> np.ndarray:
    """RGB [h, w, 3] in the grey [h, w, 1] of the same lightness (L of CIE Lab), in its own type, rounded half up.

    What video calls grey, a sum of the encoded values, is darker of strong colours: with it, colours could not be put
    back exactly.
    """
    return to_levels(color.grey_of(from_pixels(raster)[None].double()), bits_of(raster))[0]


# --- what they share -------------------------------------------------------------------------------------------------


def _folder(source: Path) -> Path:
    if not Path(source).is_dir():
        raise UserError(f"{source}: no such folder")
    return Path(source)


def _pictures(folder: Path, pattern: str = "*", flag: str = "") -> list[Path]:
    """The pictures of a folder that a pattern names, in order of their names."""
    try:
        found = sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as e:
        raise UserError(f"{flag} {pattern!r}: is no pattern of files ({e})") from None
    hidden = [any(part.startswith(".") for part in path.relative_to(folder).parts) for path in found]
    known = [p for p, h in zip(found, hidden, strict=True) if not h and p.suffix.lower() in RASTER_SUFFIXES]
    files = [path for path in known if path.is_file()]
    if not files:
        such = f" that {flag} {pattern!r} names" if pattern != "*" else ""
        raise UserError(f"{folder}: holds no pictures{such} ({', '.join(RASTER_SUFFIXES)})")
    return files


def _held_out(files: list[Path], val_share: float) -> dict[str, list[Path]]:
    """The last share to val."""
    first = len(files) - held_out(len(files), val_share)
    splits = {"train": files[:first], "val": files[first:]}
    return {split: chosen for split, chosen in splits.items() if chosen}


def _names(files: Sequence[Path], root: Path) -> list[str]:
    """Stems; where two are equal, all with the folders below the root before them."""
    stems = [path.stem for path in files]
    if len(set(stems)) == len(stems):
        return stems
    paths = [path.relative_to(root) if path.is_relative_to(root) else path for path in files]
    return ["-".join(p for p in (*path.parent.parts, path.stem) if p not in ("/", "..")) for path in paths]


def _by_stem(files: Sequence[Path], root: Path) -> dict[str, Path]:
    """Files by the names that they will have."""
    found: dict[str, Path] = {}
    for name, path in zip(_names(files, root), files, strict=True):
        other = found.setdefault(name, path)
        if other is not path:
            raise UserError(f"{path}: has the same stem as {other.name}; which one is meant? Remove one")
    return found


def _carry_out(
    preparer: str,
    sources: Sequence[Path],
    settings: dict[str, object],
    made: list[Made],
    write: Write,
    out: Path,
    quiet: bool,
    classes: tuple[SceneClass, ...] = (),
) -> Prepared:
    """Write what is not finished; `classes.json`, where there are layouts, last."""
    out = Path(out)
    if not made:
        raise UserError(f"{sources[0]}: holds no photographs; nothing to prepare")
    if sources[0].is_dir():
        check_apart(sources[0], out, set(sources[1:]))
    inside = [f for scene in made for f in scene.sources.values() if f.resolve().is_relative_to(out.resolve())]
    if inside:
        raise UserError(f"{out}: holds the source {inside[0]}, which is never written to; choose another --out")
    found = write_folder(
        out,
        record_of(preparer, sources[0], settings, classes),
        made,
        files=lambda scene: scene.targets(out).values(),
        done=lambda scene: scene.done(out),
        write=lambda scene: write(scene, scene.targets(out)),
        classes=classes,
        quiet=quiet,
    )
    warnings = summed([warning for _, some in found for warning in some])
    strangers = foreign({path for scene in made for path in scene.targets(out).values()})
    splits = counted([(scene.split, scene.sources) for scene in made])
    return Prepared(out, splits, classes, len(found), len(made) - len(found), (*warnings, *strangers))
