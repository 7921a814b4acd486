"""Cascaded Refinement Networks.

Q. Chen and V. Koltun, "Photographic Image Synthesis with Cascaded Refinement Networks", ICCV 2017.

No game and no noise: a cascade of refinement modules, each at twice the resolution of the last, is regressed onto
photographs under a perceptual loss. What differs from the paper, and what we follow of the authors' released code:

- Two 3x3 convolutions with norm and leaky ReLU in every module, the last included, then a linear 1x1 projection (code).
- Any start size and aspect; the paper's is 4x8 with widths 1024 x5, 512 x2, 128, 32 for 1024x2048.
- Several paintings of one layout (`candidates`) come from one pass and one projection; the loss asks of each class that
  one of them be right, and 0.001 of the mean that none be forgotten (code).
- conv1 of a concatenation is the sum of two convolutions, with the same weights: no buffer for the concatenation.
- Photographs are in [-1, 1] as everywhere in photogram; the loss rescales to the paper's 0..255 inside.
- The loss weights (lambda) are the authors' for the VGG-19 that they used. Other feature networks have weights of their
  own, calibrated by the paper's rule (section 3.3 of the paper; `calibrate_first`, `calibrate_epoch`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from photogram.errors import UserError, nearest, unfit
from photogram.generator import Generator, Network, NoOptions
from photogram.nn.gradients import kept_or_computed_again
from photogram.nn.layout_conv import LayoutLevel, Window, pyramid
from photogram.nn.perceptual import (
    Calibration,
    PerceptualLoss,
    best_by_class,
    check_photographs,
    known_weights,
    load_features,
)
from photogram.nn.strips import conv_of_upsampled
from photogram.nn.trunks import weights_digest
from photogram.optim import load_adam
from photogram.recipe import LearnsFrom, Run, layouts_alone
from photogram.recipes.fields import check_least, check_positive
from photogram.scene import Condition, Layout, Scene, SceneSpec, class_difference, one_hot

LEAST_FEATHER, MOST_FEATHER = 0.01, 100.0
WIDTHS_BOUND = "must be one positive integer or more, one for each module"


def are_widths(widths: object) -> bool:
    """Whether the value can be a cascade's widths; false of what is no tuple at all, as a file may say."""
    return isinstance(widths, tuple) and bool(widths) and all(type(width) is int and width > 0 for width in widths)


