"""The doctor's look at names: what a data folder holds, which files belong together, and which to none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from photogram.data.carrying import RECORD
from photogram.data.examine import Finding, Severity
from photogram.data.folder import WHAT, Pair, Pairing, Part, pair_files, parts_of
from photogram.data.unpaired import are_unpaired, were_unpaired
from photogram.errors import UserError, nearest
from photogram.recipe import LearnsFrom

_FOLDERS = ("photos", "layouts", "instances", "inputs")


@dataclass(frozen=True)
class Kind:
    """What a data folder is examined as: what its photographs are asked for with, and whether by name."""

    parts: tuple[Part, ...]
    unpaired: bool = False

    @property
    def what(self) -> str:
        """What a photograph must have, for messages."""
        return " and ".join(WHAT[part] for part in self.parts) or "photograph"


def kind_of(root: Path, learns_from: LearnsFrom | None) -> Kind:
    """What a data folder is examined as: what a recipe asks of it, or, of None, what it holds."""
    if learns_from == "unpaired":
        return Kind(("inputs",), True)
    if learns_from is not None:
        return Kind(parts_of(root, learns_from))
    there = {part for part in _FOLDERS for _ in root.glob(f"[!.]*/{part}")}
    there |= {"layouts"} if (root / "classes.json").exists() else set()
    parts: list[Part] = [part for part in ("layouts", "inputs") if part in there]
    if not parts:
        return Kind(() if "photos" in there else ("layouts",))
    if parts == ["inputs"] and (root / "train").is_dir():
        return Kind(("inputs",), are_unpaired(root, "train"))
    return Kind(tuple(parts))


def pairings_of(root: Path, quick: bool, kind: Kind, found: list[Finding]) -> dict[str, Pairing]:
    """The splits of a folder, `train` and `val` first; what is wrong with their names and pairs goes to `found`.

    Raises:
        UserError: where the folder cannot be listed.
    """
    try:
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as e:
        raise UserError(f"{root}: cannot be listed ({e.strerror})") from None
    names = [p.name for p in folders if any((p / part).is_dir() for part in _FOLDERS)]
    names += [p.name for p in folders if p.name in ("train", "val") and p.name not in names]
    names.sort(key=lambda name: (name != "train", name != "val", name))
    if "train" not in names:
        inside = [part for part in _FOLDERS if (root / part).is_dir()]
        hint = f"it holds {' and '.join(inside)} itself; give the folder above it" if inside else _holds(root)
        message = f"no such folder, so there is nothing to train on; {root}: {hint}{nearest('train', names)}"
        found.append(Finding("no-train-split", "error", str(root / "train"), message))
    if "val" not in names:
        found.append(Finding("no-val-split", "note", str(root / "val"), "no such folder, so nothing is held out"))
    pairings: dict[str, Pairing] = {}
    for name in names if not quick else [n for n in names if n in ("train", "val")]:
        try:
            pairings[name] = pair_files(root / name, kind.parts)
        except OSError as e:
            found.append(Finding("unreadable", damage(name), str(root / name), f"cannot be listed ({e.strerror})"))
            continue
        found += _pair_findings(root / name, pairings[name], kind)
    found += _instances_in_one_split_only(root, pairings)
    if "inputs" in kind.parts and not kind.unpaired and were_unpaired(root):
        message = (
            "these are two collections that nobody paired: inputs and photographs of one name do not belong together"
        )
        found.append(Finding("unpaired", "warning", str(root / RECORD), message))
    return pairings


def _holds(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    return f"has the folders {', '.join(names[:8])}" if names else "has no folders"


def damage(split: str, used: bool = True) -> Severity:
    """How bad damage is: training reads no other splits, and in `train` only layouts with a photograph."""
    return "error" if used and split in ("train", "val") else "warning"


def _pair_findings(folder: Path, pairing: Pairing, kind: Kind) -> Iterator[Finding]:
    train = folder.name == "train"
    for first, second in pairing.twins:
        message = f"has the same stem as {first.name}; which one is meant? Remove one"
        yield Finding("same-stem", damage(folder.name), str(second), message)
    for path in pairing.strangers:
        message = "is of no known type, and ignored"
        if path.is_dir():
            message = f"is a folder; files must lie in {path.parent.name} itself"
        elif path.is_symlink() and not path.exists():
            message = "is a link to nothing"
        yield Finding("unknown-type", "warning", str(path), message)
    if kind.unpaired:
        yield from _unpaired_findings(folder, pairing)
        return
    if not (pairing.with_photos if train else pairing.pairs):
        what = f"{kind.what} {'has a photograph of the same stem' if train and kind.parts else 'is there'}"
        severity: Severity = "error" if train else "warning"
        yield Finding("no-pairs" if train else "empty-split", severity, str(folder), f"no {what}; it {_holds(folder)}")
    yield from _lonely(pairing, kind)
    for pair in pairing.pairs:
        if pair.photo is None:
            message = "has no photograph" + ("; training leaves it out" if train else "")
            which = "layout" if pair.layout else "input"
            yield Finding(f"{which}-without-photo", "warning" if train else "note", str(pair.first), message)
    if "layouts" in kind.parts:
        yield from _partly_missing(folder, pairing.with_photos if train else pairing.pairs)


def _lonely(pairing: Pairing, kind: Kind) -> Iterator[Finding]:
    """Files whose scenes lack what they are asked for with, and are left out."""
    lacks = "layout" if "layouts" in kind.parts else "input"
    for paths, what, lacking in (
        (pairing.lonely_photos, "photo", lacks),
        (pairing.lonely_instances, "instances", "layout"),
        (pairing.lonely_layouts, "layout", "input"),
        (pairing.lonely_inputs, "input", "layout"),
    ):
        for path in paths:
            name = f"{path.stem}.png" if lacking == "layout" else f"of the stem {path.stem}"
            yield Finding(f"{what}-without-{lacking}", "warning", str(path), f"has no {lacking} {name}; it is ignored")


def _unpaired_findings(folder: Path, pairing: Pairing) -> Iterator[Finding]:
    inputs, photos = len(pairing.pairs), len(pairing.with_photos) + len(pairing.lonely_photos)
    if inputs and photos:
        message = (
            f"{inputs} inputs and {photos} photographs, two collections: for recipes that learn from unpaired ones"
        )
        yield Finding("unpaired", "note", str(folder), message)
        return
    empty = "inputs" if not inputs else "photos"
    severity: Severity = "error" if folder.name == "train" else "warning"
    yield Finding("empty-collection", severity, str(folder / empty), f"holds no images; {folder} {_holds(folder)}")


def _partly_missing(folder: Path, pairs: list[Pair]) -> Iterator[Finding]:
    missing = [pair.stem for pair in pairs if pair.instances is None]
    if not missing or len(missing) == len(pairs):
        return
    others = missing[1:]  # the finding's path is the first
    message = f"is missing, of {len(pairs)} instance maps this one alone, so that none is used"
    if others:
        names = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
        as_are = "as is 1 other" if len(others) == 1 else f"as are {len(others)} others"
        message = f"is missing, {as_are} of {len(pairs)} instance maps, so that none is used: {names}"
    yield Finding("instances-partly-missing", "warning", str(folder / "instances" / f"{missing[0]}.png"), message)


def _instances_in_one_split_only(root: Path, pairings: dict[str, Pairing]) -> Iterator[Finding]:
    splits = {s: pairings[s].pairs for s in ("train", "val") if s in pairings and pairings[s].pairs}
    have = {split: any(pair.instances for pair in pairs) for split, pairs in splits.items()}
    if len(set(have.values())) > 1:
        lacking = next(split for split, has in have.items() if not has)
        other = "val" if lacking == "train" else "train"
        message = f"no instance maps, though {other} has some"
        yield Finding("instances-partly-missing", "warning", str(root / lacking / "instances"), message)
