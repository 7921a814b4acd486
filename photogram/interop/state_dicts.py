"""State dicts of other projects: that they are some, what they hold by name and shape, and their values.

An importer says by names and a few shapes what a network is (its `Form`); that table of variables is then held against
all that there is, both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from photogram.errors import UserError
from photogram.interop.pickled import Described, shortened
from photogram.interop.torch_checkpoint import Checkpoint
from photogram.nn.norms import Norm
from photogram.progress import progress

PARAMETER_LIMIT = 1 << 30
"""Parameters of the largest network that is read; pix2pixHD's largest generator has a sixth of it."""

_FLOATS = ("float32", "float16", "bfloat16")
"""Types whose values float32 holds exactly."""


class Variable(NamedTuple):
    """A tensor of the authors': its shape, and the name of ours, or None where it is passed over and may be missing."""

    shape: tuple[int, ...]
    ours: str | None


Variables = dict[str, Variable]


def convolution(theirs: str, ours: str, shape: tuple[int, ...], outputs: int, bias: bool) -> Variables:
    """A convolution's variables: its weight, and a bias where it has one.

    Args:
        theirs: the authors' name for it, before `.weight`.
        ours: our name.
        shape: of the weight; of a transposed convolution its input channels come first.
        outputs: its output channels, which are so many biases.
        bias: whether it has one.
    """
    found = {f"{theirs}.weight": Variable(shape, f"{ours}.weight")}
    return found | ({f"{theirs}.bias": Variable((outputs,), f"{ours}.bias")} if bias else {})


def normed(theirs: str, ours: str, norm: Norm, channels: int, running: bool = True) -> Variables:
    """A norm's variables; without `running`, ours keeps no statistics."""
    kept = {"weight", "bias"} | ({"running_mean", "running_var"} if running else set())
    kept = kept if norm == "batch" else set()
    names = ("weight", "bias", "running_mean", "running_var") if norm == "batch" else ("running_mean", "running_var")
    found = {f"{theirs}.{n}": Variable((channels,), f"{ours}.{n}" if n in kept else None) for n in names}
    return found | {f"{theirs}.num_batches_tracked": Variable((), None)}


@runtime_checkable
class Form(Protocol):
    """What a network is, by its names and shapes."""

    @property
    def name(self) -> str:
        """In words."""
        ...

    @property
    def norm(self) -> Norm:
        """Which norms it has."""
        ...

    def variables(self) -> Variables:
        """All that its state dict has, in its order."""
        ...


AnyForm = TypeVar("AnyForm", bound=Form)


@dataclass(frozen=True)
class Found(Generic[AnyForm]):
    """A network in a checkpoint, of which names, shapes and types have been checked.

    Args:
        source: the checkpoint.
        form: what the network is.
        tensors: of the source that we need, by our names.
        passed_over: how many others there are: counters, and statistics that were never used.
        stripped: whether `module.` stood before the names.
    """

    source: Checkpoint
    form: AnyForm
    tensors: Mapping[str, Described]
    passed_over: int
    stripped: bool

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Our names and the values, float32, one after the other.

        Raises:
            UserError: where a checksum does not agree or values are not finite.
        """
        for name, described in self.tensors.items():
            values = self.source.read(described).to(torch.float32)
            if not values.isfinite().all():
                raise UserError(
                    f"{self.source.path}: {name} (our name) holds values that are not finite; the training had failed"
                )
            yield name, values

    def weights(self, quiet: bool) -> dict[str, Tensor]:
        """All of `read`, behind a bar of progress."""
        with progress("reading", len(self.tensors), quiet=quiet) as advance:
            weights = {}
            for name, values in self.read():
                weights[name] = values
                advance(name)
        return weights

    def notes(self, assumed: Iterable[str]) -> list[str]:
        """What a card says of a checkpoint beside its form: what was left out, and what had to be assumed."""
        return [
            f"- passed over: {self.passed_over} counters and statistics that were never used",
            *(["- `module.` before the names was taken off"] if self.stripped else []),
            *[f"- assumed: {words}; the checkpoint does not say" for words in assumed],
        ]


def find_form(source: Checkpoint, formed: Callable[[Checkpoint, Mapping[str, Described]], AnyForm]) -> Found[AnyForm]:
    """Which network a checkpoint holds. No values are read.

    Args:
        source: the checkpoint.
        formed: gives the form by the tensors' names (without `module.`) and shapes, or refuses them.

    Raises:
        UserError: where a tensor is missing, unknown, or of another shape or type than the others ask for, by name.
    """
    tensors = _tensors(source)
    names = {name.removeprefix("module."): described for name, described in tensors.items()}
    if len(names) < len(tensors):
        raise UserError(f"{source.path}: holds tensors with and without 'module.' before the same name; it is damaged")
    form = formed(source, names)
    wanted = form.variables()
    if (parameters := sum(math.prod(v.shape) for v in wanted.values())) > PARAMETER_LIMIT:
        raise UserError(
            f"{source.path}: has {parameters:,} parameters, more than the limit of {PARAMETER_LIMIT:,}; refused"
        )
    _check(source, names, form, wanted)
    kept = {variable.ours: names[name] for name, variable in wanted.items() if variable.ours}
    return Found(source, form, kept, len(names) - len(kept), any(name.startswith("module.") for name in tensors))


def _tensors(source: Checkpoint) -> dict[str, Described]:
    """The tensors of a state dict, which must be all that there is."""
    contents, path = source.contents, source.path
    if not contents:
        raise UserError(f"{path}: holds nothing")
    if {"state", "param_groups"} <= set(contents):
        raise UserError(f"{path}: is an optimizer's state, not a network; give latest_net_G.pth or latest_net_G_A.pth")
    found: dict[str, Described] = {}
    for name, value in contents.items():
        if isinstance(value, dict):
            raise UserError(f"{path}: {shortened(str(name))} is a dictionary: a training's state, not one network's")
        if not isinstance(name, str) or not isinstance(value, Described):
            raise UserError(f"{path}: {shortened(str(name))} is a {type(value).__name__}, not a tensor")
        found[name] = value
    return found


def shape_of(source: Checkpoint, names: Mapping[str, Described], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor of which a network's form follows."""
    if name not in names:
        raise UserError(f"{source.path}: {name!r} is missing")
    shape = names[name].shape
    if len(shape) != dimensions or not all(shape):
        raise UserError(f"{source.path}: {name!r} is {list(shape)}; it must be {dimensions} dimensions, 1 or more each")
    return shape


def _check(source: Checkpoint, names: Mapping[str, Described], form: Form, wanted: Variables) -> None:
    """Every tensor once, in its shape; besides them only what is passed over."""
    missing = [name for name, variable in wanted.items() if variable.ours and name not in names]
    if missing:
        raise UserError(
            f"{source.path}: {missing[0]!r} is missing ({len(missing)} such); {form.name} with {form.norm} norm has it"
        )
    unknown = [name for name in names if name not in wanted]
    if unknown:
        raise UserError(
            f"{source.path}: {shortened(unknown[0])} is unknown ({len(unknown)} such); {form.name} with {form.norm} "
            "norm has none of that name"
        )
    for name, described in names.items():
        shape, ours = wanted[name]
        counter = not shape and described.shape == (1,)  # as some versions of PyTorch had it
        if described.shape != shape and not counter:
            asked = f"{list(described.shape)}, but the other tensors ask for {list(shape)}"
            raise UserError(f"{source.path}: {name!r} is {asked}")
        if ours and described.storage.dtype not in _FLOATS:
            raise UserError(
                f"{source.path}: {name!r} is of {described.storage.dtype}; it must be float32, float16 or bfloat16"
            )
