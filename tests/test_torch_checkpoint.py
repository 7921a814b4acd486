"""PyTorch's checkpoints: what torch writes is read; what is damaged, hostile or huge is refused, and nothing is run."""

from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.interop import pickled
from photogram.interop import torch_checkpoint as reader
from photogram.interop.files import Damaged
from photogram.interop.pickled import Described, read_pickle
from photogram.interop.torch_checkpoint import Checkpoint, open_checkpoint

FORMS = ("zip", "legacy")
MAGIC = b"\x80\x02\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
SYSTEM = b"".join(pickle.dumps(part, 2) for part in (1001, {"little_endian": True}))


def save(values: object, path: Path, form: str = "zip", protocol: int = 2) -> Path:
    torch.save(values, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip")
    return path


def state() -> dict[str, Tensor]:
    """A state dict with weights, running statistics, counters and `_metadata`."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 1, 2))
    network(torch.randn(2, 2, 6, 6))
    return network.state_dict()


def read_all(path: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(path)
    found = {}
    for name, described in checkpoint.contents.items():
        assert isinstance(name, str) and isinstance(described, Described)
        found[name] = checkpoint.read(described)
    return found


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return list(found) == list(wanted) and all(
        found[n].dtype == wanted[n].dtype and torch.equal(found[n], wanted[n]) for n in wanted
    )


def archive(path: Path, text: bytes, storages: dict[str, bytes] | None = None, **how: Any) -> Path:
    """A zip archive as PyTorch writes it, around any pickle."""
    with zipfile.ZipFile(path, "w", **how) as file:
        file.writestr("net/data.pkl", text)
        for key, data in (storages or {}).items():
            file.writestr(f"net/data/{key}", data)
    return path


def opcodes(**tensors: tuple[Any, ...]) -> bytes:
    """The pickle of a dict of tensors from (key, count, offset, shape, stride), each of FloatStorage."""
    parts = [b"\x80\x02}("]
    for name, (key, count, offset, shape, stride) in tensors.items():
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n((", text("storage"), b"ctorch\nFloatStorage\n"]
        parts += [text(key), text("cpu"), plain(count), b"tQ", plain(offset), plain(shape), plain(stride)]
        parts += [b"\x89ccollections\nOrderedDict\n)RtR"]
    return b"".join([*parts, b"u."])


def plain(value: object) -> bytes:
    """The operations that make a number, a tuple or a list, without a memo."""
    if isinstance(value, tuple | list):
        return (
            (b"(" if isinstance(value, tuple) else b"](")
            + b"".join(map(plain, value))
            + b"te"[::1][isinstance(value, list) :][:1]
        )
    assert isinstance(value, int)
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + data


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def refusal(path: Path) -> str:
    """What is said of a file that must be refused: one line that begins with its path."""
    with pytest.raises(UserError) as refused:
        read_all(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ") and "\n" not in said and said.isprintable()
    return said.removeprefix(f"{path}: ")


# --- what is well ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", (2, 4))
def test_what_torch_writes_is_read(tmp_path, form, protocol):
    path = save(state(), tmp_path / "net.pth", form, protocol)
    checkpoint = open_checkpoint(path)
    assert checkpoint.form == form
    assert same(read_all(path), dict(state()))


@pytest.mark.parametrize("form", FORMS)
def test_every_type_is_read(tmp_path, form):
    types = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    values = {str(t): torch.arange(6).reshape(2, 3).to(t) for t in (*types, torch.int8, torch.uint8, torch.bool)}
    values |= {"none": torch.zeros(0, 4), "one": torch.tensor(3.5)}
    assert same(read_all(save(values, tmp_path / "m", form)), values)


@pytest.mark.parametrize("form", FORMS)
def test_views_are_read(tmp_path, form):
    """Tensors that share a storage, turned, cut and stretched; each comes as a tensor of its own."""
    base = torch.arange(24.0).reshape(4, 6)
    values = {"whole": base, "turned": base.T, "cut": base[1:3, ::2], "row": base[2], "last": base[3, 5]}
    path = save(values, tmp_path / "m", form)
    found = read_all(path)
    assert same(found, values)
    assert all(t.is_contiguous() for t in found.values())
    found["whole"].zero_()
    assert found["row"].sum() > 0
    assert len(open_checkpoint(path).places) == 1


shapes = st.lists(st.integers(0, 3), max_size=4)


@settings(max_examples=40, deadline=None)
@given(made=st.dictionaries(st.text(max_size=8), shapes, max_size=6), form=st.sampled_from(FORMS))
def test_any_state_dict_is_read(tmp_path_factory, made, form):
    random = torch.Generator().manual_seed(1)
    values = {name: torch.randn(shape, generator=random) for name, shape in made.items()}
    path = tmp_path_factory.mktemp("any") / "m.pth"
    assert same(read_all(save(OrderedDict(values), path, form)), values)


def test_what_python_2_wrote_is_read(tmp_path):
    """Names are its byte strings, the ordered dictionary is made of a list of pairs, and tensors as before 0.4."""
    tensor = b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x0294U\x06cuda:0K\x04NtQK\x00"
    tensor += b"K\x02K\x02\x86K\x02K\x01\x86tR"
    pairs = b"](](U\x08a.weight" + tensor + b"ee"
    text = b"\x80\x02ccollections\nOrderedDict\n(" + pairs + b"tR."
    values = np.arange(4, dtype="<f4")
    whole = MAGIC + SYSTEM + text + pickle.dumps(["94"], 2) + struct.pack("<q", 4) + values.tobytes()
    (tmp_path / "old.pth").write_bytes(whole)
    found = read_all(tmp_path / "old.pth")
    assert same(found, {"a.weight": torch.arange(4.0).reshape(2, 2)})
    assert same(dict(torch.load(tmp_path / "old.pth", "cpu", weights_only=False)), found), "torch's own reader agrees"


def test_the_digest_is_of_the_file(tmp_path):
    import hashlib

    path = save(state(), tmp_path / "net.pth")
    assert open_checkpoint(path).digest() == hashlib.sha256(path.read_bytes()).hexdigest()


# --- nothing is run --------------------------------------------------------------------------------------------------


class Hostile:
    """Would leave a file behind, were its pickle executed."""

    def __init__(self, path: Path, function: Any = os.system):
        self.path, self.function = path, function

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (f"touch {self.path}",)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", (2, 4))
@pytest.mark.parametrize("function", (os.system, eval, exec, os.popen, print, __import__))
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, form, protocol, function):
    trap = tmp_path / "trap"
    values = {**state(), "weight": Hostile(trap, function)}
    said = refusal(save(values, tmp_path / "net.pth", form, protocol))
    assert f".{function.__name__}'" in said and "nothing of it was run" in said
    assert not trap.exists()


@pytest.mark.parametrize("place", range(5))
def test_each_pickle_of_the_old_form_is_guarded(tmp_path, place):
    trap = tmp_path / "trap"
    parts = [MAGIC, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), pickle.dumps({}, 2)]
    parts += [pickle.dumps([], 2)]
    parts[place] = pickle.dumps(Hostile(trap), 2)
    (tmp_path / "m.pth").write_bytes(b"".join(parts))
    assert "names 'posix.system'" in refusal(tmp_path / "m.pth")
    (tmp_path / "m.pth").write_bytes(pickle.dumps(Hostile(trap), 2))
    assert "names 'posix.system'" in refusal(tmp_path / "m.pth")
    assert not trap.exists()


def test_the_trap_would_work(tmp_path):
    """Python's own machine runs it, or the tests above say nothing."""
    pickle.loads(pickle.dumps(Hostile(tmp_path / "trap"), 2))  # noqa: S301  # our own
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("saved", "name"),
    (
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"w": nn.Parameter(torch.zeros(2))}, "torch._utils._rebuild_parameter"),
        ({"w": torch.zeros(2).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
        ({"w": np.zeros(2)}, "_reconstruct"),
        ({"w": torch.device("cpu")}, "torch.device"),
        ({"w": torch.float32}, ""),
        ({"w": {1, 2}}, "set"),
        ({"w": slice(3)}, "slice"),
    ),
)
def test_only_tensors_pass(tmp_path, form, saved, name):
    said = refusal(save(saved, tmp_path / "net.pth", form))
    assert name in said and "refused" in said


