"""A network that reads photographs: which class does each pixel show?

It makes segmentation consistency measurable: what was painted is read again and compared with the layout that was asked
for. It is no paper's system but a compact one of today's form, small enough to come with a protocol:

- Encoder: SqueezeNet 1.1 (Iandola et al. 2016), from ImageNet's weights, which come with the package.
- Context: three dilated convolutions and the mean of the whole picture at 1/16 (after Chen et al. 2017).
- Decoder: up to 1/2 by bilinear steps, each joined with the encoder's map of that size (after Lin et al. 2017).

Learned from photographs that are scaled, cropped, mirrored and recoloured; rare classes weigh more; the learning rate
falls along a cosine; what is published is the moving average of the weights. A segmenter whose encoder resembles the
feature network of a generator's loss may flatter that generator: say so beside the number.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Network, Reader
from photogram.nn.trunks import IMAGENET, embedded_squeezenet, squeezenet_layers
from photogram.optim import ema, load_adam
from photogram.recipe import LearnsFrom, Run, start_from
from photogram.scene import Scene, SceneSpec

STRIDE = 16
"""Of the encoder's coarsest maps."""


class Encoder(nn.Module):
    """SqueezeNet 1.1 without its classifier: maps at 1/2, 1/4, 1/8 and 1/16."""

    channels: ClassVar[tuple[int, ...]] = (64, 128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        self.features = squeezenet_layers(nn.Conv2d(3, 64, 3, 2, 1))  # padded, so that maps are halves exactly

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = []
        for index, layer in self.features.items():
            if index in ("3", "6", "9"):
                found.append(x)
                x = F.max_pool2d(x, 3, 2, 1)
            x = F.relu(layer(x)) if index == "0" else layer(x)
        return [*found, x]


def conv(c_in: int, c_out: int, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """Convolution, group norm, ReLU. Groups, not batches, so that neither batch size nor processes matter."""
    padding = dilation * (kernel // 2)
    layer = nn.Conv2d(c_in, c_out, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.GroupNorm(min(8, c_out // 4), c_out), nn.ReLU())


class Context(nn.Module):
    """What lies around, near and far, and what the whole picture is like."""

    def __init__(self, c_in: int, width: int):
        super().__init__()
        self.reduce = conv(c_in, width, 1)
        self.around = nn.ModuleList(conv(width, width // 2, 3, dilation) for dilation in (1, 3, 6))
        self.whole = nn.Sequential(nn.Conv2d(width, width // 2, 1), nn.ReLU())
        self.join = conv(width + 4 * (width // 2), width, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
        x = self.reduce(x)
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.join(torch.cat([x, *(branch(x) for branch in self.around), whole], 1))


class SegmentationNetwork(Reader):
    """Photographs to classes.

    Args:
        spec: what the scenes share; there is a logit for each of its classes, but void is never read.
        width: features of the context and of the decoder's first stage.
    """

    def __init__(self, *, spec: SceneSpec, width: int):
        super().__init__()
        if type(width) is not int or width < 16 or width % 16:
            raise UserError(f"width {width}: must be a multiple of 16, 16 or more")
        self.spec, self.width = spec, width
        self.encoder = Encoder()
        self.context = Context(Encoder.channels[-1], width)
        stages = list(zip((width, width, width // 2), (width, width // 2, width // 2), strict=True))
        sides = [conv(c, width // 2, 1) for c in reversed(Encoder.channels[:-1])]
        self.sides = nn.ModuleList(sides)
        self.stages = nn.ModuleList(conv(c_in + width // 2, c_out) for c_in, c_out in stages)
        self.to_classes = nn.Conv2d(width // 2, spec.num_classes, 1)

    @property
    def size_multiple(self) -> int:
        return STRIDE

    def forward(self, photo: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Logits at the photograph's size, whose sides are multiples of 16."""
        photo = photo.expand(-1, 3, -1, -1) if photo.shape[1] == 1 else photo
        mean, std = (photo.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
        x = ((photo + 1) / 2 - mean) / std
        *finer, x = self.encoder(x.contiguous(memory_format=torch.channels_last))
        x = self.context(x)
        for stage, side, skipped in zip(self.stages, self.sides, reversed(finer), strict=True):
            x = F.interpolate(x, size=skipped.shape[-2:], mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, side(skipped)], 1))
        return F.interpolate(self.to_classes(x), size=photo.shape[-2:], mode="bilinear", align_corners=False)

    def read(self, photo: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Logits, the mean of the photograph's and its mirror image's."""
        mirrored = self(photo.flip(-1)).flip(-1)
        return self(photo).float() + mirrored.float()


@dataclass(frozen=True)
class Segmenter:
    """A compact network that reads photographs, for segmentation consistency."""

    networks: ClassVar[tuple[type[Network], ...]] = (SegmentationNetwork,)
    learns_from: ClassVar[LearnsFrom] = "layouts"

    width: int = 64
    """Features of the context and the decoder; a multiple of 16."""
    learning_rate: float = 1e-3
    """AdamW's step size at the start, for context and decoder."""
    encoder_rate: float = 0.3
    """The encoder's share of the learning rate: it has learned before."""
    weight_decay: float = 1e-2
    """AdamW's."""
    pretrained: bool = True
    """Whether the encoder is the embedded one at first; with --no-pretrained it begins at random."""
    schedule: int = 24_000
    """Photographs over which the learning rate falls along a cosine, to a hundredth; then it stays there."""
    warmup: int = 400
    """Photographs over which it rises at first."""
    smallest_scale: float = 0.75
    """Photographs are scaled by this much to `largest_scale`, and cropped or padded to their size."""
    largest_scale: float = 2.0
    """See `smallest_scale`."""
    jitter: float = 0.4
    """Brightness, contrast and saturation change by up to this share; 0 leaves colours alone."""
    balance: float = 0.5
    """Classes weigh 1 / share^balance: 0 by pixels, 1 all alike."""
    average: float = 0.998
    """Decay of the moving average of the weights, per step of 8 photographs."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        positive = ("learning_rate", "schedule", "smallest_scale", "largest_scale")
        shares = ("encoder_rate", "balance", "jitter")
        for name in (*positive, *shares, "weight_decay", "warmup", "average"):
            value = getattr(self, name)
            if not 0 <= value < math.inf or (name in positive and not value):
                raise unfit(name, value, "must be above 0" if name in positive else "must be 0 or more")
            if (name in shares and value > 1) or (name == "average" and value >= 1):
                raise unfit(name, value, "must be 1 or less" if name in shares else "must be below 1")
        if self.largest_scale < self.smallest_scale:
            raise unfit("largest_scale", self.largest_scale, f"must be {self.smallest_scale} or more")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return STRIDE

    def start(self, run: Run) -> SegmenterTraining:
        self.check()
        return SegmenterTraining(self, run)


class SegmenterTraining:
    """A segmenter under way: the network that learns, and the moving average of it that is published."""

    def __init__(self, recipe: Segmenter, run: Run):
        if run.spec.num_classes - (run.spec.void is not None) < 2:
            raise UserError("segmenter reads classes, but this data has fewer than two besides void")
        if run.spec.photo_channels not in (1, 3):
            raise UserError(f"segmenter reads grey or RGB photographs, not {run.spec.photo_channels} channels")
        self.recipe, self.run = recipe, run
        network = SegmentationNetwork(spec=run.spec, width=recipe.width)
        start_from(run, network)
        if recipe.pretrained and run.start_from is None:
            _, weights = embedded_squeezenet()
            names = network.encoder.state_dict()
            network.encoder.load_state_dict({name: weights[name].float() for name in names})
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.averaged = copy.deepcopy(network).requires_grad_(False).eval().to(run.accelerator.device)
        new = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
        groups = [{"params": new}, {"params": list(network.encoder.parameters())}]
        adam = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        self.learning = network
        self.network, self.adam = run.accelerator.prepare(nn.Sequential(network), adam)
        self.pixels: Tensor = torch.zeros(run.spec.num_classes, dtype=torch.float32)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.condition.layout is not None and scene.photo is not None
        photo, classes = augmented(scene.photo, scene.condition.layout.classes.long(), self.recipe, self.run.spec)
        counts = torch.bincount(classes.flatten(), minlength=self.run.spec.num_classes).float()
        self.pixels = self.pixels + self.run.mean(counts).cpu()
        for group, share in zip(self.adam.param_groups, (1.0, self.recipe.encoder_rate), strict=True):
            group["lr"] = share * rate(self.recipe, seen)

        self.adam.zero_grad()
        # Say what each pixel shows; rare classes weigh more, void does not count.
        with self.run.accelerator.autocast():
            logits = self.network(photo)
        weights = class_weights(self.pixels, self.run.spec.void, self.recipe.balance).to(logits.device)
        target = counted(classes, self.run.spec.void)
        loss = cross_entropy(logits.float(), target, weights)
        self.run.accelerator.backward(loss)
        self.adam.step()
        self._average(seen)
        right = (logits.argmax(1) == target).sum() / (target != -100).sum().clamp_min(1)
        return {"loss": loss, "pixel_accuracy": right}

    def _average(self, seen: int) -> None:
        shown = self.run.batch_size * self.run.accelerator.num_processes
        steps = seen // shown + 1
        decay = min(self.recipe.average ** (shown / 8), steps / (steps + 10))  # at first it forgets faster
        ema(self.averaged, self.learning, decay)

    def facts(self) -> dict[str, str]:
        begun = "SqueezeNet 1.1 (BSD 2-Clause), trained on ImageNet; see NOTICE" if self.recipe.pretrained else "none"
        return {"encoder begun with": begun}

    def published(self) -> dict[str, Network]:
        return {"segmenter": self.averaged}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        return scene

    def state_dict(self) -> dict[str, object]:
        return {
            "network": self.learning.state_dict(),
            "averaged": self.averaged.state_dict(),
            "adam": self.adam.state_dict(),
            "pixels": self.pixels,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learning.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        load_adam(self.adam, state["adam"])
        self.pixels = state["pixels"]


def rate(recipe: Segmenter, seen: int) -> float:
    """The learning rate after so many photographs: up in a line, down along half a cosine, to a hundredth."""
    rising = min(1.0, (seen + 1) / recipe.warmup) if recipe.warmup else 1.0
    falling = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / recipe.schedule)))
    return recipe.learning_rate * rising * falling


def class_weights(pixels: Float[Tensor, " k"], void: int | None, balance: float) -> Float[Tensor, " k"]:
    """1 / share^balance of each class seen so far, scaled so that a pixel weighs 1 on average; 0 of void."""
    counted = pixels.clone()
    if void is not None:
        counted[void] = 0
    shares = counted / counted.sum().clamp_min(1)
    weights = torch.where(shares > 0, shares.clamp_min(1e-4) ** -balance, 0.0)
    return weights / (weights * shares).sum().clamp_min(1e-12)


def counted(classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"], void: int | None) -> Int[Tensor, "n h w"]:
    """What should be read of each pixel; -100 of void, which does not count."""
    target = classes.long()
    return target if void is None else target.masked_fill(target == void, -100)


def cross_entropy(
    logits: Float[Tensor, "n k h w"], target: Int[Tensor, "n h w"], weights: Float[Tensor, " k"] | None = None
) -> Float[Tensor, ""]:
    """The (weighted) mean over the pixels whose target is not -100; 0 where there is none."""
    own = F.cross_entropy(logits, target, weights, ignore_index=-100, reduction="sum")
    return own / (target != -100).sum().clamp_min(1)


def augmented(
    photo: Float[Tensor, "n c h w"], classes: Int[Tensor, "n h w"], recipe: Segmenter, spec: SceneSpec
) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, "n h w"]]:
    """Scaled, moved, mirrored and recoloured, each scene by draws of its own from torch's generator.

    Outside the photograph is grey, and void where there is such a class; without one, the border is repeated.
    """
    n, device = len(photo), photo.device
    low, high = math.log(recipe.smallest_scale), math.log(recipe.largest_scale)
    scale = (low + (high - low) * torch.rand(n)).exp()
    shift = (torch.rand(n, 2) * 2 - 1) * (1 - 1 / scale).abs()[:, None]
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    places = torch.zeros(n, 2, 3)
    places[:, 0, 0], places[:, 1, 1], places[:, :, 2] = mirror / scale, 1 / scale, shift
    grid = F.affine_grid(places.to(device), [n, 1, *photo.shape[-2:]], align_corners=False)
    border = "zeros" if spec.void is not None else "border"
    moved = F.grid_sample(photo, grid, mode="bilinear", padding_mode=border, align_corners=False)
    labels = (classes + 1).float()[:, None]  # 0 is what lies outside; exact up to 2^24 classes
    labels = F.grid_sample(labels, grid, mode="nearest", padding_mode=border, align_corners=False)[:, 0].long() - 1
    if spec.void is not None:
        labels = labels.masked_fill(labels < 0, spec.void)
    return recolored(moved, recipe.jitter), labels


def recolored(photo: Float[Tensor, "n c h w"], jitter: float) -> Float[Tensor, "n c h w"]:
    """Brightness, contrast and saturation changed by draws of each photograph's own."""
    factors = 1 + jitter * (torch.rand(3, len(photo), 1, 1, 1) * 2 - 1)
    brightness, contrast, saturation = factors.to(photo.device)
    light = (photo + 1) * brightness
    light = light.mean((1, 2, 3), keepdim=True) + (light - light.mean((1, 2, 3), keepdim=True)) * contrast
    grey = light.mean(1, keepdim=True)
    return ((grey + (light - grey) * saturation) - 1).clamp(-1, 1)
