"""Feature networks: names and hashes, missing files, what the embedded one sees, and that batches do not matter."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from test_trunks import NARROW, narrow, plain_vgg, random_weights, vgg_shapes
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.metrics import features
from photogram.metrics.features import (
    TRUNKS,
    Extractor,
    SqueezeNet11,
    VGG16Features,
    VGG16Maps,
    load_extractor,
)
from photogram.metrics.resize import resized
from photogram.metrics.weights import INCEPTION, INCEPTION_SCRIPT, VGG16, VGG16_HED, VGG19
from photogram.nn.trunks import embedded_squeezenet, filled, read_weights, weights_digest

__all__ = ["narrow"]  # a fixture
Weights = dict[str, Tensor]
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
HED = SHARED / "weights/vgg16-hed-features.safetensors"
VGG16_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def images(n: int = 3, height: int = 48, width: int = 64, channels: int = 3) -> Tensor:
    coarse = torch.rand(n, channels, height // 8, width // 8, generator=torch.Generator().manual_seed(0)) * 255
    return F.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


def close(found: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


@pytest.fixture(scope="module")
def squeezenet() -> Extractor:
    return load_extractor("squeezenet")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The weights folder and torch's own cache, both empty."""
    monkeypatch.setenv("PHOTOGRAM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    for folder in (tmp_path / "weights", cache):
        folder.mkdir(parents=True)
    return tmp_path / "weights", cache


# Names and hashes.


def test_a_trunk_is_known_by_name_hash_size_filter_and_precision(squeezenet: Extractor):
    hashed = hashlib.sha256()
    for name, value in sorted(embedded_squeezenet()[1].items()):
        hashed.update(name.encode() + value.float().numpy().tobytes())
    assert squeezenet.identity == {
        "trunk": "squeezenet",
        "sha256": hashed.hexdigest(),
        "size": None,
        "resize": "aa",
        "precision": "fp32",
    }
    other = load_extractor("identity", how="clean", precision="bf16").identity
    assert (other["trunk"], other["size"], other["resize"], other["precision"]) == ("identity", [8, 8], "clean", "bf16")


def test_the_hash_changes_with_a_value_or_a_name_and_with_nothing_else():
    one = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.BatchNorm2d(3)})
    before = weights_digest(one)
    one["b"].num_batches_tracked.add_(5)  # pyright: ignore
    turned = nn.ModuleDict({"b": one["b"], "a": one["a"]})
    assert weights_digest(one) == weights_digest(turned) == before
    assert weights_digest(nn.ModuleDict({"a": one["a"], "c": one["b"]})) != before
    with torch.no_grad():
        one["a"].weight[0, 0] += 1e-6  # pyright: ignore
    assert weights_digest(one) != before


def test_unknown_names_filters_and_precisions_are_refused_with_those_that_there_are():
    with pytest.raises(
        UserError, match=r"unknown feature network 'squeezent' \(did you mean 'squeezenet'\?\); there is .*inception"
    ):
        load_extractor("squeezent")
    with pytest.raises(UserError, match="resize filter 'tf': must be one of tf1, clean, torch, aa"):
        load_extractor("squeezenet", how="tf")
    with pytest.raises(UserError, match="precision 'fp16': must be one of fp32, bf16"):
        load_extractor("squeezenet", precision="fp16")
    assert list(TRUNKS) == ["squeezenet", "inception", "vgg16", "vgg16_hed", "vgg19", "random_conv", "identity"]


MISSING = [("inception", INCEPTION), ("inception", INCEPTION_SCRIPT), ("vgg16", VGG16), ("vgg19", VGG19)]
MISSING.append(("vgg16_hed", VGG16_HED))


@pytest.mark.parametrize(("trunk", "kind"), MISSING)
def test_a_missing_file_ends_in_one_line_with_name_hash_place_and_stand_ins(places, trunk: str, kind):
    with pytest.raises(UserError) as error:
        load_extractor(trunk)
    message = str(error.value)
    assert "\n" not in message and f"feature network '{trunk}' needs " in message
    for words in (*kind.names, kind.sha256[:8], str(places[0]), "PHOTOGRAM_WEIGHTS", "https://", "nothing is downl"):
        assert words in message, words
    for stand_in in ("squeezenet", "random_conv", "identity"):
        assert f"`{stand_in}`" in message and load_extractor(stand_in).name == stand_in
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_extractor(trunk, file=places[0] / "none.pth")


@pytest.mark.parametrize(("trunk", "kind"), MISSING)
@pytest.mark.parametrize("place", [0, 1])
def test_a_file_of_another_hash_is_refused_in_either_folder(places, place: int, trunk: str, kind):
    path = places[place] / kind.names[-1]
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()[:8]
    words = rf"{path.name}: has hash {found}, not {kind.sha256[:8]}; damaged, remove it"
    with pytest.raises(UserError, match=words):
        load_extractor(trunk, how="tf1")
    with pytest.raises(UserError, match=words):
        load_extractor(trunk, how="tf1", file=path)


