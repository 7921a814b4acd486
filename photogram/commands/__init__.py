"""The verbs of the command line: functions whose arguments tyro turns into flags. The larger ones have a file each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from photogram import flags
from photogram.commands import cluster, colorize, evaluate, plan, prepare, sample, synthesize, train


def _check(arguments: Sequence[str]) -> int:
    def check(data: Positional[Path], /, *, json_: Annotated[bool, tyro.conf.arg(name="json")] = False) -> int:
        """The data doctor: read every file of a data folder and say what is wrong with it.

        Args:
            data: the data folder.
            json_: print the findings as JSON, for programs.
        """
        from photogram.data.check import check as examine
        from photogram.data.check import render

        report = examine(data, quiet=json_)
        if json_:
            print(json.dumps(report.to_json(), indent=2))
        else:
            from rich.console import Console

            render(report, Console())
        return 1 if report.stops_training else 0

    return flags.run(check, "photogram check", arguments)


def _import(arguments: Sequence[str]) -> int:
    def crn(checkpoint: Positional[Path], /, *, out: Path) -> int:
        """A network that the authors of CRN released, from its TensorFlow checkpoint; TensorFlow is not needed.

        Args:
            checkpoint: NAME of NAME.index and NAME.data-00000-of-00001, one of these files, or their folder.
            out: the folder for the published network, new or empty.
        """
        from photogram.interop.crn import import_crn

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
        return _import_translator("pix2pix", checkpoint, out, options, classes)

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
        return _import_translator("cyclegan", checkpoint, out, options, classes)

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
            discriminator: latest_net_D.pth, to be compared; it is not published.
        """
        from photogram.interop.pix2pixhd import import_pix2pixhd

        made = import_pix2pixhd(
            checkpoint,
            out=out,
            options=options,
            classes=classes,
            encoder=encoder,
            clusters=clusters,
            discriminator=discriminator,
        )
        spec = made.network.spec
        parameters = sum(p.numel() for p in made.network.parameters())
        print(f"{out}: {made.found.form.name}, {parameters:,} parameters, {spec.size[0]} x {spec.size[1]}")
        for words in made.assumed:
            print(f"assumed, as the checkpoint does not say: {words}")
        for words in made.lacking:
            print(words)
        print(f"{out / 'README.md'} says more")
        if spec.num_classes:
            print(f"next: photogram synthesize {out} LAYOUTS --out painted")
        return 0

    sources = {"crn": crn, "pix2pix": pix2pix, "cyclegan": cyclegan, "pix2pixhd": pix2pixhd}
    return flags.choose(sources, "source", "photogram import", arguments)


def _import_translator(
    system: Literal["pix2pix", "cyclegan"], checkpoint: Path, out: Path, options: Path | None, classes: Path | None
) -> int:
    from photogram.interop.pix2pix import import_translator

    made = import_translator(checkpoint, system=system, out=out, classes=classes, options=options)
    form, spec = made.found.form, made.network.spec
    parameters = sum(p.numel() for p in made.network.parameters())
    print(f"{out}: {form.name}, {form.norm} norm, {parameters:,} parameters, {spec.size[0]} x {spec.size[1]}")
    for words in made.assumed:
        print(
            f"assumed, as the checkpoint does not say: {words}" + ("" if options else "; --options train_opt.txt may")
        )
    print(f"{out / 'README.md'} says more")
    if spec.num_classes:
        print(f"next: photogram synthesize {out} LAYOUTS --out painted")
    return 0


def _quickstart(arguments: Sequence[str]) -> int:
    def command(out: Path = Path("quickstart")) -> int:
        """Train a small network on a toy world and paint scenes that it has not seen; offline, in minutes.

        Args:
            out: the folder for the data, the run and the paintings.
        """
        from photogram.quickstart import quickstart

        sheet = quickstart(out)
        print(NEXT.format(sheet=sheet, out=out))
        return 0

    return flags.run(command, "photogram quickstart", arguments)


NEXT = """
Open {sheet}
  Threes of a layout that the network has not seen, what it painted, and the toy world's own picture.
  {out}/run/report.html has the curves.

Next, with your own photographs and layouts (`. .venv/bin/activate` puts photogram on the path):
  photogram prepare palette YOUR_FOLDER --out data      # photos/ and layouts/, colour-coded; or cityscapes, camvid, ...
  photogram check data
  photogram train crn --data data --out runs/mine --size 192 256 --perceptual squeezenet --steps 20000
  photogram synthesize runs/mine data/val/layouts --out painted --sheet"""

VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "quickstart": _quickstart,
    "prepare": prepare.run,
    "check": _check,
    "plan": plan.run,
    "train": train.run,
    "synthesize": synthesize.run,
    "sample": sample.run,
    "colorize": colorize.run,
    "cluster": cluster.run,
    "evaluate": evaluate.run,
    "import": _import,
}
