"""Feature networks: check 11 of the specification, independent forwards, and every kind of file that can go wrong."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from photogram.errors import UserError
from photogram.nn import trunks
from photogram.nn.trunks import (
    IMAGENET,
    MATCONVNET,
    VGG,
    SqueezeNet,
    Trunk,
    load_trunk,
    mirrored,
)

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
HED = SHARED / "weights" / "vgg16-hed-features.safetensors"
SQUEEZENET = Path(trunks.__file__).parents[1] / "weights" / "squeezenet11-imagenet.safetensors"
Weights = dict[str, Tensor]

# Torchvision's `features` of its published VGG files, by depth: the index of each convolution up to conv5_2, by block.
CONVOLUTIONS = {
    16: ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26)),
    19: ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30)),
}
WIDTHS = (64, 128, 256, 512, 512)
NARROW = (2, 3, 4, 5, 6)


def vgg_shapes(depth: int, widths: tuple[int, ...] = WIDTHS) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    before = 3
    for block, width in zip(CONVOLUTIONS[depth], widths, strict=True):
        for index in block:
            shapes |= {f"features.{index}.weight": (width, before, 3, 3), f"features.{index}.bias": (width,)}
            before = width
    return shapes


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    noise = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=noise) * 0.3 for name, shape in shapes.items()}


def photograph(height: int = 20, width: int = 28, n: int = 1) -> Tensor:
    """Waves and edges in [-1, 1], the same everywhere."""
    y, x = torch.meshgrid(torch.arange(height) / 32, torch.arange(width) / 32, indexing="ij")
    planes = torch.stack([torch.sin(9 * x + 2 * y), torch.cos(5 * y * x), (x > y).float() * 2 - 1])
    return torch.stack([planes.roll(i, 0) for i in range(n)])


def normalised(photo: Tensor, normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in normalisation)
    return ((photo + 1) / 2 - mean) / std


def plain_pool(x: Tensor) -> Tensor:
    """Means of 2 x 2; at odd ends, of what there is."""
    window = torch.ones(1, 1, 2, 2)
    planes = F.pad(torch.stack([x, torch.ones_like(x)]), (0, 1, 0, 1)).flatten(0, 2)
    sums, counts = F.conv2d(planes[:, None], window, stride=2).unflatten(0, (2, *x.shape[:2])).squeeze(3)
    return sums / counts


def plain_vgg(x: Tensor, weights: Weights, depth: int, pool: Callable[[Tensor], Tensor] = plain_pool) -> list[Tensor]:
    found = []
    for block in CONVOLUTIONS[depth]:
        x = pool(x) if found else x
        for n, index in enumerate(block):
            x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1).clamp(0)
            if n == 1:
                found.append(x)
    return found


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert [f.shape for f in found] == [e.shape for e in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGGs of the true plan with few channels, so that files are small."""
    monkeypatch.setattr(trunks, "_VGG_WIDTHS", NARROW)


# Check 11: the VGGs.


@pytest.mark.parametrize("depth", [16, 19])
def test_check_11_keys_and_shapes_are_those_of_the_published_files(depth: int):
    with torch.device("meta"):
        network = VGG(depth, "vgg")
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == vgg_shapes(depth)
    assert network.layers == ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")


def test_check_11_vgg19_has_15304768_parameters_up_to_conv5_2():
    with torch.device("meta"):
        assert sum(p.numel() for p in VGG(19, "vgg19").parameters()) == 15_304_768


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("size", [(32, 48), (21, 35)])
def test_check_11_features_equal_an_independent_forward(narrow: None, depth: int, size: tuple[int, int]):
    network, weights = VGG(depth, "vgg"), random_weights(vgg_shapes(depth, NARROW))
    network.load_state_dict(weights)
    photo = photograph(*size, n=2)
    found = network.frozen()(photo)
    assert_same(found, plain_vgg(normalised(photo), weights, depth))
    assert all(f.abs().max() > 1e-3 for f in found)

    # Maximum pooling would be seen: the first maps stay, all others change.
    by_maximum = plain_vgg(normalised(photo), weights, depth, lambda x: F.max_pool2d(x, 2, ceil_mode=True))
    assert torch.allclose(found[0], by_maximum[0], atol=1e-5)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(found[1:], by_maximum[1:], strict=True))


def test_check_11_odd_sizes_round_up_and_leave_the_padding_out(narrow: None):
    network = VGG(19, "vgg19")
    for module in network.features.values():  # each convolution hands its first channel on
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
        module.weight.data[:, 0, 1, 1] = 1
    x = torch.arange(35.0).view(1, 1, 5, 7).expand(1, 3, 5, 7)
    found = network.maps(x)
    assert [tuple(f.shape[-2:]) for f in found] == [(5, 7), (3, 4), (2, 2), (1, 1), (1, 1)]
    expected = [[4.0, 6, 8, 9.5], [18, 20, 22, 23.5], [28.5, 30.5, 32.5, 34]]
    assert torch.equal(found[1][0, 0], torch.tensor(expected))


