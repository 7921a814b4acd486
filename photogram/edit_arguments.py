"""What the operations of an edit session are given: its form is checked here, by the names of their parameters.

Bounds that depend on a layout or a network (classes, clusters, regions that are there) are the operations' own.
"""

from __future__ import annotations

import inspect
import operator
import reprlib
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from functools import wraps
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from photogram.errors import UserError
from photogram.generator import Generator, as_condition
from photogram.scene import Layout

BEYOND = 0.1
"""So far outside [-1, 1] a photograph may be, as one that was enlarged by a sharp filter is."""
_Class = TypeVar("_Class", bound=type)
_Check = Callable[[str, Any], Any]


def checked(owner: _Class) -> _Class:
    """A class whose constructor and public methods check their arguments by `CHECKS` and make them plain.

    NumPy's integers become Python's; anything of another kind ends in a `UserError` that names the parameter, the
    value and what it must be.
    """
    for name, member in list(vars(owner).items()):
        if name == "__init__":
            setattr(owner, name, _checked(member, {**CHECKS, "style": _beginning}))
        elif inspect.isfunction(member) and not name.startswith("_"):
            setattr(owner, name, _checked(member))
        elif isinstance(member, classmethod):
            setattr(owner, name, classmethod(_checked(member.__func__)))
    return owner


def _checked(method: Callable[..., Any], checks: Mapping[str, _Check] | None = None) -> Callable[..., Any]:
    checks = CHECKS if checks is None else checks
    signature = inspect.signature(method)

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            absent = value is None and signature.parameters[name].default is None
            if name in checks and not absent:
                bound.arguments[name] = checks[name](name, value)
        return method(*bound.args, **bound.kwargs)

    return call


def _index(value: Any) -> int:
    """An integer of 64 bits: Python's, or an array or tensor without dimensions.

    Raises:
        TypeError: of anything else.
    """
    found = operator.index(value)
    if getattr(value, "ndim", 0) or not -(1 << 63) <= found < 1 << 63:
        raise TypeError
    return found


def _scalar(value: Any) -> float:
    """A number: Python's, or an array or tensor without dimensions.

    Raises:
        TypeError: of anything else.
        OverflowError: where it is too large.
    """
    if isinstance(value, Tensor | np.ndarray) and not value.ndim:
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError
    return float(value)


def _items(value: Any) -> list[Any]:
    """What is listed, in its order.

    Raises:
        TypeError: of text, bytes, sets and tables, and of what is no list.
    """
    if isinstance(value, str | bytes | bytearray | memoryview | Set | Mapping):
        raise TypeError
    return list(value)


def _whole(name: str, value: object) -> int:
    try:
        return _index(value)
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be an integer of at most 64 bits") from None


def _label(name: str, value: object) -> int:
    try:
        return _index(value)
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be a class by its number, its id in classes.json") from None


def _classes(name: str, value: object) -> frozenset[int]:
    """Numbers of classes."""
    try:
        listed = list(value) if isinstance(value, Set) else _items(value)
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be a list of classes, each by its number") from None
    return frozenset(_label(name, label) for label in listed)


def _seed(name: str, value: object) -> int:
    """An integer that a generator of noise takes."""
    with suppress(TypeError):
        if (found := _index(value)) >= 0:
            return found
    raise UserError(f"{name} {_short(value)}: must be an integer of 0 or more, below 2^63")


def _generator(name: str, value: object) -> Generator:
    if not isinstance(value, Generator):
        raise UserError(f"{name} is {_form(value)}; give a network that paints, as photogram.load reads it")
    return value


def _layout(name: str, value: object) -> Layout:
    if not isinstance(value, Layout):
        raise UserError(f"{name} is {_form(value)}; give a Layout, as Layout.open(path, instances_path) reads it")
    as_condition(value)
    return value


def _real(name: str, value: object) -> float:
    try:
        return _scalar(value)
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be a number") from None
    except OverflowError:
        raise UserError(f"{name} {_short(value)}: is too large") from None


def _region(name: str, value: Any) -> tuple[int, int]:
    try:
        label, number = _items(value)
        return _index(label), _index(number)
    except (TypeError, ValueError):
        pair = "a class and an object number, as `at` gives them"
        raise UserError(f"{name} {_short(value)}: must be {pair}") from None


