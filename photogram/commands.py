"""The verbs of the command line, each a function whose arguments tyro turns into flags."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from photogram import flags
from photogram.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from photogram.data.preparing import Prepared
    from photogram.data.shift import Shift
    from photogram.metrics.result import Result
    from photogram.synthesis import Choose
    from photogram.training import Judge


def _parse(function: Callable[..., int], verb: str, arguments: Sequence[str]) -> int:
    return flags.run(function, f"photogram {verb}", arguments)


# --- prepare ---------------------------------------------------------------------------------------------------------


def _prepare(arguments: Sequence[str]) -> int:
    from photogram.data import prepare
    from photogram.data.palette import prepare_palette
    from photogram.data.shift import shares_of, shift

    def cityscapes(source: Positional[Path], /, *, out: Path, classes: Literal[19, 35] = 19) -> int:
        """Cityscapes in its official tree and names.

        Args:
            source: the folder that holds leftImg8bit and gtFine.
            out: the data folder to write.
            classes: 19 training classes and unlabelled, or all 35 ids for instance-aware work.
        """
        return _say(prepare.prepare_cityscapes(source, out=out, classes=classes))

    def camvid(source: Positional[Path], /, *, out: Path, classes: Literal[11, 32] = 11) -> int:
        """CamVid: the original 32 colours, or the 11 classes of SegNet's form.

        Args:
            source: the folder of photographs and labels.
            out: the data folder to write.
            classes: 11 classes and unlabelled, or all 32.
        """
        return _say(prepare.prepare_camvid(source, out=out, classes=classes))

    def coco_stuff(source: Positional[Path], /, *, out: Path) -> int:
        """COCO-Stuff: 182 classes and unlabelled, with instances where there are some.

        Args:
            source: the folder of photographs and label maps.
            out: the data folder to write.
        """
        return _say(prepare.prepare_coco_stuff(source, out=out))

    def palette(
        source: Positional[Path],
        /,
        *,
        out: Path,
        map: Path | None = None,
        classes: Path | None = None,
        tolerance: int = 0,
        val_share: float = 0.1,
        against: Path | None = None,
    ) -> int:
        """Colour-coded layouts of any origin, RGB or indexed, with or without photographs.

        Args:
            source: a folder of layouts, or of photos/ and layouts/, or of train/ and val/ with those.
            out: the data folder to write.
            map: a JSON file that sends classes to classes; what it does not name becomes void.
            classes: a classes.json or palette.json that names the colours.
            tolerance: snap colours to the nearest class within so many steps of a channel (0..255).
            val_share: the share of scenes held out, where the source has no split.
            against: a data folder that a network was trained on: how far are the shares of classes from its own?
        """
        known = None if against is None else shares_of(against)
        made = prepare_palette(source, out=out, map=map, classes=classes, tolerance=tolerance, val_share=val_share)
        status = _say(made)
        if known is not None and made.report is not None:
            _say_shift(shift(made.report.shares, *known), str(against))
        return status

    def nyu(
        source: Positional[Path], /, *, out: Path, mapping: Path | None = None, top: int = 40, train: int = 1200
    ) -> int:
        """NYU Depth v2, the labelled scenes (needs the extra nyu).

        Args:
            source: nyu_depth_v2_labeled.mat, or the folder that holds it.
            out: the data folder to write.
            mapping: classMapping40.mat, for the 40 classes that papers report on.
            top: without a mapping, so many of the most frequent names become classes; 894 keeps all.
            train: the first so many scenes are for training, the rest is val.
        """
        from photogram.data.nyu import prepare_nyu

        return _say(prepare_nyu(source, out=out, mapping=mapping, top=top, train=train))

    def vivid(
        source: Positional[Path],
        /,
        *,
        out: Path,
        size: tuple[int, int] | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> int:
        """The authors' tone-mapped targets for CRN at 512p and 1024p; photographs of val stay plain.

        Args:
            source: a data folder.
            out: the data folder to write.
            size: height and width of the training, to which all splits are resized first; else each file's own.
            device: where photographs are smoothed; auto takes a GPU where there is one.
        """
        from photogram.data.vivid import prepare_vivid

        return _say(prepare_vivid(source, out=out, size=size, device=device))

    def coarsen(
        source: Positional[Path],
        /,
        *,
        out: Path,
        strength: Literal[1, 2, 3] = 1,
        method: Literal["polygon", "nearest"] = "polygon",
    ) -> int:
        """Coarse layouts of a data folder, as a hurried annotator would draw them.

        Args:
            source: a data folder.
            out: the data folder to write.
            strength: 1, 2 or 3: outlines may move by 4, 8 or 16 pixels at 256 rows, gaps are 2, 4 or 8 a side.
            method: polygons with unlabelled gaps (needs a void class), or nearest: blocks of 4, 8 or 16 pixels.
        """
        from photogram.data.coarsen import prepare_coarsen

        made = prepare_coarsen(source, out=out, strength=strength, method=method)
        for split, (before, after) in made.unlabelled.items():
            print(f"{split}: {before:.1%} unlabelled before, {after:.1%} after")
        return _say(made.prepared)

    def toy(*, out: Path, size: tuple[int, int] = (96, 128), train: int = 400, val: int = 40, seed: int = 0) -> int:
        """A procedural toy world: street scenes with instances, drawn by numbers.

        Args:
            out: the data folder to write.
            size: height and width.
            train: scenes to train on.
            val: scenes held out.
            seed: another seed is another world.
        """
        from photogram.data.toy import write_toy

        write_toy(out, size=size, train=train, val=val, seed=seed)
        print(f"{out}: {train} scenes to train on and {val} held out; `photogram check {out}` examines them")
        return 0

    forms: dict[str, Callable[..., int]] = {
        "cityscapes": cityscapes,
        "camvid": camvid,
        "coco-stuff": coco_stuff,
        "nyu": nyu,
        "palette": palette,
        "toy": toy,
        "vivid": vivid,
        "coarsen": coarsen,
    }
    return flags.choose(forms, "form", "photogram prepare", arguments)


def _say(prepared: Prepared) -> int:
    """Tell what a preparer made, on stdout, and what it noticed, on stderr."""
    splits = ", ".join(
        f"{count.name} {count.layouts} layouts and {count.photos} photographs" for count in prepared.splits
    )
    print(f"{prepared.out}: {splits}; {len(prepared.classes)} classes; {prepared.skipped} scenes were there already")
    for warning in prepared.warnings:
        print(f"photogram: note: {warning}", file=sys.stderr)
    if prepared.report is not None:
        for name, share in prepared.report.shares.items():
            print(f"  {share:7.2%}  {name}")
        print(f"  {prepared.report.distinct} distinct colours; {prepared.report.unlabelled:.2%} unlabelled")
    if not any(count.photos for count in prepared.splits):
        print("there are no photographs: these layouts can be painted, but nothing can be learned from them")
        return 0
    print(f"next: photogram check {prepared.out}")
    return 0


def _say_shift(found: Shift, against: str) -> None:
    """Tell how far the shares of classes are from those of a training set, the largest first."""
    print(
        f"shares of classes against {against}: Jensen-Shannon divergence {found.divergence:.4f} (0 equal, 1 disjoint)"
    )
    for name, (here, there) in sorted(found.shares.items(), key=lambda item: -max(item[1])):
        print(f"  {name:20} {here:7.2%} here, {there:7.2%} there")
    print(f"  {'void':20} {found.void[0]:7.2%} here, {found.void[1]:7.2%} there")


# --- check -----------------------------------------------------------------------------------------------------------


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

    return _parse(check, "check", arguments)


# --- train -----------------------------------------------------------------------------------------------------------


_FROM = tyro.conf.arg(name="from", metavar="FOLDER")


@dataclass(frozen=True)
class TrainFlags:
    """What every recipe is trained with."""

    data: Path
    """The data folder."""
    out: Path
    """The run's folder; the same command again goes on there."""
    steps: int
    """Train until so many steps are taken; a later command may ask for more."""
    size: tuple[int, int] | None = None
    """Height and width to train at; without it, the size of the first photograph."""
    batch_size: int = 1
    """Photographs a step and process."""
    seed: int = 0
    """Of the first weights, the order and all noise."""
    save_every: int = 1000
    """Steps between two saves of state, network, sheet and report."""
    evaluate_every: int = 0
    """Steps between two looks at held-out scenes; the best network is kept in best/. 0: none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: convolutions in bfloat16, the rest in float32; auto: where the device has it."""
    workers: int = 1
    """Processes that read data ahead."""
    fit: Literal["stretch", "crop"] = "stretch"
    """Photographs of another aspect: stretch them, or cover the size and crop a window."""
    flip: bool = False
    """Mirror every second scene."""
    start_from: Annotated[Path | None, _FROM] = None
    """A run or published network to start from."""


