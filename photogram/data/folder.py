"""Scenes from a data folder: `classes.json`, and `train/` and `val/` with `photos/`, `layouts/`, `instances/`.

Files are paired by stem. What is drawn for a photograph (flip, crop) is a function of a number that the sampler gives,
so a training that resumes sees what it would have seen.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from photogram.errors import UserError, nearest
from photogram.images import LABEL_SUFFIXES, PHOTO_SUFFIXES, read_labels, read_photo, resize_labels, resize_photo
from photogram.scene import (
    Condition,
    Layout,
    Scene,
    SceneSpec,
    Size,
    check_layout,
    from_pixels,
    read_classes,
    shape,
)

Fit = Literal["stretch", "crop"]


@dataclass(frozen=True)
class Pair:
    """The files of one scene."""

    stem: str
    layout: Path
    photo: Path | None = None
    instances: Path | None = None


@dataclass(frozen=True)
class Pairing:
    """What one split of a data folder holds, matched by stem."""

    pairs: list[Pair]
    """Every layout, with its photograph and instance map where there are such, in order of stem."""
    lonely_photos: list[Path]
    """Photographs without a layout."""
    lonely_instances: list[Path]
    """Instance maps without a layout."""
    twins: list[tuple[Path, Path]]
    """Files in one folder that share a stem, such as a.png and a.jpg."""
    strangers: list[Path]
    """Files that are neither hidden nor of a known type."""

    @property
    def with_photos(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.photo is not None]


def pair_files(split: Path) -> Pairing:
    """Match the files of one split by stem, reading none of them."""
    twins: list[tuple[Path, Path]] = []
    strangers: list[Path] = []

    def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.startswith("."):
                continue
            if path.suffix.lower() not in suffixes or not path.is_file():
                strangers.append(path)
            elif path.stem in found:
                twins.append((found[path.stem], path))
            else:
                found[path.stem] = path
        return found

    photos = by_stem(split / "photos", PHOTO_SUFFIXES)
    layouts = by_stem(split / "layouts", (*LABEL_SUFFIXES, ".jpg", ".jpeg"))  # a JPEG is refused when read, by name
    instances = by_stem(split / "instances", LABEL_SUFFIXES)
    return Pairing(
        pairs=[Pair(stem, layouts[stem], photos.get(stem), instances.get(stem)) for stem in sorted(layouts)],
        lonely_photos=[photos[stem] for stem in sorted(set(photos) - set(layouts))],
        lonely_instances=[instances[stem] for stem in sorted(set(instances) - set(layouts))],
        twins=twins,
        strangers=strangers,
    )


def _digest(path: Path | None, whole: bool) -> str:
    """A hash of a file's bytes: all of them, or its size and its end."""
    if path is None:
        return "none"
    with path.open("rb") as file:
        if whole:
            return hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 256))
        return f"{size} {hashlib.sha256(file.read()).hexdigest()}"


class Folder:
    """Scenes of one split of a data folder, at one size.

    Args:
        root: the data folder.
        split: `train` or `val` (any folder of that shape).
        size: height and width; None keeps each file's own size.
        fit: `stretch` resizes photograph and layout to `size`; `crop` keeps their aspect, covers `size` and cuts a
            window out of it, drawn anew each time in training.
        flip: mirror every second scene, drawn anew each time.
        photos: whether scenes without a photograph are left out.

    Raises:
        UserError: where the folder, its classes or its files are missing or ambiguous.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: Size | None = None,
        fit: Fit = "stretch",
        flip: bool = False,
        photos: bool = True,
    ):
        self.root, self.split, self.fit, self.flip = Path(root), split, fit, flip
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder; make one with `photogram prepare`")
        self.classes = read_classes(self.root / "classes.json")
        folder = self.root / split
        if not (folder / "layouts").is_dir():
            known = sorted(p.name for p in self.root.iterdir() if (p / "layouts").is_dir())
            raise UserError(
                f"{folder}/layouts: no such folder; {self.root} has {known or 'no splits'}{nearest(split, known)}"
            )
        pairing = pair_files(folder)
        if pairing.twins:
            first, second = pairing.twins[0]
            raise UserError(f"{second}: has the same stem as {first.name}; which one is meant? Remove one")
        self.pairs = pairing.with_photos if photos else pairing.pairs
        if not self.pairs:
            what = "layout has a photograph of the same stem" if photos else "layout is there"
            raise UserError(f"{folder}: no {what}; `photogram check {self.root}` says more")
        instances = all(pair.instances for pair in self.pairs)
        self.size = size
        self.spec = SceneSpec(self.classes, size or (0, 0), instances)

    @property
    def source(self) -> str:
        return f"{self.root.resolve().name}, {self.split}"

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].stem

    def fingerprint(self) -> str:
        """A short hash of what is trained on: the classes, all layouts and instance maps, and of each photograph its
        size and last bytes (a PNG's last bytes hold a checksum of its pixels)."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for pair in self.pairs:
            files = (_digest(pair.layout, True), _digest(pair.photo, False), _digest(pair.instances, True))
            digest.update(f"{pair.stem!r} {files}\n".encode())
        return digest.hexdigest()[:16]

    def settings(self) -> dict[str, object]:
        """What must stay as it is while a training goes on."""
        size = None if self.size is None else list(self.size)
        return {"data": self.fingerprint(), "size": size, "fit": self.fit, "flip": self.flip}

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        """The scene `index` as the number `draw` makes it: equal numbers give equal flips and crops."""
        index, draw = key
        pair = self.pairs[index]
        classes = read_labels(pair.layout)
        photo = None if pair.photo is None else read_photo(pair.photo)
        instances = read_labels(pair.instances).astype(np.int32) if pair.instances and self.spec.instances else None
        for other, path in ((photo, pair.photo), (instances, pair.instances)):
            if other is not None and other.shape[:2] != classes.shape:
                raise UserError(f"{path}: is {shape(other)}, but its layout {pair.layout.name} is {shape(classes)}")
        layout = Layout(torch.from_numpy(classes)[None])
        check_layout(layout, self.spec, str(pair.layout))
        classes, photo, instances = self._view(classes, photo, instances, np.random.default_rng(draw))
        return Scene(
            Condition(
                Layout(
                    torch.from_numpy(np.ascontiguousarray(classes))[None],
                    None if instances is None else torch.from_numpy(np.ascontiguousarray(instances))[None],
                )
            ),
            None if photo is None else from_pixels(np.ascontiguousarray(photo))[None],
        )

    def _view(
        self, classes: np.ndarray, photo: np.ndarray | None, instances: np.ndarray | None, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Resize, crop and flip photograph, layout and instances alike."""
        mirrored, place = draw.random() < 0.5, draw.random(2)
        size = self.size or (classes.shape[0], classes.shape[1])
        whole = size
        if self.fit == "crop":  # cover the size, keeping the aspect
            scale = max(size[0] / classes.shape[0], size[1] / classes.shape[1])
            whole = (max(size[0], round(classes.shape[0] * scale)), max(size[1], round(classes.shape[1] * scale)))
        top, left = (int(p * (w - s + 1)) for p, w, s in zip(place, whole, size, strict=True))
        window = (slice(top, top + size[0]), slice(left, left + size[1]))

        def view(array: np.ndarray, resize: object) -> np.ndarray:
            cut = resize(array, whole)[window]  # pyright: ignore[reportCallIssue]
            return cut[:, ::-1] if self.flip and mirrored else cut

        return (
            view(classes, resize_labels),
            None if photo is None else view(photo, resize_photo),
            None if instances is None else view(instances, resize_labels),
        )
