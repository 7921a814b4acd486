"""COCO's instance annotations (Lin et al. 2014) beside pixel maps of COCO-Stuff: the preparer `coco-instances`.

The JSON has outlines of objects: polygons, and run lengths for crowds. The pixel maps say the class of every pixel.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from photogram.data.coco_files import (
    Content,
    Official,
    Picture,
    by_stem,
    digests,
    find_official,
    folders_below,
    is_crowd,
    left_out,
    picture_of,
    read_content,
    whole,
)
from photogram.data.coco_masks import Patch, check_runs, polygons_patch, runs_patch, unpack_runs
from photogram.data.known_classes import COCO_STUFF, COCO_THINGS, coco_stuff
from photogram.data.prepare import renumber
from photogram.data.preparing import Labels, Plan, Prepared, SourceScene, carry_out
from photogram.errors import UserError
from photogram.images import read_labels
from photogram.scene import shape

_VOID = len(COCO_STUFF)
_OTHER = 183  # in COCO's own pixel maps of stuff: all things
_OBJECTS = 65535  # the largest number of a 16-bit PNG
_FAR = 1e9  # pixels: beyond any picture, and near enough to compute with
# 182 is no label of theirs, but the last of maps that count from 1, whose classes would all be the next ones.
_THINGMAPS = {i: i for i in range(_VOID)} | {255: _VOID}
_PIXELMAPS = {i: i - 1 for i in range(COCO_THINGS + 1, _VOID + 1)} | {0: _VOID, _OTHER: _VOID}


class Outline(NamedTuple):
    """One annotation: the class, whether it is a crowd, and where it is."""

    label: int
    crowd: bool
    place: tuple[np.ndarray, ...] | np.ndarray
    """Polygons, float64 [k, 2] each; or run lengths, int64 [n]."""


class _Described(NamedTuple):
    """What the JSON says of one scene."""

    json: Path
    picture: Picture
    outlines: list[Outline]


def prepare_coco_instances(source: Path, *, out: Path, quiet: bool = False) -> Prepared:
    """Prepare COCO-Stuff with the objects of COCO's instance annotations: 182 classes and `unlabelled`, 182.

    Looks for `instances_train2017.json` and `instances_val2017.json` in `source` or in `annotations/`, for photographs
    in `train2017/` and `val2017/`, there or in `images/`, and for one of two kinds of pixel maps:

    - `stuffthingmaps/train2017/` (of `stuffthingmaps_trainval2017.zip`; also in `annotations/` or beside the
      photographs): labels 0..181, COCO id - 1, of things and stuff; 255 is unlabelled.
    - `stuff_train2017_pixelmaps/` (of `stuff_annotations_trainval2017.zip`): ids 92..182 of stuff, 183 for all things,
      0 unlabelled. Things get their class from the outlines; 183 without one becomes unlabelled.

    Instance maps are 16-bit PNGs. Objects are drawn from the largest to the smallest, so that what lies before
    something larger stays visible, and are numbered in that order, 1, 2, ...; of equal size, in the order of the file.
    An object is drawn where the pixel map has its class, for the two were not drawn together; a region of a class
    that no object reaches has number 0. So do stuff, unlabelled pixels, and crowds: an annotation with `iscrowd` is one
    outline around several objects, which nobody told apart, and claiming it as one object would be wrong. Its pixels
    have the class, number 0, and the numbers of objects that are outlined within it.

    Outlines may be polygons or run lengths, as numbers or as text (`coco_masks`). Polygons of fewer than three points
    enclose nothing.

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
        known = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations", "labels", ".", "images")
        return [*(source / p / name for p in known), *(p / f"stuff_{name}_pixelmaps" for p in folders_below(source))]

    what = "pixel maps stuffthingmaps/{0}/*.png or annotations/stuff_{0}_pixelmaps/*.png"
    official, warnings = find_official(source, "instances", maps_of, what)
    items: list[SourceScene] = []
    described: dict[Path, _Described] = {}
    for one in official:
        items += _scenes(one, read_content(one.path, things=True), described, warnings)
    if not items:
        raise UserError(
            f"{official[0].maps}: holds no map of a picture of {official[0].path}; do they belong together?"
        )
    settings: dict[str, object] = {
        "annotations": digests(official),
        "maps": {one.split: "pixelmaps" if _is_stuff_alone(one.maps) else "stuffthingmaps" for one in official},
    }
    plan = Plan("coco-instances", source, settings, coco_stuff(), items, tuple(warnings))
    return carry_out(plan, lambda item: _read(item.layout, described[item.layout]), out, quiet)


