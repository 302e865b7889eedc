"""The index: which key has which row. Append-only segments; a key's row never changes.

Segments are numbered. A later line for the same row (the object was replaced) supersedes an earlier one.
Whoever puts a segment then lists: unless it follows exactly the segments that its rows were planned from, it withdraws
and plans again. So at most one of two racing writers goes on, with nothing but PUT, LIST and DELETE.
"""

import io
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from embeddings_store.checksums import CHANGED, checksum
from embeddings_store.errors import StoreError
from embeddings_store.schema import (
    INDEX_COLUMNS,
    SITE_COLUMN,
    Eye,
    ParticipantId,
    VolumeId,
    VolumeRef,
    site_of,
    told_site,
)
from embeddings_store.storage import Storage, concurrently

FOLDER = "index"
_SEGMENT = re.compile(rf"{FOLDER}/([0-9]{{6}}-[0-9a-f]+(?:-[0-9a-f]{{8}})?\.parquet)")
PATIENCE_S = 5.0
DTYPES = {"row": "int64", "size": "int64"}


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One line of the index: the row that a volume has, for ever."""

    row: int
    ref: VolumeRef


@dataclass(frozen=True, slots=True)
class AddedVolumes:
    """What an append did. ``replaced``: known volumes whose object in the bucket is another one now."""

    new: int
    known: int
    replaced: tuple[IndexRow, ...]


def read_index(storage: Storage) -> pd.DataFrame:
    """Read the whole index, sorted by row: INDEX_COLUMNS and ``site``. Raises StoreError when segments collide."""
    return read_settled(storage)[1]


def read_settled(storage: Storage) -> tuple[list[str], pd.DataFrame]:
    """Return the segments in order, and the index that they make; one that its writer withdraws meanwhile is no error.

    Raises StoreError when they do not settle, or do not fit together.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        names = settled_segments(storage)
        index = _read_segments(storage, names)
        if index is not None:
            return names, index
        if time.monotonic() > deadline:
            raise StoreError(f"an index segment of {storage.url} went away while it was read; try again")


def _read_segments(storage: Storage, names: Sequence[str]) -> pd.DataFrame | None:
    """Join segments, given in order, to one index; None where one is gone: two writers met, and took theirs back."""
    found = list(concurrently(lambda name: _read_segment(storage, name), names))
    tables = [table for table in found if table is not None]
    if len(tables) < len(found):
        return None
    lines = pd.concat(tables) if tables else _table([]).assign(**{SITE_COLUMN: ""})
    newest = lines.drop_duplicates("row", keep="last").sort_values("row", ignore_index=True)
    if newest["key"].duplicated().any() or (newest["row"] != newest.index).any():
        raise StoreError(f"the index of {storage.url} is damaged: a segment below {FOLDER}/ is missing or foreign")
    told = zip(newest["participant"], newest[SITE_COLUMN], strict=True)
    return newest.assign(**{SITE_COLUMN: [site_of(*one) for one in told]})


