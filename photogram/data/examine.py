"""One scene under the data doctor's glass: what is wrong with its files, and what is counted in them.

`photogram.data.check` hands scenes to `examine`, in threads, and puts the answers together. Nothing here
raises because of a file: whatever happens while reading one is a `Finding` about it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from photogram.data.folder import is_smaller, smaller_than
from photogram.errors import UserError
from photogram.images import NPY, labels_size, open_image, raw_mode, read_instances, read_labels
from photogram.rasters import Form, OutOfRange, as_rgb, raster_form, read_raster
from photogram.scene import SceneClass, Size, shape, void_of

Severity = Literal["error", "warning", "note"]

STRAY_SHARE = 0.1
"""Share of an object's pixels outside its main class from which on it is said to cross classes. Below, its
border is ragged: in COCO-Stuff most objects have such borders, since things and stuff were outlined apart."""

FEW_COLOURS = 50
"""Photographs with fewer colours than this, of some ten thousand pixels, look like layouts."""

_SAMPLED = 10_000  # pixels of a photograph whose colours are counted
_OBJECTS_NAMED = 20  # in one file; the rest are counted
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_ORIENTATION = 0x0112
_TAIL = 1024  # bytes among which the mark that ends an image is looked for

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor noticed.

    Args:
        kind: what it is, in a word for programs, such as `class-out-of-range`.
        severity: `error` stops training, `warning` spoils it or hints at a mistake, `note` is good to know.
        path: the file or folder.
        message: what is wrong with it, with value and bound where there are such; reads on from the path.
    """

    kind: str
    severity: Severity
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Files:
    """The files of one scene, and how bad it is if one of them cannot be used."""

    split: str
    layout: Path | None
    photo: Path | None
    instances: Path | None
    damage: Severity
    input: Path | None = None

    @property
    def first(self) -> Path | None:
        """The file that the others must be as large as."""
        return self.layout or self.input


@dataclass(frozen=True)
class PhotoFacts:
    """What is remembered of a photograph."""

    path: str
    digest: bytes
    """Of its pixels and shape."""
    grey: bool


@dataclass
class Facts:
    """What was found and counted in one scene; parts that could not be read stay None."""

    split: str
    findings: list[Finding] = field(default_factory=list)
    size: Size | None = None
    classes: dict[int, int] | None = None
    """Pixels of each class; where every file is read."""
    objects: int | None = None
    crossing: int = 0
    ragged: int = 0
    photo: PhotoFacts | None = None
    forms: dict[str, tuple[Path, Form]] = field(default_factory=dict)
    """What the headers of `inputs` and `photos` say."""

    def add(self, kind: str, severity: Severity, path: Path, message: str) -> None:
        self.findings.append(Finding(kind, severity, str(path), message))


@dataclass(frozen=True)
class _Header:
    size: Size
    format: str
    mode: str
    palette: np.ndarray | None
    wide: bool = False
    """Its integers may be beyond those that are read: of 64 bits, or of 32 without a sign."""


def examine(files: Files, classes: tuple[SceneClass, ...] | None, quick: bool, window: Size | None = None) -> Facts:
    """Look at the files of one scene. Quick: headers, ends, the layout's values and numbers that
    may be too large; else every pixel of every file.

    Args:
        classes: what the layouts may hold, or None where that is not known.
        window: height and width that a training will cut out of them, if it does.
    """
    facts = Facts(files.split)
    size, labels = None, None
    if files.layout is not None:
        size, labels = _layout(files.layout, files.damage, classes, quick, facts)
    if files.input is not None:
        found = _input(files.input, files.damage, quick, facts)
        _compare(found, size, files.input, files, facts)
        size = size or (found if files.layout is None else None)
    facts.size = size
    if files.photo is not None:
        found = _photo(files.photo, files.damage, quick, facts)
        _compare(found, size, files.photo, files, facts)
        facts.size = size or found
    first = files.first or files.photo
    if window is not None and facts.size is not None and first is not None and is_smaller(facts.size, window):
        facts.add("smaller-than-window", files.damage, first, smaller_than(facts.size, window))
    if files.instances is not None:
        found, instances = _instances(files.instances, files.damage, quick, facts)
        same = _compare(found, size, files.instances, files, facts)
        if same and labels is not None and instances is not None:
            _cross(instances, labels, classes, files.instances, facts)
    return facts


