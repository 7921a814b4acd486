"""NumPy's files that hold a dictionary of arrays (`numpy.save` of a dict), read without executing their pickle.

Such a file is a header that says "one object", and the pickle of an array of that one object. `pickled` reads it with
the vocabulary of this file: arrays of floating-point numbers, by type, shape and bytes, and nothing else. NumPy itself
reads these only by Python's own pickles, which run what a file asks for.
"""

from __future__ import annotations

import io
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from photogram.errors import UserError
from photogram.interop.files import Damaged, opened
from photogram.interop.pickled import DIMENSIONS, Call, Name, Vocabulary, are_counts, read_pickle, shortened

FILE_LIMIT = 1 << 20
"""Bytes of the longest file that is read; ten styles of a thousand classes take less than half of it."""

_MARK = b"\x93NUMPY"
_HEADER = re.compile(r"\{'descr': '([^']{1,20})', 'fortran_order': (?:False|True), 'shape': \(([\d, ]{0,40})\), \} *\n")
_FLOATS = {"f2": 2, "f4": 4, "f8": 8}
_OBJECT = "O8"


@dataclass
class Kind:
    """The type of an array's values, as a pickle builds it.

    Args:
        code: f2, f4, f8, or O8 of objects.
        order: `<` or `>`, little-endian or big-endian, `|` where it does not matter; empty until it is said.
    """

    code: str
    order: str = ""


@dataclass
class Array:
    """An array, as a pickle builds it: first empty, then given its state.

    Args:
        kind: of the values; None of one that is still empty.
        shape: of 8 dimensions at most.
        fortran: whether the first index is the fastest.
        data: the bytes of numbers, which older pickles have as text; of objects, a list. It fits the shape.
    """

    kind: Kind | None = None
    shape: tuple[int, ...] = ()
    fortran: bool = False
    data: bytes | str | list[Any] = b""

    def numbers(self) -> np.ndarray:
        """The values, in an array of its own.

        Raises:
            Damaged: where they are no numbers.
        """
        if self.kind is None or self.kind.code not in _FLOATS or isinstance(self.data, list):
            raise Damaged("has an array that is empty or of objects; numbers are needed")
        data = self.data if isinstance(self.data, bytes) else _octets(self.data)
        order = "<" if self.kind.order == "|" else self.kind.order
        values = np.frombuffer(data, dtype=f"{order}{self.kind.code}")
        shaped = values.reshape(self.shape[::-1]).T if self.fortran else values.reshape(self.shape)
        return np.array(shaped, dtype=f"={self.kind.code}", order="C")


def read_dictionary(path: Path, advice: str) -> dict[Any, Any]:
    """The dictionary that a NumPy file holds, with an `Array` for each array.

    Args:
        path: the file, as `numpy.save(path, {...})` writes it.
        advice: what to say where there is none.

    Raises:
        UserError: naming the file, where it is no such file, damaged, hostile or beyond the limit.
    """
    with opened(path, advice) as file:
        data = file.read(FILE_LIMIT + 1)
    try:
        if len(data) > FILE_LIMIT:
            raise Damaged(f"is longer than the limit of {FILE_LIMIT:,} bytes; refused")
        text = io.BytesIO(data)
        _read_header(text)
        found = read_pickle(text, ARRAYS)
        if text.read(1):
            raise Damaged("bytes follow its pickle; it is damaged")
        held = found.data if isinstance(found, Array) else None
        if not isinstance(held, list) or not isinstance(held[0], dict):
            raise Damaged("holds no dictionary")
        return held[0]
    except Damaged as e:
        raise UserError(f"{path}: {e}") from None


