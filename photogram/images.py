"""Files to pixel arrays and back: the only place that decodes and encodes images.

Photographs come out as uint8 RGB, label maps and instance maps as the integers that the file holds. What a file is
follows from its first bytes, not from its name. Hostile and damaged files end in one clear `UserError`.
"""

from __future__ import annotations

import io
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from photogram.errors import UserError

PIXEL_LIMIT = 1 << 27
"""The largest image that is decoded, in pixels (8192 x 16384). Larger ones are refused before any is decoded.

It lies below the 179 million at which Pillow refuses by itself, so that this is the one limit there is.
"""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
INSTANCE_SUFFIXES = (*LABEL_SUFFIXES, ".npy")
NUMBER_LIMIT = 2**31 - 1
"""The largest object number."""
NPY = b"\x93NUMPY"

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # an MPO is opened as a JPEG
_LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # those that give back the integers that were stored
_ORIENTATION = 0x0112
_SAMPLE_FORMAT, _SIGNED = 339, 2
_SUB_BYTE_GREY = {"L;2": 85, "L;4": 17}  # Pillow stretches 2- and 4-bit greys to 0..255


def _mute_pillow() -> None:
    """What Pillow only warns of is refused here or does not matter. (`catch_warnings` would not be safe in threads.)"""
    pattern = r"PIL\."
    if not any(f[0] == "ignore" and getattr(f[3], "pattern", f[3]) == pattern for f in warnings.filters):
        warnings.filterwarnings("ignore", module=pattern)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder throws at a damaged or hostile file into one line that names the file."""
    _mute_pillow()
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not an image") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: holds more than the limit of {PIXEL_LIMIT:,} pixels; refused") from None
    except Image.UnidentifiedImageError:
        size = path.stat().st_size
        raise UserError(f"{path}: {'is empty' if size == 0 else 'is no image that can be read'}") from None
    except Exception as e:  # decoders raise anything on hostile input: struct.error, SyntaxError, zlib.error, ...
        if isinstance(e, OSError) and e.errno is not None:  # the system's, not a decoder's
            raise UserError(f"{path}: cannot be read ({e.strerror})") from None
        reason = " ".join(str(e).split()) or type(e).__name__
        raise UserError(f"{path}: cannot be decoded, damaged or cut short ({reason})") from None


@contextmanager
def open_image(path: str | Path) -> Iterator[ImageFile.ImageFile]:
    """Open an image and check its header, before any pixel is decoded.

    Raises:
        UserError: where the file is missing, empty, no image, animated, or larger than `PIXEL_LIMIT`.
    """
    path = Path(path)
    with reading(path), Image.open(path, formats=_FORMATS) as image:
        width, height = image.size
        if width * height > PIXEL_LIMIT:
            raise UserError(f"{path}: {height} x {width} pixels are more than the limit of {PIXEL_LIMIT:,}; refused")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # an MPO is a JPEG with a preview behind it
            raise UserError(f"{path}: is an animation or a stack of {frames} frames; give one frame a file")
        yield image


def orientation_of(image: ImageFile.ImageFile) -> int:
    """How EXIF says that the decoded pixels must be turned, 1..8; 1 is not at all."""
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    if isinstance(image, PngImageFile) and not _metadata_behind_pixels(image):
        exif = Image.Image.getexif(image)  # PngImageFile.getexif would decode all pixels first
    else:
        exif = image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def _metadata_behind_pixels(image: PngImageFile) -> bool:
    """Whether a PNG has chunks behind its pixels that may hold an orientation. Few have."""
    assert image.fp is not None
    start, pixels, found = image.fp.tell(), False, False
    image.fp.seek(8)  # the signature
    while not found and len(head := image.fp.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        pixels |= kind == b"IDAT"
        here = image.fp.tell()
        if pixels and kind in (b"tEXt", b"zTXt", b"iTXt"):
            found = image.fp.read(20).startswith((b"Raw profile type", b"XML:com.adobe.xmp"))  # not a mere date
        found |= pixels and kind == b"eXIf"
        image.fp.seek(here + length + 4)
    image.fp.seek(start)
    return found


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width as displayed (turned as EXIF asks), from the header alone."""
    with open_image(path) as image:
        width, height = image.size
        return (width, height) if orientation_of(image) >= 5 else (height, width)


