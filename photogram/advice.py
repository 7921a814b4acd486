"""What to do where the diagnostics of an adversarial training are out of range: one plain sentence each.

Judged are means over what the last `STEPS` steps logged, since single steps say little, and none of fewer. The bounds
are ours, and none is a law; of the first 100 steps of a small pix2pix on the toy world only the checkerboard was
outside. Diagnostics are what a training logs under names with a stroke (`accuracy/paintings`);
`photogram.nn.diagnostics` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping

BLOBS = "blobs/trunk"
"""What tells of bright blobs (specification 9, number 8)."""
STEPS = 100
"""Steps over which means are taken."""

SURE, LOST = 0.97, 0.2
"""A discriminator is right of both more often than this, or of one of them less often. Neither side winning is 0.5."""
FLAT, STEEP = 1e-4, 1e4
"""Lengths of a network's gradient below and above which it hardly learns, or leaps."""
CLIPPED = 0.25
"""By so much the share of black and white values in paintings is above that in photographs."""
PATTERNED, MORE_PATTERNED = 0.75, 0.15
"""A checkerboard above this (1/2 is none, 1 nothing else), and by so much above that of photographs."""
CONCENTRATED = 0.5
"""A bright blob: more than this share of the energy of the generator's trunk lies in a 256th of its area."""
COVERED = 1.0
"""A generator is told where it shows a smaller share of the toy world's kinds of scene than this. Of 64 of its own
photographs a kind is missed once in a hundred times."""


def is_diagnostic(name: str) -> bool:
    """Whether what is logged under this name is a diagnostic, and no loss."""
    return "/" in name


def advice(means: Mapping[str, float]) -> list[str]:
    """What to do, a sentence for each thing that is out of range; none where all is well.

    Args:
        means: over the last `STEPS` steps, by name; what is missing is not judged.
    """
    found: list[str] = []
    real, fake = means.get("accuracy/photographs"), means.get("accuracy/paintings")
    if real is not None and fake is not None:
        if min(real, fake) > SURE:
            found.append(
                f"The discriminator is right of {real:.0%} of photographs and {fake:.0%} of paintings, so that the "
                "generator learns little from it: with few photographs try --augment color translation cutout, else a "
                "narrower discriminator."
            )
        elif min(real, fake) < LOST:
            what, other = ("photographs", "paintings") if real < fake else ("paintings", "photographs")
            found.append(
                f"The discriminator takes {1 - min(real, fake):.0%} of {what} for {other}, so that the generator can "
                "do as it likes: try a lower --learning-rate, or a wider discriminator."
            )
    for name in ("generator", "discriminator"):
        norm = means.get(f"gradient/{name}")
        if norm is not None and norm < FLAT:
            found.append(
                f"The {name}'s gradient has nearly vanished ({norm:.2g}), so it no longer learns: start again with a "
                "lower --learning-rate, or from the last good network with --from."
            )
        elif norm is not None and norm > STEEP:
            found.append(f"The {name}'s gradient is very large ({norm:.2g}): lower --learning-rate.")
    if has_blobs(means):
        found.append(
            f"A 256th of the area of the generator's residual trunk holds {means[BLOBS]:.0%} of its energy, which "
            "becomes bright blobs that stay: start another run --from the folder `sound` of this one, which holds the "
            "last network without them, and give it --spectral or a --discriminator-rate below --learning-rate; a run "
            "that starts without --from can be given --pad reflect as well."
        )
    return [*found, *_faults(means), *_collapse(means)]


def has_blobs(means: Mapping[str, float]) -> bool:
    """Whether a generator is likely to paint bright blobs that do not go away.

    Args:
        means: over the last `STEPS` steps, by name.
    """
    return means.get(BLOBS, 0.0) > CONCENTRATED


def _faults(means: Mapping[str, float]) -> list[str]:
    """Of the paintings themselves, against what photographs show."""
    found: list[str] = []
    real, fake = means.get("saturated/photographs"), means.get("saturated/paintings")
    if real is not None and fake is not None and fake - real > CLIPPED:
        found.append(
            f"{fake:.0%} of the values of paintings are at black or white, of photographs {real:.0%}: lower "
            "--learning-rate, and start again if it stays so."
        )
    real, fake = means.get("checkerboard/photographs"), means.get("checkerboard/paintings")
    if real is not None and fake is not None and fake > max(PATTERNED, real + MORE_PATTERNED):
        found.append(
            f"Paintings hold a pattern that repeats every few pixels ({fake:.2f}; photographs {real:.2f}), as is usual "
            "early in a training: go on, and if it stays, lower --learning-rate or publish an --average."
        )
    return found


def _collapse(means: Mapping[str, float]) -> list[str]:
    """Of what kinds a generator shows, on the toy world, of which they are known (`photogram.metrics.toy_moods`)."""
    covered = means.get("modes/covered")
    if covered is None or covered >= COVERED:
        return []
    shares = {name.removeprefix("modes/"): share for name, share in means.items() if name.startswith("modes/")}
    shown = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if name != "covered")
    return [
        f"The generator paints {covered:.0%} of the toy world's kinds of scene ({shown}), as is usual early in a "
        "training: go on, and if it stays so, try a larger --batch-size or --game wgangp."
    ]
