"""COCO's panoptic annotations (Kirillov et al. 2019) to a data folder: the preparer `coco-panoptic`.

A map is an RGB PNG whose pixels are segment ids, red + 256 * green + 65536 * blue; its JSON says of each id which
category it is, and whether it is a crowd. Id 0 is unlabelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from photogram.data.coco_files import (
    Category,
    Content,
    Official,
    Picture,
    by_stem,
    digests,
    entries_of,
    find_official,
    folders_below,
    is_crowd,
    left_out,
    picture_of,
    read_content,
    text,
    whole,
)
from photogram.data.known_classes import spread_color
from photogram.data.preparing import Labels, Plan, Prepared, SourceScene, carry_out
from photogram.errors import UserError
from photogram.rasters import bits_of, kind_of, read_raster
from photogram.scene import SceneClass, shape

_IDS = 2**24 - 1
_OBJECTS = 65535  # the largest number of a 16-bit PNG


class Segments(NamedTuple):
    """The segments of one picture, and id 0 before them, which is unlabelled."""

    ids: np.ndarray
    """Ascending, int32 [n]."""
    classes: np.ndarray
    """The class of each, uint8 or uint16 [n]."""
    numbers: np.ndarray
    """The object number of each, 0 where it is not a single object, uint16 [n]."""


class _Described(NamedTuple):
    """What the JSON says of the map of one scene."""

    json: Path
    picture: Picture
    segments: Segments


def prepare_coco_panoptic(source: Path, *, out: Path, quiet: bool = False) -> Prepared:
    """Prepare COCO's panoptic annotations: the classes of their own list, 133 in COCO, and `unlabelled`.

    Looks for `panoptic_train2017.json` and `panoptic_val2017.json` in `source` or in `annotations/`, for their PNGs in
    the folders `panoptic_train2017/` and `panoptic_val2017/` beside them or in `source`, and for photographs in
    `train2017/` and `val2017/`, there or in `images/`. One of the two splits is enough; layouts without a photograph
    are kept as layouts.

    Category ids have gaps (1..200), so that classes are the categories in the order of their ids, under their names;
    the last class, `unlabelled`, is void: id 0.

    Instance maps number the objects of a picture 1, 2, ... in the order of its `segments_info`, as 16-bit PNG (ids have
    24 bits and mean nothing beyond their picture, so that nothing is lost but the ids themselves). 0 is what is not a
    single object: stuff, unlabelled pixels, and crowds, which are one segment around several objects; they are told
    apart by class, for a class and a number together make a region.

    Args:
        source: the folder that holds the files named above.
        out: the data folder to write.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or does not fit: the JSON is examined as a whole first, the maps
            as they are written.
    """
    source = Path(source)

    def maps_of(name: str) -> list[Path]:
        folders = [p / f"panoptic_{name}" for p in folders_below(source)]
        return [*folders, *(p / p.name for p in folders)]

    official, warnings = find_official(source, "panoptic", maps_of, "folder panoptic_{} with its maps beside it")
    categories: tuple[Category, ...] = ()
    items: list[SourceScene] = []
    described: dict[Path, _Described] = {}
    for one in official:
        content = read_content(one.path, things=False)
        if categories and content.categories != categories:
            raise UserError(f"{one.path}: has other categories than {official[0].path}; both must have the same")
        categories = content.categories
        items += _scenes(one, content, described, warnings)
    if not items:
        raise UserError(f"{official[0].maps}: holds no map that {official[0].path} names; do they belong together?")
    classes = (
        *(SceneClass(category.name, spread_color(n)) for n, category in enumerate(categories)),
        SceneClass("unlabelled", (0, 0, 0), void=True),
    )
    plan = Plan("coco-panoptic", source, {"annotations": digests(official)}, classes, items, tuple(warnings))
    return carry_out(plan, lambda item: _read(item.layout, described[item.layout]), out, quiet)


def _scenes(
    one: Official, content: Content, described: dict[Path, _Described], warnings: list[str]
) -> list[SourceScene]:
    """The scenes of a JSON file whose maps are there; what it says of them goes to `described`."""
    maps, photos = by_stem(one.maps, (".png",)), by_stem(one.photos)
    classes = {category.id: n for n, category in enumerate(content.categories)}
    things = {category.id for category in content.categories if category.thing}
    items: list[SourceScene] = []
    pictures, named, absent = dict[str, int](), dict[str, int](), []
    for n, entry in enumerate(content.annotations):
        what = f"annotation {n}"
        picture = picture_of(one.path, what, entry, content.pictures)
        name = text(one.path, what, entry, "file_name")
        what = f"annotation {n} ({name})"
        segments = segments_of(one.path, what, entry, classes, things)
        stem = Path(name).stem
        if picture.stem in pictures:
            other = f"as annotation {pictures[picture.stem]} is; a picture has one annotation"
            raise UserError(f"{one.path}: {what} is of the picture {picture.stem!r}, {other}")
        if stem in named:
            other = f"as annotation {named[stem]} does; every picture has a map of its own"
            raise UserError(f"{one.path}: {what} names the map {stem!r}, {other}")
        pictures[picture.stem] = named[stem] = n
        layout = maps.pop(stem, None)
        if layout is None:
            absent.append(name)
            continue
        described[layout] = _Described(one.path, picture, segments)
        # the numbers come from the JSON, so that a newer one makes them anew
        items.append(SourceScene(one.split, picture.stem, layout, photos.pop(picture.stem, None), one.path))
    if absent:
        warnings += left_out(one.path, len(absent), f"names {absent[0]}, which is not in {one.maps}")
    if maps:
        warnings += left_out(next(iter(maps.values())), len(maps), f"has no annotation in {one.path.name}")
    if photos:
        warnings += left_out(next(iter(photos.values())), len(photos), "has no map")
    return items


def segments_of(path: Path, what: str, entry: dict[str, object], classes: dict[int, int], things: set[int]) -> Segments:
    """The segments of one annotation.

    Args:
        path: the JSON file, for messages.
        what: the annotation, for messages.
        entry: has the list `segments_info`.
        classes: the class of each category id.
        things: the category ids whose segments are objects.

    Raises:
        UserError: where an id is outside 1..2^24 - 1 or given twice, a category is unknown, or there are more objects
            than 16 bits can number.
    """
    void = len(classes)
    found: dict[int, tuple[int, int]] = {0: (void, 0)}
    objects = 0
    for n, segment in enumerate(entries_of(path, what, entry, "segments_info")):
        name = f"segment {n} of {what}"
        index = whole(path, name, segment, "id", 1, _IDS)
        category = whole(path, name, segment, "category_id", 0, 2**31 - 1)
        if index in found:
            raise UserError(f"{path}: {name} has the id {index}, as another has; ids must differ within a picture")
        if category not in classes:
            raise UserError(f"{path}: {name} has category_id {category}, which is not among its categories")
        single = not is_crowd(path, name, segment) and category in things
        objects += single
        found[index] = (classes[category], objects if single else 0)
    if objects > _OBJECTS:
        raise UserError(f"{path}: {what} has {objects:,} objects, but {_OBJECTS:,} are the most that are numbered")
    ids = sorted(found)
    return Segments(
        np.array(ids, dtype=np.int32),
        np.array([found[i][0] for i in ids], dtype=np.uint8 if void < 256 else np.uint16),
        np.array([found[i][1] for i in ids], dtype=np.uint16),
    )


def _read(path: Path, said: _Described) -> Labels:
    """Read a panoptic map, and refuse pixels that its annotation does not know."""
    raster = read_raster(path)
    if raster.shape[2] != 3 or raster.dtype != np.uint8:
        kind = kind_of(raster.shape[2], bits_of(raster))
        raise UserError(f"{path}: has {kind}; panoptic maps have 3 channels of 8 bits")
    if raster.shape[:2] != said.picture.size:
        raise UserError(f"{path}: is {shape(raster)}, but {said.json.name} says {shape(said.picture.size)}")
    wide = raster.astype(np.int32)
    found = wide[..., 0] + (wide[..., 1] << 8) + (wide[..., 2] << 16)
    ids, classes, numbers = said.segments
    at = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
    wrong = ids[at] != found
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise UserError(
            f"{path}: id {found[row, column]} at (row {row}, column {column}) is no segment of it in {said.json.name}; "
            "was the map changed, or stored as JPEG?"
        )
    empty = ids[np.bincount(at.ravel(), minlength=len(ids)) == 0]
    empty = empty[empty > 0]
    warning = f"{path}: segment {empty[0]} has no pixel ({len(empty)} such in this map)" if empty.size else None
    return Labels(classes[at], numbers[at], warning)
