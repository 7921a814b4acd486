"""pix2pixHD: from coarse to fine, judged at several sizes, with borders between objects and a style for each.

T.-C. Wang, M.-Y. Liu, J.-Y. Zhu, A. Tao, J. Kautz and B. Catanzaro, "High-Resolution Image Synthesis and Semantic
Manipulation with Conditional GANs", CVPR 2018. `pix2pixhd_networks.py` has the generators and the encoder.

A large photograph is learned in stages: the coarse generator at half or a quarter of the size, then, `--from` that run,
with an enhancer around it (`--enhancers 1`), which at first learns alone (`--freeze-epochs`). Discriminators of one
form judge the picture and halves of it; the generator must also raise the features in them that the photograph raises,
and those in a network that knows photographs. Where we differ from the paper's published code:

- One optimizer for each side, for all of a training: what was frozen joins it, and its rate falls with the others'. The
  published code steps an optimizer that it has replaced, so that the coarse generator never learns again and no rate
  falls (specification 9, number 1).
- Regions are told apart by class and object number (`photogram.nn.regions`), so that instance maps need no coding.
- Layouts travel as integers; coarser discriminators and generators get the same averages of planes as published.
- Stage two reads styles with the frozen encoder as it goes (`--no-train-encoder`), at the size at which that learned,
  where the published code wrote feature maps of 8 bits to disk before.
- First biases are 0, theirs torch's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from photogram.allocator import give_back
from photogram.errors import UserError, unfit
from photogram.generator import Network
from photogram.losses import (
    Game,
    discriminator_loss_of_scales,
    feature_matching,
    generator_loss_of_scales,
    gradient_penalty,
)
from photogram.nn.attention import BUDGET, gammas, twice_differentiable
from photogram.nn.diagnostics import concentration
from photogram.nn.discriminators import (
    AttentionMode,
    DetailNorm,
    Kind,
    attention_facts,
    check_discriminators,
    discriminators,
    least_side,
)
from photogram.nn.layout_conv import LayoutLevel
from photogram.nn.multiscale import Framed, Windows
from photogram.nn.patch import Shown
from photogram.nn.perceptual_hd import RisingPerceptualLoss, load_features
from photogram.nn.regions import By
from photogram.optim import frozen, late_decay, set_learning_rate
from photogram.recipe import LearnsFrom, Run
from photogram.recipes.duel import Duel, is_diagnosed
from photogram.recipes.fields import check_below_one, check_least, check_positive, check_words
from photogram.recipes.pix2pixhd_networks import (
    Asked,
    Boundary,
    CoarseToFineGenerator,
    Pad,
    Playing,
    Pyramid,
    Upsample,
    check_networks,
)
from photogram.recipes.pix2pixhd_stages import begun, take_judges
from photogram.scene import Scene, SceneSpec

Styled = Literal["none", "objects", "classes"]


@dataclass(frozen=True)
class Pix2PixHD:
    """pix2pixHD (Wang et al. 2018): layouts with instance maps to large photographs, from coarse to fine, with a style
    for each object."""

    networks: ClassVar[tuple[type[Network], ...]] = (CoarseToFineGenerator,)
    learns_from: ClassVar[LearnsFrom] = "any"

    width: int = 64
    """Features of the coarse generator at its full size; each enhancer has half as many as the network before it."""
    enhancers: int = 0
    """Local enhancers around the coarse generator, each for twice the size: 0, then one more with each --from."""
    downsamplings: int = 4
    """Halvings of the coarse generator; sizes are multiples of 2^(downsamplings + enhancers)."""
    blocks: int = 9
    """Residual blocks of the coarse generator."""
    enhancer_blocks: int = 3
    """Residual blocks of each enhancer."""
    boundary: Boundary = "auto"
    """What the edge channel marks: borders of objects and classes, of classes alone, or there is none; auto: of objects
    where there are instance maps."""
    features: Styled = "none"
    """What has a style of its own, found by an encoder that learns with the generator: each object, or each class."""
    feature_channels: int = 3
    """Numbers of a style."""
    encoder_width: int = 16
    """Features of the encoder's first convolution."""
    train_encoder: bool = True
    """The encoder learns too; with --no-train-encoder it stays that of --from, and reads photographs at the size that
    it learned."""
    clusters: int = 10
    """The most styles of a class that `photogram cluster` keeps."""
    pad: Pad = "zeros"
    """What strided convolutions see beyond the border: zeros, as published, or reflect, against bright blobs."""
    upsample: Upsample = "deconv"
    """How sizes are doubled: deconv, as published; nearest or bilinear before a plain convolution leave no grid."""
    pyramid: Pyramid = "average"
    """What coarser generators are asked by: averages of all planes, as published, or nearest, as they first learned."""
    generator_attention: bool = False
    """Self-attention in the middle of the coarse generator's blocks."""
    checkpointing: bool = False
    """Compute residual blocks again for their gradients instead of keeping what is in them, and keep no free memory
    for the next step: less memory, more time."""
    discriminator: Kind = "multiscale"
    """Who judges: patch discriminators at several scales; one with self-attention; or that one at full size and patch
    discriminators at the others."""
    scales: int = 2
    """How many discriminators, each at half the size of the one before; give one more with each enhancer, 3 with the
    first."""
    strided: int = 3
    """Halvings in each of them; 3 see patches of 70 pixels of their scale."""
    discriminator_width: int = 64
    """Features of a discriminator's first convolution."""
    spectral: bool = False
    """Spectral norm on the discriminators' convolutions (Miyato et al. 2018)."""
    attention_mode: AttentionMode = "full_image"
    """What self-attention sees: the image; two windows of 512 x 512, the same of photograph and painting; or a coarse
    grid of it."""
    attention_budget: int = BUDGET
    """Scores of one picture in self-attention; keys are pooled until there are no more."""
    kv_pool: int = 0
    """Pool keys and values by squares of this side; 0: as the budget asks."""
    detail_norm: DetailNorm = "none"
    """What the discriminator with self-attention has besides spectral norm: none, or instance."""
    detail_weight: float = 1.0
    """Weight of the discriminator with self-attention in the hybrid's game, for the generator."""
    detail_epochs: int = 0
    """Epochs over which that weight rises from 0, so that it comes in slowly."""
    game: Game = "lsgan"
    """What generator and discriminators play for."""
    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, in the game wgangp alone."""
    feature_matching: float = 10.0
    """Weight of the difference from the photograph in the discriminators' features; 0 plays without."""
    perceptual: str = "vgg19"
    """What looks at paintings besides: vgg19, squeezenet (embedded), a file of weights, or none."""
    perceptual_weight: float = 10.0
    """Weight of the difference from the photograph in that network's features."""
    perceptual_normalized: bool = False
    """Show it pictures as it learned them (ImageNet's means and deviations); the published code shows them as they
    are."""
    learning_rate: float = 2e-4
    """Adam's step size at the start."""
    discriminator_rate: float = 0.0
    """The discriminators' own, 4e-4 beside 1e-4 with hinge and spectral norm; 0: the same as the generator's."""
    beta1: float = 0.5
    """Adam's decay of the first moment."""
    beta2: float = 0.999
    """Adam's decay of the second; 0.9, with 0 for the first, beside hinge and spectral norm."""
    epochs: int = 100
    """Epochs at the full learning rate."""
    decay_epochs: int = 100
    """Epochs after them over which it falls along a line; 0 never lets it fall."""
    freeze_epochs: int = 0
    """Epochs at the start in which the outermost enhancer learns alone; 10 of 100 in the published second stage."""
    average: float = 0.0
    """Publish a moving average of the generator's weights, of this half-life in photographs shown; 0: publish the
    weights of the last step."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        check_networks(
            self.width,
            self.enhancers,
            self.downsamplings,
            self.blocks,
            self.enhancer_blocks,
            self.encoder_width,
            self.clusters,
            self.generator_attention,
        )
        check_words(
            self,
            boundary=Boundary,
            features=Styled,
            discriminator=Kind,
            attention_mode=AttentionMode,
            pad=Pad,
            upsample=Upsample,
            pyramid=Pyramid,
            game=Game,
            detail_norm=DetailNorm,
        )
        check_least(self, 1, "feature_channels", "discriminator_width", "attention_budget")
        check_least(self, 0, "kv_pool", "detail_weight", "detail_epochs")
        check_least(self, 0, "epochs", "decay_epochs", "freeze_epochs", "average", "gradient_penalty")
        check_least(self, 0, "feature_matching", "perceptual_weight", "discriminator_rate")
        check_positive(self, "learning_rate")
        check_below_one(self, "beta1", "beta2")
        check_discriminators(self.discriminator, self.scales, self.strided, (1 << 20, 1 << 20))
        if self.discriminator != "hybrid" and (self.detail_weight, self.detail_epochs) != (1.0, 0):
            raise UserError("--detail-weight, --detail-epochs: are of --discriminator hybrid alone")
        for name in ("attention_mode", "attention_budget", "kv_pool", "detail_norm"):
            value = getattr(self, name)
            if self.discriminator == "multiscale" and value != getattr(type(self), name):
                raise unfit(name, value, "is of self-attention; give --discriminator attention or hybrid with it")
        if self.freeze_epochs and not self.enhancers:
            raise unfit("freeze_epochs", self.freeze_epochs, "without --enhancers there is nothing to freeze; give 0")
        last = self.epochs + self.decay_epochs
        if self.decay_epochs and self.freeze_epochs >= last:
            raise unfit("freeze_epochs", self.freeze_epochs, f"all must learn before epoch {last}, the last")
        if not self.train_encoder and self.features == "none":
            raise UserError("--no-train-encoder: there is no encoder; give --features objects or classes")

    def heaviest(self) -> Pix2PixHD:
        """The part of the training that takes most memory, for plans: when all networks learn."""
        return replace(self, freeze_epochs=0)

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2 ** (self.downsamplings + self.enhancers)

    def least_side(self) -> int:
        """Heights and widths are at least this, for the discriminators, and for the generator's middle: two pixels a
        side, which reflect and have a variance."""
        return max(2 * self.size_multiple(), least_side(self.discriminator, self.scales))

    def network(self, spec: SceneSpec, encoder_shrink: int = 1) -> CoarseToFineGenerator:
        """The generator, untrained."""
        style_by: By = "classes" if self.features == "classes" else "objects"
        return CoarseToFineGenerator(
            spec=spec,
            width=self.width,
            enhancers=self.enhancers,
            downsamplings=self.downsamplings,
            blocks=self.blocks,
            enhancer_blocks=self.enhancer_blocks,
            boundary=self.boundary,
            style_channels=0 if self.features == "none" else self.feature_channels,
            style_by=style_by,
            encoder_width=self.encoder_width,
            encoder_shrink=encoder_shrink,
            clusters=self.clusters,
            pad=self.pad,
            upsample=self.upsample,
            pyramid=self.pyramid,
            attention=self.generator_attention,
        )

    def start(self, run: Run) -> Pix2PixHDTraining:
        self.check()
        return Pix2PixHDTraining(self, run)


class Pix2PixHDTraining(Duel):
    """The game under way: a generator with its encoder, discriminators, two optimizers."""

    def __init__(self, recipe: Pix2PixHD, run: Run):
        self.recipe = recipe
        generator, self.taken, doublings = begun(recipe, run)
        generator.checkpointing = recipe.checkpointing
        if recipe.checkpointing:
            give_back()
        spec = run.spec
        judged = spec.num_classes + spec.image_channels + (generator.boundary != "none") + spec.photo_channels
        check_discriminators(recipe.discriminator, recipe.scales, recipe.strided, spec.size)
        judges = discriminators(
            recipe.discriminator,
            judged,
            recipe.discriminator_width,
            recipe.scales,
            strided=recipe.strided,
            spectral=recipe.spectral,
            attention_mode=recipe.attention_mode,
            attention_budget=recipe.attention_budget,
            kv_pool=recipe.kv_pool,
            detail_norm=recipe.detail_norm,
        )
        self.taken |= take_judges(run, judges, doublings)
        judges.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.painter, self.judges, self.playing = generator, judges, Playing(generator, recipe.train_encoder)
        super().__init__(
            run,
            generator,
            judges,
            recipe.learning_rate,
            recipe.beta1,
            recipe.average,
            playing=self.playing,
            beta2=recipe.beta2,
        )
        trunk = load_features(recipe.perceptual, "imagenet" if recipe.perceptual_normalized else "none")
        self.perceptual = None if trunk is None else RisingPerceptualLoss(trunk).to(run.accelerator.device)
        self.looking, self.trunk = False, None
        if generator.blocks:
            generator.coarse.body[-1].register_forward_hook(self._keep_trunk)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.photo is not None
        recipe, accelerator, photo = self.recipe, self.run.accelerator, scene.photo
        share = late_decay(seen, self.run.photographs, recipe.epochs, recipe.decay_epochs)
        set_learning_rate(self.generator_adam, recipe.learning_rate * share)
        set_learning_rate(self.discriminator_adam, (recipe.discriminator_rate or recipe.learning_rate) * share)
        self._freeze(seen // self.run.photographs < recipe.freeze_epochs)
        self.zero_gradients()
        self.looking = is_diagnosed(seen, self.shown)
        with accelerator.autocast():
            fake = self.generator(scene)
        beside = self.painter.asked_alone(scene.condition, None)
        windows = self.judges.draw_windows(len(photo), (photo.shape[-2], photo.shape[-1]))
        losses = dict[str, Tensor]()

        # Discriminators: at each scale, tell the photograph from the painting. Their step itself comes last, so that
        # both sides learn from what the same discriminators say.
        on_real, on_fake = self.judge(beside, photo, windows), self.judge(beside, fake.detach(), windows)
        losses["discriminator"] = d_loss = 0.5 * discriminator_loss_of_scales(recipe.game, on_real, on_fake)
        if recipe.game == "wgangp":
            losses["penalty"] = self.penalty(beside, photo, fake, windows)
            d_loss = d_loss + 0.5 * recipe.gradient_penalty * losses["penalty"]
        accelerator.backward(d_loss)

        # Generator: be taken for a photograph at each scale, raise the features that the photograph raises there, and
        # in a network that knows photographs (equations 2 to 5).
        with frozen(self.discriminator):
            judged = self.judge(beside, fake, windows)
        losses["adversarial"] = loss = generator_loss_of_scales(recipe.game, judged, self.detail_weight(seen))
        if recipe.feature_matching:
            losses["matching"] = feature_matching(on_real, judged)
            loss = loss + recipe.feature_matching * losses["matching"]
        if self.perceptual is not None and recipe.perceptual_weight:
            with accelerator.autocast():
                losses["perceptual"] = self.perceptual(fake, photo)
            loss = loss + recipe.perceptual_weight * losses["perceptual"]
        accelerator.backward(loss)
        self.generator_adam.step()
        self.discriminator_adam.step()
        for painter in self.published().values():
            if self.playing.read is not None and isinstance(painter, CoarseToFineGenerator):
                painter.follow_styles(*self.playing.read, self.run.mean)
        self.end_step(seen)
        logits = tuple(torch.cat([one[-1].detach().flatten() for one in judged]) for judged in (on_real, on_fake))
        found = self.diagnosed(seen, photo, fake, recipe.game, (logits[0], logits[1]))
        return {"loss": loss, **losses, **found, **self._trunk_and_attention()}

    def detail_weight(self, seen: int) -> float:
        """Of the finest discriminator's term for the generator; of the hybrid it may rise at first (6.5)."""
        epochs = seen / self.run.photographs
        rise = 1.0 if epochs >= self.recipe.detail_epochs else epochs / self.recipe.detail_epochs
        return self.recipe.detail_weight * rise

    def judge(self, beside: Asked, picture: Float[Tensor, "n c h w"], windows: Windows | None) -> list[list[Tensor]]:
        """Features and logits of a picture at each scale, shown with what was asked for."""
        with self.run.accelerator.autocast():
            return self.discriminator(Framed(shown(beside, picture), windows))

    def penalty(
        self,
        beside: Asked,
        photo: Float[Tensor, "n c h w"],
        fake: Float[Tensor, "n c h w"],
        windows: Windows | None,
    ) -> Float[Tensor, ""]:
        """How far the sum of the discriminators is from a slope of 1 between a photograph and a painting."""
        layout, planes = beside
        if isinstance(layout, LayoutLevel):
            layout = layout.planes  # look-ups have no second gradients

        def judged(picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1"]:
            scales = self.judge((layout, planes), picture, windows)
            # Windows of a picture, where the finest scale sees these, are as many rows of its logits.
            means = [one[-1].float().reshape(len(picture), -1).mean(1, keepdim=True) for one in scales]
            return torch.cat(means, 1).sum(1, keepdim=True)

        with twice_differentiable():
            return gradient_penalty(judged, photo, fake)

    def _freeze(self, frozen: bool) -> None:
        """Let all but the outermost enhancer learn, or not; several processes wait for what learns alone."""
        if frozen == self.playing.frozen:
            return
        self.playing.freeze(frozen)
        if self.run.accelerator.num_processes > 1:
            self.generator = self.run.accelerator.prepare_model(nn.Sequential(self.playing))

    def _keep_trunk(self, block: nn.Module, inputs: Any, features: Tensor) -> None:
        if self.looking:
            self.trunk = features.detach()

    def _trunk_and_attention(self) -> dict[str, Tensor]:
        """What is to be seen of the residual trunk and of self-attention, in the steps that are looked at."""
        if not self.looking:
            return {}
        found = {} if self.trunk is None else {"blobs/trunk": concentration(self.trunk)}
        self.looking, self.trunk = False, None
        return found | gammas(self.judges) | gammas(self.painter, "generator")

    def state_dict(self) -> dict[str, object]:
        # What `--from` gave and no weight says: when a run goes on, its source may be gone.
        source = {"encoder_shrink": self.painter.encoder_shrink, "taken": dict(self.taken)}
        return {**super().state_dict(), "source": source}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        source = state.get("source")
        if source is None:  # of before 2026-11-23
            if not self.recipe.train_encoder:
                raise UserError(
                    "--no-train-encoder: this run's state does not say at what size the encoder reads, as those of "
                    "older versions; begin another run with the same --from"
                )
            return
        for painter in (self.painter, self.averaged):
            if isinstance(painter, CoarseToFineGenerator):
                painter.encoder_shrink = source["encoder_shrink"]
        self.taken = dict(source["taken"])

    def facts(self) -> dict[str, str]:
        trunk = None if self.perceptual is None else self.perceptual.trunk
        looks = "none" if trunk is None else f"{trunk.name}; {trunk.terms}"
        return {"feature network": looks, **attention_facts(self.judges, self.run.spec.size), **self.taken}


def shown(beside: Asked, picture: Float[Tensor, "n p h w"]) -> Shown:
    """A picture with what it was asked by, for a discriminator."""
    layout, planes = beside
    planes = picture if planes is None else torch.cat([planes.to(picture.dtype), picture], 1)
    return planes if layout is None else (layout, planes)
