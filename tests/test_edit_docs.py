"""What docs/papers/pix2pixhd.md says of editing: its example runs as written, and its table has all that there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch
from tiny_painter import TinyPainter

import photogram
from photogram.editing import EditSession
from photogram.scene import Layout, SceneClass, SceneSpec

PAGE = Path(__file__).parents[1] / "docs/papers/pix2pixhd.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## Editing\n")[2].partition("\n## ")[0]
SIZE = (512, 1024)


def city() -> Layout:
    """Twice as large as the network's pictures: road under sky, two cars, one of them where the example points."""
    numbers = torch.full((1, 2 * SIZE[0], 2 * SIZE[1]), 7, dtype=torch.int32)
    numbers[:, :400] = 23
    numbers[:, 550:700, 900:1100], numbers[:, 550:650, 1300:1500] = 26000, 26003
    return Layout(torch.where(numbers >= 1000, numbers // 1000, numbers).to(torch.uint8), numbers)


def test_the_example_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(SceneClass(f"class {n}", (n, n, n), n == 0) for n in range(35))
    network = TinyPainter(SceneSpec(names, SIZE, instances=True))
    network.style_centres.copy_(torch.rand(35, 4, 3, generator=torch.Generator().manual_seed(0)))
    network.style_counts.fill_(1)
    monkeypatch.setattr(photogram, "load", lambda run: network.eval(), raising=False)
    monkeypatch.chdir(tmp_path)
    for split, stem in (("val", "a"), ("train", "b")):
        for part in ("layouts", "instances", "photos"):
            Path("city", split, part).mkdir(parents=True)
        city().save(f"city/{split}/layouts/{stem}.png", f"city/{split}/instances/{stem}.png")
    photogram.save(torch.rand(1, 3, 2 * SIZE[0], 2 * SIZE[1]) * 2 - 1, "city/train/photos/b.png")
    (example,) = re.findall(r"^```python\n(.*?)^```$", SECTION, flags=re.DOTALL | re.MULTILINE)
    found: dict[str, object] = {}
    exec(example, found)  # noqa: S102
    session, written = found["session"], Layout.open("edited.png", "edited-instances.png")
    assert isinstance(session, EditSession) and found["car"] == (26, 26000)
    assert written.size == session.layout.size == SIZE and 26000 in session.state.instances
    assert written.instances is not None and set(written.instances.unique().tolist()) == {7, 23, 26003}
    assert session.state.things == frozenset(range(24, 34))
    assert Path("painted.png").is_file() and Path("edit.npz").is_file()


def test_all_operations_are_in_the_table() -> None:
    table = "\n".join(line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`(?:EditSession\.)?(\w+)[`(]", table))
    inner = {"styled", "made_with"}
    public = {name for name in vars(EditSession) if not name.startswith("_")} - inner
    assert public <= named, sorted(public - named)
    assert "redo" in public and not inner & named
    calls = re.findall(r"`(?:EditSession\.)?(\w+)\((.*?)\)`", table)
    assert len(calls) == len({name for name, _ in calls}) > 17
    for name, given in calls:
        asked = [re.sub(r": [^=]*?( = |$)", r"\1", str(p)) for p in _parameters(name)]
        written = re.sub(r"\s*=\s*", " = ", given.replace('"', "'"))
        assert written == ", ".join(asked), name


def _parameters(name: str) -> list[inspect.Parameter]:
    """Those that are given by position."""
    found = inspect.signature(getattr(EditSession, name)).parameters.values()
    return [p for p in found if p.name != "self" and p.kind is not p.KEYWORD_ONLY]
