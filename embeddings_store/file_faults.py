"""Is every file beside the rows what was written? Index, workers, error records and snapshots."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from embeddings_store import dataset_record, encoder_source, index, quarantine
from embeddings_store.arrays import CRC_RESIDUE
from embeddings_store.checksums import CHANGED, MISSING, checksum, listed_faults, seal_fault
from embeddings_store.errors import StoreError
from embeddings_store.foreign import is_own
from embeddings_store.layout import ROOT, parse_document
from embeddings_store.packs import pack_faults
from embeddings_store.snapshot_files import FOLDER, LATEST, SUMS, finished_numbers
from embeddings_store.storage import Storage, concurrently

WORKERS = "workers"
Check = Callable[[str, Any], str | None]


def file_faults(storage: Storage) -> dict[str, str]:
    """Find the damaged files beside rows and documents: {path: what is wrong}. Memory: some files at once."""
    kept = [*storage.list_paths(WORKERS), *storage.list_paths(quarantine.FOLDER)]
    records = [encoder_source.PATH, dataset_record.PATH, *(path for path in kept if is_own(path))]
    found = _faults(storage, records, lambda _path, body: seal_fault(body))
    found |= _faults(storage, storage.list_paths(index.FOLDER), index.segment_fault)
    for number in finished_numbers(storage):
        found |= _snapshot_faults(storage, number)
    return found | _latest_fault(storage) | pack_faults(storage)


def _snapshot_faults(storage: Storage, number: int) -> dict[str, str]:
    """Check documents and table by the list of sums, and each chunk by the sum at its own end."""
    root = f"{FOLDER}/{number}/{ROOT}"
    found = {}
    if storage.get(f"{FOLDER}/{number}.{SUMS}") is not None:
        found = listed_faults(storage, f"{FOLDER}/{number}.{SUMS}", f"{FOLDER}/", alone=f"{number}/{ROOT}")
    body = storage.get(root)
    if body is None or root in found:
        return found
    try:
        arrays = parse_document(body, storage, root)["consolidated_metadata"]["metadata"]
    except (StoreError, KeyError):
        return found | {root: CHANGED}
    chunks = [f"{FOLDER}/{number}/{name}/c/{key}" for name, array in arrays.items() for key in _chunk_keys(array)]
    return found | _faults(storage, chunks, _chunk_fault, absent=MISSING)


def _chunk_keys(metadata: dict[str, Any]) -> Iterator[str]:
    """Name the chunks of an array that is divided along its first axis only."""
    rows, step = metadata["shape"][0], metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    return (f"{chunk}" + "/0" * (len(metadata["shape"]) - 1) for chunk in range(math.ceil(rows / step)))


def _chunk_fault(_path: str, body: Any) -> str | None:
    return None if checksum(body) == CRC_RESIDUE else CHANGED


def _latest_fault(storage: Storage) -> dict[str, str]:
    """LATEST names the newest finished snapshot, save for the moment in which one is being published."""
    for _ in range(2):
        body, newest = storage.get(LATEST), max(finished_numbers(storage), default=None)
        named = None if body is None else bytes(body)
        if named == (None if newest is None else f"{newest}\n".encode()):
            return {}
    return {LATEST: f"it should name snapshot {newest}"}


def _faults(storage: Storage, paths: list[str], check: Check, absent: str | None = None) -> dict[str, str]:
    """Check files; ``absent``: what to say of one that is not there, None where it may have gone with good reason."""

    def look(path: str) -> str | None:
        body = storage.get(path)
        return absent if body is None else check(path, body)

    results = zip(paths, concurrently(look, paths, storage.threads), strict=True)
    # A second look, at files that were being replaced during the first.
    again = {path: look(path) for path, fault in results if fault is not None}
    return {path: fault for path, fault in again.items() if fault is not None}
