"""What the documents say: the README's commands and Python run as written, links lead somewhere, the tree exists."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from photogram.cli import main
from photogram.data.toy import Toy
from photogram.images import write_image
from photogram.metrics.protocol import load_protocol
from photogram.scene import to_pixels

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


VAL = ["0016E5_07500", "0016E5_07530", "0016E5_07560", "0016E5_07590"]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [body for of, body in found if of == language]


def write_camvid(folder: Path) -> None:
    """A small tree in the form that SegNet's tutorial gave CamVid, with toy scenes and the names of real ones."""
    for split, names in (("train", ["0016E5_01", "0016E5_02", "0016E5_03"]), ("val", VAL)):
        toy = Toy(split, size=(90, 120), count=len(names))
        for n, name in enumerate(names):
            scene = toy[n, 0]
            assert scene.photo is not None and scene.condition.layout is not None
            (folder / split).mkdir(parents=True, exist_ok=True)
            (folder / f"{split}annot").mkdir(parents=True, exist_ok=True)
            write_image(to_pixels(scene.photo[0]).numpy(), folder / split / f"{name}.png")
            classes = np.minimum(scene.condition.layout.classes[0].numpy(), 11).astype(np.uint8)
            write_image(classes, folder / f"{split}annot" / f"{name}.png")


@pytest.mark.timeout(600)
def test_the_readmes_commands_and_python_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in order, in a folder with a small CamVid; a ten-thousandth of the steps."""
    write_camvid(tmp_path / "CamVid")
    monkeypatch.chdir(tmp_path)
    commands = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    ours = [shlex.split(line)[1:] for line in commands if line.startswith("photogram ")]
    verbs = ["prepare", "check", "plan", "train", "train", "synthesize", "evaluate", "prepare", "train", "synthesize"]
    assert [words[0] for words in ours] == verbs
    for words in ours:
        if "--protocol" in words:  # the same protocol, of the few scenes that are here
            at = words.index("--protocol") + 1
            few = replace(load_protocol(words[at]), count=len(VAL), scenes="", resamples=20)
            Path("few.json").write_text(json.dumps(few.to_json()))
            words[at] = "few.json"
        if "--steps" in words:
            at = words.index("--steps") + 1
            words[at] = str(int(words[at]) // 10_000)
        assert main(words) == 0, words
    assert len((tmp_path / "runs/camvid/log.jsonl").read_text().splitlines()) == 4
    assert (tmp_path / "painted/sheet.png").is_file() and (tmp_path / "drawn/sheet.png").is_file()
    judged = json.loads((tmp_path / "evaluation/camvid-192x256-v1/camvid/result.json").read_text())
    assert 0 <= judged["measures"]["mean_iou"]["value"] <= 1
    assert (tmp_path / "evaluation/camvid-192x256-v1/evaluation.html").is_file()
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102
    assert (tmp_path / "photo.png").is_file()


def test_the_readmes_classes_are_a_classes_json(tmp_path: Path) -> None:
    from photogram.scene import read_classes

    (example,) = blocks("json")
    (tmp_path / "classes.json").write_text(example)
    assert [c.name for c in read_classes(tmp_path / "classes.json")] == ["sky", "road", "unlabelled"]


def test_the_readmes_two_commands_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("quickstart", "test", "lint", "types", "bench", "long", "faults"):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_path_in_the_tree_exists() -> None:
    tree = next(block for block in blocks("") if block.startswith("photogram/"))
    missing = []
    for line in tree.splitlines():
        inside = line.startswith("  ")
        for name in re.findall(r"^\s*([\w./]+(?:, [\w.]+)*)", line)[0].split(", "):
            path = ROOT / ("photogram" if inside else ".") / name
            if not path.exists():
                missing.append(name)
    assert not missing


@pytest.mark.parametrize(
    "page", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith(("http:", "https:")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_pictures_and_weights_in_the_repository_are_small() -> None:
    for picture in (ROOT / "docs").rglob("*.[pjw][npe][gb]*"):
        assert picture.stat().st_size < 300_000, picture
    weights = [*ROOT.glob("photogram/weights/*"), *ROOT.glob("photogram/metrics/protocols/*/*")]
    assert sum(p.stat().st_size for p in weights) < 15_000_000
