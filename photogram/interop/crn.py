"""The networks that the authors of CRN released, from their TensorFlow checkpoints (specification of CRN, section 9).

A module at s rows is `g_<s>_conv1` and `g_<s>_conv2`, each with weights [3, 3, in, out] and LayerNorm's gamma and beta;
the last one also has the projection `g_<s>_conv100`. Layouts are twice as wide as high. There are no biases but the
projection's. What Adam has left (moments, powers of its betas) is passed over.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from photogram.data.known_classes import cityscapes_19
from photogram.errors import UserError
from photogram.images import PIXEL_LIMIT
from photogram.interop.files import LICENCE, check_room, leaving_nothing_half, program
from photogram.interop.tensorflow import Checkpoint, Entry, open_checkpoint
from photogram.outputs import writing
from photogram.progress import progress
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.scene import SceneSpec, Size

PARAMETER_LIMIT = 1 << 30
"""Parameters of the largest cascade that is read; the authors' largest has a tenth of it."""

_VARIABLE = re.compile(r"g_([1-9]\d{0,4})_conv(1|2|100)/(weights|biases|LayerNorm/gamma|LayerNorm/beta)")
_SLOT = re.compile(r"/Adam(_1)?$")
_POWERS = ("beta1_power", "beta2_power")
_COLOURS = 3


class Form(NamedTuple):
    """What a checkpoint's names and shapes say of its network.

    Args:
        rows: at which each module works, from the coarsest to the finest.
        widths: features of each module.
        candidates: images that it paints of one layout.
    """

    rows: tuple[int, ...]
    widths: tuple[int, ...]
    candidates: int

    @property
    def size(self) -> Size:
        return (self.rows[-1], 2 * self.rows[-1])


class Imported(NamedTuple):
    """What an import has made.

    Args:
        out: the folder of the published network.
        form: what it is.
        parameters: how many weights it has.
        passed_over: variables of the checkpoint that only its optimizer needed.
    """

    out: Path
    form: Form
    parameters: int
    passed_over: int


class Variable(NamedTuple):
    """A variable of the authors': its shape there, and the name of our parameter."""

    shape: tuple[int, ...]
    ours: str


def import_crn(checkpoint: str | Path, *, out: str | Path, quiet: bool = False) -> Imported:
    """Publish one of the authors' networks as ours, for `photogram.load` and all that follows from it.

    Args:
        checkpoint: `NAME`, one of its files, or the folder that they are in; see `open_checkpoint`.
        out: the folder to write, new or empty.
        quiet: show no progress.

    Raises:
        UserError: where the checkpoint is damaged or is no such network, naming the file and the variable, or `out`
            holds anything.
    """
    out = Path(out)
    check_room(out)
    source = open_checkpoint(checkpoint)
    form, network = read_crn(source, quiet)
    with leaving_nothing_half(out), writing(out):
        network.save_pretrained(out, _card(network, form, source))
    parameters = sum(p.numel() for p in network.parameters())
    return Imported(out, form, parameters, len(source.entries) - len(variables(form)))


def read_crn(source: Checkpoint, quiet: bool = True) -> tuple[Form, CascadedRefinementNetwork]:
    """The network of a checkpoint, in eval mode; beside its weights it takes the memory of the largest of them.

    Raises:
        UserError: where names, shapes, checksums or values are not those of a cascade.
    """
    form = read_form(source)
    weights: dict[str, Tensor] = {}
    wanted = variables(form)
    with progress("reading", len(wanted), quiet=quiet) as advance:
        for name, variable in wanted.items():
            values = source.read(name)
            if not np.isfinite(values).all():
                raise UserError(f"{source.index}: {name!r} holds values that are not finite; the training had failed")
            if values.ndim == 4:  # height, width, in, out
                values = np.ascontiguousarray(values.transpose(3, 2, 0, 1))
            weights[variable.ours] = torch.from_numpy(values)
            advance(name)
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        network = _network(form)
    network.load_state_dict(weights, assign=True)
    return form, network.eval()


def _network(form: Form) -> CascadedRefinementNetwork:
    spec = SceneSpec(classes=cityscapes_19(), size=form.size)
    return CascadedRefinementNetwork(spec=spec, widths=form.widths, candidates=form.candidates)


# --- names and shapes ------------------------------------------------------------------------------------------------


