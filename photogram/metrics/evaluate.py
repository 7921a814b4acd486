"""Judge a folder of images by a protocol. It knows no recipe: a run is painted into a folder first."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol as Typed
from typing import runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from photogram.data.folder import Folder
from photogram.errors import UserError
from photogram.metrics import fidelity
from photogram.metrics.bootstrap import around, means, percentiles, resampled, within
from photogram.metrics.consistency import Consistency, confusion, scored, tally
from photogram.metrics.features import Extractor, Seen
from photogram.metrics.frechet import extrapolated, frechet_of_features
from photogram.metrics.inception_score import inception_score
from photogram.metrics.kernel import discrepancy_error, kernel_distance
from photogram.metrics.lpips import LPIPS
from photogram.metrics.moments import Moments
from photogram.metrics.neighbours import overlap
from photogram.metrics.pictures import Pictures
from photogram.metrics.protocol import Protocol
from photogram.metrics.result import Measure, Result
from photogram.progress import progress
from photogram.scene import SceneSpec, from_pixels, to_pixels

BATCH = 8
FEW = 2048
"""Below so many images the covariance of most trunks is singular, and the Fréchet distance mostly bias."""
FRECHET_DRAWS = 100


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


@dataclass(frozen=True, eq=False)
class Reals:
    """The photographs that images are judged against, in the protocol's order and size."""

    folder: Folder
    names: list[str]
    scenes_digest: str
    digest: str

    @property
    def spec(self) -> SceneSpec:
        return self.folder.spec

    def photo(self, n: int) -> np.ndarray:
        """Pixels, uint8 [h, w, 3]; read from the folder, since all of them may not fit into memory."""
        return self._read(n)[0]

    def layout(self, n: int) -> np.ndarray:
        """Classes [h, w]."""
        return self._read(n)[1]

    @functools.lru_cache(maxsize=2 * BATCH)  # noqa: B019  a handful, and there is one of these in a process
    def _read(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        scene = self.folder[n, 0]
        assert scene.photo is not None and scene.condition.layout is not None
        return to_pixels(scene.photo[0]).numpy(), scene.condition.layout.classes[0].numpy()


def reals_of(data: Path, protocol: Protocol, quiet: bool = False) -> Reals:
    """The photographs and layouts of the protocol's split.

    Raises:
        UserError: where there are fewer than the protocol asks for, or they are other scenes than its own.
    """
    folder = Folder(data, protocol.split, size=protocol.size)
    count = protocol.count or len(folder)
    if len(folder) < count:
        raise UserError(f"{data}: {protocol.split} has {len(folder)} photographs, but {protocol.name} judges {count}")
    found = Reals(folder, [folder.name(n) for n in range(count)], "", "")
    scenes, reals = hashlib.sha256(), hashlib.sha256()
    with progress("reading photographs", count, 0, quiet) as advance:
        for n in range(count):
            scenes.update(found.layout(n).astype("<i4").tobytes())
            reals.update(found.photo(n).tobytes())
            advance(found.names[n])
    if protocol.scenes and scenes.hexdigest() != protocol.scenes:
        raise UserError(
            f"{data}: its {protocol.split} layouts are not those of {protocol.name} (hash {scenes.hexdigest()[:12]}, "
            f"not {protocol.scenes[:12]}); numbers of other scenes do not compare"
        )
    return replace(found, scenes_digest=scenes.hexdigest(), digest=reals.hexdigest())


def look(images: Callable[[int], np.ndarray], count: int, extractor: Extractor, what: str, quiet: bool) -> Seen:
    """Features of images, batch by batch."""
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
    """Judge a folder of images, one for each layout, by their layouts' names.

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
    pictures.require(reals.names)
    judged, warnings = pictures.digest(reals.names), []
    weights = resampled(len(reals.names), protocol.resamples, protocol.seed)

    def images(n: int) -> np.ndarray:
        return pictures.read(reals.names[n], protocol.size)

    if all(np.array_equal(images(n), reals.photo(n)) for n in range(len(reals.names))):
        warnings.append("the images are the photographs that they are judged against: nothing here was generated")
    seen = look(images, len(reals.names), judges.extractor, "looking at images", quiet)
    known = real_features or look(reals.photo, len(reals.names), judges.extractor, "reals", quiet)
    measures = set_measures(seen, known, judges.extractor, protocol, weights, warnings)
    pairs, tallies = _pairs(images, reals, protocol, judges, quiet)
    measures |= pair_measures(pairs, judges, weights)
    per_class: dict[str, dict[str, float | None]] = {}
    if tallies:
        found, per_class, per_image = consistency_measures(tallies, reals, weights)
        measures |= found
        pairs |= per_image
    return Result(
        subject={"name": name, "sha256": judged, "images": len(reals.names)},
        protocol=protocol,
        provenance=provenance(reals, judges),
        measures=measures,
        per_class=per_class,
        per_image={key: values.tolist() for key, values in pairs.items()},
        names=reals.names,
        warnings=warnings,
    )


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


def set_measures(
    seen: Seen, reals: Seen, extractor: Extractor, protocol: Protocol, weights: Tensor, warnings: list[str]
) -> dict[str, Measure]:
    """How near the images as a set are to the photographs as a set."""
    trunk, count = extractor.name, len(seen.features)
    if count < FEW:
        warnings.append(
            f"only {count} images: the Fréchet distance is mostly bias, and compares only with others of {count} "
            "images of these scenes; read the kernel distance and LPIPS"
        )
    fd = "FID" if trunk == "inception" else f"FD[{trunk}]"
    kd = "KID" if trunk == "inception" else f"KD[{trunk}]"
    x, y = seen.features, reals.features
    settings = {"subsets": protocol.kernel_subsets, "subset_size": min(protocol.kernel_size, max(2, count // 2))}
    kernel = kernel_distance(x, y, seed=protocol.seed, **settings)
    bounds = within(kernel.distance, discrepancy_error(x, y))
    found = {kd: Measure(kernel.distance, bounds, "lower", "kernel distance, unbiased"), fd: _frechet(x, y, weights)}
    if count >= 20:
        line = extrapolated(x, Moments.of(y), smallest=max(4, count // 2), seed=protocol.seed)
        bounds = within(line.intercept, line.error)
        about = f"the same for infinitely many images, by a line of R2 {line.r2:.2f}"
        found[f"{fd}-infinity"] = Measure(line.intercept, bounds, "lower", about)
    found |= _overlap(x, y, trunk, protocol, weights, warnings)
    if seen.logits is not None and len(seen.logits) >= 10:
        score = inception_score(seen.logits)
        about = f"confident and varied classes; {score.splits} splits, deviation {score.deviation:.3g}"
        found["IS" if trunk == "inception" else f"IS[{trunk}]"] = Measure(score.score, None, "higher", about)
    return found


def _frechet(x: Tensor, y: Tensor, weights: Tensor) -> Measure:
    value = frechet_of_features(x, y).distance
    draws = FRECHET_DRAWS if len(x) < x.shape[1] else FRECHET_DRAWS // 10  # each takes long where images are many
    values = []
    for often in weights[:draws].long():
        values.append(frechet_of_features(x.repeat_interleave(often, 0), y.repeat_interleave(often, 0)).distance)
    about = "Fréchet distance at this number of images"
    return Measure(value, around(value, torch.tensor(values, dtype=torch.float64)), "lower", about)


def _overlap(
    x: Tensor, y: Tensor, trunk: str, protocol: Protocol, weights: Tensor, warnings: list[str]
) -> dict[str, Measure]:
    if min(len(x), len(y)) <= max(protocol.neighbours, protocol.density_neighbours):
        warnings.append("too few images for precision, recall, density and coverage")
        return {}
    found = overlap(y, x, k=protocol.neighbours, density_k=protocol.density_neighbours)
    columns = {
        "precision": (found.precision, found.generated[:, 0], "images that lie among the photographs"),
        "recall": (found.recall, found.real[:, 0], "photographs that lie among the images"),
        "density": (found.density, found.generated[:, 1], "how densely images lie among photographs; may exceed 1"),
        "coverage": (found.coverage, found.real[:, 1], "photographs that have an image near them"),
    }
    return {
        f"{name}[{trunk}]": Measure(value, percentiles(means(rows, weights)), "higher", about)
        for name, (value, rows, about) in columns.items()
    }


PAIR = {
    "PSNR": ("higher", "decibels, from the photograph of the layout"),
    "SSIM": ("higher", "structural similarity to that photograph"),
    "MS-SSIM": ("higher", "the same over five scales"),
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
        names = [c.name for c in reals.spec.classes]
        for name in protocol.ignored:
            if name not in names:
                raise UserError(f"{protocol.name}: ignores the class {name!r}, but the data has {', '.join(names)}")
        self.ignored = tuple(names.index(name) for name in protocol.ignored)

    def tallies(self, batch: range, image: Tensor, photo: Tensor) -> dict[str, Int[Tensor, "n 3 k"]]:
        """Of images, of the photographs, and of images against layouts of other scenes."""
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
        }
        return {side: self._tally(layouts, reading) for side, (layouts, reading) in sides.items()}

    def _tally(self, layouts: Tensor, reading: Tensor) -> Int[Tensor, "n 3 k"]:
        classes = self.reals.spec.num_classes
        pairs = zip(layouts, reading, strict=True)
        return torch.stack([tally(confusion(asked, read, classes, self.ignored)) for asked, read in pairs])


def pair_measures(pairs: dict[str, Tensor], judges: Judges, weights: Tensor) -> dict[str, Measure]:
    """How near each image is to its photograph; the mean over images."""
    found = {}
    for name, values in pairs.items():
        better, about = PAIR.get(name, ("lower", "perceptual distance from the photograph of the layout"))
        finite = values.isfinite()  # equal images have an infinite PSNR
        value = float(values[finite].mean()) if finite.any() else float("inf")
        interval = percentiles(means(values[finite], weights[:, finite])) if finite.any() else None
        found[name] = Measure(value, interval, better, about)
    return found


CONSISTENCY = {
    "pixel_accuracy": "pixels that are read as they were asked for",
    "class_accuracy": "the same, the mean over classes",
    "mean_iou": "intersection over union, the mean over classes",
    "weighted_iou": "intersection over union, by how much of a class there is",
}


def consistency_measures(
    tallies: dict[str, Int[Tensor, "n 3 k"]], reals: Reals, weights: Tensor
) -> tuple[dict[str, Measure], dict[str, dict[str, float | None]], dict[str, Tensor]]:
    """Scores of the images, beside those of real photographs (what the segmenter can do) and of shuffled layouts
    (what chance does); the scores of each class; and of each image."""
    measures: dict[str, Measure] = {}
    per_class: dict[str, dict[str, float | None]] = {}
    names = [c.name for c in reals.spec.classes]
    for side, counts in tallies.items():
        whole = scored(counts.sum(0))
        flat = weights @ counts.flatten(1).double()
        draws = [scored(row.view(counts.shape[1:])) for row in flat]
        for key, about in CONSISTENCY.items():
            interval = percentiles(torch.tensor([getattr(d, key) for d in draws], dtype=torch.float64))
            label = f"{key} {side}".strip()
            measures[label] = Measure(getattr(whole, key), interval, "" if side else "higher", about)
        per_class[f"IoU {side}".strip()] = dict(zip(names, whole.iou, strict=True))
        per_class[f"accuracy {side}".strip()] = dict(zip(names, whole.accuracy, strict=True))
    each = [_scores_of(c) for c in tallies[""]]
    columns = {key: torch.tensor([getattr(e, key, float("nan")) for e in each]) for key in CONSISTENCY}
    return measures, per_class, {key: values.double() for key, values in columns.items()}


def _scores_of(counts: Tensor) -> Consistency | None:
    return scored(counts) if counts.sum() else None