@pytest.mark.parametrize(
    "code", (b"c__builtin__\neval\n", b"(i__builtin__\neval\n", b"\x82\x01", b"P1\n", b"S'a'\n", b"I1\n", b"2", b"\x81")
)
def test_operations_that_tensors_need_not_are_refused(code):
    with pytest.raises(Damaged, match="refused"):
        read_pickle(BytesIO(b"\x80\x02" + code + b"."))


# --- what is damaged -------------------------------------------------------------------------------------------------


def outcome(path: Path) -> Checkpoint | None:
    """What is read of a damaged file, or None where it was refused; anything else than `UserError` fails the test."""
    try:
        checkpoint = open_checkpoint(path)
        for described in checkpoint.contents.values():
            if isinstance(described, Described):
                checkpoint.read(described)
    except UserError as e:
        assert str(e).startswith(f"{path}: ") and "\n" not in str(e) and str(e).isprintable()
        return None
    return checkpoint


@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_mutations_end_in_one_line_or_are_read(tmp_path, form):
    whole = save(state(), tmp_path / "whole.pth", form).read_bytes()
    random, path, refused, start = np.random.default_rng(4), tmp_path / "m.pth", 0, time.process_time()
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        path.write_bytes(data)
        refused += outcome(path) is None
    assert refused > 200, "many are seen"
    assert time.process_time() - start < 60