def begin(network: nn.Module) -> None:
    """The first weights of the authors' library: Xavier's, and biases of 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class RefinementModule(nn.Module):
    """Refine features from the previous resolution, guided by the layout at this one.

    Args:
        in_channels: of the features; 0 where there are none.
        num_classes: planes of the layout, or channels of what stands in its place.
        out_channels: features of both convolutions.
        dilation: of both; 1 in the cascade.
    """

    def __init__(self, in_channels: int, num_classes: int, out_channels: int, dilation: int = 1):
        super().__init__()
        self.dilation = dilation
        kept: dict[str, Any] = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv2d(in_channels + num_classes, out_channels, 3, **kept)
        self.norm1 = nn.GroupNorm(1, out_channels, eps=1e-12)  # one group: layer norm over C, H and W
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, **kept)
        self.norm2 = nn.GroupNorm(1, out_channels, eps=1e-12)

    def forward(
        self, x: Float[Tensor, "n c_in h w"] | None, layout: LayoutLevel | Float[Tensor, "n c H W"]
    ) -> Float[Tensor, "n c_out H W"]:
        if x is None:  # the coarsest module has only the layout to go by
            x = self._guide(layout, self.conv1.weight, None)
        else:
            size = (layout.shape[-2], layout.shape[-1])
            # conv1 of the concatenation, features first, layout last. In two parts it needs no buffer for that, and no
            # copy of a slice of the buffer's gradient.
            from_features, from_layout = self.conv1.weight.split([x.shape[1], layout.shape[1]], dim=1)
            x = conv_of_upsampled(x, from_features, size, self.dilation)
            x = self._guide(layout, from_layout, x)
        # The norm takes its statistics in float32 whatever it is given; its output is fresh, so ReLU may overwrite it.
        x = F.leaky_relu(self.norm1(x), 0.2, inplace=True)
        return F.leaky_relu(self.norm2(self.conv2(x)), 0.2, inplace=True)

    def _guide(self, layout: LayoutLevel | Tensor, weight: Tensor, onto: Tensor | None) -> Tensor:
        """The layout's part of conv1, added to the features' part, where there is one."""
        if isinstance(layout, LayoutLevel):
            return layout.conv(weight, Window(3, padding=self.dilation, dilation=self.dilation), onto)
        made = F.conv2d(layout, weight, None, 1, self.dilation, self.dilation)
        return made if onto is None else onto.add_(made)


@dataclass(frozen=True)
class Choice(NoOptions):
    """What to take of the candidates that a pass paints."""

    candidates: int | Literal["all", "best"] = 0
    """The number of one, from 0; all: every one; best: `synthesize` keeps the one that is nearest to the photograph
    beside the layout (in Python, best is all: whoever asks has the photograph and chooses)."""
    mix: str = ""
    """Classes that come from other candidates, as in sky=3,road=1."""
    feather: float = 2.0
    """Standard deviation, in pixels, by which the seams of a mix are softened; 0: hard seams."""

    @property
    def several(self) -> bool:
        return self.candidates in ("all", "best")

    def check(self, network: Generator) -> None:
        """Refuse what the network has not.

        Raises:
            UserError: for a number that there is not, or a class that is unknown.
        """
        numbers = {} if self.several else {f"--candidates {self.candidates}": self.candidates}
        numbers |= {f"--mix {name}={number}": number for name, number in self.mixed(network.spec).items()}
        for asked, number in numbers.items():
            if type(number) is not int or not 0 <= number < network.candidates:
                raise UserError(f"{asked}: the network paints candidates 0..{network.candidates - 1}")
        if self.mix and self.several:
            raise UserError(f"--mix {self.mix!r}: needs one candidate for the classes that it does not name, not all")
        if self.feather and not LEAST_FEATHER <= self.feather <= MOST_FEATHER:  # nor nan
            raise unfit("feather", self.feather, f"must be 0 or {LEAST_FEATHER:g} to {MOST_FEATHER:g} pixels")

    def mixed(self, spec: SceneSpec) -> dict[str, int]:
        """The candidate of each class that the mix names."""
        found: dict[str, int] = {}
        known = [c.name for c in spec.classes]
        for part in filter(None, (p.strip() for p in self.mix.split(","))):
            name, _, number = (text.strip() for text in part.rpartition("="))
            if not name or not number.isdecimal():
                raise UserError(f"--mix {part!r}: must be CLASS=NUMBER, as in sky=3,road=1")
            if name not in known:
                raise UserError(f"--mix {name!r}: is no class{nearest(name, known)}; there is {', '.join(known)}")
            if name in found:
                raise UserError(f"--mix {self.mix!r}: names {name} twice; which candidate is meant?")
            found[name] = int(number)
        return found


def assembled(
    candidates: Float[Tensor, "n k c h w"], layout: Layout, chosen: Int[Tensor, " classes"], feather: float
) -> Float[Tensor, "n c h w"]:
    """One picture of many: each class from the candidate that is chosen for it (section 4), with softened seams.

    Args:
        candidates: of each layout.
        layout: of the same size.
        chosen: the number of a candidate for each class.
        feather: standard deviation, in pixels, of the blur of each candidate's share; 0 for hard seams.
    """
    numbers = chosen.to(layout.classes.device)[layout.classes.long()]
    used = numbers.unique()
    shares = (numbers[:, None] == used.view(-1, 1, 1)).to(candidates)
    if feather:
        shares = blurred(shares, feather)
        shares = shares / shares.sum(1, keepdim=True)
    return (candidates[:, used] * shares[:, :, None]).sum(1)


def blurred(planes: Float[Tensor, "n k h w"], sigma: float) -> Float[Tensor, "n k h w"]:
    """Gaussian blur; what lies outside is as at the border."""
    reach = max(1, math.ceil(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=planes.dtype, device=planes.device)
    kernel = (-0.5 * (places / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    flat = planes.flatten(0, 1)[:, None]
    with torch.autocast(planes.device.type, enabled=False):  # shares that should sum to 1
        flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
        flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.view_as(planes)


class CascadedRefinementNetwork(Generator):
    """Paint photographs of a layout, from coarse to fine (section 3.1).

    Args:
        spec: what the scenes share; its classes, the void class included, are the input channels.
        widths: features of each module, from the coarsest to the finest; each works at twice the size of the last.
        candidates: how many paintings of a layout one pass makes (section 3.4), by the projection alone.
    """

    Options: ClassVar[type[NoOptions]] = Choice

    def __init__(self, *, spec: SceneSpec, widths: tuple[int, ...], candidates: int = 1):
        super().__init__()
        if not are_widths(widths):
            raise UserError(f"widths {widths}: {WIDTHS_BOUND}")
        if type(candidates) is not int or candidates < 1:
            raise UserError(f"candidates {candidates}: must be 1 or more")
        self.spec, self.widths, self.candidates = spec, widths, candidates
        channels = zip((0, *widths), widths, strict=False)
        self.cascade = nn.ModuleList(RefinementModule(c_in, spec.num_classes, c_out) for c_in, c_out in channels)
        self.to_rgb = nn.Conv2d(widths[-1], spec.photo_channels * candidates, 1)
        begin(self)

    @property
    def size_multiple(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def forward(self, layout: Layout) -> Float[Tensor, "n k c h w"]:
        """All candidates; channels of the projection are by colour, then by candidate, as the authors' are."""
        x = None
        levels = pyramid(layout.classes, self.spec.num_classes, len(self.cascade))  # the share of each class
        for module, level in zip(self.cascade, levels, strict=True):
            x = kept_or_computed_again(module, self.checkpointing, x, level)
        return self.to_rgb(x).unflatten(1, (self.spec.photo_channels, self.candidates)).transpose(1, 2)

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n *k c h w"]:
        assert condition.layout is not None and isinstance(options, Choice)  # `sample` has checked them
        found = self(condition.layout)
        if isinstance(options.candidates, str):
            return found
        mixed = options.mixed(self.spec)
        if not mixed:
            return found[:, options.candidates]
        chosen = torch.tensor([mixed.get(c.name, options.candidates) for c in self.spec.classes])
        return assembled(found.float(), condition.layout, chosen, options.feather)


