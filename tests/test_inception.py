"""The Inception of the FID (section 1.1): against a plain forward, and through files of both published ports' forms."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.metrics import features
from photogram.metrics.features import Extractor, load_extractor
from photogram.metrics.inception import Inception
from photogram.metrics.resize import resized
from photogram.metrics.weights import INCEPTION, INCEPTION_SCRIPT

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
STATE_NAMES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")


def chain(prefix: str, c_in: int, *convs: tuple[str, int, tuple[int, int]]) -> Shapes:
    """Kernels of convolutions that follow each other."""
    shapes: Shapes = {}
    for name, c_out, kernel in convs:
        shapes[f"{prefix}{name}"], c_in = (c_out, c_in, *kernel), c_out
    return shapes


def kernels() -> Shapes:
    """Every convolution of the network of Szegedy et al. 2016, table 1 and figures 5 to 7, as the ports name them."""
    one, three, five, wide, tall = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
    stem = (("1a_3x3", 32, three), ("2a_3x3", 32, three), ("2b_3x3", 64, three), ("3b_1x1", 80, one))
    shapes = chain("Conv2d_", 3, *stem, ("4a_3x3", 192, three))
    for letter, c_in, pooled in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
        at = f"Mixed_5{letter}.branch"
        shapes |= chain(at, c_in, ("1x1", 64, one)) | chain(at, c_in, ("_pool", pooled, one))
        shapes |= chain(at, c_in, ("5x5_1", 48, one), ("5x5_2", 64, five))
        shapes |= chain(at, c_in, ("3x3dbl_1", 64, one), ("3x3dbl_2", 96, three), ("3x3dbl_3", 96, three))
    at = "Mixed_6a.branch"
    shapes |= chain(at, 288, ("3x3", 384, three))
    shapes |= chain(at, 288, ("3x3dbl_1", 64, one), ("3x3dbl_2", 96, three), ("3x3dbl_3", 96, three))
    for letter, c in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        at = f"Mixed_6{letter}.branch"
        shapes |= chain(at, 768, ("1x1", 192, one)) | chain(at, 768, ("_pool", 192, one))
        shapes |= chain(at, 768, ("7x7_1", c, one), ("7x7_2", c, wide), ("7x7_3", 192, tall))
        turns = (("7x7dbl_2", c, tall), ("7x7dbl_3", c, wide), ("7x7dbl_4", c, tall), ("7x7dbl_5", 192, wide))
        shapes |= chain(at, 768, ("7x7dbl_1", c, one), *turns)
    at = "Mixed_7a.branch"
    shapes |= chain(at, 768, ("3x3_1", 192, one), ("3x3_2", 320, three))
    turns = (("7x7x3_2", 192, wide), ("7x7x3_3", 192, tall), ("7x7x3_4", 192, three))
    shapes |= chain(at, 768, ("7x7x3_1", 192, one), *turns)
    for letter, c_in in (("b", 1280), ("c", 2048)):
        at = f"Mixed_7{letter}.branch"
        shapes |= chain(at, c_in, ("1x1", 320, one)) | chain(at, c_in, ("_pool", 192, one))
        shapes |= chain(at, c_in, ("3x3_1", 384, one)) | chain(
            at, c_in, ("3x3dbl_1", 448, one), ("3x3dbl_2", 384, three)
        )
        for branch in ("3x3_2", "3x3dbl_3"):
            shapes |= {f"{at}{branch}a": (384, 384, 1, 3), f"{at}{branch}b": (384, 384, 3, 1)}
    return shapes


def layout() -> Shapes:
    """The published state dict, `num_batches_tracked` aside."""
    shapes: Shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for name, shape in kernels().items():
        shapes[f"{name}.conv.weight"] = shape
        for own in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{own}"] = shape[:1]
    return shapes


def random_weights(seed: int = 0) -> Weights:
    """Of such sizes that activations stay near 1 all the way."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in layout().items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            found[name] = noise * (2 / noise[0].numel()) ** 0.5
        else:
            about = 1.0 if name.endswith(("bn.weight", "running_var")) else 0.0
            found[name] = about + 0.1 * noise.clamp(-3, 3)
    return found


