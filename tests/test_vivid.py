"""Vivid targets: acceptance check 13 of the specification of CRN (the values of its section 5.4), and the preparer."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import photogram.data.vivid as module
from photogram.data.coarsen import prepare_coarsen
from photogram.data.folder import Folder
from photogram.data.vivid import lab_to_srgb, prepare_vivid, s_curve, srgb_to_lab, tone, vivid, wls_smooth
from photogram.errors import UserError
from photogram.images import read_labels, read_photo, resize_labels, resize_photo
from photogram.scene import SceneClass, write_classes

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
CAMVID = SHARED / "data/camvid"

needs_camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason=f"CamVid is not in {CAMVID}")


def doubles(values: object) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def noise(seed: int, *size: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(size))


def to_bytes(photo: torch.Tensor) -> np.ndarray:
    return (photo * 255 + 0.5).floor().numpy().astype(np.uint8)


def dense_wls(image: torch.Tensor, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """The slow twin of `wls_smooth`: the whole matrix, pair by pair, and what LAPACK makes of it."""
    h, w = image.shape
    matrix = np.eye(h * w)
    for y, x in itertools.product(range(h), range(w)):
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < h and u < w:
                logs = [float(np.log(float(image[p]) + 2.22e-16)) for p in ((y, x), (v, u))]
                weight = strength / (abs(logs[0] - logs[1]) ** 1.2 + 1e-4)
                p, q = y * w + x, v * w + u
                matrix[[p, q], [p, q]] += weight
                matrix[[p, q], [q, p]] -= weight
    return matrix, np.linalg.solve(matrix, image.numpy().ravel()).reshape(h, w)


# Section 5.4


def test_s_curve_has_the_values_of_the_specification() -> None:
    steepness = (1, 4, 15, 25, 40)
    for a, value, slope in zip(
        steepness,
        (0.101990, 0.129580, 0.317926, 0.424145, 0.482014),
        (1.0208, 1.3130, 3.7542, 6.2501, 10.0000),
        strict=True,
    ):
        x = doubles([0.1, -0.1, 0.5, 1e-7])
        found = s_curve(x, a).tolist()
        assert found[:3] == pytest.approx([value, -value, 0.5], abs=5e-7)
        assert found[3] / 1e-7 == pytest.approx(slope, abs=1e-4)  # 1.02075 for a = 1, which it rounds up
        spelled = (1 / (1 + torch.exp(-a * x)) - 0.5) * 0.5 / (1 / (1 + np.exp(-a / 2)) - 0.5)
        assert torch.allclose(s_curve(x, a), spelled, atol=1e-12)


@pytest.mark.parametrize(
    ("image", "strength", "smooth"),
    [
        ([[20, 60]], 0.125, [[23.650775, 56.349225]]),
        ([[20, 60]], 0.5, [[29.435866, 50.564134]]),
        ([[20, 60], [80, 50]], 0.5, [[36.805444, 54.891605], [62.640512, 55.662429]]),
    ],
)
def test_wls_has_the_values_of_the_specification(image: list, strength: float, smooth: list) -> None:
    _, solution = dense_wls(doubles(image), strength)
    assert solution == pytest.approx(np.array(smooth), abs=1.1e-5)  # the last of the four is misprinted by 1e-5:
    assert solution.sum() == pytest.approx(np.sum(image))  # only so is the mean kept
    assert wls_smooth(doubles(image), strength).numpy() == pytest.approx(np.array(smooth), abs=1e-4)  # residual 1e-6


def test_wls_is_what_a_dense_solver_finds() -> None:
    image = 100 * noise(0, 9, 13) ** 3
    image[2:5, 3:9] = 40.0  # flat, where weights are largest
    image[7, :4] = 0.0  # black, where the logarithm needs its summand
    for strength in (0.125, 0.5):
        matrix, dense = dense_wls(image, strength)
        assert matrix.sum(axis=1) == pytest.approx(1.0)  # so that the mean is kept
        found = wls_smooth(image, strength).numpy()
        wanted = image.numpy().ravel()
        assert np.linalg.norm(matrix @ found.ravel() - wanted) < 1.001e-6 * np.linalg.norm(wanted)
        assert found == pytest.approx(dense, abs=2e-3)
        again = wls_smooth(image, strength, start=torch.from_numpy(dense)).numpy()
        assert again == pytest.approx(dense, abs=1e-9)


@pytest.mark.parametrize("strength", [0.125, 0.5])
def test_wls_keeps_means_and_constants(strength: float) -> None:
    image = 100 * noise(1, 24, 31)
    assert float(wls_smooth(image, strength).mean()) == pytest.approx(float(image.mean()), abs=1e-4)
    for value in (0.0, 1e-6, 37.5, 100.0):
        constant = torch.full((6, 5), value, dtype=torch.float64)
        assert torch.allclose(wls_smooth(constant, strength), constant, atol=1e-9)


def test_wls_smooths_within_edges_and_not_across() -> None:
    image = torch.cat([torch.full((16, 16), 20.0), torch.full((16, 16), 70.0)], dim=1).double()
    rough = image + noise(2, 16, 32) - 0.5
    smooth = wls_smooth(rough, 0.5)
    for half in (slice(0, 14), slice(18, 32)):
        rough_steps, smooth_steps = (float(a[:, half].diff(dim=1).abs().mean()) for a in (rough, smooth))
        assert smooth_steps < 0.3 * rough_steps
    assert float(smooth[:, 18:].mean() - smooth[:, :14].mean()) > 40


def test_a_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_STEPS", 3)
    with pytest.raises(RuntimeError, match="did not converge in 3 steps"):
        wls_smooth(100 * noise(3, 20, 20), 0.5)


def test_uniform_greys_become_the_bytes_of_the_specification() -> None:
    for grey, byte in ((0.1, 36), (0.25, 74), (0.5, 180), (0.75, 223), (0.9, 243)):
        found = to_bytes(vivid(torch.full((4, 5, 3), grey, dtype=torch.float64)))
        assert (found == byte).all(), (grey, found[0, 0])


def test_tone_bends_each_layer_by_its_own_rule() -> None:
    lightness, fine, coarse = (doubles([[v]]) for v in (58.0, 54.0, 50.0))

    def at(v0: float, v1: float, v2: float, exposure: float = 1.0) -> float:
        return float(tone(lightness, fine, coarse, v0, v1, v2, exposure))

    def s(x: float, a: float) -> float:
        return float(s_curve(doubles(x), a))

    assert at(0, 0, 0) == pytest.approx(58)  # the layers add up to L
    assert at(-1, -1, 0) == pytest.approx(50) and at(-0.5, 0, 0) == pytest.approx(56)
    assert at(0, 0, -1) == pytest.approx(56 + 8)
    assert at(0, 0, 0, 1.1) == pytest.approx(58 + 5)
    assert at(25, 0, 0) == pytest.approx(54 + 100 * s(0.04, 25))
    assert at(0, 40, 0) == pytest.approx(54 + 100 * s(0.04, 40))
    assert at(0, 0, 15, 1.1) == pytest.approx(56 + 100 * s(-0.01, 15) + 8)


def test_vivid_is_the_mean_of_three_tones_in_srgb() -> None:
    photo = noise(4, 12, 10, 3)
    lab = srgb_to_lab(photo**0.75)
    smooth = [wls_smooth(lab[..., 0], strength) for strength in (0.125, 0.5)]
    tones = []
    for numbers in ((25, 1, 1, 1.0), (1, 40, 1, 1.0), (4, 1, 15, 1.10)):
        mapped = lab.clone()
        mapped[..., 0] = tone(lab[..., 0], smooth[0], smooth[1], *numbers)
        mapped[..., 1:] *= 1.1
        tones.append(lab_to_srgb(mapped))
    assert torch.allclose(vivid(photo), sum(tones) / 3, atol=1e-4)  # the solver starts elsewhere
    assert torch.equal(vivid(photo), vivid(photo))
    single = vivid(photo.float())
    assert single.dtype == torch.float32 and torch.allclose(single.double(), vivid(photo), atol=1e-4)
    assert torch.equal(vivid(photo * 3 - 1), vivid((photo * 3 - 1).clamp(0, 1)))
    extremes = torch.tensor([0.0, 1.0], dtype=torch.float64)[(noise(5, 8, 8, 3) > 0.5).long()]
    found = vivid(extremes)
    assert bool(found.isfinite().all()) and float(found.min()) >= 0 and float(found.max()) <= 1


# Colours


def bradford() -> np.ndarray:
    """sRGB to XYZ relative to D50, from the primaries, the white points and Bradford's cone responses."""
    primaries = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
    xyz = np.stack([primaries[:, 0], primaries[:, 1], 1 - primaries.sum(axis=1)]) / primaries[:, 1]
    d65 = np.array([0.3127, 0.3290, 1 - 0.3127 - 0.3290]) / 0.3290
    d50 = np.array([0.9642, 1.0, 0.8251])
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(cones) @ np.diag((cones @ d50) / (cones @ d65)) @ cones
    return adapt @ (xyz * np.linalg.solve(xyz, d65))


