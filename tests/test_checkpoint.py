"""States on disk: whole or not at all, checked when read, the last two kept."""

import errno
import hashlib
import itertools
import multiprocessing
import os
import pickle
import random
import time

import pytest
import torch
from small_training import run_python

from photogram import checkpoint
from photogram.checkpoint import discard_after, last_good, load_state, save_state, saved_steps
from photogram.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "state"


def state_of(step: int) -> dict:
    return {"step": step, "name": "zwei", "nested": {"list": [torch.full((3, 2), float(step)), 2.5, None, True]}}


def quiet(message: str) -> None:
    raise AssertionError(f"nothing is damaged, but: {message}")


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def same(found, step: int) -> bool:
    return found[0] == step == found[1]["step"] and torch.equal(
        found[1]["nested"]["list"][0], torch.full((3, 2), float(step))
    )


def test_a_state_comes_back(folder):
    assert load_state(folder, quiet) is None
    save_state(folder, 10, state_of(10))
    found = load_state(folder, quiet)
    assert same(found, 10) and found[1]["name"] == "zwei" and found[1]["nested"]["list"][1:] == [2.5, None, True]
    assert names(folder) == ["step-00000010"]
    assert names(folder / "step-00000010") == ["sha256", "state.pt"]


def test_the_last_two_are_kept(folder):
    for step in (5, 10, 12, 100_000_000, 100_000_001):
        save_state(folder, step, state_of(step))
    assert saved_steps(folder) == [100_000_000, 100_000_001]
    assert same(load_state(folder, quiet), 100_000_001)


def test_what_a_killed_training_left_is_swept(folder):
    (folder / ".partial-1").mkdir(parents=True)
    (folder / ".partial-1" / "state.pt").write_bytes(b"half")
    assert load_state(folder, quiet) is None
    save_state(folder, 3, state_of(3))
    assert names(folder) == ["step-00000003"]


def test_strangers_are_let_be(folder):
    for stranger in ("step-", "step-00000007 copy", "step-x", "notes"):
        (folder / stranger).mkdir(parents=True)
    (folder / "step-00000099").write_text("a file")
    assert saved_steps(folder) == [] and load_state(folder, quiet) is None
    for step in (1, 2, 3):
        save_state(folder, step, state_of(step))
    assert saved_steps(folder) == [2, 3]
    assert {"step-", "step-00000007 copy", "step-x", "notes", "step-00000099"} <= set(names(folder))


