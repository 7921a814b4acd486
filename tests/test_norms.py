"""Batch norm whose statistics the caller chooses, against torch's own and against plain sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from photogram.nn.norms import (
    BatchNorm,
    InstanceNorm,
    follow_statistics,
    instance_norm,
    measure_statistics,
    norm_layer,
    share_statistics,
)


def inputs(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 5, 4, 6, generator=generator) + torch.arange(5.0).view(5, 1, 1)


def pair() -> tuple[BatchNorm, nn.BatchNorm2d]:
    ours, torchs = BatchNorm(5), nn.BatchNorm2d(5)
    for number, parameter in enumerate((*ours.parameters(), *torchs.parameters())):
        parameter.data = torch.linspace(0.5, 1.5, 5) + number % 2
    return ours, torchs


def test_batch_and_running_are_torchs_train_and_eval():
    ours, torchs = pair()
    for seed in range(3):
        assert torch.equal(ours(inputs(seed)), torchs(inputs(seed)))
    assert torch.equal(ours.running_mean, torchs.running_mean) and torch.equal(ours.running_var, torchs.running_var)
    assert torch.equal(ours(inputs(9), "running"), torchs.eval()(inputs(9)))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_image_is_each_image_as_a_batch_of_one(precision):
    ours, _ = pair()
    x = inputs().to(precision)
    before = ours.running_mean.clone()
    found = ours(x, "image")
    assert torch.equal(ours.running_mean, before), "painting does not teach"
    alone = torch.cat([ours(one[None], "batch") for one in x])
    torch.testing.assert_close(found, alone)
    assert not torch.allclose(found.float(), ours(x, "batch").float(), atol=1e-2)


def test_train_and_eval_change_nothing():
    ours, _ = pair()
    first = ours.train()(inputs(), "image"), ours.train()(inputs())
    assert torch.equal(ours.eval()(inputs(), "image"), first[0]) and torch.equal(ours.eval()(inputs()), first[1])


def test_without_running_averages_there_is_no_buffer():
    bare = BatchNorm(5, running=False)
    assert not list(bare.buffers()) and torch.equal(bare(inputs()), BatchNorm(5)(inputs()))


@pytest.mark.parametrize("statistics", ["batch", "image", "running"])
def test_instance_norm_gives_every_channel_mean_0_and_variance_1(statistics):
    x = inputs()
    found = norm_layer("instance", 5)(x, statistics)
    centred = x - x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(found, centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt())
    assert isinstance(norm_layer("instance", 5), InstanceNorm) and not list(norm_layer("instance", 5).parameters())


def test_running_averages_are_shared_in_one_go():
    ours, calls = nn.Sequential(BatchNorm(5), BatchNorm(3, running=False), BatchNorm(2)), []

    def mean(values: torch.Tensor) -> torch.Tensor:
        calls.append(values)
        return values + 1

    expected = {name: buffer + 1 for name, buffer in ours.named_buffers()}
    share_statistics(ours, mean)
    assert len(calls) == 1 and calls[0].shape == (14,)
    assert all(torch.equal(buffer, expected[name]) for name, buffer in ours.named_buffers())
    share_statistics(InstanceNorm(), mean)
    assert len(calls) == 1, "nothing to share, nothing asked"


def test_measured_statistics_are_the_means_of_the_batches():
    """Layer by layer, by plain sums; whatever they were before, and without a gradient or a change of weights."""
    chain = nn.Sequential(BatchNorm(5), nn.Conv2d(5, 3, 1), BatchNorm(3), BatchNorm(3, running=False))
    batches, weights = [inputs(seed) for seed in range(4)], [p.clone() for p in chain.parameters()]
    for buffer in chain.buffers():
        buffer.fill_(7)
    expected: dict[str, list[torch.Tensor]] = {"0": [], "2": []}
    for x in batches:
        for name, layer in chain.named_children():
            if name in expected:
                values = x.detach().movedim(1, 0).flatten(1)
                mean = values.sum(1) / values.shape[1]
                variance = (values - mean[:, None]).square().sum(1) / (values.shape[1] - 1)
                expected[name].append(torch.stack([mean, variance]))
            x = layer(x)
    seen: list[bool] = []
    measure_statistics(chain, lambda x: seen.append(chain(x).requires_grad), batches)
    assert seen == [False] * 4
    for name, found in expected.items():
        measured = torch.stack([chain.get_buffer(f"{name}.running_{what}") for what in ("mean", "var")])
        torch.testing.assert_close(measured, torch.stack(found).mean(0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, w) for p, w in zip(chain.parameters(), weights, strict=True))


def test_statistics_that_follow_take_their_share_of_the_new():
    layer, x = BatchNorm(5), inputs(3)
    old = [buffer.uniform_(1, 2).clone() for buffer in layer.buffers()]
    new = [x.mean((0, 2, 3)), x.movedim(1, 0).flatten(1).var(1)]
    follow_statistics(layer, layer, x, 0.25)
    for buffer, before, measured in zip(layer.buffers(), old, new, strict=True):
        torch.testing.assert_close(buffer, 0.75 * before + 0.25 * measured, rtol=1e-4, atol=1e-5)
    follow_statistics(layer, layer, x, 1.0)
    for buffer, measured in zip(layer.buffers(), new, strict=True):
        torch.testing.assert_close(buffer, measured, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_its_formula_however_features_lie(images, scaled, precision, layout):
    draw = torch.Generator().manual_seed(images)
    given = (3 * torch.randn(images, 5, 4, 6, generator=draw) + 2).to(precision)
    x, wide = given.to(memory_format=layout).requires_grad_(), given.double().requires_grad_()
    scales = [torch.rand(5, generator=draw) + 0.5, torch.randn(5, generator=draw)] if scaled else []
    ours = [one.to(torch.promote_types(precision, torch.float32)).requires_grad_() for one in scales]
    slow = [one.double().requires_grad_() for one in scales]
    centred = wide - wide.mean((2, 3), keepdim=True)
    plain = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    if slow:
        plain = plain * slow[0][:, None, None] + slow[1][:, None, None]
    found = instance_norm(x, *ours)
    near = {"atol": 1e-9, "rtol": 1e-9} if precision == torch.float64 else {"atol": 0.04, "rtol": 0.01}
    torch.testing.assert_close(found.double(), plain, **near)
    if precision == torch.bfloat16:
        assert found.is_contiguous(memory_format=layout), "it leaves them as they lie"
    weighed = torch.randn(plain.shape, generator=draw).to(precision)
    mine = torch.autograd.grad((found * weighed).sum(), [x, *ours])
    its = torch.autograd.grad((plain * weighed.double()).sum(), [wide, *slow])
    for quick, sure in zip(mine, its, strict=True):
        torch.testing.assert_close(quick.double(), sure, **near)


def test_instance_norm_of_one_pixel_is_refused():
    for images in (1, 2):
        for precision in (torch.float32, torch.bfloat16):
            with pytest.raises(ValueError, match="more than 1"):
                instance_norm(torch.ones(images, 5, 1, 1, dtype=precision).to(memory_format=torch.channels_last))
