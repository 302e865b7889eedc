"""Mixup and cutmix in 3D: two volumes become one, and their labels are shared as the voxels are."""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from embeddings_store.grid import Grid

Mixture = Float32[np.ndarray, " 8"]
"""Share of the first volume outside of a box, and inside it; then the box: first and stop along each axis."""

UNMIXED: Mixture = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32)


def mixup(share: float) -> tuple[Mixture, float]:
    """Give share of one plus the rest of the other, voxel by voxel (Zhang et al., ICLR 2018)."""
    return np.array([share, share, 0, 0, 0, 0, 0, 0], np.float32), share


def cutmix(size: Grid, share: float, rng: np.random.Generator) -> tuple[Mixture, float]:
    """Paste a box of the other into one, about 1 - share of the volume; give the share of voxels that stayed, too.

    The box has the volume's proportions and lies inside it (Yun et al., ICCV 2019, in three dimensions).
    """
    sides = np.round(np.array(size) * (1 - share) ** (1 / 3)).astype(np.int64)
    first = [int(rng.integers(0, whole - side + 1)) for whole, side in zip(size, sides, strict=True)]
    box = [edge for start, side in zip(first, sides, strict=True) for edge in (start, start + int(side))]
    return np.array([1, 0, *box], np.float32), 1 - float(np.prod(sides)) / float(np.prod(size))


def mix(
    one: Float32[Tensor, "b D H W"], other: Float32[Tensor, "b D H W"], mixture: Float32[Tensor, "b 8"]
) -> Float32[Tensor, "b D H W"]:
    """Mix volumes where they are."""
    outside, inside, *edges = mixture[:, :, None, None, None].unbind(1)
    box = torch.ones_like(outside)
    for axis in range(3):
        along = [-1 if number == axis + 1 else 1 for number in range(4)]
        place = torch.arange(one.shape[axis + 1], dtype=one.dtype, device=one.device).view(along)
        box = box * ((place >= edges[2 * axis]) & (place < edges[2 * axis + 1]))
    return torch.lerp(other, one, outside + (inside - outside) * box)
