"""How near each recipe is to what the processor can do: synthesis and training steps as ratios, measured in one run.

    python benchmarks/speed.py                                      # every recipe at 256 x 512, 20 classes
    python benchmarks/speed.py --recipes crn --size 1024 2048 --kinds synthesis
    python benchmarks/speed.py --recipes crn --classes 20 182       # and what more classes cost
    python benchmarks/speed.py --memory                             # the same cases, their memory instead of time
    python benchmarks/speed.py --recipes pix2pixhd --set width=32   # fields of the recipe other than by default

Four things take turns, so that what else the machine does hits all alike; shown are medians, and ratios of medians:

- ours, in bf16 where asked;
- its naive twin: one-hot planes, float32, contiguous memory, eager;
- its convolutions alone, the twin's as they come (the layout's planes included), in the precision of ours; at
  synthesis with weights that are cast and packed already;
- the same number of multiplications as one matrix product of 2048 x 2048, in the precision of ours.

The last column is the product's speed in that precision over its speed in float32: what bf16 can bring at best here.
Memory is a process's peak above its start, its weights, gradients and optimizer state, each in a process of its own.

A new recipe gets its row by itself. Weights are random, feature networks too: neither time nor memory depends on them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from photogram.allocator import keep_memory

if TYPE_CHECKING:
    from photogram.scene import SceneSpec

SIDE = 2048
KINDS = ("synthesis", "step")


@dataclass
class Case:
    """What is timed."""

    ours: Callable[[], object]
    naive: Callable[[], object]
    watched: Callable[[], object]
    """Ours, in convolutions that can be watched."""
    held: Callable[[], int]
    """Bytes of weights, gradients and optimizer state."""


def layouts(height: int, width: int, classes: int, count: int = 1, instances: bool = False):
    """Ragged regions of all classes, as in photographs of streets: about one pixel in twelve lies at a border; with
    instance maps each region is an object."""
    import torch

    draw = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    fine = max(1, height // 256)
    shift = torch.randint(0, 5, (height // (4 * fine) + 1,), generator=draw) * fine
    rows, columns = 12, 24
    row = ((y + shift[x // (4 * fine) % len(shift)]) * rows // (height + 5 * fine)).clamp(max=rows - 1)
    column = ((x + shift[y // (4 * fine)]) * columns // (width + 5 * fine)).clamp(max=columns - 1)
    kinds = torch.randint(classes, (count, rows, columns), generator=draw)
    from photogram.scene import Layout

    numbers = (row * columns + column).to(torch.int32).expand(count, -1, -1) if instances else None
    return Layout(kinds[:, row, column].to(torch.uint8 if classes <= 256 else torch.int16), numbers)


def from_layouts(recipe: Any) -> bool:
    return recipe.learns_from in ("layouts", "any")


def spec(recipe: Any, height: int, width: int, classes: int):
    """What the scenes of a recipe share: layouts, grey images, pictures of another collection, or photographs alone."""
    from photogram.scene import SceneClass, SceneSpec

    if from_layouts(recipe):
        kinds = tuple(SceneClass(f"c{n}", (n, n, n)) for n in range(classes))
        return SceneSpec(kinds, (height, width), instances=hasattr(recipe, "boundary"))
    return SceneSpec(
        (), (height, width), image_channels={"images": 1, "unpaired": 3, "photographs": 0}[recipe.learns_from]
    )


def condition(spec: SceneSpec, batch: int):
    """What a network is asked."""
    import torch

    from photogram.scene import Condition

    if spec.num_classes:
        return Condition(layouts(*spec.size, spec.num_classes, batch, spec.instances))
    return Condition(image=torch.rand(batch, spec.image_channels, *spec.size) * 2 - 1 if spec.image_channels else None)


@contextlib.contextmanager
def planes_only(contiguous: bool) -> Iterator[None]:
    """Layouts as float planes, as others have them."""
    import torch

    from photogram.nn import layout_conv, multiscale, strips
    from photogram.nn.halved import halved
    from photogram.recipes import crn, pix2pixhd_networks

    averaging = (multiscale, pix2pixhd_networks)
    kept, made = layout_conv.LayoutLevel.looked_up, layout_conv.LayoutLevel.planes.func
    layout_conv.LayoutLevel.looked_up = lambda self, weight, stride=1: False
    if contiguous:  # the naive twin, which keeps what it has enlarged, too
        crn.conv_of_upsampled = lambda x, weight, size, dilation: torch.nn.functional.conv2d(
            strips.upsampled(x, size), weight, None, 1, dilation, dilation
        )
        layout_conv.LayoutLevel.planes.func = lambda level: made(level).contiguous()
        for room in averaging:
            room.halved = lambda maps: halved(getattr(maps, "planes", maps))
    try:
        yield
    finally:
        crn.conv_of_upsampled = strips.conv_of_upsampled
        for room in averaging:
            room.halved = halved
        layout_conv.LayoutLevel.looked_up, layout_conv.LayoutLevel.planes.func = kept, made


def started(recipe: Any, height: int, width: int, classes: int, precision: str, batch: int) -> Any:
    """A training of the recipe, from nothing."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from photogram.nn import perceptual
    from photogram.nn.trunks import VGG
    from photogram.recipe import Run

    perceptual.load_trunk = lambda name: VGG(19, "vgg19").frozen()
    torch.manual_seed(0)
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if precision == "bf16" else "no")
    return recipe.start(Run(accelerator, spec(recipe, height, width, classes), 10, batch, 0))


