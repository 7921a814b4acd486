"""Objectives that recipes share: the adversarial games, all on logits.

The discriminator says of each picture, or of each patch of one, how likely it is a photograph. What a game asks of it
is the sum of a term for photographs and one for paintings; recipes that halve it, as pix2pix does, say so themselves.
Sources: vanilla with the non-saturating loss, Goodfellow et al. 2014; lsgan, Mao et al. 2017; hinge, Lim and Ye 2017;
wgangp, Gulrajani et al. 2017, which needs `gradient_penalty` besides. Where several discriminators judge a picture,
each at its own scale, games are summed over them, and their features are compared: pix2pixHD (Wang et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from photogram.nn.perceptual import mean_absolute_difference

Game = Literal["vanilla", "lsgan", "hinge", "wgangp"]
"""What the two sides play for."""
Judgements = Sequence[Sequence[Tensor]]
"""Of each discriminator its intermediate features, and its logits as the last (`photogram.nn.multiscale`)."""


def discriminator_loss(game: Game, on_real: Float[Tensor, "*r"], on_fake: Float[Tensor, "*f"]) -> Float[Tensor, ""]:
    """Tell photographs from paintings. Of wgangp without its penalty.

    Args:
        game: what is played for.
        on_real: logits of photographs.
        on_fake: logits of paintings.
    """
    real, fake = on_real.float(), on_fake.float()
    match game:
        case "vanilla":  # -log sigmoid(real) - log(1 - sigmoid(fake))
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        case "lsgan":
            return (real - 1).square().mean() + fake.square().mean()
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "wgangp":  # what is learned is the distance between the two: logits have no zero of their own
            return fake.mean() - real.mean()
        case _:
            assert_never(game)


def generator_loss(game: Game, on_fake: Float[Tensor, "*f"]) -> Float[Tensor, ""]:
    """Have paintings taken for photographs.

    Args:
        game: what is played for.
        on_fake: logits of paintings.
    """
    fake = on_fake.float()
    match game:
        case "vanilla":  # -log sigmoid(fake): it does not saturate where the discriminator is sure
            return F.softplus(-fake).mean()
        case "lsgan":
            return (fake - 1).square().mean()
        case "hinge" | "wgangp":
            return -fake.mean()
        case _:
            assert_never(game)


def discriminator_loss_of_scales(game: Game, on_real: Judgements, on_fake: Judgements) -> Float[Tensor, ""]:
    """Tell photographs from paintings: the sum of `discriminator_loss` over discriminators.

    Args:
        game: what is played for.
        on_real: what they say of photographs.
        on_fake: what they say of paintings.
    """
    terms = [discriminator_loss(game, real[-1], fake[-1]) for real, fake in zip(on_real, on_fake, strict=True)]
    return torch.stack(terms).sum()


def generator_loss_of_scales(game: Game, on_fake: Judgements, finest: float = 1.0) -> Float[Tensor, ""]:
    """Have paintings taken for photographs: the sum of `generator_loss` over discriminators.

    Args:
        game: what is played for.
        on_fake: what they say of paintings, the finest first.
        finest: weight of the finest one's term.
    """
    first, *others = [generator_loss(game, fake[-1]) for fake in on_fake]
    return torch.stack([finest * first, *others]).sum()


def feature_matching(on_real: Judgements, on_fake: Judgements) -> Float[Tensor, ""]:
    """Have discriminators see in a painting what they see in its photograph: their features apart, as a mean.

    A discriminator with m intermediate features weighs each 4 / m, so that all weigh alike however deep they are, and
    the published ones, of four, weigh 1. Means are taken in float32; gradients go to the painting alone.

    Args:
        on_real: what they say of photographs.
        on_fake: what they say of paintings, at the same places.

    Returns:
        A scalar in feature units, the mean over discriminators; 4 c where all features differ by c.

    Source: T.-C. Wang et al., CVPR 2018, equation 4, with the weights of the authors' code (specification 4.5), and
    without its lambda of 10.
    """
    terms = []
    for real, fake in zip(on_real, on_fake, strict=True):
        pairs = list(zip(fake[:-1], real[:-1], strict=True))  # the last are logits
        terms += [4 / len(pairs) * mean_absolute_difference(a, b.detach()) for a, b in pairs]
    return torch.stack(terms).sum() / len(on_fake)


def gradient_penalty(
    judge: Callable[[Tensor], Tensor], photo: Float[Tensor, "n c h w"], painting: Float[Tensor, "n c h w"]
) -> Float[Tensor, ""]:
    """Ask that a discriminator be as steep as 1 between photographs and paintings: E[(|grad D(x)| - 1)^2].

    Each x lies somewhere on the line between a photograph and a painting, drawn by torch's own generator. The penalty
    is on each picture by itself, so the discriminator must not mix those of a batch: no batch norm. Its gradient is one
    of a gradient; what the discriminator is made of must have one.

    Args:
        judge: logits of pictures [n, c, h, w]; of patches, D is their mean, as in `discriminator_loss`.
        photo: photographs, in [-1, 1].
        painting: one for each; no gradient reaches it.

    Returns:
        A scalar, the mean over the batch; 1 for a discriminator that looks at nothing.

    Source: I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin and A. Courville, "Improved Training of Wasserstein GANs",
    NeurIPS 2017, equation 3, without its weight of 10.
    """
    share = torch.rand(len(photo), 1, 1, 1, device=photo.device)
    x = (share * photo.detach() + (1 - share) * painting.detach().float()).requires_grad_()
    logits = judge(x).float()
    (slope,) = torch.autograd.grad(logits.flatten(1).mean(1).sum(), x, create_graph=True)
    penalty = (torch.linalg.vector_norm(slope, dim=(1, 2, 3)) - 1).square().mean()
    # Nothing that is added to logits, a last bias say, has a part in slopes. Several processes average only gradients
    # that this pass makes, and say nothing where one is missing.
    return penalty + 0 * logits.sum()
