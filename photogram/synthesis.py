"""Files, folders and streams of layouts or images to paintings, in bulk and resumably.

An output folder has one painting for each layout or image, with the channels and bits of the photographs that the
network learned from (where all candidates of a network are asked for, a numbered sheet of
them, and beside it a folder of its name with each), `synthesis.json` (what was asked for; the same command goes on,
another is refused), `sheet.png` and `animation.webp` where they were asked for. What stands there under its own name is
finished: paintings are written beside their place and renamed.

A painting is a function of the network, the layout, the size, the precision, the seed and the painting's name in its
folder, on one machine: layouts are painted one by one, so neither order nor what was skipped makes a difference. All
noise of a painting comes from `item_seed(seed, name)`, so that paintings are independent of each other, those of equal
stems in two folders too. (A single-image CRN has no noise.)
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import safetensors.torch
import torch

from photogram.animation import check_rate, write_animation
from photogram.collecting import Item, is_there
from photogram.collecting import collect as collect
from photogram.compiling import compiled
from photogram.conditions import open_condition
from photogram.errors import UserError, is_out_of_memory
from photogram.generator import Generator, UnaskedGenerator
from photogram.images import PIXEL_LIMIT
from photogram.interrupts import Interrupted as Interrupted
from photogram.interrupts import Stop, stopping_softly
from photogram.nn.kept_weights import KeptWeights
from photogram.nn.winograd import where_it_helps
from photogram.outputs import writing
from photogram.overview import draw_overview
from photogram.paintings import (
    ANIMATION,
    Format,
    Place,
    Places,
    begun,
    bits_for,
    format_for,
    told_once,
    write_paintings,
)
from photogram.precision import Precision, check_precision
from photogram.progress import Advance, progress
from photogram.scene import Condition, Size, to_levels

Choose = Callable[[torch.Tensor, Path], int]
"""The number of the candidate to keep, of [k, c, h, w] in [-1, 1] that were painted of a layout's file."""

_AHEAD = 2  # layouts that are read ahead, and paintings that wait to be written
_POLL = 0.1  # seconds between two looks at whether the person wants to stop


@dataclass(frozen=True)
class Summary:
    """What came of a synthesis.

    Args:
        painted: how many paintings were made.
        skipped: how many were finished before.
        failures: one line for each layout that could not be painted, naming the file.
        precision: `fp32` or `bf16`, as `auto` was decided.
        seconds: wall time.
        sheet: the sheet, where one was asked for and there was something to show.
    """

    painted: int
    skipped: int
    failures: tuple[str, ...]
    precision: str
    seconds: float
    sheet: Path | None = None

    @property
    def failed(self) -> int:
        return len(self.failures)

    def __str__(self) -> str:
        """For people: a line, then the failures, a line each."""
        counts = f"painted {self.painted} in {self.seconds:.1f} s ({self.precision})"
        counts += f", {self.skipped} finished before" if self.skipped else ""
        counts += f", {self.failed} failed:" if self.failures else ""
        return "\n".join([counts, *(f"  {line}" for line in told_once(self.failures))])


