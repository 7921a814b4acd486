"""How long the commands take before they work, beside Python itself and beside importing torch, in one run.

    python benchmarks/startup.py

Shown are medians over interleaved repetitions, and their ratio to `import torch`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from photogram.data.toy import write_toy
from photogram.data.toy_layout import CLASSES
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.scene import SceneSpec


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_toy(folder / "data", size=(32, 64), train=2, val=1, quiet=True)
        torch.manual_seed(0)
        CascadedRefinementNetwork(spec=SceneSpec(CLASSES, (32, 64)), widths=(8, 8)).save_pretrained(folder / "network")
        photogram, network = [sys.executable, "-m", "photogram"], str(folder / "network")
        layouts = str(data / "val" / "layouts")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "python -c 'import photogram'": [sys.executable, "-c", "import photogram"],
            "photogram --help": [*photogram, "--help"],
            "photogram train crn --help": [*photogram, "train", "crn", "--help"],
            "photogram check, three scenes": [*photogram, "check", str(data)],
            "photogram synthesize, one painting": [*photogram, "synthesize", network, layouts, "--out"],
        }
        spent: dict[str, list[float]] = {label: [] for label in commands}
        for turn in range(repeats):
            for label, command in commands.items():
                out = [str(folder / f"painted-{turn}")] if command[-1] == "--out" else []
                spent[label].append(seconds([*command, *out]))
    torch_alone = statistics.median(spent["python -c 'import torch'"])
    print("| command | seconds | spread | times `import torch` |\n| --- | --- | --- | --- |")
    for label, times in spent.items():
        middle = statistics.median(times)
        spread = (max(times) - min(times)) / middle
        print(f"| `{label}` | {middle:.2f} | {spread:.0%} | {middle / torch_alone:.2f} |")


if __name__ == "__main__":
    main()
