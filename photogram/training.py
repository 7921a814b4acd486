"""The only training loop. It never learns which networks exist, and resumes to the last bit.

Order, flips and noise are functions of (seed, rank, step), so the only state is what the recipe keeps. A run folder has

- `run.json`: what was asked for; the same command continues, another is refused; and what was found on the way;
- `state/`: to go on from;
- `config.json`, `model.safetensors`, `README.md`: the published network (a folder each where there are several);
- `evaluation.jsonl`, `best/`: what a judge said of the network and which it liked best, where there was one;
- `sound/`: the last network without bright blobs, while the published one has them;
- `log.jsonl`: the losses of every step; `samples/`: sheets of held-out scenes; `report.html`: both, to look at;
- `tensorboard/`: losses and times.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from photogram import opinions
from photogram.advice import STEPS, has_blobs, is_diagnostic
from photogram.checkpoint import discard_after, last_good, load_state, save_state, saved_steps, state_beside
from photogram.errors import UserError
from photogram.generator import Generator, Network, Reader, UnaskedGenerator
from photogram.images import PIXEL_LIMIT, replacing, write_image
from photogram.interrupts import Interrupted as Interrupted
from photogram.interrupts import Stop, stopping_softly
from photogram.loading import Batches, load
from photogram.nn.winograd import where_it_helps
from photogram.opinions import Judge as Judge
from photogram.precision import Precision, check_precision, resolved
from photogram.progress import progress
from photogram.recipe import Recipe, Run, Scenes, Training, check_preview
from photogram.report import model_card, write_report
from photogram.runfolder import agree, keep_sound, only_one, read_settings, settle, write_found
from photogram.runlog import RunLog
from photogram.scene import Scene
from photogram.sheets import scene_sheet, seed_sheet
from photogram.sizes import least_side

PREVIEWS = 6
"""Held-out scenes that are painted in every sheet."""
SEEDS = 36
"""Seeds that are painted in every sheet of a network that is asked for nothing."""
Look = Callable[[Mapping[str, Network]], Mapping[str, float]]
"""Diagnoses the published networks, by name; draws no numbers of torch's own generator."""


@dataclass(frozen=True)
class Plan:
    """How to train, apart from the recipe and the data.

    Args:
        steps: train until so many steps are taken, counted from the first; a later call may ask for more.
        batch_size: photographs a step and process.
        seed: of the first weights, the order and all noise.
        save_every: steps between two saves of state, published network, sheet and report.
        precision: `fp32`; `bf16`: convolutions in bfloat16, norms, losses and weights in float32; `auto`: bf16 where
            the device has it.
        workers: processes that read data ahead.
        start_from: the folder of a published network to start from.
        evaluate_every: steps between two looks at held-out scenes by the judge that `train` is given; 0: none.
        quiet: show no progress.
    """

    steps: int
    batch_size: int = 1
    seed: int = 0
    save_every: int = 1000
    precision: Precision = "auto"
    workers: int = 1
    start_from: Path | None = None
    evaluate_every: int = 0
    quiet: bool = False


