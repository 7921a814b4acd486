"""The toy world as other recipes see it: drawings of photographs, photographs alone, and two unpaired collections."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from photogram.data.toy import Toy
from photogram.scene import Condition, Scene, SceneSpec


def _photo(scene: Scene) -> Tensor:
    assert scene.photo is not None
    return scene.photo


class ToyGreys(Toy):
    """Grey photographs in one channel, and the photographs."""

    def __init__(self, split: str = "train", **settings: object):
        super().__init__(split, **settings)  # pyright: ignore[reportArgumentType]
        self.spec = SceneSpec((), self.size, image_channels=1)

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        photo = _photo(super().__getitem__(key))
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        return Scene(Condition(image=(photo * weights).sum(1, keepdim=True)), photo)


class ToyPhotos(Toy):
    """Photographs that nobody asked for."""

    def __init__(self, split: str = "train", **settings: object):
        super().__init__(split, **settings)  # pyright: ignore[reportArgumentType]
        self.spec = SceneSpec((), self.size)

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        return Scene(Condition(), _photo(super().__getitem__(key)))


class ToyUnpaired(Toy):
    """Photographs with red and blue exchanged, and other photographs as they are."""

    def __init__(self, split: str = "train", **settings: object):
        super().__init__(split, **settings)  # pyright: ignore[reportArgumentType]
        self.spec = SceneSpec((), self.size, image_channels=3)

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        draw = key[1]
        other = int(np.random.default_rng([draw % (1 << 32), 7]).integers(len(self)))
        photo = _photo(super().__getitem__((other, draw)))
        return Scene(Condition(image=_photo(super().__getitem__(key)).flip(1)), photo)
