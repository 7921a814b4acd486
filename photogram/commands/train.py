"""`photogram train`: the union of recipes as sub-commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from photogram import flags
from photogram.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from photogram.planning import Asked
    from photogram.recipe import LearnsFrom
    from photogram.training import Judge


SIZE = tyro.conf.arg(metavar="HEIGHT WIDTH")
FROM = tyro.conf.arg(name="from", metavar="FOLDER")


@dataclass(frozen=True)
class TrainFlags:
    """What every recipe is trained with."""

    data: Path
    """The data folder."""
    out: Path
    """The run's folder; the same command again goes on there."""
    steps: int
    """Train until so many steps are taken; a later command may ask for more."""
    size: Annotated[tuple[int, int] | None, SIZE] = None
    """Height and width to train at; without it, the size of the first photograph."""
    batch_size: int = 1
    """Photographs a step and process."""
    seed: int = 0
    """Of the first weights, the order and all noise."""
    save_every: int = 1000
    """Steps between two saves of state, network, sheet and report."""
    evaluate_every: int = 0
    """Steps between two looks at held-out scenes; the best network is kept in best/. 0: none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: convolutions in bfloat16, the rest in float32; auto: where the device has it."""
    workers: int = 1
    """Processes that read data ahead."""
    fit: Literal["stretch", "crop", "window"] = "stretch"
    """Photographs of another size: stretch them; cover the size and crop a window; or cut a window of the size out of
    them as they are, so that large photographs are learned from in little memory."""
    flip: bool = False
    """Mirror every second scene."""
    start_from: Annotated[Path | None, FROM] = None
    """A run or published network to start from."""
    asked_by: Literal["any", "layouts", "images"] = "any"
    """Of data with both layouts and inputs: what a recipe that can take either is asked by."""
    check_memory: bool = True
    """Measure a large training before it begins and refuse what cannot fit into the memory here; with --no-check-memory
    it is tried all the same."""


def run(arguments: Sequence[str]) -> int:
    """`photogram train RECIPE ...`."""
    from photogram.recipes import members, word

    recipes = {
        word(recipe): flags.joined(recipe.__name__, recipe.__doc__, training=TrainFlags, recipe=recipe)
        for recipe in members()
    }
    first = flags.pick(recipes, "recipe", "photogram train", arguments)
    asked = flags.filled(recipes[first], f"photogram train {first}", arguments[1:])
    return _run_training(asked.training, asked.recipe)


