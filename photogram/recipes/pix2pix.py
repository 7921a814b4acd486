"""pix2pix: a painter and a critic who both see what was asked for.

P. Isola, J.-Y. Zhu, T. Zhou and A. A. Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017. It is also the baseline "Isola et al." of the paper on CRN.

A U-Net paints the layout; a patch discriminator, shown the layout with a picture, tells photographs from paintings; the
painting must also be near the photograph (L1). There is no z: the noise is dropout. Where we differ from the paper, and
where its published implementations differ from one another:

- Layouts enter as one plane a class. The authors drew them in colours (`--layout-as colors`).
- Dropout is in the first three upward steps, as in the paper and the authors' Lua code; their PyTorch code has it in
  the further steps of full width, not in the first (`--dropout-at torch`, for their checkpoints).
- Photographs come at the size to train at and are enlarged for the jitter; the authors resized the original to 286.
- The learning rate falls by a closed form that never reaches 0 (see `photogram.optim.linear_decay`).
- Under `--game wgangp`, whose penalty is on each picture by itself, the discriminator has layer norm for batch norm.

Synthesis is what training was, said aloud instead of left to `train()` and `eval()`: dropout is on (the paper's noise;
equal seeds give equal photographs) and batch norm takes the statistics of each painting by itself, as training at the
paper's batch of one did. `NoiseOptions` switches both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Generator, Network, NoOptions
from photogram.losses import Game, discriminator_loss, generator_loss, gradient_penalty
from photogram.nn import asked
from photogram.nn.asked import LayoutAs, Shown
from photogram.nn.augment import Augmentation, augmented, check_policy
from photogram.nn.color import Predict, check_predict, painted, seen_colors, seen_lightness
from photogram.nn.jitter import jittered
from photogram.nn.layout_conv import LayoutLevel
from photogram.nn.noise import NoiseOptions, dropped
from photogram.nn.norms import Norm, Statistics, norm_layer
from photogram.nn.patch import STRIDED, PatchDiscriminator, check_patch
from photogram.nn.resnet import ResNetGenerator, check_resnet, check_resnet_size
from photogram.optim import frozen, init_normal, linear_decay, set_learning_rate
from photogram.recipe import LearnsFrom, Run, start_from
from photogram.recipes.duel import Duel
from photogram.recipes.fields import check_below_one, check_least, check_positive, check_words
from photogram.scene import Condition, Scene, SceneSpec

Painter = Literal["unet", "resnet"]
DropoutAt = Literal["paper", "torch", "none"]

LEVELS = range(2, 17)
"""How deep a U-Net can be: the deepest halves 65536 pixels down to one."""


class UNet(Generator):
    """Paint a layout, an image or both: halve it down to a few pixels, double it back, steps of one size joined.

    4x4 convolutions of stride 2; leaky ReLU on the way down, ReLU on the way up, tanh at the end; no norm in the first,
    the innermost and the last step (specification 2.2).

    Args:
        spec: what the scenes share.
        width: features of the first step; they double up to eightfold.
        levels: steps down, and up; heights and widths are multiples of 2^levels.
        norm: batch or instance.
        dropout_at: the upward steps with dropout: the first three (paper), all further ones of full width (torch), or
            none.
        layout_as: one plane a class, or its colour.
        predict: the photograph, or its colours alone, which join the lightness of a grey image.
    """

    Options: ClassVar[type[NoOptions]] = NoiseOptions

    def __init__(
        self,
        *,
        spec: SceneSpec,
        width: int,
        levels: int,
        norm: Norm,
        dropout_at: DropoutAt,
        layout_as: LayoutAs,
        predict: Predict = "photo",
    ):
        super().__init__()
        _check_unet(width, levels)
        check_predict(predict, spec)
        self.spec, self.width, self.levels = spec, width, levels
        self.norm: Norm = norm
        self.dropout_at: DropoutAt = dropout_at
        self.layout_as: LayoutAs = layout_as
        self.predict: Predict = predict
        down = [width * min(2**n, 8) for n in range(levels)]
        up = [*reversed(down[:-1]), spec.photo_channels if predict == "photo" else 2]
        from_below = [down[-1], *(2 * c for c in reversed(down[:-1]))]  # with the skip of the same size
        bias = norm != "batch"  # it shifts by itself
        channels = zip((asked.channels(spec, layout_as), *down), down, strict=False)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=bias) for a, b in channels)
        self.down_norms = nn.ModuleList(norm_layer(norm, c) for c in down[1:-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias or n == levels - 1)
            for n, (a, b) in enumerate(zip(from_below, up, strict=True))
        )
        self.up_norms = nn.ModuleList(norm_layer(norm, c) for c in up[:-1])
        places = {"paper": range(min(3, levels - 1)), "torch": range(1, max(1, levels - 4)), "none": range(0)}
        self.drops = places[dropout_at]
        init_normal(self)

    @property
    def size_multiple(self) -> int:
        return 2**self.levels

    def forward(self, condition: Condition) -> Float[Tensor, "n c h w"]:
        """As in training: the statistics of the batch, and dropout by torch's own generator."""
        return self.run(condition, "batch", True, None)

    def run(
        self, condition: Condition, statistics: Statistics, dropout: bool, noise: torch.Generator | None
    ) -> Float[Tensor, "n c h w"]:
        """The pass, with every choice made by the caller."""
        first, *others = self.down
        assert isinstance(first, nn.Conv2d)
        x = asked.entered(first, condition, self.spec, self.layout_as)
        skips = [x]
        for n, conv in enumerate(others, start=1):
            x = conv(F.leaky_relu(x, 0.2))
            if n < self.levels - 1:
                x = self.down_norms[n - 1](x, statistics)
            skips.append(x)
        x = skips.pop()
        for n, conv in enumerate(self.up):
            x = conv(F.relu(torch.cat([skips.pop(), x], 1) if n else x))
            if n < self.levels - 1:
                x = self.up_norms[n](x, statistics)
            if dropout and n in self.drops:
                x = dropped(x, noise)
        return torch.tanh(x)

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert isinstance(options, NoiseOptions)  # `sample` has checked it

        def run(asked: Condition) -> Tensor:
            return self.run(asked, options.statistics, options.dropout, noise)

        return run(condition) if self.predict == "photo" else painted(run, condition, self.spec, self.size_multiple)


