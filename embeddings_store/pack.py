"""Pack a store: the small files of its rows become few objects, and no row is ever missing meanwhile.

The order of every put and delete, and why it is harmless to be killed between two: docs/store-format.md, chapter 11.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import google_crc32c
import numpy as np
from obstore.store import LocalStore

from embeddings_store.arrays import CRC_BYTES, CRC_RESIDUE, StoreArrays
from embeddings_store.checksums import checksum, seal_fault
from embeddings_store.errors import StoreError
from embeddings_store.growth import grow_store
from embeddings_store.layout import load_layout
from embeddings_store.pack_claim import FOLDER, sole_packer
from embeddings_store.packs import COMMIT, KINDS, PATHS, SPAN, Pack, PackedStorage, pack_table, packed, packs_of
from embeddings_store.publish import flush
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.rows import Commit
from embeddings_store.schema import PACKED
from embeddings_store.storage import Storage, concurrently
from embeddings_store.terminal.progress import Progress, no_progress

Files = tuple[bytes, ...]
"""The files of one row, in the order of KINDS; b"" where it has none."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was packed, or would be. damaged_rows: they and their neighbours stay as they are; verify tells why."""

    rows_packed: int
    rows: int
    objects_before: int
    objects_after: int
    damaged_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """What is to be done for the rows of one pack. single: rows with a single file, by kind; old: packs of before."""

    number: int
    single: tuple[frozenset[int], ...]
    old: tuple[Pack, ...]
    rows: tuple[int, ...]

    @property
    def is_new(self) -> bool:
        """Whether a pack is to be made; else single files that lie in the one there go."""
        return bool(self.rows) and (bool(self.single[COMMIT]) or len(self.old) > 1 or self.has_refuse)

    @property
    def has_refuse(self) -> bool:
        """Whether old packs hold what is no row any more, or are damaged where it does no harm yet."""
        return any(not pack.whole or not set(pack.rows(COMMIT)) <= set(self.rows) for pack in self.old)

    @property
    def moved(self) -> set[int]:
        """The rows that have single files."""
        return set().union(*self.single)


def pack_store(
    url: str, *, endpoint_url: str | None = None, dry_run: bool = False, progress: Progress = no_progress
) -> PackReport:
    """Pack the small files of every committed row; what was packed before stays, a call that was cut off goes on.

    Others may extract and read meanwhile; one who packs is waited for. ``progress`` gets (rows done, rows in all).
    Raises StoreError where the store cannot be written, or gives back other bytes than were put.
    """
    return pack_on(open_reader(url, endpoint_url=endpoint_url), dry_run=dry_run, progress=progress)


