"""`photogram prepare`: other people's data sets, and new ones made of old."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from photogram import flags
from photogram.errors import UserError

if TYPE_CHECKING:
    from photogram.data.drawings import Drawn
    from photogram.data.preparing import Prepared, PreparedSplit
    from photogram.data.shift import Shift


def cityscapes(source: Positional[Path], /, *, out: Path, classes: Literal[19, 35] = 19) -> int:
    """Cityscapes in its official tree and names.

    Args:
        source: the folder that holds leftImg8bit and gtFine.
        out: the data folder to write.
        classes: 19 training classes and unlabelled, or all 35 ids for instance-aware work.
    """
    from photogram.data import prepare

    return _say(prepare.prepare_cityscapes(source, out=out, classes=classes))


def camvid(source: Positional[Path], /, *, out: Path, classes: Literal[11, 32] = 11) -> int:
    """CamVid: the original 32 colours, or the 11 classes of SegNet's form.

    Args:
        source: the folder of photographs and labels.
        out: the data folder to write.
        classes: 11 classes and unlabelled, or all 32.
    """
    from photogram.data import prepare

    return _say(prepare.prepare_camvid(source, out=out, classes=classes))


def coco_stuff(source: Positional[Path], /, *, out: Path) -> int:
    """COCO-Stuff: 182 classes and unlabelled, with instances where there are maps of them.

    Args:
        source: the folder of photographs and label maps.
        out: the data folder to write.
    """
    from photogram.data import prepare

    return _say(prepare.prepare_coco_stuff(source, out=out))


def coco_panoptic(source: Positional[Path], /, *, out: Path) -> int:
    """COCO's panoptic annotations: 133 classes and unlabelled, with instances.

    Args:
        source: the folder of annotations/, which holds panoptic_*.json and their maps, and of train2017/, val2017/.
        out: the data folder to write.
    """
    from photogram.data.coco_panoptic import prepare_coco_panoptic

    return _say(prepare_coco_panoptic(source, out=out))


def coco_instances(source: Positional[Path], /, *, out: Path) -> int:
    """COCO-Stuff with the instances of COCO's own instances_*.json: polygons and run lengths.

    Args:
        source: the folder of annotations/, stuffthingmaps/ (or stuff_*_pixelmaps/), and of train2017/, val2017/.
        out: the data folder to write.
    """
    from photogram.data.coco_instances import prepare_coco_instances

    return _say(prepare_coco_instances(source, out=out))


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
    from photogram.data.palette import prepare_palette
    from photogram.data.shift import shares_of, shift
    from photogram.scene import void_of

    known = None if against is None else shares_of(against)
    made = prepare_palette(source, out=out, map=map, classes=classes, tolerance=tolerance, val_share=val_share)
    status = _say(made)
    if known is not None and made.report is not None:
        void = void_of(made.classes)
        names = (None if void is None else made.classes[void].name, known[1])
        _say_shift(shift(made.report.shares, known[0], names), str(against))
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


def edges(
    source: Positional[Path],
    /,
    *,
    out: Path,
    detector: Literal["canny", "xdog"] = "canny",
    size: tuple[int, int] | None = None,
    sigma: float | None = None,
    low: float | None = None,
    high: float | None = None,
    tau: float | None = None,
    epsilon: float | None = None,
    smallest: int = 5,
    width: Literal[1, 2] = 1,
) -> int:
    """The lines of photographs as inputs/, black on white, to train edges to photographs.

    Args:
        source: a data folder; photographs in train/photos and val/photos are enough.
        out: the data folder to write.
        detector: canny, or xdog: more like a pen drawing.
        size: height and width of the training, to which all is resized first; lines do not survive resizing.
        sigma: how far the photograph is smoothed first, in pixels; 1.2 for canny, 1.0 for xdog.
        low: canny: a line goes on where brightness (0..1) changes by so much a pixel; 0.015.
        high: canny: somewhere along a line brightness changes by so much a pixel; 0.04.
        tau: xdog: how much of the wider Gaussian is taken away, up to 1; 0.97.
        epsilon: xdog: ink is where the difference is below this; 0.
        smallest: lines of fewer pixels are left out.
        width: the pixels that a line is wide.
    """
    from photogram.data import drawings

    named = {"sigma": sigma, "low": low, "high": high, "tau": tau, "epsilon": epsilon}
    found = drawings.detector(detector, {name: value for name, value in named.items() if value is not None})
    made = drawings.prepare_edges(source, out=out, detector=found, size=size, smallest=smallest, width=width)
    splits = ", ".join(f"{name} {count} drawings" for name, count in made.counts.items())
    print(f"{out}: {splits}, {made.layouts} with a layout; {made.skipped} were there already")
    _say_lines(made)
    print(f"next: photogram check {out}")
    return 0


def sketches(
    source: Positional[Path],
    /,
    *,
    out: Path,
    like: Path | None = None,
    size: tuple[int, int] | None = None,
    width: Literal[1, 2] | None = None,
    gap: float = 6,
    smallest: int = 5,
) -> int:
    """Drawings by hand in the style of `prepare edges`, for a network that was trained on such lines.

    Args:
        source: a folder of drawings: scans, photographs of paper, or files from a drawing program.
        out: the folder to write.
        like: the data folder that the network was trained on: its size, and how wide its lines are.
        size: height and width of that training instead.
        width: the pixels that a line is wide instead; 1.
        gap: gaps in lines up to so many pixels are closed, so that outlines hold what they enclose; 0 closes none.
        smallest: lines of fewer pixels are left out.
    """
    from photogram.data import drawings

    if like is not None and (size, width) != (None, None):
        raise UserError("--like: has a size and a width; leave out --size and --width, or --like")
    size, wide = (size, width or 1) if like is None else drawings.line_style(like)
    made = drawings.prepare_sketches(source, out=out, size=size, gap=gap, smallest=smallest, width=wide)
    failed = f", {len(made.failures)} failed" if made.failures else ""
    print(f"{out}: {made.counts['sketches']} drawings{failed}; {made.skipped} were there already")
    _say_lines(made)
    for failure in made.failures:
        print(f"photogram: {failure}", file=sys.stderr)
    return 1 if made.failures else 0


def pairs(
    source: Positional[Path], /, *, out: Path, direction: Literal["AtoB", "BtoA"] = "AtoB", val_share: float = 0.1
) -> int:
    """Files with A and B side by side, as pix2pix's data sets have them, to inputs and photographs.

    Args:
        source: a folder of such files, or of train/, val/ and test/ with them.
        out: the data folder to write.
        direction: AtoB asks with the left half and learns the right; BtoA the other way.
        val_share: the share of files held out, where the source has no split.
    """
    from photogram.data.inputs import prepare_pairs

    return _say(prepare_pairs(source, out=out, direction=direction, val_share=val_share))


def manifest(source: Positional[Path], /, *, out: Path, classes: Path | None = None) -> int:
    """Inputs and photographs that a CSV file lists: split,input,photo and, where there are layouts, layout.

    Args:
        source: the CSV file; its paths are relative to its folder.
        out: the data folder to write.
        classes: the classes.json of the layouts, where there are some.
    """
    from photogram.data.inputs import prepare_manifest

    return _say(prepare_manifest(source, out=out, classes=classes))


def unpaired(
    a: Positional[Path],
    b: Positional[Path],
    /,
    *,
    out: Path,
    a_glob: str = "*",
    b_glob: str = "*",
    val_share: float = 0.1,
) -> int:
    """Two folders of pictures that nobody paired: A becomes inputs, B photographs.

    Args:
        a: the folder of what networks are asked with.
        b: the folder of what they are to make.
        out: the data folder to write.
        a_glob: which files of A; `**/*.jpg` also takes those of its folders.
        b_glob: which files of B.
        val_share: the share of each held out.
    """
    from photogram.data.inputs import prepare_unpaired

    return _say(prepare_unpaired(a, b, out=out, a_glob=a_glob, b_glob=b_glob, val_share=val_share))


def grey(source: Positional[Path], /, *, out: Path) -> int:
    """Photographs in grey as inputs, to learn colours.

    Args:
        source: a data folder with photographs.
        out: the data folder to write.
    """
    from photogram.data.inputs import prepare_grey

    return _say(prepare_grey(source, out=out))


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


FORMS: dict[str, Callable[..., int]] = {
    "cityscapes": cityscapes,
    "camvid": camvid,
    "coco-stuff": coco_stuff,
    "coco-panoptic": coco_panoptic,
    "coco-instances": coco_instances,
    "nyu": nyu,
    "palette": palette,
    "toy": toy,
    "vivid": vivid,
    "coarsen": coarsen,
    "edges": edges,
    "sketches": sketches,
    "pairs": pairs,
    "manifest": manifest,
    "unpaired": unpaired,
    "grey": grey,
}


def run(arguments: Sequence[str]) -> int:
    """`photogram prepare FORM ...`."""
    return flags.choose(FORMS, "form", "photogram prepare", arguments)


def _say(prepared: Prepared) -> int:
    """Tell what a preparer made, on stdout, and what it noticed, on stderr."""
    splits = ", ".join(f"{count.name} {_counts(count)}" for count in prepared.splits)
    classes = f"{len(prepared.classes)} classes; " if prepared.classes else ""
    print(f"{prepared.out}: {splits}; {classes}{prepared.skipped} scenes were there already")
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


def _say_lines(drawn: Drawn) -> None:
    """Tell how much of the drawings is lines, and what was noticed, on stderr."""
    for warning in drawn.warnings:
        print(f"photogram: note: {warning}", file=sys.stderr)
    if drawn.shares:
        least, middle, most = (sorted(drawn.shares)[i] for i in (0, len(drawn.shares) // 2, -1))
        print(f"lines are {middle:.1%} of the pixels of a drawing ({least:.1%} to {most:.1%})")


def _counts(count: PreparedSplit) -> str:
    parts = {"inputs": count.inputs, "layouts": count.layouts}
    asked = [f"{number} {part}" for part, number in parts.items() if number or (part == "layouts" and not count.inputs)]
    return f"{', '.join(asked)} and {count.photos} photographs"


def _say_shift(found: Shift, against: str) -> None:
    """Tell how far the shares of classes are from those of a training set, the largest first."""
    print(
        f"shares of classes against {against}: Jensen-Shannon divergence {found.divergence:.4f} (0 equal, 1 disjoint)"
    )
    for name, (here, there) in sorted(found.shares.items(), key=lambda item: -max(item[1])):
        print(f"  {name:20} {here:7.2%} here, {there:7.2%} there")
    print(f"  {'void':20} {found.void[0]:7.2%} here, {found.void[1]:7.2%} there, of all pixels; the others of the rest")
    for which, where in ((1, "here"), (0, "there")):
        alone = [name for name, shares in found.shares.items() if shares[1 - which] > 0 == shares[which]]
        if alone:
            print(f"  only {where}: {', '.join(alone)}")
    if not any(min(shares) > 0 for shares in found.shares.values()):
        print(
            "photogram: note: no class is on both sides; classes are compared by name, --map renames them",
            file=sys.stderr,
        )
