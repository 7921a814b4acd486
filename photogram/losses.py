"""Objectives that recipes share: the adversarial games, all on logits.

The discriminator says of each picture, or of each patch of one, how likely it is a photograph. What a game asks of it
is the sum of a term for photographs and one for paintings; recipes that halve it, as pix2pix does, say so themselves.
Sources: vanilla with the non-saturating loss, Goodfellow et al. 2014; lsgan, Mao et al. 2017; hinge, Lim and Ye 2017.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Game = Literal["vanilla", "lsgan", "hinge"]
"""What the two sides play for."""


def discriminator_loss(game: Game, on_real: Float[Tensor, "*r"], on_fake: Float[Tensor, "*f"]) -> Float[Tensor, ""]:
    """Tell photographs from paintings.

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
        case "hinge":
            return -fake.mean()
        case _:
            assert_never(game)
