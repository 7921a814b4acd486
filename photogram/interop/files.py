"""What importers have in common: files that may be anything, and folders that are written whole or not at all."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedReader
from pathlib import Path

from photogram.errors import UserError
from photogram.generator import CARD, CONFIG, WEIGHTS, read_config
from photogram.outputs import writing

LICENCE = (
    "## Licence",
    "",
    "The weights are not photogram's. The terms of their source apply, and those of the photographs that they were",
    "learned from. The checkpoint states none, and none are known to photogram: ask whoever published it before",
    "you pass the weights on.",
    "",
)
"""How the card of an imported network ends, line by line."""


def program(asked: str, hint: str = "") -> list[str]:
    """The shortest program with an imported generator, for its card, line by line.

    Args:
        asked: what it is asked for, as Python says it.
        hint: a comment on that.
    """
    return [
        "```python",
        "import photogram",
        "",
        'generator = photogram.load("this folder")',
        f"photo = generator.sample({asked}){hint}",
        'photogram.save(photo, "photo.png")',
        "```",
    ]


class Damaged(ValueError):
    """What is wrong with a file, without its name."""


@contextmanager
def opened(path: Path, advice: str) -> Iterator[BufferedReader]:
    """Open a regular file; whatever the system answers becomes one line that names the file.

    Args:
        path: the file.
        advice: what to say where there is none.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)  # before it is opened: a pipe would wait for its writer
        with path.open("rb") if regular else nullcontext() as file:
            if file is None:
                raise UserError(f"{path}: is no regular file")
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {advice}") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None


def refuse_ours(checkpoint: Path) -> None:
    """Refuse what needs no import: the folder of a network that photogram has published, or a file of it.

    Raises:
        UserError: saying how it is used.
    """
    folder = checkpoint if checkpoint.name not in (CONFIG, WEIGHTS) else checkpoint.parent
    try:
        read_config(folder)
    except UserError:  # other programs have files of these names too
        return
    if (folder / WEIGHTS).is_file():
        raise UserError(
            f"{checkpoint}: is a network of photogram already and needs no import; give {folder} as it is to the "
            "commands, to photogram.load, or to a training with --from"
        )


def check_room(out: Path) -> None:
    """Refuse a place that holds anything, before much is read."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, not a folder; give another --out")
    with writing(out):
        others = sorted(p.name for p in out.iterdir() if not _is_left_over(p)) if out.exists() else []
    if others:
        raise UserError(f"{out}: is not empty ({others[0]} is there); give another --out")


def _is_left_over(path: Path) -> bool:
    """A file of a `photogram.images.replacing` that was killed."""
    return re.fullmatch(r"\..*\.partial", path.name) is not None and path.is_file()


@contextmanager
def leaving_nothing_half(out: Path) -> Iterator[None]:
    """Remove a network that was written in part, from a folder that was empty or not there before."""
    made = not out.exists()
    try:
        if not made:
            for left_over in filter(_is_left_over, out.iterdir()):
                left_over.unlink()
        yield
    except BaseException:
        for name in (CONFIG, WEIGHTS, CARD):
            (out / name).unlink(missing_ok=True)
        if made and out.is_dir():
            out.rmdir()
        raise