def test_no_changed_weight_of_a_zip_goes_unseen(tmp_path):
    path = save(state(), tmp_path / "net.pth")
    checkpoint, whole = open_checkpoint(path), path.read_bytes()
    for storage in reader.storages_of(checkpoint.contents):
        for place in range(
            checkpoint.places[storage.key].offset, checkpoint.places[storage.key].offset + storage.size, 7
        ):
            data = bytearray(whole)
            data[place] ^= 1
            path.write_bytes(data)
            assert "the checksum of storage" in refusal(path)


@pytest.mark.parametrize("form", FORMS)
def test_no_cut_goes_unseen(tmp_path, form):
    whole = save({"a": torch.arange(9.0), "b": torch.tensor(1)}, tmp_path / "whole.pth", form).read_bytes()
    path = tmp_path / "m.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


def test_bytes_that_follow_are_seen(tmp_path):
    path = save(state(), tmp_path / "m.pth", "legacy")
    path.write_bytes(path.read_bytes() + b"more")
    assert refusal(path) == "4 bytes follow its last storage; it is damaged"


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_as_a_pickle_are_refused_or_read(data):
    for made in (data, b"\x80\x02" + data + b".", opcodes(a=("0", 1, 0, (1,), (1,)))[:-2] + data):
        try:
            reader.storages_of(read_pickle(BytesIO(made)))
        except Damaged as e:
            assert "\n" not in str(e)


