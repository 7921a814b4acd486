"""What a picture shows: `Layout`, `Condition`, `Scene`; and `SceneSpec`, what all scenes of a data set share.

Everything is batched: [n, ...]. Layouts are one small integer per pixel; photographs are float in [-1, 1]. The only way
between those and the pixels of files is `to_pixels` and `from_pixels`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from photogram.errors import UserError
from photogram.images import read_instances, read_labels, read_photo, resize_labels, write_labels
from photogram.rasters import write_raster

Size = tuple[int, int]
"""Height and width, in this order, everywhere."""


@dataclass(frozen=True)
class SceneClass:
    """One class of a layout: its name, the colour it is drawn in (0..255), and whether it marks unlabelled pixels."""

    name: str
    color: tuple[int, int, int]
    void: bool = False


def void_of(classes: Sequence[SceneClass]) -> int | None:
    """The index of the class that marks unlabelled pixels, or None."""
    return next((i for i, c in enumerate(classes) if c.void), None)


@dataclass(frozen=True)
class SceneSpec:
    """What all scenes of a data set share, and a network must know to be built.

    Args:
        classes: the classes of its layouts, by index; empty where scenes have no layout.
        size: height and width at which photographs are shown to the network.
        instances: whether layouts come with instance maps.
        image_channels: channels of the conditioning image (sketch, grey, depth); 0 where there is none.
        image_bits: bits per channel of that image in its files: 8, 16, or 32 for floating point.
        photo_channels: channels of the photographs.
        photo_bits: bits per channel of the photographs in their files.
    """

    classes: tuple[SceneClass, ...] = ()
    size: Size = (256, 512)
    instances: bool = False
    image_channels: int = 0
    image_bits: int = 8
    photo_channels: int = 3
    photo_bits: int = 8

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def void(self) -> int | None:
        """The index of the class that marks unlabelled pixels, or None."""
        return void_of(self.classes)

    def resized(self, size: Size) -> SceneSpec:
        return replace(self, size=size)

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, object]) -> SceneSpec:
        """Strict: an unknown, missing or unfit field is a `UserError`."""
        expected = {f.name for f in fields(cls)}
        if set(values) != expected:
            raise UserError(f"scene spec: fields {sorted(set(values) ^ expected)} are unknown or missing")
        if type(values["instances"]) is not bool:
            raise UserError(f"scene spec: instances is {values['instances']!r}; it is true or false")
        numbers = sorted(expected - {"classes", "size", "instances"})
        for name in numbers:
            if not _is_count(values[name]):
                raise UserError(f"scene spec: {name} is {values[name]!r}; it is an integer of 0 or more")
        size, entries = values["size"], values["classes"]
        if not (isinstance(size, list | tuple) and len(size) == 2 and all(map(_is_count, size))):
            raise UserError(f"scene spec: size is {size!r}; it is [height, width]")
        if not isinstance(entries, list | tuple):
            raise UserError(f"scene spec: classes is {entries!r}, not a list")
        classes = []
        for n, entry in enumerate(entries):
            if not isinstance(entry, dict) or set(entry) != {f.name for f in fields(SceneClass)}:
                raise UserError(f"scene spec: class {n} is {entry!r}; it has name, color and void")
            color = list(entry["color"]) if isinstance(entry["color"], tuple) else entry["color"]
            classes.append(parse_class(Path("scene spec"), n, {"id": n, **entry, "color": color})[1])
        return cls(**{**values, "classes": tuple(classes), "size": tuple(size)})  # pyright: ignore[reportArgumentType]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def read_classes(path: str | Path) -> tuple[SceneClass, ...]:
    """Read `classes.json`: a list of {"id", "name", "color"}, ids 0..n-1, at most one with "void": true.

    Raises:
        UserError: naming the entry and what is wrong with it.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a data folder needs one, see the README on data folders") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f'{path}: must be a list of {{"id", "name", "color"}}, with at least one class')
    found: dict[int, SceneClass] = {}
    for n, entry in enumerate(entries):
        index, parsed = parse_class(path, n, entry)
        if index in found:
            raise UserError(f"{path}: id {index} is given twice, to {found[index].name!r} and {parsed.name!r}")
        found[index] = parsed
    missing = sorted(set(range(len(found))) - set(found))
    if missing:
        raise UserError(f"{path}: ids must be 0..{len(found) - 1} without gaps; {missing[0]} is missing")
    voids = [c.name for c in found.values() if c.void]
    if len(voids) > 1:
        raise UserError(f"{path}: only one class can be void, but {', '.join(map(repr, voids))} are")
    return tuple(found[i] for i in range(len(found)))