def read_form(source: Checkpoint) -> Form:
    """What network a checkpoint holds. No values are read.

    Raises:
        UserError: where a variable is missing, unknown, or of another shape or type than the network's, by name.
    """
    rows = _rows(source)
    last = f"g_{rows[-1]}_conv100/biases"
    widths = tuple(_length(source, f"g_{s}_conv2/LayerNorm/gamma") for s in rows)
    outputs = _length(source, last)
    if outputs % _COLOURS:
        raise UserError(f"{source.index}: {last!r} has {outputs} outputs; it must be 3 colours for each image")
    form = Form(rows, widths, outputs // _COLOURS)
    if math.prod(form.size) > PIXEL_LIMIT:
        raise UserError(
            f"{source.index}: a module has {rows[-1]} rows; {form.size[0]} x {form.size[1]} pixels are more than the "
            f"limit of {PIXEL_LIMIT:,}"
        )
    wanted = variables(form)
    _check_variables(source, wanted)
    parameters = sum(math.prod(variable.shape) for variable in wanted.values())
    if parameters > PARAMETER_LIMIT:
        raise UserError(
            f"{source.index}: has {parameters:,} parameters, more than the limit of {PARAMETER_LIMIT:,}; refused"
        )
    return form


def _rows(source: Checkpoint) -> tuple[int, ...]:
    """The rows of the modules, each twice the last."""
    matches = [_VARIABLE.fullmatch(name) for name in source.entries]
    rows = sorted({int(match[1]) for match in matches if match})
    if not rows:
        has = f"it has {next(iter(source.entries))!r}" if source.entries else "it has none at all"
        raise UserError(f"{source.index}: is no CRN: no variable is named as g_4_conv1/weights is; {has}")
    for before, after in itertools.pairwise(rows):
        if after != 2 * before:
            raise UserError(
                f"{source.index}: has modules of {before} and {after} rows, but none between; the variables "
                f"g_{2 * before}_conv1/... are missing"
            )
    return tuple(rows)


def _length(source: Checkpoint, name: str) -> int:
    """The length of a vector of which a network's shape follows."""
    entry = source.entries.get(name)
    if entry is None:
        raise UserError(f"{source.index}: {name!r} is missing")
    if len(entry.shape) != 1 or not entry.shape[0]:
        raise UserError(f"{source.index}: {name!r} is {list(entry.shape)}; it must be one dimension, 1 or more")
    return entry.shape[0]


def variables(form: Form) -> dict[str, Variable]:
    """The variables of the authors' network of this form, in the order of its modules."""
    found: dict[str, Variable] = {}
    channels, classes = 0, len(cityscapes_19())
    for n, (s, width) in enumerate(zip(form.rows, form.widths, strict=True)):
        for conv, taken in ((1, channels + classes), (2, width)):
            name = f"g_{s}_conv{conv}"
            found[f"{name}/weights"] = Variable((3, 3, taken, width), f"cascade.{n}.conv{conv}.weight")
            found[f"{name}/LayerNorm/gamma"] = Variable((width,), f"cascade.{n}.norm{conv}.weight")
            found[f"{name}/LayerNorm/beta"] = Variable((width,), f"cascade.{n}.norm{conv}.bias")
        channels = width
    outputs, last = _COLOURS * form.candidates, f"g_{form.rows[-1]}_conv100"
    found[f"{last}/weights"] = Variable((1, 1, channels, outputs), "to_rgb.weight")
    found[f"{last}/biases"] = Variable((outputs,), "to_rgb.bias")
    return found


def _check_variables(source: Checkpoint, wanted: dict[str, Variable]) -> None:
    """Every variable once, in its shape; besides them only what Adam keeps."""
    missing = [name for name in wanted if name not in source.entries]
    if missing:
        raise UserError(f"{source.index}: {missing[0]!r} is missing ({len(missing)} such)")
    unknown = [n for n in source.entries if n not in _POWERS and _SLOT.sub("", n) not in wanted]
    if unknown:
        raise UserError(
            f"{source.index}: {unknown[0]!r} is unknown ({len(unknown)} such); a cascade whose last variable is "
            f"{next(reversed(wanted))!r} has none of that name"
        )
    slots = [name for name in source.entries if name not in wanted and name not in _POWERS]
    for name in (*wanted, *slots):  # the network's first: where one is wrong, its slots are, too
        _check_entry(source, name, source.entries[name], wanted[_SLOT.sub("", name)].shape)


def _check_entry(source: Checkpoint, name: str, entry: Entry, shape: tuple[int, ...]) -> None:
    if entry.dtype != "float32":
        raise UserError(f"{source.index}: {name!r} is of {entry.dtype}; it must be float32")
    if entry.shape != shape:
        raise UserError(
            f"{source.index}: {name!r} is {list(entry.shape)}, but the other variables ask for {list(shape)}"
        )


# --- the folder ------------------------------------------------------------------------------------------------------


def _card(network: CascadedRefinementNetwork, form: Form, source: Checkpoint) -> str:
    """The model card: what it is, from where, and what is not known of it."""
    spec = network.spec
    height, width = form.size
    several = f"{form.candidates} images of each layout" if form.candidates > 1 else "one image of each layout"
    data = ", ".join(path.name for path in source.shards.values())
    digest = hashlib.sha256(source.index.read_bytes()).hexdigest()
    other = ["", f"Other candidates: `options=generator.Options(candidates=1)`, of 0..{form.candidates - 1}."]
    lines = [
        f"# Cascaded Refinement Network, {height} x {width}",
        "",
        f"The network of a TensorFlow checkpoint, imported by photogram: {len(form.widths)} modules of "
        f"{form.rows[0]} x {2 * form.rows[0]} to {height} x {width} (height x width), {several}, "
        f"{sum(p.numel() for p in network.parameters()):,} parameters.",
        "",
        'Q. Chen and V. Koltun, "Photographic Image Synthesis with Cascaded Refinement Networks", ICCV 2017.',
        "",
        *program('photogram.Layout.open("layout.png").resized(generator.spec.size)'),
        *(other if form.candidates > 1 else []),
        "",
        f"It paints best at {height} x {width}, the size that its variables name. It can paint other sizes that are "
        f"multiples of {network.size_multiple}; what is no multiple is padded and cropped.",
        "",
        "## Classes",
        "",
        "The checkpoint does not name them; these are the authors', for Cityscapes and GTA, in the order of channels.",
        "",
        *(f"- {n}: {c.name}{' (void)' if c.void else ''}" for n, c in enumerate(spec.classes)),
        "",
        "## Source",
        "",
        f"- index: {source.index.name}, SHA-256 {digest}",
        f"- values: {data}; the CRC-32C of each variable, which the index holds, was verified",
        f"- layout of variables: widths {' '.join(map(str, form.widths))}",
        "- training data: not stated in the checkpoint. The authors' networks of 256 x 512 for Cityscapes and for GTA "
        "have the same form",
        "",
        *LICENCE,
    ]
    return "\n".join(lines)
