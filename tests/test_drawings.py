"""Folders of drawings: `prepare edges` and `prepare sketches` from end to end on written files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_edges import scene, sketch
from test_lines import grounds, slow_parts

from photogram.cli import main
from photogram.data.drawings import MANIFEST, detector, line_style, prepare_edges, prepare_sketches
from photogram.data.edges import VERSION, Canny, XDoG, edges, normalise_sketch
from photogram.errors import UserError
from photogram.images import (
    image_size,
    read_drawing,
    read_labels,
    read_photo,
    resize_labels,
    resize_photo,
    write_labels,
)
from photogram.rasters import as_rgb, read_raster, resize_raster, write_raster
from photogram.scene import SceneClass, read_classes, write_classes

STEMS = (("train", "a"), ("train", "b"), ("val", "c"))


def data_folder(root: Path, *, layouts: bool = True, size: tuple[int, int] = (48, 64)) -> Path:
    for n, (split, stem) in enumerate(STEMS):
        for part in ("photos", *(("layouts", "instances") if layouts else ())):
            (root / split / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(n, size)).save(root / split / f"photos/{stem}.{'jpg' if n else 'PNG'}")
        if layouts:
            layout = np.random.default_rng(n).integers(0, 2, size, dtype=np.uint8)
            Image.fromarray(layout).save(root / split / f"layouts/{stem}.png")
            Image.fromarray(layout.astype(np.uint16) * 400).save(root / split / f"instances/{stem}.png")
    if layouts:
        write_classes((SceneClass("sky", (1, 2, 3)), SceneClass("road", (4, 5, 6))), root / "classes.json")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def photo_of(root: Path, split: str, stem: str) -> Path:
    return next((root / split / "photos").glob(f"{stem}.*"))


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("photogram: ")
    return said


# --- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layouts", [True, False])
@pytest.mark.parametrize("size", [None, (32, 40)])
def test_edges_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layouts: bool, size: tuple[int, int] | None
) -> None:
    source, out = data_folder(tmp_path / "data", layouts=layouts), tmp_path / "out"
    before = contents(source)
    flags = ["--size", "32", "40"] if size else []
    command = ["prepare", "edges", str(source), "--out", str(out), "--sigma", "1", *flags]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"train 2 drawings, val 1 drawings, {3 if layouts else 0} with a layout; 0 were there already" in said
    assert f"next: photogram check {out}" in said
    assert contents(source) == before
    for split, stem in STEMS:
        photo = read_photo(photo_of(source, split, stem))
        seen = photo if size is None else resize_photo(photo, size)
        lines = out / split / "inputs" / f"{stem}.png"
        with Image.open(lines) as image:
            assert (image.mode, image.format) == ("L", "PNG")
        assert np.array_equal(read_labels(lines), edges(seen, Canny(sigma=1.0)))
        kept = photo_of(out, split, stem)
        if size is None:
            assert kept.read_bytes() == photo_of(source, split, stem).read_bytes() and kept.stat().st_nlink == 1
        else:
            assert kept.suffix == ".png"
        assert np.array_equal(read_photo(kept), seen)
        for part in ("layouts", "instances") if layouts else ():
            whole = read_labels(source / split / part / f"{stem}.png")
            found = read_labels(out / split / part / f"{stem}.png")
            assert np.array_equal(found, whole if size is None else resize_labels(whole, size))
    assert (out / "classes.json").exists() == layouts
    assert not layouts or read_classes(out / "classes.json") == read_classes(source / "classes.json")
    assert json.loads((out / MANIFEST).read_text()) == {
        "extractor": "canny",
        "version": VERSION,
        "settings": {"sigma": 1.0, "low": 0.015, "high": 0.04, "smallest": 5, "width": 1},
        "size": None if size is None else list(size),
        "lines": "black (0) on white (255)",
    }


def test_edges_go_on_where_they_stopped(tmp_path: Path) -> None:
    source, out = data_folder(tmp_path / "data"), tmp_path / "out"
    made = prepare_edges(source, out=out, detector=XDoG(), quiet=True)
    assert (len(made.shares), made.skipped, made.layouts, made.counts) == (3, 0, 3, {"train": 2, "val": 1})
    whole = contents(out)
    assert json.loads(whole[MANIFEST])["extractor"] == "xdog"
    (out / "train/inputs/b.png").unlink()
    (out / MANIFEST).unlink()
    (out / "train/inputs/.b.png.999999999.partial").write_bytes(b"half")
    again = prepare_edges(source, out=out, detector=XDoG(), quiet=True)
    assert (len(again.shares), again.skipped) == (1, 2) and contents(out) == whole
    newer = (out / "val/inputs/c.png").stat().st_mtime + 10
    os.utime(photo_of(source, "val", "c"), (newer, newer))
    assert prepare_edges(source, out=out, detector=XDoG(), quiet=True).skipped == 2
    for change, message in (
        ({"detector": Canny()}, "was prepared with extractor 'xdog', now 'canny'"),
        ({"detector": XDoG(tau=0.9)}, "was prepared with tau 0.97, now 0.9"),
        ({"detector": XDoG(), "size": (24, 32)}, r"was prepared with size None, now \[24, 32\]"),
        ({"detector": XDoG(), "width": 2}, "was prepared with width 1, now 2"),
    ):
        with pytest.raises(UserError, match=message):
            prepare_edges(source, out=out, quiet=True, **change)
    write_classes((SceneClass("sky", (9, 9, 9)), SceneClass("road", (4, 5, 6))), out / "classes.json")
    with pytest.raises(UserError, match="was changed since it was prepared"):
        prepare_edges(source, out=out, detector=XDoG(), quiet=True)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "data")
    Image.new("L", (64, 48)).save(source / "train/layouts/alone.png")
    Image.new("RGB", (64, 48)).save(source / "train/photos/lonely.jpg")
    (source / "val/photos/notes.txt").write_text("not a photograph")
    Image.new("RGB", (64, 48)).save(photo_of(source, "val", "c"))
    (tmp_path / "out/train/inputs").mkdir(parents=True)
    made = prepare_edges(source, out=tmp_path / "out2", quiet=True)
    assert made.counts == {"train": 2, "val": 1} and not (tmp_path / "out2/train/photos/lonely.jpg").exists()
    for part in (
        "alone.png: left out (1 layouts without a photograph)",
        "lonely.jpg: left out (1 photographs without a layout)",
        "notes.txt: left out (1 files of unknown types)",
        "c.jpg: no lines were found in it (1 such files)",
    ):
        assert any(part in warning for warning in made.warnings), part
    with pytest.raises(UserError, match="is not empty and was not made by"):
        prepare_edges(source, out=tmp_path / "out", quiet=True)
    (source / "train/photos/b.jpg").unlink()
    again = prepare_edges(source, out=tmp_path / "out2", quiet=True)
    assert any("is not from this source (4 such files)" in warning for warning in again.warnings)


@pytest.mark.parametrize(
    ("flags", "message", "status"),
    [
        (["--detector", "canny", "--tau", "0.9"], "--tau 0.9: is no setting of canny, which has sigma, low, high", 1),
        (["--detector", "xdog", "--low", "0.1"], "--low 0.1: is no setting of xdog, which has sigma, tau, epsilon", 1),
        (["--detector", "hed"], "detector", 2),
        (["--sigma", "0"], "--sigma 0.0: must be more than 0", 1),
        (["--sigma", "nan"], "--sigma nan", 1),
        (["--low", "0.5"], "--low 0.5: must not be more than --high, which is 0.04", 1),
        (["--size", "0", "10"], "--size 0 10: must be a height and a width of 1..16384", 1),
        (["--size", "10", "99999"], "--size 10 99999", 1),
        (["--smallest", "-1"], "--smallest -1", 1),
        (["--width", "3"], "width", 2),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str, status: int
) -> None:
    source = data_folder(tmp_path / "data")
    assert main(["prepare", "edges", str(source), "--out", str(tmp_path / "out"), *flags]) == status
    assert message in complaint(capsys)
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_drawn(tmp_path: Path) -> None:
    def refused(source: Path, message: str, **options: object) -> None:
        with pytest.raises(UserError, match=message):
            prepare_edges(source, **{"out": tmp_path / "out", "quiet": True, **options})  # pyright: ignore[reportArgumentType]

    refused(tmp_path / "none", "none: no such folder; give a data folder")
    (tmp_path / "bare/train/photos").mkdir(parents=True)
    refused(tmp_path / "bare", "no photographs in train/photos, val/photos or the like; nothing to draw")
    source = data_folder(tmp_path / "data")
    refused(source, "overlaps the source", out=source / "lines")
    refused(source, "overlaps the source", out=source)
    (tmp_path / "file").write_text("")
    refused(source, "is a file; --out names a folder", out=tmp_path / "file")
    for layouts in (True, False):
        twins = data_folder(tmp_path / f"twins{layouts}", layouts=layouts)
        Image.new("RGB", (64, 48)).save(twins / "train/photos/b.png")
        refused(twins, "b.png: has the same stem as b.jpg; which one is meant")
    small = data_folder(tmp_path / "small")
    Image.new("RGB", (64, 40)).save(small / "train/photos/b.jpg")
    refused(small, r"b.jpg: is 40 x 64, but its layout .* is 48 x 64")
    wrong = data_folder(tmp_path / "wrong")
    Image.new("L", (64, 48), 7).save(wrong / "val/layouts/c.png")
    refused(wrong, r"c.png: class 7 at \(row 0, column 0\), but classes.json lists 0..1", out=tmp_path / "out2")
    assert not (tmp_path / "out2" / MANIFEST).exists() and not (tmp_path / "out2/classes.json").exists()
    cut = data_folder(tmp_path / "cut", layouts=False)
    whole = photo_of(cut, "val", "c").read_bytes()
    photo_of(cut, "val", "c").write_bytes(whole[: len(whole) // 2])
    refused(cut, r"c.jpg: cannot be decoded", out=tmp_path / "out3")
    photo_of(cut, "val", "c").write_bytes(b"")
    refused(cut, r"c.jpg: is empty", out=tmp_path / "out3")


def test_tiny_photographs(tmp_path: Path) -> None:
    for size in ((1, 1), (1, 7), (3, 2)):
        source = data_folder(tmp_path / f"{size[0]}x{size[1]}", size=size)
        prepare_edges(source, out=tmp_path / f"out{size[0]}x{size[1]}", quiet=True)
        assert image_size(tmp_path / f"out{size[0]}x{size[1]}/train/inputs/a.png") == size


def test_detectors_by_name() -> None:
    assert detector("canny", {}) == Canny() and detector("xdog", {"tau": 0.9}) == XDoG(tau=0.9)
    with pytest.raises(UserError, match="--detector hed: must be one of canny, xdog"):
        detector("hed", {})


@pytest.mark.parametrize("suffix", (".png", ".tif"))
def test_photographs_of_16_bits_keep_them_where_they_are_resized(tmp_path: Path, suffix: str) -> None:
    photo = scene(3, (48, 64)).astype(np.uint16) * 257 + np.uint16(77)
    photo[photo < 77] = 65535  # where it was white
    for split in ("train", "val"):
        (tmp_path / "in" / split / "photos").mkdir(parents=True)
        write_raster(photo, tmp_path / f"in/{split}/photos/a{suffix}")
    prepare_edges(tmp_path / "in", out=tmp_path / "out", size=(32, 40), quiet=True)
    resized = resize_raster(photo, (32, 40))
    np.testing.assert_array_equal(read_raster(tmp_path / "out/train/photos/a.png"), resized)
    lines = edges(as_rgb(resized), Canny())
    np.testing.assert_array_equal(read_photo(tmp_path / "out/val/inputs/a.png")[..., 0], lines)
    assert 0 < (lines == 0).mean() < 0.5


# --- sketches --------------------------------------------------------------------------------------------------------


def drawings(folder: Path) -> Path:
    folder.mkdir()
    Image.fromarray(sketch()).save(folder / "house.jpg", quality=90)
    Image.fromarray(255 - sketch(2)).save(folder / "night.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "deeper").mkdir()
    return folder


def test_sketches_become_the_style_of_a_data_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data-edges"
    prepare_edges(data_folder(tmp_path / "data"), out=data, size=(64, 80), width=2, quiet=True)
    source, out = drawings(tmp_path / "drawings"), tmp_path / "out"
    command = ["prepare", "sketches", str(source), "--out", str(out), "--like", str(data)]
    assert main(command) == 0
    assert f"{out}: 2 drawings; 0 were there already" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["house.png", "night.png", "prepare.json"]
    for stem, suffix in (("house", "jpg"), ("night", "png")):
        lines = read_labels(out / f"{stem}.png")
        expected = normalise_sketch(read_drawing(source / f"{stem}.{suffix}"), size=(64, 80), width=2)
        assert np.array_equal(lines, expected) and lines.shape == (64, 80)
        assert grounds(lines == 0) == 3 and len(slow_parts(lines == 0)) == 1
    before = contents(out)
    (out / "house.png").unlink()
    assert main(command) == 0
    assert "1 were there already" in capsys.readouterr().out and contents(out) == before
    assert main([*command, "--gap", "3"]) == 1
    assert "was prepared with gap 6, now 3.0" in complaint(capsys).replace("6.0", "6")


def test_transparent_paper_is_white(tmp_path: Path) -> None:
    ink = np.asarray(sketch()) < 128
    for mode, colour in (("dark", 0), ("light", 255)):
        pixels = np.zeros((*ink.shape, 4), np.uint8)
        pixels[ink] = (colour, colour, colour, 255)
        Image.fromarray(pixels).save(tmp_path / f"{mode}.png")
        lines = normalise_sketch(read_drawing(tmp_path / f"{mode}.png"))
        assert np.array_equal(lines, normalise_sketch(np.where(ink, 0, 255).astype(np.uint8)))
    whole = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8))
    whole.convert("1").save(tmp_path / "bits.png")
    assert np.array_equal(read_drawing(tmp_path / "bits.png"), np.asarray(whole))
    Image.new("RGBA", (5, 4)).save(tmp_path / "nothing.png")
    assert (normalise_sketch(read_drawing(tmp_path / "nothing.png")) == 255).all()


def test_sketches_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = drawings(tmp_path / "drawings"), tmp_path / "out"
    data = data_folder(tmp_path / "data")
    prepare_edges(data, out=tmp_path / "own", quiet=True)

    def refused(*words: str, source: Path = source, out: Path = out) -> str:
        assert main(["prepare", "sketches", str(source), "--out", str(out), *words]) == 1
        return complaint(capsys)

    assert "no such folder; give one that holds drawings" in refused(source=tmp_path / "none")
    assert "house.jpg: is a file; give the folder that holds drawings" in refused(source=source / "house.jpg")
    assert "holds no drawings (.jpg" in refused(source=source / "deeper")
    assert "overlaps the source" in refused(out=source / "out")
    assert "--gap -1.0: must be 0..100 pixels" in refused("--gap", "-1")
    assert "--gap nan" in refused("--gap", "nan")
    assert "--size 0 9" in refused("--size", "0", "9")
    assert "edges.json: no such file; give a data folder that `photogram prepare edges` made" in refused(
        "--like", str(data)
    )
    assert "lines were drawn at each photograph's own size; give --size" in refused("--like", str(tmp_path / "own"))
    assert "leave out --size and --width" in refused("--like", str(tmp_path / "own"), "--size", "9", "9")
    assert not out.exists()
    (source / "house.png").write_bytes(b"")
    assert "house.png: has the same stem as house.jpg" in refused()
    (source / "house.jpg").unlink()
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (60, 60, 4), dtype=np.uint8)).save(source / "cut.png")
    (source / "cut.png").write_bytes((source / "cut.png").read_bytes()[:5000])
    assert main(["prepare", "sketches", str(source), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert f"{out}: 1 drawings, 2 failed; 0 were there already" in said.out
    assert f"photogram: {source}/cut.png: cannot be decoded, damaged or cut short" in said.err
    assert f"photogram: {source}/house.png: is empty" in said.err
    assert {path.name for path in out.glob("*.png")} == {"night.png"}, "bad ones do not stop the others"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"size": [1, 2]}', '{"settings": {"width": 1}, "size": [1]}', '{"settings": {"width": true}}']
    + [f'{{"settings": {{"width": {width}}}, "size": {size}}}' for width, size in ((3, "[8, 8]"), (1, "[0, 8]"))],
)
def test_manifests_that_cannot_be(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError):
        line_style(tmp_path)


def test_a_sketch_without_ink_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (60, 40), 240).save(tmp_path / "in/empty.png")
    (tmp_path / "in/list.txt").write_text("")
    made = prepare_sketches(tmp_path / "in", out=tmp_path / "out", quiet=True)
    assert made.shares == (0.0,) and (read_labels(tmp_path / "out/empty.png") == 255).all()
    assert any("empty.png: no lines were found in it" in warning for warning in made.warnings)
    assert any("list.txt: left out" in warning for warning in made.warnings)


def test_instance_maps_of_32_bits_are_kept(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "plain")
    numbers = np.full((48, 64), 2**31 - 1)
    numbers[:9] = 33005
    (source / "train/instances/a.png").unlink()
    write_labels(numbers, source / "train/instances/a.tif")
    for size in (None, (24, 32)):
        out = tmp_path / f"out-{size is None}"
        prepare_edges(source, out=out, detector=Canny(), size=size, quiet=True)
        expected = numbers if size is None else resize_labels(numbers, size)
        assert np.array_equal(read_labels(out / "train/instances/a.tif"), expected)
        assert not (out / "train/instances/a.png").exists()
