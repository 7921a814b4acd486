"""Files with any number of channels and 8, 16 or 32 bits each to arrays and back, as they are: conditions and targets.

`photogram.images` reads photographs as uint8 RGB; this reads what networks are asked with, and what else they may learn
to make: sketches, depth, stacks of masks. Arrays are [h, w, c], in the file's own type:

- uint8, 0..255: PNG, JPEG, WebP, BMP, TIFF, .npy;
- uint16, 0..65535: PNG, TIFF, .npy;
- float32, in [0, 1]: TIFF, .npy. Other ranges are refused: depth in metres has to be divided by its largest first.

A TIFF's pages are channels, one after the other; a .npy is [h, w] or [h, w, c] and never unpickled. Palettes become
colours. What a file is follows from its first bytes, and hostile ones end in one `UserError`.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from photogram.errors import UserError
from photogram.images import (
    PHOTO_SUFFIXES,
    PIXEL_LIMIT,
    decode_rgb,
    open_image,
    orientation_of,
    raw_mode,
    reading,
    replacing,
    resize_photo,
    write_image,
)

if TYPE_CHECKING:
    import tifffile

WRITTEN = (".png", ".jpg", ".jpeg", ".webp")
RASTER_SUFFIXES = (*PHOTO_SUFFIXES, ".npy")
CHANNEL_LIMIT = 64
"""More channels than this are refused: a file with channels first has as many as it is wide."""
VALUE_LIMIT = 4 * PIXEL_LIMIT
"""The largest file that is decoded, in pixels times channels."""

_NPY = b"\x93NUMPY"
_WHITE_IS_ZERO = 0
_PLAIN_TIFFS = (_WHITE_IS_ZERO, 1, 2)  # by photometric interpretation: levels, white or black as 0, and RGB
_UNPACKED = (1, 8, 32946, 32773)  # by compression, what tifffile reads alone: none, deflate by two names, PackBits
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PLAIN = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}  # Pillow's modes; others become RGB
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_TYPES = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.float32)}
_KINDS = "uint8, uint16 and floating point"


class OutOfRange(UserError):
    """A file holds values that are no levels: not finite, or outside [0, 1]."""


class Form(NamedTuple):
    """What the header of a file says.

    Args:
        height: as displayed, turned as EXIF asks.
        width: the same.
        channels: one or more.
        bits: of a channel: 8, 16, or 32 for floating point.
        alpha: whether the last channel is an opacity.
        pages: of a TIFF; else 1.
    """

    height: int
    width: int
    channels: int
    bits: int
    alpha: bool = False
    pages: int = 1

    @property
    def size(self) -> tuple[int, int]:
        return (self.height, self.width)

    @property
    def colours(self) -> int:
        """Channels without an opacity."""
        return self.channels - self.alpha

    def __str__(self) -> str:
        """The type, for messages."""
        return kind_of(self.channels, self.bits)


def kind_of(channels: int, bits: int) -> str:
    """`3 channels of 16 bits`, for messages."""
    return f"{channels} channel{'s' if channels > 1 else ''} of {bits} bits"


def bits_of(raster: np.ndarray) -> int:
    """8, 16, or 32 for floating point."""
    return 8 * raster.dtype.itemsize


def raster_form(path: str | Path) -> Form:
    """Size, channels and bits of a file, from its header alone.

    Raises:
        UserError: where the file is missing, of no kind that is read, or too large.
    """
    path = Path(path)
    with reading(path):
        start = _first_bytes(path)
        if start.startswith(_NPY):
            with path.open("rb") as file:
                return _npy_form(file, path)[0]
        if start[:4] in _TIFFS:
            form = _tiff_form(path)
            if form is not None:
                return form
        with open_image(path) as image:
            turned = orientation_of(image) >= 5
            height, width = (image.width, image.height) if turned else (image.height, image.width)
            if image.mode.startswith("I;16"):
                return Form(height, width, 1, 16)
            if image.mode == "F":
                return Form(height, width, 1, 32)
            if image.mode == "I":
                raise UserError(f"{path}: holds 32-bit integers; {_KINDS} are read")
            mode = _PLAIN.get(image.mode, "RGB")
            bits = 16 if _is_png16(raw_mode(image)) else 8
            return Form(height, width, _CHANNELS[mode], bits, mode in ("LA", "RGBA"))


def read_raster(path: str | Path) -> np.ndarray:
    """Read a file as it is: [h, w, c], uint8, uint16 or float32 in [0, 1], turned as its EXIF orientation asks.

    Raises:
        UserError: where the file cannot be read; holds other types; or floats that are not finite, or outside [0, 1],
            naming the first.
    """
    path = Path(path)
    with reading(path):
        start = _first_bytes(path)
        tiff = start[:4] in _TIFFS and _tiff_form(path) is not None
        read = _read_npy if start.startswith(_NPY) else _read_tiff if tiff else _read_with_pillow
        return _checked(read(path), path)


def read_as(path: str | Path, channels: int, bits: int) -> np.ndarray:
    """Read a photograph or target of a known form: an opacity is dropped, 8-bit grey becomes RGB where that is asked.

    Raises:
        UserError: where it has other channels or bits, naming both forms; or cannot be read.
    """
    form, raster = raster_form(path), read_raster(path)
    if form.alpha and channels == form.colours:
        raster = raster[..., : form.colours]
    elif bits == 8 and channels == 3 and form.colours == 1:
        raster = np.repeat(raster[..., :1], 3, axis=-1)
    if (raster.shape[2], bits_of(raster)) != (channels, bits):
        raise UserError(f"{path}: has {form}, but the others have {kind_of(channels, bits)}; all must be alike")
    return np.ascontiguousarray(raster)


def read_rgb(path: str | Path) -> np.ndarray:
    """Read any file as uint8 RGB [h, w, 3], to be looked at: see `as_rgb`. Photographs as `read_photo` reads them."""
    return as_rgb(read_raster(path))


def as_rgb(raster: np.ndarray) -> np.ndarray:
    """A raster [h, w, c] as uint8 RGB: its upper 8 bits, one channel repeated, the first three of more."""
    if raster.dtype == np.uint16:
        raster = ((raster.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    elif raster.dtype != np.uint8:
        raster = (raster * 255 + 0.5).astype(np.uint8)
    return np.repeat(raster[..., :1], 3, axis=-1) if raster.shape[-1] < 3 else np.ascontiguousarray(raster[..., :3])


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _bounded(path: Path, height: int, width: int, channels: int) -> None:
    """Refuse what a header announces before anything of that size is made."""
    if min(height, width, channels) < 1:
        raise UserError(f"{path}: is {height} x {width} with {channels} channels, which is empty")
    if height * width > PIXEL_LIMIT:
        raise UserError(f"{path}: {height} x {width} pixels are more than the limit of {PIXEL_LIMIT:,}; refused")
    if channels > CHANNEL_LIMIT:
        raise UserError(f"{path}: has {channels} channels, more than {CHANNEL_LIMIT}; channels stand last")
    if height * width * channels > VALUE_LIMIT:
        raise UserError(f"{path}: {height} x {width} x {channels} values are more than the limit of {VALUE_LIMIT:,}")


def _checked(raster: np.ndarray, path: Path) -> np.ndarray:
    """The array in one of the three types, floats within their range."""
    if raster.dtype.kind == "f":
        wrong = ~((raster >= 0) & (raster <= 1))  # nan is neither
        if wrong.any():
            row, column, channel = np.argwhere(wrong)[0].tolist()
            raise OutOfRange(
                f"{path}: holds {raster[row, column, channel]:g} at (row {row}, column {column}, channel {channel}); "
                "floating-point values must lie in [0, 1]"
            )
    return np.ascontiguousarray(raster, dtype=raster.dtype if raster.dtype == np.uint8 else _TYPES[_bits(raster.dtype)])


def _bits(kind: np.dtype) -> int:
    """8, 16 or 32 of what can be read; 0 of other types."""
    if kind.kind == "f" and kind.itemsize in (2, 4, 8):
        return 32
    return 8 * kind.itemsize if kind.kind == "u" and kind.itemsize in (1, 2) else 0


# --- NumPy -----------------------------------------------------------------------------------------------------------


def _npy_form(file: IO[bytes], path: Path) -> tuple[Form, tuple[int, ...], bool, np.dtype]:
    """The form; the array's shape, whether columns come first, and its type. The file is left behind the header."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = header(file)
    if kind.hasobject or not _bits(kind):
        raise UserError(f"{path}: holds {kind}; {_KINDS} are read")
    if len(shape) not in (2, 3):
        raise UserError(f"{path}: is an array {list(shape)}; it must be [height, width] or [height, width, channels]")
    height, width, channels = (*shape, 1)[:3]
    _bounded(path, height, width, channels)
    expected, there = height * width * channels * kind.itemsize, path.stat().st_size - file.tell()
    if there != expected:
        raise UserError(f"{path}: announces {expected:,} bytes of values but holds {there:,}; damaged or cut short")
    return Form(height, width, channels, _bits(kind)), shape, fortran, kind


