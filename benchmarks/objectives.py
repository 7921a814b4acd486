"""What pix2pix plays for: L1, a game without and with sight of the layout, and both, as in the paper's table 1.

    python benchmarks/objectives.py --data camvid --out runs/objectives --steps 3000

Five trainings of equally many steps, one after the other, which go on where they were stopped; then `photogram
evaluate` judges them side by side. Told are a few of its measures; `--sheet` shows some scenes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from side_by_side import side_by_side

from photogram.images import write_image

OBJECTIVES: dict[str, list[str]] = {
    "l1": ["--gan", "0"],
    "gan": ["--l1", "0", "--no-discriminator-sees-input"],
    "cgan": ["--l1", "0"],
    "l1-gan": ["--no-discriminator-sees-input"],
    "l1-cgan": [],
}
PROTOCOL = "camvid-192x256-v1"
SHOWN = ["0001TP_008370", "0006R0_f03540", "0016E5_07860", "0016E5_08460"]
TOLD = ("KD[squeezenet]", "LPIPS[squeeze]", "PSNR", "pixel_accuracy", "mean_iou")
SMALL = ["--levels", "6", "--width", "32", "--discriminator-width", "32"]
"""What a CPU can train; the objectives are the paper's."""


def tell(judged: Path) -> None:
    """The table, in Markdown."""
    print(f"| | {' | '.join(TOLD)} |\n|{' --- |' * (len(TOLD) + 1)}")
    for name in OBJECTIVES:
        measures = json.loads((judged / name / "result.json").read_text())["measures"]
        values = (f"{measures[told]['value']:.4g}" for told in TOLD)
        print(f"| {name} | {' | '.join(values)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--shown", nargs="+", default=SHOWN)
    asked, more = parser.parse_known_args()
    for name, flags in OBJECTIVES.items():
        command = [sys.executable, "-m", "photogram", "train", "pix2pix", *SMALL, *flags, "--flip", *more]
        command += ["--data", str(asked.data), "--out", str(asked.out / name), "--steps", str(asked.steps)]
        subprocess.run([*command, "--size", *map(str, asked.size), "--workers", "0"], check=True)
    command = [sys.executable, "-m", "photogram", "evaluate", *(str(asked.out / name) for name in OBJECTIVES)]
    command += ["--protocol", PROTOCOL, "--data", str(asked.data), "--html"]
    subprocess.run([*command, "--out", str(asked.out / "evaluation")], check=True)
    judged = asked.out / "evaluation" / PROTOCOL
    tell(judged)
    if asked.sheet:
        page = side_by_side(judged, list(OBJECTIVES), asked.data, tuple(asked.size), asked.shown)
        write_image(page, asked.sheet)


if __name__ == "__main__":
    main()