def test_only_published_weights_have_the_bare_name(narrow: None, places, monkeypatch: pytest.MonkeyPatch):
    weights = random_weights(vgg_shapes(19, NARROW))
    torch.save(weights, places[0] / "mine.pth")
    assert load_extractor("vgg19", file=places[0] / "mine.pth").name == "vgg19:mine"
    torch.save(weights, places[1] / VGG19.names[0])
    digest = hashlib.sha256((places[1] / VGG19.names[0]).read_bytes()).hexdigest()
    monkeypatch.setattr(features, "VGG19", VGG19._replace(sha256=digest[:8]))
    assert load_extractor("vgg19").name == "vgg19"
    (places[1] / VGG19.names[0]).rename(places[0] / "copy.pth")
    assert load_extractor("vgg19", file=places[0] / "copy.pth").name == "vgg19"  # whatever it is called


def test_weights_of_something_else_are_refused(tmp_path: Path):
    path, whole = tmp_path / "mine.safetensors", embedded_squeezenet()[1]

    def refusal(weights: Weights, words: str) -> None:
        safetensors.torch.save_file(weights, path)
        with pytest.raises(UserError, match=rf"mine\.safetensors: {words}") as error:
            load_extractor("squeezenet", file=path)
        assert "\n" not in str(error.value)

    refusal({k: v for k, v in whole.items() if k != "classifier.1.bias"}, r"has no classifier\.1\.bias; it is no Sq")
    changed = {**whole, "features.3.squeeze.weight": torch.zeros(16, 96, 1, 1)}
    refusal(changed, r"features\.3\.squeeze\.weight is \(16, 96, 1, 1\), but SqueezeNet11 has \(16, 64, 1, 1\)")
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="is damaged or no safetensors file"):
        load_extractor("squeezenet", file=path)
    (tmp_path / "vgg.mat").write_bytes(b"")
    with pytest.raises(UserError, match=r"vgg\.mat: measures look through torchvision's weights"):
        load_extractor("vgg19", file=tmp_path / "vgg.mat")
    for name in ("random_conv", "identity"):
        with pytest.raises(UserError, match=f"feature network '{name}' has no weights to read"):
            load_extractor(name, file=path)


def test_only_files_of_weights_are_read(tmp_path: Path):
    for name, words in (("none.pth", "no such file"), ("mine.bin", "weights come as .safetensors, .pth, .mat")):
        (tmp_path / "mine.bin").write_bytes(b"something")
        with pytest.raises(UserError, match=f"{name}: {words}"):
            read_weights(tmp_path / name)
    path, weights = embedded_squeezenet()
    assert path.name == "squeezenet11-imagenet.safetensors" and weights["classifier.1.weight"].shape == (
        1000,
        512,
        1,
        1,
    )


