"""Generators whose objects have styles: a few numbers for each object that say how it looks.

T.-C. Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018, section
3.4: an encoder finds an object's style in a photograph, clusters of the styles of a training set are what a person can
choose from. Commands and the edit session know this class, no network.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.errors import UserError, unfit
from photogram.generator import Generator, NoOptions
from photogram.nn.regions import By, Regions, find_regions, pooled, spread
from photogram.scene import Condition, Layout

FOLLOWED = 0.01
"""How far, at least, the mean style of a class follows those of a step: encoders change while they learn."""
MOST = 64
"""So many styles of a layout can be painted at once."""


@dataclass(frozen=True)
class StyleOptions(NoOptions):
    """What can be chosen of styles."""

    styles: int = 1
    """Paint each layout so many times, its objects in other styles each time."""
    style: Literal["drawn", "common"] = "drawn"
    """Objects' styles: drawn from the clusters of their class by the seed, or the commonest of their class."""

    @property
    def several(self) -> bool:
        return self.styles > 1

    def check(self, network: Generator) -> None:
        assert isinstance(network, StyledGenerator)
        if not 1 <= self.styles <= MOST:
            raise unfit("styles", self.styles, f"must be 1 to {MOST}")
        if self.style not in ("drawn", "common"):
            raise unfit("style", self.style, "must be drawn or common")
        if self.several and self.style == "common":
            raise UserError(f"--styles {self.styles} --style common: the commonest styles are always the same")
        if self.several and not network.style_channels:
            raise UserError(f"--styles {self.styles}: this network was trained without styles (--features none)")
        if self.several and not network.has_choices:
            raise UserError(
                f"--styles {self.styles}: the network has no clusters of styles; `photogram cluster` finds them"
            )


