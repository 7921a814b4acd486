"""NumPy files of dictionaries: what NumPy writes is read; damaged, hostile or huge ones are refused; nothing is run."""

from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from photogram.errors import UserError
from photogram.interop.files import Damaged
from photogram.interop.pickled import read_pickle
from photogram.interop.pickled_arrays import ARRAYS, FILE_LIMIT, Array, read_dictionary
from photogram.interop.style_clusters import as_buffers, read_clusters

TEXT = "{'descr': '|O', 'fortran_order': False, 'shape': (), }"
TYPES = ("f2", "f4", "f8", ">f4", ">f8")


def header(text: str = TEXT, version: int = 1) -> bytes:
    data = f"{text:<117}\n".encode("latin-1")
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(data)) + data


def whole(value: object, protocol: int = 4) -> bytes:
    """As NumPy writes it with this protocol of pickles."""
    held = np.empty((), object)
    held[()] = value
    return header() + pickle.dumps(held, protocol)


def centres(kind: str = "f4") -> dict[int, np.ndarray]:
    random = np.random.default_rng(1)
    return {one: random.normal(size=(count, 3)).astype(kind) for one, count in ((7, 10), (26, 3), (11, 1))}


def refusal(path: Path, data: bytes | None = None) -> str:
    """What is said of a file that must be refused: one line that begins with its path."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as refused:
        read_clusters(path, 3)
    said = str(refused.value)
    assert said.startswith(f"{path}: ") and "\n" not in said and said.isprintable()
    return said.removeprefix(f"{path}: ")


# --- what is well ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_what_numpy_saves_is_read(tmp_path, kind):
    """By `numpy.load(allow_pickle=True)`, the slow way that runs pickles, it is the same."""
    path = tmp_path / "features_clustered_010.npy"
    np.save(path, np.array(centres(kind), dtype=object))
    found = read_clusters(path, 3)
    theirs = np.load(path, allow_pickle=True).item()
    assert list(found) == list(theirs) == [7, 26, 11]
    for one, values in theirs.items():
        assert torch.equal(found[one], torch.from_numpy(values.astype("f4"))) and found[one].dtype == torch.float32


@pytest.mark.parametrize("protocol", (2, 3, 4))
@pytest.mark.parametrize("module", ("numpy.core", "numpy._core"))
def test_all_protocols_and_both_numpys_are_read(tmp_path, protocol, module):
    data = whole(centres(), protocol)
    for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        data = data.replace(b"c" + name + b"\n", b"c" + module.encode() + b".multiarray\n")
        short = (module + ".multiarray").encode()
        data = data.replace(b"\x8c" + bytes([len(name)]) + name, b"\x8c" + bytes([len(short)]) + short)
    assert short in data
    (tmp_path / "c.npy").write_bytes(data)
    for one, values in read_clusters(tmp_path / "c.npy", 3).items():
        assert np.array_equal(values.numpy(), centres()[one])


def test_what_python_2_wrote_is_read(tmp_path):
    """Its bytes are the texts of today's machine."""
    values = np.arange(6, dtype="<f4")

    def array(shape: bytes, kind: bytes, order: bytes, flags: bytes, data: bytes) -> bytes:
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1" + shape
            + b"cnumpy\ndtype\nU\2" + kind + b"K\0K\1\x87R(K\3U\1" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
            + b"K" + flags + b"tb\x89" + data + b"tb"
        )  # fmt: skip

    inner = array(b"K\2K\3\x86", b"f4", b"<", b"\0", b"U\x18" + values.tobytes())
    text = array(b")", b"O8", b"|", b"?", b"]}K\x07" + inner + b"sa")
    (tmp_path / "c.npy").write_bytes(header() + b"\x80\2" + text + b".")
    assert np.array_equal(read_clusters(tmp_path / "c.npy", 3)[7].numpy(), values.reshape(2, 3))
    again = pickle.loads(b"\x80\2" + text + b".", encoding="latin1")  # noqa: S301  # our own
    assert np.array_equal(again.item()[7], values.reshape(2, 3)), "Python's own machine agrees"