def parse_class(path: Path, n: int, entry: object) -> tuple[int, SceneClass]:
    """The id and class of the n-th entry of a list of classes; a `UserError` names path and entry."""
    if not isinstance(entry, dict):
        raise UserError(f"{path}: entry {n} is {entry!r}, not an object with id, name and color")
    unknown = sorted(set(entry) - {"id", "name", "color", "void"})
    if unknown:
        raise UserError(f"{path}: entry {n} has the unknown key {unknown[0]!r}; known are id, name, color, void")
    index, name, color, void = (entry.get(k) for k in ("id", "name", "color", "void"))
    if type(index) is not int or not 0 <= index <= 65535:
        raise UserError(f"{path}: entry {n} has id {index!r}; ids are integers 0..65535")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: class {index} has name {name!r}; names are text")
    if not (isinstance(color, list) and len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)):
        raise UserError(f"{path}: class {index} ({name}) has color {color!r}; colours are [red, green, blue] in 0..255")
    if void is not None and type(void) is not bool:
        raise UserError(f'{path}: class {index} ({name}) has "void": {void!r}; it is true or false')
    return index, SceneClass(name, (color[0], color[1], color[2]), bool(void))


def write_classes(classes: Sequence[SceneClass], path: str | Path) -> None:
    """Write `classes.json`, one class a line, whole or not at all."""
    from photogram.images import replacing

    lines = [
        json.dumps({"id": i, "name": c.name, "color": list(c.color)} | ({"void": True} if c.void else {}))
        for i, c in enumerate(classes)
    ]
    with replacing(path) as file:
        file.write(("[\n  " + ",\n  ".join(lines) + "\n]\n").encode())


class Layout(NamedTuple):
    """A semantic layout: which class each pixel belongs to, and which object, where that is known.

    Args:
        classes: class indices, uint8 or wider.
        instances: object numbers, any integers of 32 bits; equal within an object.
    """

    classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"]
    instances: Int[Tensor, "n h w"] | None = None

    @staticmethod
    def open(path: str | Path, instances: str | Path | None = None) -> Layout:
        """Read one layout from index image files, as a batch of one at the files' size.

        Raises:
            UserError: where a file cannot be read as indices, or the two differ in size.
        """
        classes = read_labels(path)
        if instances is None:
            return Layout(torch.from_numpy(classes)[None])
        objects = read_instances(instances)
        if objects.shape != classes.shape:
            raise UserError(f"{instances}: is {shape(objects)}, but the layout {path} is {shape(classes)}")
        return Layout(torch.from_numpy(classes)[None], torch.from_numpy(objects)[None])

    def save(self, path: str | Path, instances_path: str | Path | None = None) -> None:
        """Write one layout as index image files, which `open` reads again, equal; each whole or not at all.

        Args:
            path: of the classes, .png (8 bits where all are below 256, else 16), .tif or .npy.
            instances_path: of the object numbers: a .png holds 0..65535, a .tif or .npy 0..2147483647. None: they are
                not written.

        Raises:
            UserError: for a batch, object numbers that are missing or that the file cannot hold, classes beyond
                0..65535, another suffix, or a folder that cannot be written.
        """
        classes, numbers = self.classes, self.instances
        for file, maps in ((path, classes), *([] if instances_path is None else [(instances_path, numbers)])):
            whole = isinstance(maps, Tensor) and not (maps.is_floating_point() or maps.is_complex())
            if maps is not None and not (whole and maps.ndim == 3 and len(maps) == 1 and maps.numel()):
                form = f"{maps.dtype} {list(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
                raise UserError(f"{file}: holds one layout, integers [1, h, w], but this is {form}")
        least, most = int(classes.min()), int(classes.max())
        if least < 0 or most > 65535:
            raise UserError(f"{path}: class {least if least < 0 else most}: must be 0..65535")
        if Path(path).suffix.lower() not in (".png", ".tif", ".tiff", ".npy"):  # before the other file is written
            raise UserError(f"{path}: layouts are written as .png, .tif or .npy")
        files: list[tuple[str | Path, np.ndarray]] = [
            (path, classes[0].cpu().numpy().astype(np.uint8 if most < 256 else np.int32))
        ]
        if instances_path is not None:
            if numbers is None:
                raise UserError(f"{instances_path}: the layout has no object numbers; leave this file out")
            if numbers.shape != classes.shape:
                raise UserError(
                    f"{instances_path}: object numbers {list(numbers.shape)}, classes {list(classes.shape)}"
                )
            if Path(instances_path).resolve() == Path(path).resolve():
                raise UserError(f"{path}: cannot hold classes and object numbers; give two files")
            # First: where their file cannot hold them, neither is written.
            files.insert(0, (instances_path, numbers[0].cpu().numpy().astype(np.int64)))
        for file, integers in files:
            try:
                write_labels(integers, file)
            except OSError as e:
                raise UserError(f"{file}: cannot be written ({e.strerror or e})") from None

    @property
    def size(self) -> Size:
        return (self.classes.shape[-2], self.classes.shape[-1])

    def resized(self, size: Size) -> Layout:
        """At another size, by the nearest rule of `photogram.images.resize_labels`; exact for indices."""

        def nearest(maps: Tensor) -> Tensor:
            return torch.stack([torch.from_numpy(resize_labels(m, size)) for m in maps.cpu().numpy()])

        return Layout(nearest(self.classes), None if self.instances is None else nearest(self.instances))

    def padded(self, size: Size, void: int | None) -> Layout:
        """Grown to the right and below: with the void class where there is one, else with what stands at the border."""
        below, right = size[0] - self.size[0], size[1] - self.size[1]

        def grow(maps: Tensor, value: int | None) -> Tensor:
            if value is not None:
                return torch.nn.functional.pad(maps, (0, right, 0, below), value=value)
            rows = torch.arange(size[0], device=maps.device).clamp(max=maps.shape[-2] - 1)
            columns = torch.arange(size[1], device=maps.device).clamp(max=maps.shape[-1] - 1)
            return maps[:, rows[:, None], columns]

        number = None if void is None else 0  # what is repeated goes on being the same object
        return Layout(grow(self.classes, void), None if self.instances is None else grow(self.instances, number))

    def to(self, device: torch.device | str) -> Layout:
        instances = None if self.instances is None else self.instances.to(device, non_blocking=True)
        return Layout(self.classes.to(device, non_blocking=True), instances)


