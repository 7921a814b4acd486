"""What an evaluation found, as JSON that says everything needed to repeat it; and what two of them may say together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from photogram.errors import UserError
from photogram.images import replacing
from photogram.metrics.bootstrap import Interval, percentiles, resampled
from photogram.metrics.protocol import Protocol, parse_protocol

FORMAT = 1


@dataclass(frozen=True)
class Measure:
    """One number.

    Args:
        value: the number.
        interval: what 95 of 100 resamples of the images lie in; None where there is none.
        better: `higher` or `lower`, or "" where neither is.
        about: what it is, in a line.
    """

    value: float
    interval: Interval | None
    better: str
    about: str


@dataclass(frozen=True)
class Result:
    """An evaluation.

    Args:
        subject: what was judged: its name, the hash of its images, their number.
        protocol: how.
        provenance: hashes and versions of everything that the numbers depend on.
        measures: the numbers, by name; those through a feature network carry its name.
        per_class: scores of each class, by measure and class name.
        per_image: scores of each image, by measure, in the order of `names`.
        names: of the images.
        warnings: what a reader must know before the numbers mean anything.
        repeats: each measure's value by seed, where there was more than one.
    """

    subject: dict[str, Any]
    protocol: Protocol
    provenance: dict[str, Any]
    measures: dict[str, Measure]
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    per_image: dict[str, list[float]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    repeats: dict[str, list[float]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it, whole or not at all; numbers that are not finite become null."""
        values = {"format": FORMAT, **asdict(self), "protocol": self.protocol.to_json()}
        with replacing(path) as file:
            file.write((json.dumps(_finite(values), indent=1, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and value - value != 0 else value


def read_result(path: Path) -> Result:
    """What `Result.write` wrote.

    Raises:
        UserError: where it is missing, damaged or of another version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise UserError(f"{path}: was written by another version of photogram; evaluate again")
        measures = {}
        for name, measure in values.pop("measures").items():
            bounds = measure.pop("interval")
            value = measure.pop("value")
            interval = None if bounds is None else Interval(*(_number(b) for b in bounds))
            measures[name] = Measure(_number(value), interval, **measure)
        protocol = parse_protocol(values.pop("protocol"), path)
        images = {k: [_number(v) for v in row] for k, row in values.pop("per_image").items()}
        return Result(protocol=protocol, measures=measures, per_image=images, **values)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `photogram evaluate` writes it") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        if isinstance(e, UserError):
            raise
        raise UserError(f"{path}: is no result of an evaluation, or damaged ({e})") from None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def disagreement(a: Result, b: Result) -> str | None:
    """Why two results do not compare, or None: the first thing in which their protocols or provenance differ."""
    ours, theirs = a.protocol.to_json(), b.protocol.to_json()
    for name in ours:
        if name != "about" and ours[name] != theirs[name]:
            return f"the protocol's {name} is {ours[name]!r} there and {theirs[name]!r} here"
    for name in ("scenes", "reals", "trunk", "lpips", "segmenter"):
        if a.provenance.get(name) != b.provenance.get(name):
            return f"their {name} differ: {a.provenance.get(name)} and {b.provenance.get(name)}"
    return None


@dataclass(frozen=True)
class Difference:
    """How much the second of two systems is above the first in a measure that each image has."""

    value: float
    interval: Interval

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0


def differences(a: Result, b: Result) -> dict[str, Difference]:
    """The mean difference, b - a, of every measure that both have for each image, on the same resamples.

    Raises:
        UserError: where the two do not compare.
    """
    why = disagreement(a, b)
    if why is not None:
        raise UserError(f"{a.subject['name']} and {b.subject['name']} do not compare: {why}")
    weights = resampled(len(a.names), a.protocol.resamples, a.protocol.seed)
    found = {}
    for name in a.per_image:
        if name not in b.per_image:
            continue
        apart = torch.tensor(b.per_image[name], dtype=torch.float64) - torch.tensor(a.per_image[name])
        counted = apart.isfinite()
        if not counted.any():
            continue
        inside = weights[:, counted]
        draws = inside @ apart[counted] / inside.sum(1)
        found[name] = Difference(float(apart[counted].mean()), percentiles(draws))
    return found
