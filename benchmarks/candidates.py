"""How far apart are the pictures that one pass paints, beside how far apart networks of one picture are?

    python benchmarks/candidates.py --many runs/nine --single runs/a runs/b --data camvid --sheet nine.png

The mean LPIPS over pairs of candidates of a layout, over held-out layouts; the same over pairs of what several
single-image networks (of other seeds, or other numbers of steps) paint of it; and of each to the photograph, where for
candidates the nearest one is shown too. Networks are of one size. The sheet shows a few layouts with all candidates.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photogram.data.folder import Folder
from photogram.images import write_image
from photogram.metrics.lpips import LPIPS, load_lpips
from photogram.recipes.crn import CascadedRefinementNetwork, Choice
from photogram.scene import Layout, draw, to_pixels
from photogram.sheets import sheet


def apart(lpips: LPIPS, pictures: Tensor) -> float:
    """The mean over all pairs of [k, c, h, w]."""
    first, second = zip(*itertools.combinations(range(len(pictures)), 2), strict=True)
    return float(lpips(pictures[list(first)], pictures[list(second)]).mean())


def paint(
    many: CascadedRefinementNetwork, single: list[CascadedRefinementNetwork], layout: Layout
) -> tuple[Tensor, Tensor]:
    """All candidates, and what each of the others paints."""
    candidates = many.sample(layout, 0, Choice(candidates="all"))[0]
    return candidates, torch.cat([network.sample(layout, 0) for network in single])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=Path, required=True)
    parser.add_argument("--single", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--shown", nargs="*", default=[], help="names of the layouts of the sheet")
    asked = parser.parse_args()
    many, *single = (CascadedRefinementNetwork.from_pretrained(run) for run in (asked.many, *asked.single))
    lpips = load_lpips()
    folder = Folder(asked.data, "val", size=many.spec.size)
    names, rows = [folder.name(n) for n in range(len(folder))], []
    sums: dict[str, list[float]] = {}
    for n, name in enumerate(names):
        scene = folder[n, 0]
        assert scene.condition.layout is not None and scene.photo is not None
        candidates, others = paint(many, single, scene.condition.layout)
        to_photo = lpips(candidates, scene.photo.expand(len(candidates), -1, -1, -1))
        found = {"candidates, pairs": apart(lpips, candidates)}
        found |= {"candidates, to the photograph": float(to_photo.mean()), "the nearest of them": float(to_photo.min())}
        if len(others) > 1:
            found["single-image networks, pairs"] = apart(lpips, others)
        nearest = lpips(others, scene.photo.expand(len(others), -1, -1, -1))
        found["single-image networks, to the photograph"] = float(nearest.mean())
        for key, value in found.items():
            sums.setdefault(key, []).append(value)
        if name in asked.shown:
            layout = draw(scene.condition.layout.classes[0].numpy(), many.spec)
            rows.append((name, [layout, *(to_pixels(picture).numpy() for picture in candidates)]))
    for key, values in sums.items():
        print(
            f"{key}: LPIPS {np.mean(values):.3f} ({np.min(values):.3f} to {np.max(values):.3f}, {len(values)} layouts)"
        )
    if asked.sheet is not None and rows:
        write_image(sheet(["layout", *map(str, range(many.candidates))], rows), asked.sheet)


if __name__ == "__main__":
    main()