def _attempt(read: Callable[[Path], T], path: Path, kind: str, severity: Severity, facts: Facts) -> T | None:
    """What `read` gives, or None and a finding."""
    try:
        return read(path)
    except UserError as e:
        reason = str(e).removeprefix(f"{path}: ")
        kind = "out-of-range" if isinstance(e, OutOfRange) else kind
    except Exception as e:  # one bad file must not end the examination of the others
        reason = f"cannot be read ({type(e).__name__}: {e})"
    facts.add(kind, severity, path, reason)
    return None


def _read_header(path: Path) -> _Header:
    size = labels_size(path)
    if path.suffix.lower() == ".npy":
        return _Header(size, "NPY", "", None, _is_wide(path))
    with open_image(path) as image:
        colours = image.getpalette("RGB") if image.mode == "P" else None
        palette = None if colours is None else np.array(colours, dtype=np.uint8).reshape(-1, 3)
        raw = raw_mode(image)
        return _Header(size, str(image.format), image.mode, palette, raw.startswith("I;32") and raw[-1] != "S")


def _is_wide(path: Path) -> bool:
    """Whether a file, where it is a .npy as its name says, is of a type with numbers that int32 has not."""
    with path.open("rb") as file:
        if file.read(len(NPY)) != NPY:
            return False
    return not np.can_cast(np.load(path, mmap_mode="r", allow_pickle=False).dtype, np.int32)


def _compare(found: Size | None, size: Size | None, path: Path, files: Files, facts: Facts) -> bool:
    """Whether a file is as large as its layout or input; where either could not be read, there is nothing to say."""
    if found is None or size is None or files.first is None:
        return False
    if found != size:
        what = "layout" if files.layout else "input"
        message = f"is {shape(found)}, but its {what} {files.first.name} is {shape(size)} (height x width)"
        facts.add("size-mismatch", files.damage, path, message)
    return found == size


def _read_indices(
    path: Path, what: str, severity: Severity, decode: bool, facts: Facts
) -> tuple[_Header | None, np.ndarray | None]:
    """Header and integers of a label map; the finding's kind tells JPEGs and colours from damaged files."""
    header = _attempt(_read_header, path, "unreadable", severity, facts)
    if header is None:
        return None, None
    decode = decode or header.wide or _has_no_end(path)
    kind = "unreadable"
    if header.format in ("JPEG", "MPO"):
        kind = f"jpeg-{what}"
    elif header.mode in _COLOUR_MODES:
        kind = f"colour-{what}"
    if not decode and kind == "unreadable":
        return header, None
    read = read_labels if what == "layout" else read_instances
    return header, _attempt(read, path, kind, severity, facts)


def _layout(
    path: Path, severity: Severity, classes: tuple[SceneClass, ...] | None, quick: bool, facts: Facts
) -> tuple[Size | None, np.ndarray | None]:
    header, labels = _read_indices(path, "layout", severity, True, facts)
    if header is None or labels is None:
        return header and header.size, None
    if classes is not None:
        _check_range(labels, len(classes), path, severity, facts)
    if quick:
        return header.size, labels
    facts.classes = _count(labels)
    if classes is not None:
        _check_content(facts.classes, classes, path, facts)
        if header.palette is not None:
            _check_palette(header.palette, sorted(facts.classes), classes, path, facts)
    return header.size, labels


def _check_range(labels: np.ndarray, num_classes: int, path: Path, severity: Severity, facts: Facts) -> None:
    if labels.min() >= 0 and labels.max() < num_classes:
        return
    wrong = (labels < 0) | (labels >= num_classes)
    count, (row, column) = np.count_nonzero(wrong), divmod(int(wrong.argmax()), labels.shape[1])
    values = np.unique(labels[wrong])
    others = f", of the values {_some([str(v) for v in values])}" if len(values) > 1 else ""
    facts.add(
        "class-out-of-range",
        severity,
        path,
        f"class {labels[row, column]} at (row {row}, column {column}), but classes.json lists "
        f"0..{num_classes - 1}; {count:,} such pixel{'s' if count > 1 else ''}{others}",
    )


