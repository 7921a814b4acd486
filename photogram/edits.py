"""Edits of a layout with objects and their styles, each a function from a state to a state.

The operations of specification 4.7 on T.-C. Wang et al., CVPR 2018, section 3.4. A state is never changed. What a
layout cannot say is not kept: of an object that is moved over another, and of what is moved out of the frame, the
picture forgets what was hidden; going back is the session's (`photogram.editing`).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int32, Integer

from photogram.edit_numbers import (
    COUNTED,
    LARGEST_NUMBER,
    LEAST_NUMBER,
    Region,
    counted_of,
    object_number,
    pairs_of,
    stuff_number,
    zero_is_no_object,
)
from photogram.errors import UserError
from photogram.generator import Generator
from photogram.nn.regions import By
from photogram.scene import Layout, Size, check_layout
from photogram.strokes import WIDEST, Box, box_of, nearest, stroke
from photogram.styled import StyledGenerator

Style = tuple[float, ...]
"""The numbers of a style, each a float32's."""
Fill = int | Literal["nearest"]
"""What fills a gap: a class, or "nearest": each pixel becomes what the nearest pixel of stuff is."""
LARGEST = 4
"""A scaled object's box is at most so many times as high and as wide as the frame."""


@dataclass(frozen=True, eq=False)
class State:
    """A layout, its objects and their styles at one moment; arrays that cannot be written.

    Args:
        classes: of each pixel.
        instances: the object number of each pixel; what is of no object has any number, which its class shares.
        styles: of regions that have their own.
        defaults: the style of each class, of its regions that have none of their own.
        things: the classes that have objects. What is of another class is stuff, whatever number it carries.
        void: the class of what nobody knows, or None.
        style_by: whether each object has a style, or each class.
        fresh: above all numbers that were ever there; of the next object, where its class gives none.
    """

    classes: Integer[np.ndarray, "h w"]
    instances: Int32[np.ndarray, "h w"]
    styles: Mapping[Region, Style]
    defaults: tuple[Style, ...]
    things: frozenset[int]
    void: int | None
    style_by: By
    fresh: int

    def __post_init__(self) -> None:
        self.classes.setflags(write=False)
        self.instances.setflags(write=False)

    @property
    def size(self) -> Size:
        return self.classes.shape[0], self.classes.shape[1]

    def keeper(self, region: Region) -> Region:
        """The region whose style this one has: itself, or its class."""
        return region if self.style_by == "objects" else (region[0], 0)

    def style_of(self, region: Region) -> Style:
        return self.styles.get(self.keeper(region), self.defaults[region[0]])

    def mask(self, region: Region) -> Bool[np.ndarray, "h w"]:
        """Where a region is.

        Raises:
            UserError: where it is nowhere.
        """
        found = (self.classes == region[0]) & (self.instances == region[1])
        if not found.any():
            what = f"object {region[1]} of class" if region[1] else "region of class"
            raise UserError(f"there is no {what} {region[0]} in the layout")
        return found

    def at(self, x: int, y: int) -> Region:
        """The region at a pixel.

        Raises:
            UserError: where that is outside the frame.
        """
        if not (0 <= y < self.size[0] and 0 <= x < self.size[1]):
            raise UserError(f"x {x}, y {y}: lies outside the layout of {self.size[0]} x {self.size[1]}")
        return int(self.classes[y, x]), int(self.instances[y, x])

    def difference(self, other: State) -> Box | None:
        """The smallest box around all pixels that differ; None where none do."""
        if self.classes is other.classes and self.instances is other.instances:
            return None  # as after an edit of styles
        return box_of((self.classes != other.classes) | (self.instances != other.instances))


def first_state(generator: Generator, layout: Layout, things: Collection[int] | None) -> State:
    """The state of a layout as it is given, every class in its commonest style.

    Args:
        generator: that paints from layouts alone.
        layout: one.
        things: the classes that have objects; None: those that the numbers tell, see `photogram.edit_numbers.counted`.
            They cannot always tell the only object of a class from stuff: give `things` there.

    Raises:
        UserError: where they do not fit each other, a class is unknown, or the generator needs object numbers.
    """
    spec, name = generator.spec, type(generator).__name__
    if not spec.num_classes or spec.image_channels:
        raise UserError(f"{name} does not paint from layouts alone; an edit session needs one that does")
    check_layout(layout, spec)
    if generator.needs_objects and layout.instances is None:
        raise UserError(
            f"{name} was trained with instance maps, but the layout has none; open it with them: "
            "Layout.open(path, instances_path)"
        )
    if len(layout.classes) != 1:
        raise UserError(f"the layout is a batch of {len(layout.classes)}; an edit session has one")
    classes = layout.classes[0].cpu().numpy().astype(np.uint8 if spec.num_classes <= 256 else np.int32)
    instances = np.zeros(classes.shape, dtype=np.int32)
    if layout.instances is not None:
        numbers = layout.instances[0].cpu().long()
        for number in (int(numbers.min()), int(numbers.max())):
            if not LEAST_NUMBER <= number <= LARGEST_NUMBER:
                raise UserError(f"layout: object number {number}: must be {LEAST_NUMBER} to {LARGEST_NUMBER} (32 bits)")
        instances = numbers.numpy().astype(np.int32)
    pairs = pairs_of(classes, instances, spec.void)
    found = counted_of(pairs) if things is None else frozenset(things)
    unknown = sorted(label for label in found if not 0 <= label < spec.num_classes)
    if unknown:
        raise UserError(f"things: class {unknown[0]}, but there are only classes 0..{spec.num_classes - 1}")
    defaults: tuple[Style, ...] = ((),) * spec.num_classes
    by = "objects"
    if isinstance(generator, StyledGenerator) and generator.style_channels:
        by = generator.style_by
        defaults = tuple(tuple(row) for row in generator.style_centres[:, 0].float().cpu().tolist())  # 0 without
    # Below 1000 a number may say a class; where 0 is of no object it never does, and objects go on from the last one.
    fresh = max(1 if zero_is_no_object(pairs) else COUNTED, int(instances.max()) + 1)
    return State(classes, instances, {}, defaults, found, spec.void, by, fresh)


