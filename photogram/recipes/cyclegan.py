"""CycleGAN: two collections of pictures, no pairs, and a painter each way.

J.-Y. Zhu, T. Park, P. Isola and A. A. Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", ICCV 2017.

One network paints pictures of collection A as if they were of B, another the other way round. For each collection a
patch discriminator tells its pictures from painted ones. What is painted there and back must be what it was (the
cycle), so that a painting keeps to what it was painted of. Networks are named by what they do, `a_to_b` and `judges_b`
(which looks at pictures of B); in the authors' code D_A is the one that judges B. Where we differ from the paper:

- The identity term, which the paper has for paintings to photographs alone, is on, as in the authors' PyTorch code;
  `--identity 0` leaves it out, and collections of different channels need that.
- The generators' objective is a sum; each part (a cycle each way, an identity each way) is differentiated by itself, so
  that the features of one part at a time need room. Gradients add up to those of the sum.
- Several processes share one pool of past paintings, drawn from alike, so that a state that one process saves is
  everybody's.
- Photographs come at the size to train at and are enlarged for the jitter; the authors resized the original to 286.
- The learning rate falls by a closed form that never reaches 0 (see `photogram.optim.linear_decay`).
- Moving averages of the generators (`--average`) and augmentation of what the discriminators are shown (`--augment`)
  are not in the paper, and off.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.generator import Generator, Network
from photogram.losses import discriminator_loss, generator_loss
from photogram.nn.augment import Augmentation, augmented, check_policy
from photogram.nn.jitter import jittered
from photogram.nn.patch import STRIDED, PatchDiscriminator, Shown, check_patch
from photogram.nn.resnet import ResNetGenerator, check_resnet, check_resnet_size
from photogram.optim import average_decay, ema, frozen, init_normal, linear_decay, set_learning_rate
from photogram.recipe import LearnsFrom, Run, start_from
from photogram.recipes.duel import OfParts, diagnosed, is_diagnosed
from photogram.recipes.fields import check_below_one, check_least, check_positive, check_words
from photogram.scene import Condition, Scene, SceneSpec

Side = Literal["a", "b"]
"""A collection of pictures; its opposite is `OTHER`."""
OTHER: dict[Side, Side] = {"a": "b", "b": "a"}
Unpenalized = Literal["vanilla", "lsgan", "hinge"]
"""Games that need no gradient penalty, of which there is none here; wgangp without one has no equilibrium."""
Logits = tuple[Tensor, Tensor]
"""What a discriminator made of pictures of its side, and of what it was shown in place of paintings."""


class PicturePool:
    """Past paintings, which a discriminator is shown among new ones, so that it does not forget them.

    Section 4 of the paper, after A. Shrivastava et al., "Learning from Simulated and Unsupervised Images through
    Adversarial Training", CVPR 2017, section 2.3.

    Args:
        size: how many are kept; 0 keeps none, and the new ones are shown.
    """

    def __init__(self, size: int):
        self.size, self.kept = size, list[Tensor]()

    @torch.no_grad()
    def exchanged(self, pictures: Float[Tensor, "n c h w"], draws: torch.Generator) -> Float[Tensor, "n c h w"]:
        """What to show in place of new pictures, one by one.

        Until the pool is full each is kept and shown. From then on each is shown, or, as often as not, takes the place
        of one in the pool, which is shown instead. No gradients pass.

        Args:
            pictures: the new ones.
            draws: decides, on the CPU.
        """
        shown = []
        for picture in pictures:
            if len(self.kept) < self.size:
                self.kept.append(picture.clone())
            elif self.size and torch.rand((), generator=draws) < 0.5:
                place = int(torch.randint(self.size, (), generator=draws))
                picture, self.kept[place] = self.kept[place].to(picture.device), picture.clone()
            shown.append(picture)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, object]:
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = list(state["kept"])


@dataclass(frozen=True)
class CycleGAN:
    """CycleGAN (Zhu et al. 2017): from one collection of pictures to another and back, without pairs."""

    networks: ClassVar[tuple[type[Network], ...]] = (ResNetGenerator,)
    learns_from: ClassVar[LearnsFrom] = "unpaired"

    width: int = 64
    """Features of the generators' first convolution; they double twice."""
    blocks: int = 9
    """Residual blocks of the generators: 9, or 6 for 128 x 128."""
    patch: int = 70
    """Pixels a side that the discriminators judge at once: 1, 16, 34, 70, 142 or 286."""
    discriminator_width: int = 64
    """Features of the discriminators' first convolution."""
    game: Unpenalized = "lsgan"
    """What generators and discriminators play for."""
    lambda_a: float = 10.0
    """Weight of the mean absolute difference of a picture of A from what came of it in B and back."""
    lambda_b: float = 10.0
    """The same of a picture of B in A and back."""
    identity: float = 0.5
    """Share of these weights for leaving pictures as they are that are of the collection already; 0: no such term."""
    pool_size: int = 50
    """Past paintings of each kind that the discriminators are shown among new ones; 0: new ones alone."""
    learning_rate: float = 2e-4
    """Adam's step size at the start, for all networks."""
    beta1: float = 0.5
    """Adam's decay of the first moment; that of the second is 0.999."""
    epochs: int = 100
    """Epochs at the full learning rate."""
    decay_epochs: int = 100
    """Epochs after them over which it falls along a line; 0 never lets it fall."""
    jitter: float = 30 / 256
    """Enlarge pictures by this share and cut a window of their size, each its own; 0 shows them as they are. The paper
    also mirrors (--flip)."""
    checkpointing: bool = False
    """Compute the residual blocks again for their gradients instead of keeping their features."""
    average: float = 0.0
    """Publish moving averages of both generators' weights, of this half-life in photographs shown, whose paintings
    change less from step to step; 0: publish the weights of the last step."""
    augment: tuple[Augmentation, ...] = ()
    """Augment what the discriminators are shown, paintings too, by some of color, translation and cutout (Zhao et al.
    2020): for collections so small, some hundred pictures, that they would learn them by heart."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        check_resnet(self.width, self.blocks)
        check_patch(self.patch, (1 << 20, 1 << 20))
        check_words(self, game=Unpenalized)
        check_least(self, 1, "discriminator_width")
        check_least(self, 0, "lambda_a", "lambda_b", "identity", "pool_size", "epochs", "decay_epochs", "average")
        check_positive(self, "learning_rate")
        check_below_one(self, "beta1", "jitter")
        check_policy("augment", self.augment)

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 4

    def network(self, spec: SceneSpec) -> ResNetGenerator:
        """One generator, untrained."""
        return ResNetGenerator(spec=spec, width=self.width, blocks=self.blocks, norm="instance", dropout=False)

    def start(self, run: Run) -> CycleGANTraining:
        self.check()
        return CycleGANTraining(self, run)


def swapped(spec: SceneSpec) -> SceneSpec:
    """The specification of the way back: what was painted is what is asked for."""
    return replace(
        spec,
        image_channels=spec.photo_channels,
        image_bits=spec.photo_bits,
        photo_channels=spec.image_channels,
        photo_bits=spec.image_bits,
    )


def _check_data(recipe: CycleGAN, spec: SceneSpec) -> None:
    """Refuse data that the recipe cannot be trained on."""
    if spec.num_classes or not spec.image_channels:
        raise UserError("cyclegan learns from two collections of pictures; this data has layouts, or photographs alone")
    check_patch(recipe.patch, spec.size)
    check_resnet_size(spec.size)
    if recipe.identity and spec.image_channels != spec.photo_channels:
        raise UserError(
            f"--identity {recipe.identity}: pictures of A have {spec.image_channels} channels, those of B "
            f"{spec.photo_channels}, and a network that takes the one cannot be shown the other; use --identity 0"
        )


class CycleGANTraining(OfParts):
    """The two games under way: generators that learn by one Adam, discriminators that learn by another, two pools.

    Generators are known by the collection that they take, discriminators and pools by the one that they look at.
    `prepare` replaces the forward of what it is given; networks keep their own, so that what is published paints as it
    does when it is loaded. `averages` are published in place of the generators where the recipe asks for them.
    """

    def __init__(self, recipe: CycleGAN, run: Run):
        _check_data(recipe, run.spec)
        self.recipe, self.run = recipe, run
        a_to_b, b_to_a = recipe.network(run.spec), recipe.network(swapped(run.spec))
        self.published_generators = {"a_to_b": a_to_b, "b_to_a": b_to_a}
        for name, network in self.published_generators.items():
            network.checkpointing = recipe.checkpointing
            start_from(replace(run, start_from=run.start_from and run.start_from / name), network)
        self.averages: dict[str, ResNetGenerator] = {}
        if recipe.average:
            for name, network in self.published_generators.items():
                self.averages[name] = copy.deepcopy(network).requires_grad_(False).to(run.accelerator.device)
        self.shown = run.batch_size * run.accelerator.num_processes  # scenes a step
        self.judging: dict[str, PatchDiscriminator] = {}
        for name, channels in (("judges_a", run.spec.image_channels), ("judges_b", run.spec.photo_channels)):
            judge = PatchDiscriminator(channels, recipe.discriminator_width, recipe.patch, "instance")
            init_normal(judge)
            self.judging[name] = judge
        self.generators, self.generators_adam = self._prepared(a_to_b, b_to_a)
        self.judges, self.judges_adam = self._prepared(*self.judging.values())
        self.pools: dict[Side, PicturePool] = {"a": PicturePool(recipe.pool_size), "b": PicturePool(recipe.pool_size)}

    def _prepared(self, a: nn.Module, b: nn.Module) -> tuple[dict[Side, Any], Any]:
        """The networks of both sides, and the Adam that both learn by."""
        recipe = self.recipe
        parameters = [*a.parameters(), *b.parameters()]
        adam = torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=(recipe.beta1, 0.999), fused=True)
        a, b, adam = self.run.accelerator.prepare(nn.Sequential(a), nn.Sequential(b), adam)
        return {"a": a, "b": b}, adam

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        recipe = self.recipe
        share = linear_decay(seen, self.run.photographs, recipe.epochs, recipe.decay_epochs)
        for adam in (self.generators_adam, self.judges_adam):
            set_learning_rate(adam, recipe.learning_rate * share)
            adam.zero_grad()
        (_, a), b = jittered(scene, recipe.jitter, together=False)
        assert a is not None and b is not None
        losses = dict[str, Tensor]()

        # Generators: be taken for the other collection and lead back to what it was, equation 3; leave alone what is
        # of the collection already, section 5.2. Processes share the sum of the gradients, after its last part.
        with self.gradients_of_its_own():
            if recipe.identity:
                losses |= self.left_alone("a", a) | self.left_alone("b", b)
            fake_b, of_a = self.there_and_back("a", a)
        fake_a, of_b = self.there_and_back("b", b)
        self.generators_adam.step()

        # Discriminators: tell the pictures of a collection from painted ones, new or from the pool. Halved, to slow
        # them down relative to the generators.
        draws = self.draws(seen)
        by_a, logits_a = self.judge("a", a, fake_a, draws)
        by_b, logits_b = self.judge("b", b, fake_b, draws)
        self.judges_adam.step()
        losses |= of_a | of_b | by_a | by_b

        for name, averaged in self.averages.items():
            ema(averaged, self.published_generators[name], average_decay(recipe.average, seen, self.shown))
        looked_at = self.diagnosed(seen, {"a": (a, fake_a, logits_a), "b": (b, fake_b, logits_b)})
        return {"loss": self.objective(losses), **losses, **looked_at}

    def left_alone(self, side: Side, picture: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """Gradients of the identity term: a picture in the hands of the generator that makes pictures of its side."""
        identity = (self.passed(self.generators[OTHER[side]], Condition(image=picture)) - picture).abs().mean()
        self.run.accelerator.backward(self.recipe.identity * self.weight(side) * identity)
        return {f"identity_{side}": identity.detach()}

    def there_and_back(
        self, side: Side, picture: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n c2 h w"], dict[str, Tensor]]:
        """Gradients of the game and the cycle that begin with a picture of one side; and what it was painted as."""
        other = OTHER[side]
        fake = self.passed(self.generators[side], Condition(image=picture))
        with frozen(self.judges[other]):
            adversarial = generator_loss(self.recipe.game, self.judged(other, fake))
        cycle = (self.passed(self.generators[other], Condition(image=fake)) - picture).abs().mean()
        self.run.accelerator.backward(adversarial + self.weight(side) * cycle)
        return fake.detach(), {f"adversarial_{other}": adversarial.detach(), f"cycle_{side}": cycle.detach()}

    def judge(
        self, side: Side, real: Float[Tensor, "n c h w"], fake: Float[Tensor, "n c h w"], draws: torch.Generator
    ) -> tuple[dict[str, Tensor], Logits]:
        """Gradients of a discriminator, shown pictures of its side and what the pool gives for new paintings."""
        accelerator = self.run.accelerator
        everybodys = accelerator.gather(fake)  # so that all processes have the same pool
        assert isinstance(everybodys, Tensor)
        first = accelerator.process_index * len(fake)
        shown = self.pools[side].exchanged(everybodys, draws)[first : first + len(fake)]
        on_real, on_fake = self.judged(side, real), self.judged(side, shown)
        loss = 0.5 * discriminator_loss(self.recipe.game, on_real, on_fake)
        accelerator.backward(loss)
        return {f"judges_{side}": loss.detach()}, (on_real.detach(), on_fake.detach())

    def judged(self, side: Side, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h2 w2"]:
        """Logits of a picture's patches, augmented where the recipe says so; pools keep pictures as they were."""
        return self.passed(self.judges[side], augmented(picture, self.recipe.augment, picture.shape[1], None))

    def diagnosed(self, seen: int, sides: Mapping[Side, tuple[Tensor, Tensor, Logits]]) -> dict[str, Tensor]:
        """What is to be seen of every fifth step, the mean of both sides; called after the last backward pass.

        Args:
            seen: photographs shown before the step, over all processes.
            sides: pictures of each, what was painted as if it were of it, and the logits of both.
        """
        if not is_diagnosed(seen, self.shown):
            return {}
        found = [
            diagnosed(self.painter_of(side), self.judging[f"judges_{side}"], real, fake, self.recipe.game, logits)
            for side, (real, fake, logits) in sides.items()
        ]
        return {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}

    def painter_of(self, side: Side) -> ResNetGenerator:
        """The generator that paints pictures as if they were of this side."""
        return self.published_generators[f"{OTHER[side]}_to_{side}"]

    def passed(self, network: Any, shown: Condition | Shown) -> Tensor:
        """What a network makes of what it is shown, in the precision of the run."""
        with self.run.accelerator.autocast():
            return network(shown)

    @contextmanager
    def gradients_of_its_own(self) -> Iterator[None]:
        """Within, generators' gradients stay with the process; those that follow take them along."""
        no_sync = self.run.accelerator.no_sync
        with no_sync(self.generators["a"]), no_sync(self.generators["b"]):
            yield

    def draws(self, seen: int) -> torch.Generator:
        """What decides for the pools: of the seed and the step alone, so that it is the same in all processes."""
        seed = np.random.SeedSequence([self.run.seed, 3, seen]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(seed >> 1))

    def weight(self, side: Side) -> float:
        """lambda_A or lambda_B."""
        return self.recipe.lambda_a if side == "a" else self.recipe.lambda_b

    def objective(self, losses: dict[str, Tensor]) -> Tensor:
        """The generators' objective, of its parts."""
        total = losses["adversarial_a"] + losses["adversarial_b"]
        for side in OTHER:
            identity = self.recipe.identity * losses[f"identity_{side}"] if self.recipe.identity else 0.0
            total = total + self.weight(side) * (losses[f"cycle_{side}"] + identity)
        return total

    def published(self) -> dict[str, Generator]:
        return {**self.published_generators, **self.averages}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        """What the generator of that name is asked; nothing was photographed of it."""
        return Scene(scene.condition if name == "a_to_b" else Condition(image=scene.photo), None)

    def facts(self) -> dict[str, str]:
        return {
            "a_to_b": "paints pictures of A, which are the data's inputs, as if they were of B, its photographs",
            "b_to_a": "paints pictures of B as if they were of A",
            "convolutions of stride 2 in the discriminators": str(STRIDED[self.recipe.patch]),
        }

    def _parts(self) -> dict[str, Any]:
        adams = {"generators_adam": self.generators_adam, "judges_adam": self.judges_adam}
        pools = {f"pool_{side}": pool for side, pool in self.pools.items()}
        averages = {f"average_{name}": averaged for name, averaged in self.averages.items()}
        return {**self.published_generators, **self.judging, **adams, **pools, **averages}
