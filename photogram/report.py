"""What a run says of itself: the model card, and `report.html`, one file that opens offline."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from photogram.advice import STEPS, advice, is_diagnostic
from photogram.generator import Generator, Network, Reader, UnaskedGenerator
from photogram.images import replacing
from photogram.runlog import diagnostics_of

_PAINTING = (
    'generator = photogram.load("this folder")',
    "layout = photogram.Layout.open({files})",
    "photo = generator.sample(layout.resized(generator.spec.size), seed=0)",
    'photogram.save(photo, "photo.png")',
)
_PAINTING_UNASKED = (
    'generator = photogram.load("this folder")',
    "photo = generator.sample(seed=0)  # every seed is another photograph",
    'photogram.save(photo, "photo.png")',
)
_PAINTING_IMAGES = (
    "from pathlib import Path",
    "from photogram.conditions import open_condition",
    "",
    'generator = photogram.load("this folder")',
    'asked = open_condition(Path("{source}"), generator.spec, generator.spec.size)',
    "photo = generator.sample(asked, seed=0)",
    'photogram.save(photo, "photo.{suffix}", bits={bits})',
)
_READING = (
    "from photogram.images import read_photo, resize_photo",
    "from photogram.scene import from_pixels",
    "",
    'segmenter = photogram.load("this folder")',
    'photo = from_pixels(resize_photo(read_photo("photo.jpg"), segmenter.spec.size))[None]',
    "classes = segmenter.predict(photo)  # [1, h, w], indices of the classes below",
)


def model_card(network: Network, facts: Mapping[str, str]) -> str:
    """The `README.md` of a published network: what it is, what it was trained on, how to use it."""
    spec = network.spec
    parameters = sum(p.numel() for p in network.parameters())
    use = _use(network)
    classes = [f"- {n}: {c.name}{' (void)' if c.void else ''}" for n, c in enumerate(spec.classes)]
    lines = [
        f"# {type(network).__name__}",
        "",
        f"A network of [photogram](https://pypi.org/project/photogram), {parameters:,} parameters, trained at "
        f"{spec.size[0]} x {spec.size[1]} (height x width).",
        "",
        "```python",
        "import photogram",
        "",
        *use,
        "```",
        "",
        *(["## Classes", "", *classes, ""] if classes else []),
        "## Training",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        "## Licence",
        "",
        "The code is Apache-2.0. The weights were learned from the photographs named above as `data`, and under a",
        "feature network where one is named: the terms of both apply to what is done with them. CamVid, for instance,",
        "is free for research, and Cityscapes for non-commercial use.",
        "",
    ]
    return "\n".join(lines)


def _use(network: Network) -> Sequence[str]:
    """The shortest program with this network."""
    spec = network.spec
    if isinstance(network, Reader):
        return _READING
    if isinstance(network, UnaskedGenerator):
        return _PAINTING_UNASKED
    if not spec.image_channels:
        objects = isinstance(network, Generator) and network.needs_objects
        files = '"layout.png", "instances.png"' if objects else '"layout.png"'
        return [line.format(files=files) for line in _PAINTING]
    words = {
        "source": "layouts/a.png" if spec.num_classes else "image.png",  # whose image is inputs/a.png
        "suffix": "png" if spec.photo_channels in (1, 3) and spec.photo_bits < 32 else "tif",
        "bits": spec.photo_bits,
    }
    return [line.format(**words) for line in _PAINTING_IMAGES]


def write_report(out: Path, facts: Mapping[str, str]) -> None:
    """Write `report.html` from the run's log and newest sheets, whole or not at all."""
    curves, diagnostics = _curves(out / "log.jsonl")
    named = ((p, re.search(r"step-(\d+)$", p.stem)) for p in sorted((out / "samples").glob("*.png")))
    sheets = {p: int(found[1]) for p, found in named if found}
    newest = [p for p, step in sheets.items() if step == max(sheets.values())]  # several, of several networks
    pictures = "".join(
        f'<h2>{html.escape(p.stem)}</h2><img alt="layouts, paintings and photographs" src="data:image/png;base64,'
        f'{base64.b64encode(p.read_bytes()).decode()}">'
        for p in newest
    )
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>photogram report</title>"
        "<style>body{font:15px system-ui;margin:2em;max-width:70em}th{text-align:left;padding-right:1em}"
        "img{max-width:100%}svg{width:22em;margin:.5em}</style>"
        f"<h1>{html.escape(out.name)}</h1><table>{rows}</table><h2>Losses</h2>{curves}{diagnostics}{pictures}\n"
    )
    with replacing(out / "report.html") as file:
        file.write(page.encode())


def _curves(log: Path) -> tuple[str, str]:
    """Charts of the losses; and of the diagnostics, if there are any, below what to do where they are out of range."""
    written = log.read_text().splitlines()
    apart = max(1, len(written) // 20_000)  # enough to draw any curve
    lines = [json.loads(line) for line in written[apart - 1 :: apart]]  # some of which are of steps with diagnostics
    names = [k for k in dict.fromkeys(k for line in lines for k in line) if k not in ("step", "seen")]
    losses = "".join(_chart(name, lines) for name in names if not is_diagnostic(name))
    diagnostics = "".join(_chart(name, lines) for name in names if is_diagnostic(name))
    if not diagnostics:
        return losses, ""
    said = [f"They are judged by their means over {STEPS} steps, and there are not as many yet."]
    if len(written) >= STEPS:
        said = [
            *advice(diagnostics_of(written)),
            "Other settings need another --out; --from this run takes up what was learned.",
        ]
        if len(said) == 1:
            said = [f"Nothing is out of range (means of the last {STEPS} steps)."]
    paragraphs = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in said)
    return losses, f"<h2>Diagnostics</h2>{paragraphs}{diagnostics}"


def _chart(name: str, lines: Sequence[Mapping[str, float]], points: int = 300) -> str:
    """One small chart: means over equal spans of steps."""
    values = [v[name] for v in lines if name in v]
    span = max(1, len(values) // points)
    means = [sum(values[i : i + span]) / len(values[i : i + span]) for i in range(0, len(values), span)]
    low, high = min(means), max(means)
    scale = (high - low) or 1.0
    drawn = means if len(means) > 1 else means * 2  # one point is no line
    path = " ".join(
        f"{300 * n / (len(drawn) - 1):.1f},{100 - 100 * (v - low) / scale:.1f}" for n, v in enumerate(drawn)
    )
    return (
        f'<svg viewBox="-2 -18 304 136"><text y="-5" font-size="12">{html.escape(name)}: {means[-1]:.4g} '
        f"({low:.4g} to {high:.4g})</text>"
        f'<polyline points="{path}" fill="none" stroke="#2060a0" stroke-width="1.5"/>'
        f'<text y="114" font-size="10">1</text><text x="300" y="114" font-size="10" text-anchor="end">'
        f"{lines[-1]['step']}</text></svg>"
    )
