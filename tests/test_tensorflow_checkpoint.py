"""TensorFlow's checkpoints: what an independent writer writes is read; what is damaged, hostile or huge is refused."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_writer import (
    MAGIC,
    NUMBERS,
    Stored,
    Table,
    block,
    crc,
    header,
    masked,
    nested,
    number,
    saved_by_tensorflow,
    table,
    varint,
    write_checkpoint,
    write_hollow,
    write_index,
)

from photogram.errors import UserError
from photogram.interop import leveldb
from photogram.interop import tensorflow as reader
from photogram.interop.crc32c import crc32c, unmasked
from photogram.interop.tensorflow import Checkpoint, open_checkpoint

RANDOM = np.random.default_rng(7)
VALUES: dict[str, np.ndarray] = {
    **{
        f"g_{s}_conv{n}/{name}": RANDOM.normal(size=shape).astype(np.float32)
        for s in (4, 8, 16)
        for n in (1, 2)
        for name, shape in (("weights", (3, 3, 2, 3)), ("LayerNorm/gamma", (3,)), ("LayerNorm/beta", (3,)))
    },
    "beta1_power": np.array(0.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "global_step": np.array(-3, np.int64),
}
SMALL = {"a": VALUES["g_4_conv1/weights"], "ab": np.arange(3, dtype=np.float32), "b": np.array(2, np.float32)}
PIECE = 8 * 96 * 4096
"""Bytes that the fast checksum takes at once."""


def read_all(path: Path) -> dict[str, np.ndarray]:
    checkpoint = open_checkpoint(path)
    return {name: checkpoint.read(name) for name in checkpoint.entries}


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return set(found) == set(wanted) and all(
        found[n].dtype == wanted[n].dtype and found[n].shape == wanted[n].shape and np.array_equal(found[n], wanted[n])
        for n in wanted
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model.ckpt", VALUES)
    return tmp_path / "model.ckpt"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model.ckpt", SMALL)
    return tmp_path / "model.ckpt"


# --- the checksum ----------------------------------------------------------------------------------------------------


def test_the_checksum_has_its_published_values():
    """RFC 3720, B.4, and the check value of catalogues of CRCs."""
    assert crc32c(b"123456789") == crc(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", (1, 3, 4, 4095, 4096, 4097, 20_001, PIECE - 1, PIECE + 3, PIECE + 4, 2 * PIECE + 5))
def test_the_fast_checksum_is_the_slow_one(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    before = data.copy()
    assert crc32c(data) == crc(data.tobytes())
    assert np.array_equal(data, before), "the data is left as it was"


def test_the_fast_checksum_sees_one_bit():
    data = np.zeros(3 * PIECE + 77, np.uint8)
    seen = {crc32c(data)}
    for place in (0, 3, 4, PIECE, 2 * PIECE + 76, data.size - 1):
        data[place] ^= 1
        seen.add(crc32c(data))
        data[place] ^= 1
    assert len(seen) == 7


def test_masks_come_off():
    for value in (0, 1, 0xFFFFFFFF, 0x12345678, 0xA282EAD8):
        assert unmasked(masked(value)) == value


# --- what is well -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", (1, 3))
def test_what_was_written_is_read(tmp_path, shards):
    write_checkpoint(tmp_path / "model.ckpt", VALUES, shards)
    checkpoint = open_checkpoint(tmp_path / "model.ckpt")
    assert list(checkpoint.entries) == sorted(VALUES)
    assert [p.name for p in checkpoint.shards.values()] == [
        f"model.ckpt.data-{n:05}-of-{shards:05}" for n in range(shards)
    ]
    assert same(read_all(tmp_path / "model.ckpt"), VALUES)


def test_every_type_is_read(tmp_path):
    values = {f"v{n}": np.arange(6).astype(dtype).reshape(2, 3) for n, dtype in enumerate(NUMBERS)}
    write_checkpoint(tmp_path / "types", values)
    assert same(read_all(tmp_path / "types"), values)


def test_variables_may_lie_in_any_order(tmp_path):
    write_checkpoint(tmp_path / "m", VALUES, order=sorted(VALUES, reverse=True))
    assert same(read_all(tmp_path / "m"), VALUES)


names = st.text(st.sampled_from("abg_/1é"), min_size=1, max_size=12)
shapes = st.lists(st.integers(0, 4), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, shapes, max_size=20), st.integers(1, 8), st.integers(1, 5))
def test_any_table_is_read(made, per_block, interval):
    """Names and shapes of any kind, in blocks and between restarts of any length."""
    records = [(name.encode(), Stored(tuple(shape), 0, 0).encoded()) for name, shape in made.items()]
    records = [(b"", header()), *sorted(records)]
    assert leveldb.read_table(table(records, per_block, interval)) == dict(records)


def test_a_table_of_nothing_is_read():
    assert leveldb.read_table(table([])) == {}


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed; it is never needed")
def test_what_tensorflow_writes_is_read(tmp_path):
    """With enough names for many restarts, and every type that we read."""
    values = {f"g_{n}_conv{m}/weights": np.full((n, m), n + m / 8, np.float32) for n in range(60) for m in (1, 2, 3)}
    values |= {f"type/{dtype}": np.arange(3).astype(dtype) for dtype in NUMBERS}
    saved_by_tensorflow(tmp_path / "model.ckpt", values)
    assert same(read_all(tmp_path / "model.ckpt"), values)


# --- which files are meant -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ("model.ckpt", "model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001", "", "checkpoint")
)
def test_any_file_or_the_folder_names_the_checkpoint(written, given):
    folder = written.parent
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "other"\n')
    write_checkpoint(folder / "other", SMALL)
    assert same(read_all(folder / given), VALUES)


@pytest.mark.parametrize(
    "named", ("model.ckpt", "/gone/with/the machine/model.ckpt", "run/model.ckpt", r"C:\\run\\model.ckpt")
)
def test_a_folder_that_was_moved_names_its_checkpoint(written, named):
    (written.parent / "checkpoint").write_text(f'model_checkpoint_path: "{named}"\n')
    write_checkpoint(written.parent / "other", SMALL)
    assert same(read_all(written.parent), VALUES)


def test_the_text_form_of_names_is_understood(tmp_path):
    """As protobuf writes `modèle "1"`."""
    write_checkpoint(tmp_path / 'modèle "1"', SMALL)
    (tmp_path / "checkpoint").write_text(r'model_checkpoint_path: "mod\303\250le \"1\""' + "\n")
    assert same(read_all(tmp_path), SMALL)


def test_a_folder_with_one_index_needs_no_word(written):
    assert same(read_all(written.parent), VALUES)


def test_folders_without_a_clear_checkpoint_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no checkpoint"):
        open_checkpoint(tmp_path)
    for name in ("one", "two"):
        write_checkpoint(tmp_path / name, SMALL)
    with pytest.raises(UserError, match=r"holds 2 checkpoints \(one, two"):
        open_checkpoint(tmp_path)
    for text, message in (
        ("", "names no model_checkpoint_path"),
        ('model_checkpoint_path: "three"', r"names 'three', but there is no three.index"),
        ('model_checkpoint_path: "/"', "is no checkpoint"),
        ('model_checkpoint_path: "a\\000b"', "is no checkpoint"),
        (f'model_checkpoint_path: "{"x" * 999}"', "cannot be read|there is no"),
    ):
        (tmp_path / "checkpoint").write_text(text)
        with pytest.raises(UserError, match=message):
            open_checkpoint(tmp_path)


def test_what_is_not_there_is_named(small, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"photo.png: is no file of a checkpoint; there is no photo.png.index"):
        open_checkpoint(tmp_path / "photo.png")
    with pytest.raises(UserError, match=r"nothing.index: no such file"):
        open_checkpoint(small.with_name("nothing"))
    with pytest.raises(UserError, match="zero byte"):
        open_checkpoint(small.with_name("a\0b"))
    Path(f"{small}.data-00000-of-00001").unlink()
    with pytest.raises(UserError, match=r"model.ckpt.data-00000-of-00001: no such file"):
        open_checkpoint(small)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_not_waited_for(small):
    data = Path(f"{small}.data-00000-of-00001")
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(UserError, match="no regular file"):
        open_checkpoint(small)


# --- what is damaged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "step", "harmless"), ((".index", 1, 1), (".data-00000-of-00001", 7, 0)))
def test_no_flipped_bit_goes_unseen(small, ending, step, harmless):
    """Every bit is guarded, but one of the index: the number before its padding may take in a zero of that."""
    path = Path(f"{small}{ending}")
    whole, unseen = path.read_bytes(), 0
    for place in range(0, 8 * len(whole), step):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        unseen += not refused_or_right(small, SMALL)
    path.write_bytes(whole)
    assert unseen == harmless
    assert same(read_all(small), SMALL)


def test_no_cut_goes_unseen(small):
    for path in (Path(f"{small}.index"), Path(f"{small}.data-00000-of-00001")):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert refused_or_right(small, SMALL), length
        path.write_bytes(whole)


def refused_or_right(path: Path, values: dict[str, np.ndarray]) -> bool:
    """Whether the checkpoint was refused, in one line; else it must be right."""
    try:
        found = read_all(path)
    except UserError as e:
        assert str(e).startswith(str(path)) and "\n" not in str(e)
        return True
    assert same(found, values)
    return False


def test_hostile_bytes_with_good_checksums_do_no_harm(tmp_path):
    """What a damaged disk cannot do: blocks of nonsense whose checksums agree."""
    random, prefix = np.random.default_rng(3), tmp_path / "m"
    write_checkpoint(prefix, SMALL)
    good = list(leveldb.read_table(Path(f"{prefix}.index").read_bytes()).items())
    refused, start = 0, time.monotonic()
    for n in range(1000):
        made, index = Table(), []
        for part in (good[:2], good[2:]):
            contents = bytearray(block(part, interval=2))
            for _ in range(random.integers(0, 3)):
                contents[random.integers(len(contents))] = random.integers(256)
            index.append((part[-1][0], made.add(bytes(contents))))
        data = bytearray(made.close(index))
        if n % 3 == 0:  # the places of blocks, which no checksum guards
            data[-48 + random.integers(8)] = random.integers(256)
        Path(f"{prefix}.index").write_bytes(data)
        refused += is_refused(prefix)
    assert 500 < refused < 950
    assert time.monotonic() - start < 60


def is_refused(path: Path) -> bool:
    """Whether it was refused, on opening or on reading; anything else than `UserError` fails the test."""
    try:
        checkpoint = open_checkpoint(path)
        for name in checkpoint.entries:
            checkpoint.read(name)
    except UserError:
        return True
    return False


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_table_are_refused_or_read(data):
    for made in (data, data + MAGIC, table([(b"", header()), (b"a", data)]), Table(bytearray(data)).close([])):
        try:
            records = leveldb.read_table(made)
            reader._bundle(records)
        except leveldb.Damaged:
            pass


# --- what is hostile -------------------------------------------------------------------------------------------------


def indexed(folder: Path, data: bytes, size: int = 64) -> Path:
    """A checkpoint with this index."""
    (folder / "m.index").write_bytes(data)
    (folder / "m.data-00000-of-00001").write_bytes(bytes(size))
    return folder / "m"


def with_entry(folder: Path, record: bytes, name: bytes = b"a") -> Path:
    return indexed(folder, table([(b"", header()), (name, record)]))


def with_entries(folder: Path, *records: tuple[bytes, bytes]) -> Path:
    return indexed(folder, table([(b"", header()), *records]))


FOUR = Stored((4,), 0, 16)
DEEP = nested(2, b"".join(nested(2, number(1, 1)) for _ in range(40)))


@pytest.mark.parametrize(
    ("record", "message"),
    (
        (Stored((4,), 0, 15).encoded(), r"'a': has 15 bytes, but 4 values of float32 have 16"),
        (Stored((), 0, 8).encoded(), "has 8 bytes, but one values of float32 have 4"),
        (Stored((4,), 49, 16).encoded(), r"has 64 bytes, but 'a' ends at 65"),
        (Stored((4,), -16, 16).encoded(), r"has 16 bytes at -16; neither can be negative"),
        (Stored((-4,), 0, -16).encoded(), "has 1 dimensions, the smallest -4"),
        (Stored((2**62, 4), 0, 0).encoded(), "has 0 bytes, but"),  # the product is 2^64
        (Stored((2**62, 4), 0, 16).encoded(), "has 16 bytes, but"),
        (Stored((2**62, 2**62, 0), 0, 0).encoded(), "more than there can be"),
        (Stored((2**61 - 1,), 0, 2**63 - 4).encoded(), "more than there can be"),
        (Stored((2**50,), 0, 2**52).encoded(), "ends at 4,503,599,627,370,496"),
        (Stored((4,), 2**63 - 1, 16).encoded(), "ends at 9,223,372,036,854,775,823"),
        (Stored((4,), 0, 16, shard=1).encoded(), r"is in data file 1, but there are only 0\.\.0"),
        (Stored((4,), 0, 16, shard=-1).encoded(), "is in data file -1"),
        (Stored((4,), 0, 16, more=nested(7, b"")).encoded(), "is stored in slices"),
        (Stored((4,), 8, 16, more=number(4, 8)).encoded(), "field 4 is given 2 times"),
        (Stored((4,), 0, 16, more=nested(4, b"")).encoded(), "field 4 is of kind 2"),
        (Stored((4,), 0, 16, more=varint(9 << 3 | 3)).encoded(), "of the unknown kind 3"),
        (Stored((4,), 0, 16, more=nested(9, b"")[:-1] + varint(2**40)).encoded(), "bytes are announced"),
        (Stored((4,), 0, 16, more=b"\xff" * 11).encoded(), "more than 64 bits"),
        (Stored((4,), 0, 16, more=b"\xff" * 9 + b"\x7f").encoded(), "more than 64 bits"),
        (Stored((4,), 0, 16, more=varint(9 << 3)).encoded(), "1 bytes are announced where 0 are left"),
        (Stored((4,), 0, 16, more=b"\0\0").encoded(), "field 0"),
        (number(1, 1) + nested(2, number(3, 1)), "unknown shape"),
        (number(1, 1) + DEEP + number(5, 4), "has 40 dimensions"),
    ),
)
def test_hostile_entries_are_refused(tmp_path, record, message):
    with pytest.raises(UserError, match=message) as refused:
        open_checkpoint(with_entry(tmp_path, record))
    assert "\n" not in str(refused.value) and "m." in str(refused.value)


def test_unknown_fields_are_passed_over(tmp_path):
    """As protobuf's readers do, so that a newer writer does no harm."""
    more = number(9, 5) + nested(10, b"new") + varint(11 << 3 | 1) + bytes(8)
    stored = Stored((4,), 0, 16, crc(bytes(16)), more=more)
    assert open_checkpoint(with_entry(tmp_path, stored.encoded())).read("a").tolist() == [0, 0, 0, 0]


