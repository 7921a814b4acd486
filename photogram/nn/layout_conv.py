"""Convolutions over layouts that stay integers: no float plane a class at full resolution, in memory or in time.

A layout, or a layout averaged over cells of 2 x 2, 4 x 4 ... pixels, is a map of words. Most cells hold one class, and
the word is its number; others hold a few classes with their shares, and have words of their own. What a convolution
makes of a window is then a sum of rows of its weight, looked up by word and place (its "tap"):

- Where the whole window is one class, it is one row of the weight summed over the taps.
- Elsewhere, near borders between classes, it is a sum of as many rows as the window has taps and classes.

Both cost the same for 2 classes and for 1,000. The result is that of a convolution of one-hot planes up to rounding.
Where there are few classes or few cells the planes are cheaper, and are used (`LayoutLevel.looked_up`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from photogram.nn.gradients import first_only
from photogram.scene import one_hot

CHUNK = 1 << 16
"""Windows that are looked up at once, so that lists of rows stay small."""
WIDE = 1 << 21
"""Numbers of a gradient that are widened to float32 and sorted at once: what a cache holds."""
FEW = {False: {torch.float32: 6, torch.bfloat16: 12}, True: {torch.float32: 12, torch.bfloat16: 40}}
"""Classes up to which planes are faster than look-ups, without and with a gradient (benchmarks/layout_conv.md)."""
SMALL = 1 << 32
"""Products of a convolution of planes up to which it is faster however many classes there are."""
POOLED = 1 << 15
"""Cells of the finest level from whose planes those of coarser levels are averaged."""


class Window(NamedTuple):
    """What a convolution sees of its input: taps each way, and how they are spread."""

    taps: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    reflect: bool = False
    """Pad by reflection; else with no class at all, which is zeros."""


class Found(NamedTuple):
    """Where the windows of a convolution are and what is in them."""

    size: tuple[int, int]
    """Of the output."""
    words: Integer[Tensor, " places"]
    """The padded map, in a row."""
    alone: Int[Tensor, " outputs"]
    """The class that fills the window; the number of classes where there is no such class."""
    mixed: Int[Tensor, " mixed"]
    """Outputs whose windows hold several words."""
    corners: Int[Tensor, " mixed"]
    """The place of the first tap of each of these."""
    offsets: Int[Tensor, " taps"]
    """From the first tap to each."""


class Words(NamedTuple):
    """What words that are not one class stand for, one after the other."""

    start: Int[Tensor, " words"]
    """The first entry of each word; words below the number of classes have one, the class."""
    counts: Int[Tensor, " words"]
    classes: Int[Tensor, " entries"]
    shares: Float[Tensor, " entries"]


class LayoutLevel:
    """A layout, averaged over cells of `factor` x `factor` pixels.

    Args:
        classes: of each pixel, 0 to num_classes - 1; height and width are multiples of the factor.
        num_classes: of the data.
        factor: 1 or more.
        finer: the level of half the factor, where planes are averaged from its planes.
    """

    def __init__(
        self, classes: Integer[Tensor, "n h w"], num_classes: int, factor: int = 1, finer: LayoutLevel | None = None
    ):
        if classes.shape[1] % factor or classes.shape[2] % factor:
            raise ValueError(f"{tuple(classes.shape[1:])} is no multiple of {factor}")
        self.classes, self.num_classes, self.factor, self.finer = classes, num_classes, factor, finer
        self._found: dict[Window, Found] = {}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of planes: n, classes, height, width."""
        n, h, w = self.classes.shape
        return n, self.num_classes, h // self.factor, w // self.factor

    @cached_property
    def planes(self) -> Float[Tensor, "n c h w"]:
        """The share of each class in each cell: the slow, obvious form, in float32, channels last."""
        if self.finer is not None:
            return F.avg_pool2d(self.finer.planes, 2)
        if self.factor == 1:
            return one_hot(self.classes, self.num_classes)
        n, c, h, w = self.shape
        pixels = self.classes.to(torch.int64)
        cell = torch.arange(n * h * w, device=pixels.device).view(n, h, 1, w, 1) * c
        index = (cell + pixels.view(n, h, self.factor, w, self.factor)).flatten()
        counts = torch.zeros(n * h * w * c, device=pixels.device)
        counts.scatter_add_(0, index, torch.ones((), device=pixels.device).expand(index.numel()))
        return counts.div_(self.factor**2).view(n, h, w, c).permute(0, 3, 1, 2)

    def looked_up(self, weight: Float[Tensor, "o c k k"], stride: int = 1) -> bool:
        """Whether look-ups are faster than planes for this weight, as autocast computes with it."""
        if weight.device.type != "cpu" or torch.compiler.is_compiling():  # what depends on the layout has no one form
            return False
        n, c, h, w = self.shape
        few = FEW[torch.is_grad_enabled() and weight.requires_grad]
        products = c * weight.shape[2] * weight.shape[3] * len(weight) * n * h * w // stride**2
        return c > few.get(as_computed(weight[:0]).dtype, few[torch.float32]) and products > SMALL

    def conv(
        self, weight: Float[Tensor, "o c k k"], window: Window, onto: Float[Tensor, "n o h w"] | None = None
    ) -> Float[Tensor, "n o h w"]:
        """The convolution of the planes with a weight, in the precision of autocast; gradients go to the weight.

        Args:
            weight: for the classes as input channels.
            window: of the convolution.
            onto: what it is added to, which is overwritten; gradients go through it as they come.
        """
        h, w = self.shape[2:]
        if window.reflect and window.padding >= min(h, w):
            raise ValueError(f"reflection by {window.padding} needs more than that many cells a side, not {h} x {w}")
        looked_up = self.looked_up(weight, window.stride)
        weight = as_computed(weight)
        if looked_up and (onto is None or onto.is_contiguous(memory_format=torch.channels_last)):
            return self.sums(weight, window, onto)
        made = self.conv_of_planes(weight, window)
        return made if onto is None else onto.add_(made)

    def sums(
        self, weight: Float[Tensor, "o c k k"], window: Window, onto: Float[Tensor, "n o h w"] | None = None
    ) -> Float[Tensor, "n o h w"]:
        """The same by look-ups; channels last, as `onto` must be."""
        return _LayoutConv.apply(weight, self, window, onto)  # pyright: ignore[reportReturnType]

    def conv_of_planes(self, weight: Float[Tensor, "o c k k"], window: Window) -> Float[Tensor, "n o h w"]:
        """The same by planes."""
        planes, padding = self.planes.to(weight.dtype), window.padding
        if window.reflect:
            planes, padding = F.pad(planes, [padding] * 4, mode="reflect"), 0
        return F.conv2d(planes, weight, None, window.stride, padding, window.dilation)

    @cached_property
    def _vocabulary(self) -> tuple[Integer[Tensor, "n h w"], Words | None]:
        """The map of words, and what they stand for; None where each is a class."""
        n, c, h, w = self.shape
        if self.factor == 1:
            return self.classes, None
        cells = self.classes.view(n, h, self.factor, w, self.factor)
        first = cells[:, :, 0, :, 0]
        mixed = torch.zeros(n, h, w, dtype=torch.bool, device=cells.device)
        for row in range(self.factor):
            for column in range(self.factor):
                mixed |= cells[:, :, row, :, column] != first
        image, y, x = mixed.nonzero(as_tuple=True)
        pixels = cells.permute(0, 1, 3, 2, 4)[image, y, x].flatten(1).sort(dim=1).values
        numbers = first.to(torch.int32)
        numbers[image, y, x] = torch.arange(len(image), dtype=torch.int32, device=cells.device) + c + 1
        return numbers, _words(pixels, c)

    def found(self, window: Window) -> Found:
        """The windows of a convolution, sorted into those of one class and others; kept for the next asker."""
        if window not in self._found:
            self._found[window] = _find(self._vocabulary[0], self.num_classes, window)
        return self._found[window]

    @property
    def words(self) -> Words | None:
        return self._vocabulary[1]


