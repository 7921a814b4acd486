"""The photographs that images are judged against, by a protocol."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from photogram.data.folder import Folder
from photogram.data.unpaired import Unpaired, are_unpaired
from photogram.errors import UserError
from photogram.metrics.protocol import Protocol
from photogram.progress import progress
from photogram.rasters import as_rgb
from photogram.scene import SceneSpec, draw, shape, to_levels, to_pixels

LEAST = 4
"""Fewer scenes have no kernel distance with an error."""
_KEPT = 16  # scenes that are remembered: batches of eight look at them more than once


@dataclass(frozen=True, eq=False)
class Reals:
    """The photographs that images are judged against, in the protocol's order and size; as a set alone, where nobody
    paired them with what is painted from."""

    folder: Folder | Unpaired
    names: list[str]
    scenes_digest: str
    digest: str
    recent: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, init=False, repr=False)
    """The photographs that were read last, and the layouts, or inputs where there are none."""

    @property
    def spec(self) -> SceneSpec:
        return self.folder.spec

    @property
    def paired(self) -> bool:
        """Whether each photograph is of the scene in its place."""
        return isinstance(self.folder, Folder)

    def photo(self, n: int) -> np.ndarray:
        """Pixels, uint8 [h, w, 3]; read from the folder, since all of them may not fit into memory."""
        return self._read(n)[0]

    def layout(self, n: int) -> np.ndarray:
        """Classes [h, w], of scenes that have layouts."""
        assert self.spec.num_classes
        return self._read(n)[1]

    def asked(self, n: int) -> np.ndarray:
        """What the painting was asked to show, to be looked at: uint8 RGB [h, w, 3]."""
        found = self._read(n)[1]
        return draw(found, self.spec) if self.spec.num_classes else as_rgb(found)

    def scene_bytes(self, n: int) -> bytes:
        """What tells the scenes of a protocol from others: classes, or the input's levels, in little-endian bytes."""
        found = self._read(n)[1]
        kind = "<i4" if self.spec.num_classes else found.dtype.newbyteorder("<")
        return found.astype(kind).tobytes()

    def _read(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        if n not in self.recent:
            scene = self.folder[n, 0]
            layout, image = scene.condition
            asked = None if layout is None else layout.classes[0].numpy()
            if image is not None:
                asked = to_levels(image[0], self.spec.image_bits)
            assert scene.photo is not None and asked is not None
            if len(self.recent) == _KEPT:
                del self.recent[next(iter(self.recent))]
            self.recent[n] = as_rgb(to_pixels(scene.photo[0]).numpy()), asked
        return self.recent[n]


def judged_from(data: Path, split: str) -> Literal["layouts", "images", "unpaired"]:
    """What the scenes of a split are known by: layouts, or inputs where there are none, with or without pairs."""
    folder = Path(data) / split
    if (folder / "layouts").is_dir() or not (folder / "inputs").is_dir():
        return "layouts"
    return "unpaired" if are_unpaired(Path(data), split) else "images"


def reals_of(data: Path, protocol: Protocol, quiet: bool = False) -> Reals:
    """The photographs of the protocol's split, as RGB of 8 bits, and its layouts, or inputs where there are none.

    Raises:
        UserError: where there are fewer than the protocol asks for, or too few for any judgement; they are other scenes
            than its own; or it ignores a class that they do not have.
    """
    by = judged_from(data, protocol.split)
    if by == "unpaired":
        folder = Unpaired(data, protocol.split, size=protocol.size, drawn=False)
    else:
        folder = Folder(data, protocol.split, size=protocol.size, learns_from=by)
    if protocol.frames and by != "layouts":
        raise UserError(f"{data}: has no layouts, by which {protocol.name} tells what moves between frames")
    count = protocol.count or len(folder)
    if len(folder) < count:
        raise UserError(f"{data}: {protocol.split} has {len(folder)} photographs, but {protocol.name} judges {count}")
    if count < LEAST:
        raise UserError(
            f"{data}: {protocol.name} judges {count} scenes of {protocol.split}; distances between sets need {LEAST} "
            "or more"
        )
    names = [c.name for c in folder.spec.classes]
    for name in protocol.ignored:
        if name not in names:
            raise UserError(f"{protocol.name}: ignores the class {name!r}, but the data has {', '.join(names)}")
    found = Reals(folder, [folder.name(n) for n in range(count)], "", "")
    scenes, reals = hashlib.sha256(), hashlib.sha256()
    with progress("reading photographs", count, 0, quiet) as advance:
        for n in range(count):
            scenes.update(found.scene_bytes(n))
            reals.update(found.photo(n).tobytes())
            advance(found.names[n])
    asked = "layouts" if by == "layouts" else "inputs"
    if protocol.scenes and scenes.hexdigest() != protocol.scenes:
        raise UserError(
            f"{data}: its {protocol.split} {asked} at {shape(protocol.size)} are not those of {protocol.name} (hash "
            f"{scenes.hexdigest()[:12]}, not {protocol.scenes[:12]}); numbers of other scenes do not compare. In a "
            "protocol of your own with another size, split or count, leave `scenes` empty"
        )
    return replace(found, scenes_digest=scenes.hexdigest(), digest=reals.hexdigest())
