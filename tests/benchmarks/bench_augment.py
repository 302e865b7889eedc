"""P24: augmenting a volume on the CPU in one pass, against the five that did the same: CPU seconds a volume.

Both draw the same places and contrast from the same seed; speckle and noise come from other numbers of the same
distributions, so what is compared voxel by voxel is a smooth volume without them.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from comparison import Goal, Row, not_measured
from five_passes import five_passes
from scipy.ndimage import gaussian_filter
from settings import Settings
from side_by_side import in_turn

from embeddings_store.schema import Eye
from extract.augment.change import change_batch, change_volume
from extract.augment.draws import Changes, Draws, draw_changes
from finetune.data.images import from_levels, to_levels
from finetune.data.raw import RawVolumes, make_volumes

CALM = Changes(noise=0.0, speckle=0.0, frame_dropout=0.0)
TOLERANCE = 0.02
"""Of a standard deviation, on average: five passes interpolate twice, which blurs twice."""


def measure(settings: Settings) -> list[Row]:
    size, seeds = ((8, 64, 64), 2) if settings.quick else ((64, 384, 384), 4)
    if find_spec("monai") is None:
        return [
            not_measured("monai is not installed", id="P24", work="augmenting a volume", peer="MONAI", unit="CPU s")
        ]
    volume = np.random.default_rng(0).standard_normal((1, *size), dtype=np.float32)
    smooth = gaussian_filter(volume[0], (1, 3, 3))[None]
    smooth = (smooth - smooth.mean()) / smooth.std()

    def epoch(change: Callable[..., tuple[np.ndarray, Eye]]) -> np.ndarray:
        for seed in range(seeds):
            change(volume, Eye.LEFT, Changes(), 1.0, np.random.default_rng(seed))
        return change(smooth, Eye.LEFT, CALM, 1.0, np.random.default_rng(seeds))[0]

    timed = in_turn(
        partial(epoch, change_volume), partial(epoch, five_passes), rounds=settings.quick or 3, agree=_agree
    )
    per_volume = 1 / (seeds + 1)
    return [
        Row(
            id="P24",
            work=f"augmenting a volume of {'x'.join(map(str, size))}, every change, from float32",
            peer="five passes with MONAI and NumPy, as before",
            unit="CPU s",
            ours=float(np.median(timed.ours_cpu_s)) * per_volume,
            peer_value=float(np.median(timed.peer_cpu_s)) * per_volume,
            goal=Goal(ratio=3.0),
            rounds=timed.count,
            notes=f"{timed.agreement}; {_as_a_batch(smooth)}",
        )
    ]


def _agree(ours: np.ndarray, peer: np.ndarray) -> str:
    apart = float(np.abs(ours - peer).mean())
    if apart > TOLERANCE:
        raise ValueError(f"the one pass differs from the five by {apart:.3f} on average")
    return f"a smooth volume without noise differs by {apart:.4f} on average"


def _as_a_batch(volume: np.ndarray) -> str:
    """Change three volumes as a device does, from levels and together, and each alone on the host."""
    frames, rows, columns = volume.shape[1:]
    levels, scale = to_levels(volume)
    drawn = [
        draw_changes((frames, rows, columns), Eye.LEFT, Changes(), 1.0, np.random.default_rng(seed))[0]
        for seed in range(3)
    ]
    draws = [Draws(*(torch.from_numpy(part)[None] for part in one)) for one in drawn]
    voxels = torch.from_numpy(from_levels(levels, scale))
    alone = torch.cat([change_batch(voxels, one) for one in draws])
    stored, scales = torch.from_numpy(levels).expand(3, 1, -1, -1, -1), torch.from_numpy(scale).expand(3, 1, 2)
    batch = Draws(*(torch.stack(parts) for parts in zip(*draws, strict=True)))
    apart = float((make_volumes(RawVolumes(stored, scales, batch))[:, 0] - alone).abs().max())
    if apart > 1e-4:
        raise ValueError(f"a batch differs from its volumes by {apart}")
    return f"a batch from uint8 equals its volumes to {apart:.0e}"
