"""Trilinear resize, one output slice at a time: only frames that the interpolation touches, in the stored type."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped


@dataclass(frozen=True)
class Blend:
    """Linear interpolation between frames: out[k] = f[lower[k]] + weight[k] (f[upper[k]] - f[lower[k]])."""

    lower: Int[np.ndarray, "out"]
    upper: Int[np.ndarray, "out"]
    weight: Float32[np.ndarray, "out"]

    @property
    def frames(self) -> Int[np.ndarray, "k"]:
        """The frames that are touched, ascending."""
        return np.unique(np.concatenate([self.lower, self.upper]))


def plan_blend(stored: int, depth: int) -> Blend:
    """Compute torch's source coordinates, in float32 as torch does, for align_corners=False.

    Source: ATen, area_pixel_compute_source_index; equal to torch's weights bit by bit (tests/extract).
    """
    if stored == depth:
        same = np.arange(depth)
        return Blend(same, same, np.zeros(depth, np.float32))
    half = np.float32(0.5)
    scale = np.float32(stored) / np.float32(depth)
    position = np.maximum(scale * (np.arange(depth, dtype=np.float32) + half) - half, np.float32(0))
    lower = np.minimum(position.astype(np.int64), stored - 1)
    weight = np.clip(position - lower.astype(np.float32), np.float32(0), np.float32(1))
    upper = np.where(weight > 0, np.minimum(lower + 1, stored - 1), lower)
    return Blend(lower, upper, weight)


def resize_slices(
    frames: Shaped[np.ndarray, "n rows columns"], blend: Blend, out: Float32[np.ndarray, "D H W"]
) -> Iterator[Float32[np.ndarray, "1 H W"]]:
    """Fill ``out``, and yield it slice by slice while it is in the cache: blend frames, then resize in-plane.

    Values are relative to the first voxel (add ``origin_of``), so that a constant volume is exactly zero.
    """
    origin = origin_of(frames)
    blended, step = np.empty((2, 1, *frames.shape[1:]), np.float32)
    for at in range(len(out)):
        part = out[at : at + 1]
        whole = part if part.shape == blended.shape else blended
        _blend(frames[blend.lower[at]], frames[blend.upper[at]], blend.weight[at], origin, whole[0], step[0])
        if whole is blended:
            _resize_planes(blended, part)
        yield part


def origin_of(frames: Shaped[np.ndarray, "n rows columns"]) -> np.float32:
    """Give the value that resized slices are relative to: the first voxel."""
    return np.float32(frames[0, 0, 0])


def _blend(
    lower: Shaped[np.ndarray, "rows columns"],
    upper: Shaped[np.ndarray, "rows columns"],
    weight: np.float32,
    origin: np.float32,
    out: Float32[np.ndarray, "rows columns"],
    step: Float32[np.ndarray, "rows columns"],
) -> None:
    """Blend two frames, relative to a value, in float32; ``step`` is room to work in."""
    np.copyto(out, lower)
    if weight > 0:
        np.copyto(step, upper)
        step -= out
        step *= weight
    if origin != 0:  # scans often begin in black
        out -= origin
    if weight > 0:
        out += step


def _resize_planes(planes: Float32[np.ndarray, "k rows columns"], out: Float32[np.ndarray, "k H W"]) -> None:
    """Do what torch's interpolate(mode="bilinear", align_corners=False) does, but into memory that is there already."""
    source, target = torch.from_numpy(planes)[:, None], torch.from_numpy(out)[:, None]
    torch.ops.aten.upsample_bilinear2d.out(source, list(out.shape[1:]), False, None, None, out=target)
