"""Which class each colour of a layout stands for: lists of colours, proposals, and maps between classes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from photogram.data.colors import distances, hexed, pack_color, unpack_color
from photogram.data.known_classes import cityscapes_19
from photogram.errors import UserError, nearest
from photogram.scene import SceneClass, parse_class, read_classes, void_of

_MOST_CLASSES = 65536


@dataclass(frozen=True)
class Coding:
    """Which class each colour stands for."""

    classes: tuple[SceneClass, ...]
    colors: dict[int, int]
    """0xRRGGBB -> class index, for the colours that are known."""

    @property
    def void(self) -> int | None:
        return void_of(self.classes)


def read_palette(path: Path) -> tuple[SceneClass, ...]:
    """Read classes and colours from a `classes.json`, or from `{"palette": [[r, g, b], ...], "names": []}`.

    A palette without names has `class-0` ..., or Cityscapes' names where it is that of Cityscapes.

    Raises:
        UserError: naming what is wrong.
    """
    path = Path(path)
    content = _read_json(path)
    if isinstance(content, list):
        return read_classes(path)
    if not isinstance(content, dict) or not isinstance(content.get("palette"), list) or not content["palette"]:
        raise UserError(f'{path}: is neither a classes.json nor {{"palette": [[r, g, b], ...]}}')
    colors = [_check_color(path, n, color) for n, color in enumerate(content["palette"])]
    cityscapes = cityscapes_19()[:-1]
    default = [c.name for c in cityscapes] if colors == [c.color for c in cityscapes] else None
    names = content.get("names", default or [f"class-{n}" for n in range(len(colors))])
    if not isinstance(names, list) or len(names) != len(colors) or not all(isinstance(n, str) and n for n in names):
        raise UserError(f"{path}: names must be {len(colors)} texts, one for each colour of the palette")
    return tuple(SceneClass(name, color) for name, color in zip(names, colors, strict=True))


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: _no_twins(path, pairs))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None


def _no_twins(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise UserError(f"{path}: {key!r} is given twice")
        found[key] = value
    return found


def _check_color(path: Path, n: int, color: object) -> tuple[int, int, int]:
    if not (isinstance(color, list) and len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)):
        raise UserError(f"{path}: colour {n} is {color!r}; colours are [red, green, blue] in 0..255")
    return (color[0], color[1], color[2])


def with_void(classes: tuple[SceneClass, ...]) -> tuple[SceneClass, ...]:
    """Add a void class where there is none: black, or the darkest grey that no class has."""
    if any(c.void for c in classes):
        return classes
    taken = {c.color for c in classes}
    grey = next((v for v in range(256) if (v, v, v) not in taken), 0)
    name = next(
        n for n in ("unlabelled", "void", *(f"void-{i}" for i in range(99))) if n not in {c.name for c in classes}
    )
    return (*classes, SceneClass(name, (grey, grey, grey), void=True))


@dataclass(frozen=True)
class Mapping:
    """A map file: sources as they are written there, and the targets."""

    path: Path
    pairs: dict[str, str]
    targets: tuple[SceneClass, ...] | None


def read_map(path: Path) -> Mapping:
    """Read a map file, `{"map": {"SOURCE": "TARGET"}, "classes": [...]}`; see `prepare_palette`.

    Raises:
        UserError: naming the entry and what is wrong with it.
    """
    path = Path(path)
    content = _read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("map"), dict) or not content["map"]:
        raise UserError(f'{path}: must be {{"map": {{"SOURCE": "TARGET", ...}}}}, with "classes" if wanted')
    unknown = sorted(set(content) - {"map", "classes"})
    if unknown:
        raise UserError(
            f"{path}: has the unknown key {unknown[0]!r}; known are map, classes"
            f"{nearest(unknown[0], ['map', 'classes'])}"
        )
    for source, target in content["map"].items():
        if not isinstance(target, str) or not target:
            raise UserError(f"{path}: {source!r} is sent to {target!r}; targets are names of classes")
    targets = _inline_classes(path, content["classes"]) if "classes" in content else None
    names = [c.name for c in targets or ()]
    for source, target in content["map"].items():
        if targets is not None and target not in names:
            raise UserError(
                f"{path}: {source!r} is sent to {target!r}, which is no class there{nearest(target, names)}"
            )
    return Mapping(path, content["map"], targets)


def _inline_classes(path: Path, entries: object) -> tuple[SceneClass, ...]:
    """The target classes of a map file, by the rules of `classes.json`."""
    if not isinstance(entries, list) or not entries:
        raise UserError(f'{path}: "classes" must be a list of {{"id", "name", "color"}}, as in classes.json')
    found = dict(parse_class(path, n, entry) for n, entry in enumerate(entries))
    if sorted(found) != list(range(len(entries))):
        raise UserError(f"{path}: the ids of its classes must be 0..{len(entries) - 1}, each once")
    classes = tuple(found[i] for i in range(len(found)))
    names = [c.name for c in classes]
    twin = next((n for n in names if names.count(n) > 1), None)
    if twin or sum(c.void for c in classes) > 1:
        raise UserError(f"{path}: " + (f"two classes are named {twin!r}" if twin else "only one class can be void"))
    return with_void(classes)


def parse_color(text: str) -> int | None:
    """`#804080` or `128, 64, 128` to 0x804080; None where the text is no colour."""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    numbers = re.fullmatch(r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*", text)
    if not numbers or max(values := [int(v) for v in numbers.groups()]) > 255:
        return None
    return pack_color((values[0], values[1], values[2]))


def first_wins(known: tuple[SceneClass, ...]) -> tuple[Coding, list[str]]:
    """Take a list of classes as it is; of classes with equal colours the first has them, with a note."""
    colors: dict[int, int] = {}
    notes = []
    for index, entry in enumerate(known):
        first = colors.setdefault(pack_color(entry.color), index)
        if first != index:
            notes.append(f"class {entry.name!r} has the colour of {known[first].name!r}, which is given its pixels")
    return Coding(with_void(known), colors), notes


def propose(colors: np.ndarray, pixels: np.ndarray, solid: np.ndarray, listed: np.ndarray, tolerance: int) -> Coding:
    """A class for each colour, most pixels first (equal ones by colour).

    With a tolerance only for listed colours and for solid ones more than `tolerance` away from each more
    common one.
    """
    vouched = np.isin(colors, listed)
    order = np.lexsort((colors, -pixels, ~vouched)) if tolerance else np.lexsort((colors, -pixels))
    chosen: list[int] = []
    for place in order.tolist():
        color = int(colors[place])
        if tolerance and not vouched[place] and (not solid[place] or _near(colors[[place]], chosen, tolerance)):
            continue
        chosen.append(color)
    count = {int(c): int(p) for c, p in zip(colors, pixels, strict=True)}
    chosen.sort(key=lambda c: (-count[c], c))
    if len(chosen) >= _MOST_CLASSES:
        raise UserError(
            f"the layouts have {len(chosen):,} colours, but only {_MOST_CLASSES - 1:,} classes are possible"
        )
    classes = tuple(SceneClass(f"class-{index}", unpack_color(color)) for index, color in enumerate(chosen))
    return Coding(classes, {c: i for i, c in enumerate(chosen)})


def _near(color: np.ndarray, chosen: list[int], tolerance: int) -> bool:
    anchors = np.array(chosen, dtype=np.int32)
    return bool(chosen) and bool(distances(color, anchors).min() <= tolerance)


def apply_map(coding: Coding, mapping: Mapping) -> Coding:
    """Send the classes of a coding to those of a map; what is not mapped becomes void.

    Raises:
        UserError: where a source is unknown, or two entries send one colour to two classes.
    """
    sent: dict[int, tuple[str, str]] = {}
    for key, target in mapping.pairs.items():
        for color in _sources(key, coding, mapping.path):
            before = sent.setdefault(color, (key, target))
            if before[1] != target:
                raise UserError(
                    f"{mapping.path}: {before[0]!r} and {key!r} are both {hexed(color)}, "
                    f"but go to {before[1]!r} and {target!r}"
                )
    targets = mapping.targets
    if targets is None:
        firsts: dict[str, int] = {}
        for color, (_, target) in sent.items():
            firsts.setdefault(target, color)
        targets = with_void(tuple(SceneClass(name, unpack_color(color)) for name, color in firsts.items()))
    index = {c.name: i for i, c in enumerate(targets)}
    return Coding(targets, {color: index[target] for color, (_, target) in sent.items()})


def _sources(key: str, coding: Coding, path: Path) -> list[int]:
    """The colours that one source of a map means: a name first, then an index, then a colour."""
    names = [c.name for c in coding.classes]
    indices = [i for i, name in enumerate(names) if name == key]
    if not indices and key.isdigit() and int(key) < len(names):
        indices = [int(key)]
    if indices:
        return [c for c, i in coding.colors.items() if i in indices]
    color = parse_color(key)
    if color is None:
        raise UserError(
            f"{path}: {key!r} is no class (name, or index 0..{len(names) - 1}) and no colour such as "
            f"'#804080' or '128, 64, 128'{nearest(key, names)}"
        )
    return [color]