def cut(path) -> None:
    whole = (path / "state.pt").read_bytes()
    (path / "state.pt").write_bytes(whole[: len(whole) // 2])


def flip(path) -> None:
    whole = bytearray((path / "state.pt").read_bytes())
    whole[len(whole) // 2] ^= 1
    (path / "state.pt").write_bytes(bytes(whole))


DAMAGES = {
    "cut short": cut,
    "one bit": flip,
    "empty": lambda path: (path / "state.pt").write_bytes(b""),
    "no state": lambda path: (path / "state.pt").unlink(),
    "no hash": lambda path: (path / "sha256").unlink(),
    "empty hash": lambda path: (path / "sha256").write_text(""),
    "binary hash": lambda path: (path / "sha256").write_bytes(b"\xff\x00\xfe"),
    "nothing": lambda path: [f.unlink() for f in path.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_passed_over(folder, damage):
    save_state(folder, 1, state_of(1))
    save_state(folder, 2, state_of(2))
    damage(folder / "step-00000002")
    said: list[str] = []
    assert same(load_state(folder, said.append), 1)
    assert len(said) == 1 and "step-00000002" in said[0] and "is damaged" in said[0]
    # What is damaged goes when the run goes on, so that it never counts among the last two.
    discard_after(folder, 1)
    assert saved_steps(folder) == [1]
    save_state(folder, 2, state_of(2))
    assert saved_steps(folder) == [1, 2] and same(load_state(folder, quiet), 2)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_all_damaged_is_an_error(folder, damage):
    for step in (1, 2):
        save_state(folder, step, state_of(step))
        damage(folder / f"step-{step:08}")
    said: list[str] = []
    with pytest.raises(UserError, match=rf"^{folder}: every state is damaged \(2 of them\)") as caught:
        load_state(folder, said.append)
    assert len(said) == 2 and "\n" not in str(caught.value)
    assert saved_steps(folder) == [1, 2], "reading removes nothing"


class Evil:
    """What a pickle can do: here, make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("by", ("torch", "pickle"))
def test_a_state_that_would_run_code_is_refused(folder, tmp_path, by):
    path, trap = folder / "step-00000004", tmp_path / "trap"
    path.mkdir(parents=True)
    with (path / "state.pt").open("wb") as file:
        (torch.save if by == "torch" else pickle.dump)({"training": Evil(trap)}, file)
    (path / "sha256").write_text(hashlib.sha256((path / "state.pt").read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"step-00000004/state\.pt: is refused") as caught:
        load_state(folder, quiet)
    assert not trap.exists() and "\n" not in str(caught.value)
    with (path / "state.pt").open("rb") as file:
        torch.load(file, weights_only=False) if by == "torch" else pickle.load(file)  # noqa: S301
    assert trap.exists(), "the trap works where objects are unpickled"


def test_a_state_of_another_kind_is_refused(folder):
    path = folder / "step-00000004"
    path.mkdir(parents=True)
    torch.save([torch.ones(2)], path / "state.pt")
    (path / "sha256").write_text(hashlib.sha256((path / "state.pt").read_bytes()).hexdigest())
    with pytest.raises(UserError, match="holds list, not the state of a training"):
        load_state(folder, quiet)


def full_disk(file, *rest) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_earlier_states(folder, monkeypatch):
    for step in (1, 2):
        save_state(folder, step, state_of(step))
    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(UserError) as caught:
        save_state(folder, 3, state_of(3))
    message = str(caught.value)
    assert message == (
        f"{folder}: the state of step 3 cannot be written (No space left on device); the last good state is of step 2"
    )
    assert names(folder) == ["step-00000001", "step-00000002"]
    monkeypatch.undo()
    save_state(folder, 3, state_of(3))
    assert saved_steps(folder) == [2, 3]


def test_a_full_disk_before_the_first_state(folder, monkeypatch):
    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"of step 3 cannot be written .*; no state was saved yet$"):
        save_state(folder, 3, state_of(3))
    assert names(folder) == []


def test_a_disk_that_is_full_midway(folder):
    """The system's own refusal, in the middle of torch's writing: a limit on the size of files."""
    done = run_python(
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from photogram.checkpoint import save_state\n"
        "save_state(Path(sys.argv[1]), 1, {'a': torch.ones(10)})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: save_state(Path(sys.argv[1]), 2, {'a': torch.ones(1_000_000)})\n"
        "except ValueError as e: print(type(e).__name__, e)\n",
        str(folder),
    )
    reason = "(File too large); the last good state is of step 1"
    assert done.stdout == f"UserError {folder}: the state of step 2 cannot be written {reason}\n", done.stderr
    assert names(folder) == ["step-00000001"]
    assert load_state(folder, quiet) is not None


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(UserError, match=r"state: the state of step 1 cannot be written \(File exists\)"):
        save_state(tmp_path / "state", 1, state_of(1))


def save_for_ever(folder, first: int) -> None:
    torch.set_num_threads(1)
    for step in itertools.count(first):
        save_state(folder, step, {"step": step, "numbers": torch.full((200_000,), float(step))})


def test_killed_at_any_moment_of_the_writing(folder):
    """`kill -9` of a process that does nothing but save: whatever it leaves, each state that is there is whole."""
    rng, newest, halves = random.Random(0), 0, 0
    for _ in range(25):
        saving = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(folder, newest + 1))
        saving.start()
        time.sleep(rng.uniform(0.02, 0.15))
        saving.kill()
        saving.join()
        halves += len(list(folder.glob(".partial-*")))
        steps = saved_steps(folder)
        assert len(steps) <= 3, "one more than is kept, where it died before the oldest went"
        for step in steps:
            path = folder / f"step-{step:08}"
            assert (path / "sha256").read_text() == hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
        found = load_state(folder, quiet)
        assert (0 if found is None else found[0]) == max(steps, default=0)
        if found is not None:
            assert torch.equal(found[1]["numbers"], torch.full((200_000,), float(found[0])))
        assert newest <= max(steps, default=0), "none is lost"
        newest = max(steps, default=0)
    assert newest > 25 and halves > 2, "it was killed while it wrote"


def test_last_good(folder):
    assert last_good(folder, 9) == "no state was saved yet"
    for step in (4, 8):
        save_state(folder, step, state_of(step))
    assert last_good(folder, 9) == "the last good state is of step 8"
    assert last_good(folder, 7) == "the last good state is of step 4", "what was left by another future is not ours"
