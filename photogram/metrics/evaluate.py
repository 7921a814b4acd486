"""Judge a folder of images by a protocol. It knows no recipe: a run is painted into a folder first."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Protocol as Typed
from typing import runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from photogram.metrics import fidelity
from photogram.metrics.bootstrap import resampled
from photogram.metrics.consistency import confusion, tally
from photogram.metrics.diversity import Flicker, diversity, flicker
from photogram.metrics.features import Extractor, Seen
from photogram.metrics.lpips import LPIPS
from photogram.metrics.measures import (
    PerClass,
    consistency_measures,
    diversity_measure,
    flicker_measures,
    pair_measures,
    set_measures,
)
from photogram.metrics.pictures import Pictures
from photogram.metrics.protocol import Protocol
from photogram.metrics.reals import Reals
from photogram.metrics.result import Result
from photogram.progress import progress
from photogram.scene import SceneSpec, from_pixels, shape

BATCH = 8


@runtime_checkable
class ReadsPhotographs(Typed):
    """A segmenter, ours or imported."""

    spec: SceneSpec

    def predict(self, photo: Tensor) -> Tensor:
        """Photographs in [-1, 1] to classes [n, h, w]."""
        ...


@dataclass(frozen=True)
class Judges:
    """The networks that measures look through.

    Args:
        extractor: of the set measures.
        lpips: of the perceptual distance.
        segmenter: reads photographs; None leaves segmentation consistency out.
        segmenter_digest: hash of its weights.
    """

    extractor: Extractor
    lpips: LPIPS
    segmenter: ReadsPhotographs | None = None
    segmenter_digest: str = ""


def look(images: Callable[[int], np.ndarray], count: int, extractor: Extractor, what: str, quiet: bool) -> Seen:
    """Features of images, batch by batch; all of them are kept, a row of floats for each image."""
    rows, logits = [], []
    with progress(what, count, 0, quiet) as advance:
        for batch in _batches(count):
            pixels = torch.from_numpy(np.stack([images(n) for n in batch])).movedim(-1, 1)
            seen = extractor(pixels)
            rows.append(seen.features)
            if seen.logits is not None:
                logits.append(seen.logits)
            for _ in batch:
                advance("")
    return Seen(torch.cat(rows), torch.cat(logits) if logits else None)


def _batches(count: int) -> Iterator[range]:
    return (range(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen in the images of a system: all that its numbers come from.

    Args:
        digest: hash of the images.
        seen: their features.
        pairs: scores of each image against its photograph, by measure; none where there are no pairs.
        tallies: what a segmenter read, by side; see `measures.consistency_measures`.
        distances: of each layout, how much its paintings differ; None where there is one painting of it.
        samples: paintings of each layout.
        change: between frames; None where the images are no frames.
    """

    digest: str
    seen: Seen
    pairs: dict[str, Tensor]
    tallies: dict[str, Int[Tensor, "n 3 k"]]
    distances: Tensor | None
    samples: int
    change: Flicker | None


def look_at(samples: Sequence[Pictures], reals: Reals, protocol: Protocol, judges: Judges, quiet: bool) -> Looked:
    """Look at what a system painted; nothing here depends on the protocol's seed.

    Args:
        samples: folders with an image for each layout, by their layouts' names. The first is judged, the others say
            how much the paintings of one layout differ.
        reals: what they are judged against.
        protocol: how.
        judges: the networks to look through.
        quiet: show no progress.

    Raises:
        UserError: where images are missing, unreadable or of another size.
    """
    for pictures in samples:
        pictures.require(reals.names)
    images = functools.partial(_image, samples[0], reals, protocol)
    seen = look(images, len(reals.names), judges.extractor, "looking at images", quiet)
    pairs, tallies = _pairs(images, reals, protocol, judges, quiet) if reals.paired else ({}, {})
    return Looked(
        digest=samples[0].digest(reals.names),
        seen=seen,
        pairs=pairs,
        tallies=tallies,
        distances=_distances(samples, reals, protocol, judges) if len(samples) > 1 else None,
        samples=len(samples),
        change=_change(images, reals) if protocol.frames else None,
    )


