"""What instance maps and styles give pix2pixHD: borders between objects that touch, and colours that go with them.

    python benchmarks/objects.py borders --out runs/objects --sheet borders.png
    python benchmarks/objects.py styles --out runs/objects --sheet styles.png

Narrow networks, trained on one core in minutes; both go on where they were stopped. `borders` trains twice on pairs of
houses that touch, with the boundary channel and without, and tells how much darker the hidden borders are than the
walls. `styles` trains on the toy world by day, each object dyed in a colour of its own, with a style for each object;
it tells how far the mean colours of objects in held-out photographs are from those painted: with their own styles, and
with those of other objects of the picture.
"""

from __future__ import annotations

import argparse
import colorsys
import statistics
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photogram.data.toy import Toy
from photogram.data.toy_layout import BUILDING, CAR, EVENING, NIGHT, PERSON, TREE
from photogram.images import write_image
from photogram.nn.regions import boundaries, pooled
from photogram.recipes import load
from photogram.recipes.pix2pixhd import Pix2PixHD
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec, draw
from photogram.sheets import rgb, sheet
from photogram.styled import StyledGenerator
from photogram.styling import cluster_styles, find_styles, with_styles
from photogram.training import Plan, train

BORDERS = Pix2PixHD(
    width=16,
    downsamplings=2,
    blocks=2,
    upsample="nearest",
    discriminator_width=16,
    perceptual="none",
    learning_rate=1e-3,
    discriminator_rate=2e-4,
    feature_matching=50.0,
    epochs=4,
    decay_epochs=4,
)
"""For the houses; 100 of them, so that its rate falls from the 400th step to the 800th."""
STYLES = replace(BORDERS, width=24, blocks=3, features="objects", discriminator_width=24, strided=2)
"""Colours are learned by what is matched, so that weighs more, and the generator learns faster than its judges."""
SIZE = (64, 96)
TRAINED, HELD_OUT = 300, 40
SWAPPED = {BUILDING: "building", TREE: "tree", CAR: "car", PERSON: "person"}
LEAST = Fraction(1, 100)
"""Of a picture: the least share at which an object's colour is measured, and its style clustered."""
GROUND, HOUSE, SKY = range(3)
CLASSES = (SceneClass("ground", (110, 160, 90)), SceneClass("house", (170, 90, 70)), SceneClass("sky", (120, 180, 240)))


class Dyed:
    """The toy world by day, each of its objects dyed in a colour of its own.

    As it comes, the colours of its objects vary little: cars have three on each side of the road, houses two, trees
    one; and evening and night are in all of them.

    Args:
        split: `train` or `val`.
        count: how many scenes; those of evening and night are passed over.
    """

    def __init__(self, split: str, count: int):
        toy = Toy(split, size=SIZE, count=10 * count)
        self.spec, self.source, self.scenes = toy.spec, f"{toy.source}, by day and dyed", list[Scene]()
        for index in range(len(toy)):
            scene = toy[index, 0]
            layout, _ = parts(scene)
            if not bool(((layout.classes == EVENING) | (layout.classes == NIGHT)).any()):
                self.scenes.append(dyed(scene, index))
            if len(self.scenes) == count:
                break

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        return f"scene {range(len(self))[index]}"

    def settings(self) -> dict[str, object]:
        return {"data": f"{self.source} {len(self)}", "size": list(SIZE)}

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        return self.scenes[key[0]]


def dyed(scene: Scene, number: int) -> Scene:
    """A scene whose objects keep their light and shade and have one hue each, drawn by the number."""
    layout, photo = parts(scene)
    assert layout.instances is not None
    photo, draws = photo.clone(), np.random.default_rng([number, 4])
    light = (photo[0] + 1).mean(0) / 2
    for one in range(1, int(layout.instances.max()) + 1):
        red, green, blue = colorsys.hsv_to_rgb(float(draws.random()), float(draws.uniform(0.6, 1)), 1.0)
        mask = layout.instances[0] == one
        dye = torch.tensor([red, green, blue])[:, None] * (1.6 * light[mask])
        photo[0][:, mask] = 2 * dye.clamp(0, 1) - 1
    return scene._replace(photo=photo)


