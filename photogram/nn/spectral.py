"""Spectral norm: weights divided by their largest singular value, so that a discriminator is only so steep.

T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, "Spectral Normalization for Generative Adversarial Networks", ICLR
2018, algorithm 1. The value is estimated by one power iteration a pass, from vectors u and v that stay (buffers, and so
a part of every saved state). What moves them is decided here and not by `train()` alone: an iteration is made once in
each pass in which the weights learn, and never in frozen or evaluating ones. So a generator's step leaves the
discriminator as it was, whatever was shown, and a resumed training goes on from the same vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


def normalise_spectrally(network: nn.Module) -> None:
    """Give all convolutions of a network spectral norm; to be called after their first weights are set.

    Passes then belong into `normalised`. It draws u and v from torch's generator.
    """
    for conv in [one for one in network.modules() if isinstance(one, nn.Conv2d)]:
        spectral_norm(conv)


@contextmanager
def normalised(network: nn.Module) -> Iterator[None]:
    """A pass of a network that may have spectral norm: its weights are divided once, in their own precision.

    Args:
        network: any; without spectral norm nothing happens.
    """
    convs = [one for one in network.modules() if parametrize.is_parametrized(one, "weight")]
    if not convs:
        yield
        return
    with parametrize.cached():
        # Autocast would make the products that estimate the largest singular value in bfloat16.
        with torch.autocast(next(network.parameters()).device.type, enabled=False):
            for conv in convs:
                weight: Any = conv.get_submodule("parametrizations.weight")
                learns = weight.original.requires_grad and torch.is_grad_enabled()
                weight[0].train(conv.training and learns)
                _ = conv.weight  # computed here, found in the cache from now on
        yield
