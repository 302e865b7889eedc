"""Changing volumes as drawn: one code for one volume on the host and a whole batch on an accelerator."""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from embeddings_store.schema import Eye
from extract.augment.draws import Changes, Draws, draw_changes
from extract.augment.geometry import resample
from extract.augment.light import Light, lose_frames, z_score

Volume = Float32[np.ndarray, "1 D H W"]

VOXELS_AT_ONCE = {"cpu": 150_000}
"""On the CPU one full-size B-scan, which stays in its cache."""

VOXELS_ELSEWHERE = 10_000_000
"""Enough to fill an accelerator; a dozen arrays of so many voxels are held for a moment, half a gigabyte."""


def change_volume(
    volume: Volume, eye: Eye, changes: Changes, strength: float, rng: np.random.Generator
) -> tuple[Volume, Eye]:
    """Change one volume on the host; the eye is what it looks like afterwards.

    strength: from 0, which changes nothing, to 1. The intensities are those of the preset "pretrain" again at the end.
    """
    if strength == 0:
        return volume, eye
    frames, rows, columns = volume.shape[1:]
    draws, eye = draw_changes((frames, rows, columns), eye, changes, strength, rng)
    batch = Draws(*(torch.from_numpy(np.asarray(part))[None] for part in draws))
    changed: Volume = change_batch(torch.from_numpy(np.ascontiguousarray(volume)), batch).numpy()
    return changed, eye


def change_batch(volumes: Float32[Tensor, "b D H W"], draws: Draws) -> Float32[Tensor, "b D H W"]:
    """Change volumes where they are, each by its own draws (tensors there); up to rounding alike on every device."""
    moved = torch.empty_like(volumes)
    parts = _parts(volumes)
    for part in parts:
        moved[:, part] = resample(volumes, draws.place, part.start, part.stop - part.start)
    light = Light(moved, draws.light, draws.shadows)
    for part in parts:
        moved[:, part] = light.change(moved[:, part], part.start, draws.seed)
    return z_score(lose_frames(moved, draws.lost))


def _parts(volumes: Float32[Tensor, "b D H W"]) -> list[slice]:
    """Cut the frames into parts of which one at a time is worked on."""
    count, frames, rows, columns = volumes.shape
    most = VOXELS_AT_ONCE.get(volumes.device.type, VOXELS_ELSEWHERE)
    step = max(1, min(frames, most // (count * rows * columns)))
    return [slice(start, min(start + step, frames)) for start in range(0, frames, step)]