class Condition(NamedTuple):
    """What the picture is asked to show: a layout, an image (sketch, grey photograph, depth), both, or nothing.

    Args:
        layout: class indices and object numbers.
        image: any number of channels, float in [-1, 1].
    """

    layout: Layout | None = None
    image: Float[Tensor, "n c h w"] | None = None

    @property
    def size(self) -> Size | None:
        """Height and width of what is asked for, or None where nothing is."""
        if self.layout is not None:
            return self.layout.size
        return None if self.image is None else (self.image.shape[-2], self.image.shape[-1])

    def to(self, device: torch.device | str) -> Condition:
        return Condition(
            None if self.layout is None else self.layout.to(device),
            None if self.image is None else self.image.to(device, non_blocking=True),
        )


class Scene(NamedTuple):
    """A condition and the photograph that was taken of it.

    In an unpaired data set the two come from different scenes; a layout without a photograph has none.
    """

    condition: Condition
    photo: Float[Tensor, "n c h w"] | None = None

    def to(self, device: torch.device | str) -> Scene:
        photo = None if self.photo is None else self.photo.to(device, non_blocking=True)
        return Scene(self.condition.to(device), photo)


def collate(scenes: Sequence[Scene]) -> Scene:
    """Join scenes into one batch; what all of them lack stays None.

    Raises:
        UserError: where some of them have a part (a photograph, instances) that others lack.
    """

    def join(parts: Iterable[Tensor | None], name: str) -> Tensor | None:
        parts = list(parts)
        present = [p for p in parts if p is not None]
        if present and len(present) < len(parts):
            raise UserError(f"batch: {len(present)} of {len(parts)} scenes have {name}; it takes all or none")
        return torch.cat(present) if present else None

    layouts = [s.condition.layout for s in scenes]
    classes = join((None if layout is None else layout.classes for layout in layouts), "a layout")
    instances = join((None if layout is None else layout.instances for layout in layouts), "an instance map")
    return Scene(
        Condition(
            None if classes is None else Layout(classes, instances),
            join((s.condition.image for s in scenes), "an image"),
        ),
        join((s.photo for s in scenes), "a photograph"),
    )


def class_difference(network: SceneSpec, data: SceneSpec) -> str | None:
    """In what the classes of a network differ from the data's, in a few words; None where they agree."""
    ours, theirs = [c.name for c in network.classes], [c.name for c in data.classes]
    if len(ours) != len(theirs):
        return f"was trained on {len(ours)} classes, but the data has {len(theirs)}"
    for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a != b:
            return f"was trained with class {n} as {a!r}, but in the data it is {b!r}"
    return None


def one_hot(
    classes: Int[Tensor, "n h w"] | UInt8[Tensor, "n h w"], num_classes: int
) -> Float[Tensor, "n {num_classes} h w"]:
    """One float plane per class, channels last; for the few places that need planes (architecture, on integers)."""
    planes = torch.zeros(*classes.shape, num_classes, device=classes.device)
    return planes.scatter_(3, classes.long()[..., None], 1.0).permute(0, 3, 1, 2)