def _run_training(asked: TrainFlags, recipe: Any) -> int:
    from rich.console import Console

    from photogram.checkpoint import saved_steps
    from photogram.data.toy import is_toy
    from photogram.data.unpaired import open_scenes
    from photogram.metrics.toy_moods import moods_seen
    from photogram.planning import Asked
    from photogram.training import Plan, check_plan, train

    learns_from = parts_for(recipe, asked.asked_by)
    main = int(os.environ.get("RANK", "0")) == 0  # torchrun starts many; one of them speaks
    console = Console(stderr=True, quiet=not main)
    size = asked.size
    check_window_has_size(asked.fit, size)
    if size is None:
        size, name = size_of_first(asked.data, learns_from)
        console.print(f"training at {size[0]} x {size[1]}, the size of {name}; --size takes another")
    plan = Plan(
        steps=asked.steps,
        batch_size=asked.batch_size,
        seed=asked.seed,
        save_every=asked.save_every,
        evaluate_every=asked.evaluate_every,
        precision=asked.precision,
        workers=asked.workers,
        start_from=asked.start_from,
    )
    data = open_scenes(asked.data, "train", learns_from, size=size, fit=asked.fit, flip=asked.flip)
    check_plan(recipe, data, plan)  # before the doctor, who takes longer
    if data.spec.num_classes and data.spec.image_channels:
        console.print("asked by layouts and inputs together; --asked-by images or layouts takes one of them")
    has_val = _quick_check(asked, size, learns_from, console)
    if asked.check_memory and main and not saved_steps(asked.out / "state"):
        asked_for = Asked(recipe, data.spec, len(data), plan.batch_size, plan.precision, plan.start_from)
        _refuse_what_cannot_fit(asked_for, console)
    val = None
    if has_val:
        val = open_scenes(asked.data, "val", learns_from, size=size, fit=asked.fit, photos=False)
    judge, look = _judge(asked, learns_from, size, has_val), moods_seen if is_toy(asked.data) else None
    train(recipe, data, asked.out, plan, val, judge, look)
    console.print(f"trained; open {asked.out / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def parts_for(recipe: Any, asked_by: Literal["any", "layouts", "images"]) -> LearnsFrom:
    """What of the data a recipe learns from, where a person may choose.

    Raises:
        UserError: where there is nothing to choose.
    """
    if asked_by != "any" and recipe.learns_from != "any":
        raise UserError(f"--asked-by {asked_by}: this recipe learns from {recipe.learns_from}; leave it out")
    return asked_by if recipe.learns_from == "any" else recipe.learns_from


def check_window_has_size(fit: str, size: tuple[int, int] | None) -> None:
    """Refuse windows that nobody gave a size: they would be whole photographs, in all the memory that these need.

    Raises:
        UserError: naming the flag that is missing.
    """
    if fit == "window" and size is None:
        raise UserError("--fit window: needs --size, the height and width of the windows")


def _refuse_what_cannot_fit(asked: Asked, console: Console) -> None:
    """Refuse now what would fail in its first step, or be killed."""
    import torch

    from photogram.planning import Unmeasured, is_light, refusal
    from photogram.room import available_memory

    beside = 1 if torch.cuda.is_available() else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    room = available_memory() // beside
    if is_light(asked, room):
        return
    console.print("measuring whether this fits into the memory; --no-check-memory begins at once")
    try:
        message = refusal(asked, room, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
    except Unmeasured as e:
        return console.print(f"it could not be measured ({e}); the training begins all the same", markup=False)
    except UserError:  # the training says it itself
        return
    if message:
        raise UserError(message)


def size_of_first(data: Path, learns_from: LearnsFrom) -> tuple[tuple[int, int], str]:
    """Height and width of a data folder's first photograph for training, and its name."""
    from photogram.data.unpaired import first_file, open_scenes
    from photogram.rasters import raster_form

    first = first_file(open_scenes(data, "train", learns_from))
    return raster_form(first).size, first.name


def _judge(asked: TrainFlags, learns_from: LearnsFrom, size: tuple[int, int], has_val: bool) -> Judge | None:
    """What looks at held-out scenes while training, where that is asked for."""
    if asked.evaluate_every <= 0:
        return None
    if not has_val:
        raise UserError(f"--evaluate-every {asked.evaluate_every}: {asked.data} holds nothing out; it needs val/")
    if learns_from in ("photographs", "unpaired"):
        raise UserError(
            f"--evaluate-every {asked.evaluate_every}: compares paintings with photographs of the same scene, which "
            f"a recipe that learns from {learns_from} has none of; leave it out"
        )
    from photogram.data.unpaired import open_scenes
    from photogram.metrics.lpips import load_lpips
    from photogram.metrics.watch import Watch

    return Watch(open_scenes(asked.data, "val", learns_from, size=size, fit=asked.fit), load_lpips())


def _quick_check(asked: TrainFlags, size: tuple[int, int], learns_from: LearnsFrom, console: Console) -> bool:
    """Stop for what would stop the training, mention the rest, a line a kind; whether there is a val to look at."""
    from photogram.data.check import check, render

    data = asked.data
    report = check(data, quick=True, size=size, fit=asked.fit, learns_from=learns_from, quiet=console.quiet)
    if report.stops_training:
        render(report, console)
        raise UserError(f"{data}: the data would stop the training; mend what is listed above")
    kinds: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.severity == "warning":
            kinds.setdefault(finding.kind, []).append(f"{finding.path}: {finding.message}")
    for kind, lines in kinds.items():
        more = f" ({len(lines)} such; `photogram check {data}` lists them)" if len(lines) > 1 else ""
        console.print(f"warning: {kind}: {lines[0]}{more}", highlight=False, markup=False, soft_wrap=True)
    return "val" in report.splits and report.splits["val"].scenes > 0