def brush(
    state: State, label: int, points: Sequence[tuple[float, float]], width: int, into: Region | None = None
) -> tuple[State, Region]:
    """A stroke of a class.

    Args:
        state: before.
        label: the class; of one that `state.things` does not list, the stroke is stuff.
        points: x and y of each, finite.
        width: the brush's diameter, 1 to 1023.
        into: the region that grows by it; None: a new object, or, of a class without objects, what there is of it.

    Returns:
        The state after, and what was drawn on.

    Raises:
        UserError: for an unknown class, another width, a stroke outside the frame, or a region that is not there.
    """
    if not 1 <= width <= WIDEST:
        raise UserError(f"width {width}: must be 1 to {WIDEST} pixels")
    _check_class(state, label)
    if into is not None:
        if into[0] != label:
            raise UserError(f"object {into[1]} is of class {into[0]}, not {label}")
        state.mask(into)
    covered = stroke(points, width, state.size)
    if not covered.any():
        raise UserError("points: nothing of the stroke would be inside the frame")
    region = (label, _number(state, label)) if into is None else into
    return _put(state, covered, region), region


def add(
    state: State,
    mask: Bool[np.ndarray, "mask_h mask_w"],
    label: int,
    style: Style | None = None,
    position: tuple[int, int] = (0, 0),
) -> tuple[State, Region]:
    """Put something of a class into the picture.

    Args:
        state: before.
        mask: its form.
        label: its class. Of one that `state.things` lists, it is a new object; of another it is stuff, and joins what
            there is of it, so that two that are added are one region.
        style: None is that of its class.
        position: x and y of the mask's first pixel; what lies outside the frame is cut off.

    Returns:
        The state after, and the new object; of a class without objects, the region that has grown.

    Raises:
        UserError: for an unknown class, or where nothing of it would be inside the frame.
    """
    _check_class(state, label)
    placed = _placed(mask, position, state.size)
    if not placed.any():
        raise UserError(f"position {position[0]} {position[1]}: nothing of it would be inside the frame")
    region = (label, _number(state, label))
    state = _put(state, placed, region)
    return (state if style is None else set_style(state, region, style)), region


def remove(state: State, region: Region, fill: Fill = "nearest") -> State:
    """Take a region away, and fill what was behind it.

    Raises:
        UserError: where it is not there, or nothing is left to fill with.
    """
    hole = state.mask(region)
    bare = _without_style(state, region)
    if fill != "nearest":
        _check_class(state, fill)
        if fill == region[0] and fill not in state.things and not ((state.classes == fill) & ~hole).any():
            raise UserError(f"fill {fill}: is the class that is taken away; give another, or nearest")
        return _put(bare, hole, (fill, _number(state, fill, hole)))
    behind = np.ones(len(state.defaults), dtype=bool)  # by class
    behind[[*state.things, *([] if state.void is None else [state.void])]] = False
    sources = np.take(behind, state.classes, mode="clip")  # all are known: not looked at twice
    sources &= ~hole
    if not sources.any():
        raise UserError(
            "fill nearest: there is nothing but objects to fill with; give a class, or begin the session with things=, "
            "the classes that have objects"
        )
    classes, instances, chosen = state.classes.copy(), state.instances.copy(), nearest(sources, hole)
    # Class and number, so that what is filled is of one region with what it goes on from.
    classes[hole], instances[hole] = state.classes.reshape(-1)[chosen], state.instances.reshape(-1)[chosen]
    return replace(bare, classes=classes, instances=instances)


def move(state: State, region: Region, dx: int, dy: int, fill: Fill = "nearest") -> State:
    """Move a region by whole pixels, to the right and down; it keeps its number and style.

    Raises:
        UserError: where it is not there, would leave the frame, or nothing is left to fill with.
    """
    mask = state.mask(region)
    return state if dx == dy == 0 else _anew(state, region, _placed(mask, (dx, dy), state.size), fill)