@contextlib.contextmanager
def all_in(precision: str) -> Iterator[None]:
    """What accelerate computes in, which is one for a whole process."""
    from accelerate.state import AcceleratorState

    state = AcceleratorState._shared_state
    kept, state["_mixed_precision"] = state["_mixed_precision"], "bf16" if precision == "bf16" else "no"
    try:
        yield
    finally:
        state["_mixed_precision"] = kept


def parts(training: Any, kind: str) -> list[Any]:
    """All networks that a training computes with, or its optimizers, as accelerate wraps them or not."""
    import torch

    wanted = torch.nn.Module if kind == "networks" else torch.optim.Optimizer
    held = [v for part in vars(training).values() for v in (part.values() if isinstance(part, dict) else [part])]
    return [part for part in held if isinstance(part, wanted)]


def steps(
    recipe: Any, height: int, width: int, classes: int, precision: str, batch: int, only: str | None = None
) -> Case:
    import torch

    from photogram.nn.winograd import Winograd
    from photogram.scene import Scene

    trainings = {
        which: started(recipe, height, width, classes, p, batch)
        for which, p in (("ours", precision), ("naive", "fp32"))
        if only in (None, which)
    }
    for network in parts(trainings["naive"], "networks") if "naive" in trainings else ():
        network.to(memory_format=torch.contiguous_format)
    photo = torch.rand(batch, 3, height, width) * 2 - 1
    scene = Scene(condition(spec(recipe, height, width, classes), batch), photo)

    def watched() -> object:
        with all_in(precision):
            return trainings["ours"].step(scene, 0)

    def ours() -> object:
        with Winograd():
            return watched()

    def naive() -> object:
        with planes_only(contiguous=True), all_in("fp32"):
            return trainings["naive"].step(scene, 0)

    def held() -> int:
        return held_by([p for t in trainings.values() for kind in ("networks", "optimizers") for p in parts(t, kind)])

    return Case(ours, naive, watched, held)


