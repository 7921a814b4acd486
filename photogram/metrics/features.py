"""Feature networks that measures look through, by name and hash: a number carries both.

An FID is a Fréchet distance of Inception's features and of nothing else; through another network it is
`FD[squeezenet]`. The embedded SqueezeNet needs no file, so that everything runs offline.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from photogram.errors import UserError, nearest
from photogram.metrics.inception import DIM, SIDE, Inception
from photogram.metrics.resize import FILTERS, Filter, resized
from photogram.metrics.weights import INCEPTION, INCEPTION_SCRIPT, VGG16, VGG16_HED, VGG19, called, find
from photogram.nn.trunks import (
    IMAGENET,
    VGG,
    embedded_squeezenet,
    filled,
    read_weights,
    squeezenet_layers,
    weights_digest,
)
from photogram.scene import Size, shape

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
INSTEAD = "`squeezenet` is embedded, `random_conv` and `identity` need no weights; numbers carry their names"


class Seen(NamedTuple):
    """What a feature network sees in images: a row of features each, and logits where it classifies."""

    features: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"] | None = None


@dataclass(frozen=True)
class Extractor:
    """A feature network with everything that its numbers depend on. It works on the CPU.

    Args:
        name: what stands in brackets beside a number.
        digest: SHA-256 of its weights.
        size: height and width that images are brought to; None takes them as they are.
        how: the resize filter.
        precision: `fp32`, or `bf16` in convolutions and linear layers; means over images are float32 in both.
        network: normalised images to `Seen`.
        normalise: images in 0..255 to what the network expects.
        smallest: height and width of the smallest images that it can see.
    """

    name: str
    digest: str
    size: Size | None
    how: Filter
    precision: Precision
    network: Callable[[Tensor], Seen]
    normalise: Callable[[Tensor], Tensor]
    smallest: int = 1

    @property
    def identity(self) -> dict[str, object]:
        """What must be equal for two numbers to compare, as JSON."""
        return {
            "trunk": self.name,
            "sha256": self.digest,
            "size": None if self.size is None else list(self.size),
            "resize": self.how,
            "precision": self.precision,
        }

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Seen:
        """Features in float32 of images in 0..255, RGB or grey, which is repeated.

        Raises:
            ValueError: for other channels.
            UserError: for images that are too small, or features that are not finite.
        """
        check_visible(images, self.name, self.smallest)
        pixels = images.float().expand(-1, 3, -1, -1)
        if self.size is not None:
            pixels = resized(pixels, self.size, self.how)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            seen = self.network(self.normalise(pixels).contiguous(memory_format=torch.channels_last))
        seen = Seen(seen.features.float(), None if seen.logits is None else seen.logits.float())
        if not seen.features.isfinite().all():
            raise UserError(f"{self.name}: its features of these images are not finite; its weights are damaged")
        return seen


def check_visible(images: Tensor, name: str, smallest: int) -> None:
    """Refuse images [n, c, h, w] that a network cannot see.

    Args:
        images: what it is shown.
        name: what to call it.
        smallest: height and width of the smallest images that it can see.

    Raises:
        ValueError: for other channels than RGB or grey.
        UserError: for images that are too small.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(f"{name} sees images of 1 or 3 channels, not {images.shape[1]}")
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise UserError(
            f"images of {shape((height, width))} are too small for {name}, which needs {smallest} pixels a side or "
            "more; judge them by a protocol of larger ones"
        )


class Loaded(NamedTuple):
    """A network with its weights, its normalisation, and what to call it; the rest as in `Extractor`."""

    name: str
    network: nn.Module
    normalise: Callable[[Tensor], Tensor]
    size: Size | None = None
    smallest: int = 1


