"""The perceptual loss of Cascaded Refinement Networks and of what is compared with them.

Q. Chen and V. Koltun, ICCV 2017: equation 1 (one painting), section 3.3 (the weights lambda) and 3.4 (several paintings
of one layout, of which each class keeps the best).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from photogram.errors import UserError
from photogram.nn.gradients import first_only, kept_or_computed_again
from photogram.nn.trunks import Trunk, load_trunk
from photogram.scene import SceneSpec

AUTHORS: dict[str, tuple[float, ...]] = {
    "256p, one image, first release": (1, 1, 1, 1, 1, 10),
    "256p, nine images": (1, 1 / 1.6, 1 / 2.3, 1 / 1.8, 1 / 2.8, 10 / 0.8),
    "512p and 1024p, one image": (1, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5),
    "GTA at 256p, nine images": (1, 1 / 1.4, 1 / 1.8, 1 / 1.3, 1 / 2.2, 10 / 0.62),
}
"""Lambda for pixels, then conv1_2 .. conv5_2 of MatConvNet's VGG-19, of each model that the authors of CRN released."""

LOSS_WEIGHTS: dict[str, tuple[float, ...]] = {
    "vgg19-matconvnet": AUTHORS["512p and 1024p, one image"],
    # Pixels, then conv1, fire3 .. fire9: calibrated once on CamVid at 96 x 128, see docs/papers/crn.md.
    "squeezenet": (1, 2.56, 1.33, 1.62, 2.88, 12.7),
}
"""Lambda for pixels and for each feature map, by feature network; others are calibrated."""

LOSS_WEIGHTS_OF_MANY: dict[str, tuple[float, ...]] = {"vgg19-matconvnet": AUTHORS["256p, nine images"]}
"""The same where there are several paintings of a layout."""


def load_features(perceptual: str) -> Trunk | None:
    """The feature network of that name or file (`photogram.nn.trunks.load_trunk`); `none` compares pixels alone."""
    return None if perceptual == "none" else load_trunk(perceptual)


def known_weights(trunk: Trunk | None, candidates: int) -> tuple[float, ...]:
    """The lambdas that are known for a feature network, or nothing."""
    if trunk is None:
        return (1.0,)
    table = LOSS_WEIGHTS if candidates == 1 else {**LOSS_WEIGHTS, **LOSS_WEIGHTS_OF_MANY}
    return table.get(trunk.name, ())


class MeanAbsoluteDifference(torch.autograd.Function):
    """The mean of |a - b| as one number in float32 or wider, with the gradient for a.

    It reads large feature maps in the precision that they come in, where the plain formula would copy them to float32
    and spread the mean's gradient over a map of its own.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        difference = a - b
        ctx.save_for_backward(difference)
        wide = torch.promote_types(difference.dtype, torch.float32)
        return difference.abs().sum(dtype=wide) / difference.numel()

    @staticmethod
    @first_only
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return difference.sign() * (grads[0] / difference.numel()).to(difference.dtype), None


def mean_absolute_difference(a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    """The mean of |a - b|; gradients go to `a` alone."""
    result = MeanAbsoluteDifference.apply(a, b)
    assert isinstance(result, Tensor)
    return result


class MaskedAbsoluteDifference(torch.autograd.Function):
    """Mean over places of mask p times the mean over channels of |a_k - b|, for each k and p; gradients for a.

    The plain formula makes k times p maps; here a product of matrices takes their place.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor, masks: Tensor) -> Tensor:
        difference = a - b[:, None]
        ctx.save_for_backward(difference, masks)
        wide = torch.promote_types(difference.dtype, torch.float32)
        apart = difference.abs().mean(2, dtype=wide).flatten(2)  # n k hw
        with torch.autocast(a.device.type, enabled=False):  # sums over many places need the wide type
            return apart @ masks.flatten(2).to(wide).mT / apart.shape[-1]

    @staticmethod
    @first_only
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        difference, masks = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        by_place = grads[0] @ masks.flatten(2).to(grads[0].dtype)  # n k hw
        count = difference.shape[2] * masks.shape[-2] * masks.shape[-1]
        weight = (by_place / count).unflatten(2, masks.shape[-2:])[:, :, None]
        return difference.sign() * weight.to(difference.dtype), None, None


def masked_absolute_difference(
    a: Float[Tensor, "n k c h w"], b: Float[Tensor, "n c h w"], masks: Float[Tensor, "n p h w"]
) -> Float[Tensor, "n k p"]:
    """Mean over places of mask p times the mean over channels of |a_k - b|; gradients go to `a` alone."""
    result = MaskedAbsoluteDifference.apply(a, b, masks)
    assert isinstance(result, Tensor)
    return result


