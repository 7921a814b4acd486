"""COCO's official downloads: which files belong together, and what their JSON says, checked before anything is written.

    annotations/panoptic_train2017.json    annotations/panoptic_train2017/*.png     (or the folder beside annotations/)
    annotations/instances_train2017.json   stuffthingmaps/train2017/*.png           (see `coco_instances`)
    train2017/*.jpg                        (or images/train2017/)

`val2017` likewise, and 2014 where there are maps of that year.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from photogram.errors import UserError
from photogram.images import PHOTO_SUFFIXES

Id = int | str
"""What pictures are known by: numbers in COCO, text in some data sets of its form."""

_CLASSES_LIMIT = 65535  # with `unlabelled` all fit into 16 bits


@dataclass(frozen=True)
class Official:
    """One of the official JSON files, and the folders that belong to it."""

    split: str
    """`train` or `val`."""
    path: Path
    maps: Path
    """The folder of its PNGs."""
    photos: Path | None


class Picture(NamedTuple):
    """What a JSON file says of a photograph."""

    stem: str
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        return (self.height, self.width)


class Category(NamedTuple):
    """A category: the id, the name, and whether it is a thing, one of objects that can be counted."""

    id: int
    name: str
    thing: bool


class Content(NamedTuple):
    """What a JSON file holds."""

    pictures: dict[Id, Picture]
    categories: tuple[Category, ...]
    """In the order of their ids."""
    annotations: list[dict[str, object]]
    """Not examined yet, but for being objects."""


def folders_below(source: Path) -> list[Path]:
    """Where archives may have been unpacked: the source, `annotations/`, and the folders of both."""
    inner = sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [p for folder in (source, *inner) for p in (folder, folder / "annotations") if p.is_dir()]


def find_official(
    source: Path, kind: str, maps_of: Callable[[str], list[Path]], what: str
) -> tuple[list[Official], list[str]]:
    """The JSON files `KIND_train2017.json`, `KIND_val2017.json` with their folders, and warnings.

    Args:
        source: the folder of the downloads.
        kind: `panoptic` or `instances`.
        maps_of: where the PNGs of a name such as `train2017` may lie, best first.
        what: what these are called, and where they should be, for messages.

    Raises:
        UserError: where there are none, or two for one split.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give the folder that COCO was unpacked into")
    found: dict[str, Path] = {}
    for path in (p for folder in folders_below(source) for p in sorted(folder.glob(f"{kind}_*.json"))):
        match = re.fullmatch(rf"{kind}_((?:train|val)\d*)\.json", path.name)
        if match and not found.setdefault(match[1], path).samefile(path):
            raise UserError(f"{path}: is there twice, also as {found[match[1]]}; remove one")
    if not found:
        raise UserError(f"{source}: no {kind}_train2017.json or {kind}_val2017.json in it or in annotations/")
    official: list[Official] = []
    lacking: list[str] = []
    for name, path in found.items():
        maps = next((p for p in maps_of(name) if p.is_dir() and any(p.glob("*.png"))), None)
        if maps is None:
            zipped = next((p for place in maps_of(name) if (p := place.with_name(f"{place.name}.zip")).is_file()), None)
            lacking.append(f"{path}: no {what.format(name)}{f'; unzip {zipped}' if zipped else ''}")
            continue
        photos = next((p for p in (source / name, source / "images" / name) if p.is_dir()), None)
        split = "train" if name.startswith("train") else "val"
        other = next((o for o in official if o.split == split), None)
        if other is not None:
            raise UserError(f"{path}: is for {split}, as is {other.path}; move one of them away")
        official.append(Official(split, path, maps, photos))
    if not official:
        raise UserError(lacking[0])
    return sorted(official, key=lambda o: o.split), [f"{message}; left out" for message in lacking]