def _read_header(file: io.BytesIO) -> None:
    """Check what comes before the pickle: one object."""
    start = file.read(len(_MARK) + 2)
    if not start.startswith(_MARK):
        raise Damaged("is no file of NumPy")
    if len(start) < len(_MARK) + 2 or start[-2] not in (1, 2, 3):
        raise Damaged("is of an unknown version of NumPy's form, or cut short")
    size = 2 if start[-2] == 1 else 4
    length = file.read(size)
    if len(length) < size:
        raise Damaged("is cut short")
    header = file.read(struct.unpack("<H" if size == 2 else "<I", length)[0])
    match = _HEADER.fullmatch(header.decode("latin-1"))
    if match is None:
        raise Damaged("has no header of NumPy's, or is cut short")
    if match[1] not in ("|O", "O") or match[2] not in ("", "1,"):
        raise Damaged(f"holds an array of {shortened(match[1])}, ({match[2]}); one object, a dictionary, is needed")


# --- what such a pickle may do ---------------------------------------------------------------------------------------


def _array(arguments: tuple[Any, ...]) -> Array:
    """An empty array from (its class, a shape and a type that its state will replace)."""
    if not isinstance(arguments[0], Name) or arguments[0].name != _CLASS:
        raise Damaged("its pickle makes an array of another class than NumPy's; refused")
    return Array()


def _kind(arguments: tuple[Any, ...]) -> Kind:
    """A type from (code, align, copy)."""
    code = arguments[0]
    if type(code) is not str or (code not in _FLOATS and code != _OBJECT):
        raise Damaged(f"has an array of {shortened(str(code))}; it must be f2, f4 or f8, floating-point numbers")
    return Kind(code)


def _encoded(arguments: tuple[Any, ...]) -> str:
    """Bytes that Python 3 wrote as text for Python 2; they stay text until they are used."""
    if type(arguments[0]) is not str or arguments[1] != "latin1":
        raise Damaged("its pickle has bytes that are none; it is damaged")
    return arguments[0]


def _build(target: object, state: object) -> bool:
    """Give a type or an array its state, once."""
    if type(state) is not tuple:
        return False
    if isinstance(target, Kind):
        return not target.order and _build_kind(target, state)
    return isinstance(target, Array) and target.kind is None and _build_array(target, state)


def _build_kind(target: Kind, state: tuple[Any, ...]) -> bool:
    """From (3, order, None, None, None, -1, -1, flags): a plain type, without fields."""
    if len(state) != 8 or type(state[0]) is not int or state[0] != 3 or any(s is not None for s in state[2:5]):
        return False
    if type(state[1]) is not str or state[1] not in ("<", ">", "|"):
        return False
    target.order = state[1]
    return True


def _build_array(target: Array, state: tuple[Any, ...]) -> bool:
    """From (1, shape, type, whether in Fortran's order, data), of which all must fit."""
    if len(state) != 5:
        return False
    _, shape, kind, fortran, data = state
    if type(shape) is not tuple or not are_counts(*shape) or len(shape) > DIMENSIONS:
        raise Damaged("has an array whose shape is none; it is damaged")
    if not isinstance(kind, Kind) or not kind.order or type(fortran) is not bool:
        raise Damaged("has an array that is described by other things than a type and an order; it is damaged")
    objects = kind.code == _OBJECT
    if not (type(data) is list if objects else type(data) in (bytes, str)):
        raise Damaged("has an array without its values; it is damaged")
    wanted = math.prod(shape) * (1 if objects else _FLOATS[kind.code])
    if len(data) != wanted or (objects and wanted != 1):
        words = "objects; there can be one" if objects else f"bytes, but its shape asks for {wanted:,}"
        raise Damaged(f"has an array of {len(data):,} {words}; it is damaged")
    target.kind, target.shape, target.fortran, target.data = kind, shape, fortran, data
    return True


def _octets(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Damaged("its pickle has bytes that are none; it is damaged") from None


_CLASS = "numpy.ndarray"

ARRAYS = Vocabulary(
    part="arrays of numbers",
    calls={
        "numpy.core.multiarray._reconstruct": Call((3,), _array),
        "numpy._core.multiarray._reconstruct": Call((3,), _array),  # NumPy 2
        "numpy.dtype": Call((3,), _kind),
        "_codecs.encode": Call((2,), _encoded),
    },
    names=frozenset({_CLASS}),
    operations=frozenset({"SHORT_BINBYTES", "BINBYTES"}),
    build=_build,
)
"""Arrays of floating-point numbers, and of one object."""
