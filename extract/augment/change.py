"""What may be done to a volume, how far, and the doing of it: a draw from random numbers that the caller owns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from embeddings_store.schema import Eye
from extract.augment.geometry import Affine, apply_affine, mirror, shift_axially, tilted_plane
from extract.augment.light import add_noise, add_shadows, add_speckle, change_contrast, lose_frames, z_score

Volume = Float32[np.ndarray, "1 D H W"]


@dataclass(frozen=True, slots=True)
class Changes:
    """How far volumes are changed at strength 1; 0 leaves a change out.

    rotation_degrees: within B-scan and en face. scaling, shift: share of each side. contrast: gamma within 1 +- this.
    noise: standard deviation of white noise, that of the volume being 1. mirror: probability of a lateral mirror
    image, which makes a right eye of a left one. axial_shift, tilt: share of the rows. speckle: contrast of the extra
    speckle, 1 / sqrt(looks). frame_dropout: largest share of B-scans lost. shadows: most columns of shadow.
    """

    rotation_degrees: float = 5.0
    scaling: float = 0.05
    shift: float = 0.03
    contrast: float = 0.2
    noise: float = 0.1
    mirror: float = 0.5
    axial_shift: float = 0.05
    tilt: float = 0.05
    speckle: float = 0.2
    frame_dropout: float = 0.05
    shadows: int = 3


def change_volume(
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
