"""pix2pixHD at two megapixels and beyond, at the paper's full widths: peak memory and time, each case by itself.

    photogram prepare cityscapes DATA --out city --classes 35
    python benchmarks/megapixel.py --data city                          # every case
    python benchmarks/megapixel.py --data city --cases paint-2 step-2

Painting is one `Generator.sample` as `photogram synthesize` calls it; a forward pass is that of training, whose
features stay for a gradient; a step is all of a training step, once Adam's memory is there (a step of 64 x 128 pixels
goes before), the last of `--steps`: the allocator takes more from step to step, and the peak is of all. Each case has
a process of its own, whose peak is told, Python and PyTorch included; GB are 2^30 bytes. Time is that of the
processor, all threads together, so that other work beside it counts little. Weights are random, VGG-19's too: neither
memory nor time depends on them. `--set` changes fields of the recipe: `--set checkpointing=True`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from photogram.allocator import keep_memory

GB = 2**30
STYLES: dict[str, object] = {"features": "objects"}
STAGE_1: dict[str, object] = {**STYLES, "perceptual": "none"}
STAGE_2: dict[str, object] = {**STAGE_1, "enhancers": 1, "scales": 3}
THRIFTY: dict[str, object] = {"checkpointing": True}


class Case(NamedTuple):
    """What is measured: `paint`, `forward` or `step`, at a height, with fields of the recipe, in a precision."""

    kind: str
    height: int
    fields: dict[str, object]
    precision: str = "bf16"
    size: tuple[int, int] | None = None
    """Of windows; else twice as wide as high."""


CASES = {
    "paint-1": Case("paint", 512, STAGE_1),
    "paint-2": Case("paint", 1024, STAGE_2),
    "paint-3": Case("paint", 2048, {**STAGE_2, "enhancers": 2}),
    "paint-2-float": Case("paint", 1024, STAGE_2, "fp32"),
    "paint-4-megapixels": Case("paint", 2048, STAGE_2),
    "forward-2": Case("forward", 1024, STAGE_2),
    "step-1": Case("step", 512, STAGE_1),
    "step-1-squeezenet": Case("step", 512, {**STAGE_1, "perceptual": "squeezenet"}),
    "step-2": Case("step", 1024, STAGE_2),
    "step-2-squeezenet": Case("step", 1024, {**STAGE_2, "perceptual": "squeezenet"}),
    "step-2-vgg19": Case("step", 1024, {**STAGE_2, "perceptual": "vgg19"}),
    "step-2-checkpointing": Case("step", 1024, STAGE_2 | THRIFTY),
    "step-2-checkpointing-squeezenet": Case("step", 1024, {**STAGE_2, **THRIFTY, "perceptual": "squeezenet"}),
    "step-2-float": Case("step", 1024, STAGE_2, "fp32"),
    "step-2-frozen": Case("step", 1024, {**STAGE_2, "freeze_epochs": 1, "train_encoder": False}),
    "step-2-window": Case("step", 1024, STAGE_2 | THRIFTY, size=(1024, 1024)),
    "step-2-window-512": Case("step", 512, STAGE_2 | THRIFTY, size=(512, 1024)),
}


def recipe_of(fields: dict[str, Any], folder: Path) -> Any:
    """The recipe; VGG-19 of random weights, in a file of that folder."""
    from photogram.recipes.pix2pixhd import Pix2PixHD

    if fields.get("perceptual") == "vgg19":
        fields = {**fields, "perceptual": str(folder / "vgg19.safetensors")}
    return replace(Pix2PixHD(), **fields)


def scene_of(data: Path, split: str, size: tuple[int, int]) -> tuple[Any, Any]:
    """The first scene of a split at that size, and what its scenes share."""
    from photogram.data.folder import Folder

    folder = Folder(data, split, size=size)
    return folder[0, 0], folder.spec


def painted(data: Path, case: Case, recipe: Any) -> float:
    """Core seconds of a painting, the second: the first also packs weights."""
    import torch

    from photogram.synthesis import ready_to_paint

    scene, spec = scene_of(data, "train", (case.height, 2 * case.height))
    network = recipe.network(spec).eval().requires_grad_(False)
    seconds = []
    with ready_to_paint(network, case.precision), torch.inference_mode():
        for _ in range(2):
            began = time.process_time()
            made = network.sample(scene.condition, seed=1)
            seconds.append(time.process_time() - began)
            assert made.shape == (1, 3, case.height, 2 * case.height), made.shape
    return seconds[-1]


def stepped(data: Path, case: Case, recipe: Any, folder: Path, steps: int) -> float:
    """Core seconds of the last of so many training steps, or of a forward pass alone."""
    import torch
    from accelerate import Accelerator

    from photogram.nn.winograd import where_it_helps
    from photogram.recipe import Run
    from photogram.scene import Scene

    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if case.precision == "bf16" else "no")
    scene, spec = scene_of(data, "train", case.size or (case.height, 2 * case.height))
    small, small_spec = scene_of(data, "train", (64, 128))
    source = None
    if not recipe.train_encoder:
        source = folder / "stage-1"
    training = recipe.start(Run(accelerator, replace(small_spec, size=spec.size), 10, 1, 0, source))
    assert isinstance(scene, Scene) and scene.photo is not None
    seconds = 0.0
    with where_it_helps(accelerator.device, case.precision):
        training.step(small, 0)
        for step in range(1, 1 + (steps if case.kind == "step" else 1)):
            began = time.process_time()
            if case.kind == "forward":
                with accelerator.autocast():
                    made = training.generator(scene)
                assert made.requires_grad and made.shape[-2:] == scene.photo.shape[-2:]
            else:
                losses = training.step(scene, step - 1)  # the fifth would be looked at
                assert all(torch.isfinite(loss) for loss in losses.values())
            seconds = time.process_time() - began
        return seconds


def made_beside(case: Case, recipe: Any, data: Path, folder: Path) -> None:
    """What the case reads from disk: VGG-19 of random weights, the network of stage 1."""
    from photogram.nn.perceptual_hd import FirstOfBlocks
    from photogram.nn.trunks import IMAGENET

    if case.fields.get("perceptual") == "vgg19":
        from safetensors.torch import save_file

        save_file(FirstOfBlocks(19, "vgg19", IMAGENET).state_dict(), folder / "vgg19.safetensors")
    if not recipe.train_encoder:
        stage_1 = replace(recipe, enhancers=0, scales=2, freeze_epochs=0, train_encoder=True)
        spec = scene_of(data, "train", (case.height // 2, case.height))[1]
        stage_1.network(spec).save_pretrained(folder / "stage-1")


def child(name: str, asked: argparse.Namespace) -> dict[str, float] | None:
    """A case in a process of its own, or None where it was stopped for its memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--data", str(asked.data), "--cases", name, "--folder", folder]
        command += ["--steps", str(asked.steps), "--set", *asked.set]
        for part in ("--make", "--measure"):
            done = subprocess.run([*command, part], stdout=subprocess.PIPE, env={**os.environ}, check=False)
            if done.returncode in (-9, -6):
                return None
            done.check_returncode()
        return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--steps", type=int, default=4, help="training steps of each case that takes any")
    parser.add_argument("--set", nargs="*", default=[], help="fields of the recipe, as name=value")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not asked.folder:
        print("| case | size | precision | peak memory | core seconds |\n| --- | --- | --- | --- | --- |")
        for name in asked.cases:
            found, case = child(name, asked), CASES[name]
            size = "{} x {}".format(*(case.size or (case.height, 2 * case.height)))
            told = "stopped | -" if found is None else f"{found['peak'] / GB:.2f} GB | {found['seconds']:.1f}"
            print(f"| {' '.join([name, *asked.set])} | {size} | {case.precision} | {told} |", flush=True)
        return
    case = CASES[asked.cases[0]]
    if asked.measure:
        keep_memory("synthesize" if case.kind == "paint" else "train")  # as the commands do
    given = {name: value for name, _, value in (one.partition("=") for one in asked.set)}
    recipe = recipe_of({**case.fields, **{k: value_of(v) for k, v in given.items()}}, asked.folder)
    if asked.make:
        made_beside(case, recipe, asked.data, asked.folder)
        return
    if case.kind == "paint":
        seconds = painted(asked.data, case, recipe)
    else:
        seconds = stepped(asked.data, case, recipe, asked.folder, asked.steps)
    from photogram.commands.dryrun import peak

    print(json.dumps({"peak": peak(), "seconds": seconds}))


def value_of(text: str) -> object:
    """A number or truth value as Python writes it; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main()
