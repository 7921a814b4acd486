"""NYU Depth v2 (Silberman et al. 2012), the labelled scenes, from its one .mat file: the preparer `nyu`.

The file is HDF5 (MATLAB v7.3), which h5py reads; MATLAB's axes come out reversed: `images` [n, 3, w, h] uint8, `labels`
[n, w, h] uint16 (0 is unlabelled, k is the k-th name), `instances` [n, w, h] uint8 (numbers within a label), `names`
references to the letters of 894 names. Depths are not used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from photogram.data.carrying import in_parallel
from photogram.data.known_classes import spread_color
from photogram.data.preparing import Plan, Prepared, SourceScene, carry_out_with, targets
from photogram.errors import UserError
from photogram.images import PIXEL_LIMIT, write_image
from photogram.scene import SceneClass

if TYPE_CHECKING:
    import h5py

_NAMES_LIMIT, _LETTERS_LIMIT = 65535, 1000


@dataclass(frozen=True)
class Mapping:
    """Which class each label becomes."""

    names: tuple[str, ...]
    """The classes without void."""
    target: np.ndarray
    """int64 [labels + 1]: the class of each label, -1 for void; the first entry is that of label 0."""


def prepare_nyu(
    source: Path, *, out: Path, mapping: Path | None = None, top: int = 40, train: int = 1200, quiet: bool = False
) -> Prepared:
    """Prepare the labelled scenes of NYU Depth v2 from `nyu_depth_v2_labeled.mat`.

    The first `train` scenes are for training, the rest is val: 1,200 and 249, as in the paper of CRN. (The data set's
    own split into 795 and 654 is another one.) Photographs are written as they are, 480 x 640 with their white frame,
    whose pixels are unlabelled; a training resizes them. Scenes are called 0001, 0002, ... as MATLAB counts them.

    The 894 names are far more than the paper's classes, probably 40. With `mapping` they are those of Gupta et al.
    (2013), which everybody reports on; its file is published apart from the data set and has to be fetched by hand.
    Without it the `top` most frequent names, by pixels of the training scenes, are the classes, the most frequent
    first: as many, from the one file alone, but not the same ones. Rare names become void here, where the mapping has
    "otherfurniture" and the like. `top` of 894 or more keeps all names, in their order.

    An instance map numbers the objects of its scene 1, 2, ..., by label and then by number within it; 0 is unlabelled.
    What became void keeps its objects.

    Args:
        source: the .mat file, or the folder that holds it.
        out: the data folder to write.
        mapping: `classMapping40.mat` (or one of its form: `mapClass`, a class 1, 2, ... for each label, 0 for void, and
            `className`), as MATLAB v5, which needs SciPy, or v7.3.
        top: how many names become classes where there is no mapping.
        train: how many scenes are for training.
        quiet: show no progress.

    Raises:
        UserError: where h5py is not installed, the file is damaged, has other shapes, or does not fit the mapping.
    """
    source, out = _mat_file(Path(source)), Path(out)
    if top < 1:
        raise UserError(f"--top {top}: must be 1 or more")
    with _opened(source) as file:
        with _reading(source, "it"):
            count, names = _examined(file, source), _names(file, source)
        if not 1 <= train <= count:
            raise UserError(f"{source}: holds {count} scenes, but --train is {train}; give 1..{count}")
        notes = [] if train < count else [f"{source}: all {count} scenes are for training, none for val"]
        if mapping is not None:
            chosen = _read_mapping(Path(mapping), names)
        else:
            chosen, share = _most_frequent(file, source, names, top, train, quiet)
            if share:
                notes.append(
                    f"{share:.1%} of the labelled pixels have rarer names and became void; --mapping loses none"
                )
        classes = (
            *(SceneClass(name, spread_color(i)) for i, name in enumerate(chosen.names)),
            SceneClass("unlabelled", (0, 0, 0), void=True),
        )
        items = [_scene(source, n, "train" if n < train else "val") for n in range(count)]
        settings: dict[str, object] = {
            "train": train,
            "labels": hashlib.sha256(chosen.target.tobytes()).hexdigest()[:16],
        }

        def write(item: SourceScene) -> list[str]:
            _write(file, source, int(item.stem) - 1, targets(item, out), chosen)
            return []

        def done(item: SourceScene) -> bool:
            return all(p.exists() and p.stat().st_mtime >= changed for p in targets(item, out).values())

        changed = source.stat().st_mtime
        plan = Plan("nyu", source, settings, classes, items, tuple(notes))
        return carry_out_with(plan, out, write, done, quiet, at_once=True)


def _scene(source: Path, index: int, split: str) -> SourceScene:
    """One scene; no such files are there, but their names are those that it is written under."""
    name = source / f"{index + 1:04}.png"
    return SourceScene(split, name.stem, name, name, name)


def _mat_file(source: Path) -> Path:
    if source.is_dir():
        found = sorted(p for p in source.glob("*.mat") if "labeled" in p.name.lower())
        if len(found) != 1:
            known = ", ".join(p.name for p in found) or "none"
            raise UserError(f"{source}: must hold one nyu_depth_v2_labeled.mat, but there is {known}; give the file")
        return found[0]
    if not source.is_file():
        raise UserError(f"{source}: no such file; give nyu_depth_v2_labeled.mat")
    return source


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: reading it needs h5py; pip install 'photogram[nyu]'") from None
    try:
        file = h5py.File(path, "r")
    except OSError as e:
        if e.errno is not None:
            raise UserError(f"{path}: cannot be read ({e.strerror or os.strerror(e.errno)})") from None
        reason = " ".join(str(e).split())
        raise UserError(f"{path}: is no MATLAB v7.3 (HDF5) file, damaged or cut short ({reason})") from None
    with file:
        yield file


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever HDF5 says of a damaged file into one line."""
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{path}: {what} cannot be read, damaged or cut short ({reason})") from None


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    import h5py

    with _reading(path, name):
        found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        known = ", ".join(sorted(file)[:10])
        raise UserError(f"{path}: has no {name}, only {known or 'nothing'}; is it nyu_depth_v2_labeled.mat?")
    return found


