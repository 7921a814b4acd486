"""LPIPS: the checks of section 6, with loops and another library's implementation on the same trunks."""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.metrics import lpips as module
from photogram.metrics.features import VGG16Maps
from photogram.metrics.lpips import CHANNELS, LPIPS, NETS, SCALE, SHIFT, AlexNetMaps, Net, load_lpips, read_heads
from photogram.metrics.weights import ALEXNET, VGG16
from photogram.nn.trunks import Fire, embedded_squeezenet, weights_digest

WEIGHTS = Path(module.__file__).parents[1] / "weights"
SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
HED = SHARED / "weights" / "vgg16-hed-features.safetensors"


def images(n: int = 2, height: int = 40, width: int = 52, seed: int = 0) -> Tensor:
    """Smooth and coloured, in [-1, 1]."""
    coarse = torch.rand(n, 3, height // 8 + 2, width // 8 + 2, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, (height, width), mode="bicubic") * 2 - 1).clamp(-1, 1)


def noisy(x: Tensor, level: float, seed: int = 1) -> Tensor:
    return (x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))).clamp(-1, 1)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    return load_lpips()


class Pixels(nn.Module):
    """A trunk that sees the pixels as they were before the normalisation, at two sizes."""

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x * torch.tensor(SCALE).view(3, 1, 1) + torch.tensor(SHIFT).view(3, 1, 1)
        return [x, x[..., ::2, ::2]]


def plain(features: tuple[list[Tensor], list[Tensor]], heads: list[Tensor]) -> list[float]:
    """Each layer's term for the first image, place by place."""
    terms = []
    for xs, ys, head in zip(*features, heads, strict=True):
        total = 0.0
        for i, j in np.ndindex(*xs.shape[-2:]):
            x, y = xs[0, :, i, j].double().numpy(), ys[0, :, i, j].double().numpy()
            x, y = x / (np.sqrt((x**2).sum()) + 1e-10), y / (np.sqrt((y**2).sum()) + 1e-10)
            total += (head.double().numpy() * (x - y) ** 2).sum()
        terms.append(total / xs[0, 0].numel())
    return terms


# The definition.


def test_the_distance_equals_a_loop_over_places_and_channels(lpips: LPIPS):
    a, b = images(1, 33, 40), noisy(images(1, 33, 40), 0.3)
    normalised = [(x - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1) for x in (a, b)]
    features = (lpips.trunk(normalised[0]), lpips.trunk(normalised[1]))
    assert [f.shape[1] for f in features[0]] == list(CHANNELS["squeeze"])
    expected = plain(features, list(lpips.heads))
    assert lpips.layers(a, b)[0].tolist() == pytest.approx(expected, rel=1e-4)
    assert lpips(a, b).tolist() == pytest.approx([sum(expected)], rel=1e-4)
    assert min(expected) > 0


