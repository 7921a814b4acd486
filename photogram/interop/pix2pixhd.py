"""The official networks of pix2pixHD, published as ours (specification of the pix2pix family, section 8).

What a network is comes from its names and shapes (`pix2pixhd_forms`), what it was shown from their channels and the
option file (`pix2pixhd_options`); nothing is executed of a file (`pickled`). An encoder and the clusters of styles
become parts of the generator. A discriminator is held against it and can be read; it is no part of what is published.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from photogram.collecting import is_there
from photogram.errors import UserError
from photogram.interop.files import check_room, leaving_nothing_half, opened, program
from photogram.interop.pickled import shortened
from photogram.interop.pix2pixhd_forms import DiscriminatorForm, EncoderForm, GeneratorForm, find
from photogram.interop.pix2pixhd_options import OptionFile, Shown, check_options, find_shown, find_size
from photogram.interop.state_dicts import Found
from photogram.interop.style_clusters import as_buffers, read_clusters
from photogram.interop.torch_checkpoint import open_checkpoint
from photogram.interop.train_options import read_options
from photogram.nn.multiscale import MultiScaleDiscriminator
from photogram.outputs import writing
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.recipes.pix2pixhd_stages import JUDGES, write_judges
from photogram.scene import SceneSpec

CLUSTERS = 10
"""Room for clusters of a class, unless a file has more."""

_GENERATOR, _ENCODER, _DISCRIMINATOR = "latest_net_G.pth", "latest_net_E.pth", "latest_net_D.pth"
_OPTIONS, _ITERATIONS = "opt.txt", "iter.txt"

AnyForm = TypeVar("AnyForm", GeneratorForm, EncoderForm, DiscriminatorForm)


class Imported(NamedTuple):
    """What an import has made.

    Args:
        out: the folder of the published network.
        found: what the generator's checkpoint holds.
        network: what was published, as ours.
        assumed: what neither the checkpoint nor an option file says.
        lacking: what cannot be done with it, since a file was not given.
    """

    out: Path
    found: Found[GeneratorForm]
    network: CoarseToFineGenerator
    assumed: tuple[str, ...]
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class _Files:
    """The files of one training; all but the first may be missing. Sure are those that were asked for by name."""

    generator: Path
    encoder: Path | None
    discriminator: Path | None
    clusters: Path | None
    options: Path | None
    iterations: Path | None
    sure: frozenset[str]


@dataclass(frozen=True)
class _Sources:
    """What was read of them."""

    generator: Found[GeneratorForm]
    encoder: Found[EncoderForm] | None
    discriminator: Found[DiscriminatorForm] | None
    clusters: Path | None
    classes: Path | None
    options: OptionFile | None
    reached: str | None
    shown: Shown
    passed_over: tuple[Path, ...]


def import_pix2pixhd(
    checkpoint: str | Path,
    *,
    out: str | Path,
    classes: str | Path | None = None,
    options: str | Path | None = None,
    encoder: str | Path | None = None,
    discriminator: str | Path | None = None,
    clusters: str | Path | None = None,
    quiet: bool = False,
) -> Imported:
    """Publish a generator of pix2pixHD as ours, for `photogram.load` and all that follows from it.

    Args:
        checkpoint: the .pth file of a generator, or the folder of a training: latest_net_G.pth is taken, and what is
            there of latest_net_E.pth, latest_net_D.pth, opt.txt, iter.txt and features_clustered_*.npy.
        out: the folder to write, new or empty.
        classes: a classes.json that names the classes in the order of their numbers.
        options: the opt.txt of its training; compared with the checkpoints.
        encoder: the encoder's .pth file.
        discriminator: the discriminator's .pth file; a training of ours that goes on from here takes it up.
        clusters: the styles that were found in the training set, features_clustered_010.npy.
        quiet: show no progress.

    Raises:
        UserError: where a file is damaged, hostile or of another network, naming the file and the tensor or option, or
            `out` holds anything.
    """
    out = Path(out)
    check_room(out)
    given = {"encoder": encoder, "discriminator": discriminator, "clusters": clusters, "options": options}
    files = _files(Path(checkpoint), {name: Path(path) for name, path in given.items() if path is not None})
    sources = _read(files, None if classes is None else Path(classes))
    network, assumed, lacking = _network(sources, quiet)
    judges = None if sources.discriminator is None else _discriminator(sources.discriminator)
    with leaving_nothing_half(out), writing(out):
        network.save_pretrained(out, _card(network, sources, assumed, lacking))
        if judges is not None:
            write_judges(judges, out)
    return Imported(out, sources.generator, network, assumed, lacking)


def read_discriminator(checkpoint: str | Path, options: str | Path | None = None) -> MultiScaleDiscriminator:
    """The discriminators of a .pth file, `latest_net_D.pth`: to judge with, or to go on training with.

    Args:
        checkpoint: the file, of a training with or without feature matching.
        options: the opt.txt of its training; compared with the checkpoint.

    Returns:
        In eval mode; the finest, which is the last in the file, is the first.

    Raises:
        UserError: where it is damaged, or no such network.
    """
    file = None if options is None else OptionFile(Path(options), read_options(options, _OPTIONS))
    return _discriminator(_kind(Path(checkpoint), DiscriminatorForm, f"a discriminator; give {_DISCRIMINATOR}", file))


def _discriminator(found: Found[DiscriminatorForm]) -> MultiScaleDiscriminator:
    form = found.form
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator(form.inputs, form.width, form.scales, form.layers)
    discriminator.load_state_dict(found.weights(quiet=True), assign=True)
    return discriminator.eval()


def _network(sources: _Sources, quiet: bool) -> tuple[CoarseToFineGenerator, tuple[str, ...], tuple[str, ...]]:
    """The network with its weights, encoder and clusters; what was assumed, and what it lacks."""
    form, shown = sources.generator.form, sources.shown
    size, assumed = find_size(form.enhancers, sources.options)
    centres = {} if sources.clusters is None else _centres(sources.clusters, shown)
    most = max(CLUSTERS, *map(len, centres.values()), 0)
    e = sources.encoder
    spec = SceneSpec(
        shown.classes,
        size,
        instances=shown.edges or (shown.styles > 0 and shown.style_by == "objects"),
        image_channels=shown.image_channels,
        photo_channels=form.outputs,
    )
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        network = CoarseToFineGenerator(
            spec=spec,
            width=form.width,
            enhancers=form.enhancers,
            downsamplings=form.downsamplings,
            blocks=form.blocks,
            enhancer_blocks=form.enhancer_blocks,
            boundary="objects" if shown.edges else "none",
            style_channels=shown.styles,
            style_by=shown.style_by,
            encoder_width=16 if e is None else e.form.width,
            encoder_shrink=shown.shrink,
            encodes=e is not None or not shown.styles,
            clusters=most,
        )
    weights = sources.generator.weights(quiet) | ({} if e is None else e.weights(quiet))
    rows, counts = as_buffers(centres, len(shown.classes), most, shown.styles)
    network.load_state_dict(weights | {"style_centres": rows, "style_counts": counts}, assign=True)
    return network.eval(), (*shown.assumed, *assumed), _lacking(network, sources.passed_over)


def _centres(path: Path, shown: Shown) -> dict[int, Tensor]:
    """The styles of a file, of classes that the network has."""
    centres = read_clusters(path, shown.styles)
    if max(centres) >= len(shown.classes):
        raise UserError(
            f"{path}: has styles of class {max(centres)}, but the network has classes 0 to {len(shown.classes) - 1}"
        )
    return centres


def _lacking(network: CoarseToFineGenerator, passed_over: tuple[Path, ...]) -> tuple[str, ...]:
    """What cannot be done, for want of a file, and which files were of no use."""
    found = [f"{path.name} is passed over: the generator was trained without styles" for path in passed_over]
    if network.style_channels and not network.encodes:
        found.append(
            f"styles cannot be taken from photographs: there is no encoder ({_ENCODER}); styles can be drawn from "
            "clusters, or given as numbers"
        )
    if network.style_channels and not network.has_styles:
        found.append(
            "styles cannot be drawn: there are no clusters (features_clustered_010.npy); all objects are painted in "
            "style 0" + ("; `photogram cluster` finds clusters" if network.encodes else "")
        )
    return tuple(found)


# --- the files -------------------------------------------------------------------------------------------------------


def _files(checkpoint: Path, given: dict[str, Path]) -> _Files:
    """A generator's file and those that are given; of a folder, also those that are there by their usual names."""
    parts = ("encoder", "discriminator", "clusters", "options", "iterations")
    there = dict[str, Path | None].fromkeys(parts)
    if not is_there(checkpoint):
        advice = f"give the folder of a training, with {_GENERATOR} in it, or the .pth file of a generator"
        raise UserError(f"{checkpoint}: no such file or folder; {advice}")
    if not checkpoint.is_dir():
        return _Files(checkpoint, **there | given, sure=frozenset(given))
    usual = {"encoder": _ENCODER, "discriminator": _DISCRIMINATOR, "options": _OPTIONS, "iterations": _ITERATIONS}
    there |= {part: checkpoint / name for part, name in usual.items() if (checkpoint / name).exists()}
    generator = checkpoint / _GENERATOR
    if not generator.exists():
        others = sorted(checkpoint.glob("*_net_G.pth"))
        advice = f"give a file, such as {others[0]}" if others else "give the folder of a training, or a .pth file"
        raise UserError(f"{checkpoint}: has no {_GENERATOR}; {advice}")
    clusters = sorted(checkpoint.glob("features_clustered_*.npy"))
    if len(clusters) > 1 and "clusters" not in given:
        raise UserError(f"{checkpoint}: has {len(clusters)} files of clusters; choose with --clusters {clusters[0]}")
    there["clusters"] = clusters[0] if clusters else None
    return _Files(generator, **there | given, sure=frozenset(given))


