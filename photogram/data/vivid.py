"""Training photographs as the authors of CRN tone-mapped them for 512p and 1024p: the preparer `vivid`.

Specification of CRN, section 5.4, after Farbman et al. 2008 (edge-preserving decompositions). The lightness is split by
two weighted-least-squares smoothings into a base and two layers of detail; S-curves stretch them in three ways, and the
result is the mean of the three. It is a strong S-curve, not a mild boost of saturation.

CIE L*a*b* is taken relative to D50, to which sRGB's own white (D65) is adapted by Bradford's method, as in the ICC
transform that the authors' MATLAB code uses; greys have a* = b* = 0 exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from photogram.data.carrying import RECORD, check_apart, is_done
from photogram.data.preparing import Plan, Prepared, SourceScene, carry_out_with, check_fit, read_objects, targets
from photogram.data.rewriting import folder_scenes, read_layout
from photogram.errors import UserError
from photogram.images import copy_file, read_photo, resize_labels, resize_photo, write_image, write_labels
from photogram.scene import Size

Device = Literal["auto", "cpu", "cuda"]

_SRGB_TO_XYZ_D50 = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
_DELTA = 6 / 29  # CIE: below its cube, the lightness is linear

_ALPHA, _EPSILON, _LOG_EPSILON = 1.2, 1e-4, 2.22e-16
_TOLERANCE = 1e-6  # of the solver: the norm of the residual over that of the right-hand side
_MOST_STEPS = 50_000  # some 500 to 1000 are usual


# --- colours ---------------------------------------------------------------------------------------------------------


def srgb_to_lab(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """sRGB in 0..1 to CIE L*a*b* relative to D50: L* in 0..100."""
    matrix = rgb.new_tensor(_SRGB_TO_XYZ_D50)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    ratio = linear @ matrix.T / matrix.sum(dim=1)
    f = torch.where(ratio > _DELTA**3, ratio.clamp(min=_DELTA**3) ** (1 / 3), ratio / (3 * _DELTA**2) + 4 / 29)
    x, y, z = f.unbind(dim=-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def lab_to_srgb(lab: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """The inverse of `srgb_to_lab`, exact up to rounding. Colours outside sRGB's gamut are clipped to 0..1."""
    matrix = lab.new_tensor(_SRGB_TO_XYZ_D50)
    lightness, a, b = lab.unbind(dim=-1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=-1)
    ratio = torch.where(f > _DELTA, f**3, 3 * _DELTA**2 * (f - 4 / 29))
    linear = (ratio * matrix.sum(dim=1) @ torch.linalg.inv(matrix).T).clamp(0, 1)
    low = 0.04045 / 12.92  # not the rounded 0.0031308, so that the two ways meet
    return torch.where(linear <= low, 12.92 * linear, 1.055 * linear.clamp(min=low) ** (1 / 2.4) - 0.055).clamp(0, 1)


# --- smoothing -------------------------------------------------------------------------------------------------------


def wls_smooth(
    lightness: Float[Tensor, "h w"], strength: float, start: Float[Tensor, "h w"] | None = None
) -> Float[Tensor, "h w"]:
    """Weighted-least-squares smoothing (Farbman et al. 2008): u_p + sum_q w_pq (u_p - u_q) = L_p for all pixels p.

    q are the neighbours above, below, left and right that exist; w_pq = strength / (|ln L_p - ln L_q|^1.2 + 1e-4).
    Solved by conjugate gradients, preconditioned by the diagonal, to a relative residual of 1e-6. Multigrid and
    incomplete Cholesky preconditioners were tried: fewer but longer steps saved half the time at best, and neither is
    as short or as fit for a GPU.

    Args:
        lightness: 0 or more, float64 for the residual to be reached.
        strength: lambda.
        start: where to begin, such as a weaker smoothing of the same.

    Raises:
        RuntimeError: where the solver does not converge (float32, or values that are not finite).
    """
    logs = (lightness + _LOG_EPSILON).log()
    below = strength / (logs.diff(dim=0).abs() ** _ALPHA + _EPSILON)
    beside = strength / (logs.diff(dim=1).abs() ** _ALPHA + _EPSILON)
    diagonal = torch.ones_like(lightness)
    diagonal[1:] += below
    diagonal[:-1] += below
    diagonal[:, 1:] += beside
    diagonal[:, :-1] += beside

    def system(u: Tensor, product: Tensor) -> None:
        torch.mul(diagonal, u, out=product)
        product[1:].addcmul_(below, u[:-1], value=-1)
        product[:-1].addcmul_(below, u[1:], value=-1)
        product[:, 1:].addcmul_(beside, u[:, :-1], value=-1)
        product[:, :-1].addcmul_(beside, u[:, 1:], value=-1)

    return _conjugate_gradients(system, 1 / diagonal, lightness, lightness if start is None else start)


