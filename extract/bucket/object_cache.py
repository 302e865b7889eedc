"""A local cache of raw objects: bounded in size, least recently used first out, checked at every read."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from embeddings_store.errors import UsageError
from embeddings_store.schema import ObjectInfo
from embeddings_store.storage import BLOCK_BYTES
from extract.bucket.source import Fetched, Source, Wanted

MD5_BYTES = 16
SUFFIX = ".object"
UNFINISHED = ".unfinished-"


class CachedSource:
    """A source whose fetched objects are kept below a folder; everything else is the source's own.

    A file is the md5 of an object, then its bytes; its name is a digest of place, key, size and etag, so another
    object under the same key is another file. Objects without an etag are never taken from here: nothing would say that
    they changed. A file that fails its md5 is deleted, and fetched again. Raises: UsageError for an unusable folder.
    """

    def __init__(self, source: Source, folder: Path, *, limit_bytes: int, place: str) -> None:
        self._source, self._folder, self._limit, self._place = source, folder, limit_bytes, place
        self._lock = Lock()
        self.name, self.counts = source.name, source.counts
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._held = sum(size for _, size, _ in _files(folder))
        except OSError as error:
            raise UsageError(f"--cache-dir {folder}: expected a folder to write to: {error.strerror}") from error

    def list_objects(self, folder: str = "") -> Iterator[ObjectInfo]:
        """List what the source lists."""
        return self._source.list_objects(folder)

    def read_optional(self, key: str) -> bytes | None:
        """Give a small object, always from the source."""
        return self._source.read_optional(key)

    def fetch(self, wanted: Wanted) -> Fetched:
        """Give one object whole, from the cache where it is there and intact."""
        if not wanted.etag:
            return self._source.fetch(wanted)
        path = self._folder / f"{self._digest(wanted)}{SUFFIX}"
        found = self._read(path, wanted)
        if found is not None:
            return found
        fetched = self._source.fetch(wanted)
        self._keep(path, fetched)
        return fetched

    def _digest(self, wanted: Wanted) -> str:
        parts = (self._place, wanted.key, str(wanted.size), wanted.etag)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]

    def _read(self, path: Path, wanted: Wanted) -> Fetched | None:
        try:
            with path.open("rb") as file:
                digest, data = file.read(MD5_BYTES), file.read()
        except OSError:
            return None
        intact = hashlib.md5(data, usedforsecurity=False).digest() == digest and wanted.size in {-1, len(data)}
        if not intact:
            self._drop(path, len(digest) + len(data))
            return None
        with suppress(OSError):  # another process may have thrown it out meanwhile; the bytes are ours
            os.utime(path)
        return Fetched(data, len(data), wanted.etag, digest)

    def _keep(self, path: Path, fetched: Fetched) -> None:
        """Write aside and rename; a full disk only means that the object is not kept."""
        size = MD5_BYTES + fetched.size
        if size > self._limit:
            return
        with self._lock:
            if self._held + size > self._limit:
                self._make_room(size)
            self._held += size
        try:
            _publish(path, fetched)
        except OSError:
            with self._lock:
                self._held -= size

    def _make_room(self, size: int) -> None:
        """Throw out the least recently used files, by what lies there now: other processes keep objects here, too."""
        files = sorted(_files(self._folder))
        self._held = sum(size for _, size, _ in files)
        for _, held, path in files:
            if self._held + size <= self._limit:
                return
            path.unlink(missing_ok=True)
            self._held -= held

    def _drop(self, path: Path, size: int) -> None:
        path.unlink(missing_ok=True)
        with self._lock:
            self._held -= size


def _publish(path: Path, fetched: Fetched) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(fetched.md5)
            for start in range(0, len(fetched.data), BLOCK_BYTES):  # as rows are written: embeddings_store/staging.py
                file.write(memoryview(fetched.data)[start : start + BLOCK_BYTES])
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _files(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield time of last use, size and path of each kept object."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                yield stat.st_mtime_ns, stat.st_size, Path(entry.path)
