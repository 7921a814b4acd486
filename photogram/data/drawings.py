"""Folders of line drawings: the preparers `edges`, of photographs, and `sketches`, of what people drew by hand.

Both leave a record of how lines were drawn, for a network that has learned from one kind of line is at a loss with
another. `edges.json` in a data folder has the extractor's name, its version and its settings; `prepare sketches --like`
reads there at which size and width lines were drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from photogram.data.carrying import check_apart, foreign, is_done, record_of, write_folder
from photogram.data.edges import DETECTORS, VERSION, Canny, XDoG, edges, normalise_sketch
from photogram.data.preparing import SourceScene, check_fit, read_objects
from photogram.data.rewriting import folder_scenes, read_layout
from photogram.errors import UserError, unfit
from photogram.images import (
    PHOTO_SUFFIXES,
    copy_file,
    instances_suffix,
    read_drawing,
    read_photo,
    replacing,
    resize_labels,
    resize_photo,
    write_image,
    write_labels,
)
from photogram.rasters import as_rgb, raster_form, read_raster, resize_raster, write_raster
from photogram.scene import SceneClass, Size

MANIFEST = "edges.json"
"""The file in a data folder that says how the lines of its `inputs/` were drawn."""

_LARGEST_SIDE = 16384
_WIDEST_GAP = 100


@dataclass(frozen=True)
class Drawn:
    """What a preparer of drawings made."""

    out: Path
    counts: dict[str, int]
    """Drawings by split; those of sketches under `sketches`."""
    layouts: int
    """How many of the scenes have a layout."""
    shares: tuple[float, ...]
    """The share of pixels that are lines, 0..1, of each drawing of this run."""
    skipped: int
    """Drawings that an earlier run had finished."""
    warnings: tuple[str, ...]
    failures: tuple[str, ...] = ()
    """One line for each sketch that could not be read, naming the file; the others are drawn."""


class _Job(NamedTuple):
    """One drawing: the files that it comes from, and those to be written, by what they are."""

    split: str
    stem: str
    sources: dict[str, Path]
    targets: dict[str, Path]
    scene: SourceScene | None = None
    """The scene of the data folder, where it has a layout."""

    @property
    def origin(self) -> Path:
        """What is drawn from: a photograph, or a drawing by hand."""
        return self.sources.get("photos") or self.sources["inputs"]

    def done(self) -> bool:
        return all(is_done(self.sources.get(part, self.origin), path) for part, path in self.targets.items())


# --- edges -----------------------------------------------------------------------------------------------------------


def detector(name: str, settings: dict[str, float]) -> Canny | XDoG:
    """A detector from its name and those of its settings that are not its own.

    Raises:
        UserError: where the detector or a setting is unknown, or a value cannot be.
    """
    if name not in DETECTORS:
        raise unfit("detector", name, f"must be one of {', '.join(DETECTORS)}")
    known = [field.name for field in fields(DETECTORS[name])]
    for setting, value in settings.items():
        if setting not in known:
            raise unfit(setting, value, f"is no setting of {name}, which has {', '.join(known)}")
    found = DETECTORS[name](**settings)
    found.check()
    return found


def prepare_edges(
    source: Path,
    *,
    out: Path,
    detector: Canny | XDoG | None = None,
    size: Size | None = None,
    smallest: int = 5,
    width: int = 1,
    quiet: bool = False,
) -> Drawn:
    """Prepare a data folder with photographs and, as `inputs/`, their lines.

    Lines are drawn at the photograph's own size, or at `size`, to which all is resized first: give the size of the
    training, for lines do not survive resizing. Layouts and instance maps come along where the source has some, so that
    paintings can be judged by a segmenter. Photographs are copied, or become PNG where they are resized.

    Args:
        source: a data folder; one with photographs alone, in train/photos and val/photos, will do.
        out: the data folder to write.
        detector: None is Canny's with its own settings.
        size: height and width; None keeps each photograph's own.
        smallest: 8-connected lines of fewer pixels are left out.
        width: 1 or 2, the pixels that a line is wide.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or does not fit, or a setting cannot be.
    """
    source, out, found = Path(source), Path(out), Canny() if detector is None else detector
    found.check()
    _check_lines(size, smallest, width)
    classes, jobs, warnings = _scenes(source, out, size)
    manifest: dict[str, object] = {
        "extractor": found.name,
        "version": VERSION,
        "settings": {**asdict(found), "smallest": smallest, "width": width},
        "size": None if size is None else list(size),
        "lines": "black (0) on white (255)",
    }

    def write(job: _Job) -> np.ndarray:
        photo = _photo(job.origin, size)
        _copy(job, photo, len(classes), size)
        lines = edges(as_rgb(photo), found, smallest=smallest, width=width)
        write_image(lines, job.targets["inputs"])
        return lines

    record = record_of("edges", source, manifest, classes)
    drawn = _carry_out(record, jobs, source, out, write, warnings, quiet, classes)
    with replacing(out / MANIFEST) as file:  # last: a folder without it is not finished
        file.write((json.dumps(manifest, indent=1) + "\n").encode())
    return drawn


def _scenes(source: Path, out: Path, size: Size | None) -> tuple[tuple[SceneClass, ...], list[_Job], list[str]]:
    """The classes of a data folder (none where it has no layouts), its photographs, and what is left out."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give a data folder, with photographs in train/photos, val/photos")
    if any(source.glob("[!.]*/layouts/*")):
        classes, scenes, warnings = folder_scenes(source)
        lonely = [scene.layout for scene in scenes if scene.photo is None]
        warnings += [f"{lonely[0]}: left out ({len(lonely)} layouts without a photograph)"] if lonely else []
        jobs = [_job(s.split, s.photo, out, size, s) for s in scenes if s.photo is not None]
    else:
        classes, jobs, warnings = (), [], []
        splits = [p for p in source.iterdir() if (p / "photos").is_dir() and not p.name.startswith(".")]
        for split in sorted(splits, key=lambda p: (p.name != "train", p.name != "val", p.name)):
            files = _by_stem(split / "photos", warnings)
            jobs += [_job(split.name, photo, out, size) for photo in files]
    if not jobs:
        raise UserError(f"{source}: no photographs in train/photos, val/photos or the like; nothing to draw")
    return classes, jobs, warnings


