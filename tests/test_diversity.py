"""Paintings of one layout, and frames of one shot."""

from __future__ import annotations

import pytest
import torch

from photogram.metrics.diversity import diversity, flicker
from photogram.metrics.lpips import load_lpips


def test_diversity_is_the_mean_over_all_pairs():
    torch.manual_seed(0)
    lpips, samples = load_lpips(), [torch.rand(2, 3, 40, 48) * 2 - 1 for _ in range(3)]
    a, b, c = samples
    expected = (lpips(a, b) + lpips(a, c) + lpips(b, c)) / 3
    torch.testing.assert_close(diversity(samples, lpips), expected.double())
    assert diversity([a, a], lpips).tolist() == [0, 0]
    with pytest.raises(ValueError, match="two paintings of a layout or more, not 1"):
        diversity([a], lpips)


def test_flicker_counts_what_changes_where_the_class_stays():
    layouts = torch.zeros(3, 4, 4, dtype=torch.long)
    layouts[1, :2] = 1  # half of it changes its class, twice
    frames, photos = torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 4, 4)
    frames[1] = 0.1  # all of it changes by 12.75 grey levels, twice
    frames[1, :, :2] = 0.9  # what has another class may
    photos[2, :, 2:] = 0.2
    found = flicker(frames, photos, layouts)
    torch.testing.assert_close(found.images, torch.tensor([12.75, 12.75]).double())
    torch.testing.assert_close(found.photographs, torch.tensor([0.0, 25.5]).double())


def test_a_cut_tells_nothing():
    layouts = torch.tensor([0, 1]).view(2, 1, 1).expand(2, 4, 4)
    assert bool(flicker(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), layouts).images.isnan().all())
    with pytest.raises(ValueError, match="two frames or more of each, not 1, 1, 1"):
        flicker(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), layouts[:1])
