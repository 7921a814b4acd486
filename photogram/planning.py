"""How much memory and time a training takes, before it is begun.

A dry run (`photogram.commands.dryrun`) trains a few steps in a process of its own and is looked at. Where the size
asked for does not fit here, or might not, two smaller sizes are measured, and the rest is a line through them: weights,
gradients and the optimizer's state do not depend on the size, and everything else grows with the pixels of a batch.
What is taken until a training starts, while it steps and while it saves has a line each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from photogram.amounts import GB, amount
from photogram.errors import UserError, flag
from photogram.interrupts import terminating_cleanly
from photogram.scene import SceneSpec, Size
from photogram.sizes import sizes_below, smaller_size

ROOM = 0.9
"""The share of the memory here up to which a size is measured itself, and not drawn from smaller ones."""
LIGHT, A_PIXEL = 4 * GB, 64 * 2**10
"""Bytes, and bytes a pixel of a batch, below which a training is begun without a look (benchmarks/plan.py)."""
DOUBT = 1.1
"""So many times the memory here must be needed, as quick looks tell, before a training is refused."""
TRIES = 3
"""So many smaller sizes are measured to find one that fits."""


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
        later: bytes that would be remembered of all photographs, beside that.
        remember: bytes up to which they are.
    """

    size: Size
    peaks: Mapping[str, int]
    seconds: float
    measured: bool
    batch_size: int = 1
    later: int = 0
    remember: int = 0

    @property
    def peak(self) -> int:
        held = min(self.later, self.remember)
        return max(peak + held * (part != "start") for part, peak in self.peaks.items())

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


class Unmeasured(RuntimeError):
    """A dry run ended in a way that says nothing of memory; the last that it said."""


