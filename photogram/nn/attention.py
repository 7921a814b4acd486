"""Self-attention over the places of feature maps: each place is told of all others.

H. Zhang, I. Goodfellow, D. Metaxas and A. Odena, "Self-Attention Generative Adversarial Networks", ICML 2019, section 3
(specification 6.1, 6.4). Three forms give the same: the plain product of matrices, which keeps a score for each pair of
places; torch's fused kernel, which keeps none; and the plain one for some places at a time, each made again for its
gradients, where torch has no kernel and scores would be too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from photogram.nn.gradients import kept_or_computed_again
from photogram.optim import init_normal

BUDGET = 1 << 28
"""Scores, places by places, up to which keys are not pooled further."""
POOLS = (1, 2, 4, 8)
CHUNK = 1 << 24
"""Scores that the plain form makes at once: 64 MiB of them."""


class SelfAttention(nn.Module):
    """y = x + gamma o, where o is, at each place, a mean of all places, weighed by how well they fit its question.

    With s_ij = f(x_i) . g(x_j): o_j = v(sum_i softmax_i(s_ij) h(x_i)). The convolutions are 1x1 without bias: f and g
    to an eighth of the channels, h to half of them, v back. gamma is a number that starts at 0: at first y is x.

    Args:
        channels: of the features.
        kv_pool: keys and values are the maxima of squares of this side; 0: the least of `POOLS` with which scores are
            within the budget.
        budget: scores of one picture, where kv_pool is 0.
        grid: all are averaged to at most so many places first, by squares whose side is a power of 2, and o is enlarged
            again, bilinearly; 0: not at all.
    """

    def __init__(self, channels: int, kv_pool: int = 0, budget: int = BUDGET, grid: int = 0):
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.f = nn.Conv2d(channels, few, 1, bias=False)  # keys
        self.g = nn.Conv2d(channels, few, 1, bias=False)  # queries
        self.h = nn.Conv2d(channels, half, 1, bias=False)  # values
        self.v = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.kv_pool, self.budget, self.grid = kv_pool, budget, grid
        init_normal(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        size = (x.shape[-2], x.shape[-1])
        shrink = self.shrink(*size)
        seen = F.avg_pool2d(x, shrink, ceil_mode=True) if shrink > 1 else x  # what is outside does not count
        height, width = seen.shape[-2:]
        keys, queries, values = self.f(seen), self.g(seen), self.h(seen)
        pool = self.pooling(height, width)
        if pool > 1:
            keys, values = (F.max_pool2d(maps, pool, ceil_mode=True) for maps in (keys, values))
        found = attend(*(maps.flatten(2).mT for maps in (queries, keys, values)))
        o = self.v(found.mT.unflatten(2, (height, width)))
        if shrink > 1:
            o = F.interpolate(o, scale_factor=shrink, mode="bilinear", align_corners=False)[..., : size[0], : size[1]]
        return x + self.gamma * o

    def shrink(self, height: int, width: int) -> int:
        """The side of the squares that are averaged."""
        shrink = 1
        while self.grid and -(-height // shrink) * -(-width // shrink) > self.grid:
            shrink *= 2
        return shrink

    def pooling(self, height: int, width: int) -> int:
        """The side of the squares of which keys and values are the maxima."""
        return self.kv_pool or pooling_within(self.budget, height, width)


def pooling_within(budget: int, height: int, width: int) -> int:
    """The least of `POOLS` with which there are at most so many scores, or the largest (specification 6.4, rule 2).

    Args:
        budget: scores.
        height, width: of the features.
    """
    places = height * width
    fits = (pool for pool in POOLS if places * -(-height // pool) * -(-width // pool) <= budget)
    return next(fits, POOLS[-1])


def gammas(network: nn.Module, within: str = "") -> dict[str, Tensor]:
    """The gamma of each self-attention in a network as it is now, by the name of its module, to be logged.

    Args:
        network: a whole one, or an attention itself.
        within: a name before theirs, where several networks are logged.
    """
    found = {name: part.gamma for name, part in network.named_modules(prefix=within) if isinstance(part, SelfAttention)}
    return {f"gamma/{name}" if name else "gamma": gamma.detach().clone() for name, gamma in found.items()}


def attend(
    queries: Float[Tensor, "n t d"], keys: Float[Tensor, "n s d"], values: Float[Tensor, "n s e"]
) -> Float[Tensor, "n t e"]:
    """softmax(queries keys^T) values, without the usual division by sqrt(d).

    Gradients of gradients there are only within `twice_differentiable`.
    """
    width = max(queries.shape[-1], values.shape[-1])
    # Torch's kernels want one width, a dimension of heads, and the numbers of a place side by side.
    q, k, v = (F.pad(one, (0, width - one.shape[-1])).contiguous()[:, None] for one in (queries, keys, values))
    if _has_kernel(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0, :, : values.shape[-1]]
    step = max(1, CHUNK // (len(keys) * keys.shape[1]))
    chunks = queries.split(step, 1)
    made = [kept_or_computed_again(_plainly, len(chunks) > 1, chunk, keys, values) for chunk in chunks]
    return torch.cat(made, 1) if len(made) > 1 else made[0]


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within it, attention is made of operations whose gradients have gradients, for penalties on gradients.

    Torch's fused kernels have none; without this, asking for them is an error (specification 6.4, rule 4).
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _has_kernel(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether torch would take a fused kernel, by the question that it asks itself."""
    choice = torch._fused_sdp_choice(queries, keys, values, scale=1.0)  # pyright: ignore
    return choice not in (SDPBackend.MATH.value, SDPBackend.ERROR.value)


def _plainly(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    wide = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):  # scores are large: bfloat16 would round them by units
        shares = (queries.to(wide) @ keys.to(wide).mT).softmax(-1)
        return (shares @ values.to(wide)).to(values.dtype)
