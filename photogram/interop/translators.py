"""What the files of pytorch-CycleGAN-and-pix2pix hold: which network, of which size, by names and shapes alone.

Specification of the pix2pix family, section 8.3. A U-Net nests its levels, `model.model.1.model.3.model...`; a residual
generator and a discriminator are numbered rows. Batch norm has weights; instance norm has none, but convolutions have
biases then. Old files hold running statistics of instance norms, which were never used; they are passed over.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from photogram.errors import UserError
from photogram.interop.pickled import Described, shortened
from photogram.interop.state_dicts import Found, Variables, convolution, find_form, normed, shape_of
from photogram.interop.torch_checkpoint import Checkpoint
from photogram.nn.norms import Norm
from photogram.nn.patch import STRIDED
from photogram.recipes.pix2pix import LEVELS


@dataclass(frozen=True)
class UNetForm:
    """A U-Net: channels in and out, features of its first step, steps down, and its norm."""

    inputs: int
    outputs: int
    width: int
    levels: int
    norm: Norm

    @property
    def name(self) -> str:
        return f"a U-Net of {self.levels} levels"

    def variables(self) -> Variables:
        """The authors' variables, from the outermost level to the innermost and back."""
        down = [self.width * min(2**n, 8) for n in range(self.levels)]
        bias, last, found = self.norm != "batch", self.levels - 1, Variables()
        for level, (before, features) in enumerate(zip((self.inputs, *down), down, strict=False)):
            at, up = _level(level), f"up.{last - level}"
            first = "0" if level == 0 else "1"
            found |= convolution(f"{at}.{first}", f"down.{level}", (features, before, 4, 4), features, bias)
            if 0 < level < last:
                found |= normed(f"{at}.2", f"down_norms.{level - 1}", self.norm, features)
            below = features if level == last else 2 * features
            outputs = before if level else self.outputs
            back = "3" if level in (0, last) else "5"
            found |= convolution(f"{at}.{back}", up, (below, outputs, 4, 4), outputs, bias or level == 0)
            if level:
                found |= normed(f"{at}.{int(back) + 1}", f"up_norms.{last - level}", self.norm, outputs)
        return found


def _level(level: int) -> str:
    """Where a level's parts are."""
    return "model.model" + (".1.model" + ".3.model" * (level - 1) if level else "")


@dataclass(frozen=True)
class ResNetForm:
    """A residual generator: channels in and out, features of its first convolution, blocks, norm, and dropout."""

    inputs: int
    outputs: int
    width: int
    blocks: int
    norm: Norm
    dropout: bool

    @property
    def name(self) -> str:
        return f"a residual generator of {self.blocks} blocks"

    def variables(self) -> Variables:
        """The authors' variables, in their order."""
        w, bias, after = self.width, self.norm != "batch", 10 + self.blocks
        second = 6 if self.dropout else 5  # dropout is a part of a block, though it has no variables
        rows = [("1", "first", (w, self.inputs, 7, 7), w), ("4", "down.0", (2 * w, w, 3, 3), 2 * w)]
        rows += [("7", "down.1", (4 * w, 2 * w, 3, 3), 4 * w)]
        norms = [("2", "norms.0", w), ("5", "norms.1", 2 * w), ("8", "norms.2", 4 * w)]
        for n in range(self.blocks):
            for k, place in enumerate((1, second)):
                at = f"{10 + n}.conv_block"
                rows.append((f"{at}.{place}", f"body.{n}.convs.{k}", (4 * w, 4 * w, 3, 3), 4 * w))
                norms.append((f"{at}.{place + 1}", f"body.{n}.norms.{k}", 4 * w))
        rows += [(f"{after}", "up.0", (4 * w, 2 * w, 3, 3), 2 * w), (f"{after + 3}", "up.1", (2 * w, w, 3, 3), w)]
        norms += [(f"{after + 1}", "norms.3", 2 * w), (f"{after + 4}", "norms.4", w)]
        found = Variables()
        for theirs, ours, shape, outputs in rows:
            found |= convolution(f"model.{theirs}", ours, shape, outputs, bias)
        for theirs, ours, channels in norms:
            found |= normed(f"model.{theirs}", ours, self.norm, channels)
        shape = (self.outputs, w, 7, 7)
        return found | convolution(f"model.{after + 7}", "last", shape, self.outputs, True)


@dataclass(frozen=True)
class PatchForm:
    """A discriminator: channels that it sees, features of its first convolution, side of its patches, and norm."""

    inputs: int
    width: int
    patch: int
    norm: Norm

    @property
    def name(self) -> str:
        return f"a discriminator of patches of {self.patch} x {self.patch} pixels that sees {self.inputs} channels"

    def variables(self) -> Variables:
        """The authors' variables, in their order. Ours always takes the batch's statistics, as theirs did."""
        strided = STRIDED[self.patch]
        size = (4, 4) if strided else (1, 1)
        root = "model" if strided else "net"
        widths = [self.width * min(2**n, 8) for n in range(strided + 1)] if strided else [self.width, 2 * self.width]
        bias, found = self.norm != "batch", Variables()
        for n, (before, features) in enumerate(zip((self.inputs, *widths), widths, strict=False)):
            at = 3 * n - 1 if n else 0
            found |= convolution(f"{root}.{at}", f"convs.{n}", (features, before, *size), features, bias or n == 0)
            if n:
                found |= normed(f"{root}.{at + 1}", f"norms.{n - 1}", self.norm, features, running=False)
        at, shape = 3 * len(widths) - 1, (1, widths[-1], *size)
        return found | convolution(f"{root}.{at}", "to_logits", shape, 1, bias or strided > 0)