def test_lab_agrees_with_the_definition_and_with_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    rgb = noise(6, 20, 20, 3).numpy()
    rgb[0, :8] = list(itertools.product((0, 1), repeat=3))
    linear = color.rgb2xyz(rgb) @ np.linalg.inv(color.colorconv.xyz_from_rgb).T
    expected = color.xyz2lab(linear @ bradford().T, illuminant="D50")
    assert srgb_to_lab(torch.from_numpy(rgb)).numpy() == pytest.approx(expected, abs=0.06)  # its white is rounded
    d65 = color.rgb2lab(rgb)
    assert np.abs(d65[..., 0] - expected[..., 0]).max() < 3  # the choice of D50: nearly the same lightness


def test_lab_goes_there_and_back() -> None:
    rgb = torch.cat([noise(7, 40, 40, 3), 0.06 * noise(8, 40, 40, 3)])  # the second near the line's end
    assert torch.allclose(lab_to_srgb(srgb_to_lab(rgb)), rgb, atol=1e-12)
    greys = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None, None].expand(200, 1, 3)
    lab = srgb_to_lab(greys)
    assert float(lab[..., 1:].abs().max()) < 1e-12
    assert float(lab[0, 0, 0]) == pytest.approx(0, abs=1e-12) and float(lab[-1, 0, 0]) == pytest.approx(100)
    wild = lab_to_srgb(doubles([[[130.0, 90.0, -120.0], [-20.0, -90.0, 40.0]]]))
    assert bool(wild.isfinite().all()) and float(wild.min()) >= 0 and float(wild.max()) <= 1


