"""A look at held-out scenes while a training goes on: cheap, and good for choosing between its own steps only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from photogram.generator import Generator, Network, Reader
from photogram.metrics.consistency import Confusion
from photogram.metrics.lpips import LPIPS
from photogram.recipe import Scenes


@dataclass(frozen=True)
class Watched:
    """What was seen of one network."""

    values: dict[str, float]
    score: float
    """The number by which the best step is chosen; more is better, and what is no number is worst."""


class Watch:
    """Judges a network on some scenes, spread evenly over a data set.

    Args:
        scenes: held out, with photographs.
        lpips: how far a painting is from its photograph; less is better.
        count: scenes that are looked at, at most.
    """

    def __init__(self, scenes: Scenes, lpips: LPIPS, count: int = 50):
        self.scenes, self.lpips = scenes, lpips
        count = min(count, len(scenes))
        self.chosen = [len(scenes) * (2 * n + 1) // (2 * count) for n in range(count)]

    def __call__(self, network: Network) -> Watched | None:
        """The mean LPIPS of what a generator paints, or how well a reader reads; None of other networks."""
        if isinstance(network, Reader):
            return self._reading(network)
        return self._painting(network) if isinstance(network, Generator) else None

    def _painting(self, network: Generator) -> Watched:
        found = []
        for index in self.chosen:
            condition, photo = self.scenes[index, 0]
            assert photo is not None
            painting = network.sample(condition, seed=0).cpu()
            with torch.no_grad():
                found.append(self.lpips(_rgb(painting.float()), _rgb(photo)))
        distance = float(torch.cat(found).double().mean())
        return Watched({f"LPIPS[{self.lpips.name}]": distance}, -distance)

    def _reading(self, network: Reader) -> Watched:
        void = network.spec.void
        confusion = Confusion(network.spec.num_classes, () if void is None else (void,))
        for index in self.chosen:
            condition, photo = self.scenes[index, 0]
            assert photo is not None and condition.layout is not None
            confusion.update(condition.layout.classes.long(), network.predict(photo).cpu())
        if not confusion.counts.sum():  # all that is held out is void: nothing can be said
            return Watched({"mean_iou": math.nan, "pixel_accuracy": math.nan}, math.nan)
        scores = confusion.scores()
        return Watched({"mean_iou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy}, scores.mean_iou)


def _rgb(photo: Tensor) -> Tensor:
    """What LPIPS can see of any number of channels [n, c, h, w]: one, or the first three."""
    return photo[:, :1] if photo.shape[1] < 3 else photo[:, :3]
