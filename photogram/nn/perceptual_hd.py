"""The perceptual loss of pix2pixHD: feature maps of photograph and painting, those of coarser layers weighing more.

T.-C. Wang et al., CVPR 2018, section 3.5 and appendix (specification 4.5): relu1_1 .. relu5_1 of VGG-19 as torchvision
publishes it. It is not the loss of CRN (`photogram.nn.perceptual`), which takes other layers, averages where VGG has
maxima, compares pixels too, and calibrates its weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from photogram.errors import UserError, unfit
from photogram.nn.perceptual import Remembered, mean_absolute_difference
from photogram.nn.trunks import IMAGENET, MATCONVNET, VGG19_FILE, Trunk, filled, find_vgg19, load_trunk, read_weights

VGGNorm = Literal["none", "imagenet"]
"""What VGG is shown: pictures in [-1, 1] as they are, as the authors do, or normalised as it was trained."""
RAW = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""The normalisation that leaves [-1, 1] as it is."""
RISING = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""The weight of each map, from the finest to the coarsest."""
_CONVS = {16: (2, 2, 3, 3, 1), 19: (2, 2, 4, 4, 1)}
"""Convolutions of each block, as far as they are needed."""
_WIDTHS = (64, 128, 256, 512, 512)


class FirstOfBlocks(Trunk):
    """VGG-16 or VGG-19 up to conv5_1 (Simonyan and Zisserman 2015): the first map of each block, after ReLU.

    Args:
        depth: 16 or 19.
        name: what to call it beside a number.
        normalisation: mean and standard deviation of RGB in 0..1.
    """

    smallest = 16

    def __init__(self, depth: int, name: str, normalisation: tuple[tuple[float, ...], tuple[float, ...]]):
        super().__init__(name, tuple(f"relu{block}_1" for block in range(1, 6)), normalisation)
        self.features = nn.ModuleDict()  # keyed by torchvision's indices
        self.blocks: list[list[str]] = []
        index, channels = 0, 3
        for convs, width in zip(_CONVS[depth], _WIDTHS, strict=True):
            self.blocks.append([])
            for _ in range(convs):
                self.features[str(index)] = nn.Conv2d(channels, width, 3, padding=1)
                self.blocks[-1].append(str(index))
                index, channels = index + 2, width  # a ReLU follows each
            index += 1  # and a pool each block

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = []
        for first, *others in self.blocks:
            x = F.relu(self.features[first](F.max_pool2d(x, 2) if found else x))
            found.append(x)
            for index in others:
                x = F.relu(self.features[index](x))
        return found


def load_features(perceptual: str, vgg_norm: VGGNorm = "none") -> Trunk | None:
    """The feature network of that name or file, frozen; nothing where `perceptual` is `none`.

    Args:
        perceptual: `vgg19` (torchvision's published weights, found or downloaded), `squeezenet` (embedded; its five
            maps and its own normalisation), `none`, or a path: .safetensors or .pth with torchvision's VGG-19 or VGG-16
            keys, .mat of MatConvNet's VGG-19.
        vgg_norm: what VGG is shown.

    Raises:
        UserError: where the name is unknown, or the file missing, damaged or of another network.
    """
    if perceptual == "none":
        return None
    if perceptual == "squeezenet":
        return load_trunk(perceptual)
    path = find_vgg19() if perceptual == "vgg19" else Path(perceptual)
    if path.suffix not in (".safetensors", ".pth", ".mat"):
        raise UserError(
            f"perceptual {perceptual!r}: is neither vgg19 nor squeezenet nor none nor a .safetensors, .pth or .mat file"
        )
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; put torchvision's {VGG19_FILE} there, or use --perceptual squeezenet, which is "
            "embedded, or none"
        )
    matconvnet = path.suffix == ".mat"
    if matconvnet and vgg_norm == "none":
        raise unfit("vgg_norm", vgg_norm, f"{path} is MatConvNet's, which expects 0..255; give imagenet")
    weights = read_weights(path)
    # The indices of block 5 tell the two depths apart: 24 is a convolution in VGG-16, a ReLU in VGG-19.
    depth = 16 if "features.24.weight" in weights else 19
    normalisation = MATCONVNET if matconvnet else IMAGENET if vgg_norm == "imagenet" else RAW
    trunk = FirstOfBlocks(depth, perceptual if perceptual == "vgg19" else path.stem, normalisation)
    filled(trunk, weights, path)
    return trunk.frozen()


class RisingPerceptualLoss(nn.Module):
    """sum_i w_i mean|phi_i(painting) - phi_i(photograph)|, with the weights `RISING`; without its lambda.

    Args:
        trunk: the frozen feature network, of five maps.
        room: bytes for the maps of photographs, so that those seen again need no pass.
    """

    def __init__(self, trunk: Trunk, room: int = 0):
        super().__init__()
        assert len(trunk.layers) == len(RISING)
        self.trunk = trunk
        self.look = Remembered(trunk, room) if room else trunk

    def memory_to_come(self, photographs: int) -> int:
        """Bytes of the maps of so many photographs that are not remembered yet, were there room for all."""
        return self.look.to_come(photographs) if isinstance(self.look, Remembered) else 0

    def forward(self, painting: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """A scalar in float32, in weighted feature units; gradients go to the painting alone."""
        with torch.no_grad():
            photographed = list(self.look(photo))
        painted = self.trunk(painting)
        terms = [
            weight * mean_absolute_difference(a, b) for weight, a, b in zip(RISING, painted, photographed, strict=True)
        ]
        return torch.stack(terms).sum()
