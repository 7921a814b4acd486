"""What was seen in images to named numbers, each with its interval and its direction. It knows tensors, no files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.metrics.bootstrap import around, means, percentiles, resampled, within
from photogram.metrics.consistency import Consistency, scored
from photogram.metrics.diversity import Flicker
from photogram.metrics.features import Extractor, Seen
from photogram.metrics.frechet import extrapolated, frechet_of_features
from photogram.metrics.inception_score import inception_score, resampled_scores
from photogram.metrics.kernel import discrepancy_error, kernel_distance
from photogram.metrics.moments import Moments
from photogram.metrics.neighbours import overlap
from photogram.metrics.protocol import Protocol
from photogram.metrics.result import Measure

FEW = 2048
"""Below so many images the covariance of most trunks is singular, and the Fréchet distance mostly bias."""
FRECHET_DRAWS = 100

Weights = Float[Tensor, "draws n"]
"""How often each image is in each resample."""


# --- sets ------------------------------------------------------------------------------------------------------------


def is_published(extractor: Extractor) -> bool:
    """Whether numbers through a network are those that papers call FID, KID and IS."""
    return (extractor.name, extractor.how, extractor.precision) == ("inception", "tf1", "fp32")


def in_brackets(extractor: Extractor) -> str:
    """What stands beside a number: the network, and what makes an Inception another than the published measure's."""
    odd = [extractor.how] if extractor.how != "tf1" else []
    odd += [extractor.precision] if extractor.precision != "fp32" else []
    return ",".join([extractor.name, *odd]) if extractor.name.partition(":")[0] == "inception" else extractor.name


