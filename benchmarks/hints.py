"""What hints bring: PSNR of coloured photographs to the photographs, by the number of hints of their true colours.

    python benchmarks/hints.py --run runs/colors --data greys --size 192 256 --sheet hints.png

Hints lie on places drawn evenly, the same for all that is compared, reach three pixels to each side, and have the mean
colour that the photograph has there, as in section 4.2 of Zhang et al. 2017. Photographs are those of the data's val.
The sheet shows some of them: grey, coloured by the network alone, with `SHOWN` hints, as photographed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photogram.coloring import Hint, colorize
from photogram.data.folder import Folder
from photogram.images import write_image
from photogram.metrics.fidelity import psnr
from photogram.nn.color import to_lab
from photogram.recipes import load
from photogram.sheets import rgb, sheet

COUNTS, RADIUS, SHOWN = (0, 1, 10, 50, 100), 3, 50


def true_hints(photo: Tensor, count: int, seed: int) -> list[Hint]:
    """Hints of a photograph's own colours; more hints are the fewer ones and others."""
    height, width = photo.shape[-2:]
    draws, ab, hints = np.random.default_rng(seed), to_lab(photo)[0, 1:], []
    for _ in range(count):
        y, x = (int(draws.integers(RADIUS, side - RADIUS)) for side in (height, width))
        patch = ab[:, y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1].mean((1, 2))
        hints.append(Hint(x, y, RADIUS, ab=(float(patch[0]), float(patch[1]))))
    return hints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--shown", nargs="*", default=[], help="names of the photographs of the sheet")
    asked = parser.parse_args()
    network, scenes = load(asked.run), Folder(asked.data, "val", size=tuple(asked.size), learns_from="images")
    found: dict[int, list[float]] = {count: [] for count in COUNTS}
    rows = []
    for n in range(len(scenes)):
        scene = scenes[n, 0]
        grey, photo = scene.condition.image, scene.photo
        assert grey is not None and photo is not None
        colored = {count: colorize(network, grey, true_hints(photo, count, n)) for count in COUNTS}
        for count, picture in colored.items():
            found[count].append(float(psnr((picture + 1) / 2, (photo + 1) / 2).mean()))
        if scenes.name(n) in asked.shown:
            tiles = [rgb(picture[0]) for picture in (grey, colored[0], colored[SHOWN], photo)]
            rows.append((scenes.name(n), tiles))
    print("| hints | PSNR |\n| --- | --- |")
    for count, values in found.items():
        print(f"| {count} | {np.mean(values):.2f} dB (deviation {np.std(values):.2f}) |")
    if asked.sheet and rows:
        write_image(sheet(["grey", "no hints", f"{SHOWN} hints", "photograph"], rows), asked.sheet)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
