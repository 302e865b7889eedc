"""Keep what was read from a large measurement.csv, so that the next run need not read it again.

SQLite in the user's own cache folder, readable by that user alone: it holds participants' values, and nothing of them
goes anywhere else. The key is the digest of the file's content with the version of what is read from it, so an entry is
never old. The join of store and participants is not kept: it takes half a second for 25,000 volumes, most of it a look
at every vector that no kept table could spare.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

import pandas as pd

from classify.cohort.measurements import QUANTITIES, Measurements, read_measurements
from embeddings_store.places import cache_folder

VERSION = 2
"""Raise it when the same file would be read to other values."""

FILE = "measurements.sqlite"


def cached_measurements(path: Path) -> tuple[Measurements, str]:
    """Give the measurements of a file and, in words, where they came from. A damaged cache is made anew.

    Raises: CohortError where the file is missing, or is no such table.
    """
    if not path.is_file():
        return read_measurements(path), ""
    with path.open("rb") as content:
        key = f"{VERSION}-{QUANTITIES}-{file_digest(content, 'sha256').hexdigest()}"
    place = cache_folder() / FILE
    kept = _read(place, key)
    if kept is not None:
        return kept, f"read earlier, kept in {place}"
    found = read_measurements(path)
    return found, f"read now, kept in {place}" if _write(place, key, found) else "read now, and could not be kept"


@contextmanager
def _opened(place: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(place)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _read(place: Path, key: str) -> Measurements | None:
    if not place.is_file():
        return None
    try:
        with _opened(place) as connection:
            found = connection.execute("SELECT people, counts FROM measurements WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        columns = json.loads(found[0])
        numbers = {name: pd.Series(columns[name], dtype="float64") for name in (q.name for q in QUANTITIES)}
        said = json.loads(found[1])
        table = pd.DataFrame({"participant": columns["participant"], **numbers})
        return Measurements(table, said["counts"], tuple(said["notes"]))
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        place.unlink(missing_ok=True)
        return None


def _write(place: Path, key: str, found: Measurements) -> bool:
    """Keep one entry, in place of any other; a home that cannot be written only costs the next run the reading."""
    people = {name: column.astype(object).where(column.notna(), None).tolist() for name, column in found.table.items()}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode=0o600)
        with _opened(place) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS measurements (key TEXT PRIMARY KEY, people TEXT, counts TEXT)"
            )
            connection.execute("DELETE FROM measurements")
            row = (key, json.dumps(people), json.dumps({"counts": found.counts, "notes": found.notes}))
            connection.execute("INSERT INTO measurements VALUES (?, ?, ?)", row)
    except (OSError, sqlite3.Error):
        return False
    return True
