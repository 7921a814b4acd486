"""Colouring for people: `colorize`, `suggestions`, files of hints, and the verb from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_colorization import SPEC, loud, network
from toy_scenes import ToyGreys

from photogram import coloring
from photogram.cli import main
from photogram.coloring import Hint, ab_of, colorize, read_hints, suggestions
from photogram.errors import UserError
from photogram.images import read_photo, write_image
from photogram.nn.color import from_lab, grey_of, lightness_of, to_lab
from photogram.recipes.colorization import Colorization, ColorizationNetwork, ColorizationOptions
from photogram.recipes.pix2pix import Pix2Pix, UNet
from photogram.recipes.segmenter import SegmentationNetwork
from photogram.scene import SceneClass, SceneSpec, from_pixels, open_photo, to_pixels
from photogram.training import Plan, train


def a_photo(height: int = 19, width: int = 27) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.8


def automatic() -> UNet:
    """A pix2pix that colours by itself."""
    torch.manual_seed(0)
    return UNet(spec=SPEC, width=4, levels=2, norm="batch", dropout_at="paper", layout_as="planes", predict="ab")


# --- hints -----------------------------------------------------------------------------------------------------------


def test_a_hints_colour_is_its_place_in_lab():
    assert ab_of((255, 0, 0)) == pytest.approx((80.09, 67.20), abs=0.02)
    assert Hint(1, 2, 3, rgb=(0, 0, 255)).spot() == pytest.approx((1, 2, 3, 79.19, -107.86), abs=0.02)
    assert Hint(1, 2, 3, ab=(5, -6)).spot() == (1, 2, 3, 5, -6)
    bright, dark = (Hint(0, 0, rgb=(v, v, v)).spot() for v in (250, 10))
    assert bright[3:] == pytest.approx((0, 0), abs=0.02) and dark[3:] == pytest.approx((0, 0), abs=0.02)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "give it rgb or ab"),
        ({"rgb": (1, 2, 3), "ab": (1, 2)}, "give it rgb or ab"),
        ({"rgb": (1, 2, 256)}, r"rgb is \(1, 2, 256\); it is three integers of 0 to 255"),
        ({"ab": (0, 120)}, "b is 120; it is -110 to 110"),
        ({"ab": (0, 0), "radius": -2}, r"hint at \(1, 2\): radius is -2"),
        ({"ab": (0, 0), "x": 10**400}, "x is 1000000.*; it is a number, within 10.9"),
    ],
)
def test_what_is_no_hint_is_refused(asked, words):
    with pytest.raises(UserError, match=words):
        Hint(**{"x": 1, "y": 2, **asked})


def test_a_file_of_hints(tmp_path):
    file = tmp_path / "hints.json"
    file.write_text('[{"x": 1, "y": 2.5, "radius": 3, "color": "#C81e00"}, {"x":0,"y":0,"radius":0,"color":[1,2,3]}]')
    assert read_hints(file) == [Hint(1, 2.5, 3, rgb=(200, 30, 0)), Hint(0, 0, 0, rgb=(1, 2, 3))]
    file.write_text("[]")
    assert read_hints(file) == []


GOOD = {"x": 1, "y": 2, "radius": 3, "color": "#102030"}
WRONG = [
    ("{", "cannot be read as JSON"),
    ('{"x": 1}', "must be a list of"),
    (json.dumps([GOOD, 7]), "entry 2: is 7; it must be an object with x, y, radius and color"),
    (json.dumps([{"x": 1, "y": 2, "radius": 3}]), "entry 1: has no color; it must be an object"),
    (json.dumps([{**GOOD, "colour": 1}]), "entry 1: is .*colour.*; it must be an object"),
    (json.dumps([{**GOOD, "x": "1"}]), "entry 1: x is '1'; it is a number of pixels"),
    (json.dumps([{**GOOD, "y": True}]), "entry 1: y is True"),
    (json.dumps([{**GOOD, "x": float("nan")}]), "entry 1: x is nan"),
    (json.dumps([{**GOOD, "x": 10**400}]), "entry 1: x is 1000000"),
    (json.dumps([GOOD]).replace("1", "1" * 5000), "cannot be read as JSON"),
    (json.dumps([GOOD, {**GOOD, "radius": -1}]), r"entry 2: hint at \(1, 2\): radius is -1"),
    (json.dumps([{**GOOD, "color": "red"}]), "entry 1: color is 'red'; it is \"#rrggbb\""),
    (json.dumps([{**GOOD, "color": [1, 2]}]), r"entry 1: color is \[1, 2\]"),
    (json.dumps([{**GOOD, "color": [1, 2, 3.5]}]), "entry 1: color is"),
    (json.dumps([{**GOOD, "color": [1, 2, 300]}]), "entry 1: color is"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_wrong_file_of_hints_is_refused_by_entry(text, words, tmp_path):
    file = tmp_path / "hints.json"
    file.write_text(text)
    with pytest.raises(UserError, match=f"hints.json: {words}") as refused:
        read_hints(file)
    assert "\n" not in str(refused.value)


# --- colorize --------------------------------------------------------------------------------------------------------


def test_colours_of_the_image_are_not_looked_at():
    net, photo = loud(network()), a_photo()
    found = colorize(net, photo)
    assert found.shape == photo.shape and not torch.allclose(found, photo, atol=0.1)
    assert torch.equal(found, colorize(net, grey_of(photo)))
    torch.testing.assert_close(to_lab(found)[:, :1], to_lab(photo)[:, :1], atol=0.05, rtol=0)


def test_it_is_what_sample_paints_and_nothing_is_drawn():
    net, photo = loud(network()), a_photo()
    hints = [Hint(3, 4, 2, ab=(50, -20)), Hint(20, 12, 1, rgb=(10, 200, 30))]
    found = colorize(net.train(), photo, hints)
    assert net.training
    assert torch.equal(found, colorize(net, photo, hints))
    numbers = tuple(float(v) for hint in hints for v in hint.spot())
    assert torch.equal(found, net.sample(grey_of(photo), 5, ColorizationOptions(numbers)))
    assert not torch.allclose(found, colorize(net, photo), atol=1e-3)


@pytest.mark.parametrize("kind", ["grey", "rgb", "grey16", "palette", "jpeg"])
def test_files_of_every_kind_go_in(kind, tmp_path):
    pixels = to_pixels(a_photo())[0].numpy()
    if kind == "grey":
        Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    elif kind == "grey16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.png")
    elif kind == "palette":
        Image.fromarray(pixels).quantize(64).save(tmp_path / "a.png")
    elif kind == "rgb":
        Image.fromarray(pixels).save(tmp_path / "a.png")
    path = tmp_path / ("a.jpg" if kind == "jpeg" else "a.png")
    if kind == "jpeg":
        Image.fromarray(pixels).save(path)
    found = colorize(loud(network()), path, [Hint(2, 2, 1, ab=(30, 30))])
    read = from_pixels(read_photo(path))[None]
    torch.testing.assert_close(to_lab(found)[:, :1], to_lab(read)[:, :1], atol=0.05, rtol=0)


def test_an_automatic_network_colours_too_and_says_that_it_takes_no_hints():
    net, photo = automatic(), a_photo()
    found = colorize(net, photo)
    torch.testing.assert_close(found, net.sample(grey_of(photo)), atol=2e-3, rtol=0)
    torch.testing.assert_close(to_lab(found)[:, :1], to_lab(photo)[:, :1], atol=0.05, rtol=0)
    for asked in ({"hints": [Hint(1, 1, ab=(0, 0))]}, {"reference": photo}):
        with pytest.raises(UserError, match=r"UNet takes no .*`photogram train colorization` learns to"):
            colorize(net, photo, **asked)
    with pytest.raises(UserError, match="UNet suggests no colours"):
        suggestions(net, photo, 1, 1)


def test_a_reference_is_taken_as_a_whole():
    net, photo = loud(network(global_hints=True)), a_photo()
    red = from_lab(torch.tensor([50.0, 60, 40])[None, :, None, None].expand(1, 3, 9, 13))
    blue = from_lab(torch.tensor([50.0, 10, -60])[None, :, None, None].expand(1, 3, 9, 13))
    found = [colorize(net, photo, reference=reference) for reference in (None, red, blue, blue[..., :2, :2])]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(found[a], found[b], atol=1e-3)
    torch.testing.assert_close(found[2], found[3], atol=1e-4, rtol=0)  # all of one colour, whatever its size
    for one in found:
        torch.testing.assert_close(to_lab(one)[:, :1], to_lab(photo)[:, :1], atol=0.05, rtol=0)
    with pytest.raises(UserError, match="a reference needs a network with global hints"):
        colorize(network(), photo, reference=red)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Hint(27, 0, ab=(0, 0)), "hint 1: x is 27, but the image is 19 x 27; x is 0 to 26"),
        (Hint(0, 19, ab=(0, 0)), "y is 19"),
        (Hint(0, 0, 28, ab=(0, 0)), "radius is 28, wider than the image"),
    ],
)
def test_hints_outside_are_refused(hint, words):
    with pytest.raises(UserError, match=words):
        colorize(network(), a_photo(), [hint])


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 4, 4), torch.zeros(2, 1, 4, 4), torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 0, 4)]
)
def test_what_is_no_image_is_refused(image):
    """At the door itself: shape checks, which only tests have, would see some of them before."""
    with pytest.raises(UserError, match=r"image is \[.*; it must be floating-point \[1, 1 or 3, h, w\]"):
        coloring._grey(network(), image)


@pytest.mark.parametrize("reference", [torch.zeros(1, 1, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 0, 4)])
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(UserError, match=r"reference is \[.*; it must be floating-point \[1, 3, h, w\]"):
        coloring._reference(reference, torch.zeros(1, 1, 8, 8))


def test_a_network_of_layouts_is_refused():
    from photogram.recipes.gan_segmentation import BottleneckGenerator

    net = BottleneckGenerator(spec=SceneSpec((SceneClass("sky", (0, 0, 0)),)), widths=(4, 4))
    with pytest.raises(UserError, match="BottleneckGenerator does not colour grey images"):
        colorize(net, a_photo())


# --- suggestions -----------------------------------------------------------------------------------------------------


def test_suggestions_are_five_colours_of_the_pixels_lightness():
    net, photo = loud(network()), a_photo()
    found = suggestions(net, photo, 20, 7)
    assert len(found) == 5 and sum(share for _, share in found) == pytest.approx(1)
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)
    lightness = float(lightness_of(grey_of(photo))[0, 0, 7, 20])
    for rgb, _ in found:
        shown = to_lab(torch.tensor(rgb)[None, :, None, None] / 127.5 - 1)
        assert float(shown[0, 0]) == pytest.approx(lightness, abs=1), "rounded to whole levels"
    assert found == suggestions(net, photo, 20, 7)
    elsewhere = suggestions(net, photo, 3, 15)
    assert elsewhere != found
    assert suggestions(net, photo, 20, 7, [Hint(20, 7, 2, ab=(-60, 60))]) != found


def test_suggestions_are_those_of_the_pixels_place():
    """A side head that says of each column another colour."""
    net = network()
    with torch.no_grad():
        net.to_bins.weight.zero_()
        net.to_bins.bias.zero_()
        net.to_bins.bias[23 * 15 + 11] = 300  # a of 40
    (rgb, share), *_ = suggestions(net, torch.zeros(1, 1, 30, 40), 39, 29)
    assert share > 0.99 and rgb[0] > rgb[1] + 40


@pytest.mark.parametrize(("x", "y", "words"), [(27, 0, "x is 27"), (-1, 0, "x is -1"), (0, 19, "y is 19, .* 0 to 18")])
def test_pixels_outside_are_refused(x, y, words):
    with pytest.raises(UserError, match=f"suggestions: {words}"):
        suggestions(network(), a_photo(), x, y)


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs, and a photograph."""
    folder = tmp_path_factory.mktemp("coloring")
    data = ToyGreys(size=(16, 24), count=6)
    plan = Plan(steps=3, batch_size=2, workers=0, quiet=True, save_every=1000, precision="fp32")
    train(Colorization(width=4, epochs_automatic=0, global_hints=True), data, folder / "hints", plan)
    pix2pix = Pix2Pix(width=4, levels=2, patch=16, discriminator_width=4, predict="ab")
    train(pix2pix, data, folder / "automatic", plan)
    write_image(to_pixels(a_photo())[0].numpy(), folder / "photo.png")
    (folder / "hints.json").write_text(json.dumps([{"x": 5, "y": 6, "radius": 2, "color": "#c81e1e"}]))
    torch.manual_seed(0)
    spec = SceneSpec((SceneClass("a", (0, 0, 0)), SceneClass("b", (1, 1, 1))), (16, 16))
    SegmentationNetwork(spec=spec, width=16).save_pretrained(folder / "segmenter")
    return folder


