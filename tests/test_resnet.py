"""The residual generator: published counts, against plain modules, and what it paints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn.noise import NoiseOptions
from photogram.nn.norms import BatchNorm
from photogram.nn.resnet import ResNetGenerator
from photogram.scene import Condition, Layout, SceneClass, SceneSpec

RGB = SceneSpec((), (256, 256), image_channels=3)
LAYOUTS = SceneSpec(tuple(SceneClass(str(n), (n, n, n)) for n in range(5)), (32, 32))


@pytest.mark.parametrize(
    ("blocks", "norm", "parameters"),
    [(6, "instance", 7_837_699), (6, "batch", 7_841_411), (9, "instance", 11_378_179), (9, "batch", 11_383_427)],
)
def test_parameters_are_the_specifications(blocks, norm, parameters):
    """Check 10.1. Specification 2.3."""
    with torch.device("meta"):
        network = ResNetGenerator(spec=RGB, blocks=blocks, norm=norm)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("blocks", "gmac"), [(6, 35.06), (9, 49.55)])
def test_multiplications_are_the_specifications(blocks, gmac):
    """Check 10.1. At 256 x 256: of convolutions, output elements by weights; of transposed ones, input elements."""
    count = 0

    def add(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal count
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        pixels = made if isinstance(module, nn.Conv2d) else given[0]
        count += pixels.shape[2] * pixels.shape[3] * module.weight.numel()

    with torch.device("meta"):
        network = ResNetGenerator(spec=RGB, blocks=blocks)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(add)
        assert network(Condition(image=torch.zeros(1, 3, 256, 256))).shape == (1, 3, 256, 256)
    assert count / 1e9 == pytest.approx(gmac, rel=1e-3)


def loud(network: nn.Module) -> Any:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
            if module.bias is not None:
                nn.init.normal_(module.bias)
        elif isinstance(module, BatchNorm):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network


class Sum(nn.Module):
    def __init__(self, *inside: nn.Module):
        super().__init__()
        self.inside = nn.Sequential(*inside)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


def twin(network: ResNetGenerator) -> nn.Sequential:
    """The same in plain modules, in order, with the same weights."""
    norm = nn.InstanceNorm2d if network.norm == "instance" else nn.BatchNorm2d
    ours = iter([m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)])
    found: list[nn.Module] = []

    def conv(module: nn.Module) -> nn.Module:
        module.load_state_dict(next(ours).state_dict())
        return module

    bias, w = network.norm == "instance", network.width
    seen = network.first.in_channels
    found += [nn.ReflectionPad2d(3), conv(nn.Conv2d(seen, w, 7, bias=bias)), norm(w), nn.ReLU()]
    for c in (w, 2 * w):
        found += [conv(nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias)), norm(2 * c), nn.ReLU()]
    for _ in range(network.blocks):
        first, second = (conv(nn.Conv2d(4 * w, 4 * w, 3, bias=bias)) for _ in range(2))
        pads = [nn.ReflectionPad2d(1) for _ in range(2)]
        found.append(Sum(pads[0], first, norm(4 * w), nn.ReLU(), pads[1], second, norm(4 * w)))
    for c in (4 * w, 2 * w):
        found += [conv(nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1, bias=bias)), norm(c // 2), nn.ReLU()]
    found += [nn.ReflectionPad2d(3), conv(nn.Conv2d(w, network.spec.photo_channels, 7)), nn.Tanh()]
    return nn.Sequential(*found)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_it_is_the_plain_modules(norm):
    """Values, and gradients of every convolution. Fresh batch norms scale by 1, as the twin's do."""
    torch.manual_seed(0)
    network = ResNetGenerator(spec=RGB, width=6, blocks=2, norm=norm)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
        elif isinstance(module, BatchNorm):
            nn.init.ones_(module.weight)
    plain, image = twin(network), torch.rand(2, 3, 16, 24) * 2 - 1
    found = []
    for run, whole in ((lambda: network(Condition(image=image)), network), (lambda: plain(image), plain)):
        painting = run()
        painting.square().mean().backward()
        convs = [m for m in whole.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        found.append((painting, [m.weight.grad for m in convs]))
    assert found[0][0].std() > 0.1
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_layouts_and_images_together():
    """As planes: each class is one more channel."""
    torch.manual_seed(0)
    spec = SceneSpec(LAYOUTS.classes, (16, 16), image_channels=2)
    network = loud(ResNetGenerator(spec=spec, width=4, blocks=1))
    plain = twin(network)
    classes, image = torch.randint(5, (1, 16, 16), dtype=torch.uint8), torch.rand(1, 2, 16, 16)
    planes = torch.cat([nn.functional.one_hot(classes.long(), 5).movedim(-1, 1), image], 1)
    torch.testing.assert_close(network(Condition(Layout(classes), image)), plain(planes), rtol=1e-3, atol=1e-5)


def test_dropout_is_its_noise_and_can_be_left_out():
    torch.manual_seed(0)
    network = loud(ResNetGenerator(spec=RGB.resized((16, 16)), width=4, blocks=2, norm="batch", dropout=True))
    image = torch.rand(1, 3, 16, 16)
    a, b, again = (network.sample(image, seed) for seed in (0, 1, 0))
    assert not torch.equal(a, b) and torch.equal(a, again)
    off = NoiseOptions(dropout=False)
    assert torch.equal(network.sample(image, 0, off), network.sample(image, 1, off))


def test_odd_sizes_are_padded_and_cropped_back():
    network = loud(ResNetGenerator(spec=RGB, width=4, blocks=1))
    image = torch.rand(1, 3, 18, 21)
    grown = torch.nn.functional.pad(image, (0, 3, 0, 2), mode="replicate")
    assert torch.equal(network.sample(image), network.sample(grown)[..., :18, :21])


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 40)])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_images_smaller_than_8_are_padded_to_it(size, norm):
    network = loud(ResNetGenerator(spec=RGB, width=4, blocks=1, norm=norm))
    image = torch.rand(1, 3, *size)
    grown = torch.nn.functional.pad(image, (0, max(8, size[1]) - size[1], 0, 8 - size[0]), mode="replicate")
    assert torch.equal(network.sample(image), network.sample(grown)[..., : size[0], : size[1]])


@pytest.mark.parametrize("size", [(1, 1), (8, 900), (900, 2)])
def test_colours_of_narrow_images_are_predicted_at_8_pixels_or_more(size):
    """A thin image has as many pixels as one trained on at a side of less than 8, where there is nothing to reflect."""
    network = ResNetGenerator(spec=SceneSpec((), (16, 16), image_channels=1), width=4, blocks=1, predict="ab")
    assert network.sample(torch.rand(1, 1, *size)).shape == (1, 3, *size)


def test_colours_alone_are_two_channels_that_join_the_lightness():
    network = ResNetGenerator(spec=SceneSpec((), (16, 16), image_channels=1), width=4, blocks=1, predict="ab")
    assert network.last.out_channels == 2
    assert network.sample(torch.rand(1, 1, 33, 41)).shape == (1, 3, 33, 41)


@pytest.mark.parametrize(("changes", "words"), [({"blocks": -1}, "--blocks -1"), ({"width": 0}, "--width 0")])
def test_a_network_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=f"{words}: must be"):
        ResNetGenerator(spec=RGB, **changes)
