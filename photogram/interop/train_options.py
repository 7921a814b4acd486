"""The option files of pytorch-CycleGAN-and-pix2pix (`train_opt.txt`), and whether they are of a network's training.

Lines are `key: value`, right-aligned, with `[default: ...]` after what was chosen; older files (`opt.txt`) lack that,
and some of their keys were others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from photogram.errors import UserError
from photogram.interop.files import opened
from photogram.interop.pickled import shortened
from photogram.interop.translators import PatchForm, ResNetForm, UNetForm
from photogram.nn.patch import STRIDED

FILE_LIMIT = 1 << 18
"""Bytes of the longest option file that is read."""

_LINE = re.compile(r"\s*(\w+):[ \t]*(.*?)[ \t]*(?:\[default: .*\])?\s*")
_RULE = re.compile(r"\s*-+[^-:]*-*\s*")
_FORMER = {"which_model_netG": "netG", "which_model_netD": "netD", "fineSize": "crop_size"}
_FORMER |= {"which_direction": "direction"}

Options = Mapping[str, str]
"""Values by the keys of today, as they are written."""


def read_options(path: str | Path, usual: str = "train_opt.txt") -> Options:
    """The keys and values of an option file.

    Args:
        path: the file.
        usual: what it is usually called, for messages.

    Raises:
        UserError: naming the line that is no option, or given twice.
    """
    path = Path(path)
    with opened(path, f"give {usual}, which lies beside the checkpoints") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise UserError(f"{path}: is longer than the limit of {FILE_LIMIT:,} bytes; is it an option file?")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text; give {usual}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or _RULE.fullmatch(line):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path}: line {number} is {shortened(line)}, not `key: value`; give {usual}")
        key = _FORMER.get(match[1], match[1])
        if key in found:
            raise UserError(f"{path}: line {number} gives {key!r} a second time")
        found[key] = match[2]
    if "netG" not in found:
        raise UserError(f"{path}: has no netG; it is no option file of pix2pix, CycleGAN or pix2pixHD")
    return found


def check_options(path: Path, options: Options, form: UNetForm | ResNetForm | PatchForm, system: str) -> None:
    """Refuse options that another network was trained with.

    Args:
        path: of the file, for messages.
        options: as read.
        form: what names and shapes of the checkpoint say.
        system: pix2pix or cyclegan, as what it is imported.

    Raises:
        UserError: naming the option, its value, and what the checkpoint holds.
    """
    if isinstance(form, PatchForm):
        compare(path, "ndf", options, str(form.width))
        compare(path, "norm", options, form.norm)
        if "netD" in options:
            compare(path, "netD", {"netD": _discriminator(options)}, _discriminator_of(form))
        return
    models = {"pix2pix": ("pix2pix", "colorization"), "cyclegan": ("cycle_gan",)}[system]
    model = options.get("model", models[0])
    if model not in (*models, "test"):
        other = "cyclegan" if model == "cycle_gan" else "pix2pix" if model in ("pix2pix", "colorization") else ""
        advice = f"; it is imported by `photogram import {other}`" if other else ""
        raise UserError(f"{path}: model is {shortened(model)}, not {models[0]}{advice}")
    name = f"unet_{1 << form.levels}" if isinstance(form, UNetForm) else f"resnet_{form.blocks}blocks"
    compare(path, "netG", options, name)
    compare(path, "ngf", options, str(form.width))
    compare(path, "norm", options, form.norm)
    if isinstance(form, ResNetForm):
        compare(path, "no_dropout", options, str(not form.dropout))
    ends = (options.get("input_nc", str(form.inputs)), options.get("output_nc", str(form.outputs)))
    found = (str(form.inputs), str(form.outputs))
    if found != ends and not (system == "cyclegan" and found == ends[::-1]):  # of two generators, one goes back
        raise UserError(
            f"{path}: input_nc and output_nc are {ends[0]} and {ends[1]}, but the checkpoint goes from {found[0]} "
            f"channels to {found[1]}; they belong to different trainings"
        )


def drops(path: Path, options: Options) -> bool | None:
    """Whether the generator was trained with dropout; None where it is not said."""
    said = options.get("no_dropout")
    if said not in (None, "True", "False"):
        raise UserError(f"{path}: no_dropout is {shortened(said)}; it is True or False")
    return None if said is None else said == "False"


def compare(path: Path, key: str, options: Options, found: str) -> None:
    """Refuse an option that says another thing than a checkpoint; one that is not there says nothing."""
    if options.get(key, found) != found:
        raise UserError(
            f"{path}: {key} is {shortened(options[key])}, but the checkpoint holds {found}; they belong to different "
            "trainings"
        )


def _discriminator(options: Options) -> str:
    """The netD that was asked for; `basic` is `n_layers` of three."""
    if options["netD"] == "n_layers":
        return f"n_layers of {options.get('n_layers_D', '3')}"
    return "n_layers of 3" if options["netD"] == "basic" else options["netD"]


def _discriminator_of(form: PatchForm) -> str:
    return f"n_layers of {STRIDED[form.patch]}" if STRIDED[form.patch] else "pixel"
