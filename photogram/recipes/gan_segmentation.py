"""GAN with semantic segmentation: a critic of photographs, and a reader who checks that the layout was obeyed.

A baseline of Q. Chen and V. Koltun, "Photographic Image Synthesis with Cascaded Refinement Networks", ICCV 2017: a GAN
in the manner of DCGAN (A. Radford, L. Metz and S. Chintala, ICLR 2016) that is given the layout, and a frozen
segmentation network that should read the layout back from the painting. The paper gives no numbers of its networks, so
the architecture and the weight of 1 are the specification's reconstruction, not the paper's:

- Generator: 4x4 convolutions of stride 2 down to 4 x 8 and transposed ones back, batch norm after all but the last,
  leaky ReLU down, ReLU up, tanh. No skips, no noise.
- Discriminator: sees the picture alone; 4x4 convolutions of stride 2 down to 4 x 8, batch norm after all but the first,
  then one linear logit. That the layout is obeyed is the segmenter's concern.
- The segmenter is a published one of this project; its own quality bounds what it can teach, so say its mean IoU beside
  any result. Measure with another one: this one has been learned by heart.

Training normalises by the batch (at the usual batch of one: over space only). Synthesis normalises each painting by
its own statistics, which is the same at a batch of one; `GANSegmentationOptions` takes the running averages instead.
Neither looks at `train()` or `eval()`, nothing is drawn, and every seed gives the same photograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Generator, Network, NoOptions
from photogram.losses import discriminator_loss, generator_loss
from photogram.nn.augment import Augmentation, augmented, check_policy
from photogram.nn.layout_conv import LayoutLevel, layer
from photogram.nn.norms import BatchNorm, Statistics
from photogram.nn.trunks import weights_digest
from photogram.optim import frozen, init_normal
from photogram.recipe import LearnsFrom, Run, layouts_alone, start_from
from photogram.recipes.duel import Duel
from photogram.recipes.fields import check_below_one, check_least, check_positive
from photogram.recipes.segmenter import STRIDE, SegmentationNetwork, counted, cross_entropy
from photogram.scene import Condition, Layout, Scene, SceneSpec, Size, class_difference, shape

WIDTHS_BOUND = "must be 1 to 16 positive integers, one for each halving"


@dataclass(frozen=True)
class GANSegmentationOptions(NoOptions):
    """What can be chosen when the encoder-decoder of a GAN paints."""

    norm_stats: Literal["batch", "running"] = "batch"
    """Batch norm by the statistics of each painting, as a batch of one, or by the running averages of training."""

    def check(self, network: Generator) -> None:
        if self.norm_stats not in ("batch", "running"):
            raise unfit("norm_stats", self.norm_stats, "must be batch or running")


class BottleneckGenerator(Generator):
    """Paint a layout: halve it down to a few pixels and double it back, with nothing beside that way.

    Args:
        spec: what the scenes share; its classes, the void class included, are the input channels.
        widths: features of each step down; those of the steps up are the same in reverse.
    """

    Options: ClassVar[type[NoOptions]] = GANSegmentationOptions

    def __init__(self, *, spec: SceneSpec, widths: tuple[int, ...]):
        super().__init__()
        _check_widths("widths", widths)
        self.spec, self.widths = spec, widths
        down = list(zip((spec.num_classes, *widths), widths, strict=False))
        up = [(b, a) for a, b in reversed(down[1:])]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in down)
        self.down_norms = nn.ModuleList(BatchNorm(b) for _, b in down)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in up)
        self.up_norms = nn.ModuleList(BatchNorm(b) for _, b in up)
        self.to_photo = nn.ConvTranspose2d(widths[0], spec.photo_channels, 4, 2, 1)
        init_normal(self)

    @property
    def size_multiple(self) -> int:
        return 2 ** len(self.widths)

    def forward(self, layout: Layout) -> Float[Tensor, "n c h w"]:
        """As in training: by the statistics of the batch."""
        return self.run(layout, "batch")

    def run(self, layout: Layout, statistics: Statistics) -> Float[Tensor, "n c h w"]:
        """The pass, by the statistics that the caller chooses."""
        first, *others = self.down
        assert isinstance(first, nn.Conv2d)
        x = F.leaky_relu(
            self.down_norms[0](layer(first, LayoutLevel(layout.classes, self.spec.num_classes)), statistics), 0.2
        )
        for conv, norm in zip(others, self.down_norms[1:], strict=True):
            x = F.leaky_relu(norm(conv(x), statistics), 0.2)
        for conv, norm in zip(self.up, self.up_norms, strict=True):
            x = F.relu(norm(conv(x), statistics))
        return torch.tanh(self.to_photo(x))

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert condition.layout is not None and isinstance(options, GANSegmentationOptions)  # `sample` checked both
        statistics = "image" if options.norm_stats == "batch" else "running"  # photographs of a batch do not mix
        return self.run(condition.layout, statistics)


class PictureDiscriminator(nn.Module):
    """One logit for a whole picture of one size: photographed or painted?

    Its norms always take the statistics of the batch that is shown.

    Args:
        channels: of the pictures.
        size: their height and width.
        widths: features of each step down.
    """

    def __init__(self, channels: int, size: Size, widths: tuple[int, ...]):
        super().__init__()
        pairs = zip((channels, *widths), widths, strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=n == 0) for n, (a, b) in enumerate(pairs))
        self.norms = nn.ModuleList(BatchNorm(width, running=False) for width in widths[1:])
        height, width = (n // 2 ** len(widths) for n in size)
        self.to_logit = nn.Linear(widths[-1] * height * width, 1)

    def forward(self, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1"]:
        first, *others = self.convs
        x = F.leaky_relu(first(picture.contiguous(memory_format=torch.channels_last)), 0.2)
        for conv, norm in zip(others, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return self.to_logit(x.flatten(1))


def _check_widths(name: str, widths: object) -> None:
    fit = isinstance(widths, tuple) and all(type(width) is int and width > 0 for width in widths)
    if not (fit and isinstance(widths, tuple) and 1 <= len(widths) <= 16):
        raise unfit(name, widths, WIDTHS_BOUND)


@dataclass(frozen=True)
class GANSegmentation:
    """GAN with semantic segmentation (a baseline of Chen and Koltun 2017): an image GAN and a frozen segmenter."""

    networks: ClassVar[tuple[type[Network], ...]] = (BottleneckGenerator,)
    learns_from: ClassVar[LearnsFrom] = "layouts"

    segmenter: str = ""
    """The published segmenter that reads paintings, a folder such as runs/segmenter; it must read the data's classes.
    Needed: `photogram train segmenter` makes one."""
    segmentation: float = 1.0
    """Weight of the cross-entropy between what the segmenter reads and the layout, beta; void does not count."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    """Features of the generator's steps down, each halving the size; those up are the reverse. Their number N and the
    size give the innermost size, size / 2^N, which should be 3 to 8 a side: 4 x 8 of 256 x 512, 3 x 4 of 192 x 256."""
    discriminator_widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    """The same of the discriminator."""
    learning_rate: float = 2e-4
    """Adam's step size, for both."""
    beta1: float = 0.5
    """Adam's decay of the first moment; that of the second is 0.999."""
    average: float = 0.0
    """Publish a moving average of the generator's weights, of this half-life in photographs shown, whose paintings
    change less from step to step; 0: publish the weights of the last step."""
    augment: tuple[Augmentation, ...] = ()
    """Augment what the discriminator is shown, paintings too, by some of color, translation and cutout (Zhao et al.
    2020): for data so small, some hundred photographs, that it would learn them by heart."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        if not self.segmenter:
            raise UserError(
                "--segmenter: name the published segmenter that reads the paintings; `photogram train segmenter` makes "
                "one"
            )
        _check_widths("widths", self.widths)
        _check_widths("discriminator_widths", self.discriminator_widths)
        check_least(self, 0, "segmentation", "average")
        check_positive(self, "learning_rate")
        check_below_one(self, "beta1")
        check_policy("augment", self.augment)

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this: of both networks and the segmenter."""
        self.check()
        return max(2 ** len(self.widths), 2 ** len(self.discriminator_widths), STRIDE)

    def start(self, run: Run) -> GANSegmentationTraining:
        self.check()
        return GANSegmentationTraining(self, run)


