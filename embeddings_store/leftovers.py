"""What killed writers leave: files that were being written aside, `name#1`, on a local disk, and unfinished snapshots.

obstore writes to such a file and renames it; it hides them from listings, so no reader sees them, but they take room.
The next snapshot takes a number of its own, as nobody can tell a killed process from a slow one.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from obstore.store import LocalStore

from embeddings_store.foreign import ASIDE
from embeddings_store.snapshot_files import unfinished_files
from embeddings_store.storage import Storage

# A file that was touched an hour ago is nobody's: a row is written in seconds, and so is a part of a snapshot.
ABANDONED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that was never renamed to its place, or is of an unfinished snapshot: path in the store, and bytes."""

    path: str
    size_bytes: int


def abandoned_files(storage: Storage, clock: Callable[[], float] = time.time) -> list[Leftover]:
    """List files written aside (none where PUT is atomic, S3) and snapshots, of which nothing changed for an hour."""
    before = clock() - ABANDONED_S
    found = [Leftover(path, size) for path, size in unfinished_files(storage, before).items()]
    if isinstance(storage.objects, LocalStore):
        found += _abandoned(Path(storage.url), before)
    return sorted(found, key=lambda leftover: leftover.path)


def delete_leftovers(storage: Storage, found: list[Leftover]) -> None:
    """Delete them; one that went away meanwhile is no error."""
    for leftover in found:
        if ASIDE.search(leftover.path):
            (Path(storage.url) / leftover.path).unlink(missing_ok=True)
        else:
            storage.delete(leftover.path)


def _abandoned(root: Path, before_s: float) -> Iterator[Leftover]:
    for folder, _, names in os.walk(root):
        for name in names:
            if ASIDE.search(name) is None:
                continue
            try:
                facts = (Path(folder) / name).stat()
            except FileNotFoundError:
                continue
            if facts.st_mtime < before_s:
                yield Leftover(str((Path(folder) / name).relative_to(root)), facts.st_size)
