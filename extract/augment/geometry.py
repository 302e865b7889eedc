"""Changes of place that keep the order of the layers: mirror image, axial shift with tilt, and MONAI's affine map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from embeddings_store.schema import Eye

OTHER_EYE = {Eye.LEFT: Eye.RIGHT, Eye.RIGHT: Eye.LEFT, Eye.UNKNOWN: Eye.UNKNOWN}

Volume = Float32[np.ndarray, "1 D H W"]


def mirror(volume: Volume, eye: Eye) -> tuple[Volume, Eye]:
    """Exchange nasal and temporal: the mirror image of a right eye looks like a left one, so the flag changes too."""
    return np.ascontiguousarray(volume[..., ::-1]), OTHER_EYE[eye]


def shift_axially(volume: Volume, shift_px: Float64[np.ndarray, "D W"]) -> Volume:
    """Move each A-scan deeper by its own number of pixels, linearly interpolated; its ends are repeated.

    The order of the layers in an A-scan cannot change.
    """
    rows = volume.shape[2]
    source = np.clip(np.arange(rows, dtype=np.float64)[None, :, None] - shift_px[:, None, :], 0, rows - 1)
    lower: Int64[np.ndarray, "D H W"] = np.minimum(source.astype(np.int64), max(rows - 2, 0))
    weight = (source - lower).astype(np.float32)
    above = np.take_along_axis(volume[0], lower, axis=1)
    below = np.take_along_axis(volume[0], np.minimum(lower + 1, rows - 1), axis=1)
    moved: np.ndarray = above + weight * (below - above)
    return moved[None]


def tilted_plane(
    frames: int, columns: int, *, shift_px: float, frame_tilt_px: float, lateral_tilt_px: float
) -> Float64[np.ndarray, "D W"]:
    """Give the shift of every A-scan: shift in the middle; a tilt is the difference between the two edges."""
    across_frames = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
    across = np.linspace(-0.5, 0.5, columns)
    return shift_px + frame_tilt_px * across_frames[:, None] + lateral_tilt_px * across[None, :]


@dataclass(frozen=True, slots=True)
class Affine:
    """angles in radians about the frame axis (within B-scan) and the axial axis (en face); scales and shifts of
    (frames, rows, columns), shifts in voxels.
    """

    angles: tuple[float, float]
    scales: tuple[float, float, float]
    shifts: tuple[float, float, float]


def apply_affine(volume: Volume, change: Affine) -> Volume:
    """Rotate, scale and shift in one trilinear interpolation by MONAI; beyond the border its voxels are repeated.

    En-face rotation takes frames and columns as equally spaced on the unit square, as the resize of the preset does.
    """
    import torch
    from monai.transforms.spatial.array import AffineGrid, Resample

    size = volume.shape[1:]
    grid, _ = AffineGrid(affine=torch.from_numpy(_matrix(change, size)))(spatial_size=size)
    resample = Resample(mode="bilinear", padding_mode="border", dtype=np.float32)  # its default computes in float64
    moved = resample(torch.from_numpy(volume), grid=grid)
    return np.ascontiguousarray(moved.numpy(), dtype=np.float32)


def _matrix(change: Affine, size: tuple[int, ...]) -> Float64[np.ndarray, "4 4"]:
    """Give the map from a place in the result to its place in the source, both in voxels from the centre."""
    side = np.diag([*map(float, size)])
    within, en_face = change.angles
    about_frames = np.array(
        [[1, 0, 0], [0, np.cos(within), -np.sin(within)], [0, np.sin(within), np.cos(within)]], np.float64
    )
    about_depth = np.array(
        [[np.cos(en_face), 0, np.sin(en_face)], [0, 1, 0], [-np.sin(en_face), 0, np.cos(en_face)]], np.float64
    )
    matrix = np.eye(4)
    matrix[:3, :3] = side @ about_frames @ about_depth @ np.diag(1 / np.array(change.scales)) @ np.linalg.inv(side)
    matrix[:3, 3] = -np.array(change.shifts)
    return matrix
