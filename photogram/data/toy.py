"""A procedural toy world: street scenes with photographs, layouts and objects, for quickstart and tests.

A scene is a function of (seed, split, index) and the size, to the last bit on any machine. First it is laid
out (`toy_layout`), then a photograph is taken of it (`toy_photo`). Day, golden hour, dusk, night and clouds
follow from the layout itself (`toy_photo.mood_of`: its kind of sky), and so do windows, lane marks and
shadows, so that a network can know them; only the colours of single objects, the shapes of clouds and the grain
of textures are left to chance.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from photogram.data.carrying import RECORD
from photogram.data.toy_layout import CLASSES, SPLITS, Split, plan
from photogram.data.toy_photo import photograph
from photogram.errors import UserError, nearest
from photogram.images import read_labels, read_photo, write_image
from photogram.progress import Advance, progress
from photogram.scene import (
    Condition,
    Layout,
    Scene,
    SceneSpec,
    Size,
    from_pixels,
    read_classes,
    shape,
    write_classes,
)

SMALLEST, LARGEST = 16, 8192
"""Bounds of height and width, in pixels."""

_MOST = 1_000_000  # scenes in a split: names have six digits
_WORLD = 1  # part of the fingerprint: raise it whenever a pixel of any scene changes
_PARTS = ("photos", "layouts", "instances")


class ToyPixels(NamedTuple):
    """One scene as the pixels of its three files."""

    photo: np.ndarray
    """uint8 [h, w, 3]."""
    layout: np.ndarray
    """Classes by their place in `toy_layout.CLASSES`, uint8 [h, w]."""
    instances: np.ndarray
    """int32 [h, w]: 0 where no object is; 1, 2, ... on buildings, trees, cars and people."""


def scene_pixels(seed: int, split: Split, index: int, size: Size) -> ToyPixels:
    """Make one scene.

    Args:
        seed: of the whole world, 0 to 2^63 - 1.
        split: `train` or `val`, which share no scene.
        index: which scene of the split, 0 to 999,999.
        size: height and width, `SMALLEST` to `LARGEST` each.

    Raises:
        UserError: naming the argument that is out of its bounds.
    """
    _check(seed, split, size)
    if not 0 <= index < _MOST:
        raise UserError(f"index {index}: toy scenes are numbered 0..{_MOST - 1}")
    planned = plan(seed, split, index, (int(size[0]), int(size[1])))
    return ToyPixels(photograph(planned), planned.layout, planned.instances)


def _check(seed: int, split: str, size: Size) -> None:
    if split not in SPLITS:
        raise UserError(f"split {split!r}: the toy world has train and val{nearest(split, list(SPLITS))}")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"seed {seed}: must be 0 to 2^63 - 1")
    if len(size) != 2 or not all(SMALLEST <= n <= LARGEST for n in size):
        wanted = " x ".join(str(n) for n in size)
        raise UserError(f"size {wanted}: toy scenes have {SMALLEST} to {LARGEST} pixels in height and width")


class Toy:
    """Scenes of one split of the toy world, made when asked for; used like `photogram.data.folder.Folder`.

    Args:
        split: `train` or `val`.
        size: height and width of photographs and layouts, in pixels.
        count: how many scenes there are.
        seed: of the whole world.
        flip: mirror every second scene, drawn anew each time.

    Raises:
        UserError: naming the argument that is out of its bounds.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        size: Size = (96, 128),
        count: int = 400,
        seed: int = 0,
        flip: bool = False,
    ):
        _check(seed, split, size)
        if not 1 <= count <= _MOST:
            raise UserError(f"count {count}: a split of the toy world has 1 to {_MOST} scenes")
        self.split: Split = "train" if split == "train" else "val"
        self.size, self.count, self.seed, self.flip = (int(size[0]), int(size[1])), count, seed, flip
        self.spec = SceneSpec(CLASSES, self.size, instances=True)

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """The stem of the scene's files, in order of index."""
        return f"{self.split}_{range(self.count)[index]:06}"

    def fingerprint(self) -> str:
        """A short hash of what is trained on: the world, its seed, the split, size and number of scenes."""
        known = (_WORLD, self.seed, self.split, self.size, self.count, CLASSES)
        return hashlib.sha256(repr(known).encode()).hexdigest()[:16]

    @property
    def source(self) -> str:
        return f"photogram's toy world {self.seed}, {self.split}"

    def settings(self) -> dict[str, object]:
        """What must stay as it is while a training goes on."""
        return {"data": self.fingerprint(), "size": list(self.size), "flip": self.flip}

    def pixels(self, index: int) -> ToyPixels:
        """The scene `index` as pixels, never mirrored."""
        return scene_pixels(self.seed, self.split, range(self.count)[index], self.size)

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        """The scene `index`, mirrored or not as the number `draw` says, in step with `Folder`."""
        index, draw = key
        photo, classes, instances = self.pixels(index)
        if self.flip and np.random.default_rng(draw).random() < 0.5:
            photo, classes, instances = photo[:, ::-1], classes[:, ::-1], instances[:, ::-1]
        layout = Layout(*(torch.from_numpy(np.ascontiguousarray(m))[None] for m in (classes, instances)))
        return Scene(Condition(layout), from_pixels(np.ascontiguousarray(photo))[None])


