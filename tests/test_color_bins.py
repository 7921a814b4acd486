"""Colours in bins: the grid, what a photograph is like as a whole, and the colours that are suggested."""

from __future__ import annotations

import pytest
import torch
from test_colorization import scene

from photogram.nn.color import to_lab
from photogram.nn.color_bins import BINS, OVERALL, bin_of, centres, overall_of, quarter, revealed, saturation, suggested


def test_bins_are_a_grid_of_ten_units():
    points = centres()
    assert points.shape == (529, 2) and BINS == 529
    assert torch.equal(bin_of(points.T[None, :, :, None])[0, :, 0], torch.arange(529))
    ab = torch.rand(1, 2, 20, 20, dtype=torch.float64) * 220 - 110
    nearest = torch.cdist(ab[0].flatten(1).T, points).argmin(1).reshape(1, 20, 20)
    assert torch.equal(bin_of(ab), nearest)


def test_srgb_reaches_262_bins():
    """Specification 2.10."""
    reached: set[int] = set()
    blue = torch.linspace(-1, 1, 128)
    for red in torch.linspace(-1, 1, 128):
        plane = torch.stack(torch.meshgrid(red[None], torch.linspace(-1, 1, 128), blue, indexing="ij"))
        reached |= set(bin_of(to_lab(plane.movedim(1, 0))[:, 1:]).unique().tolist())
    assert len(reached) == 262


def test_overall_is_shares_of_bins_and_saturation():
    photo = torch.full((1, 3, 8, 8), -1.0)
    photo[:, 0, :, :4] = 1  # the left half is red, the right black
    overall = overall_of(photo)[0]
    red = int(bin_of(quarter(photo))[0, 0, 0])
    grey = 11 * 23 + 11
    assert overall.shape == (OVERALL,) and overall[red] == 0.5 and overall[grey] == 0.5
    assert overall[:BINS].sum() == 1
    assert overall[BINS] == overall[BINS + 2] == 1 and overall[BINS + 1] == 0.5
    photo[:, 1, :, :4] = 0  # (255, 128, 0) is as saturated; (255, 128, 128) is half
    assert saturation(photo).item() == pytest.approx(0.5)
    photo[:, 2, :, :4] = 0
    assert saturation(photo).item() == pytest.approx(0.25)


def test_what_is_not_known_is_zero_with_its_indicator():
    overall = overall_of(scene(4).photo)
    found = revealed(overall, torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False]))
    assert torch.equal(found[0], overall[0]) and found[3].abs().sum() == 0
    assert found[1, : BINS + 1].abs().sum() == 0 and torch.equal(found[1, BINS + 1 :], overall[1, BINS + 1 :])
    assert torch.equal(found[2, : BINS + 1], overall[2, : BINS + 1]) and found[2, BINS + 1 :].abs().sum() == 0
    assert torch.equal(revealed(overall, True, True), overall)


def test_suggestions_are_the_clusters_of_samples():
    """Five groups of bins far apart, against k-means of 25,000 samples that begins at the groups."""
    torch.manual_seed(0)
    middles = torch.tensor([[-80.0, -80], [-80, 80], [80, -80], [80, 80], [0, 0]], dtype=torch.float64)
    near = torch.cdist(centres(), middles).amin(1) < 25
    logits = torch.where(near, torch.rand(529) * 5, -1000.0)
    logits[torch.cdist(centres(), middles).argmin(1) == 3] += 3  # the fourth is the likeliest
    found = suggested(logits)
    samples = centres()[torch.multinomial((0.2 * logits).softmax(0), 25_000, replacement=True)]
    points = middles.clone()
    for _ in range(20):
        group = torch.cdist(samples, points).argmin(1)
        points = torch.stack([samples[group == k].mean(0) for k in range(5)])
    shares = torch.bincount(group, minlength=5) / 25_000
    assert [s for _, _, s in found] == sorted((s for _, _, s in found), reverse=True)
    assert sum(s for _, _, s in found) == pytest.approx(1)
    for a, b, share in found:
        k = int((points - torch.tensor([a, b], dtype=torch.float64)).norm(dim=1).argmin())
        assert (points[k] - torch.tensor([a, b])).abs().max() < 1
        assert share == pytest.approx(float(shares[k]), abs=0.02)
    assert found[0][0] > 60 and found[0][1] > 60
    assert suggested(logits) == found


def test_one_sure_colour_is_suggested_first():
    logits = torch.zeros(529)
    logits[int(bin_of(torch.tensor([40.0, -30.0])[None, :, None, None]))] = 200
    a, b, share = suggested(logits)[0]
    assert (round(a), round(b)) == (40, -30) and share > 0.99
    assert len(suggested(torch.zeros(529), 3)) == 3 and len(suggested(logits * 1e4)) == 5
