"""Colour-coded layouts: their colours as integers, which of them are stray, and the class each stands for.

A colour is one integer, 0xRRGGBB. Layouts consist of runs of equal pixels, so everything that looks at all
pixels looks at the heads of the runs instead; 1024 x 2048 pixels take some 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageOps

from photogram.errors import UserError
from photogram.images import open_image

MOST_COLORS = 256
"""More unlisted colours than this in one file are damage: layouts by hand or from renderers stay far below.
"""

NOISE_COLORS = 16
"""More colours than this that nowhere fill a 3 x 3 block, and outnumber those that do, are the noise of a
JPEG."""

NEAR = 6
"""A colour this near to another (largest channel difference) is that one after lossy storage, not a class of
its own."""

_SAMPLED = 20_000  # pixels looked at by the blend test, per file
_SEGMENT = 3.0  # how far off the straight line between two colours rounding and gamma may carry their blend


def read_colors(path: str | Path) -> np.ndarray:
    """Read a layout as the colours it shows: int32 [h, w] of 0xRRGGBB, in 0..0xFFFFFF.

    RGB, grey and indexed-colour files that look alike read alike; alpha is ignored.

    Raises:
        UserError: where the file cannot be read, or has more than 8 bits per channel and so holds no colours.
    """
    with open_image(path) as image:
        if image.mode.startswith("I") or image.mode == "F":
            raise UserError(
                f"{path}: holds numbers of more than 8 bits (mode {image.mode}), not colours; "
                "it may be a layout already"
            )
        rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return pack(rgb)


def pack(rgb: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] to int32 [...], 0xRRGGBB."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def unpack(colors: np.ndarray) -> np.ndarray:
    """int [...] of 0xRRGGBB to int32 [..., 3]."""
    return np.stack([colors >> 16 & 255, colors >> 8 & 255, colors & 255], axis=-1).astype(np.int32)


def pack_color(color: tuple[int, int, int]) -> int:
    """(red, green, blue) to 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack_color(color: int) -> tuple[int, int, int]:
    """0xRRGGBB to (red, green, blue)."""
    return (color >> 16 & 255, color >> 8 & 255, color & 255)


def hexed(color: int) -> str:
    """`#rrggbb`, for people."""
    return f"#{color:06x}"


