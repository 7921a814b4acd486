"""The quickstart: how many steps it takes, and that it can be stopped and started again."""

from pathlib import Path

import pytest

from photogram import quickstart as module
from photogram.quickstart import FIRST, MOST, SECONDS, affordable_steps, quickstart


@pytest.mark.parametrize(
    ("seconds_a_step", "expected"),
    [
        (SECONDS / MOST / 2, MOST),  # a quick processor: as many as are enough
        (SECONDS / (4 * FIRST), 4 * FIRST),  # a slow one: what fits
        (SECONDS, FIRST),  # a very slow one: not fewer than were taken already
    ],
)
def test_steps_fit_the_time(seconds_a_step: float, expected: int) -> None:
    assert affordable_steps(FIRST, FIRST, FIRST * seconds_a_step, MOST) == expected


def test_after_an_interruption_the_speed_is_that_of_the_steps_that_were_timed() -> None:
    assert affordable_steps(FIRST + 50, 50, 50 * SECONDS / (2 * FIRST), MOST) == 2 * FIRST


def test_it_paints_a_sheet_and_a_second_call_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTHS": (8, 8, 8, 8, 8), "TRAIN": 12, "VAL": 6}.items():
        monkeypatch.setattr(module, name, value)
    sheet = quickstart(tmp_path, most=2, quiet=True)
    assert sheet == tmp_path / "painted" / "sheet.png"
    painted = sheet.read_bytes()
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert quickstart(tmp_path, most=2, quiet=True).read_bytes() == painted
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
