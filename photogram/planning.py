"""How much memory and time a training takes, before it is begun.

A dry run (`photogram.commands.dryrun`) trains two steps in a process of its own and is looked at. Where the size asked
for does not fit here, or might not, two smaller sizes are measured, and the rest is a line through them: weights,
gradients and the optimizer's state do not depend on the size, and everything else grows with the pixels of a batch.
What is taken until a training starts, while it steps and while it saves has a line each.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from photogram.errors import UserError, flag
from photogram.scene import SceneSpec, Size

GB = 2**30
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
ROOM = 0.9
"""The share of the memory here up to which a size is measured itself, and not drawn from smaller ones."""
LIGHT, A_PIXEL = 4 * GB, 64 * 2**10
"""Bytes, and bytes a pixel of a batch, below which a training is begun without a look (benchmarks/plan.py)."""
DOUBT = 1.1
"""So many times the memory here must be needed, as quick looks tell, before a training is refused."""


@dataclass(frozen=True)
class Asked:
    """A training to be planned.

    Args:
        recipe: with all its values.
        spec: of the data, at the size to train at.
        photographs: how many there are.
        batch_size: photographs a step.
        precision: fp32, bf16 or auto.
        start_from: a network to start from.
    """

    recipe: Any
    spec: SceneSpec
    photographs: int
    batch_size: int = 1
    precision: str = "auto"
    start_from: Path | None = None

    @property
    def pixels(self) -> int:
        """Of a batch."""
        return self.batch_size * self.spec.size[0] * self.spec.size[1]

    def at(self, size: Size) -> Asked:
        return replace(self, spec=self.spec.resized(size))


@dataclass(frozen=True)
class Need:
    """What a training needs.

    Args:
        size: height and width.
        peaks: bytes of the GPU where there is one, else of the process, by what is done: start, steps, saving.
        seconds: of a step.
        measured: at this size; else a line through two smaller ones.
        batch_size: photographs a step.
    """

    size: Size
    peaks: Mapping[str, int]
    seconds: float
    measured: bool
    batch_size: int = 1

    @property
    def peak(self) -> int:
        return max(self.peaks.values())

    @property
    def pixels(self) -> int:
        """Of a batch."""
        return self.batch_size * self.size[0] * self.size[1]


@dataclass(frozen=True)
class Way:
    """One way to train, and what it needs.

    Args:
        change: the flags that are added; "" as it was asked for.
        need: None where even smaller sizes do not fit here.
        fits: within the memory that was given.
        exact: whether it learns the same as what was asked for.
    """

    change: str
    need: Need | None
    fits: bool
    exact: bool


def parse_memory(text: str) -> int:
    """Bytes of `12GB`, `800 MB` or `12` (GB); a GB is 2^30 bytes.

    Raises:
        UserError: where it is no amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise UserError(f"--memory {text}: must be an amount such as 12GB or 800MB")
    unit = found[2].upper() if re.search(r"[KMGTB]", text, re.IGNORECASE) else "G"
    return int(float(found[1]) * UNITS[unit])