def test_check_11_matconvnet_sees_rgb_of_0_to_255_minus_its_mean(narrow: None):
    network, seen = VGG(19, "vgg19", MATCONVNET), []
    network.features["0"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grey = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    network(grey)
    expected = torch.tensor([0 - 123.68, 127.5 - 116.779, 255 - 103.939])
    torch.testing.assert_close(seen[0][0, :, 2, 2], expected, rtol=0, atol=1e-4)


def test_grey_photographs_are_seen_as_rgb_and_other_channels_are_refused(narrow: None):
    network = VGG(16, "vgg").frozen()
    grey = photograph()[:, :1]
    assert_same(network(grey), network(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="vgg sees photographs of 1 or 3 channels, not 4") as refused:
        network(torch.zeros(1, 4, 8, 8))
    assert not isinstance(refused.value, UserError)  # a user's data is refused before; this is a mistake of ours


# SqueezeNet, embedded.


def plain_squeezenet(x: Tensor, weights: Weights) -> list[Tensor]:
    def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float(), padding=padding).clamp(0)

    def fire(x: Tensor, index: int) -> Tensor:
        x = conv(x, f"features.{index}.squeeze")
        return torch.cat([conv(x, f"features.{index}.expand1x1"), conv(x, f"features.{index}.expand3x3", 1)], 1)

    x = conv(F.pad(x, (1, 1, 1, 1), mode="reflect"), "features.0")
    found = [x]
    for index in (3, 4, 6, 7, 9, 10, 11, 12):
        if index in (3, 6, 9):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = fire(x, index)
        if index in (4, 7, 10, 12):
            found.append(x)
    return found


@pytest.mark.parametrize("size", [(20, 28), (33, 47)])
def test_squeezenet_equals_an_independent_forward_on_its_real_weights(size: tuple[int, int]):
    network, photo = load_trunk("squeezenet"), photograph(*size, n=2)
    found = network(photo)
    assert_same(found, plain_squeezenet(normalised(photo), safetensors.torch.load_file(SQUEEZENET)))
    assert [f.shape[1] for f in found] == [64, 128, 256, 384, 512]
    assert tuple(found[0].shape[-2:]) == size  # as fine as the photograph


def test_squeezenet_gives_known_values():
    """Those of the day on which the embedded file was seen to know a cat and to equal the forward above."""
    means = [f.mean().item() for f in load_trunk("squeezenet")(photograph(64, 96))]
    assert means == pytest.approx([36.00781, 62.12192, 36.52916, 17.26976, 2.22714], rel=1e-3)


def test_the_embedded_weights_know_a_cat_when_they_see_one():
    """As the classifier that it was, with its first stride of 2, which shows the weights and the normalisation."""
    data = pytest.importorskip("skimage.data", reason="its photograph of a cat is needed")
    weights = safetensors.torch.load_file(SQUEEZENET)
    photo = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 127.5 - 1
    photo = F.interpolate(photo[..., :, 75:375], size=(227, 227), mode="bilinear", antialias=True)
    x = F.conv2d(normalised(photo), *(weights[f"features.0.{k}"].float() for k in ("weight", "bias")), stride=2)
    identity = {k: v for k, v in weights.items() if not k.startswith("features.0.")}
    identity["features.0.weight"] = torch.zeros(64, 64, 3, 3)
    identity["features.0.weight"][range(64), range(64), 1, 1] = 1
    identity["features.0.bias"] = torch.zeros(64)
    last = plain_squeezenet(x, identity)[-1]
    scores = F.conv2d(last, *(weights[f"classifier.1.{k}"].float() for k in ("weight", "bias"))).clamp(0).mean((2, 3))
    assert int(scores.argmax()) == 285  # Egyptian cat


def test_trunks_are_frozen_but_let_gradients_through():
    network, photo = load_trunk("squeezenet"), photograph().requires_grad_()
    sum(f.mean() for f in network(photo)).backward()  # type: ignore[union-attr]
    assert photo.grad is not None and photo.grad.abs().max() > 0
    assert not network.training and all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert isinstance(network, SqueezeNet) and isinstance(network, Trunk) and network.name == "squeezenet"


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (5, 4), (20, 28)])
def test_the_mirrored_border_equals_reflection_in_value_and_gradient(size: tuple[int, int]):
    noise = torch.Generator().manual_seed(0)
    photo = torch.randn(2, 3, *size, generator=noise, dtype=torch.float64)
    weight = torch.randn(2, 3, size[0] + 2, size[1] + 2, generator=noise, dtype=torch.float64)
    (ours, theirs) = pair = [photo.clone().contiguous(memory_format=torch.channels_last) for _ in "ab"]
    for x in pair:
        x.requires_grad_()
    found, expected = mirrored(ours), F.pad(theirs, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)  # or the convolution would copy it
    for y in (found, expected):
        (y * weight).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-14, atol=1e-14)