# --- what is hostile -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "message"),
    (
        (("0", 4, 0, (5,), (1,)), "a tensor of '[5]' reaches beyond the 4 values it is of"),
        (("0", 4, 1, (4,), (1,)), "reaches beyond the 4 values"),
        (("0", 4, 0, (2, 2), (3, 1)), "reaches beyond the 4 values"),
        (("0", 4, 0, (1 << 40,), (0,)), "reaches beyond the 4 values"),  # one value a trillion times
        (("0", 4, -1, (2,), (1,)), "described by other things"),
        (("0", 4, 0, (-2,), (1,)), "has 1 dimensions and 1 strides"),
        (("0", 4, 0, (2,), (-1,)), "has 1 dimensions and 1 strides"),
        (("0", 4, 0, (2, 2), (1,)), "has 2 dimensions and 1 strides"),
        (("0", 4, 0, (1,) * 9, (1,) * 9), "has 9 dimensions"),
        (("0", 4, 0, [2], (1,)), "described by other things"),
        (("0", -4, 0, (2,), (1,)), "has no number of values"),
        (("0", 1 << 64, 0, (2,), (1,)), "has no number of values"),
        (("0", 5, 0, (2,), (1,)), "'net/data/0' has 16 bytes, but 5 values of float32 have 20"),
        (("0", 1 << 42, 0, (1 << 42,), (1,)), "but 4,398,046,511,104 values of float32 have 17,592,186,044,416"),
        (("1", 4, 0, (4,), (1,)), "'net/data/1' is missing in it"),
        (("../../etc/passwd", 4, 0, (4,), (1,)), "'net/data/../../etc/passwd' is missing in it"),
    ),
)
def test_hostile_tensors_are_refused(tmp_path, tensor, message):
    assert message in refusal(archive(tmp_path / "m.pth", opcodes(w=tensor), {"0": bytes(16)}))


def test_two_tensors_cannot_make_two_types_of_a_storage(tmp_path):
    text = opcodes(a=("0", 4, 0, (4,), (1,)), b=("0", 3, 0, (3,), (1,)))
    assert "storage '0' has two types or lengths" in refusal(archive(tmp_path / "m.pth", text, {"0": bytes(16)}))


