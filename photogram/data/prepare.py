"""From public data sets as they are downloaded to data folders: `cityscapes`, `camvid`, `coco-stuff`.

Each function writes `out/classes.json` and `out/train/`, `out/val/` with `photos/`, `layouts/` and
`instances/`, paired by stem. All can be stopped and run again, and none touches its source. Layouts of other
origins: `photogram.data.palette`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from photogram.data.colors import ColorTable, pack_color, read_colors
from photogram.data.known_classes import (
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_TRAIN_IDS,
    COCO_STUFF,
    COCO_THINGS,
    camvid_11,
    camvid_32,
    cityscapes_19,
    cityscapes_35,
    coco_stuff,
)
from photogram.data.preparing import Labels, Plan, Prepared, Read, SourceScene, carry_out, read_objects
from photogram.data.rewriting import split_scenes
from photogram.errors import UserError
from photogram.images import PHOTO_SUFFIXES, read_labels
from photogram.scene import read_classes

_STRAY_LIMIT = 0.01  # the share of a CamVid layout in colours that its list does not know, up to which they are void


def _folder(source: Path) -> Path:
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give the folder that the data set was unpacked into")
    return source


def prepare_cityscapes(source: Path, *, out: Path, classes: Literal[19, 35] = 19, quiet: bool = False) -> Prepared:
    """Prepare Cityscapes (Cordts et al. 2016) from its official tree.

    Looks for `gtFine/SPLIT/CITY/*_gtFine_labelIds.png`, `*_gtFine_instanceIds.png` and
    `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` in `source` or one folder below; every split there is taken.
    Layouts without a photograph are kept as layouts. With 19 classes, trees that have only `labelTrainIds` or
    `color` files will do; the colours cannot tell pole groups from poles.

    Instance maps keep the official numbers: id * 1000 + k for countable objects, the plain id (below 1000)
    for the rest. The rest is not set to 0, because the boundary map of pix2pixHD (specification of the
    family, section 5) also has the boundaries between road and pavement, and its feature pooling also
    averages over such regions.

    Args:
        source: the folder that holds `gtFine` and `leftImg8bit`.
        out: the data folder to write.
        classes: 19 gives the classes that are evaluated, in the order of their trainIds, and `unlabelled`; 35
            keeps the official ids 0..33, with the licence plate (officially -1) as 34 and id 0 as void.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or does not fit.
    """
    source = _folder(source)
    truth = _below(source, "gtFine")
    if truth is None:
        raise UserError(f"{source}: no folder gtFine in it or one level below; it holds the layouts of Cityscapes")
    photos = _below(source, "leftImg8bit")
    taken = {} if photos is None else {p.name: p for p in sorted(photos.glob("*/*/*_leftImg8bit.png"))}
    kind, layouts = _cityscapes_kind(truth, classes)
    items = []
    for layout in layouts:
        stem = layout.name.removesuffix(f"_gtFine_{kind}.png")
        instances = layout.with_name(f"{stem}_gtFine_instanceIds.png")
        photo = taken.pop(f"{stem}_leftImg8bit.png", None)
        split = layout.parent.parent.name
        items.append(SourceScene(split, stem, layout, photo, instances if instances.is_file() else None))
    warnings = [] if photos else [f"{source}: no folder leftImg8bit; only layouts were prepared"]
    warnings += (
        [f"{next(iter(taken.values()))}: has no layout ({len(taken)} such photographs left out)"] if taken else []
    )
    listed = cityscapes_19() if classes == 19 else cityscapes_35()
    plan = Plan(
        "cityscapes",
        source,
        {"classes": classes, "labels": kind},
        listed,
        items,
        tuple(warnings),
    )

    def read(item: SourceScene) -> Labels:
        return Labels(_cityscapes_layout(item.layout, kind, classes), read_objects(item))

    return carry_out(plan, read, out, quiet)


def _below(source: Path, name: str) -> Path | None:
    """The folder `name`: `source` itself, in it, beside it, or one folder below (as the archives unpack)."""
    if source.name == name:
        return source
    places = [source / name]
    if source.name in ("gtFine", "leftImg8bit"):
        places += [source.parent / name]
    places += sorted(p / name for p in source.iterdir() if p.is_dir())
    found = [p for p in places if p.is_dir()]
    if len(found) > 1 and found[0] != source / name:
        raise UserError(f"{source}: holds several folders {name} ({found[0]}, {found[1]}); give the one that is meant")
    return found[0] if found else None


def _cityscapes_kind(truth: Path, classes: int) -> tuple[str, list[Path]]:
    """Which of the official label files there are, best first, and all of them."""
    for kind in ("labelIds", "labelTrainIds", "color"):
        layouts = sorted(truth.glob(f"*/*/*_gtFine_{kind}.png"))
        if layouts and kind != "labelIds" and classes == 35:
            raise UserError(f"{truth}: has only {kind} files; 35 classes need *_gtFine_labelIds.png, 19 do not")
        if layouts:
            return kind, layouts
    raise UserError(f"{truth}: no SPLIT/CITY/*_gtFine_labelIds.png (nor labelTrainIds, color) in it")


def _cityscapes_layout(path: Path, kind: str, classes: int) -> np.ndarray:
    if kind == "color":
        table = {pack_color(CITYSCAPES[i][1]): n for n, i in enumerate(CITYSCAPES_TRAIN_IDS)}
        return ColorTable(table, 19)(read_colors(path))[0]
    if kind == "labelTrainIds":
        return renumber(path, read_labels(path), {i: i for i in range(19)} | {255: 19, -1: 19}, "trainIds 0..18, 255")
    if classes == 35:
        table = {i: i for i in range(35)} | {255: 34, -1: 34}
    else:  # specification of CRN, 5.3: everything that has no trainId is unlabelled
        table = dict.fromkeys([*range(35), 255, -1], 19) | {i: n for n, i in enumerate(CITYSCAPES_TRAIN_IDS)}
    return renumber(path, read_labels(path), table, "ids 0..34 and -1 (255)")


def prepare_coco_stuff(source: Path, *, out: Path, quiet: bool = False) -> Prepared:
    """Prepare COCO-Stuff (Caesar et al. 2018): 182 classes, labels 0..181 (COCO id - 1); 255 is void, 182.

    Two forms are taken: `train_img`, `train_label`, `train_inst` and `val_...`, as pix2pixHD and SPADE have
    it; and the official one, photographs in `train2017/` and `val2017/` (or in `images/`) with the pixel maps
    of `stuffthingmaps_trainval2017.zip` in folders of those names in `stuffthingmaps/`, `annotations/`, or
    beside the photographs. The official pixel maps come without instances.

    Instance maps of the first form hold running numbers 0, 1, ... on objects and the label elsewhere, so that
    object 3 and a region of label 3 look alike. They are rewritten: below 256 the class of a region without
    objects, else 256 * (class + 1) + number. (Class * 1000 + number, as in Cityscapes, would not fit into 16
    bits.) An object's class is that of most of its pixels, things before stuff, for outlines and labels were
    drawn apart and do not quite agree.

    Args:
        source: the folder that holds the folders named above.
        out: the data folder to write.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or does not fit.
    """
    source = _folder(source)
    items: list[SourceScene] = []
    lonely: list[Path] = []
    for split in ("train", "val"):
        photos, labels, instances = _coco_folders(source, split)
        if labels is None:
            continue
        taken = _by_stem(photos, PHOTO_SUFFIXES if photos != labels else (".jpg", ".jpeg"))
        objects = _by_stem(instances, (".png",))
        for stem, path in _by_stem(labels, (".png",)).items():
            items.append(SourceScene(split, stem, path, taken.pop(stem, None), objects.get(stem)))
        lonely += taken.values()
    if not items:
        raise UserError(
            f"{source}: neither train_label/*.png and train_img/ (or val_...), "
            "nor train2017/ with stuffthingmaps/train2017/*.png (or val2017)"
        )
    warnings = (f"{lonely[0]}: has no layout ({len(lonely)} such photographs left out)",) if lonely else ()
    return carry_out(Plan("coco-stuff", source, {}, coco_stuff(), items, warnings), _read_coco, out, quiet)


def _coco_folders(source: Path, split: str) -> tuple[Path | None, Path | None, Path | None]:
    """Folders of photographs, label maps and instance maps of one split."""
    if (source / f"{split}_label").is_dir():
        return source / f"{split}_img", source / f"{split}_label", source / f"{split}_inst"
    year = f"{split}2017"
    photos = next((p for p in (source / year, source / "images" / year) if p.is_dir()), None)
    places = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations", "labels", ".", "images")
    labels = next((source / p / year for p in places if any((source / p / year).glob("*.png"))), None)
    return photos, labels, None


def _by_stem(folder: Path | None, suffixes: tuple[str, ...]) -> dict[str, Path]:
    paths = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    return {p.stem: p for p in paths if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()}


def _read_coco(item: SourceScene) -> Labels:
    void = len(COCO_STUFF)
    table = {i: i for i in range(void)} | {255: void}  # 182 is the last of maps that count from 1
    layout = renumber(item.layout, read_labels(item.layout), table, "0..181 and 255")
    numbers = read_objects(item)
    if numbers is None or numbers.shape != layout.shape:
        return Labels(layout, numbers)  # the caller refuses another shape, naming both
    if numbers.max() > 255:
        raise UserError(f"{item.instances}: object number {numbers.max()} is beyond 255, the last of this form")
    wide = np.where(numbers == 255, void, numbers.astype(np.int64))
    return Labels(layout, number_objects(layout.astype(np.int64), wide))


def number_objects(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Tell objects from regions in an instance map of the form of pix2pixHD's COCO, and note their classes.

    A value is an object's number where a pixel has it on another label, or where a higher one is such a
    number.

    Args:
        labels: class indices [h, w], 0..255.
        numbers: running numbers on objects, the label elsewhere [h, w], 0..255.

    Returns:
        uint16 [h, w]: the class where there is no object, else 256 * (class of the object + 1) + number.
    """
    keys, which, pixels = np.unique(numbers * 256 + labels, return_inverse=True, return_counts=True)
    number, label = keys // 256, keys % 256
    proven = np.unique(number[number != label])
    counted = np.arange(min(max(proven, default=-1) + 1, COCO_THINGS))  # regions that can be mistaken are things
    values = label.copy()
    for k in np.intersect1d(number, np.union1d(proven, counted)):
        mine = np.flatnonzero(number == k)
        things = mine[label[mine] < COCO_THINGS]
        pool = things if things.size else mine
        owner = label[pool[pixels[pool].argmax()]]
        drawn = mine if owner == k else mine[label[mine] != k]  # the others are regions that kept their label
        values[drawn] = 256 * (owner + 1) + k
    return values[which].reshape(labels.shape).astype(np.uint16)


