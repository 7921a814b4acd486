"""The direction of imports (docs/architecture.md, section 2), and what starting the command line must not load."""

import ast
import re
import subprocess
import sys
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "photogram"
FILES = sorted(PACKAGE.rglob("*.py"))

LEAVES = {"errors", "progress", "allocator"}  # import nothing of ours
GROUND = {*LEAVES, "images", "rasters", "scene", "generator"}
VERBS = {"training", "synthesis", "planning", "metrics", "editor", "study", "interop", "data", "quickstart"}
FRONT = {"cli", "commands", "__main__", ""}  # "" is the package itself, whose names are lazy
PARTS = {"losses", "nn", "optim"}  # what recipes are made of

MAY_IMPORT = {
    **{part: set() for part in LEAVES},
    "images": {"errors"},
    "rasters": {"errors", "images"},
    "scene": {"errors", "images", "rasters"},
    "generator": {"errors", "progress", "images", "scene"},
    "recipe": GROUND,
    "styled": GROUND | {"nn"},
    **dict.fromkeys(PARTS, GROUND | PARTS),
    "recipes": GROUND | PARTS | {"recipe", "recipes", "styled"},
}
"""What each part below the verbs may import; the others may import what `FORBIDDEN` leaves them."""

FORBIDDEN = {
    **{part: FRONT | {"recipes", "interop"} for part in ("training", "synthesis", "planning", "metrics", "study")},
    "data": FRONT | {"recipes"} | (VERBS - {"data"}),
    "editor": FRONT,
    "interop": FRONT,
    "quickstart": FRONT,
    "cli": {"__main__"},
    "commands": {"__main__"},
    "__main__": set(),
    "": {"__main__", "cli", "commands"},
}
OTHERS = FRONT | {
    "recipes",
    "interop",
}  # forbidden to helpers that no rule names: loading, checkpoint, sheets, ...


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`photogram.data.folder` is of the part `data`."""
    return (*module.split("."), "")[1]


def imported(source: str, module: str, package: bool) -> set[str]:
    """Modules that a source imports, wherever in it; of `from photogram import scene` the full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                home = module.split(".")[: None if package and node.level == 1 else 1 - node.level - (not package)]
                base = ".".join([*home, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" if base == "photogram" else base for alias in node.names}
    return found


def wrong_imports(source: str, module: str, package: bool = False) -> list[str]:
    """The imports of a source that go against the arrows."""
    part, wrong = part_of(module), []
    for name in sorted(imported(source, module, package)):
        if name != "photogram" and not name.startswith("photogram."):
            continue
        target = part_of(name)
        if target.startswith("__") or (name.startswith("photogram.") and not is_part(target)):
            target = target if target == "__main__" else ""  # a name of the package itself
        if target == part:
            continue
        allowed = target in MAY_IMPORT[part] if part in MAY_IMPORT else target not in FORBIDDEN.get(part, OTHERS)
        if not allowed:
            wrong.append(f"{module} imports {name}")
    return wrong


def is_part(name: str) -> bool:
    return name in MAY_IMPORT or name in VERBS | FRONT or (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path))
def test_imports_go_one_way(path):
    assert not wrong_imports(path.read_text(encoding="utf-8"), module_of(path), path.name == "__init__.py")


@pytest.mark.parametrize(
    ("module", "source"),
    (
        ("photogram.training", "from photogram.recipes.crn import CRN"),
        ("photogram.training", "def f():\n    import photogram.recipes"),
        ("photogram.training", "from photogram import recipes"),
        ("photogram.training", "from .recipes import crn"),
        ("photogram.training", "from . import cli"),
        ("photogram.synthesis", "from photogram.recipes import load"),
        ("photogram.planning", "from photogram.cli import main"),
        ("photogram.metrics.lpips", "from photogram.recipes import crn"),
        ("photogram.metrics.lpips", "from ..recipes import crn"),
        ("photogram.data.folder", "from photogram.training import train"),
        ("photogram.data.folder", "from photogram.recipes.crn import CRN"),
        ("photogram.loading", "from photogram.recipes.crn import CRN"),
        ("photogram.loading", "from photogram import load"),
        ("photogram.recipes.crn", "from photogram.training import train"),
        ("photogram.recipes.crn", "from photogram.data.folder import Folder"),
        ("photogram.nn.resnet", "from photogram.recipes.crn import CRN"),
        ("photogram.scene", "from photogram.generator import Generator"),
        ("photogram.images", "from photogram.scene import Size"),
        ("photogram.progress", "from photogram.errors import UserError"),
        ("photogram.editor.app", "from photogram.cli import main"),
        ("photogram.cli", "import photogram.__main__"),
    ),
)
def test_an_import_against_the_arrows_is_seen(module, source):
    assert wrong_imports(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    (
        ("photogram.cli", "from photogram.training import train\nfrom photogram.recipes import Recipe"),
        (
            "photogram.recipes.pix2pix",
            "from photogram.nn.resnet import Block\nfrom photogram.recipes.crn import CRN",
        ),
        (
            "photogram.recipes.crn",
            "from photogram.losses import vgg\nfrom ..scene import Scene\nfrom . import gan",
        ),
        ("photogram.editor.app", "from photogram.recipes import load"),
        ("photogram.__main__", "from photogram.cli import main"),
        ("photogram.data.folder", "import torch, numpy.random\nfrom photogram.data.toy import plan"),
    ),
)
def test_an_import_along_the_arrows_passes(module, source):
    assert wrong_imports(source, module) == []


def test_no_imports_go_in_circles():
    sources = {module_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for module, path in sources.items():
        names = imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        graph[module] = {name for name in names if name in sources and name != module}
    graph["photogram"] = set()  # its names load lazily
    while free := {module for module, needs in graph.items() if not needs & graph.keys()}:
        for module in free:
            del graph[module]
    assert not graph, f"these import each other: {sorted(graph)}"


def test_torchvision_is_not_needed():
    """Published weights are read without it, so neither the package nor its extras may ask for it."""
    for path in FILES:
        names = imported(path.read_text(encoding="utf-8"), module_of(path), path.name == "__init__.py")
        assert not {name for name in names if name.split(".")[0] == "torchvision"}, path
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [
        *project["dependencies"],
        *(word for extra in project["optional-dependencies"].values() for word in extra),
    ]
    assert not [word for word in asked if re.match(r"torchvision\b", word)]
    assert find_spec("torchvision") is None, "the tests must run where torchvision is absent"


HEAVY = (
    "torch",
    "accelerate",
    "numpy",
    "PIL",
    "safetensors",
    "tensorboard",
    "photogram.recipes",
    "photogram.training",
)


def loaded_by(*arguments: str) -> set[str]:
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_help_loads_no_torch():
    names = loaded_by("-m", "photogram", "--help")
    assert "photogram" in names, "the measurement itself works"
    assert not names & set(HEAVY)


def test_importing_the_package_loads_no_torch():
    assert not loaded_by("-c", "import photogram; photogram.__version__; dir(photogram)") & set(HEAVY)
    assert "torch" not in loaded_by("-c", "import photogram.images, photogram.progress")


def fastest(*arguments: str, runs: int = 5) -> float:
    """Seconds that a start of Python takes, undisturbed."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=120, cwd=ROOT)
        times.append(time.perf_counter() - start)
    return min(times)


def test_help_answers_in_under_half_a_second():
    """As a ratio, so that a busy machine does not fail it: a bare start takes some 30 ms on an idle one."""
    assert fastest("-m", "photogram", "--help") < 15 * fastest("-c", "pass")
