"""Files to pixels and back: exact indices, hostile files, the nearest rule, whole files or none."""

import errno
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from photogram import images
from photogram.errors import UserError
from photogram.images import (
    NUMBER_LIMIT,
    image_size,
    labels_size,
    read_instances,
    read_labels,
    read_photo,
    replacing,
    resize_labels,
    resize_photo,
    write_image,
    write_labels,
)

SHARED = Path(os.environ.get("PHOTOGRAM_SHARED", Path(__file__).parents[2] / "shared"))
MANY = settings(deadline=None, database=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
TURNED = {  # what each EXIF orientation asks for, from the standard's table
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, bits: int = 8, kind: int = 2, interlaced: bool = False) -> bytes:
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of a PNG without filters, most significant bit first."""
    rows = []
    for row in values:
        text = "".join(format(int(v), f"0{bits}b") for v in row)
        text += "0" * (-len(text) % 8)
        rows.append(b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return b"".join(rows)


def orientation_chunk(orientation: int) -> bytes:
    return chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x0112, 3, 1, orientation, 0, 0))


def png(values, bits=8, palette=None, transparency=None, interlaced=False, orientation=None, late=False) -> bytes:
    """A grey or palette PNG, written without the library that reads it."""
    passes = [values[t::dy, left::dx] for t, left, dy, dx in ADAM7] if interlaced else [values]
    exif = orientation_chunk(orientation) if orientation else b""
    return (
        header(values.shape[1], values.shape[0], bits, 0 if palette is None else 3, interlaced)
        + (chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes()) if palette is not None else b"")
        + (chunk(b"tRNS", transparency) if transparency is not None else b"")
        + (b"" if late else exif)
        + chunk(b"IDAT", zlib.compress(b"".join(packed(p, bits) for p in passes if p.size)))
        + (exif if late else b"")
        + chunk(b"IEND", b"")
    )


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Something smooth and coloured, as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels, kind: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def refusal(read, path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: "), message
    assert all(word in message for word in words), message


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("images")


# label maps


@st.composite
def label_files(draw):
    bits = draw(st.sampled_from((1, 2, 4, 8, 16)))
    shape = draw(st.tuples(st.integers(1, 17), st.integers(1, 17)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(0, 1 << bits, shape)
    palette = transparency = None
    if bits < 16 and draw(st.booleans()):  # few distinct colours, so that many entries share one; or greys in order
        palette = rng.integers(0, draw(st.sampled_from((1, 2, 256))), (1 << bits, 3))
        if draw(st.booleans()):
            palette = np.repeat(np.arange(1 << bits)[:, None], 3, axis=1)
    if draw(st.booleans()):
        some = rng.integers(0, 256, draw(st.integers(1, 1 << min(bits, 8))), dtype=np.uint8).tobytes()
        transparency = struct.pack(">H", rng.integers(0, 1 << bits)) if palette is None else some
    orientation = draw(st.sampled_from((None, *TURNED)))
    data = png(values, bits, palette, transparency, draw(st.booleans()), orientation, draw(st.booleans()))
    return data, TURNED[orientation or 1](values), bits


@MANY
@given(label_files())
def test_indices_come_back_exactly(folder, file):
    data, values, bits = file
    path = put(folder / "labels.png", data)
    labels = read_labels(path)
    assert labels.dtype == (np.int32 if bits == 16 else np.uint8)
    np.testing.assert_array_equal(labels, values)
    assert labels.flags.writeable and image_size(path) == values.shape


def test_sixteen_bits_up_to_the_last_value(tmp_path):
    values = np.array([[0, 255, 256], [32767, 32768, 65535]], dtype=np.uint16)
    write_image(values, tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png").tolist() == values.tolist()


def tiff(values: np.ndarray, bits: int, white_is_zero: bool = False) -> bytes:
    """An uncompressed grey TIFF of any bits."""
    rows = b"".join(packed(row[None], bits)[1:] for row in values)
    tags = [
        (256, values.shape[1]),
        (257, values.shape[0]),
        (258, bits),
        (259, 1),
        (262, 0 if white_is_zero else 1),
    ]
    tags += [(273, 8), (277, 1), (278, values.shape[0]), (279, len(rows))]
    directory = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return b"MM\0*" + struct.pack(">I", 8 + len(rows)) + rows + struct.pack(">H", len(tags)) + directory + bytes(4)


@pytest.mark.parametrize("bits", (1, 2, 4, 8))
def test_tiff_indices_come_back_exactly_or_are_refused(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (6, 16))
    path = put(tmp_path / "a.tif", tiff(values, bits))
    np.testing.assert_array_equal(read_labels(path), values)
    refusal(read_labels, put(tmp_path / "b.tif", tiff(values, bits, white_is_zero=True)), "white as 0", "PNG")


REFUSED_LABELS = {
    "rgb.png": (encoded(photo(9, 9), "PNG"), "colours (mode RGB)", "photogram prepare palette"),
    "rgba.png": (encoded(Image.fromarray(photo(9, 9)).convert("RGBA"), "PNG"), "mode RGBA", "palette"),
    "la.png": (encoded(Image.fromarray(photo(9, 9)).convert("LA"), "PNG"), "mode LA"),
    "cmyk.tif": (encoded(Image.fromarray(photo(9, 9)).convert("CMYK"), "TIFF"), "mode CMYK"),
    "float.tif": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
    "grey.jpg": (encoded(photo(9, 9)[..., 0], "JPEG"), "is a JPEG", "PNG"),
    "named.png": (encoded(photo(9, 9)[..., 0], "JPEG"), "is a JPEG", "PNG"),
    "grey.webp": (encoded(photo(9, 9)[..., 0], "WEBP", lossless=True), "is a WEBP", "PNG"),
    "stretched.png": (b"P5\n3 1\n3\n\0\1\3", "is a PPM", "PNG"),  # Pillow would scale 0..3 to 0..255
    "moving.gif": (
        encoded(photo(9, 9), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        "2 frames",
    ),
    "empty.png": (b"", "is empty"),
    "text.png": (b"once upon a time", "no image"),
}


@pytest.mark.parametrize("name", REFUSED_LABELS)
def test_what_is_no_label_map_is_refused_in_one_line(tmp_path, name):
    data, *words = REFUSED_LABELS[name]
    refusal(read_labels, put(tmp_path / name, data), *words)


# photographs


def test_a_file_is_what_it_holds_not_what_it_is_called(tmp_path):
    pixels = photo(20, 30)
    np.testing.assert_array_equal(read_photo(put(tmp_path / "a.jpg", encoded(pixels, "PNG"))), pixels)
    jpeg = put(tmp_path / "b.png", encoded(pixels, "JPEG"))
    np.testing.assert_array_equal(read_photo(jpeg), pillow(jpeg))
    np.testing.assert_array_equal(read_labels(put(tmp_path / "c.bmp", png(pixels[..., 0]))), pixels[..., 0])


JPEGS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"subsampling": 2, "progressive": True},
    "coarse": {"quality": 20},
    "finest": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize("size", ((64, 96), (63, 65), (17, 3), (1, 1), (8, 1), (360, 480)))
@pytest.mark.parametrize("kind", JPEGS)
def test_the_fast_jpeg_decoder_gives_pillows_pixels(tmp_path, size, kind):
    pytest.importorskip("simplejpeg")
    for n, pixels in enumerate((photo(*size), photo(*size)[..., 0])):
        path = put(tmp_path / f"{n}.jpg", encoded(pixels, "JPEG", **JPEGS[kind]))
        fast = images._decode_jpeg(path)
        assert fast is not None
        np.testing.assert_array_equal(fast, pillow(path))
        np.testing.assert_array_equal(read_photo(path), pillow(path))


@pytest.mark.parametrize("size", ((64, 96), (63, 65), (1, 1), (360, 480)))
def test_the_fast_png_decoder_gives_the_pixels(tmp_path, size):
    pytest.importorskip("kornia_rs")
    for level in (0, 1, 9):
        path = put(tmp_path / f"{level}.png", encoded(photo(*size), "PNG", compress_level=level))
        np.testing.assert_array_equal(images._decode_png(path), photo(*size))
        np.testing.assert_array_equal(read_photo(path), photo(*size))


def test_the_fast_decoders_agree_on_real_photographs():
    paths = sorted((SHARED / "data/camvid/val/photos").glob("*.jpg"))[::20]
    paths += sorted((SHARED / "data/coco-stuff-sample").rglob("*.jpg"))[::5]
    if not paths:
        pytest.skip("needs the photographs of shared/data")
    for path in paths:
        np.testing.assert_array_equal(read_photo(path), pillow(path))


def test_without_the_fast_decoders_the_pixels_are_the_same(tmp_path, monkeypatch):
    files = [put(tmp_path / f"a.{kind}", encoded(photo(33, 47), kind)) for kind in ("PNG", "JPEG")]
    fast = [read_photo(path) for path in files]
    for module in ("simplejpeg", "kornia_rs", "kornia_rs.io"):
        monkeypatch.setitem(sys.modules, module, None)  # makes its import fail
    for path, pixels in zip(files, fast, strict=True):
        np.testing.assert_array_equal(read_photo(path), pixels)


def test_reading_a_size_decodes_nothing(tmp_path):
    data = header(4000, 3000) + chunk(b"IDAT", zlib.compress(b"cut short")) + chunk(b"IEND", b"")
    assert image_size(put(tmp_path / "a.png", data)) == (3000, 4000)
    refusal(read_photo, tmp_path / "a.png", "damaged or cut short")


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("kind", "options"),
    (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("JPEG", {"subsampling": 2})),
)
def test_photographs_are_turned_as_exif_asks(tmp_path, orientation, kind, options):
    plain = read_photo(put(tmp_path / "plain", encoded(photo(24, 40), kind, **options)))
    path = put(tmp_path / "turned", encoded(photo(24, 40), kind, exif=exif(orientation), **options))
    expected = TURNED[orientation](plain)
    np.testing.assert_array_equal(read_photo(path), expected)
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("place", ("before", "behind"))
@pytest.mark.parametrize("kind", ("eXIf", "tEXt", "iTXt"))
def test_an_orientation_is_found_wherever_a_png_keeps_it(tmp_path, place, kind):
    tags = orientation_chunk(6)
    if kind == "tEXt":  # as ImageMagick keeps it: a length and hexadecimal digits
        block = b"Exif\0\0" + tags[8:-4]
        tags = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n")
    elif kind == "iTXt":  # as Adobe keeps it
        tags = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"></x>')
    date = chunk(b"tEXt", b"date:create\0today")
    whole = encoded(photo(24, 40), "PNG")
    at = 33 if place == "before" else len(whole) - 12  # behind IHDR or before IEND
    path = put(tmp_path / "a.png", whole[:at] + date + tags + date + whole[at:])
    np.testing.assert_array_equal(read_photo(path), TURNED[6](photo(24, 40)))
    assert image_size(path) == (40, 24)


def test_a_date_behind_the_pixels_does_not_slow_a_png_down(tmp_path):
    start = header(4000, 3000) + chunk(b"IDAT", zlib.compress(b"cut short"))
    data = start + chunk(b"tEXt", b"date:create\0today") + chunk(b"IEND", b"")
    assert image_size(put(tmp_path / "a.png", data)) == (3000, 4000)  # so the pixels were not decoded


@pytest.mark.parametrize("orientation", (0, 9, 200, 65535))
def test_an_orientation_that_there_is_not_turns_nothing(tmp_path, orientation):
    path = put(tmp_path / "a.jpg", encoded(photo(24, 40), "JPEG", exif=exif(orientation)))
    assert read_photo(path).shape[:2] == image_size(path) == (24, 40)


def test_grey_palette_alpha_and_deep_photographs_become_rgb(tmp_path):
    grey = photo(16, 24)[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_photo(put(tmp_path / "grey", encoded(grey, "PNG"))), three)
    bits = grey > 127
    np.testing.assert_array_equal(
        read_photo(put(tmp_path / "bits", png(bits, 1))), np.where(bits[..., None], 255, 0) + 0 * three
    )
    deep = np.arange(65536).reshape(256, 256)
    expected = np.floor(deep / 257 + 0.5)  # 65535 / 255 = 257
    np.testing.assert_array_equal(read_photo(put(tmp_path / "deep", png(deep, 16)))[..., 1], expected)
    palette = np.random.default_rng(0).integers(0, 256, (256, 3))
    alpha = bytes(range(256))
    np.testing.assert_array_equal(read_photo(put(tmp_path / "p", png(grey, 8, palette, alpha))), palette[grey])
    for mode in ("LA", "RGBA"):
        image = Image.fromarray(three).convert(mode)
        image.putalpha(Image.fromarray(grey))
        np.testing.assert_array_equal(read_photo(put(tmp_path / mode, encoded(image, "PNG"))), three)
    cmyk = put(tmp_path / "cmyk", encoded(Image.fromarray(photo(16, 24)).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(read_photo(cmyk).astype(int) - photo(16, 24)).mean() < 8


def test_sixteen_bit_colours_keep_their_upper_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path = put(tmp_path / "a.png", header(7, 5, 16) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_photo(path), values >> 8)


@pytest.mark.parametrize("kind", ("GIF", "PNG", "WEBP", "TIFF"))
def test_animations_are_refused(tmp_path, kind):
    more = [Image.fromarray(photo(8, 8, seed)) for seed in (1, 2)]
    path = put(tmp_path / "a.png", encoded(photo(8, 8), kind, save_all=True, append_images=more))
    for read in (read_photo, read_labels, image_size):
        refusal(read, path, "3 frames")


def test_floating_point_photographs_are_refused(tmp_path):
    refusal(read_photo, put(tmp_path / "a.tif", REFUSED_LABELS["float.tif"][0]), "floating-point")


# damaged and hostile files

SEEDS = (
    encoded(photo(24, 40), "PNG"),
    encoded(photo(24, 40), "JPEG"),
    encoded(photo(24, 40), "JPEG", progressive=True, subsampling=0, exif=exif(6)),
    encoded(Image.fromarray(photo(24, 40)).convert("CMYK"), "JPEG"),
    encoded(photo(24, 40), "WEBP"),
    encoded(photo(24, 40), "GIF"),
    encoded(photo(24, 40), "BMP"),
    encoded(photo(24, 40), "TIFF", compression="tiff_lzw"),
    encoded(photo(24, 40)[..., 0], "PPM"),
    encoded(Image.fromarray(photo(24, 40)).convert("RGBA"), "PNG", exif=exif(5)),
    encoded(Image.fromarray(photo(24, 40)).quantize(16), "PNG"),
    encoded(photo(24, 40), "PNG", save_all=True, append_images=[Image.fromarray(photo(24, 40, 1))]),
    png(photo(24, 40)[..., 0] >> 4, 4, late=True, orientation=3),
    png(photo(24, 40)[..., 0].astype(int) * 257, 16, interlaced=True),
)


def outcome(read, path: Path):
    try:
        return np.asarray(read(path))
    except UserError as e:
        assert "\n" not in str(e) and str(e).startswith(f"{path}: ")
        return None


@settings(MANY, max_examples=300)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.booleans()), max_size=6),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_a_damaged_file_gives_pixels_or_one_line(folder, data, flips, kept):
    damaged = bytearray(data)
    for place, value, near_the_start in flips:
        damaged[int(place * (min(100, len(data)) if near_the_start else len(data)))] = value
    path = put(folder / "damaged", bytes(damaged[: int(kept * len(data))]))
    pixels, size = outcome(read_photo, path), outcome(image_size, path)
    outcome(read_labels, path)
    if pixels is not None:
        assert size is not None and pixels.dtype == np.uint8 and pixels.shape == (*size.tolist(), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "decode_rgb", lambda image, path: None)
        plain = outcome(read_photo, path)
    assert (plain is None) == (pixels is None)
    np.testing.assert_array_equal(plain, pixels)


@MANY
@given(st.binary(max_size=300), st.sampled_from((b"", SIGNATURE, b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"RIFF")))
def test_random_bytes_give_one_line(folder, data, start):
    path = put(folder / "random", start + data)
    for read in (read_photo, read_labels, image_size):
        outcome(read, path)


@pytest.mark.parametrize("kind", ("PNG", "JPEG", "WEBP"))
def test_every_cut_of_a_photograph_is_refused(tmp_path, kind):
    whole = encoded(photo(24, 40), kind)
    for length in range(0, len(whole) - 20, 37):
        refusal(read_photo, put(tmp_path / "cut", whole[:length]))


BOMB = zlib.compress(bytes(1 << 26))  # 64 MB in 64 kB
END = chunk(b"IEND", b"")
HOSTILE = {
    "claims": (header(60000, 60000) + chunk(b"IDAT", zlib.compress(b"")) + END, "limit of 134,217,728"),
    "claims and delivers": (
        header(60000, 60000, kind=0) + chunk(b"IDAT", BOMB) * 4 + END,
        "limit of 134,217,728",
    ),
    "just above the limit": (header(8193, 16384) + chunk(b"IDAT", BOMB) + END, "limit of 134,217,728"),
    "a text bomb": (header(4, 4) + chunk(b"zTXt", b"a\0\0" + BOMB) + chunk(b"IDAT", b"") + END, "damaged"),
    "a colour profile bomb": (
        header(4, 4) + chunk(b"iCCP", b"a\0\0" + BOMB) + chunk(b"IDAT", b"") + END,
        "damaged",
    ),
    "a chunk of 4 GB": (header(4, 4) + b"\xff\xff\xff\xffIDAT" + bytes(9), "damaged"),
    "a text of 2 GB": (header(4, 4) + b"\x7f\xff\xff\xfftEXt" + bytes(9), "damaged"),
    "no size": (header(0, 0) + END, "no image"),
    "more pixels than rows": (
        header(4000, 4000) + chunk(b"IDAT", zlib.compress(bytes(100))) + END,
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    data, words = HOSTILE[name]
    refusal(read_photo, put(tmp_path / "a.png", data), words)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of its memory from /proc")
def test_bombs_take_no_memory(tmp_path):
    for n, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{n}.png").write_bytes(data)
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom photogram.errors import UserError\n"
        "from photogram.images import read_photo, read_labels\n"
        "for path in sys.argv[1:]:\n"
        "    for read in (read_photo, read_labels):\n"
        "        try: read(path)\n"
        "        except UserError as e: assert 'Memory' not in str(e), e\n"
        "peak = re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())\n"
        "assert int(peak[1]) < 400_000, peak[1]\n"
    )
    paths = sorted(map(str, tmp_path.iterdir()))
    subprocess.run([sys.executable, "-c", code, *paths], check=True, timeout=60)


def test_what_is_not_there_or_no_file_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(SEEDS[0])
    refusal(read_photo, tmp_path / "none.png", "no such file")
    refusal(read_photo, tmp_path, "is a folder")
    refusal(read_photo, tmp_path / "a.png" / "b.png", "cannot be read", "Not a directory")
    refusal(read_photo, tmp_path / ("x" * 300), "cannot be read", "too long")


# sizes


@MANY
@given(*[st.integers(1, 40)] * 4, st.integers(0, 2**32))
def test_the_nearest_rule_is_its_formula_and_invents_nothing(height, width, to_height, to_width, seed):
    labels = np.random.default_rng(seed).integers(0, 65536, (height, width), dtype=np.int32)
    small = resize_labels(labels, (to_height, to_width))
    for i in range(to_height):
        for j in range(to_width):
            row = (i + Fraction(1, 2)) * height // to_height  # floor((i + 0.5) in / out)
            assert small[i, j] == labels[row, (j + Fraction(1, 2)) * width // to_width]
    assert small.dtype == labels.dtype and set(small.flat) <= set(labels.flat)


def test_the_nearest_rule_picks_as_the_specification_says():
    four, two = np.arange(16).reshape(4, 4), np.arange(4).reshape(2, 2)
    assert resize_labels(four, (1, 1))[0, 0] == four[2, 2]
    assert resize_labels(two, (1, 1))[0, 0] == two[1, 1]


@MANY
@given(*[st.integers(1, 9)] * 4, st.booleans())
def test_the_nearest_rule_is_torchs_nearest_exact(height, width, by_rows, by_columns, larger):
    small, large = (height, width), (height * by_rows, width * by_columns)
    start, end = (small, large) if larger else (large, small)
    labels = np.arange(start[0] * start[1]).reshape(start)
    oracle = torch.nn.functional.interpolate(torch.tensor(labels)[None, None].double(), end, mode="nearest-exact")
    np.testing.assert_array_equal(resize_labels(labels, end), oracle[0, 0].numpy())


@pytest.mark.parametrize("height", (256, 512))
def test_the_nearest_rule_reproduces_the_published_layouts(height):
    files = sorted((SHARED / "data/crn-layouts/Label1024Full").glob("*.png"))
    if not files:
        pytest.skip("needs shared/data/crn-layouts")
    for path in files:
        full, small = (
            read_photo(SHARED / f"data/crn-layouts/Label{h}Full" / path.name).astype(np.int32) @ (1 << 16, 1 << 8, 1)
            for h in (1024, height)
        )
        np.testing.assert_array_equal(resize_labels(full, (height, 2 * height)), small)


def cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    inner, outer = ((a + 2) * x - (a + 3)) * x * x + 1, a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def weights(n: int, out: int) -> np.ndarray:
    """Rows of a bicubic interpolation from n to out samples, widened where it shrinks."""
    scale = n / out
    distance = (np.arange(n) + 0.5)[None] - ((np.arange(out) + 0.5) * scale)[:, None]
    rows = cubic(distance / max(scale, 1))
    return rows / rows.sum(1, keepdims=True)


@MANY
@given(*[st.integers(4, 40)] * 4)
def test_photographs_are_resized_by_an_antialiased_bicubic(height, width, to_height, to_width):
    pixels = photo(height, width, seed=height)
    resized = resize_photo(pixels, (to_height, to_width)).astype(int)
    down, across = weights(height, to_height), weights(width, to_width)

    def one(way: str, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.floor(np.clip(np.einsum(way, rows, values), 0, 255) + 0.5)

    orders = (  # values are rounded between the two directions; the cheaper one comes first
        one("ih,hjc->ijc", down, one("jw,hwc->hjc", across, pixels)),
        one("jw,iwc->ijc", across, one("ih,hwc->iwc", down, pixels)),
    )
    assert resized.shape == (to_height, to_width, 3)
    assert min(np.abs(resized - slow).max() for slow in orders) <= 1


def test_a_fine_checkerboard_becomes_grey():
    board = (np.indices((64, 96)).sum(0) % 2 * 255).astype(np.uint8)
    small = resize_photo(np.repeat(board[..., None], 3, axis=2), (16, 24))
    assert small.shape == (16, 24, 3) and np.abs(small.astype(int) - 127.5).max() <= 4


# writing


@pytest.mark.parametrize("name", ("a.png", "a.PNG", "a.jpg", "a.jpeg", "a.webp"))
def test_images_are_written_in_the_type_of_their_name(tmp_path, name):
    write_image(photo(40, 56), tmp_path / name)
    close = np.abs(read_photo(tmp_path / name).astype(int) - photo(40, 56))
    assert close.max() == 0 if name.lower().endswith("png") else close.mean() < 4
    with Image.open(tmp_path / name) as image:
        assert image.format == {"png": "PNG", "webp": "WEBP"}.get(name[2:].lower(), "JPEG")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ("a", "a.gif", "a.tiff", "a.json"))
def test_other_types_are_refused(tmp_path, name):
    refusal(lambda path: write_image(photo(4, 4), path), tmp_path / name, ".png, .jpg or .webp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", (RuntimeError, KeyboardInterrupt, OSError))
def test_a_writer_that_fails_leaves_the_old_file(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), replacing(tmp_path / "a") as file:
        file.write(b"new, but only half of i")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "a.json") as file:
        file.write(b"{}")
        file.flush()
        assert not (tmp_path / "a.json").exists()
        assert [p.name[0] for p in tmp_path.iterdir()] == ["."]  # hidden, so no folder reader takes it for data
    assert json.loads((tmp_path / "a.json").read_text()) == {}


def test_a_full_disk_that_shows_at_the_very_end_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_image(photo(8, 8), tmp_path / "a.png")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_image(photo(8, 8, seed=1), tmp_path / "a.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), photo(8, 8))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", ("png", "jpg", "webp"))
def test_a_disk_that_fills_while_writing_leaves_the_old_file(tmp_path, suffix):
    path = put(tmp_path / f"a.{suffix}", b"old")
    code = (
        "import resource, signal, sys, numpy as np; from photogram.images import write_image\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try: write_image(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8), sys.argv[1])\n"
        "except OSError as e: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == 7
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_an_error_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "file" / "a.png", tmp_path / "none" / "a.png"):
        with pytest.raises(OSError):
            write_image(photo(4, 4), path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"old"


# instance maps


@MANY
@given(
    st.sampled_from((".png", ".tif", ".npy")),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from((1, 255, 256, 33005, 65535, 65536, 2**24 + 1, NUMBER_LIMIT)),
    st.integers(0, 99),
)
def test_what_is_written_is_read(folder, suffix, height, width, most, seed):
    """Check 10.3: no number is lost from an array to a file and back."""
    numbers = np.random.default_rng(seed).integers(0, most, (height, width), endpoint=True)
    numbers[0, 0] = most
    path = folder / f"numbers{suffix}"
    if suffix == ".png" and most > 65535:
        with pytest.raises(UserError, match=rf"cannot hold {most}, but 0\.\.65535; a \.tif holds it"):
            write_labels(numbers, path)
        return
    write_labels(numbers, path)
    found = read_instances(path)
    assert found.dtype == np.int32 and labels_size(path) == (height, width)
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_array_equal(read_labels(path), numbers)
    if most < 256:
        write_labels(numbers.astype(np.uint8), path)
        assert read_labels(path).dtype == np.uint8
        np.testing.assert_array_equal(read_labels(path), numbers)


def test_what_cannot_be_written_is_refused(tmp_path):
    for suffix in (".png", ".tif", ".npy"):
        with pytest.raises(UserError, match=r"cannot hold -1, but 0"):
            write_labels(np.array([[5, -1]]), tmp_path / f"a{suffix}")
    with pytest.raises(UserError, match=r"cannot hold 2147483648, but 0\.\.2147483647$"):
        write_labels(np.array([[2**31]]), tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"written as \.png, \.tif or \.npy"):
        write_labels(np.zeros((2, 2), np.uint8), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packing", (None, "zlib"))
@pytest.mark.parametrize("order", ("<", ">"))
@pytest.mark.parametrize("kind", (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32))
def test_integers_of_a_tiff_are_read_exactly_or_refused(tmp_path, kind, order, packing):
    """Pillow alone wraps unsigned 32 bits and signed 8, and swaps the bytes of packed big-endian signed integers."""
    bounds = np.iinfo(kind)
    values = np.array([[0, 1, 100], [bounds.min, min(bounds.max, NUMBER_LIMIT), bounds.max // 3]]).astype(kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, byteorder=order, compression=packing, photometric="minisblack")
    try:
        found = read_labels(path)
    except UserError as e:
        assert order == ">" and np.dtype(kind).itemsize > 1 and str(e).startswith(f"{path}: ")
        assert kind == np.uint32 or packing is not None
    else:
        np.testing.assert_array_equal(found, values)
        assert labels_size(path) == (2, 3)


@pytest.mark.parametrize("kind", (np.uint32, np.int64, np.uint64))
def test_numbers_beyond_32_signed_bits_are_refused_by_name(tmp_path, kind):
    numbers = np.ones((3, 4), kind)
    numbers[2, 1] = 2**31
    words = ("2147483648 at (row 2, column 1)", "2147483647 is the largest")
    np.save(tmp_path / "a.npy", numbers)
    refusal(read_instances, tmp_path / "a.npy", *words)
    if kind == np.uint32:
        tifffile.imwrite(tmp_path / "a.tif", numbers)
        refusal(read_instances, tmp_path / "a.tif", *words)
    numbers[2, 1] = 2**31 - 1
    np.save(tmp_path / "a.npy", numbers)
    np.testing.assert_array_equal(read_instances(tmp_path / "a.npy"), numbers)


@pytest.mark.parametrize(
    ("array", "words"),
    (
        (np.zeros((2, 2)), ("float64, not indices",)),
        (np.zeros((2, 2, 1), int), ("array [2, 2, 1]", "[height, width]")),
        (np.zeros((0, 2), int), ("array [0, 2]",)),
        (np.array([[{}]]), ("object, not indices",)),
    ),
)
def test_arrays_that_are_no_maps_are_refused(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    for read in (read_instances, labels_size):
        refusal(read, tmp_path / "a.npy", *words)


def test_arrays_that_are_not_whole_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 30), np.int32))
    whole = (tmp_path / "a.npy").read_bytes()
    put(tmp_path / "a.npy", whole[:-1])
    refusal(read_instances, tmp_path / "a.npy", "announces 2,400 bytes", "holds 2,399", "cut short")
    put(tmp_path / "a.npy", whole.replace(b"(20, 30)", b"(99999, 99999)"[:8].ljust(8)))
    refusal(read_instances, tmp_path / "a.npy", "cannot be decoded")
    put(tmp_path / "a.npy", whole.replace(b"(20, 30), }      ", b"(80000, 90000), }"))
    refusal(read_instances, tmp_path / "a.npy", "80000 x 90000 pixels are more than the limit")


def test_instance_maps_in_colours_are_refused(tmp_path):
    """Check 10.9; what would help a layout does not help here."""
    write_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "a.png")
    refusal(read_instances, tmp_path / "a.png", "holds colours (mode RGB), not object numbers", "grey PNG", ".npy")
