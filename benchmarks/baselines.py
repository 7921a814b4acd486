"""CRN against the five systems of its paper: the same data and wall time for each, judged by one protocol.

    python benchmarks/baselines.py --data camvid --out runs/baselines --minutes 10

Run it again with more minutes and each goes on from where it stands. Nothing else should run meanwhile: what is equal
is time, not steps. The steps that each took are printed, and `photogram evaluate` judges all of them side by side.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

SEGMENTER = Path(__file__).parents[1] / "photogram/metrics/protocols/camvid-192x256-v1"
CRN = ["--widths", "256", "256", "256", "256", "192", "96", "48"]
SQUEEZENET = ["--perceptual", "squeezenet"]
SYSTEMS: dict[str, list[str]] = {
    "crn": ["crn", *CRN, *SQUEEZENET],
    "full-resolution": ["full-resolution", "--width", "48", *SQUEEZENET],
    "encoder-decoder": [
        *("encoder-decoder", "--down", "48", "96", "192", "256", "256", "256", "256"),
        *("--up", "256", "256", "256", "192", "96", "48", *SQUEEZENET),
    ],
    "isola": ["pix2pix", "--levels", "6", "--width", "48"],
    "gan-segmentation": [
        *("gan-segmentation", "--segmenter", str(SEGMENTER), "--segmentation", "10"),
        *("--widths", "64", "128", "192", "256", "256", "256"),
        *("--discriminator-widths", "48", "96", "192", "256", "256", "256"),
    ],
    "image-space": ["crn", *CRN, "--perceptual", "none"],
}
"""From the best to the worst, in the paper's order; sizes that a CPU can train, about as much work a step each.

The segmenter's word has the weight 10: at 1 the critic drowned it, and one picture was painted for all (LOG.md)."""
NEVER = 10**9


def elapsed(record: Path) -> float:
    return float(json.loads(record.read_text())["seconds"]) if record.exists() else 0.0


def train(name: str, asked: argparse.Namespace) -> None:
    """Train one system until its time is used; it stops softly, so that the next call goes on."""
    run, record = asked.out / name, asked.out / f"{name}.json"
    left = 60 * asked.minutes - elapsed(record)
    if left <= 5:
        return
    size = [str(n) for n in asked.size]
    command = [sys.executable, "-m", "photogram", "train", *SYSTEMS[name], "--data", str(asked.data)]
    command += ["--out", str(run), "--size", *size, "--steps", str(NEVER), "--save-every", "100000"]
    began = time.monotonic()
    said = asked.out / f"{name}.txt"
    with said.open("a") as output:
        process = subprocess.Popen([*command, "--workers", "0", *asked.extra], stdout=output, stderr=output)
        try:
            process.wait(left)
            sys.exit(f"{name}: ended by itself with status {process.returncode}; see {said}")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
    record.write_text(json.dumps({"seconds": elapsed(record) + time.monotonic() - began}))


def steps(run: Path) -> int:
    return len((run / "log.jsonl").read_text().splitlines())


def judge(asked: argparse.Namespace, protocol: str, more: list[str]) -> None:
    command = [sys.executable, "-m", "photogram", "evaluate", *(str(asked.out / name) for name in asked.systems)]
    command += ["--protocol", protocol, "--data", str(asked.data), "--out", str(asked.out / "evaluation"), "--html"]
    subprocess.run([*command, *more], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256))
    parser.add_argument("--trunk-file", type=Path, help="of vgg16_hed: also judge through what none was trained under")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    asked, asked.extra = parser.parse_known_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.systems:
        train(name, asked)
        print(f"{name}: {steps(asked.out / name)} steps in {elapsed(asked.out / f'{name}.json') / 60:.1f} minutes")
    judge(asked, "camvid-192x256-v1", [])
    if asked.trunk_file:
        judge(asked, "camvid-192x256-edges-v1", ["--trunk-file", str(asked.trunk_file)])


if __name__ == "__main__":
    main()