def _job(split: str, photo: Path, out: Path, size: Size | None, scene: SourceScene | None = None) -> _Job:
    sources = {"photos": photo}
    suffix = photo.suffix.lower() if size is None else ".png"
    targets = {"photos": out / split / "photos" / f"{photo.stem}{suffix}"}
    if scene is not None:
        sources["layouts"] = scene.layout
        if scene.instances is not None:
            sources["instances"] = scene.instances
    for part in ("layouts", "instances"):
        if part in sources:
            ending = instances_suffix(sources[part]) if part == "instances" else ".png"
            targets[part] = out / split / part / f"{photo.stem}{ending}"
    targets["inputs"] = out / split / "inputs" / f"{photo.stem}.png"
    return _Job(split, photo.stem, sources, targets, scene)


def _photo(path: Path, size: Size | None) -> np.ndarray:
    """A photograph [h, w, 3] to draw the lines of; where it is resized, to be written too, with all 16 bits it has."""
    if size is not None and raster_form(path).bits == 16:
        raster = read_raster(path)[..., :3]
        return resize_raster(np.repeat(raster[..., :1], 3, axis=-1) if raster.shape[2] < 3 else raster, size)
    photo = read_photo(path)
    return photo if size is None else resize_photo(photo, size)


def _copy(job: _Job, photo: np.ndarray, classes: int, size: Size | None) -> None:
    """Write all of a scene but its lines, after checking that its files fit."""
    if job.scene is not None:
        layout, objects = read_layout(job.scene.layout, classes), read_objects(job.scene)
        check_fit(job.scene, layout, objects)
        for part, labels in (("instances", objects), ("layouts", layout)):
            if labels is not None:
                write_labels(labels if size is None else resize_labels(labels, size), job.targets[part])
    if size is None:
        copy_file(job.origin, job.targets["photos"])
    else:
        write_raster(photo, job.targets["photos"])


# --- sketches --------------------------------------------------------------------------------------------------------


def prepare_sketches(
    source: Path,
    *,
    out: Path,
    size: Size | None = None,
    gap: float = 6,
    smallest: int = 5,
    width: int = 1,
    quiet: bool = False,
) -> Drawn:
    """Bring a folder of drawings by hand into the style of the lines that a network was trained on.

    Args:
        source: a folder of pictures, scanned, photographed or drawn on a screen; what is transparent is paper.
        out: the folder to write, with a PNG of the same stem for each.
        size: height and width that drawings are stretched to: those of the training. None keeps each drawing's own.
        gap: see `normalise_sketch`, and the others.
        smallest: 8-connected lines of fewer pixels are left out.
        width: 1 or 2, the pixels that a line is wide.
        quiet: show no progress.

    Returns:
        What was made; `failures` names drawings that cannot be read.

    Raises:
        UserError: where there are no drawings, or a setting cannot be.
    """
    source, out = Path(source), Path(out)
    _check_lines(size, smallest, width)
    if not 0 <= gap <= _WIDEST_GAP:
        raise unfit("gap", gap, f"must be 0..{_WIDEST_GAP} pixels")
    if not source.is_dir():
        what = "is a file; give the folder that" if source.exists() else "no such folder; give one that"
        raise UserError(f"{source}: {what} holds drawings")
    warnings: list[str] = []
    files = _by_stem(source, warnings)
    if not files:
        raise UserError(f"{source}: holds no drawings ({', '.join(PHOTO_SUFFIXES)})")
    jobs = [_Job("sketches", f.stem, {"inputs": f}, {"inputs": out / f"{f.stem}.png"}) for f in files]
    settings = {"version": VERSION, "size": None if size is None else list(size)}
    record: dict[str, object] = {
        "preparer": "sketches",
        "source": str(source.resolve()),
        "settings": {**settings, "gap": gap, "smallest": smallest, "width": width},
    }

    def write(job: _Job) -> np.ndarray | UserError:
        try:
            drawing = read_drawing(job.origin)
        except UserError as e:  # the others do not need it
            return e
        lines = normalise_sketch(drawing, size=size, gap=gap, smallest=smallest, width=width)
        write_image(lines, job.targets["inputs"])
        return lines

    return _carry_out(record, jobs, source, out, write, warnings, quiet)


