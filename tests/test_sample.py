"""`photogram sample`: photographs by number, the folder that they are in, sheets and morphs, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from photogram import sampling
from photogram.cli import main
from photogram.errors import UserError
from photogram.images import read_photo
from photogram.interrupts import Interrupted
from photogram.metrics.pictures import Pictures
from photogram.rasters import read_raster
from photogram.recipes.gan import DCGANGenerator, DCGANOptions
from photogram.recipes.gan_segmentation import BottleneckGenerator
from photogram.recipes.segmenter import SegmentationNetwork
from photogram.sampling import sample
from photogram.scene import SceneClass, SceneSpec, to_levels, to_pixels

SPEC = SceneSpec((), (8, 12))
CLASSES = (SceneClass("sky", (0, 0, 200)), SceneClass("road", (90, 90, 90)))


def network(seed: int = 0) -> DCGANGenerator:
    torch.manual_seed(seed)
    made = DCGANGenerator(spec=SPEC, z_size=5, width=4, levels=2)
    for weight in made.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, 0, 0.2)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    network().save_pretrained(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def errors() -> str:
        """The one line that a mistake ends with."""
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("photogram: ")]
        assert len(lines) == 1, lines
        return lines[0]

    return errors


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if not p.name.startswith(".")}


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_paints_by_number_and_goes_on(run, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["sample", str(run), "--out", str(out), "--precision", "fp32"]
    assert main([*command, "--count", "3", "--seed", "7"]) == 0
    assert "3 painted, 0 were there" in capsys.readouterr().out
    assert set(files(out)) == {"000007.png", "000008.png", "000009.png", "synthesis.json"}
    generator = network()
    for seed in (7, 8, 9):
        expected = to_pixels(generator.eval().sample(None, seed)[0]).numpy()
        assert np.abs(read_photo(out / f"{seed:06}.png").astype(int) - expected).max() <= 1
    before = files(out)
    (out / "000008.png").unlink()
    assert main([*command, "--count", "5", "--seed", "6", "--sheet", "--morph", "4"]) == 0
    assert "3 painted, 2 were there" in capsys.readouterr().out
    after = files(out)
    assert before.items() <= after.items(), "a photograph is that of its number, whatever was asked for beside it"
    assert set(after) - set(before) == {"000006.png", "000010.png", "sheet.png", "morph.png"}
    assert len({after[f"{n:06}.png"] for n in range(6, 11)}) == 5
    assert Pictures(out).names == [f"{n:06}" for n in range(6, 11)], "sheets are not judged"


def test_the_networks_options_are_flags(run, tmp_path):
    for name, more in (("free", []), ("held", ["--truncation", "0.3"])):
        assert main(["sample", str(run), "--out", str(tmp_path / name), "--count", "2", *more]) == 0
    free, held = files(tmp_path / "free"), files(tmp_path / "held")
    assert free["000000.png"] != held["000000.png"]
    assert json.loads(held["synthesis.json"])["options"] == {"truncation": 0.3}


def test_protocols_do_not_judge_it_and_say_so_before_anything_is_read(run, tmp_path, said):
    own = tmp_path / "own.json"
    own.write_text('{"name": "own", "about": "x", "split": "val", "size": [16, 16]}')
    words = ["evaluate", str(run), "--protocol", str(own), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "paints from seeds, and protocols judge paintings of scenes" in said()
    assert not (tmp_path / "out").exists()


def test_a_network_that_needs_to_be_told_is_refused(tmp_path, said):
    BottleneckGenerator(spec=SceneSpec(CLASSES, (8, 8)), widths=(4, 4)).save_pretrained(tmp_path / "painter")
    assert main(["sample", str(tmp_path / "painter"), "--out", str(tmp_path / "o")]) == 1
    assert "holds a BottleneckGenerator, which needs to be told what to paint; `photogram synthesize" in said()
    SegmentationNetwork(spec=SceneSpec(CLASSES, (16, 16)), width=16).save_pretrained(tmp_path / "reader")
    assert main(["sample", str(tmp_path / "reader"), "--out", str(tmp_path / "o")]) == 1
    assert "holds a SegmentationNetwork, which paints nothing" in said()
    assert main(["sample", str(tmp_path / "nothing"), "--out", str(tmp_path / "o")]) == 1
    assert "no such folder" in said()
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("layouts", [["layouts"], []])
def test_synthesize_names_the_verb_that_can(run, tmp_path, said, layouts):
    assert main(["synthesize", str(run), *layouts, "--out", str(tmp_path / "o")]) == 1
    assert f"paints from seeds and not from layouts; `photogram sample {run} --out DIR` does that" in said()


def test_synthesis_from_python_names_it_too(tmp_path):
    from photogram.synthesis import synthesize

    with pytest.raises(UserError, match="DCGANGenerator: paints from seeds, not from layouts; `photogram sample"):
        synthesize(network(), [], tmp_path / "o")


# --- the folder ------------------------------------------------------------------------------------------------------


def test_another_network_precision_or_option_is_refused_until_overwritten(tmp_path):
    out = tmp_path / "out"
    sample(network(), out, count=2, morph=3, precision="fp32", quiet=True)
    before = files(out)
    others: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "another network"),
        ({"options": DCGANOptions(truncation=1.0)}, "options ="),
        ({"format": "jpg"}, "format ="),
    )
    for changes, word in others:
        generator = network(0 if changes else 1)
        with pytest.raises(UserError, match=f"was begun with {word}.*or --overwrite"):
            sample(generator, out, count=2, precision="fp32", quiet=True, **changes)
    assert files(out) == before
    with pytest.raises(UserError, match=r"000001\.png: would stay among paintings that are made otherwise"):
        sample(network(1), out, count=1, precision="fp32", overwrite=True, quiet=True)
    done = sample(network(1), out, count=2, precision="fp32", overwrite=True, quiet=True)
    assert (done.painted, done.skipped) == (2, 0)
    assert files(out)["000000.png"] != before["000000.png"] and "morph.png" not in files(out), "of the old network"


@pytest.mark.parametrize(("format", "bits", "decided"), [("png", 16, "fp32"), ("jpg", 16, "bf16"), ("png", 8, "bf16")])
def test_auto_precision_keeps_the_bits_of_the_files(tmp_path, monkeypatch, format, bits, decided):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    spec = SceneSpec((), (8, 12), photo_bits=bits)
    generator = DCGANGenerator(spec=spec, z_size=5, width=4, levels=2)
    sample(generator, tmp_path / "out", count=1, format=format, quiet=True)
    assert json.loads((tmp_path / "out" / "synthesis.json").read_text())["precision"] == decided


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty \(thesis.txt is there\)"):
        sample(network(), tmp_path, count=1, quiet=True)


def test_stopped_it_keeps_what_is_finished_and_goes_on(tmp_path, monkeypatch):
    import os
    import signal

    generator, out = network(), tmp_path / "out"
    write = sampling.write_raster

    def stopping(pixels: np.ndarray, path: Path) -> None:
        write(pixels, path)
        if path.name == "000001.png":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sampling, "write_raster", stopping)
    with pytest.raises(Interrupted, match="stopped after 2 photographs; the same command goes on"):
        sample(generator, out, count=4, quiet=True)
    monkeypatch.setattr(sampling, "write_raster", write)
    done = sample(generator, out, count=4, quiet=True)
    assert (done.painted, done.skipped) == (2, 2)
    whole = sample(network(), tmp_path / "through", count=4, quiet=True)
    assert whole.painted == 4 and files(out) == files(tmp_path / "through")


def test_weights_that_are_no_numbers_paint_nothing(tmp_path):
    generator = network()
    torch.nn.init.constant_(generator.start.weight, torch.inf)
    with pytest.raises(UserError, match=r"000000\.png: the photograph holds values that are not finite"):
        sample(generator, tmp_path / "out", count=1, quiet=True)
    assert not (tmp_path / "out" / "000000.png").exists()


@pytest.mark.parametrize(
    ("channels", "bits", "suffix"), [(1, 8, "png"), (1, 16, "png"), (3, 16, "tif"), (5, 8, "tif"), (2, 32, "tif")]
)
def test_photographs_have_the_channels_and_bits_of_those_that_were_learned(channels, bits, suffix, tmp_path):
    spec = SceneSpec((), (8, 12), photo_channels=channels, photo_bits=bits)
    generator = DCGANGenerator(spec=spec, z_size=5, width=4, levels=2)
    done = sample(generator, tmp_path, count=2, sheet=True, morph=2, precision="fp32", quiet=True)
    found = read_raster(tmp_path / f"000001.{suffix}")
    assert np.array_equal(found, to_levels(generator.sample(seed=1)[0], bits))
    assert done.sheet is not None and done.morph is not None and read_photo(done.sheet).shape[2] == 3


def test_formats_that_cannot_hold_them_are_refused(tmp_path):
    spec = SceneSpec((), (8, 12), photo_channels=5)
    with pytest.raises(UserError, match="--format png: cannot hold 5 channels of 8 bits, which is painted here; use"):
        sample(DCGANGenerator(spec=spec, z_size=5, width=4, levels=2), tmp_path / "a", count=1, format="png")
    deep = DCGANGenerator(spec=SceneSpec((), (8, 12), photo_bits=16), z_size=5, width=4, levels=2)
    sample(deep, tmp_path / "b", count=1, format="webp", quiet=True)
    assert read_photo(tmp_path / "b" / "000000.webp").shape == (8, 12, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 0}, "--count 0: must be 1 or more"),
        ({"seed": -1}, "--seed -1: must be 0 or more"),
        ({"seed": (1 << 63) - 1}, "the last below 2.63"),
        ({"morph": 1}, "--morph 1: must be 2 to 64"),
        ({"morph": 65}, "--morph 65"),
        ({"options": DCGANOptions(truncation=-1.0)}, "--truncation -1.0"),
    ],
)
def test_values_that_cannot_be_are_refused(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        sample(network(), tmp_path / "out", **{"count": 1, "quiet": True, **changes})
    assert not (tmp_path / "out").exists()


# --- sheets ----------------------------------------------------------------------------------------------------------


def test_the_sheet_has_the_photographs_in_order(tmp_path):
    out = tmp_path / "out"
    sample(network(), out, count=4, seed=3, sheet=True, quiet=True)
    page = read_photo(out / "sheet.png")
    for n, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):  # 18 pixels for a number, 6 between
        y, x = row * (8 + 18) + 18, 6 + column * (12 + 6)
        assert np.array_equal(page[y : y + 8, x : x + 12], read_photo(out / f"{3 + n:06}.png"))


def test_a_morph_begins_and_ends_with_photographs_and_moves_between(tmp_path):
    """A row from each seed to the next: its last photograph is the first of the next row."""
    out, steps = tmp_path / "out", 5
    sample(network(), out, count=2, seed=3, morph=steps, quiet=True, precision="fp32")
    page = read_photo(out / "morph.png").astype(int)
    top, height = 24, 8 + 18 + 6
    rows = [
        [page[top + r * height : top + r * height + 8, 6 + c * 18 : 18 + c * 18] for c in range(steps)]
        for r in range(2)
    ]
    first, second = (read_photo(out / f"{n:06}.png").astype(int) for n in (3, 4))
    for tile, photo in ((rows[0][0], first), (rows[0][-1], second), (rows[1][0], second)):
        assert np.abs(tile - photo).max() <= 1
    for row in rows:
        far = np.abs(row[0] - row[-1]).mean()
        moves = [np.abs(a - b).mean() for a, b in pairwise(row)]
        assert far > 5 and all(0 < move < 0.8 * far for move in moves), "no step is the whole way"
