"""TensorFlow's checkpoints of format V2, read without TensorFlow.

`NAME.index` is a sorted table from the names of variables to where their values are; `NAME.data-0000I-of-0000N` are the
values, raw. The table has LevelDB's form, and what stands in it are small protocol buffers (TensorFlow's
tensor_bundle.proto). Specification of CRN, section 9.2.

The files may come from anywhere. Every number in them is held against what is there before anything is allocated or
read by it, and every checksum is verified.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from photogram.collecting import is_there
from photogram.errors import UserError
from photogram.interop.crc32c import crc32c, unmasked
from photogram.interop.files import Damaged, opened
from photogram.interop.leveldb import Cursor, read_table, shown

INDEX_LIMIT = 4 << 20
"""Bytes of the largest index that is read; that of a network with a thousand variables has a hundredth of it."""
TENSOR_LIMIT = 1 << 31
"""Bytes of the largest tensor that is read."""

_VERSION = 1  # of what we can read; checkpoints name the oldest reader that they are meant for
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types; groups (3, 4) are long gone
_TYPES = {
    1: ("float32", 4),
    2: ("float64", 8),
    3: ("int32", 4),
    4: ("uint8", 1),
    5: ("int16", 2),
    6: ("int8", 1),
    9: ("int64", 8),
    10: ("bool", 1),
    17: ("uint16", 2),
    19: ("float16", 2),
    22: ("uint32", 4),
    23: ("uint64", 8),
}
"""TensorFlow's numbers of types that are stored as they lie in memory, their names in NumPy, and their bytes."""


class Entry(NamedTuple):
    """Where a variable's values are.

    Args:
        dtype: NumPy's name of the type, or `type N` of one that cannot be read here.
        shape: the variable's.
        shard: the number of the data file.
        offset: of the first byte in it.
        size: in bytes.
        checksum: CRC-32C of the bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


@dataclass(frozen=True)
class Checkpoint:
    """The checked index of a checkpoint; `read` gives the values.

    Args:
        index: its file.
        shards: the data files, by number; those that no variable is in are left out.
        entries: by the variables' names, sorted.
    """

    index: Path
    shards: Mapping[int, Path]
    entries: Mapping[str, Entry]

    def read(self, name: str) -> np.ndarray:
        """The values of a variable, an array of its own in the type and shape of its entry.

        Raises:
            UserError: where the type cannot be read, the data file is not what it was when the index was opened, or the
                checksum does not agree.
        """
        entry = self.entries[name]
        path = self.shards[entry.shard]
        if entry.dtype.startswith("type "):
            raise UserError(f"{self.index}: {name!r} is of TensorFlow's {entry.dtype}, which cannot be read here")
        if entry.size > TENSOR_LIMIT:
            raise UserError(
                f"{self.index}: {name!r} has {entry.size:,} bytes, more than the limit of {TENSOR_LIMIT:,}; refused"
            )
        values = np.empty(entry.shape, np.dtype(entry.dtype).newbyteorder("<"))
        octets = values.reshape(-1).view(np.uint8)
        with _open(path) as file:
            file.seek(entry.offset)
            if file.readinto(octets.data) != entry.size:
                raise UserError(f"{path}: is cut short within {name!r}; copy or download it again")
        if crc32c(octets) != entry.checksum:
            raise UserError(f"{path}: the checksum of {name!r} does not agree; copy or download it again")
        return values.astype(entry.dtype, copy=False)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check the index of a checkpoint; no values yet.

    Args:
        path: `NAME`, one of its files (`NAME.index`, `NAME.meta`, `NAME.data-...`), or a folder with one checkpoint, or
            with TensorFlow's `checkpoint` file, which names the newest.

    Raises:
        UserError: naming the file and what is missing, damaged, not as the format has it, or beyond a limit.
    """
    prefix = find(Path(path))
    index = _beside(prefix, ".index")
    if is_there(prefix) and not is_there(index):
        raise UserError(f"{prefix}: is no file of a checkpoint; there is no {index.name} beside it")
    with _open(index) as file:
        data = file.read(INDEX_LIMIT + 1)
    if len(data) > INDEX_LIMIT:
        raise UserError(f"{index}: is larger than the limit of {INDEX_LIMIT:,} bytes; refused")
    try:
        records = read_table(data)
        count, entries = _bundle(records)
    except Damaged as e:
        raise UserError(f"{index}: {e}") from None
    shards = {n: _beside(prefix, f".data-{n:05}-of-{count:05}") for n in sorted({e.shard for e in entries.values()})}
    for n, shard in shards.items():
        _check_places(index, shard, {name: e for name, e in entries.items() if e.shard == n})
    return Checkpoint(index, MappingProxyType(shards), MappingProxyType(entries))


