"""The networks of pix2pixHD in small: modules of torch.nn that have the official key names, and what they are shown.

Written after specification 4.1 to 4.6, 5 and 8.2; they share no code with ours, but blocks and `saved` with the other
official networks.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from official_translators import Block, norm
from torch import Tensor, nn


def _norm(channels: int, legacy: bool) -> list[nn.Module]:
    return [norm("instance", channels, legacy), nn.ReLU()]


def _down(channels: int, legacy: bool) -> list[nn.Module]:
    return [nn.Conv2d(channels, 2 * channels, 3, 2, 1), *_norm(2 * channels, legacy)]


def _up(channels: int, legacy: bool) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, 1), *_norm(channels // 2, legacy)]


def trunk(inputs: int, width: int, down: int, blocks: int, outputs: int | None, legacy: bool) -> nn.Sequential:
    """The table of 4.2; without outputs, without its last three modules. Without blocks: the encoder's, of 4.6."""
    parts = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7), *_norm(width, legacy)]
    for n in range(down):
        parts += _down(width << n, legacy)
    parts += [Block(width << down, "instance", False, legacy) for _ in range(blocks)]
    for n in range(down, 0, -1):
        parts += _up(width << n, legacy)
    if outputs is not None:
        parts += [nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()]
    return nn.Sequential(*parts)


class OfficialGenerator(nn.Module):
    """Global (4.2), or local with enhancers (4.3); `width` is the coarse generator's."""

    def __init__(
        self,
        inputs: int,
        enhancers: int = 0,
        width: int = 4,
        down: int = 2,
        blocks: int = 2,
        local_blocks: int = 1,
        legacy: bool = False,
        outputs: int = 3,
    ):
        super().__init__()
        self.enhancers = enhancers
        self.model = trunk(inputs, width, down, blocks, None if enhancers else outputs, legacy)
        for j in range(1, enhancers + 1):
            c = width >> j
            first = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, c, 7), *_norm(c, legacy), *_down(c, legacy)]
            second = [*(Block(2 * c, "instance", False, legacy) for _ in range(local_blocks)), *_up(2 * c, legacy)]
            if j == enhancers:
                second += [nn.ReflectionPad2d(3), nn.Conv2d(c, outputs, 7), nn.Tanh()]
            self.add_module(f"model{j}_1", nn.Sequential(*first))
            self.add_module(f"model{j}_2", nn.Sequential(*second))

    def forward(self, x: Tensor) -> Tensor:
        pyramid = [x]
        for _ in range(self.enhancers):
            pyramid.append(F.avg_pool2d(pyramid[-1], 3, 2, 1, count_include_pad=False))
        made = self.model(pyramid[-1])
        for j in range(1, self.enhancers + 1):
            asked = self.get_submodule(f"model{j}_1")(pyramid[self.enhancers - j])
            made = self.get_submodule(f"model{j}_2")(asked + made)
        return made


class OfficialEncoder(nn.Module):
    def __init__(self, width: int = 2, down: int = 2, outputs: int = 3, legacy: bool = False):
        super().__init__()
        self.model = trunk(3, width, down, 0, outputs, legacy)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class OfficialDiscriminator(nn.Module):
    """The table of 4.4; the last scale is the finest. With feature matching each layer has a name of its own."""

    def __init__(
        self, inputs: int, scales: int, width: int = 4, layers: int = 3, matched: bool = True, legacy: bool = False
    ):
        super().__init__()
        self.scales, self.layers, self.matched = scales, layers, matched
        for i in range(scales):
            groups = [[nn.Conv2d(inputs, width, 4, 2, 2), nn.LeakyReLU(0.2)]]
            before = width
            for j in range(1, layers + 1):
                after = min(width * 2**j, 8 * width)
                conv = nn.Conv2d(before, after, 4, 2 if j < layers else 1, 2)
                groups.append([conv, norm("instance", after, legacy), nn.LeakyReLU(0.2)])
                before = after
            groups.append([nn.Conv2d(before, 1, 4, 1, 2)])
            if matched:
                for j, group in enumerate(groups):
                    self.add_module(f"scale{i}_layer{j}", nn.Sequential(*group))
            else:
                self.add_module(f"layer{i}", nn.Sequential(*(part for group in groups for part in group)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of each scale, the finest first."""
        found = []
        for i in reversed(range(self.scales)):
            rows = [f"scale{i}_layer{j}" for j in range(self.layers + 2)] if self.matched else [f"layer{i}"]
            made = x
            for row in rows:
                made = self.get_submodule(row)(made)
            found.append(made)
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found


# --- what they are shown ---------------------------------------------------------------------------------------------


def scene(height: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers, and object numbers as Cityscapes has them: of classes 24 to 33 class * 1000 + k, else the class.

    Two objects of one class touch, so that edges are more than those of the classes.
    """
    random = np.random.default_rng(8)
    small = random.integers(classes, size=(height // 8, width // 8))
    labels = small.repeat(8, 0).repeat(8, 1).astype(np.int64)
    objects = labels.copy()
    if classes > 26:
        labels[8:24, 8:40] = 26
        labels[3, 5] = 24
        objects[labels == 26] = 26001
        objects[8:24, 20:40] = 26002
        objects[labels == 24] = 24000
    return labels, objects


def planes(labels: np.ndarray, classes: int) -> Tensor:
    """One-hot, pixel by pixel."""
    found = torch.zeros(1, classes, *labels.shape)
    for y, x in np.ndindex(*labels.shape):
        found[0, labels[y, x], y, x] = 1
    return found


def edges(objects: np.ndarray) -> Tensor:
    """1 where an object's number differs from one of the four neighbours', pixel by pixel."""
    height, width = objects.shape
    found = torch.zeros(1, 1, height, width)
    for y, x in np.ndindex(height, width):
        for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= b < height and 0 <= a < width and objects[b, a] != objects[y, x]:
                found[0, 0, y, x] = 1
    return found
