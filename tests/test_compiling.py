"""Networks that torch compiles before they paint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from photogram.collecting import collect
from photogram.compiling import compiled
from photogram.data.toy import write_toy
from photogram.data.toy_layout import CLASSES
from photogram.errors import UserError
from photogram.images import read_photo
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.scene import SceneSpec
from photogram.synthesis import synthesize


@pytest.fixture
def network(tmp_path: Path) -> CascadedRefinementNetwork:
    torch.manual_seed(0)
    found = CascadedRefinementNetwork(spec=SceneSpec(CLASSES, (16, 32)), widths=(8, 8))
    found.save_pretrained(tmp_path / "network")
    return found


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.timeout(600)
def test_compiled_paintings_are_the_same_again_and_near_the_others(network: CascadedRefinementNetwork, tmp_path: Path):
    """By the command, in a process without the hooks of the tests, which a compiler does not understand."""
    data = write_toy(tmp_path / "data", size=(16, 32), train=2, val=3, quiet=True)
    layouts = str(data / "val" / "layouts")

    def paint(out: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "photogram", "synthesize", str(tmp_path / "network"), layouts]
        known = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), **environment}
        command += ["--out", str(tmp_path / out), "--precision", "fp32", *more]
        return subprocess.run(command, capture_output=True, text=True, env=known)

    refused = paint("none", "--compile", CXX="/nonexistent")
    assert refused.returncode == 1 and "--compile: torch cannot compile this network here (" in refused.stderr
    assert "Traceback" not in refused.stderr and not (tmp_path / "none").exists()
    for out, more in (("plain", []), ("once", ["--compile"]), ("twice", ["--compile"])):
        if out == "twice":  # as if a compiler had been killed: in the midst of its files
            for path in (tmp_path / "cache").rglob("*.so"):
                path.write_bytes(b"")
        done = paint(out, *more)
        assert done.returncode == 0, done.stderr[-2000:]
    for path in sorted((tmp_path / "once").glob("*.png")):
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()
        apart = np.abs(read_photo(path).astype(int) - read_photo(tmp_path / "plain" / path.name))
        assert apart.max() <= 1
    without = paint("once")
    assert without.returncode == 1 and "was begun with compile = true, not false" in without.stderr


def test_nothing_else_waits_for_the_compiler_to_be_imported():
    looked = "import sys, photogram.synthesis, photogram.training; print('torch._inductor.utils' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_is_for_one_size(network: CascadedRefinementNetwork, tmp_path: Path):
    write_toy(tmp_path / "data", size=(16, 32), train=1, val=1, quiet=True)
    inputs = collect([str(tmp_path / "data" / "val" / "layouts")])
    with pytest.raises(UserError, match="--compile: compiles for one size, which --size native is not"):
        synthesize(network, inputs, tmp_path / "out", size="native", compile=True, quiet=True)
    assert not (tmp_path / "out").exists()


def test_what_a_compiler_says_is_one_line_and_leaves_the_network_as_it_was(
    network: CascadedRefinementNetwork, monkeypatch: pytest.MonkeyPatch
):
    def broken(**options: object) -> None:
        def fail(*given: object) -> None:
            raise RuntimeError("no such instruction\nand more of it")

        network._compiled_call_impl = fail

    monkeypatch.setattr(network, "compile", broken)
    said = r"^--compile: torch cannot compile this network here \(no such instruction and more of it\); leave it out$"
    with pytest.raises(UserError, match=said), compiled(network, (16, 32)):
        pytest.fail("it was entered")
    assert network._compiled_call_impl is None
