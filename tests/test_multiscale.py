"""Multi-scale discriminators: counts, sizes and receptive fields of specification 4.3 and 4.4, and plain twins."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn import layout_conv, multiscale
from photogram.nn.discriminators import discriminators
from photogram.nn.halved import halved
from photogram.nn.layout_conv import LayoutLevel
from photogram.nn.multiscale import Framed, MultiScaleDiscriminator, ScaleDiscriminator, carry_scales, cut
from photogram.nn.spectral import normalise_spectrally, normalised
from photogram.optim import frozen


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def multiply_adds(network: nn.Module, shown: Tensor) -> int:
    """Of all convolutions in a pass."""
    found = []
    for conv in network.modules():
        if isinstance(conv, nn.Conv2d):
            taps = conv.in_channels * conv.kernel_size[0] ** 2
            conv.register_forward_hook(lambda _, __, out, taps=taps: found.append(out.numel() * taps))
    network(shown)
    return sum(found)


def plain_scale(judge: ScaleDiscriminator, x: Tensor) -> list[Tensor]:
    """The chain of layers of specification 4.4, written out."""
    found = []
    for n, conv in enumerate(judge.convs):
        stride = 1 if n == len(judge.convs) - 1 else 2
        x = F.conv2d(F.pad(x, (2, 2, 2, 2)), conv.weight, None, stride) + conv.bias[:, None, None]
        if n:
            mean = x.mean((2, 3), keepdim=True)
            x = (x - mean) / ((x - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        x = torch.where(x > 0, x, 0.2 * x)
        found.append(x)
    last = judge.to_logits
    return [*found, F.conv2d(F.pad(x, (2, 2, 2, 2)), last.weight) + last.bias[:, None, None]]


def plain_halved(x: Tensor) -> Tensor:
    """Window by window."""
    rows = [slice(max(0, 2 * n - 1), 2 * n + 2) for n in range((x.shape[2] + 1) // 2)]
    columns = [slice(max(0, 2 * n - 1), 2 * n + 2) for n in range((x.shape[3] + 1) // 2)]
    return torch.stack([torch.stack([x[:, :, r, c].mean((2, 3)) for c in columns], -1) for r in rows], -2)


# Halves.


def test_halves_of_the_first_sixteen_numbers():
    """Check 10.3."""
    assert halved(torch.arange(16.0).view(1, 1, 4, 4)).tolist() == [[[[2.5, 4], [8.5, 10]]]]


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 9), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_halves_of_integers_are_those_of_planes_to_the_last_bit(size, dtype):
    torch.manual_seed(0)
    classes = torch.randint(5, (2, *size)).to(dtype)
    planes = F.one_hot(classes.long(), 5).movedim(-1, 1).float()
    found = halved(LayoutLevel(classes, 5))
    assert torch.equal(found, halved(planes))
    torch.testing.assert_close(found, plain_halved(planes))
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    assert "planes" not in LayoutLevel(classes, 5).__dict__, "no planes of full size"


def test_halves_of_a_coarser_level_are_those_of_its_shares():
    classes = torch.randint(3, (1, 8, 8))
    level = LayoutLevel(classes, 3, 2)
    torch.testing.assert_close(halved(level), plain_halved(level.planes))


# Sizes and counts.


def test_counts_are_the_specifications():
    """Check 10.1: the table of 4.3, and 4.4."""
    with torch.device("meta"):
        assert count(ScaleDiscriminator(39)) == 2_801_601
        assert count(MultiScaleDiscriminator(39, scales=2)) == 5_603_202
        assert count(MultiScaleDiscriminator(39, scales=3)) == 8_404_803
        assert count(MultiScaleDiscriminator(39, scales=3, spectral=True)) == 8_404_803


def test_sizes_are_the_specifications():
    """Check 10.1: all outputs for 512 x 1024."""
    with torch.device("meta"):
        found = MultiScaleDiscriminator(39)(torch.empty(1, 39, 512, 1024))
    sizes = [[tuple(one.shape[1:]) for one in scale] for scale in found]
    assert sizes == [
        [(64, 257, 513), (128, 129, 257), (256, 65, 129), (512, 66, 130), (1, 67, 131)],
        [(64, 129, 257), (128, 65, 129), (256, 33, 65), (512, 34, 66), (1, 35, 67)],
    ]


def test_operations_are_the_specifications():
    """Check 10.1: 40.35 G for two scales at 512 x 1024, 166.6 G for three at 1024 x 2048, within 0.1%."""
    with torch.device("meta"):
        two = multiply_adds(MultiScaleDiscriminator(39, scales=2), torch.empty(1, 39, 512, 1024))
        three = multiply_adds(MultiScaleDiscriminator(39, scales=3), torch.empty(1, 39, 1024, 2048))
    assert two == pytest.approx(40.35e9, rel=1e-3) and three == pytest.approx(166.6e9, rel=1e-3)


@pytest.mark.parametrize(("strided", "widths"), [(1, [3, 6]), (3, [3, 6, 12, 24]), (5, [3, 6, 12, 24, 24, 24])])
def test_strided_layers_double_the_features_up_to_eightfold(strided, widths):
    judge = ScaleDiscriminator(2, 3, strided)
    assert [conv.out_channels for conv in judge.convs] == widths
    assert [conv.stride[0] for conv in judge.convs] == [2] * strided + [1]
    assert all(conv.bias is not None for conv in (*judge.convs, judge.to_logits))


@pytest.mark.parametrize(("scale", "patch"), [(0, 70), (1, 141), (2, 283)])
def test_one_logit_sees_its_patch(scale, patch, monkeypatch):
    """Check 10.2. Norms look at the whole picture and are left out; weights are ones, so that nothing cancels."""
    monkeypatch.setattr(multiscale, "instance_norm", lambda x: x)
    network = MultiScaleDiscriminator(1, width=1, scales=3).double()
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    picture = torch.ones(1, 1, 640, 640, dtype=torch.float64, requires_grad=True)
    logits = network(picture)[scale][-1]
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], picture)
    seen = gradient[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [patch, patch] and len(seen) == patch**2


# The passes.


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
@pytest.mark.parametrize("spectral", [False, True])
def test_it_is_the_plain_chain_at_each_scale(scales, spectral):
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(5, width=4, scales=scales, spectral=spectral).eval()  # u and v stay
    x = torch.randn(2, 5, 33, 40)

    def slowly(x: Tensor) -> list[list[Tensor]]:
        found = []
        for judge in network.scales:
            assert isinstance(judge, ScaleDiscriminator)
            found.append(plain_scale(judge, x))
            x = plain_halved(x)
        return found

    results = []
    for run in (network, slowly):
        network.zero_grad()
        shown = x.clone().requires_grad_()
        judged = run(shown)
        torch.stack([one.square().mean() for scale in judged for one in scale]).sum().backward()
        results.append((judged, shown.grad, [p.grad for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("looked_up", [False, True])
def test_a_layout_may_be_integers_or_planes(looked_up, monkeypatch):
    """Values and gradients, for weights and for the picture."""
    monkeypatch.setattr(layout_conv, "SMALL", 0 if looked_up else 1 << 60)
    torch.manual_seed(0)
    classes, network = torch.randint(20, (2, 24, 40)).to(torch.uint8), MultiScaleDiscriminator(24, 4, scales=3)
    assert LayoutLevel(classes, 20).looked_up(torch.empty(4, 20, 4, 4).requires_grad_(), 2) == looked_up
    results = []
    for layout in (LayoutLevel(classes, 20), F.one_hot(classes.long(), 20).movedim(-1, 1).float()):
        network.zero_grad()
        picture = torch.randn(2, 4, 24, 40, generator=torch.Generator().manual_seed(1)).requires_grad_()
        judged = network((layout, picture))
        torch.stack([one.square().mean() for scale in judged for one in scale]).sum().backward()
        results.append((judged, picture.grad, [p.grad.clone() for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_the_smallest_picture_leaves_two_pixels_a_side_for_the_coarsest():
    network = MultiScaleDiscriminator(1, width=2, scales=4)
    judged = network(torch.rand(1, 1, 9, 9))
    assert judged[-1][0].shape[-2:] == (2, 2) and judged[-1][-1].shape == (1, 1, 4, 4)
    with pytest.raises(ValueError, match="more than 1"):
        MultiScaleDiscriminator(1, width=2, scales=4)(torch.rand(1, 1, 8, 8))


def test_no_gradient_reaches_frozen_weights():
    network, picture = MultiScaleDiscriminator(3, 4), torch.rand(1, 3, 32, 32, requires_grad=True)
    with frozen(network):
        sum(scale[-1].mean() for scale in network(picture)).backward()
    assert all(p.grad is None for p in network.parameters()) and picture.grad is not None


# Spectral norm.


def singular_values(network: nn.Module) -> list[float]:
    convs = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    return [torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() for conv in convs]


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    """Check 10.11: within 2% after 50 iterations, from vectors that are far off."""
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(6, 8, scales=1, spectral=True)
    for buffer in network.buffers():
        buffer.copy_(F.normalize(torch.randn_like(buffer), dim=0))
    assert max(abs(s - 1) for s in singular_values(network.eval())) > 0.05
    network.train()
    for _ in range(50):
        network(torch.zeros(1, 6, 16, 16))
    assert singular_values(network.eval()) == pytest.approx([1] * 5, rel=0.02)


def vectors(network: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in network.buffers()]


def test_each_learning_pass_makes_one_iteration_and_no_other_pass_makes_any(monkeypatch):
    monkeypatch.setattr(layout_conv, "SMALL", 0)  # looks at the first weight more than once
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(13, 4, scales=2, spectral=True)
    shown = (LayoutLevel(torch.randint(12, (1, 16, 16)), 12), torch.rand(1, 1, 16, 16))
    conv = network.scales[0].convs[0]
    weight = conv.get_submodule("parametrizations.weight").original.detach().flatten(1)
    u, v = (b.clone() for b in conv.buffers())
    network(shown)
    u = F.normalize(weight @ v, dim=0)
    v = F.normalize(weight.T @ u, dim=0)
    torch.testing.assert_close(list(conv.buffers()), [u, v])
    after = vectors(network)
    with frozen(network):
        network(shown)
    with torch.no_grad():
        network(shown)
    network.eval()(shown)
    assert all(torch.equal(a, b) for a, b in zip(after, vectors(network), strict=True))


def test_spectral_norm_survives_saving_to_the_last_bit():
    torch.manual_seed(0)
    network, x = MultiScaleDiscriminator(2, 4, spectral=True), torch.rand(1, 2, 16, 16)
    network(x)
    other = MultiScaleDiscriminator(2, 4, spectral=True)
    other.load_state_dict({name: tensor.clone() for name, tensor in network.state_dict().items()})
    for _ in range(3):
        assert all(
            torch.equal(a, b)
            for ours, theirs in zip(network(x), other(x), strict=True)
            for a, b in zip(ours, theirs, strict=True)
        )


def test_spectral_norm_estimates_in_float32_under_autocast():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 64, 3))
    normalise_spectrally(network)
    found = []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on), normalised(network.eval()):
            found.append(network[0].weight.clone())
    assert torch.equal(*found) and found[0].dtype == torch.float32


# Windows of the finest scale.


def windowed(crop: int = 16, scales: int = 2) -> MultiScaleDiscriminator:
    torch.manual_seed(0)
    return MultiScaleDiscriminator(7, 4, scales, finest=ScaleDiscriminator(7, 4), crop=crop)


def test_the_finest_sees_windows_and_the_others_the_whole():
    network = windowed()
    classes, picture = torch.randint(5, (2, 40, 48)), torch.rand(2, 2, 40, 48)
    windows = network.draw_windows(2, (40, 48))
    assert windows is not None and [len(one) for one in windows] == [2, 2]
    found = network(Framed((LayoutLevel(classes, 5), picture), windows))
    planes = torch.cat([F.one_hot(classes, 5).movedim(-1, 1).float(), picture], 1)
    parts = torch.cat([planes[n : n + 1, :, y, x] for n, one in enumerate(windows) for y, x in one])
    assert parts.shape == (4, 7, 16, 16)
    torch.testing.assert_close(found[0], plain_scale(network.scales[0], parts), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], plain_scale(network.scales[1], plain_halved(planes)), rtol=1e-4, atol=1e-5)


def test_windows_are_the_same_for_photograph_and_painting():
    """Check 10.11: what is at a place is in both, and in the layout, at the same place of the window."""
    network = windowed()
    windows = network.draw_windows(3, (40, 48))
    assert windows is not None
    place = torch.arange(3 * 40 * 48).view(3, 40, 48)
    layout, planes = cut((LayoutLevel(place, 9999), torch.stack([place, place], 1).float()), windows)
    assert isinstance(layout, LayoutLevel) and torch.equal(planes[:, 0], planes[:, 1])
    assert torch.equal(layout.classes, planes[:, 0].long())
    assert torch.equal(cut(planes.new_zeros(3, 1, 40, 48) + place[:, None], windows)[:, 0], planes[:, 0])


def test_windows_are_drawn_from_torchs_generator_for_each_picture():
    network = windowed()
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(network.draw_windows(20, (40, 48)))
    assert found[0] == found[1]
    corners = [(y.start, x.start) for one in found[0] for y, x in one]
    assert len(set(corners)) > 20 and max(y for y, _ in corners) <= 24 and max(x for _, x in corners) <= 32
    assert all(y.stop - y.start == x.stop - x.start == 16 for one in found[0] for y, x in one)


def test_windows_are_no_larger_than_pictures():
    windows = windowed(crop=100).draw_windows(1, (24, 200))
    assert windows is not None
    assert [(y.start, y.stop, x.stop - x.start) for y, x in windows[0]] == [(0, 24, 100)] * 2


def test_windows_are_given_where_they_are_needed_and_only_there():
    network, picture = windowed(), torch.rand(1, 7, 40, 48)
    for wrong in (picture, Framed(picture, None)):
        with pytest.raises(ValueError, match="windows are to be given"):
            network(wrong)
    plain = MultiScaleDiscriminator(7, 4)
    assert plain.draw_windows(1, (40, 48)) is None
    assert torch.equal(plain(Framed(picture, None))[0][-1], plain(picture)[0][-1])
    with pytest.raises(ValueError, match="windows are to be given"):
        plain(Framed(picture, network.draw_windows(1, (40, 48))))


# From fewer scales to more.


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_discriminators_stay_at_the_size_that_they_learned_at(more, spectral):
    """Check 10.8: what was the finest sees, in pictures of twice the size, what it saw before."""
    torch.manual_seed(0)
    old = MultiScaleDiscriminator(3, 4, scales=2, spectral=spectral).eval()
    new = MultiScaleDiscriminator(3, 4, scales=2 + more, spectral=spectral).eval()
    fresh = [parameter.clone() for judge in new.scales[:more] for parameter in judge.parameters()]
    assert carry_scales(new, old.state_dict(), "runs/small", more) == (2, 0)
    picture = torch.rand(1, 3, 64, 96)
    small = picture
    for _ in range(more):
        small = halved(small)
    for ours, theirs in zip(new(picture)[more:], old(small), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    kept = [parameter for judge in new.scales[:more] for parameter in judge.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(fresh, kept, strict=True))


def test_what_is_carried_is_a_copy():
    old, new = (MultiScaleDiscriminator(3, 4, scales=n) for n in (1, 2))
    carry_scales(new, old.state_dict(), "runs/small", 1)
    with torch.no_grad():
        new.scales[1].to_logits.bias.add_(1)
    assert old.scales[0].to_logits.bias.item() == 0


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"scales": 3}, "runs/small: its discriminators have 3 scales, but this run has 2; give 3 or more"),
        ({"channels": 4}, r"convs.0.weight of scale 0 is \(4, 4, 4, 4\), but \(4, 3, 4, 4\) in this run"),
        ({"width": 5}, r"convs.0.bias of scale 0 is \(5,\), but \(4,\)"),
        ({"strided": 2}, r"convs.3.bias of scale 0 is missing, but \(32,\)"),
        ({"spectral": True}, r"convs.0.parametrizations.weight.0._u of scale 0 is \(4,\), but missing"),
    ],
)
def test_discriminators_of_another_form_are_refused(theirs, message):
    old = MultiScaleDiscriminator(**{"channels": 3, "width": 4, "scales": 2} | theirs)
    new = MultiScaleDiscriminator(3, 4, scales=2)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(UserError, match=message):
        carry_scales(new, old.state_dict(), "runs/small", 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in new.state_dict().items())


def test_what_are_no_discriminators_is_refused():
    network = MultiScaleDiscriminator(3, 4)
    with pytest.raises(
        UserError, match=r"runs/small: its discriminators are of another form: there is a 'scales.bias'"
    ):
        carry_scales(network, {"scales.bias": torch.zeros(3)}, "runs/small", 0)


@pytest.mark.parametrize(
    ("doublings", "kind", "then", "expected"),
    [
        (1, "multiscale", "multiscale", [None, 0, 1]),
        (1, "multiscale", "hybrid", [None, 0, 1]),
        (1, "multiscale", "attention", [None]),
        (1, "hybrid", "multiscale", [None, None, 1]),
        (1, "hybrid", "hybrid", [None, None, 1]),
        (1, "hybrid", "attention", [None]),
        (1, "attention", "multiscale", [None, None, None]),
        (1, "attention", "hybrid", [None, None, None]),
        (1, "attention", "attention", [None]),
        (0, "multiscale", "multiscale", [0, 1, None]),
        (0, "multiscale", "hybrid", [None, 1, None]),
        (0, "multiscale", "attention", [None]),
        (0, "hybrid", "multiscale", [None, 1, None]),
        (0, "hybrid", "hybrid", [0, 1, None]),
        (0, "hybrid", "attention", [0]),
        (0, "attention", "multiscale", [None, None, None]),
        (0, "attention", "hybrid", [0, None, None]),
        (0, "attention", "attention", [0]),
        (2, "multiscale", "multiscale", [None, None, 0]),
    ],
)
def test_a_stage_of_any_kind_goes_on_from_one_of_any_kind(doublings, kind, then, expected):
    """Each new discriminator has the weights of the old one that judged its size, where they are of one kind."""
    torch.manual_seed(0)
    old, new = discriminators(kind, 3, 4, 2), discriminators(then, 3, 4, 3)
    before = [{name: tensor.clone() for name, tensor in judge.state_dict().items()} for judge in new.scales]
    taken = [n for n in expected if n is not None]
    found = carry_scales(new, old.state_dict(), "runs/small", doublings)
    assert found == (len(taken), len(old.scales) - len(taken))
    for judge, was, there in zip(new.scales, before, expected, strict=True):
        wanted = was if there is None else old.scales[there].state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in judge.state_dict().items())