def line_style(data: Path) -> tuple[Size, int]:
    """The size that the lines of a data folder were drawn at, and their width, from its `edges.json`.

    Raises:
        UserError: where there is none, it cannot be read, or lines have each photograph's own size.
    """
    path = Path(data) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a data folder that `photogram prepare edges` made") from None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None
    settings = manifest.get("settings") if isinstance(manifest, dict) else None
    width = settings.get("width") if isinstance(settings, dict) else None
    size = manifest.get("size") if isinstance(manifest, dict) else None
    if type(width) is not int or not (size is None or (isinstance(size, list) and list(map(type, size)) == [int, int])):
        raise UserError(f"{path}: has width {width!r} and size {size!r}; `photogram prepare edges` writes it")
    if size is None:
        raise UserError(f"{path}: lines were drawn at each photograph's own size; give --size and --width instead")
    _check_lines((size[0], size[1]), 0, width)
    return (size[0], size[1]), width


# --- both ------------------------------------------------------------------------------------------------------------


def _check_lines(size: Size | None, smallest: int, width: int) -> None:
    if size is not None and not all(1 <= side <= _LARGEST_SIDE for side in size):
        raise unfit("size", tuple(size), f"must be a height and a width of 1..{_LARGEST_SIDE}")
    if smallest < 0:
        raise unfit("smallest", smallest, "must be a number of pixels, 0 or more")
    if width not in (1, 2):
        raise unfit("width", width, "lines are 1 or 2 pixels wide")


def _by_stem(folder: Path, warnings: list[str]) -> list[Path]:
    """The pictures of a folder in order, hidden files left out; others are added to the warnings."""
    found: dict[str, Path] = {}
    strangers: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in PHOTO_SUFFIXES:
            strangers.append(path)
        elif path.stem in found:
            raise UserError(f"{path}: has the same stem as {found[path.stem].name}; which one is meant? Remove one")
        else:
            found[path.stem] = path
    warnings += [f"{strangers[0]}: left out ({len(strangers)} files of unknown types)"] if strangers else []
    return list(found.values())


def _carry_out(
    record: dict[str, object],
    jobs: list[_Job],
    source: Path,
    out: Path,
    write: Callable[[_Job], np.ndarray | UserError],
    warnings: list[str],
    quiet: bool,
    classes: tuple[SceneClass, ...] = (),
) -> Drawn:
    """Write the drawings that an earlier run has not finished; `write` gives one, or says why there is none."""
    check_apart(source, out, {path.parent for job in jobs for path in job.sources.values()})

    def share(job: _Job) -> float | UserError:
        lines = write(job)
        return lines if isinstance(lines, UserError) else float((lines == 0).mean())

    made = write_folder(
        out,
        record,
        jobs,
        files=lambda job: job.targets.values(),
        done=_Job.done,
        write=share,
        classes=classes,
        quiet=quiet,
    )
    failures = {job.origin: str(found) for job, found in made if isinstance(found, UserError)}
    shares = {job.origin: found for job, found in made if isinstance(found, float)}
    empty = [path for path, found in shares.items() if found == 0]
    if empty:
        warnings.append(f"{empty[0]}: no lines were found in it ({len(empty)} such files)")
    warnings += foreign({path for job in jobs for path in job.targets.values() if path.parent != out})
    drawn = [job for job in jobs if job.origin not in failures]
    counts = {split: sum(job.split == split for job in drawn) for split in dict.fromkeys(job.split for job in jobs)}
    layouts, skipped = sum("layouts" in job.sources for job in drawn), len(jobs) - len(made)
    return Drawn(out, counts, layouts, tuple(shares.values()), skipped, tuple(warnings), tuple(failures.values()))
