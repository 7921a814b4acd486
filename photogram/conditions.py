"""Files to what a network is asked: layouts, images, or a layout with the image beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photogram.collecting import LAYOUTS
from photogram.errors import UserError
from photogram.images import INSTANCE_SUFFIXES
from photogram.rasters import RASTER_SUFFIXES, kind_of, raster_form, read_raster, resize_raster
from photogram.scene import Condition, Layout, SceneSpec, Size, check_layout, from_pixels, shape


def source_suffixes(spec: SceneSpec) -> tuple[str, ...]:
    """How the names of files end that a network can be asked with. JPEGs of layouts are refused when read, by name."""
    return LAYOUTS if spec.num_classes else RASTER_SUFFIXES


def open_condition(source: Path, spec: SceneSpec, size: Size | None = None) -> Condition:
    """Read what a network is asked with.

    Args:
        source: a layout, of a network that paints from layouts; its image, where it needs one too, has the same stem in
            the folder `inputs` beside the layout's, and so has its instance map in `instances`, where the network was
            trained with them and there is one. An image of a network that paints from images alone.
        spec: the network's.
        size: height and width to resize to: layouts by the nearest rule, images bicubic, before they become floats.

    Raises:
        UserError: where a file is missing, cannot be read, or is not what the network was trained on.
    """
    layout, image = None, None
    if spec.num_classes:
        layout = Layout.open(source, sibling(source, "instances", INSTANCE_SUFFIXES) if spec.instances else None)
        check_layout(layout, spec, str(source))
    if spec.image_channels:
        path = source if layout is None else image_beside(source)
        raster = _image(path, spec.image_channels)
        if layout is not None and layout.size != raster.shape[:2]:
            raise UserError(f"{path}: is {shape(raster)}, but its layout {source.name} is {shape(layout.size)}")
        raster = raster if size is None else resize_raster(raster, size)
        image = from_pixels(raster)[None]
    if layout is not None and size is not None:
        layout = layout.resized(size)
    return Condition(layout, image)


def sibling(source: Path, folder: str, suffixes: Sequence[str] = RASTER_SUFFIXES) -> Path | None:
    """The file of the same stem in a folder beside the source's own, as data folders have them; never the source."""
    here, stem = source.absolute().parent, source.stem
    if here.name == folder:  # a network that paints from photographs
        return None
    return next((p for s in suffixes if (p := here.parent / folder / f"{stem}{s}").is_file()), None)


def image_beside(layout: Path) -> Path:
    """The image that belongs to a layout.

    Raises:
        UserError: where there is none.
    """
    found = sibling(layout, "inputs")
    if found is None:
        raise UserError(f"{layout}: has no image beside it (inputs/{layout.stem}.*), which the network needs too")
    return found


def _image(path: Path, channels: int) -> np.ndarray:
    """An image with the channels that a network was trained on; it may have other bits. An opacity is dropped, and grey
    becomes RGB, where that gives them."""
    form, raster = raster_form(path), read_raster(path)
    if form.channels != channels and form.alpha:
        raster = raster[..., : form.colours]
    if raster.shape[2] == 1 and channels == 3:
        raster = np.repeat(raster, 3, axis=-1)
    if raster.shape[2] != channels:
        theirs = kind_of(channels, form.bits).partition(" of")[0]
        raise UserError(f"{path}: has {form}, but the network was trained on {theirs}")
    return np.ascontiguousarray(raster)
