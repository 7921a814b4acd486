"""PyTorch's checkpoints (`torch.save` of a state dict), read without executing their pickles.

Both forms are read: the zip archives of PyTorch 1.6 and later, whose values lie uncompressed and have checksums, and
the five pickles with the values behind them of 0.1.2 to 1.5, which have none. `pickled` reads the pickles.

The files may come from anywhere. Every number in them is held against what is there before anything is allocated or
read by it, and every checksum is verified.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from photogram.errors import UserError
from photogram.interop.files import Damaged, opened
from photogram.interop.pickled import Described, Storage, read_pickle, shortened

PICKLE_LIMIT = 1 << 20
"""Bytes of the longest description of tensors that is read; that of a network with a hundred has a fiftieth of it."""
DIRECTORY_LIMIT = 1 << 20
"""Bytes of the longest table of a zip archive that is read."""
TENSOR_LIMIT = 1 << 31
"""Bytes of the largest storage that is read."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LOCAL = struct.Struct("<4s5H3I2H")  # a zip's header before each file


class Place(NamedTuple):
    """Where the values of a storage are: the first byte, and their CRC-32 where the form has one."""

    offset: int
    checksum: int | None


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint describes; `read` gives the values.

    Args:
        path: the file.
        form: zip (PyTorch 1.6 and later) or legacy.
        contents: what was saved, with a `Described` for each tensor.
        places: of storages, by their keys.
    """

    path: Path
    form: Literal["zip", "legacy"]
    contents: Mapping[object, object]
    places: Mapping[str, Place]

    def read(self, tensor: Described) -> Tensor:
        """The values of a tensor, contiguous and its own.

        Raises:
            UserError: where the file is not what it was when it was opened, the checksum does not agree, or there are
                more values than the limit.
        """
        storage, place = tensor.storage, self.places[tensor.storage.key]
        if storage.size > TENSOR_LIMIT:
            raise UserError(
                f"{self.path}: a tensor has {storage.size:,} bytes, more than the limit of {TENSOR_LIMIT:,}; refused"
            )
        values = torch.empty(storage.size, dtype=torch.uint8)
        octets = values.numpy().data
        with _open(self.path) as file:
            file.seek(place.offset)
            if file.readinto(octets) != storage.size:
                raise UserError(f"{self.path}: is cut short; copy or download it again")
        if place.checksum is not None and zlib.crc32(octets) != place.checksum:
            raise UserError(
                f"{self.path}: the checksum of storage {shortened(storage.key)} does not agree; copy or download it "
                "again"
            )
        typed = values.view(getattr(torch, storage.dtype))
        return typed.as_strided(tensor.shape, tensor.stride, tensor.offset).clone(memory_format=torch.contiguous_format)

    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        with _open(self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check what a checkpoint describes; no values yet.

    Raises:
        UserError: naming the file and what is missing, damaged, hostile, or beyond a limit, or what it is instead.
    """
    path = Path(path)
    if "\0" in str(path):
        raise UserError(f"{str(path)!r}: is no path; there is a zero byte in it")
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(512)
        try:
            if start.startswith(b"PK\3\4"):
                contents, places = _zip(file, size)
                return Checkpoint(path, "zip", contents, places)
            if not start.startswith(b"\x80"):
                raise Damaged(_what_it_is(path, start))
            contents, places = _legacy(file, size)
        except Damaged as e:
            raise UserError(f"{path}: {e}") from None
    return Checkpoint(path, "legacy", contents, places)


def _open(path: Path) -> AbstractContextManager[BufferedReader]:
    return opened(path, "give the .pth file of a network")


