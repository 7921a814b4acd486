"""The acceptance checks of the specification that concern the single-image network, named by their numbers.

Our network paints in [-1, 1]; the specification's RGB is 127.5 (z + 1).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from photogram.errors import UserError
from photogram.nn.perceptual import PerceptualLoss, mean_absolute_difference
from photogram.nn.trunks import IMAGENET, Trunk
from photogram.recipes.crn import CascadedRefinementNetwork, RefinementModule
from photogram.scene import Layout, SceneClass, SceneSpec, to_pixels

WIDTHS = (1024, 1024, 1024, 1024, 1024, 512, 512, 128, 32)
MODULE_TOTALS = (9_625_600, *(19_062_784,) * 4, 7_172_096, 4_812_800, 760_832, 51_968)
MODULE_GMACS = (0.308, 2.440, 9.758, 39.032, 156.129, 234.948, 630.555, 398.627, 108.716)  # from a 4x8 start
Size = tuple[int, int]


def spec_of(classes: int, size: Size = (8, 16), names: str = "c") -> SceneSpec:
    return SceneSpec(tuple(SceneClass(f"{names}{i}", (i, i, i)) for i in range(classes)), size=size)


def cascade(classes: int = 4, widths: tuple[int, ...] = (6, 5, 4), seed: int = 0) -> CascadedRefinementNetwork:
    torch.manual_seed(seed)
    return CascadedRefinementNetwork(spec=spec_of(classes), widths=widths)


def random_layout(size: Size, classes: int = 4, n: int = 1) -> Layout:
    """Blobs, so that coarse modules have something to see."""
    noise = torch.Generator().manual_seed(size[0] + size[1] + n)
    coarse = torch.randint(classes, (n, -(-size[0] // 4), -(-size[1] // 4)), generator=noise, dtype=torch.uint8)
    return Layout(coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : size[0], : size[1]].contiguous())


def randomise_norms(network: nn.Module, seed: int = 1) -> None:
    """Give gamma and beta values of their own, as training does."""
    noise = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            for parameter in (module.weight, module.bias):
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=noise).to(parameter)


# Checks 1 and 2: shapes, parameters and work of every size in sections 2.1 and 2.3.

CASES = [  # start, modules, parameters, tera-FLOPs
    ((4, 8), 7, 97_863_171, 2.1467),
    ((4, 8), 8, 98_622_851, 2.9440),
    ((4, 8), 9, 98_674_531, 3.1614),
    ((4, 8), 6, 93_050_371, 0.8853),
    ((4, 4), 7, 97_863_171, 1.0734),
    ((3, 4), 7, 97_863_171, 0.8050),
    ((3, 4), 8, 98_622_851, 1.1040),
    ((3, 4), 9, 98_674_531, 1.1855),
    ((15, 20), 6, 93_050_371, 8.3000),
]
SMALL = [((64,) * 4, 305_347, 0.231), ((64,) * 4 + (32,), 338_787, 0.505)]


def macs(start: Size, widths: tuple[int, ...], classes: int = 20) -> list[int]:
    """Of each module, then of the projection; the formula of section 2.1."""
    pixels = [start[0] * start[1] * 4**i for i in range(len(widths))]
    before = (0, *widths[:-1])
    modules = [p * 9 * d * (b + classes + d) for p, b, d in zip(pixels, before, widths, strict=True)]
    return [*modules, pixels[-1] * widths[-1] * 3]


def on_meta(start: Size, widths: tuple[int, ...], n: int = 1) -> tuple[CascadedRefinementNetwork, Layout]:
    size = (start[0] << len(widths) - 1, start[1] << len(widths) - 1)
    with torch.device("meta"):
        network = CascadedRefinementNetwork(spec=spec_of(20, size), widths=widths)
        return network, Layout(torch.zeros(n, *size, dtype=torch.uint8))


def count_flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(("start", "modules", "parameters", "tera_flops"), CASES)
def test_checks_1_and_2_of_all_sizes(start: Size, modules: int, parameters: int, tera_flops: float):
    network, layout = on_meta(start, WIDTHS[:modules])
    seen: list[tuple[int, ...]] = []
    for module in network.cascade:
        module.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))
    flops = count_flops(lambda: seen.append(tuple(network(layout)[:, 0].shape)))

    height, width = start
    assert seen[-1] == (1, 3, height << modules - 1, width << modules - 1)
    assert seen[:-1] == [(1, WIDTHS[i], height << i, width << i) for i in range(modules)]
    assert network.size_multiple == 2 ** (modules - 1)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert flops == 2 * sum(macs(start, WIDTHS[:modules]))
    assert round(flops / 1e12, 4) == tera_flops


def test_check_2_every_module_has_the_parameters_and_the_work_of_table_2_1():
    network, _ = on_meta((4, 8), WIDTHS)
    assert tuple(sum(p.numel() for p in m.parameters()) for m in network.cascade) == MODULE_TOTALS
    assert sum(p.numel() for p in network.to_rgb.parameters()) == 32 * 3 + 3
    convolutions = [m.conv1 for m in network.cascade]
    assert [c.in_channels for c in convolutions] == [20, 1044, 1044, 1044, 1044, 1044, 532, 532, 148]
    assert [round(m / 1e9, 3) for m in macs((4, 8), WIDTHS)[:-1]] == list(MODULE_GMACS)
    features = None
    for i, (module, expected) in enumerate(zip(network.cascade, MODULE_GMACS, strict=True)):
        planes = torch.zeros(1, 20, 4 << i, 8 << i, device="meta")
        outputs: list[Tensor] = []
        flops = count_flops(lambda m=module, x=features, p=planes, o=outputs: o.append(m(x, p)))
        (features,) = outputs
        assert round(flops / 2e9, 3) == expected


@pytest.mark.parametrize(("widths", "parameters", "gmacs"), SMALL)
def test_check_2_of_the_small_presets(widths: tuple[int, ...], parameters: int, gmacs: float):
    network, layout = on_meta((4, 8), widths, n=2)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network(layout).shape == (2, 1, 3, 4 << len(widths) - 1, 8 << len(widths) - 1)
    one = Layout(layout.classes[:1])
    assert round(count_flops(lambda: network(one)) / 2e9, 3) == gmacs


def test_check_2_no_convolution_has_a_bias_but_the_projection():
    network = cascade()
    biased = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == ["to_rgb"]
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 6 and all((m.num_groups, m.eps) == (1, 1e-12) for m in norms)


def test_weights_start_as_the_specification_says():
    network = cascade(widths=(64, 48, 32))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            bound = (6 / (module.kernel_size[0] ** 2 * (module.in_channels + module.out_channels))) ** 0.5
            largest = float(module.weight.detach().abs().max())
            assert 0.9 * bound < largest <= bound * (1 + 1e-6)
    for name, parameter in network.named_parameters():
        if ".norm" in name or name == "to_rgb.bias":
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))


@pytest.mark.parametrize("widths", [(), (8, 0), (-1,)])
def test_widths_must_be_positive(widths: tuple[int, ...]):
    with pytest.raises(UserError, match=r"widths .*: must be one positive integer or more"):
        CascadedRefinementNetwork(spec=spec_of(2), widths=widths)


# Checks 3 to 7: exactness.


def inputs_of(modules: nn.ModuleList, run: Callable[[], object]) -> list[Tensor]:
    """The layout that each module of a cascade is given."""
    seen: list[Tensor] = []
    hooks = [
        m.register_forward_pre_hook(lambda _, inputs: seen.append(getattr(inputs[1], "planes", inputs[1])))
        for m in modules
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen


def area2(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def test_check_3_the_pyramid_sums_to_one_and_is_the_recursive_mean():
    network, layout = cascade(20, (4,) * 5), random_layout((48, 64), 20, n=2)
    seen = inputs_of(network.cascade, lambda: network(layout))
    planes = F.one_hot(layout.classes.long(), 20).permute(0, 3, 1, 2).float()
    for found in reversed(seen):
        assert torch.allclose(found.sum(1), torch.ones(()), atol=1e-6)
        torch.testing.assert_close(found, planes, rtol=0, atol=1e-6)
        planes = area2(planes)


def test_check_3_one_labelled_pixel_in_four_is_a_quarter():
    layout = Layout(torch.tensor([[[0, 0, 0, 0], [0, 1, 0, 0]]], dtype=torch.uint8))
    network = cascade(2, (3, 3))
    coarse = inputs_of(network.cascade, lambda: network(layout))[0]
    assert torch.equal(coarse, torch.tensor([[[[0.75, 1.0]], [[0.25, 0.0]]]]))


def hand_on(convolution: nn.Conv2d) -> None:
    """Let each output channel be the input channel of its number."""
    nn.init.zeros_(convolution.weight)
    for i in range(min(convolution.weight.shape[:2])):
        convolution.weight.data[i, i, 1, 1] = 1


def test_check_4_norm_over_all_of_a_sample_with_gamma_and_beta_by_channel():
    module = RefinementModule(0, 2, 2)
    hand_on(module.conv1)
    module.norm1.load_state_dict({"weight": torch.tensor([2.0, 1.0]), "bias": torch.tensor([0.0, -1.0])})
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    normed = module.norm1(module.conv1(x)).detach()
    expected = torch.tensor([[-2.683282, -0.894427], [-0.552786, 0.341641]])
    torch.testing.assert_close(normed.view(2, 2), expected, rtol=0, atol=2e-6)
    seen: list[Tensor] = []
    module.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    module(None, x)
    expected = torch.tensor([[-0.536656, -0.178885], [-0.110557, 0.341641]])
    torch.testing.assert_close(seen[0].view(2, 2), expected, rtol=0, atol=2e-6)


def test_check_4_statistics_are_taken_in_float32_of_bfloat16_maps():
    torch.manual_seed(0)
    norm, x = nn.GroupNorm(1, 8, eps=1e-12), (torch.randn(2, 8, 64, 64) * 0.5 + 20).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    wide = x.double()
    expected = (wide - wide.mean((1, 2, 3), keepdim=True)) / wide.var((1, 2, 3), unbiased=False, keepdim=True).sqrt()
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("length", [2, 4])
def test_check_5_corners_stay_at_the_corners(length: int, across: bool):
    module = RefinementModule(1, 1, 1)
    hand_on(module.conv1)
    seen: list[Tensor] = []
    module.norm1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    x = torch.arange(float(length)).view(1, 1, 1, length).expand(1, 1, length, length)
    module(x if across else x.mT, torch.zeros(1, 1, 2 * length, 2 * length))
    ramp = torch.arange(2.0 * length) * (length - 1) / (2 * length - 1)  # thirds, sevenths
    expected = ramp.expand(2 * length, 2 * length)
    torch.testing.assert_close(seen[0][0, 0], expected if across else expected.mT, rtol=0, atol=1e-6)


def test_check_6_output_map():
    z = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert to_pixels(z).flatten().tolist() == [0, 128, 255]  # 127.5 rounds up in files
    loss = PerceptualLoss(Blur())
    for value, levels in (
        (-1.0, 0.0),
        (0.0, 127.5),
        (1.0, 255.0),
        (3.0, 510.0),
    ):  # the loss sees it unclamped
        terms = loss(torch.full((1, 3, 4, 4), value), torch.full((1, 3, 4, 4), -1.0))
        assert float(terms[0]) == pytest.approx(levels)


def test_check_7_a_tiny_cascade_paints_the_specifications_numbers():
    network = CascadedRefinementNetwork(spec=spec_of(2), widths=(2, 1)).double()
    for name, parameter in network.named_parameters():
        j = torch.arange(parameter.numel(), dtype=torch.float64)
        if name == "to_rgb.bias":
            values = torch.tensor([-0.1, 0.0, 0.1], dtype=torch.float64)
        elif ".norm" in name:
            values = 1 + 0.1 * j if name.endswith("weight") else 0.05 * (j + 1)
        else:
            values = ((7 * j + 3) % 11 - 5) / 10
        parameter.data.copy_(values.view_as(parameter))
    classes = torch.ones(1, 4, 8, dtype=torch.uint8)
    classes[:, :2] = 0
    classes[:, 2, :3] = 0
    image = 127.5 * (network(Layout(classes)).detach()[0, 0] + 1)
    assert sum(p.numel() for p in network.parameters()) == 135 and image.dtype == torch.float64
    assert float(image.sum()) == pytest.approx(12785.95586244, abs=1e-7)
    for (row, column), rgb in {
        (0, 0): (116.64434282, 122.76414294, 139.30282859),
        (3, 7): (116.98444933, 121.91387672, 139.13277534),
        (2, 4): (68.90735987, 242.10660031, 163.17132006),
    }.items():
        assert image[:, row, column].tolist() == pytest.approx(rgb, abs=1e-7)


# The slow, obvious twin: values and gradients.


def stretched(x: Tensor, axis: int) -> Tensor:
    """Twice as long: output i reads between the two sources around i (n - 1) / (2n - 1)."""
    n = x.shape[axis]
    planes = []
    for i in range(2 * n):
        place = i * (n - 1) / max(2 * n - 1, 1)
        low = min(int(place), n - 1)
        high = min(low + 1, n - 1)
        planes.append(x.select(axis, low) * (1 - (place - low)) + x.select(axis, high) * (place - low))
    return torch.stack(planes, axis)


def normed(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    n = x[0].numel()
    mean = x.sum((1, 2, 3), keepdim=True) / n
    variance = ((x - mean) ** 2).sum((1, 2, 3), keepdim=True) / n
    y = (x - mean) / (variance + 1e-12).sqrt() * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    return torch.maximum(0.2 * y, y)


def plain_cascade(network: CascadedRefinementNetwork, layout: Layout) -> Tensor:
    planes = [F.one_hot(layout.classes.long(), network.spec.num_classes).permute(0, 3, 1, 2).double()]
    for _ in network.cascade[1:]:
        planes.insert(0, area2(planes[0]))
    x = planes[0]
    for i, module in enumerate(network.cascade):
        if i:
            x = torch.cat([stretched(stretched(x, 2), 3), planes[i]], 1)
        x = normed(F.conv2d(x, module.conv1.weight, padding=1), module.norm1)
        x = normed(F.conv2d(x, module.conv2.weight, padding=1), module.norm2)
    return torch.einsum("nchw,oc->nohw", x, network.to_rgb.weight[:, :, 0, 0]) + network.to_rgb.bias.view(1, -1, 1, 1)


@pytest.mark.parametrize("size", [(16, 24), (4, 12)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_cascade_equals_its_plain_twin_in_values_and_gradients(size: Size, channels_last: bool):
    network, layout = cascade().double(), random_layout(size, n=2)
    randomise_norms(network)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    weights = torch.randn(2, 3, *size, dtype=torch.float64)
    ours, plain = network(layout)[:, 0], plain_cascade(network, layout)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad((y * weights).sum(), list(network.parameters())) for y in (ours, plain)]
    for (name, _), a, b in zip(network.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


# The loss.


class Blur(Trunk):
    """No classifier: means of 2 x 2 and of 4 x 4 pixels. Quick, and easy to say what it must give."""

    def __init__(self) -> None:
        super().__init__("blur", ("half", "quarter"), IMAGENET)

    def maps(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]


TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 4e-3)]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_mean_absolute_difference_equals_the_plain_formula(dtype: torch.dtype, tolerance: float):
    torch.manual_seed(0)
    a, b = (torch.randn(2, 5, 12, 16).to(dtype) for _ in "ab")
    a[0, 0, :3] = b[0, 0, :3]  # where they are equal the gradient is 0
    a.requires_grad_()
    found = mean_absolute_difference(a, b)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) and found.shape == ()
    plain = a.detach().double().requires_grad_()
    expected = (plain - b.double()).abs().mean()
    assert found.item() == pytest.approx(expected.item(), rel=tolerance)
    (3.5 * found).backward()
    (3.5 * expected).backward()
    assert a.grad is not None and plain.grad is not None and a.grad.dtype == dtype
    torch.testing.assert_close(a.grad.double(), plain.grad, rtol=tolerance, atol=0)


def test_mean_absolute_difference_passes_gradcheck():
    torch.manual_seed(0)
    a, b = (torch.randn(2, 3, 4, dtype=torch.float64) for _ in "ab")
    assert torch.autograd.gradcheck(lambda x: mean_absolute_difference(x, b), (a.requires_grad_(),))


def test_perceptual_loss_is_the_plain_means_of_pixels_and_features():
    torch.manual_seed(0)
    painting, photo = torch.randn(2, 3, 8, 8, requires_grad=True), torch.rand(2, 3, 8, 8)
    loss = PerceptualLoss(Blur())
    assert loss.names == ("image", "half", "quarter")
    terms = loss(painting, photo)
    grey = [127.5 * (x + 1) for x in (painting, photo)]
    std = torch.tensor(IMAGENET[1]).view(3, 1, 1) * 255
    halves, quarters = ([F.avg_pool2d(x / std, k) for x in grey] for k in (2, 4))
    expected = torch.stack([(a - b).abs().mean() for a, b in (grey, halves, quarters)])
    torch.testing.assert_close(terms, expected)
    ours, plain = (torch.autograd.grad(t.sum(), painting)[0] for t in (terms, expected))
    torch.testing.assert_close(ours, plain)
