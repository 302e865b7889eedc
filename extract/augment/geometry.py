"""Changes of place that keep the order of the layers: rotation, scale, shift, mirror image and axial tilt in one map.

The map is composed before a voxel is touched, so that every voxel is interpolated once. A B-scan is never left within a
column: the source frame depends on frame and column alone, which is what makes the map 14 numbers.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from embeddings_store.grid import Grid


class Movement(NamedTuple):
    """angles: radians about the frame axis (within B-scan) and the axial axis (en face). scales and shifts of (frames,
    rows, columns), shifts in voxels. axial_px: how much deeper the middle lies. tilts_px: how much deeper the last edge
    lies than the first, across frames and across columns.
    """

    angles: Float64[np.ndarray, " 2"]
    scales: Float64[np.ndarray, " 3"]
    shifts: Float64[np.ndarray, " 3"]
    axial_px: float
    tilts_px: Float64[np.ndarray, " 2"]


NOWHERE = Movement(np.zeros(2), np.ones(3), np.zeros(3), 0.0, np.zeros(2))


def place_of(size: Grid, movement: Movement, *, mirrored: bool = False) -> Float32[np.ndarray, " 14"]:
    """Compose a movement into the numbers that give a voxel's source, first the mirror image, last the axial change.

    Axial change: a + b frame + c column. Source frame: d + e frame + f column. Source row and source column, after the
    axial change of the row: g + h row + i frame + j column each; in this order, 3 + 3 + 4 + 4.
    En-face rotation takes frames and columns as equally spaced on the unit square, as the resize of the preset does.
    """
    (within, en_face), side = movement.angles, np.array(size, np.float64)
    about_frames = np.array([[1, 0, 0], [0, np.cos(within), -np.sin(within)], [0, np.sin(within), np.cos(within)]])
    about_depth = np.array([[np.cos(en_face), 0, np.sin(en_face)], [0, 1, 0], [-np.sin(en_face), 0, np.cos(en_face)]])
    matrix = np.diag(side) @ about_frames @ about_depth @ np.diag(1 / (movement.scales * side))
    centre = (side - 1) / 2
    offset = centre - movement.shifts - matrix @ centre
    if mirrored:
        matrix[2], offset[2] = -matrix[2], side[2] - 1 - offset[2]
    steps = movement.tilts_px / np.maximum(side[[0, 2]] - 1, 1)
    axial = [movement.axial_px - float(steps @ centre[[0, 2]]), *steps]
    frame = [offset[0], matrix[0, 0], matrix[0, 2]]
    row, column = ([offset[axis], matrix[axis, 1], matrix[axis, 0], matrix[axis, 2]] for axis in (1, 2))
    return np.array([*axial, *frame, *row, *column], np.float32)


def resample(
    volumes: Float32[Tensor, "b D H W"], place: Float32[Tensor, "b 14"], first: int, count: int
) -> Float32[Tensor, "b count H W"]:
    """Interpolate ``count`` frames of the moved volumes from ``first`` on, trilinearly; borders are repeated."""
    size = (volumes.shape[1], volumes.shape[2], volumes.shape[3])
    f = _numbers(first, first + count, volumes)[:, None, None]
    r, c = _numbers(0, size[1], volumes)[:, None], _numbers(0, size[2], volumes)
    n = place[:, :, None, None, None].unbind(1)
    row = (r - (n[0] + n[1] * f + n[2] * c)).clamp_(0, size[1] - 1)
    frames = _between(n[3] + n[4] * f + n[5] * c, size[0])
    rows = _between(row * n[7] + (n[6] + n[8] * f + n[9] * c), size[1])
    columns = _between(row * n[11] + (n[10] + n[12] * f + n[13] * c), size[2])
    whole = torch.int32 if len(volumes) == 1 else torch.int64
    index = (rows[0] * size[2] + columns[0]).to(whole) + frames[0].to(whole) * (size[1] * size[2])
    flat, index = volumes.flatten(1), index.flatten(1)
    steps = [step if length > 1 else 0 for step, length in zip((size[1] * size[2], size[2], 1), size, strict=True)]
    shape = (len(volumes), count, size[1], size[2])

    def blend(offset: int, axes: tuple[int, ...]) -> Float[Tensor, "b count H W"]:
        """Interpolate along the axes, the first outermost."""
        if not axes:
            return _pick(flat[:, offset:], index).view(shape)
        weight = (frames, rows, columns)[axes[0]][1]
        near, far = (blend(offset + step, axes[1:]) for step in (0, steps[axes[0]]))
        return near.lerp_(far, weight) if weight.shape == near.shape else torch.lerp(near, far, weight)

    return blend(0, (0, 1, 2))


def _numbers(first: int, stop: int, like: Float32[Tensor, "..."]) -> Float32[Tensor, " n"]:
    return torch.arange(first, stop, dtype=like.dtype, device=like.device)


def _between(source: Float[Tensor, "..."], length: int) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Give the voxel before a place within the border, and how far behind it the place lies."""
    inside = source.clamp_(0, length - 1)
    before = inside.floor().clamp_(max=max(length - 2, 0))
    return before, inside - before


def _pick(flat: Float[Tensor, "b n"], index: Int[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """Take voxels of each volume from itself; of one volume by the way that is three times as fast on a CPU."""
    if len(flat) == 1:
        return flat[0].index_select(0, index[0])[None]
    return flat.gather(1, index)