def settled_segments(storage: Storage) -> list[str]:
    """List the segments in order, waiting out writers that are about to withdraw. Raises StoreError if they do not."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        names = _segment_names(storage)
        if [_number(name) for name in names] == list(range(1, len(names) + 1)):
            return names
        if time.monotonic() > deadline:
            raise StoreError(
                f"the index of {storage.url} is ambiguous: expected segments 1 to {len(names)} below {FOLDER}/, got "
                f"{names}; a writer was killed while another appended: delete the segment whose rows have no commits"
            )
        time.sleep(0.1)


def index_rows(index: pd.DataFrame) -> list[IndexRow]:
    """Return the lines of an index as typed rows."""
    columns = [index[name].tolist() for name in (*INDEX_COLUMNS, SITE_COLUMN)]
    return [
        IndexRow(
            row,
            VolumeRef(
                key, size, etag, VolumeId(volume), ParticipantId(person), Eye(eye), device, protocol,
                told_site(person, site),
            ),
        )
        for row, key, size, etag, volume, person, eye, device, protocol, site in zip(*columns, strict=True)
    ]  # fmt: skip


def plan_append(known: Sequence[IndexRow], refs: Iterable[VolumeRef]) -> tuple[list[IndexRow], AddedVolumes]:
    """Work out the lines that a segment must hold: new keys, and known keys whose line changed. Pure."""
    by_key = {line.ref.key: line for line in known}
    next_row, lines, replaced = len(known), list[IndexRow](), list[IndexRow]()
    asked = {ref.key: ref for ref in refs}
    for ref in asked.values():
        old = by_key.get(ref.key)
        line = IndexRow(next_row, ref) if old is None else IndexRow(old.row, _merged(old.ref, ref))
        next_row += old is None
        if line != old:
            lines.append(line)
        if old is not None and is_other_object(old.ref, ref):
            replaced.append(line)
    new = next_row - len(known)
    return lines, AddedVolumes(new, len(asked) - new, tuple(replaced))


def is_other_object(old: VolumeRef, new: VolumeRef) -> bool:
    """Return whether the bucket holds another object under the key; an unknown size or etag proves nothing."""
    other_size = -1 not in (old.size, new.size) and old.size != new.size
    return other_size or ("" not in (old.etag, new.etag) and old.etag != new.etag)


def folder_of(ref: VolumeRef) -> str:
    """Return the folder in which an object lies, with the other parts of its volume if there are any."""
    return ref.key.rpartition("/")[0]


def put_segment(storage: Storage, lines: Sequence[IndexRow], after: Sequence[str], author: int) -> bool:
    """Put the segment that follows ``after``; False, with nothing left behind, when another writer came between."""
    buffer = io.BytesIO()
    _table(lines).to_parquet(buffer, index=False, compression="zstd")
    body = buffer.getvalue()
    name = f"{len(after) + 1:06d}-{author:x}-{checksum(body):08x}.parquet"
    storage.put(f"{FOLDER}/{name}", body)
    if _segment_names(storage) == [*after, name]:
        return True
    storage.delete(f"{FOLDER}/{name}")
    time.sleep(random.uniform(0.01, 0.2))  # noqa: S311 - so that two writers do not meet again in step
    return False


def segment_fault(path: str, body: Any) -> str | None:
    """Return what is wrong with a segment, None where all is well, or where the file is none."""
    if _SEGMENT.fullmatch(path) is None:
        return None
    found = _parse_segment(path, body)
    return found if isinstance(found, str) else None


def _parse_segment(path: str, body: Any) -> pd.DataFrame | str:
    """Read INDEX_COLUMNS, or return what is wrong: the name ends with the crc32c, and every cell must be whole.

    A flipped byte may leave readable Parquet, and an empty cell would make every row look like another object's.
    """
    _, _, *crc = path.removesuffix(".parquet").split("-")
    if crc and int(crc[0], 16) != checksum(body):
        return CHANGED
    try:
        table = pd.read_parquet(io.BytesIO(body))
        if SITE_COLUMN not in table:
            table = table.assign(**{SITE_COLUMN: ""})
        lines = table[[*INDEX_COLUMNS, SITE_COLUMN]]
    except (OSError, ValueError, KeyError) as error:
        return f"it is no table of lines ({error})"
    for name in INDEX_COLUMNS:
        if lines[name].isna().any() or (name in DTYPES) != (lines[name].dtype == "int64"):
            return f"cells of its column {name} are empty, or of another type"
    return lines


def _merged(old: VolumeRef, new: VolumeRef) -> VolumeRef:
    """Keep the size and etag that are known when a manifest names the object without them."""
    if new.size != -1 and new.etag:
        return new
    size = old.size if new.size == -1 else new.size
    return replace(new, size=size, etag=new.etag or old.etag)


def _segment_names(storage: Storage) -> list[str]:
    found = (_SEGMENT.fullmatch(path) for path in storage.list_paths(FOLDER))
    return sorted(name[1] for name in found if name)


def _number(name: str) -> int:
    return int(name.partition("-")[0])


def _read_segment(storage: Storage, name: str) -> pd.DataFrame | None:
    found: pd.DataFrame | str = ""
    for _ in range(2):  # bytes are flipped on the way, too
        body = storage.get(f"{FOLDER}/{name}")
        if body is None:
            return None
        if not isinstance(found := _parse_segment(name, body), str):
            return found
    raise StoreError(f"the index segment {name} of {storage.url} is damaged: {found}; restore it from a copy")


def _table(lines: Sequence[IndexRow]) -> pd.DataFrame:
    rows = [
        (line.row, ref.key, ref.size, ref.etag, ref.volume, ref.participant, str(ref.eye), ref.device, ref.protocol)
        for line in lines
        for ref in (line.ref,)
    ]
    table = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    table = table.astype({name: DTYPES.get(name, "str") for name in INDEX_COLUMNS})
    sites = [line.ref.site for line in lines]
    return table.assign(**{SITE_COLUMN: sites}) if any(sites) else table