def read_photo(path: str | Path) -> np.ndarray:
    """Read a photograph as uint8 RGB [h, w, 3], turned as its EXIF orientation asks.

    Grey becomes RGB, alpha is dropped, 16-bit greys are scaled to 8 bits, 16-bit colours keep their upper 8
    bits. JPEG and PNG go through faster decoders where they are installed (extra `data`); the pixels are the
    same, and Pillow has the last word on what these refuse.

    Raises:
        UserError: where the file cannot be read as one photograph.
    """
    path = Path(path)
    with open_image(path) as image:
        pixels = decode_rgb(image, path) if image.mode == "RGB" and orientation_of(image) == 1 else None
        if pixels is not None:
            return pixels
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I":
            grey = np.asarray(image).astype(np.int64)
            if grey.min() < 0 or grey.max() > 65535:
                raise UserError(f"{path}: grey values {grey.min()}..{grey.max()} are outside 0..65535")
            image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        if image.mode == "F":
            raise UserError(f"{path}: holds floating-point values; photographs are 8- or 16-bit")
        return np.array(image.convert("RGB"))


def decode_rgb(image: ImageFile.ImageFile, path: Path) -> np.ndarray | None:
    """The pixels of an opened RGB image by a faster decoder, where there is one that takes the file; else None."""
    if image.format == "JPEG":
        return _decode_jpeg(path)
    return _decode_png(path) if image.format == "PNG" and raw_mode(image) == "RGB" else None


def _decode_jpeg(path: Path) -> np.ndarray | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    try:
        return simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
    except ValueError:
        return None


def _decode_png(path: Path) -> np.ndarray | None:
    try:
        from kornia_rs.io import read_image_png_u8
    except ImportError:
        return None
    try:
        return np.asarray(read_image_png_u8(str(path), "rgb"))
    except Exception:  # it raises nothing narrower
        return None


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label map as the integers in the file: uint8 [h, w], or int32 where the file has more than 8 bits.

    Palette PNGs give their indices, never their colours; 1-, 2- and 4-bit greys give 0..1, 0..3 and 0..15. TIFFs have
    up to 32 bits; a .npy is [h, w] of any integers and never unpickled.

    Raises:
        UserError: where the file cannot be read, holds colours instead of indices, a number beyond `NUMBER_LIMIT`, or
            was stored in a format that does not give back what was stored, such as JPEG.
    """
    return _read_integers(Path(path), "not class indices; turn colours into indices with `photogram prepare palette`")


def read_instances(path: str | Path) -> np.ndarray:
    """Read an instance map as the numbers in the file: int32 [h, w], at most `NUMBER_LIMIT`; files as in `read_labels`.

    Raises:
        UserError: as `read_labels` does.
    """
    return _read_integers(
        Path(path), "not object numbers; store one number a pixel, as grey PNG of 8 or 16 bits, TIFF of 32 or .npy"
    ).astype(np.int32)


def labels_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a label map or an instance map, from the header alone."""
    path = Path(path)
    with reading(path):
        return _npy_size(path) if _is_npy(path) else image_size(path)