def _read(files: _Files, classes: Path | None) -> _Sources:
    """What the files hold, each for itself; values are read later."""
    options = None if files.options is None else OptionFile(files.options, read_options(files.options, _OPTIONS))
    generator = _kind(files.generator, GeneratorForm, f"a generator; give {_GENERATOR}", options)
    encoder = discriminator = None
    if files.encoder is not None:
        encoder = _kind(files.encoder, EncoderForm, f"an encoder; give {_ENCODER}", options)
    if files.discriminator is not None:
        discriminator = _kind(
            files.discriminator, DiscriminatorForm, f"a discriminator; give {_DISCRIMINATOR}", options
        )
    reached = None if files.iterations is None else _reached(files.iterations)
    encoding = None if encoder is None else encoder.form
    shown = find_shown(files.generator, generator.form, encoding, "encoder" in files.sure, classes, options)
    clusters, passed_over = files.clusters, list[Path]()
    if not shown.styles and encoder is not None:
        passed_over.append(encoder.source.path)
        encoder = None
    if not shown.styles and clusters is not None:
        if "clusters" in files.sure:
            raise UserError(f"--clusters {clusters}: {files.generator} was trained without styles")
        passed_over.append(clusters)
        clusters = None
    _check_parts(generator, encoder, discriminator, shown)
    return _Sources(generator, encoder, discriminator, clusters, classes, options, reached, shown, tuple(passed_over))


