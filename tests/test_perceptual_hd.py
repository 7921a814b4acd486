"""The perceptual loss of pix2pixHD (specification 4.5) against torchvision's layers written out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn import perceptual_hd, trunks
from photogram.nn.perceptual_hd import RAW, FirstOfBlocks, RisingPerceptualLoss, load_features
from photogram.nn.trunks import IMAGENET, MATCONVNET, Trunk, load_trunk

FIRST = {16: (0, 5, 10, 17, 24), 19: (0, 5, 10, 19, 28)}
"""Torchvision's index of the first convolution of each block."""
NARROW = (2, 3, 4, 5, 6)


def vgg_weights(depth: int) -> dict[str, Tensor]:
    """Random weights in torchvision's form, a little beyond what is needed, with few channels."""
    convs = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    draw, weights, index, channels = torch.Generator().manual_seed(depth), {}, 0, 3
    for count, width in zip(convs, NARROW, strict=True):
        for _ in range(count):
            weights[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3, generator=draw) / channels**0.5 / 2
            weights[f"features.{index}.bias"] = torch.rand(width, generator=draw) / 10
            index, channels = index + 2, width
        index += 1
    return {**weights, "classifier.0.bias": torch.zeros(3)}


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(perceptual_hd, "_WIDTHS", NARROW)


def plain_maps(x: Tensor, weights: dict[str, Tensor], depth: int) -> list[Tensor]:
    """Torchvision's list of layers, one after the other, and what stands after the first ReLU of each block."""
    found, index = [], 0
    while len(found) < 5:
        if f"features.{index}.weight" in weights:
            x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1)
            x = x.clamp(min=0)  # which is layer index + 1
            if index in FIRST[depth]:
                found.append(x)
            index += 2
        else:
            height, width = x.shape[2] // 2, x.shape[3] // 2
            x = x[..., : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2)).amax((3, 5))
            index += 1
    return found


def pictures(height: int = 37, width: int = 48) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 2 * torch.rand(2, 3, height, width) - 1, 2 * torch.rand(2, 3, height, width) - 1


def test_vgg19_has_12944960_parameters_up_to_relu5_1():
    """Table 4.3."""
    with torch.device("meta"):
        network = FirstOfBlocks(19, "vgg19", RAW)
    assert sum(p.numel() for p in network.parameters()) == 12_944_960
    assert network.layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    assert [index for index, *_ in network.blocks] == ["0", "5", "10", "19", "28"], "each before its ReLU"


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("norm", ["none", "imagenet"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_maps_are_those_of_torchvisions_layers(narrow, tmp_path, depth, norm, suffix):
    path, weights = tmp_path / f"mine{suffix}", vgg_weights(depth)
    torch.save(weights, path) if suffix == ".pth" else safetensors.torch.save_file(weights, path)
    network = load_features(str(path), norm)
    assert network is not None and network.name == "mine"
    assert not any(p.requires_grad for p in network.parameters())
    photo, _ = pictures()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    seen = photo if norm == "none" else ((photo + 1) / 2 - mean) / std
    expected = plain_maps(seen, weights, depth)
    torch.testing.assert_close(network(photo), expected, rtol=1e-4, atol=1e-5)
    assert all(one.abs().max() > 1e-2 for one in expected)


class Stub(Trunk):
    """Five maps that are the photograph itself."""

    def __init__(self):
        super().__init__("stub", ("a", "b", "c", "d", "e"), RAW)

    def maps(self, x: Tensor) -> list[Tensor]:
        return [x] * 5


def test_maps_that_differ_by_c_cost_14_6875_c():
    """Check 10.4: lambda is 10, and the weights 1/32 + 1/16 + 1/8 + 1/4 + 1 make 1.46875."""
    photo = torch.zeros(1, 3, 16, 16)
    assert 10 * RisingPerceptualLoss(Stub())(photo + 0.5, photo).item() == pytest.approx(14.6875 * 0.5)


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_the_perceptual_loss_is_the_plain_formula_and_pulls_the_painting_alone(narrow, room):
    trunk = FirstOfBlocks(19, "vgg19", RAW)
    weights = vgg_weights(19)
    trunks.filled(trunk, weights, Path("mine.pth"))
    loss, (photo, painting) = RisingPerceptualLoss(trunk.frozen(), room), pictures()
    photo.requires_grad_()
    painting.requires_grad_()
    pairs = zip(plain_maps(painting, weights, 19), plain_maps(photo.detach(), weights, 19), strict=True)
    terms = [(a - b).abs().mean() * w for w, (a, b) in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), pairs, strict=True)]
    expected = torch.stack(terms).sum()
    (pull,) = torch.autograd.grad(expected, painting)
    for _ in range(2):  # the second time from memory
        painting.grad = None
        found = loss(painting, photo)
        torch.testing.assert_close(found, expected)
        found.backward()
        assert photo.grad is None and painting.grad is not None
        torch.testing.assert_close(painting.grad, pull, rtol=1e-3, atol=1e-7)
    assert loss(photo.detach(), photo.detach()).item() < 1e-6, "maps in memory were made one by one"
    one = sum(4 * m[0].numel() for m in trunk(photo.detach()[:1]))
    assert loss.memory_to_come(10) == (8 * one if room else 0)