def dry_run(asked: Asked, until: str = "saving") -> Need | None:
    """Measure a training at its size; None where there is too little memory.

    Args:
        asked: the training.
        until: its last part to be measured: start, steps or saving.

    Raises:
        UserError: where it cannot be started.
        Unmeasured: where it failed otherwise.
    """
    # Where a training takes more memory later than at first, the recipe says how it is then.
    recipe = getattr(asked.recipe, "heaviest", lambda: asked.recipe)()
    question = {
        "recipe": type(asked.recipe).__name__,
        "values": asdict(recipe),
        "spec": asked.spec.to_json(),
        "photographs": max(asked.photographs, asked.batch_size),
        "batch_size": asked.batch_size,
        "precision": asked.precision,
        "from": None if asked.start_from is None else str(asked.start_from),
        "until": until,
    }
    command, environment = [sys.executable, "-m", "photogram.commands.dryrun"], {**os.environ}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):  # alone, whoever asks
        environment.pop(name, None)
    try:
        # The folder is ours, for a killed child removes none.
        with terminating_cleanly(), tempfile.TemporaryDirectory(prefix="photogram-plan-") as folder:
            given = json.dumps(question | {"folder": folder})
            done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment)
    except OSError as e:
        raise Unmeasured(str(e)) from None
    if done.returncode in _KILLED:
        return None
    if done.returncode:
        raise Unmeasured((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    if "mistake" in found:
        raise UserError(found["mistake"])
    if found["peaks"] is None:
        return None
    remember = round(GB * getattr(asked.recipe, "remember", 0))
    seconds = float(found["seconds"])
    return Need(asked.spec.size, found["peaks"], seconds, True, asked.batch_size, found["later"], remember)


_KILLED = (-9, -6)
"""How a process ends where memory is at an end: by the kernel, or by an allocation that nothing catches."""
HALF, QUARTER = (0.5, 0.875), (0.25, 0.5)
"""Shares of each side at which a size is measured that is too large itself: to plan, and for a quick look. The line
through both makes what is wrong with the second 1.5 times as large, and 5 times."""
LARGER = 0.125
"""By so much the share grows where a recipe cannot train at a size so small."""


Measure = Callable[..., Need | None]
"""`dry_run`, of a training until a part, which it knows unless it is told."""


class Remembering:
    """`dry_run` until a part, which measures each training once: what it raised is raised again.

    Args:
        last: the part, where none is asked for.
        tell: is given what is being measured, and what was found: of large trainings each takes minutes. A refusal is
            told where the work goes on after it, once; else it is what is raised.
    """

    def __init__(self, last: str = "saving", tell: Callable[[str], object] = lambda line: None):
        self.last, self.tell = last, tell
        self.known: dict[tuple[Asked, str], Need | UserError | Unmeasured | None] = {}
        self.refused: dict[str, str] = {}

    def __call__(self, asked: Asked, until: str | None = None) -> Need | None:
        key = asked, until or self.last
        if key not in self.known:
            height, width = asked.spec.size
            what = f"{height} x {width}, batch {asked.batch_size}, {asked.precision}"
            what += ", checkpointing" if getattr(asked.recipe, "checkpointing", False) else ""
            self.tell(f"measuring {what}")
            try:
                self.known[key] = found = dry_run(*key)
                needs = "more than there is here" if found is None else amount(found.peak)
                self.say(f"{what}: {needs}" + (f", {found.seconds:.2f} s a step" if found and found.seconds else ""))
            except (UserError, Unmeasured) as e:
                self.known[key] = e
                why = f"{'refused' if isinstance(e, UserError) else 'could not be measured'} ({e})"
                self.refused.setdefault(why, what)
        found = self.known[key]
        if isinstance(found, Exception):
            raise found
        return found

    def say(self, *lines: str) -> None:
        """Tell what was refused since, each reason once, and these lines."""
        for line in (*(f"{what}: {why}" for why, what in self.refused.items() if what), *lines):
            self.tell(line)
        self.refused = dict.fromkeys(self.refused, "")

    def smallest(self, asked: Asked) -> tuple[str, Need] | None:
        """Of all that was measured the training that took least, and what changes `asked` into it."""
        changes = [("", asked), *((change, other) for change, other, _ in ways(asked))]
        those = [
            (f"{change} {flag('size', need.size)}".strip(), need)
            for (one, until), need in self.known.items()
            for change, other in changes
            if isinstance(need, Need) and until == self.last and one == other.at(one.spec.size)
        ]
        return min(those, key=lambda named: (named[1].peak, named[1].pixels), default=None)


def smaller_needs(asked: Asked, shares: Sequence[float], measure: Measure) -> list[Need | None]:
    """What growing sizes need, one for each share, at which the recipe can train; fewer where there are not so many.

    Raises:
        UserError: for a mistake that is not of the size.
    """
    found: list[Need | None] = []
    least = 0
    for share in shares:
        while share < 1:
            size, share = smaller_size(asked.recipe, asked.spec.size, share, least), share + LARGER
            if size is None:
                continue
            try:
                found.append(measure(asked.at(size)))
            except UserError:
                measure(asked, "start")  # where that is refused too, it is not for the size
                continue
            least = size[0] * size[1]
            break
        if found and found[-1] is None:
            break
    return found


def drawn(asked: Asked, first: Need, second: Need) -> Need:
    """What a line through two needs says of a training."""
    share = (asked.pixels - first.pixels) / (second.pixels - first.pixels)
    peaks = {part: round(least + share * (second.peaks[part] - least)) for part, least in first.peaks.items()}
    seconds = first.seconds + share * (second.seconds - first.seconds)
    later = round(first.later + share * (second.later - first.later))
    return Need(asked.spec.size, peaks, seconds, False, asked.batch_size, later, first.remember)


def at_most(asked: Asked, first: Need) -> Need:
    """What a training needs if all that a smaller one took grows with the pixels."""
    share = asked.pixels / first.pixels
    peaks = {part: round(share * peak) for part, peak in first.peaks.items()}
    later = round(share * first.later)
    return Need(asked.spec.size, peaks, share * first.seconds, False, asked.batch_size, later, first.remember)


def need(asked: Asked, room: int, measure: Measure) -> Need | None:
    """What a training needs: measured, where it fits into the memory that there is.

    Args:
        asked: the training.
        room: bytes that there are here.
        measure: at the size of what it is given.

    Returns:
        None where even half its size does not fit.
    """
    found = _line(asked, _half_and_more(asked, room, measure), measure)
    if found is None or found.measured or found.peak >= ROOM * room:
        return found
    return measure(asked) or found


def _half_and_more(asked: Asked, room: int, measure: Measure) -> list[Need | None]:
    """Needs to draw a line through: of half the size, and of the largest that is sure to fit; of half the size alone
    where the size itself is sure to."""
    smaller = smaller_needs(asked, HALF[:1], measure)
    if not smaller or smaller[0] is None or at_most(asked, smaller[0]).peak < ROOM * room:
        return smaller
    first, second = smaller[0], HALF[1]
    while second - LARGER > HALF[0] and first.peak * (second / HALF[0]) ** 2 > ROOM * room:
        second -= LARGER
    return smaller_needs(asked, (HALF[0], second), measure)


def _line(asked: Asked, smaller: Sequence[Need | None], measure: Measure) -> Need | None:
    """What two smaller needs say, where there are two; None where one of them is too large."""
    known = [one for one in smaller if one is not None]
    if len(known) < len(smaller):
        return None
    return drawn(asked, known[0], known[1]) if len(known) == 2 else measure(asked)


def ways(asked: Asked) -> list[tuple[str, Asked, bool]]:
    """What could be changed so that less memory is needed: flags, the training, and whether it learns the same."""
    found: list[tuple[str, Asked, bool]] = []
    recipe = asked.recipe
    if getattr(recipe, "remember", 0):
        recipe = replace(recipe, remember=0.0)
        found.append(("--remember 0", replace(asked, recipe=recipe), True))
    without = "--remember 0 " if found else ""
    thrifty = replace(recipe, checkpointing=True) if getattr(recipe, "checkpointing", None) is False else None
    if thrifty is not None:
        found.append((f"{without}--checkpointing", replace(asked, recipe=thrifty), True))
    least = f"{without}--checkpointing " if thrifty is not None else without
    batch = asked.batch_size // 2
    while batch:
        found.append((without + flag("batch_size", batch), replace(asked, recipe=recipe, batch_size=batch), False))
        batch //= 2
    if asked.batch_size > 1 and thrifty is not None:
        found.append((f"{least}--batch-size 1", replace(asked, recipe=thrifty, batch_size=1), False))
    if asked.precision == "fp32":
        found.append((f"{without}--precision bf16", replace(asked, recipe=recipe, precision="bf16"), False))
        if thrifty is not None:
            both = replace(asked, recipe=thrifty, precision="bf16")
            found.append((f"{least}--precision bf16", both, False))
    modules = len(getattr(recipe, "widths", ()))
    if getattr(recipe, "train_last", None) == 0 and modules > 2 and asked.start_from is not None:
        last = replace(asked, recipe=replace(thrifty or recipe, train_last=2))
        found.append((f"{least}--train-last 2", last, False))
    return found


def largest_size(asked: Asked, smaller: Sequence[Need | None], budget: int) -> Size | None:
    """The largest size of the same aspect that fits by a line through two needs, or that was measured and does."""
    known = [one.size for one in smaller if one is not None and one.peak <= budget]
    if len(smaller) < 2 or smaller[0] is None or smaller[1] is None:
        return known[-1] if known else None
    line = smaller[0], smaller[1]
    fits = (size for size in sizes_below(asked.recipe, asked.spec.size) if drawn(asked.at(size), *line).peak <= budget)
    return next(fits, None)


def plan(asked: Asked, budget: int, room: int, tell: Callable[[str], object] = lambda line: None) -> list[Way]:
    """What a training needs, as asked for and, where that does not fit, in ways that need less.

    Args:
        asked: the training.
        budget: bytes that it may take.
        room: bytes that there are here.
        tell: is given what is being measured, and what was found.

    Returns:
        As asked for first; where that does not fit, then every other way that is known and the largest size that fits.
        Where nothing fits, the smallest that was measured is the last.
    """
    measure = Remembering(tell=tell)
    first = need(asked, room, measure)
    found = [Way("", first, _within(first, budget), True)]
    if found[0].fits:
        return found
    for change, other, exact in ways(asked):
        with suppress(UserError, Unmeasured):  # no way of this recipe, or of this machine
            its = need(other, room, measure)
            found.append(Way(change, its, _within(its, budget), exact))
    smaller = _half_and_more(asked, room, measure)
    if len(smaller) == 1:  # it fits here, and not into the budget
        smaller = smaller_needs(asked, HALF, measure)
    target = budget
    for _ in range(TRIES):
        size = largest_size(asked, smaller, target)
        if size is None:
            break
        its = None
        with suppress(UserError, Unmeasured):
            its = need(asked.at(size), room, measure)
            found.append(Way(flag("size", size), its, _within(its, budget), False))
        if _within(its, budget):
            break
        target = round(target * (0.9 if its is None else min(0.98, budget / its.peak)))  # as far as the line was wrong
    measure.say()
    least = None if any(way.fits for way in found) else measure.smallest(asked)
    if least is not None and least[1] not in [way.need for way in found]:
        found.append(Way(*least, False, False))
    return found


def _within(need: Need | None, budget: int) -> bool:
    return need is not None and need.peak <= budget


def quick_look(asked: Asked, room: int, measure: Measure) -> Need | None:
    """What the steps of a training need, from much smaller sizes; None where even these do not fit.

    Args:
        asked: the training.
        room: bytes that there are here; where less is needed whatever it grows with, one size is enough.
        measure: at the size of what it is given.
    """
    smaller = smaller_needs(asked, QUARTER[:1], measure)
    if smaller and smaller[0] is not None:
        most = at_most(asked, smaller[0])
        if most.peak <= room:
            return most
        smaller = smaller_needs(asked, QUARTER, measure)
    return _line(asked, smaller, measure)


def is_light(asked: Asked, room: int) -> bool:
    """Whether a training of any recipe at its defaults would fit into so many bytes, so that it needs no look."""
    return LIGHT + A_PIXEL * asked.pixels + GB * getattr(asked.recipe, "remember", 0) < room


def refusal(asked: Asked, room: int, tell: Callable[[str], object]) -> str | None:
    """Why a training cannot fit into the memory, and what could; None where it may fit.

    Args:
        asked: the training.
        room: bytes that there are here.
        tell: is given what is known before it is known what could fit, which takes longer.

    Raises:
        UserError: where it cannot be started.
        Unmeasured: where that cannot be found out.
    """
    measure = Remembering("steps")
    first = quick_look(asked, room, measure)
    if _within(first, round(DOUBT * room)):
        return None
    takes = "more" if first is None else f"about {amount(first.peak)}"
    height, width = asked.spec.size
    said = f"--size {height} {width} --batch-size {asked.batch_size}: takes {takes}, and there are {amount(room)}"
    tell(f"{said}; looking for what could fit")
    could = []
    for change, other, _ in ways(asked):
        with suppress(UserError, Unmeasured):
            could += [change] if _within(quick_look(other, room, measure), room) else []
    size = largest_size(asked, smaller_needs(asked, QUARTER, measure), room)
    could += [] if size is None else [flag("size", size)]
    advice = f"what fits: {' or '.join(could)}; " if could else "use a smaller --size; "
    return f"{said}; {advice}`photogram plan` tells more, and --no-check-memory tries all the same"
