"""The styles that pix2pixHD's programs found in a training set: a dictionary of arrays in a NumPy file.

Specification of the pix2pix family, sections 4.7 and 8.2: `features_clustered_010.npy` has, for each class of which
there were objects large enough, the centres of up to ten clusters of their styles. How many objects each cluster had is
not in it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from photogram.errors import UserError
from photogram.interop.files import Damaged
from photogram.interop.pickled_arrays import Array, read_dictionary

CLUSTER_LIMIT = 1 << 10
"""Clusters of a class that are read; the authors' have ten."""

_CODING = 1000  # an object's id in Cityscapes: its class times this, and a number


def read_clusters(path: Path, channels: int) -> dict[int, Float[Tensor, "k f"]]:
    """The centres of each class that has any, by its number.

    Args:
        path: the file.
        channels: how many numbers a style must have.

    Raises:
        UserError: where the file is damaged, hostile or another, naming the class and what is wrong with it.
    """
    found: dict[int, Tensor] = {}
    for key, array in read_dictionary(path, "give features_clustered_010.npy").items():
        if type(key) is not int or key < 0:
            raise UserError(f"{path}: has {str(key)[:40]!r} as a class; it must be a number of 0 or more")
        one = key if key < _CODING else key // _CODING
        if one in found:
            raise UserError(f"{path}: gives the styles of class {one} twice")
        if not isinstance(array, Array) or len(array.shape) != 2:
            raise UserError(f"{path}: class {key} has no array of two dimensions, clusters and features")
        count, length = array.shape
        if not 1 <= count <= CLUSTER_LIMIT:
            raise UserError(f"{path}: class {key} has {count:,} clusters; it must be 1 to {CLUSTER_LIMIT}")
        if length != channels:
            raise UserError(f"{path}: styles of class {key} have {length} numbers, but the network's have {channels}")
        try:
            centres = torch.from_numpy(array.numbers()).float()
        except Damaged as e:
            raise UserError(f"{path}: {e}") from None
        if not centres.isfinite().all():
            raise UserError(f"{path}: class {key} has styles that are not finite")
        found[one] = centres
    if not found:
        raise UserError(f"{path}: holds no styles")
    return found


def as_buffers(
    centres: dict[int, Tensor], classes: int, clusters: int, channels: int
) -> tuple[Float[Tensor, "classes clusters channels"], Int[Tensor, "classes clusters"]]:
    """Centres and counts as a `StyledGenerator` keeps them; how many objects a cluster had is unknown: 1 each."""
    rows, counts = torch.zeros(classes, clusters, channels), torch.zeros(classes, clusters, dtype=torch.int64)
    for one, values in centres.items():
        rows[one, : len(values)] = values
        counts[one, : len(values)] = 1
    return rows, counts
