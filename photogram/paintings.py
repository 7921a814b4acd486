"""A folder of paintings: which painting goes where, who may write there, and what was asked for when it was begun."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from photogram.collecting import SETTINGS, Item, is_there, plain
from photogram.errors import UserError
from photogram.locking import held
from photogram.outputs import difference, read_record, write_record, writing
from photogram.precision import Precision, resolved
from photogram.rasters import as_rgb, kind_of, suffix_for, write_raster
from photogram.scene import SceneSpec
from photogram.sheets import numbered

SHEET, ANIMATION = "sheet.png", "animation.webp"
"""What stands beside the paintings."""


Format = Literal["png", "jpg", "webp", "tif"]
"""Of paintings' files."""
OF_8_BITS = ("jpg", "webp")
_ALIKE = 3  # files that are named one by one, though the same is wrong with all of them
_SUFFIXES = tuple(f".{format}" for format in get_args(Format))


def format_for(spec: SceneSpec, asked: str | None) -> Format:
    """The type of the files of a network's paintings.

    Args:
        spec: what the network learned from.
        asked: None is png where that keeps the channels and bits, else tif.

    Raises:
        UserError: where it is unknown, or cannot hold what the network paints.
    """
    channels, bits = spec.photo_channels, spec.photo_bits
    format = suffix_for(channels, bits) if asked is None else asked
    if format not in get_args(Format):
        raise UserError(f"--format {format}: must be png, jpg, webp or tif")
    held = {"png": (1, 3, 4) if bits < 32 else (), "tif": (channels,)}.get(format, (1, 3))
    if channels not in held:
        raise UserError(f"--format {format}: cannot hold {kind_of(channels, bits)}, which is painted here; use tif")
    return cast(Format, format)


def bits_for(spec: SceneSpec, format: Format) -> int:
    """The bits that a channel of a network's paintings has in files of this type."""
    return 8 if format in OF_8_BITS else spec.photo_bits


def write_paintings(paintings: list[np.ndarray], target: Path) -> None:
    """The painting; of several candidates each, and last, since it says that they are finished, the sheet of them."""
    folder = target.parent if len(paintings) == 1 else target.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    if len(paintings) == 1:
        return write_raster(paintings[0], target)
    for n, pixels in enumerate(paintings):
        write_raster(pixels, folder / f"{n}{target.suffix}")
    write_raster(numbered([as_rgb(pixels) for pixels in paintings]), target)


class Place(NamedTuple):
    """A layout's file, the painting's name in its folder, without a suffix, and the file that the painting becomes."""

    source: Path
    name: str
    target: Path


class Places:
    """Which painting goes where; refuses two layouts for one painting.

    Args:
        out: the folder of the paintings.
        format: their suffix.
        numbered: a painting `a` is a sheet of several, and a folder `a` holds each.
    """

    def __init__(self, out: Path, format: str, numbered: bool = False):
        self.out, self.format, self.numbered = out, format, numbered
        self.names: dict[str, Path] = {}
        self.folders: dict[str, Path] = {}
        self.inside = Path(os.path.realpath(out))

    def assign(self, items: Iterable[Item], strict: bool) -> Iterator[Place | UserError]:
        """Each item's place; what is refused is raised where `strict`, else handed on. The same layout counts once."""
        for item in items:
            try:
                place = self.assign_one(item)
            except UserError as e:
                if strict:
                    raise
                yield e
                continue
            if place is not None:
                yield place

    def assign_one(self, item: Item) -> Place | None:
        """The place of an item, or None where the same layout was given before.

        Raises:
            UserError: where the layout lies in the output folder, or its painting's place is taken.
        """
        target = self.out / f"{item.name}.{self.format}"
        try:
            real = Path(os.path.realpath(item.source))
        except ValueError as e:  # a zero byte
            raise UserError(f"{str(item.source)!r}: is no path ({e})") from None
        if real.is_relative_to(self.inside):
            raise UserError(f"{item.source}: lies in the output folder {self.out}; give another --out")
        if target in (self.out / SHEET, self.out / ANIMATION):
            raise UserError(f"{item.source}: its painting would be {target}, whose place is taken; rename the layout")
        if item.name not in self.names:
            self._apart(item)
            self.names[item.name] = item.source
            return Place(item.source, item.name, target)
        earlier = self.names[item.name]
        if plain(earlier) == plain(item.source):
            return None
        raise UserError(f"{earlier} and {item.source}: both would become {target}; rename one, or paint them apart")

    def _apart(self, item: Item) -> None:
        """Refuse a layout whose candidates' folder holds paintings of other layouts, or the other way round."""
        if not self.numbered:
            return
        above = [parent.as_posix() for parent in PurePosixPath(item.name).parents]
        for folder in above:
            self.folders.setdefault(folder, item.source)
        other = next((self.names[folder] for folder in above if folder in self.names), self.folders.get(item.name))
        if other is not None:
            raise UserError(
                f"{item.source} and {other}: the candidates of one would lie among the paintings of the other; rename "
                "one, or paint them apart"
            )

    def finished(self) -> int:
        """How many of the assigned are there already."""
        return sum(is_there(self.out / f"{name}.{self.format}") for name in self.names)