def colors(folder: Path, *words: str, run: str = "hints", image: str = "photo.png") -> int:
    return main(["colorize", str(folder / run), str(folder / image), *words])


def test_a_photograph_in_colours_from_end_to_end(runs, tmp_path, capsys):
    out = tmp_path / "colored.png"
    assert colors(runs, "--hints", str(runs / "hints.json"), "--out", str(out)) == 0
    assert f"{out}: in colours, by 1 hint" in capsys.readouterr().out
    photo, found = open_photo(runs / "photo.png"), open_photo(out)
    assert found.shape == photo.shape
    torch.testing.assert_close(to_lab(found)[:, :1], to_lab(photo)[:, :1], atol=1, rtol=0)
    net = ColorizationNetwork.from_pretrained(runs / "hints")
    expected = colorize(net, runs / "photo.png", read_hints(runs / "hints.json"))
    assert int((to_pixels(expected).int() - to_pixels(found).int()).abs().max()) <= 1
    first = out.read_bytes()
    assert colors(runs, "--hints", str(runs / "hints.json"), "--out", str(out)) == 0
    assert out.read_bytes() == first


def test_a_reference_a_suggestion_and_no_hints(runs, tmp_path, capsys):
    out = tmp_path / "a.jpg"
    assert colors(runs, "--reference", str(runs / "photo.png"), "--out", str(out), "--suggest", "3", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(line[0] == "#" and len(line.split()[0]) == 7 for line in lines[:5])
    assert sum(float(line.split()[1]) for line in lines[:5]) == pytest.approx(1, abs=0.01)
    assert out.exists() and "by 0 hints" in lines[5]
    assert colors(runs, "--suggest", "3", "4") == 0


def test_an_automatic_run_colours_without_hints(runs, tmp_path):
    out = tmp_path / "a.png"
    assert colors(runs, "--out", str(out), run="automatic") == 0
    photo, found = open_photo(runs / "photo.png"), open_photo(out)
    torch.testing.assert_close(to_lab(found)[:, :1], to_lab(photo)[:, :1], atol=1, rtol=0)


MISTAKES: list[tuple[list[str], dict[str, Any], int, str]] = [
    ([], {}, 1, "--out: name the file"),
    (["--out", "a.gif"], {}, 1, "a.gif: cannot write '.gif'"),
    (["--out", "HERE/photo.png"], {}, 1, "would be written over what it is made of"),
    (["--out", "HERE/none/a.png"], {}, 1, "cannot be written"),
    (["--out", "a.png"], {"run": "none"}, 1, "none: no such folder"),
    (["--out", "a.png"], {"run": "segmenter"}, 1, "holds a SegmentationNetwork, which paints nothing"),
    (["--out", "a.png"], {"image": "none.png"}, 1, "none.png: no such file"),
    (["--out", "a.png"], {"image": "hints.json"}, 1, "is no image that can be read"),
    (["--out", "a.png", "--hints", "HERE/none.json"], {}, 1, "none.json: no such file"),
    (["--out", "a.png", "--hints", "HERE/photo.png"], {}, 1, "cannot be read as JSON"),
    (["--out", "a.png", "--hints", "HERE/far.json"], {}, 1, "hint 1: x is 500, but the image is 19 x 27"),
    (["--out", "a.png", "--hints", "HERE/hints.json"], {"run": "automatic"}, 1, "UNet takes no hints"),
    (["--out", "a.png", "--reference", "HERE/none.png"], {}, 1, "none.png: no such file"),
    (["--suggest", "27", "1"], {}, 1, "suggestions: x is 27"),
    (["--suggest", "27"], {}, 2, "--suggest"),
    (["--out", "a.png", "--hint", "b"], {}, 2, "did you mean '--hints'"),
]


@pytest.mark.parametrize(("words", "where", "status", "said"), MISTAKES)
def test_every_mistake_is_one_line(words, where, status, said, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (runs / "far.json").write_text(json.dumps([{**GOOD, "x": 500}]))
    assert colors(runs, *(word.replace("HERE", str(runs)) for word in words), **where) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("photogram: ") and said in lines[0]
    assert not list(tmp_path.iterdir())