def _count(labels: np.ndarray) -> dict[int, int]:
    if labels.dtype == np.uint8:  # three times faster than sorting
        counts = Image.fromarray(labels).histogram()
        return {value: count for value, count in enumerate(counts) if count}
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _check_content(counts: dict[int, int], classes: tuple[SceneClass, ...], path: Path, facts: Facts) -> None:
    if len(counts) > 1:
        return
    only = next(iter(counts))
    if only < len(classes) and classes[only].void:
        facts.add("all-void", "warning", path, f"every pixel is void (class {only}, {classes[only].name})")
    elif only < len(classes):
        facts.add("constant-layout", "warning", path, f"every pixel is class {only} ({classes[only].name})")


def _check_palette(
    palette: np.ndarray, used: list[int], classes: tuple[SceneClass, ...], path: Path, facts: Facts
) -> None:
    """Palette images whose indices number the palette's colours, as a quantized colour-coded layout has them.

    Palettes often serve for show only, so that one is believed only where most of its colours belong to other
    classes.
    """
    owner = {c.color: i for i, c in enumerate(classes)}
    strangers: list[tuple[int, int]] = []
    for index in (i for i in used if i < min(len(classes), len(palette))):
        red, green, blue = palette[index].tolist()
        drawn = owner.get((red, green, blue), index)
        if drawn != index and classes[index].color != (red, green, blue):
            strangers.append((index, drawn))
    if len(strangers) < 2 or 2 * len(strangers) <= len(used):
        return
    index, drawn = strangers[0]
    facts.add(
        "palette-differs",
        "warning",
        path,
        f"its palette draws index {index} ({classes[index].name}) in the colour of class {drawn} "
        f"({classes[drawn].name}), {len(strangers)} of {len(used)} so; are they those of classes.json?",
    )


def _input(path: Path, severity: Severity, quick: bool, facts: Facts) -> Size | None:
    form = _attempt(raster_form, path, "unreadable", severity, facts)
    if form is None:
        return None
    facts.forms["inputs"] = (path, form)
    raster = _pixels(path, severity, quick, facts)
    if raster is not None and raster.min() == raster.max():
        facts.add("constant-input", "warning", path, f"every value is {raster.flat[0]:g}, so it asks for nothing")
    return form.size


def _pixels(path: Path, severity: Severity, quick: bool, facts: Facts) -> np.ndarray | None:
    """A photograph or input. The quick look gives none: it reads what lacks its end, only to say what is wrong."""
    if quick and not _has_no_end(path):
        return None
    raster = _attempt(read_raster, path, "unreadable", severity, facts)
    return None if quick else raster


def _has_no_end(path: Path) -> bool:
    """Whether a PNG or JPEG lacks the mark that ends it: cut short, unless decoding it says otherwise."""
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        tail = file.read()
    ends = {b"\x89PNG\r\n\x1a\n": b"IEND\xae\x42\x60\x82", b"\xff\xd8": b"\xff\xd9"}
    return any(start.startswith(kind) and end not in tail for kind, end in ends.items())


def _is_turned(path: Path) -> bool:
    with open_image(path) as image:
        return image.format in ("JPEG", "MPO") and image.getexif().get(_ORIENTATION, 1) not in (0, 1)


