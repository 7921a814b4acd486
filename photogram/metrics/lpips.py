"""LPIPS: how different two images look, by weighted differences of unit-normalised features (Zhang et al. 2018).

The heads (version 0.1, one weight a channel) are the published ones and come with the package. So does SqueezeNet of
the trunks; AlexNet and VGG-16 are torchvision's files. 0 where equal; numbers of different trunks do not compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, nearest
from photogram.metrics.features import SqueezeNet11, VGG16Maps, check_visible, torchvision_weights
from photogram.metrics.weights import ALEXNET, VGG16, called, find
from photogram.nn.trunks import embedded_squeezenet, filled, read_weights, weights_digest

Net = Literal["squeeze", "alex", "vgg"]
NETS: tuple[Net, ...] = get_args(Net)

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and standard deviation on [-1, 1], as the authors rounded them."""
TINY = 1e-10
"""Added to lengths of features, as the authors did."""

CHANNELS: Mapping[Net, tuple[int, ...]] = {
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
}
"""Channels of the feature maps that are compared."""
HEADS: Mapping[Net, str] = {
    "squeeze": "55d9bd39ee2c777937ec5fa22a32531971c306d30dcf0d0e799648c767be7e5f",
    "alex": "885a51c7aba6f7ccf3321ca5f345fbd72201f3347f0a88e807016be494493f5d",
    "vgg": "09016f6c713efecd87823d0ac57b392f1c5c47de4e54122e04c71f80cc4650a3",
}
"""SHA-256 over names and float32 values of the published heads of version 0.1."""