# The network in plain functions.


def conv(x: Tensor, w: Weights, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
    x = F.conv2d(x, w[f"{name}.conv.weight"], None, stride, padding)
    mean, var, gamma, beta = (
        w[f"{name}.bn.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + 0.001).sqrt() * gamma + beta).clamp(0)


def mean_inside(x: Tensor) -> Tensor:
    """Means of 3 x 3, of what lies inside."""
    ones, (h, w) = torch.ones_like(x), x.shape[-2:]
    sums, counts = (F.pad(p, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).sum((4, 5)) for p in (x, ones))
    assert sums.shape[-2:] == (h, w) and counts[0, 0, 0, 0] == 4
    return sums / counts


def mean_with_border(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).mean((4, 5))


def maximum(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5))


def halved(x: Tensor) -> Tensor:
    return x.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))


def plain(x: Tensor, w: Weights, average: Callable = mean_inside, last: Callable = maximum) -> tuple[Tensor, Tensor]:
    one, wide, tall = (1, 1), (0, 3), (3, 0)
    x = conv(conv(x, w, "Conv2d_1a_3x3", 2), w, "Conv2d_2a_3x3")
    x = halved(conv(x, w, "Conv2d_2b_3x3", 1, one))
    x = halved(conv(conv(x, w, "Conv2d_3b_1x1"), w, "Conv2d_4a_3x3"))
    for letter in "bcd":
        at = f"Mixed_5{letter}.branch"
        five = conv(conv(x, w, f"{at}5x5_1"), w, f"{at}5x5_2", 1, (2, 2))
        double = conv(conv(x, w, f"{at}3x3dbl_1"), w, f"{at}3x3dbl_2", 1, one)
        double = conv(double, w, f"{at}3x3dbl_3", 1, one)
        x = torch.cat([conv(x, w, f"{at}1x1"), five, double, conv(average(x), w, f"{at}_pool")], 1)
    at = "Mixed_6a.branch"
    double = conv(conv(conv(x, w, f"{at}3x3dbl_1"), w, f"{at}3x3dbl_2", 1, one), w, f"{at}3x3dbl_3", 2)
    x = torch.cat([conv(x, w, f"{at}3x3", 2), double, halved(x)], 1)
    for letter in "bcde":
        at = f"Mixed_6{letter}.branch"
        seven = conv(conv(conv(x, w, f"{at}7x7_1"), w, f"{at}7x7_2", 1, wide), w, f"{at}7x7_3", 1, tall)
        double = conv(x, w, f"{at}7x7dbl_1")
        for n, padding in ((2, tall), (3, wide), (4, tall), (5, wide)):
            double = conv(double, w, f"{at}7x7dbl_{n}", 1, padding)
        x = torch.cat([conv(x, w, f"{at}1x1"), seven, double, conv(average(x), w, f"{at}_pool")], 1)
    at = "Mixed_7a.branch"
    seven = conv(conv(conv(x, w, f"{at}7x7x3_1"), w, f"{at}7x7x3_2", 1, wide), w, f"{at}7x7x3_3", 1, tall)
    seven = conv(seven, w, f"{at}7x7x3_4", 2)
    x = torch.cat([conv(conv(x, w, f"{at}3x3_1"), w, f"{at}3x3_2", 2), seven, halved(x)], 1)
    for letter, pool in (("b", average), ("c", last)):
        at = f"Mixed_7{letter}.branch"
        three = conv(x, w, f"{at}3x3_1")
        double = conv(conv(x, w, f"{at}3x3dbl_1"), w, f"{at}3x3dbl_2", 1, one)
        fans = [(three, "3x3_2"), (double, "3x3dbl_3")]
        fan = [conv(y, w, f"{at}{n}{s}", 1, p) for y, n in fans for s, p in (("a", (0, 1)), ("b", (1, 0)))]
        x = torch.cat([conv(x, w, f"{at}1x1"), *fan, conv(pool(x), w, f"{at}_pool")], 1)
    features = x.mean((2, 3))
    return features, features @ w["fc.weight"].T


