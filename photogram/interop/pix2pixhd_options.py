"""What a generator of pix2pixHD was shown, and whether the option file of a training (`opt.txt`) is of its networks.

Specification of the pix2pix family, sections 4.1 and 8.2. A checkpoint has a number of input channels: one for each
class, or an image's; one for the edges of objects, unless there were no instance maps; and those of the styles. Which
they are is said by the option file, or by the number of classes and of the encoder's features, or must be guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from photogram.data.known_classes import cityscapes_35, spread_color
from photogram.errors import UserError
from photogram.interop.pickled import shortened
from photogram.interop.pix2pixhd_forms import DiscriminatorForm, EncoderForm, GeneratorForm
from photogram.interop.train_options import Options, compare
from photogram.nn.regions import By
from photogram.scene import SceneClass, Size, read_classes

NUMBER_LIMIT = 1 << 16
"""Of the numbers in an option file that are used."""
FEATURES = 3
"""Numbers of a style, unless an encoder or an option file says otherwise."""

_CITYSCAPES = 35
_IMAGES = (1, 3)
_WRITTEN = {"crop_size": "fineSize"}  # what these programs call it; `read_options` gives keys as they are today


class Shown(NamedTuple):
    """What a generator is shown.

    Args:
        classes: of layouts; none where it is shown images.
        image_channels: of images, else 0.
        edges: whether the edges of objects are a channel.
        styles: numbers of a style; 0 where it was trained without.
        style_by: what has a style.
        shrink: the encoder read photographs at this fraction of the size: features computed before the training of
            enhancers are the coarse generator's (specification 4.7).
        assumed: what neither the checkpoint nor an option file says.
    """

    classes: tuple[SceneClass, ...]
    image_channels: int
    edges: bool
    styles: int
    style_by: By
    shrink: int
    assumed: tuple[str, ...]


class OptionFile(NamedTuple):
    """An option file: where it is, and what it says."""

    path: Path
    options: Options

    def number(self, key: str, default: int) -> int:
        """A number of 0 or more; the default where the key is not there."""
        said = self.options.get(key, str(default))
        if not (said.isascii() and said.isdecimal() and len(said) < 10 and int(said) < NUMBER_LIMIT):
            name = _WRITTEN.get(key, key)
            raise UserError(f"{self.path}: {name} is {shortened(said)}; it must be 0 to {NUMBER_LIMIT - 1}")
        return int(said)

    def flag(self, key: str) -> bool:
        """True or False; False where the key is not there."""
        said = self.options.get(key, "False")
        if said not in ("True", "False"):
            raise UserError(f"{self.path}: {key} is {shortened(said)}; it is True or False")
        return said == "True"


def check_options(file: OptionFile, form: GeneratorForm | EncoderForm | DiscriminatorForm) -> None:
    """Refuse options that another network was trained with.

    Raises:
        UserError: naming the option, its value, and what the checkpoint holds.
    """
    path, options = file
    if options.get("model", "pix2pixHD") != "pix2pixHD":
        raise UserError(f"{path}: model is {shortened(options['model'])}, not pix2pixHD")
    compare(path, "norm", options, form.norm)
    if isinstance(form, EncoderForm):
        found = {"nef": form.width, "feat_num": form.outputs, "output_nc": form.inputs}
        found |= {"n_downsample_E": form.downsamplings}
    elif isinstance(form, DiscriminatorForm):
        found = {"ndf": form.width, "num_D": form.scales, "n_layers_D": form.layers}
        compare(path, "no_ganFeat_loss", options, str(not form.matched))
    else:
        compare(path, "netG", options, "local" if form.enhancers else "global")
        found = {"ngf": form.width >> form.enhancers, "output_nc": form.outputs}
        found |= {"n_downsample_global": form.downsamplings, "n_blocks_global": form.blocks}
        if form.enhancers:  # of a coarse generator alone they say nothing
            found |= {"n_local_enhancers": form.enhancers, "n_blocks_local": form.enhancer_blocks}
    for key, value in found.items():
        compare(path, key, options, str(value))


def find_shown(
    source: Path,
    form: GeneratorForm,
    encoder: EncoderForm | None,
    sure: bool,
    classes: Path | None,
    file: OptionFile | None,
) -> Shown:
    """What a generator is shown.

    Args:
        source: the generator's file, for messages.
        form: the generator.
        encoder: its encoder, where there is one.
        sure: whether the encoder must be its own; another, which a folder may hold, is refused where it cannot be,
            unless the generator was trained without styles.
        classes: a classes.json, if one is given.
        file: the option file, if one is given.

    Raises:
        UserError: where it cannot be known, or the files disagree, naming the channels of each.
    """
    named = None if classes is None else read_classes(classes)
    if file is not None:
        shown = _by_options(source, form, file, classes, named)
    elif named is not None:
        assert classes is not None
        shown = _by_classes(source, form, encoder, sure, classes, named)
    else:
        shown = _by_number(source, form, encoder, sure)
    if encoder is not None and (sure or shown.styles) and encoder.outputs != shown.styles:
        words = f"has {shown.styles} channels for styles" if shown.styles else "was trained without styles"
        raise UserError(
            f"{source}: {words}, but the encoder gives {encoder.outputs}; they belong to different trainings"
        )
    if shown.image_channels and (shown.edges or shown.styles):
        raise UserError(
            f"{source}: takes images with {'the edges of objects' if shown.edges else 'styles of objects'} beside "
            "them, which is not supported; objects need layouts"
        )
    return shown


def _by_options(
    source: Path, form: GeneratorForm, file: OptionFile, classes: Path | None, named: tuple[SceneClass, ...] | None
) -> Shown:
    path, options = file
    if "label_nc" not in options:
        raise UserError(f"{path}: has no label_nc; it is no option file of pix2pixHD")
    label_nc, edges = file.number("label_nc", _CITYSCAPES), not file.flag("no_instance")
    image = 0 if label_nc else file.number("input_nc", 3)
    by_label = file.flag("label_feat")
    has_styles = file.flag("instance_feat") or by_label or file.flag("load_features")
    styles = file.number("feat_num", FEATURES) if has_styles else 0
    total = label_nc + image + edges + styles
    if total != form.inputs:
        first = f"label_nc {label_nc}" if label_nc else f"label_nc 0, input_nc {image}"
        raise UserError(
            f"{path}: {first}, no_instance {not edges} and {styles} features make {total} channels, but {source} takes "
            f"{form.inputs}; they belong to different trainings"
        )
    if named is not None and len(named) != label_nc:
        raise UserError(f"--classes {classes}: has {len(named)} classes, but label_nc is {label_nc} in {path}")
    assumed = _numbered(label_nc) if named is None else ()
    shrink = 1 << form.enhancers if file.flag("load_features") else 1
    if styles and shrink > 1:
        assumed += (
            f"that its features were computed at 1/{shrink} of the size, by the encoder beside the coarse generator",
        )
    by: By = "classes" if by_label else "objects"
    return Shown(named or _known(label_nc), image, edges, styles, by, shrink, assumed)


def _by_classes(
    source: Path,
    form: GeneratorForm,
    encoder: EncoderForm | None,
    sure: bool,
    classes: Path,
    named: tuple[SceneClass, ...],
) -> Shown:
    rest = form.inputs - len(named)
    styles = FEATURES if encoder is None else encoder.outputs
    possible = {styles: (False, styles), styles + 1: (True, styles)}
    if encoder is None or not sure:
        possible |= {0: (False, 0), 1: (True, 0)}
    if rest not in possible:
        raise UserError(
            f"--classes {classes}: has {len(named)} classes, but {source} takes {form.inputs} channels; besides the "
            f"classes there can be 1 for edges, and {styles} for styles"
        )
    return _assumed(named, *possible[rest], ())


def _by_number(source: Path, form: GeneratorForm, encoder: EncoderForm | None, sure: bool) -> Shown:
    """By the number of channels alone: Cityscapes, or images."""
    styles = FEATURES if encoder is None else encoder.outputs
    possible = {_CITYSCAPES + styles: (False, styles), _CITYSCAPES + styles + 1: (True, styles)}
    if encoder is None or not sure:
        possible |= {_CITYSCAPES: (False, 0), _CITYSCAPES + 1: (True, 0)}
        if form.inputs in _IMAGES:
            return Shown((), form.inputs, False, 0, "objects", 1, (f"its {form.inputs} input channels, an image",))
    if form.inputs not in possible:
        raise UserError(
            f"{source}: takes {form.inputs} channels, of which the file does not say how many are classes; give "
            "--options opt.txt or --classes classes.json"
        )
    edges, styles = possible[form.inputs]
    parts = [f"the {_CITYSCAPES} classes of Cityscapes"]
    parts += (["the edges of objects"] if edges else []) + ([f"{styles} features"] if styles else [])
    return _assumed(cityscapes_35(), edges, styles, (f"its {form.inputs} input channels, {', '.join(parts)}",))


def _assumed(classes: tuple[SceneClass, ...], edges: bool, styles: int, assumed: tuple[str, ...]) -> Shown:
    """Styles are of objects where edges of objects were shown, and of classes where there seem to be no objects."""
    by: By = "objects" if edges else "classes"
    more = (f"its styles, of {'each object' if edges else 'each class'}",) if styles else ()
    return Shown(classes, 0, edges, styles, by, 1, (*assumed, *more))


def _known(count: int) -> tuple[SceneClass, ...]:
    if count == _CITYSCAPES:
        return cityscapes_35()
    return tuple(SceneClass(f"class {n}", spread_color(n)) for n in range(count))


def _numbered(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    if count == _CITYSCAPES:
        return (f"its {count} classes, those of Cityscapes",)
    return (f"its {count} classes, numbered, since no --classes were given",)


def find_size(enhancers: int, file: OptionFile | None) -> tuple[Size, tuple[str, ...]]:
    """The size that a generator was trained at, and what of it is assumed.

    Raises:
        UserError: naming the option that is no size.
    """
    size = (512 << enhancers, 1024 << enhancers)
    how = "none" if file is None else file.options.get("resize_or_crop", "none")
    key = "crop_size" if "crop" in how else "loadSize"
    if file is None or how == "none" or key not in file.options:
        return size, (f"its size, {size[0]} x {size[1]}",)
    said = file.number(key, 0)
    if not 32 <= said <= 1 << 13:
        raise UserError(f"{file.path}: {_WRITTEN.get(key, key)} is {said}; it must be 32 to {1 << 13}")
    if "crop" in how or how == "resize":
        return (said, said), ()
    return (said // 2, said), (f"its height, {said // 2}, half of its width",)