def _is_stuff_alone(maps: Path) -> bool:
    return maps.name.endswith("_pixelmaps")


def _scenes(
    one: Official, content: Content, described: dict[Path, _Described], warnings: list[str]
) -> list[SourceScene]:
    """The scenes of a JSON file whose pixel maps are there; what it says of them goes to `described`."""
    labels = {category.id: category.id - 1 for category in content.categories}
    for category in content.categories:
        if not 1 <= category.id <= COCO_THINGS:
            raise UserError(
                f"{one.path}: category {category.id} ({category.name}) is none of COCO's things, which have the ids "
                f"1..{COCO_THINGS}; give COCO's own instances_*.json"
            )
        known = COCO_STUFF[category.id - 1]
        if category.name != known:
            raise UserError(
                f"{one.path}: category {category.id} is {category.name!r}, but {known!r} in COCO-Stuff; "
                "the pixel maps are of other classes"
            )
    outlines: dict[str, list[Outline]] = {picture.stem: [] for picture in content.pictures.values()}
    empty: list[str] = []
    for n, entry in enumerate(content.annotations):
        what = f"annotation {n} (id {entry.get('id')!r:.30})"
        picture = picture_of(one.path, what, entry, content.pictures)
        category = whole(one.path, what, entry, "category_id", 0, 2**31 - 1)
        if category not in labels:
            raise UserError(f"{one.path}: {what} has category_id {category}, which is not among its categories")
        place = place_of(one.path, what, entry.get("segmentation"), picture)
        if not len(place):
            empty.append(what)
            continue
        outlines[picture.stem].append(Outline(labels[category], is_crowd(one.path, what, entry), place))
    if empty:
        warnings += left_out(one.path, len(empty), f"{empty[0]} encloses nothing")
    maps = by_stem(one.maps, (".png",))
    photos = by_stem(one.photos, (".jpg", ".jpeg") if one.photos == one.maps else (".jpg", ".jpeg", ".png"))
    items: list[SourceScene] = []
    absent: list[str] = []
    for picture in content.pictures.values():
        layout = maps.pop(picture.stem, None)
        if layout is None:
            absent.append(picture.stem)
            continue
        if sum(not outline.crowd for outline in outlines[picture.stem]) > _OBJECTS:
            raise UserError(f"{one.path}: picture {picture.stem!r} has more than {_OBJECTS:,} objects")
        described[layout] = _Described(one.path, picture, outlines[picture.stem])
        # the JSON is what its instance map is made of, so that a newer one makes it anew
        items.append(SourceScene(one.split, picture.stem, layout, photos.pop(picture.stem, None), one.path))
    if absent:
        warnings += left_out(one.path, len(absent), f"has the picture {absent[0]!r}, which has no map in {one.maps}")
    if maps:
        warnings += left_out(next(iter(maps.values())), len(maps), f"is of no picture in {one.path.name}")
    if photos:
        warnings += left_out(next(iter(photos.values())), len(photos), "has no map")
    return items


