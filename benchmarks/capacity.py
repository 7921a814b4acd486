"""Does a wider CRN paint better? The claim of Chen and Koltun 2017, at sizes that a CPU can train.

    python benchmarks/capacity.py --data camvid --out runs/capacity --steps 3000

Networks of three widths see the same photographs in the same order for the same number of steps. Run it again and
finished steps are not done again. Shown are the training loss at the end, and measures on held-out scenes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from photogram.metrics.protocol import load_protocol

WIDEST = (256, 256, 256, 256, 192, 96)
SHARES = {"quarter": 4, "half": 2, "full": 1}


def run(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "photogram", *map(str, words)], check=True)


def at_the_end(log: Path, share: float = 0.2) -> float:
    """The mean training loss of the last steps."""
    values = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    last = values[-max(1, round(share * len(values))) :]
    return sum(last) / len(last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/capacity"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128))
    parser.add_argument("--trunk-file", type=Path, help="of vgg16_hed: judge through what none was trained under")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, share in SHARES.items():
        where = ("--data", asked.data, "--out", asked.out / name, "--size", *asked.size, "--steps", asked.steps)
        widths = [width // share for width in WIDEST]
        run("train", "crn", *where, "--widths", *widths, "--perceptual", "squeezenet", "--workers", 0)
        print(f"{name}: widths {widths}, training loss {at_the_end(asked.out / name / 'log.jsonl'):.1f}", flush=True)
    shipped = load_protocol("camvid-192x256-edges-v1" if asked.trunk_file else "camvid-192x256-v1").to_json()
    size = "x".join(map(str, asked.size))
    local = {**shipped, "name": f"capacity-{size}", "size": list(asked.size), "scenes": "", "segmenter": ""}
    protocol = asked.out / "protocol.json"
    protocol.write_text(json.dumps({**local, "segmenter_sha256": ""}))
    trunk = ["--trunk-file", asked.trunk_file] if asked.trunk_file else []
    runs = [asked.out / name for name in SHARES]
    run("evaluate", *runs, "--protocol", protocol, "--data", asked.data, "--out", asked.out / "evaluation", *trunk)


if __name__ == "__main__":
    main()
