"""Runs and folders of images to results: what `photogram evaluate` does.

A run is painted into a folder first, by `synthesize`, so that an interruption loses no painting and everything that was
judged can be looked at. Results are written beside: `OUT/NAME/result.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photogram.collecting import Item
from photogram.data.folder import Folder
from photogram.errors import UserError
from photogram.generator import CONFIG, Generator, Reader
from photogram.images import replacing, write_image
from photogram.metrics.bootstrap import means as resampled_means
from photogram.metrics.bootstrap import percentiles, resampled
from photogram.metrics.cache import kept
from photogram.metrics.diversity import diversity, flicker
from photogram.metrics.evaluate import Judges, Reals, evaluate, look, reals_of
from photogram.metrics.features import Seen, load_extractor
from photogram.metrics.imported import ImportedSegmenter
from photogram.metrics.lpips import load_lpips
from photogram.metrics.pictures import Pictures
from photogram.metrics.protocol import FOLDER, Protocol
from photogram.metrics.result import Measure, Result
from photogram.metrics.table import contact_sheet, page
from photogram.nn.trunks import weights_digest
from photogram.scene import SceneSpec, class_difference, draw, from_pixels
from photogram.synthesis import synthesize

Load = Callable[[Path], Any]
"""Opens a published network; the command line knows which there are."""


@dataclass(frozen=True)
class Asked:
    """What to judge, and how.

    Args:
        subjects: runs, published networks, or folders of images named as the layouts are.
        protocol: how.
        data: the data folder whose split is judged.
        out: where results go.
        load: opens a published network.
        segmenter: a published segmenter or the JSON description of an imported one, in place of the protocol's.
        trunk_file: weights of the protocol's feature network, where they are no embedded ones.
        repeats: so many seeds, from the protocol's on.
        quiet: show no progress.
    """

    subjects: tuple[Path, ...]
    protocol: Protocol
    data: Path
    out: Path
    load: Load
    segmenter: Path | None = None
    trunk_file: Path | None = None
    repeats: int = 1
    quiet: bool = False


@dataclass(frozen=True)
class Judged:
    """Results in the order of the subjects, with where their images are."""

    results: list[Result]
    pictures: list[Pictures]
    reals: Reals


def judge(asked: Asked) -> Judged:
    """Judge every subject, and write `OUT/NAME/result.json` for each.

    Raises:
        UserError: for anything that would make the numbers not what the protocol says.
    """
    if asked.repeats < 1:
        raise UserError(f"--repeats {asked.repeats}: must be 1 or more")
    names = _names(asked.subjects)
    reals = reals_of(asked.data, asked.protocol, asked.quiet)
    judges = _judges(asked, reals.spec)
    known = kept(
        judges.extractor.identity,
        reals.digest,
        lambda: look(reals.photo, len(reals.names), judges.extractor, "reals", asked.quiet),
    )
    results, pictures = [], []
    for subject, name in zip(asked.subjects, names, strict=True):
        result, images = _one(asked, subject, name, reals, judges, known)
        (asked.out / name).mkdir(parents=True, exist_ok=True)
        result.write(asked.out / name / "result.json")
        results.append(result)
        pictures.append(images)
    return Judged(results, pictures, reals)


def _names(subjects: Sequence[Path]) -> list[str]:
    """What to call each: its folder's name, with the one above where that is not enough."""
    short = [path.resolve().name for path in subjects]
    names = [
        name if short.count(name) == 1 else f"{path.resolve().parent.name}-{name}"
        for name, path in zip(short, subjects, strict=True)
    ]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{twice}: two of what is to be judged have this name; rename one")
    return names


def _judges(asked: Asked, spec: SceneSpec) -> Judges:
    protocol = asked.protocol
    extractor = load_extractor(
        protocol.trunk,
        how=protocol.resize,
        precision=protocol.precision,
        file=asked.trunk_file,
    )
    if protocol.trunk_sha256 and extractor.digest != protocol.trunk_sha256:
        raise UserError(
            f"{asked.trunk_file or protocol.trunk}: has hash {extractor.digest[:12]}, but {protocol.name} looks "
            f"through {protocol.trunk_sha256[:12]}"
        )
    segmenter, digest = _segmenter(asked, spec)
    lpips = load_lpips(protocol.lpips)
    return Judges(extractor, lpips, segmenter, digest)


def _segmenter(asked: Asked, spec: SceneSpec) -> tuple[Any, str]:
    """The network that reads photographs, and the hash of its weights."""
    protocol = asked.protocol
    path = asked.segmenter or (FOLDER / protocol.segmenter if protocol.segmenter else None)
    if path is None:
        return None, ""
    if path.suffix == ".json":
        network: Any = ImportedSegmenter(path, spec)
        digest = network.digest
    else:
        network = asked.load(path)
        if not isinstance(network, Reader):
            raise UserError(f"{path}: holds a {type(network).__name__}, which does not read photographs")
        digest = weights_digest(network)
        differs = class_difference(network.spec, spec)
        if differs is not None:
            raise UserError(f"{path}: {differs}; give a segmenter that reads the data's classes")
    if protocol.segmenter_sha256 and digest != protocol.segmenter_sha256:
        raise UserError(
            f"{path}: has hash {digest[:12]}, but {protocol.name} reads with {protocol.segmenter_sha256[:12]}; a "
            "protocol with another segmenter is another protocol, so give it a file of its own"
        )
    return network, digest