def check_layout(layout: Layout, spec: SceneSpec, source: str = "layout") -> None:
    """Refuse classes that the spec does not list, naming the first such pixel.

    Raises:
        UserError: with the source, the value, its place and the bound.
    """
    classes = layout.classes
    if classes.numel() == 0 or (int(classes.min()) >= 0 and int(classes.max()) < spec.num_classes):
        return
    wrong = (classes.long() < 0) | (classes.long() >= spec.num_classes)  # long: a uint8 wraps the bound 256 to 0
    n, row, column = wrong.nonzero()[0].tolist()
    value = int(layout.classes[n, row, column])
    raise UserError(
        f"{source}: class {value} at (row {row}, column {column}), but there are only classes "
        f"0..{spec.num_classes - 1}; `photogram prepare palette --map` sends the classes of other data to these"
    )


def to_pixels(photo: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n h w c"]:
    """[-1, 1] to 0..255, clamped and rounded half up."""
    pixels = ((photo.detach().float() + 1) * 127.5 + 0.5).floor().clamp(0, 255)
    return pixels.to(torch.uint8).movedim(-3, -1).contiguous()


def from_pixels(pixels: np.ndarray | Tensor) -> Float[Tensor, "*n c h w"]:
    """0..255, 0..65535 (uint16) or [0, 1] (floating point) to [-1, 1]; channels go first."""
    planes = torch.as_tensor(pixels).movedim(-1, -3).contiguous()  # first, while a pixel is a byte
    half = 0.5 if planes.is_floating_point() else 32767.5 if planes.dtype == torch.uint16 else 127.5
    return planes.to(torch.float32, copy=True).div_(half).sub_(1)


def to_levels(photo: Float[Tensor, "*n c h w"], bits: int) -> np.ndarray:
    """[-1, 1] to the values of files, channels last: uint8, uint16, or float32 in [0, 1] for 32 bits.

    Args:
        photo: clamped; rounded half up for 8 and 16 bits.
        bits: 8, 16 or 32.
    """
    if bits == 8:
        return to_pixels(photo).cpu().numpy()
    levels = ((photo.detach().float().cpu().movedim(-3, -1) + 1) / 2).clamp(0, 1)
    if bits == 32:
        return levels.contiguous().numpy()
    return (levels.double() * 65535 + 0.5).floor().numpy().astype(np.uint16)


def draw(classes: np.ndarray, spec: SceneSpec) -> np.ndarray:
    """Draw class indices [h, w] in their colours, uint8 [h, w, 3]."""
    palette = np.array([c.color for c in spec.classes], dtype=np.uint8)
    return palette[classes]


def shape(image: np.ndarray | Tensor | Size) -> str:
    """`height x width` of an image array, a label map, or a size, for messages."""
    height, width = image if isinstance(image, tuple) else image.shape[:2]
    return f"{height} x {width}"


def save(photo: Float[Tensor, "n c h w"] | Float[Tensor, "c h w"], path: str | Path, bits: int = 8) -> None:
    """Write one photograph in [-1, 1] as .png, .jpg, .webp, .tif or .npy, by the name of the file.

    Args:
        photo: one photograph, of any number of channels where the file's type has them.
        path: the file.
        bits: 8, 16, or 32 for floating point in [0, 1].

    Raises:
        UserError: for what is no photograph, a batch of several, an unknown suffix, a type of file that cannot hold the
            channels and bits, or a folder that cannot be written.
    """
    given: object = photo  # whatever its type should be
    if not (isinstance(given, Tensor) and given.is_floating_point() and given.ndim in (3, 4)):
        name = type(given).__name__
        if isinstance(given, Layout):
            raise UserError(f"{path}: is to be a photograph, but this is a Layout; it has a save of its own")
        advice = "its .photo, or " if isinstance(getattr(given, "photo", None), Tensor) else ""
        form = f" of {str(given.dtype).split('.')[-1]} {list(given.shape)}" if isinstance(given, Tensor) else ""
        asked = f"give {advice}a floating-point tensor [c, h, w] or [1, c, h, w] in [-1, 1]"
        raise UserError(f"{path}: is to be a photograph, but this is a {name}{form}; {asked}")
    if photo.ndim == 4 and photo.shape[0] != 1:
        raise UserError(f"save writes one photograph, but there are {photo.shape[0]}; index the batch first")
    if bits not in (8, 16, 32):
        raise UserError(f"bits {bits}: must be 8, 16 or 32")
    levels = to_levels(photo[0] if photo.ndim == 4 else photo, bits)
    try:
        write_raster(levels, path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror or e})") from None


def open_photo(path: str | Path) -> Float[Tensor, "1 3 h w"]:
    """Read one photograph as a batch of one, float in [-1, 1]."""
    return from_pixels(read_photo(path))[None]
