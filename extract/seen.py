"""What of a stored volume an encoder saw, by its preset: which frame each slice is, and which part of each frame."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from embeddings_store.grid import Grid
from extract.cut import edge_pixels
from extract.pictures import crop_start, even_frames, fit_size
from extract.preset import Preset
from extract.resize import plan_blend

Span: TypeAlias = tuple[float, float]
"""From and to, as shares of a side."""


def seen_slices(preset: Preset, depth: int, stored: int) -> Int64[np.ndarray, " depth"]:
    """Give the number, from 0, of the stored frame that each slice is; of slices blended of two frames the nearer."""
    if preset.frames == "even":
        return even_frames(stored, depth).astype(np.int64)
    blend = plan_blend(stored, depth)
    return np.where(blend.weight > 0.5, blend.upper, blend.lower).astype(np.int64)


def seen_part(preset: Preset, image_size: Grid, rows: int, columns: int) -> tuple[Span, Span]:
    """Give the rows and the columns that are left of a stored frame after the margins and the centre crop."""
    top, bottom, left, right = (0, 0, 0, 0) if preset.margins is None else edge_pixels(preset.margins, rows, columns)
    kept, size = (rows - top - bottom, columns - left - right), image_size[1:]
    fitted = fit_size(kept, preset, size)
    starts = crop_start(fitted, size)
    down, along = (
        ((first + start / whole * have) / side, (first + (start + want) / whole * have) / side)
        for first, start, want, whole, have, side in zip(
            (top, left), starts, size, fitted, kept, (rows, columns), strict=True
        )
    )
    return down, along