def test_columns_first_is_read(tmp_path):
    """Arrays in Fortran's order, and headers of the second version with one dimension."""
    values = np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3))
    data = pickle.dumps(np.array([{7: values}], dtype=object), 4)
    (tmp_path / "c.npy").write_bytes(header(TEXT.replace("()", "(1,)"), 2) + data)
    assert np.array_equal(read_clusters(tmp_path / "c.npy", 3)[7].numpy(), values)


@settings(max_examples=60, deadline=None)
@given(
    made=st.dictionaries(st.integers(0, 999), st.integers(1, 12), min_size=1, max_size=8),
    kind=st.sampled_from(TYPES),
    protocol=st.sampled_from((2, 3, 4)),
)
def test_any_dictionary_of_centres_is_read(tmp_path_factory, made, kind, protocol):
    random = np.random.default_rng(3)
    values = {one: random.normal(size=(count, 3)).astype(kind) for one, count in made.items()}
    path = tmp_path_factory.mktemp("any") / "c.npy"
    path.write_bytes(whole(values, protocol))
    found = read_clusters(path, 3)
    assert set(found) == set(values)
    assert all(np.array_equal(found[one].numpy(), values[one].astype("f4")) for one in values)


def test_ids_of_objects_are_their_classes(tmp_path):
    """Specification 4.7: 26003 is of class 26, 7 of 7; both forms of one class are one too many."""
    one = np.ones((1, 3), "f4")
    (tmp_path / "c.npy").write_bytes(whole({26003: one, 7: one, 999: one, 1000: one}))
    assert sorted(read_clusters(tmp_path / "c.npy", 3)) == [1, 7, 26, 999]
    assert refusal(tmp_path / "c.npy", whole({26003: one, 26: one})) == "gives the styles of class 26 twice"


def test_buffers_hold_centres_and_ones():
    rows, counts = as_buffers({1: torch.ones(2, 3), 3: torch.full((1, 3), 5.0)}, 5, 4, 3)
    assert rows.shape == (5, 4, 3) and rows.sum() == 6 + 15 and rows[3, 0, 0] == 5
    assert counts.tolist() == [[0] * 4, [1, 1, 0, 0], [0] * 4, [1, 0, 0, 0], [0] * 4]


# --- nothing is run --------------------------------------------------------------------------------------------------


class Hostile:
    """Would leave a file behind, were its pickle executed."""

    def __init__(self, path: Path, function: Any = os.system):
        self.path, self.function = path, function

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", (2, 3, 4))
@pytest.mark.parametrize("function", (os.system, eval, exec, os.popen, print, __import__))
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, protocol, function):
    trap = tmp_path / "trap"
    for value in (Hostile(trap, function), {7: Hostile(trap, function)}, {7: [Hostile(trap, function)]}):
        said = refusal(tmp_path / "c.npy", whole(value, protocol))
        assert f".{function.__name__}'" in said and "nothing of it was run" in said
    assert not trap.exists()


def test_the_trap_would_work(tmp_path):
    """NumPy's own reader runs it, or the tests above say nothing."""
    (tmp_path / "c.npy").write_bytes(whole({7: Hostile(tmp_path / "trap")}))
    np.load(tmp_path / "c.npy", allow_pickle=True)
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("value", "name"),
    (
        ({7: torch.zeros(1, 3)}, "torch"),
        ({7: np.float32(1)}, "scalar"),
        ({np.int64(7): np.zeros((1, 3))}, "scalar"),
        ({7: np.ma.zeros((1, 3))}, "numpy.ma"),
        ({7: np.zeros((1, 3)).view(np.matrix)}, "matrix"),
        ({7: {1}}, "set"),
        ({7: slice(3)}, "slice"),
    ),
)
def test_only_arrays_pass(tmp_path, value, name):
    said = refusal(tmp_path / "c.npy", whole(value, 2))
    assert name in said and "no part of arrays of numbers; refused" in said


def test_tensors_are_not_arrays_nor_arrays_tensors():
    """Each vocabulary has its own names and operations."""
    for text, vocabulary in (
        (b"cnumpy\ndtype\n.", None),
        (b"C\1a.", None),
        (b"ctorch\nFloatStorage\n.", ARRAYS),
        (b"ccollections\nOrderedDict\n.", ARRAYS),
        (b"K\1Q.", ARRAYS),
    ):
        with pytest.raises(Damaged, match="refused"):
            read_pickle(BytesIO(b"\x80\2" + text), vocabulary)