def place_of(path: Path, what: str, outline: object, picture: Picture) -> tuple[np.ndarray, ...] | np.ndarray:
    """Where an annotation is: polygons of three points or more, float64 [k, 2] each, or run lengths, int64 [n].

    Args:
        path: the JSON file, for messages.
        what: the annotation, for messages.
        outline: a list of polygons x, y, x, y, ...; or {"size": [height, width], "counts": a list or a text}.
        picture: the picture that it is of.

    Raises:
        UserError: where it is neither, a number is not finite or missing, or run lengths do not fill the picture.
    """
    if isinstance(outline, dict):
        size, counts = outline.get("size"), outline.get("counts")
        if size != [*picture.size]:
            raise UserError(
                f"{path}: {what} has run lengths for the size {size!r:.40}, but its picture is {shape(picture.size)}"
            )
        if not isinstance(counts, list | str):
            raise UserError(f"{path}: {what} has counts {counts!r:.40}; they must be a list or a text")
        try:
            return check_runs(unpack_runs(counts) if isinstance(counts, str) else counts, picture.size)
        except ValueError as e:
            raise UserError(f"{path}: {what} {e}") from None
    if not isinstance(outline, list):
        raise UserError(f"{path}: {what} has segmentation {outline!r:.40}; it must be polygons or run lengths")
    polygons = []
    for polygon in outline:
        if not isinstance(polygon, array) or len(polygon) % 2:
            held = f"{len(polygon)} numbers" if isinstance(polygon, array) else f"{polygon!r:.40}"
            raise UserError(f"{path}: {what} has a polygon of {held}; it must be x, y, x, y, ...")
        points = np.frombuffer(polygon, dtype=np.float64).reshape(-1, 2) if polygon else np.empty((0, 2))
        if not (np.abs(points) < _FAR).all():  # nan is not either
            raise UserError(f"{path}: {what} has a polygon with numbers that are not finite, or beyond {_FAR:g}")
        polygons += [points] if len(points) > 2 else []
    return tuple(polygons)


def _read(path: Path, said: _Described) -> Labels:
    """Read a pixel map, and draw the objects on it."""
    raw = read_labels(path)
    if raw.shape != said.picture.size:
        raise UserError(f"{path}: is {shape(raw)}, but {said.json.name} says {shape(said.picture.size)}")
    if _is_stuff_alone(path.parent):
        layout, things = renumber(path, raw, _PIXELMAPS, f"0 and 92..{_OTHER}"), raw == _OTHER
    else:
        layout, things = renumber(path, raw, _THINGMAPS, "0..181 and 255"), None
    layout, numbers, lost = draw_objects(layout, said.outlines, things)
    objects = sum(not outline.crowd for outline in said.outlines)
    warning = None
    if 2 * lost > objects:  # a few lie wholly behind others, or are smaller than a pixel
        warning = (
            f"{path}: {lost} of its {objects} objects are nowhere of their class; does {said.json.name} belong to it?"
        )
    return Labels(layout, numbers, warning)


def draw_objects(
    layout: np.ndarray, outlines: Sequence[Outline], things: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw objects on a layout, the largest first, crowds before all and without a number.

    Args:
        layout: class indices, uint8 [h, w].
        outlines: of the objects and crowds of the picture.
        things: which pixels are of things and get their class here, bool [h, w]; None where the layout has all classes.

    Returns:
        The layout, with the classes of things; the number of the object at each pixel, 0 where there is none, uint16
        [h, w]; and how many objects have no pixel left.
    """
    layout, numbers = layout.copy(), np.zeros(layout.shape, dtype=np.uint16)
    size = (layout.shape[0], layout.shape[1])
    patches = [_patch(outline, size) for outline in outlines]
    order = sorted(range(len(outlines)), key=lambda n: (not outlines[n].crowd, -int(patches[n].mask.sum())))
    objects = 0
    for n in order:
        label, crowd, _ = outlines[n]
        patch = patches[n]
        objects += not crowd
        mine = patch.mask & (patch.of(layout) == label if things is None else patch.of(things))
        patch.of(layout)[mine] = label
        patch.of(numbers)[mine] = 0 if crowd else objects
    return layout, numbers, objects - int(np.count_nonzero(np.bincount(numbers.ravel())[1:]))


def _patch(outline: Outline, size: tuple[int, int]) -> Patch:
    if isinstance(outline.place, tuple):
        return polygons_patch(outline.place, size)
    return runs_patch(outline.place, size)
