"""Held-out scenes as several runs paint them, from the paintings that `photogram evaluate` has judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photogram.data.folder import Folder
from photogram.images import read_photo
from photogram.scene import Size, draw, to_pixels
from photogram.sheets import sheet


def side_by_side(judged: Path, runs: Sequence[str], data: Path, size: Size, stems: Sequence[str]) -> np.ndarray:
    """A sheet: a row for each scene, with its layout, what each run paints of it, and its photograph.

    Args:
        judged: where `evaluate` has put the runs of one protocol.
        runs: their names.
        data: the data folder, of whose split val the scenes are.
        size: that it was judged at.
        stems: the scenes' names.
    """
    folder, rows = Folder(data, "val", size=size), []
    names = [folder.name(n) for n in range(len(folder))]
    for stem in stems:
        scene = folder[names.index(stem), 0]
        assert scene.condition.layout is not None and scene.photo is not None
        painted = [next((judged / run).glob(f"seed-*/painted-*/{stem}.png")) for run in runs]
        layout = draw(scene.condition.layout.classes[0].numpy(), folder.spec)
        rows.append((stem, [layout, *map(read_photo, painted), to_pixels(scene.photo[0]).numpy()]))
    return sheet(["layout", *runs, "photograph"], rows)
