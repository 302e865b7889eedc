"""Look at what augmentation does: each change alone at full strength, then whole volumes as training sees them."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from embeddings_store.grid import Grid
from embeddings_store.schema import Eye
from extract.augment.change import change_volume
from finetune.data.augment.augmenter import Mixing
from finetune.data.augment.mixing import mix
from finetune.recipe.config import AugmentConfig

Volume = Float32[np.ndarray, "1 D H W"]

NOTHING = AugmentConfig(
    rotation_degrees=0.0, scaling=0.0, shift=0.0, contrast=0.0, noise=0.0, mirror=0.0, axial_shift=0.0, tilt=0.0,
    speckle=0.0, frame_dropout=0.0, shadows=0,
)  # fmt: skip
ALONE = ("rotation_degrees", "scaling", "shift", "contrast", "noise", "axial_shift", "tilt", "speckle", "shadows")
WHOLE = 5
COLUMNS = 5
SHOWN_SIGMAS = (-1.5, 4.0)


def montage_panels(
    volume: Volume, other: Volume, eye: Eye, config: AugmentConfig, seed: int
) -> list[tuple[str, Volume]]:
    """Give titled volumes: as it is, mirrored, each change alone, mixed, and WHOLE as they are drawn in training."""
    panels = [(f"as it is, eye {eye}", volume)]
    mirrored, now = _changed(volume, eye, NOTHING.model_copy(update={"mirror": 1.0}), seed)
    panels.append((f"mirror, eye {now}", mirrored))
    for name in ALONE:
        value = getattr(config, name)
        if value:
            panels.append(
                (f"{name} {value:g}", _changed(volume, eye, NOTHING.model_copy(update={name: value}), seed)[0])
            )
    for way in ("mixup", "cutmix"):
        mixture, share = Mixing(way, 0.6).draw(_size(volume), np.random.default_rng(seed))
        mixed = mix(*map(torch.from_numpy, (volume, other, mixture[None]))).numpy()
        panels.append((f"{way}, {share:.2f} of the first", mixed))
    for number in range(WHOLE):
        drawn, now = _changed(volume, eye, config, seed + number)
        panels.append((f"as drawn, eye {now}", drawn))
    return panels


def draw_montage(volume: Volume, other: Volume, eye: Eye, config: AugmentConfig, seed: int, path: Path) -> None:
    """Write the panels as a PNG: the middle B-scan above, the en-face mean below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = montage_panels(volume, other, eye, config, seed)
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 4.4 * rows), dpi=80, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2 * rows, COLUMNS, squeeze=False, height_ratios=[3, 1] * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    low, high = SHOWN_SIGMAS
    for number, (title, panel) in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        scan, en_face = grid[2 * row, column], grid[2 * row + 1, column]
        scan.imshow(panel[0, panel.shape[1] // 2], cmap="gray", vmin=low, vmax=high, aspect="auto")
        scan.set_title(title, color="white", size=10)
        en_face.imshow(panel[0].mean(axis=1), cmap="gray", aspect="auto")
    figure.savefig(path, format="png", facecolor="black")


def _changed(volume: Volume, eye: Eye, config: AugmentConfig, seed: int) -> tuple[Volume, Eye]:
    return change_volume(volume, eye, config.changes, 1.0, np.random.default_rng(seed))


def _size(volume: Volume) -> Grid:
    frames, rows, columns = volume.shape[1:]
    return frames, rows, columns
