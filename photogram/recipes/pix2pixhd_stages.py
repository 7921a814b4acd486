"""What a stage of pix2pixHD takes over from the one before: the generator's parts, and discriminators by their size.

T.-C. Wang et al., CVPR 2018, section 3.1 (specification 4.4 and 4.8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from photogram.errors import UserError
from photogram.images import replacing
from photogram.nn.multiscale import MultiScaleDiscriminator, carry_scales
from photogram.recipe import Run, check_source
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import SceneSpec

JUDGES = "discriminator.safetensors"
"""Discriminators beside an imported network, as a training's state has them."""


@runtime_checkable
class Stage(Protocol):
    """What is asked of a recipe here."""

    @property
    def enhancers(self) -> int: ...

    @property
    def train_encoder(self) -> bool: ...

    @property
    def freeze_epochs(self) -> int: ...

    def network(self, spec: SceneSpec, encoder_shrink: int = 1) -> CoarseToFineGenerator: ...


class Begun(NamedTuple):
    """A generator as a training begins with it."""

    generator: CoarseToFineGenerator
    taken: dict[str, str]
    """What it took from `--from`, and what it did not, for people."""
    doublings: int
    """By so many enhancers it has more than that one, each of which doubles the size."""


def begun(recipe: Stage, run: Run) -> Begun:
    """The generator with what it takes from `--from`; of a run that goes on, its form alone."""
    if run.resumes:
        return Begun(recipe.network(run.spec), {}, 0)
    if run.start_from is None:
        if not recipe.train_encoder:
            raise UserError("--no-train-encoder: the encoder must come from a run; name one with --from")
        if recipe.freeze_epochs:
            raise UserError(
                f"--freeze-epochs {recipe.freeze_epochs}: what would be frozen has learned nothing; name the run "
                "of the coarser networks with --from, or give 0"
            )
        return Begun(recipe.network(run.spec), {}, 0)
    source = CoarseToFineGenerator.from_pretrained(run.start_from)
    doublings = recipe.enhancers - source.enhancers
    if doublings < 0:
        raise UserError(
            f"--from {run.start_from}: was trained with --enhancers {source.enhancers}, but this run has "
            f"{recipe.enhancers}; give {source.enhancers} or more"
        )
    generator = recipe.network(run.spec, 1 if recipe.train_encoder else source.encoder_shrink * 2**doublings)
    _check_flags(f"--from {run.start_from}", source, generator, recipe)
    check_source(run, source, generator, free=_free(source, recipe))
    left = ("style_", *(() if source.enhancers == recipe.enhancers else ("last.",)))
    weights = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith(left)}
    generator.load_state_dict({**generator.state_dict(), **weights})
    fresh = {name for name, _ in generator.named_parameters()} - weights.keys()
    dropped = {name for name, _ in source.named_parameters()} - weights.keys()
    taken = {"taken from --from": _parts(weights), "begun anew": _parts(fresh), "left behind": _parts(dropped)}
    return Begun(generator, taken, doublings)


def _check_flags(where: str, source: CoarseToFineGenerator, generator: CoarseToFineGenerator, recipe: Stage) -> None:
    """Refuse what `check_source` would refuse by another name than that of its flag."""
    had, wanted = (
        f"--features {network.style_by} --feature-channels {network.style_channels}" if network.style_channels else ""
        for network in (source, generator)
    )
    if had != wanted:
        was = f"was trained with {had}" if had else f"was trained without styles, not with {wanted}"
        raise UserError(f"{where}: {was}; give it the same")
    if source.attention and not generator.attention:
        raise UserError(f"{where}: has self-attention in its generator; give --generator-attention")
    if not source.encodes and not recipe.train_encoder:
        raise UserError(f"{where}: has no encoder, so that there is none to keep; leave out --no-train-encoder")


def _free(source: CoarseToFineGenerator, recipe: Stage) -> tuple[str, ...]:
    """The arguments in which a generator may differ from its source: those of parts that the source lacks, and others
    that change no weight."""
    free = ["enhancers", "encoder_shrink", "clusters", "pyramid", "attention"]
    free += [] if source.enhancers else ["enhancer_blocks"]
    free += [] if source.style_channels else ["style_by", "encoder_width"]
    free += ["encodes"] if recipe.train_encoder else []  # it may have been published without
    return tuple(free)


def _parts(names: Iterable[str]) -> str:
    """Names of parameters by the part of the network that they are in, for people."""
    found: dict[str, int] = {}
    for name in names:
        first, second, *_ = name.split(".")
        part = f"{first} {second}" if second.isdigit() else first
        found[part] = found.get(part, 0) + 1
    return ", ".join(f"{part} ({count} tensors)" for part, count in sorted(found.items())) or "nothing"


def take_judges(run: Run, judges: MultiScaleDiscriminator, doublings: int) -> dict[str, str]:
    """Give the discriminators those of `--from`, each at the size of picture that it knows, and say which.

    Args:
        run: names the source.
        judges: changed.
        doublings: of the size, since the source.
    """
    if run.start_from is None:
        return {}
    state = (run.start_state() or {}).get("discriminator") or _read_judges(run.start_from)
    if state is None:
        return {"discriminators": "begun anew: there is no state beside the network of --from"}
    taken, left = carry_scales(judges, state, f"--from {run.start_from}", doublings)
    behind = f", {left} left behind" if left else ""
    return {"discriminators": f"{taken} taken from --from, {len(judges.scales) - taken} begun anew{behind}"}


def write_judges(judges: MultiScaleDiscriminator, folder: Path) -> None:
    """Put discriminators beside a network that others trained, for stages of ours."""
    weights = {name: tensor.contiguous() for name, tensor in judges.state_dict().items()}
    with replacing(folder / JUDGES) as file:
        file.write(safetensors.torch.save(weights))


def _read_judges(folder: Path) -> Mapping[str, Tensor] | None:
    """What `write_judges` wrote; None where it did not.

    Raises:
        UserError: where it is damaged.
    """
    path = folder / JUDGES
    if not path.is_file():
        return None
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as e:
        raise UserError(f"{path}: cannot be read ({e}); import the network again") from None