def set_measures(
    seen: Seen, reals: Seen, extractor: Extractor, protocol: Protocol, weights: Weights, warnings: list[str]
) -> dict[str, Measure]:
    """How near the images as a set are to the photographs as a set.

    Args:
        seen: features of the images.
        reals: features of the photographs, each of the layout of the image in its place.
        extractor: what they were seen through.
        protocol: how to measure.
        weights: of resamples.
        warnings: get what a reader must know.
    """
    trunk, count = in_brackets(extractor), len(seen.features)
    published = is_published(extractor)
    if count < FEW:
        warnings.append(
            f"only {count} images: the Fréchet distance is mostly bias, and compares only with others of {count} "
            "images of these scenes; read the kernel distance, and LPIPS where there are pairs"
        )
    fd, kd, score = ("FID", "KID", "IS") if published else (f"{kind}[{trunk}]" for kind in ("FD", "KD", "IS"))
    x, y = seen.features, reals.features
    found = {kd: _kernel(x, y, protocol, paired=not published), fd: _frechet(x, y, weights)}
    if count >= 20:
        line = extrapolated(x, Moments.of(y), smallest=max(4, count // 2), seed=protocol.seed)
        bounds = within(line.intercept, line.error)
        about = f"the same for infinitely many images, by a line of R2 {line.r2:.2f}"
        found[f"{fd}-infinity"] = Measure(line.intercept, bounds, "lower", about)
    found |= _overlap(x, y, trunk, protocol, weights, warnings)
    if seen.logits is not None and len(seen.logits) >= 10:
        found[score] = _inception_score(seen.logits, weights)
    return found


def _kernel(x: Tensor, y: Tensor, protocol: Protocol, paired: bool) -> Measure:
    size = min(protocol.kernel_size, max(2, len(x) // 2))
    kernel = kernel_distance(x, y, subsets=protocol.kernel_subsets, subset_size=size, seed=protocol.seed, paired=paired)
    error = math.hypot(discrepancy_error(x, y), kernel.deviation / kernel.subsets**0.5)  # of images, and of subsets
    about = "kernel distance, unbiased" if paired else "kernel distance as published, pairs of one layout included"
    return Measure(kernel.distance, within(kernel.distance, error), "lower", about)


def _frechet(x: Tensor, y: Tensor, weights: Weights) -> Measure:
    value = frechet_of_features(x, y).distance
    draws = FRECHET_DRAWS if len(x) < x.shape[1] else FRECHET_DRAWS // 10  # each takes long where images are many
    values = []
    for often in weights[:draws].long():
        values.append(frechet_of_features(x.repeat_interleave(often, 0), y.repeat_interleave(often, 0)).distance)
    about = "Fréchet distance at this number of images"
    return Measure(value, around(value, torch.tensor(values, dtype=torch.float64)), "lower", about)


def _inception_score(logits: Tensor, weights: Weights) -> Measure:
    score = inception_score(logits)
    about = f"confident and varied classes; {score.splits} splits, deviation {score.deviation:.3g}"
    return Measure(score.score, around(score.score, resampled_scores(logits, weights)), "higher", about)


def _overlap(
    x: Tensor, y: Tensor, trunk: str, protocol: Protocol, weights: Weights, warnings: list[str]
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


# --- pairs -----------------------------------------------------------------------------------------------------------

PAIR = {
    "PSNR": ("higher", "decibels, from the photograph of the layout"),
    "SSIM": ("higher", "structural similarity to that photograph"),
    "MS-SSIM": ("higher", "the same over five scales"),
}


def pair_measures(pairs: dict[str, Tensor], weights: Weights) -> dict[str, Measure]:
    """How near each image is to its photograph; the mean over images."""
    found = {}
    for name, values in pairs.items():
        better, about = PAIR.get(name, ("lower", "perceptual distance from the photograph of the layout"))
        infinite = int(values.isinf().sum())  # the PSNR of an image that equals its photograph
        left_out = f"; {infinite} infinite ones are left out" if 0 < infinite < len(values) else ""
        found[name] = mean_measure(values, weights, better, about + left_out)
    return found


def mean_measure(values: Float[Tensor, " n"], weights: Weights, better: str, about: str) -> Measure:
    """The mean of what each image (or pair of them) has, over those where it is finite; their first value if none."""
    finite = values.isfinite()
    if not finite.any():
        return Measure(float(values[0]), None, better, about)
    counted = values[finite].double()
    deviation = float(counted.std()) if len(counted) > 1 else math.nan
    interval = percentiles(means(counted, weights[:, finite]))
    return Measure(float(counted.mean()), interval, better, about, deviation, float(counted.quantile(0.5)))


def diversity_measure(distances: Float[Tensor, " n"], samples: int, weights: Weights) -> Measure:
    """The mean over layouts of how much their paintings differ."""
    return mean_measure(distances, weights, "higher", f"mean LPIPS between {samples} paintings of one layout")


def flicker_measures(change: Flicker, protocol: Protocol) -> dict[str, Measure]:
    """The mean over pairs of frames, of the images and of the photographs; resamples are of these pairs."""
    weights = resampled(len(change.images), protocol.resamples, protocol.seed)
    about = "change of a pixel between frames where its class stays, in grey levels"
    return {
        "flicker": mean_measure(change.images, weights, "lower", about),
        "flicker of photographs": mean_measure(change.photographs, weights, "", about),
    }


# --- segmentation consistency ----------------------------------------------------------------------------------------

CONSISTENCY = {
    "pixel_accuracy": "pixels that are read as they were asked for",
    "class_accuracy": "the same, the mean over classes",
    "mean_iou": "intersection over union, the mean over classes",
    "weighted_iou": "intersection over union, by how much of a class there is",
}
PerClass = dict[str, dict[str, float | None]]


def consistency_measures(
    tallies: dict[str, Int[Tensor, "n 3 k"]], classes: Sequence[str], weights: Weights
) -> tuple[dict[str, Measure], PerClass, dict[str, Tensor]]:
    """Scores of the images beside those of real photographs (what the segmenter can do) and of shuffled layouts (what
    chance does with either); the scores of each class; and of each image.

    Args:
        tallies: of each image, by side; some pixels must count in each.
        classes: their names.
        weights: of resamples; one in which no pixel counts is left out of the interval.
    """
    measures: dict[str, Measure] = {}
    per_class: PerClass = {}
    for side, counts in tallies.items():
        whole = scored(counts.sum(0))
        drawn = (weights @ counts.flatten(1).double()).unflatten(1, counts.shape[1:])
        draws = [_scores_of(row) for row in drawn]
        for key, about in CONSISTENCY.items():
            label = f"{key} {side}".strip()
            interval = percentiles(_column(draws, key))
            measures[label] = Measure(getattr(whole, key), interval, "" if side else "higher", about)
        per_class[f"IoU {side}".strip()] = dict(zip(classes, whole.iou, strict=True))
        per_class[f"accuracy {side}".strip()] = dict(zip(classes, whole.accuracy, strict=True))
    each = [_scores_of(counts) for counts in tallies[""]]
    return measures, per_class, {key: _column(each, key) for key in CONSISTENCY}


def _column(found: Sequence[Consistency | None], key: str) -> Float[Tensor, " n"]:
    """One score of each; nan where nothing counted."""
    values = [math.nan if scores is None else getattr(scores, key) for scores in found]
    return torch.tensor(values, dtype=torch.float64)


def _scores_of(counts: Tensor) -> Consistency | None:
    return scored(counts) if counts[0].sum() else None
