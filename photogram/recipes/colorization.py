"""Interactive colourisation: a grey photograph in the colours that a person hints at.

R. Zhang, J.-Y. Zhu, P. Isola, X. Geng, A. S. Lin, T. Yu and A. A. Efros, "Real-Time User-Guided Image Colorization with
Learned Deep Priors", SIGGRAPH 2017; the training in two phases is that of the authors' PyTorch code.

A network sees lightness, hints and where they are, and gives ab for all pixels: a Huber loss, no discriminator. Hints
are simulated in training. A side head says how likely each of 529 colours is, from which a person is offered some.
Where we differ from the paper and its code, and what they leave open:

- Bins are the full grid of 10 units, 23 x 23; the authors' list of 313 is a published array that no rule gives.
- Phase 1 (`epochs_automatic`) shows no hints; the trunk learns from the bins, the way up to ab reads what it made.
  Phase 2 draws hints; the trunk learns from the Huber loss, the bins read. So neither loss needs a weight, and no two
  phases share Adam's moments.
- Global hints (`--global-hints`) are what a photograph is like as a whole: the shares of those 529 bins, and the mean
  saturation, each revealed to half of the images. They enter behind conv4's norm, as the sum.
- A patch is exactly as wide as was drawn, and its corner is rounded. (One official version writes one pixel more.)
- Weights begin as He et al. 2015 have it, ab near 0; the authors began with a network trained before.
- What sRGB cannot show at a pixel's lightness is made paler, not clipped: the lightness stays as it was.

Batch norm takes the statistics of the batch in training and the running averages at synthesis; nothing is drawn there,
and every seed gives the same photograph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.generator import Generator, Network, NoOptions
from photogram.nn.color import AB, as_trained, colored, seen_colors, seen_lightness
from photogram.nn.color_bins import BINS, OVERALL, bin_of, overall_of, quarter, revealed
from photogram.nn.hints import Hints, Spot, check_places, drawn, none, simulated, spots_of
from photogram.nn.norms import BatchNorm, Statistics, share_statistics
from photogram.optim import load_adam, set_learning_rate
from photogram.recipe import LearnsFrom, Run, start_from
from photogram.recipes.fields import check_below_one, check_least, check_positive
from photogram.scene import Condition, Scene, SceneSpec

MULTIPLE = 8
"""Of the sizes at which colours are predicted: conv5 to conv7 work at an eighth."""


@dataclass(frozen=True)
class ColorizationOptions(NoOptions):
    """What can be chosen when a grey photograph is coloured."""

    hints: tuple[float, ...] = ()
    """Colour hints, five numbers each: column and row of the middle, radius in pixels, a and b. `photogram colorize`
    reads them from a file."""

    def check(self, network: Generator) -> None:
        spots_of(self.hints)


class Shown(NamedTuple):
    """What the network sees.

    Args:
        planes: (L - 50) / 100, the ab of hints / 110, and their mask - 0.5.
        overall: what the photograph is to be like as a whole; None where the network does not ask.
        automatic: of training: the trunk learns from the bins, not from ab.
    """

    planes: Float[Tensor, "n 4 h w"]
    overall: Float[Tensor, "n 532"] | None = None
    automatic: bool = False


class Colors(NamedTuple):
    """What the network says.

    Args:
        ab: of each pixel, in [-110, 110].
        bins: logits of 529 colours, at a quarter of the size.
    """

    ab: Float[Tensor, "n 2 h w"]
    bins: Float[Tensor, "n 529 h4 w4"]


def shown(grey: Float[Tensor, "n 1 h w"], hints: Hints) -> Float[Tensor, "n 4 h w"]:
    """A grey image in [-1, 1] and hints as the network sees them."""
    return torch.cat([seen_lightness(grey) / 2, hints.ab / AB, hints.mask - 0.5], 1)


def conv3(c_in: int, c_out: int, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation)


class Block(nn.Module):
    """Convolutions of 3x3, each with ReLU; batch norm at the end."""

    def __init__(self, c_in: int, c_out: int, convolutions: int, dilation: int = 1):
        super().__init__()
        channels = (c_in, *(c_out,) * convolutions)
        self.convs = nn.ModuleList(conv3(a, b, dilation) for a, b in pairwise(channels))
        self.norm = BatchNorm(c_out)

    def forward(self, x: Float[Tensor, "n c h w"], statistics: Statistics) -> Float[Tensor, "n c2 h w"]:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.norm(x, statistics)


class ColorizationNetwork(Generator):
    """Colour a grey photograph: ten blocks, down to an eighth and back, joined across (section 4; specification 2.10).

    Between blocks on the way down, every second row and column is taken. Colours are predicted at about the size that
    was trained at and enlarged: the lightness is the image's own, of any size.

    Args:
        spec: what the scenes share.
        width: features of conv1; they double up to eightfold.
        global_hints: whether it asks what the photograph is to be like as a whole.
    """

    Options: ClassVar[type[NoOptions]] = ColorizationOptions

    def __init__(self, *, spec: SceneSpec, width: int = 64, global_hints: bool = False):
        super().__init__()
        _check_width(width)
        _check_spec(spec)
        self.spec, self.width, self.global_hints = spec, width, global_hints
        w2, w4, w8 = 2 * width, 4 * width, 8 * width
        self.conv1, self.conv2 = Block(4, width, 2), Block(width, w2, 2)
        self.conv3, self.conv4 = Block(w2, w4, 3), Block(w4, w8, 3)
        self.conv5, self.conv6, self.conv7 = Block(w8, w8, 3, 2), Block(w8, w8, 3, 2), Block(w8, w8, 3)
        self.up8, self.skip8, self.conv8 = nn.ConvTranspose2d(w8, w4, 4, 2, 1), conv3(w4, w4), Block(w4, w4, 2)
        self.up9, self.skip9, self.conv9 = nn.ConvTranspose2d(w4, w2, 4, 2, 1), conv3(w2, w2), Block(w2, w2, 1)
        self.up10, self.skip10, self.conv10 = nn.ConvTranspose2d(w2, w2, 4, 2, 1), conv3(width, w2), conv3(w2, w2)
        self.to_ab, self.to_bins = nn.Conv2d(w2, 2, 1), nn.Conv2d(w4, BINS, 1)
        steps = (OVERALL, w8, w8, w8) if global_hints else ()
        self.overall = nn.ModuleList(nn.Conv2d(c, w8, 1) for c in steps)
        _begin(self)

    @property
    def size_multiple(self) -> int:
        return 1  # colours are predicted at another size

    def forward(self, shown: Shown) -> Colors:
        """As in training: by the statistics of the batch."""
        return self.run(shown, "batch")

    def run(self, shown: Shown, statistics: Statistics) -> Colors:
        """The pass, by the statistics that the caller chooses."""
        x1 = self.conv1(shown.planes, statistics)
        x2 = self.conv2(x1[..., ::2, ::2], statistics)
        x3 = self.conv3(x2[..., ::2, ::2], statistics)
        x = self.conv4(x3[..., ::2, ::2], statistics)
        if self.global_hints:
            assert shown.overall is not None
            y = shown.overall[..., None, None]
            for conv in self.overall:
                y = F.relu(conv(y))
            x = x + y
        for block in (self.conv5, self.conv6, self.conv7):
            x = block(x, statistics)
        x8 = self.conv8(F.relu(self.up8(x) + self.skip8(x3)), statistics)

        # One of the two ways on reads what the other one teaches.
        bins = self.to_bins(x8 if shown.automatic else x8.detach())
        if shown.automatic:
            x1, x2, x8 = x1.detach(), x2.detach(), x8.detach()
        x = self.conv9(F.relu(self.up9(x8) + self.skip9(x2)), statistics)
        x = F.leaky_relu(self.conv10(F.relu(self.up10(x) + self.skip10(x1))), 0.2)
        return Colors(AB * torch.tanh(self.to_ab(x).float()), bins.float())

    def asked(
        self, grey: Float[Tensor, "n 1 h w"], spots: Sequence[Spot], reference: Float[Tensor, "1 3 h2 w2"] | None
    ) -> Colors:
        """What it says of a grey photograph of any size, at about the size that it was trained at.

        Args:
            grey: in [-1, 1].
            spots: hints, in pixels of the photograph.
            reference: a photograph that it should be like as a whole; its colours' shares and its saturation count.

        Raises:
            UserError: for hints outside the photograph, or a reference where the network was trained without.
        """
        check_places(spots, (grey.shape[-2], grey.shape[-1]))
        if reference is not None and not self.global_hints:
            raise UserError("a reference needs a network with global hints; train one with --global-hints")
        small = as_trained(grey, self.spec.size, MULTIPLE).float()
        overall = None
        if self.global_hints and reference is None:
            overall = small.new_zeros(len(small), OVERALL)
        elif reference is not None:
            size = [max(4, n) for n in reference.shape[-2:]]  # of which there is a quarter
            sized = F.interpolate(reference, size) if size != list(reference.shape[-2:]) else reference
            overall = overall_of(sized.to(small)).expand(len(small), -1)
        hints = drawn(spots, (grey.shape[-2], grey.shape[-1]), small)
        return self.run(Shown(shown(small, hints), overall), "running")

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n 3 h w"]:
        assert isinstance(options, ColorizationOptions) and condition.image is not None  # `sample` has checked them
        return self.in_colors(condition.image, spots_of(options.hints), None)

    def in_colors(
        self, grey: Float[Tensor, "n 1 h w"], spots: Sequence[Spot], reference: Float[Tensor, "1 3 h2 w2"] | None
    ) -> Float[Tensor, "n 3 h w"]:
        """A grey photograph in colours, at its size and of its lightness; see `asked`."""
        return colored(grey, self.asked(grey, spots, reference).ab / AB)

    def bins_at(
        self,
        grey: Float[Tensor, "1 1 h w"],
        spots: Sequence[Spot],
        reference: Float[Tensor, "1 3 h2 w2"] | None,
        x: float,
        y: float,
    ) -> Float[Tensor, " 529"]:
        """Logits of the colours that a pixel of a grey photograph might have; see `asked`."""
        bins = self.asked(grey, spots, reference).bins[0]
        row = int((y + 0.5) * bins.shape[-2] / grey.shape[-2])
        return bins[:, row, int((x + 0.5) * bins.shape[-1] / grey.shape[-1])]


@torch.no_grad()
def _begin(network: ColorizationNetwork) -> None:
    """First weights: those of He et al. 2015 under a ReLU, which keep the size of features; half of the variance each
    where two are summed; small ones where no ReLU follows, so that everything begins nearly grey and no bin is likelier
    than others."""
    last = (network.to_ab, network.to_bins)
    summed = (network.up8, network.skip8, network.up9, network.skip9, network.up10, network.skip10)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Of a transposed convolution of stride 2, a quarter of the 16 taps reach a pixel.
            taps = 4 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
            std = math.sqrt((1 if module in summed else 2) / (taps * module.in_channels))
            module.weight.normal_(0, 0.01 if module in last else std)
            assert module.bias is not None
            module.bias.zero_()


def _check_width(width: int) -> None:
    if width < 1:
        raise unfit("width", width, "must be 1 or more")


def _check_innermost(run: Run) -> None:
    """Refuse sizes at which batch norm would see a single value."""
    height, width = (n // MULTIPLE for n in run.spec.size)
    if height * width * run.batch_size < 2:
        raise UserError(
            f"--size {run.spec.size[0]} {run.spec.size[1]}: at an eighth, conv4 to conv7 would see one pixel, of which "
            "there is no norm; give a larger --size or --batch-size"
        )


def _check_spec(spec: SceneSpec) -> None:
    """Refuse scenes that are not grey photographs and their colours."""
    if spec.num_classes or (spec.image_channels, spec.photo_channels) != (1, 3):
        raise UserError(
            f"colorization colours grey photographs: inputs of 1 channel and photographs of 3, not "
            f"{spec.image_channels} and {spec.photo_channels}{', nor layouts' if spec.num_classes else ''}; "
            "`photogram prepare grey` makes such inputs of photographs"
        )


@dataclass(frozen=True)
class Colorization:
    """Interactive colourisation (Zhang et al. 2017): grey photographs in colours that a person hints at."""

    networks: ClassVar[tuple[type[Network], ...]] = (ColorizationNetwork,)
    learns_from: ClassVar[LearnsFrom] = "images"

    width: int = 64
    """Features of the first block; they double up to eightfold."""
    global_hints: bool = False
    """Also learn to be told what the photograph is like as a whole: the shares of its colours and its saturation."""
    epochs_automatic: int = 15
    """Epochs without hints at first, from which the trunk learns to classify colours; 0 begins with hints."""
    learning_rate: float = 1e-4
    """Adam's step size in those epochs."""
    hints_rate: float = 1e-5
    """Adam's step size afterwards, with hints; the authors did that for 10 epochs."""
    beta1: float = 0.9
    """Adam's decay of the first moment; that of the second is 0.999."""
    hint_p: float = 0.125
    """k hints are drawn with probability p (1 - p)^k: 7 on average with 0.125, none with 1."""
    widest_hint: int = 9
    """Sides of hints are drawn evenly from 1 to so many pixels."""
    whole: float = 0.01
    """The share of images that are shown with all of their colours."""

    def check(self) -> None:
        """Refuse values that no training can have.

        Raises:
            UserError: naming the flag, its value and the bound.
        """
        _check_width(self.width)
        check_positive(self, "learning_rate", "hints_rate")
        check_least(self, 0, "epochs_automatic")
        check_least(self, 1, "widest_hint")
        check_below_one(self, "beta1")
        if not 0 < self.hint_p <= 1:
            raise unfit("hint_p", self.hint_p, "must be above 0, and 1 or less")
        if not 0 <= self.whole <= 1:
            raise unfit("whole", self.whole, "must be 0 to 1")

    def size_multiple(self) -> int:
        """Heights and widths that the recipe can train at are multiples of this."""
        self.check()
        return MULTIPLE

    def start(self, run: Run) -> ColorizationTraining:
        self.check()
        return ColorizationTraining(self, run)


