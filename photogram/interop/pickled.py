"""Pickles in which tensors are described, read without executing anything.

A pickle is a program for a small machine, and Python's own machine runs whatever functions the program names. This one
knows the operations that build dictionaries, lists, tuples, numbers and text, and the few names of a `Vocabulary`: that
of `TENSORS` has an ordered dictionary, a tensor (of which it keeps the description) and the types of storages;
`pickled_arrays` has another. Everything else is refused by its name; nothing is ever imported or called.

What the operations are called is `pickletools`'s; their arguments are cut here, as its own cutter takes names for text
with escapes, which Python's machine does not.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from photogram.interop.files import Damaged

DIMENSIONS = 8
"""Of the tensors that are read; weights of convolutions have four."""
ITEM_LIMIT = 1 << 16
"""Items of ordered dictionaries that one pickle may fill from lists, all together."""
OPERATION_LIMIT = 100_000
"""Operations of the longest pickle that is read; a tensor takes some forty."""

_TYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
ITEM_SIZE = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}
"""Bytes of a value, by its type; of the types that are not here, one."""

_ORDERED_DICT = "collections.OrderedDict"

_NUMBERS = {"BININT": "<i", "BININT1": "<B", "BININT2": "<H", "BINFLOAT": ">d"}
_COUNTED = {"LONG1": "<B", "BINUNICODE": "<I", "SHORT_BINUNICODE": "<B"}  # by a number of bytes before them
_COUNTED |= {"SHORT_BINSTRING": "<B", "BINSTRING": "<i"}  # Python 2's text
_BYTES = {"SHORT_BINBYTES": "<B", "BINBYTES": "<I"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], object]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = {"BINPUT": "<B", "LONG_BINPUT": "<I"}, {"BINGET": "<B", "LONG_BINGET": "<I"}
_FIXED = {
    name: struct.Struct(form) for name, form in ({**_NUMBERS, **_PUTS, **_GETS, "PROTO": "<B", "FRAME": "<Q"}).items()
}
_OTHERS = {"MARK", "TUPLE", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
_OTHERS |= {"MEMOIZE", "STOP"}
_ALLOWED = {*_FIXED, *_COUNTED, *_CONSTANTS, *_EMPTY, *_TUPLES, *_OTHERS}
_CODES = {ord(op.code): op.name for op in pickletools.opcodes}


@dataclass(frozen=True)
class Storage:
    """A row of values that lies elsewhere in the file.

    Args:
        dtype: of the values, by torch's name.
        key: under which it is found.
        count: of values.
    """

    dtype: str
    key: str
    count: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * ITEM_SIZE.get(self.dtype, 1)


@dataclass(frozen=True)
class Described:
    """A tensor, by the values that it takes of a storage.

    Args:
        storage: whose values these are.
        offset: of the first of them.
        shape: the tensor's.
        stride: how many values apart neighbours are, along each dimension.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Name:
    """One of the names that a pickle may use."""

    name: str


class Call(NamedTuple):
    """What stands for a function: of how many arguments, and what is made of them; nothing that is named is called."""

    counts: tuple[int, ...]
    made: Callable[[tuple[Any, ...]], object]


@dataclass(frozen=True)
class Vocabulary:
    """What pickles of one kind may name and do, beyond dictionaries, lists, tuples, numbers and text.

    Args:
        part: what they describe, for messages.
        calls: functions by their names.
        names: those that may only be arguments, and the ordered dictionary where it is allowed.
        operations: allowed beside those of all kinds.
        build: gives an object a state; False where the two do not fit.
    """

    part: str
    calls: Mapping[str, Call]
    names: frozenset[str]
    operations: frozenset[str]
    build: Callable[[object, object], bool]


def read_pickle(file: io.BytesIO, vocabulary: Vocabulary | None = None) -> object:
    """Read one pickle, and leave the file at the first byte after it.

    Args:
        file: at the first byte of the pickle.
        vocabulary: what else it may hold; without one, `TENSORS`.

    Returns:
        Dictionaries (in place of ordered ones, too), lists, tuples, numbers, text, and what the vocabulary makes: of
        tensors, `Storage` and `Described`.

    Raises:
        Damaged: where it names or does anything else, or is cut short.
    """
    vocabulary = vocabulary or TENSORS
    machine = _Machine(vocabulary)
    for number, (name, argument) in enumerate(_operations(file, _ALLOWED | vocabulary.operations, vocabulary.part)):
        if number == OPERATION_LIMIT:
            raise Damaged(f"its pickle has more than the limit of {OPERATION_LIMIT:,} operations; refused")
        try:
            machine.do(name, argument)
        except (IndexError, KeyError):  # of its stack, its marks or its memo
            raise Damaged(f"its pickle takes what is not there ({name}); it is damaged") from None
    return machine.result()