def off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    noise = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    return F.interpolate(noise, (299, 299), mode="bilinear") * 2 - 1


def test_keys_shapes_and_parameters_are_those_of_the_ports():
    with torch.device("meta"):
        network = Inception()
    state = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    tracked = {k for k in state if k.endswith(".bn.num_batches_tracked")}
    assert {k: v for k, v in state.items() if k not in tracked} == layout()
    assert {k.removesuffix(".bn.num_batches_tracked") for k in tracked} == set(kernels()) and len(tracked) == 94
    counted = sum(torch.Size(shape).numel() + 2 * shape[0] for shape in kernels().values()) + 2049 * 1008
    assert counted == sum(p.numel() for p in network.parameters()) == 23_850_960


@torch.no_grad()
def test_features_and_logits_equal_a_plain_forward(weights: Weights, picture: Tensor):
    network = Inception().eval()
    network.load_state_dict(weights, strict=False)
    found, logits = network(picture)
    expected, expected_logits = plain(picture, weights)
    assert found.shape == (1, 2048) and logits.shape == (1, 1008) and found.std() > 0.05
    assert off(found, expected) < 1e-4 and off(logits, expected_logits) < 1e-4
    # What the ports of torchvision's network get wrong would be seen: padding in means, the last block's maximum.
    assert off(found, plain(picture, weights, average=mean_with_border)[0]) > 1e-2
    assert off(found, plain(picture, weights, last=mean_inside)[0]) > 1e-2
    biased = F.linear(found, weights["fc.weight"], weights["fc.bias"])
    assert off(logits, biased) > 1e-2  # the Inception score's logits have no bias


# Files.


def images(n: int = 2, height: int = 40, width: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The weights folder, empty; afterwards it is emptied, since Inceptions are large."""
    monkeypatch.setenv("PHOTOGRAM_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield tmp_path
    for path in tmp_path.glob("*.*"):
        path.unlink()


def trust(path: Path, monkeypatch: pytest.MonkeyPatch, script: bool = False) -> None:
    """Let this file be the published one."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name, kind = ("INCEPTION_SCRIPT", INCEPTION_SCRIPT) if script else ("INCEPTION", INCEPTION)
    monkeypatch.setattr(features, name, kind._replace(sha256=digest if script else digest[:8]))


@pytest.mark.parametrize("name", STATE_NAMES)
@pytest.mark.parametrize("tracked", [False, True])
def test_the_state_dict_of_either_port_is_found_checked_and_filled_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, weights: Weights, name: str, tracked: bool
):
    counters = {f"{k}.bn.num_batches_tracked": torch.tensor(7) for k in kernels()}
    torch.save(weights | counters if tracked else weights, folder / name)
    trust(folder / name, monkeypatch)
    extractor = load_extractor("inception", how="tf1")
    assert extractor.name == "inception" and extractor.size == (299, 299)
    filled = extractor.network.inception.state_dict()  # pyright: ignore
    assert all(torch.equal(filled[k], v) for k, v in weights.items())
    plainly = hashlib.sha256()
    for key, value in sorted({f"inception.{k}": v for k, v in weights.items()}.items()):
        plainly.update(key.encode() + value.numpy().tobytes())
    assert extractor.digest == plainly.hexdigest()  # with counters or without


def test_images_are_resized_by_the_filter_and_normalised_by_128(folder: Path, weights: Weights):
    safetensors.torch.save_file(weights, folder / "mine.safetensors")
    extractor = load_extractor("inception", how="tf1", file=folder / "mine.safetensors")
    seen = extractor(images(1))
    expected, logits = plain((resized(images(1).float(), (299, 299), "tf1") - 128) / 128, weights)
    assert off(seen.features, expected) < 1e-4 and seen.logits is not None and off(seen.logits, logits) < 1e-4
    assert extractor.name == "inception:mine"  # never "inception", whose distance would be an FID
    assert extractor.identity["size"] == [299, 299] and extractor.identity["resize"] == "tf1"


