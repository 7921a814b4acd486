"""pix2pixHD learns what it is for, in seconds (check 10.14 b, c and e): borders between objects of one class, a style
for each object, and to play against a discriminator with self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from photogram.nn.attention import gammas
from photogram.nn.regions import boundaries
from photogram.recipe import Run
from photogram.recipes.pix2pixhd import Pix2PixHD, Pix2PixHDTraining
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec, collate
from photogram.styling import cluster_styles, find_styles, with_styles

SIZE = (32, 48)
GROUND, BLOCK = range(2)
SPEC = SceneSpec((SceneClass("ground", (90, 120, 90)), SceneClass("block", (200, 60, 60))), SIZE, instances=True)
TINY: dict[str, Any] = {
    **{"width": 8, "downsamplings": 1, "blocks": 1, "encoder_width": 8, "perceptual": "none"},
    **{"scales": 1, "discriminator_width": 8, "learning_rate": 1e-3, "discriminator_rate": 1e-3},
}
STYLED: dict[str, Any] = {
    **{"features": "objects", "width": 12, "encoder_width": 12},
    **{"scales": 2, "strided": 2, "discriminator_width": 16},
    **{"feature_matching": 50.0, "discriminator_rate": 2e-4},  # colours are in what is matched, not in the game
}
EARTH = torch.tensor([-0.2, 0.1, -0.3])[:, None, None]


class Made:
    """Scenes that a test has made, as a data set."""

    def __init__(self, scenes: Sequence[Scene]):
        self.scenes, self.spec, self.source = scenes, SPEC, "scenes of a test"

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        return f"{index}"

    def settings(self) -> dict[str, object]:
        return {}

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        return self.scenes[key[0]]


def touching(number: int) -> Scene:
    """Two blocks side by side, a dark line around each, as drawings have them; where they meet is left to chance."""
    draws, (height, width) = np.random.default_rng([number, 1]), SIZE
    top, bottom = int(draws.integers(4, 10)), int(draws.integers(22, 29))
    left, right = int(draws.integers(2, 9)), int(draws.integers(40, 47))
    meet = int(draws.integers(left + (right - left) // 4, right - (right - left) // 4 + 1))
    classes, numbers = torch.zeros(1, height, width, dtype=torch.uint8), torch.zeros(1, height, width).int()
    classes[:, top:bottom, left:right] = BLOCK
    numbers[:, top:bottom, left:meet], numbers[:, top:bottom, meet:right] = 1, 2
    layout = Layout(classes, numbers)
    photo = torch.where(classes == BLOCK, torch.tensor([0.8, 0.6, 0.1])[:, None, None], EARTH)
    photo = torch.where((boundaries(layout)[0] > 0) & (classes == BLOCK), -0.9, photo)
    return Scene(Condition(layout), photo[None])


def colored(number: int, *, of_all: bool) -> Scene:
    """Three blocks, each of a random colour: from blue to orange, or of all colours."""
    draws, (height, width) = np.random.default_rng([number, 2]), SIZE
    classes, numbers = torch.zeros(1, height, width, dtype=torch.uint8), torch.zeros(1, height, width).int()
    photo = EARTH.expand(3, height, width).clone()
    for n in range(3):
        tall, wide = int(draws.integers(8, 15)), int(draws.integers(8, 15))
        top, left = int(draws.integers(0, height - tall + 1)), 16 * n + int(draws.integers(0, 17 - wide))
        block = (slice(top, top + tall), slice(left, left + wide))
        classes[0][block], numbers[0][block] = BLOCK, n + 1
        color = draws.uniform(-0.9, 0.9, 3) if of_all else draws.uniform(-0.9, 0.9) * np.array([1, 0.3, -1])
        photo[:, block[0], block[1]] = torch.from_numpy(color).float()[:, None, None]
    return Scene(Condition(Layout(classes, numbers)), photo[None])


def trained(scenes: Sequence[Scene], steps: int, **recipe: Any) -> tuple[Pix2PixHDTraining, list[dict[str, Tensor]]]:
    """Train on pairs of them; what the steps said too."""
    torch.manual_seed(0)
    AcceleratorState._reset_state(reset_partial_state=True)  # whatever a test before has asked for
    run = Run(Accelerator(cpu=True, mixed_precision="no"), SPEC, len(scenes), 2, 0, None, lambda: None)
    training, draws, said = Pix2PixHD(**{**TINY, **recipe}).start(run), np.random.default_rng(0), []
    for step in range(steps):
        one, other = draws.integers(len(scenes), size=2)
        said.append(training.step(collate([scenes[one], scenes[other]]), 2 * step))
    return training, said


def parts(scene: Scene) -> tuple[Layout, Tensor]:
    assert scene.condition.layout is not None and scene.photo is not None
    return scene.condition.layout, scene.photo


def darkness(picture: Tensor, layout: Layout) -> float:
    """How much darker the two columns are where the blocks meet than the blocks elsewhere, their outlines left out."""
    assert layout.instances is not None
    numbers, grey = layout.instances[0], picture.mean(0)
    left, right = (torch.nonzero((numbers == n).any(0)).flatten() for n in (1, 2))
    rows = torch.nonzero((numbers > 0).any(1)).flatten()[3:-3]
    inside = torch.cat([left[3:-3], right[3:-3]])
    border = torch.stack([left[-1], right[0]])
    return float(grey[rows][:, inside].mean() - grey[rows][:, border].mean())


def test_touching_objects_of_a_class_are_told_apart_by_the_boundary_channel_alone() -> None:
    """Check 10.14 b, on scenes that were not trained on."""
    scenes, held_out = [touching(n) for n in range(64)], [parts(touching(n)) for n in range(1000, 1012)]
    found = {}
    for boundary in ("objects", "none"):
        training, _ = trained(scenes, 100, boundary=boundary)
        found[boundary] = [darkness(training.painter.sample(layout)[0], layout) for layout, _ in held_out]
    photographed = [darkness(photo[0], layout) for layout, photo in held_out]
    assert min(photographed) > 1.3
    assert min(found["objects"]) > 0.7 * max(photographed), "with the channel every border is drawn"
    assert max(map(abs, found["none"])) < 0.3 * min(photographed), "without it none is"


def colors_of_blocks(picture: Tensor, layout: Layout) -> Tensor:
    """The mean colour of each block."""
    assert layout.instances is not None
    return torch.stack([picture[:, layout.instances[0] == n].mean(1) for n in (1, 2, 3)])


def recovered(network: CoarseToFineGenerator, *, of_all: bool) -> dict[str, Tensor]:
    """Colours of blocks in held-out photographs, painted in their own styles, and each in the style of the next."""
    found: dict[str, list[Tensor]] = {"true": [], "own": [], "next's": [], "in the next's": []}
    for n in range(1000, 1024):
        layout, photo = parts(colored(n, of_all=of_all))
        styles = network.styles_in(photo, layout)
        assert network.regions(layout).objects.tolist() == [0, 1, 2, 3]
        found["true"].append(true := colors_of_blocks(photo[0], layout))
        found["next's"].append(true.roll(-1, 0))
        for name, given in (("own", styles), ("in the next's", styles[[0, 2, 3, 1]])):
            found[name].append(colors_of_blocks(network.sample_styles(layout, given)[0], layout))
    return {name: torch.cat(colors) for name, colors in found.items()}


def correlations(a: Tensor, b: Tensor) -> list[float]:
    """Of each channel."""
    return [float(torch.corrcoef(torch.stack([a[:, n], b[:, n]]))[0, 1]) for n in range(3)]


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


def clusters_of(network: CoarseToFineGenerator, scenes: Sequence[Scene], clusters: int) -> CoarseToFineGenerator:
    found = find_styles(network, Made(scenes), least_area=Fraction(1, 64), quiet=True)
    made = with_styles(network, cluster_styles(found, SPEC.num_classes, clusters))
    assert isinstance(made, CoarseToFineGenerator)
    assert int((made.style_counts[BLOCK] > 0).sum()) == clusters
    return made


def least_distance(network: CoarseToFineGenerator, layout: Layout) -> float:
    """Between the colours that the middle block gets from any two of its clusters."""
    colors = []
    for centre in network.style_centres[BLOCK]:
        styles = network.style_centres[[GROUND, BLOCK, BLOCK, BLOCK], 0].clone()
        styles[2] = centre
        colors.append(colors_of_blocks(network.sample_styles(layout, styles)[0], layout)[1])
    return float(torch.pdist(torch.stack(colors)).min())


def test_colors_of_objects_are_recovered_by_encoding_and_clusters_give_distinct_ones() -> None:
    """Check 10.14 c, of colours from blue to orange; `test_any_color...` has all colours, and takes longer."""
    scenes = [colored(n, of_all=False) for n in range(128)]
    training, _ = trained(scenes, 150, **STYLED)
    found = recovered(training.painter, of_all=False)
    assert min(correlations(found["own"], found["true"])) > 0.85
    assert min(correlations(found["in the next's"], found["next's"])) > 0.85, "styles go where they are put"
    assert far(found["own"], found["true"]) < 0.5 * far(found["own"], found["next's"])
    network = clusters_of(training.painter, scenes[:64], 3)
    layout, _ = parts(colored(1000, of_all=False))
    assert least_distance(network, layout) > 0.3
    drawn = torch.stack([colors_of_blocks(network.sample(layout, seed)[0], layout) for seed in range(8)])
    assert bool((drawn.amax(0) - drawn.amin(0) > 0.4)[:, [0, 2]].all()), "each block gets other styles by other seeds"


@pytest.mark.long
def test_any_color_is_recovered_given_to_another_object_and_clustered() -> None:
    """Check 10.14 c, of all colours: the three numbers of a style are found one after the other."""
    scenes = [colored(n, of_all=True) for n in range(128)]
    training, _ = trained(scenes, 1000, **STYLED, epochs=12, decay_epochs=4)
    found = recovered(training.painter, of_all=True)
    assert min(correlations(found["own"], found["true"])) > 0.8
    assert min(correlations(found["in the next's"], found["next's"])) > 0.8
    assert far(found["own"], found["true"]) < 0.5 * far(found["own"], found["next's"])
    layout, _ = parts(colored(1000, of_all=True))
    assert least_distance(clusters_of(training.painter, scenes, 5), layout) > 0.5


def test_the_hybrid_discriminator_is_played_against_for_200_steps() -> None:
    """Check 10.14 e: all stays finite, and attention takes part."""
    scenes = [touching(n) for n in range(16)]
    training, said = trained(scenes, 200, discriminator="hybrid", scales=2, strided=2)
    assert all(bool(torch.isfinite(value)) for one in said for value in one.values())
    tensors = [*training.painter.state_dict().values(), *training.judges.state_dict().values()]
    assert all(bool(torch.isfinite(t).all()) for t in tensors)
    (gamma,) = gammas(training.judges).values()
    course = [float(value) for one in said for name, value in one.items() if name.startswith("gamma/")]
    assert len(course) == 40, "in every fifth step"
    assert max(map(abs, course)) > 5e-4 and len(set(course)) == 40, "gamma, which begins at 0, moves"
    assert float(gamma) == course[-1]
    assert darkness(training.painter.sample(parts(scenes[0])[0])[0], parts(scenes[0])[0]) > 0.5, "and it paints"
