"""The arrays of a store whose chunks are single rows, read and written without detours.

Their metadata is plain Zarr v3 and zarr reads them; a chunk is the bytes of one row, little-endian, then their crc32c.
Written here and not through zarr's indexing because that takes 15 times as long for a small row (2.2 ms, not 0.15 ms).
"""

import math
from dataclasses import dataclass

import google_crc32c
import numpy as np
from jaxtyping import UInt8

from embeddings_store.errors import StoreError
from embeddings_store.schema import COMMIT_COLUMNS, FACT_COLUMNS, THUMBNAIL_SHAPE
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage
from embeddings_store.token_codec import token_codec

CRC_BYTES = 4
# The crc32c (RFC 3720, appendix B.4) of any bytes followed by their own little-endian crc32c.
CRC_RESIDUE = 0x48674BC7


@dataclass(frozen=True, slots=True)
class RowArray:
    """One array [capacity, \\*row_shape] with one chunk a row. ``dtype`` is little-endian, such as "<f4"."""

    name: str
    row_shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Size of one chunk in bytes, with its checksum."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize + CRC_BYTES

    def chunk_path(self, row: int) -> str:
        """Return the path of a row's chunk: "pooled/c.17.0.0.0"."""
        return f"{self.name}/c.{row}" + ".0" * len(self.row_shape)

    def row_of(self, path: str) -> int | None:
        """Read the row from a chunk's path; None for other files."""
        row = path.removeprefix(f"{self.name}/c.").partition(".")[0]
        return int(row) if row.isdecimal() and row.isascii() and path == self.chunk_path(int(row)) else None

    def write(self, storage: Storage, row: int, values: np.ndarray, crc: int | None = None) -> None:
        """Write one row. ``values`` has exactly the row's shape and dtype; ``crc`` is its crc32c, where known."""
        data = flat_bytes(values)
        checksum = int(google_crc32c.value(data)) if crc is None else crc
        storage.put(self.chunk_path(row), data.data, checksum.to_bytes(CRC_BYTES, "little"))

    def read(self, storage: Storage, row: int) -> np.ndarray | None:
        """Read one row; None when it was never written. Raises StoreError when it is damaged."""
        values = np.empty(self.row_shape, dtype=np.dtype(self.dtype))
        return values if self.read_into(storage, row, values) else None

    def read_into(self, storage: Storage, row: int, values: np.ndarray) -> bool:
        """Read one row straight to its place, contiguous memory; False when it was never written, StoreError as read.

        What came damaged is asked for once more: on the way, too, bytes are flipped and answers cut.
        After a False or an error the place may hold anything.
        """
        for _ in range(2):
            found, came, crc = self._ask(storage, row, values)
            if not found or (came == self.row_bytes and crc == CRC_RESIDUE):
                return found
        raise self._damaged(storage, row, came)

    def _ask(self, storage: Storage, row: int, values: np.ndarray) -> tuple[bool, int, int]:
        """Read one row; say whether it was ever written, how many bytes came, and their sum."""
        came, crc = 0, 0
        for block in storage.read_into(self.chunk_path(row), flat_bytes(values)):
            came, crc = came + block.size, google_crc32c.extend(crc, block)
        return came > 0 or storage.get(self.chunk_path(row)) is not None, came, crc

    def written_rows(self, storage: Storage) -> set[int]:
        """List the rows that have a chunk: one LIST request for a thousand rows, no reads."""
        rows = (self.row_of(path) for path in storage.list_paths(self.name))
        return {row for row in rows if row is not None}

    def _damaged(self, storage: Storage, row: int, came: int) -> StoreError:
        return StoreError(
            f"{self.name} row {row} in {storage.url} is damaged: {came} bytes came, {self.row_bytes} with a "
            "right checksum were expected; run `extract-embeddings verify --repair`, then extract again"
        )


@dataclass(frozen=True, slots=True)
class StoreArrays:
    """All arrays of a store in one space.

    ``tokens`` are all that hold tokens, in the order of the space's layers, () when none are stored: one array a layer,
    or, of int8, the grid and its scales. ``thumbnail`` is not there before schema 3, and then no row has one.
    """

    pooled: RowArray
    facts: RowArray
    thumbnail: RowArray
    commit: RowArray
    tokens: tuple[RowArray, ...]

    @property
    def all(self) -> tuple[RowArray, ...]:
        """Every array, the commit last: the order in which a row is written."""
        return (self.pooled, *self.tokens, self.facts, self.thumbnail, self.commit)

    def token_arrays(self, layer: str) -> tuple[RowArray, ...]:
        """Return the arrays of one layer's tokens. Raises StoreError when they are not stored."""
        found = tuple(array for array in self.tokens if array.name.partition("/")[2] == layer)
        if not found:
            layers = sorted({array.name.partition("/")[2] for array in self.tokens})
            raise StoreError(f"tokens of layer {layer!r}: expected one of {layers}; extract with --tokens full")
        return found


def arrays_of(space: EmbeddingSpace) -> StoreArrays:
    """Return the arrays that a store of a space has."""
    pooled_shape = (len(space.layers), len(space.pools), space.width)
    return StoreArrays(
        pooled=RowArray("pooled", pooled_shape, "<f4"),
        facts=RowArray("facts", (len(FACT_COLUMNS),), "<f8"),
        thumbnail=RowArray("thumbnail", THUMBNAIL_SHAPE, "|u1"),
        commit=RowArray("commit", (len(COMMIT_COLUMNS),), "<i8"),
        tokens=tuple(array for layer in space.layers for array in _token_arrays(space, layer)),
    )


def _token_arrays(space: EmbeddingSpace, layer: str) -> list[RowArray]:
    if space.token_grid is None:
        return []
    codec, shapes = token_codec(space.token_dtype), ((*space.token_grid, space.width), space.token_grid)
    named = zip(codec.folders, shapes, codec.dtypes, strict=False)
    return [RowArray(f"{folder}/{layer}", shape, dtype) for folder, shape, dtype in named]


def flat_bytes(values: np.ndarray) -> UInt8[np.ndarray, " bytes"]:
    """Return an array's bytes in C order, without a copy where it is contiguous already."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