def _check_parts(
    generator: Found[GeneratorForm],
    encoder: Found[EncoderForm] | None,
    discriminator: Found[DiscriminatorForm] | None,
    shown: Shown,
) -> None:
    """Refuse parts that are of another training than the generator."""
    form, where = generator.form, generator.source.path
    if encoder is not None and encoder.form.inputs != form.outputs:
        raise UserError(
            f"{encoder.source.path}: reads {encoder.form.inputs} channels, but {where} paints {form.outputs}; they "
            "belong to different trainings"
        )
    if encoder is not None and encoder.form.downsamplings != form.downsamplings:
        raise UserError(
            f"{encoder.source.path}: halves {encoder.form.downsamplings} times, but {where} {form.downsamplings}; only "
            "networks in which both are equal are read"
        )
    sees = len(shown.classes) + shown.image_channels + shown.edges + form.outputs  # styles are not shown to it
    if discriminator is not None and discriminator.form.inputs != sees:
        raise UserError(
            f"{discriminator.source.path}: sees {discriminator.form.inputs} channels, but what {where} is shown and "
            f"paints has {sees}, without styles; they belong to different trainings"
        )


def _kind(path: Path, kind: type[AnyForm], wanted: str, options: OptionFile | None) -> Found[AnyForm]:
    """What a checkpoint holds, which must be of this kind and agree with the options."""
    found = find(open_checkpoint(path))
    form = found.form
    if not isinstance(form, kind):
        raise UserError(f"{path}: is {form.name}, not {wanted}")
    if options is not None:
        check_options(options, form)
    return Found(found.source, form, found.tensors, found.passed_over, found.stripped)