def test_zip_bombs_are_refused_before_they_unfold(tmp_path):
    """64 MB of zeros in 64 KB: PyTorch never compresses, so nothing compressed is opened."""
    count = 1 << 24
    text = opcodes(w=("0", count, 0, (count,), (1,)))
    stored = archive(tmp_path / "m.pth", text, {"0": bytes(4 * count)}, compression=zipfile.ZIP_DEFLATED)
    assert stored.stat().st_size < 200_000
    tracemalloc.start()
    assert "is compressed or encrypted" in refusal(stored)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_claims_of_terabytes_cost_nothing(tmp_path):
    """In the description, in the zip's own table, and in the old form's counts."""
    count = 1 << 40
    lie = opcodes(w=("0", count, 0, (count,), (1,)))
    path = archive(tmp_path / "zip.pth", lie, {"0": bytes(16)})
    whole = bytearray(path.read_bytes())
    entry = whole.rindex(b"PK\1\2")
    struct.pack_into("<II", whole, entry + 20, 0xFFFFFFF0, 0xFFFFFFF0)  # the table has 4 GB of a file of 16 bytes
    path.write_bytes(whole)
    honest = archive(tmp_path / "table.pth", opcodes(w=("0", (1 << 30) - 4, 0, (1,), (1,))), {"0": bytes(16)})
    whole = bytearray(honest.read_bytes())
    struct.pack_into("<II", whole, whole.rindex(b"PK\1\2") + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    honest.write_bytes(whole)
    old = tmp_path / "old.pth"
    old.write_bytes(MAGIC + SYSTEM + lie + pickle.dumps(["0"], 2) + struct.pack("<q", count) + bytes(16))
    tracemalloc.start()
    assert "4,294,967,280 bytes, but 1,099,511,627,776 values" in refusal(path)
    assert "has 4,294,967,280 bytes by its table, but ends before" in refusal(honest)
    assert "but a storage ends at 4,398,046,511," in refusal(old)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_what_is_really_huge_is_refused(tmp_path):
    """Sparse files: three gigabytes of holes in one tensor, and in a zip's table."""
    count = 3 << 28
    old = tmp_path / "old.pth"
    start = MAGIC + SYSTEM + opcodes(w=("0", count, 0, (count,), (1,))) + pickle.dumps(["0"], 2)
    with old.open("wb") as file:
        file.write(start + struct.pack("<q", count))
        file.truncate(len(start) + 8 + 4 * count)
    assert "has 3,221,225,472 bytes, more than the limit of 2,147,483,648; refused" in refusal(old)
    table = tmp_path / "table.pth"
    with table.open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(3 << 30)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 3 << 30, 0, 0))
    tracemalloc.start()
    assert "its table is longer than the limit of 1,048,576 bytes" in refusal(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_descriptions_beyond_all_measure_are_refused(tmp_path):
    long = b"\x80\x02}(" + b"".join(text(f"{n:02000}") + b"K\1" for n in range(600)) + b"u."
    assert "'net/data.pkl' is longer than the limit" in refusal(archive(tmp_path / "m.pth", long))
    (tmp_path / "old.pth").write_bytes(MAGIC + SYSTEM + long)
    assert "describes more than the limit of 1,048,576 bytes" in refusal(tmp_path / "old.pth")


@pytest.mark.parametrize(
    ("body", "said"),
    (
        pytest.param(b"]" * 45_000 + b"a" * 44_999 + b".", "holds a list", id="lists in lists"),
        pytest.param(b"(" * 45_000 + b"t" * 45_000 + b".", "holds a tuple", id="tuples in tuples"),
        pytest.param(b"(" * 1_000_000, "more than the limit of 100,000 operations", id="marks"),
        pytest.param(b"]" * 1_000_000, "more than the limit of 100,000 operations", id="lists"),
        pytest.param(b"]q\0(" + b"h\0" * 50_000 + b"e.", "holds a list", id="a list of itself"),
        pytest.param(
            b"](" + b"".join(b"](" + text(f"n{n}") + b"K\1e" for n in range(10_000)) + b"eq\0"
            + b"ccollections\nOrderedDict\n(h\0tR" * 9_999 + b".",
            "more than the limit of 65,536 items",
            id="one list in many dictionaries",
        ),
    ),
)  # fmt: skip
def test_pickles_that_grow_are_refused_soon(tmp_path, body, said):
    start = time.process_time()
    assert said in refusal(archive(tmp_path / "m.pth", b"\x80\x02" + body))
    assert time.process_time() - start < 20


def test_a_dictionary_may_hold_itself(tmp_path):
    path = archive(tmp_path / "m.pth", b"\x80\x02}q\0X\1\0\0\0ah\0s.")
    assert list(open_checkpoint(path).contents) == ["a"]


@pytest.mark.parametrize(
    ("body", "message"),
    (
        (b"}(X\1\0\0\0aK\1X\1\0\0\0aK\2u.", "gives 'a' twice"),
        (b"}()K\1u.", "has a tuple as a key"),
        (b"}(K\1u.", "fills what cannot be filled (SETITEMS)"),
        (b"K\1K\2K\3s.", "fills what cannot be filled (SETITEM)"),
        (b"K\1K\2a.", "fills what cannot be filled (APPEND)"),
        (b"K\1}b.", "gives a state to what has none"),
        (b"K\1)R.", "calls what is no function"),
        (b"ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage with 0 arguments"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "calls torch._utils._rebuild_tensor_v2 with 0 arguments"),
        (b"ccollections\nOrderedDict\n](K\1e\x85R.", "a dictionary of what are no pairs"),
        (b"ccollections\nOrderedDict\nK\1\x85R.", "calls collections.OrderedDict with 1 arguments"),
        (b"K\1Q.", "refers to what is no storage"),
        (b"h\7.", "takes what is not there (BINGET)"),
        (b"t.", "takes what is not there (TUPLE)"),
        (b"\x87.", "takes what is not there (TUPLE3)"),
        (b".", "does not end with one object"),
        (b"}}.", "does not end with one object"),
        (b"}(.", "does not end with one object"),
        (b"}.}.", "bytes follow its pickle"),
        (b"].", "holds a list, not a network's state dict"),
        (b"X\2\0\0\0\xff\xff.", "text that is none (operation BINUNICODE)"),
        (b"cpos\xefix\nsystem\n.", "text that is none (operation GLOBAL)"),
        (b"X\xff\xff\xff\xffabc.", "its pickle is cut short"),
        (b"T\xff\xff\xff\xffabc.", "its pickle is cut short"),
        (b"cposix", "names 'posix.'"),
        (b"cposix\\x2e\nsystem\n.", r"names 'posix\\x2e.system'"),
        (b"cposix\nsys\x1b[31m\ntem\n.", r"names 'posix.sys\x1b[31m'"),
        (b"X\3\0\0\0\xed\xa0\x80.", "text that is none"),
        (b"X\1\0\0\0aK\1\x93.", "names 'what is no text'"),
        (b"X\1\0\0\0aX\1\0\0\0b\x93.", "names 'a.b'"),
    ),
)
def test_broken_pickles_are_refused_in_one_line(tmp_path, body, message):
    assert message in refusal(archive(tmp_path / "m.pth", b"\x80\x02" + body))


# --- what it is instead ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "message"),
    (
        ("net.t7", b"\4\0\0\0\1\0\0\0\3\0\0\0V 1", "is a file of Lua Torch (.t7), which is not read"),
        ("net.pth", b"\4\0\0\0\1\0\0\0\3\0\0\0V 1", "is a file of Lua Torch (.t7), which is not read"),
        ("net.t7", b"4\n1\n3\nV 1\n", "is a file of Lua Torch (.t7), which is not read"),
        ("net.pth", b"", "is empty"),
        ("net.pth", b"<!DOCTYPE html><html>", "is a web page"),
        ("net.pth", b"\n<html>", "is a web page"),
        ("net.pth", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("net.pth", b"\x89HDF\r\n", "is an HDF5 file"),
        ("net.pth", bytes(257) + b"ustar" + bytes(300), "is a tar archive, the form of PyTorch before 0.1.2"),
        ("net.pth", b"\xff\xd8\xff", "is no checkpoint of PyTorch"),
        ("opt.pkl", pickle.dumps({"a": 1}, 2), "is a pickle, but not of PyTorch's"),
        ("net.pth", MAGIC + pickle.dumps(1000, 2), "of another version of the old form than 1001"),
        ("net.pth", MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": False}, 2) + b"\x80\x02}.\x80\x02].",
         "big-endian"),
    ),
)  # fmt: skip
def test_other_files_are_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    assert message in refusal(tmp_path / name)


