"""Volume -> encoder input: the resize stays in the stored type until the frames that it needs are blended."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped
from torch.nn.functional import interpolate

from extract.errors import PreprocessError
from extract.preset import PRESETS, Preset, load_preset
from extract.volume import Volume

__all__ = ["PRESETS", "Preset", "frame_chooser", "frames_needed", "load_preset", "preprocess"]

SLICES_AT_ONCE = 4  # a few output slices at a time keep the intermediate frames in the processor's cache


@dataclass(frozen=True)
class Blend:
    """Linear interpolation between frames: out[k] = f[lower[k]] + weight[k] (f[upper[k]] - f[lower[k]])."""

    lower: Int[np.ndarray, "out"]
    upper: Int[np.ndarray, "out"]
    weight: Float32[np.ndarray, "out"]


def preprocess(volume: Volume, preset: Preset, image_size: tuple[int, int, int]) -> Float32[np.ndarray, "1 D H W"]:
    """Make the encoder's input of shape (1, *image_size) from a volume whose needed frames are decoded.

    With the preset "pretrain" the result equals torch's trilinear interpolate of the whole float32 volume, then a
    z-score, to 1e-5 (fixtures/preprocess). Memory: about the result and a few frames.
    Raises: PreprocessError when the result is not finite or needed frames were not decoded.
    """
    depth, height, width = image_size
    if preset.needs_all_frames:
        values = _change_values(volume, preset)
        resized = _resize(values, _plan_blend(len(values), depth), height, width)
    else:
        resized = _resize(volume.voxels, _decoded_slots(volume, depth), height, width)
        if preset.rescale and volume.rescale != (1.0, 0.0):
            resized *= np.float32(volume.rescale[0])
            resized += np.float32(volume.rescale[1])
    if preset.z_score:
        _z_score(resized)
    if not np.isfinite(resized).all():
        raise PreprocessError(f"{volume.source}: preset {preset.name!r} gives values that are not finite")
    return resized[None]


def frames_needed(frame_count: int, depth: int) -> Int[np.ndarray, "k"]:
    """Give the stored frames, ascending, that an interpolation to this depth touches: at most 2 x depth of them."""
    blend = _plan_blend(frame_count, depth)
    return np.unique(np.concatenate([blend.lower, blend.upper]))


def frame_chooser(preset: Preset, depth: int) -> Callable[[int], Int[np.ndarray, "k"]] | None:
    """Give what read_dicom takes as ``frames``: None, all of them, for presets that look at every voxel."""
    if preset.needs_all_frames:
        return None
    return lambda frame_count: frames_needed(frame_count, depth)


def _plan_blend(stored: int, depth: int) -> Blend:
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


def _decoded_slots(volume: Volume, depth: int) -> Blend:
    """Turn frame numbers into places in volume.voxels."""
    blend = _plan_blend(volume.frame_count, depth)
    wanted = np.unique(np.concatenate([blend.lower, blend.upper]))
    if not np.isin(wanted, volume.frame_numbers).all():
        raise PreprocessError(
            f"{volume.source}: a depth of {depth} needs {len(wanted)} frames that were not all decoded"
        )
    lower = np.searchsorted(volume.frame_numbers, blend.lower)
    upper = np.searchsorted(volume.frame_numbers, blend.upper)
    return Blend(lower, upper, blend.weight)


def _resize(
    frames: Shaped[np.ndarray, "n rows columns"], blend: Blend, height: int, width: int
) -> Float32[np.ndarray, "D H W"]:
    """Interpolate trilinearly: two neighbour frames are blended, then the blend is resized in its plane.

    Values are taken relative to the first voxel, so that a constant volume stays exactly constant.
    """
    depth = len(blend.lower)
    resized = np.empty((depth, height, width), np.float32)
    origin = np.float32(frames[0, 0, 0])
    for start in range(0, depth, SLICES_AT_ONCE):
        part = slice(start, start + SLICES_AT_ONCE)
        blended = _blend(frames, Blend(blend.lower[part], blend.upper[part], blend.weight[part]), origin)
        planes = interpolate(torch.from_numpy(blended)[:, None], (height, width), mode="bilinear", align_corners=False)
        np.add(planes[:, 0].numpy(), origin, out=resized[part])
    return resized


def _blend(
    frames: Shaped[np.ndarray, "n rows columns"], blend: Blend, origin: np.float32
) -> Float32[np.ndarray, "k rows columns"]:
    """Blend pairs of frames, relative to a value, in float32."""
    blended = np.empty((len(blend.lower), *frames.shape[1:]), np.float32)
    for k, (lower, upper, weight) in enumerate(zip(blend.lower, blend.upper, blend.weight, strict=True)):
        np.subtract(frames[lower], origin, out=blended[k], dtype=np.float32)
        if weight > 0:
            step = np.subtract(frames[upper], origin, dtype=np.float32)
            step -= blended[k]
            step *= weight
            blended[k] += step
    return blended


def _change_values(volume: Volume, preset: Preset) -> Float32[np.ndarray, "n rows columns"]:
    """Apply the steps that look at every voxel, to a float32 copy of the whole volume."""
    if len(volume.frame_numbers) != volume.frame_count:
        raise PreprocessError(f"{volume.source}: preset {preset.name!r} needs all {volume.frame_count} frames decoded")
    values: np.ndarray = volume.voxels.astype(np.float32)
    if preset.rescale:
        values = values * np.float32(volume.rescale[0]) + np.float32(volume.rescale[1])
    if preset.move_long_axis and values.shape[0] > values.shape[2]:
        values = np.moveaxis(values, 2, 0)
    if preset.clip_quantile is not None:
        np.clip(values, 0, np.quantile(values, preset.clip_quantile), out=values)
    low, high = values.min(), values.max()
    if preset.min_max and high > low:  # a constant volume is left as it is: the old path's record shows so
        values = (values - low) / (high - low)
    with np.errstate(invalid="ignore"):  # a root of a negative constant is caught as not finite
        return values if preset.power is None else np.power(values, np.float32(preset.power))


def _z_score(values: Float32[np.ndarray, "D H W"]) -> None:
    """Standardise in place; sums in float64, slice by slice, so that no copy of the whole is made."""
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in values) / values.size
    values -= np.float32(mean)
    squares = sum(float(np.square(plane).sum(dtype=np.float64)) for plane in values)
    spread = float(np.sqrt(squares / values.size))
    values /= np.float32(spread if spread > 0 else 1.0)
