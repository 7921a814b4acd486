"""`photogram plan`: how much memory and time a training takes, and what makes it fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from photogram import flags
from photogram.commands.train import FROM, SIZE, check_window_has_size, parts_for, size_of_first
from photogram.errors import UserError, unfit

if TYPE_CHECKING:
    from photogram.planning import Way


@dataclass(frozen=True)
class PlanFlags:
    """What a training is planned with."""

    data: Path
    """The data folder; only its classes, its number of photographs and the size of the first are looked at."""
    size: Annotated[tuple[int, int] | None, SIZE] = None
    """Height and width to train at; without it, the size of the first photograph."""
    batch_size: int = 1
    """Photographs a step and process."""
    steps: int | None = None
    """How long the training shall be, to be told how much time it takes."""
    memory: str | None = None
    """What it may take, as in 12GB; without it, what is free here."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: convolutions in bfloat16, the rest in float32; auto: where the device has it."""
    fit: Literal["stretch", "crop", "window"] = "stretch"
    """As in train. It changes nothing of what is needed; a window must fit into the first photograph."""
    start_from: Annotated[Path | None, FROM] = None
    """A run or published network to start from."""
    asked_by: Literal["any", "layouts", "images"] = "any"
    """Of data with both layouts and inputs: what a recipe that can take either is asked by."""
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print what was found as JSON, for programs."""


def run(arguments: Sequence[str]) -> int:
    """`photogram plan RECIPE ...`."""
    from photogram.recipes import members, word

    recipes = {
        word(recipe): flags.joined(f"Plan{recipe.__name__}", recipe.__doc__, planning=PlanFlags, recipe=recipe)
        for recipe in members()
    }
    first = flags.pick(recipes, "recipe", "photogram plan", arguments)
    asked = flags.filled(recipes[first], f"photogram plan {first}", arguments[1:])
    return _plan(asked.planning, asked.recipe)


def _plan(asked: PlanFlags, recipe: Any) -> int:
    from rich.console import Console

    from photogram import planning
    from photogram.amounts import parse_memory
    from photogram.data.folder import check_window
    from photogram.data.unpaired import first_file, open_scenes
    from photogram.recipes import word
    from photogram.room import available_memory
    from photogram.training import Plan, check_plan

    if asked.steps is not None and asked.steps < 1:
        raise unfit("steps", asked.steps, "must be at least 1")
    room = available_memory()
    budget = room if asked.memory is None else parse_memory(asked.memory)
    learns_from = parts_for(recipe, asked.asked_by)
    check_window_has_size(asked.fit, asked.size)
    size = asked.size or size_of_first(asked.data, learns_from)[0]
    data = open_scenes(asked.data, "train", learns_from, size=size, fit=asked.fit)
    if asked.fit == "window":
        check_window(size_of_first(asked.data, learns_from)[0], size, first_file(data))
    check_plan(recipe, data, Plan(steps=1, batch_size=asked.batch_size, precision=asked.precision))
    training = planning.Asked(recipe, data.spec, len(data), asked.batch_size, asked.precision, asked.start_from)
    console = Console(stderr=True)
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    tell("measuring some steps of the training, and of others where it does not fit; large ones take minutes each")
    try:
        found = planning.plan(training, budget, room, tell)
    except planning.Unmeasured as e:
        raise UserError(f"photogram plan {word(type(recipe))}: could not be measured; the training said: {e}") from None
    if asked.json_:
        print(json.dumps([_for_programs(way) for way in found], indent=2))
    else:
        _show(found, asked, budget)
    return 0 if any(way.fits for way in found) else 1


def _for_programs(way: Any) -> dict[str, Any]:
    told = asdict(way)
    if way.need is not None:
        told["need"]["peak"] = way.need.peak
    return told


def _show(found: Sequence[Way], asked: PlanFlags, budget: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from photogram.amounts import amount

    table = Table(title=f"within {amount(budget, 2)}")
    whole = "the training" if asked.steps is None else f"{asked.steps:,} steps"
    for title in ("", "peak memory", "a step", whole, "fits"):
        table.add_column(title)
    for row in lines(found, asked.steps):
        table.add_row(*row)
    console = Console()
    console.print(table)
    if any(way.need is not None and not way.need.measured for way in found):
        console.print("about: a line through two smaller sizes, since this one does not fit here")
    if not any(way.fits for way in found):
        advice = "smaller networks and a smaller --size need less"
        console.print(f"nothing of this makes it fit{_nearest(found)}; {advice}", highlight=False, soft_wrap=True)
    same = [way.change for way in found[1:] if way.exact and way.fits]
    if same:
        console.print(f"{', '.join(same)}: learns the same, in more time", highlight=False)


def lines(found: Sequence[Way], steps: int | None) -> list[tuple[str, ...]]:
    """A table's rows: the change, the peak, a step, the whole training, whether it fits."""
    from photogram.amounts import amount, duration

    rows = []
    for way in found:
        name = way.change or "as asked for"
        if way.need is None:
            rows.append((name, "more than there is here", "-", "-", "no"))
            continue
        about = "" if way.need.measured else "about "
        whole = "-" if steps is None else duration(steps * way.need.seconds)
        row = (f"{about}{amount(way.need.peak, 2)}", f"{about}{way.need.seconds:.2f} s", whole)
        rows.append((name, *row, "yes" if way.fits else "no"))
    return rows


def _nearest(found: Sequence[Way]) -> str:
    """How far off it is: the smallest that was measured."""
    from photogram.amounts import amount

    measured = [(way.need.peak, way) for way in found if way.need is not None and way.need.measured]
    if not measured:
        return ""
    peak, least = min(measured, key=lambda one: one[0])
    return f": the smallest that was measured, {least.change or 'as asked for'}, takes {amount(peak, 2)}"