def test_squeezenet_uses_no_operation_whose_gradient_cuda_cannot_repeat():
    used: set[str] = set()

    def walk(node: Any) -> None:
        seen, open_nodes = set(), [node]
        while open_nodes:
            one = open_nodes.pop()
            if one is not None and one not in seen:
                seen.add(one)
                used.add(one.name())
                open_nodes += [after for after, _ in one.next_functions]

    walk(load_trunk("squeezenet")(photograph().requires_grad_())[-1].grad_fn)
    assert any("Convolution" in name for name in used)
    # Of torch.use_deterministic_algorithms' list: what has no deterministic backward on CUDA.
    words = ("ReflectionPad", "ReplicationPad", "AdaptiveAvg", "AdaptiveMax", "Upsample", "GridSampler")
    assert not [name for name in used if any(word in name for word in words)]


@pytest.mark.parametrize("perceptual", ["squeezenet", "vgg"])
def test_the_smallest_photograph_gives_all_maps(narrow: None, perceptual: str):
    network = load_trunk("squeezenet") if perceptual == "squeezenet" else VGG(19, "vgg19").frozen()
    side = network.smallest
    assert all(f.numel() and f.isfinite().all() for f in network(photograph(side, side)))
    if side > 1:
        with pytest.raises(RuntimeError):
            network(photograph(side - 1, 16))


# `--perceptual FILE`.


@pytest.mark.skipif(not HED.is_file(), reason="the shared VGG-16 weights are not here")
def test_real_vgg16_weights_from_a_file():
    network, weights = load_trunk(str(HED)), safetensors.torch.load_file(HED)
    assert isinstance(network, VGG) and network.name == "vgg16-hed-features"
    photo = photograph(37, 50)
    expected = plain_vgg(normalised(photo), {k: v.float() for k, v in weights.items()}, 16)
    found = network(photo)
    assert_same(found, expected)
    assert all(p.dtype == torch.float32 for p in network.parameters()) and all(f.std() > 0 for f in found)


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_of_torchvisions_keys_are_told_apart_by_depth(narrow: None, tmp_path: Path, depth: int, suffix: str):
    weights, path = random_weights(vgg_shapes(depth, NARROW)), tmp_path / f"mine{suffix}"
    beyond = {
        "classifier.0.weight": torch.ones(2, 2),
        "features.34.bias": torch.ones(6),
    }  # what is not needed
    write(weights | beyond, path)
    network = load_trunk(str(path))
    assert network.name == "mine"
    assert_same(network(photograph(32, 32)), plain_vgg(normalised(photograph(32, 32)), weights, depth))


def write(weights: Weights, path: Path) -> None:
    if path.suffix == ".pth":
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)


def test_half_precision_is_widened(narrow: None, tmp_path: Path):
    weights = {k: v.half() for k, v in random_weights(vgg_shapes(16, NARROW)).items()}
    write(weights, tmp_path / "half.safetensors")
    for name, tensor in load_trunk(str(tmp_path / "half.safetensors")).state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, weights[name].float())


