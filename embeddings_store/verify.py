"""Does every row still say what was committed? Recomputes all checksums; a bad row loses its commit."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embeddings_store.errors import StoreError
from embeddings_store.index import IndexRow, index_rows
from embeddings_store.leftovers import abandoned_files, delete_leftovers
from embeddings_store.quarantine import quarantined_rows
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.rows import Commit, crc_over
from embeddings_store.schema import VolumeRef
from embeddings_store.storage import concurrently

Progress = Callable[[int, int], None]


def verify_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    sample: int | None = None,
    repair: bool = True,
    progress: Progress | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Check every committed row, or ``sample`` rows spread evenly; ``repair`` deletes the commits of bad rows.

    Memory: one row for each thread. ``progress`` is called with (rows done, rows in all).
    Gives checked, bad, orphans, repaired (counts), faults {row: what is wrong}, orphan_rows {row: what lies there}
    and leftovers {path: bytes}: files that killed writers left aside an hour ago or more, which ``repair`` deletes.
    """
    reader = open_reader(url, endpoint_url=endpoint_url)
    lines = index_rows(reader.index())
    committed = sorted(reader.arrays.commit.written_rows(reader.storage))
    orphans = _orphans(reader, set(committed), len(lines))
    chosen = [row for row in _spread(committed, sample) if row < len(lines)]
    faults = _faults(reader, [lines[row] for row in chosen], progress, threads or reader.storage.threads)
    leftovers = abandoned_files(reader.storage)
    if repair:
        for row in faults:
            reader.storage.delete(reader.arrays.commit.chunk_path(row))
        delete_leftovers(reader.storage, leftovers)
    return {
        "checked": len(chosen),
        "bad": len(faults),
        "repaired": len(faults) if repair else 0,
        "orphans": len(orphans),
        "faults": {str(row): fault for row, fault in faults.items()},
        "orphan_rows": {str(row): found for row, found in sorted(orphans.items())},
        "leftovers": {leftover.path: leftover.size_bytes for leftover in leftovers},
    }


def row_fault(reader: StoreReader, line: IndexRow) -> str | None:
    """Say what is wrong with a committed row; None when every checksum agrees."""
    try:
        numbers = reader.arrays.commit.read(reader.storage, line.row)
        commit = None if numbers is None else Commit.from_numbers(numbers)
        if commit is None:
            return "the commit is not valid"
        vectors = [array.read(reader.storage, line.row) for array in (reader.arrays.pooled, reader.arrays.facts)]
        tokens = [array.read(reader.storage, line.row) for array in reader.arrays.tokens]
    except StoreError as error:
        return str(error)
    if any(values is None for values in (*vectors, *tokens)):
        return "an array of the row is missing"
    if crc_over([values for values in vectors if values is not None]) != commit.crc_vectors:
        return "pooled or facts differ from the commit"
    if crc_over([values for values in tokens if values is not None]) != commit.crc_tokens:
        return "the tokens differ from the commit"
    return None if _same_source(commit, line.ref) else "the row was made from another object than the index names"


def _faults(reader: StoreReader, lines: Sequence[IndexRow], progress: Progress | None, threads: int) -> dict[int, str]:
    suspects = []
    results = concurrently(lambda line: row_fault(reader, line), lines, threads)
    for done, (line, fault) in enumerate(zip(lines, results, strict=True), start=1):
        if fault is not None:
            suspects.append(line)
        if progress is not None:
            progress(done, len(lines))
    # A second look: a row that was being written again during the first is no damage.
    again = {line.row: row_fault(reader, line) for line in suspects}
    return {row: fault for row, fault in again.items() if fault is not None}


def _same_source(commit: Commit, ref: VolumeRef) -> bool:
    """Compare with the listing as far as it tells: an etag without "-" is the md5 (S3, single PUT)."""
    same_size = ref.size in (-1, commit.source_size_bytes)
    is_md5 = len(ref.etag) == 32 and "-" not in ref.etag
    return same_size and (not is_md5 or ref.etag.lower() == commit.source_md5.hex())


def _orphans(reader: StoreReader, committed: set[int], indexed: int) -> dict[int, str]:
    """Find what belongs to no row: chunks and errors without a use, commits without a line in the index."""
    found: dict[int, str] = {row: "commit without a line in the index" for row in committed if row >= indexed}
    for row in quarantined_rows(reader.storage):
        if row in committed or row >= indexed:
            found.setdefault(
                row, "error record of a committed row" if row in committed else "error record of no volume"
            )
    for array in reader.arrays.all[:-1]:
        for row in array.written_rows(reader.storage) - committed:
            found.setdefault(row, f"{array.name} without a commit: the next run writes the row again")
    return found


def _spread(rows: Sequence[int], sample: int | None) -> list[int]:
    if sample is None or sample >= len(rows):
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, sample).round().astype(int)]
