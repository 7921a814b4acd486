"""Two collections that nobody paired: `train/inputs/` and `train/photos/` of a data folder, whose names say nothing.

And `open_scenes`, by which commands open whatever a recipe learns from.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from photogram.data.carrying import RECORD
from photogram.data.folder import (
    Fit,
    Folder,
    Pairing,
    View,
    digest_of,
    pair_files,
    read_input,
    refuse_twins,
    require_folders,
    with_forms,
)
from photogram.errors import UserError
from photogram.rasters import raster_form, read_as
from photogram.recipe import LearnsFrom
from photogram.scene import Condition, Scene, SceneSpec, Size


class Unpaired:
    """Scenes whose condition and photograph come from different files (specification of the pix2pix family, section 3).

    There are as many as files in the larger collection; scene i has input i, from the first again where they are at an
    end, and a photograph drawn uniformly from all. Both have windows and flips of their own.

    Args:
        root: the data folder.
        split: `train` or `val`.
        size: height and width of both; None keeps each file's own.
        fit: as in `Folder`.
        flip: mirror every second input and every second photograph.
        drawn: False judges sets: each file once, an input beside a photograph of its place in the other collection, as
            many as the smaller has, spread evenly over the larger.

    Raises:
        UserError: where a folder is missing, empty or ambiguous.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: Size | None = None,
        fit: Fit = "stretch",
        flip: bool = False,
        drawn: bool = True,
    ):
        self.root, self.split, self.size, self.flip, self.drawn = Path(root), split, size, flip, drawn
        self.fit: Fit = fit
        folder = require_folders(self.root, split, ("inputs", "photos"))
        self.inputs, self.photos = collections(pair_files(folder, ("inputs",)))
        for part, files in (("inputs", self.inputs), ("photos", self.photos)):
            if not files:
                raise UserError(f"{folder / part}: holds no images; `photogram check {self.root}` says more")
        forms = raster_form(self.inputs[0]), raster_form(self.photos[0])
        self.spec = with_forms(SceneSpec((), size or (0, 0)), *forms)

    @property
    def source(self) -> str:
        return f"{self.root.resolve().name}, {self.split}"

    def __len__(self) -> int:
        return (max if self.drawn else min)(len(self.inputs), len(self.photos))

    def name(self, index: int) -> str:
        """Of the input, and of the photograph that draw 0, which sheets show, puts beside it."""
        image, photo, _ = self._files(index, 0)
        return f"{image.stem} / {photo.stem}" if self.drawn else image.stem

    def _files(self, index: int, draw: int) -> tuple[Path, Path, np.random.Generator]:
        """The input, the photograph drawn, and what decides for their views."""
        rng = np.random.default_rng([draw, index])
        if not self.drawn:
            image, photo = (files[index * len(files) // len(self)] for files in (self.inputs, self.photos))
            return image, photo, rng
        return self.inputs[index % len(self.inputs)], self.photos[int(rng.integers(len(self.photos)))], rng

    def settings(self) -> dict[str, object]:
        """What must stay as it is while a training goes on."""
        size = None if self.size is None else list(self.size)
        return {"data": self.fingerprint(), "size": size, "fit": self.fit, "flip": self.flip}

    def fingerprint(self) -> str:
        """A short hash of both collections: of each file its name, size and last bytes; all bytes of inputs."""
        digest = hashlib.sha256()
        for part, files in (("inputs", self.inputs), ("photos", self.photos)):
            for path in files:
                digest.update(f"{part} {path.stem!r} {digest_of(path, part == 'inputs')}\n".encode())
        return digest.hexdigest()[:16]

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        """Input `index` and another's photograph, as the number `draw` makes them."""
        index, draw = key
        path, other, rng = self._files(index, draw)
        image = read_input(path, self.spec)
        photo = read_as(other, self.spec.photo_channels, self.spec.photo_bits)
        views = [
            View((a.shape[0], a.shape[1]), self.size, self.fit, self.flip, rng, file)
            for a, file in ((image, path), (photo, other))
        ]
        return Scene(Condition(image=views[0](image)), views[1](photo))


def were_unpaired(root: Path) -> bool:
    """Whether `prepare unpaired` made a data folder, as its record says: equal names say nothing there."""
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # no record, or none that can be read
        return False
    return isinstance(record, dict) and record.get("preparer") == "unpaired"


def are_unpaired(root: Path, split: str) -> bool:
    """Whether inputs and photographs of a split are two collections: by the record, or as none share a name."""
    pairing = pair_files(root / split, ("inputs",))
    nameless = bool(pairing.pairs and pairing.lonely_photos) and not pairing.with_photos
    return were_unpaired(root) or nameless


def collections(pairing: Pairing) -> tuple[list[Path], list[Path]]:
    """All inputs and all photographs of a split whose files were matched by inputs, by name.

    Raises:
        UserError: where two files of a folder share a stem.
    """
    refuse_twins(pairing)
    inputs = [pair.input for pair in pairing.pairs if pair.input]
    photos = [pair.photo for pair in pairing.with_photos if pair.photo]
    return inputs, sorted([*photos, *pairing.lonely_photos])


def open_scenes(
    root: str | Path,
    split: str,
    learns_from: LearnsFrom,
    *,
    size: Size | None = None,
    fit: Fit = "stretch",
    flip: bool = False,
    photos: bool = True,
) -> Folder | Unpaired:
    """Open a split of a data folder as a recipe learns from it.

    Args:
        root: the data folder.
        split: `train` or `val`.
        learns_from: the recipe's.
        size: height and width; None keeps each file's own.
        fit: as in `Folder`.
        flip: mirror every second draw.
        photos: leave out what has no photograph.

    Raises:
        UserError: where the folder does not hold that.
    """
    if learns_from == "unpaired":
        return Unpaired(root, split, size=size, fit=fit, flip=flip)
    return Folder(root, split, size=size, fit=fit, flip=flip, photos=photos, learns_from=learns_from)


def first_file(scenes: Folder | Unpaired) -> Path:
    """The file by whose size a training goes where it is told none: the first photograph."""
    found = scenes.photos[0] if isinstance(scenes, Unpaired) else scenes.pairs[0].photo
    assert found is not None  # what has no photograph is left out
    return found
