"""Scenes from a data folder: `train/` and `val/` with `photos/`, and with `layouts/`, `inputs/` or both.

Where there are layouts there is a `classes.json`, and there may be `instances/`; `inputs/` holds images that
photographs are asked for with: sketches, greys, depth. Files are paired by stem. What is drawn for a scene (flip, crop)
is a function of a number that the sampler gives, so a training that resumes sees what it would have seen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from photogram.errors import UserError, nearest
from photogram.images import INSTANCE_SUFFIXES, LABEL_SUFFIXES, read_instances, read_labels, read_photo, resize_labels
from photogram.rasters import (
    RASTER_SUFFIXES,
    Form,
    bits_of,
    kind_of,
    raster_form,
    read_as,
    read_raster,
    resize_raster,
)
from photogram.recipe import LearnsFrom
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

Fit = Literal["stretch", "crop", "window"]
"""How a scene is brought to another size, see `Folder`."""
Part = Literal["layouts", "inputs"]
"""A folder of a split that says what a photograph shows."""
WHAT: dict[str, str] = {"layouts": "layout", "inputs": "input", "photos": "photograph"}


@dataclass(frozen=True)
class Pair:
    """The files of one scene."""

    stem: str
    layout: Path | None = None
    photo: Path | None = None
    instances: Path | None = None
    input: Path | None = None

    @property
    def first(self) -> Path:
        """The file that the others of the scene must be as large as."""
        found = self.layout or self.input or self.photo
        assert found is not None
        return found


@dataclass(frozen=True)
class Pairing:
    """What one split of a data folder holds, matched by stem."""

    pairs: list[Pair]
    """Every scene that is asked for, with its photograph and instance map where there are such, in order of stem."""
    lonely_photos: list[Path]
    """Photographs that nothing asks for."""
    lonely_instances: list[Path]
    """Instance maps without a layout."""
    twins: list[tuple[Path, Path]]
    """Files in one folder that share a stem, such as a.png and a.jpg."""
    strangers: list[Path]
    """Files that are neither hidden nor of a known type."""
    lonely_layouts: list[Path] = field(default_factory=list)
    """Layouts without an input, where both are asked for."""
    lonely_inputs: list[Path] = field(default_factory=list)
    """Inputs without a layout, where both are asked for."""

    @property
    def with_photos(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.photo is not None]


def pair_files(split: Path, parts: Sequence[Part] = ("layouts",)) -> Pairing:
    """Match the files of one split by stem, reading none of them.

    Args:
        split: its folder.
        parts: what a scene must have; photographs alone where there is nothing. Other folders are not looked into.
    """
    twins: list[tuple[Path, Path]] = []
    strangers: list[Path] = []

    def by_stem(folder: Path, suffixes: tuple[str, ...], wanted: bool = True) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in sorted(folder.iterdir()) if wanted and folder.is_dir() else []:
            if path.name.startswith("."):
                continue
            if path.suffix.lower() not in suffixes or not path.is_file():
                strangers.append(path)
            elif path.stem in found:
                twins.append((found[path.stem], path))
            else:
                found[path.stem] = path
        return found

    labels = "layouts" in parts
    photos = by_stem(split / "photos", RASTER_SUFFIXES)
    # A JPEG is refused when read, by name.
    layouts = by_stem(split / "layouts", (*LABEL_SUFFIXES, ".jpg", ".jpeg"), labels)
    instances = by_stem(split / "instances", INSTANCE_SUFFIXES, labels)
    inputs = by_stem(split / "inputs", RASTER_SUFFIXES, "inputs" in parts)
    asked = [{"layouts": layouts, "inputs": inputs}[part] for part in parts] or [photos]
    stems = set(asked[0]).intersection(*asked[1:])
    return Pairing(
        pairs=[
            Pair(stem, layouts.get(stem), photos.get(stem), instances.get(stem), inputs.get(stem))
            for stem in sorted(stems)
        ],
        lonely_photos=[photos[stem] for stem in sorted(set(photos) - stems)],
        lonely_instances=[instances[stem] for stem in sorted(set(instances) - set(layouts))],
        twins=twins,
        strangers=strangers,
        lonely_layouts=[layouts[stem] for stem in sorted(set(layouts) - stems)],
        lonely_inputs=[inputs[stem] for stem in sorted(set(inputs) - stems)],
    )


def parts_of(root: Path, learns_from: LearnsFrom, split: str = "train") -> tuple[Part, ...]:
    """What the scenes of a data folder are asked for with, as a recipe learns from them.

    Args:
        root: the data folder.
        learns_from: `any` takes what `train` has, layouts, inputs or both; of a folder without `train`, what the split
            has.
        split: the split.
    """
    if learns_from == "any":
        folder = next((f for f in (root / "train", root / split) if f.is_dir()), root / split)
        found: list[Part] = [part for part in ("layouts", "inputs") if (folder / part).is_dir()]
        return tuple(found or ["layouts"])
    if learns_from == "layouts":
        return ("layouts",)
    return ("inputs",) if learns_from == "images" else ()


def require_data(root: Path) -> None:
    """Refuse what is no folder where a data folder is needed.

    Raises:
        UserError: where it is a file, or nothing.
    """
    if root.is_dir():
        return
    if root.exists():
        raise UserError(f"{root}: is a file, but a data folder is needed; give the folder that holds train/")
    raise UserError(f"{root}: no such folder; make one with `photogram prepare`")


def require_folders(root: Path, split: str, needed: Sequence[str]) -> Path:
    """The folder of a split that holds these folders.

    Raises:
        UserError: naming the first that is missing, and the splits that have it.
    """
    require_data(root)
    folder = root / split
    for part in needed:
        if not (folder / part).is_dir():
            known = sorted(p.name for p in root.iterdir() if (p / part).is_dir())
            there = f"{root} has it in {', '.join(known)}" if known else f"no split of {root} has {part}/"
            raise UserError(f"{folder}/{part}: no such folder; {there}{nearest(split, known)}")
    return folder


def refuse_twins(pairing: Pairing) -> None:
    """Refuse a split in which two files of a folder share a stem.

    Raises:
        UserError: naming both.
    """
    if pairing.twins:
        first, second = pairing.twins[0]
        raise UserError(f"{second}: has the same stem as {first.name}; which one is meant? Remove one")


def digest_of(path: Path | None, whole: bool) -> str:
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
        fit: `stretch` resizes photograph, input and layout to `size`; `crop` keeps their aspect, covers `size` and cuts
            a window out of it, drawn anew each time in training; `window` resizes nothing and cuts such a window out of
            the files as they are, and refuses those that are smaller.
        flip: mirror every second draw.
        photos: leave out what has no photograph.
        learns_from: which parts of the folder are read, see `parts_of`; not `unpaired`.

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
        learns_from: LearnsFrom = "layouts",
    ):
        assert learns_from != "unpaired", "photogram.data.unpaired opens these"
        self.root, self.split, self.size, self.flip = Path(root), split, size, flip
        self.fit: Fit = fit
        self.parts = parts_of(self.root, learns_from, split)
        require_data(self.root)
        said = (self.root / "classes.json", self.root / split / (self.parts or ("photos",))[0])
        if learns_from == "any" and not any(path.exists() for path in said):
            require_folders(self.root, split, ("photos",))
            raise UserError(f"{self.root / split}: has neither layouts/ nor inputs/ to paint photographs from")
        if learns_from == "layouts" and not said[1].exists() and (self.root / split / "inputs").is_dir():
            raise UserError(
                f"{self.root / split}: has inputs/ but no layouts/, which are needed here; "
                "recipes that learn from images, such as pix2pix, take inputs"
            )
        self.classes = read_classes(self.root / "classes.json") if "layouts" in self.parts else ()
        folder = require_folders(self.root, split, self.parts or ("photos",))
        pairing = pair_files(folder, self.parts)
        refuse_twins(pairing)
        self.pairs = pairing.with_photos if photos else pairing.pairs
        if not self.pairs:
            what = " and ".join(WHAT[part] for part in self.parts)
            lacks = "has a photograph of the same stem" if photos else "is there"
            what = f"{what} {lacks}" if self.parts else "photograph is there"
            raise UserError(f"{folder}: no {what}; `photogram check {self.root}` says more")
        self.spec = self._spec()

    def _spec(self) -> SceneSpec:
        """What the first files say; others that differ are refused when they are read."""
        instances = "layouts" in self.parts and all(pair.instances for pair in self.pairs)
        spec = SceneSpec(self.classes, self.size or (0, 0), instances)
        photo = next((pair.photo for pair in self.pairs if pair.photo), None)
        form = None if photo is None else raster_form(photo)
        # Photographs of layouts alone are RGB, grey ones too, as networks that learned from layouts expect them.
        self.as_photos = form is None or (form.bits == 8 and form.pages == 1 and self._in_colour(form))
        image = None if "inputs" not in self.parts else raster_form(self.pairs[0].input or Path())
        return with_forms(spec, image, None if self.as_photos else form)

    def _in_colour(self, form: Form) -> bool:
        return self.parts == ("layouts",) or form.colours == 3

    @property
    def source(self) -> str:
        return f"{self.root.resolve().name}, {self.split}"

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].stem

    def fingerprint(self) -> str:
        """A short hash of what is trained on: the classes, all layouts, instance maps and inputs, and of each
        photograph its size and last bytes (a PNG's last bytes hold a checksum of its pixels)."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for pair in self.pairs:
            files = (digest_of(pair.layout, True), digest_of(pair.photo, False), digest_of(pair.instances, True))
            if self.parts != ("layouts",):
                files = (*files, digest_of(pair.input, True))
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
        classes = read_labels(pair.layout) if pair.layout else None
        image = read_input(pair.input, self.spec) if pair.input else None
        photo = self._photo(pair.photo) if pair.photo else None
        instances = read_instances(pair.instances) if pair.instances and self.spec.instances else None
        found = [array for array in (classes, image, photo) if array is not None]
        what = "layout" if pair.layout else "input"
        for other, path in ((image, pair.input), (photo, pair.photo), (instances, pair.instances)):
            if other is not None and other.shape[:2] != found[0].shape[:2]:
                raise UserError(f"{path}: is {shape(other)}, but its {what} {pair.first.name} is {shape(found[0])}")
        if classes is not None:
            check_layout(Layout(torch.from_numpy(classes)[None]), self.spec, str(pair.layout))
        native = (found[0].shape[0], found[0].shape[1])
        view = View(native, self.size, self.fit, self.flip, np.random.default_rng(draw), pair.first)
        layout = None
        if classes is not None:
            objects = None if instances is None else torch.from_numpy(view.labels(instances))[None]
            layout = Layout(torch.from_numpy(view.labels(classes))[None], objects)
        return Scene(Condition(layout, None if image is None else view(image)), None if photo is None else view(photo))

    def _photo(self, path: Path) -> np.ndarray:
        if not self.as_photos:
            return read_as(path, self.spec.photo_channels, self.spec.photo_bits)
        return read_photo(path) if self.parts == ("layouts",) and path.suffix != ".npy" else read_as(path, 3, 8)


class View:
    """How a scene is seen: resized, cropped and flipped, all of its parts alike.

    Args:
        native: height and width of its files.
        size: at which it is seen; None: at its own.
        fit: as in `Folder`.
        flip: mirror every second draw.
        draw: draws whether to mirror, and the window.
        first: one of the files, for messages.

    Raises:
        UserError: where a window of the files is asked for that is larger than they are.
    """

    def __init__(self, native: Size, size: Size | None, fit: Fit, flip: bool, draw: np.random.Generator, first: Path):
        mirrored, place = draw.random() < 0.5, draw.random(2)
        size = size or native
        self.whole, self.mirrored = size, flip and mirrored
        if fit == "window":
            check_window(native, size, first)
            self.whole = native
        if fit == "crop":  # cover the size, keeping the aspect
            scale = max(size[0] / native[0], size[1] / native[1])
            self.whole = (max(size[0], round(native[0] * scale)), max(size[1], round(native[1] * scale)))
        top, left = (int(p * (w - s + 1)) for p, w, s in zip(place, self.whole, size, strict=True))
        self.window = (slice(top, top + size[0]), slice(left, left + size[1]))

    def labels(self, maps: np.ndarray) -> np.ndarray:
        """Integers [h, w], by the nearest rule."""
        return self._cut(resize_labels(maps, self.whole))

    def __call__(self, raster: np.ndarray) -> torch.Tensor:
        """An image [h, w, c] as a batch of one in [-1, 1], bicubic with antialiasing."""
        return from_pixels(self._cut(resize_raster(raster, self.whole)))[None]

    def _cut(self, array: np.ndarray) -> np.ndarray:
        cut = array[self.window]
        # A copy: of one column, NumPy takes what runs backwards for contiguous, and torch does not.
        return cut[:, ::-1].copy() if self.mirrored else np.ascontiguousarray(cut)


def is_smaller(native: Size, window: Size) -> bool:
    """Whether a window does not lie within a file."""
    return native[0] < window[0] or native[1] < window[1]


def smaller_than(native: Size, window: Size) -> str:
    """What is wrong with a file that is smaller than the window, and what to do."""
    small = f"is {shape(native)}, smaller than the window of {shape(window)}"
    return f"{small}; use --fit crop, or train with a smaller --size"


def check_window(native: Size, window: Size, path: Path) -> None:
    """Refuse a file that is smaller than the window that is to be cut out of it.

    Raises:
        UserError: naming the file and both sizes.
    """
    if is_smaller(native, window):
        raise UserError(f"{path}: {smaller_than(native, window)}")


def with_forms(spec: SceneSpec, image: Form | None, photo: Form | None) -> SceneSpec:
    """A specification with the channels and bits of these files; an opacity counts in inputs alone."""
    if image is not None:
        spec = replace(spec, image_channels=image.channels, image_bits=image.bits)
    return spec if photo is None else replace(spec, photo_channels=photo.colours, photo_bits=photo.bits)


def read_input(path: Path, spec: SceneSpec) -> np.ndarray:
    """Read an input that has the channels and bits of a specification.

    Raises:
        UserError: where it has others, or cannot be read.
    """
    raster = read_raster(path)
    if (raster.shape[2], bits_of(raster)) != (spec.image_channels, spec.image_bits):
        ours, theirs = kind_of(raster.shape[2], bits_of(raster)), kind_of(spec.image_channels, spec.image_bits)
        raise UserError(f"{path}: has {ours}, but the others have {theirs}; all inputs must be alike")
    return raster
