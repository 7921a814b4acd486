"""The layouts of the toy world (`photogram.data.toy`): where its sky, roads and objects are.

All numbers come from NumPy's guaranteed raw bits, and of floating-point arithmetic only what IEEE 754 rounds
exactly is used (+ - * / floor, and no sums over arrays), so that a scene is the same to the last bit on any
machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from photogram.scene import SceneClass, Size

Split = Literal["train", "val"]

SPLITS: tuple[Split, ...] = ("train", "val")
CLASSES = (
    SceneClass("sky", (120, 180, 240)),
    SceneClass("evening sky", (250, 160, 110)),
    SceneClass("night sky", (40, 50, 110)),
    SceneClass("cloudy sky", (190, 195, 200)),
    SceneClass("sun", (255, 225, 60)),
    SceneClass("moon", (245, 245, 220)),
    SceneClass("hill", (120, 140, 160)),
    SceneClass("grass", (130, 210, 80)),
    SceneClass("pavement", (240, 60, 220)),
    SceneClass("road", (120, 70, 130)),
    SceneClass("building", (160, 90, 70)),
    SceneClass("tree", (30, 110, 50)),
    SceneClass("car", (20, 40, 200)),
    SceneClass("person", (230, 30, 60)),
    SceneClass("unlabelled", (0, 0, 0), void=True),
)
SKY, EVENING, NIGHT, CLOUDY, SUN, MOON, HILL, GRASS, PAVEMENT, ROAD, BUILDING, TREE, CAR, PERSON, VOID = range(
    len(CLASSES)
)

Window = tuple[slice, slice]
Color = tuple[float, float, float]


class Draws:
    """Numbers drawn from one Philox stream; only its raw bits, which NumPy promises never to change."""

    def __init__(self, seed: int, split: Split, index: int, stream: int = 0):
        key = (SPLITS.index(split) << 56) | (stream << 48) | index
        self.bits = np.random.Philox(key=np.array([seed, key], np.uint64))

    def unit(self) -> float:
        return (int(self.bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def count(self, low: int, high: int) -> int:
        return low + int(self.unit() * (high - low + 1))

    def grid(self, rows: int, columns: int) -> np.ndarray:
        """float32 [rows, columns] in [0, 1)."""
        raw = np.asarray(self.bits.random_raw(rows * columns)) >> np.uint64(40)
        return (raw.astype(np.float32) * np.float32(2.0**-24)).reshape(rows, columns)


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def band(x: np.ndarray, low: float, high: float, soft: float) -> np.ndarray:
    """1 between `low` and `high`, 0 outside, with soft edges."""
    return ramp(x, low - soft, low + soft) * (1 - ramp(x, high - soft, high + soft))


def plane(color: np.ndarray | Color) -> np.ndarray:
    """A colour as [3, 1, 1], or planes of colour [3, h, w] as they are."""
    return color if isinstance(color, np.ndarray) else np.array(color, np.float32).reshape(3, 1, 1)


def mix(a: np.ndarray | Color, b: np.ndarray | Color, share: np.ndarray) -> np.ndarray:
    """From colour `a` to colour `b`, both [3, ...], by a share per pixel."""
    first = plane(a)
    return first + (plane(b) - first) * share


def noise(draws: Draws, size: Size, rows: float, columns: float) -> np.ndarray:
    """Value noise in [0, 1], with features of `rows` x `columns` pixels."""

    def along(n: int, feature: float) -> tuple[np.ndarray, np.ndarray]:
        at = np.arange(n, dtype=np.float32) / np.float32(feature)
        cell = np.floor(at)
        return cell.astype(np.intp), ramp(at - cell, 0.0, 1.0)

    (i, s), (j, t) = along(size[0], rows), along(size[1], columns)
    grid = draws.grid(int(size[0] / rows) + 2, int(size[1] / columns) + 2)
    wide = grid[:, j] + (grid[:, j + 1] - grid[:, j]) * t
    return wide[i] + (wide[i + 1] - wide[i]) * s[:, None]


@dataclass(frozen=True)
class Ground:
    """The camera and the road, in pixels; `t` runs from 0 at the horizon to 1 at the bottom."""

    size: Size
    scale: float
    horizon: float
    vanish: float
    foot: float
    half: float

    def row(self, t: float) -> float:
        return self.horizon + (self.size[0] - self.horizon) * t

    def column(self, t: float, lateral: float) -> float:
        """Where a point stands, `lateral` half road widths beside the middle of the road."""
        return self.vanish + (self.foot - self.vanish + lateral * self.half) * t


@dataclass(frozen=True)
class Thing:
    """An object that stands on the ground; `x` is its middle (of a building: its corner at the road)."""

    kind: int
    x: float
    foot: float
    tall: float
    wide: float
    t: float
    side: int = 1
    form: float = 0.0
    tint: float = 0.0
    depth: float = 0.0


class Noises(NamedTuple):
    """The random textures of one scene, from coarse to fine, and that of its clouds."""

    low: np.ndarray
    mid: np.ndarray
    fine: np.ndarray
    cloud: np.ndarray


def _ground(draws: Draws, size: Size) -> Ground:
    h, w = size
    scale = min(float(h), 1.25 * w)
    vanish = w * draws.between(0.3, 0.7)
    foot = vanish + (w * draws.between(0.3, 0.7) - vanish) * 0.7
    return Ground(size, scale, h * draws.between(0.38, 0.56), vanish, foot, scale * draws.between(0.42, 0.6))


def _stage(draws: Draws, ground: Ground) -> list[Thing]:
    """All objects of a scene, far ones first."""
    town = draws.unit()
    things = [b for side in (-1, 1) for b in _street(draws, ground, side, town)]
    things += [_tree(draws, ground) for _ in range(draws.count(0, 7 - int(3 * town)))]
    things += [_car(draws, ground) for _ in range(draws.count(0, 4))]
    things += [_person(draws, ground) for _ in range(draws.count(0, 3 + int(2 * town)))]
    return sorted(things, key=lambda thing: thing.t)


def _street(draws: Draws, ground: Ground, side: int, town: float) -> list[Thing]:
    """Buildings along one side of the road."""
    found = []
    t = draws.between(0.1, 0.22)
    for _ in range(draws.count(0, 1 + int(4 * town))):
        house = draws.unit() < 0.75 - 0.6 * town
        lateral = side * draws.between(1.5, 2.6 if house else 1.9)
        rise = min(0.9, t * draws.between(1.0, 1.7) if house else t * draws.between(1.7, 3.4))
        foot = ground.row(t)
        found.append(
            Thing(
                BUILDING,
                ground.column(t, lateral),
                foot,
                foot - ground.horizon * (1 - rise),
                ground.scale * t * draws.between(1.0, 1.5),
                t,
                side,
                float(house),
                draws.unit(),
                0.0 if house else draws.between(0.2, 0.42),
            )
        )
        t *= draws.between(1.35, 1.9)
        if t > 0.62:
            break
    return found


def _tree(draws: Draws, ground: Ground) -> Thing:
    side, t = (-1 if draws.unit() < 0.5 else 1), draws.between(0.09, 0.62)
    fir = draws.unit() < 0.35
    tall = ground.scale * min(t * draws.between(1.0, 1.5), 0.75)
    wide = tall * (draws.between(0.4, 0.52) if fir else draws.between(0.6, 0.85))
    x = ground.column(t, side * draws.between(1.55, 3.6))
    return Thing(TREE, x, ground.row(t), tall, wide, t, side, float(fir), draws.unit())


def _car(draws: Draws, ground: Ground) -> Thing:
    """Cars on the right drive away, cars on the left come towards the camera."""
    side, t = (-1 if draws.unit() < 0.5 else 1), draws.between(0.16, 0.85)
    wide = ground.half * t * draws.between(0.66, 0.76)
    van = draws.unit()
    x = ground.column(t, side * draws.between(0.46, 0.54))
    return Thing(CAR, x, ground.row(t), wide * (0.72 + 0.3 * van), wide, t, side, van, draws.unit())


def _person(draws: Draws, ground: Ground) -> Thing:
    side, t = (-1 if draws.unit() < 0.5 else 1), draws.between(0.25, 0.92)
    crossing = draws.unit() < 0.25
    x = ground.column(t, side * (draws.between(0.0, 0.95) if crossing else draws.between(1.12, 1.42)))
    tall = ground.scale * t * draws.between(0.42, 0.52)
    return Thing(PERSON, x, ground.row(t), tall, tall * 0.36, t, side, draws.unit(), draws.unit())


def box(ground: Ground, top: float, foot: float, left: float, right: float) -> Window:
    """The pixels of a box, cut to the picture."""
    h, w = ground.size
    rows = slice(min(max(int(top), 0), h), min(max(int(foot) + 1, 0), h))
    return rows, slice(min(max(int(left), 0), w), min(max(int(right) + 1, 0), w))


def places(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Middles of pixels: rows [h, 1] and columns [1, w]."""
    rows, columns = (np.arange(s.start, s.stop, dtype=np.float32) + np.float32(0.5) for s in window)
    return rows[:, None], columns[None, :]