@pytest.mark.parametrize("name", [*STATE_NAMES, "inception-2015-12-05.pt"])
def test_a_published_name_with_another_hash_is_refused(folder: Path, name: str):
    (folder / name).write_bytes(b"something else")
    wanted = "f58cb9b6" if name.endswith(".pt") else "6726825d"
    found = hashlib.sha256(b"something else").hexdigest()[:8]
    with pytest.raises(UserError, match=rf"{name}: has hash {found}, not {wanted}; damaged, remove it"):
        load_extractor("inception", how="tf1")


def test_torchvisions_inception_and_others_are_refused(folder: Path, weights: Weights):
    def refusal(changed: Weights, words: str) -> None:
        torch.save(changed, folder / "mine.pth")
        with pytest.raises(UserError, match=rf"mine\.pth: {words}"):
            load_extractor("inception", file=folder / "mine.pth")

    refusal(
        {**weights, "fc.weight": torch.zeros(1000, 2048)}, r"fc\.weight is \(1000, 2048\), but Inception has \(1008"
    )
    without = {k: v for k, v in weights.items() if k != "Mixed_6e.branch7x7dbl_5.bn.running_var"}
    refusal(without, r"has no Mixed_6e\.branch7x7dbl_5\.bn\.running_var; it is no Inception")


# TorchScript.


class Port(nn.Module):
    """Stands for the published TorchScript: bytes of any size in, features or probabilities out."""

    def __init__(self, dim: int = 2048):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, 12, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert images.dtype == torch.uint8
        x = F.interpolate(images.float(), [2, 2], mode="bilinear", align_corners=False).flatten(1) @ self.weight.t()
        if return_features:
            return x
        return x.softmax(1)


def scripted(path: Path, dim: int = 2048) -> Port:
    port = Port(dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(port).save(str(path))
    return port


def test_the_torchscript_port_sees_bytes_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch):
    path = folder / "inception-2015-12-05.pt"
    port = scripted(path)
    trust(path, monkeypatch, script=True)
    extractor = load_extractor("inception", how="tf1")
    seen = extractor(images(3))
    torch.testing.assert_close(seen.features, port(images(3), return_features=True).detach(), rtol=1e-5, atol=1e-3)
    assert seen.logits is None and extractor.name == "inception" and extractor.size is None
    grey = images(3)[:, :1]
    assert torch.equal(extractor(grey).features, extractor(grey.repeat(1, 3, 1, 1)).features)
    value = port.weight.detach().numpy().tobytes()
    assert extractor.digest == hashlib.sha256(b"script.weight" + value).hexdigest()


def test_the_state_dict_comes_before_the_script(folder: Path, monkeypatch: pytest.MonkeyPatch):
    scripted(folder / "inception-2015-12-05.pt")
    (folder / STATE_NAMES[1]).write_bytes(b"something else")
    with pytest.raises(UserError, match="weights-inception-2015-12-05-6726825d"):
        load_extractor("inception", how="tf1")


@pytest.mark.parametrize(("how", "precision"), [("aa", "fp32"), ("clean", "fp32"), ("tf1", "bf16")])
def test_the_script_resizes_by_itself_so_another_filter_is_refused(folder: Path, how: str, precision: str):
    scripted(folder / "mine.pt")
    with pytest.raises(UserError, match=f"resizes by itself, as tf1, in fp32, and not by {how} in {precision}"):
        load_extractor("inception", how=how, precision=precision, file=folder / "mine.pt")
    found: Extractor = load_extractor("inception", how="tf1", file=folder / "mine.pt")
    assert found.name == "inception:mine"


def test_what_is_no_such_script_is_refused(folder: Path):
    path = folder / "mine.pt"
    for content in (b"", b"something else", b"PK\x03\x04" + b"\0" * 100):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"mine\.pt: is damaged or not the TorchScript Inception"):
            load_extractor("inception", how="tf1", file=path)
    scripted(path, dim=64)
    with pytest.raises(UserError, match=r"mine\.pt: does not give 2048 features"):
        load_extractor("inception", how="tf1", file=path)
