"""What two networks that play against each other have in common: each learns by its own Adam, both must survive.

And how a game is looked at while it is played, whoever plays it.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from photogram.generator import Generator
from photogram.nn import diagnostics
from photogram.nn.norms import NEW, follow_statistics, running_averages, share_statistics
from photogram.optim import average_decay, ema, load_adam
from photogram.recipe import Run
from photogram.scene import Scene


def is_diagnosed(seen: int, shown: int) -> bool:
    """Whether a step is one of those that are looked at, every fifth.

    Not the others: lengths of gradients take as long as reading all of them, some per cent of a small step.

    Args:
        seen: photographs shown before the step, over all processes.
        shown: photographs of the step, over all processes.
    """
    return (seen // shown + 1) % diagnostics.EVERY == 0


def diagnosed(
    generator: nn.Module,
    discriminator: nn.Module,
    photo: Float[Tensor, "n c h w"],
    fake: Float[Tensor, "n c h w"],
    game: str = "vanilla",
    logits: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """What is to be seen of a game, to be logged after its losses; called after a step's last backward pass.

    Args:
        generator: with the step's gradients.
        discriminator: the same.
        photo: photographs as the discriminator met them, without augmentation.
        fake: paintings, the same.
        game: what is played for.
        logits: of photographs and of paintings, in the discriminator's step; None where nobody judged.
    """
    found = {"gradient/generator": diagnostics.gradient_norm(generator)}
    if logits is not None:
        found["gradient/discriminator"] = diagnostics.gradient_norm(discriminator)
        found = {**diagnostics.accuracy(game, *logits), **found}
    for name, pictures in (("paintings", fake.detach()), ("photographs", photo)):
        found |= diagnostics.of_pictures(name, pictures)
    return found


class OfParts(abc.ABC):
    """A training whose state is that of its parts."""

    @abc.abstractmethod
    def _parts(self) -> dict[str, Any]:
        """Networks, optimizers and whatever else has a state, by the name that it is kept under."""

    def state_dict(self) -> dict[str, object]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            if isinstance(part, torch.optim.Optimizer):
                load_adam(part, state[name])
            else:
                part.load_state_dict(state[name])


class Duel(OfParts):
    """A generator and a discriminator under way.

    `prepare` replaces the forward of what it is given; the generator keeps its own, so that what is published paints as
    it does when it is loaded.

    Args:
        run: the accelerator.
        generator: kept as `published_generator`, and published unless an average of it is; trained as `generator`.
        discriminator: as `judging`; trained as `discriminator`.
        learning_rate: Adam's step size, for both.
        beta1: Adam's decay of the first moment.
        average: half-life, in photographs shown, of a moving average of the generator, which is published in its place;
            0: none.
        settle: fits an average's running statistics to its weights before it is published, where that needs no data;
            without it they follow what it makes of the conditions of training (see `end_step`).
        playing: what calls the generator in a step, where that is not the generator itself.
        beta2: Adam's decay of the second moment.
    """

    def __init__(
        self,
        run: Run,
        generator: Generator,
        discriminator: nn.Module,
        learning_rate: float,
        beta1: float,
        average: float = 0.0,
        settle: Callable[[Any], None] | None = None,
        playing: nn.Module | None = None,
        beta2: float = 0.999,
    ):
        self.run, self.published_generator, self.judging = run, generator, discriminator
        self.shown = run.batch_size * run.accelerator.num_processes  # photographs a step
        self.half_life, self.averaged, self.settle = average, None, settle
        if average:
            self.averaged = copy.deepcopy(generator).requires_grad_(False).to(run.accelerator.device)
        self.generator, self.generator_adam = self._prepared(playing or generator, learning_rate, (beta1, beta2))
        self.discriminator, self.discriminator_adam = self._prepared(discriminator, learning_rate, (beta1, beta2))

    def _prepared(self, network: nn.Module, learning_rate: float, betas: tuple[float, float]) -> tuple[Any, Any]:
        adam = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas, fused=True)
        return self.run.accelerator.prepare(nn.Sequential(network), adam)

    def zero_gradients(self) -> None:
        """Forget the last step's gradients; to be called before features need their room."""
        self.generator_adam.zero_grad()
        self.discriminator_adam.zero_grad()

    def share_statistics(self) -> None:
        """Give all processes the same running averages; to be called after a step's last backward pass."""
        if self.run.accelerator.num_processes > 1:
            share_statistics(self.published_generator, self.run.mean)

    def end_step(self, seen: int, asked: object = None) -> None:
        """Share statistics and move the average; to be called after a step's last change of weights and last draw.

        Running statistics of an average are of its own features: in every fifth step, from the first on, it passes what
        was asked itself. They are means at first, then change as those of training do.

        Args:
            seen: photographs shown before the step, over all processes.
            asked: what the generator was called with; not needed where there is `settle`.
        """
        self.share_statistics()
        if self.averaged is None:
            return
        ema(self.averaged, self.published_generator, average_decay(self.half_life, seen, self.shown))
        looks, apart = divmod(seen // self.shown, diagnostics.EVERY)
        if self.settle is None and not apart and running_averages(self.averaged):
            with self.run.accelerator.autocast():
                follow_statistics(self.averaged, self.averaged, asked, max(NEW, 1 / (looks + 1)))
            if self.run.accelerator.num_processes > 1:
                share_statistics(self.averaged, self.run.mean)

    def diagnosed(
        self,
        seen: int,
        photo: Float[Tensor, "n c h w"],
        fake: Float[Tensor, "n c h w"],
        game: str = "vanilla",
        logits: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """What is to be seen of every fifth step (see `diagnosed` of this file); nothing of the others.

        Args:
            seen: photographs shown before the step, over all processes.
            photo, fake, game, logits: as there.
        """
        if not is_diagnosed(seen, self.shown):
            return {}
        return diagnosed(self.published_generator, self.judging, photo, fake, game, logits)

    def published(self) -> dict[str, Generator]:
        if self.averaged is None:
            return {"generator": self.published_generator}
        if self.settle is None:
            return {"generator": self.averaged}
        settled = copy.deepcopy(self.averaged)  # publishing leaves the state as it is
        self.settle(settled)
        return {"generator": settled}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        return scene

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.published_generator,
            "generator_adam": self.generator_adam,
            "discriminator": self.judging,
            "discriminator_adam": self.discriminator_adam,
            **({} if self.averaged is None else {"averaged": self.averaged}),
        }
