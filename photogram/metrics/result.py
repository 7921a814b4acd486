"""What an evaluation found, as JSON that says everything needed to repeat it; and what two of them may say together."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from photogram.errors import UserError
from photogram.images import replacing
from photogram.metrics.bootstrap import Interval, percentiles, resampled
from photogram.metrics.protocol import Protocol, parse_protocol

FORMAT = 2
"""Of the file. Of 1, the kernel distance was another estimate, and repeats were bare lists."""


@dataclass(frozen=True)
class Measure:
    """One number.

    Args:
        value: the number.
        interval: what 95 of 100 resamples of the images lie in; None where there is none.
        better: `higher` or `lower`, or "" where neither is.
        about: what it is, in a line.
        deviation: standard deviation over images, where it is their mean; else None.
        median: over images, likewise.
    """

    value: float
    interval: Interval | None
    better: str
    about: str
    deviation: float | None = None
    median: float | None = None


@dataclass(frozen=True)
class Repeats:
    """A measure's value by seed, with the mean of them and their standard deviation; nan where one is not finite."""

    values: list[float]
    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Repeats:
        """Of two seeds or more."""
        if not all(map(math.isfinite, values)):
            return cls(list(values), math.nan, math.nan)
        return cls(list(values), statistics.fmean(values), statistics.stdev(values))


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
        repeats: each measure by seed, where there was more than one.
    """

    subject: dict[str, Any]
    protocol: Protocol
    provenance: dict[str, Any]
    measures: dict[str, Measure]
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    per_image: dict[str, list[float]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    repeats: dict[str, Repeats] = field(default_factory=dict)

    def better(self, name: str) -> str:
        """`higher` or `lower`, whichever a measure that is judged should be, else nothing."""
        return self.measures[name].better if name in self.measures else ""

    def write(self, path: Path) -> None:
        """Write it, whole or not at all; numbers that are not finite become null."""
        values = {"format": FORMAT, **asdict(self), "protocol": self.protocol.to_json()}
        with replacing(path) as file:
            file.write((json.dumps(_finite(values), indent=1, allow_nan=False) + "\n").encode())

    def write_images(self, path: Path) -> None:
        """Write a CSV table of the images' own scores, a line for each; whole or not at all."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["name", *self.per_image])
        table.writerows(zip(self.names, *self.per_image.values(), strict=True))
        with replacing(path) as file:
            file.write(text.getvalue().encode())


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
        measures = {name: _measure(found) for name, found in values.pop("measures").items()}
        protocol = parse_protocol(values.pop("protocol"), path)
        images = {k: _numbers(row) for k, row in values.pop("per_image").items()}
        repeats = {
            k: Repeats(_numbers(r["values"]), _number(r["mean"]), _number(r["deviation"]))
            for k, r in values.pop("repeats").items()
        }
        _check_parts(path, values, len(measures), images)
        return Result(protocol=protocol, measures=measures, per_image=images, repeats=repeats, **values)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `photogram evaluate` writes it") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        if isinstance(e, UserError):
            raise
        raise UserError(f"{path}: is no result of an evaluation, or damaged ({e})") from None


def _check_parts(path: Path, values: dict[str, Any], measures: int, images: dict[str, list[float]]) -> None:
    """Refuse what comparing would trip over.

    Raises:
        UserError: naming the field.
    """
    subject, names = values.get("subject"), values.get("names")
    classes, warnings = values.get("per_class"), values.get("warnings")
    named = isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
    parts = {
        "subject": isinstance(subject, dict) and isinstance(subject.get("name"), str) and "images" in subject,
        "provenance": isinstance(values.get("provenance"), dict),
        "names": named,
        "measures": measures > 0,
        "per_image": named and all(len(row) == len(names or ()) for row in images.values()),
        "per_class": isinstance(classes, dict) and all(isinstance(row, dict) for row in classes.values()),
        "warnings": isinstance(warnings, list) and all(isinstance(line, str) for line in warnings),
    }
    for name, whole in parts.items():
        if not whole:
            raise UserError(f"{path}: is damaged, its {name!r} is missing or not what it should be; evaluate again")


def _measure(found: dict[str, Any]) -> Measure:
    bounds, value = found.pop("interval"), found.pop("value")
    interval = None if bounds is None else Interval(*_numbers(bounds))
    return Measure(_number(value), interval, **found)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [_number(value) for value in values]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def disagreement(a: Result, b: Result) -> str | None:
    """Why two results do not compare, or None: the first thing in which their protocols or provenance differ."""
    return protocols_differ(a.protocol, b.protocol) or provenances_differ(a.provenance, b.provenance)


def protocols_differ(a: Protocol, b: Protocol) -> str | None:
    """The first thing in which two protocols differ, or None; what they say about themselves does not matter."""
    ours, theirs = a.to_json(), b.to_json()
    for name in ours:
        if name != "about" and ours[name] != theirs[name]:
            return f"the protocol's {name} is {ours[name]!r} there and {theirs[name]!r} here"
    return None


def provenances_differ(a: Mapping[str, object], b: Mapping[str, object]) -> str | None:
    """The first of the things that numbers depend on in which two evaluations differ, or None; versions aside."""
    for name in ("scenes", "reals", "trunk", "lpips", "segmenter"):
        if a.get(name) != b.get(name):
            return f"their {name} differ: {a.get(name)} and {b.get(name)}"
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
        theirs, ours = (torch.tensor(r.per_image[name], dtype=torch.float64) for r in (b, a))
        apart = theirs - ours
        counted = apart.isfinite()
        if not counted.any():
            continue
        inside = weights[:, counted]
        draws = inside @ apart[counted] / inside.sum(1)
        found[name] = Difference(float(apart[counted].mean()), percentiles(draws))
    return found
