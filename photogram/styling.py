"""What styles the objects of a data set have: the clusters of `photogram cluster`.

T.-C. Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018, section
3.4: K-means of the encoder's features of each class, over the training set (specification 4.7). Small regions are left
out, whose means say little. A training that goes on publishes its network anew, without clusters; they are then found
again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.errors import UserError, unfit
from photogram.generator import CARD, CONFIG, WEIGHTS
from photogram.images import names_to_disk
from photogram.nn.kmeans import kmeans
from photogram.outputs import writing
from photogram.progress import progress
from photogram.recipe import Scenes
from photogram.scene import SceneSpec, class_difference
from photogram.styled import StyledGenerator
from photogram.synthesis import ready_to_paint

CLUSTERS = 10
"""Of a class, as the authors have them."""
LEAST_AREA = Fraction(1, 64)
"""Of a picture: regions that are not larger are left out."""
MOST = 20_000
"""Regions of a class that are kept in memory; of more, so many are drawn."""
_TITLE = "## Styles"


class Reservoir:
    """At most so many of a stream of vectors, each with the same chance (J. Vitter, 1985, algorithm R).

    Args:
        most: how many are kept, 1 or more.
        seed: equal seeds keep the same of equal streams.
    """

    def __init__(self, most: int, seed: object):
        self.most, self.seen, self.kept = most, 0, list[Tensor]()
        self.draws = np.random.default_rng(seed)  # pyright: ignore[reportArgumentType]

    def add(self, vector: Float[Tensor, " f"]) -> None:
        self.seen += 1
        if len(self.kept) < self.most:
            self.kept.append(vector)
        elif (place := int(self.draws.integers(self.seen))) < self.most:
            self.kept[place] = vector


@dataclass(frozen=True)
class Found:
    """The styles of a data set's regions.

    Args:
        scenes: how many scenes were looked at.
        regions: how many regions of each class there were, large or not.
        kept: those of them that are large enough, or as many of these as are kept.
    """

    scenes: int
    regions: Mapping[int, int]
    kept: Mapping[int, Reservoir]


@dataclass(frozen=True)
class Styles:
    """Clusters of each class, as a `StyledGenerator` holds them.

    Args:
        centres: the commonest first; rows that are not used hold 0.
        counts: how many of the kept regions are in each; 0 where there is no cluster.
    """

    centres: Float[Tensor, "classes clusters channels"]
    counts: Int[Tensor, "classes clusters"]


def check_fit(network: StyledGenerator, spec: SceneSpec, source: str) -> None:
    """Refuse data whose regions the network has no styles for.

    Args:
        network: of a run.
        spec: of the data.
        source: the data's name for messages.

    Raises:
        UserError: for a network without styles, other classes, or objects that nobody marked.
    """
    network.require_styles()
    differs = class_difference(network.spec, spec)
    if differs is not None:
        raise UserError(f"{source}: the network {differs}; give the data that it was trained on")
    if network.style_by == "objects" and not spec.instances:
        raise UserError(f"{source}: lacks instance maps of some scenes (instances/), but objects have the styles here")


def find_styles(
    network: StyledGenerator,
    scenes: Scenes,
    *,
    least_area: Fraction = LEAST_AREA,
    seed: int = 0,
    most: int = MOST,
    quiet: bool = False,
) -> Found:
    """Encode the photographs of a data set, scene by scene, and keep the styles of their larger regions.

    Args:
        network: its encoder looks at the photographs.
        scenes: with layouts and photographs, not mirrored.
        least_area: a region is kept where it is larger than this share of its picture.
        seed: draws which ones are kept of a class with more than `most`.
        most: regions of a class that are kept.
        quiet: show no progress.

    Raises:
        UserError: where a scene cannot be read, or does not fit the network.
    """
    regions: dict[int, int] = {}
    kept: dict[int, Reservoir] = {}
    with ready_to_paint(network.eval(), "fp32"), progress("encoding", len(scenes), quiet=quiet) as advance:
        for label, pixels, whole, style in _styles_of(network, scenes, advance):
            regions[label] = regions.get(label, 0) + 1
            if is_large(pixels, whole, least_area):
                kept.setdefault(label, Reservoir(most, [seed, label])).add(style)
    return Found(len(scenes), regions, kept)


def is_large(pixels: int, whole: int, least_area: Fraction) -> bool:
    """Whether a region is larger than a share of the whole, both in pixels: of 1/64 of 512 x 1024, 8,193 but not 8,192.

    In integers; the authors' `pixels / (whole // 32) > 0.5` where 32 divides the whole.
    """
    return pixels * least_area.denominator > least_area.numerator * whole


def _styles_of(network: StyledGenerator, scenes: Scenes, advance: Any) -> Iterator[tuple[int, int, int, Tensor]]:
    """Class, pixels, the picture's pixels and style of every region."""
    for index in range(len(scenes)):
        scene = scenes[index, 0]
        layout = scene.condition.layout
        assert layout is not None and scene.photo is not None  # as scenes with layouts and photographs are opened
        styles = network.styles_in(scene.photo, layout).float().cpu()
        found = network.regions(layout)
        for label, pixels, style in zip(found.classes.tolist(), found.pixels.tolist(), styles, strict=True):
            yield label, pixels, layout.size[0] * layout.size[1], style.clone()
        advance("")


