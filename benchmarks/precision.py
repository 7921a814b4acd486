"""Does bfloat16 harm? Paintings of the same weights, and trainings of the same budget, against float32.

    python benchmarks/precision.py paintings --data camvid runs/camvid runs/isola       # grey levels apart, per network
    python benchmarks/precision.py training --data camvid --size 96 128 --steps 1500    # and what two seeds differ by
    python benchmarks/precision.py training --toy --steps 600

Paintings more than 2 of 255 grey levels apart on average are flagged. Of trainings, what is asked is whether bf16 and
fp32 differ by more than two seeds do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from photogram.data.folder import Folder
from photogram.data.toy import write_toy
from photogram.generator import Generator, Reader
from photogram.recipes import load

FLAGGED = 2.0
RECIPE = ["crn", "--perceptual", "squeezenet", "--widths", "128", "128", "128", "128", "96", "64"]


def apart(network: Generator, folder: Folder, count: int) -> tuple[float, float]:
    """Mean and greatest absolute difference of paintings in bf16 and fp32, in grey levels."""
    mean, most = [], 0.0
    for n in range(min(count, len(folder))):
        layout = folder[n, 0].condition.layout
        plain = network.sample(layout, seed=n)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network.sample(layout, seed=n)
        difference = 127.5 * (plain - rough).abs()
        mean.append(float(difference.mean()))
        most = max(most, float(difference.max()))
    return statistics.fmean(mean), most


def read_otherwise(network: Reader, folder: Folder, count: int) -> float:
    """The share of pixels that are read as another class in bf16 than in fp32."""
    shares = []
    for n in range(min(count, len(folder))):
        photo = folder[n, 0].photo
        plain = network.predict(photo)
        with torch.autocast("cpu", torch.bfloat16):
            shares.append(float((network.predict(photo) != plain).float().mean()))
    return statistics.fmean(shares)


def paintings(asked: argparse.Namespace) -> None:
    print("| network | bf16 and fp32 apart, mean | most | |\n| --- | --- | --- | --- |")
    for run in asked.runs:
        network = load(run)
        network.to(memory_format=torch.channels_last)
        folder = Folder(asked.data, "val", size=network.spec.size)
        if isinstance(network, Generator):
            mean, most = apart(network, folder, asked.count)
            cells = [f"{mean:.2f} grey levels", f"{most:.0f}", "above 2" if mean > FLAGGED else ""]
        elif isinstance(network, Reader):
            cells = [f"{read_otherwise(network, folder, asked.count):.2%} of pixels read otherwise", "-", ""]
        else:
            continue
        print(f"| {run.name} ({type(network).__name__}) | " + " | ".join(cells) + " |", flush=True)


def trained(data: Path, out: Path, asked: argparse.Namespace, precision: str, seed: int) -> dict[str, float]:
    """Losses at the end of a training, and the distance of its paintings to held-out photographs."""
    size = [str(n) for n in asked.size]
    command = [sys.executable, "-m", "photogram", "train", *RECIPE, "--data", str(data), "--out", str(out)]
    command += ["--size", *size, "--steps", str(asked.steps), "--precision", precision, "--seed", str(seed)]
    subprocess.run([*command, "--workers", "0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    last = lines[-max(1, len(lines) // 5) :]
    found = {name: statistics.fmean(line[name] for line in last) for name in last[0] if name not in ("step", "seen")}
    network, folder = load(out), Folder(data, "val", size=tuple(asked.size))
    distances = []
    for n in range(len(folder)):
        scene = folder[n, 0]
        assert scene.photo is not None
        distances.append(127.5 * float((network.sample(scene.condition, seed=n) - scene.photo).abs().mean()))
    return {**found, "held out: grey levels": statistics.fmean(distances)}


def training(asked: argparse.Namespace) -> None:
    data = asked.data
    if asked.toy:
        data = write_toy(asked.out / "toy", size=tuple(asked.size), train=200, val=40, quiet=True)
    found = {
        (precision, seed): trained(data, asked.out / f"{precision}-{seed}", asked, precision, seed)
        for seed in (0, 1)
        for precision in ("fp32", "bf16")
    }
    print("| | fp32, seed 0 | bf16, seed 0 | fp32, seed 1 | bf16, seed 1 | precisions | seeds |\n" + "| --- " * 7 + "|")
    for name in found["fp32", 0]:
        values = {key: one[name] for key, one in found.items()}
        middle = statistics.fmean(values.values())
        precisions = max(abs(values["fp32", s] - values["bf16", s]) for s in (0, 1)) / middle
        seeds = max(abs(values[p, 0] - values[p, 1]) for p in ("fp32", "bf16")) / middle
        cells = " | ".join(f"{value:.4g}" for value in values.values())
        print(f"| {name} | {cells} | {precisions:.1%} | {seeds:.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["paintings", "training"])
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--count", type=int, default=20)
    asked = parser.parse_intermixed_args()
    if asked.data is None and not asked.toy:
        parser.error("give --data, or --toy")
    asked.out.mkdir(parents=True, exist_ok=True)
    paintings(asked) if asked.what == "paintings" else training(asked)


if __name__ == "__main__":
    main()
