"""Augmentation as it was before one pass did it: MONAI's affine map, an axial shift, and changes of light one by one.

The peer of bench_augment, and what the one pass is compared with.
"""

from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Float32, Float64, Int64

from embeddings_store.schema import Eye
from extract.augment.draws import OTHER_EYE, Changes

RANGE_DB = 40.0

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


def grey_per_neper(volume: Volume) -> float:
    """Give how much grey one neper (a factor e) of intensity is."""
    return float(volume.max() - volume.min()) / (RANGE_DB * log(10) / 10)


def add_speckle(volume: Volume, looks: float, rng: np.random.Generator) -> Volume:
    """Multiply every voxel's intensity by Gamma(looks) of mean 1: the mean of that many independent speckles.

    Source: Goodman, Speckle Phenomena in Optics, 2007; contrast is 1 / sqrt(looks).
    """
    grain = rng.standard_gamma(looks, volume.shape, dtype=np.float32)
    grain /= np.float32(looks)
    np.maximum(grain, np.float32(1e-6), out=grain)
    return volume + np.float32(grey_per_neper(volume)) * np.log(grain, out=grain)


def add_shadows(
    volume: Volume,
    centres: Float32[np.ndarray, " shadows"],
    widths: Float32[np.ndarray, " shadows"],
    depths: Float32[np.ndarray, " shadows"],
) -> Volume:
    """Darken columns through the whole depth, as an opacity or a large vessel does, down to the detector's noise.

    The noise is taken to begin at the lower quartile of the voxels: most of a scan is vitreous and what lies too deep.
    centres, widths: shares of the lateral side. depths: nepers lost in the middle of a shadow.
    """
    place = (np.arange(volume.shape[3], dtype=np.float32) + np.float32(0.5)) / np.float32(volume.shape[3])
    lost = np.zeros_like(place)
    for centre, width, depth in zip(centres, widths, depths, strict=True):
        lost += depth * np.exp(-(((place - centre) / width) ** 2), dtype=np.float32)
    floor = np.quantile(volume[:, :, ::4, ::4], 0.25).astype(np.float32)
    darker = np.maximum(volume - np.float32(grey_per_neper(volume)) * lost, floor)
    shadowed: np.ndarray = np.minimum(volume, darker)
    return shadowed


def lose_frames(volume: Volume, frames: np.ndarray) -> Volume:
    """Black out B-scans, as a blink does."""
    changed = volume.copy()
    changed[:, frames] = volume.min()
    return changed


def change_contrast(volume: Volume, gamma: float) -> Volume:
    """Bend the grey curve by MONAI's AdjustContrast: ((v - min) / range) ** gamma, within the same range."""
    from monai.transforms.intensity.array import AdjustContrast

    return np.ascontiguousarray(AdjustContrast(gamma)(volume), dtype=np.float32)


def add_noise(volume: Volume, spread: float, seed: int) -> Volume:
    """Add white noise by MONAI's RandGaussianNoise; spread: its standard deviation, that of the volume being 1."""
    from monai.transforms.intensity.array import RandGaussianNoise

    noise = RandGaussianNoise(prob=1.0, mean=0.0, std=spread, sample_std=False)
    noise.set_random_state(seed=seed)
    return np.ascontiguousarray(noise(volume), dtype=np.float32)


def z_score(volume: Volume) -> Volume:
    """Standardise again, as the preset "pretrain" ends: mean 0, population standard deviation 1 (or left at 0)."""
    centred = volume - np.float32(volume.mean(dtype=np.float64))
    spread = float(np.sqrt(np.square(centred, dtype=np.float64).mean()))
    return centred / np.float32(spread if spread > 0 else 1.0)


def five_passes(
    volume: Volume, eye: Eye, changes: Changes, strength: float, rng: np.random.Generator
) -> tuple[Volume, Eye]:
    """Change one volume; the eye is what it looks like afterwards.

    strength: from 0, which changes nothing, to 1. The intensities are those of the preset "pretrain" again at the end.
    """
    if strength == 0:
        return volume, eye
    moved, eye = move(volume, eye, changes, strength, rng)
    return z_score(relight(moved, changes, strength, rng)), eye


def move(volume: Volume, eye: Eye, changes: Changes, strength: float, rng: np.random.Generator) -> tuple[Volume, Eye]:
    """Change where things lie; the order of the layers stays."""
    frames, rows, columns = volume.shape[1:]
    if rng.random() < changes.mirror * strength:
        volume, eye = mirror(volume, eye)
    swing = rng.uniform(-strength, strength, 11)
    if changes.rotation_degrees or changes.scaling or changes.shift:
        angles = np.deg2rad(changes.rotation_degrees) * swing[:2]
        scales, shifts = 1 + changes.scaling * swing[2:5], changes.shift * swing[5:8] * (frames, rows, columns)
        affine = Affine(
            (float(angles[0]), float(angles[1])),
            (float(scales[0]), float(scales[1]), float(scales[2])),
            (float(shifts[0]), float(shifts[1]), float(shifts[2])),
        )
        volume = apply_affine(volume, affine)
    if changes.axial_shift or changes.tilt:
        plane = tilted_plane(
            frames, columns, shift_px=changes.axial_shift * rows * swing[8],
            frame_tilt_px=changes.tilt * rows * swing[9], lateral_tilt_px=changes.tilt * rows * swing[10],
        )  # fmt: skip
        volume = shift_axially(volume, plane)
    return volume, eye


def relight(volume: Volume, changes: Changes, strength: float, rng: np.random.Generator) -> Volume:
    """Change how bright things are."""
    if changes.contrast:
        volume = change_contrast(volume, 1 + changes.contrast * float(rng.uniform(-strength, strength)))
    if changes.shadows:
        count = int(rng.integers(0, changes.shadows + 1))
        centres, widths, depths = rng.random((3, count)).astype(np.float32)
        volume = add_shadows(volume, centres, 0.01 + 0.05 * widths, np.float32(2 * strength) * depths)
    if changes.speckle:
        contrast = changes.speckle * strength * max(float(rng.random()), 0.05)
        volume = add_speckle(volume, contrast**-2, rng)
    if changes.noise:
        volume = add_noise(volume, changes.noise * strength * float(rng.random()), int(rng.integers(2**31)))
    most = int(changes.frame_dropout * strength * volume.shape[1])
    if most:
        volume = lose_frames(volume, rng.choice(volume.shape[1], int(rng.integers(0, most + 1)), replace=False))
    return volume
