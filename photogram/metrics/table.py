"""Results for people: a table, one page that opens offline, and the images where two systems differ most."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image
from rich.table import Table
from rich.text import Text

from photogram.metrics.result import Difference, Result, differences
from photogram.sheets import sheet

SHOWN = 6
"""Images in a contact sheet."""
REAL = "photographs of these layouts"
"""What the segmenter's own scores are called, beside those of paintings."""

_DIFFERENCE = ("measure", "difference", "95 % interval", "is")


def number(value: float) -> str:
    """Four digits, as a person reads them."""
    if value != value:
        return "-"
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def bounded(result: Result, name: str) -> str:
    """A number and its interval."""
    measure = result.measures.get(name)
    if measure is None:
        return "-"
    text = number(measure.value)
    if measure.interval is not None:
        text += f" [{number(measure.interval.low)}, {number(measure.interval.high)}]"
    if name in result.repeats:
        text += f"; seeds {number(result.repeats[name].mean)} ± {number(result.repeats[name].deviation)}"
    return text


def rows(results: Sequence[Result]) -> list[tuple[str, str, list[str]]]:
    """Name, direction and the numbers of every measure, in order."""
    names = list(dict.fromkeys(name for result in results for name in result.measures))
    arrows = {"higher": "more is better", "lower": "less is better", "": ""}
    table = []
    for name in names:
        measure = next(r.measures[name] for r in results if name in r.measures)
        table.append((name, arrows[measure.better], [bounded(r, name) for r in results]))
    return table


def class_rows(results: Sequence[Result]) -> list[tuple[str, list[str]]]:
    """The IoU of each class: of each system, and last of photographs as the same network reads them."""
    if not all("IoU" in r.per_class for r in results):
        return []
    classes = list(results[0].per_class["IoU"])

    def text(value: float | None) -> str:
        return "-" if value is None else number(value)

    photographs = results[0].per_class["IoU of photographs"]
    return [(c, [text(r.per_class["IoU"][c]) for r in results] + [text(photographs[c])]) for c in classes]


def tables(results: Sequence[Result]) -> list[Table]:
    """For a terminal: the measures, the classes, and the differences between each and the first."""
    protocol = results[0].protocol
    main = Table(title=f"{protocol.name}, {results[0].subject['images']} images")
    main.add_column("measure")
    for result in results:
        main.add_column(result.subject["name"], justify="right")
    main.add_column("")
    for name, direction, cells in rows(results):
        main.add_row(Text(name), *map(Text, cells), direction)
    made = [main]
    by_class = class_rows(results)
    if by_class:
        classes = Table(title="IoU by class")
        for title in ("class", *(r.subject["name"] for r in results), REAL):
            classes.add_column(title, justify="left" if title == "class" else "right")
        for name, cells in by_class:
            classes.add_row(Text(name), *map(Text, cells))
        made.append(classes)
    for other in results[1:]:
        found = differences(results[0], other)
        made += [_difference_table(results[0], other, found)] if found else []
    return made


def _difference_table(first: Result, other: Result, found: dict[str, Difference]) -> Table:
    table = Table(title=f"{other.subject['name']} minus {first.subject['name']}, on the same resamples")
    for title in _DIFFERENCE:
        table.add_column(title)
    for name, difference in found.items():
        table.add_row(Text(name), *map(Text, _difference_cells(difference, first.better(name))))
    return table


def _difference_cells(difference: Difference, better: str) -> list[str]:
    bounds = f"[{number(difference.interval.low)}, {number(difference.interval.high)}]"
    verdict = "undecided"
    if difference.decided:
        verdict = "" if not better else "better" if (difference.value > 0) == (better == "higher") else "worse"
    return [number(difference.value), bounds, verdict]


Read = Callable[[str], np.ndarray]
"""A name to an image, uint8 [h, w, 3]."""


def most_different(results: Sequence[Result], count: int = SHOWN) -> list[str]:
    """The names of the images where systems differ most in LPIPS; of one system alone, where it is worst; the first,
    where photographs have no pairs."""
    shared = [name for name in results[0].per_image if all(name in r.per_image for r in results)]
    key = next((name for name in shared if name.startswith("LPIPS")), None)
    if key is None:
        return list(results[0].names[:count])
    values = np.array([r.per_image[key] for r in results])
    apart = values.max(0) - values.min(0) if len(results) > 1 else values[0]
    return [results[0].names[n] for n in np.argsort(-apart, kind="stable")[:count]]


def contact_sheet(names: Sequence[str], layout: Read, paintings: Mapping[str, Read], photo: Read) -> np.ndarray:
    """Some images of each system, by its name, between their layouts and their photographs."""
    columns = ["layout", *paintings, "photograph"]
    tiles = [(name, [layout(name), *(read(name) for read in paintings.values()), photo(name)]) for name in names]
    return sheet(columns, tiles)


def page(results: Sequence[Result], contact: np.ndarray) -> str:
    """One HTML file with everything, which needs nothing else."""
    protocol = results[0].protocol
    title = f"{', '.join(r.subject['name'] for r in results)} by {protocol.name}"
    heads = "".join(f"<th>{html.escape(str(r.subject['name']))}</th>" for r in results)
    body = "".join(_row(name, [*cells, direction]) for name, direction, cells in rows(results))
    classes = "".join(_row(name, cells) for name, cells in class_rows(results))
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(protocol.about)}</p>"]
    warnings = dict.fromkeys(w for r in results for w in r.warnings)
    parts += [f"<p class=warning>{html.escape(w)}</p>" for w in warnings]
    parts.append(f"<table><tr><th></th>{heads}<th></th></tr>{body}</table>")
    if classes:
        parts.append(f"<h2>IoU by class</h2><table><tr><th></th>{heads}<th>{REAL}</th></tr>{classes}</table>")
    for other in results[1:]:
        parts.append(_difference_html(results[0], other))
    encoded = io.BytesIO()
    Image.fromarray(contact).save(encoded, "PNG")
    picture = base64.b64encode(encoded.getvalue()).decode()
    what = "Where they differ most" if len(results) > 1 else "Where it is worst"
    what = what if results[0].per_image else "The first"
    parts.append(f'<h2>{what}</h2><img alt="layouts, paintings, photographs" src="data:image/png;base64,{picture}">')
    parts.append(f"<h2>Provenance</h2><pre>{html.escape(_provenance(results))}</pre>")
    style = (
        "body{font:15px system-ui;margin:2em;max-width:75em}th{text-align:left;padding-right:1em}"
        "td{padding-right:1em;text-align:right}img{max-width:100%}.warning{background:#fff3cd;padding:.5em}"
    )
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{style}</style>"
    return "".join([head, *parts, "\n"])


def _row(name: str, cells: Sequence[str]) -> str:
    return f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _difference_html(first: Result, other: Result) -> str:
    found = differences(first, other)
    if not found:
        return ""
    heads = "".join(f"<th>{html.escape(title)}</th>" for title in _DIFFERENCE)
    cells = f"<tr>{heads}</tr>"
    cells += "".join(_row(name, _difference_cells(d, first.better(name))) for name, d in found.items())
    names = (html.escape(str(r.subject["name"])) for r in (other, first))
    return f"<h2>{' minus '.join(names)}, on the same resamples</h2><table>{cells}</table>"


def _provenance(results: Sequence[Result]) -> str:
    known = {**results[0].protocol.to_json(), **results[0].provenance}
    lines = [f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in known.items()]
    return "\n".join([*lines, *(f"{r.subject['name']}: sha256 {r.subject['sha256']}" for r in results)])
