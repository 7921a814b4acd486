"""Images per second through a feature network: the package's batches against a naive loop, on the same images.

    python benchmarks/evaluation.py --images 64 --repeats 5

The naive loop is what most scripts do: one image at a time, read, resized and looked at, by the same network in the
same precision: what batches gain, not what bf16 gains. The two take turns, so that what else the machine does hits both
alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from photogram.data.toy import write_toy
from photogram.metrics.evaluate import look
from photogram.metrics.features import Extractor, load_extractor
from photogram.metrics.pictures import Pictures


def naive(folder: Path, extractor: Extractor) -> torch.Tensor:
    """One image at a time."""
    rows = []
    for path in sorted(folder.iterdir()):
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).movedim(-1, 0)[None]
        rows.append(extractor(pixels).features)
    return torch.cat(rows)


def batched(folder: Path, extractor: Extractor) -> torch.Tensor:
    """As an evaluation does it."""
    pictures = Pictures(folder)
    names = pictures.names
    return look(lambda n: pictures.read(names[n]), len(names), extractor, "looking", True).features


def seconds(work: Callable[[], torch.Tensor]) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = write_toy(Path(place) / "toy", size=tuple(arguments.size), train=arguments.images, val=1, quiet=True)
        folder = data / "train" / "photos"
        print(
            f"{arguments.images} images of {arguments.size[0]} x {arguments.size[1]}, {torch.get_num_threads()} threads"
        )
        print("| trunk | precision | images/s | times the naive loop |\n| --- | --- | --- | --- |")
        for precision in ("fp32", "bf16"):
            extractor = load_extractor("squeezenet", precision=precision)  # pyright: ignore[reportArgumentType]
            ratios, rates = [], []
            batched(folder, extractor), naive(folder, extractor)
            for _ in range(arguments.repeats):
                slow = seconds(lambda extractor=extractor: naive(folder, extractor))
                fast = seconds(lambda extractor=extractor: batched(folder, extractor))
                ratios.append(slow / fast)
                rates.append(arguments.images / fast)
            print(f"| squeezenet | {precision} | {statistics.median(rates):.1f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
