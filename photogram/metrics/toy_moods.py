"""Which kinds of the toy world a generator paints: has it collapsed to a few of them?

The toy world has four kinds of sky, which decide the light of a whole scene: day, evening, night and clouds. A painting
is of the kind whose photographs have the nearest colours: the mean of the picture and that of its upper quarter. This
rule reads 94 of 100 held-out photographs right at 32 x 48, and 59 of 60 at 64 x 64; what it says of a single painting
is as sure as that, and of a painting like no photograph it is arbitrary. The rule is ours, of no paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.data.toy import Toy
from photogram.data.toy_layout import SUN
from photogram.errors import UserError
from photogram.generator import Network, UnaskedGenerator

MOODS = ("day", "evening", "night", "clouds")
"""The kinds, by the class of their sky."""
LEAST = 1 / 16
"""A kind is shown where this share of the paintings is of it: a quarter of what each of four has if all are alike."""

SEEDS, TOGETHER = 64, 8
"""Seeds that `moods_seen` paints, and how many at once: they should take less memory than a training step."""


class Moods(NamedTuple):
    """What a set of paintings shows of the toy world."""

    covered: float
    """The share of the four kinds that are shown: 1 is all, 1/4 a single one."""
    shares: dict[str, float]
    """Of the paintings, by kind."""


def toy_moods(paintings: Float[Tensor, "n 3 h w"]) -> Moods:
    """Which kinds these paintings are of.

    Args:
        paintings: 64 or more, in [-1, 1]; so many that a kind is not missed by chance. Of a generator that paints what
            is asked, ask for scenes of all kinds.

    Raises:
        UserError: of fewer than 16, among which a kind of which there is one of sixteen cannot be seen.
    """
    if len(paintings) < 16:
        raise UserError(f"{len(paintings)} paintings: give 16 or more, better 64, to tell which kinds are shown")
    counts = torch.bincount(mood_of_photos(paintings), minlength=len(MOODS))
    shares = {name: count / len(paintings) for name, count in zip(MOODS, counts.tolist(), strict=True)}
    return Moods(sum(share >= LEAST for share in shares.values()) / len(MOODS), shares)


def moods_seen(networks: Mapping[str, Network]) -> dict[str, float]:
    """What a training on the toy world logs of its generator: has it collapsed? A `photogram.training.Look`.

    Args:
        networks: as published. Looked at is the first that is asked for nothing: what others paint is decided by what
            they are asked for.

    Returns:
        `modes/covered` and `modes/KIND`, the fields of `Moods`, of the seeds from 0 on; nothing where all are asked.
    """
    for network in networks.values():
        if isinstance(network, UnaskedGenerator):
            latents = torch.stack([network.latent(seed) for seed in range(SEEDS)])
            paintings = torch.cat([network.sample_latents(some).cpu() for some in latents.split(TOGETHER)])
            covered, shares = toy_moods(paintings)
            return {"modes/covered": covered, **{f"modes/{name}": share for name, share in shares.items()}}
    return {}


def mood_of_photos(photos: Float[Tensor, "n 3 h w"]) -> Int[Tensor, " n"]:
    """The kind of each, as its place in `MOODS`."""
    return torch.cdist(_colors(photos.cpu().float()), _centres()).argmin(1)


def mood_asked(classes: Tensor) -> int:
    """The kind that a layout of the toy world asks for: of the sky that covers most of it, and day without any."""
    return int(torch.bincount(classes.flatten().long(), minlength=SUN)[:SUN].argmax())


def _colors(photos: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 6"]:
    upper = photos[:, :, : max(1, photos.shape[2] // 4)]
    return torch.cat([photos.mean((2, 3)), upper.mean((2, 3))], 1)


@cache
def _centres() -> Float[Tensor, "4 6"]:
    """The mean colours of each kind, over 200 photographs of the world of seed 0."""
    toy = Toy("train", size=(32, 48), count=200)
    found: list[list[Tensor]] = [[] for _ in MOODS]
    for index in range(len(toy)):
        condition, photo = toy[index, 0]
        assert condition.layout is not None and photo is not None
        found[mood_asked(condition.layout.classes)].append(_colors(photo))
    return torch.stack([torch.cat(colors).mean(0) for colors in found])