def item_seed(seed: int, name: str) -> int:
    """The seed of one painting, 0 to 2^63 - 1.

    `generator.sample(layout, item_seed(seed, "0007"))` paints what `synthesize` does.

    Args:
        seed: of the synthesis.
        name: the painting's in its folder, without a suffix, such as `val/0007`; see `photogram.collecting.Item`.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/".encode() + os.fsencode(name)).digest()[:8], "big") >> 1


def synthesize(
    generator: Generator,
    inputs: Iterable[Item],
    out: str | Path,
    *,
    source: str | Path | None = None,
    seed: int = 0,
    size: Size | Literal["native"] | None = None,
    format: Format | None = None,
    sheet: bool = False,
    options: object | None = None,
    overwrite: bool = False,
    precision: Precision = "auto",
    choose: Choose | None = None,
    animate: float = 0,
    compile: bool = False,
    quiet: bool = False,
) -> Summary:
    """Paint layouts or images into a folder, or go on painting them: finished paintings are skipped.

    What a network is asked with is read by `photogram.conditions.open_condition`. What cannot be read or painted does
    not lose the others; `Summary.failures` names it.

    Args:
        generator: what paints; it is moved to the GPU where there is one.
        inputs: from `collect`; from an iterator, painting begins before its end.
        out: the folder of the paintings: new, empty, or of an earlier synthesis.
        source: where the generator was loaded from, to be noted in `synthesis.json`.
        seed: 0 or more; see `item_seed`.
        size: height and width of the paintings, to which layouts are resized by the nearest rule, images bicubic;
            `native` keeps each file's own; None is the size that the network was trained at.
        format: of the paintings' files; None is png where that keeps the channels and bits of the photographs that the
            network learned from, else tif. jpg and webp keep 8 bits.
        sheet: also draw `sheet.png` of some finished paintings beside their layouts, and beside their photographs
            where the layout's folder has a sibling `photos` with one of the same stem.
        options: an instance of `generator.Options`.
        overwrite: paint anew what is finished. The old paintings of these layouts are removed before the first is
            painted; inputs are read to their end before that.
        precision: `bf16` paints convolutions in bfloat16; `auto` does so where the device has it and the paintings'
            files keep 8 bits, since bfloat16 has no more, and goes on as the folder was begun.
        choose: where the options ask for all candidates, keeps one of them.
        animate: also write `animation.webp`, the finished paintings by name at so many a second; 0: none.
        compile: let torch compile the network first, for thousands of paintings of one size by a small network.
        quiet: show no progress.

    Raises:
        UserError: where a value is out of bounds, two layouts would become one painting, `out` was begun otherwise, or
            it cannot be written (any more).
        Interrupted: after Ctrl-C or SIGTERM, when the painting under way is written.
    """
    began, out = time.monotonic(), Path(out)
    options = generator.checked_options(options)
    size = generator.spec.size if size is None else size
    format = format_for(generator.spec, format)
    _check(generator, seed, size, precision, compile, animate)
    if overwrite:
        inputs = list(inputs)
    places = Places(out, format, numbered=options.several and choose is None)
    known = list(places.assign(inputs, strict=True)) if isinstance(inputs, Sized) else None
    items = places.assign(inputs, strict=False) if known is None else iter(known)
    settings = _settings(generator, seed, size, format, precision, options, compile)
    bits = bits_for(generator.spec, format)
    compiled_for = size if compile and not isinstance(size, str) else None
    with (
        begun(out, settings, set(places.names), bits, source, overwrite) as decided,
        ready_to_paint(generator, decided, compiled_for),
    ):
        studio = _Studio(generator, out, seed, size, options, choose, quiet, bits)
        studio.work(items, None if known is None else len(known), places.finished())
        drawn, undrawn = draw_overview(studio.done, generator.spec, out, places.numbered) if sheet else (None, [])
        if animate and studio.done:
            with writing(out):
                write_animation(sorted(place.target for place in studio.done), out / ANIMATION, animate)
    seconds, failures = time.monotonic() - began, (*studio.failures, *undrawn)
    return Summary(studio.painted, studio.skipped, failures, decided, seconds, drawn)


def _settings(
    generator: Generator,
    seed: int,
    size: Size | Literal["native"],
    format: Format,
    precision: Precision,
    options: object,
    compile: bool,
) -> dict[str, object]:
    """What decides every byte of a painting besides its layout; kept in `synthesis.json`, and compared."""
    return {
        "network": fingerprint(generator),
        "seed": seed,
        "size": size if size == "native" else list(size),
        "format": format,
        "precision": precision,
        "options": json.loads(json.dumps(asdict(options))),  # pyright: ignore[reportArgumentType]
        "compile": compile,
    }


def _check(generator: Generator, seed: int, size: Size | str, precision: str, compile: bool, animate: float) -> None:
    """Refuse at the door what could only fail later."""
    spec, name = generator.spec, type(generator).__name__
    if isinstance(generator, UnaskedGenerator):
        raise UserError(f"{name}: paints from seeds, not from layouts; `photogram sample RUN --out DIR` does that")
    if not spec.num_classes and not spec.image_channels:
        raise UserError(f"{name}: paints from nothing; synthesize gives layouts and images")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")
    check_precision(precision)
    if isinstance(size, str):
        if size != "native":
            raise UserError(f"--size {size}: must be height and width, or native")
        if compile:
            raise UserError("--compile: compiles for one size, which --size native is not; leave one of them out")
    elif compile and spec.image_channels:
        raise UserError(f"--compile: {name} paints from images, of which nothing is compiled; leave it out")
    elif min(size) < 1 or size[0] * size[1] > PIXEL_LIMIT:
        raise UserError(
            f"--size {size[0]} {size[1]}: both must be at least 1, and at most {PIXEL_LIMIT:,} pixels together"
        )
    if animate != 0:
        check_rate(animate)


def _require_objects(generator: Generator, condition: Condition, source: Path) -> None:
    """Say of a file what `sample` would say of a layout in a program."""
    if generator.needs_objects and condition.layout is not None and condition.layout.instances is None:
        raise UserError(
            f"{source}: has no instance map, and {type(generator).__name__} was trained with them; put instance maps "
            "into a folder `instances` beside that of the layouts, under the same names"
        )


def fingerprint(generator: Generator) -> str:
    """The SHA-256 of the network's `model.safetensors`, from its weights: the file may be of a later step by now."""
    weights = {name: tensor.detach().contiguous() for name, tensor in generator.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(weights)).hexdigest()


