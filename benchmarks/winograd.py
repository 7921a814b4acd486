"""3x3 convolutions in float32 by Winograd's filtering and as the library does them, by shape; and their gradients.

    python benchmarks/winograd.py

Milliseconds, medians of interleaved turns. Library: weights packed, as at synthesis. Forward has the transform of the
weight in it; ' are the gradients, those of input and weight together. Rounding is the greatest error as a share of the
greatest output, against float64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from photogram.allocator import keep_memory

keep_memory("train")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from photogram.nn.kept_weights import KeptWeights  # noqa: E402
from photogram.nn.winograd import convolved, gradients, pays, transformed  # noqa: E402

CASES = [
    (1024, 1024, 16, 32),
    (1024, 1024, 32, 64),
    (1024, 1024, 64, 128),
    (512, 512, 64, 128),
    (512, 512, 128, 256),
    (512, 512, 256, 512),
    (256, 256, 128, 256),
    (128, 128, 256, 512),
    (64, 64, 256, 512),
]


def compare(inputs: int, outputs: int, height: int, width: int, repeats: int) -> list[str]:
    """One row."""
    x = torch.randn(1, inputs, height, width).contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    weight, kept = layer.weight.detach(), KeptWeights(layer)

    def library() -> Tensor:
        with torch.no_grad(), kept:
            return layer(x)

    def ours() -> Tensor:
        return convolved(x, transformed(weight), (1, 1))

    grad = torch.randn_like(ours())

    def library_back() -> object:
        return torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
        )

    runs: dict[str, Callable[[], object]] = {
        "library": library,
        "ours": ours,
        "library'": library_back,
        "ours'": lambda: gradients(grad, x, weight, (1, 1), (True, True)),
    }
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:
                spent[name].append(1000 * (time.perf_counter() - began))
    middle = {name: statistics.median(times) for name, times in spent.items()}
    some = slice(0, 16)  # float64 is slow, and channels are alike
    exact = F.conv2d(x.double(), weight[some].double(), padding=1)
    errors = [float((made[:, some] - exact).abs().max() / exact.abs().max()) for made in (library(), ours())]
    back = ("library'", "ours'")
    return [
        f"{inputs} to {outputs}, {height} x {width}",
        *(f"{middle[name]:.0f}" for name in ("library", "ours")),
        f"{middle['library'] / middle['ours']:.2f}",
        *(f"{middle[name]:.0f}" for name in back),
        f"{middle[back[0]] / middle[back[1]]:.2f}",
        *(f"{error:.0e}" for error in errors),
        "ours" if pays(x, weight, (1, 1)) else "library",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    titles = (
        "",
        "library",
        "ours",
        "times",
        "library'",
        "ours'",
        "times",
        "rounding: library",
        "ours",
        "the rule takes",
    )
    print("| " + " | ".join(titles) + " |\n" + "| --- " * len(titles) + "|")
    for case in CASES:
        print("| " + " | ".join(compare(*case, repeats)) + " |", flush=True)


if __name__ == "__main__":
    main()
