"""Which layouts or images are painted, and what the paintings are called: files, folders and a list on stdin."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from photogram.errors import UserError
from photogram.images import LABEL_SUFFIXES

SETTINGS = "synthesis.json"
"""What marks a folder of paintings."""

_LINE_LIMIT = 1 << 16


class Item(NamedTuple):
    """A layout, or an image, to paint.

    Args:
        source: its file.
        name: the painting's place in the output folder, without a suffix; may have folders, with `/` between them.
    """

    source: Path
    name: str


LAYOUTS = (*LABEL_SUFFIXES, ".jpg", ".jpeg")
"""How names of layouts end. JPEGs are among them, so that they are refused by name and not lost."""


def collect(
    inputs: Iterable[str | Path], stdin: IO[str] | None = None, suffixes: Sequence[str] = LAYOUTS
) -> Sequence[Item] | Iterator[Item]:
    """Find what to paint: files, folders with all that is in them, and `-` for a list on stdin, one path a line.

    Paintings keep the names that layouts have below the folder that all inputs have in common, so that equal names in
    two folders do not collide. Names from stdin, whose common folder is unknown until its end, are kept below the
    current folder, or whole where they lie elsewhere. Hidden files, links to folders and folders of paintings are left
    out.

    Args:
        inputs: files, folders and `-`.
        stdin: the stream that `-` reads, by its file descriptor; None is the process's own.
        suffixes: of the files that count in folders; see `photogram.conditions.source_suffixes`.

    Returns:
        A list; or, where `-` is among the inputs, an iterator that ends when stdin does.

    Raises:
        UserError: where an input does not exist, or a folder holds no layouts.
    """
    inputs = list(inputs)
    given = [Path(path) for path in inputs if str(path) != "-"]
    if not inputs:
        raise UserError("there is nothing to paint; give layouts or images, folders of them, or - for a list on stdin")
    for path in given:
        if not is_there(path):
            raise UserError(f"{path}: no such file or folder; give layouts or images, folders of them, or - for stdin")
    folders = [plain(path) if path.is_dir() else plain(path).parent for path in given]
    base = Path(os.path.commonpath(folders)) if folders else Path()
    files = [file for path in given for file in (_files_in(path, suffixes) if path.is_dir() else [path])]
    items = [Item(file, _name(file, base)) for file in files]
    if len(given) == len(inputs):
        return items
    return _items_and_lines(items, sys.stdin if stdin is None else stdin)


def is_there(path: Path) -> bool:
    """Whether there is something of that name; a name too long for the system is not there."""
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises where a name is too long


def plain(path: Path) -> Path:
    """Absolute and without `..`, links kept: they have the names that the person knows."""
    return Path(os.path.normpath(path.absolute()))


def _name(file: Path, base: Path) -> str:
    whole = plain(file)
    below = whole.relative_to(base if whole.is_relative_to(base) else whole.anchor)
    return (below.parent / below.stem).as_posix()


def _files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files below a folder whose names end so, in order."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        if SETTINGS in names:  # paintings
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root) / name
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes
        ]
    if not found:
        what = ("layouts", LABEL_SUFFIXES) if tuple(suffixes) == LAYOUTS else ("images", suffixes)
        raise UserError(f"{folder}: holds no {what[0]} ({', '.join(what[1])})")
    return found


def _items_and_lines(items: list[Item], stdin: IO[str]) -> Iterator[Item]:
    here, empty = plain(Path()), True
    yield from items
    for line in _lines(stdin):
        empty = False
        yield Item(Path(line), _name(Path(line), here))
    if empty and not items:
        raise UserError("stdin: holds no layouts; give one path a line")


def _lines(stdin: IO[str]) -> Iterator[str]:
    """Lines as soon as they are there. The descriptor is read past the stream's lock, which must be free at exit."""
    rest = b""
    while True:
        try:
            chunk = os.read(stdin.fileno(), _LINE_LIMIT)
        except (OSError, ValueError, AttributeError) as e:  # closed, or no stdin at all
            raise UserError(f"standard input: cannot be read ({e})") from None
        *lines, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
        yield from (os.fsdecode(line.rstrip(b"\r")) for line in lines if line.strip())
        if len(rest) > _LINE_LIMIT:
            raise UserError(f"standard input: has a line of more than {_LINE_LIMIT} bytes; give one path a line")
        if not chunk:
            return
