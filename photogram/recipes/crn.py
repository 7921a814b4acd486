"""Cascaded Refinement Networks, in their single-image form.

Q. Chen and V. Koltun, "Photographic Image Synthesis with Cascaded Refinement Networks", ICCV 2017.

No game and no noise: a cascade of refinement modules, each at twice the resolution of the last, is regressed onto
photographs under a perceptual loss. What differs from the paper, and what we follow of the authors' released code:

- Two 3x3 convolutions with norm and leaky ReLU in every module, the last included, then a linear 1x1 projection (code).
- Any start size and aspect; the paper's is 4x8 with widths 1024 x5, 512 x2, 128, 32 for 1024x2048.
- Photographs are in [-1, 1] as everywhere in photogram; the loss rescales to the paper's 0..255 inside.
- The loss weights (lambda) are the authors' for the VGG-19 that they used. Other feature networks have weights of their
  own, calibrated by the paper's rule (section 3.3 of the paper; `calibrate_first`, `calibrate_epoch`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from photogram.errors import UserError
from photogram.generator import Generator, Network
from photogram.nn.trunks import Trunk, load_trunk, weights_digest
from photogram.recipe import Run
from photogram.scene import Condition, Layout, Scene, SceneSpec, class_difference, one_hot

WIDTHS_BOUND = "must be one positive integer or more, one for each module"


def are_widths(widths: object) -> bool:
    """Whether the value can be a cascade's widths; false of what is no tuple at all, as a file may say."""
    return isinstance(widths, tuple) and bool(widths) and all(type(width) is int and width > 0 for width in widths)