def _photo(path: Path, severity: Severity, quick: bool, facts: Facts) -> Size | None:
    form = _attempt(raster_form, path, "unreadable", severity, facts)
    if form is None:
        return None
    facts.forms["photos"] = (path, form)
    raster = _pixels(path, severity, quick, facts)
    if raster is None:
        return form.size
    if path.suffix.lower() in (".jpg", ".jpeg") and _attempt(_is_turned, path, "unreadable", severity, facts):
        facts.add("exif-rotated", "note", path, f"is turned by EXIF to {shape(form.size)}; this is handled")
    photo = as_rgb(raster)
    step = max(1, round((photo.shape[0] * photo.shape[1] / _SAMPLED) ** 0.5))
    sample = photo[::step, ::step].reshape(-1, 3).astype(np.int32)
    grey = bool((sample == sample[:, :1]).all())
    colours = len(np.unique(sample @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)))
    if colours == 1:
        facts.add("blank-photo", "warning", path, "is of one single colour")
    elif colours < min(FEW_COLOURS, len(sample) // 8) and not (facts.forms.keys() == {"inputs", "photos"} and grey):
        facts.add(
            "looks-like-layout",
            "warning",
            path,
            f"has only {colours} colours in {len(sample):,} pixels; is it a layout, or were folders swapped?",
        )
    pixels = photo if form.bits == 8 else raster
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).digest() + shape(photo).encode()
    facts.photo = PhotoFacts(str(path), digest, grey)
    return form.size


def _instances(path: Path, severity: Severity, quick: bool, facts: Facts) -> tuple[Size | None, np.ndarray | None]:
    header, instances = _read_indices(path, "instances", severity, not quick, facts)
    if quick:  # what was read was read to see whether it can be
        return header and header.size, None
    if header is not None and instances is not None and header.mode in ("1", "L", "P"):
        instances = np.where(instances == 255, 0, instances)  # COCO-Stuff's 8-bit files have it where no object is
    return header and header.size, instances


def _cross(
    instances: np.ndarray, labels: np.ndarray, classes: Sequence[SceneClass] | None, path: Path, facts: Facts
) -> None:
    """Find objects that lie in several classes.

    0 stands for no object; void pixels belong to whatever they lie in.
    """
    inside = instances != 0
    void = void_of(classes or ())
    if void is not None:
        inside &= labels != void
    if classes and int(labels.max()) >= len(classes):  # these pixels are accused already
        inside &= labels < len(classes)
    keys, counts = np.unique(
        instances[inside].astype(np.int64) << 32 | labels[inside].astype(np.int64) & 0xFFFFFFFF,
        return_counts=True,
    )
    objects, first = np.unique(keys >> 32, return_index=True)
    facts.objects = len(objects)
    if len(objects) == 0:
        return
    ends = np.append(first[1:], len(keys))
    crossing: list[str] = []
    ragged: list[str] = []
    for number, start, end in zip(objects.tolist(), first.tolist(), ends.tolist(), strict=True):
        if end - start == 1:
            continue
        order = start + np.argsort(-counts[start:end], kind="stable")
        main, second = (int(keys[i] & 0xFFFFFFFF) for i in order[:2])
        strays, whole = int(counts[order[1:]].sum()), int(counts[start:end].sum())
        if strays < STRAY_SHARE * whole:
            ragged.append(f"{number} ({_name(main, classes)}, {_name(second, classes)})")
            continue
        row, column = np.argwhere((instances == number) & (labels == second))[0].tolist()
        crossing.append(
            f"instance {number} crosses classes: {counts[order[0]]:,} px of {_name(main, classes)} and "
            f"{counts[order[1]]:,} px of {_name(second, classes)}, the first at (row {row}, column {column})"
        )
    facts.crossing, facts.ragged = len(crossing), len(ragged)
    for message in crossing[:_OBJECTS_NAMED]:
        facts.add("instance-crosses-classes", "warning", path, message)
    if len(crossing) > _OBJECTS_NAMED:
        rest = len(crossing) - _OBJECTS_NAMED
        facts.add("instance-crosses-classes", "warning", path, f"{rest} more instances cross classes")
    if ragged:
        facts.add(
            "ragged-instances",
            "note",
            path,
            f"under {STRAY_SHARE:.0%} of an instance lies in another class: {_some(ragged, _OBJECTS_NAMED)}",
        )


def _name(index: int, classes: Sequence[SceneClass] | None) -> str:
    return f"class {index} ({classes[index].name})" if classes and index < len(classes) else f"class {index}"


def _some(words: list[str], most: int = 6) -> str:
    """The first few of many words, and how many there are beyond."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")
