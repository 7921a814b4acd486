"""Which kinds of the toy world paintings show: read off photographs, of which it is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from photogram.data.toy import Toy
from photogram.data.toy_layout import CLASSES, CLOUDY, EVENING, NIGHT, SKY
from photogram.errors import UserError
from photogram.metrics.toy_moods import MOODS, mood_asked, mood_of_photos, toy_moods


@pytest.fixture(scope="module")
def held_out() -> tuple[Tensor, Tensor]:
    """Photographs, and the kinds that their layouts ask for."""
    toy = Toy("val", size=(32, 48), count=100)
    scenes = [toy[i, 0] for i in range(100)]
    kinds = [mood_asked(s.condition.layout.classes) for s in scenes if s.condition.layout is not None]
    return torch.cat([s.photo for s in scenes if s.photo is not None]), torch.tensor(kinds)


def test_the_kinds_are_the_worlds():
    assert [CLASSES[n].name for n in range(4)] == ["sky", "evening sky", "night sky", "cloudy sky"]
    assert (SKY, EVENING, NIGHT, CLOUDY) == (0, 1, 2, 3) and len(MOODS) == 4
    assert mood_asked(torch.tensor([[9, 9, 9], [2, 2, 3]])) == 2 and mood_asked(torch.tensor([[9, 8]])) == 0


def test_photographs_that_it_has_not_seen_are_read_right(held_out):
    photos, kinds = held_out
    read = mood_of_photos(photos)
    assert (read == kinds).float().mean() >= 0.9
    for kind in range(4):
        assert (read == kind)[kinds == kind].float().mean() >= 0.8, MOODS[kind]


def test_photographs_show_all_kinds_in_their_shares(held_out):
    photos, kinds = held_out
    found = toy_moods(photos)
    assert found.covered == 1 and sum(found.shares.values()) == pytest.approx(1)
    true = torch.bincount(kinds, minlength=4) / len(kinds)
    for name, share in zip(MOODS, true.tolist(), strict=True):
        assert found.shares[name] == pytest.approx(share, abs=0.08)


def test_a_collapse_is_seen(held_out):
    """To one kind, to two, to a single painting, and to the mean of all photographs with some noise."""
    photos, kinds = held_out
    for kept, least, most in (((NIGHT,), 1, 1), ((SKY,), 1, 2), ((EVENING, NIGHT), 2, 3)):
        of_them = torch.stack([kinds == kind for kind in kept]).any(0)
        covered = toy_moods(photos[of_them]).covered * 4
        assert least <= covered <= most, kept
    assert toy_moods(photos[:1].expand(64, -1, -1, -1)).covered == 0.25
    blurred = photos.mean(0) + 0.05 * torch.randn(64, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert toy_moods(blurred).covered == 0.25


def test_too_few_paintings_are_refused(held_out):
    with pytest.raises(UserError, match=r"^15 paintings: give 16 or more"):
        toy_moods(held_out[0][:15])
