"""The loop: the same command goes on to the last bit, and nothing that can go wrong loses what was trained."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    ENVIRONMENT,
    ROOT,
    Blocks,
    ClassColors,
    Colors,
    digest,
    lines_of,
    outcome,
    start_python,
    wait_for,
)

import photogram.checkpoint
import photogram.runlog
import photogram.training
from photogram.data.toy import Toy, write_toy
from photogram.errors import UserError
from photogram.loading import scene_at
from photogram.recipe import Run
from photogram.recipes import CRN
from photogram.training import Interrupted, Plan, train

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than there are cores

PLAN = Plan(steps=6, batch_size=2, save_every=4, precision="fp32", workers=0, quiet=True)
RECIPE = Colors()


def go(out: Path, steps: int = 6, recipe: Any = RECIPE, data: Any = None, preview: Any = None, **plan: Any) -> Path:
    data = Blocks() if data is None else data
    return train(recipe, data, out, replace(PLAN, steps=steps, **plan), preview)


def refused(message: str, *arguments: Any, **options: Any) -> str:
    """What `go` says; one line that holds the message."""
    with pytest.raises(UserError) as caught:
        go(*arguments, **options)
    said = str(caught.value)
    assert message in said and "\n" not in said, said
    return said


def steps_in(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> dict[str, str]:
    """What twelve steps without a stop come to."""
    return outcome(go(tmp_path_factory.mktemp("through") / "run", 12, preview=Blocks(count=2)))


# --- going on --------------------------------------------------------------------------------------------------------


def test_the_same_call_goes_on_and_more_steps_extend(out, through):
    for steps in (3, 4, 4, 9, 12, 12):
        go(out, steps, preview=Blocks(count=2))
        assert steps_in(out) == list(range(1, steps + 1))
    assert through.items() <= outcome(out).items()


def test_when_all_is_done_nothing_is_touched(out, capsys):
    go(out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    go(out, quiet=False)
    after = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    changed = {p.name for p in before if before[p] != after.get(p)}
    assert changed <= {".lock", "log.jsonl"}, "the log is opened, no more"
    assert "has taken all 6 steps; a larger --steps goes on" in capsys.readouterr().err


def test_fewer_steps_are_refused(out):
    go(out, 6)
    before = digest(out / "log.jsonl")
    refused("--steps 5: this run has taken 6 steps already; ask for more", out, 5)
    assert digest(out / "log.jsonl") == before
    go(out, 7)


@dataclass(frozen=True)
class Paints(Colors):
    """The same, under another name."""


DIFFERENCES: dict[str, tuple[dict[str, Any], str, str]] = {
    "learning_rate": ({"recipe": Colors(learning_rate=0.1)}, "0.05", "0.1"),
    "widths": ({"recipe": Colors(widths=(1, 2))}, "[1]", "[1, 2]"),
    "mode": ({"recipe": Colors(mode="fancy")}, '"plain"', '"fancy"'),
    "hard": ({"recipe": Colors(hard=True)}, "false", "true"),
    "recipe": ({"recipe": Paints()}, '"Colors"', '"Paints"'),
    "size": ({"data": Blocks((8, 6))}, "[6, 8]", "[8, 6]"),
    "batch_size": ({"batch_size": 3}, "2", "3"),
    "seed": ({"seed": 1}, "0", "1"),
    "save_every": ({"save_every": 5}, "4", "5"),
    "evaluate_every": ({"evaluate_every": 3}, "0", "3"),
    "precision": ({"precision": "bf16"}, '"fp32"', '"bf16"'),
    "data": ({"data": Blocks(data="4567")}, '"0123"', '"4567"'),
    "flip": ({"data": Blocks(flip=True)}, "false", "true"),
    "fit": ({"data": Blocks(fit="crop")}, '"stretch"', '"crop"'),
    "photographs": ({"data": Blocks(count=8)}, "7", "8"),
    "from": ({"start_from": Path("other")}, "null", '"other"'),
}


@pytest.mark.parametrize(("name", "difference"), DIFFERENCES.items(), ids=DIFFERENCES)
def test_another_setting_is_refused_with_both_values(out, name, difference):
    options, before, now = difference
    go(out, 2)
    kept = outcome(out)
    said = refused(f"{out}: this run was started with {name} = {before}, not {now};", out, 4, **options)
    assert "only --steps (to more) and --workers may differ" in said
    assert outcome(out) == kept
    go(out, 3)


def test_every_setting_is_compared(out):
    """The list above is whole: what `run.json` holds, save what was found and the fields that only serve the tests."""
    go(out, 1)
    settings = json.loads((out / "run.json").read_text())
    for_tests = {"multiple", "nan_at", "infinite_at", "slow", "stop_at", "big"}
    assert set(settings) == {*DIFFERENCES, "processes", "found"} | for_tests


def test_another_number_of_processes_is_refused(out):
    go(out, 2)
    settings = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**settings, "processes": 4}))
    refused("this run was started with processes = 4, not 1", out, 4)


def test_a_setting_that_a_later_version_adds_is_refused(out):
    go(out, 2)
    settings = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**settings, "new": 4}))
    refused("this run was started with new = 4, not null", out, 4)


def test_a_run_from_before_there_was_a_setting_goes_on_where_it_has_its_default(out):
    go(out, 2)
    settings = json.loads((out / "run.json").read_text())
    del settings["mode"]
    (out / "run.json").write_text(json.dumps(settings))
    refused('this run was started with mode = "plain", not "fancy"', out, 4, recipe=Colors(mode="fancy"))
    go(out, 4)
    assert json.loads((out / "run.json").read_text())["mode"] == "plain"


@pytest.mark.parametrize("content", ("", "{", "[]", "7", "\udcff"))
def test_damaged_settings_are_refused(out, content):
    go(out, 2)
    (out / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    refused("run.json: ", out, 4)
    refused("run.json: ", out, 4, precision="auto")


def test_precision_auto_is_decided_once(out, monkeypatch):
    go(out, 2, precision="bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    go(out, 4, precision="auto")
    refused('precision = "bf16", not "fp32"', out, 6, precision="fp32")
    for has, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        go(out.with_name(chosen), 1, precision="auto")
        if not torch.cuda.is_available():
            assert json.loads((out.with_name(chosen) / "run.json").read_text())["precision"] == chosen


def test_workers_may_differ(out, through):
    for steps, workers in ((2, 1), (5, 0), (9, 2), (12, 1)):
        go(out, steps, preview=Blocks(count=2), workers=workers)
    assert through.items() <= outcome(out).items()


def test_seeds_and_noise_matter(out):
    """What is equal above is so because it is repeated, not because nothing depends on it."""
    go(out)
    go(out.with_name("other"), seed=1)
    assert digest(out / "model.safetensors") != digest(out.with_name("other") / "model.safetensors")
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(set(losses)) == len(losses)


# --- at the door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "multiple", "message"),
    (
        ((100, 128), 64, "multiples of 64; the nearest possible heights are 64 and 128, the nearest widths 128"),
        ((128, 100), 64, "multiples of 64; the nearest possible heights are 128, the nearest widths 64 and 128"),
        ((30, 500), 64, "multiples of 64; the nearest possible heights are 64, the nearest widths 448 and 512"),
        ((0, 16), 8, "multiples of 8; the nearest possible heights are 8, the nearest widths 16"),
    ),
)
def test_sizes_that_cannot_be_are_refused_with_the_nearest(out, size, multiple, message):
    said = refused(message, out, recipe=Colors(multiple=multiple), data=Blocks(size))
    assert said.startswith(f"--size {size[0]} {size[1]}: Colors with these settings needs ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    (
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"batch_size": 0}, "--batch-size 0: must be at least 1"),
        ({"save_every": -1}, "--save-every -1: must be at least 1"),
        ({"workers": -1}, "--workers -1: must be at least 0"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"seed": 1 << 63}, f"--seed {1 << 63}: must be below 2^63"),
        ({"data": Blocks(count=0)}, "the data holds no scenes to train on"),
    ),
)
def test_plans_that_cannot_be_are_refused(out, options, message):
    refused(message, out, **options)
    assert not out.exists()


def test_an_unknown_precision_is_refused(out):
    plan = replace(PLAN)
    object.__setattr__(plan, "precision", "fp16")  # what an untyped program may do
    with pytest.raises(UserError, match="--precision fp16: must be one of auto, fp32, bf16"):
        train(RECIPE, Blocks(), out, plan)


@pytest.mark.parametrize("precision", ("auto", "fp32"))
def test_out_is_a_file(tmp_path, precision):
    (tmp_path / "file").write_text("mine")
    refused("file: is a file, not a folder; give another --out", tmp_path / "file", precision=precision)
    refused("run: cannot be written (Not a directory)", tmp_path / "file" / "run", precision=precision)
    assert (tmp_path / "file").read_text() == "mine"


def test_out_cannot_be_written(out, monkeypatch):
    out.mkdir()
    opened = Path.open

    def read_only(path, mode="r", *rest, **options):
        if "w" in mode:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", read_only)
    refused(f"{out}: cannot be written (Permission denied); give another --out", out)


@pytest.mark.parametrize("stranger", ("notes.txt", ".hidden", "model.safetensors", ".thing.1.partial"))
def test_a_foreign_folder_is_refused(out, stranger):
    out.mkdir()
    (out / stranger).write_text("mine")
    refused(f"{out}: is not empty ({stranger} is there) and holds no run; give another --out", out)
    assert (out / stranger).read_text() == "mine"


def test_an_empty_folder_will_do(out):
    out.mkdir()
    go(out)


def test_a_mistake_before_the_start_can_be_mended_in_the_same_folder(out):
    """A mistyped --from, a feature network that is not there."""
    refused("no such folder", out, start_from=Path("nowhere"))
    go(out, 2)
    assert json.loads((out / "run.json").read_text())["from"] is None


def test_what_killed_trainings_left_half_written_is_swept(out):
    out.mkdir()
    (out / ".run.json.77.partial").write_text("{")
    go(out, 2, preview=Blocks(count=1))
    left = [
        out / ".model.safetensors.77.partial",
        out / "samples" / ".a.png.7.partial",
        out / "state/.published.7.partial",
    ]
    for path in left:
        path.write_bytes(b"half")
    go(out, 4)
    assert not [p for p in left if p.exists()] and not (out / ".run.json.77.partial").exists()


def test_starting_from_a_network(out, tmp_path):
    source = go(tmp_path / "source", 40)
    learned = ClassColors.from_pretrained(source).colors.weight
    go(out, 1, start_from=source)
    assert float((ClassColors.from_pretrained(out).colors.weight - learned).detach().abs().max()) < 0.06
    go(out.with_name("fresh"), 1)
    assert (
        float((ClassColors.from_pretrained(out.with_name("fresh")).colors.weight - learned).detach().abs().max()) > 0.2
    )


def test_where_it_started_from_may_go(out, tmp_path):
    """Once there is a state, the network that it started from is not needed; its name still counts."""
    source = go(tmp_path / "source", 3)
    go(tmp_path / "through", 6, start_from=source)
    go(out, 2, start_from=source)
    source.rename(tmp_path / "elsewhere")
    go(out, 6, start_from=source)
    assert (out / "log.jsonl").read_bytes() == (tmp_path / "through" / "log.jsonl").read_bytes()
    refused("this run was started with from = ", out, 7)


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_log_does_not_depend_on_the_clock(out, monkeypatch):
    go(out, 5)
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 3 * real() + 1000)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    go(out.with_name("later"), 5, workers=1)
    monkeypatch.undo()
    assert (out / "log.jsonl").read_bytes() == (out.with_name("later") / "log.jsonl").read_bytes()
    for n, line in enumerate((out / "log.jsonl").read_text().splitlines(), start=1):
        entry = json.loads(line)
        assert list(entry) == ["step", "seen", "loss", "half"]
        assert entry["step"] == n and entry["seen"] == 2 * n and entry["half"] == pytest.approx(entry["loss"] / 2)


TAILS = {
    "a line more": b'{"step": 7, "seen": 14, "loss": 1.0}\n',
    "many lines": b"".join(b'{"step": %d}\n' % n for n in range(7, 40)),
    "half a line": b'{"step": 7, "se',
    "a line and a half": b'{"step": 7, "seen": 14, "loss": 1.0, "half": 0.5}\n{"st',
    "zeros": b"\0" * 512,
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_what_was_logged_after_the_state_is_cut(out, through, tail):
    go(out, 6, preview=Blocks(count=2))
    with (out / "log.jsonl").open("ab") as log:
        log.write(tail)
    go(out, 12, preview=Blocks(count=2))
    assert through.items() <= outcome(out).items()


def test_a_log_shorter_than_the_state_is_refused(out):
    go(out, 6)
    whole = (out / "log.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = {
        b"".join(lines[:5]): 6,
        b"".join(lines[:5]) + lines[5].rstrip(b"\n"): 6,
        b"": 1,
        b"".join(lines[1:]): 1,
        lines[0] + lines[2] + lines[1] + b"".join(lines[3:]): 2,
        lines[0] + b"[]\n" + b"".join(lines[2:]): 2,
        lines[0] + b"\xff\xfe\n" + b"".join(lines[2:]): 2,
    }
    for content, n in changed.items():
        (out / "log.jsonl").write_bytes(content)
        refused(f"log.jsonl: line {n} is not of step {n}, but the state is of step 6", out, 8)
        assert (out / "log.jsonl").read_bytes() == content, "it is left as it is"
    (out / "log.jsonl").unlink()
    refused("log.jsonl: line 1 is not of step 1", out, 8)
    (out / "log.jsonl").write_bytes(whole)
    go(out, 8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_losses_and_times_and_forgets_what_was_cut(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    go(out, 20, save_every=20)
    # A training that is killed at step 40 has written events that the state knows nothing of.
    go(out, 40, save_every=20)
    for step in photogram.checkpoint.saved_steps(out / "state"):
        if step > 20:
            (out / "state" / f"step-{step:08}" / "state.pt").write_bytes(b"")
    go(out, 30, save_every=20)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"losses/loss", "losses/half", "speed/images per second"}
    logged = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    scalars = events.Scalars("losses/loss")
    assert [event.step for event in scalars] == [10, 20, 30]
    assert [event.value for event in scalars] == pytest.approx([logged[9], logged[19], logged[29]])
    assert all(event.value > 0 for event in events.Scalars("speed/images per second"))


def test_sheets_are_of_the_planned_steps(out):
    go(out, 9, preview=Blocks(count=2))
    assert sorted(p.name for p in (out / "samples").iterdir()) == [f"step-{step:08}.png" for step in (4, 8, 9)]


@pytest.mark.parametrize("preview", (None, Blocks(count=0)), ids=("none", "empty"))
def test_without_held_out_scenes_there_are_no_sheets(out, preview):
    go(out, preview=preview)
    assert list((out / "samples").iterdir()) == [] and (out / "report.html").exists()


# --- values that are not finite --------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(out):
    said = refused("step 7: among the losses, loss is nan, half is nan; stopped", out, 12, recipe=Colors(nan_at=7))
    assert "the last good state is of step 4." in said and str(out) in said
    assert photogram.checkpoint.saved_steps(out / "state") == [4] and steps_in(out) == [1, 2, 3, 4, 5, 6]
    refused("step 7: among the losses, loss is nan, half is nan; stopped", out, 12, recipe=Colors(nan_at=7))
    go(out, 6, recipe=Colors(nan_at=7))
    assert steps_in(out) == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_not_finite_before_the_first_state(out):
    refused(
        "step 2: among the losses, loss is nan, half is nan; stopped, no state was saved yet.",
        out,
        recipe=Colors(nan_at=2),
    )


def test_a_weight_that_is_not_finite_is_never_saved(out):
    said = refused("step 8: state.extra.infinite holds values", out, 12, recipe=Colors(infinite_at=6))
    assert "not finite; stopped, the last good state is of step 4." in said
    assert photogram.checkpoint.saved_steps(out / "state") == [4]
    assert "- steps: 4\n" in (out / "README.md").read_text(), "nor published"


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", (1, 4, 7, 8))
def test_ctrl_c_saves_and_the_same_call_goes_on(out, step, through):
    """At a step of its own, and at one where the state is saved anyhow."""
    recipe, before = Colors(stop_at=step), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=rf"^stopped after step {step}; the same command goes on from there$"):
        go(out, 12, recipe=recipe, preview=Blocks(count=2))
    assert signal.getsignal(signal.SIGINT) is before
    assert photogram.checkpoint.saved_steps(out / "state")[-1] == step and steps_in(out)[-1] == step
    assert (out / "model.safetensors").exists()
    go(out, 12, recipe=recipe, preview=Blocks(count=2))
    result = outcome(out)
    assert {k: v for k, v in result.items() if k != "README.md"} == {
        k: v
        for k, v in through.items()
        if k != "README.md"  # it tells the recipe's fields
    }


def test_ctrl_c_at_the_last_step_is_no_loss(out):
    recipe = Colors(stop_at=6)
    with pytest.raises(Interrupted):
        go(out, 6, recipe=recipe)
    go(out, 6, recipe=recipe)
    assert steps_in(out) == [1, 2, 3, 4, 5, 6]


def command(data: Path, out: Path, steps: int, *more: str) -> list[str]:
    line = f"train crn --data {data} --out {out} --size 16 24 --steps {steps} --widths 64 64 64 --perceptual squeezenet"
    line += " --batch-size 2 --save-every 40 --precision fp32 --learning-rate 0.01 --calibrate-first 4"
    return [sys.executable, "-m", "photogram", *line.split(), *more]


def run(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=280, **options)


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "data", size=(16, 24), train=10, val=2, quiet=True)


@pytest.fixture(scope="module")
def undisturbed(toy_folder, tmp_path_factory) -> dict[str, str]:
    """What the command comes to in 80 steps without a stop."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = run(command(toy_folder, out, 80))
    assert done.returncode == 0, done.stderr
    assert f"trained; open {out}/report.html" in done.stderr
    return outcome(out)


