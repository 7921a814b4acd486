"""How a GAN's paintings fare as resolution grows: equally many photographs at 32 x 32, 64 x 64 and 128 x 128.

    python benchmarks/resolution.py --data camvid --out runs/resolution --steps 1000 --sheet resolution.jpg

The same networks but for their number of levels, so that the start map is 4 x 4 each time. Told are how often the
discriminator was right in the last hundred steps, and the kernel distance of paintings to photographs of the same size
(embedded features, on both enlarged to the largest size), beside that of one half of the photographs to the other. The
paintings of a size are those of the published average. Trainings go on where they were stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from photogram.data.unpaired import open_scenes
from photogram.images import write_image
from photogram.metrics.features import Extractor, load_extractor
from photogram.metrics.kernel import kernel_distance
from photogram.recipes.gan import DCGANGenerator
from photogram.scene import to_pixels
from photogram.sheets import sheet

LEVELS = {32: 3, 64: 4, 128: 5}
PAINTED, SHOWN, SUBSET = 256, 6, 100


def trained(asked: argparse.Namespace, side: int, more: list[str]) -> Path:
    """The run at a size, trained as far as was asked."""
    run = asked.out / str(side)
    command = [sys.executable, "-m", "photogram", "train", "gan", "--data", str(asked.data), "--fit", "crop", "--flip"]
    command += ["--out", str(run), "--size", str(side), str(side), "--levels", str(LEVELS[side]), "--workers", "0"]
    command += ["--width", "32", "--discriminator-width", "32", "--batch-size", "32", "--average", "2000", *more]
    subprocess.run([*command, "--steps", str(asked.steps)], check=True)
    return run


def accuracy(run: Path) -> float:
    """How often the discriminator was right, over the diagnostics of the last hundred steps."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()[-100:]]
    names = ("accuracy/photographs", "accuracy/paintings")
    found = [line[name] for line in lines for name in names if name in line]
    return sum(found) / len(found)


def features(pictures: list[Tensor], extractor: Extractor) -> Tensor:
    largest = max(LEVELS)
    found = []
    for one in pictures:
        large = torch.nn.functional.interpolate(one, (largest, largest), mode="bicubic", antialias=True).clamp(-1, 1)
        found.append(extractor(to_pixels(large[0]).movedim(-1, 0)[None]).features)
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/resolution"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--sheet", type=Path)
    asked, more = parser.parse_known_args()
    extractor = load_extractor("squeezenet")
    print("| size | discriminator is right | kernel distance | photographs, half to half |")
    print("| --- | --- | --- | --- |")
    rows = []
    for side in LEVELS:
        run = trained(asked, side, more)
        network = DCGANGenerator.from_pretrained(run)
        painted = [network.sample(seed=seed) for seed in range(PAINTED)]
        scenes = open_scenes(asked.data, "train", "photographs", size=(side, side), fit="crop")
        photos = [photo for n in range(len(scenes)) if (photo := scenes[n, 0].photo) is not None]
        of_photos = features(photos, extractor)
        apart = kernel_distance(features(painted, extractor), of_photos, subset_size=SUBSET)
        halves = kernel_distance(of_photos[::2], of_photos[1::2], subset_size=SUBSET)
        print(f"| {side} x {side} | {accuracy(run):.0%} | {apart.distance:.0f} | {halves.distance:.0f} |", flush=True)
        tiles = [torch.nn.functional.interpolate(one, scale_factor=max(LEVELS) // side) for one in painted[:SHOWN]]
        rows.append((f"{side} x {side}", [to_pixels(tile[0]).numpy() for tile in tiles]))
    if asked.sheet:
        write_image(sheet([f"seed {n}" for n in range(SHOWN)], rows), asked.sheet)


if __name__ == "__main__":
    main()
