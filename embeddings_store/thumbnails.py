"""Thumbnails: a small grey picture of each volume, of what the encoder saw of it, in place of the scan itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from embeddings_store.schema import THUMBNAIL_SHAPE


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Thumbnails of some rows, in their order.

    images: grey levels, 0 the darkest and 255 the brightest cell of each volume (see extract.thumbnail); zeros, which
    mean nothing, where known is False: rows from before thumbnails have none.
    """

    images: UInt8[np.ndarray, "n 8 32 32"]
    known: Bool[np.ndarray, " n"]

    @property
    def all_known(self) -> bool:
        """Return whether every row has one."""
        return bool(self.known.all())

    def take(self, rows: Shaped[np.ndarray, " rows"]) -> "Thumbnails":
        """Keep the rows of a mask or of positions."""
        return Thumbnails(self.images[rows], self.known[rows])


def thumbnails_of(images: Sequence[UInt8[np.ndarray, "8 32 32"] | None]) -> Thumbnails:
    """Put thumbnails under each other, None where there is none."""
    known = np.array([one is not None for one in images], dtype=np.bool_)
    nothing = np.zeros(THUMBNAIL_SHAPE, np.uint8)
    return Thumbnails(np.stack([nothing if one is None else one for one in images]), known)


def join_thumbnails(parts: Sequence[Thumbnails]) -> Thumbnails | None:
    """Put several under each other; None where nobody has one."""
    known = np.concatenate([np.zeros(0, np.bool_), *(part.known for part in parts)])
    return Thumbnails(np.concatenate([part.images for part in parts]), known) if known.any() else None
