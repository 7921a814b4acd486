"""The photographs of the toy world (`photogram.data.toy`): how a planned scene looks.

Surfaces and objects are painted far to near into buffers of colour, light and distance; then the light of
the mood, which the layout alone decides, is let in. Arithmetic is held to what `photogram.data.toy_layout`
allows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from photogram.data.toy_layout import (
    BUILDING,
    CAR,
    CLOUDY,
    EVENING,
    HILL,
    MOON,
    NIGHT,
    PAVEMENT,
    ROAD,
    SKY,
    SUN,
    TREE,
    Color,
    Facade,
    Ground,
    Noises,
    Plan,
    Thing,
    Window,
    band,
    lateral,
    local,
    mix,
    on_facade,
    places,
    plane,
    ramp,
)


@dataclass(frozen=True)
class Mood:
    """The light of a whole scene; colours and strengths are shares of white."""

    zenith: Color
    """The sky at the top of the picture."""
    low: Color
    """The sky above the horizon."""
    cloud: Color
    ambient: Color
    """Light that falls everywhere."""
    direct: Color
    """Light of the sun or the moon."""
    haze: Color
    """What distance fades to."""
    cloudy: float
    hazy: float
    lamps: float
    """How bright windows and headlights shine."""


_DAY = Mood(
    zenith=(0.24, 0.50, 0.90),
    low=(0.76, 0.88, 0.97),
    cloud=(1.0, 1.0, 1.0),
    ambient=(0.42, 0.46, 0.53),
    direct=(0.66, 0.61, 0.50),
    haze=(0.72, 0.82, 0.92),
    cloudy=0.75,
    hazy=0.45,
    lamps=0.0,
)
_GOLDEN = Mood(
    zenith=(0.40, 0.56, 0.78),
    low=(1.0, 0.83, 0.52),
    cloud=(1.0, 0.91, 0.74),
    ambient=(0.40, 0.37, 0.38),
    direct=(0.78, 0.57, 0.28),
    haze=(0.96, 0.80, 0.56),
    cloudy=0.65,
    hazy=0.5,
    lamps=0.1,
)
_DUSK = Mood(
    zenith=(0.27, 0.24, 0.48),
    low=(0.98, 0.50, 0.28),
    cloud=(0.93, 0.50, 0.42),
    ambient=(0.27, 0.23, 0.33),
    direct=(0.52, 0.27, 0.14),
    haze=(0.78, 0.44, 0.37),
    cloudy=0.6,
    hazy=0.55,
    lamps=0.6,
)
_OVERCAST = Mood(
    zenith=(0.56, 0.61, 0.67),
    low=(0.82, 0.84, 0.86),
    cloud=(0.74, 0.77, 0.81),
    ambient=(0.60, 0.62, 0.65),
    direct=(0.10, 0.10, 0.10),
    haze=(0.76, 0.78, 0.80),
    cloudy=1.0,
    hazy=0.6,
    lamps=0.1,
)
_NIGHT = Mood(
    zenith=(0.05, 0.08, 0.22),
    low=(0.20, 0.26, 0.46),
    cloud=(0.26, 0.31, 0.48),
    ambient=(0.20, 0.24, 0.38),
    direct=(0.20, 0.23, 0.32),
    haze=(0.17, 0.22, 0.38),
    cloudy=0.5,
    hazy=0.5,
    lamps=1.0,
)


def _between(a: Mood, b: Mood, share: float) -> Mood:
    values = []
    for f in fields(Mood):
        x, y = getattr(a, f.name), getattr(b, f.name)
        many = isinstance(x, tuple)
        values.append(tuple(p + (q - p) * share for p, q in zip(x, y, strict=True)) if many else x + (y - x) * share)
    return Mood(*values)


def mood_of(layout: np.ndarray) -> Mood:
    """The mood that a layout asks for, from its classes alone.

    It is that of the sky which covers most pixels: day, evening, night or clouds; without any sky it is day. The
    evening is golden while its sun stands high in the picture, and turns to dusk as it sinks.

    Args:
        layout: classes, uint8 [h, w].
    """
    kind = int(np.bincount(layout.ravel(), minlength=SUN)[:SUN].argmax())
    if kind != EVENING:
        return {SKY: _DAY, NIGHT: _NIGHT, CLOUDY: _OVERCAST}[kind]
    sun = _sun(layout)
    high = 0.5 if sun is None else 1 - sun[0] / (0.4 * layout.shape[0])
    return _between(_DUSK, _GOLDEN, min(max((high - 0.1) / 0.5, 0.0), 1.0))


@dataclass
class _Canvas:
    """What is known of each pixel before light is let in."""

    color: np.ndarray
    """float32 [3, h, w] in [0, 1]."""
    lit: np.ndarray
    """Direct light that reaches it, 0 to 1 and a little more."""
    far: np.ndarray
    """0 at the camera, 1 at the horizon."""
    shine: np.ndarray
    """Light of lamps, [3, h, w]."""

    def put(self, window: Window, mask: np.ndarray, color: np.ndarray, lit: np.ndarray, far: float) -> None:
        np.copyto(self.color[:, *window], color, where=mask)
        np.copyto(self.lit[window], lit, where=mask)
        np.copyto(self.far[window], np.float32(far), where=mask)
        np.copyto(self.shine[:, *window], np.float32(0), where=mask)

    def lamp(self, window: Window, mask: np.ndarray, share: np.ndarray, color: Color) -> None:
        np.copyto(self.shine[:, *window], plane(color) * share, where=mask)


def photograph(plan: Plan) -> np.ndarray:
    """Take the photograph of a planned scene: uint8 [h, w, 3]."""
    mood, sun = mood_of(plan.layout), _sun(plan.layout)
    canvas = _surfaces(plan)
    _shadows(canvas, plan, sun)
    for thing, window, mask in plan.things:
        if mask.any():
            towards = (sun[1] - thing.x) / plan.ground.size[1] if sun else 0.0
            _OBJECTS.get(thing.kind, _paint_person)(canvas, plan, thing, window, mask, towards)
    photo = _light(canvas, plan, mood)
    above = slice(0, int(plan.ground.horizon) + 1)
    np.copyto(photo[:, above], _sky(plan, mood, sun, above), where=plan.layout[above] <= MOON)
    return _developed(photo)


def _sun(layout: np.ndarray) -> tuple[float, float] | None:
    """Row and column of the middle of the sun or the moon."""
    disc = (layout == SUN) | (layout == MOON)
    rows, columns = np.flatnonzero(disc.any(axis=1)), np.flatnonzero(disc.any(axis=0))
    if not rows.size:
        return None
    return (int(rows[0]) + int(rows[-1]) + 1) / 2, (int(columns[0]) + int(columns[-1]) + 1) / 2


def _fract(x: np.ndarray) -> np.ndarray:
    return x - np.floor(x)


def _surfaces(plan: Plan) -> _Canvas:
    """Hills, grass, pavement and road."""
    ground, (h, w) = plan.ground, plan.ground.size
    canvas = _Canvas(*(np.zeros(shape, np.float32) for shape in ((3, h, w), (h, w), (h, w), (3, h, w))))
    split = int(ground.horizon)
    window = (slice(split, h), slice(0, w))
    kinds, noises = plan.surfaces[window], Noises(*(n[window] for n in plan.noises))
    y, x = places(window)
    t = np.maximum((y - ground.horizon) / (h - ground.horizon), 0.02)
    across, ahead, near = lateral(ground, y, x), 1 / t, np.clip(t * 1.6, 0.15, 1)
    color = np.where(kinds == ROAD, _road(noises, across, ahead, near), _grass(noises, across, t, near))
    np.copyto(color, _pavement(noises, across, ahead, near), where=kinds == PAVEMENT)
    canvas.color[:, *window], canvas.lit[window], canvas.far[window] = color, 0.78 + 0.1 * noises.low, 1 - t
    hills = plan.surfaces[: split + 1] == HILL
    if not hills.any():
        return canvas
    window = (slice(int(np.argmax(hills.any(axis=1))), split + 1), slice(0, w))
    color, lit = _hills(Noises(*(n[window] for n in plan.noises)), ground, places(window)[0])
    canvas.put(window, hills[window], color, lit, 0.95)
    return canvas


def _road(noises: Noises, across: np.ndarray, ahead: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Asphalt with wheel tracks, a dashed middle line and two edge lines."""
    side = np.abs(across)
    tracks = band(np.abs(side - 0.5), 0.17, 0.3, 0.08)
    grain = (noises.fine - 0.5) * 0.16 * near + (noises.mid - 0.5) * 0.08
    color = mix((0.44, 0.44, 0.47), (0.33, 0.33, 0.36), tracks * 0.8) + grain
    dashes = (
        band(_fract(ahead * 1.1 + 0.1), 0.0, 0.55, 0.06) * (1 - ramp(side, 0.03, 0.06)) * ramp(1 / ahead, 0.03, 0.15)
    )
    edges = band(side, 0.9, 0.95, 0.02)
    return mix(color, (0.93, 0.92, 0.86), np.maximum(dashes, edges * 0.75))