def _examined(file: h5py.File, path: Path) -> int:
    """The number of scenes, after checking that types and shapes are as they should be."""
    images, labels, instances = (_dataset(file, path, name) for name in ("images", "labels", "instances"))
    shape = images.shape
    if len(shape) != 4 or shape[1] != 3 or 0 in shape or images.dtype != np.uint8:
        raise UserError(f"{path}: images are {images.dtype} {list(shape)}; expected uint8 [scenes, 3, width, height]")
    if shape[2] * shape[3] > PIXEL_LIMIT:
        raise UserError(f"{path}: images of {shape[3]} x {shape[2]} pixels are beyond the limit of {PIXEL_LIMIT:,}")
    wanted = (shape[0], shape[2], shape[3])
    for part, types in ((labels, ("uint16", "uint8")), (instances, ("uint8", "uint16"))):
        if part.shape != wanted or part.dtype.name not in types:
            name = str(part.name).strip("/")
            raise UserError(f"{path}: {name} are {part.dtype} {list(part.shape)}; expected {types[0]} {list(wanted)}")
    return int(shape[0])


def _names(file: h5py.File, path: Path, key: str = "names") -> tuple[str, ...]:
    """The texts of a cell array of MATLAB v7.3: references to arrays of 16-bit letters."""
    import h5py

    cells = _dataset(file, path, key)
    if h5py.check_ref_dtype(cells.dtype) is not h5py.Reference or not 0 < np.prod(cells.shape) <= _NAMES_LIMIT:
        raise UserError(f"{path}: {key} is {cells.dtype} {list(cells.shape)}; expected a cell array of texts")
    names: list[str] = []
    with _reading(path, key):
        for reference in cells[()].ravel():
            letters = file[reference]
            if (
                not isinstance(letters, h5py.Dataset)
                or letters.dtype.kind != "u"
                or np.prod(letters.shape) > _LETTERS_LIMIT
            ):
                raise UserError(f"{path}: {key} {len(names) + 1} is no text of up to {_LETTERS_LIMIT} letters")
            text = "".join(map(chr, letters[()].ravel().tolist())).strip()
            names.append(text or f"label-{len(names) + 1}")
    return tuple(names)


def _labels(file: h5py.File, path: Path, index: int, count: int) -> np.ndarray:
    """The labels of one scene, 0..count, [h, w]."""
    with _reading(path, f"labels of scene {index + 1}"):
        labels = _dataset(file, path, "labels")[index].T
    if int(labels.max()) > count:
        row, column = np.argwhere(labels > count)[0].tolist()
        raise UserError(
            f"{path}: scene {index + 1} has label {labels[row, column]} at (row {row}, column {column}), "
            f"but there are only {count} names"
        )
    return labels