# --- which files are meant -------------------------------------------------------------------------------------------


def find(path: Path) -> Path:
    """The `NAME` that all files of a checkpoint begin with, of anything that `open_checkpoint` takes.

    Raises:
        UserError: where a folder holds none, or several and no word which.
    """
    if "\0" in str(path):
        raise UserError(f"{str(path)!r}: is no path; there is a zero byte in it")
    try:
        if path.name == "checkpoint" and path.is_file():
            path = path.parent
        if not path.is_dir():
            return path.with_name(re.sub(r"(?<=.)\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name))
        if (path / "checkpoint").is_file():
            return _newest(path)
        found = sorted(p.name.removesuffix(".index") for p in path.iterdir() if p.name[1:].endswith(".index"))
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None
    if not found:
        raise UserError(f"{path}: holds no checkpoint; there is no NAME.index in it")
    if len(found) > 1:
        raise UserError(f"{path}: holds {len(found)} checkpoints ({found[0]}, {found[1]}, ...); give {path / found[0]}")
    return path / found[0]


def _newest(folder: Path) -> Path:
    """What TensorFlow's `checkpoint` file names; looked for in its folder, should that have been moved since."""
    record = folder / "checkpoint"
    with _open(record) as file:
        text = file.read(1 << 16)
    named = re.search(rb'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\\n]|\\.)*)"', text, re.MULTILINE)
    if named is None:
        raise UserError(f"{record}: names no model_checkpoint_path; give NAME, of its NAME.index")
    octets = re.sub(rb"\\([0-7]{1,3}|.)", lambda m: _unescaped(m[1]), named[1])
    name = octets.decode("utf-8", "replace").rstrip("/\\")
    if not name.strip("/\\.") or "\0" in name:
        raise UserError(f"{record}: names {name!r}, which is no checkpoint; give NAME, of its NAME.index")
    moved = folder / re.split(r"[/\\]", name)[-1]
    there = [p for p in (folder / name, moved) if _beside(p, ".index").is_file()]
    if not there:
        raise UserError(f"{record}: names {name!r}, but there is no {moved.name}.index beside it")
    return there[0]


def _unescaped(octets: bytes) -> bytes:
    """One escape of a protobuf's text form: an octal number or a character that stands for itself."""
    return bytes([int(octets, 8) & 255]) if octets.isdigit() and octets < b"8" else octets


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def _open(path: Path) -> AbstractContextManager[BufferedReader]:
    return opened(path, "a checkpoint is NAME.index and NAME.data-00000-of-00001")


# --- what the table says ---------------------------------------------------------------------------------------------


def _bundle(records: Mapping[bytes, bytes]) -> tuple[int, dict[str, Entry]]:
    """The number of data files, and the variables, of a table's keys and values."""
    if b"" not in records:
        raise Damaged("has no header; it is no index of a checkpoint")
    shards = _header(records[b""])
    entries: dict[str, Entry] = {}
    for key, record in records.items():
        if not key:
            continue
        if key.startswith(b"\0"):
            raise Damaged("holds slices of variables that were partitioned; only whole variables are read")
        try:
            entries[key.decode("utf-8")] = _entry(record, shards)
        except UnicodeDecodeError:
            raise Damaged(f"the name {shown(key)} is no text; it is damaged") from None
        except Damaged as e:
            raise Damaged(f"{shown(key)}: {e}") from None
    return shards, entries


def _header(record: bytes) -> int:
    """Check BundleHeaderProto; the number of data files."""
    values = _message(record, {1: _VARINT, 2: _VARINT, 3: _BYTES})
    shards, order = _single(values, 1, 0), _single(values, 2, 0)
    if order != 0:
        raise Damaged("the values are big-endian; only little-endian ones are read")
    if not 1 <= shards <= 99_999:
        raise Damaged(f"has {shards} data files; it must be 1 to 99,999")
    versions = _message(_single(values, 3, b""), {2: _VARINT, 3: None})
    if _single(versions, 2, 0) > _VERSION or 3 in versions:
        raise Damaged("asks for a newer version of the format than can be read here")
    return shards


def _entry(record: bytes, shards: int) -> Entry:
    """Check BundleEntryProto, but for what only the data file can tell."""
    kinds = {1: _VARINT, 2: _BYTES, 3: _VARINT, 4: _VARINT, 5: _VARINT, 6: _FIXED32, 7: _BYTES}
    values = _message(record, kinds)
    if 7 in values:
        raise Damaged("is stored in slices, as partitioned variables are; only whole ones are read")
    number = _single(values, 1, 0)
    dtype, itemsize = _TYPES.get(number, (f"type {number}", None))
    shape = _shape(_single(values, 2, b""))
    shard, offset, size = (_single(values, field, 0) for field in (3, 4, 5))
    if not 0 <= shard < shards:
        raise Damaged(f"is in data file {_signed(shard)}, but there are only 0..{shards - 1}")
    if _signed(offset) < 0 or _signed(size) < 0:
        raise Damaged(f"has {_signed(size)} bytes at {_signed(offset)}; neither can be negative; it is damaged")
    if itemsize is not None and size != math.prod(shape) * itemsize:
        form = " x ".join(map(str, shape)) or "one"
        raise Damaged(f"has {size} bytes, but {form} values of {dtype} have {math.prod(shape) * itemsize}")
    if math.prod(filter(None, shape)) >> 60:  # where one size is 0, that is all there is to see of the others
        raise Damaged(f"is {list(shape)}, more than there can be; it is damaged")
    return Entry(dtype, shape, shard, offset, size, unmasked(_single(values, 6, 0)))


def _shape(record: bytes) -> tuple[int, ...]:
    """Sizes from TensorShapeProto."""
    values = _message(record, {2: _BYTES, 3: _VARINT})
    if _single(values, 3, 0):
        raise Damaged("has an unknown shape; it is damaged")
    sizes = tuple(_single(_message(dimension, {1: _VARINT}), 1, 0) for dimension in values.get(2, []))
    if any(_signed(size) < 0 for size in sizes) or len(sizes) > 32:
        raise Damaged(f"has {len(sizes)} dimensions, the smallest {min(map(_signed, sizes))}; it is damaged")
    return sizes


def _signed(value: int) -> int:
    """What an int64 was, whose two's complement is a varint."""
    return value - (1 << 64) if value >> 63 else value


def _message(record: bytes, known: Mapping[int, int | None]) -> dict[int, list[Any]]:
    """The fields of a protocol buffer by number, integers or bytes; unknown ones are passed over, as it is the custom.

    Args:
        record: the encoded message.
        known: the wire type that fields must have; None for any.
    """
    cursor, found = Cursor(record), {}
    while cursor.left:
        tag = cursor.varint()
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value = cursor.varint()
        elif kind == _BYTES:
            value = cursor.take(cursor.varint())
        elif kind in (_FIXED32, _FIXED64):
            value = int.from_bytes(cursor.take(4 if kind == _FIXED32 else 8), "little")
        else:
            raise Damaged(f"a field is of the unknown kind {kind}; it is damaged")
        if known.get(number) not in (None, kind) or not number:
            raise Damaged(f"field {number} is of kind {kind}; it is damaged")
        found.setdefault(number, []).append(value)
    return found


def _single(values: Mapping[int, list[Any]], number: int, default: Any) -> Any:
    """A field that may be there once; what is not there has its default."""
    given = values.get(number, [default])
    if len(given) > 1:
        raise Damaged(f"field {number} is given {len(given)} times; it is damaged")
    return given[0]


def _check_places(index: Path, shard: Path, entries: Mapping[str, Entry]) -> None:
    """Refuse variables that lie beyond their data file's end, or one in another."""
    with _open(shard) as file:
        size = os.fstat(file.fileno()).st_size
    end, before = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].size)):
        if entry.offset + entry.size > size:
            raise UserError(
                f"{shard}: has {size:,} bytes, but {name!r} ends at {entry.offset + entry.size:,}; it is cut short, or "
                "belongs to another index"
            )
        if entry.offset < end and entry.size:
            raise UserError(f"{index}: {name!r} and {before!r} lie over each other in {shard.name}; it is damaged")
        end, before = max(end, entry.offset + entry.size), name