def as_computed(weight: Tensor) -> Tensor:
    """A weight, or what it is applied to, in the precision in which autocast computes with it here."""
    device = weight.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return weight.to(torch.get_autocast_dtype(device))
    return weight


def layer(
    conv: nn.Conv2d, layout: LayoutLevel | Float[Tensor, "n l h w"], beside: Float[Tensor, "n c h w"] | None = None
) -> Float[Tensor, "n o H W"]:
    """What a convolutional layer makes of a layout and of further channels after it.

    Args:
        conv: with square kernels, stride, padding and dilation, and one group.
        layout: as integers, or as planes.
        beside: the further channels.
    """
    if isinstance(layout, LayoutLevel) and layout.looked_up(conv.weight, conv.stride[0]):
        window = Window(conv.kernel_size[0], conv.stride[0], int(conv.padding[0]), conv.dilation[0])
        window = window._replace(reflect=conv.padding_mode == "reflect")
        first, others = conv.weight.split([layout.num_classes, conv.in_channels - layout.num_classes], 1)
        if beside is not None:
            if window.reflect:
                beside = F.pad(beside, [window.padding] * 4, mode="reflect")
            padding = 0 if window.reflect else window.padding
            return layout.conv(
                first, window, F.conv2d(beside, others, conv.bias, window.stride, padding, window.dilation)
            )
        result = layout.conv(first, window)
        return result if conv.bias is None else result + conv.bias.to(result.dtype)[:, None, None]
    planes = as_computed(layout.planes if isinstance(layout, LayoutLevel) else layout)  # before further copies
    if beside is None:
        return conv(planes)
    # Joined in one form, or it would be whole planes, which the convolution turns, and its gradient once more.
    parts = [part.contiguous(memory_format=torch.channels_last) for part in (planes, as_computed(beside))]
    return conv(torch.cat(parts, 1))