def test_other_archives_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.writestr("a.png", b"")
    assert "is a zip archive, but not of PyTorch's" in refusal(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        for name in ("net/data.pkl", "net/constants.pkl", "net/code/a.py"):
            file.writestr(name, b"")
    assert "is a program of TorchScript" in refusal(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02}.")
        file.writestr("net/byteorder", b"big")
    assert "big-endian" in refusal(tmp_path / "big.pth")
    with zipfile.ZipFile(tmp_path / "twice.pth", "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("net/data.pkl", b"\x80\x02}.")
        file.writestr("net/data.pkl", b"\x80\x02}.")
    assert "two files of the same name" in refusal(tmp_path / "twice.pth")


def test_what_is_not_there_is_named(tmp_path):
    assert refusal(tmp_path / "none.pth") == "no such file; give the .pth file of a network"
    assert refusal(tmp_path) == "is no regular file"
    with pytest.raises(UserError, match="zero byte"):
        open_checkpoint(tmp_path / "a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "net.pth")
    assert refusal(tmp_path / "net.pth") == "is no regular file"


def test_the_limits_leave_room_for_real_networks(tmp_path):
    """A U-Net of nine levels has sixty tensors; five hundred take a tenth of the limit."""
    values = {f"model.model.1.model.3.model.{n}.weight": torch.zeros(1) for n in range(500)}
    path = save(values, tmp_path / "m.pth")
    with zipfile.ZipFile(path) as file:
        assert file.getinfo("m/data.pkl").file_size < reader.PICKLE_LIMIT / 10
    assert len(read_all(path)) == 500
    assert pickled.DIMENSIONS > 4
