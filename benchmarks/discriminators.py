"""Who should judge: patches at several scales, self-attention, or both, all else equal, on the article's four axes.

    python benchmarks/discriminators.py --data camvid --out runs/discriminators --steps 2000 --sheet discriminators.jpg

Three trainings of pix2pixHD of equally many steps, one after the other, which go on where they were stopped; what is
given besides goes to all of them. No network that knows photographs helps: the discriminators alone teach. Told are

- quality: kernel distance, LPIPS, PSNR and what a segmenter reads, by the measures of `camvid-192x256-v1` at that size;
- cost: parameters and multiplications of the discriminators, a step and its peak memory, in a process of its own;
- applicability: what is read of each class, and a pass and its gradients at the paper's widths, size by size;
- implementation complexity: lines of the files that each needs, and what there is to choose.

And gamma, by which self-attention counts, as training goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from photogram.allocator import keep_memory

KINDS = ("multiscale", "attention", "hybrid")
SMALL = {"width": 24, "downsamplings": 3, "blocks": 4, "discriminator_width": 32, "scales": 2}
"""What a CPU can train."""
SEGMENTER = "camvid-192x256-v1"
TOLD = ("KD[squeezenet]", "LPIPS[squeeze]", "PSNR", "pixel_accuracy", "mean_iou")
SHOWN = ("0001TP_008370", "0006R0_f03540", "0016E5_07860", "0016E5_08460")
SIZES = ((256, 512), (512, 1024), (1024, 2048))
FILES = {
    kind: ("multiscale", *(() if kind == "multiscale" else ("discriminators", "attention", "spectral")))
    for kind in KINDS
}
_PATCHES = ("discriminator_width", "scales", "strided", "spectral")
_ATTENTION = ("detail_norm", "attention_mode", "attention_budget", "kv_pool")
CHOICES = {
    "multiscale": _PATCHES,
    "attention": ("discriminator_width", *_ATTENTION),
    "hybrid": (*_PATCHES, *_ATTENTION, "detail_weight", "detail_epochs"),
}
"""Flags of `photogram train pix2pixhd` that matter to each."""


def trained(asked: argparse.Namespace, kind: str, more: list[str]) -> Path:
    """The run with that discriminator, trained as far as was asked."""
    flags = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "photogram", "train", "pix2pixhd", *flags, "--perceptual", "none", "--flip"]
    command += ["--data", str(asked.data), "--size", *map(str, asked.size), "--workers", "0", "--discriminator", kind]
    run = asked.out / kind
    subprocess.run([*command, *more, "--out", str(run), "--steps", str(asked.steps)], check=True)
    return run


def judged(asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The measures of each run, by name."""
    name = "discriminators-{}x{}".format(*asked.size)
    protocol = {"name": name, "about": f"As {SEGMENTER}, at this size", "split": "val", "size": list(asked.size)}
    path = asked.out / f"{name}.json"
    path.write_text(json.dumps({**protocol, "segmenter": SEGMENTER, "ignored": ["unlabelled"]}))
    command = [sys.executable, "-m", "photogram", "evaluate", *(str(asked.out / kind) for kind in KINDS)]
    out = asked.out / "evaluation"
    subprocess.run([*command, "--protocol", str(path), "--data", str(asked.data), "--out", str(out)], check=True)
    return {kind: json.loads((out / name / kind / "result.json").read_text()) for kind in KINDS}