def _runs(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values and lengths of runs of equal neighbours."""
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts], np.diff(np.append(starts, flat.size))


def count_colors(colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct colours of [h, w], ascending, and the pixels of each."""
    heads, lengths = _runs(colors.ravel())
    found, which = np.unique(heads, return_inverse=True)
    return found, np.bincount(which, lengths).astype(np.int64)


class ColorTable:
    """Turns colours into class indices, exactly, with one index for all colours that it does not list.

    Args:
        indices: 0xRRGGBB -> class index.
        other: the index of every other colour.
    """

    def __init__(self, indices: dict[int, int], other: int):
        self.colors = np.array(sorted(indices), dtype=np.int32)
        self.indices = np.array([indices[c] for c in self.colors.tolist()], dtype=np.int64)
        self.other = other
        self.dtype = np.uint8 if max([other, *indices.values()]) < 256 else np.uint16

    def __call__(self, colors: np.ndarray) -> tuple[np.ndarray, int]:
        """Class indices (uint8, or uint16 for more than 256 classes) of [h, w], and how many pixels were
        unlisted."""
        heads, lengths = _runs(colors.ravel())
        if not self.colors.size:
            return np.full(colors.shape, self.other, self.dtype), colors.size
        place = np.searchsorted(self.colors, heads).clip(max=self.colors.size - 1)
        listed = self.colors[place] == heads
        classes = np.where(listed, self.indices[place], self.other).astype(self.dtype)
        return np.repeat(classes, lengths).reshape(colors.shape), int(lengths[~listed].sum())


def solid_colors(colors: np.ndarray) -> np.ndarray:
    """The colours of [h, w] that fill a 3 x 3 block somewhere, ascending. Blends and noise hardly ever do."""
    if min(colors.shape) < 3:
        return np.empty(0, np.int32)
    across = colors[:, 1:] == colors[:, :-1]
    rows = across[:, 1:] & across[:, :-1]
    down = (colors[1:] == colors[:-1])[:, 1:-1]
    centres = rows[:-2] & rows[1:-1] & rows[2:] & down[:-1] & down[1:]
    inner = colors[1:-1, 1:-1][centres]
    return np.unique(_runs(inner)[0]) if inner.size else np.empty(0, np.int32)


def blended(colors: np.ndarray, suspects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each suspect colour is a mix of what stands on two sides of it, as anti-aliasing leaves it.

    A pixel is a blend where, on some line through it (across, down, both diagonals), its colour lies strictly
    between, and on the straight line in RGB between, the colours one or two pixels away on either side.

    Args:
        colors: int32 [h, w].
        suspects: colours, ascending.

    Returns:
        For each suspect the pixels looked at and those of them that are blends.
    """
    rows, columns = np.nonzero(np.isin(colors, suspects))
    step = -(-rows.size // _SAMPLED) if rows.size else 1
    rows, columns = rows[::step], columns[::step]
    height, width = colors.shape
    own = unpack(colors[rows, columns]).astype(np.float64)
    blend = np.zeros(rows.size, bool)

    def beside(down: int, right: int) -> np.ndarray:
        return unpack(colors[(rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)]).astype(float)

    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        ahead = [beside(down * i, right * i) for i in (1, 2)]
        behind = [beside(-down * i, -right * i) for i in (1, 2)]
        for a in ahead:
            for b in behind:
                blend |= _between(own, a, b)
    which = np.searchsorted(suspects, colors[rows, columns])
    return np.bincount(which, minlength=suspects.size), np.bincount(which[blend], minlength=suspects.size)


def _between(own: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    line = b - a
    length = (line * line).sum(-1)
    along = ((own - a) * line).sum(-1) / np.maximum(length, 1)
    off = np.abs(own - a - along[:, None] * line).max(-1)
    return (length > 0) & (along > 0.02) & (along < 0.98) & (off <= _SEGMENT)


@dataclass(frozen=True)
class FileColors:
    """The colours of one layout file."""

    path: Path
    colors: np.ndarray
    """Distinct colours, ascending."""
    pixels: np.ndarray
    """Pixels of each."""
    solid: np.ndarray
    """Of each, whether it fills a 3 x 3 block in this file."""
    blend: np.ndarray
    """Of each, whether most of its pixels are blends of their surroundings; False for solid and listed
    colours."""


def survey_file(path: Path, listed: np.ndarray, most: int | None = MOST_COLORS) -> FileColors:
    """Count the colours of one file and mark those that look like blends.

    Raises:
        UserError: where the file cannot be read, or has more than `most` unlisted colours.
    """
    image = read_colors(path)
    colors, pixels = count_colors(image)
    solid = np.isin(colors, solid_colors(image))
    unlisted = ~np.isin(colors, listed)
    if most is not None and unlisted.sum() > most:
        stray = unlisted & ~solid if (unlisted & ~solid).any() else unlisted
        raise UserError(_refusal(path, int(stray.sum()), int(pixels[stray].sum()), image.size))
    blend = np.zeros(colors.size, bool)
    suspects = ~solid & unlisted
    if most is not None and suspects.any():
        looked_at, blends = blended(image, colors[suspects])
        blend[suspects] = 2 * blends > looked_at
    return FileColors(path, colors, pixels, solid, blend)


def check_colors(files: list[FileColors], listed: np.ndarray) -> None:
    """Refuse layouts that were anti-aliased or went through a JPEG. How they are told from many true classes:

    A colour is sound where it is listed, or fills a 3 x 3 block in any of the files: true classes do so
    somewhere, however thin or small they are elsewhere. Of the other colours, stray are

    - those most of whose pixels are blends of the pixels on either side (anti-aliasing);
    - those within `NEAR` of a listed colour, or of a sound one four times as common in the same file (JPEG);
    - all of them, where one file has more than `NOISE_COLORS` and more than it has sound colours (JPEG).

    Solid unlisted colours within `NEAR` of a listed one are stray too. What is left, small objects of a rare
    class, is accepted. Where all colours are greys they may number the classes, so that near and between mean
    little: blends then count only where a file has more of them than sound colours.

    More than `MOST_COLORS` unlisted colours in one file are refused before, by `survey_file`.

    Raises:
        UserError: naming the first damaged file, its stray colours and pixels, and how many more files are
            damaged.
    """
    sound = np.unique(np.concatenate([listed, *(f.colors[f.solid] for f in files)]))
    grey = all(_all_grey(f.colors) for f in files) and _all_grey(listed)
    damaged = [(file, stray) for file in files if (stray := _strays(file, sound, listed, grey)).any()]
    if damaged:
        file, stray = damaged[0]
        message = _refusal(file.path, int(stray.sum()), int(file.pixels[stray].sum()), int(file.pixels.sum()))
        more = f" ({len(damaged) - 1} more files are damaged too)" if len(damaged) > 1 else ""
        raise UserError(message + more)


def _refusal(path: Path, colors: int, pixels: int, size: int) -> str:
    noun = "colour" if colors == 1 else "colours"
    return (
        f"{path}: {colors:,} stray {noun} on {pixels:,} pixels ({pixels / size:.2%}), as smoothing or JPEG leave; "
        "export without, list true colours with --classes, or snap to the nearest with --tolerance N"
    )


def _strays(file: FileColors, sound: np.ndarray, listed: np.ndarray, grey: bool) -> np.ndarray:
    is_listed, is_sound = np.isin(file.colors, listed), np.isin(file.colors, sound)
    loose = ~is_sound
    stray = loose & file.blend
    if loose.sum() > NOISE_COLORS and loose.sum() > is_sound.sum():
        return loose
    if grey:
        return stray & (stray.sum() > is_sound.sum())
    unlisted = np.flatnonzero(~is_listed)
    if listed.size and unlisted.size:
        stray[unlisted] |= distances(file.colors[unlisted], listed).min(1) <= NEAR
    rare, common = np.flatnonzero(loose), np.flatnonzero(is_sound)
    if rare.size and common.size:
        near = distances(file.colors[rare], file.colors[common]) <= NEAR
        stray[rare] |= (near & (file.pixels[common][None] >= 4 * file.pixels[rare][:, None])).any(1)
    return stray


def _all_grey(colors: np.ndarray) -> bool:
    rgb = unpack(colors)
    return bool((rgb == rgb[..., :1]).all())


def distances(colors: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The largest channel difference, 0..255, of each colour [n] to each anchor [m]: int32 [n, m]."""
    a, b = unpack(colors), unpack(anchors)
    return np.maximum.reduce([np.abs(a[:, None, k] - b[None, :, k]) for k in range(3)])


def snap(colors: np.ndarray, anchors: Iterable[int], tolerance: int) -> dict[int, int]:
    """The nearest anchor of each colour within `tolerance`; colours beyond it, or equally near to two, are
    left out."""
    fixed = np.array(sorted(anchors), dtype=np.int32)
    found: dict[int, int] = {}
    if not fixed.size:
        return found
    for start in range(0, colors.size, 4096):
        part = colors[start : start + 4096]
        far = distances(part, fixed)
        nearest = far.argmin(1)
        least = far.min(1)
        alone = (far == least[:, None]).sum(1) == 1
        kept = np.flatnonzero(alone & (least <= tolerance))
        found.update(zip(part[kept].tolist(), fixed[nearest[kept]].tolist(), strict=True))
    return found


def total_colors(files: list[FileColors]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over all files: the distinct colours, the pixels of each, and whether it is solid in any file."""
    colors, which = np.unique(np.concatenate([f.colors for f in files]), return_inverse=True)
    pixels = np.bincount(which, np.concatenate([f.pixels for f in files])).astype(np.int64)
    solid = np.bincount(which, np.concatenate([f.solid for f in files])) > 0
    return colors, pixels, solid