def available_memory() -> int:
    """Bytes that a training could take here: of the first GPU, or of the machine, as far as we may use it."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    free = int(psutil.virtual_memory().available)
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    try:  # what a container may take
        allowed = limit.read_text().strip()
        return free if allowed == "max" else min(free, max(0, int(allowed) - int(used.read_text())))
    except (OSError, ValueError):
        return free


def dry_run(asked: Asked, whole: bool = True) -> Need | None:
    """Measure a training at its size; None where there is too little memory.

    Args:
        asked: the training.
        whole: not its steps alone, but how it paints and saves too.

    Raises:
        UserError: where it cannot be started.
    """
    question = {
        "recipe": type(asked.recipe).__name__,
        "values": asdict(asked.recipe),
        "spec": asked.spec.to_json(),
        "photographs": max(asked.photographs, asked.batch_size),
        "batch_size": asked.batch_size,
        "precision": asked.precision,
        "from": None if asked.start_from is None else str(asked.start_from),
        "whole": whole,
    }
    command, environment = [sys.executable, "-m", "photogram.commands.dryrun"], {**os.environ}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):  # alone, whoever asks
        environment.pop(name, None)
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, env=environment)
    if done.returncode < 0:  # killed, as the kernel does where memory is at an end
        return None
    if done.returncode:
        raise RuntimeError(f"the dry run failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if "mistake" in found:
        raise UserError(found["mistake"])
    if found["peaks"] is None:
        return None
    return Need(asked.spec.size, found["peaks"], float(found["seconds"]), True, asked.batch_size)


HALF, QUARTER = (0.5, 0.75), (0.25, 0.375)
"""Shares of each side at which a size is measured that is too large itself: to plan, and for a quick look."""


def smaller_sizes(size: Size, multiple: int, shares: tuple[float, float] = HALF) -> tuple[Size, Size] | None:
    """Two sizes of about these shares of each side; None where a size is too small to be made smaller."""
    found: list[Size] = []
    least, most = 0, size[0] * size[1]
    for share in shares:
        sides = [{max(1, math.floor(n * share / multiple)), math.ceil(n * share / multiple)} for n in size]
        possible = [(height * multiple, width * multiple) for height, width in itertools.product(*sides)]
        possible = [(height, width) for height, width in possible if least < height * width < most]
        if not possible:
            return None
        found.append(
            min(possible, key=lambda one: (sum(abs(n / m - share) for n, m in zip(one, size, strict=True)), one))
        )
        least = found[-1][0] * found[-1][1]
    return found[0], found[1]


def drawn(asked: Asked, first: Need, second: Need) -> Need:
    """What a line through two needs says of a training."""
    share = (asked.pixels - first.pixels) / (second.pixels - first.pixels)
    peaks = {part: round(least + share * (second.peaks[part] - least)) for part, least in first.peaks.items()}
    seconds = first.seconds + share * (second.seconds - first.seconds)
    return Need(asked.spec.size, peaks, seconds, False, asked.batch_size)


def at_most(asked: Asked, first: Need) -> Need:
    """What a training needs if all that a smaller one took grows with the pixels."""
    share = asked.pixels / first.pixels
    peaks = {part: round(share * peak) for part, peak in first.peaks.items()}
    return Need(asked.spec.size, peaks, share * first.seconds, False, asked.batch_size)


Measure = Callable[[Asked], Need | None]
"""`dry_run`, which remembers what it has measured."""


def need(asked: Asked, room: int, measure: Measure) -> Need | None:
    """What a training needs: measured, where it fits into the memory that there is.

    Args:
        asked: the training.
        room: bytes that there are here.
        measure: at the size of what it is given.

    Returns:
        None where even half its size does not fit.
    """
    smaller = smaller_sizes(asked.spec.size, asked.recipe.size_multiple())
    if smaller is None:
        return measure(asked)
    first = measure(asked.at(smaller[0]))
    if first is None:
        return None
    if at_most(asked, first).peak < ROOM * room:
        return measure(asked)
    second = measure(asked.at(smaller[1]))
    if second is None:
        return None
    guess = drawn(asked, first, second)
    return (measure(asked) or guess) if guess.peak < ROOM * room else guess


def ways(asked: Asked) -> list[tuple[str, Asked, bool]]:
    """What could be changed so that less memory is needed: flags, the training, and whether it learns the same."""
    found: list[tuple[str, Asked, bool]] = []
    recipe = asked.recipe
    thrifty = replace(recipe, checkpointing=True) if getattr(recipe, "checkpointing", None) is False else None
    if thrifty is not None:
        found.append(("--checkpointing", replace(asked, recipe=thrifty), True))
    batch = asked.batch_size // 2
    while batch:
        found.append((flag("batch_size", batch), replace(asked, batch_size=batch), False))
        batch //= 2
    if asked.precision == "fp32":
        found.append(("--precision bf16", replace(asked, precision="bf16"), False))
        if thrifty is not None:
            both = replace(asked, recipe=thrifty, precision="bf16")
            found.append(("--checkpointing --precision bf16", both, False))
    if getattr(recipe, "train_last", None) == 0 and asked.start_from is not None:
        last = replace(asked, recipe=replace(thrifty or recipe, train_last=2))
        found.append(("--checkpointing --train-last 2" if thrifty else "--train-last 2", last, False))
    return found


def largest_size(asked: Asked, first: Need, second: Need, budget: int) -> Size | None:
    """The largest size of the same aspect that fits, from two needs."""
    multiple, (height, width) = asked.recipe.size_multiple(), asked.spec.size
    for rows in range(height // multiple - 1, 0, -1):
        columns = max(1, round(rows * multiple * width / height / multiple))
        size = (rows * multiple, columns * multiple)
        if drawn(asked.at(size), first, second).peak <= budget:
            return size
    return None


def plan(asked: Asked, budget: int, room: int) -> list[Way]:
    """What a training needs, as asked for and, where that does not fit, in ways that need less.

    Args:
        asked: the training.
        budget: bytes that it may take.
        room: bytes that there are here.

    Returns:
        As asked for first; where that does not fit, then every other way that is known and the largest size that fits.
    """
    measure = cache(dry_run)
    first = need(asked, room, measure)
    found = [Way("", first, _within(first, budget), True)]
    if found[0].fits:
        return found
    for change, other, exact in ways(asked):
        its = need(other, room, measure)
        found.append(Way(change, its, _within(its, budget), exact))
    size = _size_that_fits(asked, budget, measure)
    if size is not None:
        its = need(asked.at(size), room, measure)
        found.append(Way(flag("size", size), its, _within(its, budget), False))
    return found


def _within(need: Need | None, budget: int) -> bool:
    return need is not None and need.peak <= budget


def _size_that_fits(asked: Asked, budget: int, measure: Measure) -> Size | None:
    smaller = smaller_sizes(asked.spec.size, asked.recipe.size_multiple())
    if smaller is None:
        return None
    first, second = (measure(asked.at(size)) for size in smaller)
    return None if first is None or second is None else largest_size(asked, first, second, budget)


def quick_look(asked: Asked, room: int, measure: Measure) -> Need | None:
    """What the steps of a training need, from much smaller sizes; None where even these do not fit.

    Args:
        asked: the training.
        room: bytes that there are here; where less is needed whatever it grows with, one size is enough.
        measure: at the size of what it is given.
    """
    multiple = asked.recipe.size_multiple()
    smaller = smaller_sizes(asked.spec.size, multiple, QUARTER) or smaller_sizes(asked.spec.size, multiple)
    if smaller is None:
        return measure(asked)
    first = measure(asked.at(smaller[0]))
    if first is None:
        return None
    most = at_most(asked, first)
    if most.peak <= room:
        return most
    second = measure(asked.at(smaller[1]))
    return None if second is None else drawn(asked, first, second)


def is_light(asked: Asked, room: int) -> bool:
    """Whether a training needs no look, as small as it is beside so many bytes."""
    return LIGHT + A_PIXEL * asked.pixels < room


def refusal(asked: Asked, room: int) -> str | None:
    """Why a training cannot fit into the memory, and what could; None where it may fit.

    Args:
        asked: the training.
        room: bytes that there are here.

    Raises:
        UserError: where it cannot be started.
    """
    measure = cache(lambda one: dry_run(one, whole=False))

    first = quick_look(asked, room, measure)
    if _within(first, round(DOUBT * room)):
        return None
    takes = "more" if first is None else f"about {amount(first.peak)}"
    height, width = asked.spec.size
    said = f"--size {height} {width} --batch-size {asked.batch_size}: takes {takes}, and there are {amount(room)}"
    could = [change for change, other, _ in ways(asked) if _within(quick_look(other, room, measure), room)]
    advice = f"what fits: {' or '.join(could)}; " if could else "use a smaller --size; "
    return f"{said}; {advice}`photogram plan` tells more, and --no-check-memory tries all the same"


def lines(found: Sequence[Way], steps: int | None) -> list[tuple[str, ...]]:
    """A table's rows: the change, the peak, a step, the whole training, whether it fits."""
    rows = []
    for way in found:
        name = way.change or "as asked for"
        if way.need is None:
            rows.append((name, "more than there is here", "-", "-", "no"))
            continue
        about = "" if way.need.measured else "about "
        whole = "-" if steps is None else duration(steps * way.need.seconds)
        row = (f"{about}{way.need.peak / GB:.2f} GB", f"{about}{way.need.seconds:.2f} s", whole)
        rows.append((name, *row, "yes" if way.fits else "no"))
    return rows


def amount(count: int) -> str:
    """Bytes as a person says them."""
    for unit, size in (("GB", GB), ("MB", 2**20)):
        if count >= size:
            return f"{count / size:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{count / 2**10:.0f} kB"


def duration(seconds: float) -> str:
    """As a person says it."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