class ColorizationTraining:
    """A network under way that learns to colour, first by itself, then by hints."""

    def __init__(self, recipe: Colorization, run: Run):
        self.recipe, self.run = recipe, run
        _check_innermost(run)
        self.learning = ColorizationNetwork(spec=run.spec, width=recipe.width, global_hints=recipe.global_hints)
        start_from(run, self.learning)
        betas = (recipe.beta1, 0.999)
        adam = torch.optim.Adam(self.learning.parameters(), lr=recipe.learning_rate, betas=betas, fused=True)
        self.network, self.adam = run.accelerator.prepare(nn.Sequential(self.learning), adam)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        grey, photo = scene.condition.image, scene.photo
        assert grey is not None and photo is not None
        recipe, accelerator = self.recipe, self.run.accelerator
        automatic = self.begin(seen)
        ab = AB * seen_colors(photo)
        hints = none(ab) if automatic else simulated(ab, recipe.hint_p, recipe.widest_hint, recipe.whole)
        overall = None
        if recipe.global_hints:
            known = torch.rand(2, len(photo)) < 0.5
            overall = revealed(overall_of(photo), known[0], known[1])

        # Colour each pixel (equation 1 with the Huber loss), and say how likely each colour is where it stands.
        self.adam.zero_grad()
        with accelerator.autocast():
            found = self.network(Shown(shown(grey, hints), overall, automatic))
        apart, misread = huber(found.ab, ab), F.cross_entropy(found.bins, target_of(photo))
        loss = apart + misread
        accelerator.backward(loss)
        self.adam.step()
        if accelerator.num_processes > 1:
            share_statistics(self.learning, self.run.mean)
        return {"loss": loss, "huber": apart, "bins": misread}

    def begin(self, seen: int) -> bool:
        """Set the learning rate of the phase, whose first step begins with a fresh Adam; whether it is the first one.

        What the trunk learns from changes, and with it the size of gradients, which Adam would take a thousand steps to
        forget.
        """
        turn = self.recipe.epochs_automatic * self.run.photographs
        if seen - self.run.batch_size * self.run.accelerator.num_processes < turn <= seen:
            self.adam.state.clear()
        automatic = seen < turn
        set_learning_rate(self.adam, self.recipe.learning_rate if automatic else self.recipe.hints_rate)
        return automatic

    def facts(self) -> dict[str, str]:
        return {}

    def published(self) -> dict[str, Generator]:
        return {"generator": self.learning}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        return scene

    def state_dict(self) -> dict[str, object]:
        return {"generator": self.learning.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learning.load_state_dict(state["generator"])
        load_adam(self.adam, state["adam"])


def huber(ab: Float[Tensor, "n 2 h w"], photographed: Float[Tensor, "n 2 h w"]) -> Float[Tensor, ""]:
    """d^2 / 2 up to a difference of one unit of ab, |d| - 1/2 beyond; the sum of a and b, averaged over pixels."""
    return F.huber_loss(ab, photographed, reduction="none", delta=1.0).sum(1).mean()


def target_of(photo: Float[Tensor, "n 3 h w"]) -> Int[Tensor, "n h4 w4"]:
    """The bin of each pixel of a photograph at a quarter of its size."""
    return bin_of(quarter(photo))
