"""One holder at a time, in whichever process, on whichever system."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

import photogram.locking as locking
from photogram.errors import UserError
from photogram.locking import held

ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from pathlib import Path
from photogram.locking import held
try:
    with held(Path(sys.argv[1]), "busy elsewhere"):
        print("held", flush=True)
        sys.stdin.readline()
except ValueError as e:
    print(e, flush=True)
"""


def start(path: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def try_elsewhere(path: Path) -> str:
    with start(path) as process:
        return process.communicate("\n", timeout=60)[0].strip()


def test_it_is_held_against_others_and_falls_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ".lock"
    with start(path) as process:
        assert said(process) == "held\n"
        with pytest.raises(UserError, match=r"^busy here$"), held(path, "busy here"):
            pass
        process.kill()
    with held(path, "busy here"):
        assert try_elsewhere(path) == "busy elsewhere"
    assert try_elsewhere(path) == "held"


def test_a_refusal_within_the_process_does_not_unlock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with held(path, "never"):
        for name in (path, tmp_path / "x" / ".." / ".lock"):
            (tmp_path / "x").mkdir(exist_ok=True)
            with pytest.raises(UserError, match=r"^busy here$"), held(name, "busy here"):
                pass
        refused: list[str] = []
        thread = threading.Thread(target=lambda: refused.extend(refusal(path)))
        thread.start()
        thread.join()
        assert refused == ["busy there"]
        with held(tmp_path / "another", "never"):
            assert try_elsewhere(path) == "busy elsewhere"
    with held(path, "never"):
        pass


def refusal(path: Path) -> list[str]:
    try:
        with held(path, "busy there"):
            return []
    except UserError as e:
        return [str(e)]


def test_what_cannot_be_written_or_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x: cannot be written \(.*\); give another --out"):
        held(tmp_path / "file" / "x" / ".lock", "busy").__enter__()

    def no_locks(file: IO[str]) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking, "_locked", no_locks)
    with pytest.raises(UserError, match=r"cannot be written \(No locks available\); give another --out"):
        held(tmp_path / ".lock", "busy").__enter__()


def test_the_other_systems_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be seen from here: what is asked of `msvcrt`, and what becomes of its refusal."""
    asked: list[tuple[int, int]] = []

    def lock(number: int, mode: int, count: int) -> None:
        asked.append((mode, count))
        if len(asked) == 2:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(locking, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=lock, LK_NBLCK=2))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with held(tmp_path / ".lock", "busy"):
        pass
    with pytest.raises(UserError, match=r"^busy$"), held(tmp_path / ".lock", "busy"):
        pass
    assert asked == [(2, 1), (2, 1)]


def test_what_windows_lacks_is_not_needed_to_start() -> None:
    program = "import sys; sys.modules['fcntl'] = None\n"
    program += "import photogram.training, photogram.synthesis, photogram.data.prepare, photogram.cli"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=120)
