"""What the data doctor found, as a value, and its way to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from photogram.data.examine import Facts, Finding, Severity
from photogram.errors import UserError

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From worst to mildest."""

_LINES = 8  # findings shown of one kind
_ROWS = 40  # classes shown
_LENGTH = 300  # characters of one finding shown


@dataclass(frozen=True)
class SplitCount:
    """How much there is in one split."""

    layouts: int
    photos: int
    pairs: int
    """Layouts, or inputs, with a photograph."""
    instances: int
    read: int
    """Scenes that were read: all of them, but for a quick check of a large folder."""
    inputs: int
    scenes: int
    """What can be looked at: layouts, inputs, both together, or photographs where there is no more."""


@dataclass(frozen=True)
class ClassRow:
    """How much there is of one class, by split; empty after a quick check, which counts no pixels."""

    id: int
    name: str
    void: bool
    shares: dict[str, float]
    """Of the pixels of the split's layouts, 0..1."""
    layouts: dict[str, int]
    """In how many of the split's layouts the class appears."""


@dataclass(frozen=True)
class InstanceCount:
    """What the instance maps of one split hold.

    An instance is a number within one map, other than those that stand for none: 0, and 255 in 8-bit files.
    Where regions without objects carry their class as a number, as in Cityscapes, each of these counts too.
    """

    files: int
    objects: int
    most: int
    """Instances in the fullest map."""
    crossing: int
    """Instances that lie in several classes."""
    ragged: int
    """Instances with less than a tenth of their pixels in other classes."""


@dataclass(frozen=True)
class Report:
    """What the doctor found in a data folder.

    Args:
        root: the folder.
        quick: whether only the quick part was done.
        findings: errors first, then warnings, then notes; sorted by kind and path.
        splits: counts by split.
        classes: one row a class; empty where `classes.json` cannot be read.
        sizes: by split, how many scenes there are of each size, written `height x width`.
        instances: by split, where there are instance maps and they were read.
        forms: of `inputs` and `photos`, how many files there are of each form, such as `3 channels of 16 bits`.
    """

    root: str
    quick: bool
    findings: list[Finding]
    splits: dict[str, SplitCount]
    classes: list[ClassRow]
    sizes: dict[str, dict[str, int]]
    instances: dict[str, InstanceCount]
    forms: dict[str, dict[str, int]]

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def stops_training(self) -> bool:
        """Whether `train` would stop, at once or at the first look at some file of `train` or `val`."""
        return bool(self.errors)

    def require(self) -> None:
        """Refuse the folder where something in it would stop a training.

        Raises:
            UserError: naming the first such file and what is wrong with it.
        """
        errors = self.errors
        if errors:
            rest = f" ({len(errors) - 1} more: `photogram check {self.root}`)" if len(errors) > 1 else ""
            raise UserError(f"{errors[0]}{rest}")

    def to_json(self) -> dict[str, object]:
        """For programs: dictionaries, lists, texts and numbers only."""
        return {**asdict(self), "stops_training": self.stops_training}


def forms_of(facts: Iterable[Facts]) -> dict[str, dict[str, int]]:
    """What the headers of inputs and photographs say, the most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for fact in facts:
        for part, (_, form) in fact.forms.items():
            counts.setdefault(part, Counter())[str(form)] += 1
    return {part: dict(counts[part].most_common()) for part in sorted(counts)}


_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def render(report: Report, console: Console) -> None:
    """Show a report to people: tables of splits and classes, the findings by kind, and the verdict.

    Long lists are cut, with a count; `Report.to_json` has everything.
    """
    console.print(_split_table(report))
    if report.forms.keys() - {"photos"} or list(report.forms.get("photos", {})) not in ([], ["3 channels of 8 bits"]):
        console.print(_forms_line(report), soft_wrap=True)
    if any(row.shares for row in report.classes):
        console.print(_class_table(report))
    for line in _finding_lines(report):
        console.print(line, soft_wrap=True)
    console.print(_verdict(report), soft_wrap=True)


def _split_table(report: Report) -> Table:
    table = Table(title=Text(report.root), title_justify="left")
    asked = any(count.inputs for count in report.splits.values())
    inputs = ("inputs",) if asked else ()
    for name in ("split", *inputs, "layouts", "photos", "pairs", "instance maps", "instances", "height x width"):
        table.add_column(name, justify="left" if name in ("split", "height x width") else "right")
    for split, count in report.splits.items():
        objects = report.instances.get(split)
        sizes = [f"{size} ({n})" if n > 1 else size for size, n in report.sizes[split].items()]
        table.add_row(
            Text(split),
            *([f"{count.inputs:,}"] if asked else []),
            *(f"{n:,}" for n in (count.layouts, count.photos, count.pairs, count.instances)),
            f"{objects.objects:,}" if objects else "",
            ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""),
        )
    return table


def _forms_line(report: Report) -> Text:
    """What is unusual enough to be said: what networks will be asked with, and learn to make."""
    parts = []
    for part, counts in report.forms.items():
        several = len(counts) > 1
        parts.append(f"{part}: {', '.join(f'{form} ({n:,})' if several else form for form, n in counts.items())}")
    return Text("; ".join(parts))


def _class_table(report: Report) -> Table:
    """The largest classes, in order of their numbers."""
    splits = list(report.classes[0].shares)
    largest = sorted(report.classes, key=lambda row: (-max(row.shares.values()), row.id))[:_ROWS]
    rest = len(report.classes) - len(largest)
    table = Table(caption=f"and {rest} smaller classes" if rest else None, caption_justify="left")
    table.add_column("class", justify="right")
    table.add_column("name")
    for split in splits:
        table.add_column(Text(f"{split}, % of pixels"), justify="right")
        table.add_column("in layouts", justify="right")
    for row in sorted(largest, key=lambda row: row.id):
        cells = [cell for s in splits for cell in (f"{100 * row.shares[s]:.2f}", f"{row.layouts[s]:,}")]
        table.add_row(str(row.id), Text(row.name + (" (void)" if row.void else "")), *cells)
    return table


def _finding_lines(report: Report) -> Iterator[Text]:
    for (severity, kind), group in groupby(report.findings, key=lambda f: (f.severity, f.kind)):
        findings = list(group)
        yield Text.assemble((severity, _STYLES[severity]), " ", (kind, "bold"), f" ({len(findings)})")
        for finding in findings[:_LINES]:
            yield Text(f"  {_brief(finding, report.root)}")
        if len(findings) > _LINES:
            rest = f"{len(findings) - _LINES:,} more of this kind"
            yield Text(f"  and {rest}; `photogram check {report.root} --json` lists all")


def _brief(finding: Finding, root: str) -> str:
    """On a line or two, and without the folder, which stands above the tables."""
    text = str(finding).removeprefix(f"{root}/")
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."


def _verdict(report: Report) -> Text:
    counts = [sum(f.severity == severity for f in report.findings) for severity in SEVERITIES]
    text = ", ".join(f"{n:,} {word}{'' if n == 1 else 's'}" for n, word in zip(counts, SEVERITIES, strict=True))
    if report.stops_training:
        return Text(f"{text}: training would stop", style="bold red")
    return Text(f"{text}: nothing stops a training", style="bold green")
