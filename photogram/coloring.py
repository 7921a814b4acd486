"""Grey photographs in colours, by hints that a person gives: `colorize`, and `suggestions` of what might stand there.

Networks are known by what they promise: any generator that makes a photograph of a grey image colours by itself; a
`Colorist` takes hints too. Places are in pixels of the image, whose size and lightness stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from photogram.errors import UserError
from photogram.generator import Generator
from photogram.nn.color import colored, from_lab, grey_of, lightness_of, seen_colors, to_lab, within_srgb
from photogram.nn.color_bins import suggested
from photogram.nn.hints import Spot, check_places, check_spot, is_number
from photogram.scene import open_photo, shape

RGB = tuple[int, int, int]
"""Red, green and blue, each 0..255."""


def is_rgb(color: Sequence[object]) -> bool:
    """Whether these are three integers of 0 to 255."""
    return len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)


@runtime_checkable
class Colorist(Protocol):
    """What a network that takes hints promises besides; `photogram.recipes.colorization` has one."""

    def in_colors(self, grey: Tensor, spots: Sequence[Spot], reference: Tensor | None) -> Tensor:
        """A grey photograph [n, 1, h, w] in colours [n, 3, h, w]."""
        ...

    def bins_at(self, grey: Tensor, spots: Sequence[Spot], reference: Tensor | None, x: float, y: float) -> Tensor:
        """Logits of 529 colours at a pixel of a grey photograph."""
        ...


@dataclass(frozen=True)
class Hint:
    """What colour a place has: `Hint(120, 80, 3, rgb=(200, 30, 30))`.

    Args:
        x: column of the middle, 0 for the leftmost pixel.
        y: row of the middle, 0 for the topmost.
        radius: it reaches so many pixels to each side; 0 is one pixel.
        rgb: its colour, 0..255 each, whose own lightness does not count; or
        ab: its colour on the two axes of Lab, in [-110, 110].

    Raises:
        UserError: where both colours or none are given, or a value is out of bounds.
    """

    x: float
    y: float
    radius: float = 3
    rgb: RGB | None = None
    ab: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        called = f"hint at ({self.x!r:.20}, {self.y!r:.20})"
        if (self.rgb is None) == (self.ab is None):
            raise UserError(f"{called}: give it rgb or ab, one of them")
        if self.rgb is not None and not is_rgb(self.rgb):
            raise UserError(f"{called}: rgb is {self.rgb!r}; it is three integers of 0 to 255")
        check_spot(self.spot(), called)

    def spot(self) -> Spot:
        """The hint in the numbers that networks take."""
        a, b = ab_of(self.rgb) if self.rgb is not None else self.ab or (0.0, 0.0)
        return Spot(self.x, self.y, self.radius, a, b)


def ab_of(rgb: RGB) -> tuple[float, float]:
    """A colour's place on the two axes of Lab."""
    planes = torch.tensor(rgb, dtype=torch.float64)[None, :, None, None] / 127.5 - 1
    a, b = to_lab(planes)[0, 1:, 0, 0].tolist()
    return a, b


def colorize(
    network: Generator,
    image: Float[Tensor, "1 c h w"] | str | Path,
    hints: Sequence[Hint] = (),
    reference: Float[Tensor, "1 3 h2 w2"] | str | Path | None = None,
) -> Float[Tensor, "1 3 h w"]:
    """A photograph in colours, by itself, by hints and like another photograph. The same asked, the same bits.

    Args:
        network: makes photographs of grey images; hints need a `Colorist`, a reference one with global hints.
        image: grey or in colours, which are not looked at, in [-1, 1]; or a file.
        hints: in pixels of the image; of two that overlap, the later is on top.
        reference: a photograph whose colours' shares and saturation the whole should have; or a file.

    Returns:
        The photograph in [-1, 1], of the image's size and lightness; colours too strong for it become paler.

    Raises:
        UserError: for a file that cannot be read, a hint outside the image, or a network that cannot do it.
    """
    grey = _grey(network, image)
    spots = [hint.spot() for hint in hints]
    check_places(spots, (grey.shape[-2], grey.shape[-1]))
    if isinstance(network, Colorist):
        with _painting(network):
            return network.in_colors(grey, spots, _reference(reference, grey)).clamp(-1, 1)
    if spots or reference is not None:
        asked = "hints" if spots else "a reference"
        raise UserError(f"{type(network).__name__} takes no {asked}; `photogram train colorization` learns to")
    photo = network.sample(grey)
    return colored(grey, seen_colors(photo)).clamp(-1, 1)


