"""What the loop asks of a recipe and of data: three protocols, and `Run`, which tells a recipe what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from accelerate import Accelerator
from torch import Tensor

from photogram.errors import UserError
from photogram.generator import Generator, Network
from photogram.scene import Scene, SceneSpec, class_difference

LearnsFrom = Literal["layouts", "images", "any", "photographs", "unpaired"]
"""What scenes must hold for a recipe: layouts with photographs; images (inputs) with photographs; layouts, images or
both with photographs; photographs alone; or images and photographs of different scenes. Data is opened by this."""


@runtime_checkable
class Scenes(Protocol):
    """A data set: scenes by index. What is drawn for a scene (flip, crop) is a function of a number."""

    spec: SceneSpec

    @property
    def source(self) -> str:
        """Where the scenes come from, for the model card: a name, not a path."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call the scene in messages and sheets."""
        ...

    def settings(self) -> Mapping[str, object]:
        """What must stay as it is while a training goes on: the data's hash, size, flips and crops, as JSON."""
        ...

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        """The scene of that index as a batch of one, as the second number makes it."""
        ...


@dataclass(frozen=True)
class Run:
    """What a recipe cannot know by itself.

    Args:
        accelerator: the device, the precision and the processes.
        spec: classes, channels and size of the scenes.
        photographs: how many there are to train on.
        batch_size: photographs a step and process.
        seed: of everything.
        start_from: the folder of the published network to start from, if any (`--from`).
        start_state: reads the state of the training that published it, where that is beside it: what `state_dict` gave.
        resumes: whether a state follows that this training saved itself; `start_from` is None then, for it may be gone.
    """

    accelerator: Accelerator
    spec: SceneSpec
    photographs: int
    batch_size: int
    seed: int
    start_from: Path | None = None
    start_state: Callable[[], Mapping[str, Any] | None] = lambda: None
    resumes: bool = False

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        reduced = self.accelerator.reduce(values, "mean")
        assert isinstance(reduced, Tensor)
        return reduced


def layouts_alone(run: Run, name: str) -> None:
    """Refuse data without layouts, or with images as conditions.

    Args:
        run: knows the data.
        name: what the recipe is called.

    Raises:
        UserError: naming the recipe.
    """
    if not run.spec.num_classes or run.spec.image_channels:
        raise UserError(f"{name} paints from layouts alone; this data has none, or images as conditions")


def start_from(run: Run, network: Network, free: tuple[str, ...] = ()) -> None:
    """Take the weights of a published network of the same form, where the run names one (`--from`).

    Args:
        run: names the folder, or none.
        network: gets the weights.
        free: arguments of the constructor that may differ.

    Raises:
        UserError: where classes or arguments differ.
    """
    if run.start_from is None:
        return
    source = type(network).from_pretrained(run.start_from)
    check_source(run, source, network, free)
    network.load_state_dict(source.state_dict())


def check_source(run: Run, source: Network, network: Network, free: tuple[str, ...] = ()) -> None:
    """Refuse to take weights of a network of another form.

    Args:
        run: names the source's folder.
        source: what weights are taken from.
        network: what would get them.
        free: arguments of the constructor that may differ.

    Raises:
        UserError: where classes or arguments differ.
    """
    differs = class_difference(source.spec, network.spec)
    if differs is not None:
        raise UserError(f"--from {run.start_from}: {differs}; start without --from, or bring the data into its classes")
    for name in ("image_channels", "photo_channels"):
        channels, here = getattr(source.spec, name), getattr(network.spec, name)
        if channels != here:
            raise UserError(f"--from {run.start_from}: was trained with {name} {channels}, but the data has {here}")
    there = source.arguments()
    for name, here in network.arguments().items():
        if name not in ("spec", *free) and there[name] != here:
            raise UserError(f"--from {run.start_from}: has {name} {there[name]}, not {here}; give it the same")


@runtime_checkable
class Training(Protocol):
    """A recipe under way."""

    def step(self, scene: Scene, seen: int) -> Mapping[str, Tensor]:
        """Improve on one batch; `seen` photographs were shown before it, over all processes. Returns the losses."""
        ...

    def published(self) -> Mapping[str, Network]:
        """The networks to publish, by name."""
        ...

    def scene_for(self, name: str, scene: Scene) -> Scene:
        """A scene as the published network of that name meets it: what it is asked, and what was photographed."""
        ...

    def facts(self) -> Mapping[str, str]:
        """What the model card should say beside the recipe's fields: values that were found on the way, terms."""
        ...

    def state_dict(self) -> dict[str, object]:
        """Everything that must survive: tensors, numbers and text, in dicts and lists."""
        ...

    def load_state_dict(self, state: dict[str, object]) -> None: ...


@runtime_checkable
class Recipe(Protocol):
    """One paper's hyper-parameters: a flat frozen dataclass of int, float, bool, str and tuples of them.

    A recipe may have two methods more, which are asked for by name and have the same arguments and errors as
    `size_multiple`; most have none:

    - `least_side() -> int`: heights and widths that it can train at are at least this many pixels; without it, at least
      `size_multiple()`. Smaller ones are refused before a training begins, and no plan measures or proposes them
      (`photogram.sizes`).
    - `heaviest() -> Recipe`: the same recipe as it is where its training takes most memory, for one that takes more
      later than at first; without it, the recipe itself. Plans measure that one (`photogram.planning.dry_run`).
    """

    networks: ClassVar[tuple[type[Network], ...]]
    learns_from: ClassVar[LearnsFrom]

    def size_multiple(self) -> int:
        """Heights and widths that it can train at are multiples of this."""
        ...

    def start(self, run: Run) -> Training: ...


def check_preview(training: Training, preview: Scenes | None) -> None:
    """Refuse held-out scenes that could not be painted, which would end the training at its first sheet.

    Raises:
        UserError: where instance maps are missing.
    """
    if preview is None or not len(preview) or preview.spec.instances:
        return
    needing = [n for n in training.published().values() if isinstance(n, Generator) and n.needs_objects]
    if needing:
        raise UserError(
            f"{preview.source}: has no instance maps, which {type(needing[0]).__name__} needs with these settings; "
            "add them to instances/, or train without objects (--boundary classes, --features none or classes)"
        )
