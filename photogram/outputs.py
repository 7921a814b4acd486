"""What output folders have in common: a record of what was asked for, which must be the same when the work goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from photogram.errors import UserError
from photogram.images import replacing


@contextmanager
def writing(out: Path, advice: str = "give another --out") -> Iterator[None]:
    """A folder that cannot be written (any more) is the person's to mend: an `OSError` becomes a `UserError`."""
    try:
        yield
    except OSError as e:
        if isinstance(e, FileExistsError | NotADirectoryError) and out.is_file():
            raise UserError(f"{out}: is a file, not a folder; {advice}") from None
        raise UserError(f"{out}: cannot be written ({e.strerror or e}); {advice}") from None


def read_record(path: Path, advice: str) -> dict[str, object] | None:
    """What was asked for when the work began; None of a new folder.

    Args:
        path: the JSON file that says so.
        advice: what to do where it is damaged.

    Raises:
        UserError: where it is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # of the latter, writing will tell
        return None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); {advice}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}: is no record of what was asked for; {advice}")
    return record


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write what `read_record` reads, whole or not at all.

    Raises:
        UserError: where the folder cannot be written.
    """
    with writing(path.parent), replacing(path) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def difference(started: Mapping[str, object], asked: Mapping[str, object]) -> str | None:
    """The first setting that is asked for otherwise than the work was started with: `NAME = 4, not 5`, or None."""
    for name, value in asked.items():
        if started.get(name) != value:
            return f"{name} = {json.dumps(started.get(name))}, not {json.dumps(value)}"
    return None