def prepare_camvid(source: Path, *, out: Path, classes: Literal[11, 32] = 11, quiet: bool = False) -> Prepared:
    """Prepare CamVid (Brostow et al. 2008) from any of three forms.

    The original: photographs `*.png` and layouts in 32 colours `*_L.png`, in any folders below `source`.
    Layouts in folders whose names begin with train, val or test keep that split; else `train.txt`, `val.txt`,
    `test.txt` in `source` list the names of each (`valid.txt` alone: the rest is train); else the last fifth
    of each sequence (the name up to the last underscore) is val. Stray colours on less than 1 % of a layout
    become void, with a warning.

    SegNet's: `train/` and `trainannot/`, `val/` and `valannot/`, `test/` and `testannot/`, layouts with
    indices 0..11.

    A data folder of our own form (`classes.json`, `train/layouts/` ...): checked and copied.

    Args:
        source: the folder that holds one of these.
        out: the data folder to write.
        classes: 32 keeps the classes of the original, `Void` among them; 11 gives SegNet's, into which the 32
            are grouped (markings to road, trucks to car, and so on), and `unlabelled`.
        quiet: show no progress.

    Raises:
        UserError: where no such form is there, it has too few classes, or a file is damaged or does not fit.
    """
    source = _folder(source)
    for root in (source, *sorted(p for p in source.iterdir() if p.is_dir())):
        if (root / "classes.json").is_file():
            return carry_out(*_camvid_own(source, root, classes), out, quiet)
        if (root / "trainannot").is_dir() or (root / "valannot").is_dir():
            return carry_out(*_camvid_segnet(source, root, classes), out, quiet)
    layouts = sorted(p for p in source.rglob("*_L.png") if not p.name.startswith("."))
    if not layouts:
        raise UserError(
            f"{source}: neither *_L.png (32 colours), nor trainannot/ (SegNet), nor classes.json (our form)"
        )
    return carry_out(*_camvid_colors(source, layouts, classes), out, quiet)


