"""Multi-scale patch discriminators: alike in form, each judges a picture at half the size of the one before.

T.-C. Wang, M.-Y. Liu, J.-Y. Zhu, A. Tao, J. Kautz and B. Catanzaro, "High-Resolution Image Synthesis and Semantic
Manipulation with Conditional GANs", CVPR 2018, section 3.2 (specification 4.4). With three strided convolutions a logit
sees 70 pixels of its scale, which are 70, 141 and 283 of the picture: the finest judges detail, the coarsest the whole.
Here the finest is the first; in the authors' files it has the highest number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn.halved import halved
from photogram.nn.layout_conv import LayoutLevel, layer
from photogram.nn.norms import instance_norm
from photogram.nn.patch import Shown
from photogram.nn.spectral import normalise_spectrally, normalised
from photogram.optim import init_normal
from photogram.scene import Size

Windows = list[list[tuple[slice, slice]]]
"""For each picture its windows, rows and columns; all of one size and as many for each."""
Part = Float[Tensor, "_ _ _ _"] | tuple[LayoutLevel | Float[Tensor, "_ _ _ _"], Float[Tensor, "_ _ _ _"]]
"""What is shown, in another size."""


class Framed(NamedTuple):
    """What is shown, and the windows in which the finest scale sees it; None: the whole."""

    shown: Shown
    windows: Windows | None


class ScaleDiscriminator(nn.Module):
    """One scale: 4x4 convolutions with padding 2, the first so many of stride 2, then two of stride 1; leaky ReLU.

    Instance norm without a scale after all but the first and the last; every convolution has a bias.

    Args:
        channels: of the pictures, with those of what they were asked by.
        width: features of the first convolution; they double up to eightfold.
        strided: convolutions of stride 2; 3 give patches of 70 pixels.
    """

    def __init__(self, channels: int, width: int = 64, strided: int = 3):
        super().__init__()
        widths = [width * min(2**n, 8) for n in range(strided + 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 4, 2 if n < strided else 1, 2)
            for n, (c_in, c_out) in enumerate(zip((channels, *widths), widths, strict=False))
        )
        self.to_logits = nn.Conv2d(widths[-1], 1, 4, 1, 2)
        init_normal(self)

    def forward(self, shown: Shown) -> list[Tensor]:
        """The features of each convolution but the last, finest first, then the logits [n, 1, h, w] of patches."""
        first, *others = self.convs
        assert isinstance(first, nn.Conv2d)
        x = F.leaky_relu(layer(first, *shown) if isinstance(shown, tuple) else first(shown), 0.2)
        found = [x]
        for conv in others:
            x = F.leaky_relu(instance_norm(conv(x)), 0.2, inplace=True)
            found.append(x)
        return [*found, self.to_logits(x)]


class MultiScaleDiscriminator(nn.Module):
    """Discriminators of one picture at several scales, `scales[0]` the finest; first weights are set: N(0, 0.02).

    Args:
        channels: of the pictures, with those of what they were asked by.
        width: features of the first convolution of each.
        scales: how many, 1 or more; each sees 3x3 averages, with stride 2, of what the one before sees.
        strided: convolutions of stride 2 in each.
        spectral: whether these have spectral norm besides (`photogram.nn.spectral`).
        finest: judges at full size in the place of the first.
        crop: the finest judges windows of this side, as far as pictures are as large; 0: the whole picture.
        crops: windows of each picture.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        scales: int = 2,
        strided: int = 3,
        spectral: bool = False,
        finest: nn.Module | None = None,
        crop: int = 0,
        crops: int = 2,
    ):
        super().__init__()
        own = [ScaleDiscriminator(channels, width, strided) for _ in range(scales - (finest is not None))]
        if spectral:
            for judge in own:
                normalise_spectrally(judge)
        self.scales = nn.ModuleList(own if finest is None else [finest, *own])
        self.crop, self.crops = crop, crops

    def forward(self, shown: Shown | Framed) -> list[list[Tensor]]:
        """For each scale, the finest first: its features, finest first, and its logits as the last.

        Args:
            shown: a picture, alone or after what it was asked by; with windows where the finest judges windows.

        Raises:
            ValueError: where windows are missing, or given in vain: photograph and painting would not show the same.
        """
        shown, windows = shown if isinstance(shown, Framed) else Framed(shown, None)
        if (windows is None) != (not self.crop):
            raise ValueError("windows are to be given where the finest scale judges windows, and only there")
        found = []
        with normalised(self):
            for n, judge in enumerate(self.scales):
                if n:
                    shown = _halved(shown)
                found.append(judge(shown if n or windows is None else cut(shown, windows)))
        return found

    def draw_windows(self, pictures: int, size: Size) -> Windows | None:
        """Windows for a step, of photographs and paintings alike; None where the finest judges whole pictures.

        Each picture has draws of its own, from torch's generator.
        """
        if not self.crop:
            return None
        sides = [min(self.crop, n) for n in size]
        starts = [torch.randint(n - side + 1, (pictures, self.crops)) for n, side in zip(size, sides, strict=True)]
        corners = torch.stack(starts, 2).tolist()
        return [[(slice(y, y + sides[0]), slice(x, x + sides[1])) for y, x in one] for one in corners]


