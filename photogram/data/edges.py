"""Line drawings of photographs, and of what people draw by hand, in one style: black lines on white.

Detectors: `canny` (Canny 1986, A Computational Approach to Edge Detection) and `xdog` (Winnemöller, Kyprianidis and
Olsen 2012, XDoG: An eXtended difference-of-Gaussians compendium). What they find is thinned to one pixel, and parts
that are too small go, as in pix2pix's edges (Isola et al. 2017), which came from a network (HED) that is not shipped
here.

Lines are one or two pixels wide at the size that they are drawn at, and do not survive resizing: photographs are
resized first, and edges found at the size to train at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from photogram.data.lines import close_gaps, components, resized, thicken, thin, touching, without_small
from photogram.errors import unfit
from photogram.scene import Size

Detector = Literal["canny", "xdog"]

VERSION = 1
"""Of both detectors; raise it when the same photograph would get other lines."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, of the values as they are stored
_STRETCH = 10.0  # how far brightness lifts what is dark
_RATIO = 1.6  # of the two Gaussians: their difference is nearest to a Laplacian (Marr and Hildreth 1980)
_REACH = 4.0  # Gaussians end at so many sigmas


# --- detectors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canny:
    """How `canny` finds lines: where brightness changes most, across the change.

    Brightness is log(1 + 10 luma) / log 11, in 0..1: of luma itself, what draws a street by day leaves one at dusk, and
    the shadows of both, without lines. The thresholds were chosen by eye on street photographs of 360 x 480 and of
    96 x 128 pixels, where they draw 4 to 12 % of the pixels.
    """

    name: ClassVar[Detector] = "canny"

    sigma: float = 1.2
    """The standard deviation of the Gaussian that goes over the photograph first, in pixels."""
    low: float = 0.015
    """A line goes on where brightness changes by this much a pixel."""
    high: float = 0.04
    """A line is one only where brightness changes by this much a pixel somewhere along it."""

    def check(self) -> None:
        """Raises:
        UserError: naming the flag whose value cannot be."""
        _check_sigma(self.sigma)
        for name, value in (("low", self.low), ("high", self.high)):
            if not 0 < value <= 1:
                raise unfit(name, value, "a change of brightness a pixel is more than 0 and at most 1")
        if self.low > self.high:
            raise unfit("low", self.low, f"must not be more than --high, which is {self.high}")

    def mask(self, luma: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Lines of one to two pixels, in parts of any size."""
        brightness = np.log1p(_STRETCH * luma) / np.log1p(_STRETCH)
        down, across = gradient(gaussian(brightness, self.sigma))
        strength = np.round(np.hypot(down, across), 9)  # equal numbers stay equal: the two sides of a step
        crest = strongest_across(strength, down, across, self.low)
        return touching(crest, crest & (strength >= self.high))


@dataclass(frozen=True)
class XDoG:
    """How `xdog` finds lines: where a pixel is darker than what is around it, as in a pen drawing."""

    name: ClassVar[Detector] = "xdog"

    sigma: float = 1.0
    """The standard deviation of the narrower Gaussian, in pixels; the wider has 1.6 times that."""
    tau: float = 0.97
    """How much of the wider Gaussian is taken away: 1 looks at edges alone, less keeps dark lines from bright areas."""
    epsilon: float = 0.0
    """Ink is where the difference (of luma in 0..1) is below this."""

    def check(self) -> None:
        """Raises:
        UserError: naming the flag whose value cannot be."""
        _check_sigma(self.sigma)
        if not 0 < self.tau <= 1:
            raise unfit("tau", self.tau, "must be more than 0 and at most 1")
        if not -1 <= self.epsilon <= 1:
            raise unfit("epsilon", self.epsilon, "a difference of luma lies in -1..1")

    def mask(self, luma: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Strokes of any width.

        The paper's soft threshold, 1 + tanh(phi (u - epsilon)) below epsilon, is cut at a half where lines are black or
        white; that is a threshold at epsilon - atanh(1/2) / phi, so phi is left out.
        """
        return np.round(gaussian(luma, self.sigma) - self.tau * gaussian(luma, _RATIO * self.sigma), 9) < self.epsilon


DETECTORS: dict[Detector, type[Canny] | type[XDoG]] = {"canny": Canny, "xdog": XDoG}


def _check_sigma(sigma: float) -> None:
    if not 0 < sigma <= 50:
        raise unfit("sigma", sigma, "must be more than 0 and at most 50 pixels")


def edges(
    photo: UInt8[np.ndarray, "h w 3"], detector: Canny | XDoG, *, smallest: int = 5, width: int = 1
) -> UInt8[np.ndarray, "h w"]:
    """Draw the lines of a photograph.

    Args:
        photo: RGB, at the size to train at.
        detector: which one, and how.
        smallest: 8-connected lines of fewer pixels are left out.
        width: 1 or 2, the pixels that a line is wide.

    Returns:
        0 on lines, 255 elsewhere. Equal photographs give equal lines.
    """
    luma = photo @ (np.array(_LUMA) / 255)
    return drawing(thicken(without_small(thin(detector.mask(luma)), smallest), width))


def drawing(lines: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Black lines on white, as they are kept in files."""
    return np.where(lines, 0, 255).astype(np.uint8)


def gaussian(plane: Float[np.ndarray, "h w"], sigma: float) -> Float[np.ndarray, "h w"]:
    """Smooth by a Gaussian that ends at four sigmas; beyond the border the plane is mirrored."""
    reach = max(1, int(_REACH * sigma + 0.5))
    taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    for _ in range(2):  # along rows, then along columns
        padded = np.pad(plane, ((0, 0), (reach, reach)), mode="symmetric")
        w = plane.shape[1]
        smooth = taps[0] * plane
        for k in range(1, reach + 1):  # in pairs: a mirrored photograph gives the mirrored plane to the last bit
            smooth += taps[k] * (padded[:, reach - k : reach - k + w] + padded[:, reach + k : reach + k + w])
        plane = smooth.T
    return plane


def gradient(plane: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """The change per pixel downwards and to the right, by Sobel's masks."""
    padded = np.pad(plane, 1, mode="symmetric")
    below, beside = padded[2:] - padded[:-2], padded[:, 2:] - padded[:, :-2]
    down = (below[:, :-2] + below[:, 2:]) + 2 * below[:, 1:-1]
    across = (beside[:-2] + beside[2:]) + 2 * beside[1:-1]
    return down / 8, across / 8


def strongest_across(
    strength: Float[np.ndarray, "h w"], down: Float[np.ndarray, "h w"], across: Float[np.ndarray, "h w"], low: float
) -> Bool[np.ndarray, "h w"]:
    """Non-maximum suppression: pixels of at least `low` that none of the two beside them, along the change, exceeds.

    What lies along the change is interpolated between two of the eight neighbours. Of two equal pixels on the sides of
    a step the darker is kept, whichever way the step goes: one line, and the mirrored one of a mirrored photograph.
    """
    y, x = np.nonzero(strength >= low)
    dy, dx = down[y, x], across[y, x]
    steep = np.abs(dy) > np.abs(dx)
    share = np.where(steep, np.abs(dx), np.abs(dy)) / np.maximum(np.abs(dy), np.abs(dx))
    sy, sx = np.sign(dy).astype(int), np.sign(dx).astype(int)
    padded = np.pad(strength, 1)

    def beside(way: int) -> np.ndarray:
        straight = padded[1 + y + way * sy * steep, 1 + x + way * sx * ~steep]
        diagonal = padded[1 + y + way * sy, 1 + x + way * sx]
        return np.round((1 - share) * straight + share * diagonal, 9)

    crest = np.zeros(strength.shape, dtype=bool)
    here = strength[y, x]
    crest[y, x] = (here >= beside(1)) & (here > beside(-1))
    return crest


# --- drawings by hand ------------------------------------------------------------------------------------------------

_LARGEST = 1536  # pixels of a drawing's longer side; more say nothing more of its lines
_DARKEST = 0.35  # of the brightest paper: what is darker over a wide area is ink, not shadow
_SPECK = 0.5  # of the square of the fewest pixels that a line has: a dot of this area has an outline of so many
_CONTRAST = 0.1  # of paper's tone; ink that is no darker than this below it is its grain


def normalise_sketch(
    pixels: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"],
    *,
    size: Size | None = None,
    gap: float = 6,
    smallest: int = 5,
    width: int = 1,
) -> UInt8[np.ndarray, "H W"]:
    """Bring a drawing by hand into the style of `edges`: thin black lines on white, outlines closed.

    Paper is made even (shadows go), ink told from it by Otsu's threshold, and a drawing that is mostly dark is taken
    for light lines on a dark ground. Filled areas become their outlines, strokes are thinned, loose ends go on to the
    nearest line ahead of them.

    Args:
        pixels: grey or RGB, of any size.
        size: height and width of the result, to which the drawing is stretched without losing a line; None keeps its
            own, up to 1536 pixels on the longer side.
        gap: the widest gap in a line that is closed, in pixels of the result; 0 closes none. It is measured between
            thinned strokes, which end half a pen's width before where they were drawn to.
        smallest: 8-connected lines of fewer pixels are left out, in the result and, in its measure, in the drawing.
        width: 1 or 2, the pixels that a line is wide.

    Returns:
        0 on lines, 255 elsewhere; 255 alone where nothing is drawn. Its own result, once more, stays as it is in all
        but few pixels.
    """
    longest = max(pixels.shape[:2])
    grey = Image.fromarray(pixels).convert("L")
    if longest > _LARGEST:
        grey.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
    drawn = ink(np.array(grey))
    height, across = size or drawn.shape
    scale = max(drawn.shape[0] / height, drawn.shape[1] / across, 1.0)
    lines = without_small(strokes(drawn, min(drawn.shape) / 12, smallest * scale), smallest * scale)
    lines = thin(resized(lines, (height, across)))
    return drawing(thicken(without_small(thin(close_gaps(lines, gap)), smallest), width))


def ink(grey: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """What is drawn in a picture of a drawing, dark on light or light on dark; nothing on empty paper."""
    tone = grey / 255
    tone = 1 - tone if tone.mean() < 0.5 else tone
    reach = max(3, min(grey.shape) // 8)
    paper = -highest(-highest(tone, reach), reach)  # a grey closing: strokes narrower than its window are gone
    paper = np.maximum(paper, max(_DARKEST * float(paper.max()), 1 / 255))
    even = np.round(255 * np.minimum(tone / paper, 1)).astype(np.uint8)
    threshold = otsu(even)
    dark = even <= threshold
    if not dark.any() or dark.all() or even[~dark].mean() - even[dark].mean() < 255 * _CONTRAST:
        return np.zeros(grey.shape, dtype=bool)
    return dark


def otsu(grey: UInt8[np.ndarray, "h w"]) -> int:
    """The value up to which pixels are dark: the one that parts them with the greatest variance between the parts (Otsu
    1979, A Threshold Selection Method from Gray-Level Histograms), the lowest of equals."""
    count = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below, total = np.cumsum(count), np.cumsum(count * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return int(np.nan_to_num(between).argmax())


def highest(plane: Float[np.ndarray, "h w"], reach: int) -> Float[np.ndarray, "h w"]:
    """The highest value within a square of `reach` pixels to each side, by windows that double."""
    for _ in range(2):  # along rows, then along columns
        wanted, length = 2 * reach + 1, plane.shape[1]
        most, span = np.pad(plane, ((0, 0), (reach, reach)), mode="edge"), 1
        while 2 * span <= wanted:
            most = np.maximum(most[:, :-span], most[:, span:])
            span *= 2
        plane = np.maximum(most[:, :length], most[:, wanted - span : wanted - span + length]).T
    return plane


def strokes(drawn: Bool[np.ndarray, "h w"], widest: float, smallest: float) -> Bool[np.ndarray, "h w"]:
    """Strokes thinned to one pixel; what is wider than `widest` pixels, and what is so round that fewer than `smallest`
    would be left of it though it is larger than a speck, becomes its outline."""
    reach = max(1, int(widest / 2))
    paper = 1.0 - np.pad(drawn, reach, mode="edge")
    middle = 1 - highest(paper, reach)  # of squares that are ink all over
    wide = highest(middle, reach)[reach:-reach, reach:-reach] > 0
    lines = thin(drawn & ~_inside(wide))
    parts = components(drawn)
    left, area = (np.bincount(parts[mask], minlength=parts.max() + 1) for mask in (lines, drawn))
    round_ones = (left < smallest) & (area >= _SPECK * smallest**2)
    lines[drawn] |= round_ones[parts[drawn]] & ~_inside(drawn)[drawn]
    return lines


def _inside(area: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of an area whose eight neighbours belong to it."""
    return highest(1.0 - area, 1) == 0
