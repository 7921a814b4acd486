"""What the official files of pix2pixHD hold: which network, of which size, by names and shapes alone.

Specification of the pix2pix family, sections 4.2 to 4.6 and 8.2. All are numbered rows: `model` is the coarse generator
or the encoder; `model1_1` and `model1_2`, `model2_1` and so on are enhancers, the outermost last. Of discriminators the
last is the finest. Every convolution has a bias, and instance norm no weights; old files hold its running statistics,
which were never used, and which are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from photogram.errors import UserError
from photogram.interop.pickled import Described, shortened
from photogram.interop.state_dicts import Found, Variables, convolution, find_form, normed, shape_of
from photogram.interop.torch_checkpoint import Checkpoint
from photogram.nn.norms import Norm

DOWNSAMPLINGS = range(1, 9)
"""Halvings that a coarse generator and an encoder can have."""

Tensors = Mapping[str, Described]


@dataclass(frozen=True)
class GeneratorForm:
    """A generator.

    Args:
        inputs, outputs: channels.
        width: features of the coarse generator's first convolution; an enhancer has half as many as the one before.
        downsamplings: halvings of the coarse generator.
        blocks: its residual blocks.
        enhancers: how many there are.
        enhancer_blocks: residual blocks of each.
    """

    inputs: int
    outputs: int
    width: int
    downsamplings: int
    blocks: int
    enhancers: int
    enhancer_blocks: int

    norm: Norm = "instance"

    @property
    def name(self) -> str:
        several = "s" * (self.enhancers > 1)
        more = f", with {self.enhancers} enhancer{several} of {self.enhancer_blocks}" if self.enhancers else ""
        return f"a generator of {self.downsamplings} halvings and {self.blocks} residual blocks{more}"

    def variables(self) -> Variables:
        """The authors' variables, from the coarse generator to the outermost enhancer."""
        widths = [self.width << n for n in range(self.downsamplings + 1)]
        found = _halved("model", "coarse", self.inputs, widths)
        found |= _blocks("model", 4 + 3 * self.downsamplings, "coarse", widths[-1], self.blocks)
        after = 4 + 3 * self.downsamplings + self.blocks
        found |= _doubled("model", after, "coarse", widths)
        root, last = "model", after + 3 * self.downsamplings + 1
        for n in range(1, self.enhancers + 1):
            c, ours = self.width >> n, f"finer.{n - 1}"
            found |= _row(f"model{n}_1", 1, f"{ours}.first", (c, self.inputs, 7, 7), c)
            found |= _row(f"model{n}_1", 4, f"{ours}.down", (2 * c, c, 3, 3), 2 * c)
            root, last = f"model{n}_2", self.enhancer_blocks + 4
            found |= _blocks(root, 0, ours, 2 * c, self.enhancer_blocks)
            found |= _row(root, self.enhancer_blocks, f"{ours}.up.conv", (2 * c, c, 3, 3), c)
        shape = (self.outputs, self.width >> self.enhancers, 7, 7)
        return found | convolution(f"{root}.{last}", "last", shape, self.outputs, True)


@dataclass(frozen=True)
class EncoderForm:
    """An encoder: channels of the photographs, numbers of a style, features of its first convolution, and halvings."""

    inputs: int
    outputs: int
    width: int
    downsamplings: int

    norm: Norm = "instance"

    @property
    def name(self) -> str:
        return f"an encoder of {self.outputs} features"

    def variables(self) -> Variables:
        """The authors' variables, in their order."""
        widths = [self.width << n for n in range(self.downsamplings + 1)]
        after = 4 + 3 * self.downsamplings
        found = _halved("model", "encoder", self.inputs, widths) | _doubled("model", after, "encoder", widths)
        shape = (self.outputs, self.width, 7, 7)
        return found | convolution(f"model.{after + 3 * self.downsamplings + 1}", "encoder.last", shape, shape[0], True)


