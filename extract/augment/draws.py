"""What is drawn for one volume before anything is changed: a few numbers, which travel to where the change is made."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from embeddings_store.grid import Grid
from embeddings_store.schema import Eye
from extract.augment.geometry import NOWHERE, Movement, place_of

OTHER_EYE = {Eye.LEFT: Eye.RIGHT, Eye.RIGHT: Eye.LEFT, Eye.UNKNOWN: Eye.UNKNOWN}


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


class Draws(NamedTuple):
    """One volume's draws (arrays), or those of a batch (tensors with more axes in front).

    place: as geometry.place_of. light: gamma, contrast of the speckle, standard deviation of the noise. shadows:
    centres, widths (shares of the lateral side) and depths (nepers), of which a depth of 0 is none. lost: 1 for each
    B-scan that is black. seed: three whole numbers, of the noise. Sizes: 14, 3, 3 x n, D, 3.
    """

    place: Any
    light: Any
    shadows: Any
    lost: Any
    seed: Any


def draw_changes(
    size: Grid, eye: Eye, changes: Changes, strength: float, rng: np.random.Generator
) -> tuple[Draws, Eye]:
    """Draw what happens to a volume of this size; the eye is what it looks like afterwards."""
    movement, mirrored = _draw_movement(size, changes, strength, rng)
    gamma = 1 + changes.contrast * float(rng.uniform(-strength, strength)) if changes.contrast else 1.0
    shadows = _draw_shadows(changes, strength, rng)
    speckle = changes.speckle * strength * max(float(rng.random()), 0.05) if changes.speckle else 0.0
    noise = changes.noise * strength * float(rng.random()) if changes.noise else 0.0
    seed: Int32[np.ndarray, " 3"] = rng.integers(-(2**31), 2**31, 3, dtype=np.int32)
    lost = np.zeros(size[0], np.float32)
    if most := int(changes.frame_dropout * strength * size[0]):
        lost[rng.choice(size[0], int(rng.integers(0, most + 1)), replace=False)] = 1
    place = place_of(size, movement, mirrored=mirrored)
    draws = Draws(place, np.array([gamma, speckle, noise], np.float32), shadows, lost, seed)
    return draws, OTHER_EYE[eye] if mirrored else eye


def _draw_movement(size: Grid, changes: Changes, strength: float, rng: np.random.Generator) -> tuple[Movement, bool]:
    rows = size[1]
    mirrored = bool(rng.random() < changes.mirror * strength)
    swing = rng.uniform(-strength, strength, 11)
    angles = np.deg2rad(changes.rotation_degrees) * swing[:2]
    scales, shifts = 1 + changes.scaling * swing[2:5], changes.shift * swing[5:8] * size
    tilts = changes.tilt * rows * swing[9:11]
    movement = NOWHERE._replace(
        angles=angles, scales=scales, shifts=shifts, axial_px=changes.axial_shift * rows * swing[8], tilts_px=tilts
    )
    return movement, mirrored


def _draw_shadows(changes: Changes, strength: float, rng: np.random.Generator) -> Float32[np.ndarray, "3 n"]:
    shadows = np.ones((3, changes.shadows), np.float32)
    shadows[2] = 0
    if changes.shadows:
        count = int(rng.integers(0, changes.shadows + 1))
        centres, widths, depths = rng.random((3, count)).astype(np.float32)
        shadows[:, :count] = centres, 0.01 + 0.05 * widths, np.float32(2 * strength) * depths
    return shadows
