"""A folder of images to judge: by name, checked at the door, with a hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photogram.errors import UserError
from photogram.images import PHOTO_SUFFIXES
from photogram.rasters import raster_form, read_rgb
from photogram.scene import Size, shape

NOT_JUDGED = ("sheet", "animation", "morph")
"""What `synthesize` and `sample` leave beside their paintings."""


class Pictures:
    """The images of a folder, and of the folders in it, by path without suffix.

    Args:
        folder: where they are.

    Raises:
        UserError: where the folder is missing or empty, or two files differ in their suffix alone.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such folder; give a run, or a folder of images")
        self.paths: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            if path.suffix.lower() not in PHOTO_SUFFIXES or any(part.startswith(".") for part in inside.parts):
                continue
            name = inside.with_suffix("").as_posix()
            if name in NOT_JUDGED:
                continue
            if name in self.paths:
                raise UserError(f"{path}: has the same name as {self.paths[name].name}; which one is meant? Remove one")
            self.paths[name] = path
        if not self.paths:
            raise UserError(f"{self.folder}: holds no images ({', '.join(PHOTO_SUFFIXES)})")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        return list(self.paths)

    def read(self, name: str, size: Size | None = None) -> np.ndarray:
        """One image, uint8 RGB [h, w, 3]: of 16 bits the upper 8, of one channel three.

        Raises:
            UserError: where it cannot be read, or is not of that size. Nothing is resized: a measure of resized
                paintings would measure the resizing.
        """
        path = self.paths[name]
        if size is not None and (found := raster_form(path).size) != size:
            raise UserError(
                f"{path}: is {shape(found)}, but the protocol judges {shape(size)}; paint at that size "
                "(`photogram synthesize --size`), nothing is resized here"
            )
        return read_rgb(path)

    def require(self, names: Sequence[str]) -> None:
        """Refuse to judge where images are missing.

        Raises:
            UserError: naming the first, and how many.
        """
        missing = [name for name in names if name not in self.paths]
        if missing:
            raise UserError(
                f"{self.folder}: has no image {missing[0]!r} ({len(missing)} of {len(names)} are missing); the "
                "protocol judges all of them"
            )

    def digest(self, names: Sequence[str]) -> str:
        """A hash of the bytes of these images, in this order, names aside."""
        hashed = hashlib.sha256()
        for name in names:
            try:
                with self.paths[name].open("rb") as file:
                    hashed.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as e:
                raise UserError(f"{self.paths[name]}: cannot be read ({e.strerror or e})") from None
        return hashed.hexdigest()