# --- what is damaged or hostile --------------------------------------------------------------------------------------


def test_mutations_end_in_one_line_or_are_read(tmp_path):
    random, path, refused, start = np.random.default_rng(4), tmp_path / "m.npy", 0, time.process_time()
    for protocol in (2, 4):
        data = whole(centres("f8"), protocol)
        for _ in range(1500):
            changed = bytearray(data)
            for _ in range(random.integers(1, 4)):
                changed[random.integers(len(changed))] = random.integers(256)
            path.write_bytes(changed)
            try:
                found = read_clusters(path, 3)
                assert all(values.shape[1] == 3 for values in found.values())
            except UserError as e:
                assert str(e).startswith(f"{path}: ") and "\n" not in str(e) and str(e).isprintable()
                refused += 1
    assert refused > 600, "many are seen"
    assert time.process_time() - start < 60


@pytest.mark.parametrize("protocol", (2, 4))
def test_no_cut_goes_unseen(tmp_path, protocol):
    data = whole({7: np.ones((2, 3), "f4")}, protocol)
    for length in range(len(data)):
        refusal(tmp_path / "m.npy", data[:length])
    assert refusal(tmp_path / "m.npy", data + b"x") == "bytes follow its pickle; it is damaged"


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_as_a_pickle_are_refused_or_read(data):
    good = pickle.dumps(np.ones((2, 3), "f4"), 4)
    for made in (data, b"\x80\2" + data + b".", good[: len(good) - 1 - len(data) % 30] + data):
        try:
            found = read_pickle(BytesIO(made), ARRAYS)
            if isinstance(found, Array):
                found.numbers()
        except Damaged as e:
            assert "\n" not in str(e)


def array(shape: bytes = b"K\2K\3\x86", kind: bytes = b"f4", order: bytes = b"<", data: bytes = b"C\x18" + bytes(24),
          state: bytes | None = None) -> bytes:  # fmt: skip
    """The operations that build an array."""
    built = b"(K\3X\1\0\0\0" + order + b"NNNK\0K\0K\0tb" if state is None else state
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R(K\1" + shape
        + b"cnumpy\ndtype\nX" + struct.pack("<I", len(kind)) + kind + b"\x89\x88\x87R" + built + b"\x89" + data + b"tb"
    )  # fmt: skip


def holding(inner: bytes) -> bytes:
    return header() + b"\x80\2" + array(b")", b"O8", b"|", b"]}K\7" + inner + b"sa") + b"."


