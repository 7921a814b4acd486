"""What a judge says while a training goes on, in `evaluation.jsonl`; the network that it likes best, in `best/`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from photogram.errors import UserError
from photogram.generator import Network
from photogram.images import replacing
from photogram.report import model_card

RECORD, BEST = "evaluation.jsonl", "best"


class Opinion(Protocol):
    """What a judge says of a network."""

    @property
    def values(self) -> Mapping[str, float]:
        """For the record, by name."""
        ...

    @property
    def score(self) -> float:
        """By which the best is chosen; more is better, and what is not finite is worst."""
        ...


Judge = Callable[[Network], Opinion | None]
"""Looks at a published network; None where it cannot say anything of such a one."""


def until(out: Path, step: int) -> list[dict[str, Any]]:
    """What was said up to a step; later lines, of a training that was killed, are cut off.

    Args:
        out: the run's folder.
        step: of the state that it goes on from.

    Raises:
        UserError: where the record is damaged.
    """
    path = out / RECORD
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [line for line in lines if line["step"] <= step]
    except (ValueError, TypeError, KeyError) as e:
        raise UserError(f"{path}: is damaged ({e}); bring it back, or remove it and {out / BEST}") from None
    if len(kept) < len(lines):
        _write(out, kept)
    return kept


def ask(
    judge: Judge, networks: Mapping[str, Network], out: Path, step: int, facts: Mapping[str, str]
) -> dict[str, float]:
    """Let the judge look at what stands at a step, keep each network that it likes best so far, and record it.

    Args:
        judge: whom to ask.
        networks: as published, by name.
        out: the run's folder.
        step: how many were taken; asked again at the same step, it says the same again.
        facts: for the model card.

    Returns:
        What it said, by name.
    """
    before = [line for line in until(out, step) if line["step"] < step]
    said: dict[str, float] = {}
    scores: dict[str, float] = {}
    for name, network in networks.items():
        opinion = judge(network)
        if opinion is None:
            continue
        prefix = "" if len(networks) == 1 else f"{name} "
        said |= {f"{prefix}{key}": value for key, value in opinion.values.items()}
        scores[name] = opinion.score
        if all(_rank(opinion.score) > _rank(earlier["scores"].get(name)) for earlier in before):
            folder = out / BEST if len(networks) == 1 else out / BEST / name
            network.save_pretrained(folder, model_card(network, {**facts, "chosen": f"best of {RECORD}"}))
    _write(out, [*before, {"step": step, **said, "scores": scores}])
    return said


def _rank(score: float | None) -> float:
    """What is not finite, null in the record, is worse than any number."""
    return score if score is not None and math.isfinite(score) else -math.inf


def _write(out: Path, lines: list[dict[str, Any]]) -> None:
    with replacing(out / RECORD) as file:
        file.write("".join(json.dumps(_plain(line), allow_nan=False) + "\n" for line in lines).encode())


def _plain(value: Any) -> Any:
    """As JSON has it: what is not finite is null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