class RefinementModule(nn.Module):
    """Refine features from the previous resolution, guided by the layout at this one."""

    def __init__(self, in_channels: int, num_classes: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels + num_classes, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(1, out_channels, eps=1e-12)  # one group: layer norm over C, H and W
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(1, out_channels, eps=1e-12)

    def forward(
        self, x: Float[Tensor, "n c_in h w"] | None, layout: Float[Tensor, "n c H W"]
    ) -> Float[Tensor, "n c_out H W"]:
        if x is None:  # the coarsest module has only the layout to go by
            x = self.conv1(layout)
        else:
            x = F.interpolate(x, size=layout.shape[-2:], mode="bilinear", align_corners=True)
            # conv1 of the concatenation, features first, layout last. In two parts it needs no buffer for that, and no
            # copy of a slice of the buffer's gradient.
            from_features, from_layout = self.conv1.weight.split([x.shape[1], layout.shape[1]], dim=1)
            x = F.conv2d(x, from_features, padding=1) + F.conv2d(layout, from_layout, padding=1)
        # The norm takes its statistics in float32 whatever it is given; its output is fresh, so ReLU may overwrite it.
        x = F.leaky_relu(self.norm1(x), 0.2, inplace=True)
        return F.leaky_relu(self.norm2(self.conv2(x)), 0.2, inplace=True)


class CascadedRefinementNetwork(Generator):
    """Paint one photograph of a layout, from coarse to fine (section 3.1).

    Args:
        spec: what the scenes share; its classes, the void class included, are the input channels.
        widths: features of each module, from the coarsest to the finest; each works at twice the size of the last.
    """

    def __init__(self, *, spec: SceneSpec, widths: tuple[int, ...]):
        super().__init__()
        if not are_widths(widths):
            raise UserError(f"widths {widths}: {WIDTHS_BOUND}")
        self.spec, self.widths = spec, widths
        channels = zip((0, *widths), widths, strict=False)
        self.cascade = nn.ModuleList(RefinementModule(c_in, spec.num_classes, c_out) for c_in, c_out in channels)
        self.to_rgb = nn.Conv2d(widths[-1], spec.photo_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the default of the authors' library
                nn.init.xavier_uniform_(module.weight)
        if self.to_rgb.bias is not None:
            nn.init.zeros_(self.to_rgb.bias)

    @property
    def size_multiple(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def forward(self, layout: Layout) -> Float[Tensor, "n c h w"]:
        full = one_hot(layout.classes, self.spec.num_classes).to(self.to_rgb.weight.dtype)
        full = full.contiguous(memory_format=torch.channels_last)
        x = None
        for depth, module in enumerate(self.cascade, start=1):
            x = module(x, F.avg_pool2d(full, 2 ** (len(self.cascade) - depth)))  # fractions of each class
        return self.to_rgb(x)

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert condition.layout is not None  # `sample` has checked it
        return self(condition.layout)


LOSS_WEIGHTS: dict[str, tuple[float, ...]] = {
    # Pixels, then conv1_2 .. conv5_2: the authors', for one image at 512p and 1024p.
    "vgg19-matconvnet": (1, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5),
    # Pixels, then conv1, fire3 .. fire9: calibrated once on CamVid at 96 x 128, see docs/papers/crn.md.
    "squeezenet": (1, 2.56, 1.33, 1.62, 2.88, 12.7),
}
"""Lambda for pixels and for each feature map, by feature network; others are calibrated."""


class MeanAbsoluteDifference(torch.autograd.Function):
    """The mean of |a - b| as one number in float32 or wider, with the gradient for a.

    It reads large feature maps in the precision that they come in, where the plain formula would copy them to float32
    and spread the mean's gradient over a map of its own.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        difference = a - b
        ctx.save_for_backward(difference)
        wide = torch.promote_types(difference.dtype, torch.float32)
        return difference.abs().sum(dtype=wide) / difference.numel()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return difference.sign() * (grads[0] / difference.numel()).to(difference.dtype), None


def mean_absolute_difference(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    """The mean of |a - b|; gradients go to `a` alone."""
    result = MeanAbsoluteDifference.apply(a, b)
    assert isinstance(result, Tensor)
    return result


class PerceptualLoss(nn.Module):
    """The mean absolute difference of pixels and of feature maps (equation 1), each times its lambda.

    Pixels are compared on 0..255, as in the paper; the feature network rescales as it needs.

    Args:
        trunk: the frozen feature network.
    """

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk

    @property
    def names(self) -> tuple[str, ...]:
        return ("image", *self.trunk.layers)

    def forward(self, painting: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h w"]) -> Float[Tensor, " terms"]:
        """One unweighted mean per term, in grey levels for pixels and in feature units for the rest."""
        with torch.no_grad():
            photographed = self.trunk(photo)
        painted = self.trunk(painting)
        pixels = 127.5 * mean_absolute_difference(painting.float(), photo)
        return torch.stack([pixels, *map(mean_absolute_difference, painted, photographed)])


def calibrated(means: Mapping[str, float]) -> tuple[float, ...]:
    """Weights that let every term contribute as much as pixels do: lambda_l = m_0 / m_l (specification 3.4).

    Args:
        means: the finite mean of each term, by name, that of pixels first.

    Raises:
        UserError: where a term is 0, so that no weight can balance it.
    """
    for name, mean in means.items():
        if mean == 0:
            raise UserError(
                f"the term {name!r} is 0 for all photographs that calibrate the loss, so that no weight balances it; "
                f"give weights instead: --loss-weights, one each for {' '.join(means)}"
            )
    first = next(iter(means.values()))
    return tuple(first / mean for mean in means.values())


class Calibration:
    """The lambdas, and the running means from which they are set.

    Known weights stay as they are. Unknown ones follow the running means of the first photographs. Either are rescaled
    by the means of one whole epoch, where the recipe says so.

    Args:
        recipe: says when to calibrate.
        loss: the terms to weigh.
        photographs: how many make an epoch.
        shown: photographs that one step shows, over all processes.
    """

    def __init__(self, recipe: CRN, loss: PerceptualLoss, photographs: int, shown: int):
        known = recipe.loss_weights or LOSS_WEIGHTS.get(loss.trunk.name, ())
        if known and len(known) != len(loss.names):
            names = ", ".join(loss.names)
            raise UserError(
                f"--loss-weights has {len(known)} values, but {loss.trunk.name} has {len(loss.names)} terms: {names}"
            )
        self.epoch, first = range(0), 0 if known else recipe.calibrate_first
        if recipe.calibrate_epoch:  # from the first step that begins in it to the first that begins after it
            last = recipe.calibrate_epoch
            start, stop = (-(-epoch * photographs // shown) * shown for epoch in (last - 1, last))
            self.epoch = range(start, max(stop, start + 1))  # one step at least
            first = min(first, self.epoch.start or self.epoch.stop)  # the epoch has the last word
        self.first, self.names = range(first), loss.names
        self.current: Tensor = torch.tensor(known or (1.0,) * len(loss.names), dtype=torch.float32)
        self.sums: Tensor = torch.zeros(len(loss.names), dtype=torch.float64)
        self.summed: int = 0

    def weights(self, means: Float[Tensor, " terms"], seen: int) -> Float[Tensor, " terms"]:
        """The weights of the step that follows `seen` photographs, whose unweighted terms are `means`."""
        if seen == self.epoch.start:  # the first photographs are no part of the epoch's mean
            self.sums, self.summed = torch.zeros_like(self.sums), 0
        if seen in self.first or seen in self.epoch:
            measured = means.cpu().double()  # in this order: there are devices without float64
            if not measured.isfinite().all():
                return self.current  # nothing to learn from; the loop is about to stop for this loss
            self.sums, self.summed = self.sums + measured, self.summed + 1
        if self.summed and (seen in self.first or seen >= self.epoch.stop > 0):
            mean = (self.sums / self.summed).tolist()
            self.current = torch.tensor(calibrated(dict(zip(self.names, mean, strict=True))))
        return self.current

    def state_dict(self) -> dict[str, object]:
        return {"current": self.current, "sums": self.sums, "summed": self.summed}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.current, self.sums, self.summed = state["current"], state["sums"], state["summed"]  # pyright: ignore


@dataclass(frozen=True)
class CRN:
    """Cascaded Refinement Networks (Chen and Koltun 2017): one feed-forward pass from layout to photograph."""

    networks: ClassVar[tuple[type[Network], ...]] = (CascadedRefinementNetwork,)

    widths: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024, 512, 512)
    """Features of each refinement module, d_i, from coarse to fine. Their number N and the size give the start size,
    size / 2^(N-1), which should be 3 to 8 a side."""
    perceptual: str = "vgg19"
    """Feature network of the loss, Phi: vgg19, squeezenet (embedded, runs offline), or a file (.safetensors or .pth
    with torchvision's VGG keys, .mat from MatConvNet)."""
    learning_rate: float = 1e-4
    """Adam's step size."""
    loss_weights: tuple[float, ...] = ()
    """Lambda for pixels and for each feature map; empty takes those known for the feature network, or calibrates."""
    calibrate_first: int = 64
    """Where no weights are known, so many first photographs calibrate them (running means); 0 leaves them at 1."""
    calibrate_epoch: int = 0
    """Rescale the weights by the means of this epoch (counted from 1), once; the paper rescaled after 100. 0: never."""

    def check(self) -> None:
        """Refuse values that no training can have. Not done on construction, where the parser of flags would answer.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        weights, rate = self.loss_weights, self.learning_rate
        if not are_widths(self.widths):
            raise UserError(f"{_flag('widths', self.widths)}: {WIDTHS_BOUND}")
        if not 0 < rate < math.inf:  # nor nan
            raise UserError(f"{_flag('learning_rate', rate)}: must be above 0 and finite")
        if not all(0 <= weight < math.inf for weight in weights) or (weights and not any(weights)):
            raise UserError(f"{_flag('loss_weights', weights)}: must be finite and 0 or more, one of them above 0")
        for name in ("calibrate_first", "calibrate_epoch"):
            if getattr(self, name) < 0:
                raise UserError(f"{_flag(name, getattr(self, name))}: must be 0 or more")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2 ** (len(self.widths) - 1)

    def start(self, run: Run) -> CRNTraining:
        self.check()
        return CRNTraining(self, run)


def _flag(name: str, value: object) -> str:
    """A field and its value as they are typed on the command line."""
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{name.replace('_', '-')}", *map(str, values)])


class CRNTraining:
    """A cascade under way: one network, one optimizer, no game."""

    def __init__(self, recipe: CRN, run: Run):
        if not run.spec.num_classes or run.spec.image_channels:
            raise UserError("crn paints from layouts alone; this data has none, or images as conditions")
        self.recipe, self.run = recipe, run
        generator = CascadedRefinementNetwork(spec=run.spec, widths=recipe.widths)
        if run.start_from is not None:
            hand_over(run.start_from, generator)
        generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        adam = torch.optim.Adam(generator.parameters(), lr=recipe.learning_rate, fused=True)
        self.published_generator = generator
        trunk = load_trunk(recipe.perceptual)
        check_photographs(run.spec, trunk)
        # `prepare` replaces the forward of what it is given, by one with the training's precision. The generator keeps
        # its own, so that what is published paints as it does when it is loaded.
        self.generator, self.adam = run.accelerator.prepare(nn.Sequential(generator), adam)
        self.perceptual = PerceptualLoss(trunk).to(run.accelerator.device)
        shown = run.batch_size * run.accelerator.num_processes
        self.calibration = Calibration(recipe, self.perceptual, run.photographs, shown)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.condition.layout is not None and scene.photo is not None
        with self.run.accelerator.autocast():
            painting = self.generator(scene.condition.layout)
            terms = self.perceptual(painting, scene.photo)
        weights = self.calibration.weights(self.run.mean(terms.detach()), seen).to(terms)

        # Look like the photograph, in pixels and in features of growing context (equation 1).
        loss = (weights * terms).sum()
        self.adam.zero_grad()
        self.run.accelerator.backward(loss)
        self.adam.step()
        return {"loss": loss, **dict(zip(self.perceptual.names, terms, strict=True))}

    def facts(self) -> dict[str, str]:
        pairs = zip(self.perceptual.names, self.calibration.current.tolist(), strict=True)
        return {
            "loss weights in use (lambda)": ", ".join(f"{name} {weight:.4g}" for name, weight in pairs),
            "feature network": f"{self.perceptual.trunk.name}; {self.perceptual.trunk.terms}",
        }

    def published(self) -> dict[str, Generator]:
        return {"generator": self.published_generator}

    def state_dict(self) -> dict[str, object]:
        return {
            "generator": self.published_generator.state_dict(),
            "adam": self.adam.state_dict(),
            "calibration": self.calibration.state_dict(),
            "perceptual": weights_digest(self.perceptual.trunk),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["perceptual"] != weights_digest(self.perceptual.trunk):  # a file of that name, but of other content
            raise UserError(
                f"--perceptual {self.recipe.perceptual}: holds other weights than when this run was started; bring "
                "them back, or give another --out"
            )
        self.published_generator.load_state_dict(state["generator"])
        self.adam.load_state_dict(state["adam"])
        self.calibration.load_state_dict(state["calibration"])


def check_photographs(spec: SceneSpec, trunk: Trunk) -> None:
    """Refuse photographs that the feature network cannot look at.

    Raises:
        UserError: for other channels than 1 or 3, or a size that is too small for the coarsest features.
    """
    if spec.photo_channels not in Trunk.channels:
        raise UserError(
            f"{trunk.name} sees photographs of 1 or 3 channels, but this data's have {spec.photo_channels}; "
            "bring them into grey or RGB"
        )
    if min(spec.size) < trunk.smallest:
        raise UserError(
            f"--size {spec.size[0]} {spec.size[1]}: {trunk.name} needs {trunk.smallest} pixels a side or more"
        )


def hand_over(folder: Path, generator: CascadedRefinementNetwork) -> None:
    """Start from a published cascade: all of it where the widths agree, else its modules, for a longer cascade.

    A longer cascade keeps what the shorter one has learned and adds finer modules and a projection of its own (section
    5.1 of the specification: the 512p network starts from the 256p one, without its projection).

    Raises:
        UserError: where classes or widths do not fit.
    """
    source = CascadedRefinementNetwork.from_pretrained(folder)
    differs = class_difference(source.spec, generator.spec)
    if differs is not None:
        raise UserError(f"--from {folder}: {differs}; start without --from, or bring the data into its classes")
    if source.widths != generator.widths[: len(source.widths)]:
        raise UserError(f"--from {folder}: has widths {source.widths}; {generator.widths} must begin with them")
    if source.widths == generator.widths:
        generator.load_state_dict(source.state_dict())
    else:
        generator.cascade[: len(source.widths)].load_state_dict(source.cascade.state_dict())