def _operations(file: io.BytesIO, allowed: frozenset[str] | set[str], part: str) -> Iterator[tuple[str, Any]]:
    """The operations up to the end of a pickle, with their arguments."""
    name = ""
    while name != "STOP":
        code = _take(file, 1)[0]
        name = _CODES.get(code, f"number {code}")
        if name not in allowed:
            raise Damaged(f"its pickle does more than describe {part} (operation {name}); refused")
        try:
            yield name, _argument(name, file)
        except UnicodeDecodeError:
            raise Damaged(f"its pickle has text that is none (operation {name}); it is damaged") from None


def _argument(name: str, file: io.BytesIO) -> Any:
    """What follows the name of an operation."""
    if name in _FIXED:
        return _FIXED[name].unpack(_take(file, _FIXED[name].size))[0]
    if name == "GLOBAL":
        return tuple(file.readline().removesuffix(b"\n").decode("utf-8") for _ in range(2))
    form = _COUNTED.get(name) or _BYTES.get(name)
    if form is None:
        return None
    (count,) = struct.unpack(form, _take(file, struct.calcsize(form)))
    data = _take(file, count)
    if name in _BYTES:
        return data
    if name == "LONG1":
        return int.from_bytes(data, "little", signed=True)
    return data.decode("utf-8" if name.endswith("UNICODE") else "latin-1")


def _take(file: io.BytesIO, count: int) -> bytes:
    """So many bytes, which must be there."""
    data = file.read(max(count, 0))
    if len(data) != count:
        raise Damaged("its pickle is cut short")
    return data


class _Machine:
    """A stack, the stacks below its marks, and a memo: what a pickle works on."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.items = 0

    def result(self) -> object:
        if self.below or len(self.stack) != 1:
            raise Damaged("its pickle does not end with one object; it is damaged")
        return self.stack[0]

    def do(self, name: str, argument: Any) -> None:
        """One operation that is allowed."""
        if name in _NUMBERS or name in _COUNTED or name in _BYTES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(reversed([self.stack.pop() for _ in range(_TUPLES[name])])))
        elif name in _PUTS or name == "MEMOIZE":
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.below.append(self.stack)
            self.stack = []
        elif name == "TUPLE":
            items = self.since_mark()  # which brings back the stack to append to
            self.stack.append(tuple(items))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self.fill(name)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(self.named(argument))
        elif name == "REDUCE":
            arguments, function = self.stack.pop(), self.stack.pop()
            self.stack.append(self.called(function, arguments))
        elif name == "BUILD":
            state = self.stack.pop()
            if not self.vocabulary.build(self.stack[-1], state):
                raise Damaged("its pickle gives a state to what has none; refused")
        elif name == "BINPERSID":
            self.stack.append(_storage(self.stack.pop()))

    def since_mark(self) -> list[Any]:
        """What the stack holds since the last mark; without both."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def fill(self, name: str) -> None:
        """Put values into the list or the dictionary below them."""
        into = list if name.startswith("APPEND") else dict
        count = 1 if into is list else 2
        items = self.since_mark() if name.endswith("S") else [self.stack.pop() for _ in range(count)][::-1]
        target = self.stack[-1]
        if type(target) is not into or len(items) % count:
            raise Damaged(f"its pickle fills what cannot be filled ({name}); it is damaged")
        if isinstance(target, dict):
            _set_items(target, zip(items[::2], items[1::2], strict=True))
        else:
            target.extend(items)

    def named(self, argument: tuple[str, ...] | None) -> Name:
        """What a pickle names, if it is allowed; without an argument, by two texts on the stack."""
        if argument is None:
            last, module = self.stack.pop(), self.stack.pop()
            argument = (module, last) if type(module) is type(last) is str else ("what is no text",)
        name = ".".join(argument)
        if name not in self.vocabulary.names and name not in self.vocabulary.calls:
            part = self.vocabulary.part
            raise Damaged(f"names {shortened(name)}, which is no part of {part}; refused, and nothing of it was run")
        return Name(name)

    def called(self, function: Any, arguments: Any) -> Any:
        """What a function would have made of its arguments."""
        if not isinstance(function, Name) or type(arguments) is not tuple:
            raise Damaged("its pickle calls what is no function; it is damaged")
        call = self.vocabulary.calls.get(function.name)
        if call is not None and len(arguments) in call.counts:
            return call.made(arguments)
        if function.name == _ORDERED_DICT and not arguments:
            return {}
        if function.name == _ORDERED_DICT and len(arguments) == 1 and type(arguments[0]) is list:  # Python 2's
            pairs = arguments[0]
            self.items += len(pairs)
            if self.items > ITEM_LIMIT:
                raise Damaged(f"its dictionaries have more than the limit of {ITEM_LIMIT:,} items; refused")
            if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                raise Damaged("its pickle makes a dictionary of what are no pairs; it is damaged")
            return _set_items({}, iter(pairs))
        raise Damaged(f"its pickle calls {function.name} with {len(arguments)} arguments; it is damaged")


