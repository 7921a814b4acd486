"""What `photogram plan` says of each recipe at three sizes, against the peak of the training itself.

    python benchmarks/plan.py                    # every recipe at 128 x 256, 192 x 384 and 256 x 512
    python benchmarks/plan.py --recipes crn pix2pix --precision fp32

Measured: a dry run at the size itself. Drawn: a line through half and three quarters of each side, as where the size
does not fit; `--size` and up. Quick: what `train` looks at before it refuses. Truth: the peak of `photogram train` on
photographs of the toy world, each in a process of its own. A new recipe gets its rows by itself; GB are 2^30 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

TRUTH = """
import sys
from photogram.allocator import keep_memory
keep_memory("train")
from photogram.cli import main
from photogram.commands.dryrun import peak
import photogram.training
before = peak()
if main(sys.argv[1:]):
    sys.exit("the training failed")
print(before, peak())
"""


def words(recipe: Any) -> list[str]:
    """The flags that give a recipe on the command line."""
    found: list[str] = []
    for name, value in vars(recipe).items():
        if value == getattr(type(recipe)(), name):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return found


def truth(recipe: Any, word: str, data: Path, size: tuple[int, int], batch: int, precision: str) -> int:
    """The peak of the command, in bytes."""
    with tempfile.TemporaryDirectory() as out:
        asked = ["train", word, "--data", str(data), "--out", f"{out}/run", "--size", *map(str, size), "--steps", "6"]
        asked += ["--batch-size", str(batch), "--precision", precision, "--workers", "0", *words(recipe)]
        done = subprocess.run(
            [sys.executable, "-c", TRUTH, *asked], stdout=subprocess.PIPE, env={**os.environ}, check=True
        )
    return int(done.stdout.split()[-1])


def main() -> None:
    from safetensors.torch import save_file
    from speed import ready

    from photogram.amounts import GB
    from photogram.data.inputs import prepare_grey, prepare_unpaired
    from photogram.data.toy import write_toy
    from photogram.data.unpaired import open_scenes
    from photogram.nn.trunks import VGG
    from photogram.planning import HALF, Asked, drawn, dry_run, quick_look, smaller_needs
    from photogram.recipes import members, word

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {word(kind): kind for kind in members()}
    parser.add_argument("--recipes", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    asked = parser.parse_args()
    largest, kept = tuple(asked.size), {}
    with tempfile.TemporaryDirectory() as folder:
        data = write_toy(Path(folder) / "data", size=largest, train=max(4, asked.batch_size), val=2, quiet=True)
        greys, two = Path(folder) / "greys", Path(folder) / "two"
        prepare_grey(data, out=greys, quiet=True)
        prepare_unpaired(data / "train/photos", data / "train/photos", out=two, quiet=True)
        folders = {"images": greys, "unpaired": two}
        trunk = Path(folder) / "vgg19.safetensors"
        save_file(VGG(19, "vgg19").state_dict(), trunk)  # of random weights: memory does not depend on them
        print(f"batch {asked.batch_size}, {asked.precision}")
        print(
            "| | size | truth | measured | drawn | quick | bytes a pixel |\n| --- | --- | --- | --- | --- | --- | --- |"
        )
        for name in asked.recipes:
            learns_from = known[name].learns_from
            its_data = folders.get(learns_from, data)
            spec = open_scenes(its_data, "train", learns_from, size=largest).spec
            recipe = ready(known[name], spec, Path(folder))
            if hasattr(recipe, "perceptual"):
                recipe = replace(recipe, perceptual=str(trunk), loss_weights=(1.0,) * 6)
            first = Asked(recipe, spec, 4, asked.batch_size, asked.precision)
            dry, quick = cache(dry_run), cache(lambda one, until="steps": dry_run(one, until))
            needs = [*smaller_needs(first, HALF, dry), dry(first)]
            for its in needs:
                size = its.size
                true = truth(recipe, name, its_data, size, asked.batch_size, asked.precision)
                found = {"measured": its}
                if size == largest and len(needs) == 3:
                    found["drawn"] = drawn(first, needs[0], needs[1])
                    found["quick"] = quick_look(first, 0, quick)
                cells = [
                    f"{n.peak / GB:.2f} GB ({n.peak / true - 1:+.0%})" if n else "-"
                    for n in map(found.get, ("measured", "drawn", "quick"))
                ]
                grown = (its.peak - needs[0].peak) / max(1, its.pixels - needs[0].pixels)
                kept[f"{name} {size}"] = {"truth": true, **{k: dict(n.peaks) for k, n in found.items() if n}}
                print(
                    "|",
                    " | ".join([name, "{} x {}".format(*size), f"{true / GB:.2f} GB", *cells, f"{grown:.0f}"]),
                    "|",
                    flush=True,
                )
    if asked.json:
        asked.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
