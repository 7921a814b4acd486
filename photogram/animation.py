"""Paintings in their order as an animation: the frames of a shot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from photogram.errors import UserError
from photogram.images import image_size, replacing
from photogram.rasters import read_rgb

LEAST_A_SECOND, MOST_A_SECOND = 0.01, 100


def check_rate(rate: float) -> None:
    """Refuse frames a second that the format cannot say.

    Raises:
        UserError: with the bounds.
    """
    if not LEAST_A_SECOND <= rate <= MOST_A_SECOND:
        raise UserError(
            f"--animate {rate:g}: must be {LEAST_A_SECOND} to {MOST_A_SECOND} frames a second, or 0 for none"
        )


def write_animation(frames: Sequence[Path], path: Path, rate: float) -> None:
    """Write images as an animated WebP, which browsers and image viewers play; one frame at a time is in memory.

    Args:
        frames: image files of one size, in order.
        path: the file to write.
        rate: frames a second, 0.01 to 100.

    Raises:
        UserError: where there are none, they differ in size, one cannot be read, or the rate is out of bounds.
    """
    check_rate(rate)
    if not frames:
        raise UserError(f"{path}: there are no frames to animate")
    height, width = image_size(frames[0])
    for frame in frames:
        if image_size(frame) != (height, width):
            found = " x ".join(map(str, image_size(frame)))
            raise UserError(f"{frame}: is {found}, but {frames[0].name} is {height} x {width}; paint at one --size")

    def rest() -> Iterator[Image.Image]:
        for frame in frames[1:]:
            yield Image.fromarray(read_rgb(frame))

    first = Image.fromarray(read_rgb(frames[0]))
    with replacing(path) as file:
        first.save(
            file, "WEBP", save_all=True, append_images=rest(), duration=round(1000 / rate), loop=0, quality=85, method=4
        )
