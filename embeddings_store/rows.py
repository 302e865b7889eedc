"""What a row says beside its vectors: the facts of its file, and the commit that makes it a row."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import google_crc32c
import numpy as np
from jaxtyping import Float64, Int64

from embeddings_store.arrays import flat_bytes
from embeddings_store.schema import READABLE, SCHEMA_VERSION, WITHOUT_THUMBNAIL, Eye, Intensity, RowFacts

CRC_BITS = 32
EYE_CODES = {Eye.UNKNOWN: 0.0, Eye.LEFT: 1.0, Eye.RIGHT: 2.0}


@dataclass(frozen=True, slots=True)
class Commit:
    """One line of ``commit``: checksums, source and author of a row. Columns as in COMMIT_COLUMNS.

    ``crc_thumbnail``: None of a row without a thumbnail.
    """

    crc_vectors: int
    crc_tokens: int
    source_size_bytes: int
    source_md5: bytes
    time_ns: int
    worker: int
    crc_thumbnail: int | None = None

    def to_numbers(self) -> Int64[np.ndarray, "8"]:
        """Return the commit as stored; the md5 as two signed halves."""
        high, low = (int.from_bytes(half, "big", signed=True) for half in (self.source_md5[:8], self.source_md5[8:]))
        vectors, status = self.crc_vectors, WITHOUT_THUMBNAIL
        if self.crc_thumbnail is not None:
            vectors, status = _signed(vectors | self.crc_thumbnail << CRC_BITS), SCHEMA_VERSION
        fields = (vectors, self.crc_tokens, self.source_size_bytes, high, low, self.time_ns, self.worker)
        return np.array((status, *fields), dtype="<i8")

    @classmethod
    def from_numbers(cls, numbers: Int64[np.ndarray, "8"]) -> "Commit | None":
        """Read a stored commit; None when its status names no schema version."""
        status, crcs, crc_tokens, size, high, low, time_ns, worker = (int(number) for number in numbers)
        if status not in READABLE:
            return None
        md5 = high.to_bytes(8, "big", signed=True) + low.to_bytes(8, "big", signed=True)
        crc_thumbnail, crc_vectors = divmod(crcs % (1 << 2 * CRC_BITS), 1 << CRC_BITS)
        known = crc_thumbnail if status == SCHEMA_VERSION else None
        return cls(crc_vectors, crc_tokens, size, md5, time_ns, worker, known)

    def fits_vectors(self, pooled: np.ndarray, facts: Float64[np.ndarray, " facts"]) -> bool:
        """Return whether these are the vectors and facts that were committed."""
        return crc_over([pooled, facts]) == self.crc_vectors


def _signed(bits: int) -> int:
    """Return 64 bits as the signed number that they are in an array."""
    return int.from_bytes(bits.to_bytes(8, "little"), "little", signed=True)


def crc_over(arrays: Sequence[np.ndarray], start: int = 0) -> int:
    """Compute crc32c over the bytes of arrays one after the other, going on from ``start``; 0 for none."""
    crc = start
    for array in arrays:
        crc = google_crc32c.extend(crc, flat_bytes(array))
    return crc


def fact_numbers(facts: RowFacts) -> Float64[np.ndarray, " facts"]:
    """Return the facts in the order of FACT_COLUMNS; unknown spacing and brightness are NaN."""
    spacing = facts.spacing_mm or (np.nan, np.nan, np.nan)
    size = (facts.frames, facts.rows, facts.columns)
    told = (EYE_CODES[facts.eye], int(facts.notes), int(facts.spacing_source))
    brightness = astuple(facts.intensity) if facts.intensity else (np.nan,) * len(fields(Intensity))
    return np.array((*size, *spacing, *told, *brightness), dtype="<f8")