def _halved(shown: Shown) -> Part:
    return (halved(shown[0]), halved(shown[1])) if isinstance(shown, tuple) else halved(shown)


def cut(shown: Shown, windows: Windows) -> Part:
    """What is to be seen in the windows, those of one picture after those of the other, as a batch."""
    if not isinstance(shown, tuple):
        return _cut(shown, windows)
    layout, planes = shown
    if isinstance(layout, LayoutLevel):
        return LayoutLevel(_cut(layout.classes, windows), layout.num_classes), _cut(planes, windows)
    return _cut(layout, windows), _cut(planes, windows)


def _cut(maps: Shaped[Tensor, "n ... h w"], windows: Windows) -> Shaped[Tensor, "m ... h2 w2"]:
    return torch.stack([one[..., *window] for one, own in zip(maps, windows, strict=True) for window in own])


def carry_scales(
    network: MultiScaleDiscriminator, state: Mapping[str, Tensor], source: str, doublings: int
) -> tuple[int, int]:
    """Take over discriminators, of which each goes on judging the size of picture that it learned at.

    A run for twice the size has one more: the coarsest stays the coarsest, and the finest is left as it is
    (specification 4.4, check 10.8). Where one with self-attention and one of patches meet at a size, the new one is
    left as it is too.

    Args:
        network: changed.
        state: of a `MultiScaleDiscriminator`, by `state_dict`.
        source: where it is from, for messages.
        doublings: so often the pictures have been doubled since.

    Returns:
        How many were taken over, and how many were left behind.

    Raises:
        UserError: where it has more scales, or those of one kind and size are of another form, or none.
    """
    theirs, ours = _by_scale(state, source), _by_scale(network.state_dict(), source)
    if len(ours) < len(theirs) and not _attends(ours[-1]):  # with self-attention alone there is but one
        raise UserError(
            f"{source}: its discriminators have {len(theirs)} scales, but this run has {len(ours)}; "
            f"give {len(theirs)} or more"
        )
    taken = dict[str, Tensor]()
    meeting = [(n, n - doublings) for n in range(doublings, min(len(ours), len(theirs) + doublings))]
    pairs = [(here, there) for here, there in meeting if _attends(ours[here]) == _attends(theirs[there])]
    for here, there in pairs:
        for name in sorted(ours[here].keys() | theirs[there].keys()):
            found, wanted = (
                tuple(some[name].shape) if name in some else "missing" for some in (theirs[there], ours[here])
            )
            if found != wanted:
                raise UserError(
                    f"{source}: its discriminators are of another form: {name} of scale {there} is {found}, but "
                    f"{wanted} in this run; give the same channels, width, --strided and --spectral"
                )
        taken |= {f"scales.{here}.{name}": tensor for name, tensor in theirs[there].items()}
    network.load_state_dict({**network.state_dict(), **taken})
    return len(pairs), len(theirs) - len(pairs)


def _by_scale(state: Mapping[str, Tensor], source: str) -> list[dict[str, Tensor]]:
    """The tensors of each discriminator of a `MultiScaleDiscriminator`, the finest first."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part = re.fullmatch(r"scales\.(\d+)\.(.+)", name)
        if part is None:
            raise UserError(f"{source}: its discriminators are of another form: there is a {name!r:.60}")
        found.setdefault(int(part[1]), {})[part[2]] = tensor
    return [found[scale] for scale in sorted(found)]


def _attends(state: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("attention.") for name in state)
