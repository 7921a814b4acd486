"""Scenes per second: the package's loader against a plain Pillow loop, side by side on the same files.

    python benchmarks/loading.py --data ../shared/data --repeats 7

Both give photograph and layout as tensors at the same size. The two take turns, so that what else the machine does
hits both alike; each repetition reads all scenes from its first to its last. Files are warm (read once before).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from photogram.data.folder import Folder
from photogram.images import write_image
from photogram.loading import Batches, load
from photogram.scene import SceneClass, Size, write_classes

PHOTOS = "leftImg8bit"  # of the Cityscapes tree


class Case(NamedTuple):
    """Files to read, and the size at which scenes are wanted."""

    name: str
    folder: Path
    stored: Size
    size: Size


def link_folder(pairs: Sequence[tuple[Path, Path]], folder: Path, classes: int) -> Path:
    """A data folder over existing files, which stay where they are."""
    for name in ("photos", "layouts"):
        (folder / "train" / name).mkdir(parents=True)
    for n, (photo, layout) in enumerate(pairs):
        (folder / f"train/photos/{n:04}{photo.suffix}").symlink_to(photo.resolve())
        (folder / f"train/layouts/{n:04}{layout.suffix}").symlink_to(layout.resolve())
    write_classes([SceneClass(f"c{i}", (i, i, i)) for i in range(classes)], folder / "classes.json")
    return folder


def written_folder(folder: Path, size: Size, suffix: str, count: int) -> Path:
    """Smooth random photographs and layouts, where the real ones are absent."""
    rng, files = np.random.default_rng(0), folder / "files"
    files.mkdir(parents=True)
    pairs = []
    for n in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8))
        shapes = Image.fromarray(rng.integers(0, 20, (size[0] // 32, size[1] // 32), dtype=np.uint8))
        photo, layout = files / f"{n}{suffix}", files / f"{n}_layout.png"
        write_image(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC), photo)
        write_image(shapes.resize((size[1], size[0]), Image.Resampling.NEAREST), layout)
        pairs.append((photo, layout))
    return link_folder(pairs, folder / "data", 20)


def find_cases(data: Path, scratch: Path, scenes: int) -> list[Case]:
    camvid, cityscapes = data / "camvid", data / "cityscapes-sample"
    if (camvid / "train").is_dir():
        pairs = [(p, camvid / f"train/layouts/{p.stem}.png") for p in sorted((camvid / "train/photos").iterdir())]
        small = ("CamVid, JPEG", link_folder(pairs[:scenes], scratch / "camvid", 12))
    else:
        small = ("written, JPEG", written_folder(scratch / "small", (360, 480), ".jpg", scenes))
    photos = sorted(cityscapes.glob(f"{PHOTOS}/train/*/*.*"))
    if photos:
        ending = f"_{PHOTOS}"
        folders = [cityscapes / "gtFine" / "train" / p.parent.name for p in photos]
        names = [f"{p.stem.removesuffix(ending)}_gtFine_labelIds.png" for p in photos]
        pairs = [(p, f / name) for p, f, name in zip(photos, folders, names, strict=True)]
        large = (
            f"Cityscapes, {photos[0].suffix[1:].upper()}",
            link_folder(pairs, scratch / "cityscapes", 35),
        )
    else:
        large = ("written, PNG", written_folder(scratch / "large", (1024, 2048), ".png", 8))
    stored: tuple[Size, Size] = ((360, 480), (1024, 2048))
    return [
        Case(*small, stored[0], stored[0]),
        Case(*small, stored[0], (192, 256)),
        Case(*large, stored[1], stored[1]),
        Case(*large, stored[1], (256, 512)),
    ]


def plain_loop(case: Case, count: int) -> None:
    """What one writes first: open, convert, resize, to a tensor in [-1, 1]."""
    photos = sorted((case.folder / "train/photos").iterdir())
    layouts = sorted((case.folder / "train/layouts").iterdir())
    for n in range(count):
        with Image.open(photos[n % len(photos)]) as file:
            photo = file.convert("RGB")
        with Image.open(layouts[n % len(layouts)]) as file:
            layout = file.copy()
        if case.size != case.stored:
            photo = photo.resize((case.size[1], case.size[0]), Image.Resampling.BICUBIC)
            layout = layout.resize((case.size[1], case.size[0]), Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float().div(127.5).sub(1)[None].contiguous()
        classes = torch.from_numpy(np.array(layout))[None]
        assert pixels.shape[-2:] == classes.shape[-2:] == case.size


def our_loader(case: Case, count: int, workers: int) -> None:
    scenes = Folder(case.folder, size=case.size)
    for scene in load(scenes, Batches(len(scenes), 0, 1, range(count)), workers):
        assert scene.photo is not None and scene.photo.shape[-2:] == case.size


def measure(ways: dict[str, Callable[[], None]], count: int, repeats: int) -> dict[str, list[float]]:
    """Scenes per second of each way, in turns; the first turn only warms the files up."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repeat:
                speeds[name].append(count / (time.perf_counter() - start))
    return speeds


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def report(cases: Sequence[Case], repeats: int, workers: Sequence[int], small: int, large: int) -> Iterator[str]:
    """Lines of a markdown table: medians, lowest and highest, and the ratio of medians to the plain loop."""
    yield from (
        f"{repeats} repetitions in turns, batch 1, {os.cpu_count()} cores; median (lowest to highest)",
        "",
        "| files | stored | wanted | way | scenes/s | times the plain loop |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for case in cases:
        count = small if case.stored[0] < 1000 else large
        ways: dict[str, Callable[[], None]] = {"plain Pillow loop": lambda c=case, n=count: plain_loop(c, n)}
        for number in workers:
            ways[f"photogram, {number} workers"] = lambda c=case, n=count, w=number: our_loader(c, n, w)
        speeds = measure(ways, count, repeats)
        plain = statistics.median(speeds["plain Pillow loop"])
        for name, values in speeds.items():
            sizes = " | ".join(f"{h}x{w}" for h, w in (case.stored, case.size))
            ratio = statistics.median(values) / plain
            yield f"| {case.name} | {sizes} | {name} | {spread(values)} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shared = os.environ.get("PHOTOGRAM_SHARED", str(Path(__file__).parents[2] / "shared"))
    parser.add_argument("--data", type=Path, default=Path(shared) / "data", help="holds camvid and cityscapes-sample")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2], help="worker processes to compare")
    parser.add_argument("--small", type=int, default=294, help="scenes a repetition at 360x480")
    parser.add_argument("--large", type=int, default=24, help="scenes a repetition at 1024x2048")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in worker processes; threads that wait for a busy core would be measured instead
    with tempfile.TemporaryDirectory() as scratch:
        cases = find_cases(arguments.data, Path(scratch), arguments.small)
        for line in report(cases, arguments.repeats, arguments.workers, arguments.small, arguments.large):
            print(line, flush=True)


if __name__ == "__main__":
    main()