def write_toy(
    out: str | Path,
    *,
    size: Size = (96, 128),
    train: int = 400,
    val: int = 40,
    seed: int = 0,
    quiet: bool = False,
) -> Path:
    """Write the toy world as a data folder: classes.json, train/ and val/.

    Every file is written whole or not at all. The same call again goes on where it was interrupted; with more
    scenes it extends the folder.

    Args:
        out: the folder to write; made where it is missing.
        size: height and width of the scenes, in pixels.
        train: how many scenes to train on.
        val: how many other scenes to judge by.
        seed: of the whole world.
        quiet: show no progress.

    Returns:
        The folder.

    Raises:
        UserError: where an argument is out of its bounds, or where `out` holds something else (another data
            set, a toy world of another seed or size, or of more scenes) or cannot be written.
    """
    out = Path(out)
    sets = [Toy("train", size=size, count=train, seed=seed), Toy("val", size=size, count=val, seed=seed)]
    try:
        _claim(out)
        for toy in sets:
            _check_written(out / toy.split, toy)
        todo = [(toy, index) for toy in sets for index in _unfinished(out / toy.split, toy)]
        with progress("toy world", train + val, train + val - len(todo), quiet) as advance:
            for toy, index in todo:
                _write_scene(out / toy.split, toy, index, advance)
    except OSError as e:
        raise UserError(f"{e.filename or out}: cannot be written ({e.strerror or e})") from None
    return out


def is_toy(root: str | Path) -> bool:
    """Whether a data folder is the toy world as `write_toy` writes it: its classes, and nobody prepared it anew."""
    root = Path(root)
    try:
        return read_classes(root / "classes.json") == CLASSES and not (root / RECORD).exists()
    except UserError:
        return False


def _claim(out: Path) -> None:
    """Make the folder and its classes.json, or find that it is a toy world already."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; name a folder to write the toy world to")
    known = out / "classes.json"
    if not known.exists():
        strangers = sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) if out.is_dir() else []
        if strangers:
            raise UserError(f"{out}: is no toy world, it holds {strangers[0]!r}; name a new or an empty folder")
        out.mkdir(parents=True, exist_ok=True)
        write_classes(CLASSES, known)
    elif read_classes(known) != CLASSES:
        raise UserError(f"{known}: lists the classes of another data set; name a new or an empty folder")
    for split in SPLITS:
        for part in _PARTS:
            (out / split / part).mkdir(parents=True, exist_ok=True)


def _files(folder: Path, stem: str) -> list[Path]:
    return [folder / part / f"{stem}.png" for part in _PARTS]


def _unfinished(folder: Path, toy: Toy) -> list[int]:
    return [i for i in range(len(toy)) if not all(path.exists() for path in _files(folder, toy.name(i)))]


def _check_written(folder: Path, toy: Toy) -> None:
    """Refuse to go on in a folder that holds scenes other than those asked for."""
    asked = {toy.name(i): i for i in range(len(toy))}
    there = sorted({path for part in _PARTS for path in (folder / part).iterdir() if path.name[0] != "."})
    for path in there:
        if path.stem not in asked or path.suffix != ".png":
            raise UserError(
                f"{path}: is not among the {len(toy)} {toy.split} scenes asked for; "
                "name a new folder, or ask for as many scenes as there are"
            )
    by_part = {path.parent.name: path for path in reversed(there)}  # the first of each kind tells seed and size
    for part, path in by_part.items():
        expected = toy.pixels(asked[path.stem])[_PARTS.index(part)]
        written = read_photo(path) if part == "photos" else read_labels(path)
        if written.shape[:2] != expected.shape[:2]:
            raise UserError(f"{path}: is {shape(written)}, not {shape(expected)} as asked; name a new folder")
        if not np.array_equal(written, expected):
            raise UserError(f"{path}: is not the scene of seed {toy.seed}; name a new folder, or give its seed")


def _write_scene(folder: Path, toy: Toy, index: int, advance: Advance) -> None:
    photo, layout, instances = toy.pixels(index)
    for pixels, path in zip((photo, layout, instances.astype(np.uint16)), _files(folder, toy.name(index)), strict=True):
        if not path.exists():
            write_image(pixels, path)
    advance(toy.name(index))