def synthesis(
    recipe: Any, height: int, width: int, classes: int, precision: str, batch: int, only: str | None = None
) -> Case:
    import torch

    from photogram.generator import Generator, UnaskedGenerator
    from photogram.nn.kept_weights import KeptWeights
    from photogram.nn.winograd import Winograd

    network = next(iter(started(recipe, height, width, classes, "fp32", batch).published().values()))
    network.eval().requires_grad_(False)
    plain = copy.deepcopy(network) if only is None else network
    plain.to(memory_format=torch.contiguous_format)
    if only != "naive":
        network.to(memory_format=torch.channels_last)
    shown = condition(network.spec, batch)
    photo = torch.rand(batch, 3, height, width) * 2 - 1

    def run(one: Any) -> object:
        if isinstance(one, UnaskedGenerator):
            return one.sample_latents(torch.stack([one.latent(seed) for seed in range(batch)]))
        return one.sample(shown) if isinstance(one, Generator) else one.predict(photo)

    kept = KeptWeights(network)

    def watched() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return run(network)

    def ours() -> object:  # as `photogram synthesize` paints one picture after the other
        with kept, Winograd():
            return watched()

    def naive() -> object:
        with planes_only(contiguous=True):
            return run(plain)

    return Case(ours, naive, watched, lambda: held_by([network]))


def convolutions(run: Callable[[], object], packed: bool) -> tuple[list[Callable[[], object]], float]:
    """The convolutions of a run, to be done again with fresh arguments of the same form, and their multiplications."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[tuple[Any, tuple[Any, ...]]] = []
    aten = torch.ops.aten

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (aten.convolution.default, aten.convolution_backward.default):
                found.append((func, args))
            return func(*args, **(kwargs or {}))

    inference, torch.inference_mode = torch.inference_mode, torch.no_grad  # under which a layer stays in one piece
    try:
        with Watch():
            run()
    finally:
        torch.inference_mode = inference
    kept: dict[Any, tuple[Callable[[], object], int]] = {}
    total = 0.0
    for func, args in found:
        total += products(func is aten.convolution_backward.default, args)
        key = (func, tuple(form(a) for a in args))
        if key in kept:
            kept[key] = (kept[key][0], kept[key][1] + 1)
            continue
        kept[key] = (again(func, [like(a) for a in args], packed), 1)
    return [call for call, times in kept.values() for _ in range(times)], total


def again(func: Any, args: list[Any], packed: bool) -> Callable[[], object]:
    """The same once more; where weights are to be packed, a convolution with its weight packed before."""
    import torch

    if packed and func is torch.ops.aten.convolution.default and not args[6] and args[0].device.type == "cpu":
        x, weight, bias, stride, padding, dilation, _, _, groups = args
        pack, run = torch.ops.mkldnn._reorder_convolution_weight, torch.ops.mkldnn._convolution_pointwise
        kept = pack(weight, padding, stride, dilation, groups, list(x.shape))
        return lambda: run(x, kept, bias, padding, stride, dilation, groups, "none", [], "")
    return lambda: func(*args)


def form(value: Any) -> object:
    import torch

    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), value.stride(), value.dtype)
    return tuple(value) if isinstance(value, list) else value


def like(value: Any) -> Any:
    import torch

    return torch.empty_like(value).uniform_(-1, 1) if isinstance(value, torch.Tensor) else value


def products(backward: bool, args: tuple[Any, ...]) -> float:
    """Multiplications of a convolution, or of those gradients that are asked for."""
    grad, x, weight = args[:3] if backward else (None, *args[:2])
    transposed, groups = (args[7], args[9]) if backward else (args[6], args[8])
    if transposed:
        places = x.numel() // x.shape[1]
    elif grad is not None:
        places = grad.numel() // grad.shape[1]
    else:
        sides = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], *(args[n] for n in (3, 4, 5)), strict=True)
        )
        places = x.shape[0]
        for side in sides:
            places *= side
    del groups  # the weight's shape holds it
    return float(places * weight.numel() * (sum(args[-1][:2]) if backward else 1))


def product(precision: str) -> tuple[Callable[[], object], float]:
    """A matrix product, and its multiplications."""
    import torch

    a, b = (torch.randn(SIDE, SIDE, dtype=torch.bfloat16 if precision == "bf16" else torch.float32) for _ in range(2))
    return lambda: a @ b, float(SIDE**3)


def timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began


def measure(recipe: Any, kind: str, asked: argparse.Namespace, classes: int) -> dict[str, Any]:
    """Seconds of each of the four, by repetition, and multiplications of the convolutions."""
    import torch

    make = synthesis if kind == "synthesis" else steps
    case = make(recipe, *asked.size, classes, asked.precision, asked.batch_size)
    case.ours()
    with planes_only(contiguous=False):
        calls, total = convolutions(case.watched, packed=kind == "synthesis")
    peak, count = product(asked.precision)
    found: dict[str, list[float]] = {"ours": [], "convolutions": [], "peak": []} | (
        {} if asked.alone else {"naive": []}
    )
    runs = {"ours": case.ours, "naive": case.naive, "peak": peak, "plain": product("fp32")[0]}
    found["plain"] = []
    clock = time.process_time if asked.core_time else time.perf_counter
    for turn in range(asked.repeats + 1):
        for name, seconds in found.items():
            if name == "convolutions":
                with torch.inference_mode():
                    spent = sum(timed(call, clock) for call in calls)
            else:
                spent = timed(runs[name], clock)
            if turn:
                seconds.append(spent * (total / count if name in ("peak", "plain") else 1))
    return {**found, "gmac": total / 1e9}


def measure_memory(recipe: Any, kind: str, asked: argparse.Namespace, classes: int) -> dict[str, int]:
    """Peak bytes of one of the two, above the process's own, its weights, gradients and optimizer state."""
    import torch
    from accelerate import Accelerator

    from photogram.commands.dryrun import peak, peak_and_forget

    torch.ones(8, 8) @ torch.ones(8, 8)
    Accelerator(cpu=True)
    before = peak()
    case = (synthesis if kind == "synthesis" else steps)(
        recipe, *asked.size, classes, asked.precision, asked.batch_size, asked.memory
    )
    run = case.ours if asked.memory == "ours" else case.naive
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc gives back what the making left
        ctypes.CDLL(None).malloc_trim(0)
    peak_and_forget()
    for _ in range(2):  # the second finds the optimizer's state in its place
        run()
    return {asked.memory: peak() - before - case.held()}