def _most_frequent(
    file: h5py.File, path: Path, names: tuple[str, ...], top: int, train: int, quiet: bool
) -> tuple[Mapping, float]:
    """The most frequent names as classes, and the share of labelled pixels that have others."""
    if top >= len(names):
        return Mapping(names, np.arange(len(names) + 1) - 1), 0.0

    def count(index: int) -> np.ndarray:
        return np.bincount(_labels(file, path, index, len(names)).ravel(), minlength=len(names) + 1)

    pixels = np.zeros(len(names) + 1, dtype=np.int64)
    for part in in_parallel(count, range(train), lambda n: f"{n + 1:04}", "counting labels", 0, quiet):
        pixels += part
    order = np.argsort(-pixels[1:], kind="stable")[:top] + 1
    order = order[pixels[order] > 0]
    if not order.size:
        raise UserError(f"{path}: the first {train} scenes have no labels")
    target = np.full(len(names) + 1, -1)
    target[order] = np.arange(order.size)
    labelled = pixels[1:].sum()
    return Mapping(tuple(names[i - 1] for i in order), target), float(1 - pixels[order].sum() / labelled)


def _read_mapping(path: Path, names: tuple[str, ...]) -> Mapping:
    """Read `mapClass` and `className` of a MATLAB file, and `allClassName` where there is one, which must agree."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; --mapping names classMapping40.mat")
    with path.open("rb") as file:
        head = file.read(116)
    is_hdf5 = head.startswith(b"\x89HDF") or b"MATLAB 7.3" in head  # which MATLAB writes before it
    numbers, classes, labels = _mapping_v73(path) if is_hdf5 else _mapping_v5(path)
    if numbers.shape != (len(names),):
        raise UserError(f"{path}: maps {numbers.size} labels, but the data set has {len(names)}")
    if labels is not None and labels != names:
        n = next((n for n, pair in enumerate(zip(labels, names, strict=False)) if pair[0] != pair[1]), len(names))
        raise UserError(f"{path}: its label {n + 1} is not that of the data set; it belongs to another one")
    if not np.isin(numbers, np.arange(len(classes) + 1)).all():
        raise UserError(
            f"{path}: mapClass has {numbers.min()}..{numbers.max()}; expected whole numbers up to {len(classes)}"
        )
    return Mapping(classes, np.concatenate([[-1], numbers.astype(np.int64) - 1]))


def _mapping_v73(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...] | None]:
    with _opened(path) as file, _reading(path, "it"):
        stored = _dataset(file, path, "mapClass")
        if np.prod(stored.shape) > _NAMES_LIMIT:
            raise UserError(f"{path}: mapClass is {list(stored.shape)}; expected a class for each label")
        labels = _names(file, path, "allClassName") if "allClassName" in file else None
        return np.asarray(stored[()], dtype=np.float64).ravel(), _names(file, path, "className"), labels


def _mapping_v5(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...] | None]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(f"{path}: reading MATLAB v5 files needs SciPy; pip install 'photogram[nyu]'") from None
    try:
        parts = loadmat(str(path), variable_names=["mapClass", "className", "allClassName"], chars_as_strings=True)
        texts = {
            key: tuple(str(cell.item() if cell.size else "").strip() for cell in parts[key].ravel())
            for key in ("className", "allClassName")
            if key in parts
        }
        return np.asarray(parts["mapClass"], np.float64).ravel(), texts["className"], texts.get("allClassName")
    except Exception as e:  # scipy raises anything on a damaged file
        reason = " ".join(str(e).split())
        raise UserError(f"{path}: is damaged or has no mapClass and className ({type(e).__name__}: {reason})") from None


def _write(file: h5py.File, source: Path, index: int, paths: dict[str, Path], mapping: Mapping) -> None:
    """Write the photograph, the instance map and the layout of one scene."""
    labels = _labels(file, source, index, len(mapping.target) - 1)
    with _reading(source, f"scene {index + 1}"):
        photo = _dataset(file, source, "images")[index].transpose(2, 1, 0)
        numbers = _dataset(file, source, "instances")[index].T
    void = len(mapping.names)
    layout = np.where(mapping.target < 0, void, mapping.target)[labels]
    write_image(np.ascontiguousarray(photo), paths["photos"])
    write_image(scene_objects(labels, numbers), paths["instances"])
    write_image(layout.astype(np.uint8 if void < 256 else np.uint16), paths["layouts"])


def scene_objects(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Number the objects of a scene: uint16 [h, w].

    Args:
        labels: 0 for unlabelled, integers [h, w].
        numbers: within a label; an object is what has label and number in common, [h, w].

    Returns:
        0 where there is no label, else 1, 2, ... in order of label, then of number.
    """
    keys = np.where(labels == 0, 0, labels.astype(np.int64) * 65536 + numbers)
    found, objects = np.unique(keys, return_inverse=True)
    return (objects.reshape(labels.shape) + int(found[0] != 0)).astype(np.uint16)
