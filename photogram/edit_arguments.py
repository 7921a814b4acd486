"""What the operations of an edit session are given: its form is checked here, by the names of their parameters.

Bounds that depend on a layout or a network (classes, clusters, regions that are there) are the operations' own.
"""

from __future__ import annotations

import inspect
import operator
import reprlib
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, cast

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


def _whole(name: str, value: object) -> int:
    """An integer, Python's or NumPy's."""
    try:
        return operator.index(cast(Any, value))
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be an integer") from None


def _classes(name: str, value: object) -> frozenset[int]:
    """Numbers of classes."""
    if not isinstance(value, Collection) or isinstance(value, str):
        raise UserError(f"{name} {_short(value)}: must be a list of classes, each an integer")
    return frozenset(_whole(name, label) for label in value)


def _seed(name: str, value: object) -> int:
    """An integer that a generator of noise takes."""
    found = _whole(name, value)
    if not 0 <= found < 1 << 63:
        raise UserError(f"{name} {_short(found)}: must be an integer of 0 or more, below 2^63")
    return found


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
    if not isinstance(value, Real):
        raise UserError(f"{name} {_short(value)}: must be a number")
    try:
        return float(value)
    except OverflowError:
        raise UserError(f"{name} {_short(value)}: is too large") from None


def _region(name: str, value: Any) -> tuple[int, int]:
    try:
        label, number = value
        return operator.index(label), operator.index(number)
    except (TypeError, ValueError):
        pair = "a class and an object number, as `at` gives them"
        raise UserError(f"{name} {_short(value)}: must be {pair}") from None


def _regions(name: str, value: Any) -> list[tuple[int, int]]:
    if not isinstance(value, Collection):
        raise UserError(f"{name} {_short(value)}: must be a list of regions")
    return [_region(name, region) for region in value]


def _position(name: str, value: Any) -> tuple[int, int]:
    try:
        x, y = value
        return operator.index(x), operator.index(y)
    except (TypeError, ValueError):
        raise UserError(f"{name} {_short(value)}: must be x and y, two integers") from None


def _points(name: str, value: Any) -> list[tuple[float, float]]:
    try:
        found = [(float(x), float(y)) for x, y in value]
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
        return operator.index(cast(Any, value))
    except TypeError:
        raise UserError(f"{name} {_short(value)}: must be a class by its number, or 'nearest'") from None


def _style(name: str, value: Any) -> int | tuple[float, ...]:
    """The number of a cluster, or the numbers of a style as float32 has them."""
    try:
        if not getattr(value, "ndim", 0):
            return operator.index(value)
    except TypeError:
        pass  # so it is no cluster
    try:
        return tuple(torch.as_tensor(value, dtype=torch.float32).flatten().tolist())
    except (TypeError, ValueError, RuntimeError):
        cluster = "the number of a cluster, or the numbers of a style"
        raise UserError(f"{name} {_short(value)}: must be {cluster}") from None


def _beginning(name: str, value: object) -> object:
    """Which styles a session begins with."""
    if value not in ("common", "drawn"):
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
    return value


CHECKS: Mapping[str, _Check] = {
    **dict.fromkeys(("x", "y", "dx", "dy", "width", "label", "divisor", "least"), _whole),
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
}
"""What a parameter of this name must be; None is left alone where that is its default."""


def _short(value: object) -> str:
    """A value in one short line."""
    return _form(value) if isinstance(value, Tensor | np.ndarray) else " ".join(reprlib.repr(value).split())


def _form(value: object) -> str:
    """The type of a value; of arrays and tensors also what they hold, and their shape."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