@dataclass(frozen=True)
class DiscriminatorForm:
    """Discriminators of several scales.

    Args:
        inputs: channels that each sees.
        width: features of the first convolution.
        layers: convolutions between the first and the last.
        scales: how many discriminators there are.
        matched: whether it was trained with feature matching, by which names differ.
    """

    inputs: int
    width: int
    layers: int
    scales: int
    matched: bool

    norm: Norm = "instance"

    @property
    def name(self) -> str:
        return f"a discriminator of {self.scales} scales that sees {self.inputs} channels"

    def variables(self) -> Variables:
        """The authors' variables; of theirs the last scale is the finest, of ours the first."""
        found = Variables()
        widths = [self.width * min(2**n, 8) for n in range(self.layers + 1)]
        for theirs in range(self.scales):
            ours = f"scales.{self.scales - 1 - theirs}"
            for n, (before, features) in enumerate(zip((self.inputs, *widths), (*widths, 1), strict=True)):
                root = f"scale{theirs}_layer{n}" if self.matched else f"layer{theirs}"
                at = 0 if self.matched or not n else 3 * n - 1
                name = f"{ours}.convs.{n}" if n <= self.layers else f"{ours}.to_logits"
                shape = (features, before, 4, 4)
                if 0 < n <= self.layers:
                    found |= _row(root, at, name, shape, features)
                else:
                    found |= convolution(f"{root}.{at}", name, shape, features, True)
        return found


Form = GeneratorForm | EncoderForm | DiscriminatorForm


def _row(root: str, at: int, ours: str, shape: tuple[int, ...], outputs: int) -> Variables:
    """A convolution with the instance norm after it."""
    found = convolution(f"{root}.{at}", ours, shape, outputs, True)
    return found | normed(f"{root}.{at + 1}", "", "instance", outputs)


def _halved(root: str, ours: str, inputs: int, widths: list[int]) -> Variables:
    """The first convolution and the halvings."""
    found = _row(root, 1, f"{ours}.first", (widths[0], inputs, 7, 7), widths[0])
    for n, (before, after) in enumerate(pairwise(widths)):
        found |= _row(root, 4 + 3 * n, f"{ours}.down.{n}", (after, before, 3, 3), after)
    return found


def _blocks(root: str, first: int, ours: str, width: int, count: int) -> Variables:
    found = Variables()
    for n in range(count):
        for k, at in enumerate((1, 5)):
            theirs = f"{root}.{first + n}.conv_block"
            found |= _row(theirs, at, f"{ours}.body.{n}.convs.{k}", (width, width, 3, 3), width)
    return found


def _doubled(root: str, first: int, ours: str, widths: list[int]) -> Variables:
    found = Variables()
    for n, (before, after) in enumerate(pairwise(widths[::-1])):
        found |= _row(root, first + 3 * n, f"{ours}.up.{n}.conv", (before, after, 3, 3), after)
    return found


# --- what there is ---------------------------------------------------------------------------------------------------


def find(source: Checkpoint) -> Found[Form]:
    """Which network of pix2pixHD a checkpoint holds. No values are read.

    Raises:
        UserError: where it is none of them, saying what it is if that is known, or a tensor is missing, unknown, or of
            another shape or type than the others ask for, by name.
    """
    return find_form(source, _form)


_SPADE = (
    "of SPADE, which photogram does not read: its norms are scaled by the layout at every layer, a network that "
    "photogram does not have (and SPADE's own weights may not be used commercially); give the files of pix2pixHD"
)
_OTHERS = (
    (r"(head_0|G_middle_\d|up_\d|conv_img)\.", f"is a generator {_SPADE}"),
    (r"discriminator_\d+\.", f"is a discriminator {_SPADE}"),
    (r"fc_(mu|var)\.", f"is an encoder {_SPADE}"),
    (r"model\.model\.", "is a U-Net of pix2pix; `photogram import pix2pix` reads it"),
    (r"(model|net)\.0\.", "is a discriminator of pix2pix or CycleGAN, not of pix2pixHD"),
    (r"(features|classifier)\.\d+\.", "is a network that classifies, such as VGG, not a network of pix2pixHD"),
)
_BATCH = re.compile(r"(model\.2|model\d+_1\.2|scale\d+_layer1\.1|layer\d+\.3)\.weight")


def _form(source: Checkpoint, names: Tensors) -> Form:
    """What a network's names, and a few of its shapes, say that it is."""
    for pattern, words in _OTHERS:
        if any(re.match(pattern, name) for name in names):
            raise UserError(f"{source.path}: {words}")
    if any(_BATCH.fullmatch(name) for name in names):
        raise UserError(
            f"{source.path}: was trained with batch norm (--norm batch); only instance norm, which the authors' "
            "programs have unless told otherwise, is read"
        )
    if any(re.match(r"(scale\d+_)?layer\d+\.", name) for name in names):
        return _discriminator(source, names)
    if any(".conv_block." in name or re.match(r"model\d+_[12]\.", name) for name in names):
        return _generator(source, names)
    if "model.1.weight" in names:
        return _encoder(source, names)
    raise UserError(
        f"{source.path}: is no network of pix2pixHD: no tensor is named as model.1.weight or scale0_layer0.0.weight "
        f"is; it has {shortened(next(iter(names)))}"
    )


