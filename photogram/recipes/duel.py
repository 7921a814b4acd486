"""What two networks that play against each other have in common: each learns by its own Adam, both must survive."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from photogram.generator import Generator
from photogram.nn.norms import share_statistics
from photogram.recipe import Run


class Duel:
    """A generator and a discriminator under way.

    `prepare` replaces the forward of what it is given; the generator keeps its own, so that what is published paints as
    it does when it is loaded.

    Args:
        run: the accelerator.
        generator: what is published, as `published_generator`; trained as `generator`.
        discriminator: as `judging`; trained as `discriminator`.
        learning_rate: Adam's step size, for both.
        beta1: Adam's decay of the first moment; that of the second is 0.999.
    """

    def __init__(self, run: Run, generator: Generator, discriminator: nn.Module, learning_rate: float, beta1: float):
        self.run, self.published_generator, self.judging = run, generator, discriminator
        self.generator, self.generator_adam = self._prepared(generator, learning_rate, beta1)
        self.discriminator, self.discriminator_adam = self._prepared(discriminator, learning_rate, beta1)

    def _prepared(self, network: nn.Module, learning_rate: float, beta1: float) -> tuple[Any, Any]:
        adam = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(beta1, 0.999), fused=True)
        return self.run.accelerator.prepare(nn.Sequential(network), adam)

    def zero_gradients(self) -> None:
        """Forget the last step's gradients; to be called before features need their room."""
        self.generator_adam.zero_grad()
        self.discriminator_adam.zero_grad()

    def share_statistics(self) -> None:
        """Give all processes the same running averages; to be called after a step's last backward pass."""
        if self.run.accelerator.num_processes > 1:
            share_statistics(self.published_generator, self.run.mean)

    def published(self) -> dict[str, Generator]:
        return {"generator": self.published_generator}

    def state_dict(self) -> dict[str, object]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.published_generator,
            "generator_adam": self.generator_adam,
            "discriminator": self.judging,
            "discriminator_adam": self.discriminator_adam,
        }
