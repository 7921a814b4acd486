"""Feature networks: frozen trunks of image classifiers, whose activations measure how alike two photographs look."""

from __future__ import annotations

import abc
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from photogram.errors import UserError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of RGB in 0..1 that torchvision's classifiers expect."""
MATCONVNET = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))
"""The same for MatConvNet's: RGB in 0..255 minus its mean, not divided."""

VGG19_FILE, VGG19_HASH = "vgg19-dcbb9e9d.pth", "dcbb9e9d"
VGG19_URL = f"https://download.pytorch.org/models/{VGG19_FILE}"


class Trunk(nn.Module, abc.ABC):
    """Photographs in [-1, 1] to feature maps, from fine to coarse; frozen.

    Args:
        name: what to call it beside a number.
        layers: the name of each feature map.
        normalisation: mean and standard deviation of RGB in 0..1 that the weights expect.
    """

    channels: ClassVar[tuple[int, ...]] = (1, 3)
    """Channels that a photograph may have; grey is seen as RGB."""
    smallest: ClassVar[int] = 1
    """Height and width of the smallest photograph that gives all feature maps."""
    mean: Tensor
    std: Tensor
    terms = "the terms of its file apply"
    """Whose terms apply to what is learned under it, for the model card."""

    def __init__(self, name: str, layers: tuple[str, ...], normalisation: tuple[tuple[float, ...], tuple[float, ...]]):
        super().__init__()
        self.name, self.layers = name, layers
        for key, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1), persistent=False)

    @abc.abstractmethod
    def maps(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """Feature maps of normalised images."""

    def forward(self, photo: Float[Tensor, "n c h w"]) -> list[Tensor]:
        if photo.shape[1] not in self.channels:  # recipes refuse such data when they start
            raise ValueError(f"{self.name} sees photographs of 1 or 3 channels, not {photo.shape[1]}")
        x = ((photo.float() + 1) / 2 - self.mean) / self.std
        return self.maps(x.contiguous(memory_format=torch.channels_last))

    def frozen(self) -> Trunk:
        return self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # pyright: ignore


_VGG_CONVS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_VGG_WIDTHS = (64, 128, 256, 512, 512)


class VGG(Trunk):
    """VGG-16 or VGG-19 up to conv5_2 (Simonyan and Zisserman 2015), as CRN uses it: conv1_2 .. conv5_2 after ReLU,
    with average pooling between the blocks (specification 3.2).

    Args:
        depth: 16 or 19.
        name: what to call it beside a number.
        normalisation: what the weights expect.
    """

    def __init__(self, depth: int, name: str, normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET):
        super().__init__(name, tuple(f"conv{block}_2" for block in range(1, 6)), normalisation)
        self.features = nn.ModuleDict()  # keyed by torchvision's indices
        self.plan: list[tuple[str, str]] = []
        index, channels = 0, 3
        for block, (convs, width) in enumerate(zip(_VGG_CONVS[depth], _VGG_WIDTHS, strict=True), start=1):
            for n in range(1, convs + 1):
                if (block, n) > (5, 2):  # nothing is read beyond conv5_2
                    break
                self.features[str(index)] = nn.Conv2d(channels, width, 3, padding=1)
                self.plan.append((f"conv{block}_{n}", str(index)))
                index, channels = index + 2, width  # a ReLU follows each
            self.plan.append(("pool", ""))
            index += 1

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = []
        for name, index in self.plan:
            if name == "pool":
                if len(found) < len(self.layers):
                    x = F.avg_pool2d(x, 2, ceil_mode=True)  # odd sizes round up; the mean leaves out what is outside
                continue
            x = F.relu(self.features[index](x))
            if name in self.layers:
                found.append(x)
        return found


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1x1 and 3x3 side by side (Iandola et al. 2016, section 3.2)."""

    def __init__(self, in_channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h w"]:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def squeezenet_layers(first: nn.Conv2d) -> nn.ModuleDict:
    """The layers of SqueezeNet 1.1 by torchvision's indices, but for the pools (before "3", "6" and "9").

    Args:
        first: the first convolution, 3 to 64 channels; networks differ in its stride and padding.
    """
    fires = {"3": (64, 16, 64), "4": (128, 16, 64), "6": (128, 32, 128), "7": (256, 32, 128)}
    fires |= {"9": (256, 48, 192), "10": (384, 48, 192), "11": (384, 64, 256), "12": (512, 64, 256)}
    return nn.ModuleDict({"0": first, **{index: Fire(*sizes) for index, sizes in fires.items()}})


class SqueezeNet(Trunk):
    """SqueezeNet 1.1 (Iandola et al. 2016), embedded: small and quick, and it needs no download.

    Its first convolution has stride 2, which lets detail of one pixel escape; here it has stride 1, so that the first
    maps are as fine as the photograph, as VGG's are. The photograph is mirrored at its border, not padded with grey.
    """

    smallest = 8

    terms = "SqueezeNet 1.1 (BSD 2-Clause), trained on ImageNet; see NOTICE"

    def __init__(self) -> None:
        super().__init__("squeezenet", ("conv1", "fire3", "fire5", "fire7", "fire9"), IMAGENET)
        self.features = squeezenet_layers(nn.Conv2d(3, 64, 3))

    def maps(self, x: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        first = F.relu(self.features["0"](mirrored(x)))
        found = [first]
        for *inner, last in (("3", "4"), ("6", "7"), ("9", "10"), ("11", "12")):
            x = found[-1]
            if last != "12":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            for index in (*inner, last):
                x = self.features[index](x)
            found.append(x)
        return found


def mirrored(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h+2 w+2"]:
    """Grown by one pixel on each side, which repeats the last but one; of 2 x 2 pixels or more.

    It is `F.pad(x, (1, 1, 1, 1), mode="reflect")`, whose gradient is not deterministic on CUDA.
    """
    x = x.movedim(1, -1)  # as it lies in memory, where whole rows are copied
    x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
    return torch.cat([x[:, 1:2], x, x[:, -2:-1]], dim=1).movedim(-1, 1)


def load_trunk(perceptual: str) -> Trunk:
    """The feature network of that name or file, frozen.

    Args:
        perceptual: `vgg19` (torchvision's published weights, found or downloaded), `squeezenet` (embedded), or a path:
            .safetensors or .pth with torchvision's VGG-16 or VGG-19 keys, .mat of MatConvNet's VGG-19.

    Raises:
        UserError: where the name is unknown, or the file missing, damaged or of another network.
    """
    if perceptual == "squeezenet":
        path, weights = embedded_squeezenet()
        return _filled(SqueezeNet(), weights, path)
    if perceptual == "vgg19":
        path = find_vgg19()
        return _filled(VGG(19, "vgg19"), _read_pth(path), path)
    path = Path(perceptual)
    if path.suffix not in _READERS:
        raise UserError(
            f"perceptual {perceptual!r}: is neither vgg19 nor squeezenet nor a .safetensors, .pth or .mat file; "
            "none compares pixels alone"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file; --perceptual squeezenet needs none")
    weights = read_weights(path)
    if path.suffix == ".mat":
        return _filled(VGG(19, "vgg19-matconvnet", MATCONVNET), weights, path)
    # The indices of block 5 tell the two depths apart: 24 is a convolution in VGG-16, a ReLU in VGG-19.
    depth = 16 if "features.24.weight" in weights else 19
    return _filled(VGG(depth, path.stem), weights, path)


def _filled(trunk: Trunk, weights: dict[str, Tensor], path: Path) -> Trunk:
    filled(trunk, weights, path)
    return trunk.frozen()


def filled(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Give a network the weights that it needs; a file may hold more (a classifier's head), never less.

    Raises:
        UserError: naming the file, the weight and both shapes.
    """
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue  # ports leave out what inference does not use
        if name not in weights:
            raise UserError(f"{path}: has no {name}; it is no {type(network).__name__}, or has not torchvision's keys")
        if weights[name].shape != tensor.shape:
            found, wanted = tuple(weights[name].shape), tuple(tensor.shape)
            raise UserError(f"{path}: {name} is {found}, but {type(network).__name__} has {wanted}")
    given = {name: weights[name].to(tensor.dtype) for name, tensor in state.items() if name in weights}
    network.load_state_dict({**state, **given})


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over names and values of a network's weights, in the order of names: two files of one name may differ.

    How many batches a batch norm has seen does not count: ports of one network differ in it, its outputs do not.
    """
    hashed = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            hashed.update(name.encode())
            hashed.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())  # no copy
    return hashed.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: is damaged or no safetensors file ({e})") from None


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)  # never runs what a pickle asks for
    except Exception as e:  # torch.load raises anything on a damaged file
        raise UserError(f"{path}: is damaged or no file of weights alone ({type(e).__name__})") from None
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UserError(f"{path}: holds {type(weights).__name__}, not a dictionary of weights")
    return weights


def _read_matconvnet(path: Path) -> dict[str, Tensor]:
    """MatConvNet's imagenet-vgg-verydeep-19: kernels are [h, w, c_in, c_out] for RGB; read by field name."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(f"{path}: reading .mat files needs scipy; pip install 'photogram[interop]'") from None
    try:
        layers = loadmat(str(path), simplify_cells=True)["layers"]
        blocks = [layer["weights"] for layer in layers if layer["type"] == "conv"]
        indices = [index for name, index in VGG(19, "keys").plan if name != "pool"]
        weights = {}
        for index, (kernel, bias) in zip(indices, blocks, strict=False):
            weights[f"features.{index}.weight"] = torch.from_numpy(kernel.copy()).permute(3, 2, 0, 1).contiguous()
            weights[f"features.{index}.bias"] = torch.from_numpy(bias.copy()).flatten()
        return weights
    except Exception as e:  # scipy raises anything on a damaged file
        raise UserError(f"{path}: is damaged or no MatConvNet network ({type(e).__name__}: {e})") from None


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_pth,
    ".mat": _read_matconvnet,
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a .safetensors, .pth or .mat file, by name; nothing that the file asks for is run.

    Raises:
        UserError: where it is missing, of another kind, damaged, or holds more than weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix not in _READERS:
        raise UserError(f"{path}: weights come as {', '.join(_READERS)}")
    return _READERS[path.suffix](path)


def embedded_squeezenet() -> tuple[Path, dict[str, Tensor]]:
    """The file of SqueezeNet 1.1 that comes with the package, and its weights, the classifier's included."""
    path = Path(__file__).parents[1] / "weights" / "squeezenet11-imagenet.safetensors"
    return path, read_weights(path)


def weights_folder() -> Path:
    """Where files of weights are looked for and kept: $PHOTOGRAM_WEIGHTS, else ~/.cache/photogram/weights."""
    return Path(os.environ.get("PHOTOGRAM_WEIGHTS") or Path.home() / ".cache" / "photogram" / "weights")


def find_vgg19() -> Path:
    """Torchvision's published VGG-19, from the weights folder or torch's own cache, else downloaded; hash checked.

    Raises:
        UserError: where it is not there and cannot be downloaded, or a file of that name has another hash.
    """
    places = [weights_folder() / VGG19_FILE, Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE]
    for path in places:
        if path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if not found.startswith(VGG19_HASH):
                raise UserError(f"{path}: has hash {found[:8]}, not {VGG19_HASH}; damaged, remove it")
            return path
    try:
        places[0].parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(VGG19_URL, str(places[0]), hash_prefix=VGG19_HASH)
    except Exception as e:  # no network, no name service, a proxy's page, a full disk, another hash
        raise UserError(
            f"perceptual 'vgg19' needs {VGG19_FILE} (550 MB), which could not be downloaded ({e}). Put it into "
            f"{places[0].parent} or set PHOTOGRAM_WEIGHTS to its folder; or use --perceptual squeezenet, "
            "which is embedded, or --perceptual FILE"
        ) from None
    return places[0]
