"""Segmenters from elsewhere: an ONNX or torch.export file, with a mapping from its classes to the data's."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from photogram.errors import UserError, nearest
from photogram.scene import SceneSpec

KEYS = ("file", "classes", "size", "mean", "std")


class ImportedSegmenter:
    """A network from a file that gives logits [1, k, h2, w2] of a normalised RGB photograph [1, 3, h, w].

    Photographs go through it one by one, since exported networks often take no other batch. A .pt2 file is a program:
    open only those that you trust.

    Args:
        description: a JSON file: `{"file": "net.onnx", "classes": {"0": "road", ...}, "size": [h, w] or null,
            "mean": [r, g, b], "std": [r, g, b]}`. The file's path is taken from the description's folder; several of
            its classes may be one of ours, those not mentioned are never read; mean and std are of RGB in 0..1. With a
            size, photographs are brought to it first (bilinear, antialiased).
        spec: what the data's scenes share; names of classes are its.

    Raises:
        UserError: naming the file, the key and what is wrong with it.
    """

    def __init__(self, description: Path, spec: SceneSpec):
        self.spec = spec
        values = _description(description)
        self.path = description.parent / values["file"]
        self.size = None if values["size"] is None else (values["size"][0], values["size"][1])
        self.mean, self.std = (torch.tensor(values[key], dtype=torch.float32).view(3, 1, 1) for key in ("mean", "std"))
        self.sources = _sources(description, values["classes"], spec)
        self.run = _runner(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 of the file together with everything else in its description that readings depend on."""
        settings = (self.size, self.mean.tolist(), self.std.tolist(), self.sources)
        hashed = hashlib.sha256(json.dumps(settings).encode())
        hashed.update(self.path.read_bytes())
        return hashed.hexdigest()

    def predict(self, photo: Float[Tensor, "n c h w"]) -> Int[Tensor, "n h w"]:
        """The most likely class of each pixel of photographs in [-1, 1].

        Of several classes that mean one of ours the likeliest counts. Logits are brought to the photograph's size
        (bilinear).

        Raises:
            UserError: for channels other than RGB or grey, and where the network refuses the photographs or gives
                something else.
        """
        if photo.shape[1] not in (1, 3):
            raise UserError(f"{self.path}: reads photographs of 1 or 3 channels, not {photo.shape[1]}")
        rgb = photo.float().cpu().expand(-1, 3, -1, -1)
        x = ((rgb + 1) / 2 - self.mean) / self.std
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return torch.cat([self._read(one, (photo.shape[-2], photo.shape[-1])) for one in x.split(1)])

    def _read(self, x: Float[Tensor, "1 3 h w"], size: tuple[int, int]) -> Int[Tensor, "1 h2 w2"]:
        logits = self.run(x.contiguous())
        least = 1 + max(max(own) for own in self.sources if own)
        if logits.ndim != 4 or logits.shape[0] != 1 or logits.shape[1] < least or not logits.numel():
            raise UserError(
                f"{self.path}: gave {list(logits.shape)}; it must give logits [1, {least} or more, height, width], "
                f"since its description names class {least - 1}"
            )
        if logits.isnan().any():
            raise UserError(f"{self.path}: gave logits that are no numbers; is it damaged, or its mean and std wrong?")
        logits = F.interpolate(logits.float(), size, mode="bilinear")
        nothing = torch.full_like(logits[:, 0], -torch.inf)
        ours = [logits[:, own].amax(1) if own else nothing for own in self.sources]
        return torch.stack(ours, 1).argmax(1)


def _description(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: describes no segmenter; it must be an object with {', '.join(KEYS)}")
    for key in (*(k for k in values if k not in KEYS), *(k for k in KEYS if k not in values)):
        word = f"missing; it has {', '.join(KEYS)}" if key in KEYS else f"unknown{nearest(key, list(KEYS))}"
        raise UserError(f"{path}: key {key!r} is {word}")
    file, classes, size = values["file"], values["classes"], values["size"]
    if not (isinstance(file, str) and file):
        raise UserError(f"{path}: file is {file!r}; it must be the path of an .onnx or .pt2 file")
    for key in ("mean", "std"):
        if not _is_colour(values[key]) or (key == "std" and min(values[key]) <= 0):
            bound = "three numbers, of red, green and blue in 0..1" + (", above 0" if key == "std" else "")
            raise UserError(f"{path}: {key} is {values[key]!r}; it must be {bound}")
    fits = isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    if size is not None and not fits:
        raise UserError(f"{path}: size is {size!r}; it must be [height, width], or null for the photograph's own")
    if not (isinstance(classes, dict) and classes and all(isinstance(name, str) for name in classes.values())):
        raise UserError(f'{path}: classes is {classes!r}; it must be {{"0": "road", ...}}')
    return values


def _is_colour(values: object) -> bool:
    if not (isinstance(values, list) and len(values) == 3):
        return False
    return all(isinstance(n, int | float) and type(n) is not bool and math.isfinite(n) for n in values)


def _sources(path: Path, classes: dict[str, str], spec: SceneSpec) -> list[list[int]]:
    """For each of our classes, those of the file that mean it."""
    names = [c.name for c in spec.classes if not c.void]
    sources: list[list[int]] = [[] for _ in spec.classes]
    for index, name in classes.items():
        if not (index.isdecimal() and str(int(index)) == index):
            raise UserError(f"{path}: class {index!r} must be a number, the channel of the network's output")
        if name not in names:
            void = spec.void is not None and name == spec.classes[spec.void].name
            why = "is void, which nothing is read as; leave it out" if void else f"the data lacks{nearest(name, names)}"
            raise UserError(f"{path}: class {index} is {name!r}, which {why}")
        sources[[c.name for c in spec.classes].index(name)].append(int(index))
    return sources


def _runner(path: Path) -> Callable[[Tensor], Tensor]:
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(f"{path}: segmenters come as .onnx or .pt2 (torch.export)")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    run = _onnx(path) if path.suffix == ".onnx" else _exported(path)
    return lambda x: _guarded(path, lambda: run(x))


def _exported(path: Path) -> Callable[[Tensor], object]:
    try:
        module = torch.export.load(str(path)).module()
    except Exception as e:  # torch raises anything on a damaged file
        raise UserError(f"{path}: is damaged or not a torch.export file ({type(e).__name__})") from None
    return torch.no_grad()(lambda x: module(x))


def _onnx(path: Path) -> Callable[[Tensor], object]:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        raise UserError(f"{path}: reading ONNX needs onnxruntime; pip install 'photogram[export]'") from None
    except Exception as e:  # what its own libraries throw
        raise UserError(f"{path}: needs onnxruntime, which cannot be imported ({type(e).__name__}: {e})") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
    except Exception as e:  # its errors have no common class
        raise UserError(f"{path}: is damaged or not an ONNX file ({type(e).__name__})") from None
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _guarded(path: Path, work: Callable[[], object]) -> Tensor:
    try:
        logits = work()
    except Exception as e:  # whatever a foreign network throws at a size that it does not take
        reason = " ".join(str(e).split())[:200]
        raise UserError(f"{path}: cannot read this photograph ({reason}); set size in its description") from None
    if not isinstance(logits, Tensor):
        raise UserError(f"{path}: gave {type(logits).__name__}, not one tensor of logits")
    return logits
