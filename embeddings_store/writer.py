"""Writing a store: rows first, commit last."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Float16, Float32

from embeddings_store.arrays import RowArray, StoreArrays, arrays_of, flat_bytes
from embeddings_store.errors import StoreError, VolumeError
from embeddings_store.index import (
    AddedVolumes,
    IndexRow,
    index_rows,
    plan_append,
    put_segment,
    read_index,
    read_segments,
    settled_segments,
)
from embeddings_store.layout import NO_ATTRIBUTES, check_same_space, create_layout, load_layout
from embeddings_store.quarantine import QuarantinedRow, delete_errors, error_path, put_error, quarantined_rows
from embeddings_store.reader import open_reader
from embeddings_store.rows import Commit, crc_over, fact_numbers
from embeddings_store.schema import RowFacts, VolumeFailure, VolumeRef
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage, open_storage

DEFAULT_CAPACITY = 1_000_000
MD5_BYTES = 16
WORKER_BITS = 62
SCAN_BYTES = 1 << 18
# IEEE 754: all exponent bits set means NaN or infinity. As integers these lie above every finite number of their sign.
INFINITY_BITS = {"<f2": (np.int16, np.uint16, 0x7C00, 0xFC00), "<f4": (np.int32, np.uint32, 0x7F800000, 0xFF800000)}


class RowError(VolumeError):
    """The numbers of one volume are no valid row."""

    stage = "write"


def open_writer(
    url: str,
    space: EmbeddingSpace,
    *,
    capacity: int = DEFAULT_CAPACITY,
    endpoint_url: str | None = None,
    worker: Mapping[str, Any],
    clock: Callable[[], int] = time.time_ns,
) -> "StoreWriter":
    """Open a store for writing, and make it when it is absent.

    ``worker`` (JSON types: device, versions, code commit ...) is recorded once in workers/<id>.json and named by every
    row. An existing store keeps its own capacity. Raises SpaceMismatchError when the store holds another space;
    StoreError when the place cannot be written or is no store.
    """
    return writer_on(open_storage(url, endpoint_url=endpoint_url, create=True), space, capacity, worker, clock)


def writer_on(
    storage: Storage,
    space: EmbeddingSpace,
    capacity: int,
    worker: Mapping[str, Any],
    clock: Callable[[], int] = time.time_ns,
    attributes: Mapping[str, Any] = NO_ATTRIBUTES,
) -> "StoreWriter":
    """Do the same on an opened storage; a new store gets the further ``attributes``, such as its parent."""
    found = load_layout(storage)
    if found is None:
        create_layout(storage, space, capacity, attributes)
        # Another process may have made it at the same moment: what lies there counts.
        found = load_layout(storage)
    if found is None:
        raise StoreError(f"{storage.url} does not give back what was written to it")
    stored, stored_capacity = found
    check_same_space(storage, stored, space)
    worker_id = uuid.uuid4().int >> (128 - WORKER_BITS)
    record = {"worker": str(worker_id), "time_ns": clock(), **worker}
    storage.put(f"workers/{worker_id}.json", json.dumps(record, indent=1).encode())
    versions = dict(worker.get("versions", {}))
    return StoreWriter(storage, stored, stored_capacity, arrays_of(stored), worker_id, versions, clock)


def clear_errors(url: str, *, endpoint_url: str | None = None) -> int:
    """Forget every failure of a store, so that its rows are missing again; give their number."""
    return delete_errors(open_reader(url, endpoint_url=endpoint_url).storage)


@dataclass(slots=True)
class StoreWriter:
    """Writes rows of one space. Threads may share it, each on rows of its own."""

    storage: Storage
    space: EmbeddingSpace
    capacity: int
    arrays: StoreArrays
    worker_id: int
    versions: dict[str, str]
    clock: Callable[[], int]
    _with_errors: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._with_errors = quarantined_rows(self.storage)

    def add_volumes(self, refs: Sequence[VolumeRef]) -> AddedVolumes:
        """Append one index segment with what is new; a key's row never changes, a repeated call adds nothing.

        A known key with another size or etag keeps its row, but loses its commit and error: it must be done again.
        One process at a time is meant to call this; of two that race, one waits for the other.
        Raises StoreError when the rows do not fit the capacity (then nothing is added).
        """
        while True:
            segments = settled_segments(self.storage)
            known = index_rows(read_segments(self.storage, segments))
            lines, added = plan_append(known, refs)
            self._check_capacity(len(known) + added.new)
            # Commits go before the index names the new object: cut off in between, the next run sees the change again.
            for line in added.replaced:
                self.storage.delete(self.arrays.commit.chunk_path(line.row))
                self.storage.delete(error_path(line.row))
            if not lines or put_segment(self.storage, lines, segments, self.worker_id):
                return added

    def missing_rows(self, keys: Iterable[str] | None = None) -> list[IndexRow]:
        """List the rows that are neither committed nor quarantined, of all volumes or of those keys."""
        lines = index_rows(read_index(self.storage))
        wanted = {line.ref.key for line in lines} if keys is None else set(keys)
        done = self.arrays.commit.written_rows(self.storage) | quarantined_rows(self.storage)
        return [line for line in lines if line.row not in done and line.ref.key in wanted]

    def write_row(
        self,
        row: int,
        pooled: Float32[np.ndarray, "L P C"],
        tokens: Mapping[str, Float16[np.ndarray, "gd gh gw C"]],
        facts: RowFacts,
        source_md5: bytes,
        source_size: int,
    ) -> None:
        """Write one row, its commit last. ``tokens`` by layer ({} when the space stores none); md5 in 16 raw bytes.

        Raises RowError (a VolumeError) for wrong shapes and for values that are not finite; then nothing was written.
        """
        if len(source_md5) != MD5_BYTES:
            raise RowError(f"row {row}: expected an md5 of 16 bytes, got {len(source_md5)}")
        self._check_row(row)
        grids = self._tokens_in_order(row, tokens)
        arrays = (self.arrays.pooled, *self.arrays.tokens)
        crcs = [_checked_crc(row, array, values) for array, values in zip(arrays, (pooled, *grids), strict=True)]
        for array, values, crc in zip(arrays, (pooled, *grids), crcs, strict=True):
            array.write(self.storage, row, values, crc)
        numbers = fact_numbers(facts)
        self.arrays.facts.write(self.storage, row, numbers)
        crc_vectors, crc_tokens = crc_over([numbers], crcs[0]), crc_over(grids[1:], crcs[1] if grids else 0)
        commit = Commit(crc_vectors, crc_tokens, source_size, source_md5, self.clock(), self.worker_id)
        self.arrays.commit.write(self.storage, row, commit.to_numbers())
        if row in self._with_errors:
            self.storage.delete(error_path(row))
            self._with_errors.discard(row)

    def write_error(self, row: int, failure: VolumeFailure) -> None:
        """Quarantine a row; a row that is committed stays as it is."""
        self._check_row(row)
        if self.storage.get(self.arrays.commit.chunk_path(row)) is not None:
            return
        put_error(self.storage, QuarantinedRow(row, failure, self.clock(), self.worker_id, self.versions))
        self._with_errors.add(row)

    def clear_errors(self) -> int:
        """Forget every failure, so that the rows are missing again; give their number."""
        self._with_errors.clear()
        return delete_errors(self.storage)

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.capacity:
            raise StoreError(f"row {row} does not exist: {self.storage.url} holds rows 0 to {self.capacity - 1}")

    def _check_capacity(self, rows: int) -> None:
        if rows > self.capacity:
            raise StoreError(
                f"{self.storage.url} was made for {self.capacity} volumes, {rows} were asked for; make a new store"
            )

    def _tokens_in_order(self, row: int, tokens: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        layers = self.space.layers if self.arrays.tokens else ()
        if set(tokens) != set(layers):
            raise RowError(f"row {row}: expected tokens of the layers {sorted(layers)}, got {sorted(tokens)}")
        return [tokens[layer] for layer in layers]


def _checked_crc(row: int, array: RowArray, values: np.ndarray) -> int:
    """Compute a row's crc32c and refuse what is no row, in one pass: blocks that fit the processor's cache."""
    if values.shape != array.row_shape or values.dtype != np.dtype(array.dtype):
        raise RowError(
            f"row {row}: expected {array.name} as {np.dtype(array.dtype)} {list(array.row_shape)}, "
            f"got {values.dtype} {list(values.shape)}"
        )
    data, crc = flat_bytes(values), 0
    signed, unsigned, infinity, minus_infinity = INFINITY_BITS[array.dtype]
    for first in range(0, data.size, SCAN_BYTES):
        block = data[first : first + SCAN_BYTES]
        # By their bits, which is several times as fast for float16 as numpy.isfinite.
        if int(block.view(signed).max()) >= infinity or int(block.view(unsigned).max()) >= minus_infinity:
            raise RowError(f"row {row}: {array.name} holds values that are not finite (NaN or infinity)")
        crc = google_crc32c.extend(crc, block)
    return crc