class StyledGenerator(Generator, abc.ABC):
    """A generator that paints each region of a layout in a style, where it was trained with styles at all.

    Args:
        style_channels: numbers of a style; 0 where it was trained without.
        style_by: what has a style: each object, or each class.
        style_centres: of the clusters of each class, the commonest first; rows that are not used hold 0.
        style_counts: how many training regions are in each cluster; 0 where there is none.
    """

    Options: ClassVar[type[NoOptions]] = StyleOptions
    style_channels: int
    style_by: By
    style_centres: Float[Tensor, "classes clusters channels"]
    style_counts: Int[Tensor, "classes clusters"]

    def add_clusters(self, classes: int, clusters: int, channels: int) -> None:
        """Room for clusters; to be called by the constructor."""
        self.register_buffer("style_centres", torch.zeros(classes, clusters, channels))
        self.register_buffer("style_counts", torch.zeros(classes, clusters, dtype=torch.int64))

    @abc.abstractmethod
    def encoded(self, photo: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f h w"]:
        """What the encoder sees at each pixel of photographs of a possible size, before it is pooled."""

    @abc.abstractmethod
    def painted(self, condition: Condition, features: Float[Tensor, "n f h w"] | None) -> Float[Tensor, "n c h w"]:
        """Paint a checked condition of a possible size with these styles at each pixel; None of a network without."""

    @property
    def has_styles(self) -> bool:
        """Whether there are clusters to draw styles from."""
        return bool(self.style_counts.any())

    @property
    def has_choices(self) -> bool:
        """Whether a class has several clusters, as `photogram cluster` finds them."""
        return bool(((self.style_counts > 0).sum(1) > 1).any())

    @torch.no_grad()
    def follow_styles(
        self, styles: Float[Tensor, "k f"], regions: Regions, mean: Callable[[Tensor], Tensor] = lambda values: values
    ) -> None:
        """Move the first cluster of each class, of a network in training its only one, towards these styles.

        So a network that nobody has clustered yet paints every object in the mean style of its class.

        Args:
            styles: as read from photographs.
            regions: what they are of.
            mean: over all processes.
        """
        sums = styles.new_zeros(len(self.style_counts), 1 + self.style_channels)
        together = mean(sums.index_add(0, regions.classes, torch.cat([torch.ones_like(styles[:, :1]), styles], 1)))
        count, known = together[:, :1], self.style_counts[:, :1]
        share = torch.maximum(count / (known + count).clamp(min=1), torch.full_like(count, FOLLOWED))
        now = self.style_centres[:, 0].lerp(together[:, 1:] / count.clamp(min=1e-6), share)
        self.style_centres[:, 0] = torch.where(count > 0, now, self.style_centres[:, 0])
        self.style_counts[:, :1] += count.ceil().long()

    def regions(self, layout: Layout) -> Regions:
        """What has a style of its own in a layout."""
        return find_regions(layout, self.style_by)

    def styles_in(self, photo: Tensor, layout: Layout) -> Float[Tensor, "k f"]:
        """The styles of a photograph's regions.

        Args:
            photo: [n, c, h, w] in [-1, 1].
            layout: of the same size.

        Returns:
            One for each of `regions(layout)`.

        Raises:
            UserError: where the two do not fit each other, or the network was trained without styles.
        """
        self.require_styles()
        condition = self._checked(layout)
        assert condition.layout is not None
        expected = (len(condition.layout.classes), self.spec.photo_channels, *condition.layout.size)
        if not photo.is_floating_point() or tuple(photo.shape) != expected:
            raise UserError(f"the photograph is {list(photo.shape)}, but its layout asks for {list(expected)}")
        height, width = condition.layout.size
        size = self.possible_size((height, width))
        margin = (0, size[1] - width, 0, size[0] - height)
        device = next(self.parameters()).device
        padded = torch.nn.functional.pad(photo.float(), margin, mode="replicate").to(device)
        with torch.inference_mode():
            features = self.encoded(padded)[..., :height, :width]
            return pooled(features, self.regions(condition.layout.to(device)))

    def draw_styles(
        self, regions: Regions, seed: int, style: Literal["drawn", "common"] = "drawn"
    ) -> Float[Tensor, "k f"]:
        """A style for each region, from the clusters of its class.

        Each region draws by its own class and object number: what another region is, or draws, changes nothing. A
        class without clusters has style 0.

        Args:
            regions: of layouts.
            seed: equal seeds draw equal styles.
            style: any cluster of the class with equal chance, or the commonest.
        """
        known = (self.style_counts > 0).sum(1).tolist()
        rows = []
        for one, number in zip(regions.classes.tolist(), regions.objects.tolist(), strict=True):
            choices = known[one]
            chosen = 0
            if choices and style == "drawn":
                digest = hashlib.sha256(f"{seed} {one} {number}".encode()).digest()
                chosen = int.from_bytes(digest[:8], "little") % choices
            rows.append(self.style_centres[one, chosen])
        return torch.stack(rows)

    def sample_styles(self, layout: Layout, styles: Tensor) -> Float[Tensor, "n c h w"]:
        """Paint layouts whose regions have these styles.

        Args:
            layout: class indices, and object numbers.
            styles: [k, style_channels], one for each of `regions(layout)`.

        Returns:
            Photographs in [-1, 1], at the layout's size.

        Raises:
            UserError: for a layout that the network was not trained on, or styles of another number or length.
        """
        self.require_styles()
        condition = self._checked(layout)
        assert condition.layout is not None
        regions = self.regions(condition.layout)
        if tuple(styles.shape) != (len(regions.pixels), self.style_channels):
            raise UserError(
                f"styles are {list(styles.shape)}, but the layout's regions need "
                f"[{len(regions.pixels)}, {self.style_channels}]"
            )
        return self._with_styles(condition, styles, regions)

    def sample_features(self, layout: Layout, features: Tensor) -> Float[Tensor, "n c h w"]:
        """Paint layouts whose pixels have these styles, as `spread` puts them there: what an editor keeps ready.

        Args:
            layout: class indices, and object numbers.
            features: [n, style_channels, h, w], of the same size.

        Returns:
            Photographs in [-1, 1], at the layout's size.

        Raises:
            UserError: for a layout that the network was not trained on, or features of another shape.
        """
        self.require_styles()
        condition = self._checked(layout)
        expected = (len(layout.classes), self.style_channels, *layout.size)
        if not features.is_floating_point() or tuple(features.shape) != expected:
            raise UserError(f"features are {list(features.shape)}, but the layout asks for {list(expected)}")
        return self._sampled(condition, features.float())

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        """Without styles; where the network has some, `sample` puts those that it draws on the layout."""
        return self.painted(condition, None)

    def _paint_checked(
        self, condition: Condition, noise: torch.Generator, options: object
    ) -> Float[Tensor, "n *k c h w"]:
        # What the layout is grown by has no style of its own: it goes on with the border's, as in `sample_styles`.
        assert isinstance(options, StyleOptions)  # `sample` has checked it
        if not self.style_channels:
            return super()._paint_checked(condition, noise, options)
        assert condition.layout is not None
        regions, seed = self.regions(condition.layout), noise.initial_seed()
        drawn = [self.draw_styles(regions, seed + n, options.style) for n in range(options.styles)]
        pictures = [self._with_styles(condition, styles, regions) for styles in drawn]
        return torch.stack(pictures, 1) if options.several else pictures[0]

    def require_styles(self) -> None:
        """Refuse what needs styles.

        Raises:
            UserError: where the network was trained without.
        """
        if not self.style_channels:
            raise UserError("this network was trained without styles; train it with --features objects or classes")

    def _with_styles(
        self, condition: Condition, styles: Float[Tensor, "k f"], regions: Regions
    ) -> Float[Tensor, "n c h w"]:
        return self._sampled(condition, spread(styles.cpu(), regions._replace(numbers=regions.numbers.cpu())))

    def _sampled(self, condition: Condition, features: Float[Tensor, "n f h w"]) -> Float[Tensor, "n c h w"]:
        size, padded = condition.size, self._padded(condition)
        assert size is not None and padded.size is not None
        margin = (0, padded.size[1] - size[1], 0, padded.size[0] - size[0])
        features = torch.nn.functional.pad(features, margin, mode="replicate")
        device = next(self.parameters()).device
        photo = self._run(lambda: self.painted(padded.to(device), features.to(device)))
        return photo[..., : size[0], : size[1]].contiguous()
