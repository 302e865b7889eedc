"""Writing a store: rows first, commit last."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Float64, UInt8

from embeddings_store.arrays import CRC_BYTES, RowArray, StoreArrays, flat_bytes
from embeddings_store.checksums import sealed_json
from embeddings_store.errors import StoreError
from embeddings_store.growth import grow_store
from embeddings_store.index import (
    AddedVolumes,
    IndexRow,
    folder_of,
    index_rows,
    plan_append,
    put_segment,
    read_index,
    read_settled,
)
from embeddings_store.kinds import put_kind
from embeddings_store.layout import (
    NO_ATTRIBUTES,
    StoreLayout,
    check_same_space,
    create_layout,
    load_layout,
)
from embeddings_store.packs import packed
from embeddings_store.quarantine import (
    QuarantinedRow,
    failed_rows,
    forget_error,
    lift_errors,
    put_error,
    quarantined_rows,
    read_errors,
)
from embeddings_store.reader import open_reader
from embeddings_store.row_checks import RowError, check_kind, checked_crc
from embeddings_store.rows import Commit, crc_over, fact_numbers
from embeddings_store.schema import INCOMPLETE, RowFacts, VolumeFailure, VolumeRef
from embeddings_store.space import EmbeddingSpace
from embeddings_store.staging import StagedObject, stage, staging
from embeddings_store.storage import Storage, open_storage
from embeddings_store.token_codec import token_codec

DEFAULT_CAPACITY = 1_000_000
MD5_BYTES = 16
WORKER_BITS = 62
LARGE_BYTES = 1 << 20
SUMMING_THREADS = 4


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
    row. An existing store keeps its own capacity; one from before thumbnails gets room for them. Raises
    SpaceMismatchError when the store holds another space; StoreError when the place cannot be written or is no store.
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
        found = _made_layout(storage)
    check_same_space(storage, found.space, space)
    grow_store(storage, found)
    storage = packed(storage)
    worker_id = uuid.uuid4().int >> (128 - WORKER_BITS)
    record = {"worker": str(worker_id), "time_ns": clock(), **worker}
    storage.put(f"workers/{worker_id}.json", sealed_json(record))
    versions = dict(worker.get("versions", {}))
    return StoreWriter(storage, found.space, found.capacity, found.arrays, worker_id, versions, clock)


def _made_layout(storage: Storage) -> StoreLayout:
    """Read what was just made: another process may have made it at the same moment, so what lies there counts.

    Looks again for a second: while one process writes a document anew, some gateways (rclone) have none for a moment.
    """
    for pause in (0.02, 0.2, 0.8):
        with suppress(StoreError):
            if found := load_layout(storage):
                return found
        time.sleep(pause)
    if found := load_layout(storage):
        return found
    raise StoreError(f"{storage.url} does not give back what was written to it")


def clear_errors(
    url: str, *, classes: Container[str] | None = None, endpoint_url: str | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Lift the quarantine of some error classes (None: of all), so that these rows are missing again.

    Returns the rows by class: what was lifted, and what stays. How often a row was tried is not forgotten.
    """
    reader = open_reader(url, endpoint_url=endpoint_url)
    errors = reader.errors()
    chosen = [record for record in errors if classes is None or record.failure.error in classes]
    lift_errors(reader.storage, chosen)
    lifted = Counter(record.failure.error for record in chosen)
    return dict(lifted), dict(Counter(record.failure.error for record in errors) - lifted)


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
    _threads: ThreadPoolExecutor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(SUMMING_THREADS)
        self._with_errors = {row for row, _ in failed_rows(self.storage)}

    def add_volumes(self, refs: Sequence[VolumeRef]) -> AddedVolumes:
        """Append one index segment with what is new; a key's row never changes, a repeated call adds nothing.

        A known key with another size or etag keeps its row, but loses its commit and error: it must be done again.
        One process at a time is meant to call this; of two that race, one waits for the other.
        Raises StoreError when the rows do not fit the capacity (then nothing is added).
        """
        while True:
            segments, index = read_settled(self.storage)
            known = index_rows(index)
            lines, added = plan_append(known, refs)
            self._check_capacity(len(known) + added.new)
            self._open_again(known, lines, added.replaced)
            # Commits go before the index names the new object: cut off in between, the next run sees the change again.
            for line in added.replaced:
                self.storage.delete(self.arrays.commit.chunk_path(line.row))
                forget_error(self.storage, line.row)
            if not lines or put_segment(self.storage, lines, segments, self.worker_id):
                return added

    def missing_rows(self, keys: Iterable[str] | None = None) -> list[IndexRow]:
        """List the rows that are neither committed nor quarantined, of all volumes or of those keys."""
        index = read_index(self.storage)
        done = self.arrays.commit.written_rows(self.storage) | quarantined_rows(self.storage)
        left = ~index["row"].isin(done)
        return index_rows(index[left if keys is None else left & index["key"].isin(set(keys))])

    def write_row(
        self,
        row: int,
        pooled: Float32[np.ndarray, "L P C"],
        tokens: Mapping[str, Float16[np.ndarray, "gd gh gw C"]],
        facts: RowFacts | Float64[np.ndarray, " facts"],
        source_md5: bytes,
        source_size: int,
        thumbnail: UInt8[np.ndarray, "8 32 32"] | None = None,
    ) -> None:
        """Write one row, its commit last. ``tokens`` by layer ({} when the space stores none); md5 in 16 raw bytes.

        ``facts`` may be the numbers of another store's row, as they lie there (FACT_COLUMNS). ``thumbnail``: None of a
        row that is made from an older one; its commit says so.
        Raises RowError (a VolumeError) for wrong shapes and for values that are not finite; then nothing was written.
        """
        if len(source_md5) != MD5_BYTES:
            raise RowError(f"row {row}: expected an md5 of 16 bytes, got {len(source_md5)}")
        self._check_row(row)
        parts = self._stored_tokens(row, tokens)
        numbers = fact_numbers(facts) if isinstance(facts, RowFacts) else facts
        kept = self._threads.submit(put_kind, self.storage, row, facts.kind if isinstance(facts, RowFacts) else None)
        pictures = [] if thumbnail is None else [thumbnail]
        values = (pooled, *parts, numbers, *pictures)
        arrays = self.arrays.all[: len(values)]
        with staging() as staged:
            crcs = [self._stage(staged, row, array, one) for array, one in zip(arrays, values, strict=True)]
            self._publish(staged, crcs)
        kept.result()
        crc_vectors, crc_tokens = crc_over([numbers], crcs[0]), crc_over(parts[1:], crcs[1] if parts else 0)
        of_picture = crcs[-1] if pictures else None
        commit = Commit(crc_vectors, crc_tokens, source_size, source_md5, self.clock(), self.worker_id, of_picture)
        self.arrays.commit.write(self.storage, row, commit.to_numbers())
        if row in self._with_errors:
            forget_error(self.storage, row)
            self._with_errors.discard(row)

    def write_error(self, row: int, failure: VolumeFailure) -> None:
        """Quarantine a row, counting its attempts over all runs; a row that is committed stays as it is."""
        self._check_row(row)
        if self.storage.get(self.arrays.commit.chunk_path(row)) is not None:
            return
        put_error(self.storage, QuarantinedRow(row, failure, self.clock(), self.worker_id, self.versions))
        self._with_errors.add(row)

    def _open_again(self, known: Sequence[IndexRow], lines: Sequence[IndexRow], replaced: Sequence[IndexRow]) -> None:
        """Have volumes of several objects done again: incomplete ones that an object joins, and those with a new part.

        Before the index names the new objects, for the same reason as commits.
        """
        folders = {folder_of(line.ref) for line in lines}
        near = {line.row: line for line in known if folder_of(line.ref) in folders}
        if not near or not self._with_errors:
            return
        records = read_errors(self.storage, quarantined_rows(self.storage) & near.keys())
        rows, ids = {line.row for line in replaced}, {line.ref.volume for line in replaced}
        parts = [one for one in records if one.failure.whole and (one.row in rows or one.failure.whole in ids)]
        wholes = {part.failure.whole for part in parts}
        for line in near.values():
            if line.ref.volume in wholes:
                self.storage.delete(self.arrays.commit.chunk_path(line.row))
                forget_error(self.storage, line.row)
        lift_errors(self.storage, [one for one in records if one in parts or one.failure.error == INCOMPLETE])

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.capacity:
            raise StoreError(f"row {row} does not exist: {self.storage.url} holds rows 0 to {self.capacity - 1}")

    def _check_capacity(self, rows: int) -> None:
        if rows > self.capacity:
            raise StoreError(
                f"{self.storage.url} was made for {self.capacity} volumes, {rows} were asked for; make a new store"
            )

    def _stage(self, staged: list[StagedObject], row: int, array: RowArray, values: np.ndarray) -> int:
        """Write a row aside, and meanwhile look at every value and sum every byte; give the crc32c."""
        check_kind(row, array, values)
        # A thread takes longer than the sum of a few numbers.
        small = values.nbytes < LARGE_BYTES
        crc = checked_crc(row, array, values) if small else self._threads.submit(checked_crc, row, array, values)
        staged.append(stage(self.storage, array.chunk_path(row), flat_bytes(values)))
        return crc if isinstance(crc, int) else crc.result()

    def _publish(self, staged: list[StagedObject], crcs: list[int]) -> None:
        """Put the sums at the ends; side by side where each object is a request to a far server."""
        pairs = list(zip(staged, (crc.to_bytes(CRC_BYTES, "little") for crc in crcs), strict=True))
        how = map if staged[0].aside is not None else self._threads.map
        for _ in how(lambda pair: pair[0].publish(pair[1]), pairs):
            pass

    def _stored_tokens(self, row: int, tokens: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return what the space's codec makes of the tokens, in the order of their arrays."""
        layers = self.space.layers if self.arrays.tokens else ()
        if set(tokens) != set(layers):
            raise RowError(f"row {row}: expected tokens of the layers {sorted(layers)}, got {sorted(tokens)}")
        codec = token_codec(self.space.token_dtype)
        for layer in layers if codec.lossy else ():
            # Before they are encoded: int8 has no NaN to find afterwards.
            shape = (*(self.space.token_grid or ()), self.space.width)
            encoded = RowArray(f"tokens/{layer}", shape, "<f2")
            check_kind(row, encoded, tokens[layer])
            checked_crc(row, encoded, tokens[layer])
        return [part for layer in layers for part in codec.encode(tokens[layer])]
