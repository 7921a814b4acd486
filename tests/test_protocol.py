"""Protocols: those that come with the package, and files that are none."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from photogram.errors import UserError
from photogram.generator import Reader
from photogram.metrics.features import load_extractor
from photogram.metrics.protocol import Protocol, load_protocol, parse_protocol
from photogram.metrics.reals import reals_of
from photogram.metrics.shipped import FOLDER, shipped
from photogram.nn.trunks import weights_digest
from photogram.recipes import load

PLAIN = Protocol("mine-v1", "for tests", "val", (32, 48))


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_protocol_is_whole_and_has_the_name_of_its_file(name):
    protocol = load_protocol(name)
    assert protocol.name == name and name.rsplit("-v", 1)[1].isdecimal()
    assert parse_protocol(protocol.to_json(), Path("again")) == protocol


def test_the_protocols_of_the_issue_are_there():
    wanted = {"camvid-192x256-v1", "cityscapes-256x512-v1", "cityscapes-512x1024-v1", "coco-stuff-256-v1"}
    assert wanted <= set(shipped())
    assert load_protocol("cityscapes-512x1024-v1").size == (512, 1024)


def test_what_comes_with_the_package_and_can_be_known_is_pinned():
    """The scenes of CamVid, where the data is at hand, and the embedded network."""
    trunk = load_extractor("squeezenet").digest
    shared = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
    for name in ("camvid-192x256-v1", "camvid-shot-192x256-v1"):
        protocol = load_protocol(name)
        assert protocol.trunk_sha256 == trunk and len(protocol.scenes) == 64
        if (shared / "data" / "camvid").is_dir():
            assert reals_of(shared / "data" / "camvid", protocol, quiet=True).scenes_digest == protocol.scenes


def test_a_file_is_as_good_as_a_name(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(PLAIN.to_json()))
    assert load_protocol(str(tmp_path / "mine.json")) == PLAIN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trunks": "squeezenet"}, "field 'trunks' is unknown (did you mean 'trunk'?)"),
        ({"size": [32]}, "size is [32]; it must be [height, width]"),
        ({"size": [32, 0]}, "it must be [height, width]"),
        ({"size": "32x48"}, "size is '32x48'"),
        ({"count": -1}, "count is -1; it must be 0 or more"),
        ({"count": True}, "count is True; it must be int"),
        ({"frames": 1}, "frames is 1; it must be bool"),
        ({"samples": 0}, "samples is 0; it must be 1 or more"),
        ({"resize": "bicubic"}, "resize is 'bicubic'; it must be one of tf1"),
        ({"precision": "fp16"}, "it must be fp32 or bf16"),
        ({"ignored": "void"}, "ignored is 'void'"),
        ({"resamples": 1}, "resamples is 1; it must be 2 or more"),
        ({"seed": 99999999999999999999}, "seed is 99999999999999999999; it must be below 2^63"),
        ({"truncation": -5.0}, "truncation is -5.0; it must be 1.0, since no generator here has a truncation yet"),
        ({"truncation": 0.7}, "truncation is 0.7; it must be 1.0"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes, words):
    with pytest.raises(UserError) as e:
        parse_protocol({**PLAIN.to_json(), **changes}, Path("p.json"))
    assert str(e.value).startswith("p.json: ") and words in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("field", ["name", "about", "split", "size"])
def test_a_field_that_is_missing_is_named(field):
    values = PLAIN.to_json()
    del values[field]
    with pytest.raises(UserError, match=f"field '{field}' is missing"):
        parse_protocol(values, Path("p.json"))


def test_what_is_no_protocol(tmp_path):
    with pytest.raises(UserError, match=r"unknown protocol 'camvid-192x256' \(did you mean 'camvid-192x256-v1'\?\)"):
        load_protocol("camvid-192x256")
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(UserError, match=r"p\.json: cannot be read as JSON"):
        load_protocol(str(tmp_path / "p.json"))
    with pytest.raises(UserError, match="is no protocol"):
        parse_protocol([1], tmp_path)
    assert replace(PLAIN) == PLAIN


def test_shipped_segmenters_are_the_ones_that_protocols_name():
    named = [load_protocol(name) for name in shipped() if load_protocol(name).segmenter]
    assert {p.name for p in named} == {"camvid-192x256-v1", "camvid-192x256-edges-v1", "camvid-shot-192x256-v1"}
    for protocol in named:
        network = load(FOLDER / protocol.segmenter)
        assert weights_digest(network) == protocol.segmenter_sha256
        assert isinstance(network, Reader) and network.spec.size == protocol.size
        names = [c.name for c in network.spec.classes]
        assert set(protocol.ignored) <= set(names)