def _one(asked: Asked, subject: Path, name: str, reals: Reals, judges: Judges, known: Seen) -> tuple[Result, Pictures]:
    """One subject: painted where it is a network, judged once for each seed, with what several seeds tell."""
    seeds = range(asked.protocol.seed, asked.protocol.seed + asked.repeats)
    paints = (subject / CONFIG).is_file()
    found: list[tuple[Result, list[Pictures]]] = []
    for seed in seeds:
        protocol = replace(asked.protocol, seed=seed)
        sets = _painted(asked, subject, name, protocol) if paints else [Pictures(subject)]
        images = sets[0]
        result = evaluate(images, reals, protocol, judges, name=name, real_features=known, quiet=asked.quiet)
        found.append((result, sets))
    first, sets = found[0]
    first.warnings.extend(_doubts(asked, subject, paints, sets, reals))
    measures = dict(first.measures)
    if len(sets) > 1:
        measures |= _diversity(sets, reals, asked.protocol, judges)
    if asked.protocol.frames:
        measures |= _flicker(sets[0], reals, asked.protocol)
    repeats = {key: [result.measures[key].value for result, _ in found] for key in first.measures if asked.repeats > 1}
    return replace(first, measures=measures, repeats=repeats), sets[0]


def _doubts(asked: Asked, subject: Path, paints: bool, sets: list[Pictures], reals: Reals) -> list[str]:
    doubts = []
    if asked.protocol.samples > 1 and not paints:
        doubts.append(f"{subject} is a folder of images: diversity needs a network that paints")
    if asked.repeats > 1 and not paints:
        doubts.append(f"{subject} is a folder of images: seeds change the subsets and resamples alone")
    strangers = sorted(set(sets[0].names) - set(reals.names))
    if strangers:
        doubts.append(f"{len(strangers)} images of {subject} belong to no layout and were left out ({strangers[0]})")
    return doubts


def _painted(asked: Asked, subject: Path, name: str, protocol: Protocol) -> list[Pictures]:
    """Paint the protocol's layouts with a network, into a folder for each sample."""
    generator = asked.load(subject)
    if not isinstance(generator, Generator):
        raise UserError(f"{subject}: holds a {type(generator).__name__}, which paints nothing")
    folder = Folder(asked.data, protocol.split)
    items = [Item(pair.layout, pair.stem) for pair in folder.pairs[: protocol.count or len(folder)]]
    sets = []
    for sample in range(protocol.samples):
        out = asked.out / name / f"seed-{protocol.seed}" / (f"sample-{sample}" if sample else "painted")
        summary = synthesize(
            generator,
            items,
            out,
            source=subject,
            seed=protocol.seed + 1_000_003 * sample,
            size=protocol.size,
            precision="fp32",
            quiet=asked.quiet,
        )
        if summary.failures:
            raise UserError(f"{subject}: {summary.failures[0]} ({summary.failed} such)")
        sets.append(Pictures(out))
    return sets


def _read(pictures: Pictures, names: list[str], protocol: Protocol) -> Tensor:
    return from_pixels(np.stack([pictures.read(name, protocol.size) for name in names]))


def _diversity(sets: list[Pictures], reals: Reals, protocol: Protocol, judges: Judges) -> dict[str, Measure]:
    values = []
    for name in reals.names:
        values.append(diversity([_read(images, [name], protocol) for images in sets], judges.lpips))
    distances = torch.cat(values)
    weights = resampled(len(distances), protocol.resamples, protocol.seed)
    about = f"mean LPIPS between {len(sets)} paintings of one layout"
    interval = percentiles(resampled_means(distances, weights))
    return {f"diversity[{judges.lpips.name}]": Measure(float(distances.mean()), interval, "higher", about)}


def _flicker(images: Pictures, reals: Reals, protocol: Protocol) -> dict[str, Measure]:
    """Frame by frame, so that a long shot need not fit into memory."""
    ours, theirs = [], []
    for a, b in zip(range(len(reals.names) - 1), range(1, len(reals.names)), strict=True):
        painted = _read(images, [reals.names[a], reals.names[b]], protocol)
        photos = from_pixels(np.stack([reals.photo(a), reals.photo(b)]))
        layouts = torch.from_numpy(np.stack([reals.layout(a), reals.layout(b)])).long()
        change = flicker(painted, photos, layouts)
        ours.append(change.images)
        theirs.append(change.photographs)
    about = "change of a pixel between frames where its class stays, in grey levels"
    return {
        "flicker": Measure(float(torch.cat(ours).nanmean()), None, "lower", about),
        "flicker of photographs": Measure(float(torch.cat(theirs).nanmean()), None, "", about),
    }


def write_page(judged: Judged, out: Path) -> None:
    """`differ.png` and `evaluation.html`: where systems differ most, and everything in one file."""
    reals = judged.reals
    place = {name: n for n, name in enumerate(reals.names)}
    size = judged.results[0].protocol.size
    contact = contact_sheet(
        judged.results,
        lambda name: draw(reals.layout(place[name]), reals.spec),
        [_reader(images, size) for images in judged.pictures],
        lambda name: reals.photo(place[name]),
    )
    write_image(contact, out / "differ.png")
    with replacing(out / "evaluation.html") as file:
        file.write(page(judged.results, contact).encode())


def _reader(images: Pictures, size: tuple[int, int]) -> Callable[[str], np.ndarray]:
    return lambda name: images.read(name, size)