def digests(official: Sequence[Official]) -> dict[str, str]:
    """What tells one version of each JSON file from another, by its name."""
    found = {}
    for one in official:
        with one.path.open("rb") as file:
            found[one.path.name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found


def by_stem(folder: Path | None, suffixes: tuple[str, ...] = PHOTO_SUFFIXES) -> dict[str, Path]:
    """The files of a folder by their stem; of None, none."""
    paths = [] if folder is None else sorted(folder.iterdir())
    return {p.stem: p for p in paths if p.suffix.lower() in suffixes and not p.name.startswith(".")}


def read_content(path: Path, things: bool) -> Content:
    """Read a JSON file and examine its pictures and categories.

    Args:
        path: the file.
        things: whether all categories are things; else each must say so itself, as those of panoptic files do.

    Raises:
        UserError: naming the entry and what is wrong with it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=_packed)
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e}); is the download whole?") from None
    keys = ("images", "categories", "annotations")
    lists = [_list(path, "the file", content if isinstance(content, dict) else {}, key) for key in keys]
    pictures: dict[Id, Picture] = {}
    stems: dict[str, Id] = {}
    for n, entry in enumerate(lists[0]):
        what = f"image {n}"
        index = id_of(path, what, entry, "id")
        name = text(path, what, entry, "file_name")
        height, width = (whole(path, what, entry, key, 1, 2**31 - 1) for key in ("height", "width"))
        if index in pictures:
            raise UserError(f"{path}: {what} has the id {index!r}, as another has; ids must differ")
        stem = Path(name).stem
        if not stem or not stem.isprintable():
            raise UserError(f"{path}: {what} has file_name {name!r:.60}, which no file can be called")
        if stems.setdefault(stem, index) != index:
            raise UserError(f"{path}: images {stems[stem]!r} and {index!r} are both called {stem!r}; names must differ")
        pictures[index] = Picture(stem, height, width)
    return Content(pictures, _categories(path, lists[1], things), lists[2])


def _packed(entry: dict[str, object]) -> dict[str, object]:
    """An object while it is read, its polygons as 8 bytes a number: as lists, those of COCO take four times as much."""
    outline = entry.get("segmentation")
    if isinstance(outline, list):
        entry["segmentation"] = [_doubles(polygon) for polygon in outline]
    return entry


def _doubles(numbers: object) -> object:
    try:
        return array("d", numbers) if isinstance(numbers, list) else numbers
    except (TypeError, OverflowError):
        return numbers  # refused, by its annotation, where it is examined


def _categories(path: Path, entries: list[dict[str, object]], things: bool) -> tuple[Category, ...]:
    found: dict[int, Category] = {}
    for n, entry in enumerate(entries):
        what = f"category {n}"
        index = whole(path, what, entry, "id", 0, 2**31 - 1)
        name = text(path, what, entry, "name")
        thing = things or whole(path, f"category {index} ({name})", entry, "isthing", 0, 1) == 1
        if index in found:
            raise UserError(
                f"{path}: {what} ({name}) has the id {index}, as {found[index].name!r} has; ids must differ"
            )
        found[index] = Category(index, name, thing)
    if not 1 <= len(found) <= _CLASSES_LIMIT:
        raise UserError(f"{path}: lists {len(found)} categories; 1..{_CLASSES_LIMIT} can be classes")
    return tuple(found[index] for index in sorted(found))


# --- one field of one entry ------------------------------------------------------------------------------------------


def _list(path: Path, what: str, entry: dict[str, object], key: str) -> list[dict[str, object]]:
    found = entry.get(key)
    if not isinstance(found, list):
        raise UserError(f"{path}: {what} has no list {key!r}; is it one of COCO's?")
    wrong = next((n for n, one in enumerate(found) if not isinstance(one, dict)), None)
    if wrong is not None:
        raise UserError(f"{path}: {what} has {found[wrong]!r:.60} as entry {wrong} of {key!r}; they must be objects")
    return found


def whole(path: Path, what: str, entry: dict[str, object], key: str, least: int, most: int) -> int:
    """A whole number of an entry.

    Raises:
        UserError: where it is none, or outside of the bounds.
    """
    value = entry.get(key)
    if type(value) is not int or not least <= value <= most:
        raise UserError(f"{path}: {what} has {key} {value!r:.60}; it must be a whole number in {least}..{most}")
    return value


def text(path: Path, what: str, entry: dict[str, object], key: str) -> str:
    """A text of an entry, not empty.

    Raises:
        UserError: where it is none.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{path}: {what} has {key} {value!r:.60}; it must be a text")
    return value


def id_of(path: Path, what: str, entry: dict[str, object], key: str) -> Id:
    """The id of a picture.

    Raises:
        UserError: where it is neither a whole number nor a text.
    """
    value = entry.get(key)
    if type(value) is not int and not isinstance(value, str):
        raise UserError(f"{path}: {what} has {key} {value!r:.60}; it must be a whole number or a text")
    return value


def picture_of(path: Path, what: str, entry: dict[str, object], pictures: dict[Id, Picture]) -> Picture:
    """The picture that an annotation is of.

    Raises:
        UserError: where `image_id` names none.
    """
    index = id_of(path, what, entry, "image_id")
    if index not in pictures:
        raise UserError(f"{path}: {what} has image_id {index!r}, which no image has")
    return pictures[index]


def is_crowd(path: Path, what: str, entry: dict[str, object]) -> bool:
    """Whether an annotation is of several objects that nobody told apart; where it does not say, it is of one.

    Raises:
        UserError: where `iscrowd` is neither 0 nor 1.
    """
    return "iscrowd" in entry and whole(path, what, entry, "iscrowd", 0, 1) == 1


def entries_of(path: Path, what: str, entry: dict[str, object], key: str) -> list[dict[str, object]]:
    """A list of objects in an entry.

    Raises:
        UserError: where it is none.
    """
    return _list(path, what, entry, key)


def left_out(path: Path, count: int, what: str) -> list[str]:
    """The warning of files or entries that were passed over, by the first; none where there are none."""
    return [f"{path}: {what} ({count} such left out)"] if count else []