class Houses:
    """Two houses side by side whose walls touch anywhere; each has an outline, and a window in its middle.

    Args:
        count: how many scenes.
        first: the number of the first; others are other scenes.
    """

    def __init__(self, count: int, first: int = 0):
        self.count, self.first = count, first
        self.spec, self.source = SceneSpec(CLASSES, SIZE, instances=True), "houses that touch"

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"houses {self.first + range(self.count)[index]}"

    def settings(self) -> dict[str, object]:
        return {"data": f"houses {self.first} {self.count}", "size": list(SIZE)}

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        draws, (height, width) = np.random.default_rng([self.first + range(self.count)[key[0]], 3]), SIZE
        top, bottom = int(draws.integers(8, 20)), int(draws.integers(46, 58))
        left, right = int(draws.integers(4, 16)), int(draws.integers(80, 92))
        meet = int(draws.integers(left + (right - left) // 3, right - (right - left) // 3 + 1))
        classes, numbers = torch.full((1, height, width), GROUND, dtype=torch.uint8), torch.zeros(1, *SIZE).int()
        classes[:, : (top + bottom) // 2] = SKY
        classes[:, top:bottom, left:right] = HOUSE
        colors = torch.tensor([[-0.3, 0.2, -0.6], [0.7, 0.5, 0.2], [0.1, 0.5, 0.9]])
        photo = colors[classes.long()].movedim(-1, 1)
        for number, (start, end) in enumerate(((left, meet), (meet, right)), 1):
            numbers[:, top:bottom, start:end] = number
            photo[:, :, top + 10 : top + 20, (start + end) // 2 - 5 : (start + end) // 2 + 5] = -0.5
        layout = Layout(classes, numbers)
        photo = torch.where((boundaries(layout) > 0) & (classes == HOUSE)[:, None], -0.9, photo)
        grain = torch.from_numpy(draws.normal(0, 0.04, photo.shape)).float()
        return Scene(Condition(layout), (photo + grain).clamp(-1, 1))


def parts(scene: Scene) -> tuple[Layout, Tensor]:
    assert scene.condition.layout is not None and scene.photo is not None
    return scene.condition.layout, scene.photo


def enlarged(tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [tile.repeat(2, 0).repeat(2, 1) for tile in tiles]


def darkness(picture: Tensor, layout: Layout) -> float:
    """How much darker the two columns are where the houses meet than the walls beside them, of 0 to 2."""
    assert layout.instances is not None
    numbers, grey = layout.instances[0], picture[0].mean(0)
    rows = torch.nonzero((numbers > 0).any(1)).flatten()[3:9]  # above the windows
    meet = int(torch.nonzero((numbers == 2).any(0)).flatten()[0])
    walls = torch.cat([grey[rows, meet - 8 : meet - 3], grey[rows, meet + 3 : meet + 8]])
    return float(walls.mean() - grey[rows, meet - 1 : meet + 1].mean())


def borders(out: Path, steps: int, shown: int) -> np.ndarray:
    """Train with the boundary channel and without, tell how dark borders are, and show some."""
    networks = {}
    for kind in ("objects", "none"):
        recipe = replace(BORDERS, boundary=kind)
        plan = Plan(steps=steps, workers=0)
        networks[kind] = load(train(recipe, Houses(100), out / f"borders-{kind}", plan, Houses(6, 1000)))
    held_out, rows, found = Houses(HELD_OUT, 1000), [], dict[str, list[float]](objects=[], none=[], photograph=[])
    for index in range(len(held_out)):
        layout, photo = parts(held_out[index, 0])
        painted = {kind: network.sample(layout) for kind, network in networks.items()} | {"photograph": photo}
        for kind, picture in painted.items():
            found[kind].append(darkness(picture, layout))
        if index < shown:
            tiles = [draw(layout.classes[0].numpy(), held_out.spec), *(rgb(p[0]) for p in painted.values())]
            rows.append((held_out.name(index), enlarged(tiles)))
    print("| | darker where houses meet, mean | least | most |\n| --- | --- | --- | --- |")
    for kind, values in found.items():
        print(f"| {kind} | {statistics.mean(values):.3f} | {min(values):.3f} | {max(values):.3f} |")
    return sheet(["layout", "with the edge bit", "without", "photograph"], rows)


def exchanged(network: StyledGenerator, layout: Layout, only: Sequence[int]) -> tuple[list[int], list[int]]:
    """Objects of these classes that are large enough, and those whose styles they get: the next of their class."""
    regions = network.regions(layout)
    whole = layout.classes.numel()
    taking, giving = [], []
    for label in only:
        large = (regions.classes == label) & (regions.objects > 0) & (regions.pixels > float(LEAST) * whole)
        members = torch.nonzero(large).flatten().tolist()
        if len(members) > 1:
            taking += members
            giving += [*members[1:], members[0]]
    return taking, giving


def tell(network: StyledGenerator, data: Dyed) -> None:
    """How far mean colours are from the photograph's, of 0 to 2, by class."""
    print(
        "| | objects | own style: from its own colour | from the other's "
        "| the other's style: from its own colour | from the other's |\n| --- | --- | --- | --- | --- | --- |"
    )
    for label, name in SWAPPED.items():
        rows = []
        for index in range(len(data)):
            layout, photo = parts(data[index, 0])
            taking, giving = exchanged(network, layout, [label])
            if not taking:
                continue
            styles, regions = network.styles_in(photo, layout), network.regions(layout)
            other = styles.clone()
            other[taking] = styles[giving]
            true = pooled(photo, regions)
            for picture in (styles, other):
                color = pooled(network.sample_styles(layout, picture), regions)[taking]
                rows.append([(color - true[which]).abs().mean(1) for which in (taking, giving)])
        if not rows:
            continue
        own, swapped = rows[::2], rows[1::2]
        values = [torch.cat([row[n] for row in kind]) for kind in (own, swapped) for n in range(2)]
        print(f"| {name} | {len(values[0])} | {' | '.join(f'{value.mean():.3f}' for value in values)} |")


def styles(out: Path, steps: int, shown: int) -> np.ndarray:
    """Train with a style for each object, tell how colours go with them, and show some scenes with two cars or more."""
    data, held_out, rows = Dyed("train", TRAINED), Dyed("val", HELD_OUT), []
    network = load(train(STYLES, data, out / "styles", Plan(steps=steps, workers=0, save_every=600), held_out))
    assert isinstance(network, StyledGenerator)
    found = find_styles(network, data, least_area=LEAST)
    network = with_styles(network, cluster_styles(found, network.spec.num_classes))
    tell(network, held_out)
    for index in range(len(held_out)):
        layout, photo = parts(held_out[index, 0])
        if not exchanged(network, layout, [CAR])[0] or len(rows) == shown:
            continue
        own, regions = network.styles_in(photo, layout), network.regions(layout)
        taking, giving = exchanged(network, layout, list(SWAPPED))
        swapped = own.clone()
        swapped[taking] = own[giving]
        drawn = [own.clone(), own.clone()]
        for seed, one in enumerate(drawn):  # ground and sky keep theirs, which have the light in them
            one[regions.objects > 0] = network.draw_styles(regions, seed)[regions.objects > 0]
        tiles = [draw(layout.classes[0].numpy(), held_out.spec), rgb(photo[0])]
        tiles += [rgb(network.sample_styles(layout, one)[0]) for one in (own, swapped, *drawn)]
        rows.append((held_out.name(index), enlarged(tiles)))
    columns = ["layout", "photograph", "own styles", "swapped in a class", "clusters, seed 0", "clusters, seed 1"]
    return sheet(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("borders", "styles"))
    parser.add_argument("--out", type=Path, default=Path("runs/objects"))
    parser.add_argument("--steps", type=int, help="800 of borders, 2400 of styles")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--shown", type=int, default=6, help="scenes on the sheet")
    asked = parser.parse_args()
    if asked.what == "borders":
        page = borders(asked.out, asked.steps or 800, asked.shown)
    else:
        page = styles(asked.out, asked.steps or 2400, asked.shown)
    if asked.sheet:
        write_image(page, asked.sheet)


if __name__ == "__main__":
    main()