class GANSegmentationTraining(Duel):
    """The game under way: two networks that learn, one that reads."""

    def __init__(self, recipe: GANSegmentation, run: Run):
        layouts_alone(run, "gan-segmentation")
        self.recipe, segmenter = recipe, load_segmenter(recipe.segmenter, run.spec)
        _check_innermost(recipe, run)
        generator = BottleneckGenerator(spec=run.spec, widths=recipe.widths)
        start_from(run, generator)
        discriminator = PictureDiscriminator(run.spec.photo_channels, run.spec.size, recipe.discriminator_widths)
        init_normal(discriminator)
        super().__init__(run, generator, discriminator, recipe.learning_rate, recipe.beta1, recipe.average)
        self.segmenter = segmenter.to(run.accelerator.device)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.condition.layout is not None and scene.photo is not None
        accelerator, classes = self.run.accelerator, scene.condition.layout.classes
        self.zero_gradients()
        with accelerator.autocast():
            fake = self.generator(scene.condition.layout)

        # Discriminator: tell the photograph from the painting.
        on_real, on_fake = self.judge(scene.photo), self.judge(fake.detach())
        d_loss = discriminator_loss("vanilla", on_real, on_fake)
        accelerator.backward(d_loss)
        self.discriminator_adam.step()

        # Generator: be taken for a photograph, and be read as the layout that was asked for.
        with frozen(self.discriminator):
            adversarial = generator_loss("vanilla", self.judge(fake))
        with accelerator.autocast():
            logits = self.segmenter(fake)
        misread = cross_entropy(logits.float(), counted(classes, self.run.spec.void))
        loss = adversarial + self.recipe.segmentation * misread
        accelerator.backward(loss)
        self.generator_adam.step()
        self.end_step(seen, scene.condition.layout)
        losses = {"loss": loss, "adversarial": adversarial, "segmentation": misread, "discriminator": d_loss}
        return {**losses, **self.diagnosed(seen, scene.photo, fake, "vanilla", (on_real, on_fake))}

    def judge(self, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1"]:
        """A logit for each picture, augmented where the recipe says so."""
        shown = augmented(picture, self.recipe.augment, picture.shape[1], None)
        with self.run.accelerator.autocast():
            return self.discriminator(shown)

    def facts(self) -> dict[str, str]:
        return {"segmenter's weights": weights_digest(self.segmenter)}

    def state_dict(self) -> dict[str, object]:
        return {**super().state_dict(), "segmenter": weights_digest(self.segmenter)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["segmenter"] != weights_digest(self.segmenter):  # a folder of that name, but of other content
            raise UserError(
                f"--segmenter {self.recipe.segmenter}: holds other weights than when this run was started; bring them "
                "back, or give another --out"
            )
        super().load_state_dict(state)


def load_segmenter(folder: str, spec: SceneSpec) -> SegmentationNetwork:
    """A published segmenter, frozen, that reads photographs such as the data's.

    Raises:
        UserError: where there is none, or it reads other classes or channels.
    """
    segmenter = SegmentationNetwork.from_pretrained(folder)
    differs = class_difference(segmenter.spec, spec)
    if differs is not None:
        raise UserError(f"--segmenter {folder}: {differs}; give one that reads the data's classes")
    theirs, ours = segmenter.spec.photo_channels, spec.photo_channels
    if theirs != ours:
        raise UserError(f"--segmenter {folder}: reads photographs of {theirs} channels, but this data's have {ours}")
    return segmenter.requires_grad_(False)


def _check_innermost(recipe: GANSegmentation, run: Run) -> None:
    """Refuse sizes at which batch norm would see a single value: it would always give 0."""
    for name in ("widths", "discriminator_widths"):
        widths = getattr(recipe, name)
        height, width = (n // 2 ** len(widths) for n in run.spec.size)
        if height * width * run.batch_size < 2:
            raise unfit(
                name,
                widths,
                f"halve {shape(run.spec.size)} down to one pixel, of which batch norm makes 0; give fewer, so that 3 "
                "to 8 a side stay, or a larger --size",
            )