@contextmanager
def ready_to_paint(generator: Generator, precision: str, compiled_for: Size | None = None) -> Iterator[None]:
    """For many paintings: the device, the memory layout, the precision, weights kept as a CPU computes with them, and
    kernels that give the same bits every time.

    Args:
        generator: what paints; it must not change meanwhile.
        precision: fp32 or bf16.
        compiled_for: the size for which torch compiles it; None: it does not.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ExitStack() as stack,
    ):
        if compiled_for is not None:
            stack.enter_context(compiled(generator, compiled_for))
        else:
            stack.enter_context(KeptWeights(generator))
            stack.enter_context(where_it_helps(device, precision))
        yield


_Entry = tuple[Place, Condition | None] | UserError
"""What is asked for, read (None: its painting is finished), or why there is none."""


class _Raised(NamedTuple):
    """What the reading thread raised, on its way to the painting one."""

    error: BaseException


class _Studio:
    """One call of `synthesize`: a thread reads ahead, this one paints, another writes."""

    def __init__(
        self,
        generator: Generator,
        out: Path,
        seed: int,
        size: Size | Literal["native"],
        options: object,
        choose: Choose | None,
        quiet: bool,
        bits: int,
    ):
        self.generator, self.out, self.seed, self.size, self.bits = generator, out, seed, size, bits
        self.options, self.choose, self.quiet = options, choose, quiet
        self.painted, self.skipped, self.stop = 0, 0, Stop()
        self.failures: list[str] = []
        self.done: list[Place] = []
        self.waiting: deque[tuple[Place, Future[None]]] = deque()
        self.began = time.monotonic()

    def work(self, places: Iterator[Place | UserError], total: int | None, finished: int) -> None:
        """Paint everything that is not finished."""
        announcement = None if self.quiet else "stopping after this painting; once more to stop at once"
        with (
            stopping_softly(announcement) as self.stop,
            ThreadPoolExecutor(1, "photogram-writing") as writer,
            progress("painting", total, finished, self.quiet) as advance,
        ):
            self.began = time.monotonic()
            for entry in self.ahead(self.read(places)):
                if entry is not None:
                    self.take(entry, writer, advance, total is None)
                self.settle(_AHEAD, advance)
            self.settle(0, advance)
        if self.stop.asked:
            raise Interrupted(f"stopped after {self.painted} paintings; the same command goes on from there")

    def take(self, entry: _Entry, writer: ThreadPoolExecutor, advance: Advance, streamed: bool) -> None:
        """Paint one layout and hand it to the writer, or note why not."""
        if isinstance(entry, UserError):
            return self.fail(entry, advance)
        place, condition = entry
        if condition is None:
            self.skipped += 1
            self.done.append(place)
            return advance("finished before") if streamed else None  # else the bar begins behind them
        try:
            paintings = self.paint(place, condition)
        except UserError as e:
            return self.fail(e, advance)
        self.waiting.append((place, writer.submit(write_paintings, paintings, place.target)))

    def read(self, places: Iterator[Place | UserError]) -> Iterator[_Entry]:
        """Read what is asked for, at the size at which it is painted."""
        for place in places:
            if isinstance(place, UserError):
                yield place
            elif is_there(place.target):
                yield place, None
            else:
                try:
                    size = None if isinstance(self.size, str) else self.size
                    condition = open_condition(place.source, self.generator.spec, size)
                    _require_objects(self.generator, condition, place.source)
                    yield place, condition
                except UserError as e:
                    yield e

    def ahead(self, entries: Iterator[_Entry]) -> Iterator[_Entry | None]:
        """Run an iterator in a thread, a little ahead, until it ends or the person wants to stop.

        None comes where there is nothing to do for a while. The thread is left behind where it waits for stdin.
        """
        ready: queue.Queue[_Entry | _Raised | None] = queue.Queue(_AHEAD)
        over = threading.Event()

        def hand(entry: _Entry | _Raised | None) -> None:
            while not over.is_set():
                try:
                    return ready.put(entry, timeout=_POLL)
                except queue.Full:
                    continue

        def run() -> None:
            try:
                for entry in entries:
                    hand(entry)
                    if over.is_set():
                        return
                hand(None)
            except BaseException as e:  # raised again in the thread that waits
                hand(_Raised(e))

        thread = threading.Thread(target=run, name="photogram-reading", daemon=True)
        thread.start()
        try:
            while not self.stop.asked:
                try:
                    entry = ready.get(timeout=_POLL)
                except queue.Empty:
                    yield None
                    continue
                if entry is None:
                    return
                if isinstance(entry, _Raised):
                    raise entry.error
                yield entry
        finally:
            over.set()
            thread.join(timeout=1)

    def paint(self, place: Place, condition: Condition) -> list[np.ndarray]:
        """One painting [h, w, c], or all candidates."""
        source = place.source
        try:
            photo = self.generator.sample(condition, item_seed(self.seed, place.name), self.options)[0]
            finite = bool(torch.isfinite(photo).all())
        except UserError as e:
            raise UserError(f"{source}: {e}") from None
        except (MemoryError, RuntimeError) as e:
            if not is_out_of_memory(e):
                raise
            height, width = condition.size or (0, 0)
            raise UserError(f"{source}: too little memory to paint {height} x {width}; give a smaller --size") from None
        if not finite:
            raise UserError(f"{source}: the painting holds values that are not finite; try --precision fp32")
        if self.choose is not None:
            photo = photo[self.choose(photo, source)]
        several = photo if photo.ndim == 4 else photo[None]
        return [to_levels(one, self.bits) for one in several]

    def settle(self, most: int, advance: Advance) -> None:
        """Count the paintings that are written, waiting until at most so many are not."""
        while self.waiting and (len(self.waiting) > most or self.waiting[0][1].done()):
            place, future = self.waiting.popleft()
            error = future.exception()
            if error is None:
                self.painted += 1
                self.done.append(place)
                advance(f"{self.painted / (time.monotonic() - self.began):.2f} images/s  {place.source.name}")
            elif not isinstance(error, OSError | ValueError):
                raise error
            elif isinstance(error, OSError) and error.errno not in (None, errno.ENAMETOOLONG):
                with writing(self.out, f"{self.painted} paintings are written, the same command goes on from there"):
                    raise error
            else:  # this one's own fault: a name or an image too long for the format
                self.fail(UserError(f"{place.source}: cannot be stored as {place.target.name} ({error})"), advance)

    def fail(self, error: UserError, advance: Advance) -> None:
        self.failures.append(str(error))
        advance(f"{len(self.failures)} failed")