def load_extractor(name: str, *, how: str = "aa", precision: str = "fp32", file: Path | None = None) -> Extractor:
    """The feature network of that name.

    Args:
        name: `squeezenet` (embedded; the mean of its last map), `inception` (at 299 x 299), `vgg16` (its second fully
            connected layer at 224 x 224: precision and recall), `vgg19` (the mean of conv5_2, pooled by averages as
            CRN does), or one of the stand-ins `random_conv` and `identity`, for tests.
        how: the resize filter, where the network wants a size of its own.
        precision: of convolutions and linear layers.
        file: where its weights are; without it, the weights folder is searched. Weights that are not the published
            ones are named after their file, as `inception:mine`.

    Raises:
        UserError: for an unknown name, filter or precision, or weights that are missing, damaged or of another network.
    """
    if how not in FILTERS:
        raise UserError(f"resize filter {how!r}: must be one of {', '.join(FILTERS)}{nearest(how, list(FILTERS))}")
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: must be one of {', '.join(PRECISIONS)}")
    if name not in TRUNKS:
        raise UserError(f"unknown feature network {name!r}{nearest(name, list(TRUNKS))}; there is {', '.join(TRUNKS)}")
    loaded = TRUNKS[name](file)
    network = loaded.network.requires_grad_(False).eval()
    if isinstance(network, ScriptedInception):
        if (how, precision) != ("tf1", "fp32"):
            raise UserError(
                f"the TorchScript Inception resizes by itself, as tf1, in fp32, and not by {how} in {precision}: ask "
                f"for that, or give {INCEPTION.names[0]}"
            )
    else:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    digest = weights_digest(network)
    return Extractor(loaded.name, digest, loaded.size, how, precision, network, loaded.normalise, loaded.smallest)


# Networks: images, normalised, to `Seen`.


def _pooled(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
    return x.float().mean((2, 3))


class SqueezeNet11(nn.Module):
    """SqueezeNet 1.1 as published, with no padding and a stride of 2 at first: the mean of fire9, and logits."""

    smallest = 17
    """Height and width of the smallest images that reach its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.features = squeezenet_layers(nn.Conv2d(3, 64, 3, stride=2))
        self.classifier = nn.ModuleDict({"1": nn.Conv2d(512, 1000, 1)})

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> dict[str, Tensor]:
        """Every feature map after ReLU, by torchvision's index of its layer."""
        found = {}
        for index, layer in self.features.items():
            if index in ("3", "6", "9"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = F.relu(layer(x)) if index == "0" else layer(x)
            found[index] = x
        return found

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Seen:
        last = self.maps(x)["12"]
        return Seen(_pooled(last), _pooled(F.relu(self.classifier["1"](last))))


class VGG16Maps(nn.Module):
    """VGG-16's convolutions with maximum pooling: the last map of each block (relu1_2, 2_2, 3_3, 4_3, 5_3)."""

    smallest = 16

    def __init__(self) -> None:
        super().__init__()
        self.features, index, channels = nn.ModuleDict(), 0, 3
        self.pooled: set[str] = set()
        for convs, width in zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True):
            if index:
                self.pooled.add(str(index))
            for _ in range(convs):
                self.features[str(index)] = nn.Conv2d(channels, width, 3, padding=1)
                index, channels = index + 2, width  # a ReLU follows each
            index += 1

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = []
        for index, conv in self.features.items():
            if index in self.pooled:
                found.append(x)
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(x))
        return [*found, x]


class VGG16Head(nn.Module):
    """The two fully connected layers before the classes, each with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.ModuleDict({"0": nn.Linear(25088, 4096), "3": nn.Linear(4096, 4096)})

    def forward(self, x: Float[Tensor, "n 512 7 7"]) -> Float[Tensor, "n 4096"]:
        x = x.flatten(1)
        for layer in self.classifier.values():
            x = F.relu(layer(x))
        return x


class VGG16Features(nn.Module):
    """VGG-16 to its second fully connected layer, after ReLU: what precision and recall were published with."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.head = VGG16Maps(), VGG16Head()

    def forward(self, x: Float[Tensor, "n 3 224 224"]) -> Seen:
        return Seen(self.head(F.max_pool2d(self.maps(x)[-1], 2)))


class VGG16Convolutions(nn.Module):
    """VGG-16's conv5_3, the mean over the image: of files that hold no more than the convolutions."""

    smallest = VGG16Maps.smallest

    def __init__(self) -> None:
        super().__init__()
        self.maps = VGG16Maps()

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Seen:
        return Seen(_pooled(self.maps(x)[-1]))


class VGG19Features(nn.Module):
    """VGG-19's conv5_2 by averages, the mean over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = VGG(19, "vgg19")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Seen:
        return Seen(_pooled(self.trunk.maps(x)[-1]))


class InceptionFeatures(nn.Module):
    """The FID Inception with both of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inception = Inception()

    def forward(self, x: Float[Tensor, "n 3 299 299"]) -> Seen:
        return Seen(*self.inception(x))


class ScriptedInception(nn.Module):
    """The TorchScript port, which resizes and normalises by itself: features only."""

    def __init__(self, script: torch.jit.ScriptModule):
        super().__init__()
        self.script = script

    def forward(self, x: UInt8[Tensor, "n 3 h w"]) -> Seen:
        return Seen(self.script(x, return_features=True))