def _set_items(target: dict[Any, Any], pairs: Iterator[Any]) -> dict[Any, Any]:
    """Put pairs into a dictionary, each key once."""
    for key, value in pairs:
        if type(key) not in (str, int):
            raise Damaged(f"its pickle has a {type(key).__name__} as a key; only text and numbers are read")
        if key in target:
            raise Damaged(f"its pickle gives {shortened(str(key))} twice; it is damaged")
        target[key] = value
    return target


def _storage(given: Any) -> Storage:
    """A storage from ('storage', type, key, device, count), with None after it in files before PyTorch 1.6."""
    if not (type(given) is tuple and len(given) in (5, 6) and given[0] == "storage" and type(given[2]) is str):
        raise Damaged("its pickle refers to what is no storage; it is damaged")
    if len(given) == 6 and given[5] is not None:
        raise Damaged("a storage is part of another, as PyTorch before 0.4 could have it; this is not read")
    name = given[1].name.removeprefix("torch.") if isinstance(given[1], Name) else ""
    if name not in _TYPES:
        raise Damaged("a storage is of no type that is known; it is damaged")
    if not are_counts(given[4]):
        raise Damaged("a storage has no number of values; it is damaged")
    return Storage(_TYPES[name], given[2], given[4])


def _described(arguments: tuple[Any, ...]) -> Described:
    """A tensor from (storage, offset, shape, stride, ...); gradients and hooks are of no use here."""
    storage, offset, shape, stride = arguments[:4]
    if not (isinstance(storage, Storage) and type(shape) is tuple and type(stride) is tuple and are_counts(offset)):
        raise Damaged("a tensor is described by other things than a storage and numbers; it is damaged")
    if len(shape) > DIMENSIONS or len(shape) != len(stride) or not are_counts(*shape, *stride):
        raise Damaged(f"a tensor has {len(shape)} dimensions and {len(stride)} strides; it is damaged")
    values = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if values else 0
    if values and (values > storage.count or last >= storage.count):
        raise Damaged(f"a tensor of {shortened(str(list(shape)))} reaches beyond the {storage.count:,} values it is of")
    return Described(storage, offset, shape, stride)


def _metadata(target: object, state: object) -> bool:
    """A state dict's versions of modules, of no use here."""
    return isinstance(target, dict) and isinstance(state, dict)


TENSORS = Vocabulary(
    part="tensors",
    calls={
        "torch._utils._rebuild_tensor_v2": Call((6, 7), _described),
        "torch._utils._rebuild_tensor": Call((4,), _described),  # before PyTorch 0.4
    },
    names=frozenset({_ORDERED_DICT, *(f"torch.{name}" for name in _TYPES)}),
    operations=frozenset({"BINPERSID"}),
    build=_metadata,
)
"""State dicts of PyTorch."""


def are_counts(*values: Any) -> bool:
    """Whether all are integers of 0 to 2^63."""
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def shortened(text: str) -> str:
    """Text of a file in one line of a message: quoted, what is unprintable escaped, what is long cut."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
