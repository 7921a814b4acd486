"""Perceptual path length: how much the image changes along a path through the latent space (Karras et al. 2019).

A latent space in which a small step can bring something in from nowhere has long paths. In W paths are straight, in Z
they are arcs, since Z is a sphere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Generate = Callable[[Tensor], Tensor]
"""Latents [2 n, d] to images [2 n, c, h, w] in [-1, 1], in float32 or better. The first half of a batch are beginnings
of steps, the second half their ends in the same order: whatever else it paints from (noise, a condition) must be equal
in both halves."""
Ends = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""So many pairs of latents, both [n, d], from a generator of random numbers."""
Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of images to a perceptual distance each, [n]."""


@dataclass(frozen=True)
class PathLength:
    """The mean over the pairs that lie between two percentiles."""

    length: float
    pairs: int
    kept: int


def lerp(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Along the straight line from a to b."""
    return a + (b - a) * t[:, None]


def slerp(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], t: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Along the arc from a to b, both brought to length 1; the result has length 1."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    cosine = (a * b).sum(1, keepdim=True)
    aside = F.normalize(b - a * cosine, dim=1)
    angle = cosine.clamp(-1, 1).arccos() * t[:, None]
    return F.normalize(a * angle.cos() + aside * angle.sin(), dim=1)


def cropped_face(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """The middle of an aligned face in a square photograph: rows 3/8 to 7/8, columns 2/8 to 6/8."""
    eighth = images.shape[-2] // 8
    return images[..., 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth]


def shrunk(images: Float[Tensor, "n c h w"], side: int = 256) -> Float[Tensor, "n c h2 w2"]:
    """Averaged over blocks of whole pixels, to fewer than twice `side` rows; images that small stay.

    Of cropped faces, `side=256` gives the numbers of StyleGAN's code in TensorFlow, `side=128` those of
    StyleGAN2-ADA's, which takes the size of the blocks from the image before it was cropped.
    """
    factor = images.shape[-2] // side
    return F.avg_pool2d(images, factor) if factor > 1 else images


def path_length(
    generate: Generate,
    ends: Ends,
    distance: Distance,
    *,
    pairs: int = 50_000,
    batch_size: int = 16,
    arc: bool = False,
    whole: bool = False,
    step: float = 1e-4,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> PathLength:
    """E[d(g(p(t)), g(p(t + step))) / step^2] over random paths p, outliers left out.

    Args:
        generate: the generator; it is called with both ends of each step in one batch.
        ends: gives the ends of paths; it is called once, so that `batch_size` changes no random number.
        distance: LPIPS with VGG-16 in the paper.
        pairs: how many.
        batch_size: pairs at a time.
        arc: follow arcs (for Z), not lines (for W).
        whole: steps anywhere on the path, not only at its beginning.
        step: the length of a step, as a share of the path.
        seed: of the pairs and the places of their steps.
        advance: told how many pairs are done.

    Raises:
        ValueError: for no pairs, or distances that are not finite.
    """
    if pairs < 1 or batch_size < 1:
        raise ValueError(f"{pairs} pairs, {batch_size} at a time: it takes one or more")
    generator = torch.Generator().manual_seed(seed)
    a, b = ends(pairs, generator)
    t = torch.rand(pairs, generator=generator, dtype=a.dtype) if whole else torch.zeros(pairs, dtype=a.dtype)
    between, t, found = (slerp if arc else lerp), t.to(a.device), []
    for start in range(0, pairs, batch_size):
        some = slice(start, min(start + batch_size, pairs))
        steps = [between(a[some], b[some], t[some] + extra) for extra in (0, step)]
        first, second = generate(torch.cat(steps)).chunk(2)
        found.append(distance(first, second).double().cpu() / step**2)
        advance(some.stop)
    return trimmed(torch.cat(found))


def trimmed(lengths: Float[Tensor, " n"]) -> PathLength:
    """The mean of what lies between the first and the last percentile, both rounded outwards and included.

    Raises:
        ValueError: for lengths that are not finite.
    """
    values = lengths.double()
    if not values.isfinite().all():
        raise ValueError("a path's length came out not finite; the images are not usable")
    low = torch.quantile(values, 0.01, interpolation="lower")
    high = torch.quantile(values, 0.99, interpolation="higher")
    kept = values[(values >= low) & (values <= high)]
    return PathLength(float(kept.mean()), len(values), len(kept))