def test_the_scaling_is_imagenets_on_minus_1_to_1(lpips: LPIPS):
    mean, std = (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(torch.tensor(SHIFT), mean * 2 - 1, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(SCALE), std * 2, rtol=0, atol=1e-6)


def test_equal_images_are_at_0_and_order_does_not_matter(lpips: LPIPS):
    a, b = images(), noisy(images(), 0.2)
    assert lpips(a, a).tolist() == [0, 0]
    assert (lpips(a, b) > 0.01).all() and (lpips.layers(a, b) >= 0).all()
    torch.testing.assert_close(lpips(a, b), lpips(b, a), rtol=1e-5, atol=0)
    torch.testing.assert_close(lpips(a, b), torch.cat([lpips(a[n:][:1], b[n:][:1]) for n in (0, 1)]), rtol=1e-5, atol=0)


def test_rows_embed_the_distance_as_a_squared_length(lpips: LPIPS):
    a, many = images(1), torch.cat([images(3, seed=5), noisy(images(1), 0.1)])
    squared = (lpips.embedded(a) - lpips.embedded(many)).square().sum(1)
    torch.testing.assert_close(squared, lpips(a.expand(4, -1, -1, -1), many), rtol=1e-5, atol=0)


def test_the_map_has_the_distance_for_its_mean_and_shows_the_place(lpips: LPIPS):
    a = images(2, 64, 64)
    b = a.clone()
    b[:, :, 40:56, 8:24] = noisy(b[:, :, 40:56, 8:24], 0.8)
    places = lpips.places(a, b)
    assert places.shape == (2, 64, 64)
    assert places[:, 36:60, 4:28].mean() > 5 * places[:, :32, 32:].mean()
    # Where all maps have the images' size, nothing is lost in growing them.
    direct = LPIPS("pixels", _First(), [torch.ones(3)])
    torch.testing.assert_close(direct.places(a, b).mean((1, 2)), direct(a, b), rtol=1e-5, atol=0)


class _First(Pixels):
    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(x)[:1]


def test_orthogonal_features_are_2_apart_in_each_layer():
    distance = LPIPS("pixels", Pixels(), [torch.ones(3), torch.ones(3)])
    red, green = (torch.zeros(1, 3, 8, 8) for _ in "ab")
    red[:, 0], green[:, 1] = 0.7, 0.2  # of different lengths, which do not count
    assert distance.layers(red, green)[0].tolist() == pytest.approx([2, 2], rel=1e-5)
    weighted = LPIPS("pixels", Pixels(), [torch.tensor([1.0, 3, 0]), torch.zeros(3)])
    assert weighted.layers(red, green)[0].tolist() == pytest.approx([4, 0], rel=1e-5)


def test_the_length_of_features_does_not_matter():
    class Scaled(Pixels):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [37.5 * f for f in super().forward(x)]

    a, b = images(), images(seed=3)
    heads = [torch.rand(3, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    expected = LPIPS("pixels", Pixels(), heads)(a, b)
    assert expected.min() > 0.1
    torch.testing.assert_close(LPIPS("scaled", Scaled(), heads)(a, b), expected, rtol=1e-5, atol=0)


def test_gradients_reach_both_images_and_are_numbers_where_features_are_0(lpips: LPIPS):
    a, b = images(1).requires_grad_(), noisy(images(1), 0.3).requires_grad_()
    lpips(a, b).sum().backward()
    assert a.grad is not None and b.grad is not None and a.grad.abs().max() > 0 and b.grad.abs().max() > 0
    assert all(p.grad is None for p in lpips.parameters())
    dark = torch.zeros(1, 3, 8, 8)
    dark[..., :4] = 0.5
    x, y = dark.clone().requires_grad_(), images(1, 8, 8).requires_grad_()
    LPIPS("pixels", Pixels(), [torch.ones(3)] * 2)(x, y).sum().backward()
    for grad in (x.grad, y.grad):
        assert grad is not None and grad.isfinite().all() and grad.abs().max() > 0


def test_the_gradient_is_the_slope():
    heads = [torch.rand(3, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in range(2)]
    distance = LPIPS("pixels", Pixels(), heads).double()
    a, b = (images(1, 8, 8, seed).double().requires_grad_() for seed in (0, 1))
    torch.autograd.gradcheck(distance, (a, b), atol=1e-6)


def test_more_noise_is_further_away_on_average(lpips: LPIPS):
    a = images(6, 48, 48)
    means = [float(lpips(a, noisy(a, level)).mean()) for level in (0.02, 0.05, 0.1, 0.2, 0.4)]
    assert means == sorted(means) and means[-1] > 3 * means[0]


def test_grey_is_seen_as_rgb_and_what_it_cannot_see_is_refused(lpips: LPIPS):
    grey = images()[:, :1]
    other = noisy(grey, 0.2)
    rgb = lpips(grey.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1))
    torch.testing.assert_close(lpips(grey, other), rgb, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match=r"LPIPS through \w+ sees images of 1 or 3 channels, not 2"):
        lpips(torch.zeros(1, 2, 40, 40), torch.zeros(1, 2, 40, 40))
    with pytest.raises(ValueError, match=r"\(1, 3, 40, 52\) does not compare with one of \(1, 3, 40, 51\)"):
        lpips(images(1), images(1)[..., :51])
    with pytest.raises(
        UserError, match="images of 16 x 40 are too small for LPIPS through squeeze, which needs 17 pix"
    ):
        lpips(torch.zeros(1, 3, 16, 40), torch.zeros(1, 3, 16, 40))


@pytest.mark.parametrize("net", NETS)
def test_the_smallest_images_give_all_maps(net: Net):
    trunk = {"squeeze": lambda: load_lpips().trunk, "alex": AlexNetMaps, "vgg": VGG16Maps}[net]()
    side = trunk.smallest
    with torch.no_grad():
        found = trunk(torch.zeros(1, 3, side, side))
        assert [f.shape[1] for f in found] == list(CHANNELS[net]) and all(f.numel() for f in found)
        with pytest.raises(RuntimeError):
            trunk(torch.zeros(1, 3, side - 1, side + 9))


# Files.


@pytest.mark.parametrize("net", NETS)
def test_the_heads_are_those_of_the_wheel_they_come_from(net: Net):
    torchmetrics = pytest.importorskip("torchmetrics")
    published = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / f"{net}.pth"
    ours, theirs = (read_heads(path, net) for path in (WEIGHTS / f"lpips-{net}.safetensors", published))
    assert [h.numel() for h in ours] == list(CHANNELS[net])
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(ours, theirs, strict=True))
    assert all((h >= 0).all() and (h > 0).any() for h in ours)


def test_other_heads_are_refused(tmp_path: Path):
    heads = safetensors.torch.load_file(WEIGHTS / "lpips-squeeze.safetensors")

    def refusal(weights: dict[str, Tensor], words: str) -> None:
        safetensors.torch.save_file(weights, tmp_path / "mine.safetensors")
        with pytest.raises(UserError, match=rf"mine\.safetensors: {words}") as error:
            read_heads(tmp_path / "mine.safetensors", "squeeze")
        assert "\n" not in str(error.value)

    first = heads["lin0.model.1.weight"]
    refusal({k: v for k, v in heads.items() if "lin6" not in k}, r"lin6\.model\.1\.weight is unknown or missing")
    refusal(heads | {"lin7.model.1.weight": first.clone()}, r"lin7\.model\.1\.weight is unknown or missing")
    refusal(
        heads | {"lin0.model.1.weight": first[:, :63].clone()},
        r"lin0\.model\.1\.weight is \(1, 63, 1, 1\), but squeeze has",
    )
    # Version 0.0 has the same keys and shapes; so has one with a negative weight, and any other training.
    for other in (first + 0.01, -first):
        refusal(
            heads | {"lin0.model.1.weight": other}, r"has hash [0-9a-f]{8}, not 55d9bd39: not the heads of version 0\.1"
        )
    vgg = safetensors.torch.load_file(WEIGHTS / "lpips-vgg.safetensors")
    refusal(vgg, r"lin5\.model\.1\.weight is unknown or missing; these are no heads for squeeze")


def test_the_digest_says_which_heads_and_which_trunk(lpips: LPIPS):
    hashed = hashlib.sha256()
    state = {f"heads.{n}": h for n, h in enumerate(read_heads(WEIGHTS / "lpips-squeeze.safetensors", "squeeze"))}
    trunk = {f"trunk.squeezenet.{k}": v.float() for k, v in embedded_squeezenet()[1].items()}
    for name, value in sorted((state | trunk).items()):
        hashed.update(name.encode() + value.numpy().tobytes())
    assert lpips.digest == hashed.hexdigest() == weights_digest(lpips)
    assert lpips.name == "squeeze" and not lpips.training and not any(p.requires_grad for p in lpips.parameters())


def random_trunk(net: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights of AlexNet's or VGG-16's convolutions with torchvision's keys, that keep activations near 1."""
    generator, weights, c_in = torch.Generator().manual_seed(seed), {}, 3
    alex = {0: (64, 11), 3: (192, 5), 6: (384, 3), 8: (256, 3), 10: (256, 3)}
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    vgg = {i: (min(64 * 2 ** sum(i >= b for b in (5, 10, 17)), 512), 3) for i in indices}
    for index, (c_out, side) in (alex if net == "alex" else vgg).items():
        scale = (2 / (c_in * side**2)) ** 0.5
        weights[f"features.{index}.weight"] = torch.randn(c_out, c_in, side, side, generator=generator) * scale
        weights[f"features.{index}.bias"] = torch.randn(c_out, generator=generator) * 0.1
        c_in = c_out
    return weights


def sequential(net: str, weights: dict[str, Tensor]) -> nn.Sequential:
    """Torchvision's `features`, as its documentation lists them."""
    pools = {"squeeze": (2, 5, 8), "alex": (2, 5), "vgg": (4, 9, 16, 23)}[net]
    geometry = {("alex", 0): (4, 2), ("alex", 3): (1, 2), ("squeeze", 0): (2, 0)}
    layers: list[nn.Module] = []
    for index in range({"squeeze": 13, "alex": 12, "vgg": 30}[net]):
        kernel = weights.get(f"features.{index}.weight")
        if f"features.{index}.squeeze.weight" in weights:
            own = {k.removeprefix(f"features.{index}."): v for k, v in weights.items() if f"features.{index}." in k}
            fire = Fire(
                own["squeeze.weight"].shape[1], own["squeeze.weight"].shape[0], own["expand1x1.weight"].shape[0]
            )
            fire.load_state_dict({k: v.float() for k, v in own.items()})
            layers.append(fire)
        elif kernel is not None:
            stride, padding = geometry.get((net, index), (1, 1))
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1], stride, padding)
            conv.load_state_dict({k: weights[f"features.{index}.{k}"].float() for k in ("weight", "bias")})
            layers.append(conv)
        elif index in pools:
            layers.append(nn.MaxPool2d(2) if net == "vgg" else nn.MaxPool2d(3, 2, ceil_mode=net == "squeeze"))
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


@pytest.mark.parametrize("net", NETS)
def test_another_library_agrees_on_the_same_trunk(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Torchmetrics', whose trunk would come from torchvision: it gets ours, put together as torchvision does."""
    theirs = pytest.importorskip("torchmetrics.functional.image.lpips")
    weights = embedded_squeezenet()[1] if net == "squeeze" else random_trunk(net)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_: sequential(net, weights))
    file = None
    if net != "squeeze":
        file = tmp_path / "mine.safetensors"
        safetensors.torch.save_file(weights, file)
    ours, oracle = load_lpips(net, file), theirs._LPIPS(net=net)
    assert ours.name == ("squeeze" if file is None else f"{net}:mine")
    a, b = images(2, 64, 80), noisy(images(2, 64, 80), 0.3)
    whole, layers = oracle(a, b, retperlayer=True)
    torch.testing.assert_close(ours(a, b), whole.flatten(), rtol=1e-4, atol=0)
    torch.testing.assert_close(ours.layers(a, b), torch.cat([x.flatten(1) for x in layers], 1), rtol=1e-4, atol=1e-7)
    oracle.spatial = True
    torch.testing.assert_close(ours.places(a, b), oracle(a, b)[:, 0], rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not HED.is_file(), reason="the shared VGG-16 weights are not here")
def test_real_vgg16_weights_from_a_file_tell_more_noise_from_less():
    lpips, a = load_lpips("vgg", HED), images(2, 64, 64)
    trunk = sequential("vgg", safetensors.torch.load_file(HED))
    x, found = (a - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1), []
    for index, layer in enumerate(trunk):
        x = layer(x)
        if index in (3, 8, 15, 22, 29):
            found.append(x / x.square().sum(1, keepdim=True).sqrt())
    for ours, theirs in zip(lpips.normalised(a), found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert lpips.name == "vgg:vgg16-hed-features"  # never `vgg`
    distances = [float(lpips(a, noisy(a, level)).mean()) for level in (0.05, 0.1, 0.2, 0.4)]
    assert distances == sorted(distances) and distances[0] > 0.001


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOTOGRAM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.mark.parametrize(("net", "kind"), [("alex", ALEXNET), ("vgg", VGG16)])
def test_a_missing_trunk_ends_in_one_line_with_the_way_out(net: str, kind, offline: Path):
    with pytest.raises(UserError) as error:
        load_lpips(net)
    message = str(error.value)
    assert "\n" not in message and f"LPIPS through '{net}' needs {kind.names[0]} (SHA-256 {kind.sha256}" in message
    for words in (str(offline), "PHOTOGRAM_WEIGHTS", kind.url, "nothing is downloaded", "`squeeze` is embedded"):
        assert words in message
    (offline / kind.names[0]).write_bytes(b"something else")
    with pytest.raises(UserError, match=rf"{kind.names[0]}: has hash [0-9a-f]{{8}}, not {kind.sha256}; damaged"):
        load_lpips(net)


def test_the_published_trunk_is_found_and_has_the_bare_name(offline: Path, monkeypatch: pytest.MonkeyPatch):
    weights, path = random_trunk("alex"), offline / ALEXNET.names[0]
    torch.save(weights | {"classifier.1.weight": torch.zeros(2, 2)}, path)  # a file may hold more
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "ALEXNET", ALEXNET._replace(sha256=digest[:8]))
    found = load_lpips("alex")
    assert found.name == "alex"
    for name, value in found.trunk.state_dict().items():
        assert torch.equal(value, weights[name])


def test_names_and_files_of_something_else_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no such file"):
        load_lpips("vgg", tmp_path / "none.pth")
    short = random_trunk("alex")
    del short["features.8.bias"]
    safetensors.torch.save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"short\.safetensors: has no features\.8\.bias; it is no AlexNetMaps"):
        load_lpips("alex", tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"MatConvNet"):
        (tmp_path / "vgg.mat").write_bytes(b"")
        load_lpips("vgg", tmp_path / "vgg.mat")


def test_it_can_be_copied_and_gives_the_same(lpips: LPIPS):
    a, b = images(1), images(1, seed=4)
    other = copy.deepcopy(lpips)
    for parameter in lpips.trunk.parameters():
        assert parameter.requires_grad is False
    assert torch.equal(other(a, b), lpips(a, b))


def test_an_unknown_trunk_is_refused_with_those_that_there_are():
    with pytest.raises(
        UserError, match=r"LPIPS trunk 'alexnet': must be one of squeeze, alex, vgg \(did you mean 'alex'"
    ):
        load_lpips("alexnet")
