"""A volume as it was stored: raw voxels, what the file says of them, and what was noticed."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int, Int16, UInt8, UInt16

from embeddings_store.schema import Eye, Kind, Note, RowFacts, SpacingSource

Voxels: TypeAlias = (
    UInt8[np.ndarray, "n rows columns"]
    | UInt16[np.ndarray, "n rows columns"]
    | Int16[np.ndarray, "n rows columns"]
    | Float32[np.ndarray, "n rows columns"]
)
"""B-scans in stored order: axis 0 frames, axis 1 axial, axis 2 lateral. float32: frames that differed in rescale."""


@dataclass(frozen=True)
class Volume:
    """Raw frames of one OCT scan; preprocessed data is a plain float32 array, so the two cannot be confused.

    voxels: the decoded frames, in stored order; a read-only view of the file's bytes where nothing had to be decoded.
    frame_numbers: the stored number, from 0, of each decoded frame, ascending. frame_count: frames stored in the file.
    spacing_mm: distance between frames, axial, lateral; the first is NaN where only the pixel spacing is told, and
    None stands for no spacing at all. rescale: slope and intercept, (1, 0) where the file has none.
    eye: what the file itself says. protocol, device: from the key, "" where there is none.
    source: a name that is safe to print. spacing_source: the part of the file that told the pixel spacing.
    kind: what the file says that it is.
    """

    voxels: Voxels
    frame_numbers: Int[np.ndarray, "n"]
    frame_count: int
    spacing_mm: tuple[float, float, float] | None
    rescale: tuple[float, float]
    eye: Eye
    protocol: str
    device: str
    source: str
    notes: Note
    spacing_source: SpacingSource = SpacingSource.NONE
    kind: Kind | None = None

    @property
    def facts(self) -> RowFacts:
        """What the row of the store keeps of the file: the whole scan's size, not only the decoded frames."""
        _, rows, columns = self.voxels.shape
        return RowFacts(
            self.frame_count,
            int(rows),
            int(columns),
            self.spacing_mm,
            self.eye,
            self.notes,
            self.spacing_source,
            kind=self.kind,
        )