def _reached(path: Path) -> str:
    """How far a training had come, from iter.txt: an epoch and an iteration in it."""
    with opened(path, f"give {_ITERATIONS}") as file:
        text = file.read(256).decode("latin-1").strip()
    match = re.fullmatch(r"(\d{1,9})[,\s]+(\d{1,12})", text, re.ASCII)
    if match is None:
        raise UserError(f"{path}: is {shortened(text)}, not an epoch and an iteration; take it out of the folder")
    return f"epoch {int(match[1])}, iteration {int(match[2])}"


# --- the model card --------------------------------------------------------------------------------------------------

_TOLD = ("name", "netG", "ngf", "num_D", "label_nc", "loadSize", "resize_or_crop", "norm", "no_instance")
_TOLD += ("instance_feat", "label_feat", "load_features")


def _card(network: CoarseToFineGenerator, sources: _Sources, assumed: tuple[str, ...], lacking: tuple[str, ...]) -> str:
    """The model card: what it is, from where, what was inferred, and what is not known of it."""
    found, shown = sources.generator, sources.shown
    form, (height, width) = found.form, network.spec.size
    layouts = bool(shown.classes)
    files = '"layout.png", "instances.png"' if network.needs_objects else '"layout.png"'
    asked = f"photogram.Layout.open({files})" if layouts else "image"
    hint = "" if layouts else f"  # float [n, {form.inputs}, {height}, {width}] in [-1, 1]"
    parts = [f"{len(shown.classes)} classes" if layouts else f"an image of {shown.image_channels} channels"]
    parts += ["the edges of objects"] if shown.edges else []
    one = "object" if shown.style_by == "objects" else "class"
    parts += [f"{shown.styles} numbers of a style of each {one}"] if shown.styles else []
    lines = [
        f"# pix2pixHD: {form.name}",
        "",
        f"The official program's generator, imported by photogram: {form.name}, "
        f"{sum(p.numel() for p in network.parameters()):,} parameters"
        + (" with its encoder" if network.encoder is not None else "") + f", shown {', '.join(parts)}.",
        "",
        'T.-C. Wang, M.-Y. Liu, J.-Y. Zhu, A. Tao, J. Kautz and B. Catanzaro, "High-Resolution Image Synthesis and '
        'Semantic Manipulation with Conditional GANs", CVPR 2018.',
        "",
        *program(asked, hint),
        "",
        f"It paints best at {height} x {width}. It can paint other sizes that are multiples of "
        f"{network.size_multiple}; what is no multiple is padded and cropped.",
        "",
        *[f"- {words}" for words in lacking],
        *([""] if lacking else []),
        "## Inferred from names and shapes",
        "",
        f"- channels: {form.inputs} in, {form.outputs} out",
        f"- features of the coarse generator: {form.width}",
        f"- halvings: {form.downsamplings}",
        f"- residual blocks: {form.blocks}",
        f"- enhancers: {form.enhancers}" + (f", of {form.enhancer_blocks} blocks each" if form.enhancers else ""),
        *found.notes(assumed),
        "",
        "## Source",
        "",
        *_origins(sources),
        "",
        "## Licence",
        "",
        "The weights are not photogram's. The terms of their source apply, and those of the photographs that they were",
        "learned from (Cityscapes: not for commercial use). The checkpoint states none: ask whoever published it",
        "before you pass the weights on.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _origins(sources: _Sources) -> list[str]:
    """Where each part is from, and what the option file says that a reader may want to know."""
    told = [f"- generator: {sources.generator.source.path.name}, SHA-256 {sources.generator.source.digest()}"]
    if sources.encoder is not None:
        told.append(f"- encoder: {sources.encoder.source.path.name}, SHA-256 {sources.encoder.source.digest()}")
    if sources.clusters is not None:
        digest = hashlib.sha256(sources.clusters.read_bytes()).hexdigest()
        told.append(
            f"- clusters of styles: {sources.clusters.name}, SHA-256 {digest}; how common each is is not in it, so "
            "`--style common` takes the first of a class"
        )
    if sources.discriminator is not None:
        told.append(
            f"- {sources.discriminator.source.path.name}: {sources.discriminator.form.name}, in {JUDGES}, for "
            "trainings that go on --from here"
        )
    if sources.classes is not None:
        told.append(f"- the names of the classes: {sources.classes.name}")
    if sources.reached is not None:
        told.append(f"- trained up to {sources.reached}")
    if sources.options is None:
        return [*told, "- no option file was given; nothing was compared with one"]
    path, options = sources.options
    said = [f"{key} {options[key]}" for key in _TOLD if options.get(key)]
    return [*told, f"- options of its training, which agree: {path.name}: {', '.join(said)}"]
