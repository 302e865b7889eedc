"""Which part of a scan the tokens of a volume were made of: all of it, single B-scans, or a part of each frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True)
class Seen:
    """frames: number, from 0, of the B-scan that each slab of tokens is; None: the slabs share the depth evenly.

    rows, columns: what the tokens cover of each frame, from and to, as shares of its sides.
    """

    frames: Int64[np.ndarray, " depth"] | None = None
    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)

    @property
    def is_whole_frame(self) -> bool:
        """Tell whether tokens cover each frame that was seen from edge to edge."""
        return self.rows == self.columns == (0.0, 1.0)

    def slabs(self, numbers: Int64[np.ndarray, " n"], depth: int, frames: int) -> Int64[np.ndarray, " n"]:
        """Give the slab of tokens of each numbered frame of a scan, -1 for a frame that no slab was made of."""
        if self.frames is None:
            return np.minimum(((numbers + 0.5) / frames * depth).astype(np.int64), depth - 1)
        is_slab = numbers[:, None] == self.frames[None, :]
        return np.where(is_slab.any(axis=1), is_slab.argmax(axis=1), -1)

    def down(self, depth: int, fine: int, frames: int) -> Float64[np.ndarray, " points"]:
        """Give the places of fine points a slab, from 0 at the first frame's edge to 1: a B-scan has one place."""
        if self.frames is None:
            return (np.arange(depth * fine) + 0.5) / (depth * fine)
        return np.repeat((self.frames + 0.5) / frames, fine)

    def along(self, width: int, fine: int) -> Float64[np.ndarray, " points"]:
        """Give the places of fine points a column of tokens along a B-scan, from 0 to 1."""
        return self.columns[0] + (np.arange(width * fine) + 0.5) / (width * fine) * (self.columns[1] - self.columns[0])


WHOLE = Seen()