def test_the_hand_made_array_is_one(tmp_path):
    (tmp_path / "c.npy").write_bytes(holding(array()))
    assert torch.equal(read_clusters(tmp_path / "c.npy", 3)[7], torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("inner", "message"),
    (
        (array(b"K\2K\4\x86"), "has an array of 24 bytes, but its shape asks for 32"),
        (array(b"\x8a\x08" + (1 << 40).to_bytes(8, "little") + b"K\3\x86"), "shape asks for 13,194,139,533,312"),
        (array(b"K\2J\xfd\xff\xff\xff\x86"), "has an array whose shape is none"),
        (array(b"K\2X\1\0\0\0a\x86"), "has an array whose shape is none"),
        (array(b"K\1" * 3 + b"\x87"), "but its shape asks for 4"),
        (array(b"(" + b"K\1" * 9 + b"t"), "has an array whose shape is none"),
        (array(b"K\6"), "has an array whose shape is none"),
        (array(b"K\6\x85"), "class 7 has no array of two dimensions"),
        (array(b"K\3K\2\x86"), "styles of class 7 have 2 numbers, but the network's have 3"),
        (array(b"K\0K\3\x86", data=b"C\0"), "class 7 has 0 clusters; it must be 1 to 1024"),
        (array(kind=b"i4"), "has an array of 'i4'; it must be f2, f4 or f8"),
        (array(kind=b"V24"), "has an array of 'V24'; it must be f2, f4 or f8"),
        (array(kind=b"O8"), "has an array without its values"),
        (array(kind=b"O8", data=b"]"), "has an array of 0 objects; there can be one"),
        (array(order=b"!"), "gives a state to what has none"),
        (array(state=b""), "described by other things than a type and an order"),
        (array(state=b"K\1b"), "gives a state to what has none"),
        (array(state=b"(K\3X\1\0\0\0<}NNK\0K\0K\0tb"), "gives a state to what has none"),
        (array(data=b"N"), "has an array without its values"),
        (array(data=b"X\x19\0\0\0" + b"a" * 23 + b"\xc4\x80"), "its pickle has bytes that are none"),
        (array() + b"(K\1)NNNtb", "gives a state to what has none"),  # a second time
        (b"cnumpy.core.multiarray\n_reconstruct\n(K\0K\0K\0tR", "makes an array of another class"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R", "with 0 arguments"),
        (b"cnumpy\nndarray\n(K\1tR", "calls numpy.ndarray with 1 arguments"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R", "no array of two dimensions"),
        (b"c_codecs\nencode\nX\1\0\0\0aX\4\0\0\0utf8\x86R", "has bytes that are none"),
        (b"K\1", "class 7 has no array of two dimensions"),
        (array(data=b"C\x18" + struct.pack("<6f", *[float("nan")] * 6)), "class 7 has styles that are not finite"),
    ),
)  # fmt: skip
def test_hostile_arrays_are_refused(tmp_path, inner, message):
    assert message in refusal(tmp_path / "c.npy", holding(inner))


def test_one_text_for_many_arrays_costs_one_text(tmp_path):
    """The bytes of an array are not copied where its shape is refused, though thousands share half a megabyte."""
    data = b"X\x00\x00\x08\x00" + b"a" * (1 << 19) + b"q\1"
    first = array(b"\x8a\4" + (1 << 17).to_bytes(4, "little") + b"\x85", data=data)
    more = b"".join(
        b"K" + bytes([n]) + array(b"\x8a\4" + (1 << 17).to_bytes(4, "little") + b"\x85", data=b"h\1")
        for n in range(8, 200)
    )
    text = header() + b"\x80\2" + array(b")", b"O8", b"|", b"]}(K\7" + first + more + b"ua") + b"."
    (tmp_path / "c.npy").write_bytes(text)
    tracemalloc.start()
    assert "class 7 has no array of two dimensions" in refusal(tmp_path / "c.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize(
    ("data", "message"),
    (
        (b"", "is no file of NumPy"),
        (b"PK\3\4" + bytes(99), "is no file of NumPy"),
        (pickle.dumps({7: 1}, 4), "is no file of NumPy"),
        (header(version=9), "is of an unknown version"),
        (b"\x93NUMPY\1", "is of an unknown version of NumPy's form, or cut short"),
        (header()[:9], "is cut short"),
        (header()[:60], "has no header of NumPy's, or is cut short"),
        (header("{'descr': __import__('os'), }"), "has no header of NumPy's"),
        (header(TEXT.replace("|O", "<f4").replace("()", "(3,)")) + bytes(12), "holds an array of '<f4', (3,); one"),
        (header(TEXT.replace("()", "(2,)")), "holds an array of '|O', (2,); one object, a dictionary, is needed"),
        (header() + pickle.dumps({7: 1}, 4), "holds no dictionary"),
        (header() + pickle.dumps(np.zeros((2, 3)), 4), "holds no dictionary"),
        (whole([1, 2]), "holds no dictionary"),
        (whole({}), "holds no styles"),
        (whole({"car": np.zeros((1, 3))}), "has 'car' as a class; it must be a number of 0 or more"),
        (whole({-1: np.zeros((1, 3))}), "has '-1' as a class"),
        (whole({True: np.zeros((1, 3))}), "has a bool as a key"),
        (whole({7: np.zeros((1 << 11, 3))}), "class 7 has 2,048 clusters; it must be 1 to 1024"),
        (bytes(FILE_LIMIT + 1), "is longer than the limit of 1,048,576 bytes; refused"),
    ),
)  # fmt: skip
def test_other_files_are_named(tmp_path, data, message):
    assert message in refusal(tmp_path / "c.npy", data)


def test_what_is_not_there_is_named(tmp_path):
    assert refusal(tmp_path / "none.npy") == "no such file; give features_clustered_010.npy"
    assert refusal(tmp_path) == "is no regular file"
    with pytest.raises(UserError, match="no such file; give it"):
        read_dictionary(tmp_path / "none.npy", "give it")
