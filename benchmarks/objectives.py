"""What pix2pix plays for: L1, a game without and with sight of the layout, and both, as in the paper's table 1.

    python benchmarks/objectives.py --data camvid --out runs/objectives --steps 3000

Five trainings of equally many steps, one after the other, which go on where they were stopped; then `photogram
evaluate` judges them side by side.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

OBJECTIVES: dict[str, list[str]] = {
    "l1": ["--gan", "0"],
    "gan": ["--l1", "0", "--no-discriminator-sees-input"],
    "cgan": ["--l1", "0"],
    "l1-gan": ["--no-discriminator-sees-input"],
    "l1-cgan": [],
}
SMALL = ["--levels", "6", "--width", "32", "--discriminator-width", "32"]
"""What a CPU can train; the objectives are the paper's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256))
    asked, more = parser.parse_known_args()
    for name, flags in OBJECTIVES.items():
        command = [sys.executable, "-m", "photogram", "train", "pix2pix", *SMALL, *flags, "--flip", *more]
        command += ["--data", str(asked.data), "--out", str(asked.out / name), "--steps", str(asked.steps)]
        subprocess.run([*command, "--size", *map(str, asked.size), "--workers", "0"], check=True)
    command = [sys.executable, "-m", "photogram", "evaluate", *(str(asked.out / name) for name in OBJECTIVES)]
    command += ["--protocol", "camvid-192x256-v1", "--data", str(asked.data), "--html"]
    subprocess.run([*command, "--out", str(asked.out / "evaluation")], check=True)


if __name__ == "__main__":
    main()