def _conjugate_gradients(
    system: Callable[[Tensor, Tensor], None], inverse: Tensor, wanted: Tensor, start: Tensor
) -> Tensor:
    """Solve system(u) = wanted for a symmetric positive definite system, which writes into its second argument;
    `inverse` is that of its diagonal. No step allocates memory, which would take as long as computing."""
    solution, product = start.clone(), torch.empty_like(wanted)
    system(solution, product)
    residual, direction, better = wanted - product, torch.zeros_like(wanted), torch.empty_like(wanted)
    energy, enough = float("inf"), _TOLERANCE**2 * _dot(wanted, wanted)
    for _ in range(_MOST_STEPS):
        if _dot(residual, residual) <= enough:
            return solution
        torch.mul(inverse, residual, out=better)
        before, energy = energy, _dot(residual, better)
        direction.mul_(energy / before).add_(better)
        system(direction, product)
        step = energy / _dot(direction, product)
        solution.add_(direction, alpha=step)
        residual.sub_(product, alpha=step)
    raise RuntimeError(f"the smoothing did not converge in {_MOST_STEPS:,} steps; it needs finite float64 values")


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


# --- tones -----------------------------------------------------------------------------------------------------------


def s_curve(x: Float[Tensor, "*shape"], steepness: float) -> Float[Tensor, "*shape"]:
    """S(x, a) = (1 / (1 + e^-ax) - 1/2) * 0.5 / (1 / (1 + e^(-a/2)) - 1/2): odd, and S(0.5, a) = 0.5."""
    scale = torch.tanh(torch.tensor(steepness / 4, dtype=torch.float64)).item()
    return torch.tanh(x * (steepness / 2)) * (0.5 / scale)


def _bent(x: Tensor, amount: float) -> Tensor:
    """A layer as `amount` asks: as it is at 0, weaker (1 + amount) below, through the S-curve above."""
    if amount == 0:
        return x
    return x * (1 + amount) if amount < 0 else s_curve(x, amount)


def tone(
    lightness: Float[Tensor, "h w"],
    fine: Float[Tensor, "h w"],
    coarse: Float[Tensor, "h w"],
    v0: float,
    v1: float,
    v2: float,
    exposure: float,
) -> Float[Tensor, "h w"]:
    """A new lightness from the three layers of an old one.

    Args:
        lightness: L, 0..100.
        fine: L0, its weaker smoothing.
        coarse: L1, its stronger smoothing.
        v0: how the finest detail, L - L0, is bent: 0 not at all, below 0 weaker by that share, above 0 by an S-curve.
        v1: the same for L0 - L1.
        v2: the same for the base L1, about its middle, 56.
        exposure: a factor on the base.
    """
    base = 100 * _bent((exposure * coarse - 56) / 100, v2) + 56
    return base + 100 * _bent((fine - coarse) / 100, v1) + 100 * _bent((lightness - fine) / 100, v0)