def _what_it_is(path: Path, start: bytes) -> str:
    """What a file is that is no checkpoint, by its first bytes."""
    text = start.lstrip()[:64].lower()
    if not start:
        return "is empty; copy or download it again"
    if start.startswith(b"\4\0\0\0") or path.suffix == ".t7":
        return (
            "is a file of Lua Torch (.t7), which is not read; take the .pth of the same network, or convert it with "
            "load_lua of PyTorch 0.4"
        )
    if start[257:262] == b"ustar":
        return "is a tar archive, the form of PyTorch before 0.1.2; open it with PyTorch 1 and save it again"
    if text.startswith((b"<!doctype", b"<html")):
        return "is a web page, not a checkpoint; download the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file; `git lfs pull` brings that"
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file, not a checkpoint of PyTorch"
    return "is no checkpoint of PyTorch (neither a zip archive nor a pickle)"


def _contents(found: object) -> dict[object, object]:
    if isinstance(found, dict):
        return found
    raise Damaged(f"holds a {type(found).__name__}, not a network's state dict")


# --- zip, since PyTorch 1.6 ------------------------------------------------------------------------------------------


class _Bounded(io.RawIOBase):
    """A file of which nobody reads more than a table's limit at once, whatever sizes it claims."""

    def __init__(self, file: BufferedReader):
        self.file = file

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(DIRECTORY_LIMIT + 1 if size < 0 else min(size, DIRECTORY_LIMIT + 1))
        if len(data) > DIRECTORY_LIMIT:
            raise Damaged(f"its table is longer than the limit of {DIRECTORY_LIMIT:,} bytes; refused")
        return data


