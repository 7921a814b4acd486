"""Images as what networks are asked with: read, resized, padded, painted, and written as the targets were."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from photogram import sheets
from photogram.collecting import collect
from photogram.conditions import open_condition, source_suffixes
from photogram.errors import UserError
from photogram.generator import Generator
from photogram.images import write_labels
from photogram.rasters import read_raster, resize_raster, write_raster
from photogram.scene import Condition, Layout, SceneClass, SceneSpec, from_pixels, to_levels
from photogram.synthesis import synthesize

CLASSES = (SceneClass("sky", (70, 130, 180)), SceneClass("road", (128, 64, 128)))
SIZE = (13, 18)


class Echo(Generator):
    """Paints the image that it is asked with, in as many channels as it learned from; a class darkens it."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec = spec
        self.gain = torch.nn.Parameter(torch.ones(()))

    @property
    def size_multiple(self) -> int:
        return 8

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        image, channels = condition.image, self.spec.photo_channels
        assert image is not None and image.shape[-2] % 8 == image.shape[-1] % 8 == 0  # padded before it comes
        painted = image[:, torch.arange(channels) % image.shape[1]] * self.gain
        layout = condition.layout
        return painted if layout is None else torch.where(layout.classes[:, None] == 1, -1.0, painted)


def raster(bits: int, channels: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    values = np.random.default_rng(seed).random((*size, channels), dtype=np.float32)
    return {8: (values * 255).astype(np.uint8), 16: (values * 65535).astype(np.uint16), 32: values}[bits]


def put(root: Path, bits: int, channels: int, suffix: str, count: int = 3) -> Path:
    (root / "inputs").mkdir(parents=True)
    for n in range(count):
        write_raster(raster(bits, channels, n), root / "inputs" / f"{n}{suffix}")
    return root / "inputs"


def paint(network: Generator, folder: Path, out: Path, **options: object):
    inputs = collect([folder], None, source_suffixes(network.spec))
    return synthesize(network, inputs, out, **{"precision": "fp32", "quiet": True, **options})  # pyright: ignore


@pytest.mark.parametrize(
    ("bits", "channels", "suffix", "written"),
    (
        (8, 1, ".png", "png"),
        (8, 3, ".png", "png"),
        (8, 3, ".tif", "png"),
        (16, 1, ".png", "png"),
        (16, 3, ".png", "tif"),
        (16, 2, ".tif", "tif"),
        (32, 1, ".npy", "tif"),
        (32, 5, ".tif", "tif"),
    ),
)
def test_paintings_have_the_channels_and_bits_of_the_targets(tmp_path, bits, channels, suffix, written):
    """Sizes that a network cannot do are padded and cropped back: 13 x 18 of multiples of 8."""
    folder = put(tmp_path, bits, channels, suffix)
    spec = SceneSpec((), SIZE, False, channels, bits, channels, bits)
    summary = paint(Echo(spec=spec), folder, tmp_path / "out", sheet=True)
    assert summary.painted == 3 and not summary.failures and summary.sheet == tmp_path / "out/sheet.png"
    for n in range(3):
        found = read_raster(tmp_path / f"out/{n}.{written}")
        assert found.dtype == raster(bits, channels).dtype
        np.testing.assert_allclose(found, raster(bits, channels, n), atol=1e-6 if bits == 32 else 0)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("[0-9]*")}
    again = paint(Echo(spec=spec), folder, tmp_path / "out")
    assert again.skipped == 3 and before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("[0-9]*")}


@pytest.mark.parametrize("bits", (8, 16))
def test_images_are_resized_before_they_become_floats(tmp_path, bits):
    folder = put(tmp_path, bits, 1, ".png")
    spec = SceneSpec((), (24, 10), False, 1, bits, 1, bits)
    paint(Echo(spec=spec), folder, tmp_path / "out")
    np.testing.assert_array_equal(read_raster(tmp_path / "out/1.png"), resize_raster(raster(bits, 1, 1), (24, 10)))
    paint(Echo(spec=spec), folder, tmp_path / "native", size="native")
    np.testing.assert_array_equal(read_raster(tmp_path / "native/1.png"), raster(bits, 1, 1))


def test_any_size_is_padded_and_cropped_back_in_sample():
    network = Echo(spec=SceneSpec((), (16, 16), False, 2, 8, 2))
    for size in ((1, 1), (8, 16), (9, 7), (819, 33)):
        image = from_pixels(raster(8, 2, 1, size))[None]
        assert torch.equal(network.sample(image), image)
    with pytest.raises(UserError, match="image has 1 channels, but the network was trained on 2"):
        network.sample(image[:, :1])


def test_layouts_find_their_images_beside_them(tmp_path):
    put(tmp_path, 16, 1, ".tif", 2)
    (tmp_path / "layouts").mkdir()
    for n in range(2):
        labels = np.zeros(SIZE, np.uint8)
        labels[:, :5] = 1
        write_raster(labels[..., None], tmp_path / f"layouts/{n}.png")
    spec = SceneSpec(CLASSES, SIZE, False, 1, 16, 1, 16)
    summary = paint(Echo(spec=spec), tmp_path / "layouts", tmp_path / "out", sheet=True)
    assert summary.painted == 2 and not summary.failures
    for n in range(2):
        expected = raster(16, 1, n)
        expected[:, :5] = 0
        np.testing.assert_array_equal(read_raster(tmp_path / f"out/{n}.png"), expected)
    condition = open_condition(tmp_path / "layouts/0.png", spec, (26, 36))
    assert isinstance(condition.layout, Layout) and condition.layout.size == (26, 36)
    assert condition.image is not None
    np.testing.assert_array_equal(to_levels(condition.image[0], 16), resize_raster(raster(16, 1, 0), (26, 36)))
    write_raster(raster(16, 1)[:10], tmp_path / "inputs/0.tif")
    with pytest.raises(UserError, match=r"inputs/0\.tif: is 10 x 18, but its layout 0\.png is 13 x 18"):
        open_condition(tmp_path / "layouts/0.png", spec)