def pack_on(reader: StoreReader, *, dry_run: bool = False, progress: Progress = no_progress) -> PackReport:
    """Do the same on an opened store."""
    storage = packed(reader.storage)
    before = len(storage.list_paths(""))
    if dry_run:
        return _foresee(storage, before)
    with sole_packer(storage.inner) as require_held:
        _sweep(storage.inner)
        plan = _plan(storage)
        if plan and (found := load_layout(storage)):
            grow_store(storage.inner, found, PACKED)
        damaged, done, rows = list[int](), 0, sum(len(span.moved) for span in plan)
        for span in plan:
            bad = _pack_span(storage, reader.arrays, span, require_held)
            damaged += bad
            done += len(span.moved)
            progress(done, rows)
        _sweep(storage.inner)
        after = len(storage.list_paths("")) - 1
    left = {row // SPAN for row in damaged}
    moved = sum(len(span.moved) for span in plan if span.number not in left)
    return PackReport(moved, len(reader.arrays.commit.written_rows(storage)), before, after, tuple(damaged))


def _plan(storage: PackedStorage) -> list[_Span]:
    """List the packs to make, and those beside which single files lie; files of rows without a commit are not moved."""
    # Commits first: of a row that is committed, the other files are seen after it. Packs last: see list_sizes.
    single = [_rows_in(storage.inner.list_paths(kind), kind) for kind in reversed(KINDS)][::-1]
    shelf = storage.look()
    live = shelf.sizes(COMMIT).keys()
    rows, spans = single[COMMIT] | live, list[_Span]()
    by_number: dict[int, list[int]] = {}
    for row in sorted(rows):
        by_number.setdefault(row // SPAN, []).append(row)
    for number in sorted(by_number.keys() | shelf.packs.keys()):
        own = by_number.get(number, [])
        lying = tuple(frozenset(kind.intersection(own)) for kind in single)
        span = _Span(number, lying, shelf.packs.get(number, ()), tuple(own))
        if span.moved or span.has_refuse or len(span.old) > 1:
            spans.append(span)
    return spans


def _rows_in(paths: Sequence[str], kind: str) -> set[int]:
    start, end = PATHS[kind].split("{}")
    numbers = [path[len(start) : -len(end)] for path in paths if path.startswith(start) and path.endswith(end)]
    return {int(number) for number in numbers if number.isdecimal() and number.isascii()}


def _foresee(storage: PackedStorage, before: int) -> PackReport:
    plan, names = _plan(storage), packs_of(storage.list_paths(FOLDER))
    gone, made = sum(len(rows) for span in plan for rows in span.single), 0
    for span in plan:
        if span.is_new or not span.rows:
            gone += sum(len(names[pack.name]) for pack in span.old)
        if span.is_new:
            kept = (any(pack.rows(kind) for pack in span.old) for kind in range(len(KINDS)))
            made += sum(bool(rows) or had for rows, had in zip(span.single, kept, strict=True))
    rows = storage.look().sizes(COMMIT).keys() | {row for span in plan for row in span.rows}
    return PackReport(sum(len(span.moved) for span in plan), len(rows), before, before - gone + made, ())


def _pack_span(storage: PackedStorage, arrays: StoreArrays, span: _Span, require_held: Callable[[], None]) -> list[int]:
    """Pack one span, and delete what it replaces; return its damaged rows, because of which nothing was done."""
    commits = dict.fromkeys(sorted(span.moved), b"")
    if span.is_new:
        found = concurrently(lambda row: _read_files(storage, arrays, span, row), span.rows, storage.threads)
        read = dict(zip(span.rows, found, strict=True))
        if bad := [row for row, (files, _) in read.items() if files is None]:
            return bad
        _publish(storage.inner, span.number, {row: files for row, (files, _) in read.items() if files}, require_held)
        # What was dropped meanwhile may be on its way again by another process.
        commits = {row: read[row][1] for row in commits if read[row][0]}
    for _ in concurrently(lambda row: _delete_single(storage, span, row, commits[row]), commits, storage.threads):
        pass
    for pack in span.old if span.is_new or not span.rows else ():
        storage.inner.delete(f"{pack.name}.{KINDS[COMMIT]}")
    return []


def _read_files(storage: PackedStorage, arrays: StoreArrays, span: _Span, row: int) -> tuple[Files | None, bytes]:
    """Read a row's files, the single ones if they are whole, and its single commit.

    None where neither those nor the packed ones agree with their commit, () where the row was dropped meanwhile.
    """
    single = held = (b"",) * len(KINDS)
    for _ in range(2):  # a row that is being written again, or bytes that are flipped on the way
        single = tuple(bytes(storage.inner.get(path.format(row)) or b"") for path in PATHS.values())
        if any(row in pack.rows(COMMIT) for pack in span.old):
            held = tuple(bytes(storage.packed_file(kind, row) or b"") for kind in range(len(KINDS)))
        if whole := _checked(arrays, single) or _checked(arrays, held):
            return whole, single[COMMIT]
    return (None if single[COMMIT] or held[COMMIT] else ()), single[COMMIT]


def _checked(arrays: StoreArrays, files: Files) -> Files | None:
    """Return a row's files without a thumbnail that is none of it; None where a sum is not what it should be."""
    pooled, facts, thumbnail, kind, numbers = files
    if len(numbers) != arrays.commit.row_bytes or checksum(numbers) != CRC_RESIDUE:
        return None
    commit = Commit.from_numbers(np.frombuffer(numbers[:-CRC_BYTES], dtype=arrays.commit.dtype))
    if commit is None or (kind and seal_fault(kind)):
        return None
    thumbnail = b"" if commit.crc_thumbnail is None else thumbnail
    chunks = [(arrays.pooled, pooled), (arrays.facts, facts), *([(arrays.thumbnail, thumbnail)] if thumbnail else [])]
    if any(len(body) != array.row_bytes or checksum(body) != CRC_RESIDUE for array, body in chunks):
        return None
    of_vectors = checksum(pooled[:-CRC_BYTES] + facts[:-CRC_BYTES])
    of_picture = None if commit.crc_thumbnail is None else checksum(thumbnail[:-CRC_BYTES])
    same = (of_vectors, of_picture) == (commit.crc_vectors, commit.crc_thumbnail)
    return (pooled, facts, thumbnail, kind, numbers) if same else None


def _publish(storage: Storage, number: int, files: Mapping[int, Files], require_held: Callable[[], None]) -> None:
    """Put a pack, its commits last; whatever does not read back as it was put is not published. Raises StoreError."""
    name = f"{FOLDER}/{number:06d}.{uuid.uuid4().hex}"
    table = np.zeros((len(KINDS), SPAN + 1), dtype=np.uint32)
    for kind in range(len(KINDS)):
        table[kind, [row % SPAN for row in files]] = [len(one[kind]) for one in files.values()]
        table[kind, SPAN] = _sum([one[kind] for one in files.values()])
    for kind, word in enumerate(KINDS[:COMMIT]):
        if table[kind, :SPAN].any():
            _put_checked(storage, f"{name}.{word}", [one[kind] for one in files.values() if one[kind]])
    require_held()
    ends, path = pack_table(table), f"{name}.{KINDS[COMMIT]}"
    try:
        _put_checked(storage, path, [ends, *(one[COMMIT] for one in files.values()), ends])
        require_held()  # who thought this process dead took its parts for a killed one's
    except StoreError:
        storage.delete(path)
        raise


def _put_checked(storage: Storage, path: str, parts: Sequence[bytes]) -> None:
    storage.put(path, *parts)
    if not any(checksum(storage.get(path) or b"") == _sum(parts) for _ in range(2)):
        raise StoreError(f"{storage.url}/{path} reads back other bytes than were put; no single file was deleted")
    if isinstance(storage.objects, LocalStore):
        # The rows that it takes up were safe from power cuts long ago.
        with storage.as_store_error("write"):
            flush(Path(storage.url) / path)
            flush((Path(storage.url) / path).parent)


def _sum(parts: Sequence[bytes]) -> int:
    return reduce(google_crc32c.extend, parts, 0)


def _delete_single(storage: PackedStorage, span: _Span, row: int, commit: bytes) -> None:
    """Delete a row's single files, which a pack holds; not those of a row that was dropped or written again since."""
    path = PATHS[KINDS[COMMIT]].format(row)
    now = bytes(storage.inner.get(path) or b"")
    if now != commit:
        if now:
            storage.drop(row, storage.look().holders(row))
        return
    if now:
        storage.inner.delete(path)
    for kind in KINDS[:COMMIT]:
        if row in span.single[KINDS.index(kind)]:
            storage.inner.delete(PATHS[kind].format(row))


def _sweep(storage: Storage) -> None:
    """Delete parts of packs whose commits are not there: of a killed process, or replaced."""
    for name, paths in packs_of(storage.list_paths(FOLDER)).items():
        if f"{name}.{KINDS[COMMIT]}" not in paths:
            for path in paths:
                storage.delete(path)