def _regions(name: str, value: Any) -> list[tuple[int, int]]:
    try:
        listed = list(value) if isinstance(value, Set | Mapping) else _items(value)
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be a list of regions") from None
    return [_region(name, region) for region in listed]


def _position(name: str, value: Any) -> tuple[int, int]:
    try:
        x, y = _items(value)
        return _index(x), _index(y)
    except (TypeError, ValueError):
        raise UserError(f"{name} {_short(value)}: must be x and y, two integers") from None


def _points(name: str, value: Any) -> list[tuple[float, float]]:
    try:
        found = [(_scalar(x), _scalar(y)) for x, y in map(_items, _items(value))]
    except (TypeError, ValueError, OverflowError):
        found = []
    if not found or not np.isfinite(found).all():
        raise UserError(f"{name} {_short(value)}: a stroke needs one or more, each a finite x and y")
    return found


def _mask(name: str, value: object) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype != np.bool_ or value.ndim != 2:
        raise UserError(f"{name} is {_form(value)}; it must be a NumPy array of bool [h, w]")
    if not value.any():
        raise UserError(f"{name} is {_form(value)}, but it marks no pixel")
    return value


def _fill(name: str, value: object) -> int | str:
    if isinstance(value, str) and value == "nearest":
        return value
    try:
        return _index(value)
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be a class by its number, or 'nearest'") from None


def _style(name: str, value: Any) -> int | tuple[float, ...]:
    """The number of a cluster, or the numbers of a style as float32 has them."""
    with suppress(TypeError):  # else it is no cluster
        return _index(value)
    try:
        numbers = [_scalar(number) for number in _items(value)]
        return tuple(torch.tensor(numbers, dtype=torch.float32).tolist())
    except (TypeError, OverflowError):
        cluster = "the number of a cluster, or a list of the numbers of a style"
        raise UserError(f"{name} {_short(value)}: must be {cluster}") from None


def _beginning(name: str, value: object) -> object:
    """Which styles a session begins with."""
    if not isinstance(value, str) or value not in ("common", "drawn"):
        raise UserError(f"{name} {_short(value)}: must be common or drawn")
    return value


def _photo(name: str, value: object) -> Tensor:
    if not (isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4 and value.numel()):
        form = f"{name} is {_form(value)}; it must be floating-point [1, c, h, w]"
        raise UserError(f"{form} in [-1, 1], as photogram.scene.open_photo reads it")
    least, most = float(value.min()), float(value.max())
    if not (least >= -1 - BEYOND and most <= 1 + BEYOND):
        values = f"{name} has values from {least:.4g} to {most:.4g}"
        raise UserError(f"{values}, but they must be in [-1, 1]; photogram.scene.open_photo reads it so")
    return value


def _path(name: str, value: object) -> str | Path:
    if not isinstance(value, str | Path):
        raise UserError(f"{name} is {_form(value)}; give the name of a file")
    if not Path(value).name or "\0" in str(value):
        raise UserError(f"{name} {_short(value)}: is no name of a file")
    return value


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise UserError(f"{name} {_short(value)}: must be True or False")
    return bool(value)


CHECKS: Mapping[str, _Check] = {
    **dict.fromkeys(("x", "y", "dx", "dy", "width", "divisor", "least"), _whole),
    "label": _label,
    **dict.fromkeys(("region", "source", "into"), _region),
    "regions": _regions,
    "position": _position,
    "points": _points,
    "mask": _mask,
    "factor": _real,
    "fill": _fill,
    "style": _style,
    "seed": _seed,
    "photo": _photo,
    "layout": _layout,
    "generator": _generator,
    "things": _classes,
    "path": _path,
    "strict": _truth,
}
"""What a parameter of this name must be; None is left alone where that is its default."""


def _short(value: object) -> str:
    """A value in one short line."""
    if isinstance(value, Tensor | np.ndarray):
        return _form(value)
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # an integer of more digits than Python writes out
        return _form(value)


def _form(value: object) -> str:
    """The type of a value; of arrays and tensors also what they hold, and their shape."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
