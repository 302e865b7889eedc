"""What a row says beside its vectors: the facts of its file, and the commit that makes it a row."""

from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
from jaxtyping import Float64, Int64

from embeddings_store.arrays import flat_bytes
from embeddings_store.schema import Eye, RowFacts

COMMITTED = 1
EYE_CODES = {Eye.UNKNOWN: 0.0, Eye.LEFT: 1.0, Eye.RIGHT: 2.0}


@dataclass(frozen=True, slots=True)
class Commit:
    """One line of ``commit``: checksums, source and author of a row. Columns as in COMMIT_COLUMNS."""

    crc_vectors: int
    crc_tokens: int
    source_size_bytes: int
    source_md5: bytes
    time_ns: int
    worker: int

    def to_numbers(self) -> Int64[np.ndarray, "8"]:
        """Give the commit as stored; the md5 as two signed halves."""
        high, low = (int.from_bytes(half, "big", signed=True) for half in (self.source_md5[:8], self.source_md5[8:]))
        fields = (self.crc_vectors, self.crc_tokens, self.source_size_bytes, high, low, self.time_ns, self.worker)
        return np.array((COMMITTED, *fields), dtype="<i8")

    @classmethod
    def from_numbers(cls, numbers: Int64[np.ndarray, "8"]) -> "Commit | None":
        """Read a stored commit; None when its status is not "committed"."""
        status, crc_vectors, crc_tokens, size, high, low, time_ns, worker = (int(number) for number in numbers)
        if status != COMMITTED:
            return None
        md5 = high.to_bytes(8, "big", signed=True) + low.to_bytes(8, "big", signed=True)
        return cls(crc_vectors, crc_tokens, size, md5, time_ns, worker)


def crc_over(arrays: Sequence[np.ndarray], start: int = 0) -> int:
    """Compute crc32c over the bytes of arrays one after the other, going on from ``start``; 0 for none."""
    crc = start
    for array in arrays:
        crc = google_crc32c.extend(crc, flat_bytes(array))
    return crc


def fact_numbers(facts: RowFacts) -> Float64[np.ndarray, "8"]:
    """Give the facts in the order of FACT_COLUMNS; unknown spacing is NaN."""
    spacing = facts.spacing_mm or (np.nan, np.nan, np.nan)
    return np.array(
        (facts.frames, facts.rows, facts.columns, *spacing, EYE_CODES[facts.eye], int(facts.notes)), dtype="<f8"
    )