def train(
    recipe: Recipe,
    data: Scenes,
    out: str | Path,
    plan: Plan,
    preview: Scenes | None = None,
    judge: Judge | None = None,
    look: Look | None = None,
) -> Path:
    """Train a recipe, or go on training it: the same call continues to the last bit.

    Args:
        recipe: a paper's hyper-parameters.
        data: what to train on.
        out: the run's folder.
        plan: how long, in what portions and precision.
        preview: held-out scenes for the sheets.
        judge: looks at the networks every `plan.evaluate_every` steps; the one that it likes best is kept in `best/`.
        look: what it finds in every 100th step is logged as diagnostics, for advice in the report.

    Returns:
        The run's folder.

    Raises:
        UserError: where the run in `out` was started otherwise, the data does not fit the recipe, a value is not
            finite, or the disk is full. The last good state stays.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    out = Path(out)
    check_plan(recipe, data, plan)
    accelerator = _accelerator(resolved(plan.precision, read_settings(out)))
    main = accelerator.is_main_process
    with only_one(out, main):
        settings = _settings(recipe, data, plan, accelerator)
        agree(out, settings, main, _defaults(recipe))
        torch.manual_seed(plan.seed)
        if accelerator.device.type == "cuda":
            torch.use_deterministic_algorithms(True, warn_only=True)
        resumes = bool(saved_steps(out / "state"))
        start_from = None if resumes else plan.start_from  # it may be gone when a run goes on
        beside = partial(state_beside, start_from)
        run = Run(accelerator, data.spec, len(data), plan.batch_size, plan.seed, start_from, beside, resumes)
        training = recipe.start(run)
        check_preview(training, preview)
        settle(out, settings, main)
        accelerator.wait_for_everyone()
        with closing(_Loop(training, run, data, preview, out, plan, judge, look)) as loop:
            loop.resume()
            loop.run_on()
    return out


def check_plan(recipe: Recipe, data: Scenes, plan: Plan) -> None:
    """Refuse at the door what could only fail later; `train` does so first.

    Raises:
        UserError: naming the flag, its value and the bound.
    """
    for name, least in (
        ("steps", 1),
        ("batch_size", 1),
        ("save_every", 1),
        ("workers", 0),
        ("seed", 0),
        ("evaluate_every", 0),
    ):
        value = getattr(plan, name)
        if not least <= value < 1 << 63:
            bounds = f"at least {least}" if value < least else "below 2^63"
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {bounds}")
    check_precision(plan.precision)
    if not len(data):
        raise UserError("the data holds no scenes to train on")
    if plan.batch_size > len(data):
        raise UserError(f"--batch-size {plan.batch_size}: there are only {len(data)} photographs to train on")
    multiple, size = recipe.size_multiple(), data.spec.size
    if min(size) > 0 and size[0] * size[1] > PIXEL_LIMIT:
        raise UserError(f"--size {size[0]} {size[1]}: must be at most {PIXEL_LIMIT:,} pixels together")
    least = least_side(recipe)
    if any(n < least or n % multiple for n in size):
        possible = (sorted({max(least, m * multiple) for m in (n // multiple, -(-n // multiple))}) for n in size)
        heights, widths = ([str(n) for n in choices] for choices in possible)
        raise UserError(
            f"--size {size[0]} {size[1]}: {type(recipe).__name__} with these settings needs multiples of {multiple}"
            f"{f', {least} at least' if least > multiple else ''}; "
            f"the nearest possible heights are {' and '.join(heights)}, the nearest widths {' and '.join(widths)}"
        )


def _precision(accelerator: Accelerator) -> str:
    return "bf16" if accelerator.mixed_precision == "bf16" else "fp32"


def _accelerator(precision: str) -> Accelerator:
    AcceleratorState._reset_state()  # a process may train twice, in different precisions
    # Without a GPU, accelerate joins processes that torchrun started (by gloo) only where it is told of the CPU.
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    cpu = several and not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="bf16" if precision == "bf16" else "no")


def _settings(recipe: Recipe, data: Scenes, plan: Plan, accelerator: Accelerator) -> dict[str, object]:
    """What must be the same when a run goes on, as JSON gives it back."""
    asked = {f.name: getattr(recipe, f.name) for f in fields(recipe)}  # pyright: ignore[reportArgumentType]
    settings = {
        "recipe": type(recipe).__name__,
        **asked,
        **data.settings(),
        "photographs": len(data),
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "save_every": plan.save_every,
        "evaluate_every": plan.evaluate_every,
        "precision": _precision(accelerator),
        "from": None if plan.start_from is None else str(plan.start_from),
        "processes": accelerator.num_processes,
    }
    return json.loads(json.dumps(settings))


def _defaults(recipe: Recipe) -> dict[str, object]:
    """The values of a recipe that is given none, as JSON."""
    known = {f.name: f.default for f in fields(recipe) if f.default is not MISSING}  # pyright: ignore[reportArgumentType]
    return json.loads(json.dumps(known))


class _Loop:
    """One call of `train`."""

    def __init__(
        self,
        training: Training,
        run: Run,
        data: Scenes,
        preview: Scenes | None,
        out: Path,
        plan: Plan,
        judge: Judge | None,
        look: Look | None,
    ):
        self.training, self.run, self.data, self.preview = training, run, data, preview
        self.judge, self.look, self.out, self.plan, self.accelerator = judge, look, out, plan, run.accelerator
        self.main = run.accelerator.is_main_process
        self.step, self.waited, self.worked = 0, 0.0, 0.0
        self.stop = Stop()
        self.log = RunLog(out, self.main)

    def close(self) -> None:
        self.log.close()

    def resume(self) -> None:
        """Take up the newest whole state, and cut off what was logged after it."""
        found = load_state(self.out / "state", self.say)
        if found is not None:
            self.step, state = found
            self.training.load_state_dict(state["training"])
        if self.step > self.plan.steps:
            raise UserError(f"--steps {self.plan.steps}: this run has taken {self.step} steps already; ask for more")
        self.accelerator.wait_for_everyone()  # until all have read it
        with self.writing():
            if self.main:
                discard_after(self.out / "state", self.step)
            self.log.cut(self.step)
            if self.main:
                opinions.until(self.out, self.step)
        if self.main and self.step and self._published_step() != self.step:  # killed after the state was saved
            self.show()
        self.accelerator.wait_for_everyone()

    def run_on(self) -> None:
        seen_a_step = self.plan.batch_size * self.accelerator.num_processes
        if self.step == self.plan.steps:
            self.say(f"{self.out}: has taken all {self.step} steps; a larger --steps goes on")
            return
        batches = Batches(
            len(self.data),
            self.plan.seed,
            self.plan.batch_size,
            range(self.step, self.plan.steps),
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        quiet = self.plan.quiet or not self.main
        announcement = "stopping after this step; once more to stop at once, without saving"
        with (
            stopping_softly(None if quiet else announcement) as self.stop,
            progress("training", self.plan.steps, self.step, quiet) as advance,
            closing(load(self.data, batches, self.plan.workers)) as scenes,
        ):
            while self.step < self.plan.steps:
                before = time.perf_counter()
                scene = self._next(scenes).to(self.accelerator.device)
                ready = time.perf_counter()
                torch.manual_seed(self._noise_seed())
                with where_it_helps(self.accelerator.device, _precision(self.accelerator)):
                    losses = self.training.step(scene, self.step * seen_a_step)
                self._take_losses(losses, advance, before)
                self.waited += ready - before
                self.worked += time.perf_counter() - ready
                stop = self._all_stop()
                if stop or self.step == self.plan.steps or self.step % self.plan.save_every == 0 or self._is_judged():
                    self.save()
                if stop:
                    raise Interrupted(f"stopped after step {self.step}; the same command goes on from there")

    def _next(self, scenes: Iterator[Scene]) -> Scene:
        """The next batch; where a file cannot be read, nothing that was learned is lost."""
        try:
            return next(scenes)
        except UserError as e:
            if not self.step or self.accelerator.num_processes > 1:  # the others wait in their step, not for a save
                raise
            if self.step not in saved_steps(self.out / "state"):
                self.save()
            raise UserError(
                f"{e}. Stopped after step {self.step}, which is saved. If it was whole when this run began, bring it "
                f"back and repeat the command; else mend it and start another run --from {self.out}"
            ) from None

    def _noise_seed(self) -> int:
        sequence = np.random.SeedSequence([self.plan.seed, 2, self.accelerator.process_index, self.step])
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)

    def _take_losses(self, losses: Mapping[str, Tensor], advance: Callable[[str], None], began: float) -> None:
        """Log the step that was just taken, the mean over all processes; refuse to go on with what is not finite."""
        together = self.run.mean(torch.stack([value.detach().float() for value in losses.values()])).tolist()
        values = dict(zip(losses, together, strict=True))
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise self._not_finite(self.step + 1, f"among the losses, {', '.join(wrong)}")
        self.step += 1
        if self.look is not None and self.main and self.step % STEPS == 0:  # advice judges so many steps together
            with self.accelerator.autocast():
                values |= self.look(self.training.published())
        seconds = time.perf_counter() - began
        seen_a_step = self.plan.batch_size * self.accelerator.num_processes
        with self.writing():
            self.log.write(self.step, self.step * seen_a_step, values, seen_a_step / seconds)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:4])
        advance(f"{seen_a_step / seconds:.2f} images/s  {shown}")

    def _not_finite(self, step: int, what: str) -> UserError:
        return UserError(
            f"{self.out}: step {step}: {what}; stopped, {last_good(self.out / 'state', self.step)}. "
            "Try a lower learning rate, or --precision fp32"
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A disk that is full, or gone, is no bug of ours."""
        try:
            yield
        except OSError as e:
            kept = last_good(self.out / "state", self.step)
            raise UserError(
                f"{e.filename or self.out}: cannot be written ({e.strerror or e}); {kept}. "
                "Make room, and the same command goes on from there"
            ) from e

    def save(self) -> None:
        """Save the state, then what people look at."""
        self.accelerator.wait_for_everyone()
        if self.main:
            state = self.training.state_dict()
            for place, tensor in _tensors(state):
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise self._not_finite(self.step, f"{place} holds values that are not finite")
            with self.writing():
                self.log.flush()
            save_state(self.out / "state", self.step, {"training": state})
            self.show()
        self.accelerator.wait_for_everyone()  # a process that ends early may take the others with it

    def show(self) -> None:
        """Publish what stands at this step: networks, sheet, report."""
        with self.writing():
            self._publish(sheet=self.step % self.plan.save_every == 0 or self.step == self.plan.steps)

    def _published_step(self) -> int | None:
        try:
            return int((self.out / "state" / "published").read_text())
        except (OSError, ValueError):
            return None

    def _publish(self, sheet: bool) -> None:
        facts = self._facts()
        write_found(self.out, self.training.facts())
        networks = self.training.published()
        keep_sound(self.out, has_blobs(self.log.diagnostics()))
        sheets = {}
        for name, network in networks.items():
            folder = self.out if len(networks) == 1 else self.out / name
            drawn = self._sheet(name, network) if sheet else None
            if drawn is not None:
                sheets[name] = drawn
            network.save_pretrained(folder, model_card(network, facts))
        if self.judge is not None and self._is_judged():
            with self.accelerator.autocast():
                self.log.mark(self.step, opinions.ask(self.judge, networks, self.out, self.step, facts))
        (self.out / "samples").mkdir(exist_ok=True)
        for name, pixels in sheets.items():
            prefix = "" if len(networks) == 1 else f"{name}-"
            write_image(pixels, self.out / "samples" / f"{prefix}step-{self.step:08}.png")
        if self.worked:
            share = 100 * self.waited / (self.waited + self.worked)
            facts["waited for data"] = f"{share:.1f} % of the time"
        write_report(self.out, facts)
        with replacing(self.out / "state" / "published") as file:  # last: what is not here is published again
            file.write(str(self.step).encode())

    def _sheet(self, name: str, network: Network) -> np.ndarray | None:
        """What a published network makes of held-out scenes, or of seeds where it is asked for nothing."""
        with self.accelerator.autocast():
            if isinstance(network, UnaskedGenerator):
                return seed_sheet(network, SEEDS)
            if isinstance(network, Generator | Reader) and self.preview is not None and len(self.preview):
                return scene_sheet(network, self.preview, PREVIEWS, partial(self.training.scene_for, name))
        return None

    def _is_judged(self) -> bool:
        every = self.plan.evaluate_every
        return self.judge is not None and every > 0 and self.step % every == 0

    def _facts(self) -> dict[str, str]:
        """What the model card and the report say of the run; nothing here depends on the clock."""
        settings = read_settings(self.out) or {}
        losses = "  ".join(f"{k} {v:.4g}" for k, v in self.log.recent().items() if not is_diagnostic(k))
        asked = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items() if v is not None}
        names = f"{len(self.data)}, {self.data.name(0)} to {self.data.name(len(self.data) - 1)}"
        return {
            **asked,
            "data": f"{self.data.source} (fingerprint {settings.get('data')})",
            "photographs": names,
            **self.training.facts(),
            "steps": str(self.step),
            "losses (mean of the last 100 steps)": losses,
        }

    def _all_stop(self) -> bool:
        """Whether any process was asked to stop, known to all of them."""
        if self.accelerator.num_processes == 1:
            return self.stop.asked
        asked = self.run.mean(torch.tensor(float(self.stop.asked), device=self.accelerator.device))
        return bool(asked > 0)

    def say(self, message: str) -> None:
        if self.main and not self.plan.quiet:
            from rich.console import Console

            Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)


def _tensors(state: object, place: str = "state") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield place, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{place}.{key}")
    elif isinstance(state, list | tuple):
        for n, value in enumerate(state):
            yield from _tensors(value, f"{place}.{n}")
