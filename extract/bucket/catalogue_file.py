"""A catalogue on disk: one SQLite file for each bucket and prefix, published by rename, believed only when whole.

It holds raw facts only (keys, sizes, etags, what the tables say), so that a better parser needs no new listing.
Of participants.tsv it keeps id, split and the OCT flag: nothing clinical leaves the bucket.
"""

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from embeddings_store.places import cache_folder
from embeddings_store.schema import ObjectInfo
from extract.bucket.manifest import ManifestLine
from extract.bucket.participants import Enrolled

FORMAT = "octprobe catalogue 1"

_TABLES = {
    "objects": ("key TEXT", "size INTEGER", "etag TEXT"),
    "manifest": ("key TEXT", "participant TEXT", "eye TEXT", "frames INTEGER"),
    "participants": ("participant TEXT", "split TEXT", "has_oct INTEGER"),
    "about": ("format TEXT", "listed_at_ns INTEGER", "token TEXT", "has_manifest INTEGER", "digest TEXT"),
}


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """What one look at a bucket gave. manifest is None where there is no such table.

    token: digest of participants.tsv when the bucket was listed; "" where it has none.
    """

    listed_at_ns: int
    token: str
    objects: tuple[ObjectInfo, ...]
    manifest: tuple[ManifestLine, ...] | None
    participants: tuple[Enrolled, ...]


def catalogue_path(place: str) -> Path:
    """Name the file of a place: endpoint, bucket and prefix; hashed, for a prefix may be a secret."""
    name = f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.sqlite"
    return cache_folder() / "catalogues" / name


def write_record(path: Path, record: BucketRecord) -> None:
    """Write aside, publish by rename, readable by its owner only. Raises: OSError, sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    os.close(handle)
    try:
        with closing(sqlite3.connect(name)) as database:
            for table, columns in _TABLES.items():
                database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
                marks = ", ".join("?" * len(columns))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", _lines(record)[table])  # noqa: S608 - fixed names
            database.commit()
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_record(path: Path) -> BucketRecord | None:
    """Read a record back; None where there is none, or where not every byte of it is what was written."""
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            lines = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in _TABLES}  # noqa: S608 - fixed names
        return _record(lines)
    except (sqlite3.Error, OSError, ValueError, TypeError):
        return None


def _record(lines: dict[str, list[tuple[Any, ...]]]) -> BucketRecord | None:
    ((written_format, listed_at_ns, token, has_manifest, digest),) = lines["about"]
    record = BucketRecord(
        listed_at_ns=listed_at_ns,
        token=token,
        objects=tuple(ObjectInfo(*line) for line in lines["objects"]),
        manifest=tuple(ManifestLine(*line) for line in lines["manifest"]) if has_manifest else None,
        participants=tuple(Enrolled(person, split, bool(flag)) for person, split, flag in lines["participants"]),
    )
    return record if written_format == FORMAT and digest == _digest(record) else None


def _lines(record: BucketRecord) -> dict[str, Sequence[tuple[Any, ...]]]:
    has_manifest = record.manifest is not None
    return {
        "objects": _tuples(record.objects),
        "manifest": _tuples(record.manifest or ()),
        "participants": _tuples(record.participants),
        "about": [(FORMAT, record.listed_at_ns, record.token, has_manifest, _digest(record))],
    }


def _tuples(records: Iterable[ObjectInfo | ManifestLine | Enrolled]) -> list[tuple[Any, ...]]:
    return [astuple(record) for record in records]


def _digest(record: BucketRecord) -> str:
    """Digest everything that is read back: SQLite itself would not notice a flipped letter in a key."""
    digest = hashlib.sha256(repr((record.listed_at_ns, record.token, record.manifest is None)).encode())
    for part in (record.objects, record.manifest or (), record.participants):
        digest.update("\n".join(map(repr, part)).encode())
    return digest.hexdigest()