MEAN_SHARE = 0.001
"""Of the mean over all paintings in the loss, so that none is forgotten (the authors' code)."""


def best_by_class(costs: Float[Tensor, "n k p"]) -> Float[Tensor, ""]:
    """The best painting of each class, with a small share of the mean, summed over classes (section 4).

    Args:
        costs: weighted and summed over terms, for each painting k and class p.
    """
    least, mean = costs.min(1).values.sum(-1), costs.mean(1).sum(-1)
    return ((1 - MEAN_SHARE) * least + MEAN_SHARE * mean).mean()


class Remembered:
    """Feature maps of photographs by their content, as many as there is room for; those that come first stay.

    Not the latest, since photographs come round in another order: of the latest that fit, few would be met again.

    Args:
        trunk: the frozen feature network.
        room: bytes.
    """

    def __init__(self, trunk: Trunk, room: int):
        self.trunk, self.room, self.held = trunk, room, 0
        self.maps: dict[tuple[tuple[int, ...], bytes], list[Tensor]] = {}

    def __call__(self, photo: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """As of the trunk, of one photograph after the other, so that what is remembered makes no difference."""
        found = [self._of(one[None]) for one in photo]
        return found[0] if len(found) == 1 else [torch.cat(maps) for maps in zip(*found, strict=True)]

    def _of(self, photo: Tensor) -> list[Tensor]:
        content = photo.detach().cpu().contiguous()
        key = tuple(content.shape), hashlib.blake2b(content.numpy().data, digest_size=16).digest()
        if key in self.maps:
            return self.maps[key]
        maps = list(self.trunk(photo))
        needed = sum(one.numel() * one.element_size() for one in maps)
        if needed <= self.room:
            self.room -= needed
            self.held += needed
            self.maps[key] = maps
        return maps

    def to_come(self, photographs: int) -> int:
        """Bytes that so many photographs of the size of the first would take besides, were there room for all."""
        return self.held // max(1, len(self.maps)) * max(0, photographs - len(self.maps))


class PerceptualLoss(nn.Module):
    """The mean absolute difference of pixels and of feature maps (equation 1), each times its lambda.

    Pixels are compared on 0..255, as in the paper; the feature network rescales as it needs.

    Args:
        trunk: the frozen feature network; None compares pixels alone.
        room: bytes for the feature maps of photographs, so that those seen again need no pass.
    """

    def __init__(self, trunk: Trunk | None, room: int = 0):
        super().__init__()
        self.trunk = trunk
        self.look = trunk if trunk is None or not room else Remembered(trunk, room)

    def memory_to_come(self, photographs: int) -> int:
        """Bytes of the feature maps of so many photographs that are not remembered yet, were there room for all."""
        return self.look.to_come(photographs) if isinstance(self.look, Remembered) else 0

    @property
    def names(self) -> tuple[str, ...]:
        return ("image", *(() if self.trunk is None else self.trunk.layers))

    def forward(self, painting: Float[Tensor, "n c h w"], photo: Float[Tensor, "n c h w"]) -> Float[Tensor, " terms"]:
        """One unweighted mean per term, in grey levels for pixels and in feature units for the rest."""
        photographed, painted = self._of_photograph(photo), self._of_painting(painting)
        pixels = 127.5 * mean_absolute_difference(painting.float(), photo)
        return torch.stack([pixels, *map(mean_absolute_difference, painted, photographed)])

    def by_class(
        self,
        paintings: Float[Tensor, "n k c h w"],
        photo: Float[Tensor, "n c h w"],
        masks: Float[Tensor, "n p h w"],
        one_by_one: bool = False,
    ) -> Float[Tensor, "terms n k p"]:
        """What each class of a layout contributes to each painting's terms: their sum over classes is the term.

        Args:
            paintings: k of each layout.
            photo: the photograph of the layout.
            masks: the layout as planes, which sum to 1; they are area-averaged to the size of each feature map.
            one_by_one: the feature maps of one painting after the other, made again for gradients: less memory.
        """
        photographed = self._of_photograph(photo)

        def terms(some: Tensor) -> Tensor:
            painted = self._of_painting(some.flatten(0, 1))
            pairs = [(127.5 * some.float(), 127.5 * photo)]
            pairs += [(f.unflatten(0, some.shape[:2]), p) for f, p in zip(painted, photographed, strict=True)]
            found = []
            for ours, theirs in pairs:
                size = ours.shape[-2:]
                sized = masks if size == masks.shape[-2:] else F.interpolate(masks, size, mode="area")
                found.append(masked_absolute_difference(ours, theirs, sized))
            return torch.stack(found)

        parts = paintings.split(1, 1) if one_by_one else [paintings]
        return torch.cat([kept_or_computed_again(terms, one_by_one, part) for part in parts], 2)

    def _of_photograph(self, photo: Tensor) -> list[Tensor]:
        if self.look is None:
            return []
        with torch.no_grad():
            return list(self.look(photo))

    def _of_painting(self, painting: Tensor) -> list[Tensor]:
        return [] if self.trunk is None else list(self.trunk(painting))


def calibrated(means: Mapping[str, float]) -> tuple[float, ...]:
    """Weights that let every term contribute as much as pixels do: lambda_l = m_0 / m_l (specification 3.4).

    Args:
        means: the finite mean of each term, by name, that of pixels first.

    Raises:
        UserError: where a term is 0, so that no weight can balance it.
    """
    for name, mean in means.items():
        if mean == 0:
            raise UserError(
                f"the term {name!r} is 0 for all photographs that calibrate the loss, so that no weight balances it; "
                f"give weights instead: --loss-weights, one each for {' '.join(means)}"
            )
    first = next(iter(means.values()))
    return tuple(first / mean for mean in means.values())


class Calibration:
    """The lambdas, and the running means from which they are set.

    Known weights stay as they are. Unknown ones follow the running means of the first photographs. Either are rescaled
    by the means of one whole epoch, where that is asked for.

    Args:
        loss: the terms to weigh.
        weights: those that are asked for or known; where there are none, they are calibrated.
        first: where no weights are known, so many first photographs calibrate them.
        epoch: rescale by the means of this epoch, counted from 1; 0: never.
        photographs: how many make an epoch.
        shown: photographs that one step shows, over all processes.
    """

    def __init__(
        self,
        loss: PerceptualLoss,
        *,
        weights: tuple[float, ...] = (),
        first: int = 0,
        epoch: int = 0,
        photographs: int,
        shown: int,
    ):
        name = "pixels alone" if loss.trunk is None else loss.trunk.name
        if weights and len(weights) != len(loss.names):
            names = ", ".join(loss.names)
            raise UserError(
                f"--loss-weights has {len(weights)} values, but {name} has {len(loss.names)} terms: {names}"
            )
        self.epoch, first = range(0), 0 if weights else first
        if epoch:  # from the first step that begins in it to the first that begins after it
            start, stop = (-(-n * photographs // shown) * shown for n in (epoch - 1, epoch))
            self.epoch = range(start, max(stop, start + 1))  # one step at least
            first = min(first, self.epoch.start or self.epoch.stop)  # the epoch has the last word
        self.first, self.names = range(first), loss.names
        self.current: Tensor = torch.tensor(weights or (1.0,) * len(loss.names), dtype=torch.float32)
        self.sums: Tensor = torch.zeros(len(loss.names), dtype=torch.float64)
        self.summed: int = 0

    def weights(self, means: Float[Tensor, " terms"], seen: int) -> Float[Tensor, " terms"]:
        """The weights of the step that follows `seen` photographs, whose unweighted terms are `means`."""
        if seen == self.epoch.start:  # the first photographs are no part of the epoch's mean
            self.sums, self.summed = torch.zeros_like(self.sums), 0
        if seen in self.first or seen in self.epoch:
            measured = means.cpu().double()  # in this order: there are devices without float64
            if not measured.isfinite().all():
                return self.current  # nothing to learn from; the loop is about to stop for this loss
            self.sums, self.summed = self.sums + measured, self.summed + 1
        if self.summed and (seen in self.first or seen >= self.epoch.stop > 0):
            mean = (self.sums / self.summed).tolist()
            self.current = torch.tensor(calibrated(dict(zip(self.names, mean, strict=True))))
        return self.current

    def state_dict(self) -> dict[str, object]:
        return {"current": self.current, "sums": self.sums, "summed": self.summed}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.current, self.sums, self.summed = state["current"], state["sums"], state["summed"]  # pyright: ignore


def check_photographs(spec: SceneSpec, trunk: Trunk | None) -> None:
    """Refuse photographs that the feature network cannot look at.

    Raises:
        UserError: for other channels than 1 or 3, or a size that is too small for the coarsest features.
    """
    if trunk is None:
        return
    if spec.photo_channels not in Trunk.channels:
        raise UserError(
            f"{trunk.name} sees photographs of 1 or 3 channels, but this data's have {spec.photo_channels}; "
            "bring them into grey or RGB"
        )
    if min(spec.size) < trunk.smallest:
        raise UserError(
            f"--size {spec.size[0]} {spec.size[1]}: {trunk.name} needs {trunk.smallest} pixels a side or more"
        )
