"""Files of any channels and bits come back as they were written, and hostile ones end in one line."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from photogram.errors import UserError
from photogram.images import PHOTO_SUFFIXES, read_photo, resize_photo, write_image
from photogram.rasters import (
    Form,
    as_rgb,
    bits_of,
    kind_of,
    raster_form,
    read_as,
    read_raster,
    read_rgb,
    resize_raster,
    suffix_for,
    turned,
    write_raster,
)
from photogram.scene import from_pixels, save, to_levels, to_pixels

MANY = settings(deadline=None, database=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}


def some(bits: int, channels: int, size: tuple[int, int] = (7, 11), seed: int = 0) -> np.ndarray:
    """Values that use all of their bits, the extremes among them."""
    rng = np.random.default_rng(seed)
    if bits == 32:
        found = rng.random((*size, channels), dtype=np.float32)
        found[0, 0], found[0, 1] = 0, 1
        return found
    found = rng.integers(0, 1 << bits, (*size, channels)).astype(TYPES[bits])
    found[0, 0], found[0, 1] = 0, (1 << bits) - 1
    return found


# round trips

HELD = [
    *((".png", bits, channels) for bits in (8, 16) for channels in (1, 3, 4)),
    *((suffix, bits, channels) for suffix in (".tif", ".npy") for bits in TYPES for channels in (1, 2, 3, 4, 7)),
]


@pytest.mark.parametrize(("suffix", "bits", "channels"), HELD)
def test_what_is_written_comes_back_exactly(tmp_path, suffix, bits, channels):
    raster = some(bits, channels)
    write_raster(raster, path := tmp_path / f"a{suffix}")
    found = read_raster(path)
    assert found.dtype == TYPES[bits] and found.shape == raster.shape
    np.testing.assert_array_equal(found, raster)
    form = raster_form(path)
    assert (form.height, form.width, form.channels, form.bits) == (7, 11, channels, bits)
    assert form.alpha == (suffix == ".png" and channels == 4) and bits_of(found) == bits
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing is left beside it


@pytest.mark.parametrize("channels", (1, 2, 3, 4, 5))
@pytest.mark.parametrize("bits", (8, 16, 32))
def test_paintings_get_a_file_that_holds_them(tmp_path, channels, bits):
    write_raster(raster := some(bits, channels), path := tmp_path / f"a.{suffix_for(channels, bits)}")
    np.testing.assert_array_equal(read_raster(path), raster)
    assert suffix_for(channels, bits) == ("png" if (channels, bits) in ((1, 8), (3, 8), (1, 16)) else "tif")


@pytest.mark.parametrize(
    ("name", "bits", "channels"),
    (("a.png", 32, 1), ("a.png", 8, 2), ("a.png", 16, 5), ("a.jpg", 16, 1), ("a.jpg", 8, 4), ("a.webp", 32, 3)),
)
def test_a_file_that_cannot_hold_it_is_refused(tmp_path, name, bits, channels):
    with pytest.raises(UserError, match=f"cannot hold {kind_of(channels, bits)}; use .tif or .npy"):
        write_raster(some(bits, channels), tmp_path / name)
    with pytest.raises(UserError, match=r"cannot write '\.exr'"):
        write_raster(some(8, 3), tmp_path / "a.exr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", (8, 16, 32))
@pytest.mark.parametrize("channels", (1, 3))
def test_save_writes_what_a_network_paints(tmp_path, bits, channels):
    raster = some(bits, channels)
    save(from_pixels(raster), path := tmp_path / f"a.{suffix_for(channels, bits)}", bits)
    np.testing.assert_allclose(read_raster(path), raster, atol=1e-7 if bits == 32 else 0)
    with pytest.raises(UserError, match="bits 12: must be 8, 16 or 32"):
        save(from_pixels(raster), path, 12)


# other people's files


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png16(raster: np.ndarray) -> bytes:
    """A 16-bit PNG by the book: big-endian samples, filter 0."""
    height, width, channels = raster.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in raster)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("channels", (1, 3, 4))
def test_png_of_16_bits_keeps_them(tmp_path, channels):
    (path := tmp_path / "a.png").write_bytes(png16(raster := some(16, channels)))
    np.testing.assert_array_equal(read_raster(path), raster)
    assert raster_form(path) == Form(7, 11, channels, 16, channels == 4)


def test_png_of_16_bits_grey_with_opacity_is_refused_by_name(tmp_path):
    (path := tmp_path / "a.png").write_bytes(png16(some(16, 2)))
    with pytest.raises(UserError, match=r"a\.png: holds grey of 16 bits with an opacity"):
        read_raster(path)


@pytest.mark.parametrize("mode", ("1", "L", "LA", "RGB", "RGBA", "P"))
def test_8_bit_files_of_all_modes(tmp_path, mode):
    image = Image.fromarray(some(8, 3)).convert(mode)
    image.save(path := tmp_path / "a.png")
    kept = mode if mode in ("L", "LA", "RGB", "RGBA") else "L" if mode == "1" else "RGB"
    expected = np.array(image.convert(kept)).reshape(7, 11, -1)
    np.testing.assert_array_equal(read_raster(path), expected)
    assert raster_form(path)[2:4] == (expected.shape[2], 8)


@pytest.mark.parametrize("suffix", (".jpg", ".webp", ".bmp", ".tif"))
def test_other_types_are_pillows_pixels(tmp_path, suffix):
    Image.fromarray(some(8, 3, (32, 24))).save(path := tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_raster(path), np.array(Image.open(path).convert("RGB")))
    np.testing.assert_array_equal(read_raster(path), read_photo(path))
    assert raster_form(path) == Form(32, 24, 3, 8)


@pytest.mark.parametrize("bits", (8, 16, 32))
@pytest.mark.parametrize("planar", ("contig", "separate"))
@pytest.mark.parametrize("compression", (None, "zlib"))
def test_tiffs_planar_and_interleaved(tmp_path, bits, planar, compression):
    raster = some(bits, 3)
    stored = raster if planar == "contig" else np.moveaxis(raster, -1, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, compression=compression)
    np.testing.assert_array_equal(read_raster(path), raster)
    assert raster_form(path) == Form(7, 11, 3, bits)


@pytest.mark.parametrize("bits", (8, 16, 32))
@pytest.mark.parametrize("big", (False, True))
def test_the_pages_of_a_tiff_are_channels(tmp_path, bits, big):
    raster = some(bits, 5)
    with tifffile.TiffWriter(path := tmp_path / "a.tif", bigtiff=big, byteorder=">") as tiff:
        for n in range(5):
            tiff.write(raster[..., n], photometric="minisblack", contiguous=False)
    np.testing.assert_array_equal(read_raster(path), raster)
    assert raster_form(path) == Form(7, 11, 5, bits, pages=5)


@pytest.mark.parametrize("bits", (8, 16, 32))
@pytest.mark.parametrize("compression", ("tiff_lzw", "packbits"))
def test_packed_pages_are_channels_too(tmp_path, bits, compression):
    pages = [Image.fromarray(some(bits, 4)[..., n]) for n in range(4)]
    pages[0].save(path := tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    np.testing.assert_array_equal(read_raster(path), some(bits, 4))
    assert raster_form(path) == Form(7, 11, 4, bits, pages=4)
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw", tiffinfo={274: 6})
    np.testing.assert_array_equal(read_raster(path)[..., 0], np.rot90(some(bits, 4)[..., 0], -1))
    assert raster_form(path).size == (11, 7)


def test_what_is_packed_as_nobody_here_can_read_is_said_at_the_header(tmp_path):
    """16-bit colours in LZW, as other programs write them: Pillow would halve them."""
    tifffile.imwrite(path := tmp_path / "a.tif", some(16, 3), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(5)
    refused(path, "is packed by LZW, which is not read of such pixels; store it with deflate")


def test_tiffs_with_white_as_0_are_turned_round(tmp_path):
    for bits in (8, 16):
        tifffile.imwrite(path := tmp_path / "a.tif", some(bits, 1)[..., 0], photometric="miniswhite")
        np.testing.assert_array_equal(read_raster(path), (1 << bits) - 1 - some(bits, 1).astype(int))


@pytest.mark.parametrize(("mode", "bits"), (("RGB", 8), ("L", 8), ("P", 8), ("I;16", 16), ("CMYK", 8), ("F", 32)))
@pytest.mark.parametrize("compression", ("tiff_lzw", "raw"))
def test_tiffs_that_pillow_wrote(tmp_path, mode, bits, compression):
    if mode in ("I;16", "F"):
        image = Image.fromarray(some(bits, 1)[..., 0])
    else:
        image = Image.fromarray(some(8, 3)).convert(mode)
    image.save(path := tmp_path / "a.tif", compression=compression)
    back = Image.open(path)
    expected = np.array(back.convert("RGB") if mode in ("P", "CMYK") else back).reshape(7, 11, -1)
    np.testing.assert_array_equal(read_raster(path), expected)
    assert raster_form(path)[2:4] == (expected.shape[2], bits)


def test_an_opacity_is_known_as_one(tmp_path):
    tifffile.imwrite(path := tmp_path / "a.tif", some(16, 4), photometric="rgb", extrasamples=["unassalpha"])
    assert raster_form(path).alpha and raster_form(path).colours == 3
    np.testing.assert_array_equal(read_as(path, 3, 16), some(16, 4)[..., :3])
    tifffile.imwrite(path, some(16, 4), photometric="rgb", extrasamples=["unspecified"])
    assert not raster_form(path).alpha


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("kind", ("<u2", ">u2", "u1", "<f2", ">f4", "<f8"))
@pytest.mark.parametrize("version", ((1, 0), (2, 0)))
def test_npy_of_any_order(tmp_path, order, kind, version):
    values = np.asarray(some(8, 3) / 255 if "f" in kind else some(8, 3), dtype=kind, order=order)
    with (path := tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, values, version=version)
    np.testing.assert_array_equal(read_raster(path), values.astype(np.float32) if "f" in kind else values)
    np.save(path, values[..., 0])
    assert read_raster(path).shape == (7, 11, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", (".png", ".jpg", ".tif"))
def test_pictures_are_turned_as_exif_asks(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(some(8, 3, (16, 24))).save(path := tmp_path / f"a{suffix}", exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_raster(path), expected)
    assert raster_form(path).size == expected.shape[:2]
    if suffix == ".png":
        image = Image.fromarray(some(8, 3))
        image.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(turned(some(8, 3), orientation), np.array(ImageOps.exif_transpose(image)))


def test_a_tiff_of_16_bits_is_turned_too(tmp_path):
    tifffile.imwrite(path := tmp_path / "a.tif", some(16, 3), photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    np.testing.assert_array_equal(read_raster(path), np.rot90(some(16, 3), -1))
    assert raster_form(path).size == (11, 7)


# what is refused


def refused(path: Path, *words: str) -> None:
    for read in (read_raster, read_rgb):
        with pytest.raises(UserError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message, message
        assert all(word in message for word in words), message


@pytest.mark.parametrize("suffix", (".npy", ".tif"))
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf, -0.25, 1.5))
def test_floats_must_be_finite_and_in_range(tmp_path, suffix, value):
    raster = some(32, 2)
    raster[3, 4, 1] = value
    write_raster(raster, path := tmp_path / f"a{suffix}")
    refused(path, f"holds {value:g} at (row 3, column 4, channel 1)", "[0, 1]")
    assert raster_form(path).bits == 32  # the header says nothing of it


@pytest.mark.parametrize("kind", ("i1", "i4", "u4", "c8", "?", "U3", "M8[s]"))
def test_npy_of_other_types_is_refused(tmp_path, kind):
    np.save(path := tmp_path / "a.npy", np.zeros((4, 5), kind))
    refused(path, "holds", "uint8, uint16 and floating point are read")


def test_pickles_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(path := tmp_path / "a.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    refused(path, "holds object")
    assert not (tmp_path / "sprung").exists()


def test_npy_of_other_shapes_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    for shape, words in (
        ((5,), "[5]; it must be [height, width]"),
        ((2, 3, 4, 5), "[2, 3, 4, 5]"),
        ((3, 100, 200), "has 200 channels, more than 64; channels stand last"),
        ((0, 5), "empty"),
        ((4, 5, 0), "empty"),
    ):
        np.save(path, np.zeros(shape, np.uint8))
        refused(path, words)


def test_what_a_header_announces_is_not_believed(tmp_path):
    path = tmp_path / "a.npy"
    for shape in ((1 << 20, 1 << 20), (1 << 13, 1 << 13, 64), (1 << 10, 1 << 10)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        path.write_bytes(header.getvalue() + bytes(100))
        refused(
            path, "more than the limit" if max(shape) > 1 << 10 else "announces 4,194,304 bytes of values but holds"
        )
    tifffile.imwrite(path := tmp_path / "a.tif", some(8, 1)[..., 0])
    whole = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for name in ("ImageWidth", "ImageLength"):
            offset = tiff.pages.first.tags[name].valueoffset
            whole[offset : offset + 4] = (
                struct.pack("<I", 1 << 20) if tiff.pages.first.tags[name].dtype == 4 else b"\xff\xff"
            )
    path.write_bytes(whole)
    refused(path, "more than the limit")


def test_tiffs_whose_pages_differ_are_refused(tmp_path):
    with tifffile.TiffWriter(path := tmp_path / "a.tif") as tiff:
        tiff.write(np.zeros((8, 8), np.uint8))
        tiff.write(np.zeros((4, 4), np.uint8))
    refused(path, "page 1 has another size or type than page 0")


@pytest.mark.parametrize("kind", (np.int16, np.uint32, np.complex64))
def test_tiffs_of_other_types_are_refused(tmp_path, kind):
    tifffile.imwrite(path := tmp_path / "a.tif", np.zeros((8, 8), kind), photometric="minisblack")
    refused(path, "holds values of type", "uint8, uint16 and floating point")


def test_what_is_no_image_is_refused(tmp_path):
    refused(tmp_path / "none.npy", "no such file")
    (path := tmp_path / "a.npy").write_bytes(b"")
    refused(path, "is empty")
    path.write_text("rows, columns")
    refused(path, "no image")
    refused(tmp_path, "is a folder")


def _files() -> dict[str, bytes]:
    tiffs = {}
    for name, raster, options in (
        ("rgb16", some(16, 3), {"photometric": "rgb", "compression": "zlib"}),
        ("pages", np.moveaxis(some(8, 3), -1, 0), {"photometric": "minisblack"}),
        ("float", some(32, 1)[..., 0], {"compression": "zlib", "predictor": False}),
    ):
        tifffile.imwrite(written := io.BytesIO(), raster, metadata=None, **options)
        tiffs[name] = written.getvalue()
    np.save(npy := io.BytesIO(), some(16, 2))
    return {**tiffs, "npy": npy.getvalue(), "png16": png16(some(16, 3)), "png16a": png16(some(16, 4))}


FILES = _files()


@MANY
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    st.integers(0, 1 << 20) | st.none(),
)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path_factory, name, changes, cut):
    content = bytearray(FILES[name])
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(content[: len(content) if cut is None else cut % (len(content) + 1)])
    for read in (raster_form, read_raster):
        try:
            found = read(path)
        except UserError as e:
            assert str(e).startswith(f"{path}: ") and "\n" not in str(e)
        else:
            assert isinstance(found, Form) or (found.ndim == 3 and found.dtype in TYPES.values())


# sizes and ranges


def cubic(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def slow_resize(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic with antialiasing (a = -0.5) as sums over all pixels, in float64."""
    for axis, out in enumerate(size):
        count = plane.shape[axis]
        scale = count / out
        wide = max(scale, 1.0)
        centres = (np.arange(out) + 0.5) * scale - 0.5
        weights = cubic((np.arange(count)[None] - centres[:, None]) / wide)
        weights /= weights.sum(axis=1, keepdims=True)
        plane = np.moveaxis(np.tensordot(weights, plane, axes=(1, axis)), 0, axis)
    return plane


