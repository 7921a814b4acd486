"""What the object numbers of a layout say, and which number what is drawn next gets.

Objects have numbers of their own; what nobody counts is stuff: road, sky, crowds. Data sets number in several ways, of
which nothing but the numbers themselves tells. Everything here goes by the pairs of class and number that are there.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Int32, Integer

from photogram.errors import UserError

Region = tuple[int, int]
"""A class and an object number: an object; of a class that has none, all of it that carries the number, often 0."""
COUNTED = 1000
"""From here on numbers are of objects in Cityscapes' coding: class * 1000 + running number, which begins with 0."""
LEAST_NUMBER, LARGEST_NUMBER = -(1 << 31), (1 << 31) - 1
"""Bounds of object numbers: they are kept in 32 bits."""


def counted(
    classes: Integer[np.ndarray, "h w"], instances: Int32[np.ndarray, "h w"], void: int | None
) -> frozenset[int]:
    """The classes that have objects, as the numbers of a layout tell. Void is left out of it.

    The first of these rules that fits the layout is taken:

    1. A class other than 0 has number 0: so 0 is what is no object, and every other number counts one. COCO by our
       preparers `coco-panoptic` and `coco-instances`, and the toy world, number objects 1, 2, ...
    2. A class has its own index as number: so stuff and crowds have that, and every other number but 0 counts. This is
       Cityscapes with its official classes (7 is road, and its number), and COCO by our preparer `coco-stuff`.
    3. Each class has one number below 1000 at most, and no two classes the same: so numbers below 1000 are those that
       classes had before they were renumbered, and only others count. This is Cityscapes with train ids (0 is road, its
       number 7).
    4. Else every number counts.

    A crowd (cars that nobody counted) is of a class with objects where another car is counted, and is never what fills
    a gap. Where no class but 0 has number 0, numbers cannot tell the only object of a class from stuff if its number is
    the class's own index (rule 2), or below 1000 with no class that has two (rule 3): it is taken for stuff. Such
    pictures need `things` of `photogram.edits.first_state`.

    Args:
        classes: of each pixel.
        instances: the number of each pixel.
        void: the class of what nobody knows, which has no objects; or None.
    """
    return counted_of(pairs_of(classes, instances, void))


def pairs_of(
    classes: Integer[np.ndarray, "h w"], instances: Int32[np.ndarray, "h w"], void: int | None = None
) -> frozenset[Region]:
    """All pairs of class and number that are there, but for void."""
    labels, numbers = classes.reshape(-1), instances.reshape(-1)
    begins = np.ones(labels.shape, dtype=bool)  # a run of equal pixels, of which one is enough
    np.logical_or(labels[1:] != labels[:-1], numbers[1:] != numbers[:-1], out=begins[1:])
    labels, numbers = labels[begins].astype(np.int64), numbers[begins]
    keys = np.unique((labels << 32) + numbers - LEAST_NUMBER)
    pairs = ((key >> 32, (key & 0xFFFFFFFF) + LEAST_NUMBER) for key in keys.tolist())
    return frozenset((label, number) for label, number in pairs if label != void)


def zero_is_no_object(pairs: Collection[Region]) -> bool:
    """Rule 1 of `counted`. Number 0 of class 0 may say the class."""
    return any(number == 0 != label for label, number in pairs)


def counted_of(pairs: Collection[Region]) -> frozenset[int]:
    """`counted` of pairs without void."""
    if zero_is_no_object(pairs):
        return frozenset(label for label, number in pairs if number)
    if any(number == label for label, number in pairs):
        return frozenset(label for label, number in pairs if number not in (0, label))
    small = [pair for pair in pairs if 0 <= pair[1] < COUNTED]
    labels, numbers = ({pair[part] for pair in small} for part in (0, 1))
    say_classes = len(labels) == len(numbers) == len(small)
    return frozenset(label for label, number in pairs if not (say_classes and 0 <= number < COUNTED))


def stuff_number(
    label: int,
    classes: Integer[np.ndarray, "h w"],
    instances: Int32[np.ndarray, "h w"],
    void: int | None,
    hole: Bool[np.ndarray, "h w"] | None = None,
) -> int:
    """The number of what is drawn of a class without objects: the one that it has.

    Stuff that is not there, or has several numbers, gets the first of 0, its class, 1, 2, ... with which `counted`
    still finds the same classes: 0 where that is no object, its class in Cityscapes' official coding, with train ids a
    number that no class has. So stuff that is drawn never changes what a layout tells that is written out.

    Args:
        label: the class.
        classes: of each pixel.
        instances: the number of each pixel.
        void: the class of what nobody knows, or None.
        hole: pixels that do not count.
    """
    there = classes == label
    if hole is not None:
        there &= ~hole
    first = np.unravel_index(there.argmax(), there.shape)
    number = int(instances[first])
    if there[first] and not (there & (instances != number)).any():
        return number
    pairs = pairs_of(classes, instances, void)
    found, candidates = counted_of(pairs), () if label == void else (0, label, *range(1, COUNTED))
    return next((n for n in candidates if counted_of({*pairs, (label, n)}) == found), 0)


def object_number(
    label: int,
    classes: Integer[np.ndarray, "h w"],
    instances: Int32[np.ndarray, "h w"],
    void: int | None,
    styled: Collection[Region],
    fresh: int,
) -> int:
    """The number of a new object: one that no pixel has, and no style that is kept for one that was painted over.

    Where numbers from 1000 on say the class, it goes on to: official tools read a Cityscapes number as class * 1000 +
    running number. So it is the next after the class's own, if those are all of one thousand (with train ids it is the
    class's official index, which nobody tells us), as long as it stays in there. The first object of a class gets
    class * 1000 in a layout of Cityscapes' official numbers: there another class has its own index as number, and every
    object's number begins with its class. Else it is the next of all.

    Args:
        label: the class.
        classes: of each pixel.
        instances: the number of each pixel.
        void: the class of what nobody knows, or None.
        styled: objects that have styles of their own, whether they are there or not.
        fresh: the next number of all.

    Raises:
        UserError: where there are no larger numbers of 32 bits.
    """
    pairs = pairs_of(classes, instances)
    own = {number for of, number in {*pairs, *styled} if of == label and not 0 <= number < COUNTED}
    thousands = {number // COUNTED for number in own}
    if not own and _official({pair for pair in pairs if pair[0] != void}, label):
        thousands = {label}
    if len(thousands) == 1 and (thousand := thousands.pop()) > 0:
        start = max(own, default=thousand * COUNTED - 1) + 1
        taken = {number for _, number in pairs}
        for number in range(start, min((thousand + 1) * COUNTED, LARGEST_NUMBER + 1)):
            if number not in taken:
                return number
    while (label, fresh) in styled:
        fresh += 1
    if fresh > LARGEST_NUMBER:
        raise UserError(f"object {fresh}: there are no larger numbers; give objects smaller ones first")
    return fresh


def _official(pairs: Collection[Region], label: int) -> bool:
    """Whether the numbers are Cityscapes' with its official classes, as what is of other classes than one tells."""
    others = [pair for pair in pairs if pair[0] != label]
    return (
        label > 0
        and not zero_is_no_object(pairs)
        and any(number == other for other, number in others)
        and all(n in (0, other) or (n >= COUNTED and n // COUNTED == other) for other, n in others)
    )
