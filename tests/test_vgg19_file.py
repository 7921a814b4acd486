"""Torchvision's published VGG-19: found, checked by its hash, downloaded, or missed in one clear line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from test_trunks import NARROW, Weights, narrow, random_weights, vgg_shapes

from photogram.errors import UserError
from photogram.nn import trunks
from photogram.nn.trunks import IMAGENET, find_vgg19, load_trunk, weights_folder

__all__ = ["narrow"]  # a fixture


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The weights folder and torch's own cache, both empty, and no network."""

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("PHOTOGRAM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    return tmp_path / "weights", cache


def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A narrow VGG-19 in the published file's place, and its hash for the published one."""
    weights = random_weights(vgg_shapes(19, NARROW))
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / trunks.VGG19_FILE)
    digest = hashlib.sha256((folder / trunks.VGG19_FILE).read_bytes()).hexdigest()
    monkeypatch.setattr(trunks, "VGG19_HASH", digest[:8])
    return weights


@pytest.mark.parametrize("place", [0, 1])
def test_vgg19_is_found_in_the_weights_folder_or_torchs_cache(
    narrow: None, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, place: int
):
    weights = published(places[place], monkeypatch)
    network = load_trunk("vgg19")
    assert find_vgg19().parent == places[place] and network.name == "vgg19"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(network.mean.flatten(), torch.tensor(IMAGENET[0]))


@pytest.mark.parametrize("place", [0, 1])
def test_vgg19_of_another_hash_is_refused(places: tuple[Path, Path], place: int):
    places[place].mkdir(exist_ok=True)
    (places[place] / "vgg19-dcbb9e9d.pth").write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()[:8]
    with pytest.raises(UserError, match=rf"vgg19-dcbb9e9d\.pth: has hash {found}, not dcbb9e9d; damaged, remove it"):
        load_trunk("vgg19")


def test_vgg19_without_a_network_ends_in_one_line_with_the_ways_out(places: tuple[Path, Path]):
    with pytest.raises(UserError) as error:
        load_trunk("vgg19")
    message = str(error.value)
    assert "\n" not in message and "no route to host" in message and str(places[0]) in message
    for way_out in (
        "vgg19-dcbb9e9d.pth",
        "PHOTOGRAM_WEIGHTS",
        "--perceptual squeezenet",
        "--perceptual FILE",
    ):
        assert way_out in message


def test_vgg19_is_downloaded_into_the_weights_folder_with_its_hash_checked(
    narrow: None, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked: list[tuple[str, str, str]] = []
    published(tmp_path / "server", monkeypatch)

    def download(url: str, target: str, hash_prefix: str) -> None:
        asked.append((url, target, hash_prefix))
        Path(target).write_bytes((tmp_path / "server" / trunks.VGG19_FILE).read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert load_trunk("vgg19").name == "vgg19" and load_trunk("vgg19").name == "vgg19"
    url = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    assert asked == [(url, str(places[0] / "vgg19-dcbb9e9d.pth"), trunks.VGG19_HASH)]  # once


def test_the_weights_folder_is_in_the_cache_where_none_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PHOTOGRAM_WEIGHTS", raising=False)
    assert weights_folder() == Path.home() / ".cache" / "photogram" / "weights"