def told_once(failures: Iterable[str]) -> list[str]:
    """Failures for people: what is wrong with many files in the same words is one line.

    Args:
        failures: lines such as `FILE: what is wrong`.

    Returns:
        In the order of the first of each kind; of more than `_ALIKE` with the same words the first alone, with how
        many other files there are.
    """
    alike: dict[str, list[str]] = {}
    for line in failures:
        alike.setdefault(line.partition(": ")[2] or line, []).append(line)
    lines: list[str] = []
    for words, those in alike.items():
        first = those[0].removesuffix(f": {words}")
        lines += those if len(those) <= _ALIKE else [f"{first} and {len(those) - 1:,} other files: {words}"]
    return lines


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold the folder, and sweep out what a killed synthesis left; see `photogram.locking.held`."""
    with held(out / ".lock", f"{out}: another synthesis is painting into this folder"):
        if (out / SETTINGS).exists():
            with writing(out):
                for path in out.rglob(".*.partial"):
                    path.unlink()
        yield


def forget(out: Path) -> None:
    """Where nothing was painted, nothing was begun: remove `synthesis.json` if it is alone."""
    if [path.name for path in out.iterdir() if not path.name.startswith(".")] == [SETTINGS]:
        (out / SETTINGS).unlink()


@contextmanager
def begun(
    out: Path, settings: Mapping[str, object], names: set[str], bits: int, source: str | Path | None, overwrite: bool
) -> Iterator[Literal["fp32", "bf16"]]:
    """Hold a folder that is new, or was begun with the same settings; gives the precision in which it is painted.

    Args:
        out: the folder.
        settings: what decides every byte of a painting; its `precision` is what is asked for, and `auto` goes on as the
            folder was begun.
        names: of the paintings to come, without suffixes.
        bits: that they are kept in.
        source: where the generator was loaded from, to be noted.
        overwrite: whatever it was begun with; the old paintings of these names are removed.

    Raises:
        UserError: where it was begun otherwise, holds something else, is in use or cannot be written.
    """
    refuse_strangers(out)
    with only_one(out):
        started = read_settings(out)
        precision = resolved(cast(Precision, settings["precision"]), None if overwrite else started, bits)
        settings = {**settings, "precision": precision}
        if started is not None and overwrite:
            make_room(out, started, settings, names)
        agree(out, None if overwrite else started, settings, source)
        try:
            yield precision
        finally:
            if started is None:
                forget(out)


def refuse_strangers(out: Path) -> None:
    """Refuse a folder with anything in it that is no folder of paintings, before anything is written there."""
    if not out.is_dir() or (out / SETTINGS).exists():
        return
    with writing(out):
        others = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    if others:
        raise UserError(f"{out}: is not empty ({others[0]} is there) and holds no paintings; give another --out")


def read_settings(out: Path) -> dict[str, object] | None:
    """What was asked for when the folder was begun; None of a new folder."""
    found = read_record(out / SETTINGS, "paint into another folder")
    return None if found is None else {"compile": False} | found  # before there was such a setting


def agree(
    out: Path, started: dict[str, object] | None, settings: Mapping[str, object], source: str | Path | None
) -> None:
    """Write `synthesis.json`, or refuse to go on with a folder that was begun otherwise."""
    if started is None:
        return write_record(out / SETTINGS, {**settings, "source": None if source is None else str(source)})
    if started.get("network") != settings["network"]:
        raise UserError(f"{out}: {_other_network(started.get('source'), source)}; give another --out, or --overwrite")
    differs = difference(started, settings)
    if differs is not None:
        raise UserError(
            f"{out}: was begun with {differs}; repeat the first command, give another --out, or --overwrite"
        )


def _other_network(before: object, now: str | Path | None) -> str:
    """Why weights are not those that a folder was begun with, as far as is known; their hashes tell nobody anything."""
    if before is None or now is None:
        return "was begun with another network, or it has changed since (trained on, or clustered again)"
    if os.path.realpath(str(before)) != os.path.realpath(now):
        return f"was begun with the network in {before}, not that in {now}"
    return f"was begun with the network in {now}, which has changed since (trained on, or clustered again)"


def make_room(out: Path, started: dict[str, object], settings: Mapping[str, object], names: set[str]) -> None:
    """Remove the old paintings of these names, before anything says that the folder was begun anew.

    Raises:
        UserError: where others would be left, that were painted otherwise.
    """
    old = {
        path: path.relative_to(out).with_suffix("").as_posix()
        for path in sorted(out.rglob("[!.]*"))
        if path.suffix in _SUFFIXES and path not in (out / SHEET, out / ANIMATION) and path.is_file()
    }
    ours = {path for path, name in old.items() if name in names or (path.stem.isdecimal() and _above(name) in names)}
    others = [path for path in old if path not in ours]
    if others and difference(started, settings) is not None:
        raise UserError(
            f"{others[0]}: would stay among paintings that are made otherwise ({len(others)} such); "
            "remove it, or give another --out"
        )
    with writing(out):
        for path in [*ours, out / SHEET, out / ANIMATION]:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in ours} - {out}:
            if not any(folder.iterdir()):  # of candidates, of which one alone is asked for now
                folder.rmdir()


def _above(name: str) -> str:
    return name.rpartition("/")[0]