def scale(state: State, region: Region, factor: float, fill: Fill = "nearest") -> State:
    """Make a region larger or smaller about the middle of its box, by the nearest rule; number and style stay.

    Raises:
        UserError: where it is not there, would have no pixels or more than 4 frames, or nothing is left to fill with.
    """
    mask = state.mask(region)
    box = box_of(mask)
    assert box is not None
    if not factor > 0:
        raise UserError(f"factor {factor}: must be above 0")
    most = min(LARGEST * frame / side for frame, side in zip(state.size, box.size, strict=True))
    if factor > most:
        raise UserError(f"factor {factor:g}: must be at most {most:.6g}, where it is {LARGEST} frames high or wide")
    height, width = (max(1, round(side * factor)) for side in box.size)
    if (height, width) == box.size:
        return state
    rows = (2 * np.arange(height) + 1) * box.size[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * box.size[1] // (2 * width)
    scaled = mask[box.slices][rows[:, None], columns]
    if not scaled.any():
        raise UserError(f"factor {factor}: of its {height} x {width} pixels none would be marked; give a larger one")
    place = (box.left + (box.size[1] - width) // 2, box.top + (box.size[0] - height) // 2)
    return _anew(state, region, _placed(scaled, place, state.size), fill)


def relabel(state: State, region: Region, label: int) -> tuple[State, Region]:
    """Give a region another class, and that class's style; of one that `state.things` does not list, it becomes stuff.

    Returns:
        The state after, and what it is now: of a class with objects, a new one; of another, a part of what there is.

    Raises:
        UserError: where it is not there, or the class is unknown.
    """
    mask = state.mask(region)
    _check_class(state, label)
    if label == region[0]:
        return state, region
    now = (label, _number(state, label))
    return _put(_without_style(state, region), mask, now), now


def set_style(state: State, region: Region, style: Style) -> State:
    """Give a region a style of its own; where classes have the styles, its class.

    Raises:
        UserError: where it is not there, or the style has another length or is not finite.
    """
    state.mask(region)
    _check_style(state, style)
    return replace(state, styles={**state.styles, state.keeper(region): style})


def set_class_style(state: State, label: int, style: Style) -> State:
    """Give all regions of a class a style, those that will come too.

    Raises:
        UserError: for an unknown class, or a style of another length or that is not finite.
    """
    _check_class(state, label)
    _check_style(state, style)
    others = {region: kept for region, kept in state.styles.items() if region[0] != label}
    return replace(state, styles=others, defaults=(*state.defaults[:label], style, *state.defaults[label + 1 :]))


def _number(state: State, label: int, hole: Bool[np.ndarray, "h w"] | None = None) -> int:
    """The number of what is drawn of a class: of a new object, or of stuff, where pixels of a hole do not count."""
    if label not in state.things:
        return stuff_number(label, state.classes, state.instances, state.void, hole)
    styled = state.styles if state.style_by == "objects" else ()
    return object_number(label, state.classes, state.instances, state.void, styled, state.fresh)


def _put(state: State, mask: Bool[np.ndarray, "h w"], region: Region) -> State:
    """Pixels become a region's."""
    classes, instances = state.classes.copy(), state.instances.copy()
    np.copyto(classes, region[0], where=mask)
    np.copyto(instances, region[1], where=mask)
    return replace(state, classes=classes, instances=instances, fresh=max(state.fresh, region[1] + 1))


def _anew(state: State, region: Region, mask: Bool[np.ndarray, "h w"], fill: Fill) -> State:
    """A region somewhere else, with its number and style."""
    if not mask.any():
        raise UserError(f"object {region[1]} of class {region[0]} would leave the frame; remove takes it away")
    return replace(_put(remove(state, region, fill), mask, region), styles=state.styles)


def _placed(mask: Bool[np.ndarray, "mask_h mask_w"], position: tuple[int, int], size: Size) -> Bool[np.ndarray, "h w"]:
    """A mask in a frame, its first pixel at x and y, clipped."""
    placed, (left, top) = np.zeros(size, dtype=bool), position
    into = Box(max(0, top), max(0, left), min(size[0], top + mask.shape[0]), min(size[1], left + mask.shape[1]))
    if into.top < into.bottom and into.left < into.right:
        placed[into.slices] = mask[into.top - top : into.bottom - top, into.left - left : into.right - left]
    return placed


def _without_style(state: State, region: Region) -> State:
    """Forget a region's own style; where classes have the styles, its class keeps it."""
    if region not in state.styles or state.style_by == "classes":
        return state
    return replace(state, styles={other: style for other, style in state.styles.items() if other != region})


def _check_class(state: State, label: int) -> None:
    if not 0 <= label < len(state.defaults):
        raise UserError(f"class {label}: there are only classes 0..{len(state.defaults) - 1}")


def _check_style(state: State, style: Style) -> None:
    channels = len(state.defaults[0])
    if not channels:
        raise UserError("this network paints without styles")
    if len(style) != channels or not all(map(math.isfinite, style)):
        raise UserError(f"style {reprlib.repr(style)}: must be {channels} finite numbers")