def test_signals_to_the_command(tmp_path, toy_folder, undisturbed):
    """Ctrl-C to the process, SIGTERM to its whole group, readers included: saved, status 130, nothing lost."""
    out = tmp_path / "run"
    for at, stop in ((8, lambda p: p.send_signal(signal.SIGINT)), (44, lambda p: os.killpg(p.pid, signal.SIGTERM))):
        process = start(command(toy_folder, out, 80, "--workers", "1"))
        wait_for(lambda at=at: lines_of(out) >= at, process)
        stop(process)
        said = process.communicate(timeout=250)[1]
        assert process.returncode == 130, said
        taken = lines_of(out)
        assert "stopping after this step; once more to stop at once, without saving" in said
        assert f"photogram: stopped after step {taken}; the same command goes on from there" in said
        assert "Traceback" not in said and at <= taken < 80
        assert photogram.checkpoint.saved_steps(out / "state")[-1] == taken
    done = run(command(toy_folder, out, 80, "--workers", "0"))
    assert done.returncode == 0, done.stderr
    assert outcome(out) == undisturbed


SLOW = """
import sys, torch
from pathlib import Path
from dataclasses import replace
from small_training import Blocks, Colors
from photogram.training import Plan, train
slow, workers = float(sys.argv[2]), int(sys.argv[3])
plan = Plan(steps=10_000, batch_size=2, save_every=4, precision="fp32", workers=workers)
try:
    train(Colors(slow=slow), Blocks(), Path(sys.argv[1]), plan)
except KeyboardInterrupt as e:
    print(type(e).__name__, flush=True)
    sys.exit(130)
"""


