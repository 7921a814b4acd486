"""Protocols: everything that two numbers must agree in to be compared, as versioned JSON.

Shipped ones are known by name; a file of the same form is known by its path.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from photogram.errors import UserError, nearest
from photogram.metrics.resize import FILTERS
from photogram.metrics.shipped import FOLDER, shipped
from photogram.scene import Size


@dataclass(frozen=True)
class Protocol:
    """What is measured, on what, and how.

    Args:
        name: with its version; a changed protocol gets another.
        about: for people: the data, and what the protocol is for.
        split: the part of the data folder whose layouts are painted and whose photographs are the reals.
        size: height and width of everything.
        count: how many scenes are judged, the first by name; 0 is all of them.
        scenes: SHA-256 over the judged layouts at `size`; "" where the data cannot be shipped or named.
        trunk: the feature network of the set measures.
        trunk_sha256: of its weights; "" takes any, and the result says which.
        resize: the filter that brings images to the trunk's size.
        precision: of the trunk's convolutions, `fp32` or `bf16`.
        lpips: the trunk of LPIPS.
        segmenter: the folder of the network that reads photographs, beside the protocol or shipped; "" is none.
        segmenter_sha256: of its weights; "" takes any.
        ignored: classes, by name, whose pixels do not count in segmentation consistency; those of the data's void
            class never do.
        seed: of the paintings, of subsets and of resamples.
        samples: paintings of each layout; more than one measures diversity.
        frames: whether the scenes are the frames of one shot, in order, so that flicker is measured.
        truncation: psi, of generators that have it; none here has, so that it must be 1.
        kernel_subsets: of the kernel distance.
        kernel_size: images in each of them, at most.
        neighbours: k of precision and recall.
        density_neighbours: k of density and coverage.
        resamples: of the bootstrap.
    """

    name: str
    about: str
    split: str
    size: Size
    count: int = 0
    scenes: str = ""
    trunk: str = "squeezenet"
    trunk_sha256: str = ""
    resize: str = "aa"
    precision: str = "fp32"
    lpips: str = "squeeze"
    segmenter: str = ""
    segmenter_sha256: str = ""
    ignored: tuple[str, ...] = ()
    seed: int = 0
    samples: int = 1
    frames: bool = False
    truncation: float = 1.0
    kernel_subsets: int = 100
    kernel_size: int = 1000
    neighbours: int = 3
    density_neighbours: int = 5
    resamples: int = 1000

    def to_json(self) -> dict[str, Any]:
        """As it stands in its file."""
        return json.loads(json.dumps(asdict(self)))


def load_protocol(name: str) -> Protocol:
    """A protocol by name, or by the path of its file.

    Raises:
        UserError: where there is none, or a field is unknown, missing or of another kind.
    """
    path = FOLDER / f"{name}.json"
    if name not in shipped():
        path = Path(name)
        if not path.is_file():
            known = shipped()
            raise UserError(f"unknown protocol {name!r}{nearest(name, known)}; there is {', '.join(known)}, or a file")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None
    return parse_protocol(values, path)


def parse_protocol(values: object, path: Path) -> Protocol:
    """A protocol from JSON, strictly.

    Raises:
        UserError: naming the file, the field and what it must be.
    """
    if not isinstance(values, dict):
        raise UserError(f"{path}: is no protocol; it must be an object")
    known = {f.name: f for f in fields(Protocol)}
    unknown = [name for name in values if name not in known]
    missing = [name for name in ("name", "about", "split", "size") if name not in values]
    if unknown or missing:
        word, which = ("unknown", unknown[0]) if unknown else ("missing", missing[0])
        raise UserError(f"{path}: field {which!r} is {word}{nearest(which, list(known)) if unknown else ''}")
    kinds = {"str": str, "int": int, "bool": bool, "float": (int, float), "Size": list, "tuple[str, ...]": list}
    for name, value in values.items():
        kind = str(known[name].type)
        if not isinstance(value, kinds[kind]) or isinstance(value, bool) != (kind == "bool"):
            raise UserError(f"{path}: {name} is {value!r}; it must be {kind}")
    size = values["size"]
    if len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
        raise UserError(f"{path}: size is {size}; it must be [height, width]")
    fields_of: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    protocol = Protocol(**fields_of)
    _check(protocol, path)
    return protocol


def _check(protocol: Protocol, path: Path) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", protocol.name):  # results lie in a folder of that name
        raise UserError(f"{path}: name is {protocol.name!r}; it must be letters, digits, dots, - and _")
    bounds = {"count": 0, "seed": 0, "samples": 1, "kernel_subsets": 1, "kernel_size": 2, "resamples": 2}
    for name, least in {**bounds, "neighbours": 1, "density_neighbours": 1}.items():
        if getattr(protocol, name) < least:
            raise UserError(f"{path}: {name} is {getattr(protocol, name)}; it must be {least} or more")
    if protocol.seed >= 1 << 63:
        raise UserError(f"{path}: seed is {protocol.seed}; it must be below 2^63")
    if protocol.truncation != 1:
        raise UserError(
            f"{path}: truncation is {protocol.truncation}; it must be 1.0, since no generator here has a truncation yet"
        )
    if protocol.resize not in FILTERS:
        raise UserError(f"{path}: resize is {protocol.resize!r}; it must be one of {', '.join(FILTERS)}")
    if protocol.precision not in ("fp32", "bf16"):
        raise UserError(f"{path}: precision is {protocol.precision!r}; it must be fp32 or bf16")
