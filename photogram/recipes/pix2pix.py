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

Synthesis is what training was, said aloud instead of left to `train()` and `eval()`: dropout is on (the paper's noise;
equal seeds give equal photographs) and batch norm takes the statistics of each painting by itself, as training at the
paper's batch of one did. `UNetOptions` switches both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Generator, Network, NoOptions
from photogram.losses import Game, discriminator_loss, generator_loss
from photogram.nn.layout_conv import LayoutLevel, layer
from photogram.nn.norms import Norm, Statistics, norm_layer
from photogram.nn.patch import STRIDED, PatchDiscriminator, check_patch
from photogram.optim import frozen, init_normal, linear_decay, set_learning_rate
from photogram.recipe import Run, layouts_alone, start_from
from photogram.recipes.duel import Duel
from photogram.scene import Condition, Layout, Scene, SceneSpec, from_pixels

LayoutAs = Literal["planes", "colors"]
DropoutAt = Literal["paper", "torch"]

LEVELS = range(2, 17)
"""How deep a U-Net can be: the deepest halves 65536 pixels down to one."""


def encoded(
    classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"], spec: SceneSpec, layout_as: LayoutAs
) -> LayoutLevel | Float[Tensor, "n c h w"]:
    """A layout as a network sees it: as of one plane a class, or three that hold the class's colour in [-1, 1]."""
    if layout_as == "planes":
        return LayoutLevel(classes, spec.num_classes)
    palette = from_pixels(np.array([[c.color for c in spec.classes]], dtype=np.uint8))[:, 0]
    planes = palette.to(classes.device)[:, classes.long()].movedim(0, 1)
    return planes.contiguous(memory_format=torch.channels_last)


def encoded_channels(spec: SceneSpec, layout_as: LayoutAs) -> int:
    """How many channels `encoded` gives."""
    return spec.num_classes if layout_as == "planes" else 3


def dropped(x: Float[Tensor, "n c h w"], noise: torch.Generator | None) -> Float[Tensor, "n c h w"]:
    """Half of the features, drawn from `noise` or else from torch's own generator, become 0, the others twice as much.

    What is drawn depends on neither the precision nor the layout in memory.
    """
    keep = torch.empty(x.shape, device=x.device).bernoulli_(0.5, generator=noise)
    return x * (2 * keep).to(x.dtype)


@dataclass(frozen=True)
class UNetOptions(NoOptions):
    """What can be chosen when pix2pix paints."""

    dropout: bool = True
    """Draw the paper's noise. Without it every seed gives the same photograph, which keeps a video from flickering."""
    norm_stats: Literal["batch", "running"] = "batch"
    """Batch norm by the statistics of each painting, as a batch of one, or by the running averages of training."""

    def check(self, network: Generator) -> None:
        if self.norm_stats not in ("batch", "running"):
            raise unfit("norm_stats", self.norm_stats, "must be batch or running")


class UNet(Generator):
    """Paint a layout: halve it down to a few pixels, double it back, each step joined with the one of its size.

    4x4 convolutions of stride 2; leaky ReLU on the way down, ReLU on the way up, tanh at the end; no norm in the first,
    the innermost and the last step (specification 2.2).

    Args:
        spec: what the scenes share.
        width: features of the first step; they double up to eightfold.
        levels: steps down, and up; heights and widths are multiples of 2^levels.
        norm: batch or instance.
        dropout_at: the upward steps with dropout: the first three (paper), or all further ones of full width (torch).
        layout_as: one plane a class, or its colour.
    """

    Options: ClassVar[type[NoOptions]] = UNetOptions

    def __init__(
        self, *, spec: SceneSpec, width: int, levels: int, norm: Norm, dropout_at: DropoutAt, layout_as: LayoutAs
    ):
        super().__init__()
        _check_unet(width, levels)
        self.spec, self.width, self.levels = spec, width, levels
        self.norm: Norm = norm
        self.dropout_at: DropoutAt = dropout_at
        self.layout_as: LayoutAs = layout_as
        down = [width * min(2**n, 8) for n in range(levels)]
        up = [*reversed(down[:-1]), spec.photo_channels]
        from_below = [down[-1], *(2 * c for c in reversed(down[:-1]))]  # with the skip of the same size
        bias = norm != "batch"  # it shifts by itself
        channels = zip((encoded_channels(spec, layout_as), *down), down, strict=False)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=bias) for a, b in channels)
        self.down_norms = nn.ModuleList(norm_layer(norm, c) for c in down[1:-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias or n == levels - 1)
            for n, (a, b) in enumerate(zip(from_below, up, strict=True))
        )
        self.up_norms = nn.ModuleList(norm_layer(norm, c) for c in up[:-1])
        self.drops = range(min(3, levels - 1)) if dropout_at == "paper" else range(1, max(1, levels - 4))
        init_normal(self)

    @property
    def size_multiple(self) -> int:
        return 2**self.levels

    def forward(self, layout: Layout) -> Float[Tensor, "n c h w"]:
        """As in training: the statistics of the batch, and dropout by torch's own generator."""
        return self.run(layout, "batch", True, None)

    def run(
        self, layout: Layout, statistics: Statistics, dropout: bool, noise: torch.Generator | None
    ) -> Float[Tensor, "n c h w"]:
        """The pass, with every choice made by the caller."""
        first, *others = self.down
        assert isinstance(first, nn.Conv2d)
        x = layer(first, encoded(layout.classes, self.spec, self.layout_as))
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
        assert condition.layout is not None and isinstance(options, UNetOptions)  # `sample` has checked both
        statistics = "image" if options.norm_stats == "batch" else "running"  # photographs of a batch do not mix
        return self.run(condition.layout, statistics, options.dropout, noise)