def _camvid_own(source: Path, root: Path, classes: int) -> tuple[Plan, Read]:
    listed = read_classes(root / "classes.json")
    wanted = 12 if classes == 11 else 32
    if len(listed) != wanted:
        raise UserError(
            f"{root}/classes.json: lists {len(listed)} classes; --classes {classes} takes {wanted} with void"
        )
    items: list[SourceScene] = []
    warnings: list[str] = []
    for split in sorted(p for p in root.iterdir() if (p / "layouts").is_dir()):
        items += split_scenes(split, split.name, warnings)
    table = {i: i for i in range(len(listed))}

    def read(item: SourceScene) -> Labels:
        layout = renumber(item.layout, read_labels(item.layout), table, f"0..{len(listed) - 1}")
        return Labels(layout, read_objects(item))

    settings: dict[str, object] = {"classes": classes, "form": "own"}
    return Plan("camvid", source, settings, listed, items, tuple(warnings)), read


def _camvid_segnet(source: Path, root: Path, classes: int) -> tuple[Plan, Read]:
    if classes != 11:
        raise UserError(f"{root}: is the form of 11 classes, which 32 cannot be made from; use --classes 11")
    items: list[SourceScene] = []
    for split in ("train", "val", "test"):
        photos = _by_stem(root / split, PHOTO_SUFFIXES)
        for stem, path in _by_stem(root / f"{split}annot", (".png",)).items():
            items.append(SourceScene(split, stem, path, photos.get(stem)))
    table = {i: i for i in range(12)} | {255: 11}

    def read(item: SourceScene) -> Labels:
        return Labels(renumber(item.layout, read_labels(item.layout), table, "0..11 and 255"))

    return Plan("camvid", source, {"classes": classes, "form": "segnet"}, camvid_11(), items), read