def local(thing: Thing, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """u [1, w] from -1 to 1 across, and v [h, 1] from 0 at the top of an object to 1 at its foot."""
    y, x = places(window)
    return (x - thing.x) / (thing.wide / 2), (y - (thing.foot - thing.tall)) / thing.tall


class Facade(NamedTuple):
    """Where the pixels of a building lie on its walls."""

    v: np.ndarray
    """0 at the eaves, 1 at the foot, below 0 on the roof."""
    along: np.ndarray
    """0 to 1 over the front, then on along the side in the same unit."""
    behind: np.ndarray
    """0 on the front, above 0 on the side that recedes along the road."""


def on_facade(thing: Thing, ground: Ground, window: Window) -> Facade:
    """Where the pixels of a window lie on a building's front and side, in the building's own coordinates."""
    y, x = places(window)
    reach = ground.vanish - thing.x
    behind = np.zeros_like(x) if thing.depth == 0 else np.maximum((x - thing.x) / reach, 0)
    level = (y - ground.horizon) / (1 - behind) + ground.horizon
    along = (thing.x - x) * (-thing.side / thing.wide)
    side = -behind / (1 - behind) * 1.6  # lengths along the road grow as its perspective shrinks
    return Facade((level - (thing.foot - thing.tall)) / thing.tall, np.where(behind > 0, side, along), behind)


def _building_cover(thing: Thing, ground: Ground) -> tuple[Window, np.ndarray]:
    outer = thing.x + thing.side * thing.wide
    inner = thing.x + (ground.vanish - thing.x) * thing.depth
    roof = 0.4 * thing.wide * thing.form
    top = thing.foot - thing.tall
    window = box(ground, top - roof, thing.foot, min(outer, inner), max(outer, inner))
    facade = on_facade(thing, ground, window)
    walls = (facade.v >= 0) & (facade.v <= 1) & (facade.along <= 1) & (facade.behind <= thing.depth)
    if thing.form == 0:
        return window, walls
    slope = np.abs(facade.along - 0.5) * 2 <= 1.06 + facade.v * (thing.tall / roof)
    return window, (walls & (facade.along >= 0)) | ((facade.v < 0) & slope)


def cover(thing: Thing, ground: Ground, noises: Noises) -> tuple[Window, np.ndarray]:
    """Which pixels an object covers: a window of the picture and a mask in it."""
    if thing.kind == BUILDING:
        return _building_cover(thing, ground)
    left, right = thing.x - thing.wide / 2, thing.x + thing.wide / 2
    window = box(ground, thing.foot - thing.tall, thing.foot, left, right)
    u, v = local(thing, window)
    a = np.abs(u)
    if thing.kind == TREE:
        ragged = (noises.fine[window] - 0.5) * 0.5
        if thing.form:
            crown = (a < 0.03 + 1.05 * v / 0.86 + ragged * 0.5) & (v < 0.86)
        else:
            crown = u * u + (v - 0.4) * (v - 0.4) * 6.0 < 0.86 + ragged
        return window, crown | ((a < 0.13) & (v > 0.5) & (v <= 1))
    if thing.kind == CAR:
        roof = 0.62 + 0.28 * thing.form
        cabin = (v >= 0.02) & (v < 0.5) & (a < roof + (0.94 - roof) * v * 2)
        body = (v >= 0.42) & (v < 0.92) & (a < 1.0 - 0.1 * np.maximum(0.5 - v, 0) * 10)
        return window, cabin | body | ((v >= 0.8) & (v <= 1) & (a > 0.56) & (a < 0.92))
    stride = 0.16 + 0.26 * thing.form * np.maximum(v - 0.6, 0) * 2.5
    head = u * u * 0.0324 + (v - 0.1) * (v - 0.1) < 0.0095
    torso = (v > 0.18) & (v < 0.6) & (a < 0.66 - 0.25 * np.abs(v - 0.34))
    return window, head | torso | ((v >= 0.55) & (v <= 1) & (np.abs(a - stride - 0.16) < 0.24))


def _lay(ground: Ground, sky: int, draws: Draws, noises: Noises) -> np.ndarray:
    """Sky, hills and ground: uint8 [h, w], without anything that stands on it."""
    h, w = ground.size
    y, x = places((slice(0, h), slice(0, w)))
    across = np.abs(lateral(ground, y, x))
    layout = np.where(across < 1, ROAD, np.where(across < 1.5, PAVEMENT, GRASS)).astype(np.uint8)
    ridge = draws.between(-0.12, 0.26) * h  # a third of all scenes have none
    above = ridge * (0.25 + 1.2 * noises.low[h // 2 : h // 2 + 1]) + 0.12 * ridge * noises.mid[h // 2 : h // 2 + 1]
    layout[np.broadcast_to(y < ground.horizon, (h, w))] = HILL
    layout[y < np.minimum(ground.horizon - above, ground.horizon)] = sky
    return layout


def lateral(ground: Ground, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How far from the middle of the road a ground pixel lies, in half road widths."""
    t = np.maximum((y - ground.horizon) / (ground.size[0] - ground.horizon), 0.004)
    return (x - ground.vanish - (ground.foot - ground.vanish) * t) / (ground.half * t)


def _hang(layout: np.ndarray, sky: int, draws: Draws, ground: Ground) -> None:
    """Hang sun or moon into free sky, in place, where there is room for it."""
    h, w = layout.shape
    deep, place = draws.unit(), draws.unit()
    if sky == CLOUDY:
        return
    radius = max(0.05 * ground.scale, 1.3)
    depth = np.argmax(np.vstack([layout != sky, np.ones((1, w), bool)]), axis=0)  # rows of sky from the top
    reach = int(radius) + 2
    free = np.lib.stride_tricks.sliding_window_view(depth, 2 * reach + 1).min(axis=1)
    row = radius + 1 + (ground.horizon * 0.86 - 2 * radius) * deep * (0.4 + 0.6 * deep)
    while row > radius and not (free > row + radius).any():
        row -= 0.06 * h
    columns = np.flatnonzero(free > row + radius) + reach
    if not columns.size:
        return
    column = int(columns[int(place * columns.size)])
    y, x = places((slice(0, h), slice(0, w)))
    disc = (y - row) * (y - row) + (x - column) * (x - column) < radius * radius
    layout[disc] = MOON if sky == NIGHT else SUN


def _hide(layout: np.ndarray, instances: np.ndarray, draws: Draws, ground: Ground) -> None:
    """Leave patches of the ground's half unlabelled, in place, as annotators do."""
    if draws.unit() < 0.65:
        return
    for _ in range(draws.count(1, 3)):
        x, y = ground.size[1] * draws.unit(), ground.row(draws.between(0.15, 1))
        wide, tall = ground.scale * draws.between(0.06, 0.2), ground.scale * draws.between(0.04, 0.1)
        window = box(ground, y - tall, y, x - wide, x + wide)
        window = (slice(max(window[0].start, int(ground.horizon) + 1), window[0].stop), window[1])
        rows, columns = places(window)
        u, v = (columns - x) / wide, (rows - y + tall / 2) / (tall / 2)
        patch = u * u * u * u + v * v * v * v < 1
        layout[window][patch], instances[window][patch] = VOID, 0


def _renumbered(instances: np.ndarray) -> np.ndarray:
    """The same objects as 1, 2, ..., without gaps for those that others hide."""
    seen = np.bincount(instances.ravel()) > 0
    seen[0] = False
    return (np.cumsum(seen) * seen).astype(np.int32)[instances]


class Plan(NamedTuple):
    """A scene before its photograph is taken."""

    ground: Ground
    noises: Noises
    things: list[tuple[Thing, Window, np.ndarray]]
    """Objects, far ones first, with the pixels that they cover: a window of the picture and a mask in it."""
    surfaces: np.ndarray
    """The layout without anything that stands on the ground, uint8 [h, w]."""
    layout: np.ndarray
    """uint8 [h, w]."""
    instances: np.ndarray
    """int32 [h, w]: 0 where no object is, else 1, 2, ..."""


def plan(seed: int, split: Split, index: int, size: Size) -> Plan:
    """Lay out one scene. The same scene at another size shows the same things, but for rounding and grain."""
    ground = _ground(draws := Draws(seed, split, index), size)
    chance = draws.unit()
    sky = SKY if chance < 0.42 else EVENING if chance < 0.65 else NIGHT if chance < 0.85 else CLOUDY
    things = _stage(draws, ground)
    noises = _noises(seed, split, index, ground)
    surfaces = _lay(ground, sky, draws, noises)
    layout, instances = surfaces.copy(), np.zeros(size, np.int32)
    covered = []
    for number, thing in enumerate(things, 1):
        window, mask = cover(thing, ground, noises)
        layout[window][mask], instances[window][mask] = thing.kind, number
        covered.append((thing, window, mask))
    _hang(layout, sky, draws, ground)
    _hide(layout, instances, draws, ground)
    return Plan(ground, noises, covered, surfaces, layout, _renumbered(instances))


def _noises(seed: int, split: Split, index: int, ground: Ground) -> Noises:
    """One field a grain; a stream each, so that none depends on the size of another."""
    s = ground.scale
    grains = ((s / 2.2, s / 1.6), (s / 8, s / 7), (s / 22, s / 20), (s / 11, s / 3))
    return Noises(*(noise(Draws(seed, split, index, n), ground.size, *g) for n, g in enumerate(grains, 1)))