@pytest.mark.parametrize("size", ((7, 11), (5, 4), (14, 30), (3, 40)))
@pytest.mark.parametrize("bits", (8, 16, 32))
def test_resizing_is_bicubic_in_all_types(size, bits):
    raster = some(bits, 2, (23, 31))
    if bits == 8:  # Pillow cuts off what overshoots between its two passes too
        raster = raster // 2 + np.uint8(64)
    found = resize_raster(raster, size)
    assert found.dtype == raster.dtype and found.shape == (*size, 2)
    most = {8: 255, 16: 65535, 32: 1}[bits]
    for n in range(2):
        slow = slow_resize(raster[..., n].astype(np.float64), size).clip(0, most)
        assert np.abs(found[..., n] - slow).max() <= {8: 1.01, 16: 0.6, 32: 1e-6}[bits]


def test_resizing_photographs_is_what_it_was():
    photo = some(8, 3, (40, 50))
    np.testing.assert_array_equal(resize_raster(photo, (21, 33)), resize_photo(photo, (21, 33)))
    planes = [resize_raster(photo[..., n : n + 1], (21, 33)) for n in range(3)]
    np.testing.assert_array_equal(np.concatenate(planes, axis=-1), resize_photo(photo, (21, 33)))
    assert resize_raster(photo, (40, 50)) is photo