def _read_npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        form, shape, fortran, kind = _npy_form(file, path)
        values = np.fromfile(file, kind)  # plain numbers: nothing is unpickled
    array = values.reshape(shape, order="F" if fortran else "C")
    return array.reshape(*form.size, form.channels)


# --- TIFF ------------------------------------------------------------------------------------------------------------


def _tiff_form(path: Path) -> Form | None:
    """The form of a TIFF of plain numbers; None of one that is Pillow's to read as a whole."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it would warn of is refused, or does not matter
    with tifffile.TiffFile(path) as tiff:
        pages = _pages(tiff)
        first = pages[0]
        plain = first.photometric in _PLAIN_TIFFS and first.bitspersample >= 8  # else indices, inks, chroma, or bits
        packed = first.compression not in _UNPACKED  # LZW and JPEG are Pillow's, where it has a mode for the pixels
        small = first.samplesperpixel * first.bitspersample <= 32
        if not plain or (packed and small and len(pages) == 1):
            return None
        if packed and (not small or first.photometric == _WHITE_IS_ZERO):
            kind = str(getattr(first.compression, "name", first.compression))
            raise UserError(f"{path}: is packed by {kind}, which is not read of such pixels; store it with deflate")
        forms = [(p.imagelength, p.imagewidth, p.samplesperpixel, str(p.dtype), p.photometric) for p in pages]
        differs = next((n for n, form in enumerate(forms) if form != forms[0]), None)
        if differs is not None:
            raise UserError(f"{path}: page {differs} has another size or type than page 0; pages are channels")
        height, width, channels = first.imagelength, first.imagewidth, first.samplesperpixel * len(pages)
        _bounded(path, height, width, channels)
        if first.imagedepth != 1 or first.dtype is None or not _bits(first.dtype):
            kind = "volumes" if first.imagedepth != 1 else f"values of type {first.dtype}"
            raise UserError(f"{path}: holds {kind}; {_KINDS} are read")
        alpha = len(pages) == 1 and channels in (2, 4) and any(int(e) in (1, 2) for e in first.extrasamples)
        height, width = (width, height) if _tiff_orientation(first) >= 5 else (height, width)
        return Form(height, width, channels, _bits(first.dtype), alpha, len(pages))


def _pages(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pages of a TIFF, one or more, at most one beyond those that are read."""
    import tifffile

    pages = [tiff.pages[n] for n in range(min(len(tiff.pages), CHANNEL_LIMIT + 1))]
    return [page if isinstance(page, tifffile.TiffPage) else page.aspage() for page in pages]


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    value = page.tags.valueof(274, 1)
    return int(value) if value in range(1, 9) else 1


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        pages = _pages(tiff)
        if pages[0].compression not in _UNPACKED:
            return np.concatenate([_pillows_page(path, n, page) for n, page in enumerate(pages)], axis=-1)
        planes = []
        for page in pages:
            values = page.asarray()
            if page.axes == "SYX":
                values = np.moveaxis(values, 0, -1)
            elif page.axes not in ("YX", "YXS"):
                raise UserError(f"{path}: has axes {page.axes}; rows, columns and channels are read")
            if page.photometric == _WHITE_IS_ZERO:
                values = (1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max) - values
            planes.append(turned(values.reshape(*values.shape[:2], -1), _tiff_orientation(page)))
    return np.concatenate(planes, axis=-1)


