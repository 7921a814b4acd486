"""pix2pixHD's generators and encoder: counts, sizes, and a plain twin on planes (checks 10.1)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from photogram.advice import CONCENTRATED
from photogram.errors import UserError
from photogram.images import resize_labels
from photogram.nn.diagnostics import concentration
from photogram.nn.layout_conv import LayoutLevel
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator, FeatureEncoder, averaged
from photogram.scene import Condition, Layout, SceneClass, SceneSpec, one_hot


def spec(classes: int = 35, image: int = 0, instances: bool = True) -> SceneSpec:
    known = tuple(SceneClass(f"class {n}", (n, n, n)) for n in range(classes))
    return SceneSpec(known, (512, 1024), instances, image_channels=image)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 182_546_755),
        ({"style_channels": 3}, 182_556_163),
        ({"enhancers": 1}, 182_857_059),
        ({"enhancers": 1, "style_channels": 3}, 182_871_171),
        ({"enhancers": 2}, 182_947_699),
    ],
)
def test_counts_are_the_specifications(arguments, expected):
    with torch.device("meta"):
        network = CoarseToFineGenerator(spec=spec(), **arguments)
    generator = parameters(network) - (parameters(network.encoder) if network.encoder else 0)
    assert generator == expected
    if network.encoder:
        assert parameters(network.encoder) == 788_803


def test_counts_of_image_input_and_of_parts():
    with torch.device("meta"):
        image = CoarseToFineGenerator(spec=spec(0, 3, False), boundary="none")
        two = CoarseToFineGenerator(spec=spec(), enhancers=1)
    assert parameters(image) == 182_443_267
    assert parameters(two.coarse) == 182_537_344
    assert parameters(two.finer) + parameters(two.last) == 74_976 + 244_739


@pytest.mark.parametrize(
    ("arguments", "size", "giga"),
    [
        ({}, (512, 1024), 489.3),
        ({"enhancers": 1}, (1024, 2048), 747.9),
        ({"enhancers": 2}, (2048, 4096), 1129.8),
        ({"enhancers": 1}, (512, 1024), 187.0),
    ],
)
def test_multiplications_and_sizes_are_the_specifications(arguments, size, giga):
    with torch.device("meta"):
        network = CoarseToFineGenerator(spec=spec(36, 0, False), boundary="none", **arguments)
        # As planes, which count: look-ups of integers do not.
        asked = [(None, torch.zeros(1, 36, size[0] >> n, size[1] >> n)) for n in range(network.enhancers + 1)]
        with FlopCounterMode(display=False) as counter:
            photo = network.finished(asked, network.before_last(asked))
    assert photo.shape == (1, 3, *size)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, rel=1e-3)


def test_attention_in_the_generator_changes_nothing_at_first():
    """Specification 6.6: 1,310,721 parameters more, and a painting that is the same to the last bit."""
    with torch.device("meta"):
        bare, attentive = (CoarseToFineGenerator(spec=spec(), attention=a) for a in (False, True))
    assert parameters(attentive) - parameters(bare) == 1_310_721
    bare, attentive, layout = small(), small(attention=True), Condition(scene())
    attentive.load_state_dict({**attentive.state_dict(), **bare.state_dict()})
    assert attentive.coarse.attention is not None
    attentive.coarse.attention.gamma.data.zero_()
    assert torch.equal(attentive(layout), bare(layout))
    attentive.coarse.attention.gamma.data.fill_(1)
    assert not torch.allclose(attentive(layout), bare(layout))


def test_multiplications_of_the_encoder():
    with torch.device("meta"):
        encoder = FeatureEncoder(3, 16, 4, 3)
        with FlopCounterMode(display=False) as counter:
            assert encoder(torch.zeros(1, 3, 512, 1024)).shape == (1, 3, 512, 1024)
    assert counter.get_total_flops() / 2e9 == pytest.approx(7.30, rel=1e-3)


def scene(classes: int = 5, size: tuple[int, int] = (32, 48), seed: int = 0) -> Layout:
    noise = torch.Generator().manual_seed(seed)
    small = torch.randint(0, classes, (2, size[0] // 4, size[1] // 4), generator=noise)
    objects = torch.randint(0, 3, small.shape, generator=noise)
    grow = lambda m: m.repeat_interleave(4, 1).repeat_interleave(4, 2)  # noqa: E731
    return Layout(grow(small).to(torch.uint8), grow(objects).to(torch.int32))


def edges(layout: Layout) -> Tensor:
    """A loop over pixels."""
    key = layout.classes.long() * 1000 + layout.instances.long()  # pyright: ignore[reportOptionalMemberAccess]
    found = torch.zeros(len(key), 1, *key.shape[1:])
    for n, row, column in torch.cartesian_prod(*(torch.arange(k) for k in key.shape)).tolist():
        for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            y, x = row + down, column + right
            if 0 <= y < key.shape[1] and 0 <= x < key.shape[2] and key[n, y, x] != key[n, row, column]:
                found[n, 0, row, column] = 1
    return found


def block(module: Any, channels: int) -> nn.Module:
    class Sum(nn.Module):
        inner: nn.Sequential

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    twin = Sum()
    norm = lambda: nn.InstanceNorm2d(channels)  # noqa: E731
    first, second = module.convs
    plain = [nn.Conv2d(channels, channels, 3) for _ in range(2)]
    for to, of in zip(plain, (first, second), strict=True):
        to.load_state_dict(of.state_dict())
    twin.inner = nn.Sequential(
        nn.ReflectionPad2d(1), plain[0], norm(), nn.ReLU(), nn.ReflectionPad2d(1), plain[1], norm()
    )
    return twin


def conv7(of: Any) -> nn.Sequential:
    plain = nn.Conv2d(of.in_channels, of.out_channels, 7)
    plain.load_state_dict(of.state_dict())
    return nn.Sequential(nn.ReflectionPad2d(3), plain)


def after(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(channels), nn.ReLU()]


def trunk(coarse: Any) -> nn.Sequential:
    """The coarse generator as one plain sequence (specification 4.2)."""
    parts = after(conv7(coarse.first), coarse.first.out_channels)
    for conv in coarse.down:
        parts += after(conv, conv.out_channels)
    for one in coarse.body:
        parts.append(block(one, one.convs[0].out_channels))
    for double in coarse.up:
        parts += after(double.conv, double.conv.out_channels)
    return nn.Sequential(*parts)


def plain(network: Any, planes: Tensor) -> Tensor:
    """The whole generator on planes, as the table of the specification has it."""
    pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    pyramid = [planes]
    for _ in network.finer:
        pyramid.append(pool(pyramid[-1]))
    x = trunk(network.coarse)(pyramid[-1])
    for finer, asked in zip(network.finer, pyramid[-2::-1], strict=True):
        width = finer.first.out_channels
        entry = nn.Sequential(*after(conv7(finer.first), width), *after(finer.down, 2 * width))
        body = nn.Sequential(*(block(one, 2 * width) for one in finer.body))
        x = nn.Sequential(*after(finer.up.conv, width))(body(entry(asked) + x))
    return conv7(network.last)(x).tanh()


def small(**more: Any) -> CoarseToFineGenerator:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"width": 8, "downsamplings": 2, "blocks": 2, "enhancer_blocks": 1, **more}
    network = CoarseToFineGenerator(**{"spec": spec(5), **arguments})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("enhancers", [0, 1, 2])
def test_it_is_the_plain_network_on_planes(enhancers):
    network, layout = small(enhancers=enhancers, style_channels=3), scene()
    features = torch.randn(2, 3, 32, 48)
    planes = torch.cat([one_hot(layout.classes, 5), edges(layout), features], 1)
    ours, theirs = network(Condition(layout), features), plain(network, planes)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    parameters = [p for n, p in network.named_parameters() if not n.startswith("encoder")]
    towards = torch.randn_like(ours)
    for mine, its in zip(
        torch.autograd.grad((ours * towards).sum(), parameters),
        torch.autograd.grad((plain(network, planes) * towards).sum(), parameters, allow_unused=True),
        strict=True,
    ):
        assert its is None or torch.allclose(mine, its, atol=1e-3 * float(its.abs().max()) + 1e-4)


def test_what_coarser_networks_are_asked_by_is_the_average_of_all_planes():
    layout, beside = scene(), torch.randn(2, 2, 32, 48)
    planes, more = averaged((LayoutLevel(layout.classes, 5), beside))
    pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    assert isinstance(planes, Tensor) and more is not None
    torch.testing.assert_close(planes, pool(one_hot(layout.classes, 5)))
    torch.testing.assert_close(more, pool(beside))
    numbers = torch.arange(16.0).view(1, 1, 4, 4)  # check 10.3
    halved, _ = averaged((numbers, None))
    assert halved is not None and halved.flatten().tolist() == [2.5, 4, 8.5, 10]


def test_a_pyramid_of_integers_asks_by_the_layout_at_its_size():
    network, layout = small(enhancers=1, pyramid="nearest"), scene()
    (_, _), (coarse, beside) = network.asked(Condition(layout), None)
    assert isinstance(coarse, LayoutLevel) and beside is not None
    expected = resize_labels(layout.classes[0].numpy(), (16, 24))
    assert (coarse.classes[0].numpy() == expected).all()
    assert torch.equal(beside, edges(layout.resized((16, 24))))


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize("pad", ["zeros", "reflect"])
def test_options_paint_the_size_that_is_asked(upsample, pad):
    network = small(enhancers=1, upsample=upsample, pad=pad)
    assert network(Condition(scene()), None).shape == (2, 3, 32, 48)
    classes, objects = scene()
    assert objects is not None
    assert network.sample(Layout(classes[:1, :19, :21], objects[:1, :19, :21])).shape == (1, 3, 19, 21)


def test_other_sizes_are_padded_and_cropped_back():
    with torch.device("meta"):
        assert CoarseToFineGenerator(spec=spec()).size_multiple == 16
        assert CoarseToFineGenerator(spec=spec(), enhancers=1).size_multiple == 32
        assert CoarseToFineGenerator(spec=spec(), enhancers=2).size_multiple == 64
    network = small(spec=spec(5, 0, False), boundary="classes")
    assert network.sample(Layout(torch.zeros(1, 13, 27, dtype=torch.uint8))).shape == (1, 3, 13, 27)
    assert network.sample(Layout(torch.zeros(1, 1, 1, dtype=torch.uint8))).shape == (1, 3, 1, 1)


def test_other_sizes_are_refused_in_training_and_padded_at_synthesis():
    """Check 10.1: 819 pixels are no multiple of 16 or 32."""
    for enhancers in (0, 1):
        network = small(spec=spec(5, 0, False), boundary="classes", enhancers=enhancers, downsamplings=4)
        layout = Layout(torch.zeros(1, 64, 819, dtype=torch.uint8))
        with pytest.raises(UserError, match=f"64 x 819: .* multiples of {16 << enhancers}"):
            network(Condition(layout))
        assert network.sample(layout).shape == (1, 3, 64, 819)


def test_what_is_padded_makes_no_edges():
    """Section 5: the frame of a picture is no border; training, which pads nothing, has none there."""
    classes = tuple(SceneClass(f"{n}", (n, n, n), void=n == 4) for n in range(5))
    network, seen = small(spec=SceneSpec(classes, (32, 48), True)), list[Any]()
    network.coarse.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    one = Layout(torch.ones(1, 30, 30, dtype=torch.uint8), torch.full((1, 30, 30), 7, dtype=torch.int32))
    network.sample(one)
    layout, edges = seen[0]
    assert layout.classes.shape[-1] > 30 and bool((layout.classes == 1).all())
    assert edges is not None and not edges.any()


@pytest.mark.parametrize("size", [(256, 512), (512, 1024)])
def test_a_blob_takes_over_the_trunks_energy(size):
    """Section 9, number 8: activations that explode at one place, behind every convolution of the trunk."""
    network, found = small(spec=spec(5, 0, False), boundary="classes", downsamplings=4, blocks=3), list[float]()
    network.coarse.body[-1].register_forward_hook(lambda m, i, trunk: found.append(float(concentration(trunk))))
    layout = Layout(torch.randint(5, (1, 8, 16), dtype=torch.uint8)).resized(size)
    network.sample(layout)

    def explode(module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        features[..., 3, 5] += 1e6
        return features

    for part in network.coarse.body.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(explode)
    network.sample(layout)
    healthy, blob = found
    assert healthy < 0.2 and blob > CONCENTRATED


def test_layouts_without_objects_are_refused_where_it_learned_from_them():
    with pytest.raises(UserError, match="instance maps"):
        small().sample(Layout(torch.zeros(1, 16, 16, dtype=torch.uint8)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "--width 0: must be 1 or more"),
        ({"width": 6, "enhancers": 2}, "--width 6: must be a multiple of 2\\^enhancers"),
        ({"downsamplings": 9}, "--downsamplings 9"),
        ({"encoder_shrink": 2}, "--encoder-shrink 2"),
        ({"spec": spec(5, 0, False), "boundary": "objects"}, "--boundary objects: this data has no instance maps"),
        ({"spec": spec(0, 3, False), "style_channels": 3}, "no borders and no objects"),
        ({"spec": spec(0, 0, False)}, "photographs alone"),
    ],
)
def test_networks_that_there_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        small(**arguments)


def test_the_encoder_reads_a_smaller_photograph_where_it_learned_from_one():
    network = small(enhancers=1, style_channels=3, encoder_shrink=2)
    photo = torch.rand(1, 3, 16, 24) * 2 - 1
    features = network.encoded(photo)
    assert features.shape == (1, 3, 16, 24)
    assert torch.equal(features[..., ::2, ::2], features[..., 1::2, 1::2])
    assert network.encoder is not None
    small_photo = nn.functional.interpolate(photo, size=(8, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(features[..., ::2, ::2], network.encoder(small_photo))
