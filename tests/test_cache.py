"""Features that are kept: never wrong, never in the way."""

from __future__ import annotations

import pytest
import torch

from photogram.metrics.cache import cache_folder, kept
from photogram.metrics.features import Seen

IDENTITY: dict[str, object] = {"trunk": "t", "sha256": "0"}


class Looker:
    """Counts how often it has to look."""

    def __init__(self, logits: bool = False):
        self.looks, self.logits = 0, torch.rand(3, 2) if logits else None

    def __call__(self) -> Seen:
        self.looks += 1
        return Seen(torch.arange(12.0).view(3, 4), self.logits)


@pytest.mark.parametrize("logits", [False, True])
def test_what_was_seen_is_not_looked_at_again(tmp_path, logits):
    look = Looker(logits)
    first, second = (kept(IDENTITY, "images", look, tmp_path) for _ in range(2))
    assert look.looks == 1 and torch.equal(first.features, second.features)
    assert (second.logits is not None) == logits
    if second.logits is not None and look.logits is not None:
        assert torch.equal(second.logits, look.logits)


def test_other_images_or_another_network_are_looked_at(tmp_path):
    look = Looker()
    for identity, images in ((IDENTITY, "a"), (IDENTITY, "b"), ({**IDENTITY, "resize": "tf1"}, "a")):
        kept(identity, images, look, tmp_path)
    assert look.looks == 3 and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    look = Looker()
    kept(IDENTITY, "a", look, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
    assert torch.equal(kept(IDENTITY, "a", look, tmp_path).features, look().features)
    kept(IDENTITY, "a", look, tmp_path)
    assert look.looks == 3  # once before, once after the damage, once to compare


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    from photogram.metrics import cache

    def interrupted(tensors):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.safetensors.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept(IDENTITY, "a", Looker(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_it_there_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("in the way")
    look = Looker()
    for _ in range(2):
        assert kept(IDENTITY, "a", look, tmp_path / "file" / "cache").features.shape == (3, 4)
    assert look.looks == 2


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTOGRAM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("PHOTOGRAM_CACHE")
    assert cache_folder().parts[-2:] == ("photogram", "features")
