"""The main job from end to end on the embedded toy world: prepare, check, train, synthesize; offline, in minutes."""

from __future__ import annotations

import time
from pathlib import Path

from photogram.checkpoint import saved_steps
from photogram.data.check import check
from photogram.data.folder import Folder
from photogram.data.toy import write_toy
from photogram.errors import UserError
from photogram.images import replacing
from photogram.recipes import load
from photogram.recipes.crn import CRN
from photogram.synthesis import collect, synthesize
from photogram.training import Plan, train

SIZE = (64, 96)
WIDTHS = (96, 96, 96, 64, 48)
TRAIN, VAL = 600, 24
FIRST, MOST = 300, 3600
"""Steps after which the speed is known, and steps that are enough where the processor is quick."""
SECONDS = 120.0
"""How long the training may take, about; a slow processor takes fewer steps."""


def quickstart(out: Path, most: int = MOST, quiet: bool = False) -> Path:
    """Train a small CRN on toy scenes and paint scenes that it has not seen.

    Args:
        out: a folder for the data, the run and the paintings.
        most: train for at most so many steps; fewer where they would take longer than `SECONDS`.
        quiet: show no progress.

    Returns:
        The sheet to open: layouts, paintings and the toy world's own pictures, side by side.
    """
    data, run = out / "toy", out / "run"
    write_toy(data, size=SIZE, train=TRAIN, val=VAL, quiet=quiet)
    report = check(data, quiet=quiet)
    if report.stops_training:
        raise UserError(f"{data}: the toy world is damaged; remove the folder and start again")
    _train_for_a_while(data, out, most, quiet)
    layouts = collect([data / "val" / "layouts"])
    synthesize(load(run), layouts, out / "painted", sheet=True, source=run, overwrite=True, quiet=quiet)
    return out / "painted" / "sheet.png"


def _train_for_a_while(data: Path, out: Path, most: int, quiet: bool) -> None:
    """Take a few steps, see how long they took, and go on for as many as there is time for; decided once."""
    run, decided = out / "run", out / "steps.txt"
    recipe = CRN(widths=WIDTHS, perceptual="squeezenet", learning_rate=3e-4)
    scenes, preview = Folder(data, "train", size=SIZE), Folder(data, "val", size=SIZE)
    if not decided.exists():
        before = max(saved_steps(run / "state"), default=0)
        first = min(before + FIRST, most)
        started = time.monotonic()
        train(recipe, scenes, run, Plan(steps=first, save_every=FIRST, quiet=quiet), preview)
        steps = affordable_steps(first, first - before, time.monotonic() - started, most)
        with replacing(decided) as file:
            file.write(str(steps).encode())
    train(recipe, scenes, run, Plan(steps=int(decided.read_text()), save_every=FIRST, quiet=quiet), preview)


def affordable_steps(taken: int, timed: int, seconds: float, most: int) -> int:
    """How many steps to train for in all, where the last `timed` of the `taken` ones took so long."""
    if timed <= 0:
        return taken
    affordable = int(SECONDS * timed / max(seconds, 1e-9)) // FIRST * FIRST
    return max(taken, min(most, affordable))