def _camvid_colors(source: Path, layouts: list[Path], classes: int) -> tuple[Plan, Read]:
    photos = {
        p.stem: p for p in sorted(source.rglob("*")) if p.suffix.lower() in PHOTO_SUFFIXES and not p.stem.endswith("_L")
    }
    splits, warnings = _camvid_splits(source, layouts)
    items = [
        SourceScene(splits[stem], stem, path, photos.get(stem))
        for path in layouts
        if (stem := path.stem.removesuffix("_L")) in splits
    ]
    indices = {pack_color(color): (i if classes == 32 else group) for i, (_, color, group) in enumerate(CAMVID)}
    listed = camvid_32() if classes == 32 else camvid_11()
    table = ColorTable(indices, next(i for i, c in enumerate(listed) if c.void))

    def read(item: SourceScene) -> Labels:
        found, strays = table(read_colors(item.layout))
        if strays > _STRAY_LIMIT * found.size:
            raise UserError(
                f"{item.layout}: {strays:,} pixels ({strays / found.size:.1%}) have none of the 32 colours; "
                "was it smoothed or stored as JPEG? `photogram prepare palette` can snap colours"
            )
        warning = f"{item.layout}: {strays} pixels of unknown colours became void" if strays else None
        return Labels(found, read_objects(item), warning)

    settings: dict[str, object] = {"classes": classes, "form": "colors"}
    return Plan("camvid", source, settings, listed, items, tuple(warnings)), read


def _camvid_splits(source: Path, layouts: list[Path]) -> tuple[dict[str, str], list[str]]:
    """The split of each stem, and warnings."""
    stems = [p.stem.removesuffix("_L") for p in layouts]
    folders = [
        next((s for s in ("train", "val", "test") if p.parent.name.lower().startswith(s)), None) for p in layouts
    ]
    if all(folders):
        return {stem: split for stem, split in zip(stems, folders, strict=True) if split}, []
    lists = {s: _names(source / f"{s}.txt") for s in ("train", "val", "test") if (source / f"{s}.txt").is_file()}
    if not lists and (source / "valid.txt").is_file():
        held = set(_names(source / "valid.txt"))
        lists = {"val": sorted(held), "train": [s for s in stems if s not in held]}
    if lists:
        missing = [(n, s) for s, names in lists.items() for n in names if n not in set(stems)]
        if missing:
            raise UserError(f"{source}/{missing[0][1]}.txt: lists {missing[0][0]!r}, which has no layout in {source}")
        splits = {name: split for split, names in lists.items() for name in names}
        left = [s for s in stems if s not in splits]
        return splits, [f"{left[0]}: is in none of the lists ({len(left)} such scenes left out)"] if left else []
    sequences: dict[str, list[str]] = {}
    for stem in sorted(stems):
        sequences.setdefault(stem.rpartition("_")[0], []).append(stem)
    splits = {}
    for members in sequences.values():
        kept = len(members) - round(len(members) / 5)
        splits |= {stem: "train" if n < kept else "val" for n, stem in enumerate(members)}
    return splits, []


def _names(path: Path) -> list[str]:
    """The stems that a list names: one a line, with or without folders, suffix, `_L`, and a second column."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [Path(line.split()[0]).stem.removesuffix("_L") for line in lines if line.strip()]


def renumber(path: Path, labels: np.ndarray, table: dict[int, int], known: str) -> np.ndarray:
    """Send label values to class indices: uint8 [h, w].

    Raises:
        UserError: naming the first pixel whose value is not in the table; `known` says what is.
    """
    values = [v for v in table if 0 <= v <= 65535]
    lookup = np.full(65536, -1, np.int32)
    lookup[values] = [table[v] for v in values]
    wide = labels.astype(np.int32)
    if -1 in table:
        wide[wide == -1] = 65535
        lookup[65535] = table[-1]
    classes = np.where((wide >= 0) & (wide < 65536), lookup[wide & 65535], -1)
    if (classes < 0).any():
        row, column = np.argwhere(classes < 0)[0]
        raise UserError(f"{path}: label {labels[row, column]} at (row {row}, column {column}); known are {known}")
    return classes.astype(np.uint8)
