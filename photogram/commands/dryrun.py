"""The first steps of a training on imagined scenes, in a process of its own: how much memory it takes, and how long.

`python -m photogram.commands.dryrun` reads what to train from standard input and writes what it found to standard
output, both as JSON; `photogram.planning` calls it. It is the training itself, with its sheet and saved state, or its
beginning.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from photogram.allocator import keep_memory

STEPS = 2
"""The first takes longer; the second finds everything in its place."""
MORE, ENOUGH, SETTLED = 4, 8.0, 4
"""So many further steps at most, up to so many seconds, but so many steps in all where more than the steps is asked:
the allocator takes most of what it will take in its first few."""


class Seen(BaseException):
    """What was asked for is done, and no more; no `except` of a training is meant to hold it up."""


class Stopwatch:
    """What a training takes, part by part: until it starts, while it steps, while it saves.

    Args:
        until: the last part that is asked for; the training is left behind it.
    """

    def __init__(self, until: str):
        self.until, self.seconds, self.peaks, self.later = until, list[float](), dict[str, int](), 0

    def over(self, part: str) -> None:
        """Keep the peak of a part that is over."""
        self.peaks[part] = peak_and_forget()
        if part == self.until:
            raise Seen

    def follow(self, training: Any) -> None:
        """Time the steps of a training that has started; more of them than it asks for, until memory settles."""
        step = training.step

        def timed(scene: Any, seen: int) -> Any:
            losses = self.timed(step, scene, seen)
            if len(self.seconds) >= STEPS:
                self.later = getattr(training, "memory_to_come", lambda: 0)()
                while not self.later and not self.settled():  # what is remembered would be faster a second time
                    self.timed(step, scene, seen)
                self.over("steps")
            return losses

        training.step = timed

    def timed(self, step: Callable[[Any, int], Any], scene: Any, seen: int) -> Any:
        import torch

        began = time.perf_counter()
        losses = step(scene, seen)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - began)
        return losses

    def settled(self) -> bool:
        """Whether there were steps enough: see `MORE`, `ENOUGH` and `SETTLED`."""
        taken = len(self.seconds)
        least = SETTLED if self.until == "saving" else STEPS
        return taken >= least and (taken >= STEPS + MORE or sum(self.seconds[1:]) >= ENOUGH)


def measure(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Train and look.

    Args:
        asked: `recipe`, the name of its class; `values` of its fields; `spec` as JSON; `photographs`, `batch_size`,
            `precision` and `from`; `until`, the last part of `peaks`; `folder` to train in.

    Returns:
        `seconds` of a step; `peaks`: bytes of the GPU where there is one, else of the process, until it starts, while
        it steps and while it saves; `later`: bytes that later steps will remember besides, were there no bound.
    """
    import statistics

    from photogram.recipes import members
    from photogram.scene import SceneSpec
    from photogram.training import Plan, train

    kind = {k.__name__: k for k in members()}[asked["recipe"]]
    recipe = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in asked["values"].items()})
    spec, watch, start = SceneSpec.from_json(asked["spec"]), Stopwatch(asked["until"]), kind.start

    def watched_start(self: Any, run: Any) -> Any:
        training = start(self, run)
        watch.over("start")
        watch.follow(training)
        return training

    kind.start = watched_start
    plan = Plan(
        steps=STEPS,
        batch_size=asked["batch_size"],
        save_every=STEPS,
        precision=asked["precision"],
        workers=0,
        start_from=None if asked["from"] is None else Path(asked["from"]),
        quiet=True,
    )
    with contextlib.suppress(Seen):
        train(recipe, Imagined(spec, asked["photographs"]), asked["folder"], plan, Imagined(spec, 1))
        watch.over("saving")
    seconds = statistics.median(watch.seconds[1:] or watch.seconds or [0.0])
    return {"seconds": seconds, "peaks": watch.peaks, "later": watch.later}


def peak_and_forget() -> int:
    """The most memory that was held since the last call, where the system can forget (Linux, GPUs); else ever."""
    import torch

    if torch.cuda.is_available():
        found = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return found
    found = peak()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return found


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    with contextlib.suppress(OSError, StopIteration):  # of this program alone; getrusage counts what forked it too
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


class Imagined:
    """Scenes of any specification that nobody took: regions of all classes, and noise for images and photographs."""

    def __init__(self, spec: Any, count: int):
        self.spec, self.count, self.source = spec, count, "imagined"

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"imagined-{index}"

    def settings(self) -> dict[str, object]:
        return {"data": "imagined", "size": list(self.spec.size)}

    def __getitem__(self, key: tuple[int, int]) -> Any:
        import torch

        from photogram.scene import Condition, Layout, Scene

        (height, width), draw = self.spec.size, torch.Generator().manual_seed(key[0])
        layout = None
        if self.spec.num_classes:
            coarse = torch.randint(self.spec.num_classes, (1, 12, 24), generator=draw)
            rows, columns = (torch.arange(n) * m // n for n, m in ((height, 12), (width, 24)))
            kind = torch.uint8 if self.spec.num_classes <= 256 else torch.int32
            numbers = torch.arange(coarse.numel(), dtype=torch.int32).view_as(coarse)  # each region an object
            instances = numbers[:, rows][:, :, columns] if self.spec.instances else None
            layout = Layout(coarse[:, rows][:, :, columns].to(kind), instances)

        def noise(channels: int) -> torch.Tensor:
            return torch.rand(1, channels, height, width, generator=draw) * 2 - 1

        image = noise(self.spec.image_channels) if self.spec.image_channels else None
        return Scene(Condition(layout, image), noise(self.spec.photo_channels))


def main() -> None:
    """Answer one question; a mistake of the person's, and too little memory, are answers too."""
    keep_memory("train")
    from photogram.errors import UserError, is_out_of_memory

    asked = json.load(sys.stdin)
    try:
        found: dict[str, Any] = dict(measure(asked))
    except UserError as e:
        found = {"mistake": str(e)}
    except (MemoryError, RuntimeError) as e:
        if not is_out_of_memory(e):
            raise
        found = {"peaks": None}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
