"""Reading a store, also while it grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float16, Float32

from embeddings_store.arrays import RowArray, StoreArrays
from embeddings_store.errors import StoreError
from embeddings_store.index import read_index
from embeddings_store.layout import load_layout
from embeddings_store.packs import packed
from embeddings_store.quarantine import QuarantinedRow, quarantined_rows, read_errors
from embeddings_store.rows import Commit, crc_over
from embeddings_store.schema import COMMIT_COLUMNS, FACT_COLUMNS
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage, concurrently, open_storage
from embeddings_store.thumbnails import Thumbnails
from embeddings_store.token_codec import token_codec

BLOCK_ROWS = 64


def open_reader(url: str, *, endpoint_url: str | None = None) -> "StoreReader":
    """Open a store for reading, also while it grows. Raises StoreError where there is none.

    >>> import octprobe
    >>> store = octprobe.open_store("store")
    >>> int(store.committed().sum()), store.tokens(row=1, layer="last").shape
    (96, (2, 2, 2, 192))
    """
    return reader_on(open_storage(url, endpoint_url=endpoint_url, create=False))


def reader_on(storage: Storage) -> "StoreReader":
    """Do the same on an opened storage."""
    found = load_layout(storage)
    if found is None:
        raise StoreError(f"there is no store at {storage.url}: expected what `extract-embeddings --store` made")
    return StoreReader(packed(storage), found.space, found.capacity, found.arrays, found.schema_version)


@dataclass(frozen=True, slots=True)
class StoreReader:
    """Reads a store of one space. Every call looks afresh, so a growing store shows its new rows."""

    storage: Storage
    space: EmbeddingSpace
    capacity: int
    arrays: StoreArrays
    schema_version: int

    @property
    def space_id(self) -> str:
        """Short name of the space."""
        return self.space.id

    def index(self) -> pd.DataFrame:
        """Return INDEX_COLUMNS and ``site``, one line a volume, line i for row i."""
        return read_index(self.storage)

    def committed(self) -> Bool[np.ndarray, " N"]:
        """Return, for each line of the index, whether its row exists; from one listing, without reading a row."""
        # The index first: a row that is committed after it was read belongs to the next look.
        rows = len(self.index())
        return self.committed_among(rows)

    def committed_among(self, rows: int) -> Bool[np.ndarray, " N"]:
        """Return which of the first ``rows`` rows exist."""
        mask = np.zeros(rows, dtype=np.bool_)
        mask[[row for row in self.arrays.commit.written_rows(self.storage) if row < rows]] = True
        return mask

    def commits(self, rows: Sequence[int] | None = None) -> pd.DataFrame:
        """Read commits (of every committed row by default): COMMIT_COLUMNS, indexed by row."""
        chosen = sorted(self.arrays.commit.written_rows(self.storage)) if rows is None else list(rows)
        numbers = self._read(self.arrays.commit, chosen)
        return pd.DataFrame(numbers, columns=list(COMMIT_COLUMNS), index=pd.Index(chosen, name="row", dtype="int64"))

    def commit(self, row: int) -> Commit:
        """Read one commit. Raises StoreError where there is no valid one."""
        found = Commit.from_numbers(self._read_row(self.arrays.commit, row))
        if found is None:
            raise self._damaged(row, "it has no valid commit")
        return found

    def pooled(self, rows: Sequence[int]) -> Float32[np.ndarray, "n L P C"]:
        """Read pooled vectors. Raises StoreError for a row that was not written or is damaged."""
        return self._read(self.arrays.pooled, rows)

    def tokens(self, row: int, layer: str) -> Float16[np.ndarray, "gd gh gw C"]:
        """Read one row's token grid of one layer, whatever it is stored as. Raises StoreError as pooled does."""
        parts = [self._read_row(array, row) for array in self.arrays.token_arrays(layer)]
        return token_codec(self.space.token_dtype).decode(parts)

    def token_batch(self, rows: Sequence[int], layer: str) -> Float16[np.ndarray, "n gd gh gw C"]:
        """Read the token grids of several rows side by side."""
        codec, arrays = token_codec(self.space.token_dtype), self.arrays.token_arrays(layer)
        return codec.decode([self._read(array, rows) for array in arrays])

    def committed_tokens(self, row: int) -> dict[str, Float16[np.ndarray, "gd gh gw C"]]:
        """Read one row's grids of every layer, compared with its commit. Raises StoreError for a row that differs."""
        parts = {
            layer: [self._read_row(one, row) for one in self.arrays.token_arrays(layer)] for layer in self.space.layers
        }
        if crc_over([part for some in parts.values() for part in some]) != self.commit(row).crc_tokens:
            raise self._damaged(row, "its tokens differ from its commit")
        codec = token_codec(self.space.token_dtype)
        return {layer: codec.decode(some) for layer, some in parts.items()}

    def facts(self, rows: Sequence[int]) -> pd.DataFrame:
        """Read what the files told: FACT_COLUMNS, indexed by row."""
        numbers = self._read(self.arrays.facts, rows)
        return pd.DataFrame(numbers, columns=list(FACT_COLUMNS), index=pd.Index(list(rows), name="row", dtype="int64"))

    def errors(self) -> list[QuarantinedRow]:
        """Read the error records of rows that are not committed, sorted by row."""
        return [record for record in self.quarantined() if not record.failure.whole]

    def quarantined(self) -> list[QuarantinedRow]:
        """Read the same, and the records of objects that are parts of another row's volume."""
        rows = quarantined_rows(self.storage)
        return read_errors(self.storage, rows - self.arrays.commit.written_rows(self.storage)) if rows else []

    def vectors(self, rows: Sequence[int]) -> tuple[Float32[np.ndarray, "n L P C"], pd.DataFrame]:
        """Read pooled vectors and facts, compared with their commits. Raises StoreError for a row that differs."""
        pooled, facts, _, _ = self.whole_rows(rows)
        return pooled, facts

    def thumbnails(self, rows: Sequence[int]) -> Thumbnails:
        """Read thumbnails, compared with their commits. Raises StoreError for one that is damaged or missing."""
        return self._thumbnails(rows, [Commit.from_numbers(one) for one in self._read(self.arrays.commit, rows)])

    def whole_rows(
        self, rows: Sequence[int]
    ) -> tuple[Float32[np.ndarray, "n L P C"], pd.DataFrame, Thumbnails, list[Commit]]:
        """Read pooled vectors, facts and thumbnails, all compared with their commits. Raises StoreError as those do."""
        pooled, facts, numbers = self.pooled(rows), self.facts(rows), self._read(self.arrays.commit, rows)
        told, commits = facts.to_numpy(dtype="<f8"), list[Commit]()
        for place, row in enumerate(rows):
            commit = Commit.from_numbers(numbers[place])
            if commit is None or not commit.fits_vectors(pooled[place], told[place]):
                raise self._damaged(row, "its vectors differ from its commit")
            commits.append(commit)
        return pooled, facts, self._thumbnails(rows, commits), commits

    def _thumbnails(self, rows: Sequence[int], commits: Sequence[Commit | None]) -> Thumbnails:
        crcs = [None if commit is None else commit.crc_thumbnail for commit in commits]
        known = np.array([crc is not None for crc in crcs], dtype=np.bool_)
        images = np.zeros((len(rows), *self.arrays.thumbnail.row_shape), dtype=np.uint8)
        places = np.flatnonzero(known).tolist()
        images[places] = self._read(self.arrays.thumbnail, [rows[place] for place in places])
        for place in places:
            if crc_over([images[place]]) != crcs[place]:
                raise self._damaged(rows[place], "its thumbnail differs from its commit")
        return Thumbnails(images, known)

    def _read(self, array: RowArray, rows: Sequence[int]) -> np.ndarray:
        """Read rows side by side, each straight to its place."""
        target = np.empty((len(rows), *array.row_shape), dtype=np.dtype(array.dtype))

        # In the order of rows, as packs hold them. Blocks, because handing a small row to a thread costs more than
        # reading it from a disk.
        order = sorted(range(len(rows)), key=rows.__getitem__)
        step = max(1, min(BLOCK_ROWS, len(rows) // (4 * self.storage.threads)))

        def fill(first: int) -> None:
            for place in order[first : first + step]:
                if not array.read_into(self.storage, rows[place], target[place]):
                    raise self._never_written(array, rows[place])

        for _ in concurrently(fill, range(0, len(rows), step), self.storage.threads):
            pass
        return target

    def _read_row(self, array: RowArray, row: int) -> np.ndarray:
        values = array.read(self.storage, row)
        if values is None:
            raise self._never_written(array, row)
        return values

    def _never_written(self, array: RowArray, row: int) -> StoreError:
        return StoreError(f"{array.name} row {row} is not in {self.storage.url}: it was never written")

    def _damaged(self, row: int, why: str) -> StoreError:
        return StoreError(
            f"row {row} of {self.storage.url}: {why}; run `extract-embeddings verify --repair`, then extract again"
        )