def _zip(file: BufferedReader, size: int) -> tuple[dict[object, object], Mapping[str, Place]]:
    """What a zip archive describes, and where its storages are."""
    try:
        table = zipfile.ZipFile(_Bounded(file)).infolist()
    except Damaged:
        raise
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError, EOFError):
        raise Damaged("is a damaged zip archive, or cut short; copy or download it again") from None
    files = {info.filename: info for info in table}
    if len(files) < len(table):
        raise Damaged("has two files of the same name in it; it is damaged")
    if any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in files):
        raise Damaged("is a program of TorchScript; a network's state dict is needed")
    roots = [name.removesuffix("data.pkl") for name in files if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise Damaged("is a zip archive, but not of PyTorch's (there is no data.pkl in it, or several)")
    root = roots[0]
    order = files.get(f"{root}byteorder")
    if order is not None and _member(file, order, size) != b"little":
        raise Damaged("holds big-endian values; only little-endian ones are read")
    text = io.BytesIO(_member(file, files[f"{root}data.pkl"], size))
    contents = _contents(read_pickle(text))
    if text.read(1):
        raise Damaged("bytes follow its pickle; it is damaged")
    places = dict[str, Place]()
    for storage in storages_of(contents):
        name = f"{root}data/{storage.key}"
        if name not in files:
            raise Damaged(f"{shortened(name)} is missing in it; it is damaged")
        if files[name].file_size != storage.size:
            raise Damaged(
                f"{shortened(name)} has {files[name].file_size:,} bytes, but {storage.count:,} values of "
                f"{storage.dtype} have {storage.size:,}"
            )
        places[storage.key] = Place(_start(file, files[name], size), files[name].CRC)
    return contents, MappingProxyType(places)


def _member(file: BufferedReader, info: zipfile.ZipInfo, size: int) -> bytes:
    """A small file of an archive."""
    start = _start(file, info, size)
    if info.file_size > PICKLE_LIMIT:
        raise Damaged(f"{shortened(info.filename)} is longer than the limit of {PICKLE_LIMIT:,} bytes; refused")
    file.seek(start)
    data = file.read(info.file_size)
    if zlib.crc32(data) != info.CRC:
        raise Damaged(f"the checksum of {shortened(info.filename)} does not agree; copy or download it again")
    return data


def _start(file: BufferedReader, info: zipfile.ZipInfo, size: int) -> int:
    """The first byte of a file of an archive, which must lie in it whole, and as it is."""
    name = shortened(info.filename)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise Damaged(f"{name} is compressed or encrypted, which PyTorch's never are; refused")
    if not 0 <= info.header_offset <= size - _LOCAL.size:
        raise Damaged(f"{name} lies beyond its end; it is cut short")
    file.seek(info.header_offset)
    mark, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    start = info.header_offset + _LOCAL.size + name_length + extra_length
    written = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    if mark != b"PK\3\4" or file.read(name_length) != written:
        raise Damaged(f"{name} is not where its table has it; it is damaged")
    if info.compress_size != info.file_size or start + info.file_size > size:
        raise Damaged(f"{name} has {info.file_size:,} bytes by its table, but ends before; it is cut short or damaged")
    return start


# --- the form of PyTorch 0.1.2 to 1.5 --------------------------------------------------------------------------------


def _legacy(file: BufferedReader, size: int) -> tuple[dict[object, object], Mapping[str, Place]]:
    """What a file of five pickles describes, and where its storages are."""
    file.seek(0)
    start = file.read(PICKLE_LIMIT)
    pickles = io.BytesIO(start)
    try:
        if read_pickle(pickles) != _MAGIC:
            raise Damaged("is a pickle, but not of PyTorch's (its first object is not the mark); nothing of it was run")
        if read_pickle(pickles) != _PROTOCOL:
            raise Damaged(f"is of another version of the old form than {_PROTOCOL}, the one that is read")
        system = read_pickle(pickles)
        contents = _contents(read_pickle(pickles))
        keys = read_pickle(pickles)
    except Damaged as e:
        if pickles.tell() < len(start) or size <= PICKLE_LIMIT:
            raise
        raise Damaged(f"{e}, or it describes more than the limit of {PICKLE_LIMIT:,} bytes") from None
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Damaged("holds big-endian values; only little-endian ones are read")
    storages = {storage.key: storage for storage in storages_of(contents)}
    if not (isinstance(keys, list) and all(type(key) is str for key in keys) and len(set(keys)) == len(keys)):
        raise Damaged("its list of storages is none; it is damaged")
    if set(keys) != set(storages):
        raise Damaged(f"lists {len(keys)} storages, but its tensors are of {len(storages)}, or others; it is damaged")
    return contents, _in_a_row(file, size, pickles.tell(), [storages[key] for key in keys])


def _in_a_row(file: BufferedReader, size: int, start: int, storages: list[Storage]) -> Mapping[str, Place]:
    """Where storages are that lie one after the other, each after its number of values."""
    places = dict[str, Place]()
    for storage in storages:
        file.seek(start)
        count = int.from_bytes(file.read(8), "little")
        if start + 8 + storage.size > size:
            raise Damaged(f"has {size:,} bytes, but a storage ends at {start + 8 + storage.size:,}; it is cut short")
        if count != storage.count:
            raise Damaged(f"a storage has {count:,} values, but its tensors ask for {storage.count:,}; it is damaged")
        places[storage.key] = Place(start + 8, None)
        start += 8 + storage.size
    if start != size:
        raise Damaged(f"{size - start:,} bytes follow its last storage; it is damaged")
    return MappingProxyType(places)


# --- what was saved --------------------------------------------------------------------------------------------------


def storages_of(contents: object) -> list[Storage]:
    """The storages of all tensors in what a pickle describes, however deep, each once.

    Raises:
        Damaged: where two share a key but are not the same.
    """
    found: dict[str, Storage] = {}
    seen, left = {id(contents)}, [contents]  # no recursion: a pickle may hold itself, or lists in lists without end
    while left:
        one = left.pop()
        if isinstance(one, Described) and found.setdefault(one.storage.key, one.storage) != one.storage:
            raise Damaged(f"storage {shortened(one.storage.key)} has two types or lengths; it is damaged")
        parts = one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        fresh = [part for part in parts if isinstance(part, dict | list | tuple | Described) and id(part) not in seen]
        seen.update(map(id, fresh))
        left.extend(fresh)
    return list(found.values())
