"""GAN: a painter who starts from noise, and a critic who tells its paintings from photographs.

I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. Courville and Y. Bengio, "Generative
Adversarial Nets", NeurIPS 2014, with the networks of A. Radford, L. Metz and S. Chintala, "Unsupervised Representation
Learning with Deep Convolutional Generative Adversarial Networks" (DCGAN), ICLR 2016. The smallest whole system here,
and the file to read first: the other games are this one, with something asked for and something else to check.

Two players, one value (equation 1 of Goodfellow et al.; D gives a probability, here the sigmoid of a logit):

    min_G max_D V = E_photographs[log D(x)] + E_z[log(1 - D(G(z)))]

The best D for a given G is p_photographs / (p_photographs + p_G), and V is then -log 4 + 2 JSD of the two laws: it is
least, -log 4, where nobody can tell them apart. In practice G climbs log D(G(z)), which does not saturate where D is
sure (section 3). After training G alone is kept. What it cannot do is why the other recipes exist: nothing says what
should appear, and quality falls as resolution grows. Where we differ from the papers:

- No biases, as the specification has it; the norms shift by themselves.
- Other sizes than 64 x 64 by one rule: `levels` steps of twice the size, from a start map of size / 2^levels that the
  first layer makes of z, and to which the discriminator comes down. Both need not be square.
- Besides the paper's game (vanilla) there are lsgan, hinge and wgangp (`photogram.losses`). The penalty of wgangp is on
  each picture by itself and batch norm mixes those of a batch, so there the discriminator has layer norm, as its
  authors advise. They also took five steps of the discriminator to one of the generator; here both take turns.
- The discriminator is shown photographs and paintings in batches of their own, each with its own statistics (DCGAN).
- Photographs of one seed paint by the running averages of training, so that they do not depend on their neighbours.
  Those of an average (`--average`) are its own, measured when it is published (Izmailov et al. 2018, algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Generator, Network, NoOptions, UnaskedGenerator
from photogram.losses import Game, discriminator_loss, generator_loss, gradient_penalty
from photogram.nn.augment import Augmentation, augmented, check_policy
from photogram.nn.norms import BatchNorm, JudgingNorm, Statistics, judging_norm, measure_statistics
from photogram.optim import frozen, init_normal
from photogram.recipe import LearnsFrom, Run, start_from
from photogram.recipes.duel import Duel
from photogram.recipes.fields import check_below_one, check_least, check_positive, check_words
from photogram.scene import Scene, SceneSpec, Size, shape

LEVELS = range(1, 13)
"""How many steps of twice the size there can be."""
SETTLED_BY = 512
"""From so many z, or a batch more, the running statistics of an averaged generator are measured."""
LEAST_TRUNCATION, MOST_TRUNCATION = 0.1, 10.0


def interpolate(z0: Float[Tensor, " d"], z1: Float[Tensor, " d"], steps: int) -> Float[Tensor, "steps d"]:
    """From one z to another along the great circle through both, their lengths along a line.

    Nearly all z of a normal law have a length near sqrt(d). A straight line between two of them passes through lengths
    that the generator has never met; a great circle does not.

    Args:
        z0: where it begins.
        z1: where it ends. If it lies straight opposite, the circle is the one through the axis that is farthest off.
        steps: how many z, both ends included.

    Raises:
        UserError: for fewer than 2 steps, or a z of length 0, which has no direction.

    Source: T. White, "Sampling Generative Networks", 2016, section 2.1, which leaves lengths to the formula.
    """
    if steps < 2:
        raise UserError(f"steps {steps}: must be 2 or more, since both ends count")
    a, b = z0.double(), z1.double()
    lengths = torch.stack([a.norm(), b.norm()])
    if not lengths.all():
        raise UserError("z is 0, which has no direction to go from or to")
    a, b = a / lengths[0], b / lengths[1]
    angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())  # exact near 0 and pi too, where acos(a . b) is not
    across = b - (a @ b) * a
    if across.norm() < 1e-7:  # the same direction, of which any will do, or the opposite one
        axis = F.one_hot(a.abs().argmin(), len(a)).to(a)
        across = axis - (a @ axis) * a
    across = across / across.norm()
    share = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    way = (share * angle).cos() * a + (share * angle).sin() * across
    between = way * torch.lerp(lengths[0], lengths[1], share)
    return torch.cat([z0[None], between[1:-1].to(z0.dtype), z1[None]])


@dataclass(frozen=True)
class DCGANOptions(NoOptions):
    """What can be chosen when a GAN paints."""

    truncation: float = 0.0
    """Draw anew the numbers of z that are farther than this from 0: more typical photographs, of less variety (Brock et
    al. 2019, the truncation trick). 0: never."""

    def check(self, network: Generator) -> None:
        if self.truncation and not LEAST_TRUNCATION <= self.truncation <= MOST_TRUNCATION:  # nor nan
            raise unfit("truncation", self.truncation, f"must be 0, or {LEAST_TRUNCATION:g} to {MOST_TRUNCATION:g}")


class DCGANGenerator(UnaskedGenerator):
    """Paint from z: a transposed convolution makes a start map of it, others double that up to a photograph.

    Batch norm and ReLU after each but the last, which ends in tanh. 3,576,704 parameters at 64 x 64.

    Args:
        spec: what the photographs share; their size decides that of the start map.
        z_size: how many numbers z has, drawn from N(0, 1).
        width: features before the last step; they double towards the start, up to eightfold.
        levels: steps of twice the size; the start map is of size / 2^levels.
    """

    Options: ClassVar[type[NoOptions]] = DCGANOptions

    def __init__(self, *, spec: SceneSpec, z_size: int, width: int, levels: int):
        super().__init__()
        _check_network(z_size, width, levels)
        self.spec, self.z_size, self.width, self.levels = spec, z_size, width, levels
        widths = _widths(width, levels)[::-1]
        self.start = nn.ConvTranspose2d(z_size, widths[0], start_map(spec.size, levels), 1, 0, bias=False)
        pairs = zip(widths, (*widths[1:], spec.photo_channels), strict=True)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(BatchNorm(c) for c in widths)
        init_normal(self)

    @property
    def size_multiple(self) -> int:
        return 2**self.levels

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """As in training: by the statistics of the batch."""
        return self.run(z, "batch")

    def run(self, z: Float[Tensor, "n d"], statistics: Statistics) -> Float[Tensor, "n c h w"]:
        """The pass, by the statistics that the caller chooses."""
        x = self.start(z[:, :, None, None])
        for norm, up in zip(self.norms, self.up, strict=True):
            x = up(F.relu(norm(x, statistics)))
        return torch.tanh(x)

    def draw_latents(self, count: int, noise: torch.Generator, options: object) -> Float[Tensor, "n d"]:
        assert isinstance(options, DCGANOptions)
        z = torch.randn(count, self.z_size, generator=noise, device=noise.device)
        while options.truncation and (far := z.abs() > options.truncation).any():
            z[far] = torch.randn(int(far.sum()), generator=noise, device=noise.device)
        return z

    def paint_latents(self, latents: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        return self.run(latents, "running")

    def between(self, start: Float[Tensor, " d"], end: Float[Tensor, " d"], steps: int) -> Float[Tensor, "steps d"]:
        return interpolate(start, end, steps)


class DCGANDiscriminator(nn.Module):
    """One logit for a whole picture: convolutions of stride 2 halve it down to a start map, which is summed up.

    Leaky ReLU after each but the last; a norm after each but the first and the last, by the statistics of the batch
    that is shown. 2,765,568 parameters at 64 x 64.

    Args:
        channels: of the pictures.
        size: their height and width.
        width: features of the first convolution; they double up to eightfold.
        levels: halvings.
        norm: batch, or layer where pictures must not mix.
    """

    def __init__(self, channels: int, size: Size, width: int, levels: int, norm: JudgingNorm = "batch"):
        super().__init__()
        widths = _widths(width, levels)
        pairs = zip((channels, *widths), widths, strict=False)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(judging_norm(norm, c) for c in widths[1:])
        self.to_logit = nn.Conv2d(widths[-1], 1, start_map(size, levels), 1, 0, bias=False)

    def forward(self, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1"]:
        first, *others = self.down
        x = F.leaky_relu(first(picture), 0.2)
        for norm, down in zip(self.norms, others, strict=True):
            x = F.leaky_relu(norm(down(x)), 0.2)
        return self.to_logit(x).flatten(1)


def start_map(size: Size, levels: int) -> Size:
    """Height and width of the map that a generator starts from: 4 x 4 of 64 x 64 with four levels.

    Raises:
        UserError: where the size is no multiple of 2^levels.
    """
    if min(size) < 1 or any(n % 2**levels for n in size):
        raise UserError(f"--size {size[0]} {size[1]}: with --levels {levels}, both must be multiples of {2**levels}")
    return (size[0] // 2**levels, size[1] // 2**levels)


def _widths(width: int, levels: int) -> tuple[int, ...]:
    return tuple(width * min(2**n, 8) for n in range(levels))


def _check_network(z_size: int, width: int, levels: int) -> None:
    for name, value in (("z_size", z_size), ("width", width)):
        if value < 1:
            raise unfit(name, value, "must be 1 or more")
    if levels not in LEVELS:
        raise unfit("levels", levels, f"must be {LEVELS.start} to {LEVELS.stop - 1}")


@dataclass(frozen=True)
class GAN:
    """GAN (Goodfellow et al. 2014) with DCGAN's networks: photographs from noise, and nobody says of what.

    Its authors showed 128 photographs a step: --batch-size 64 or more, for batch norm.
    """

    networks: ClassVar[tuple[type[Network], ...]] = (DCGANGenerator,)
    learns_from: ClassVar[LearnsFrom] = "photographs"

    z_size: int = 100
    """How many numbers a photograph is painted from, drawn from N(0, 1): the size of z."""
    width: int = 64
    """Features of the generator's last step; they double towards its start, up to eightfold."""
    discriminator_width: int = 64
    """Features of the discriminator's first convolution; they double up to eightfold."""
    levels: int = 4
    """Steps of twice the size in the generator, and of half of it in the discriminator; sizes are multiples of
    2^levels. The start map, size / 2^levels, should be about 4 a side: 3 for 32 x 32, 4 for 64 x 64, 5 for 128 x
    128."""
    game: Game = "vanilla"
    """What generator and discriminator play for."""
    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, in the game wgangp alone."""
    learning_rate: float = 2e-4
    """Adam's step size, for both."""
    beta1: float = 0.5
    """Adam's decay of the first moment; that of the second is 0.999."""
    average: float = 0.0
    """Publish a moving average of the generator's weights, of this half-life in photographs shown, whose photographs
    change less from step to step; 0: publish the weights of the last step."""
    augment: tuple[Augmentation, ...] = ()
    """Augment what the discriminator is shown, paintings too, by some of color, translation and cutout (Zhao et al.
    2020): for data so small, some hundred photographs, that it would learn them by heart."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        _check_network(self.z_size, self.width, self.levels)
        check_words(self, game=Game)
        check_least(self, 1, "discriminator_width")
        check_least(self, 0, "gradient_penalty", "average")
        check_positive(self, "learning_rate")
        check_below_one(self, "beta1")
        check_policy("augment", self.augment)

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2**self.levels

    def start(self, run: Run) -> GANTraining:
        self.check()
        return GANTraining(self, run)


class GANTraining(Duel):
    """The game under way: two networks, two optimizers."""

    def __init__(self, recipe: GAN, run: Run):
        _check_data(recipe, run)
        self.recipe = recipe
        generator = DCGANGenerator(spec=run.spec, z_size=recipe.z_size, width=recipe.width, levels=recipe.levels)
        start_from(run, generator)
        norm = "layer" if recipe.game == "wgangp" else "batch"
        discriminator = DCGANDiscriminator(
            run.spec.photo_channels, run.spec.size, recipe.discriminator_width, recipe.levels, norm
        )
        init_normal(discriminator)
        rate, beta1, average = recipe.learning_rate, recipe.beta1, recipe.average
        super().__init__(run, generator, discriminator, rate, beta1, average, self._settle)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.photo is not None
        recipe, photo, accelerator = self.recipe, scene.photo, self.run.accelerator
        self.zero_gradients()
        z = torch.randn(len(photo), recipe.z_size, device=photo.device)
        with accelerator.autocast():
            fake = self.generator(z)

        # Discriminator: tell photographs from paintings. The generator is not asked: `detach`.
        on_real, on_fake = self.judge(photo), self.judge(fake.detach())
        d_loss = total = discriminator_loss(recipe.game, on_real, on_fake)
        losses = {"discriminator": d_loss, "on_photographs": on_real.mean(), "on_paintings": on_fake.mean()}
        if recipe.game == "wgangp":
            losses["penalty"] = self.penalty(photo, fake)
            total = d_loss + recipe.gradient_penalty * losses["penalty"]
        accelerator.backward(total)
        self.discriminator_adam.step()

        # Generator: be taken for a photograph, by a discriminator that does not learn from it.
        with frozen(self.discriminator):
            loss = generator_loss(recipe.game, self.judge(fake))
        accelerator.backward(loss)
        self.generator_adam.step()
        self.end_step(seen)
        return {"loss": loss, **losses, **self.diagnosed(seen, photo, fake, recipe.game, (on_real, on_fake))}

    def judge(self, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1"]:
        """A logit for each picture, which is shown augmented."""
        shown = augmented(picture, self.recipe.augment, picture.shape[1], None)
        assert isinstance(shown, Tensor)  # nothing was asked for
        return self._logits(shown)

    def penalty(self, photo: Float[Tensor, "n c h w"], fake: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """How far the discriminator is from a slope of 1: its own slope, so that nothing is augmented here."""
        return gradient_penalty(self._logits, photo, fake)

    def _logits(self, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1"]:
        with self.run.accelerator.autocast():
            return self.discriminator(picture)

    def _settle(self, averaged: DCGANGenerator) -> None:
        """Measure the average's own running statistics: those of the generator are of other features.

        The same z each time, so that what is published is a function of the weights.
        """
        noise = torch.Generator(self.run.accelerator.device).manual_seed(0)
        count, shown = -(-SETTLED_BY // self.run.batch_size), (self.run.batch_size, self.recipe.z_size)
        batches = [torch.randn(shown, generator=noise, device=noise.device) for _ in range(count)]
        with self.run.accelerator.autocast():
            measure_statistics(averaged, averaged, batches)

    def facts(self) -> dict[str, str]:
        return {"start map": shape(start_map(self.run.spec.size, self.recipe.levels))}


def _check_data(recipe: GAN, run: Run) -> None:
    """Refuse data that asks for something, and sizes at which batch norm would see one value: it would give 0."""
    if run.spec.num_classes or run.spec.image_channels:
        raise UserError("gan learns from photographs alone; this data has layouts, or images as conditions")
    height, width = start_map(run.spec.size, recipe.levels)
    if height * width * run.batch_size < 2:
        raise UserError(
            f"--batch-size {run.batch_size} --levels {recipe.levels}: {shape(run.spec.size)} starts from one pixel, of "
            "which batch norm makes 0; show more photographs a step, or give fewer levels"
        )