# Folders


def data_folder(root: Path, size: tuple[int, int] = (16, 24)) -> Path:
    """Two scenes in train, one of them also as a layout alone, and one in val."""
    draw = np.random.default_rng(9)
    for split, stem, suffix in (
        ("train", "a", ".jpg"),
        ("train", "b", ".png"),
        ("train", "c", ""),
        ("val", "d", ".jpg"),
    ):
        for part in ("photos", "layouts", "instances"):
            (root / split / part).mkdir(parents=True, exist_ok=True)
        layout = draw.integers(0, 3, size, dtype=np.uint8)
        Image.fromarray(layout).save(root / split / "layouts" / f"{stem}.png")
        Image.fromarray(layout.astype(np.uint16) * 300).save(root / split / "instances" / f"{stem}.png")
        if suffix:
            photo = Image.fromarray(draw.integers(0, 256, (4, 6, 3), dtype=np.uint8))
            photo.resize((size[1], size[0])).save(root / split / "photos" / f"{stem}{suffix}")
    classes = (SceneClass("sky", (1, 2, 3)), SceneClass("road", (4, 5, 6)), SceneClass("none", (0, 0, 0), True))
    write_classes(classes, root / "classes.json")
    return root


def listing(root: Path) -> dict[str, tuple[bytes, int]]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def test_only_training_photographs_change(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "plain")
    before = listing(source)
    made = prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)
    assert listing(source) == before
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [("train", 3, 2, 3), ("val", 1, 1, 1)]
    for stem, suffix in (("a", ".jpg"), ("b", ".png")):
        plain = read_photo(source / f"train/photos/{stem}{suffix}")
        expected = to_bytes(vivid(torch.from_numpy(plain).double() / 255))
        found = read_photo(tmp_path / f"out/train/photos/{stem}.png")
        assert np.array_equal(found, expected) and not np.array_equal(found, plain)
    assert (tmp_path / "out/val/photos/d.jpg").read_bytes() == (source / "val/photos/d.jpg").read_bytes()
    for path in source.glob("*/[li]*/*.png"):
        assert np.array_equal(read_labels(tmp_path / "out" / path.relative_to(source)), read_labels(path))
    assert json.loads((tmp_path / "out/classes.json").read_text()) == json.loads((source / "classes.json").read_text())
    assert len(Folder(tmp_path / "out")) == 2 and len(Folder(tmp_path / "out", "val")) == 1