class LPIPS(nn.Module):
    """The distance through one trunk.

    Args:
        name: of the trunk, beside a number.
        trunk: images, normalised as ImageNet's, to a list of feature maps.
        heads: a weight for each channel of each map, 0 or more; all 1 is the authors' baseline without training.
        smallest: height and width of the smallest images that the trunk can see.
    """

    def __init__(self, name: str, trunk: nn.Module, heads: list[Tensor], smallest: int = 1):
        super().__init__()
        self.name, self.trunk, self.smallest = name, trunk, smallest
        self.heads = nn.ParameterList(nn.Parameter(head, requires_grad=False) for head in heads)
        self.digest = weights_digest(self)

    def normalised(self, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Feature maps of images in [-1, 1], RGB or grey, of length 1 at every place (or 0, where there is nothing).

        Raises:
            ValueError: for other channels.
            UserError: for images that are too small.
        """
        check_visible(images, f"LPIPS through {self.name}", self.smallest)
        shift, scale = (images.new_tensor(values).view(3, 1, 1) for values in (SHIFT, SCALE))
        x = (images.expand(-1, 3, -1, -1) - shift) / scale
        maps = self.trunk(x.contiguous(memory_format=torch.channels_last))
        # The gradient of vector_norm is 0 at 0, where that of a square root would be no number.
        return [x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + TINY) for x in maps]

    def layers(self, image: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, "n layers"]:
        """The share of each feature map in the distance."""
        return torch.stack([term.mean((1, 2)) for term in self._terms(image, photo)], 1)

    def forward(self, image: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, " n"]:
        """The distance of each image from its photograph, both in [-1, 1]; gradients go to both.

        Raises:
            ValueError: for different shapes, and as `normalised` does.
        """
        return self.layers(image, photo).sum(1)

    def places(self, image: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, "n h w"]:
        """Where they differ: each layer's term at every place, brought to the images' size (bilinear), summed."""
        size = image.shape[-2:]
        grown = [F.interpolate(term[:, None], size, mode="bilinear") for term in self._terms(image, photo)]
        return torch.stack(grown).sum(0)[:, 0]

    def embedded(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Rows whose squared Euclidean distances are the distances: for one image against many."""
        rows = []
        for x, head in zip(self.normalised(images), self.heads, strict=True):
            weight = (head / (x.shape[-2] * x.shape[-1])).sqrt().view(-1, 1, 1)
            rows.append((x * weight).flatten(1))
        return torch.cat(rows, 1)

    def _terms(self, image: Tensor, photo: Tensor) -> list[Float[Tensor, "n h2 w2"]]:
        """The weighted squared differences of each feature map, at every place."""
        if image.shape != photo.shape:
            raise ValueError(f"an image of {tuple(image.shape)} does not compare with one of {tuple(photo.shape)}")
        pairs = zip(self.normalised(image), self.normalised(photo), self.heads, strict=True)
        return [((a - b).square() * head.view(-1, 1, 1)).sum(1) for a, b, head in pairs]


class AlexNetMaps(nn.Module):
    """AlexNet's five convolutions, after ReLU (Krizhevsky 2014; torchvision's indices)."""

    smallest = 31

    def __init__(self) -> None:
        super().__init__()
        convs = {"0": (3, 64, 11, 4, 2), "3": (64, 192, 5, 1, 2), "6": (192, 384, 3, 1, 1)}
        convs |= {"8": (384, 256, 3, 1, 1), "10": (256, 256, 3, 1, 1)}
        self.features = nn.ModuleDict({key: nn.Conv2d(*sizes) for key, sizes in convs.items()})

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = []
        for index, conv in self.features.items():
            x = F.max_pool2d(x, 3, 2) if index in ("3", "6") else x
            x = F.relu(conv(x))
            found.append(x)
        return found


class SqueezeNetMaps(nn.Module):
    """SqueezeNet 1.1's seven maps: the first convolution's, and those of six fires."""

    smallest = SqueezeNet11.smallest

    def __init__(self) -> None:
        super().__init__()
        self.squeezenet = SqueezeNet11()

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = self.squeezenet.maps(x)
        return [found[index] for index in ("0", "4", "7", "9", "10", "11", "12")]


def load_lpips(net: str = "squeeze", file: Path | None = None) -> LPIPS:
    """LPIPS through a trunk, frozen.

    Args:
        net: `squeeze` (embedded), `alex` (the authors' choice for reporting) or `vgg` (that of path length).
        file: the trunk's weights, with torchvision's keys; without it, the weights folder is searched. Weights that
            are not the published ones are named after their file, as `vgg:mine`.

    Raises:
        UserError: for an unknown name, or weights that are missing, damaged or of another network.
    """
    if net not in NETS:
        raise UserError(f"LPIPS trunk {net!r}: must be one of {', '.join(NETS)}{nearest(net, list(NETS))}")
    heads = read_heads(Path(__file__).parents[1] / "weights" / f"lpips-{net}.safetensors", net)
    if net == "squeeze":
        name = net if file is None else called(net, file, ())
        trunk = SqueezeNetMaps()
        path, weights = embedded_squeezenet() if file is None else (file, torchvision_weights(file))
        filled(trunk.squeezenet, weights, path)
    else:
        trunk, kind = (AlexNetMaps(), ALEXNET) if net == "alex" else (VGG16Maps(), VGG16)
        path = file or find((kind,), f"LPIPS through {net!r}", "`squeeze` is embedded; its numbers carry its name")
        name = called(net, path, (kind,))
        filled(trunk, torchvision_weights(path), path)
    lpips = LPIPS(name, trunk, heads, trunk.smallest)
    return lpips.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # pyright: ignore


def read_heads(path: Path, net: Net) -> list[Tensor]:
    """The published heads of a trunk, from `lin{l}.model.1.weight` [1, c, 1, 1] in a .safetensors or .pth file.

    Raises:
        UserError: for other keys, shapes or values: numbers through other heads are no LPIPS. Those of version 0.0,
            which were trained without scaling the input, differ in nothing but their values.
    """
    weights, heads, hashed = read_weights(path), [], hashlib.sha256()
    expected = [f"lin{n}.model.1.weight" for n in range(len(CHANNELS[net]))]
    if set(weights) != set(expected):
        other = sorted(set(weights) ^ set(expected))[0]
        raise UserError(f"{path}: {other} is unknown or missing; these are no heads for {net}")
    for name, channels in zip(expected, CHANNELS[net], strict=True):
        if tuple(weights[name].shape) != (1, channels, 1, 1):
            raise UserError(f"{path}: {name} is {tuple(weights[name].shape)}, but {net} has (1, {channels}, 1, 1)")
        heads.append(weights[name].float().flatten())
        hashed.update(name.encode())
        hashed.update(heads[-1].numpy().tobytes())
    if hashed.hexdigest() != HEADS[net]:
        raise UserError(
            f"{path}: has hash {hashed.hexdigest()[:8]}, not {HEADS[net][:8]}: not the heads of version 0.1 for {net} "
            "(version 0.0 lacks the scaling of the input); use those that come with the package"
        )
    return heads
