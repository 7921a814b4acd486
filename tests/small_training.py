"""What the tests of the loop share: a recipe that takes milliseconds, scenes to train it on, and folders to compare.

The recipe is not one of photogram's: it stands for any that is defined outside the package.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.generator import Generator
from photogram.recipe import LearnsFrom, Run
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
os.environ["ACCELERATE_USE_CPU"] = "true"

CLASSES = (SceneClass("sky", (90, 150, 220)), SceneClass("road", (90, 90, 90)), SceneClass("car", (200, 30, 30)))


class ClassColors(Generator):
    """Paint each class in one colour."""

    def __init__(self, *, spec: SceneSpec, bias: float):
        super().__init__()
        self.spec, self.bias = spec, bias
        self.colors = nn.Embedding(spec.num_classes, 3)
        nn.init.normal_(self.colors.weight, bias, 0.1)

    @property
    def size_multiple(self) -> int:
        return 1

    def forward(self, layout: Layout) -> Tensor:
        return self.colors(layout.classes.long()).movedim(-1, 1)

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Tensor:
        assert condition.layout is not None
        return self(condition.layout) + 0.01 * torch.randn(1, generator=noise)


@dataclass(frozen=True)
class Colors:
    """A recipe as small as they come: mean squared error, Adam, and noise so that it matters how that is drawn."""

    networks: ClassVar[tuple[type[Generator], ...]] = (ClassColors,)
    learns_from: ClassVar[LearnsFrom] = "layouts"

    learning_rate: float = 0.05
    widths: tuple[int, ...] = (1,)
    mode: str = "plain"
    hard: bool = False
    multiple: int = 1
    nan_at: int = 0
    """The loss of this step is not a number."""
    infinite_at: int = 0
    """After this step a weight is infinite, though losses are not."""
    slow: float = 0.0
    """Seconds that a step takes longer."""
    stop_at: int = 0
    """Ctrl-C comes during this step."""
    big: int = 0
    """Numbers that the state holds besides."""

    def size_multiple(self) -> int:
        return self.multiple

    def start(self, run: Run) -> ColorsTraining:
        return ColorsTraining(self, run)


class ColorsTraining:
    def __init__(self, recipe: Colors, run: Run):
        self.recipe, self.run, self.taken = recipe, run, 0
        self.network = ClassColors(spec=run.spec, bias=0.0)
        if run.start_from is not None:
            self.network.load_state_dict(ClassColors.from_pretrained(run.start_from).state_dict())
        adam = torch.optim.Adam(self.network.parameters(), lr=recipe.learning_rate)
        self.trained, self.adam = run.accelerator.prepare(self.network, adam)
        self.infinite = torch.zeros(1)
        self.big = torch.zeros(recipe.big)

    def step(self, scene: Scene, seen: int) -> dict[str, Tensor]:
        assert scene.condition.layout is not None and scene.photo is not None
        step = seen // (self.run.batch_size * self.run.accelerator.num_processes) + 1
        time.sleep(self.recipe.slow)
        with self.run.accelerator.autocast():
            painting = self.trained(scene.condition.layout)
        loss = (painting + 0.1 * torch.randn_like(painting) - scene.photo).square().mean()
        self.adam.zero_grad()
        self.run.accelerator.backward(loss)
        self.adam.step()
        if step == self.recipe.nan_at:
            loss = loss * float("nan")
        if step == self.recipe.infinite_at:
            self.infinite.fill_(float("inf"))
        if step == self.recipe.stop_at:
            os.kill(os.getpid(), 2)
        return {"loss": loss, "half": loss / 2}

    def facts(self) -> dict[str, str]:
        return {"of the recipe": "a fact"}

    def published(self) -> dict[str, Generator]:
        return {"colors": self.network}

    def scene_for(self, name: str, scene: Scene) -> Scene:
        return scene

    def state_dict(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "adam": self.adam.state_dict(),
            "extra": {"infinite": self.infinite},
            "big": self.big,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])


class Blocks:
    """Scenes of three horizontal bands, the photograph brighter from scene to scene. Made when asked for.

    Args:
        size: height and width.
        count: how many.
        flip: mirror every second scene.
        fit: only a word among the settings.
        data: stands for the data's hash.
        damaged: the scene that cannot be read.
        bare: the scene that has no photograph.
    """

    def __init__(
        self,
        size: tuple[int, int] = (6, 8),
        count: int = 7,
        flip: bool = False,
        fit: str = "stretch",
        data: str = "0123",
        damaged: int | None = None,
        bare: int | None = None,
    ):
        self.spec = SceneSpec(CLASSES, size)
        self.count, self.flip, self.fit, self.data = count, flip, fit, data
        self.damaged, self.bare = damaged, bare

    @property
    def source(self) -> str:
        return "blocks of colour"

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"block_{index:02}"

    def settings(self) -> dict[str, object]:
        return {"data": self.data, "size": list(self.spec.size), "fit": self.fit, "flip": self.flip}

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        index, draw = key
        if index == self.damaged:
            raise UserError(f"photos/{self.name(index)}.jpg: cannot be decoded, damaged or cut short")
        height, width = self.spec.size
        classes = (torch.arange(height) * 3 // height)[:, None].expand(height, width).to(torch.uint8)
        colors = torch.tensor([c.color for c in CLASSES]) / 127.5 - 1
        photo = colors[classes.long()].movedim(-1, 0) * (0.5 + 0.05 * index)
        photo[:, :, : width // 2] += 0.1
        if self.flip and draw % 2:
            photo = photo.flip(-1)
        scene = Scene(Condition(Layout(classes[None].contiguous())), photo[None].contiguous())
        return scene._replace(photo=None) if index == self.bare else scene


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def check_gradients(training: Any, scene: Scene) -> None:
    """A duel's step: the discriminator's gradients are complete before the generator has any, and stay as they are."""
    seen: dict[str, tuple[list[Any], list[Any]]] = {}
    for name in ("discriminator_adam", "generator_adam"):
        adam = getattr(training, name)
        take = adam.step

        def watched(name: str = name, take: Callable[[], object] = take) -> None:
            seen[name] = (gradients(training.published_generator), gradients(training.judging))
            take()

        adam.step = watched
    training.step(scene, 0)
    painters, critics = seen["discriminator_adam"]
    assert all(g is None for g in painters) and all(g is not None and g.abs().sum() > 0 for g in critics)
    painters, after = seen["generator_adam"]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in painters)
    assert all(torch.equal(a, b) for a, b in zip(critics, after, strict=True))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def outcome(out: Path) -> dict[str, str]:
    """What must be the same however often a run was stopped: the log, the network, its card and the sheets."""
    folders = published_in(out)
    files = [out / "log.jsonl", *sorted((out / "samples").glob("*.png"))]
    files += [folder / name for folder in folders for name in ("model.safetensors", "config.json", "README.md")]
    return {str(path.relative_to(out)): digest(path) for path in files}


def published_in(out: Path) -> list[Path]:
    """The folders of what a run has published: its own, or one for each of several networks."""
    return [out] if (out / "config.json").exists() else sorted(p.parent for p in out.glob("*/config.json"))


def run_python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a few lines that can import this module, in a process of their own."""
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=ROOT, **options)


def start_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """The same, not waited for; in a group of its own, for signals."""
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 200) -> None:
    """Wait until something has happened while a process runs; fail where it ends before."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"the process has ended ({process.returncode}): {process.communicate()[1]}")
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)


def lines_of(out: Path) -> int:
    """How many steps are logged."""
    log = out / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0
