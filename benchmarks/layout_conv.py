"""Five ways to convolve a layout, by shape: what the rule of `photogram.nn.layout_conv` is made from.

    python benchmarks/layout_conv.py                    # CRN's levels, and the first layers of pix2pix and pix2pixHD
    python benchmarks/layout_conv.py --precision fp32

Milliseconds of a forward pass (with what must be made of the layout before it) and of the gradient for the weight:

- planes: one plane a class, and the library's convolution;
- strips: the same, planes of a few rows at a time, so that they stay in the cache (forward alone);
- all bags: look-ups of every window's classes, tap by tap (forward alone);
- ours: one look-up where a window is one class, bags elsewhere.

The rule takes planes or ours, at synthesis and in training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from photogram.allocator import keep_memory

keep_memory()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from speed import layouts  # noqa: E402
from torch import Tensor  # noqa: E402

from photogram.nn.layout_conv import LayoutLevel, Window  # noqa: E402

CASES: list[tuple[str, int, int, int, int, Window]] = [
    ("CRN 1024p, the last level", 1024, 2048, 1, 32, Window(3, padding=1)),
    ("CRN 1024p, half size", 1024, 2048, 2, 128, Window(3, padding=1)),
    ("CRN 1024p, a quarter", 1024, 2048, 4, 512, Window(3, padding=1)),
    ("CRN 256p, the last level", 256, 512, 1, 512, Window(3, padding=1)),
    ("CRN 256p, half size", 256, 512, 2, 512, Window(3, padding=1)),
    ("CRN 256p, a quarter", 256, 512, 4, 1024, Window(3, padding=1)),
    ("pix2pix, first layer", 256, 512, 1, 64, Window(4, 2, 1)),
    ("pix2pixHD, first layer", 512, 1024, 1, 64, Window(7, padding=3, reflect=True)),
]


def strips(classes: Tensor, count: int, weight: Tensor, window: Window, rows: int = 16) -> Tensor:
    """Planes of a few rows at a time; factor 1, zero padding, stride 1."""
    pad, made = window.padding, []
    height = classes.shape[1]
    for top in range(0, height, rows):
        first, last = max(0, top - pad), min(height, top + rows + pad)
        some = classes[:, first:last].long()
        planes = torch.zeros(*some.shape, count, dtype=weight.dtype).scatter_(3, some[..., None], 1).permute(0, 3, 1, 2)
        above, below = pad - (top - first), pad - (last - min(height, top + rows))
        made.append(F.conv2d(F.pad(planes, (pad, pad, above, below)), weight))
    return torch.cat(made, 2)


def all_bags(classes: Tensor, count: int, weight: Tensor, window: Window) -> Tensor:
    """Every window by look-ups, the classes of its places one after the other; factor 1, zero padding, stride 1."""
    table = F.pad(weight.permute(2, 3, 1, 0), (0, 0, 0, 1)).flatten(0, 2)
    padded = F.pad(classes.int(), [window.padding] * 4, value=count)
    places = padded.unfold(1, window.taps, 1).unfold(2, window.taps, 1).flatten(3)
    index = places + torch.arange(places.shape[-1], dtype=torch.int32) * (count + 1)
    bags = F.embedding_bag(index.flatten(0, 2), table, mode="sum")
    return bags.view(*places.shape[:3], -1).permute(0, 3, 1, 2)


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    spent = []
    for turn in range(repeats + 1):
        began = time.perf_counter()
        run()
        if turn:
            spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent)


def compare(case: tuple[str, int, int, int, int, Window], count: int, dtype: torch.dtype, repeats: int) -> list[str]:
    name, height, width, factor, channels, window = case
    classes = layouts(height, width, count).classes
    weight = torch.randn(channels, count, window.taps, window.taps).to(dtype).requires_grad_()
    plain = weight.detach().contiguous(memory_format=torch.channels_last)
    level = LayoutLevel(classes, count, factor)
    share = len(level.found(window).mixed) / len(level.found(window).alone)
    with torch.no_grad():
        ways = {
            "planes": lambda: LayoutLevel(classes, count, factor).conv_of_planes(plain, window),
            "ours": lambda: LayoutLevel(classes, count, factor).sums(weight, window),
        }
        if factor == window.stride == 1 and not window.reflect:
            ways |= {
                "strips": lambda: strips(classes, count, plain, window),
                "all bags": lambda: all_bags(classes, count, weight, window),
            }
        forward = {key: milliseconds(way, repeats) for key, way in ways.items()}
    backward = {}
    for key in ("planes", "ours"):
        made = level.sums(weight, window) if key == "ours" else level.conv_of_planes(weight, window)
        grad = torch.randn_like(made)
        backward[key] = milliseconds(
            lambda made=made, grad=grad: torch.autograd.grad(made, weight, grad, retain_graph=True), repeats
        )
    cells = [f"{forward[key]:.0f}" if key in forward else "-" for key in ("planes", "strips", "all bags", "ours")]
    cells += [f"{backward[key]:.0f}" for key in ("planes", "ours")]
    rules = [level.looked_up(w, window.stride) for w in (plain, weight)]
    rule = ", ".join("ours" if rule else "planes" for rule in rules)
    return [f"{name}, {height // factor} x {width // factor}", str(count), f"{share:.0%}", *cells, rule]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 20, 182, 1000])
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    dtype = torch.bfloat16 if asked.precision == "bf16" else torch.float32
    titles = ("", "classes", "at borders", "planes", "strips", "all bags", "ours", "planes'", "ours'", "the rule takes")
    print(f"{asked.precision}, median of {asked.repeats}, {torch.get_num_threads()} threads; ' is the gradient")
    print("| " + " | ".join(titles) + " |\n" + "| --- " * len(titles) + "|")
    for number in asked.cases:
        for count in asked.classes:
            print("| " + " | ".join(compare(CASES[number], count, dtype, asked.repeats)) + " |", flush=True)


if __name__ == "__main__":
    main()