def _train(arguments: Sequence[str]) -> int:
    from photogram.recipes import members, word

    def command(recipe: type[Any]) -> type[Any]:
        parts = [("flags", tyro.conf.OmitArgPrefixes[TrainFlags]), ("recipe", tyro.conf.OmitArgPrefixes[recipe])]
        return make_dataclass(recipe.__name__, parts, namespace={"__doc__": recipe.__doc__})

    recipes = {word(recipe): command(recipe) for recipe in members()}
    first = flags.pick(recipes, "recipe", "photogram train", arguments)
    prog, config = f"photogram train {first}", (tyro.conf.FlagCreatePairsOff,)
    asked = flags.parsed(
        lambda args: tyro.cli(recipes[first], prog=prog, args=args, config=config), prog, arguments[1:]
    )
    return _run_training(asked.flags, asked.recipe)


def _run_training(asked: TrainFlags, recipe: Any) -> int:
    from rich.console import Console

    from photogram.data.folder import Folder
    from photogram.images import image_size
    from photogram.training import Plan, check_plan, train

    main = int(os.environ.get("RANK", "0")) == 0  # torchrun starts many; one of them speaks
    console = Console(stderr=True, quiet=not main)
    first = Folder(asked.data, "train").pairs[0].photo
    assert first is not None  # Folder leaves out what has no photograph
    size = asked.size or image_size(first)
    if asked.size is None:
        console.print(f"training at {size[0]} x {size[1]}, the size of {first.name}; --size takes another")
    plan = Plan(
        steps=asked.steps,
        batch_size=asked.batch_size,
        seed=asked.seed,
        save_every=asked.save_every,
        evaluate_every=asked.evaluate_every,
        precision=asked.precision,
        workers=asked.workers,
        start_from=asked.start_from,
    )
    data = Folder(asked.data, "train", size=size, fit=asked.fit, flip=asked.flip)
    check_plan(recipe, data, plan)  # before the doctor, who takes longer
    has_val = _quick_check(asked.data, size, console)
    val = Folder(asked.data, "val", size=size, fit=asked.fit, photos=False) if has_val else None
    train(recipe, data, asked.out, plan, val, _judge(asked, size, has_val))
    console.print(f"trained; open {asked.out / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def _judge(asked: TrainFlags, size: tuple[int, int], has_val: bool) -> Judge | None:
    """What looks at held-out scenes while training, where that is asked for."""
    if asked.evaluate_every <= 0:
        return None
    if not has_val:
        raise UserError(f"--evaluate-every {asked.evaluate_every}: {asked.data} holds nothing out; it needs val/")
    from photogram.data.folder import Folder
    from photogram.metrics.lpips import load_lpips
    from photogram.metrics.watch import Watch

    return Watch(Folder(asked.data, "val", size=size, fit=asked.fit), load_lpips())


def _quick_check(data: Path, size: tuple[int, int], console: Console) -> bool:
    """Stop for what would stop the training, mention the rest, a line a kind; whether there is a val to look at."""
    from photogram.data.check import check, render

    report = check(data, quick=True, size=size, quiet=console.quiet)
    if report.stops_training:
        render(report, console)
        raise UserError(f"{data}: the data would stop the training; mend what is listed above")
    kinds: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.severity == "warning":
            kinds.setdefault(finding.kind, []).append(f"{finding.path}: {finding.message}")
    for kind, lines in kinds.items():
        more = f" ({len(lines)} such; `photogram check {data}` lists them)" if len(lines) > 1 else ""
        console.print(f"warning: {kind}: {lines[0]}{more}", highlight=False, markup=False, soft_wrap=True)
    return "val" in report.splits and report.splits["val"].layouts > 0


# --- synthesize ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SynthesizeFlags:
    """Paint layouts with what a run has learned. Finished paintings are skipped; the same seed, the same bytes.

    What a network lets you choose besides (candidates, mix, ...) is listed by `photogram synthesize RUN --help`.
    """

    run: Positional[Path]
    """A run, or a published network."""
    layouts: Positional[tuple[str, ...]]
    """Layout files, folders of them, or - for a list of files on stdin, one a line."""
    out: Path
    """The folder for the paintings."""
    seed: int = 0
    """Of whatever the network draws."""
    size: tuple[int, int] | Literal["native"] | None = None
    """Height and width to paint at, or native for each file's own; without it, the size trained at."""
    format: Literal["png", "jpg", "webp"] = "png"
    """Of the paintings' files."""
    sheet: bool = False
    """Also write sheet.png, layouts beside paintings."""
    animate: float = 0
    """Also write animation.webp, the paintings by name at so many a second: the frames of a shot. 0: none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Auto takes bf16 where the processor has it."""
    overwrite: bool = False
    """Paint over what was painted with other settings."""


def _synthesize(arguments: Sequence[str]) -> int:
    from photogram.generator import CONFIG, Generator
    from photogram.recipes import kind

    found = next((word for word in arguments if (Path(word) / CONFIG).is_file()), None)
    network = None if found is None else kind(found)
    options = network.Options if network is not None and issubclass(network, Generator) else None
    parts: list[tuple[str, Any]] = [("flags", tyro.conf.OmitArgPrefixes[SynthesizeFlags])]
    if options is not None and fields(options):
        parts.append(("options", tyro.conf.OmitArgPrefixes[options]))
    command = make_dataclass("Synthesize", parts, namespace={"__doc__": SynthesizeFlags.__doc__})
    prog, config = "photogram synthesize", (tyro.conf.FlagCreatePairsOff,)
    asked = flags.parsed(lambda args: tyro.cli(command, prog=prog, args=args, config=config), prog, arguments)
    return _run_synthesis(asked.flags, getattr(asked, "options", None))


def _run_synthesis(asked: SynthesizeFlags, options: Any) -> int:
    from photogram.recipes import load
    from photogram.recipes.crn import Choice
    from photogram.synthesis import collect, synthesize

    best = isinstance(options, Choice) and options.candidates == "best"
    summary = synthesize(
        load(asked.run),
        collect(asked.layouts, sys.stdin),
        asked.out,
        seed=asked.seed,
        size=asked.size,
        format=asked.format,
        sheet=asked.sheet,
        animate=asked.animate,
        precision=asked.precision,
        overwrite=asked.overwrite,
        source=asked.run,
        options=options,
        choose=_nearest() if best else None,
    )
    for failure in summary.failures:
        print(f"photogram: {failure}", file=sys.stderr)
    print(f"{asked.out}: {summary.painted} painted, {summary.skipped} were there, {summary.failed} failed")
    return 1 if summary.failures else 0


def _nearest() -> Choose:
    """Keeps the candidate that is nearest, in LPIPS, to the photograph beside the layout."""
    from photogram.images import read_photo, resize_photo
    from photogram.metrics.lpips import load_lpips
    from photogram.scene import from_pixels
    from photogram.synthesis import beside

    lpips = load_lpips()

    def choose(candidates: Tensor, layout: Path) -> int:
        path = beside(layout)
        if path is None:
            raise UserError(
                f"{layout}: has no photograph beside it (photos/{layout.stem}.*) that could tell which candidate is "
                "best; --candidates takes a number, or all"
            )
        size = (candidates.shape[-2], candidates.shape[-1])
        photo = from_pixels(resize_photo(read_photo(path), size))[None].to(candidates)
        return int(lpips(candidates, photo.expand(len(candidates), -1, -1, -1)).argmin())

    return choose


# --- evaluate --------------------------------------------------------------------------------------------------------


def _evaluate(arguments: Sequence[str]) -> int:
    def command(
        subjects: Positional[tuple[Path, ...]],
        /,
        *,
        protocol: str | None = None,
        data: Path | None = None,
        out: Path | None = None,
        segmenter: Path | None = None,
        trunk_file: Path | None = None,
        repeats: int = 1,
        brackets: bool = False,
        html: bool = False,
    ) -> int:
        """Judge runs or folders of images by a protocol, side by side, so that anyone can repeat it.

        Args:
            subjects: runs, folders of images that have the names of the layouts, and result.json files of earlier
                evaluations, which are compared as they are, and alone need no protocol and no data.
            protocol: a protocol's name, or its file.
            data: the data folder, whose split the protocol names.
            out: paintings and results go into a folder in it that has the protocol's name; without it, evaluation.
            segmenter: a network that reads photographs, in place of the protocol's: a run, or the JSON description of
                an ONNX or torch.export file.
            trunk_file: weights of the protocol's feature network, where it is no embedded one.
            repeats: seeds, from the protocol's on: mean and spread.
            brackets: also judge real photographs of training, at random and those of the nearest layouts.
            html: also write evaluation.html, one file to open.
        """
        from photogram.judging import compare
        from photogram.recipes import load

        found = compare(
            subjects,
            load,
            protocol=protocol,
            data=data,
            out=out,
            segmenter=segmenter,
            trunk_file=trunk_file,
            repeats=repeats,
            brackets=brackets,
            html=html,
        )
        _show(found.results)
        if found.opened is not None:
            print(f"written: {found.opened}")
        return 0

    return _parse(command, "evaluate", arguments)


def _show(results: Sequence[Result]) -> None:
    """Print the tables of some results, and what a reader must know about them."""
    from rich.console import Console

    from photogram.metrics.table import tables

    console = Console(width=None if sys.stdout.isatty() else 200)
    for table in tables(results):
        console.print(table)
    for warning in dict.fromkeys(w for result in results for w in result.warnings):
        print(f"photogram: note: {warning}", file=sys.stderr)


# --- import ----------------------------------------------------------------------------------------------------------


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

    return flags.choose({"crn": crn}, "source", "photogram import", arguments)


# --- quickstart ------------------------------------------------------------------------------------------------------


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

    return _parse(command, "quickstart", arguments)


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
    "prepare": _prepare,
    "check": _check,
    "train": _train,
    "synthesize": _synthesize,
    "evaluate": _evaluate,
    "import": _import,
}