def _generator(source: Checkpoint, names: Tensors) -> GeneratorForm:
    coarse = _matches(r"model\.(\d{1,4})\.conv_block\.(\d)\.", names)
    if not coarse:
        raise UserError(f"{source.path}: has no residual block such as 'model.16.conv_block.1.weight'; it is damaged")
    if any(part == 0 for _, part in coarse):
        raise UserError(f"{source.path}: its blocks pad with zeros; only those that pad by reflection are read")
    first, blocks = min(coarse)[0], len({block for block, _ in coarse})
    downsamplings, odd = divmod(first - 4, 3)
    if odd or downsamplings not in DOWNSAMPLINGS:
        raise UserError(
            f"{source.path}: its blocks begin at model.{first}; after 1 to {DOWNSAMPLINGS.stop - 1} halvings they "
            "begin at model.7, model.10, and so on by threes"
        )
    width, inputs = shape_of(source, names, "model.1.weight", 4)[:2]
    enhancers = max((n for (n,) in _matches(r"model(\d{1,2})_[12]\.", names)), default=0)
    if width % 2**enhancers:
        raise UserError(
            f"{source.path}: has {enhancers} enhancers, each of half as many features, but 'model.1.weight' has {width}"
        )
    enhancer_blocks = len({n for (n,) in _matches(r"model1_2\.(\d{1,4})\.conv_block\.", names)})
    last = f"model{enhancers}_2.{enhancer_blocks + 4}" if enhancers else f"model.{5 + 6 * downsamplings + blocks}"
    outputs = shape_of(source, names, f"{last}.weight", 4)[0]
    return GeneratorForm(inputs, outputs, width, downsamplings, blocks, enhancers, enhancer_blocks)


def _encoder(source: Checkpoint, names: Tensors) -> EncoderForm:
    last = max(n for (n,) in _matches(r"model\.(\d{1,4})\.weight", names))
    downsamplings, part = divmod(last - 4, 6)
    if part == 0 and downsamplings in DOWNSAMPLINGS:
        raise UserError(
            f"{source.path}: is an encoder of the older form, whose last convolution is model.{last}, not "
            f"model.{last + 1}: another network than that of pix2pixHD's present code, which cannot be rebuilt from "
            "its names; leave it out, and draw styles from the clusters"
        )
    if part != 1 or downsamplings not in DOWNSAMPLINGS:
        raise UserError(
            f"{source.path}: its last convolution is model.{last}; that of pix2pixHD's encoder is model.29, and the "
            "generator has residual blocks besides"
        )
    width, inputs = shape_of(source, names, "model.1.weight", 4)[:2]
    return EncoderForm(inputs, shape_of(source, names, f"model.{last}.weight", 4)[0], width, downsamplings)


def _discriminator(source: Checkpoint, names: Tensors) -> DiscriminatorForm:
    matched = any(name.startswith("scale") for name in names)
    if matched:
        rows = _matches(r"scale(\d{1,2})_layer(\d{1,2})\.0\.weight", names)
        start, layers = "scale0_layer0.0.weight", max((layer for _, layer in rows), default=0) - 1
    else:
        rows = _matches(r"layer(\d{1,2})\.(\d{1,2})\.weight", names)
        start, layers = "layer0.0.weight", (max((at for _, at in rows), default=0) + 1) // 3 - 1
    if layers < 1:
        raise UserError(f"{source.path}: has {len(rows)} convolutions, too few for a discriminator; it is damaged")
    width, inputs = shape_of(source, names, start, 4)[:2]
    return DiscriminatorForm(inputs, width, layers, 1 + max(scale for scale, _ in rows), matched)


def _matches(pattern: str, names: Iterable[str]) -> set[tuple[int, ...]]:
    """The numbers in the names that begin so."""
    matches = (re.match(pattern, name) for name in names)
    return {tuple(map(int, match.groups())) for match in matches if match}