def _pavement(noises: Noises, across: np.ndarray, ahead: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Slabs, with a kerb along the road."""
    joints = np.maximum(band(_fract(ahead * 3), 0.0, 0.16, 0.06), band(_fract(np.abs(across) * 4), 0.0, 0.1, 0.05))
    kerb = 1 - ramp(np.abs(across), 1.04, 1.09)
    color = mix((0.70, 0.66, 0.60), (0.50, 0.47, 0.44), joints * near * near * 0.8)
    return mix(color, (0.86, 0.85, 0.82), kerb) + ((noises.mid - 0.5) * 0.12)


def _grass(noises: Noises, across: np.ndarray, t: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Mown in stripes that run to the horizon, drier in the distance, tufted near the camera."""
    stripes = band(_fract(across * 0.55), 0.1, 0.6, 0.12) * ramp(t, 0.03, 0.2)
    color = mix((0.36, 0.56, 0.20), (0.47, 0.66, 0.25), stripes)
    color = mix(color, (0.66, 0.66, 0.32), np.clip(noises.low * 1.5 - 0.8, 0, 1) * 0.8)
    return color + ((noises.fine - 0.5) * near * 0.22 + (noises.mid - 0.5) * 0.14)


def _hills(noises: Noises, ground: Ground, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Woods below, bare and bluish above; and the light on them."""
    up = np.clip((ground.horizon - y) / (0.25 * ground.size[0]), 0, 1)
    woods = np.clip(1.2 - up * 1.6 + (noises.fine - 0.5) * 1.4, 0, 1)
    return mix((0.52, 0.52, 0.55), (0.24, 0.40, 0.26), woods), 0.3 + 0.5 * noises.mid + 0.4 * noises.fine


def _shadows(canvas: _Canvas, plan: Plan, sun: tuple[float, float] | None) -> None:
    """Darken the ground below objects, and away from the sun beside them."""
    for thing, _, mask in plan.things:
        if not mask.any():
            continue
        wide = thing.wide * (0.62 if thing.kind != BUILDING else 0.85)
        x = thing.x + (thing.side * thing.wide / 2 if thing.kind == BUILDING else 0)
        slant = min(max((x - sun[1]) / plan.ground.size[1] * 2, -1), 1) if sun else 0.0
        reach = 0.35 * min(thing.tall, 2 * thing.wide) * slant
        _shade(canvas, plan.ground, x + reach, thing.foot, wide + abs(reach), max(0.12 * thing.wide, 1.0))


def _shade(canvas: _Canvas, ground: Ground, x: float, y: float, wide: float, tall: float) -> None:
    """A soft elliptic shadow on what the canvas holds."""
    (h, w), reach = ground.size, (1.3 * wide, 1.3 * tall)
    rows = slice(min(max(int(y - reach[1]), 0), h), min(max(int(y + reach[1]) + 1, 0), h))
    window = (rows, slice(min(max(int(x - reach[0]), 0), w), min(max(int(x + reach[0]) + 1, 0), w)))
    py, px = places(window)
    u, v = (px - x) / wide, (py - y) / tall
    dark = 1 - ramp(u * u + v * v, 0.3, 1.5)
    canvas.lit[window] *= 1 - 0.8 * dark
    canvas.color[:, *window] *= 1 - 0.35 * dark


def _paint_building(
    canvas: _Canvas, plan: Plan, thing: Thing, window: Window, mask: np.ndarray, towards: float
) -> None:
    facade = on_facade(thing, plan.ground, window)
    side = facade.behind > 0
    glass, panes, door = _openings(thing, facade)
    wall = plane(_wall_color(thing))
    courses = 0.05 * band(_fract(facade.v * max(3, int(thing.tall / 4))), 0.0, 0.3, 0.15)
    grain = (plan.noises.mid[window] - 0.5) * 0.14 + (plan.noises.fine[window] - 0.5) * 0.1 - courses
    color = wall + (grain - 0.10 * ramp(facade.v, 0.86, 1.0))
    trim = np.clip(1 - np.abs(facade.v - 0.025) * thing.tall / 2, 0, 1) * (facade.v >= 0)
    color = mix(color, (0.84, 0.80, 0.74), np.broadcast_to(trim, mask.shape) * 0.7)
    color = mix(color, (0.30, 0.19, 0.13), door)
    reflection = mix((0.42, 0.55, 0.68), (0.12, 0.16, 0.22), np.clip(facade.v * 1.2, 0, 1))
    color = color + (reflection - color) * glass
    roof = np.broadcast_to(facade.v < 0, mask.shape)
    tiles = (0.55, 0.24, 0.18) if thing.tint < 0.6 else (0.33, 0.33, 0.38)
    rows = 0.12 * band(_fract(facade.v * (thing.tall / 3.5)), 0.0, 0.4, 0.2)
    color = np.where(roof, plane(tiles) + (grain - rows), color)
    front, flank = 0.72, min(max(0.62 - thing.side * towards * 1.1, 0.25), 1.05)
    lit = np.where(side, np.float32(flank), np.float32(front)) * (1.08 - 0.22 * np.clip(facade.v, 0, 1))
    canvas.put(window, mask, color, np.broadcast_to(lit, mask.shape), 1 - thing.t)
    canvas.lamp(window, mask, panes * np.where(roof, 0, 1), (0.95, 0.70, 0.32))


def _wall_color(thing: Thing) -> Color:
    """Houses are plastered; blocks are brick where they are low and pale stone where they are high."""
    if thing.form:
        return (0.90, 0.83, 0.68) if thing.tint < 0.6 else (0.80, 0.84, 0.86)
    brick = 1 - min(max(thing.tall / thing.wide - 0.9, 0), 1)
    warm = 0.06 * (thing.tint - 0.5)
    return (0.60 + 0.10 * brick + warm, 0.60 - 0.20 * brick, 0.63 - 0.33 * brick - warm)


def _openings(thing: Thing, facade: Facade) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of glass, lit glass and door; their grid hangs on the corners of the building."""
    pitch = thing.wide / (3.0 if thing.form else 4.0)
    columns = max(2, int(thing.wide / max(pitch, 4.0)))
    floors = max(1, int(thing.tall / max(pitch * (1.15 if thing.form else 0.95), 4.5)))
    s, f = facade.along * columns, facade.v * floors
    soft = min(max(1.5 * columns / thing.wide, 0.06), 0.22)
    glass = band(_fract(s), 0.26, 0.74, soft) * band(_fract(f), 0.25, 0.72, soft)
    glass = glass * (facade.v > 0) * (facade.v < 0.97)
    middle = (int(columns / 2) + 0.5) / columns
    door = band(facade.along, middle - 0.28 / columns, middle + 0.28 / columns, 0.08 / columns)
    door = door * (facade.v > 1 - 0.72 / floors) * (facade.behind == 0)
    glass = glass * (1 - door)
    # every third window or so stays dark, in a pattern that hangs on the building
    dark = _fract(np.floor(s) * 0.37 + np.floor(f) * 0.61 + thing.tint) < 0.3
    return glass, glass * np.where(dark, np.float32(0.12), np.float32(1)), door


def _paint_tree(canvas: _Canvas, plan: Plan, thing: Thing, window: Window, mask: np.ndarray, towards: float) -> None:
    u, v = local(thing, window)
    leaf = (0.20, 0.38, 0.22) if thing.form else (0.34 + 0.16 * thing.tint, 0.52, 0.18)
    fine, mid = plan.noises.fine[window] - 0.5, plan.noises.mid[window] - 0.5
    color = mix(leaf, (leaf[0] * 0.5, leaf[1] * 0.55, leaf[2] * 0.6), np.clip(0.45 - fine * 1.5 - mid, 0, 1))
    trunk = (v > 0.74) & (np.abs(u) < 0.13) if not thing.form else (v > 0.86) & (np.abs(u) < 0.13)
    color = np.where(trunk, plane((0.36, 0.26, 0.18)), color)
    tiers = 0.25 * (_fract(v * 5) - 0.5) * thing.form
    round_ = 0.95 - 0.75 * np.clip(v, 0, 0.9) + min(max(towards * 2, -1), 1) * 0.4 * u + fine * 0.6 - tiers
    canvas.put(window, mask, color, np.clip(round_, 0.08, 1.2), 1 - thing.t)


_BODIES: tuple[tuple[Color, ...], ...] = (
    ((0.80, 0.16, 0.12), (0.88, 0.64, 0.14), (0.86, 0.40, 0.14)),  # those that come
    ((0.14, 0.28, 0.62), (0.80, 0.82, 0.84), (0.10, 0.45, 0.46)),  # those that drive away
)


def _paint_car(canvas: _Canvas, plan: Plan, thing: Thing, window: Window, mask: np.ndarray, towards: float) -> None:
    u, v = local(thing, window)
    a = np.abs(u)
    bodies = _BODIES[int(thing.side > 0)]
    body = bodies[int(thing.tint * len(bodies))]
    color = mix(body, (body[0] * 0.5, body[1] * 0.5, body[2] * 0.5), np.broadcast_to(ramp(v, 0.5, 0.95), mask.shape))
    color = color + (0.16 * band(v, 0.45, 0.53, 0.03) * (1 - 0.4 * a))
    roof = 0.56 + 0.28 * thing.form
    pane = band(v, 0.1, 0.42, 0.03) * (1 - ramp(a, roof - 0.08, roof + 0.02))
    color = color + (mix((0.62, 0.74, 0.82), (0.10, 0.13, 0.18), ramp(v + u * 0.12, 0.08, 0.4)) - color) * pane
    dark = np.maximum(band(v, 0.78, 0.92, 0.03), (v > 0.9) * np.float32(1))
    color = mix(color, (0.09, 0.09, 0.10), dark * 0.85)
    color = mix(color, (0.88, 0.88, 0.80), band(v, 0.68, 0.78, 0.02) * (1 - ramp(a, 0.2, 0.26)))
    lamps = band(v, 0.54, 0.68, 0.03) * band(a, 0.62, 0.92, 0.05)
    coming = thing.side < 0
    color = mix(color, (0.98, 0.96, 0.86) if coming else (0.75, 0.08, 0.06), lamps)
    lit = np.clip(0.98 - 0.5 * v + 0.2 * u * min(max(towards * 2, -1), 1), 0.1, 1.2)
    canvas.put(window, mask, color, np.broadcast_to(lit, mask.shape), 1 - thing.t)
    canvas.lamp(window, mask, lamps, (1.0, 0.92, 0.66) if coming else (0.85, 0.10, 0.06))


_SHIRTS: tuple[Color, ...] = ((0.84, 0.22, 0.20), (0.92, 0.78, 0.30), (0.25, 0.45, 0.75), (0.90, 0.90, 0.88))


def _paint_person(canvas: _Canvas, plan: Plan, thing: Thing, window: Window, mask: np.ndarray, towards: float) -> None:
    u, v = local(thing, window)
    shirt = _SHIRTS[int(thing.tint * len(_SHIRTS))]
    down = np.broadcast_to(v, mask.shape)
    color = mix((0.86, 0.66, 0.52), shirt, ramp(down, 0.17, 0.21))
    color = mix(color, (0.20, 0.20, 0.30), ramp(down, 0.54, 0.58))
    color = mix(color, (0.10, 0.08, 0.08), ramp(down, 0.93, 0.96))
    color = mix(color, (0.24, 0.15, 0.10), 1 - ramp(down, 0.05, 0.09))
    lit = np.clip(0.9 - 0.25 * v + 0.4 * u * min(max(towards * 2, -1), 1), 0.1, 1.2)
    canvas.put(window, mask, color, np.broadcast_to(lit, mask.shape), 1 - thing.t)


_OBJECTS = {BUILDING: _paint_building, TREE: _paint_tree, CAR: _paint_car}


def _sky(plan: Plan, mood: Mood, sun: tuple[float, float] | None, above: slice) -> np.ndarray:
    """From the zenith down to the horizon, with clouds in banks, and sun or moon with their glow."""
    ground, w = plan.ground, plan.ground.size[1]
    noises = Noises(*(n[above] for n in plan.noises))
    y, x = places((above, slice(0, w)))
    down = np.clip(y / np.float32(ground.horizon), 0, 1)
    puffs = noises.cloud * 0.6 + noises.low * 0.3 + noises.fine * 0.1
    banks = 0.12 * band(_fract(down * 2.2 + 0.3), 0.2, 0.8, 0.2) - 0.2 * down  # banks keep to their heights
    clouds = ramp(puffs + banks, 0.5 - 0.2 * mood.cloudy, 0.72) * mood.cloudy
    color = mix(mood.zenith, mood.low, down * (0.3 + 0.7 * down))
    color = mix(color, plane(mood.cloud) * np.clip(1.45 - 0.8 * noises.cloud, 0.78, 1), clouds)
    if sun is None:
        return color
    away = ((y - sun[0]) * (y - sun[0]) + (x - sun[1]) * (x - sun[1])) / (ground.scale * ground.scale)
    night = mood.lamps == 1
    color = mix(
        color,
        mix(mood.low, (1.0, 0.97, 0.85), np.array([0.35], np.float32)),
        (0.3 if night else 0.62) / (1 + away * 34),
    )
    rim = 1 - 0.12 * np.clip(away * 400, 0, 1) + (0.2 * (noises.fine - 0.5) if night else 0)
    disc = plane((0.93, 0.93, 0.86) if night else (1.0, 0.97, 0.78))
    return np.where(plan.layout[above] < SUN, color, disc * rim)


def _light(canvas: _Canvas, plan: Plan, mood: Mood) -> np.ndarray:
    """Let the light of the mood in, then the haze, then the lamps."""
    h = plan.ground.size[0]
    y, _ = places((slice(0, h), slice(0, 1)))
    direct = plane(mood.direct) * canvas.lit
    fall = 1.06 - 0.16 * np.clip((y - plan.ground.horizon) / (h - plan.ground.horizon), 0, 1)
    color = canvas.color * ((plane(mood.ambient) + direct) * (fall + 0.02))
    color = mix(color, mood.haze, canvas.far * canvas.far * np.float32(mood.hazy))
    return color + canvas.shine * np.float32(mood.lamps) * (1 - 0.4 * canvas.far)


def _developed(photo: np.ndarray) -> np.ndarray:
    """As a lens and film would: slightly soft, and whole numbers."""
    tall = np.concatenate([photo[:, :1], photo, photo[:, -1:]], axis=1)
    rows = photo * 0.7 + (tall[:, :-2] + tall[:, 2:]) * 0.15
    wide = np.concatenate([rows[..., :1], rows, rows[..., -1:]], axis=2)
    soft = rows * 0.7 + (wide[..., :-2] + wide[..., 2:]) * 0.15
    pixels = (np.clip(soft, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