@dataclass(frozen=True)
class Regression:
    """What CRN has in common with the systems that it is compared with: photographs under the perceptual loss."""

    perceptual: str = "vgg19"
    """Feature network of the loss, Phi: vgg19, squeezenet (embedded, runs offline), a file (.safetensors or .pth with
    torchvision's VGG keys, .mat from MatConvNet), or none (pixels alone: the paper's image-space baseline)."""
    learning_rate: float = 1e-4
    """Adam's step size."""
    loss_weights: tuple[float, ...] = ()
    """Lambda for pixels and for each feature map; empty takes those known for the feature network, or calibrates."""
    calibrate_first: int = 64
    """Where no weights are known, so many first photographs calibrate them (running means); 0 leaves them at 1."""
    calibrate_epoch: int = 0
    """Rescale the weights by the means of this epoch (counted from 1), once; the paper rescaled after 100. 0: never."""
    remember: float = 0.0
    """Memory, in GB, for the feature maps of photographs, so that those seen again need no pass through the feature
    network; it changes no result but for rounding. Worth it where many of the photographs fit."""
    checkpointing: bool = False
    """Compute each module again for its gradients instead of keeping what is in it, and of several candidates the
    feature maps of one after the other: less memory, more time."""

    def check(self) -> None:
        """Refuse values that no training can have. Not done on construction, where the parser of flags would answer.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        weights = self.loss_weights
        check_positive(self, "learning_rate")
        if not all(0 <= weight < math.inf for weight in weights) or (weights and not any(weights)):
            raise unfit("loss_weights", weights, "must be finite and 0 or more, one of them above 0")
        if not 0 <= self.remember < math.inf:
            raise unfit("remember", self.remember, "must be 0 GB or more")
        check_least(self, 0, "calibrate_first", "calibrate_epoch")


@dataclass(frozen=True)
class CRN(Regression):
    """Cascaded Refinement Networks (Chen and Koltun 2017): one feed-forward pass from layout to photograph."""

    networks: ClassVar[tuple[type[Network], ...]] = (CascadedRefinementNetwork,)
    learns_from: ClassVar[LearnsFrom] = "layouts"

    widths: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024, 512, 512)
    """Features of each refinement module, d_i, from coarse to fine. Their number N and the size give the start size,
    size / 2^(N-1), which should be 3 to 8 a side."""
    candidates: int = 1
    """Paintings of a layout that one pass makes, k; 9 in the released models. Of more than one, each class of a
    layout needs to be right in one only (section 3.4)."""
    train_last: int = 0
    """Learn the projection and so many of the last modules, and leave the rest as it is handed over; 0: all. The
    authors learned the last 2 at 1024x2048, for memory."""

    def check(self) -> None:
        super().check()
        if not are_widths(self.widths):
            raise unfit("widths", self.widths, WIDTHS_BOUND)
        if self.candidates < 1:
            raise unfit("candidates", self.candidates, "must be 1 or more")
        if not 0 <= self.train_last <= len(self.widths):
            raise unfit("train_last", self.train_last, f"must be 0 (all) to {len(self.widths)} modules")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return 2 ** (len(self.widths) - 1)

    def start(self, run: Run) -> RegressionTraining:
        self.check()
        layouts_alone(run, "crn")
        generator = CascadedRefinementNetwork(spec=run.spec, widths=self.widths, candidates=self.candidates)
        if run.start_from is not None:
            hand_over(run.start_from, generator)
        elif 0 < self.train_last < len(self.widths):
            raise unfit("train_last", self.train_last, "leaves the other modules as they start; give --from RUN too")
        if self.train_last:
            generator.cascade[: len(self.widths) - self.train_last].requires_grad_(False)
        return RegressionTraining(self, run, generator)


class RegressionTraining:
    """A generator under way: one network, one optimizer, no game.

    Args:
        recipe: the weights of the loss, and how fast to learn.
        run: the rest.
        generator: what learns, but for parameters that need no gradient. Called with a layout, it gives candidates
            [n, k, c, h, w].
    """

    def __init__(self, recipe: Regression, run: Run, generator: Generator):
        self.recipe, self.run = recipe, run
        generator.checkpointing = recipe.checkpointing
        generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        learned = [p for p in generator.parameters() if p.requires_grad]
        adam = torch.optim.Adam(learned, lr=recipe.learning_rate, fused=True)
        self.published_generator = generator
        trunk = load_features(recipe.perceptual)
        check_photographs(run.spec, trunk)
        # `prepare` replaces the forward of what it is given, by one with the training's precision. The generator keeps
        # its own, so that what is published paints as it does when it is loaded.
        self.generator, self.adam = run.accelerator.prepare(nn.Sequential(generator), adam)
        self.perceptual = PerceptualLoss(trunk, round(recipe.remember * 2**30)).to(run.accelerator.device)
        self.calibration = Calibration(
            self.perceptual,
            weights=recipe.loss_weights or known_weights(trunk, generator.candidates),
            first=recipe.calibrate_first,
            epoch=recipe.calibrate_epoch,
            photographs=run.photographs,
            shown=run.batch_size * run.accelerator.num_processes,
        )

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.condition.layout is not None and scene.photo is not None
        self.adam.zero_grad()  # before the features need room
        with self.run.accelerator.autocast():
            paintings = self.generator(scene.condition.layout)
            if paintings.shape[1] == 1:
                terms, costs = self.perceptual(paintings[:, 0], scene.photo), None
            else:
                masks = one_hot(scene.condition.layout.classes, self.run.spec.num_classes)
                costs = self.perceptual.by_class(paintings, scene.photo, masks, self.recipe.checkpointing)
                terms = costs.sum(-1).mean((1, 2))
        weights = self.calibration.weights(self.run.mean(terms.detach()), seen).to(terms)

        # Look like the photograph, in pixels and in features of growing context (equation 1); of several paintings,
        # the one that does so best in each class (section 3.4).
        loss = (weights * terms).sum() if costs is None else best_by_class(torch.einsum("t,tnkp->nkp", weights, costs))
        self.run.accelerator.backward(loss)
        self.adam.step()
        return {"loss": loss, **dict(zip(self.perceptual.names, terms, strict=True))}

    def memory_to_come(self) -> int:
        """Bytes that later steps will hold besides, as far as `remember` lets them."""
        return self.perceptual.memory_to_come(self.run.photographs)

    def facts(self) -> dict[str, str]:
        trunk = self.perceptual.trunk
        pairs = zip(self.perceptual.names, self.calibration.current.tolist(), strict=True)
        return {
            "loss weights in use (lambda)": ", ".join(f"{name} {weight:.4g}" for name, weight in pairs),
            "feature network": "none: pixels alone" if trunk is None else f"{trunk.name}; {trunk.terms}",
        }

    def published(self) -> dict[str, Generator]:
        return {"generator": self.published_generator}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        return scene

    def state_dict(self) -> dict[str, object]:
        return {
            "generator": self.published_generator.state_dict(),
            "adam": self.adam.state_dict(),
            "calibration": self.calibration.state_dict(),
            "perceptual": self._looks_through(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["perceptual"] != self._looks_through():  # a file of that name, but of other content
            raise UserError(
                f"--perceptual {self.recipe.perceptual}: holds other weights than when this run was started; bring "
                "them back, or give another --out"
            )
        self.published_generator.load_state_dict(state["generator"])
        load_adam(self.adam, state["adam"])
        self.calibration.load_state_dict(state["calibration"])

    def _looks_through(self) -> str:
        return "" if self.perceptual.trunk is None else weights_digest(self.perceptual.trunk)


def hand_over(folder: Path, generator: CascadedRefinementNetwork) -> None:
    """Start from a published cascade: all of it where both are of one form, else its modules, for a longer cascade.

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
    if (source.widths, source.candidates) == (generator.widths, generator.candidates):
        generator.load_state_dict(source.state_dict())
    else:
        generator.cascade[: len(source.widths)].load_state_dict(source.cascade.state_dict())
