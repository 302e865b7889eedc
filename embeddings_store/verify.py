"""Does every row still say what was committed? Recomputes all checksums; ``repair`` takes a bad row's commit away.

Bad is only what was read and differs. What could not be read (rights, open files, a disk, a server) is not judged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embeddings_store.errors import StoreError, UnreadableError
from embeddings_store.file_faults import file_faults
from embeddings_store.foreign import foreign_files
from embeddings_store.growth import document_faults
from embeddings_store.index import FOLDER as INDEX
from embeddings_store.index import index_rows
from embeddings_store.kinds import kind_fault
from embeddings_store.layout import CHECKSUMS
from embeddings_store.leftovers import abandoned_files, delete_leftovers
from embeddings_store.quarantine import quarantined_rows
from embeddings_store.reader import StoreReader, reader_on
from embeddings_store.rows import Commit, crc_over
from embeddings_store.schema import FACT_COLUMNS, PACKED, Note, VolumeRef
from embeddings_store.storage import concurrently, open_storage
from embeddings_store.terminal.progress import Progress, no_progress


class Unreadable(str):
    """Why a row could not be read; no fault of it is known."""

    __slots__ = ()


def verify_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    sample: int | None = None,
    repair: bool = False,
    progress: Progress = no_progress,
    threads: int | None = None,
) -> dict[str, Any]:
    """Check every committed row, or ``sample`` rows spread evenly, and every other file of the store.

    ``repair`` deletes the commits of bad rows. Memory: one row for each thread. ``progress`` is called with (rows done,
    rows in all). Return checked, bad, unreadable, orphans, repaired (counts), faults {row: what is wrong},
    unreadable_rows {row: why it could not be read}, damaged_files {path: what is wrong} other than rows, orphan_rows
    {row: what lies there}, leftovers {path: bytes}: files that killed writers left an hour ago or more, which
    ``repair`` deletes, and foreign_files: paths that no store wrote. Raises StoreError where it cannot be opened.
    """
    reader = _open(url, endpoint_url)
    damaged = document_faults(reader.storage, reader.schema_version) | file_faults(reader.storage)
    # Without the whole index a row cannot be compared with its object, but with its commit it can.
    index_is_whole = not any(path.startswith(f"{INDEX}/") for path in damaged)
    lines = index_rows(reader.index()) if index_is_whole else []
    committed = sorted(reader.arrays.commit.written_rows(reader.storage))
    orphans = _orphans(reader, set(committed), len(lines)) if index_is_whole else {}
    refs = {line.row: line.ref for line in lines}
    chosen = [row for row in _spread(committed, sample) if row in refs or not index_is_whole]
    found = _faults(reader, {row: refs.get(row) for row in chosen}, progress, threads or reader.storage.threads)
    unreadable = {row: fault for row, fault in found.items() if isinstance(fault, Unreadable)}
    faults = {row: fault for row, fault in found.items() if row not in unreadable}
    leftovers = abandoned_files(reader.storage)
    if repair:
        for row in faults:
            reader.storage.delete(reader.arrays.commit.chunk_path(row))
        delete_leftovers(reader.storage, leftovers)
    return {
        "checked": len(chosen),
        "bad": len(faults),
        "unreadable": len(unreadable),
        "repaired": len(faults) if repair else 0,
        "orphans": len(orphans),
        "faults": {str(row): fault for row, fault in faults.items()},
        "unreadable_rows": {str(row): why for row, why in unreadable.items()},
        "damaged_files": dict(sorted(damaged.items())),
        "orphan_rows": {str(row): found for row, found in sorted(orphans.items())},
        "leftovers": {leftover.path: leftover.size_bytes for leftover in leftovers},
        "foreign_files": foreign_files(reader.storage),
    }


def row_fault(reader: StoreReader, row: int, ref: VolumeRef | None) -> str | None:
    """Return what is wrong with a committed row, None when every checksum agrees. ``ref``: its object, where known.

    Unreadable where the place refused: then nothing is known of the row.
    """
    try:
        return _row_fault(reader, row, ref)
    except UnreadableError as error:
        return Unreadable(error)


def _row_fault(reader: StoreReader, row: int, ref: VolumeRef | None) -> str | None:
    try:
        numbers = reader.arrays.commit.read(reader.storage, row)
        commit = None if numbers is None else Commit.from_numbers(numbers)
        if commit is None:
            return "the commit is not valid"
        vectors = [array.read(reader.storage, row) for array in (reader.arrays.pooled, reader.arrays.facts)]
        tokens = [array.read(reader.storage, row) for array in reader.arrays.tokens]
        has_picture = commit.crc_thumbnail is not None
        pictures = [reader.arrays.thumbnail.read(reader.storage, row)] if has_picture else []
    except UnreadableError:
        raise
    except StoreError as error:
        return str(error)
    if any(values is None for values in (*vectors, *tokens, *pictures)):
        return "an array of the row is missing"
    pooled, facts = vectors
    if pooled is None or facts is None or not commit.fits_vectors(pooled, facts):
        return "pooled or facts differ from the commit"
    for what, values, crc in (
        ("tokens differ", tokens, commit.crc_tokens),
        ("thumbnail differs", pictures, commit.crc_thumbnail),
    ):
        if crc_over([one for one in values if one is not None]) != (crc or 0):
            return f"the {what} from the commit"
    notes = Note(int(facts[FACT_COLUMNS.index("notes")]))
    same = ref is None or _same_source(commit, ref, notes)
    return kind_fault(reader.storage, row) if same else "the row was made from another object than the index names"


def _open(url: str, endpoint_url: str | None) -> StoreReader:
    """Open the store; where that fails because a document is damaged, say which."""
    storage = open_storage(url, endpoint_url=endpoint_url, create=False)
    try:
        return reader_on(storage)
    except StoreError as error:
        if not storage.list_names("").count(CHECKSUMS):
            raise
        broken = document_faults(storage, PACKED)
        raise StoreError(f"{error} (damaged: {', '.join(broken) or 'nothing else'})") from error


def _faults(
    reader: StoreReader, refs: Mapping[int, VolumeRef | None], progress: Progress, threads: int
) -> dict[int, str]:
    suspects = []
    results = concurrently(lambda row: row_fault(reader, row, refs[row]), refs, threads)
    for done, (row, fault) in enumerate(zip(refs, results, strict=True), start=1):
        if fault is not None:
            suspects.append(row)
        progress(done, len(refs))
    # A second look: a row that was being written again during the first is no damage.
    again = {row: row_fault(reader, row, refs[row]) for row in suspects}
    return {row: fault for row, fault in again.items() if fault is not None}


def _same_source(commit: Commit, ref: VolumeRef, notes: Note) -> bool:
    """Compare with the listing as far as it tells: an etag without "-" is the md5 (S3, single PUT, no SSE-KMS)."""
    same_size = ref.size in (-1, commit.source_size_bytes)
    is_md5 = len(ref.etag) == 32 and "-" not in ref.etag and not notes & (Note.ETAG_IS_NO_MD5 | Note.MD5_UNCHECKED)
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