def held_by(parts: list[Any]) -> int:
    """Bytes of networks with their gradients, and of optimizers' states."""
    import torch

    found: dict[int, int] = {}
    for part in parts:
        if isinstance(part, torch.nn.Module):
            tensors = [*part.parameters(), *part.buffers()]
            learned = [p for p in part.parameters() if p.requires_grad]
            found |= {-p.data_ptr(): p.numel() * p.element_size() for p in learned}  # gradients, there or not
        else:
            tensors = [value for state in part.state.values() for value in state.values()]
        found |= {t.data_ptr(): t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor)}
    return sum(found.values())


def child(asked: argparse.Namespace, recipe: str, kind: str, classes: int) -> dict[str, Any]:
    """`measure` in a process of its own."""
    size = [str(n) for n in asked.size]
    command = [sys.executable, __file__, "--recipes", recipe, "--kinds", kind, "--classes", str(classes), "--one"]
    command += ["--size", *size, "--precision", asked.precision, "--batch-size", str(asked.batch_size)]
    command += ["--repeats", str(asked.repeats), *(["--alone"] if asked.alone else [])]
    command += ["--core-time"] if asked.core_time else []
    command += ["--set", *asked.set]

    def answer(more: list[str]) -> dict[str, Any]:
        done = subprocess.run([*command, *more], stdout=subprocess.PIPE, env={**os.environ}, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    if asked.memory is None:
        return answer([])
    return answer(["--memory", "ours"]) | ({} if asked.alone else answer(["--memory", "naive"]))


def tell_memory(recipe: str, kind: str, classes: int, found: dict[str, Any]) -> str:
    cells = [f"{recipe}, {kind}", str(classes or "-"), f"{found['ours'] / 2**30:.2f} GB"]
    if "naive" in found:
        cells += [f"{found['naive'] / 2**30:.2f} GB", f"{found['ours'] / found['naive']:.2f}"]
    return "| " + " | ".join(cells) + " |"


def tell(recipe: str, kind: str, classes: int, found: dict[str, Any]) -> str:
    middle = {
        name: statistics.median(found[name])
        for name in ("ours", "naive", "convolutions", "peak", "plain")
        if name in found
    }
    spread = (max(found["ours"]) - min(found["ours"])) / middle["ours"]
    cells = [
        f"{recipe}, {kind}",
        str(classes or "-"),
        f"{found['gmac']:.0f}",
        f"{middle['ours']:.2f} s (spread {spread:.0%})",
    ]
    cells.append(f"{middle['naive'] / middle['ours']:.2f}" if "naive" in middle else "-")
    cells += [f"{middle['ours'] / middle[name]:.2f}" for name in ("convolutions", "peak")]
    cells.append(f"{middle['plain'] / middle['peak']:.2f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--classes", type=int, nargs="+", default=[20])
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="leave out the naive twin, which is slow")
    parser.add_argument("--core-time", action="store_true", help="of the processor, for where other work runs beside")
    parser.add_argument("--set", nargs="*", default=[], help="fields of the recipe, as name=value")
    parser.add_argument("--memory", nargs="?", const="both", choices=["both", "ours", "naive"], help="in place of time")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        keep_memory("synthesize" if asked.kinds == ["synthesis"] else "train")
    from photogram.recipes import members, word

    known = {word(kind): kind for kind in members()}
    if asked.one:
        with tempfile.TemporaryDirectory() as folder:
            kind = known[asked.recipes[0]]
            recipe = ready(kind, spec(kind, *asked.size, asked.classes[0]), Path(folder))
            given = (one.split("=", 1) for one in asked.set)
            recipe = replace(recipe, **{name: ast.literal_eval(value) for name, value in given})
            take = measure if asked.memory is None else measure_memory
            print(json.dumps(take(recipe, asked.kinds[0], asked, asked.classes[0])))
        return
    print(f"{asked.size[0]} x {asked.size[1]}, batch {asked.batch_size}, {asked.precision}, {asked.repeats} turns")
    if asked.memory:
        print("| | classes | ours | naive twin | ours / naive twin |\n| --- | --- | --- | --- | --- |")
    else:
        print(
            "| | classes | GMAC | ours | naive twin / ours | ours / its convolutions | ours / peak | peak / float32's |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for recipe in asked.recipes or list(known):
        for kind in asked.kinds:
            for classes in asked.classes if from_layouts(known[recipe]) else [0]:
                told = tell_memory if asked.memory else tell
                print(told(recipe, kind, classes, child(asked, recipe, kind, classes)), flush=True)


def ready(kind: type[Any], spec: SceneSpec, folder: Path) -> Any:
    """A recipe at its defaults, with what it needs beside them, written into a folder."""
    from photogram.recipes.segmenter import SegmentationNetwork

    recipe, size = kind(), spec.size
    if hasattr(recipe, "segmenter"):
        SegmentationNetwork(spec=spec, width=64).save_pretrained(folder / "segmenter")
        recipe = replace(recipe, segmenter=str(folder / "segmenter"))
    if kind.__name__ == "CRN":  # one module more for each doubling
        widths = ((1024,) * 5 + (512, 512, 128, 32))[: (size[0] // 4).bit_length()]
        recipe = replace(recipe, widths=widths)
    if kind.__name__ == "Pix2PixHD":
        from safetensors.torch import save_file

        from photogram.nn.perceptual_hd import FirstOfBlocks
        from photogram.nn.trunks import IMAGENET

        save_file(FirstOfBlocks(19, "vgg19", IMAGENET).state_dict(), folder / "vgg19.safetensors")
        recipe = replace(recipe, perceptual=str(folder / "vgg19.safetensors"))
    return recipe


if __name__ == "__main__":
    main()