def test_resizing_16_bits_keeps_more_than_8():
    ramp = np.linspace(10_000, 10_200, 64).astype(np.uint16)[None, :, None].repeat(8, 0)  # within one step of 8 bits
    assert len(np.unique(resize_raster(ramp, (8, 48)))) > 40


def test_every_level_comes_back_from_the_networks_range():
    for bits in (8, 16):
        levels = np.arange(1 << bits).astype(TYPES[bits])[None, :, None]
        photo = from_pixels(levels)
        assert photo.dtype == torch.float32 and float(photo.min()) == -1 and float(photo.max()) == 1
        np.testing.assert_array_equal(to_levels(photo, bits), levels)
    floats = some(32, 3)
    photo = from_pixels(floats)
    np.testing.assert_allclose(photo.numpy(), np.moveaxis(floats, -1, 0) * 2.0 - 1, atol=1e-7)
    np.testing.assert_allclose(to_levels(photo, 32), floats, atol=1e-7)
    np.testing.assert_array_equal(to_levels(photo, 8), to_pixels(photo).numpy())
    assert to_levels(torch.tensor([[[-3.0, 3.0, 0.0]]]), 16).flatten().tolist() == [0, 65535, 32768]


# forms


def test_files_that_are_not_like_the_others_are_refused(tmp_path):
    write_raster(some(16, 3), path := tmp_path / "a.png")
    words = "a.png: has 3 channels of 16 bits, but the others have 1 channel of 8 bits"
    with pytest.raises(UserError, match=words):
        read_as(path, 1, 8)
    write_raster(some(8, 1), grey := tmp_path / "b.png")
    np.testing.assert_array_equal(read_as(grey, 3, 8), some(8, 1).repeat(3, -1))
    np.testing.assert_array_equal(read_as(grey, 1, 8), some(8, 1))
    write_raster(some(8, 4), clear := tmp_path / "c.png")
    np.testing.assert_array_equal(read_as(clear, 3, 8), some(8, 4)[..., :3])
    np.testing.assert_array_equal(read_as(clear, 4, 8), some(8, 4))
    with pytest.raises(UserError, match=r"b\.png: has 1 channel of 8 bits, but the others have 4 channels"):
        read_as(grey, 4, 8)


def test_anything_can_be_looked_at(tmp_path):
    assert as_rgb(np.full((1, 1, 1), 65535, np.uint16)).tolist() == [[[255, 255, 255]]]
    assert as_rgb(np.array([[[0.5, 0.25]]], np.float32)).tolist() == [[[128, 128, 128]]]
    assert as_rgb(np.array([[[1, 2, 3, 4]]], np.uint8)).tolist() == [[[1, 2, 3]]]
    write_image(some(8, 3), path := tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(path), read_photo(path))
    write_raster(some(16, 1), path)
    np.testing.assert_array_equal(read_rgb(path), read_photo(path))
    assert ".npy" not in PHOTO_SUFFIXES
