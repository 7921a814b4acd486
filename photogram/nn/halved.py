"""Pictures and layouts at half their size, as pix2pixHD averages them for its coarser networks.

T.-C. Wang et al., CVPR 2018, section 3.2 (specification 4.3 and 4.4): 3x3 averages with stride 2, in which what is
beyond the border does not count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from photogram.nn.layout_conv import LayoutLevel


def halved(maps: LayoutLevel | Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
    """The planes at half the size, odd sides rounded up: each the mean of a 3x3 window as far as it is inside.

    Of integers the nine classes of each window are counted; planes of the full size are not made for it. On a CPU that
    takes a third to two thirds of the time, and in float32 it is the same to the last bit.

    Args:
        maps: planes, or a layout as integers at its full size.
    """
    if isinstance(maps, Tensor):
        return F.avg_pool2d(maps, 3, 2, 1, count_include_pad=False)
    if maps.factor != 1 or maps.classes.device.type != "cpu":  # on a GPU planes are what convolutions take
        return halved(maps.planes)
    (n, h, w), none = maps.classes.shape, maps.num_classes
    height, width = (h + 1) // 2, (w + 1) // 2
    padded = F.pad(maps.classes.long(), (1, 1, 1, 1), value=none)
    counts = torch.zeros(n, height, width, none + 1)
    one = torch.ones(()).expand(n, height, width, 1)
    for y in range(3):
        for x in range(3):
            counts.scatter_add_(3, padded[:, y : y + 2 * height - 1 : 2, x : x + 2 * width - 1 : 2, None], one)
    return counts[..., :none].div_(9 - counts[..., none:]).permute(0, 3, 1, 2)
