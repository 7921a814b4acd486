"""Regions of layouts against a plain loop over objects and a convolution of planes, side by side in one run.

    python benchmarks/regions.py --write benchmarks/regions.md

Street-like layouts with object numbers: bands of classes, and rectangles that stand before one another, as cars and
people do. Plain is what one writes first: a mask for each object, its mean, and the mean put back; for edges a plane
for each region and a convolution that finds where a plane changes. The two take turns and must agree.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from photogram.allocator import keep_memory

keep_memory("train")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from photogram.nn.regions import boundaries, find_regions, pooled, spread  # noqa: E402
from photogram.scene import Layout  # noqa: E402

STYLES = 3
ENOUGH = 10_000
"""Milliseconds of the plain way after which no further turn is begun."""
OBJECTS = (20, 100)  # Cityscapes has some 20 in an image, its crowded ones more than 100


def street(height: int, width: int, objects: int) -> Layout:
    """Bands of classes 0..9, and objects of classes 24..33 that are the larger the lower they stand."""
    draw = torch.Generator().manual_seed(objects)
    bands = torch.arange(height) * 10 // height
    classes = bands[:, None].expand(height, width).to(torch.uint8).clone()
    numbers = classes.int()
    for number in range(objects):
        place, left, kind = torch.rand(3, generator=draw).tolist()
        low = int(height * (0.35 + 0.65 * number / objects))
        tall, wide = (max(2, int(low * share)) for share in (0.05 + 0.15 * place, 0.05 + 0.2 * place))
        kind, start = 24 + int(kind * 10), int(left * (width - wide))
        window = (slice(low - tall, low), slice(start, start + wide))
        classes[window], numbers[window] = kind, kind * 1000 + number
    return Layout(classes[None], numbers[None])


def plain_means(features: Tensor, layout: Layout) -> Tensor:
    """Each object's mean in its place, by a loop."""
    assert layout.instances is not None
    means = torch.zeros_like(features)
    for number in layout.instances.unique().tolist():  # which say the class too, here
        mask = layout.instances[:, None] == number
        means = means + mask * ((features * mask).sum((2, 3), keepdim=True) / mask.sum())
    return means


def plain_edges(layout: Layout) -> Tensor:
    """Edges by a plane for each region, in which a pixel differs from the mean of its neighbours or not."""
    assert layout.instances is not None
    found, index = layout.instances.unique(return_inverse=True)
    planes = F.one_hot(index[0], len(found)).permute(2, 0, 1)[:, None].float()
    taps = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")  # the image's own border is none
    return (F.conv2d(padded, taps) != 0).any(0, keepdim=True).float()


def our_means(features: Tensor, layout: Layout) -> Tensor:
    regions = find_regions(layout)
    return spread(pooled(features, regions), regions)


def with_gradient(way: Callable[[Tensor, Layout], Tensor], features: Tensor, layout: Layout) -> Tensor:
    leaf = features.clone().requires_grad_()
    way(leaf, layout).square().sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def in_turns(ours: Callable[[], Tensor], plain: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """Median milliseconds of both, after a first turn that is not counted and in which they must agree; fewer turns
    where they take long."""
    torch.testing.assert_close(ours(), plain(), rtol=1e-4, atol=1e-4)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for way, times in zip((ours, plain), spent, strict=True):
            began = time.perf_counter()
            way()
            times.append(1000 * (time.perf_counter() - began))
        if sum(spent[1]) > ENOUGH:
            break
    return statistics.median(spent[0]), statistics.median(spent[1])


def rows(height: int, width: int, repeats: int) -> Iterator[str]:
    yield "| | objects | regions | plain, ms | ours, ms | times |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for objects in OBJECTS:
        layout = street(height, width, objects)
        features = torch.randn(1, STYLES, height, width, generator=torch.Generator().manual_seed(0))
        regions = len(find_regions(layout).pixels)
        works: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
            "regions found, features pooled and spread": (
                lambda f=features, y=layout: our_means(f, y),
                lambda f=features, y=layout: plain_means(f, y),
            ),
            "the same with its gradient": (
                lambda f=features, y=layout: with_gradient(our_means, f, y),
                lambda f=features, y=layout: with_gradient(plain_means, f, y),
            ),
            "boundaries": (lambda y=layout: boundaries(y), lambda y=layout: plain_edges(y)),
        }
        for name, (ours, plain) in works.items():
            mine, theirs = in_turns(ours, plain, repeats)
            yield f"| {name} | {objects} | {regions} | {theirs:.0f} | {mine:.0f} | {theirs / mine:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes")
    parser.add_argument("--note", default="", help="what else the machine did, for the page")
    parser.add_argument("--write", type=Path, help="the page to write")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    height, width = asked.size
    page = [
        "# Regions of layouts: pooled, spread and edged",
        "",
        f"`python benchmarks/regions.py --size {height} {width} --repeats {asked.repeats}`, {datetime.date.today()}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
        + (f", {asked.note}." if asked.note else "."),
        f"Milliseconds, medians of turns; {height} x {width}, {STYLES} channels of features, one layout. Plain: a loop "
        "over the objects with a mask",
        "for each, and a plane for each region and a convolution for the edges. Ours does not grow with their number;",
        "its edges are two comparisons of neighbours, which no plane comes near.",
        "",
    ]
    for line in page:
        print(line)
    for line in rows(height, width, asked.repeats):
        print(line, flush=True)
        page.append(line)
    if asked.write:
        asked.write.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
