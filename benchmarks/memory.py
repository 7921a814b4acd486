"""Peak resident memory of CRN at full widths, each case in a process of its own.

    python benchmarks/memory.py                       # the promises: 1024 x 2048 within 3 GB, its last modules in 12 GB
    python benchmarks/memory.py --claim               # the full-resolution network against CRN, size by size

What is measured is the process's own peak (ru_maxrss), PyTorch and Python included, and the time of the step beside it;
GB are 2^30 bytes.
Weights are random and the feature network is a VGG-19 of random weights: neither memory nor time depends on values.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from photogram.allocator import keep_memory

CLASSES = 20
WIDTHS = (1024, 1024, 1024, 1024, 1024, 512, 512, 128, 32)
GB = 2**30
BUDGET = 12 * GB


def spec(height: int):
    from photogram.scene import SceneClass, SceneSpec

    return SceneSpec(tuple(SceneClass(f"c{n}", (n, n, n)) for n in range(CLASSES)), (height, 2 * height))


def layout(height: int):
    import torch

    from photogram.scene import Layout

    coarse = torch.randint(CLASSES, (1, height // 32, height // 16), dtype=torch.uint8)
    return Layout(coarse.repeat_interleave(32, 1).repeat_interleave(32, 2))


def synthesis(height: int, precision: str) -> float:
    """One painting by `Generator.sample`, the network just made."""
    import torch

    from photogram.recipes.crn import CascadedRefinementNetwork

    modules = (height // 4).bit_length()
    network = CascadedRefinementNetwork(spec=spec(height), widths=WIDTHS[:modules])
    network.to(memory_format=torch.channels_last)
    condition, began = layout(height), time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        painted = network.sample(condition)
    assert painted.shape == (1, 3, height, 2 * height)
    return time.perf_counter() - began


def publish(height: int, folder: Path) -> None:
    """A network of random weights, and a layout of it."""
    import numpy as np
    import torch

    from photogram.images import write_image
    from photogram.recipes.crn import CascadedRefinementNetwork

    torch.manual_seed(0)
    network = CascadedRefinementNetwork(spec=spec(height), widths=WIDTHS[: (height // 4).bit_length()])
    network.save_pretrained(folder / "network")
    blocks = np.random.default_rng(0).integers(0, CLASSES, (8, 16)).repeat(height // 8, 0).repeat(height // 8, 1)
    write_image(blocks.astype(np.uint8), folder / "layout.png")


def command(height: int, precision: str) -> tuple[float, int]:
    """The command `photogram synthesize --sheet`: seconds, and its peak in bytes. The network is made by another
    process, since a child is counted with what its parent held when it began."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = ["--case", "publish", "--height", str(height), "--out", name]
        subprocess.run([sys.executable, __file__, *made], check=True)
        asked = ["synthesize", str(folder / "network"), str(folder / "layout.png"), "--out", str(folder / "out")]
        began = time.perf_counter()
        verb = [sys.executable, "-m", "photogram", *asked, "--sheet", "--precision", precision]
        process = subprocess.Popen(verb, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"photogram synthesize ended with status {os.waitstatus_to_exitcode(status)}")
        return time.perf_counter() - began, used.ru_maxrss * 1024


def step(recipe, height: int, precision: str, taken: Path | None = None) -> float:
    """One training step, its optimizer's included; the second, when all that stays is there."""
    import torch
    from accelerate import Accelerator

    from photogram.nn import perceptual
    from photogram.nn.trunks import VGG
    from photogram.recipe import Run
    from photogram.scene import Condition, Scene

    perceptual.load_trunk = lambda name: VGG(19, "vgg19").frozen()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if precision == "bf16" else "no")
    training = recipe.start(Run(accelerator, spec(height), 10, 1, 0, taken))
    scene = Scene(Condition(layout(height)), torch.rand(1, 3, height, 2 * height) * 2 - 1)
    for number in range(2):
        began = time.perf_counter()
        training.step(scene, number)
    return time.perf_counter() - began


def last_modules(height: int, precision: str) -> float:
    from photogram.recipes.crn import CRN

    recipe = CRN(widths=WIDTHS[: (height // 4).bit_length()], train_last=2, checkpointing=True)
    with tempfile.TemporaryDirectory() as name:
        made = ["--case", "publish", "--height", str(height), "--out", name]  # by another process: only its file counts
        subprocess.run([sys.executable, __file__, *made], check=True)
        return step(recipe, height, precision, Path(name) / "network")


def whole(height: int, precision: str) -> float:
    from photogram.recipes.crn import CRN

    return step(CRN(widths=WIDTHS[: (height // 4).bit_length()]), height, precision)


def whole_checkpointed(height: int, precision: str) -> float:
    from photogram.recipes.crn import CRN

    return step(CRN(widths=WIDTHS[: (height // 4).bit_length()], checkpointing=True), height, precision)


def full_resolution(height: int, precision: str) -> float:
    from photogram.recipes.crn_baselines import FullResolution

    return step(FullResolution(), height, precision)


CASES: dict[str, Callable[[int, str], float]] = {
    f.__name__: f for f in (synthesis, last_modules, whole, whole_checkpointed, full_resolution)
}


def measure(case: str, height: int, precision: str) -> tuple[float, float] | None:
    """Peak bytes and seconds of a case in a process of its own, or None where it was stopped for its memory."""
    command = [sys.executable, __file__, "--case", case, "--height", str(height), "--precision", precision]
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ}, check=False)
    if done.returncode:
        return None
    found = json.loads(done.stdout)
    return found["peak"], found["seconds"]


def tell(case: str, height: int, precision: str) -> float:
    found = measure(case, height, precision)
    name = f"| {case.replace('_', ' ')} | {height} x {2 * height} | {precision} |"
    print(name, "stopped |" if found is None else f"{found[0] / GB:.2f} GB | {found[1]:.1f} s |", flush=True)
    return float("inf") if found is None else found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "publish"])
    parser.add_argument("--out", type=Path, help="the folder that publish writes into")
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--claim", action="store_true")
    asked = parser.parse_args()
    if asked.case == "publish":
        publish(asked.height, asked.out)
        return
    if asked.case:
        keep_memory("synthesize" if asked.case == "synthesis" else "train")  # as the commands do
        seconds = CASES[asked.case](asked.height, asked.precision)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"peak": peak, "seconds": seconds}))
        return
    print("| case | size | precision | peak resident memory | time |\n| --- | --- | --- | --- | --- |")
    if not asked.claim:
        for height in (256, 512, 1024):
            tell("synthesis", height, "bf16")
        tell("synthesis", 1024, "fp32")
        for precision in ("bf16", "fp32"):
            seconds, peak = command(1024, precision)
            row = f"{precision} | {peak / GB:.2f} GB | {seconds:.1f} s"
            print(f"| photogram synthesize --sheet | 1024 x 2048 | {row} |", flush=True)
        tell("last_modules", 1024, "bf16")
        return
    for case in ("whole", "full_resolution"):
        for height in (128, 256, 512, 1024):
            if tell(case, height, asked.precision) > BUDGET:
                break


if __name__ == "__main__":
    main()
