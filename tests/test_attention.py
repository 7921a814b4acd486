"""Self-attention against the naive formula, and the discriminators that have it (specification 6, 10.5, 10.11)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.losses import discriminator_loss_of_scales, feature_matching, generator_loss_of_scales, gradient_penalty
from photogram.nn import attention
from photogram.nn.attention import SelfAttention, attend, gammas, pooling_within, twice_differentiable
from photogram.nn.discriminators import (
    DetailDiscriminator,
    attention_facts,
    check_discriminators,
    discriminators,
    least_side,
)
from photogram.nn.layout_conv import LayoutLevel
from photogram.nn.multiscale import Framed, ScaleDiscriminator
from photogram.nn.spectral import normalised
from photogram.optim import frozen


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def naive(block: SelfAttention, x: Tensor, pool: int = 1) -> Tensor:
    """The equations of SAGAN, section 3, one place after the other."""
    n, _, h, w = x.shape
    f, g, value, v = (conv.weight[:, :, 0, 0] for conv in (block.f, block.g, block.h, block.v))

    def pooled(maps: Tensor) -> Tensor:
        rows = [maps[:, :, y : y + pool].amax(2) for y in range(0, h, pool)]
        maps = torch.stack(rows, 2)
        return torch.stack([maps[..., x : x + pool].amax(3) for x in range(0, w, pool)], 3)

    result = torch.empty_like(x)
    for image in range(n):
        keys = pooled((f @ x[image].flatten(1)).view(1, -1, h, w))[0].flatten(1)
        values = pooled((value @ x[image].flatten(1)).view(1, -1, h, w))[0].flatten(1)
        for j in range(h * w):
            scores = keys.T @ (g @ x[image].flatten(1)[:, j])  # s_ij = f(x_i)^T g(x_j), over i
            shares = scores.exp() / scores.exp().sum()
            o = v @ (values * shares).sum(1)
            result[image, :, j // w, j % w] = x[image, :, j // w, j % w] + block.gamma * o
    return result


def lively(block: SelfAttention) -> SelfAttention:
    """With weights so large that places differ, and a gamma."""
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0, 0.4)
    return block


FORMS = ("fused", "plain", "chunked")


def take(form: str, monkeypatch) -> None:
    if form == "fused":
        monkeypatch.setattr(attention, "_plainly", None)  # which fails where it is called
    else:
        monkeypatch.setattr(attention, "_has_kernel", lambda *_: False)
    if form == "chunked":
        monkeypatch.setattr(attention, "CHUNK", 700)


# The block.


@pytest.mark.parametrize(("channels", "parameters"), [(256, 81_921), (512, 327_681), (1024, 1_310_721)])
def test_counts_are_the_specifications(channels, parameters):
    """Check 10.1: table 6.1."""
    with torch.device("meta"):
        assert count(SelfAttention(channels)) == parameters


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pool", [1, 2, 4])
def test_it_is_the_naive_formula(form, pool, monkeypatch):
    """Check 10.11: values within 1e-5, and gradients."""
    take(form, monkeypatch)
    torch.manual_seed(0)
    block = lively(SelfAttention(16, kv_pool=pool))
    x = torch.randn(2, 16, 7, 10, requires_grad=True)
    results = []
    for run in (block, lambda x: naive(block, x, pool)):
        y = run(x)
        grads = torch.autograd.grad(y.square().mean(), [x, *block.parameters()])
        results.append((y.detach(), grads))
    assert (results[0][0] - results[1][0]).abs().max() <= 1e-5
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-6)


def test_forms_are_what_they_are_called(monkeypatch):
    """The fused one calls torch's kernel; the chunked one makes each part of the scores twice, with gradients."""
    calls, plainly = [], attention._plainly
    monkeypatch.setattr(attention, "_plainly", lambda q, k, v: calls.append(q.shape[1]) or plainly(q, k, v))
    q, k, v = (torch.randn(2, 70, width, requires_grad=True) for width in (2, 2, 8))
    attend(q, k, v)
    assert calls == [], "a processor has a fused kernel"
    take("chunked", monkeypatch)
    attend(q, k, v).sum().backward()
    assert calls[:14] == [5] * 14 and len(calls) == 28


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_near_float32(form, monkeypatch):
    take(form, monkeypatch)
    torch.manual_seed(0)
    block, x = lively(SelfAttention(16)), torch.randn(1, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x)
    torch.testing.assert_close(found.float(), block(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_at_first_it_is_the_identity_and_gamma_alone_has_a_gradient(form, monkeypatch):
    """Check 10.5: f, g, h and v have zero gradients on the first step, others on the second."""
    take(form, monkeypatch)
    torch.manual_seed(0)
    block, x = SelfAttention(16), torch.randn(2, 16, 6, 8)
    goal = torch.randn(2, 16, 6, 8)
    descent = torch.optim.SGD(block.parameters(), lr=10)
    for step in (1, 2):
        y = block(x)
        assert torch.equal(y.view(torch.int32), x.view(torch.int32)) == (step == 1), "to the last bit"
        descent.zero_grad()
        (y - goal).square().mean().backward()
        assert block.gamma.grad is not None and block.gamma.grad != 0
        for conv in (block.f, block.g, block.h, block.v):
            assert conv.weight.grad is not None and bool(conv.weight.grad.any()) == (step == 2)
        descent.step()


def test_the_identity_holds_in_the_precision_of_what_comes_in():
    x = torch.randn(1, 16, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = SelfAttention(16)(x)
    assert y.dtype == torch.bfloat16 and torch.equal(y, x)


def test_narrow_features_have_one_channel_at_least():
    block = lively(SelfAttention(4))
    assert (block.f.out_channels, block.h.out_channels) == (1, 2)
    x = torch.randn(1, 4, 3, 5)
    torch.testing.assert_close(block(x), naive(block, x))


def test_gammas_are_found_by_name():
    network = nn.ModuleDict({"a": SelfAttention(8), "b": nn.Sequential(nn.ReLU(), SelfAttention(8))})
    nn.init.constant_(network["b"][1].gamma, 0.5)
    assert {name: gamma.item() for name, gamma in gammas(network).items()} == {"gamma/a": 0, "gamma/b.1": 0.5}
    assert list(gammas(SelfAttention(8))) == ["gamma"] and not gammas(nn.ReLU())


# Budgets.


def test_keys_are_pooled_as_the_budget_says():
    """Check 10.11: by 2 at 1024 x 2048, by 1 at 512 x 1024, at stride 8."""
    assert pooling_within(1 << 28, 128, 256) == 2 and pooling_within(1 << 28, 64, 128) == 1
    assert pooling_within(1 << 28, 256, 512) == 8
    assert pooling_within(36 * 36, 6, 6) == 1 and pooling_within(36 * 36 - 1, 6, 6) == 2
    assert pooling_within(1, 6, 6) == 8, "the most that there is"


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_the_block_goes_by_its_budget(size):
    torch.manual_seed(0)
    x, places = torch.randn(1, 8, *size), size[0] * size[1]
    block = lively(SelfAttention(8, budget=places * places - 1))
    assert block.pooling(*size) == 2
    torch.testing.assert_close(block(x), naive(block, x, 2))
    block.budget = places * places
    torch.testing.assert_close(block(x), naive(block, x))
    block.kv_pool = 4
    torch.testing.assert_close(block(x), naive(block, x, 4))


def test_a_grid_attends_over_averages():
    """Specification 6.4, rule 3: averaged to at most so many places; o is enlarged."""
    torch.manual_seed(0)
    block, x = lively(SelfAttention(8, grid=20)), torch.randn(2, 8, 8, 12)
    assert [block.shrink(*size) for size in ((4, 5), (3, 7), (8, 12), (64, 64))] == [1, 2, 4, 16]
    coarse = F.avg_pool2d(x, 4)
    plain = lively(SelfAttention(8))
    plain.load_state_dict(block.state_dict())
    o = (naive(plain, coarse) - coarse) / plain.gamma
    expected = x + plain.gamma * F.interpolate(o, (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_a_grid_of_odd_sides_leaves_out_what_is_beyond_the_border():
    block = lively(SelfAttention(8, grid=20))
    same = torch.full((1, 8, 7, 9), 0.3)  # every mean is the same, and so is every place of the result
    y = block(same)
    assert y.shape == same.shape
    torch.testing.assert_close(y, y[..., :1, :1].expand(same.shape))
    torch.testing.assert_close(y[..., :1, :1], naive(block, same[..., :1, :1]))


@pytest.mark.parametrize("size", [(4, 5), (2, 10)])
def test_a_grid_that_is_fine_enough_changes_nothing(size):
    block, x = lively(SelfAttention(8, grid=20)), torch.randn(1, 8, *size)
    torch.testing.assert_close(block(x), naive(block, x))


# Gradients of gradients.


@pytest.mark.parametrize("chunked", [False, True])
def test_penalties_on_gradients_have_gradients(chunked, monkeypatch):
    """The penalty's gradient for each weight is that of the naive form."""
    if chunked:
        monkeypatch.setattr(attention, "CHUNK", 300)
    torch.manual_seed(0)
    block, head = lively(SelfAttention(8)), torch.randn(8)
    photo, painting = torch.randn(2, 8, 5, 6), torch.randn(2, 8, 5, 6)
    results = []
    for run in (block, lambda x: naive(block, x)):
        torch.manual_seed(1)
        with twice_differentiable():
            penalty = gradient_penalty(lambda x, run=run: (run(x) * head[:, None, None]).sum(1), photo, painting)
            results.append((penalty.detach(), torch.autograd.grad(penalty, list(block.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-5)


def test_without_asking_for_them_they_are_an_error():
    block = lively(SelfAttention(8))
    x = torch.randn(1, 8, 5, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(block(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="derivative for"):
        slope.square().sum().backward()


def test_a_penalty_on_the_whole_discriminator_is_that_of_finite_differences():
    torch.manual_seed(0)
    network = discriminators("attention", 2, 4).double()
    nn.init.constant_(network.scales[0].attention.gamma, 0.7)
    photo, painting = torch.rand(1, 2, 24, 32).double(), torch.rand(1, 2, 24, 32).double()

    def penalty() -> Tensor:
        torch.manual_seed(1)
        return gradient_penalty(lambda x: network(x)[0][-1], photo, painting)

    network.eval()  # u and v stay
    weight = network.scales[0].attention.get_submodule("v.parametrizations.weight").original
    with twice_differentiable():
        (found,) = torch.autograd.grad(penalty(), weight)
        for place in [(0, 0, 0, 0), (9, 3, 0, 0)]:
            values = []
            for step in (-1e-4, 1e-4):
                with torch.no_grad():
                    weight[place] += step
                values.append(penalty().item())
                with torch.no_grad():
                    weight[place] -= step
            assert found[place].item() == pytest.approx((values[1] - values[0]) / 2e-4, rel=0.05, abs=1e-7)


# The discriminator of detail, and the hybrid.


def test_counts_of_discriminators_are_the_specifications():
    """Check 10.1: table 6.3."""
    with torch.device("meta"):
        assert count(DetailDiscriminator(39)) == count(discriminators("attention", 39)) == 2_883_522
        hybrid = discriminators("hybrid", 39, scales=3)
        assert [count(judge) for judge in hybrid.scales] == [2_883_522, 2_801_601, 2_801_601]
        assert count(hybrid) == 8_486_724
        assert count(discriminators("multiscale", 39, scales=3)) == 8_404_803


def test_sizes_and_operations_of_the_detail_discriminator_are_the_specifications():
    """A grid of exactly an eighth, and 123.5 G for the convolutions but those of the attention (6.4)."""
    found = []
    with torch.device("meta"):
        network = DetailDiscriminator(39)
        network.attention.forward = lambda x: x
        for conv in (*network.convs, network.to_logits):
            taps = conv.in_channels * 16
            conv.register_forward_hook(lambda _, __, out, taps=taps: found.append(out.numel() * taps))
        sizes = [tuple(one.shape[1:]) for one in network(torch.empty(1, 39, 1024, 2048))]
    assert sizes == [
        (64, 512, 1024),
        (128, 256, 512),
        (256, 128, 256),
        (256, 128, 256),
        (512, 127, 255),
        (1, 126, 254),
    ]
    assert sum(found) == pytest.approx(123.5e9, rel=1e-3)


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_the_detail_discriminator_is_the_plain_chain(norm):
    """Weights are those of a published discriminator's form, divided by their largest singular values."""
    torch.manual_seed(0)
    network = DetailDiscriminator(5, 4, norm).eval()
    nn.init.constant_(network.attention.gamma, 0.7)
    x, found = torch.randn(2, 5, 32, 40), []
    expected = x
    for n, conv in enumerate(network.convs):
        plain = conv.get_submodule("parametrizations.weight").original
        weight = plain / torch.linalg.matrix_norm(plain.flatten(1), 2)
        expected = F.conv2d(expected, weight, conv.bias, 1 if n == 3 else 2, 1)
        expected = F.instance_norm(expected) if n and norm == "instance" else expected
        expected = F.leaky_relu(expected, 0.2)
        found.append(expected)
        if n == 2:
            expected = naive(network.attention, expected)
            found.append(expected)
    plain = network.to_logits.get_submodule("parametrizations.weight").original
    found.append(F.conv2d(expected, plain / plain.norm(), network.to_logits.bias, 1, 1))
    assert len(network.convs) == 4
    torch.testing.assert_close(network(x), found, rtol=0.05, atol=0.02)  # 15 first iterations are near


def test_every_convolution_of_the_detail_discriminator_has_spectral_norm():
    torch.manual_seed(0)
    network = DetailDiscriminator(3, 8)
    for _ in range(50):
        with normalised(network):
            network(torch.zeros(1, 3, 24, 24))
    convs = [conv for conv in network.eval().modules() if isinstance(conv, nn.Conv2d)]
    values = [torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() for conv in convs]
    assert len(values) == 9 and values == pytest.approx([1] * 9, rel=0.02)


def test_the_hybrid_judges_detail_by_attention_and_the_rest_by_patches():
    torch.manual_seed(0)
    network = discriminators("hybrid", 4, 4, 3, detail_norm="instance", kv_pool=2)
    detail, *patches = network.scales
    assert isinstance(detail, DetailDiscriminator) and detail.norm == "instance" and detail.attention.kv_pool == 2
    assert all(isinstance(judge, ScaleDiscriminator) for judge in patches) and len(patches) == 2
    picture = torch.rand(1, 4, 48, 64)
    network.eval()
    judged = network(picture)
    half = F.avg_pool2d(picture, 3, 2, 1, count_include_pad=False)
    quarter = F.avg_pool2d(half, 3, 2, 1, count_include_pad=False)
    expected = [detail(picture), patches[0](half), patches[1](quarter)]
    assert [len(one) for one in judged] == [6, 5, 5]
    torch.testing.assert_close(judged, expected)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("kind", ["multiscale", "attention", "hybrid"])
def test_spectral_norm_of_patches_is_a_choice(kind, spectral):
    network = discriminators(kind, 3, 4, 2, spectral=spectral)
    assert len(network.scales) == (1 if kind == "attention" else 2)
    for judge in network.scales:
        assert bool(list(judge.buffers())) == (spectral or isinstance(judge, DetailDiscriminator))


@pytest.mark.parametrize("mode", ["full_image", "crop", "grid"])
@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_some_steps_of_a_game(kind, mode):
    """Check 10.14 e, in small: the same windows for both sides, all finite, gamma moves, and so do all weights."""
    torch.manual_seed(0)
    network = discriminators(kind, 7, 4, 2, attention_mode=mode, crop=32, grid=8)
    adam = torch.optim.Adam(network.parameters(), 1e-3, (0.0, 0.9))
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    photo, painting = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 40, 48, requires_grad=True)
    layout = LayoutLevel(torch.randint(4, (1, 40, 48)), 4)
    for _ in range(3):
        windows = network.draw_windows(1, (40, 48))
        assert (windows is None) == (mode != "crop")
        on_real, on_fake = (network(Framed((layout, one), windows)) for one in (photo, painting.detach()))
        loss = 0.5 * discriminator_loss_of_scales("hinge", on_real, on_fake)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with frozen(network):
            on_fake = network(Framed((layout, painting), windows))
        back = generator_loss_of_scales("hinge", on_fake) + 10 * feature_matching(on_real, on_fake)
        painting.grad = None
        back.backward()
        assert loss.isfinite() and painting.grad is not None and painting.grad.isfinite().all()
    assert gammas(network)["gamma/scales.0.attention"] != 0
    still = [name for name, parameter in network.named_parameters() if torch.equal(before[name], parameter)]
    assert all(".bias" in name for name in still), "biases before instance norm have no effect, all else learns"


@pytest.mark.parametrize("kind", ["multiscale", "attention", "hybrid"])
@pytest.mark.parametrize("scales", [2, 4])
def test_the_smallest_picture_can_be_judged_and_a_smaller_one_is_refused(kind, scales):
    least = least_side(kind, scales)
    check_discriminators(kind, scales, 3, (least, 64))
    network = discriminators(kind, 2, 2, scales)
    assert all(one[-1].numel() for one in network(torch.rand(1, 2, least, 64)))
    message = f"--size 64 {least - 1}: --discriminator {kind} with --scales {scales} needs {least} pixels a side"
    with pytest.raises(UserError, match=message):
        check_discriminators(kind, scales, 3, (64, least - 1))
    with pytest.raises((RuntimeError, ValueError)):
        network(torch.rand(1, 2, least - 1, least - 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("multiscale", 0, 3), "--scales 0: must be 1 to 4 with --discriminator multiscale"),
        (("multiscale", 5, 3), "--scales 5: must be 1 to 4 with --discriminator multiscale"),
        (("hybrid", 1, 3), "--scales 1: must be 2 to 4 with --discriminator hybrid"),
        (("multiscale", 2, 0), "--strided 0: must be 1 to 5"),
    ],
)
def test_what_there_is_not_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        check_discriminators(*arguments, (256, 256))


def test_what_attention_goes_over_is_told():
    with torch.device("meta"):
        found = [
            attention_facts(discriminators("hybrid", 4, 8, attention_mode=mode), (1024, 2048))
            for mode in ("full_image", "crop", "grid")
        ]
        assert attention_facts(discriminators("multiscale", 4, 8), (1024, 2048)) == {}
    assert [next(iter(one.values())) for one in found] == [
        "32,768, keys pooled by 2 to 8,192",
        "4,096, keys pooled by 1 to 4,096",
        "2,048, keys pooled by 1 to 2,048",
    ]