def _image(pictures: Pictures, reals: Reals, protocol: Protocol, n: int) -> np.ndarray:
    return pictures.read(reals.names[n], protocol.size)


def _distances(samples: Sequence[Pictures], reals: Reals, protocol: Protocol, judges: Judges) -> Tensor:
    found = []
    for n in range(len(reals.names)):
        paintings = [from_pixels(_image(pictures, reals, protocol, n)[None]) for pictures in samples]
        found.append(diversity(paintings, judges.lpips))
    return torch.cat(found)


def _change(images: Callable[[int], np.ndarray], reals: Reals) -> Flicker:
    """Frame by frame, so that a long shot need not fit into memory."""
    ours, theirs = [], []
    for both in pairwise(range(len(reals.names))):
        painted, photos = (from_pixels(np.stack([source(n) for n in both])) for source in (images, reals.photo))
        layouts = torch.from_numpy(np.stack([reals.layout(n) for n in both])).long()
        change = flicker(painted, photos, layouts)
        ours.append(change.images)
        theirs.append(change.photographs)
    return Flicker(torch.cat(ours), torch.cat(theirs))


def measured(looked: Looked, known: Seen, reals: Reals, protocol: Protocol, judges: Judges, name: str) -> Result:
    """What was seen as numbers, by the protocol's seed: that of subsets and resamples.

    Args:
        looked: at the images.
        known: features of the photographs.
        reals: what the images are judged against.
        protocol: how.
        judges: the networks that looked.
        name: what to call what is judged.
    """
    weights = resampled(len(reals.names), protocol.resamples, protocol.seed)
    warnings = _doubts(looked, protocol) if reals.paired else [_NO_PAIRS]
    measures = set_measures(looked.seen, known, judges.extractor, protocol, weights, warnings)
    measures |= pair_measures(looked.pairs, weights)
    per_class: PerClass = {}
    per_image = dict(looked.pairs)
    if looked.tallies and all(counts.sum() for counts in looked.tallies.values()):
        classes = [c.name for c in reals.spec.classes]
        found, per_class, scores = consistency_measures(looked.tallies, classes, weights)
        measures |= found
        per_image |= scores
    if looked.distances is not None:
        title = f"diversity[{judges.lpips.name}]"
        measures[title] = diversity_measure(looked.distances, looked.samples, weights)
    if looked.change is not None:
        measures |= flicker_measures(looked.change, protocol)
    return Result(
        subject={"name": name, "sha256": looked.digest, "images": len(reals.names)},
        protocol=protocol,
        provenance=provenance(reals, judges),
        measures=measures,
        per_class=per_class,
        per_image={key: values.tolist() for key, values in per_image.items()},
        names=reals.names,
        warnings=warnings,
    )


_NO_PAIRS = (
    "nobody paired these photographs with what is painted from: they are compared as sets alone, and nothing here says "
    "whether a painting shows what it was asked for"
)


def _doubts(looked: Looked, protocol: Protocol) -> list[str]:
    """What a reader must know of the pairs and the readings before the numbers mean anything."""
    doubts, count = [], len(looked.pairs["PSNR"])
    equal = int(looked.pairs["PSNR"].isinf().sum())
    if equal == count:
        doubts.append("the images are the photographs that they are judged against: nothing here was generated")
    elif equal:
        doubts.append(
            f"{equal} of {count} images are the photographs that they are judged against; PSNR leaves them out"
        )
    for name, side in (("SSIM", fidelity.WINDOW), ("MS-SSIM", fidelity.MULTI_SCALE_SIDE + 1)):
        if name not in looked.pairs:
            doubts.append(f"no {name}: it needs {side} pixels a side or more, and images are {shape(protocol.size)}")
    if not all(counts.sum() for counts in looked.tallies.values()):
        doubts.append("no segmentation consistency: no pixel of the layouts counts, all of them are void or ignored")
    return doubts