def test_the_package_imports_whatever_other_libraries_do_when_they_are_imported(tmp_path: Path):
    """Some of them fail at import where torchvision is absent."""
    others = ("torchvision", "torch_fidelity", "torchmetrics", "lpips", "piq", "cleanfid", "onnxruntime", "skimage")
    for name in others:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    names = ", ".join(f"photogram.metrics.{name}" for name in ("evaluate", "features", "lpips", "imported", "fidelity"))
    done = subprocess.run(
        [sys.executable, "-c", f"import {names}"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=Path(features.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_file_may_hold_more_and_half_precision_is_widened(tmp_path: Path):
    weights = embedded_squeezenet()[1]
    assert all(v.dtype == torch.float16 for v in weights.values())
    safetensors.torch.save_file({**weights, "more": torch.zeros(3)}, tmp_path / "mine.safetensors")
    found = load_extractor("squeezenet", file=tmp_path / "mine.safetensors")
    assert found.name == "squeezenet:mine" and found.digest == load_extractor("squeezenet").digest
    network = SqueezeNet11()
    filled(network, weights, tmp_path)
    assert all(v.dtype == torch.float32 and torch.equal(v, weights[k].float()) for k, v in network.state_dict().items())


# What they see.


def plain_squeezenet(x: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"].float(), w[f"{name}.bias"].float(), stride, padding).clamp(0)

    x = conv(x, "features.0", 2)
    for index in (3, 4, 6, 7, 9, 10, 11, 12):
        if index in (3, 6, 9):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = conv(x, f"features.{index}.squeeze")
        x = torch.cat([conv(x, f"features.{index}.expand1x1"), conv(x, f"features.{index}.expand3x3", 1, 1)], 1)
    return x.mean((2, 3)), conv(x, "classifier.1").mean((2, 3))


def test_squeezenet_equals_a_plain_forward(squeezenet: Extractor):
    seen = squeezenet(images())
    expected, logits = plain_squeezenet((images() / 255 - MEAN) / STD, embedded_squeezenet()[1])
    assert seen.features.shape == (3, 512) and seen.logits is not None and seen.logits.shape == (3, 1000)
    close(seen.features, expected)
    close(seen.logits, logits)


@pytest.mark.parametrize(("picture", "label", "sure"), [("chelsea", 285, 0.40), ("coffee", 967, 0.98)])
def test_squeezenet_knows_a_cat_and_an_espresso(squeezenet: Extractor, picture: str, label: int, sure: float):
    data = pytest.importorskip("skimage.data", reason="its photographs are needed")
    photo = getattr(data, picture)()
    side = min(photo.shape[:2])
    top, left = ((n - side) // 2 for n in photo.shape[:2])
    square = torch.from_numpy(photo[top : top + side, left : left + side].copy()).movedim(-1, 0)[None]
    small = resized(square.float(), (227, 227), "aa").round().to(torch.uint8)
    logits = squeezenet(small).logits
    assert logits is not None
    assert int(logits.argmax()) == label and float(logits.softmax(1)[0, label]) == pytest.approx(sure, abs=0.1)


def vgg16_file(path: Path) -> Weights:
    """Weights of VGG-16's keys and shapes; numbers repeat, which makes a file of half a gigabyte small."""
    generator, weights = torch.Generator().manual_seed(0), {}
    convs = {i: min(64 * 2 ** sum(i >= b for b in (5, 10, 17)), 512) for i in VGG16_CONVS}
    for index, c_in, c_out in zip(convs, (3, *convs.values()), convs.values(), strict=False):
        kernel = torch.randn(c_out, c_in, 1, 1, generator=generator) * (2 / c_in) ** 0.5 / 9
        weights[f"features.{index}.weight"] = kernel.expand(c_out, c_in, 3, 3)
    by_input = torch.randn(1, 25088, generator=generator) / 25088**0.5
    by_output = torch.randn(4096, 1, generator=generator) / 4096
    weights["classifier.0.weight"] = by_input.expand(4096, 25088)
    weights["classifier.3.weight"] = by_output.expand(4096, 4096)
    for name, value in list(weights.items()):
        weights[name.replace("weight", "bias")] = 0.1 * torch.randn(len(value), generator=generator)
    torch.save(weights | {"classifier.6.bias": torch.zeros(1000)}, path)
    return weights


def test_vgg16_gives_its_second_fully_connected_layer_after_relu_at_224(tmp_path: Path):
    weights = vgg16_file(tmp_path / "mine.pth")
    extractor = load_extractor("vgg16", how="torch", file=tmp_path / "mine.pth")
    (tmp_path / "mine.pth").unlink()
    assert extractor.name == "vgg16:mine" and extractor.size == (224, 224)
    x = (resized(images(1).float(), (224, 224), "torch") / 255 - MEAN) / STD
    for index in VGG16_CONVS:
        x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1).clamp(0)
        x = F.max_pool2d(x, 2) if index in (2, 7, 14, 21, 28) else x
    x = F.linear(x.flatten(1), weights["classifier.0.weight"], weights["classifier.0.bias"]).clamp(0)
    before = F.linear(x, weights["classifier.3.weight"], weights["classifier.3.bias"])
    seen = extractor(images(1))
    assert (before < 0).any() and (before > 0).any()
    close(seen.features, before.clamp(0), rtol=1e-4)
    assert seen.logits is None


def test_vgg16_has_the_published_parameters_up_to_there():
    with torch.device("meta"):
        network = VGG16Features()
    assert sum(p.numel() for p in network.parameters()) == 138_357_544 - (4096 * 1000 + 1000)
    keys = {k.split(".", 1)[1] for k in network.state_dict()}
    layers = [*(f"features.{i}" for i in VGG16_CONVS), "classifier.0", "classifier.3"]
    assert keys == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_vgg16_hed_gives_the_mean_of_conv5_3(tmp_path: Path):
    torch.manual_seed(0)
    network = VGG16Maps()
    weights = {name: tensor.half() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "mine.safetensors")
    extractor = load_extractor("vgg16_hed", file=tmp_path / "mine.safetensors")
    assert extractor.name == "vgg16_hed:mine"  # other weights than the known ones
    x = (images() / 255 - MEAN) / STD
    for n, index in enumerate(VGG16_CONVS):
        if n in (2, 4, 7, 10):  # the first convolution of each block but the first
            x = F.max_pool2d(x, 2)
        x = F.relu(
            F.conv2d(x, *(weights[f"features.{index}.{kind}"].float() for kind in ("weight", "bias")), padding=1)
        )
    close(extractor(images()).features, x.mean((2, 3)), rtol=1e-4)


@pytest.mark.skipif(not HED.is_file(), reason="the shared weights are not here")
def test_the_real_vgg16_hed_is_known_by_its_hash():
    extractor = load_extractor("vgg16_hed", file=HED)
    assert extractor.name == "vgg16_hed"
    features = extractor(images()).features
    assert features.shape[1] == 512 and features.isfinite().all() and (features > 0).any()


def test_vgg19_gives_the_mean_of_conv5_2(narrow: None, tmp_path: Path):
    weights = random_weights(vgg_shapes(19, NARROW))
    torch.save(weights, tmp_path / "mine.pth")
    seen = load_extractor("vgg19", file=tmp_path / "mine.pth")(images())
    close(seen.features, plain_vgg((images() / 255 - MEAN) / STD, weights, 19)[-1].mean((2, 3)), rtol=1e-4)


def test_the_stand_ins_are_what_they_say():
    identity = load_extractor("identity", how="torch")
    expected = resized(images().float(), (8, 8), "torch") / 255
    assert torch.equal(identity(images()).features, expected.flatten(1)) and identity(images()).logits is None
    first, second = (load_extractor("random_conv") for _ in range(2))
    assert first.digest == second.digest and torch.equal(first(images()).features, second(images()).features)
    x, state = images() / 127.5 - 1, first.network.state_dict()  # pyright: ignore
    for n in range(3):
        x = F.conv2d(x, state[f"layers.{n}.weight"], state[f"layers.{n}.bias"], 2)
        x = torch.where(x > 0, x, 0.2 * x)
    close(first(images()).features, x.mean((2, 3)))
    assert first(images()).features.std(0).min() > 0


@pytest.mark.parametrize("trunk", ["squeezenet", "random_conv", "identity"])
def test_grey_images_are_seen_as_rgb(trunk: str):
    extractor, grey = load_extractor(trunk), images(2, channels=1)
    assert torch.equal(extractor(grey).features, extractor(grey.repeat(1, 3, 1, 1)).features)


@pytest.mark.parametrize("trunk", ["squeezenet", "random_conv", "identity"])
@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_batches_do_not_matter(trunk: str, size: tuple[int, int]):
    extractor, many = load_extractor(trunk), images(7, *size)
    whole = extractor(many)
    for parts in ([1] * 7, [2, 5]):
        rows = [extractor(part) for part in many.split(parts)]
        close(torch.cat([r.features for r in rows]), whole.features)
        if whole.logits is not None:
            close(torch.cat([r.logits for r in rows if r.logits is not None]), whole.logits)


def test_bfloat16_is_near_and_says_so(squeezenet: Extractor):
    rough = load_extractor("squeezenet", precision="bf16")
    near, exact = rough(images()), squeezenet(images())
    assert near.features.dtype == torch.float32 and near.logits is not None and near.logits.dtype == torch.float32
    off = (near.features - exact.features).norm() / exact.features.norm()
    assert 1e-5 < off < 0.03
    assert (near.features != near.features.bfloat16().float()).any()  # means over images are not rounded
    assert rough.identity == {**squeezenet.identity, "precision": "bf16"}


# What they cannot see.


def test_other_channels_and_small_images_are_refused(squeezenet: Extractor):
    with pytest.raises(ValueError, match="squeezenet sees images of 1 or 3 channels, not 4"):
        squeezenet(images(1, channels=4))
    with pytest.raises(UserError, match="images of 16 x 48 are too small for squeezenet, which needs 17 pixels a side"):
        squeezenet(images(1, 16, 48))


@pytest.mark.parametrize("trunk", ["squeezenet", "random_conv"])
def test_the_smallest_images_are_the_smallest_that_work(trunk: str):
    extractor = load_extractor(trunk)
    side = extractor.smallest
    assert extractor(torch.zeros(1, 3, side, side, dtype=torch.uint8)).features.isfinite().all()
    with pytest.raises(RuntimeError):
        extractor.network(torch.zeros(1, 3, side - 1, side))


def test_features_that_are_no_numbers_are_refused():
    def broken(x: Tensor) -> features.Seen:
        return features.Seen(torch.full((len(x), 4), np.nan))

    values: dict[str, Any] = {"name": "mine", "digest": "", "size": None, "how": "aa", "precision": "fp32"}
    extractor = Extractor(**values, network=broken, normalise=lambda pixels: pixels)
    with pytest.raises(UserError, match="mine: its features of these images are not finite"):
        extractor(images())


def test_nothing_is_trained(squeezenet: Extractor):
    assert isinstance(squeezenet.network, nn.Module) and not squeezenet.network.training
    assert not any(p.requires_grad for p in squeezenet.network.parameters())
    assert not squeezenet(images(1)).features.requires_grad