def suggestions(
    network: Generator,
    image: Float[Tensor, "1 c h w"] | str | Path,
    x: float,
    y: float,
    hints: Sequence[Hint] = (),
    reference: Float[Tensor, "1 3 h2 w2"] | str | Path | None = None,
) -> list[tuple[RGB, float]]:
    """Five colours that a pixel might have, as it is lit there, the likeliest first, with their shares.

    Args:
        network: a `Colorist`.
        image: grey or in colours, which are not looked at, in [-1, 1]; or a file.
        x: column of the pixel.
        y: its row.
        hints: that are given already.
        reference: as in `colorize`.

    Raises:
        UserError: for a pixel outside the image, and as `colorize` does.
    """
    grey = _grey(network, image)
    size = (grey.shape[-2], grey.shape[-1])
    for name, place, side in (("x", x, size[1]), ("y", y, size[0])):
        if not 0 <= place <= side - 1:  # nor nan
            raise UserError(f"suggestions: {name} is {place:g}, but the image is {shape(size)}; it is 0 to {side - 1}")
    if not isinstance(network, Colorist):
        raise UserError(f"{type(network).__name__} suggests no colours; `photogram train colorization` learns to")
    spots = [hint.spot() for hint in hints]
    with _painting(network):
        found = suggested(network.bins_at(grey, spots, _reference(reference, grey), x, y))
        lightness = lightness_of(grey[..., round(y), round(x), None, None]).double().cpu()
    colors = torch.tensor([[a, b] for a, b, _ in found], dtype=torch.float64).T[None, :, :, None]
    lab = torch.cat([lightness.expand(-1, -1, len(found), 1), colors], 1)
    shown = ((from_lab(within_srgb(lab)) + 1) * 127.5).round().clamp(0, 255)[0, :, :, 0].T.int().tolist()
    return [((r, g, b), share) for (r, g, b), (_, _, share) in zip(shown, found, strict=True)]


def read_hints(path: str | Path) -> list[Hint]:
    """Read hints: a JSON list of {"x", "y", "radius", "color"}, the colour "#rrggbb" or [red, green, blue].

    Raises:
        UserError: naming the file, the entry and what is wrong with it.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as e:  # integers of thousands of digits are a ValueError
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None
    if not isinstance(entries, list):
        raise UserError(f'{path}: must be a list of {{"x", "y", "radius", "color"}}')
    found = []
    for n, entry in enumerate(entries, start=1):
        try:
            found.append(_hint(entry))
        except UserError as e:
            raise UserError(f"{path}: entry {n}: {e}") from None
    return found


def _hint(entry: object) -> Hint:
    names = {"x", "y", "radius", "color"}
    if not isinstance(entry, dict) or set(entry) != names:
        missing = ", ".join(sorted(names - set(entry))) if isinstance(entry, dict) else ""
        why = f"has no {missing}" if missing else f"is {json.dumps(entry)[:80]}"
        raise UserError(f"{why}; it must be an object with x, y, radius and color, and nothing else")
    for name in ("x", "y", "radius"):
        if not is_number(entry[name]):
            raise UserError(f"{name} is {repr(entry[name])[:40]}; it is a number of pixels")
    color = entry["color"]
    if isinstance(color, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        color = [int(color[n : n + 2], 16) for n in (1, 3, 5)]
    if not (isinstance(color, list) and is_rgb(color)):
        raise UserError(f'color is {color!r}; it is "#rrggbb", or [red, green, blue] of 0 to 255')
    return Hint(entry["x"], entry["y"], entry["radius"], rgb=(color[0], color[1], color[2]))


def _grey(network: Generator, image: Tensor | str | Path) -> Float[Tensor, "1 1 h w"]:
    """An image as the network takes it; colours become the grey of their lightness."""
    spec = network.spec
    if spec.num_classes or (spec.image_channels, spec.photo_channels) != (1, 3):
        more = "; train with --asked-by images to leave layouts out" if spec.num_classes and spec.image_channels else ""
        raise UserError(
            f"{type(network).__name__} does not colour grey images: it was trained on inputs of {spec.image_channels} "
            f"channels and {spec.num_classes} classes{more}"
        )
    photo = image if isinstance(image, Tensor) else open_photo(image)
    fits = photo.is_floating_point() and photo.ndim == 4 and len(photo) == 1 and photo.shape[1] in (1, 3)
    if not (fits and photo.numel()):
        raise UserError(f"image is {list(photo.shape)}; it must be floating-point [1, 1 or 3, h, w] in [-1, 1]")
    photo = photo.to(next(network.parameters()).device).float().clamp(-1, 1)
    return grey_of(photo) if photo.shape[1] == 3 else photo


def _reference(reference: Tensor | str | Path | None, grey: Tensor) -> Tensor | None:
    """A photograph that the whole should be like, where the image is.

    Raises:
        UserError: where it is no photograph in colours.
    """
    photo = open_photo(reference) if isinstance(reference, str | Path) else reference
    if photo is None:
        return None
    if not (photo.is_floating_point() and photo.ndim == 4 and photo.shape[:2] == (1, 3) and photo.numel()):
        raise UserError(f"reference is {list(photo.shape)}; it must be floating-point [1, 3, h, w] in [-1, 1]")
    return photo.to(grey)


@contextmanager
def _painting(network: Generator) -> Iterator[None]:
    """As `sample` does: no gradients, and the network's mode as it was afterwards."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)