class RandomConv(nn.Module):
    """Three seeded convolutions: a stand-in for tests, of no meaning to a reader."""

    smallest = 15

    def __init__(self, dim: int = 64):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, 2) for a, b in ((3, 16), (16, 32), (32, dim)))
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.2, generator=generator)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Seen:
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return Seen(_pooled(x))


class Identity(nn.Module):
    """The pixels of a small picture themselves: a stand-in for tests."""

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Seen:
        return Seen(x.flatten(1))


# What makes each of them from its file.


def _imagenet(pixels: Tensor) -> Tensor:
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
    return (pixels / 255 - mean) / std


def torchvision_weights(path: Path) -> dict[str, Tensor]:
    """Weights with torchvision's keys, of networks that expect images normalised by ImageNet's mean and deviation.

    Raises:
        UserError: for MatConvNet's files, whose networks expect another normalisation, and as `read_weights` does.
    """
    if path.suffix == ".mat":
        raise UserError(f"{path}: measures look through torchvision's weights (.pth or .safetensors), not MatConvNet's")
    return read_weights(path)


def _squeezenet(file: Path | None) -> Loaded:
    name = "squeezenet" if file is None else called("squeezenet", file, ())
    path, weights = embedded_squeezenet() if file is None else (file, torchvision_weights(file))
    network = SqueezeNet11()
    filled(network, weights, path)
    return Loaded(name, network, _imagenet, smallest=SqueezeNet11.smallest)


def _vgg16(file: Path | None) -> Loaded:
    path = file or find((VGG16,), "feature network 'vgg16'", INSTEAD)
    name = called("vgg16", path, (VGG16,))
    network, weights = VGG16Features(), torchvision_weights(path)
    filled(network.maps, weights, path)
    filled(network.head, weights, path)
    return Loaded(name, network, _imagenet, (224, 224))


def _vgg16_hed(file: Path | None) -> Loaded:
    path = file or find((VGG16_HED,), "feature network 'vgg16_hed'", INSTEAD)
    name = called("vgg16_hed", path, (VGG16_HED,))
    network = VGG16Convolutions()
    filled(network.maps, torchvision_weights(path), path)
    return Loaded(name, network, _imagenet, smallest=VGG16Convolutions.smallest)


def _vgg19(file: Path | None) -> Loaded:
    path = file or find((VGG19,), "feature network 'vgg19'", INSTEAD)
    name = called("vgg19", path, (VGG19,))
    network = VGG19Features()
    filled(network.trunk, torchvision_weights(path), path)
    return Loaded(name, network, _imagenet)


def _inception(file: Path | None) -> Loaded:
    kinds = (INCEPTION, INCEPTION_SCRIPT)
    path = file or find(kinds, "feature network 'inception'", INSTEAD)
    name = called("inception", path, kinds)
    if path.suffix == ".pt":
        return Loaded(name, _scripted(path), lambda pixels: pixels.to(torch.uint8))
    network = InceptionFeatures()
    filled(network.inception, torchvision_weights(path), path)
    return Loaded(name, network, lambda pixels: (pixels - 128) / 128, (SIDE, SIDE))


def _scripted(path: Path) -> ScriptedInception:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which is what was published
            script = torch.jit.load(str(path), map_location="cpu")
        row = script(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), return_features=True)
    except Exception as e:  # torch raises anything on what is no TorchScript, or another
        raise UserError(f"{path}: is damaged or not the TorchScript Inception ({type(e).__name__})") from None
    if not isinstance(row, Tensor) or row.shape != (1, DIM):
        raise UserError(f"{path}: does not give {DIM} features; it is not the TorchScript Inception")
    return ScriptedInception(script)


def _random_conv(file: Path | None) -> Loaded:
    _no_file("random_conv", file)
    return Loaded("random_conv", RandomConv(), lambda pixels: pixels / 127.5 - 1, smallest=RandomConv.smallest)


def _identity(file: Path | None) -> Loaded:
    _no_file("identity", file)
    return Loaded("identity", Identity(), lambda pixels: pixels / 255, (8, 8))


def _no_file(name: str, file: Path | None) -> None:
    if file is not None:
        raise UserError(f"{file}: feature network {name!r} has no weights to read")


TRUNKS: dict[str, Callable[[Path | None], Loaded]] = {
    "squeezenet": _squeezenet,
    "inception": _inception,
    "vgg16": _vgg16,
    "vgg16_hed": _vgg16_hed,
    "vgg19": _vgg19,
    "random_conv": _random_conv,
    "identity": _identity,
}
"""Feature networks by name."""
