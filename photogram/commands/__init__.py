"""The verbs of the command line: functions whose arguments tyro turns into flags. The larger ones have a file each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from photogram import flags
from photogram.commands import cluster, colorize, evaluate, importing, plan, prepare, sample, synthesize, train


def _check(arguments: Sequence[str]) -> int:
    def check(data: Positional[Path], /, *, json_: Annotated[bool, tyro.conf.arg(name="json")] = False) -> int:
        """The data doctor: read every file of a data folder and say what is wrong with it.

        Args:
            data: the data folder.
            json_: print the findings as JSON, for programs.
        """
        from photogram.data.check import check as examine
        from photogram.data.check import render

        report = examine(data, quiet=json_)
        if json_:
            print(json.dumps(report.to_json(), indent=2))
        else:
            from rich.console import Console

            render(report, Console())
        return 1 if report.stops_training else 0

    return flags.run(check, "photogram check", arguments)


def _quickstart(arguments: Sequence[str]) -> int:
    def command(out: Path = Path("quickstart")) -> int:
        """Train a small network on a toy world and paint scenes that it has not seen; offline, in minutes.

        Args:
            out: the folder for the data, the run and the paintings.
        """
        from photogram.quickstart import quickstart

        sheet = quickstart(out)
        print(NEXT.format(sheet=sheet, out=out))
        return 0

    return flags.run(command, "photogram quickstart", arguments)


NEXT = """
Open {sheet}
  Threes of a layout that the network has not seen, what it painted, and the toy world's own picture.
  {out}/run/report.html has the curves.

Next, with your own photographs and layouts (`. .venv/bin/activate` puts photogram on the path):
  photogram prepare palette YOUR_FOLDER --out data      # photos/ and layouts/, colour-coded; or cityscapes, camvid, ...
  photogram check data
  photogram train crn --data data --out runs/mine --size 192 256 --perceptual squeezenet --steps 20000
  photogram synthesize runs/mine data/val/layouts --out painted --sheet"""

VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "quickstart": _quickstart,
    "prepare": prepare.run,
    "check": _check,
    "plan": plan.run,
    "train": train.run,
    "synthesize": synthesize.run,
    "sample": sample.run,
    "colorize": colorize.run,
    "cluster": cluster.run,
    "evaluate": evaluate.run,
    "import": importing.run,
}