Form = UNetForm | ResNetForm | PatchForm


def find(source: Checkpoint) -> Found[Form]:
    """Which network a checkpoint holds. No values are read.

    Raises:
        UserError: where it is none of these, saying what it is if that is known, or a tensor is missing, unknown, or of
            another shape or type than the others ask for, by name.
    """
    return find_form(source, _form)


# --- what there is ---------------------------------------------------------------------------------------------------


_OTHERS = (
    (r"model\d+_[12]\.", "pix2pixHD's local enhancer (see `photogram import pix2pixhd`)"),
    (r"scale\d+_layer\d+\.", "pix2pixHD's discriminator"),
    (r"layer\d+\.\d+\.", "pix2pixHD's discriminator"),
    (r"(head_0|G_middle_\d|up_\d|conv_img)\.", "SPADE's generator"),
    (r"discriminator_\d+\.", "a discriminator of several scales, SPADE's or pix2pixHD's"),
    (r"(features|classifier)\.\d+\.", "a network that classifies, such as VGG"),
)


def _refuse_others(source: Checkpoint, names: Mapping[str, Described]) -> None:
    """Say what a network is that is known, but not read here."""
    for pattern, words in _OTHERS:
        if any(re.match(pattern, name) for name in names):
            raise UserError(f"{source.path}: is {words}, not a network of pix2pix or CycleGAN")


def _form(source: Checkpoint, names: Mapping[str, Described]) -> Form:
    """What a network's names, and a few of its shapes, say that it is."""
    _refuse_others(source, names)
    if "model.model.0.weight" in names:
        return _unet(source, names)
    if any(".conv_block." in name for name in names):
        return _resnet(source, names)
    if "net.0.weight" in names:
        width, inputs = shape_of(source, names, "net.0.weight", 4)[:2]
        return PatchForm(inputs, width, 1, _norm_of(source, names, "net.3", "net.2"))
    if "model.0.weight" in names:
        return _patch(source, names)
    if "model.1.weight" in names and "model.4.weight" in names:
        raise UserError(f"{source.path}: is pix2pixHD's encoder of features, or a residual generator without blocks")
    raise UserError(
        f"{source.path}: is no network of pix2pix or CycleGAN: no tensor is named as model.1.weight or "
        f"model.model.0.weight is; it has {shortened(next(iter(names)))}"
    )


def _unet(source: Checkpoint, names: Mapping[str, Described]) -> UNetForm:
    levels = next(n for n in itertools.count(2) if f"{_level(n)}.1.weight" not in names)
    if levels not in LEVELS:
        raise UserError(
            f"{source.path}: is a U-Net of {levels} levels; there can be {LEVELS.start} to {LEVELS.stop - 1}"
        )
    width, inputs = shape_of(source, names, "model.model.0.weight", 4)[:2]
    outputs = shape_of(source, names, "model.model.3.weight", 4)[1]
    norm = _norm_of(source, names, f"{_level(1)}.2" if levels > 2 else f"{_level(1)}.4", f"{_level(1)}.1")
    return UNetForm(inputs, outputs, width, levels, norm)


def _resnet(source: Checkpoint, names: Mapping[str, Described]) -> ResNetForm:
    matches = [re.match(r"model\.(\d{1,4})\.conv_block\.(\d)\.", name) for name in names]
    found = {(int(match[1]), int(match[2])) for match in matches if match}
    if not found:
        raise UserError(f"{source.path}: {shortened(next(n for n in names if 'conv_block' in n))} is unknown")
    first, blocks = min(found)[0], len({block for block, _ in found})
    if first != 10:
        raise UserError(
            f"{source.path}: its blocks begin at model.{first}, not model.10: it is no generator of CycleGAN, of two "
            "halvings, but of another number, as pix2pixHD's is"
        )
    parts = {part for _, part in found}
    if 0 in parts:
        raise UserError(f"{source.path}: its blocks pad with zeros; only those that pad by reflection are read")
    width, inputs = shape_of(source, names, "model.1.weight", 4)[:2]
    outputs = shape_of(source, names, f"model.{17 + blocks}.weight", 4)[0]
    norm = _norm_of(source, names, "model.2", "model.1")
    dropout = f"model.{first}.conv_block.5.weight" not in names
    return ResNetForm(inputs, outputs, width, blocks, norm, dropout)


def _patch(source: Checkpoint, names: Mapping[str, Described]) -> PatchForm:
    width, inputs, height, _ = shape_of(source, names, "model.0.weight", 4)
    last = next(n for n in itertools.count(1) if f"model.{3 * n + 2}.weight" not in names)
    sides = {strided: side for side, strided in STRIDED.items()}
    if height != 4 or last - 1 not in sides:
        raise UserError(f"{source.path}: is no network of pix2pix or CycleGAN, though it has 'model.0.weight'")
    return PatchForm(inputs, width, sides[last - 1], _norm_of(source, names, "model.3", "model.2"))


def _norm_of(source: Checkpoint, names: Mapping[str, Described], norm: str, conv: str) -> Norm:
    """Batch norm, which has weights, or instance norm, with which the convolution before it has a bias."""
    if f"{norm}.weight" in names:
        return "batch"
    if f"{conv}.bias" in names:
        return "instance"
    raise UserError(
        f"{source.path}: has neither '{norm}.weight', as with batch norm, nor '{conv}.bias', as with instance norm; "
        "networks without norms are not read"
    )