def evaluate(
    pictures: Pictures,
    reals: Reals,
    protocol: Protocol,
    judges: Judges,
    *,
    name: str,
    real_features: Seen | None = None,
    quiet: bool = False,
) -> Result:
    """Judge a folder of images, one for each layout, by their layouts' names: `look_at`, then `measured`.

    Args:
        pictures: what is judged.
        reals: what it is judged against.
        protocol: how.
        judges: the networks to look through.
        name: what to call what is judged.
        real_features: of `reals`, where they are known.
        quiet: show no progress.

    Raises:
        UserError: where images are missing, unreadable or of another size.
    """
    looked = look_at([pictures], reals, protocol, judges, quiet)
    known = real_features or look(reals.photo, len(reals.names), judges.extractor, "reals", quiet)
    return measured(looked, known, reals, protocol, judges, name)


def provenance(reals: Reals, judges: Judges) -> dict[str, object]:
    """What the numbers depend on, as JSON."""
    return {
        "scenes": reals.scenes_digest,
        "reals": reals.digest,
        "trunk": judges.extractor.identity,
        "lpips": {"net": judges.lpips.name, "sha256": judges.lpips.digest},
        "segmenter": judges.segmenter_digest,
        "versions": {
            "photogram": version("photogram"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _pairs(
    images: Callable[[int], np.ndarray], reals: Reals, protocol: Protocol, judges: Judges, quiet: bool
) -> tuple[dict[str, Tensor], dict[str, Int[Tensor, "n 3 k"]]]:
    """Scores of each image against its photograph, and what is read in each image and in each photograph."""
    columns: dict[str, list[Tensor]] = {}
    tallies: dict[str, list[Tensor]] = {}
    reader = None if judges.segmenter is None else _Reading(judges.segmenter, reals, protocol)
    with progress("comparing", len(reals.names), 0, quiet) as advance:
        for batch in _batches(len(reals.names)):
            image, photo = (from_pixels(np.stack([source(n) for n in batch])) for source in (images, reals.photo))
            for name, values in _compared(image, photo, judges).items():
                columns.setdefault(name, []).append(values)
            for side, counts in reader.tallies(batch, image, photo).items() if reader is not None else ():
                tallies.setdefault(side, []).append(counts)
            for _ in batch:
                advance("")
    pairs = {name: torch.cat(values).double() for name, values in columns.items()}
    return pairs, {side: torch.cat(counts) for side, counts in tallies.items()}


def _compared(image: Tensor, photo: Tensor, judges: Judges) -> dict[str, Tensor]:
    a, b = (image.double() + 1) / 2, (photo.double() + 1) / 2
    found = {f"LPIPS[{judges.lpips.name}]": judges.lpips(image, photo), "PSNR": fidelity.psnr(a, b)}
    if min(image.shape[-2:]) >= fidelity.WINDOW:
        found["SSIM"] = fidelity.ssim(a, b)
    if min(image.shape[-2:]) > fidelity.MULTI_SCALE_SIDE:
        found["MS-SSIM"] = fidelity.ms_ssim(a, b)
    return found


class _Reading:
    """What the segmenter finds where a layout asked for something, class by class."""

    def __init__(self, segmenter: ReadsPhotographs, reals: Reals, protocol: Protocol):
        self.segmenter, self.reals = segmenter, reals
        ignored = {n for n, c in enumerate(reals.spec.classes) if c.void or c.name in protocol.ignored}
        self.ignored = tuple(sorted(ignored))

    def tallies(self, batch: range, image: Tensor, photo: Tensor) -> dict[str, Int[Tensor, "n 3 k"]]:
        """Of images and of photographs, against their own layouts and against those of other scenes."""
        count = len(self.reals.names)
        asked, shuffled = (
            torch.from_numpy(np.stack([self.reals.layout((n + by) % count) for n in batch])).long()
            for by in (0, count - count // 2)
        )
        of_images, of_photos = (self.segmenter.predict(shown).cpu() for shown in (image, photo))
        sides = {
            "": (asked, of_images),
            "of photographs": (asked, of_photos),
            "of shuffled layouts": (shuffled, of_images),
            "of photographs, shuffled layouts": (shuffled, of_photos),
        }
        return {side: self._tally(layouts, reading) for side, (layouts, reading) in sides.items()}

    def _tally(self, layouts: Tensor, reading: Tensor) -> Int[Tensor, "n 3 k"]:
        classes = self.reals.spec.num_classes
        pairs = zip(layouts, reading, strict=True)
        return torch.stack([tally(confusion(asked, read, classes, self.ignored)) for asked, read in pairs])