def _read_integers(path: Path, not_colours: str) -> np.ndarray:
    """What `read_labels` promises; `not_colours` says what was expected instead of colours, and what to do."""
    with reading(path):
        if _is_npy(path):
            _npy_size(path)
            return _narrow(np.load(path, allow_pickle=False), path)
    with open_image(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise UserError(f"{path}: is a JPEG, which does not keep class indices; store label maps as PNG")
        if image.format not in _LABEL_FORMATS:
            raise UserError(f"{path}: is a {image.format}, which may change indices; store label maps as PNG")
        if image.mode == "F":
            raise UserError(f"{path}: holds floating-point values, not indices; store label maps as PNG")
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"):
            raise UserError(f"{path}: holds colours (mode {image.mode}), {not_colours}")
        raw = raw_mode(image)
        if image.mode in ("1", "L") and "I" in raw.partition(";")[2]:
            raise UserError(f"{path}: stores white as 0 (mode {raw}); store label maps as PNG")
        kind = _tiff_integers(image, raw, path)
        stretched = _SUB_BYTE_GREY.get(raw[:3], 1)
        labels = np.array(ImageOps.exif_transpose(image))
        labels = labels if kind is None else labels.view(kind)
        if labels.dtype in (np.dtype(np.uint8), np.dtype(bool)):
            return labels.astype(np.uint8) // np.uint8(stretched)
        return _narrow(labels, path)


def _tiff_integers(image: ImageFile.ImageFile, raw: str, path: Path) -> type[np.integer] | None:
    """What the integers of a TIFF are, where Pillow takes them for others: it wraps the unsigned of 32 bits and the
    signed of 8, and swaps the bytes of the signed that are packed in big-endian files, which are refused."""
    if not isinstance(image, TiffImageFile):
        return None
    if raw.endswith("BS") and image.tile[0].codec_name == "libtiff":
        raise UserError(f"{path}: holds packed big-endian signed integers, which are not read; store it little-endian")
    signed = image.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if image.mode == "L" and signed:
        return np.int8
    return np.uint32 if raw.startswith("I;32") and not signed else None


def _narrow(labels: np.ndarray, path: Path) -> np.ndarray:
    """Integers of any type as uint8 where they are that or bool, else as int32, exactly."""
    if labels.dtype.itemsize == 1 and labels.dtype.kind in "bu":
        return np.ascontiguousarray(labels, np.uint8)
    wide = labels.dtype.itemsize > 4 or labels.dtype.kind == "u"
    if wide and (int(labels.max()) > NUMBER_LIMIT or int(labels.min()) < ~NUMBER_LIMIT):
        wrong = (labels > NUMBER_LIMIT) | (labels < ~NUMBER_LIMIT)
        row, column = np.argwhere(wrong)[0].tolist()
        raise UserError(
            f"{path}: holds {labels[row, column]} at (row {row}, column {column}), but {NUMBER_LIMIT} is the largest "
            "number that is read; number the objects of an image from 1"
        )
    return np.ascontiguousarray(labels, np.int32)


def _is_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(NPY)) == NPY


def _npy_size(path: Path) -> tuple[int, int]:
    """Height and width that the header of a .npy announces, once it is known to be a map of integers that is whole."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = header(file)
        there = path.stat().st_size - file.tell()
    if kind.kind not in "biu":
        raise UserError(f"{path}: holds {kind}, not indices; store integers")
    if len(shape) != 2 or min(shape) < 1:
        raise UserError(f"{path}: is an array {list(shape)}; it must be [height, width]")
    height, width = shape
    if height * width > PIXEL_LIMIT:
        raise UserError(f"{path}: {height} x {width} pixels are more than the limit of {PIXEL_LIMIT:,}; refused")
    if there != height * width * kind.itemsize:
        expected = height * width * kind.itemsize
        raise UserError(f"{path}: announces {expected:,} bytes of values but holds {there:,}; damaged or cut short")
    return height, width


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How pixels are stored in the file, in Pillow's words, such as `L;4` for a 4-bit grey."""
    stored = image.tile[0].args if image.tile else ""
    return str(stored[0] if isinstance(stored, tuple) else stored)


def read_drawing(path: str | Path) -> np.ndarray:
    """Read a line drawing as uint8 grey [h, w], what is transparent as white paper.

    Where nothing can be seen on white (white lines on nothing), the paper is black.

    Raises:
        UserError: where the file cannot be read as one image.
    """
    with open_image(path) as image:
        if not image.has_transparency_data:
            return np.array(Image.fromarray(read_photo(path)).convert("L"))
        turned = ImageOps.exif_transpose(image).convert("RGBA")

        def on(paper: str) -> np.ndarray:
            return np.array(Image.alpha_composite(Image.new("RGBA", turned.size, paper), turned).convert("L"))

        grey = on("white")
        return grey if grey.min() < grey.max() else on("black")