def _pillows_page(path: Path, number: int, page: tifffile.TiffPage) -> np.ndarray:
    """A page of a TIFF [h, w, c] that only Pillow can unpack, which turns it as it should be."""
    with Image.open(path, formats=("TIFF",)) as image:
        image.seek(number)
        values = np.asarray(image)
    values = values.reshape(*values.shape[:2], -1)
    if values.shape[2] != page.samplesperpixel or _bits(values.dtype) != page.bitspersample:
        raise UserError(f"{path}: page {number} is of no kind that is read; store it with deflate")
    return values


# --- what Pillow opens -----------------------------------------------------------------------------------------------


def _is_png16(raw: str) -> bool:
    """Whether pixels that Pillow would halve are stored with 16 bits."""
    return raw in ("RGB;16B", "RGBA;16B", "LA;16B")


def _read_with_pillow(path: Path) -> np.ndarray:
    with open_image(path) as image:
        orientation, raw = orientation_of(image), raw_mode(image)
        if _is_png16(raw):
            return turned(_read_png16(path, raw), orientation)
        if image.mode == "RGB" and orientation == 1 and (pixels := decode_rgb(image, path)) is not None:
            return pixels
        if image.mode == "I":
            raise UserError(f"{path}: holds 32-bit integers; {_KINDS} are read")
        if image.mode == "F" or image.mode.startswith("I;16"):
            pixels = np.asarray(image).astype(np.float32 if image.mode == "F" else np.uint16)
        else:
            pixels = np.array(image.convert(_PLAIN.get(image.mode, "RGB")))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return pixels if image.format == "TIFF" else turned(pixels, orientation)  # Pillow turns TIFFs itself


