"""Edits a second of a session, against making everything anew after each: regions, and styles at each pixel.

    python benchmarks/editing.py                            # 512 x 1024 and 1024 x 2048
    python benchmarks/editing.py --page benchmarks/editing.md

Both take the same steps in turns; nothing is painted. What is timed of a session is the whole edit: the new state, the
step that can be undone, and what is kept for the next painting. Times are the processor's, of one thread, so that what
else the machine does matters little.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photogram.editing import EditSession
from photogram.nn.regions import find_regions, spread
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import Layout, SceneClass, SceneSpec

CLASSES, CAR, CLUSTERS, ASKED = 35, 26, 10, 30


def network_with_clusters() -> CoarseToFineGenerator:
    """Styles and clusters as of pix2pixHD on Cityscapes; its convolutions, which nothing here asks for, are narrow."""
    classes = tuple(SceneClass(f"class {n}", (n, n, n)) for n in range(CLASSES))
    spec = SceneSpec(classes, (512, 1024), instances=True)
    network = CoarseToFineGenerator(spec=spec, width=1, blocks=1, style_channels=3, encoder_width=1, clusters=CLUSTERS)
    network.style_centres.copy_(torch.rand(CLASSES, CLUSTERS, 3, generator=torch.Generator().manual_seed(0)))
    network.style_counts.fill_(1)
    return network.eval()


def street(height: int, width: int, objects: int) -> Layout:
    """Blocks of classes with discs in them, each an object; numbers as of Cityscapes."""
    draws = np.random.default_rng(0)
    blocks = draws.integers(0, 20, (8, 16), dtype=np.uint8)
    classes = np.kron(blocks, np.ones((height // 8, width // 16), dtype=np.uint8))
    numbers = classes.astype(np.int32)
    y, x = np.ogrid[:height, :width]
    for n in range(1, objects + 1):
        row, column, radius = draws.integers(height), draws.integers(width), draws.integers(height // 40, height // 10)
        disc = (y - row) ** 2 + (x - column) ** 2 < radius**2
        classes[disc], numbers[disc] = CAR, 1000 * CAR + n
    return Layout(torch.from_numpy(classes)[None], torch.from_numpy(numbers)[None])


def steps(session: EditSession, draws: np.random.Generator) -> dict[str, Callable[[], object]]:
    """One edit of each kind, at random."""
    height, width = session.state.size
    cars = [region for region in session.regions if region[0] == CAR]
    car = cars[int(draws.integers(len(cars)))]
    x, y = int(draws.integers(width)), int(draws.integers(height))
    dx, dy = (int(v) for v in draws.integers(-20, 21, 2))
    mask = np.ones((height // 10, width // 10), dtype=bool)
    place = (min(x, width - 20), min(y, height - 20))
    return {
        "brush, 20 pixels on, width 32": lambda: session.brush(3, [(x, y), (x + 16, y + 12)], 32),
        "move an object": lambda: session.move(car, dx or 1, dy),
        "remove an object": lambda: session.remove(car),
        "add an object, a tenth a side": lambda: session.add(mask, CAR, None, place),
        "style of an object": lambda: session.set_style(car, tuple(draws.uniform(-1, 1, 3).tolist())),
        "style of a class": lambda: session.set_class_style(CAR, tuple(draws.uniform(-1, 1, 3).tolist())),
        "undo": session.undo,
    }


def anew(session: EditSession) -> Tensor:
    """What is kept for a painting, from the arrays alone."""
    state = session.state
    found = find_regions(session.layout)
    pairs = zip(found.classes.tolist(), found.objects.tolist(), strict=True)
    return spread(torch.tensor([state.style_of(region) for region in pairs]), found)


def measured(height: int, width: int, repeats: int, objects: int) -> list[str]:
    """A row for each kind of edit."""
    layout, network = street(height, width, objects), network_with_clusters()
    kinds = list(steps(EditSession(network, layout), np.random.default_rng(0)))
    ours: dict[str, list[float]] = {kind: [] for kind in kinds}
    theirs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(repeats + 1):
        draws = np.random.default_rng(turn)
        for kind in kinds:
            session = EditSession(network, layout)
            edit = steps(session, draws)[kind]
            if kind == "undo":
                session.brush(3, [(200, 200), (216, 212)], 32)
            began = time.thread_time()
            edit()
            between = time.thread_time()
            made = anew(session)
            if turn:
                ours[kind].append(between - began)
                theirs[kind].append(time.thread_time() - between)
            assert torch.equal(made, session.kept.features), kind
    rows = []
    for kind in kinds:
        ms, again = (1000 * statistics.median(spent[kind]) for spent in (ours, theirs))
        worst = 1000 * max(ours[kind])
        rows.append(
            f"| {kind} | {height} x {width} | {ms:.1f} | {worst:.1f} | {1000 / ms:.0f} | {again:.0f} "
            f"| {1000 / (ms + again):.0f} | {(ms + again) / ms:.0f} |"
        )
    return rows


PAGE = """\
# Edits a second

`{command}`, {date}, {machine}, other work beside it. Processor time of one thread.
A layout of {classes} classes with {objects} objects, numbered as in Cityscapes. Ours: a whole edit, with the step to
undo and what is kept for the next painting. Anew: the same state, and regions and styles of all pixels made again.
Medians of {repeats}, the worst beside; the two in turns. Nothing is painted (borders are made in the network's own
pass); {asked} edits a second are asked for at 512 x 1024.

"""
HEAD = """\
| edit | size | ours, ms | worst, ms | ours a second | making anew, ms | that way a second | ratio |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="heights; widths are twice as much")
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--page", type=Path, help="write the table there too")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # whose time is counted
    rows = [row for height in asked.sizes for row in measured(height, 2 * height, asked.repeats, asked.objects)]
    page = PAGE.format(
        command="python benchmarks/editing.py",
        date=datetime.now(UTC).date(),
        machine=f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}",
        classes=CLASSES,
        objects=asked.objects,
        repeats=asked.repeats,
        asked=ASKED,
    )
    page += HEAD + "\n".join(rows) + "\n"
    print(page, end="")
    if asked.page:
        asked.page.write_text(page)


if __name__ == "__main__":
    main()