def resize_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [h, w, 3] to (height, width): bicubic (a = -0.5) with antialiasing, as in specification 5.2."""
    if photo.shape[:2] == tuple(size):
        return photo
    return np.array(Image.fromarray(photo).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize integers [h, w] to (height, width) by the nearest rule src = floor((i + 0.5) * in / out), exactly.

    It picks offset 1 in each 2 x 2 block and 2 in each 4 x 4 block, and reproduces the label maps published with CRN at
    half and quarter size. Always start from the full-size map: the rule applied twice is not the rule applied once.
    """
    if labels.shape == tuple(size):
        return labels
    rows, columns = (
        (2 * np.arange(out, dtype=np.int64) + 1) * n // (2 * out) for n, out in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns[None, :]]


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it there at the end, so that no reader ever sees half of it."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    names_to_disk(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy, beside its place and then renamed; no link, which would let a change to one reach the other."""
    with source.open("rb") as read, replacing(target) as written:
        shutil.copyfileobj(read, written, 1 << 20)


def names_to_disk(folder: Path) -> None:
    """See to it that a power cut does not undo what was renamed in a folder. Windows keeps folders to itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_WRITERS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {"compress_level": 6}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
}


def check_suffix(path: str | Path) -> None:
    """Refuse a name that `write_image` could not write, before anything is computed for it.

    Raises:
        UserError: where the name ends in none of .png, .jpg, .jpeg, .webp.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without a suffix'!r}; use .png, .jpg or .webp")


def write_image(pixels: np.ndarray | Image.Image, path: str | Path, **options: object) -> None:
    """Write pixels (uint8 [h, w, 3] or [h, w]; uint16 [h, w] as PNG) in the type that the file's name asks for.

    Raises:
        UserError: where the name ends in none of .png, .jpg, .jpeg, .webp.
    """
    path = Path(path)
    check_suffix(path)
    kind, defaults = _WRITERS[path.suffix.lower()]
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    encoded = io.BytesIO()  # not straight into the file: Pillow does not notice there that a JPEG was cut short
    image.save(encoded, kind, **{**defaults, **options})
    with replacing(path) as file:
        file.write(encoded.getbuffer())


def write_labels(labels: np.ndarray, path: str | Path) -> None:
    """Write class indices or object numbers [h, w] without loss, so that `read_labels` gives them back.

    Args:
        labels: integers of 0 or more. uint8 is written with 8 bits, others with 16 as PNG and with 32 as TIFF.
        path: .png, which holds 0..65535; .tif or .npy, which hold 0..`NUMBER_LIMIT`.

    Raises:
        UserError: where the file cannot hold what there is, naming the number and the bound.
    """
    path, least, most = Path(path), int(labels.min()), int(labels.max())
    suffix, small = path.suffix.lower(), labels.dtype == np.uint8
    if suffix not in (".png", ".tif", ".tiff", ".npy"):
        raise UserError(f"{path}: label maps are written as .png, .tif or .npy")
    bound = 65535 if suffix == ".png" else NUMBER_LIMIT
    if least < 0 or most > bound:
        advice = "; a .tif holds it" if bound < most <= NUMBER_LIMIT else ""
        raise UserError(f"{path}: cannot hold {least if least < 0 else most}, but 0..{bound}{advice}")
    if suffix == ".png":
        return write_image(labels if small else labels.astype(np.uint16), path)
    plain = np.ascontiguousarray(labels if small else labels.astype(np.int32))
    with replacing(path) as file:
        if suffix == ".npy":
            np.save(file, plain, allow_pickle=False)
        else:
            Image.fromarray(plain).save(file, "TIFF", compression="tiff_adobe_deflate")


def instances_suffix(source: Path) -> str:
    """How the name of an instance map ends that is made of another: a PNG has room for what was one, or a bitmap."""
    return ".tif" if source.suffix.lower() in (".tif", ".tiff", ".npy") else ".png"
