"""The networks of pytorch-CycleGAN-and-pix2pix, published as ours (specification of the pix2pix family, section 8).

What a network is comes from its names and shapes (`translators`); nothing is executed of a file (`pickled`). What they
do not say comes from the option file of the training, if there is one, or else is what the authors' programs do unless
told otherwise, and the model card says so: dropout of a U-Net (pix2pix has it, CycleGAN has not) and the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from photogram.errors import UserError
from photogram.interop.files import LICENCE, check_room, leaving_nothing_half, program
from photogram.interop.state_dicts import Found
from photogram.interop.torch_checkpoint import open_checkpoint
from photogram.interop.train_options import Options, check_options, drops, read_options
from photogram.interop.translators import Form, PatchForm, ResNetForm, UNetForm, find
from photogram.nn.asked import LayoutAs, check_colors
from photogram.nn.patch import PatchDiscriminator
from photogram.nn.resnet import ResNetGenerator
from photogram.outputs import writing
from photogram.recipes.pix2pix import UNet
from photogram.scene import SceneClass, SceneSpec, read_classes

System = Literal["pix2pix", "cyclegan"]

SIDE_LIMIT = 1 << 13
"""Pixels a side of the largest size that an option file can have."""


class Imported(NamedTuple):
    """What an import has made.

    Args:
        out: the folder of the published network.
        found: what the checkpoint holds.
        network: what was published, as ours.
        assumed: what neither the checkpoint nor an option file says.
    """

    out: Path
    found: Found[Form]
    network: UNet | ResNetGenerator
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class _Sources:
    """Files that an import is made of, beside the checkpoint."""

    system: System
    classes: Path | None
    options_file: Path | None
    options: Options


def import_translator(
    checkpoint: str | Path,
    *,
    system: System,
    out: str | Path,
    classes: str | Path | None = None,
    options: str | Path | None = None,
    quiet: bool = False,
) -> Imported:
    """Publish a generator of pix2pix or CycleGAN as ours, for `photogram.load` and all that follows from it.

    Args:
        checkpoint: the .pth file of one generator, `latest_net_G.pth` or `latest_net_G_A.pth`.
        system: what it was trained as.
        out: the folder to write, new or empty.
        classes: a classes.json, for networks that were shown layouts in colours: it then paints layouts. Without it,
            it takes images.
        options: the train_opt.txt of its training; checked against the checkpoint.
        quiet: show no progress.

    Raises:
        UserError: where a file is damaged, hostile or of another network, naming the file and the tensor or option, or
            `out` holds anything.
    """
    out = Path(out)
    check_room(out)
    given = None if options is None else Path(options)
    sources = _Sources(
        system, None if classes is None else Path(classes), given, {} if given is None else read_options(given)
    )
    found = find(open_checkpoint(checkpoint))
    if isinstance(found.form, PatchForm):
        raise UserError(
            f"{found.source.path}: is {found.form.name}, not a generator; give latest_net_G.pth or latest_net_G_A.pth"
        )
    if given is not None:
        check_options(given, sources.options, found.form, system)
    network, assumed = _network(found, found.form, sources)
    _fill(network, found, quiet)
    with leaving_nothing_half(out), writing(out):
        network.save_pretrained(out, _card(network, found, sources, assumed))
    return Imported(out, found, network, assumed)


def read_discriminator(checkpoint: str | Path, options: str | Path | None = None) -> PatchDiscriminator:
    """The discriminator of a .pth file, `latest_net_D.pth`: to judge with, or to go on training with.

    Args:
        checkpoint: the file.
        options: the train_opt.txt of its training; checked against the checkpoint.

    Raises:
        UserError: where it is damaged, or no such network.
    """
    found = find(open_checkpoint(checkpoint))
    form = found.form
    if not isinstance(form, PatchForm):
        raise UserError(f"{found.source.path}: is {form.name}, not a discriminator; give latest_net_D.pth")
    if options is not None:
        check_options(Path(options), read_options(options), form, "pix2pix")
    with torch.device("meta"):
        discriminator = PatchDiscriminator(form.inputs, form.width, form.patch, form.norm)
    _fill(discriminator, found, quiet=True)
    return discriminator


def _fill(network: torch.nn.Module, found: Found[Form], quiet: bool) -> None:
    """Give a network, made on the meta device, its weights: all of them, and no others."""
    network.load_state_dict(found.weights(quiet), assign=True)
    network.eval()


def _network(
    found: Found[Form], form: UNetForm | ResNetForm, sources: _Sources
) -> tuple[UNet | ResNetGenerator, tuple[str, ...]]:
    """The network without its weights, on the meta device, and what had to be assumed for it."""
    assumed: list[str] = []
    side = _side(form, sources)
    if "crop_size" not in sources.options:
        assumed.append(f"its size, {side} x {side}")
    colours = (form.inputs, form.outputs) == (1, 2)  # lightness to colours, as the authors' colorization does
    spec = SceneSpec(
        size=(side, side), image_channels=form.inputs, photo_channels=3 if colours else form.outputs
    )  # fmt: skip
    layout_as: LayoutAs = "planes"
    if sources.classes is not None:
        layout_as = "colors"
        spec = SceneSpec(_classes(found, form, sources.classes), spec.size, photo_channels=spec.photo_channels)
        check_colors(spec, layout_as)
    predict = "ab" if colours else "photo"
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        if isinstance(form, ResNetForm):
            network = ResNetGenerator(
                spec=spec,
                width=form.width,
                blocks=form.blocks,
                norm=form.norm,
                dropout=form.dropout,
                layout_as=layout_as,
                predict=predict,
            )
            return network, tuple(assumed)
        said = None if sources.options_file is None else drops(sources.options_file, sources.options)
        dropout = sources.system == "pix2pix" if said is None else said
        if said is None:
            assumed.append(f"{'dropout' if dropout else 'no dropout'}, as {sources.system} has unless told otherwise")
        network = UNet(
            spec=spec,
            width=form.width,
            levels=form.levels,
            norm=form.norm,
            dropout_at="torch" if dropout else "none",
            layout_as=layout_as,
            predict=predict,
        )
    return network, tuple(assumed)


def _side(form: UNetForm | ResNetForm, sources: _Sources) -> int:
    """Pixels a side that the network was trained at."""
    said = sources.options.get("crop_size")
    if said is None:
        return (1 << form.levels) if isinstance(form, UNetForm) else 128 if form.blocks == 6 else 256
    if not (said.isascii() and said.isdecimal() and len(said) < 10 and 1 <= int(said) <= SIDE_LIMIT):
        raise UserError(f"{sources.options_file}: crop_size is {said[:60]!r}; it must be 1 to {SIDE_LIMIT}")
    return int(said)


def _classes(found: Found[Form], form: UNetForm | ResNetForm, path: Path) -> tuple[SceneClass, ...]:
    """The classes whose colours the network was shown."""
    if form.inputs != 3:
        raise UserError(
            f"--classes {path}: layouts are shown as three channels of colour, but {found.source.path} takes "
            f"{form.inputs}; without --classes it takes images"
        )
    return read_classes(path)


# --- the model card --------------------------------------------------------------------------------------------------

_PAPERS = {
    "pix2pix": 'P. Isola, J.-Y. Zhu, T. Zhou and A. A. Efros, "Image-to-Image Translation with Conditional Adversarial '
    'Networks", CVPR 2017.',
    "cyclegan": "J.-Y. Zhu, T. Park, P. Isola and A. A. Efros, \"Unpaired Image-to-Image Translation using "
    'Cycle-Consistent Adversarial Networks", ICCV 2017.',
}  # fmt: skip
_TOLD = ("name", "model", "netG", "norm", "no_dropout", "direction", "epoch", "gan_mode", "crop_size")


def _card(network: UNet | ResNetGenerator, found: Found[Form], sources: _Sources, assumed: tuple[str, ...]) -> str:
    """The model card: what it is, from where, what was inferred, and what is not known of it."""
    form, system = found.form, {"pix2pix": "pix2pix", "cyclegan": "CycleGAN"}[sources.system]
    assert not isinstance(form, PatchForm)
    (height, width), several = network.spec.size, network.size_multiple
    layouts = network.spec.num_classes > 0
    asked = 'photogram.Layout.open("layout.png")' if layouts else "image"
    hint = "" if layouts else f"  # float [n, {form.inputs}, {height}, {width}] in [-1, 1]"
    lines = [
        f"# {system}: {form.name}",
        "",
        f"A generator of pytorch-CycleGAN-and-pix2pix, imported by photogram: {form.name}, "
        f"{sum(p.numel() for p in network.parameters()):,} parameters, from {form.inputs} channels to {form.outputs}"
        + (" (the colours of a grey image, which keeps its lightness)." if network.predict == "ab" else "."),
        "",
        _PAPERS[sources.system],
        "",
        *program(asked, hint),
        "",
        f"It paints best at {height} x {width}. It can paint other sizes that are multiples of {several}; what is no "
        "multiple is padded and cropped. Paintings of batch norm take their own statistics, as at the authors' test; "
        "`norm_stats` and `dropout` are options of synthesis.",
        "",
        "## Inferred from names and shapes",
        "",
        f"- features of the first convolution: {form.width}",
        f"- levels: {form.levels}" if isinstance(form, UNetForm) else f"- residual blocks: {form.blocks}",
        f"- norm: {form.norm}",
        *([f"- dropout: {'yes' if form.dropout else 'no'}"] if isinstance(form, ResNetForm) else []),
        *found.notes(assumed),
        "",
        "## Source",
        "",
        f"- checkpoint: {found.source.path.name}, SHA-256 {found.source.digest()}",
        *_told(sources),
        *([f"- layouts enter as the colours of {sources.classes.name}"] if sources.classes else []),
        "",
        *LICENCE,
    ]
    return "\n".join(lines)


def _told(sources: _Sources) -> list[str]:
    """What the option file says that a reader may want to know."""
    if sources.options_file is None:
        return ["- no option file was given; nothing was compared with one"]
    told = [f"{key} {sources.options[key]}" for key in _TOLD if sources.options.get(key)]
    return [f"- options of its training, which agree: {sources.options_file.name}: {', '.join(told)}"]