def test_variables_over_each_other_are_refused(tmp_path):
    path = with_entries(tmp_path, (b"a", FOUR.encoded()), (b"b", Stored((4,), 12, 16).encoded()))
    with pytest.raises(UserError, match=r"m.index: 'b' and 'a' lie over each other in m.data"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    (
        ((b"b", b"a"), "'a' is given twice or out of order"),
        ((b"a", b"a"), "'a' is given twice or out of order"),
        ((b"a", b"b", b"c", b"d", b"e", b"f", b"b"), "'b' is given twice or out of order"),
        ((b"\xff",), r"the name '\\\\xff' is no text"),
        ((b"\0\0\x01a",), "holds slices of variables"),
        ((b"k" * 1025,), "a name of 0 \\+ 1025 bytes"),
    ),
)
def test_bad_names_are_refused(tmp_path, keys, message):
    with pytest.raises(UserError, match=message) as refused:
        open_checkpoint(with_entries(tmp_path, *((key, FOUR.encoded()) for key in keys)))
    assert "\n" not in str(refused.value)


def test_a_name_with_a_line_break_stays_in_one_line(tmp_path):
    with pytest.raises(UserError) as refused:
        open_checkpoint(with_entry(tmp_path, Stored((4,), 0, 15).encoded(), b"a\nphotogram: all is well"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("record", "message"),
    (
        (header(endianness=1), "big-endian"),
        (header(endianness=9), "big-endian"),
        (header(oldest_reader=2), "newer version of the format"),
        (number(1, 1) + nested(3, nested(3, b"\x01")), "newer version of the format"),
        (header(shards=0), "has 0 data files"),
        (header(shards=2**31 - 1), "has 2147483647 data files"),
        (header(shards=-1), "data files; it must be 1"),
        (b"\xff", "bytes are announced"),
    ),
)
def test_bad_headers_are_refused(tmp_path, record, message):
    with pytest.raises(UserError, match=message):
        open_checkpoint(indexed(tmp_path, table([(b"", record), (b"a", FOUR.encoded())])))


def test_an_index_without_a_header_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no header"):
        open_checkpoint(indexed(tmp_path, table([(b"a", FOUR.encoded())])))


@pytest.mark.parametrize(("kind", "message"), ((1, "compressed by Snappy"), (7, "of the unknown type 7")))
def test_compressed_tables_are_refused(tmp_path, kind, message):
    with pytest.raises(UserError, match=message):
        open_checkpoint(indexed(tmp_path, table([(b"", header()), (b"a", FOUR.encoded())], kind=kind)))


@pytest.mark.parametrize("data", (b"", b"x", MAGIC, bytes(48), b"\x93NUMPY" + bytes(200)))
def test_other_files_are_refused(tmp_path, data):
    with pytest.raises(UserError, match=r"m.index: is no index of a checkpoint|a block at|checksum"):
        open_checkpoint(indexed(tmp_path, data))


GOOD = [(b"", header()), (b"a", FOUR.encoded())]


def places(*handles: tuple[int, int]) -> bytes:
    """A table whose index block names these blocks; the first place is of a good one."""
    made = Table()
    made.add(block(GOOD))
    return made.close([(bytes([255 - len(handles) + n]), varint(a) + varint(b)) for n, (a, b) in enumerate(handles)])


@pytest.mark.parametrize(
    ("handles", "message"),
    (
        ([(0, 2**40)], "a block at 0 of 1099511627776 bytes is not within"),
        ([(2**63, 10)], "is not within"),
        ([(2**64 - 1, 2**64 - 1)], "is not within"),
        ([(0, len(block(GOOD))), (0, len(block(GOOD)))], "a block at 0 of .* is not within"),  # one block twice
        ([(1, len(block(GOOD)) - 1)], "checksum of the block at 1"),
    ),
)
def test_blocks_out_of_place_are_refused(tmp_path, handles, message):
    with pytest.raises(UserError, match=message):
        open_checkpoint(indexed(tmp_path, places(*handles)))
    assert open_checkpoint(indexed(tmp_path, places((0, len(block(GOOD)))))).entries.keys() == {"a"}


def test_an_index_that_names_itself_is_refused(tmp_path):
    """And the footer's places: beyond the file, enormous, over each other."""
    made = Table()
    made.add(block(GOOD))
    meta = made.add(block([]))
    here = len(made.data)
    own = block([(b"z", varint(here) + varint(12))], interval=1)
    itself = made.add(own)
    for index in (itself, varint(2**60) + varint(5), varint(0) + varint(2**64 - 1)):
        with pytest.raises(UserError, match=r"is not within|checksum"):
            open_checkpoint(indexed(tmp_path, made.end(meta, index)))
    with pytest.raises(UserError, match=r"more than 64 bits|bytes are announced"):
        open_checkpoint(indexed(tmp_path, bytes(made.data) + b"\xff" * 40 + MAGIC))


@pytest.mark.parametrize(
    ("contents", "message"),
    (
        (b"", "a block of 0 bytes cannot have 0 restarts"),
        (struct.pack("<I", 0), "cannot have 0 restarts"),
        (struct.pack("<I", 2**32 - 1), "cannot have 4294967295 restarts"),
        (struct.pack("<2I", 5, 1), "restarts of a block are not its own"),
        (struct.pack("<3I", 0, 0, 2), "restarts of a block are not its own"),
        (struct.pack("<3I", 0, 9, 2), "restarts of a block are not at its entries"),
        (b"\x01\x01\x00a" + struct.pack("<2I", 0, 1), r"a name of 1 \+ 1 bytes follows one of 0"),
        (b"\x00\x05\x00a" + struct.pack("<2I", 0, 1), "5 bytes are announced where 1 are left"),
        (b"\x00\x01\x05a" + struct.pack("<2I", 0, 1), "5 bytes are announced where 0 are left"),
        (b"\x80" * 12 + struct.pack("<2I", 0, 1), "more than 64 bits"),
        (b"\x00\x01\x00a\x01\x01\x00b" + struct.pack("<3I", 0, 4, 2), r"a name of 1 \+ 1"),  # no restart starts anew
    ),
)
def test_bad_blocks_are_refused(tmp_path, contents, message):
    made = Table()
    handle = made.add(contents)
    with pytest.raises(UserError, match=message):
        open_checkpoint(indexed(tmp_path, made.close([(b"z", handle)])))


def test_a_block_beyond_its_name_in_the_index_is_refused(tmp_path):
    made = Table()
    handle = made.add(block([(b"", header()), (b"b", FOUR.encoded())]))
    with pytest.raises(UserError, match="'b' lies beyond its block's last"):
        open_checkpoint(indexed(tmp_path, made.close([(b"a", handle)])))
    with pytest.raises(UserError, match="bytes follow a block's place"):
        open_checkpoint(indexed(tmp_path, made.close([(b"b", handle + b"\0")])))


# --- what is too large -----------------------------------------------------------------------------------------------


def test_absurd_numbers_of_entries_are_refused(tmp_path, monkeypatch):
    assert leveldb.ENTRY_LIMIT == 20_000
    monkeypatch.setattr(leveldb, "ENTRY_LIMIT", 50)
    records = [(b"", header()), *((b"%05d" % n, b"") for n in range(50))]
    with pytest.raises(UserError, match="more than the limit of 50 entries"):
        open_checkpoint(indexed(tmp_path, table(records)))
    with pytest.raises(UserError, match="larger than the limit of 4,194,304 bytes"):
        open_checkpoint(indexed(tmp_path, bytes((4 << 20) + 1)))


def test_long_names_out_of_few_bytes_take_little_memory(tmp_path):
    """Prefix compression as a bomb: each name of a kilobyte costs five bytes."""
    start = b"\x00" + varint(1020) + b"\x00" + b"k" * 1020
    entries = b"".join(varint(1020) + varint(4) + b"\x00" + b"%04d" % n for n in range(999))
    made = Table()
    handle = made.add(start + entries + struct.pack("<2I", 0, 1))
    path = indexed(tmp_path, made.close([(b"z", handle)]))
    assert peak(lambda: is_refused(path)) < 10e6


@pytest.mark.parametrize("terabytes", (10,))
def test_ten_terabytes_are_refused_at_once(tmp_path, terabytes):
    """A file with a hole is as long as it says, and takes no space."""
    length = terabytes * 10**12
    try:
        write_hollow(tmp_path / "m", {"a": (length // 4,)})
    except OSError:
        pytest.skip("this file system has no files of 10 TB")
    assert open_checkpoint(tmp_path / "m").entries["a"].size == length

    def ask() -> None:
        with pytest.raises(UserError, match=r"'a' has 10,000,000,000,000 bytes, more than the limit"):
            open_checkpoint(tmp_path / "m").read("a")

    assert peak(ask) < 5e6


def test_what_the_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path):
    def ask() -> None:
        with pytest.raises(UserError, match="is cut short, or belongs to another index"):
            open_checkpoint(with_entry(tmp_path, Stored((10**12,), 0, 4 * 10**12).encoded()))

    assert peak(ask) < 5e6


def test_reading_takes_the_memory_of_the_values(tmp_path):
    """And some megabytes for the checksum, whatever the size of the file."""
    size = 8 << 20
    write_index(tmp_path / "m", {"a": Stored((size // 4,), 5, size, crc(bytes(size)))})
    with (tmp_path / "m.data-00000-of-00001").open("wb") as file:
        file.truncate(1 << 33)
    checkpoint = open_checkpoint(tmp_path / "m")
    assert peak(lambda: checkpoint.read("a")) < size + 6e6


def peak(job: object) -> int:
    """The most bytes that Python and NumPy held at once during a job."""
    assert callable(job)
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_data_file_that_changes_meanwhile_is_noticed(small):
    checkpoint, data = open_checkpoint(small), Path(f"{small}.data-00000-of-00001")
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="is cut short within 'b'"):
        checkpoint.read("b")
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"data-00000-of-00001: the checksum of 'b' does not agree"):
        checkpoint.read("b")
    assert isinstance(checkpoint, Checkpoint) and np.array_equal(checkpoint.read("ab"), SMALL["ab"])


def test_types_that_cannot_be_read_are_refused_on_reading(tmp_path):
    """A string beside the variables that are wanted does no harm."""
    path = with_entries(
        tmp_path, (b"a", Stored((4,), 0, 16, crc(bytes(16))).encoded()), (b"s", Stored((3,), 16, 30, dtype=7).encoded())
    )
    checkpoint = open_checkpoint(path)
    assert checkpoint.read("a").tolist() == [0, 0, 0, 0]
    with pytest.raises(UserError, match="'s' is of TensorFlow's type 7, which cannot be read here"):
        checkpoint.read("s")
