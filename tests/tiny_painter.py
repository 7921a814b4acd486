"""A generator with styles that paints what it is told: each region in its style as a colour, borders white."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from photogram.editing import EditSession
from photogram.nn.regions import By, boundaries
from photogram.scene import Condition, Layout, SceneClass, SceneSpec
from photogram.styled import StyledGenerator

NAMES = ("road", "sky", "car", "tree", "nothing")
ROAD, SKY, CAR, TREE, NOTHING = range(5)
LEFT, RIGHT = (CAR, 7), (CAR, 9)
"""The cars of `street`."""


def spec(height: int = 48, width: int = 64) -> SceneSpec:
    classes = tuple(SceneClass(name, (40 * n, 20 * n, 10 * n), name == "nothing") for n, name in enumerate(NAMES))
    return SceneSpec(classes, (height, width), instances=True)


class TinyPainter(StyledGenerator):
    """Colours are styles; a little of the mean of the whole is in every pixel, as norms have it; borders are white.

    Its encoder sees the photograph as it is, so that the style of a region is its mean colour.
    """

    def __init__(
        self,
        spec: SceneSpec,
        clusters: int = 4,
        style_channels: int = 3,
        style_by: Literal["objects", "classes"] = "objects",
        multiple: int = 1,
    ):
        super().__init__()
        self.spec, self.clusters, self.multiple = spec, clusters, multiple
        self.style_channels, self.style_by = style_channels, style_by
        self.gain = nn.Parameter(torch.tensor(0.8))
        self.add_clusters(spec.num_classes, clusters, style_channels)

    @property
    def size_multiple(self) -> int:
        return self.multiple

    def encoded(self, photo: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f h w"]:
        return photo

    def painted(self, condition: Condition, features: Float[Tensor, "n f h w"] | None) -> Float[Tensor, "n c h w"]:
        layout = condition.layout
        assert layout is not None
        if features is None:
            return self.gain * (layout.classes.float() / 4 - 0.5)[:, None].repeat(1, 3, 1, 1)
        picture = self.gain * features + 0.05 * features.mean((2, 3), keepdim=True)
        return torch.where(boundaries(layout) > 0, 1.0, picture)


def painter(clusters: int = 4, style_by: By = "objects", **more: int) -> TinyPainter:
    """With clusters: of each class several colours far apart; of trees none."""
    network = TinyPainter(spec(), clusters, style_by=style_by, **more).eval()
    draws = torch.Generator().manual_seed(0)
    network.style_centres.copy_(torch.rand(5, clusters, 3, generator=draws) * 1.6 - 0.8)
    network.style_counts.copy_(torch.arange(clusters, 0, -1).expand(5, clusters))
    network.style_centres[TREE], network.style_counts[TREE] = 0, 0
    return network


def street() -> Layout:
    """Sky over road, a tree, and two cars that touch: numbers 7 and 9."""
    classes = torch.full((1, 48, 64), ROAD, dtype=torch.uint8)
    classes[:, :20] = SKY
    classes[:, 10:30, 2:10] = TREE
    numbers = torch.zeros(1, 48, 64, dtype=torch.int32)
    classes[:, 28:40, 20:44] = CAR
    numbers[:, 28:40, 20:32], numbers[:, 28:40, 32:44] = 7, 9
    return Layout(classes, numbers)


def bits(one: EditSession) -> tuple[bytes, ...]:
    """All that a state is, and what is kept of it."""
    state = one.state
    layout = one.kept.layout
    assert layout.instances is not None
    kept = (layout.classes, layout.instances, one.kept.features)
    small = (sorted(state.styles.items()), state.defaults, state.fresh)
    return (
        state.classes.tobytes(),
        state.instances.tobytes(),
        repr(small).encode(),
        *(k.numpy().tobytes() for k in kept),
    )