def test_squeezenets_maps_take_the_same_weights():
    trunk = load_features("squeezenet")
    assert trunk is not None and trunk.name == "squeezenet"
    photo, painting = pictures(32, 32)
    pairs = list(zip(trunk(painting), load_trunk("squeezenet")(photo), strict=True))
    expected = sum(w * (a - b).abs().mean() for w, (a, b) in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), pairs, strict=True))
    torch.testing.assert_close(RisingPerceptualLoss(trunk)(painting, photo), expected)


def test_vgg_sees_sixteen_pixels_and_no_fewer(narrow):
    network = FirstOfBlocks(19, "vgg19", RAW)
    assert network.smallest == 16 and network(torch.rand(1, 1, 16, 16))[-1].shape == (1, 6, 1, 1)
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 3, 15, 16))


def test_without_a_feature_network_there_is_no_loss():
    assert load_features("none") is None


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("PHOTOGRAM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "weights"


def test_vgg19_that_is_missing_is_asked_for_by_its_name(no_network, tmp_path):
    with pytest.raises(
        UserError, match=r"needs vgg19-dcbb9e9d\.pth .* Put it into .*weights .*--perceptual squeezenet"
    ):
        load_features("vgg19")
    with pytest.raises(UserError, match=r"no\.pth: no such file; put torchvision's vgg19-dcbb9e9d\.pth there, or use "):
        load_features(str(tmp_path / "no.pth"))


def test_vgg19_is_found_by_its_name(narrow, no_network, monkeypatch):
    no_network.mkdir()
    path = no_network / "vgg19-dcbb9e9d.pth"
    torch.save(vgg_weights(19), path)
    monkeypatch.setattr(trunks, "VGG19_HASH", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    network = load_features("vgg19")
    assert isinstance(network, FirstOfBlocks) and network.name == "vgg19"
    assert torch.equal(network.features["28"].bias, vgg_weights(19)["features.28.bias"])


def test_other_names_and_other_networks_are_refused(narrow, tmp_path):
    with pytest.raises(UserError, match="perceptual 'vgg11': is neither vgg19 nor squeezenet nor none nor a "):
        load_features("vgg11")
    path, weights = tmp_path / "cut.pth", vgg_weights(19)
    torch.save({name: tensor for name, tensor in weights.items() if "28" not in name}, path)
    with pytest.raises(UserError, match=r"cut\.pth: has no features\.28\.bias|cut\.pth: has no features\.28\.weight"):
        load_features(str(path))


def test_matconvnets_weights_are_shown_what_they_expect(narrow, tmp_path, monkeypatch):
    """They are of 0..255: [-1, 1] as it is would be black to them."""
    path = tmp_path / "imagenet-vgg-verydeep-19.mat"
    path.write_bytes(b"")
    weights = vgg_weights(19)
    monkeypatch.setattr(perceptual_hd, "read_weights", lambda _: weights)
    with pytest.raises(UserError, match=r"--vgg-norm none: .*verydeep-19\.mat is MatConvNet's, which expects 0\.\.255"):
        load_features(str(path))
    network, (photo, _) = load_features(str(path), "imagenet"), pictures()
    assert isinstance(network, nn.Module)
    mean = torch.tensor(MATCONVNET[0]).view(3, 1, 1)
    torch.testing.assert_close(
        network(photo), plain_maps(((photo + 1) / 2 - mean) * 255, weights, 19), rtol=1e-4, atol=1e-3
    )