def _check_unet(width: int, levels: int) -> None:
    if width < 1:
        raise unfit("width", width, "must be 1 or more")
    if levels not in LEVELS:
        raise unfit("levels", levels, f"must be {LEVELS.start} to {LEVELS.stop - 1}")


@dataclass(frozen=True)
class Pix2Pix:
    """pix2pix (Isola et al. 2017): a U-Net against a patch discriminator that sees the layout too, and L1."""

    networks: ClassVar[tuple[type[Network], ...]] = (UNet,)

    width: int = 64
    """Features of the generator's first step; they double up to eightfold."""
    levels: int = 8
    """Halvings of the U-Net; sizes are multiples of 2^levels. 8 for 256 x 256 and 256 x 512, 6 for 192 x 256: the
    deepest at which both sides are multiples."""
    norm: Norm = "batch"
    """Normalisation of both networks: batch or instance."""
    dropout_at: DropoutAt = "paper"
    """Upward steps with dropout: the first three (paper), or, as in the authors' PyTorch code, all further ones of
    full width (torch)."""
    layout_as: LayoutAs = "planes"
    """How both networks see a layout: one plane a class, or the class's colour as in the paper."""
    patch: int = 70
    """Pixels a side that the discriminator judges at once: 1, 16, 34, 70, 142 or 286."""
    discriminator_width: int = 64
    """Features of the discriminator's first convolution."""
    discriminator_sees_input: bool = True
    """Whether the discriminator is shown the layout too (cGAN); if not, nobody but L1 checks that the painting fits."""
    game: Game = "vanilla"
    """What generator and discriminator play for. With lsgan, try an `l1` of 10 to 25."""
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

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        _check_unet(self.width, self.levels)
        check_patch(self.patch, (1 << 20, 1 << 20))
        kinds = {"norm": Norm, "dropout_at": DropoutAt, "layout_as": LayoutAs, "game": Game}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                raise unfit(name, getattr(self, name), f"must be one of {', '.join(get_args(kind))}")
        for name, least in (("discriminator_width", 1), ("epochs", 0), ("decay_epochs", 0), ("gan", 0), ("l1", 0)):
            if not least <= getattr(self, name) < math.inf:  # nor nan
                raise unfit(name, getattr(self, name), f"must be {least} or more, and finite")
        if not 0 < self.learning_rate < math.inf:
            raise unfit("learning_rate", self.learning_rate, "must be above 0 and finite")
        for name in ("beta1", "jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise unfit(name, getattr(self, name), "must be 0 or more, and below 1")
        if not self.gan and not self.l1:
            raise UserError("--gan 0 --l1 0: there is nothing to learn from; one of them must be above 0")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2**self.levels

    def start(self, run: Run) -> Pix2PixTraining:
        self.check()
        return Pix2PixTraining(self, run)


class Pix2PixTraining(Duel):
    """The game under way: two networks, two optimizers."""

    def __init__(self, recipe: Pix2Pix, run: Run):
        layouts_alone(run, "pix2pix")
        _check_data(recipe, run.spec)
        self.recipe = recipe
        generator = UNet(
            spec=run.spec,
            width=recipe.width,
            levels=recipe.levels,
            norm=recipe.norm,
            dropout_at=recipe.dropout_at,
            layout_as=recipe.layout_as,
        )
        start_from(run, generator, free=("dropout_at",))
        shown = encoded_channels(run.spec, recipe.layout_as) if recipe.discriminator_sees_input else 0
        discriminator = PatchDiscriminator(
            shown + run.spec.photo_channels, recipe.discriminator_width, recipe.patch, recipe.norm
        )
        init_normal(discriminator)
        super().__init__(run, generator, discriminator, recipe.learning_rate, recipe.beta1)
        self.drops = generator.drops

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.condition.layout is not None and scene.photo is not None
        recipe, accelerator = self.recipe, self.run.accelerator
        share = linear_decay(seen, self.run.photographs, recipe.epochs, recipe.decay_epochs)
        for adam in (self.generator_adam, self.discriminator_adam):
            set_learning_rate(adam, recipe.learning_rate * share)
        self.zero_gradients()
        classes, photo = jittered(scene.condition.layout.classes, scene.photo, recipe.jitter)
        with accelerator.autocast():
            fake = self.generator(Layout(classes))
        layout, losses = self.shown(classes), dict[str, Tensor]()

        # Discriminator: tell the photograph from the painting, both shown with their layout. Halved, to slow it down
        # relative to the generator (section 3.3).
        if recipe.gan:
            on_real, on_fake = self.judge(layout, photo), self.judge(layout, fake.detach())
            losses["discriminator"] = 0.5 * discriminator_loss(recipe.game, on_real, on_fake)
            accelerator.backward(losses["discriminator"])
            self.discriminator_adam.step()

        # Generator: be taken for a photograph, and be near the one that was taken (equation 4).
        losses["l1"] = (fake.float() - photo).abs().mean()
        loss = recipe.l1 * losses["l1"]
        if recipe.gan:
            with frozen(self.discriminator):
                losses["adversarial"] = generator_loss(recipe.game, self.judge(layout, fake))
            loss = loss + recipe.gan * losses["adversarial"]
        accelerator.backward(loss)
        self.generator_adam.step()
        self.share_statistics()
        return {"loss": loss, **losses}

    def shown(self, classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"]) -> LayoutLevel | Tensor | None:
        """What the discriminator sees beside a picture."""
        return encoded(classes, self.run.spec, self.recipe.layout_as) if self.recipe.discriminator_sees_input else None

    def judge(
        self, layout: LayoutLevel | Float[Tensor, "n l h w"] | None, picture: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n 1 h2 w2"]:
        """Logits of a picture's patches, shown with its layout where the recipe says so."""
        with self.run.accelerator.autocast():
            return self.discriminator(picture if layout is None else (layout, picture))

    def facts(self) -> dict[str, str]:
        steps = ", ".join(str(n + 1) for n in self.drops) or "none"
        return {
            "convolutions of stride 2 in the discriminator": str(STRIDED[self.recipe.patch]),
            "upward steps with dropout": steps,
        }


def _check_data(recipe: Pix2Pix, spec: SceneSpec) -> None:
    """Refuse data that the recipe cannot be trained on."""
    if recipe.gan:
        check_patch(recipe.patch, spec.size)
    if recipe.layout_as == "colors":
        known: dict[tuple[int, int, int], str] = {}
        for one in spec.classes:
            if one.color in known:
                raise UserError(
                    f"--layout-as colors: classes {known[one.color]!r} and {one.name!r} share the colour {one.color}; "
                    "give one another in classes.json, or use planes"
                )
            known[one.color] = one.name


def jittered(
    classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"], photo: Float[Tensor, "n c h w"], jitter: float
) -> tuple[Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"], Float[Tensor, "n c h w"]]:
    """Enlarged by the share `jitter`, then a window of the old size cut out, each scene by draws of its own.

    Classes by the nearest rule, photographs bicubic, both at the same place.
    """
    height, width = photo.shape[-2:]
    large = (round(height * (1 + jitter)), round(width * (1 + jitter)))
    if large == (height, width):
        return classes, photo
    rows, columns = (
        ((2 * torch.arange(out, device=classes.device) + 1) * n) // (2 * out)
        for n, out in zip((height, width), large, strict=True)
    )
    classes = classes[:, rows[:, None], columns]
    photo = F.interpolate(photo, large, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    tops = torch.randint(large[0] - height + 1, (len(photo),)).tolist()
    lefts = torch.randint(large[1] - width + 1, (len(photo),)).tolist()
    windows = [(slice(top, top + height), slice(left, left + width)) for top, left in zip(tops, lefts, strict=True)]
    return (
        torch.stack([one[window] for one, window in zip(classes, windows, strict=True)]),
        torch.stack([one[:, *window] for one, window in zip(photo, windows, strict=True)]),
    )