def multiplications(kind: Any, size: tuple[int, int], channels: int, width: int, scales: int) -> tuple[int, float]:
    """Parameters, and multiplications of a pass of one picture; nothing is computed."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from photogram.nn.discriminators import discriminators

    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counted:
        network = discriminators(kind, channels, width, scales)
        network(torch.empty(1, channels, *size))
    return sum(p.numel() for p in network.parameters()), counted.get_total_flops() / 2


def a_pass(kind: Any, size: tuple[int, int]) -> dict[str, float]:
    """A pass at the paper's widths with all gradients, in bf16: core seconds, and peak bytes above what was there."""
    import torch

    from photogram.commands.dryrun import peak, peak_and_forget
    from photogram.nn.discriminators import discriminators

    network = discriminators(kind, 39, 64, 3)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    shown = torch.rand(1, 39, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    peak_and_forget()
    before, began = peak(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        torch.stack([scale[-1].float().mean() for scale in network(shown)]).sum().backward()
    return {"seconds": time.process_time() - began, "peak": peak() - before}


def child(kind: str, size: tuple[int, int]) -> dict[str, float]:
    """`a_pass` in a process of its own."""
    command = [sys.executable, __file__, "--pass-of", kind, "--size", *map(str, size), "--data", "."]
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ}, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(title: str, rows: dict[str, list[str]]) -> None:
    """Rows by name, a column for each kind, in Markdown."""
    print(f"\n| {title} | {' | '.join(KINDS)} |\n|{' --- |' * (len(KINDS) + 1)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def tell_quality(results: dict[str, dict[str, Any]]) -> None:
    rows = {}
    for name in TOLD:
        found = [results[kind]["measures"][name] for kind in KINDS]
        rows[name] = [f"{one['value']:.4g}" + _interval(one) for one in found]
    table("quality", rows)
    found = [results[kind]["per_class"]["IoU"] for kind in KINDS]
    read = {name: [one[name] for one in found] for name in found[0]}
    table("IoU", {name: [f"{v:.3f}" for v in all_of] for name, all_of in read.items() if None not in all_of})


def _interval(measure: dict[str, Any]) -> str:
    ends = measure.get("interval")
    return "" if not ends else f" [{ends[0]:.4g}, {ends[1]:.4g}]"


def tell_cost(asked: argparse.Namespace, folder: Any) -> None:
    from photogram.planning import Asked, dry_run
    from photogram.recipes.pix2pixhd import Pix2PixHD

    seen = folder.spec.num_classes + 1 + folder.spec.photo_channels
    rows: dict[str, list[str]] = {}
    for kind in KINDS:
        recipe = replace(Pix2PixHD(), **SMALL, perceptual="none", discriminator=kind)
        need = dry_run(Asked(recipe, folder.spec, len(folder)), "steps")
        assert need is not None
        few, some = multiplications(kind, folder.spec.size, seen, SMALL["discriminator_width"], SMALL["scales"])
        most, many = multiplications(kind, SIZES[-1], 39, 64, 3)
        cells = {
            "parameters": f"{few:,}",
            "GMAC of a pass": f"{some / 1e9:.3f}",
            "a step": f"{need.seconds * 1e3:.0f} ms",
            "its peak memory": f"{need.peaks['steps'] / 2**30:.2f} GB",
            "parameters, the paper's width, 3 scales": f"{most:,}",
            "GMAC of a pass, 1024 x 2048": f"{many / 1e9:.1f}",
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    table("cost", rows)


def tell_applicability() -> None:
    from photogram.nn.discriminators import attention_facts, discriminators, least_side

    rows = {"least side, 3 scales": [f"{least_side(kind, 3)} pixels" for kind in KINDS]}
    for size in SIZES:
        found = [child(kind, size) for kind in KINDS]
        name = "{} x {}".format(*size)
        rows[f"pass and gradients, {name}"] = [f"{n['seconds']:.1f} s, {n['peak'] / 2**30:.2f} GB" for n in found]
        facts = [attention_facts(discriminators(kind, 39, 64, 3), size) for kind in KINDS]
        rows[f"places and keys, {name}"] = [", ".join(one.values()) or "-" for one in facts]
    table("applicability", rows)


def tell_complexity() -> None:
    import photogram.nn
    from photogram.recipes.pix2pixhd import Pix2PixHD

    assert all(hasattr(Pix2PixHD, name) for names in CHOICES.values() for name in names)
    folder = Path(photogram.nn.__path__[0])
    lines = {kind: sum(_lines(folder / f"{name}.py") for name in FILES[kind]) for kind in KINDS}
    rows = {"lines": [str(lines[kind]) for kind in KINDS], "choices": [str(len(CHOICES[kind])) for kind in KINDS]}
    table("implementation complexity", rows)


def _lines(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text().splitlines())


def tell_gamma(asked: argparse.Namespace) -> None:
    """Gamma at ten points of each training that has self-attention."""
    print("\n| gamma after |", end="")
    curves = {}
    for kind in KINDS[1:]:
        logged = [json.loads(line) for line in (asked.out / kind / "log.jsonl").read_text().splitlines()]
        curves[kind] = [(line["step"], line[name]) for line in logged for name in line if name.startswith("gamma")]
    points = [round((n + 1) * len(curves["hybrid"]) / 10) - 1 for n in range(10)]
    print(" " + " | ".join(str(curves["hybrid"][n][0]) for n in points) + f" |\n|{' --- |' * 11}")
    for kind, curve in curves.items():
        print(f"| {kind} | {' | '.join(f'{curve[n][1]:.4f}' for n in points)} |", flush=True)


def show(asked: argparse.Namespace) -> None:
    """Some scenes as all of them paint them."""
    from side_by_side import side_by_side

    from photogram.images import write_image

    size = tuple(asked.size)
    judged = asked.out / "evaluation" / "discriminators-{}x{}".format(*size)
    write_image(side_by_side(judged, KINDS, asked.data, size, asked.shown), asked.sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/discriminators"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--shown", nargs="+", default=SHOWN)
    parser.add_argument("--pass-of", choices=KINDS, help=argparse.SUPPRESS)
    asked, more = parser.parse_known_args()
    if asked.pass_of:
        keep_memory("train")
        print(json.dumps(a_pass(asked.pass_of, tuple(asked.size))))
        return
    from photogram.data.folder import Folder

    asked.out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        trained(asked, kind, more)
    folder = Folder(asked.data, "train", size=tuple(asked.size))
    tell_quality(judged(asked))
    tell_cost(asked, folder)
    tell_applicability()
    tell_complexity()
    tell_gamma(asked)
    if asked.sheet:
        show(asked)


if __name__ == "__main__":
    main()
