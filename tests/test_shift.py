"""Shares of classes in two sets of layouts: closed forms, and what is counted in real folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from photogram.cli import main
from photogram.data.shift import shares_of, shift
from photogram.errors import UserError
from photogram.images import write_image


def test_equal_shares_have_none_and_disjoint_ones_a_whole_bit():
    same = {"sky": 0.25, "road": 0.75}
    assert shift(same, same).divergence == 0
    assert shift({"sky": 1.0}, {"road": 1.0}).divergence == 1
    assert shift({"sky": 1.0}, {"sky": 0.5, "road": 0.5}).divergence == pytest.approx(
        0.5 * np.log2(1 / 0.75) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25))
    )


def test_it_is_scipys_distance_squared_and_symmetric():
    noise = np.random.default_rng(0)
    for _ in range(20):
        p, q = (dict(zip("abcdef", noise.dirichlet(np.full(6, 0.4)), strict=True)) for _ in range(2))
        found = shift(p, q)
        assert found.divergence == pytest.approx(jensenshannon(list(p.values()), list(q.values()), base=2) ** 2)
        assert found.divergence == pytest.approx(shift(q, p).divergence)


def test_void_may_have_two_names():
    ours, theirs = {"road": 0.6, "car": 0.2, "unlabelled": 0.2}, {"road": 0.6, "car": 0.2, "void": 0.2}
    found = shift(ours, theirs, ("unlabelled", "void"))
    assert found.divergence == 0 and found.void == (0.2, 0.2) and set(found.shares) == {"road", "car"}


def test_void_is_left_out_and_told():
    found = shift({"sky": 0.2, "void": 0.8}, {"sky": 1.0}, ("void", "void"))
    assert found.divergence == 0 and found.shares == {"sky": (1.0, 1.0)} and found.void == (0.8, 0.0)
    with pytest.raises(UserError, match="these layouts have no pixel of any class but void"):
        shift({"void": 1.0}, {"sky": 1.0}, ("void", None))


def folder(where: Path, maps: list[np.ndarray]) -> Path:
    (where / "train" / "layouts").mkdir(parents=True)
    for n, classes in enumerate(maps):
        write_image(classes.astype(np.uint8), where / "train" / "layouts" / f"{n}.png")
    names = ["sky", "road", "unlabelled"]
    entries = [
        {"id": n, "name": name, "color": [90 * n, 10, 10], "void": name == "unlabelled"} for n, name in enumerate(names)
    ]
    (where / "classes.json").write_text(json.dumps(entries))
    return where


def test_shares_are_counted_over_all_pixels_of_all_layouts(tmp_path: Path):
    data = folder(tmp_path / "data", [np.zeros((4, 6)), np.full((2, 6), 1), np.full((2, 6), 2)])
    assert shares_of(data, quiet=True) == ({"sky": 0.5, "road": 0.25, "unlabelled": 0.25}, "unlabelled")


def test_the_preparer_tells_the_shift_against_a_training_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = folder(tmp_path / "data", [np.array([[0, 0], [1, 1]])])
    game = tmp_path / "game"
    game.mkdir()
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :, 1:] = 10
    pixels[:4, :, 0] = 90  # a quarter is road, the rest is sky
    pixels[15, 15] = (1, 200, 3)  # a stray colour
    write_image(pixels, game / "frame.png")
    command = ["prepare", "palette", str(game), "--out", str(tmp_path / "out"), "--against", str(data)]
    assert main([*command, "--classes", str(data / "classes.json")]) == 0
    said = capsys.readouterr()
    assert "shares of classes against" in said.out and "Jensen-Shannon divergence 0.0" in said.out
    lines = {
        line.split()[0]: line.split()[1:] for line in said.out.splitlines() if line.strip().startswith(("sky", "road"))
    }
    assert (
        float(lines["road"][0].rstrip("%")) == pytest.approx(100 * 64 / 255, abs=0.01) and lines["road"][2] == "50.00%"
    )
    assert "1 unknown colours on 1 pixels" in said.err
