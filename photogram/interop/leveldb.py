"""LevelDB's tables, the form of TensorFlow's indices, held in memory.

A footer names the index block, which names data blocks, in which keys are stored without the beginning that they share
with the key before. Each block has a checksum. Nothing is believed before it is checked: a table may come from
anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from photogram.interop.crc32c import crc32c, unmasked
from photogram.interop.files import Damaged

ENTRY_LIMIT = 20_000
KEY_LIMIT = 1024
"""Bytes of the longest key: keys that share long beginnings make a small file large."""

_FOOTER, _TRAILER, _MAGIC = 48, 5, 0xDB4775248B80FB57


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All keys and values of a table, in order.

    Raises:
        Damaged: where it is cut short, changed, compressed, or not as the format has it.
    """
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise Damaged(
            "is no index of a checkpoint of format V2, or it is cut short (its last 8 bytes are not the mark)"
        )
    footer = Cursor(data[-_FOOTER:-8])
    meta, index = footer.handle(), footer.handle()
    if any(footer.take(footer.left)):
        raise Damaged("bytes follow the places in its footer; it is damaged")
    stop = len(data) - _FOOTER
    for handle in (meta, index):
        _check_block(data, handle, 0, stop)
    found: dict[bytes, bytes] = {}
    done, last = 0, b""
    for separator, value in _entries(_block(data, index)):
        handle = Cursor(value).handle(whole=True)
        _check_block(data, handle, done, min(meta.offset, index.offset))  # in order, so that none is read twice
        for key, record in _entries(_block(data, handle)):
            if found and key <= last:
                raise Damaged(f"the name {shown(key)} is given twice or out of order; it is damaged")
            if len(found) == ENTRY_LIMIT:
                raise Damaged(f"has more than the limit of {ENTRY_LIMIT:,} entries; refused")
            found[key], last = record, key
        if last > separator:
            raise Damaged(f"the name {shown(last)} lies beyond its block's last; it is damaged")
        done = handle.stop + _TRAILER
    return found


class _Handle(NamedTuple):
    """Where a block is; its trailer (type and checksum) follows it."""

    offset: int
    size: int

    @property
    def stop(self) -> int:
        return self.offset + self.size


def _check_block(data: bytes, handle: _Handle, start: int, stop: int) -> None:
    """Refuse a block outside of where it can be, with another checksum, or compressed."""
    if handle.offset < start or handle.stop + _TRAILER > stop:
        raise Damaged(f"a block at {handle.offset} of {handle.size} bytes is not within {start}..{stop}; it is damaged")
    kind = data[handle.stop]
    if crc32c(data[handle.offset : handle.stop + 1]) != unmasked(_number(data, handle.stop + 1)):
        raise Damaged(f"the checksum of the block at {handle.offset} does not agree; copy or download it again")
    if kind != 0:
        what = "compressed by Snappy" if kind == 1 else f"of the unknown type {kind}"
        raise Damaged(f"the block at {handle.offset} is {what}; only plain ones are read, as TensorFlow writes them")


def _block(data: bytes, handle: _Handle) -> bytes:
    return data[handle.offset : handle.stop]


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block, whose end says where keys are stored whole."""
    count = _number(block, len(block) - 4) if len(block) >= 4 else 0
    stop = len(block) - 4 * (count + 1)
    if not count or stop < 0:
        raise Damaged(f"a block of {len(block)} bytes cannot have {count} restarts; it is damaged")
    restarts = {_number(block, offset) for offset in range(stop, len(block) - 4, 4)}
    if 0 not in restarts or len(restarts) != count:
        raise Damaged("the restarts of a block are not its own; it is damaged")
    cursor, key = Cursor(block[:stop]), b""
    while cursor.left:
        whole = cursor.position in restarts
        restarts.discard(cursor.position)
        shared, unshared, size = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or (whole and shared) or shared + unshared > KEY_LIMIT:
            raise Damaged(f"a name of {shared} + {unshared} bytes follows one of {len(key)}; it is damaged")
        key = key[:shared] + cursor.take(unshared)
        yield key, cursor.take(size)
    if restarts - {0}:  # but for that of an empty block
        raise Damaged("the restarts of a block are not at its entries; it is damaged")


class Cursor:
    """Reads on in bytes, and never beyond them."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Damaged(f"{count} bytes are announced where {self.left} are left; it is damaged")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        """An unsigned integer of up to 64 bits, 7 in a byte, the lowest first."""
        value = 0
        for shift in range(0, 70, 7):
            octet = self.take(1)[0]
            value |= (octet & 127) << shift
            if octet < 128:
                if value >> 64:
                    break
                return value
        raise Damaged("a number has more than 64 bits; it is damaged")

    def handle(self, whole: bool = False) -> _Handle:
        handle = _Handle(self.varint(), self.varint())
        if whole and self.left:
            raise Damaged("bytes follow a block's place; it is damaged")
        return handle


def shown(key: bytes) -> str:
    """A key as messages quote it, whatever its bytes are."""
    return repr(key.decode("utf-8", "backslashreplace"))
