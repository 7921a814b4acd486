"""Edit a picture through its layout: objects are drawn, moved, taken away and given styles, and painted anew.

The edit session of specification 4.7 on T.-C. Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation
with Conditional GANs", CVPR 2018. Nothing of it knows a window or a browser.

    session = EditSession(generator, Layout.open("layout.png", "instances.png"), things=range(24, 34))
    car = session.add(mask, label=26, position=(300, 120))
    session.set_style(car, 3)
    photo = session.render().photo

Every operation is one step of `undo`. What a painting needs is kept ready, so that an edit takes milliseconds and
several can be made for each painting. A painting is always of the whole picture: its norms are, so no part of one
is exact. Many paintings are faster inside `photogram.synthesis.ready_to_paint`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from photogram import edit_files, edits
from photogram.edit_arguments import checked
from photogram.edit_history import History
from photogram.edits import Fill, Region, State, Style, first_state
from photogram.errors import UserError
from photogram.generator import Generator
from photogram.kept_condition import KeptCondition
from photogram.nn.regions import Regions
from photogram.scene import Layout
from photogram.strokes import Box, box_of
from photogram.styled import StyledGenerator
from photogram.synthesis import fingerprint

LEAST_SIDE = 128
"""Pixels of a gallery's pictures, at least, where the whole has so many."""
StyleLike = int | Sequence[float] | Tensor
"""The number of a cluster, 0 the commonest of the class, or a style itself."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """A painting of a session.

    Args:
        photo: in [-1, 1].
        revision: of the session, when it was painted.
        divisor: 1; of a preview, how many times smaller each side is.
    """

    photo: Float[Tensor, "1 c h w"]
    revision: int
    divisor: int = 1

    @property
    def preview(self) -> bool:
        """Whether this is a smaller picture of its own, which the final one need not resemble in detail."""
        return self.divisor > 1

    def __str__(self) -> str:
        height, width = self.photo.shape[-2:]
        kind = f"preview 1/{self.divisor}" if self.preview else "full"
        return f"{kind}, {height} x {width}, revision {self.revision}"


@checked
class EditSession:
    """A layout under a person's hands.

    Args:
        generator: any that paints from layouts alone. Where it is a `StyledGenerator` with styles, objects have some.
        layout: one, of classes that the generator knows, as `Layout.open(path, instances_path)` reads it; without
            instance maps it has no objects yet.
        things: the classes that have objects; None: those that the object numbers of this very layout tell, see
            `photogram.edit_numbers.counted`. What is of another class is stuff, whatever number it carries: in a street
            of cars alone a new bus is stuff, and all buses one region. Give `things` where classes are to get
            first objects (Cityscapes' official ones are range(24, 34)) or have one alone, which may look like stuff.
        seed: of what a generator draws that paints without styles.
        options: of such a generator.
        style: every object has the commonest style of its class, or one that is drawn by the seed.

    Raises:
        UserError: for a generator that needs something else, a layout that does not fit it or lacks the objects that
            it was trained with, or unknown classes.
    """

    def __init__(
        self,
        generator: Generator,
        layout: Layout,
        *,
        things: Collection[int] | None = None,
        seed: int = 0,
        options: object | None = None,
        style: Literal["common", "drawn"] = "common",
    ):
        self._begin(generator, first_state(generator, layout, things), layout.instances is not None, seed, options)
        if style == "drawn" and self.styled is not None:
            self.sample_styles(seed)
            self.start, self.revision, self.history = self.state, 0, History()

    def _begin(self, generator: Generator, state: State, instances: bool, seed: int, options: object | None) -> None:
        options = generator.checked_options(options)
        if options.several:
            raise UserError("a session paints one picture at a time; give options that ask for one")
        self.generator, self.seed, self.options = generator, seed, options
        self.state, self.start, self.revision = state, state, 0
        self.kept, self.history = KeptCondition(state), History()
        self._instances = instances or generator.spec.instances or bool(state.things)

    # What there is.

    @property
    def layout(self) -> Layout:
        """What is painted, [1, h, w]; a copy."""
        parts = (self.state.classes, self.state.instances)
        classes, instances = (torch.from_numpy(part.copy())[None] for part in parts)
        return Layout(classes, instances if self._instances else None)

    @property
    def regions(self) -> dict[Region, int]:
        """Pixels of each region that is there, by class and number; `state.things` says which classes have objects."""
        return self.kept.present

    @property
    def styled(self) -> StyledGenerator | None:
        """The generator, where it paints by styles."""
        found = self.generator
        return found if isinstance(found, StyledGenerator) and found.style_channels else None

    @cached_property
    def made_with(self) -> dict[str, object]:
        """Which network this is, to be compared when a session is opened again."""
        return _described(self.generator)

    def at(self, x: int, y: int) -> Region:
        """The region at a pixel.

        Raises:
            UserError: where that is outside the frame.
        """
        return self.state.at(x, y)

    def style_of(self, region: Region) -> Style:
        """A region's style; no numbers of a network without.

        Raises:
            UserError: where it is not there.
        """
        self.state.mask(region)
        return self.state.style_of(region)

    def box(self, region: Region, least: int = 1) -> Box:
        """The rectangle around a region, of so many pixels a side at least where the frame has them."""
        found = box_of(self.state.mask(region))
        assert found is not None
        return found.at_least(least, self.state.size)

    # Paintings.

    def render(self) -> Rendering:
        """Paint the picture, whole and at full size; equal states give equal bits.

        Raises:
            UserError: as the generator's `sample` does.
        """
        layout = self._shown(self.kept.layout)
        if self.styled is not None:
            return Rendering(self.styled.sample_features(layout, self.kept.features), self.revision)
        return Rendering(self.generator.sample(layout, self.seed, self.options), self.revision)

    def preview(self, divisor: int = 2) -> Rendering:
        """Paint a smaller picture, in a fraction of the time. It is another one: norms are of the whole.

        Args:
            divisor: how many times smaller each side is; 1 is the picture itself.

        Raises:
            UserError: for another divisor than 1, 2, 4 or 8.
        """
        if divisor not in (1, 2, 4, 8):
            raise UserError(f"divisor {divisor}: must be 1, 2, 4 or 8")
        if divisor == 1:
            return self.render()
        height, width = (-(-side // divisor) for side in self.state.size)
        small = self._shown(self.kept.layout).resized((height, width))
        if self.styled is None:
            return Rendering(self.generator.sample(small, self.seed, self.options), self.revision, divisor)
        found = self.styled.regions(small)
        styles = [self.state.style_of(r) for r in zip(found.classes.tolist(), found.objects.tolist(), strict=True)]
        return Rendering(self.styled.sample_styles(small, torch.tensor(styles)), self.revision, divisor)

    def gallery(self, region: Region) -> Float[Tensor, "k c h w"]:
        """The picture with each style that a region's class has clusters of, cropped to the region.

        Returns:
            Number k of them shows cluster k; each side has `LEAST_SIDE` pixels or more, where the picture has.

        Raises:
            UserError: where the region is not there, or its class has no clusters.
        """
        network, box = self._styled(), self.box(region, LEAST_SIDE)
        clusters = int((network.style_counts[region[0]] > 0).sum())
        if not clusters:
            raise UserError(f"class {region[0]}: has no clusters of styles; `photogram cluster` finds them")
        layout, crops = self._shown(self.kept.layout), []
        for number in range(clusters):
            features = self.kept.features_with(self.state, region, self._style(region[0], number))
            crops.append(network.sample_features(layout, features)[(..., *box.slices)])
        return torch.cat(crops)

    # Edits of the layout. Each is one step to undo.

    def brush(
        self, label: int, points: Sequence[tuple[float, float]], width: int, into: Region | None = None
    ) -> Region:
        """A stroke of a class; see `photogram.edits.brush`.

        Args:
            label: the class; of one that `state.things` does not list, the stroke is stuff (see `things`).
            points: x and y of each, in pixels.
            width: the brush's diameter in pixels.
            into: the region that grows by it; None: of a class with objects, the stroke is a new one.

        Returns:
            What was drawn on.
        """
        after, region = edits.brush(self.state, label, points, width, into)
        self._do(after)
        return region

    def add(
        self,
        mask: Bool[np.ndarray, "mask_h mask_w"],
        label: int,
        style: StyleLike | None = None,
        position: tuple[int, int] = (0, 0),
    ) -> Region:
        """Put a thing into the picture; see `photogram.edits.add`.

        Returns:
            The new object; of a class that `state.things` does not list, the region of stuff that has grown: two buses
            would be one (see `things`).
        """
        vector = None if style is None else self._style(label, style)
        after, region = edits.add(self.state, mask, label, vector, position)
        self._do(after)
        return region

    def move(self, region: Region, dx: int, dy: int, fill: Fill = "nearest") -> None:
        """Move it to the right and down; see `photogram.edits.move`."""
        self._do(edits.move(self.state, region, dx, dy, fill))

    def scale(self, region: Region, factor: float, fill: Fill = "nearest") -> None:
        """Make it larger or smaller; see `photogram.edits.scale`."""
        self._do(edits.scale(self.state, region, factor, fill))

    def remove(self, region: Region, fill: Fill = "nearest") -> None:
        """Take it away, and fill what was behind by a class or by what is nearest; see `photogram.edits.remove`."""
        self._do(edits.remove(self.state, region, fill))

    def relabel(self, region: Region, label: int) -> Region:
        """Give it another class, and that class's style; see `photogram.edits.relabel`.

        Of a class that `state.things` does not list it becomes stuff, even where it was an object.

        Returns:
            What it is now.
        """
        after, now = edits.relabel(self.state, region, label)
        self._do(after)
        return now

    # Edits of styles.

    def set_style(self, region: Region, style: StyleLike) -> None:
        """Give a region a style: a cluster of its class by number, or a vector."""
        self._do(edits.set_style(self.state, region, self._style(region[0], style)))

    def set_class_style(self, label: int, style: StyleLike) -> None:
        """Give all of a class a style, and what will be added of it."""
        self._do(edits.set_class_style(self.state, label, self._style(label, style)))

    def sample_styles(self, seed: int, regions: Sequence[Region] | None = None) -> None:
        """Draw styles from the clusters, as `generator.sample` does of this seed. Each region draws by itself.

        Args:
            seed: equal seeds draw equal styles.
            regions: that draw; None: all. The others stay as they are.

        Raises:
            UserError: where a region is not there, or the network has no styles.
        """
        network, asked = self._styled(), list(self.regions if regions is None else regions)
        for region in asked:
            self.state.mask(region)
        if not asked:
            return
        keepers = [self.state.keeper(region) for region in asked]
        classes, objects = (torch.tensor([keeper[part] for keeper in keepers]) for part in (0, 1))
        ones = torch.ones_like(classes)
        found = Regions(torch.zeros(1, 1, 1, dtype=torch.int64), 0 * ones, classes, objects, ones)
        self._give(dict(zip(keepers, _rows(network.draw_styles(found, seed)), strict=True)))

    def take_style(self, region: Region, photo: Tensor, layout: Layout, source: Region) -> None:
        """Give a region the style that an object has in a photograph.

        Args:
            region: of this session.
            photo: the other photograph [1, c, h, w] in [-1, 1], as `photogram.scene.open_photo` reads it.
            layout: of that photograph.
            source: the region of it.

        Raises:
            UserError: where photograph and layout do not fit each other, values are beyond [-1, 1], a region is not
                there, or the two are of different classes, whose styles mean different things.
        """
        self.state.mask(region)
        if source[0] != region[0]:
            raise UserError(f"source: is of class {source[0]}, but the region of class {region[0]}; give one of that")
        styles, wanted = self._styles_in(photo, layout), self.state.keeper(source)
        if wanted not in styles:
            raise UserError(f"the photograph's layout has no object {source[1]} of class {source[0]}")
        self.set_style(region, styles[wanted])

    def take_styles(self, photo: Tensor) -> None:
        """Give all regions the styles that they have in a photograph [1, c, h, w] of this very layout."""
        self._give(self._styles_in(photo, self.layout))

    # Steps.

    def undo(self) -> bool:
        """Take back the last step; False where there is none."""
        return self._go(self.history.undo(self.state))

    def redo(self) -> bool:
        """Do again what was taken back; False where there is nothing."""
        return self._go(self.history.redo(self.state))

    def reset(self) -> None:
        """Go back to the start; a step that can be undone."""
        self._do(self.start)

    # Files.

    def save(self, path: str | Path) -> None:
        """Write what stands now to a .npz file, whole or not at all; steps are not kept.

        Raises:
            UserError: where it cannot be written, or is called otherwise.
        """
        about = {"network": self.made_with, "seed": self.seed, "instances": self._instances}
        edit_files.write_session(path, self.state, about)

    @classmethod
    def load(
        cls, path: str | Path, generator: Generator, *, options: object | None = None, strict: bool = True
    ) -> EditSession:
        """Open what `save` wrote.

        Args:
            path: the file.
            generator: with which it was made.
            options: as of the constructor.
            strict: refuse other weights; else another network of the same classes and length of styles may take it.

        Raises:
            UserError: where the file is damaged or of a later version, or was made with another network.
        """
        state, about = edit_files.read_session(path)
        made_with = _described(generator)
        edit_files.check_network(path, about, made_with, strict)
        classes, numbers = (torch.from_numpy(part.copy())[None] for part in (state.classes, state.instances))
        fresh = first_state(generator, Layout(classes, numbers if about["instances"] else None), state.things)
        ours, theirs = ((len(s.defaults), len(s.defaults[0]), s.style_by) for s in (fresh, state))
        if ours != theirs:
            words = ("{} classes, styles of {} numbers by {}".format(*form) for form in (theirs, ours))
            raise UserError(f"{path}: has {next(words)}, but the network {next(words)}; open it with its own network")
        session = cls.__new__(cls)
        session._begin(generator, state, about["instances"], edit_files.seed_of(path, about), options)
        session.made_with = made_with
        return session

    # Inside.

    def _do(self, after: State) -> None:
        """Take a step, where it changes anything."""
        box = self.state.difference(after)
        if self.history.do(self.state, after, box):
            self._go((after, box))

    def _go(self, step: tuple[State, Box | None] | None) -> bool:
        if step is None:
            return False
        after, box = step
        self.kept.update(self.state, after, box)
        self.state = after
        self.revision += 1
        return True

    def _shown(self, layout: Layout) -> Layout:
        return layout if self._instances else Layout(layout.classes)

    def _styled(self) -> StyledGenerator:
        if self.styled is not None:
            return self.styled
        if isinstance(self.generator, StyledGenerator):
            self.generator.require_styles()
        raise UserError(f"{type(self.generator).__name__} paints without styles; pix2pixhd has some")

    def _style(self, label: int, style: StyleLike) -> Style:
        """A style as numbers of float32."""
        network = self._styled()
        if not 0 <= label < len(self.state.defaults):
            raise UserError(f"class {label}: there are only classes 0..{len(self.state.defaults) - 1}")
        if isinstance(style, int):  # NumPy's are Python's by now
            known = int((network.style_counts[label] > 0).sum())
            if not 0 <= style < known:
                has = f"clusters 0..{known - 1}" if known else "no clusters; `photogram cluster` finds them"
                raise UserError(f"style {style}: class {label} has {has}")
            return tuple(network.style_centres[label, style].tolist())
        assert isinstance(style, tuple)
        return style

    def _styles_in(self, photo: Tensor, layout: Layout) -> dict[Region, Style]:
        network = self._styled()
        if len(layout.classes) != 1:
            raise UserError(f"the layout is a batch of {len(layout.classes)}; give one")
        styles, found = network.styles_in(photo, layout), network.regions(layout)
        return dict(zip(zip(found.classes.tolist(), found.objects.tolist(), strict=True), _rows(styles), strict=True))

    def _give(self, styles: Mapping[Region, Style]) -> None:
        self._do(replace(self.state, styles={**self.state.styles, **styles}))


def _rows(styles: Float[Tensor, "k f"]) -> list[Style]:
    return [tuple(row) for row in styles.float().cpu().tolist()]


def _described(generator: Generator) -> dict[str, object]:
    classes = [c.name for c in generator.spec.classes]
    return {"name": type(generator).__name__, "weights": fingerprint(generator), "classes": classes}