def pyramid(classes: Integer[Tensor, "n h w"], num_classes: int, depth: int) -> list[LayoutLevel]:
    """A layout at several resolutions, each twice the last, from the coarsest to its own."""
    levels: list[LayoutLevel] = []
    for power in range(depth):
        # On a GPU all levels are planes, those of full size too, so that the others are averages of these.
        chained = levels and (classes.device.type != "cpu" or levels[-1].shape[2] * levels[-1].shape[3] <= POOLED)
        finer = levels[-1] if chained else None
        levels.append(LayoutLevel(classes, num_classes, 2**power, finer))
    return levels[::-1]


def _words(pixels: Integer[Tensor, "m p"], num_classes: int) -> Words:
    """The vocabulary of cells with these pixels, each row sorted; before them stand the classes and the empty word."""
    m, p = pixels.shape
    begins = torch.ones(m, p, dtype=torch.bool, device=pixels.device)
    begins[:, 1:] = pixels[:, 1:] != pixels[:, :-1]
    place = begins.flatten().nonzero()[:, 0]
    lengths = torch.diff(place, append=place.new_tensor([m * p]))
    single = torch.arange(num_classes + 1, device=pixels.device)
    count = torch.cat([torch.ones_like(single), begins.sum(1)])
    classes = torch.cat([single, pixels.flatten()[place].to(torch.int64)])
    shares = torch.cat([torch.ones(num_classes + 1, device=pixels.device), lengths / p])
    return Words(count.cumsum(0) - count, count, classes, shares)


