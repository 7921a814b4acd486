"""3x3 convolutions in float32 on a CPU with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks",
CVPR 2016, section 4.3): a tile of 4 x 4 outputs is made from one of 6 x 6 inputs by 36 products for each pair of
channels instead of 144. Inputs, weights and outputs are brought there and back by small matrices, one product each; in
between are 36 products of matrices, places by channels. The gradients go the same way back.

The result is that of the plain convolution up to rounding, some ten times that of float32: 1e-5 of the largest. In
bfloat16 it would lose by its matrices what it wins, and more in precision: there convolutions are left alone, as they
are on other processors than x86, where nobody has measured it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from photogram.nn.kept_weights import called, computed, pair

TILE, SEEN = 4, 6
CHANNELS, TILES = 128, 96
"""As many of inputs and of outputs, and of tiles, there must be for it to be faster (benchmarks/winograd.py)."""
STRIP = 1 << 25
"""Bytes of a strip's tiles, about; as inputs, as they are multiplied and as products they are there three times."""
_X86 = platform.machine() in ("x86_64", "AMD64")


def _matrix(rows: list[list[float]]) -> Float[Tensor, "r c"]:
    """For both directions at once."""
    one = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(one, one).float()


_INPUT = _matrix(  # B^T, to 36 places of a tile from its 36 inputs
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_WEIGHT = _matrix(  # G, to 36 from 9
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_OUTPUT = _matrix(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)  # A^T, 16 from 36

Padding = tuple[int, int]
"""Zeros above and below, and left and right; 0 to 2 each."""


def pays(x: Tensor, weight: Tensor, padding: Padding) -> bool:
    """Whether it is faster than the plain convolution for this input and 3x3 weight."""
    n, height, width = x.shape[0], *_size(x, padding)
    if height < 1 or width < 1 or max(padding) > 2 or min(weight.shape[:2]) < CHANNELS:
        return False
    tiles = n * -(-height // TILE) * -(-width // TILE)
    return tiles >= TILES and n * height * width > 0.6 * TILE**2 * tiles  # the rest of a tile is thrown away


def _size(x: Tensor, padding: Padding) -> tuple[int, int]:
    return x.shape[2] + 2 * padding[0] - 2, x.shape[3] + 2 * padding[1] - 2


def transformed(weight: Float[Tensor, "o c 3 3"]) -> Float[Tensor, "36 o c"]:
    """A weight as tiles are multiplied with it."""
    return (_WEIGHT @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(SEEN**2, *weight.shape[:2])


class _Strip(NamedTuple):
    """Some rows of tiles of one picture."""

    picture: int
    top: int
    rows: int
    across: int

    @property
    def lines(self) -> slice:
        """Of the output."""
        return slice(self.top * TILE, (self.top + self.rows) * TILE)


def _strips(x: Tensor, channels: int, padding: Padding) -> Iterator[_Strip]:
    height, width = _size(x, padding)
    down, across = -(-height // TILE), -(-width // TILE)
    rows = max(1, STRIP // (across * channels * SEEN**2 * 4))
    for picture in range(x.shape[0]):
        for top in range(0, down, rows):
            yield _Strip(picture, top, min(rows, down - top), across)


def _tiles(x: Float[Tensor, "n c h w"], strip: _Strip, padding: Padding) -> Float[Tensor, "36 tiles c"]:
    """The inputs of each tile, as they are multiplied."""
    (up, left), (height, width), channels = padding, x.shape[2:], x.shape[1]
    first = strip.top * TILE - up
    last = first + strip.rows * TILE + 2
    zeros = (left, strip.across * TILE + 2 - left - width, max(0, -first), max(0, last - height))
    rows = F.pad(x[strip.picture : strip.picture + 1, :, max(0, first) : min(height, last)], zeros)
    rows = rows[0].permute(1, 2, 0).contiguous()
    down, right, along = rows.stride()
    seen = rows.as_strided(
        (SEEN, SEEN, strip.rows, strip.across, channels), (down, right, TILE * down, TILE * right, along)
    )
    return (_INPUT @ seen.reshape(SEEN**2, -1)).view(SEEN**2, -1, channels)


def convolved(x: Float[Tensor, "n c h w"], weight: Float[Tensor, "36 o c"], padding: Padding) -> Tensor:
    """The convolution with a transformed weight; channels last."""
    (height, width), channels = _size(x, padding), weight.shape[1]
    down, across = -(-height // TILE), -(-width // TILE)
    whole = (x.shape[0], channels, down * TILE, across * TILE)
    out = torch.empty(whole, dtype=x.dtype, memory_format=torch.channels_last)
    lines = out.permute(0, 2, 3, 1)
    for strip in _strips(x, max(channels, x.shape[1]), padding):
        made = torch.bmm(_tiles(x, strip, padding), weight.mT).view(SEEN**2, -1)
        made = (_OUTPUT @ made).view(TILE, TILE, strip.rows, across, channels)
        place = lines[strip.picture, strip.lines].view(strip.rows, TILE, across, TILE, channels)
        place.copy_(made.permute(2, 0, 3, 1, 4))
    if out.shape[2:] == (height, width):
        return out
    return out[:, :, :height, :width].clone(memory_format=torch.channels_last)  # no view, which none may overwrite


def gradient_of_weight(grad: Float[Tensor, "n o H W"], x: Float[Tensor, "n c h w"], padding: Padding) -> Tensor:
    """The gradient for the weight [o, c, 3, 3]."""
    width = grad.shape[3]
    inputs, outputs = x.shape[1], grad.shape[1]
    total = grad.new_zeros(SEEN**2, outputs, inputs)
    for strip in _strips(x, max(inputs, outputs), padding):
        part = grad[strip.picture : strip.picture + 1, :, strip.lines]
        part = F.pad(part, (0, strip.across * TILE - width, 0, strip.rows * TILE - part.shape[2]))
        part = part[0].permute(1, 2, 0).reshape(strip.rows, TILE, strip.across, TILE, outputs)
        part = _OUTPUT.mT @ part.permute(1, 3, 0, 2, 4).reshape(TILE**2, -1)
        total.baddbmm_(part.view(SEEN**2, -1, outputs).mT, _tiles(x, strip, padding))
    return (_WEIGHT.mT @ total.view(SEEN**2, -1)).view(3, 3, outputs, inputs).permute(2, 3, 0, 1)


def gradients(
    grad: Tensor, x: Tensor, weight: Tensor, padding: Padding, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients for the input and for the weight, of which those that are not needed are None."""
    back = (2 - padding[0], 2 - padding[1])
    of_x = convolved(grad, transformed(weight.flip(2, 3).transpose(0, 1)), back) if needed[0] else None
    return of_x, gradient_of_weight(grad, x, padding) if needed[1] else None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, padding: Padding) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding  # pyright: ignore[reportAttributeAccessIssue]
        return convolved(x, transformed(weight), padding)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, weight), padding = ctx.saved_tensors, ctx.padding  # pyright: ignore[reportAttributeAccessIssue]
        needed = ctx.needs_input_grad[:2]  # pyright: ignore[reportAttributeAccessIssue]
        if torch.is_grad_enabled():  # a second derivative is wanted, which the plain gradient has
            return *_plain_gradients(grads[0], x, weight, padding, needed), None
        return *gradients(grads[0], x, weight, padding, needed), None


def _plain_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, padding: Padding, needed: tuple[bool, bool], dilation: int = 1
) -> tuple[Tensor | None, Tensor | None]:
    by = [dilation, dilation]
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], list(padding), by, False, [0, 0], 1, [*needed, False]
    )[:2]


def gradients_of_convolution(
    grad: Tensor, x: Tensor, weight: Tensor, dilation: int, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a 3x3 convolution that is padded by its dilation, as it is computed where this is called."""
    given = {"input": x, "weight": weight, "padding": dilation, "stride": 1, "dilation": dilation, "groups": 1}
    padding = (dilation, dilation)
    if Winograd.entered and is_plain(given) and pays(x, weight, padding):
        return gradients(grad, x, weight, padding, needed)
    return _plain_gradients(grad, x, weight, padding, needed, dilation)


class Winograd(TorchFunctionMode):
    """While it is entered, 3x3 convolutions in float32 on a CPU are done so where it pays, gradients too.

    The last transformed weight is kept, since a convolution in strips comes with the same one again and again.
    """

    entered = 0
    """How many of them are: a backward pass does not see modes, and asks."""

    def __init__(self) -> None:
        super().__init__()
        self._last: _Kept | None = None

    def __enter__(self) -> Winograd:
        Winograd.entered += 1
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        Winograd.entered -= 1
        self._last = None
        super().__exit__(*raised)

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.backward:
            self._last = None  # which it does not need, and is large
        if func is torch.conv2d:
            given = called(func, args, kwargs or {})
            x, weight, bias = given["input"], given["weight"], given["bias"]
            if is_plain(given) and pays(x, weight, (padding := pair(given["padding"]))):
                if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
                    made: Any = _Convolution.apply(x, weight, padding)
                else:
                    made = convolved(x, self._transformed(weight), padding)
                return made if bias is None else made + bias[:, None, None]
        return func(*args, **(kwargs or {}))

    def _transformed(self, weight: Tensor) -> Tensor:
        if weight.is_inference():  # which does not say when it changes
            return transformed(weight)
        form = (weight.data_ptr(), weight.shape, weight.stride(), weight._version)
        if self._last is None or self._last.form != form:
            self._last = None  # two would be large
            self._last = _Kept(form, weight.untyped_storage(), transformed(weight))
        return self._last.weight


class _Kept(NamedTuple):
    """A transformed weight, of which one, and its storage, held so that no other takes its address."""

    form: tuple[object, ...]
    storage: torch.UntypedStorage
    weight: Tensor


def where_it_helps(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """To be entered around work in a precision (fp32 or bf16) on a device."""
    return Winograd() if device.type == "cpu" and precision == "fp32" else nullcontext()


def recomputing() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """For `checkpoint`: what its function runs in, and what it runs in again, where no mode is seen."""
    return nullcontext(), Winograd() if Winograd.entered else nullcontext()


def is_plain(given: dict[str, Any]) -> bool:
    """Whether a convolution, by its arguments, is one in float32 on a CPU, 3x3, without stride, dilation or groups."""
    x, weight = given["input"], given["weight"]
    if not _X86 or x.device.type != "cpu" or x.dim() != 4 or weight.shape[2:] != (3, 3):
        return False
    if isinstance(given["padding"], str) or torch.get_float32_matmul_precision() != "highest":
        return False  # products, unlike convolutions, may be asked to round more
    ones = all(pair(given[name]) == (1, 1) for name in ("stride", "dilation")) and given["groups"] == 1
    return ones and computed(x) == weight.dtype == torch.float32
