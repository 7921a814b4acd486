"""`kill -9` at any moment, the state's writing included: going on comes to what a run without a stop comes to.

To the last bit: the log, the network, its card and all sheets.

`make faults` kills 50 trainings at random moments and 15 more within the writing of their state; the usual tests kill
three. PHOTOGRAM_FAULTS_SEED repeats the moments, as far as a machine repeats itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_training import ENVIRONMENT, ROOT, lines_of, outcome

from photogram.checkpoint import load_state
from photogram.data.toy import write_toy

SEED = int(os.environ.get("PHOTOGRAM_FAULTS_SEED") or random.SystemRandom().randrange(10**6))


@dataclass
class Victim:
    """A training that is killed again and again, and started again by the same command."""

    data: Path
    out: Path
    steps: int
    rng: random.Random
    hits: Counter[str] = field(default_factory=Counter)
    good: int = 0

    def start(self) -> subprocess.Popen[bytes]:
        line = f"train crn --data {self.data} --out {self.out} --size 16 24 --widths 96 96 96 --steps {self.steps}"
        line += " --perceptual squeezenet --batch-size 2 --save-every 2 --learning-rate 0.01 --calibrate-first 4"
        arguments = [sys.executable, "-m", "photogram", *line.split(), "--precision", "fp32"]
        return subprocess.Popen(
            arguments,
            env=ENVIRONMENT,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self) -> dict[str, str]:
        process = self.start()
        said = process.communicate(timeout=280)[1].decode()
        assert process.returncode == 0, said
        assert lines_of(self.out) == self.steps
        left = [p for p in self.out.rglob(".*") if "partial" in p.name]
        assert not left, "what killed trainings have left half-written is swept"
        return outcome(self.out)

    def kill(self, aim: str) -> bool:
        """Start, kill at a moment of the aimed kind; False where the training came to its end before."""
        process = self.start()
        alive = self.wait_until_it_holds_the_folder(process)
        if alive and aim == "state":
            alive = self.wait_for_the_state(process)
        elif alive and self.rng.random() < 0.2:  # also while it takes up the state
            alive = self.wait(process, self.rng.uniform(0, 1.5))
        elif alive:
            alive = self.wait_for_a_step(process) and self.wait(process, self.rng.uniform(0, 1.0))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1].decode()
        if not alive and process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said
            return False
        self.examine()
        return True

    def wait(self, process: subprocess.Popen[bytes], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(min(0.002, max(0.0, end - time.monotonic())))
        return process.poll() is None

    def wait_until_it_holds_the_folder(self, process: subprocess.Popen[bytes]) -> bool:
        """What was before, the imports, is no risk for what is on disk."""
        lock, started = self.out / ".lock", time.time_ns()
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                if lock.stat().st_mtime_ns >= started - 10_000_000:
                    return True
            time.sleep(0.002)
        return False

    def wait_for_a_step(self, process: subprocess.Popen[bytes]) -> bool:
        """Until the log, which is cut first, has a line after the state."""
        before = lines_of(self.out)
        while process.poll() is None:
            if lines_of(self.out) not in (before, *range(self.good + 1)):
                return True
            time.sleep(0.002)
        return False

    def wait_for_the_state(self, process: subprocess.Popen[bytes]) -> bool:
        """Until the state is being written, the first, second or third time, and a moment more."""
        for _ in range(self.rng.randint(1, 3)):
            while not self.writes_state() and process.poll() is None:
                pass
            seen = time.monotonic()
            while self.writes_state() and time.monotonic() - seen < 0.001 and process.poll() is None:
                pass
        return self.wait(process, self.rng.choice((0, 0, 0, 0.002, 0.005, 0.01)))

    def writes_state(self) -> bool:
        try:
            return any(path.name.startswith(".partial-") for path in (self.out / "state").iterdir())
        except FileNotFoundError:
            return False

    def examine(self) -> None:
        """After each kill there is a whole state, never an earlier one than before, and a log that reaches it."""
        if self.writes_state():
            self.hits["while the state was written"] += 1
        elif list(self.out.rglob(".*.partial")):
            self.hits["while the network, sheet or report was written"] += 1
        else:
            self.hits["between two steps or within one"] += 1
        damaged: list[str] = []
        found = load_state(self.out / "state", damaged.append)
        step = 0 if found is None else found[0]
        assert not damaged, "a state appears whole or not at all"
        assert step >= self.good and lines_of(self.out) >= step
        self.good = step


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "data", size=(16, 24), train=10, val=2, quiet=True)


def torment(data: Path, tmp_path: Path, steps: int, aims: list[str]) -> Counter[str]:
    """Kill as often as there are aims, in as many trainings as that takes, and compare each with an undisturbed one."""
    rng = random.Random(SEED)
    expected = Victim(data, tmp_path / "undisturbed", steps, rng).finish()
    hits: Counter[str] = Counter()
    rounds, left = 0, list(aims)
    while left:
        rounds += 1
        victim = Victim(data, tmp_path / f"killed-{rounds}", steps, rng, hits)
        while left and victim.kill(left[0]):
            left.pop(0)
        assert victim.finish() == expected, f"seed {SEED}, training {rounds}: {dict(hits)}"
    assert sum(hits.values()) == len(aims)
    hits["trainings"] = rounds
    return hits


def tell(hits: Counter[str]) -> None:
    kills = {name: n for name, n in hits.items() if name != "trainings"}
    listed = ", ".join(f"{n} {name}" for name, n in sorted(kills.items()))
    sys.stdout.write(f"\nseed {SEED}: {sum(kills.values())} kills in {hits['trainings']} trainings: {listed}\n")


def test_three_kills(data, tmp_path):
    tell(torment(data, tmp_path, 20, ["any", "state", "any"]))


@pytest.mark.faults
def test_fifty_kills_at_random_moments(data, tmp_path):
    tell(torment(data, tmp_path, 400, ["any"] * 50))


@pytest.mark.faults
def test_kills_while_the_state_is_written(data, tmp_path):
    hits = torment(data, tmp_path, 200, ["state"] * 15)
    tell(hits)
    assert hits["while the state was written"] >= 4