def test_a_second_ctrl_c_stops_at_once_and_one_training_holds_a_folder(out):
    process = start_python(SLOW, str(out), "600", "0")
    wait_for(lambda: (out / "log.jsonl").exists(), process)
    refused(f"{out}: another training is running in this folder", out, recipe=Colors(slow=600.0))
    time.sleep(1)  # until it is in the first step
    process.send_signal(signal.SIGINT)
    heard: list[str] = []
    assert process.stderr is not None
    while not any("once more" in line for line in heard):
        heard.append(process.stderr.readline())
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and said == "KeyboardInterrupt\n", "not Interrupted, which has saved"
    assert time.monotonic() - asked < 60 and photogram.checkpoint.saved_steps(out / "state") == []


def test_the_lock_falls_with_the_process_though_its_readers_live_on(out):
    process = start_python(SLOW, str(out), "0.01", "1")
    wait_for(lambda: (out / "state" / "published").exists(), process)
    process.kill()
    process.wait()
    steps = lines_of(out) + 20
    go(out, steps, recipe=Colors(slow=0.01))
    assert steps_in(out) == list(range(1, steps + 1))
    process.communicate()


# --- disks and files -------------------------------------------------------------------------------------------------


def full(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_the_state_is_written(tmp_path, toy_folder, undisturbed):
    """The system's own limit on the size of a file: the state does not fit, all else does."""
    out = tmp_path / "run"
    assert run(command(toy_folder, out, 40)).returncode == 0
    state = (out / "state" / "step-00000040" / "state.pt").stat().st_size
    limit = (state + (out / "model.safetensors").stat().st_size) // 2
    done = run(
        command(toy_folder, out, 80), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"photogram: {out}/state: the state of step 80 cannot be written (File too large); "
        "the last good state is of step 40"
    )
    assert "Traceback" not in done.stderr
    assert photogram.checkpoint.saved_steps(out / "state") == [40]
    assert run(command(toy_folder, out, 80)).returncode == 0
    assert outcome(out) == undisturbed


@pytest.mark.parametrize("what", ("log", "state", "network", "sheet", "report"))
def test_a_full_disk_wherever_it_is_noticed(out, monkeypatch, through, what):
    """One line that names the last good state; with room again, the same call comes to the same end."""
    go(out, 4, preview=Blocks(count=2))
    place = {
        "log": (photogram.runlog.os, "fsync"),
        "state": (photogram.checkpoint.torch, "save"),
        "network": (ClassColors, "save_pretrained"),
        "sheet": (photogram.training, "write_image"),
        "report": (photogram.training, "write_report"),
    }[what]
    with monkeypatch.context() as m:
        m.setattr(*place, full)
        last = 4 if what in ("log", "state") else 8
        said = refused(f"the last good state is of step {last}", out, 12, preview=Blocks(count=2))
        assert "cannot be written (No space left on device)" in said and str(out) in said
    assert photogram.checkpoint.saved_steps(out / "state")[-1] == last
    go(out, 12, preview=Blocks(count=2))
    assert through.items() <= outcome(out).items()


def test_a_full_disk_at_a_line_of_the_log(out, monkeypatch):
    monkeypatch.setattr(photogram.runlog.RunLog, "write", full)
    refused("cannot be written (No space left on device); no state was saved yet. Make room, and ", out)


def test_what_could_not_be_published_is_published_by_the_next_call(out, monkeypatch, through):
    """Though there is no step left to take."""
    with monkeypatch.context() as m:
        m.setattr(photogram.training, "write_report", full)
        refused("the last good state is of step 4", out, 12, preview=Blocks(count=2))
        refused("the last good state is of step 4", out, 12, preview=Blocks(count=2))
    go(out, 8, preview=Blocks(count=2))
    with monkeypatch.context() as m:
        m.setattr(ClassColors, "save_pretrained", full)
        refused("the last good state is of step 12", out, 12, preview=Blocks(count=2))
    assert "- steps: 8\n" in (out / "README.md").read_text()
    go(out, 12, preview=Blocks(count=2))
    assert through == outcome(out)


@pytest.mark.parametrize("workers", (0, 1))
def test_a_damaged_photograph_is_one_line_and_nothing_is_lost(out, through, workers):
    order = [scene_at(place, 7, 0)[0] for place in range(7)]
    line = "photos/block_{:02}.jpg: cannot be decoded, damaged or cut short"
    assert refused("", out, 12, data=Blocks(damaged=order[1]), workers=workers) == line.format(order[1])
    assert photogram.checkpoint.saved_steps(out / "state") == [], "nothing was learned yet"
    said = refused("", out, 12, data=Blocks(damaged=order[6]), workers=workers)
    assert said.startswith(f"{line.format(order[6])}. Stopped after step 3, which is saved. ")
    assert photogram.checkpoint.saved_steps(out / "state") == [3] and steps_in(out) == [1, 2, 3]
    go(out, 12, preview=Blocks(count=2), workers=workers)
    assert outcome(out) == through


def test_a_damaged_state_is_passed_over(out, through, capsys):
    go(out, 8, preview=Blocks(count=2))
    path = out / "state" / "step-00000008" / "state.pt"
    path.write_bytes(path.read_bytes()[:-40])
    go(out, 12, preview=Blocks(count=2), quiet=False)
    assert f"{path.parent}: is damaged; going back to the state before it" in capsys.readouterr().err
    assert through.items() <= outcome(out).items()


def test_a_damaged_state_does_not_count_among_those_that_are_kept(out):
    go(out, 6)
    (out / "state" / "step-00000006" / "state.pt").write_bytes(b"")
    go(out, 7)
    assert photogram.checkpoint.saved_steps(out / "state") == [4, 7]


def test_all_states_damaged_is_refused(out):
    go(out, 8)
    for path in (out / "state").glob("step-*/state.pt"):
        path.write_bytes(b"")
    refused(f"{out / 'state'}: every state is damaged (2 of them); train into another folder", out, 12)


# --- what a recipe is told -------------------------------------------------------------------------------------------


def test_a_recipe_is_told_what_it_cannot_know(out, monkeypatch):
    told: list[Run] = []
    start_colors = Colors.start

    def watched(self, run):
        told.append(run)
        return start_colors(self, run)

    monkeypatch.setattr(Colors, "start", watched)
    data = Blocks(count=5)
    go(out, 1, data=data, seed=3)
    (given,) = told
    assert (given.spec, given.photographs, given.batch_size, given.seed) == (data.spec, 5, 2, 3)
    assert given.start_from is None and given.accelerator.num_processes == 1


def test_progress_shows_losses_speed_and_time_left(out, capsys):
    go(out, quiet=False)
    said = capsys.readouterr().err
    assert "training: 6/6, 0:00:00 left" in said and "images/s" in said and "loss " in said


# --- what was refused leaves nothing behind --------------------------------------------------------------------------


def test_a_run_that_was_refused_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="--batch-size 999: there are only"):
        train(Colors(), Blocks(), tmp_path / "run", Plan(steps=2, batch_size=999, workers=0, quiet=True))
    with pytest.raises(UserError, match="no such folder"):
        missing = Plan(steps=2, workers=0, quiet=True, start_from=tmp_path / "nowhere")
        train(
            CRN(widths=(4, 4), perceptual="squeezenet"), Toy("train", size=(16, 24), count=2), tmp_path / "run", missing
        )
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_state_may_begin_anew(tmp_path):
    """One that was killed, or refused, before anything was learned does not pin its settings."""
    out = tmp_path / "run"
    train(Colors(), Blocks(), out, Plan(steps=2, workers=0, quiet=True))
    for state in (out / "state").glob("step-*"):
        shutil.rmtree(state)
    train(Colors(), Blocks(), out, Plan(steps=2, seed=7, workers=0, quiet=True))
    assert json.loads((out / "run.json").read_text())["seed"] == 7
    with pytest.raises(UserError, match="seed = 7, not 8"):
        train(Colors(), Blocks(), out, Plan(steps=2, seed=8, workers=0, quiet=True))


def test_an_absurd_size_is_refused_before_anything_is_made(tmp_path):
    data = Toy("train", size=(16, 24), count=2)
    data.spec = data.spec.resized((480_000, 640_000))
    with pytest.raises(UserError, match="--size 480000 640000: must be at most 134,217,728 pixels together"):
        train(CRN(widths=(4, 4), perceptual="squeezenet"), data, tmp_path / "run", Plan(steps=2, quiet=True))
    assert not (tmp_path / "run").exists()