def _check_unet(width: int, levels: int) -> None:
    if width < 1:
        raise unfit("width", width, "must be 1 or more")
    if levels not in LEVELS:
        raise unfit("levels", levels, f"must be {LEVELS.start} to {LEVELS.stop - 1}")


@dataclass(frozen=True)
class Pix2Pix:
    """pix2pix (Isola et al. 2017): layouts or images to photographs, by a U-Net against a patch discriminator that sees
    both, and L1."""

    networks: ClassVar[tuple[type[Network], ...]] = (UNet, ResNetGenerator)
    learns_from: ClassVar[LearnsFrom] = "any"

    generator: Painter = "unet"
    """Which network paints: the paper's U-Net, or the residual one of CycleGAN, of eight times the arithmetic."""
    width: int = 64
    """Features of the generator's first step; they double up to eightfold in the U-Net, fourfold in the other."""
    levels: int = 8
    """Halvings of the U-Net; sizes are multiples of 2^levels. 8 for 256 x 256 and 256 x 512, 6 for 192 x 256: the
    deepest at which both sides are multiples."""
    blocks: int = 9
    """Residual blocks, where the generator is resnet: 9, or 6 for 128 x 128."""
    norm: Norm = "batch"
    """Normalisation of both networks: batch or instance."""
    dropout_at: DropoutAt = "paper"
    """Upward steps with dropout: the first three (paper); as in the authors' PyTorch code, all further ones of full
    width (torch); or none."""
    dropout: bool = True
    """Dropout in the residual blocks, where the generator is resnet: the noise of which paintings differ."""
    layout_as: LayoutAs = "planes"
    """How both networks see a layout: one plane a class, or the class's colour as in the paper."""
    predict: Predict = "photo"
    """Paint photographs; or ab: the colours of grey inputs, whose lightness stays (automatic colourisation)."""
    patch: int = 70
    """Pixels a side that the discriminator judges at once: 1, 16, 34, 70, 142 or 286."""
    discriminator_width: int = 64
    """Features of the discriminator's first convolution."""
    discriminator_sees_input: bool = True
    """Whether the discriminator is shown the layout or image too (cGAN); if not, nobody but L1 checks that the painting
    fits it."""
    game: Game = "vanilla"
    """What generator and discriminator play for. With lsgan, try an `l1` of 10 to 25."""
    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, in the game wgangp alone."""
    gan: float = 1.0
    """Weight of the game; 0 plays none."""
    l1: float = 100.0
    """Weight of the mean absolute difference from the photograph, lambda."""
    learning_rate: float = 2e-4
    """Adam's step size at the start, for both."""
    beta1: float = 0.5
    """Adam's decay of the first moment; that of the second is 0.999."""
    epochs: int = 100
    """Epochs at the full learning rate."""
    decay_epochs: int = 100
    """Epochs after them over which it falls along a line; 0 never lets it fall."""
    jitter: float = 30 / 256
    """Enlarge scenes by this share and cut a window of their size; 0 shows them as they are. The paper also mirrors
    (--flip)."""
    average: float = 0.0
    """Publish a moving average of the generator's weights, of this half-life in photographs shown, whose paintings
    change less from step to step; 0: publish the weights of the last step."""
    augment: tuple[Augmentation, ...] = ()
    """Augment what the discriminator is shown, paintings too, by some of color, translation and cutout (Zhao et al.
    2020): for data so small, some hundred photographs, that it would learn them by heart. What was asked for is
    moved and cut alike."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        _check_unet(self.width, self.levels)
        check_resnet(self.width, self.blocks)
        check_patch(self.patch, (1 << 20, 1 << 20))
        check_words(self, generator=Painter, norm=Norm, dropout_at=DropoutAt, layout_as=LayoutAs)
        check_words(self, predict=Predict, game=Game)
        check_least(self, 1, "discriminator_width")
        check_least(self, 0, "epochs", "decay_epochs", "gan", "l1", "gradient_penalty", "average")
        check_positive(self, "learning_rate")
        check_below_one(self, "beta1", "jitter")
        if not self.gan and not self.l1:
            raise UserError("--gan 0 --l1 0: there is nothing to learn from; one of them must be above 0")
        check_policy("augment", self.augment)
        if "color" in self.augment and self.predict == "ab":
            raise unfit("augment", self.augment, "--predict ab paints colours alone; give translation and cutout")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2**self.levels if self.generator == "unet" else 4

    def network(self, spec: SceneSpec) -> UNet | ResNetGenerator:
        """The generator, untrained."""
        if self.generator == "resnet":
            return ResNetGenerator(
                spec=spec,
                width=self.width,
                blocks=self.blocks,
                norm=self.norm,
                dropout=self.dropout,
                layout_as=self.layout_as,
                predict=self.predict,
            )
        return UNet(
            spec=spec,
            width=self.width,
            levels=self.levels,
            norm=self.norm,
            dropout_at=self.dropout_at,
            layout_as=self.layout_as,
            predict=self.predict,
        )

    def start(self, run: Run) -> Pix2PixTraining:
        self.check()
        return Pix2PixTraining(self, run)


class Pix2PixTraining(Duel):
    """The game under way: two networks, two optimizers."""

    def __init__(self, recipe: Pix2Pix, run: Run):
        _check_data(recipe, run.spec)
        self.recipe = recipe
        generator = recipe.network(run.spec)
        start_from(run, generator, free=("dropout_at", "dropout"))
        judged = run.spec.photo_channels if recipe.predict == "photo" else 2
        if recipe.discriminator_sees_input:
            judged += asked.channels(run.spec, recipe.layout_as)
        norm = "layer" if recipe.game == "wgangp" and recipe.norm == "batch" else recipe.norm
        discriminator = PatchDiscriminator(judged, recipe.discriminator_width, recipe.patch, norm)
        init_normal(discriminator)
        super().__init__(run, generator, discriminator, recipe.learning_rate, recipe.beta1, recipe.average)
        self.drops = generator.drops if isinstance(generator, UNet) else None

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.photo is not None
        recipe, accelerator = self.recipe, self.run.accelerator
        share = linear_decay(seen, self.run.photographs, recipe.epochs, recipe.decay_epochs)
        for adam in (self.generator_adam, self.discriminator_adam):
            set_learning_rate(adam, recipe.learning_rate * share)
        self.zero_gradients()
        condition, photo = self.as_played(jittered(scene, recipe.jitter))
        with accelerator.autocast():
            fake = self.generator(condition)
        losses, logits = dict[str, Tensor](), None

        # Discriminator: tell the photograph from the painting, both shown with their layout. Halved, to slow it down
        # relative to the generator (section 3.3).
        if recipe.gan:
            logits = self.judge(condition, photo), self.judge(condition, fake.detach())
            losses["discriminator"] = d_loss = 0.5 * discriminator_loss(recipe.game, *logits)
            if recipe.game == "wgangp":
                losses["penalty"] = self.penalty(condition, photo, fake)
                d_loss = d_loss + 0.5 * recipe.gradient_penalty * losses["penalty"]
            accelerator.backward(d_loss)
            self.discriminator_adam.step()

        # Generator: be taken for a photograph, and be near the one that was taken (equation 4).
        losses["l1"] = (fake.float() - photo).abs().mean()
        loss = recipe.l1 * losses["l1"]
        if recipe.gan:
            with frozen(self.discriminator):
                losses["adversarial"] = generator_loss(recipe.game, self.judge(condition, fake))
            loss = loss + recipe.gan * losses["adversarial"]
        accelerator.backward(loss)
        self.generator_adam.step()
        self.end_step(seen, condition)
        return {"loss": loss, **losses, **self.diagnosed(seen, photo, fake, recipe.game, logits)}

    def as_played(self, scene: Scene) -> tuple[Condition, Tensor]:
        """What is asked and what was photographed, as both networks see it."""
        assert scene.photo is not None
        if self.recipe.predict == "photo":
            return scene.condition, scene.photo
        layout, grey = scene.condition
        assert grey is not None  # `check_predict` refused others
        return Condition(layout, seen_lightness(grey)), seen_colors(scene.photo)

    def judge(self, condition: Condition, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h2 w2"]:
        """Logits of a picture's patches, shown with what was asked for where the recipe says so, and augmented."""
        shown = augmented(self._shown(condition, picture), self.recipe.augment, picture.shape[1], self.run.spec.void)
        with self.run.accelerator.autocast():
            return self.discriminator(shown)

    def penalty(
        self, condition: Condition, photo: Float[Tensor, "n c h w"], fake: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, ""]:
        """How far the discriminator is from a slope of 1 between a photograph and a painting of what was asked.

        It is the discriminator's own slope: nothing is augmented here.
        """

        def judged(picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h2 w2"]:
            shown = self._shown(condition, picture)
            if isinstance(shown, tuple) and isinstance(shown[0], LayoutLevel):
                shown = (shown[0].planes, shown[1])  # look-ups have no second gradients
            with self.run.accelerator.autocast():
                return self.discriminator(shown)

        return gradient_penalty(judged, photo, fake)

    def _shown(self, condition: Condition, picture: Float[Tensor, "n p h w"]) -> Shown:
        if not self.recipe.discriminator_sees_input:
            return picture
        return asked.beside(condition, picture, self.run.spec, self.recipe.layout_as)

    def facts(self) -> dict[str, str]:
        steps = "of the residual blocks" if self.drops is None else ", ".join(str(n + 1) for n in self.drops) or "none"
        return {
            "convolutions of stride 2 in the discriminator": str(STRIDED[self.recipe.patch]),
            "upward steps with dropout": steps,
        }


def _check_data(recipe: Pix2Pix, spec: SceneSpec) -> None:
    """Refuse data that the recipe cannot be trained on."""
    if not spec.num_classes and not spec.image_channels:
        raise UserError("pix2pix paints layouts or images, but this data has photographs alone")
    if recipe.generator == "resnet":
        check_resnet_size(spec.size)
    if recipe.gan:
        check_patch(recipe.patch, spec.size)
    asked.check_colors(spec, recipe.layout_as)
    check_predict(recipe.predict, spec)
