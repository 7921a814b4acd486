"""`photogram import`: networks that others have published, from their own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from photogram import flags

if TYPE_CHECKING:
    from photogram.interop.pix2pixhd import Imported
    from photogram.scene import SceneSpec


def crn(checkpoint: Positional[Path], /, *, out: Path) -> int:
    """A network that the authors of CRN released, from its TensorFlow checkpoint; TensorFlow is not needed.

    Args:
        checkpoint: NAME of NAME.index and NAME.data-00000-of-00001, one of these files, or their folder.
        out: the folder for the published network, new or empty.
    """
    from photogram.interop.crn import import_crn
    from photogram.interop.files import refuse_ours

    refuse_ours(checkpoint)
    made = import_crn(checkpoint, out=out)
    (height, width), images = made.form.size, made.form.candidates
    paints = f"{images} candidates of each layout" if images > 1 else "one painting of each layout"
    print(f"{out}: {made.parameters:,} parameters, {height} x {width}, {paints}; {out / 'README.md'} says more")
    print(f"next: photogram synthesize {out} LAYOUTS --out painted")
    return 0


def pix2pix(
    checkpoint: Positional[Path], /, *, out: Path, options: Path | None = None, classes: Path | None = None
) -> int:
    """A generator of pytorch-CycleGAN-and-pix2pix, trained as pix2pix: latest_net_G.pth. Nothing of it is executed.

    Args:
        checkpoint: the .pth file of one generator.
        out: the folder for the published network, new or empty.
        options: the train_opt.txt beside it; what it says is compared with the checkpoint.
        classes: a classes.json with the colours that layouts were shown in; it then paints layouts, not images.
    """
    return _translator("pix2pix", checkpoint, out, options, classes)


def cyclegan(
    checkpoint: Positional[Path], /, *, out: Path, options: Path | None = None, classes: Path | None = None
) -> int:
    """A generator of pytorch-CycleGAN-and-pix2pix, trained as CycleGAN: latest_net_G_A.pth (from A to B) or G_B.

    Args:
        checkpoint: the .pth file of one generator; published ones are called latest_net_G.pth.
        out: the folder for the published network, new or empty.
        options: the train_opt.txt beside it; what it says is compared with the checkpoint.
        classes: a classes.json with the colours that layouts were shown in; it then paints layouts, not images.
    """
    return _translator("cyclegan", checkpoint, out, options, classes)


def pix2pixhd(
    checkpoint: Positional[Path],
    /,
    *,
    out: Path,
    options: Path | None = None,
    classes: Path | None = None,
    encoder: Path | None = None,
    clusters: Path | None = None,
    discriminator: Path | None = None,
) -> int:
    """The official pix2pixHD: latest_net_G.pth, with its encoder and clusters of styles. Nothing is executed.

    Args:
        checkpoint: the .pth file of a generator, or the folder of a training with latest_net_G.pth, and what there
            is of latest_net_E.pth, latest_net_D.pth, opt.txt, iter.txt and features_clustered_*.npy.
        out: the folder for the published network, new or empty.
        options: the opt.txt of the training; what it says is compared with the checkpoints.
        classes: a classes.json with the names of the classes; without it, Cityscapes' where there are 35.
        encoder: latest_net_E.pth, of a network that was trained with features.
        clusters: features_clustered_010.npy, the styles found in the training set.
        discriminator: latest_net_D.pth; a training that goes on --from here takes it up.
    """
    from photogram.interop.files import refuse_ours
    from photogram.interop.pix2pixhd import import_pix2pixhd

    refuse_ours(checkpoint)
    made = import_pix2pixhd(
        checkpoint,
        out=out,
        options=options,
        classes=classes,
        encoder=encoder,
        clusters=clusters,
        discriminator=discriminator,
    )
    return _say_pix2pixhd(made)


SOURCES = {"crn": crn, "pix2pix": pix2pix, "cyclegan": cyclegan, "pix2pixhd": pix2pixhd}


def run(arguments: Sequence[str]) -> int:
    """`photogram import SOURCE ...`."""
    return flags.choose(SOURCES, "source", "photogram import", arguments)


def _translator(
    system: Literal["pix2pix", "cyclegan"], checkpoint: Path, out: Path, options: Path | None, classes: Path | None
) -> int:
    from photogram.interop.files import refuse_ours
    from photogram.interop.pix2pix import import_translator

    refuse_ours(checkpoint)
    made = import_translator(checkpoint, system=system, out=out, classes=classes, options=options)
    form, spec = made.found.form, made.network.spec
    parameters = sum(p.numel() for p in made.network.parameters())
    print(f"{out}: {form.name}, {form.norm} norm, {parameters:,} parameters, {spec.size[0]} x {spec.size[1]}")
    _say_assumed(made.assumed, "" if options else "; --options train_opt.txt may")
    return _say_next(out, spec)


def _say_pix2pixhd(made: Imported) -> int:
    """Tell what an import of pix2pixHD made, and what the network lacks."""
    spec = made.network.spec
    parameters = sum(p.numel() for p in made.network.parameters())
    print(f"{made.out}: {made.found.form.name}, {parameters:,} parameters, {spec.size[0]} x {spec.size[1]}")
    _say_assumed(made.assumed)
    for words in made.lacking:
        print(words)
    return _say_next(made.out, spec)


def _say_assumed(assumed: Sequence[str], advice: str = "") -> None:
    for words in assumed:
        print(f"assumed, as the checkpoint does not say: {words}{advice}")


def _say_next(out: Path, spec: SceneSpec) -> int:
    """Where more is said of a network, and what can be done with it."""
    print(f"{out / 'README.md'} says more")
    if spec.num_classes:
        print(f"next: photogram synthesize {out} LAYOUTS --out painted")
    return 0
