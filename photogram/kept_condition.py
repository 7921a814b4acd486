"""What a generator is asked with, kept up to date: an edit costs what it changes, not the whole picture."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.edits import Region, State, Style
from photogram.scene import Layout
from photogram.strokes import Box

_FEW = 4
"""So many regions are filled one by one; of more, the whole picture is looked up."""


class KeptCondition:
    """The tensors of a state: the layout, and the styles at each pixel; and how large each region is.

    Each region gets a place in a table, which it keeps; each pixel knows its region's place. An edit then changes
    pixels' places, or rows of the table.

    Args:
        state: to begin with.
    """

    layout: Layout
    """Classes and object numbers [1, h, w]; changed in place."""
    features: Float[Tensor, "1 f h w"]
    """The style at each pixel, as `photogram.nn.regions.spread` has it; no channels of a network without styles."""

    def __init__(self, state: State):
        # Written through NumPy, read as tensors: they share their memory.
        self._classes, self._instances = state.classes.copy(), state.instances.copy()
        self.layout = Layout(torch.from_numpy(self._classes)[None], torch.from_numpy(self._instances)[None])
        self._places: dict[Region, int] = {}
        self._styles: list[Style] = []
        self._pixels = np.zeros(0, dtype=np.int64)
        self._index = self._placed(self._classes, self._instances, state)
        self._pixels += np.bincount(self._index.reshape(-1), minlength=len(self._pixels))
        self._features = self._table()[self._index]
        self.features = _planes(self._features)

    def update(self, before: State, after: State, box: Box | None) -> None:
        """Follow an edit.

        Args:
            before: the state that is kept.
            after: the state to keep.
            box: around all pixels that differ; None where none do.
        """
        if box is not None:
            self._update_pixels(after, box)
        if after.styles is not before.styles or after.defaults != before.defaults:
            self._update_styles(after)

    @property
    def present(self) -> dict[Region, int]:
        """How many pixels each region has that is there, in the order of class and object number."""
        return {region: n for region, place in sorted(self._places.items()) if (n := int(self._pixels[place]))}

    def features_with(self, state: State, region: Region, style: Style) -> Float[Tensor, "1 f h w"]:
        """The styles at each pixel, one region's exchanged for another, in memory of its own."""
        features = self._features.copy()
        places = [place for other, place in self._places.items() if state.keeper(other) == state.keeper(region)]
        features[np.isin(self._index, places)] = np.array(style, dtype=np.float32)
        return _planes(features)

    def _update_pixels(self, after: State, box: Box) -> None:
        classes, instances = after.classes[box.slices], after.instances[box.slices]
        rows, columns = np.nonzero((self._classes[box.slices] != classes) | (self._instances[box.slices] != instances))
        left = self._index[box.slices][rows, columns]
        entered = self._placed(classes[rows, columns], instances[rows, columns], after)
        self._pixels -= np.bincount(left, minlength=len(self._pixels))
        self._pixels += np.bincount(entered, minlength=len(self._pixels))
        self._index[box.slices][rows, columns] = entered
        self._classes[box.slices], self._instances[box.slices] = classes, instances
        self._features[box.slices][rows, columns] = self._table()[entered]

    def _update_styles(self, state: State) -> None:
        changed = []
        for region, place in self._places.items():
            if self._styles[place] != (style := state.style_of(region)):
                self._styles[place] = style
                changed.append(place)
        there = [place for place in changed if self._pixels[place]]
        if len(there) > _FEW:
            np.take(self._table(), self._index, axis=0, out=self._features)
            return
        for place in there:
            self._features[self._index == place] = np.array(self._styles[place], dtype=np.float32)

    def _table(self) -> Float[np.ndarray, "regions f"]:
        return np.array(self._styles, dtype=np.float32).reshape(len(self._styles), -1)

    def _placed(self, classes: np.ndarray, instances: np.ndarray, state: State) -> Int[np.ndarray, "*pixels"]:
        """The places of pixels' regions; regions that were never met get new ones."""
        keys = (classes.astype(np.int64) << 32) + instances + (1 << 31)
        found, inverse = np.unique(keys, return_inverse=True)
        places = np.empty(len(found), dtype=np.int32)
        for n, key in enumerate(found.tolist()):
            region = (key >> 32, (key & 0xFFFFFFFF) - (1 << 31))
            if region not in self._places:
                self._places[region] = len(self._styles)
                self._styles.append(state.style_of(region))
            places[n] = self._places[region]
        self._pixels = np.pad(self._pixels, (0, len(self._styles) - len(self._pixels)))
        return places[inverse].reshape(classes.shape)


def _planes(features: Float[np.ndarray, "h w f"]) -> Float[Tensor, "1 f h w"]:
    """Styles at pixels as the network takes them; channels stay last in memory, as of `spread`: sums of them are then
    made in the same order, and paintings the same bits."""
    return torch.from_numpy(features)[None].permute(0, 3, 1, 2)