def test_names_and_missing_files_are_refused_with_the_ways_out(tmp_path: Path):
    for name in ("vgg11", "features.bin", str(tmp_path)):
        with pytest.raises(UserError, match="is neither vgg19 nor squeezenet nor a "):
            load_trunk(name)
    with pytest.raises(UserError, match=r"none\.pth: no such file; --perceptual squeezenet needs none"):
        load_trunk(str(tmp_path / "none.pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_are_cut_short_missing_or_of_another_shape_are_refused(narrow: None, tmp_path: Path, suffix: str):
    path, whole = tmp_path / f"mine{suffix}", random_weights(vgg_shapes(19, NARROW))
    write(whole, path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\x00" * 64, b"<html>not found</html>"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"mine\{suffix}: is damaged or no"):
            load_trunk(str(path))
    write({k: v for k, v in whole.items() if k != "features.28.bias"}, path)
    with pytest.raises(UserError, match=rf"mine\{suffix}: has no features\.28\.bias; it is no VGG"):
        load_trunk(str(path))
    write(whole | {"features.0.weight": torch.ones(2, 1, 3, 3)}, path)
    with pytest.raises(UserError, match=r"features\.0\.weight is \(2, 1, 3, 3\), but VGG has \(2, 3, 3, 3\)"):
        load_trunk(str(path))


class Evil:
    """Asks whoever unpickles it to make a folder."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_malicious_pickle_is_refused_not_executed(tmp_path: Path, form: str):
    path, victim = tmp_path / "mine.pth", tmp_path / "pwned"
    if form == "bare":
        path.write_bytes(pickle.dumps({"features.0.weight": Evil(victim)}))
    else:
        evil = {"features.0.weight": Evil(victim)}
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
        assert zipfile.is_zipfile(path) == (form == "zip")
    with pytest.raises(UserError, match=r"mine\.pth: is damaged or no file of weights alone"):
        load_trunk(str(path))
    assert not victim.exists()


def test_a_pth_that_holds_something_else_is_refused(tmp_path: Path):
    for content in (torch.ones(3), {"epoch": 3}, [torch.ones(3)]):
        torch.save(content, tmp_path / "mine.pth")
        with pytest.raises(UserError, match=r"mine\.pth: holds \w+, not a dictionary of weights"):
            load_trunk(str(tmp_path / "mine.pth"))


# MatConvNet's form.


def matconvnet(weights: Weights, path: Path, turned: bool, arrays: int = 2) -> None:
    """Write what MatConvNet writes: a cell of structs, kernels [h, w, c_in, c_out], biases as columns."""
    io = pytest.importorskip("scipy.io")
    layers: list[dict[str, object]] = []
    empty = np.zeros((0, 0))
    indices = [index for block in CONVOLUTIONS[19] for index in block]
    for n, index in enumerate(indices):
        cell = np.empty((1, max(arrays, 2)), dtype=object)
        cell[0, :] = [np.ones(1, np.float32)] * cell.shape[1]
        cell[0, 0] = weights[f"features.{index}.weight"].permute(2, 3, 1, 0).numpy()
        cell[0, 1] = weights[f"features.{index}.bias"].numpy().reshape(-1, 1)
        conv = {
            "name": f"conv{n}",
            "type": "conv",
            "weights": cell[:, :arrays],
            "pad": np.ones((1, 4)),
            "stride": [1.0, 1.0],
        }
        layers += [conv, {"name": f"relu{n}", "type": "relu", "leak": 0.0}]
        if index + 2 not in indices:
            layers.append({"name": f"pool{n}", "type": "pool", "method": "max", "pool": [2.0, 2.0]})
    fc = np.empty((1, 2), dtype=object)
    fc[0, 0], fc[0, 1] = np.ones((7, 7, 6, 3), np.float32), np.ones((3, 1), np.float32)
    layers += [
        {"name": "fc6", "type": "conv", "weights": fc},
        {"name": "prob", "type": "softmax", "precious": empty},
    ]
    cells = np.empty((1, len(layers)), dtype=object)
    for n, layer in enumerate(layers):
        cells[0, n] = dict(reversed(layer.items())) if turned else layer
    io.savemat(path, {"layers": cells, "meta": {"inputs": {"name": "data"}}})


@pytest.mark.parametrize("turned", [False, True])
def test_matconvnets_file_is_read_by_field_name_and_permuted(narrow: None, tmp_path: Path, turned: bool):
    weights = random_weights(vgg_shapes(19, NARROW))
    matconvnet(weights, tmp_path / "vgg.mat", turned)
    network = load_trunk(str(tmp_path / "vgg.mat"))
    assert network.name == "vgg19-matconvnet"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    photo = photograph(32, 48)
    assert_same(network(photo), plain_vgg(normalised(photo, MATCONVNET), weights, 19))


@pytest.mark.parametrize("arrays", [0, 1, 3])
def test_a_mat_whose_layers_hold_other_than_kernel_and_bias_is_refused(narrow: None, tmp_path: Path, arrays: int):
    path = tmp_path / "vgg.mat"
    matconvnet(random_weights(vgg_shapes(19, NARROW)), path, turned=False, arrays=arrays)
    with pytest.raises(UserError, match=r"vgg\.mat: is damaged or no MatConvNet network"):
        load_trunk(str(path))


def test_a_mat_that_is_damaged_or_something_else_is_refused(tmp_path: Path):
    io = pytest.importorskip("scipy.io")
    path = tmp_path / "vgg.mat"
    for content in (b"", b"MATLAB 5.0 MAT-file" + b" " * 150, b"\x00" * 300):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"vgg\.mat: is damaged or no MatConvNet network"):
            load_trunk(str(path))
    for variables in ({"x": np.ones(3)}, {"layers": np.ones(3)}, {"layers": "none"}):
        io.savemat(path, variables)
        with pytest.raises(UserError, match=r"vgg\.mat: is damaged or no MatConvNet network"):
            load_trunk(str(path))
