"""A small writer of TensorFlow's checkpoints of format V2, for tests; it shares no code with the reader.

Written after LevelDB's description of tables (prefix compression with restarts, masked CRC-32C) and TensorFlow's
tensor_bundle.proto. Every part can be replaced by a wrong one.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MAGIC = bytes.fromhex("57fb808b247547db")
NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "float16": 19}

CASTAGNOLI = []
for _n in range(256):
    for _ in range(8):
        _n = (_n >> 1) ^ (0x82F63B78 * (_n & 1))
    CASTAGNOLI.append(_n)


def crc(data: bytes) -> int:
    """CRC-32C, slowly."""
    value = 0xFFFFFFFF
    for byte in data:
        value = CASTAGNOLI[(value & 0xFF) ^ byte] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def masked(value: int) -> int:
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are sent as their complement
    octets = []
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


def number(tag: int, value: int) -> bytes:
    """A protobuf field of a number; 0 is left out, as it is the default."""
    return varint(tag << 3) + varint(value) if value else b""


def nested(tag: int, value: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(value)) + value


def header(shards: int = 1, endianness: int = 0, oldest_reader: int = 0) -> bytes:
    version = number(1, 1) + number(2, oldest_reader)
    return number(1, shards) + number(2, endianness) + nested(3, version)


@dataclass
class Stored:
    """A BundleEntryProto."""

    shape: tuple[int, ...]
    offset: int
    size: int
    crc: int = 0
    shard: int = 0
    dtype: int = 1
    more: bytes = b""

    def encoded(self) -> bytes:
        shape = b"".join(nested(2, number(1, size)) for size in self.shape)
        return (
            number(1, self.dtype)
            + nested(2, shape)
            + number(3, self.shard)
            + number(4, self.offset)
            + number(5, self.size)
            + varint(6 << 3 | 5)
            + struct.pack("<I", masked(self.crc))
            + self.more
        )


def block(entries: Iterable[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """Entries, of which each `interval`-th has its whole key."""
    written, restarts, before = bytearray(), [], b""
    for n, (key, value) in enumerate(entries):
        shared = 0
        if n % interval == 0:
            restarts.append(len(written))
        else:
            while before[: shared + 1] == key[: shared + 1] and shared < min(len(before), len(key)):
                shared += 1
        written += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    return bytes(written) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


@dataclass
class Table:
    """What becomes a file when it is `written`; `kind` is the byte behind each block."""

    data: bytearray = field(default_factory=bytearray)
    kind: int = 0

    def add(self, contents: bytes) -> bytes:
        """Append a block with its trailer; its handle."""
        handle = varint(len(self.data)) + varint(len(contents))
        with_kind = contents + bytes([self.kind])
        self.data += with_kind + struct.pack("<I", masked(crc(with_kind)))
        return handle

    def close(self, index: list[tuple[bytes, bytes]]) -> bytes:
        meta = self.add(block([]))
        return self.end(meta, self.add(block(index, interval=1)))

    def end(self, meta: bytes, index: bytes) -> bytes:
        return bytes(self.data) + (meta + index).ljust(40, b"\0") + MAGIC


def table(records: Iterable[tuple[bytes, bytes]], per_block: int = 5, interval: int = 3, kind: int = 0) -> bytes:
    """A whole table, its records as they come."""
    made, records, index = Table(kind=kind), list(records), []
    for start in range(0, len(records), per_block):
        part = records[start : start + per_block]
        index.append((part[-1][0], made.add(block(part, interval))))
    return made.close(index)


def write_checkpoint(
    prefix: Path, values: Mapping[str, np.ndarray], shards: int = 1, order: Iterable[str] | None = None
) -> None:
    """Write `prefix.index` and its data files.

    Args:
        prefix: the checkpoint's name.
        values: by variable.
        shards: data files, over which variables are dealt out in turn.
        order: in which variables lie in the data; sorted without it.
    """
    data = [bytearray() for _ in range(shards)]
    entries: dict[str, Stored] = {}
    for n, name in enumerate(order or sorted(values)):
        array = np.asarray(values[name])
        raw, shard = array.astype(array.dtype.newbyteorder("<")).tobytes(), n % shards
        entries[name] = Stored(
            array.shape, len(data[shard]), len(raw), crc(raw), shard=shard, dtype=NUMBERS[array.dtype.name]
        )
        data[shard] += raw
    write_index(prefix, entries, shards)
    for n, part in enumerate(data):
        Path(f"{prefix}.data-{n:05}-of-{shards:05}").write_bytes(part)


def write_index(prefix: Path, entries: Mapping[str, Stored], shards: int = 1) -> None:
    records = [(name.encode(), entries[name].encoded()) for name in sorted(entries)]
    Path(f"{prefix}.index").write_bytes(table([(b"", header(shards)), *records]))


def write_hollow(prefix: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """A checkpoint of float32 variables whose data is one hole, which takes no space; how many bytes long it is."""
    entries, end = {}, 0
    for name in sorted(shapes):
        size = 4 * int(np.prod(shapes[name], dtype=np.int64))
        entries[name] = Stored(shapes[name], end, size)
        end += size
    write_index(prefix, entries)
    with Path(f"{prefix}.data-00000-of-00001").open("wb") as file:
        file.truncate(end)
    return end


def saved_by_tensorflow(prefix: Path, values: dict[str, np.ndarray]) -> None:
    """What the real writer makes of the variables, in a process of its own: it takes the memory of several tests."""
    stored = prefix.with_name(f"{prefix.name}.npz")
    np.savez(stored, *values.values())
    program = (
        "import sys, numpy, tensorflow\n"
        "values = list(numpy.load(sys.argv[1]).values())\n"
        "tensorflow.raw_ops.SaveV2(prefix=sys.argv[2], tensor_names=sys.argv[3:], "
        "shape_and_slices=[''] * len(values), tensors=values)"
    )
    command = [sys.executable, "-c", program, str(stored), str(prefix), *values]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