def _read_png16(path: Path, raw: str) -> np.ndarray:
    """16-bit colours, of which Pillow keeps 8 bits."""
    if raw == "LA;16B":
        raise UserError(
            f"{path}: holds grey of 16 bits with an opacity, which is not read; store grey alone, or a TIFF"
        )
    try:
        from kornia_rs.io import read_image_png_u16
    except ImportError:
        raise UserError(f"{path}: holds colours of 16 bits, which need kornia-rs: `pip install kornia-rs`") from None
    return np.asarray(read_image_png_u16(str(path), "rgb" if raw == "RGB;16B" else "rgba"))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[h, w, c] as the EXIF orientation 1..8 asks."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


# --- sizes and files -------------------------------------------------------------------------------------------------


def resize_raster(raster: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize [h, w, c] to (height, width), channel by channel, by the rule of `resize_photo`, in its own type.

    Nothing is rounded to 8 bits on the way; where the filter overshoots, values are cut to the type's range.
    """
    if raster.shape[:2] == tuple(size):
        return raster
    if raster.dtype == np.uint8 and raster.shape[2] == 3:
        return resize_photo(raster, size)
    planes = [_resize_plane(np.ascontiguousarray(raster[..., n]), size) for n in range(raster.shape[2])]
    return np.stack(planes, axis=-1)


def _resize_plane(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shape = (size[1], size[0])
    if plane.dtype == np.uint8:
        return np.asarray(Image.fromarray(plane).resize(shape, Image.Resampling.BICUBIC))
    found = np.asarray(Image.fromarray(plane.astype(np.float32)).resize(shape, Image.Resampling.BICUBIC))
    if plane.dtype == np.uint16:
        return np.floor(found.astype(np.float64) + 0.5).clip(0, 65535).astype(np.uint16)
    return found.clip(0, 1)


def suffix_for(channels: int, bits: int) -> str:
    """The type of file that keeps so many channels and bits: `png` where every program reads it, else `tif`."""
    return "png" if (channels, bits) in ((1, 8), (3, 8), (1, 16)) else "tif"


def write_raster(raster: np.ndarray, path: str | Path, **options: object) -> None:
    """Write [h, w, c] in the type that the file's name asks for, so that `read_raster` gives it back.

    .tif and .npy hold everything; .png 8 and 16 bits of 1, 3 or 4 channels; .jpg and .webp 8 bits of 1 or 3, not
    exactly.

    Args:
        raster: uint8, uint16 or float32.
        path: the file.
        options: of Pillow, for types other than .tif and .npy.

    Raises:
        UserError: where the name ends otherwise, or in a type that cannot hold the channels and bits.
    """
    path, (channels, bits) = Path(path), (raster.shape[2], bits_of(raster))
    suffix = path.suffix.lower()
    possible = {".png": (1, 3, 4) if bits <= 16 else ()}.get(suffix, (1, 3) if bits == 8 else ())
    if suffix == ".npy":
        with replacing(path) as file:
            np.save(file, raster, allow_pickle=False)
    elif suffix in (".tif", ".tiff"):
        with replacing(path) as file:
            file.write(_tiff_bytes(raster))
    elif suffix in WRITTEN and channels not in possible:
        raise UserError(f"{path}: a {suffix} file cannot hold {kind_of(channels, bits)}; use .tif or .npy")
    elif bits == 16 and channels > 1:
        _write_png16(raster, path)
    else:
        write_image(raster[..., 0] if channels == 1 else raster, path, **options)


def _tiff_bytes(raster: np.ndarray) -> bytes:
    import tifffile

    written, kind = io.BytesIO(), "rgb"
    if raster.shape[2] != 3:  # a page a channel
        raster, kind = np.ascontiguousarray(np.moveaxis(raster, -1, 0)), "minisblack"
    tifffile.imwrite(written, raster, photometric=kind, compression="zlib", predictor=False, metadata=None)
    return written.getvalue()


def _write_png16(raster: np.ndarray, path: Path) -> None:
    try:
        from kornia_rs.io import write_image_png_u16
    except ImportError:
        raise UserError(f"{path}: colours of 16 bits need kornia-rs (`pip install kornia-rs`), or .tif") from None
    with replacing(path) as file:  # it writes files alone: into the one that is renamed at the end
        write_image_png_u16(file.name, np.ascontiguousarray(raster), "rgb" if raster.shape[2] == 3 else "rgba")
