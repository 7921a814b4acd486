"""A data folder as the source of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from photogram.data.folder import pair_files, refuse_twins
from photogram.data.preparing import SourceScene
from photogram.errors import UserError
from photogram.images import read_labels
from photogram.scene import SceneClass, read_classes


def folder_scenes(source: Path) -> tuple[tuple[SceneClass, ...], list[SourceScene], list[str]]:
    """The classes and scenes of all splits of a data folder, train and val first, and warnings of what is left out.

    Raises:
        UserError: where it is no data folder, or two files share a stem.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give a data folder, with classes.json, train/ and val/")
    classes = read_classes(source / "classes.json")
    items: list[SourceScene] = []
    warnings: list[str] = []
    splits = [p for p in source.iterdir() if (p / "layouts").is_dir() and not p.name.startswith(".")]
    for split in sorted(splits, key=lambda p: (p.name != "train", p.name != "val", p.name)):
        items += split_scenes(split, split.name, warnings)
    if not items:
        raise UserError(f"{source}: no layouts in train/layouts/, val/layouts/ or the like; nothing to prepare")
    return classes, items, warnings


def split_scenes(folder: Path, split: str, warnings: list[str]) -> list[SourceScene]:
    """The scenes of a folder with `layouts/`, `photos/` and `instances/`; what is left out is added to the warnings.

    Raises:
        UserError: where two files share a stem.
    """
    pairing = pair_files(folder)
    refuse_twins(pairing)
    for paths, what in (
        (pairing.lonely_photos, "photographs without a layout"),
        (pairing.lonely_instances, "instance maps without a layout"),
        (pairing.strangers, "files of unknown types"),
    ):
        warnings += [f"{paths[0]}: left out ({len(paths)} {what})"] if paths else []
    return [SourceScene(split, p.stem, p.layout, p.photo, p.instances) for p in pairing.pairs if p.layout]


def read_layout(path: Path, count: int) -> np.ndarray:
    """Read class indices, uint8 or uint16 [h, w], and refuse those beyond `count` classes.

    Raises:
        UserError: naming the first pixel that is wrong, or the damage.
    """
    labels = read_labels(path)
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        row, column = np.argwhere((labels < 0) | (labels >= count))[0].tolist()
        raise UserError(
            f"{path}: class {labels[row, column]} at (row {row}, column {column}), "
            f"but classes.json lists 0..{count - 1}"
        )
    return labels.astype(np.uint8 if count <= 256 else np.uint16)
