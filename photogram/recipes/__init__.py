"""The systems, one file each. `Recipe` is the list of them; `load` opens what any of them published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from photogram.errors import UserError
from photogram.generator import CONFIG, Network, read_config
from photogram.recipes.colorization import Colorization
from photogram.recipes.crn import CRN
from photogram.recipes.crn_baselines import EncoderDecoder, FullResolution
from photogram.recipes.cyclegan import CycleGAN
from photogram.recipes.gan import GAN
from photogram.recipes.gan_segmentation import GANSegmentation
from photogram.recipes.pix2pix import Pix2Pix
from photogram.recipes.pix2pixhd import Pix2PixHD
from photogram.recipes.segmenter import Segmenter

Recipe = (
    CRN
    | FullResolution
    | EncoderDecoder
    | GAN
    | Pix2Pix
    | Pix2PixHD
    | CycleGAN
    | Colorization
    | GANSegmentation
    | Segmenter
)
"""The union of all recipes; the command line and the conformance tests iterate over its members."""


def members(union: Any = Recipe) -> tuple[type[Any], ...]:
    """The recipes of a union, in order."""
    return getattr(union, "__args__", (union,))


def word(recipe: type[Any]) -> str:
    """What a recipe is called on the command line: `FullResolution` is full-resolution, `CycleGAN` is cyclegan."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])(?!GAN|HD)|(?<=[A-Z])(?=[A-Z][a-z])", "-", recipe.__name__).lower()


def load(folder: str | Path) -> Any:
    """Open a published network: the folder of a run, or of a network that was saved by `save_pretrained`.

    Raises:
        UserError: where there is none, it is damaged, or no recipe of this version publishes it.
    """
    return kind(folder).from_pretrained(folder)


def kind(folder: str | Path) -> type[Network]:
    """Of which class the network is that a folder holds.

    Raises:
        UserError: as `load` does.
    """
    folder = Path(folder)
    known: dict[str, type[Network]] = {n.__name__: n for recipe in members() for n in recipe.networks}
    name = str(read_config(folder)["network"])
    if name not in known:
        raise UserError(f"{folder / CONFIG}: holds a {name}; this version knows {', '.join(sorted(known))}")
    return known[name]