def _places(length: int, window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each place of a padded side: which place it repeats, and whether it lies inside."""
    places = torch.arange(-window.padding, length + window.padding, device=device)
    inside = (places >= 0) & (places < length)
    if window.reflect:
        folded = places.abs()
        return torch.minimum(folded, 2 * (length - 1) - folded), torch.ones_like(inside)
    return places.clamp(0, length - 1), inside


def _find(words: Integer[Tensor, "n h w"], num_classes: int, window: Window) -> Found:
    h, w = words.shape[1:]
    most = max(num_classes, int(words.max()))
    dtype = torch.uint8 if most < 256 else torch.int16 if most < 2**15 else torch.int32
    padded = words.to(dtype)
    if window.padding:
        (rows, row_in), (columns, column_in) = (_places(length, window, words.device) for length in (h, w))
        padded = padded[:, rows][:, :, columns]
        padded.masked_fill_(~(row_in[:, None] & column_in), num_classes)
    height, width = padded.shape[1:]
    reach = window.dilation * (window.taps - 1)
    size = ((height - reach - 1) // window.stride + 1, (width - reach - 1) // window.stride + 1)
    least, most_of = (_spread(padded, window, pick) for pick in (torch.minimum, torch.maximum))
    alone = torch.where((least == most_of) & (least <= num_classes), least, num_classes).flatten().to(torch.int32)
    mixed = ((least != most_of) | (least > num_classes)).flatten().nonzero()[:, 0]
    image, y = mixed // (size[0] * size[1]), mixed // size[1] % size[0]
    corners = (image * height + y * window.stride) * width + mixed % size[1] * window.stride
    taps = torch.arange(window.taps, device=words.device) * window.dilation
    offsets = (taps[:, None] * width + taps).flatten()
    return Found(size, padded.flatten(), alone, mixed, corners, offsets)


def _spread(padded: Integer[Tensor, "n h w"], window: Window, pick: Any) -> Integer[Tensor, "n H W"]:
    """The least, or the most, of each window."""
    reach = window.dilation * (window.taps - 1)
    for axis in (1, 2):
        length = padded.shape[axis] - reach
        result = padded.narrow(axis, 0, length)
        for tap in range(1, window.taps):
            result = pick(result, padded.narrow(axis, tap * window.dilation, length))
        padded = result
    return padded[:, :: window.stride, :: window.stride]


def _taken(found: Found, part: slice) -> Int[Tensor, "m taps"]:
    """The words in some of the mixed windows."""
    return found.words[found.corners[part, None] + found.offsets].to(torch.int64)


def _entries(words: Words, taken: Int[Tensor, "*m"]) -> tuple[Tensor, Tensor]:
    """The entries of some words, one after the other, and which of these words each belongs to."""
    flat = taken.flatten()
    count = words.counts[flat]
    owner = torch.repeat_interleave(count)
    first = words.start[flat] - (count.cumsum(0) - count)
    return first[owner] + torch.arange(len(owner), device=flat.device), owner


class _LayoutConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, level: LayoutLevel, window: Window, onto: Tensor | None) -> Tensor:
        ctx.level, ctx.window, ctx.like = level, window, weight.detach()[:0]  # pyright: ignore
        found, words = level.found(window), level.words
        table = F.pad(weight.permute(2, 3, 1, 0), (0, 0, 0, 1)).flatten(0, 1)  # taps, classes + none, out
        wide = torch.promote_types(table.dtype, torch.float32)
        one_class = table.sum(0, dtype=wide).to(table.dtype)
        classes, table = level.num_classes + 1, table.flatten(0, 1)
        if onto is None:
            out = torch.index_select(one_class, 0, found.alone)
        else:
            ctx.mark_dirty(onto)
            out = onto.permute(0, 2, 3, 1).view(-1, len(weight))
            step = max(1, WIDE // len(weight))
            for rows, alone in zip(out.split(step), found.alone.split(step), strict=True):
                rows.add_(torch.index_select(one_class, 0, alone))
        for begin in range(0, len(found.mixed), CHUNK):
            part = slice(begin, begin + CHUNK)
            rows = _rows(words, _taken(found, part), classes)
            shares = None if rows.shares is None else rows.shares.to(table.dtype)
            sums = F.embedding_bag(rows.rows, table, rows.begins, mode="sum", per_sample_weights=shares)
            place = found.mixed[part]
            out.index_copy_(0, place, sums if onto is None else sums.add_(out.index_select(0, place)))
        return out.view(level.shape[0], *found.size, -1).permute(0, 3, 1, 2) if onto is None else onto

    @staticmethod
    @first_only
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor | None]:
        level, window, like = ctx.level, ctx.window, ctx.like  # pyright: ignore[reportAttributeAccessIssue]
        onto = grads[0] if ctx.needs_input_grad[3] else None  # pyright: ignore[reportAttributeAccessIssue]
        if not ctx.needs_input_grad[0]:  # pyright: ignore[reportAttributeAccessIssue]
            return None, None, None, onto
        found, words, channels = level.found(window), level.words, grads[0].shape[1]
        rows = grads[0].permute(0, 2, 3, 1).reshape(-1, channels)
        wide = torch.promote_types(rows.dtype, torch.float32)
        taps = len(found.offsets)
        one_class = _runs(found.alone, rows, level.num_classes)
        table = one_class.expand(taps, -1, -1).reshape(-1, channels)
        step = min(CHUNK, max(1, WIDE // channels))
        for begin in range(0, len(found.mixed), step):
            part = slice(begin, begin + step)
            taken = _taken(found, part)
            _gather(table, _rows(words, taken, level.num_classes + 1), rows[found.mixed[part]].to(wide))
        weight = table.view(window.taps, window.taps, -1, channels)[:, :, :-1].permute(3, 2, 0, 1)
        return weight.to(like.dtype), None, None, onto


class Rows(NamedTuple):
    """A sum for each window of some rows of a table."""

    rows: Int[Tensor, " entries"]
    windows: Int[Tensor, " entries"]
    """Which of the windows each entry belongs to, ascending."""
    shares: Float[Tensor, " entries"] | None
    """None where each counts whole."""
    begins: Int[Tensor, " windows"]
    """The first entry of each window."""


def _rows(words: Words | None, taken: Int[Tensor, "m t"], classes: int) -> Rows:
    """What windows of these words look up, tap by tap, in a table of so many rows a tap."""
    windows, taps = taken.shape
    base = torch.arange(taps, device=taken.device) * classes
    number = torch.arange(windows, device=taken.device)
    if words is None:
        return Rows((taken + base).flatten(), number.repeat_interleave(taps), None, number * taps)
    entries, owner = _entries(words, taken)
    begins = torch.cat([owner.new_zeros(1), words.counts[taken].sum(1).cumsum(0)[:-1]])
    return Rows(words.classes[entries] + base[owner % taps], owner // taps, words.shares[entries], begins)


def _gather(table: Float[Tensor, "r o"], rows: Rows, grad: Float[Tensor, "m o"]) -> None:
    """The gradient of such sums for their table, added to one."""
    order = rows.rows.to(torch.int32).sort(stable=True)
    windows = rows.windows[order.indices]
    named, count = torch.unique_consecutive(order.values, return_counts=True)
    shares = None if rows.shares is None else rows.shares.to(grad.dtype)[order.indices]
    table[named.long()] += F.embedding_bag(
        windows, grad, count.cumsum(0) - count, mode="sum", per_sample_weights=shares
    )


def _runs(alone: Int[Tensor, " p"], rows: Float[Tensor, "p o"], num_classes: int) -> Float[Tensor, "c o"]:
    """The sum of the rows of each class, and of none. Neighbours are mostly of one class: first each run of those."""
    changes = torch.ones(len(alone), dtype=torch.bool, device=alone.device)
    changes[1:] = alone[1:] != alone[:-1]
    begins = changes.nonzero()[:, 0]
    sums = F.embedding_bag(torch.arange(len(alone), device=alone.device), rows, begins, mode="sum")
    wide = torch.promote_types(rows.dtype, torch.float32)
    table = torch.zeros(num_classes + 1, rows.shape[1], dtype=wide, device=rows.device)
    index = alone[begins].to(torch.int64)[:, None].expand(sums.shape)
    return table.scatter_add_(0, index, sums.to(wide))  # of expanded indices, which has a fast form
