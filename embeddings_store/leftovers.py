"""What killed writers leave beside the rows on a local disk: files that were being written aside, `name#1`.

obstore writes to such a file and renames it; it hides them from listings, so no reader sees them, but they take room.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from obstore.store import LocalStore

from embeddings_store.storage import Storage

ASIDE = re.compile(r"#\d+$")
# A file that was touched an hour ago is nobody's: a row is written in seconds.
ABANDONED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that was never renamed to its place: path below the store, and what it takes."""

    path: str
    size_bytes: int


def abandoned_files(storage: Storage, clock: Callable[[], float] = time.time) -> list[Leftover]:
    """List files written aside and not touched for an hour; none where PUT is atomic (S3)."""
    if not isinstance(storage.objects, LocalStore):
        return []
    return sorted(_abandoned(Path(storage.url), clock() - ABANDONED_S), key=lambda leftover: leftover.path)


def delete_leftovers(storage: Storage, found: list[Leftover]) -> None:
    """Delete them; one that went away meanwhile is no error."""
    for leftover in found:
        (Path(storage.url) / leftover.path).unlink(missing_ok=True)


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
