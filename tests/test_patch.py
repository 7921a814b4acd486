"""The patch discriminator: counts, receptive fields and map sizes of specification 2.4, and a plain twin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from photogram.errors import UserError
from photogram.nn.norms import BatchNorm
from photogram.nn.patch import STRIDED, PatchDiscriminator, check_patch

# patch: map of a picture of 256 x 256, parameters with 6 channels by batch norm and by instance norm
TABLE = {
    1: (256, 9_024, 8_897),
    16: (126, 139_585, 139_457),
    34: (62, 666_433, 666_049),
    70: (30, 2_768_705, 2_767_809),
    142: (14, 6_964_033, 6_962_625),
    286: (6, 11_159_361, 11_157_441),
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("patch", STRIDED)
def test_counts_and_maps_are_the_specifications(patch):
    """Check 10.1."""
    side, batch, instance = TABLE[patch]
    with torch.device("meta"):
        assert count(PatchDiscriminator(6, patch=patch)) == batch
        assert count(PatchDiscriminator(6, patch=patch, norm="instance")) == instance
        assert PatchDiscriminator(6, patch=patch)(torch.empty(1, 6, 256, 256)).shape == (1, 1, side, side)


def test_counts_without_the_condition():
    with torch.device("meta"):
        assert (count(PatchDiscriminator(3)), count(PatchDiscriminator(3, norm="instance"))) == (2_765_633, 2_764_737)


@pytest.mark.parametrize("patch", STRIDED)
def test_one_logit_sees_its_patch(patch):
    """Check 10.2. Norms look at the whole picture and are left out; weights are ones, so that nothing cancels."""
    network = PatchDiscriminator(1, width=1, patch=patch)
    network.norms = nn.ModuleList(nn.Identity() for _ in network.norms)
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    side = 3 * max(patch, 8)
    picture = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    logits = network.double()(picture)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], picture)
    seen = gradient[0, 0].nonzero()
    extent = (seen.amax(0) - seen.amin(0) + 1).tolist()
    assert extent == [patch, patch] and len(seen) == patch**2


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("patch", "layers"), [(1, 3), (34, 4), (70, 5)])
def test_it_is_the_plain_chain_of_layers(patch, layers, norm):
    torch.manual_seed(0)
    network = PatchDiscriminator(5, width=4, patch=patch, norm=norm)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
    convs = [*network.convs, network.to_logits]
    assert len(convs) == layers
    chain: list[nn.Module] = []
    for n, conv in enumerate(convs):
        chain.append(conv)
        if 0 < n < layers - 1:
            plain = nn.BatchNorm2d(conv.out_channels) if norm == "batch" else nn.InstanceNorm2d(conv.out_channels)
            if isinstance(plain, nn.BatchNorm2d):
                plain.weight, plain.bias = network.norms[n - 1].weight, network.norms[n - 1].bias
            chain.append(plain)
        if n < layers - 1:
            chain.append(nn.LeakyReLU(0.2))
    x = torch.randn(2, 5, 40, 48)
    results = []
    for twin in (network, nn.Sequential(*chain)):
        network.zero_grad()
        logits = twin(x)
        logits.square().mean().backward()
        results.append((logits, [p.grad.clone() for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1])


def test_it_does_the_same_in_training_and_evaluation():
    network, x = PatchDiscriminator(3, width=4, patch=16), torch.rand(1, 3, 16, 16)
    assert torch.equal(network.train()(x), network.eval()(x))


@pytest.mark.parametrize("patch", STRIDED)
def test_the_smallest_picture_gives_a_logit_and_a_smaller_one_is_refused(patch):
    least = 3 * 2 ** STRIDED[patch] if patch > 1 else 1
    check_patch(patch, (least, least + 40))
    network = PatchDiscriminator(1, width=2, patch=patch, norm="batch")
    assert network(torch.rand(2, 1, least, least)).shape[1:] == (1, 1, 1)
    if patch > 1:
        with pytest.raises(
            UserError, match=f"--size {least + 40} {least - 1}: .* --patch {patch} needs {least} pixels"
        ):
            check_patch(patch, (least + 40, least - 1))


def test_an_unknown_patch_is_refused():
    with pytest.raises(UserError, match="--patch 71: must be one of 1, 16, 34, 70, 142, 286"):
        check_patch(71, (256, 256))
