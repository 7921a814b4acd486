"""The main job from end to end on the embedded toy world: prepare, check, train, synthesize; offline, in minutes."""

from __future__ import annotations

from pathlib import Path

from photogram.data.check import check
from photogram.data.folder import Folder
from photogram.data.toy import write_toy
from photogram.errors import UserError
from photogram.recipes import load
from photogram.recipes.crn import CRN
from photogram.synthesis import collect, synthesize
from photogram.training import Plan, train

SIZE = (64, 96)
WIDTHS = (96, 96, 96, 64, 48)
STEPS = 1200


def quickstart(out: Path, steps: int = STEPS, quiet: bool = False) -> Path:
    """Train a small CRN on toy scenes and paint scenes that it has not seen.

    Args:
        out: a folder for the data, the run and the paintings.
        steps: how long to train.
        quiet: show no progress.

    Returns:
        The sheet to open: layouts, paintings and the toy world's own pictures, side by side.
    """
    data, run = out / "toy", out / "run"
    write_toy(data, size=SIZE, train=600, val=24, quiet=quiet)
    report = check(data, quiet=quiet)
    if report.stops_training:
        raise UserError(f"{data}: the toy world is damaged; remove the folder and start again")
    recipe = CRN(widths=WIDTHS, perceptual="squeezenet", learning_rate=1e-3)
    plan = Plan(steps=steps, batch_size=4, save_every=400, quiet=quiet)
    train(recipe, Folder(data, "train", size=SIZE), run, plan, Folder(data, "val", size=SIZE))
    layouts = data / "val" / "layouts"
    synthesize(load(run), collect([layouts]), out / "painted", sheet=True, source=run, quiet=quiet)
    return out / "painted" / "sheet.png"