def test_size_resizes_before_the_smoothing(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "plain")
    prepare_vivid(source, out=tmp_path / "out", size=(8, 12), device="cpu", quiet=True)
    plain = resize_photo(read_photo(source / "train/photos/a.jpg"), (8, 12))
    found = read_photo(tmp_path / "out/train/photos/a.png")
    assert np.array_equal(found, to_bytes(vivid(torch.from_numpy(plain).double() / 255)))
    plain = resize_photo(read_photo(source / "val/photos/d.jpg"), (8, 12))
    assert np.array_equal(read_photo(tmp_path / "out/val/photos/d.png"), plain)
    for part in ("layouts", "instances"):
        expected = resize_labels(read_labels(source / f"val/{part}/d.png"), (8, 12))
        assert np.array_equal(read_labels(tmp_path / f"out/val/{part}/d.png"), expected)
    with pytest.raises(UserError, match=r"was prepared with size \[8, 12\], now None"):
        prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = data_folder(tmp_path / "plain")
    prepare_vivid(source, out=tmp_path / "whole", device="cpu", quiet=True)
    real, calls = module.vivid, []

    def failing(photo: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(photo)

    monkeypatch.setattr(module, "vivid", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)
    assert not (tmp_path / "out/classes.json").exists()
    made = prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)
    assert (made.written, made.skipped, len(calls)) == (3, 1, 3)
    whole, again = ({k: v[0] for k, v in listing(tmp_path / name).items()} for name in ("whole", "out"))
    assert whole == again
    made = prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)
    assert (made.written, made.skipped) == (0, 4)
    os.utime(source / "val/photos/d.jpg", (2e9, 2e9))  # changed since
    assert prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True).written == 1


def test_refusals(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "plain")
    with pytest.raises(UserError, match=r"--size 0 8: must be"):
        prepare_vivid(source, out=tmp_path / "out", size=(0, 8), quiet=True)
    with pytest.raises(UserError, match="overlaps the source"):
        prepare_vivid(source, out=source / "vivid", quiet=True)
    with pytest.raises(UserError, match="no such folder"):
        prepare_vivid(tmp_path / "nowhere", out=tmp_path / "out", quiet=True)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: torch sees no CUDA GPU"):
            prepare_vivid(source, out=tmp_path / "out", device="cuda", quiet=True)
    prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)
    with pytest.raises(UserError, match="was made by `photogram prepare vivid`"):
        prepare_vivid(tmp_path / "out", out=tmp_path / "twice", device="cpu", quiet=True)
    prepare_coarsen(tmp_path / "out", out=tmp_path / "coarse", quiet=True)  # but others may go on from it
    Image.new("L", (24, 16), 3).save(source / "train/layouts/a.png")
    with pytest.raises(UserError, match=r"a.png: class 3 at \(row 0, column 0\), but classes.json lists 0..2"):
        prepare_vivid(source, out=tmp_path / "bad", device="cpu", quiet=True)
    Image.new("L", (24, 15)).save(source / "train/layouts/a.png")
    with pytest.raises(UserError, match=r"a.jpg: is 16 x 24, but its layout .* is 15 x 24"):
        prepare_vivid(source, out=tmp_path / "bad", device="cpu", quiet=True)
    for photo in (source / "train/photos").iterdir():
        photo.unlink()
    with pytest.raises(UserError, match="only photographs for training become vivid"):
        prepare_vivid(source, out=tmp_path / "none", device="cpu", quiet=True)


@needs_camvid
def test_a_real_photograph_gains_contrast_and_keeps_its_scene() -> None:
    plain = resize_photo(read_photo(min((CAMVID / "train/photos").iterdir())), (96, 128))
    photo = torch.from_numpy(plain).double() / 255
    before, after = srgb_to_lab(photo), srgb_to_lab(vivid(photo))
    lightness = torch.stack([before[..., 0].flatten(), after[..., 0].flatten()])
    assert float(torch.corrcoef(lightness)[0, 1]) > 0.8
    assert float(lightness[1].std()) > 1.1 * float(lightness[0].std())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_finds_the_same() -> None:
    photo = noise(10, 40, 50, 3)
    assert torch.allclose(vivid(photo.cuda()).cpu(), vivid(photo), atol=1e-4)


def test_instance_maps_of_32_bits_are_kept(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "plain")
    whole = read_labels(source / "train/instances/a.png").astype(np.int64) * 3_000_000
    (source / "train/instances/a.png").unlink()
    np.save(source / "train/instances/a.npy", whole)
    prepare_vivid(source, out=tmp_path / "out", device="cpu", quiet=True)
    assert whole.max() > 2**30 and np.array_equal(read_labels(tmp_path / "out/train/instances/a.tif"), whole)