def cluster_styles(found: Found, classes: int, clusters: int = CLUSTERS, seed: int = 0) -> Styles:
    """Group the styles of each class.

    Args:
        found: from `find_styles`.
        classes: of the network.
        clusters: of a class, where it has so many different styles.
        seed: of the starts.

    Raises:
        UserError: where no region of any class was large enough.
    """
    if not found.kept:
        regions = _count(sum(found.regions.values()), "region")
        raise UserError(f"none of {regions} is large enough to be kept; give a smaller --least-area")
    channels = len(next(iter(found.kept.values())).kept[0])
    centres = torch.zeros(classes, clusters, channels)
    counts = torch.zeros(classes, clusters, dtype=torch.int64)
    for label, reservoir in sorted(found.kept.items()):
        groups = kmeans(torch.stack(reservoir.kept), clusters, seed)
        centres[label, : len(groups.centres)] = groups.centres.float()
        counts[label, : len(groups.weights)] = groups.weights.long()
    return Styles(centres, counts)


def with_styles(network: StyledGenerator, styles: Styles) -> StyledGenerator:
    """The network with these clusters: itself, or built anew where it was built for another number of them."""
    styles = Styles(*(part.to(network.style_centres.device) for part in (styles.centres, styles.counts)))
    if network.style_centres.shape != styles.centres.shape:
        arguments: dict[str, Any] = {name: getattr(network, name) for name in network.arguments()}
        weights = network.state_dict() | {"style_centres": styles.centres, "style_counts": styles.counts}
        with torch.device("meta"):
            network = type(network)(**{**arguments, "clusters": styles.counts.shape[1]})
        network.load_state_dict(weights, assign=True)
        return network.eval()
    network.style_centres.copy_(styles.centres)
    network.style_counts.copy_(styles.counts)
    return network


def report(found: Found, styles: Styles, spec: SceneSpec, least_area: Fraction) -> list[str]:
    """A line for each class: how many clusters of how many regions, or why there are none."""
    lines = []
    for label, one in enumerate(spec.classes):
        there, reservoir = found.regions.get(label, 0), found.kept.get(label)
        if reservoir is not None:
            number = int((styles.counts[label] > 0).sum())
            drawn = f", {len(reservoir.kept)} of them drawn" if reservoir.seen > len(reservoir.kept) else ""
            lines.append(f"{one.name}: {_count(number, 'cluster')} of {_count(reservoir.seen, 'region')}{drawn}")
        elif there:
            lines.append(f"{one.name}: none; no region of {there} is larger than {least_area} of its picture")
        else:
            lines.append(f"{one.name}: none; it does not occur")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def card_with(card: str, lines: list[str]) -> str:
    """A model card that says how styles were made, in a section of its own, in the place of an earlier one."""
    parts = card.rstrip("\n").split("\n## ")
    parts = [part for n, part in enumerate(parts) if not n or f"## {part.splitlines()[0]}" != _TITLE]
    last = next((n for n, part in enumerate(parts) if part.splitlines()[:1] == ["Licence"]), len(parts))
    section = f"{_TITLE.removeprefix('## ')}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"
    return "\n## ".join([*(part.rstrip("\n") + "\n" for part in [*parts[:last], section, *parts[last:]])])


def replace_published(network: StyledGenerator, folder: Path, card: str, weights: os.stat_result) -> None:
    """Publish a network in the place of itself: written whole in a folder beside, then renamed file by file.

    Args:
        network: what is published now.
        folder: where it was loaded from.
        card: the model card.
        weights: what `os.stat` said of its weights' file before it was loaded.

    Raises:
        UserError: where the folder cannot be written, or a training has published meanwhile.
    """
    beside = folder / f".styles.{os.getpid()}.partial"
    try:
        with writing(folder, "nothing was changed"):
            network.save_pretrained(beside, card)
            now = (folder / WEIGHTS).stat()
        if (weights.st_mtime_ns, weights.st_size, weights.st_ino) != (now.st_mtime_ns, now.st_size, now.st_ino):
            raise UserError(f"{folder}: was published anew meanwhile, as a training goes on; cluster again after it")
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    # The three belong together; between them is a moment, not the time that the weights take.
    with writing(folder, f"{beside} holds what could not be renamed"):
        for name in (CONFIG, WEIGHTS, CARD):
            (beside / name).replace(folder / name)
        beside.rmdir()
        names_to_disk(folder)


def area(text: str) -> Fraction:
    """A share of a picture, 1/64 or 0.02, as typed.

    Raises:
        UserError: for anything else, below 0 or of 1 and more.
    """
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share < 1:
        raise unfit("least_area", text, "must be a share of the picture from 0 and below 1, such as 1/64 or 0.02")
    return share
