"""Mixup and cutmix in 3D: two volumes become one, and their labels are shared as the voxels are."""

import numpy as np
from jaxtyping import Float32

Volume = Float32[np.ndarray, "1 D H W"]


def mixup(one: Volume, other: Volume, share: float) -> Volume:
    """Give share of one plus the rest of the other, voxel by voxel (Zhang et al., ICLR 2018)."""
    return np.float32(share) * one + np.float32(1 - share) * other


def cutmix(one: Volume, other: Volume, share: float, rng: np.random.Generator) -> tuple[Volume, float]:
    """Paste a box of the other into one, about 1 - share of the volume; give the share of voxels that stayed.

    The box has the volume's proportions and lies inside it (Yun et al., ICCV 2019, in three dimensions).
    """
    size = np.array(one.shape[1:])
    sides = np.round(size * (1 - share) ** (1 / 3)).astype(np.int64)
    first = [int(rng.integers(0, whole - side + 1)) for whole, side in zip(size, sides, strict=True)]
    box = (slice(None), *(slice(start, start + int(side)) for start, side in zip(first, sides, strict=True)))
    mixed = one.copy()
    mixed[box] = other[box]
    return mixed, 1 - float(np.prod(sides)) / float(np.prod(size))