def vivid(photo: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """The vivid target of a photograph (specification of CRN, section 5.4), which the authors resized first.

    Args:
        photo: sRGB in 0..1 (values outside are clipped), on any device with float64.

    Returns:
        sRGB in 0..1, of the same type; uniform grey 0.1, 0.25, 0.5, 0.75, 0.9 becomes 36, 74, 180, 223, 243 of 255.
    """
    lab = srgb_to_lab(photo.double().clamp(0, 1) ** 0.75)
    lightness = lab[..., 0].clamp(min=0)  # rounding can leave black below 0, which has no logarithm
    fine = wls_smooth(lightness, 0.125)
    coarse = wls_smooth(lightness, 0.5, start=fine)
    colors = lab[..., 1:] * 1.1
    total = torch.zeros_like(lab)
    for v0, v1, v2, exposure in ((25, 1, 1, 1.0), (1, 40, 1, 1.0), (4, 1, 15, 1.1)):  # fine, medium, coarse
        mapped = tone(lightness, fine, coarse, v0, v1, v2, exposure)
        total += lab_to_srgb(torch.cat([mapped[..., None], colors], dim=-1))
    return (total / 3).to(photo.dtype)


# --- folders ---------------------------------------------------------------------------------------------------------


def prepare_vivid(
    source: Path, *, out: Path, size: Size | None = None, device: Device = "auto", quiet: bool = False
) -> Prepared:
    """Prepare a data folder whose training photographs are vivid targets.

    Only photographs of `train` change, and become PNG; those of val and of other splits stay plain, for they are what
    paintings are compared with. Layouts, instance maps and classes stay as they are. Photographs are copied, not
    linked: a link would let a change to one folder reach the other.

    The authors resized first, and how far the smoothing reaches depends on the size: give `size` the size of the
    training. All splits are then resized, photographs bicubic with antialiasing, layouts and instance maps by the
    nearest rule.

    Args:
        source: a data folder with plain photographs.
        out: the data folder to write.
        size: height and width; None keeps each file's own.
        device: where photographs are smoothed; auto is a CUDA GPU where there is one. The last digit may differ.
        quiet: show no progress.

    Raises:
        UserError: where something is missing, damaged or does not fit, or the source is vivid already.
    """
    source, out = Path(source), Path(out)
    if size is not None and min(size) < 1:
        raise UserError(f"--size {size[0]} {size[1]}: must be a height and a width of 1 or more")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA GPU here; use --device cpu")
    where = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
    classes, items, warnings = folder_scenes(source)
    if _made_by(source) == "vivid":
        raise UserError(f"{source}: was made by `photogram prepare vivid`; give the folder that it was made from")
    if not any(i.split == "train" and i.photo for i in items):
        raise UserError(f"{source}/train: no layout has a photograph; only photographs for training become vivid")
    check_apart(source, out, {p.parent for i in items for p in (i.layout, i.photo, i.instances) if p})
    originals = {(i.split, i.stem): i for i in items}
    settings: dict[str, object] = {"size": None if size is None else list(size)}

    def write(item: SourceScene) -> list[str]:
        original = originals[item.split, item.stem]
        _write(original, targets(item, out), read_layout(original.layout, len(classes)), size, where)
        return []

    def done(item: SourceScene) -> bool:
        original, paths = originals[item.split, item.stem], targets(item, out)
        parts = {"layouts": original.layout, "photos": original.photo, "instances": original.instances}
        return all(is_done(path, paths[part]) for part, path in parts.items() if path)

    written = [_as_written(i, size) for i in items]
    plan = Plan("vivid", source, settings, classes, written, tuple(warnings))
    return carry_out_with(plan, out, write, done, quiet, at_once=False)  # torch uses all processors for one photograph


def _made_by(folder: Path) -> object:
    """The preparer that a folder's record names, if it has a record that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record.get("preparer") if isinstance(record, dict) else None


def _as_written(item: SourceScene, size: Size | None) -> SourceScene:
    """The scene with its photograph's name as it will be: what is computed becomes PNG."""
    computed = item.photo is not None and (item.split == "train" or size is not None)
    return replace(item, photo=item.photo.with_suffix(".png")) if item.photo and computed else item


def _write(
    item: SourceScene, paths: dict[str, Path], layout: np.ndarray, size: Size | None, device: torch.device
) -> None:
    """Write the files of one scene, the layout last, after checking that they fit."""
    objects = read_objects(item)
    check_fit(item, layout, objects)
    if item.photo:
        if item.split == "train":
            photo = torch.from_numpy(_resized(read_photo(item.photo), size)).to(device, torch.float64) / 255
            write_image((vivid(photo) * 255 + 0.5).floor().to("cpu", torch.uint8).numpy(), paths["photos"])
        elif size is not None:
            write_image(_resized(read_photo(item.photo), size), paths["photos"])
        else:
            copy_file(item.photo, paths["photos"])
    if objects is not None:
        objects = objects if size is None else resize_labels(objects, size)
        write_labels(objects, paths["instances"])
    write_image(layout if size is None else resize_labels(layout, size), paths["layouts"])


def _resized(photo: np.ndarray, size: Size | None) -> np.ndarray:
    return photo if size is None else resize_photo(photo, size)
