"""Learned and fixed position tables: which grid they were made for, and how each family carries them to another."""

from math import isqrt

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from embeddings_store.grid import Grid
from extract.encoder.family import Family
from extract.errors import CheckpointError

SINCOS_BASE = 10_000.0
SINCOS_ERROR = 5e-3
"""Of a table that may be saved in half precision; tables of other grids are off by about 1."""
OFFSET = 0.1
"""What iBOT and DINO add to the new grid before they divide by the old one (source: the fixture visionfm)."""


def interpolate_positions(table: Float[Tensor, "1 N C"], grid: Grid, target: Grid) -> Float[Tensor, "1 M C"]:
    """Resize a position table trilinearly on its 3D grid, half-pixel centres (align_corners False).

    Source: the fixture vjepa3d_nested (interp_pos_embed.npy; the original model only takes its own size), vjepa1_pt.
    """
    width = table.shape[2]
    volume = table.reshape(1, *grid, width).permute(0, 4, 1, 2, 3)
    resized = functional.interpolate(volume, size=target, mode="trilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).contiguous()


def resize_2d(table: Float[Tensor, "1 N C"], side: int, target: Grid, kind: Family) -> Float[Tensor, "1 M C"]:
    """Resize the table of a square picture to the rows and columns of another, as the family's own code does."""
    rows, columns = target[1:]
    if (side, side) == (rows, columns):
        return table
    picture = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if kind.positions == "bicubic_offset":
        scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
        resized = functional.interpolate(picture, scale_factor=scale, mode="bicubic")
    else:
        smooth = kind.positions == "bicubic_antialias"
        resized = functional.interpolate(
            picture, size=(rows, columns), mode="bicubic", align_corners=False, antialias=smooth
        )
    return resized.flatten(2).transpose(1, 2).contiguous()


def place_factorised(spatial: Tensor, temporal: Tensor, target: Grid, kind: Family) -> Float[Tensor, "1 M C"]:
    """Join OCTCube's tables; a single tubelet at the table's own resolution has the first place in time."""
    side, width = isqrt(spatial.shape[1]), spatial.shape[2]
    if is_high_resolution(spatial.shape[1], target) and target[0] == 1:
        times = temporal[:, :1]
    elif target[0] == temporal.shape[1]:
        times = temporal
    else:
        times = functional.interpolate(
            temporal.transpose(1, 2), size=target[0], mode="linear", align_corners=False
        ).transpose(1, 2)
    return (times[:, :, None] + resize_2d(spatial, side, target, kind)[:, None]).reshape(1, -1, width)


def is_high_resolution(rows: int, target: Grid) -> bool:
    """Tell whether an input has OCTCube's high resolution, for which it has a patch embedding of its own."""
    return target[1] * target[2] == rows and target[1] == target[2]


def sincos_grid(table: Float[Tensor, "1 N C"]) -> Grid | None:
    """Find the grid (time, rows, columns; square) of V-JEPA 1's fixed table; None where it is another table.

    Its numbers are sines and cosines of time, rows and columns, a third of the width each, rounded up to even, cut off
    at the end (uniform_power; source: the fixture vjepa1_pt).
    """
    _, count, width = table.shape
    found = table[0].double().numpy()
    for side in range(1, isqrt(count) + 1):
        if count % (side * side) == 0:
            grid = (count // (side * side), side, side)
            if np.abs(found - sincos_table(grid, width)).max() < SINCOS_ERROR:
                return grid
    return None


def sincos_table(grid: Grid, width: int) -> Float64[np.ndarray, "N C"]:
    """Make V-JEPA 1's table."""
    part = int(np.ceil(width / 6) * 2)
    frequencies = SINCOS_BASE ** -(np.arange(part // 2) / (part / 2))
    angles = np.indices(grid).reshape(3, -1).T[:, :, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=2).reshape(len(angles), -1)[:, :width]


def is_sincos(table: Float[Tensor, "1 N C"]) -> bool:
    """Tell whether all rows of a table have one length, as those of sines and cosines have and learned ones do not."""
    lengths = table[0].double().square().sum(1)
    return bool(len(lengths) > 1 and lengths.mean() > 0 and (lengths.std() / lengths.mean()) < SINCOS_ERROR)


def square_side(rows: int, source: str, table: str) -> int:
    """Give the side of a square picture's table. Raises CheckpointError."""
    side = isqrt(rows)
    if side * side != rows:
        raise CheckpointError(
            f"{source}: tensor {table}: expected the positions of a square picture, got {rows} of them; "
            "this is another architecture"
        )
    return side