def test_images_with_other_channels_are_refused_by_name(tmp_path):
    path = tmp_path / "a.png"
    grey, rgb = SceneSpec((), SIZE, image_channels=1), SceneSpec((), SIZE, image_channels=3)
    write_raster(raster(8, 3), path)
    with pytest.raises(UserError, match=r"a\.png: has 3 channels of 8 bits, but the network was trained on 1 channel$"):
        open_condition(path, grey)
    write_raster(raster(8, 4), path)  # an opacity is no colour
    image = open_condition(path, rgb).image
    assert image is not None and torch.equal(image[0], from_pixels(raster(8, 4)[..., :3]))
    write_raster(raster(16, 1), path)  # other bits are other steps of the same range
    image = open_condition(path, rgb).image
    assert image is not None and torch.equal(image[0], from_pixels(raster(16, 1)).expand(3, -1, -1))


@pytest.mark.parametrize(
    ("format", "channels", "bits"), (("png", 2, 8), ("png", 1, 32), ("jpg", 2, 8), ("webp", 4, 16))
)
def test_a_format_that_cannot_hold_it_is_refused_at_the_door(tmp_path, format, channels, bits):
    folder = put(tmp_path, 8, 1, ".png")
    network = Echo(spec=SceneSpec((), SIZE, False, 1, 8, channels, bits))
    with pytest.raises(UserError, match=f"--format {format}: cannot hold {channels} channel"):
        paint(network, folder, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()


def test_formats_of_8_bits_are_given_where_they_are_asked_for(tmp_path):
    folder = put(tmp_path, 16, 3, ".png")
    paint(Echo(spec=SceneSpec((), SIZE, False, 3, 16, 3, 16)), folder, tmp_path / "out", format="webp")
    assert read_raster(tmp_path / "out/0.webp").dtype == np.uint8


@pytest.mark.parametrize(("bits", "format", "decided"), ((8, None, "bf16"), (16, None, "fp32"), (16, "webp", "bf16")))
def test_auto_precision_keeps_all_bits_of_the_targets(tmp_path, monkeypatch, bits, format, decided):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    folder, network = put(tmp_path, bits, 3, ".png"), Echo(spec=SceneSpec((), SIZE, False, 3, bits, 3, bits))
    assert paint(network, folder, tmp_path / "out", format=format, precision="auto").precision == decided
    assert paint(network, folder, tmp_path / "asked", precision="bf16").precision == "bf16"


@pytest.mark.parametrize("folder", ("inputs", "photos"))
def test_a_sheet_shows_photographs_beside_inputs_but_no_input_twice(tmp_path, monkeypatch, folder):
    """CycleGAN's way back is asked with photographs."""
    put(tmp_path, 8, 3, ".png")
    (tmp_path / "photos").mkdir()
    for n in range(3):
        write_raster(raster(8, 3, 9 - n), tmp_path / f"photos/{n}.png")
    shown: list[list[str]] = []
    monkeypatch.setattr(sheets, "sheet", lambda columns, rows: shown.append(columns) or rows[0][1][0])
    paint(Echo(spec=SceneSpec((), SIZE, False, 3)), tmp_path / folder, tmp_path / "out", sheet=True)
    assert shown == [["condition", "painting", *(["photograph"] if folder == "inputs" else [])]]


def test_folders_without_images_say_so(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").touch()
    with pytest.raises(UserError, match=r"holds no images \(\.jpg"):
        collect([tmp_path / "in"], None, source_suffixes(SceneSpec(image_channels=1)))


def test_instance_maps_are_found_beside_layouts_where_the_network_knows_them(tmp_path):
    numbers = np.full(SIZE, 2**31 - 1)
    numbers[:3] = 33005
    for part in ("layouts", "instances"):
        (tmp_path / part).mkdir()
    write_labels(np.zeros(SIZE, np.uint8), tmp_path / "layouts/0.png")
    write_labels(numbers, tmp_path / "instances/0.tif")
    layout = open_condition(tmp_path / "layouts/0.png", SceneSpec(CLASSES, SIZE, True)).layout
    assert layout is not None and layout.instances is not None
    np.testing.assert_array_equal(layout.instances[0], numbers)
    layout = open_condition(tmp_path / "layouts/0.png", SceneSpec(CLASSES, SIZE, True), (26, 36)).layout
    assert layout is not None and layout.instances is not None
    assert set(layout.instances.unique().tolist()) == {33005, 2**31 - 1}
    for file, instances in (("0.tif", False), ("1.tif", True)):  # not learned from, and not there
        (tmp_path / "instances/0.tif").rename(tmp_path / "instances" / file)
        layout = open_condition(tmp_path / "layouts/0.png", SceneSpec(CLASSES, SIZE, instances)).layout
        assert layout is not None and layout.instances is None
