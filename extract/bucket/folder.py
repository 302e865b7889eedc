"""A bucket that is a local folder."""

import os
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

from embeddings_store.schema import volume_id
from extract.bucket.source import Fetched, FetchedRange, ObjectInfo, TransferCounts, Wanted
from extract.errors import BucketError, FetchError


class FolderSource:
    """Files below a folder, under keys with "/"; the etag is made of size and time of change.

    Links to folders, and to files outside the folder, are ignored. Raises: BucketError when there is no such folder.
    """

    far = False

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise BucketError(f"bucket {str(root)!r}: expected an existing folder; is the prefix right?")
        self._root = root.resolve()
        self.name = str(root)
        self.counts = TransferCounts()

    def list_objects(self) -> Iterator[ObjectInfo]:
        """List every file, in the order of keys within each folder."""
        self.counts.add(list_requests=1)
        try:
            for folder, folders, files in os.walk(self._root, onerror=_refuse):
                folders.sort()
                for name in sorted(files):
                    path = Path(folder, name)
                    if self._is_inside(path):
                        yield self._describe(path)
        except OSError as error:
            raise BucketError(f"bucket {self.name!r}: cannot be listed: {error.strerror}") from error

    def fetch(self, wanted: Wanted) -> Fetched:
        """Read one file."""
        data, now = self._read(wanted, 0, None)
        return Fetched(data, now.size, now.etag, md5(data, usedforsecurity=False).digest())

    def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
        """Read some bytes of one file."""
        data, now = self._read(wanted, start, stop)
        return FetchedRange(start, data, now.size, now.etag)

    def _read(self, wanted: Wanted, start: int, stop: int | None) -> tuple[bytes, ObjectInfo]:
        name = volume_id(wanted.key)
        path = self._root / wanted.key
        if not self._is_inside(path):
            raise FetchError(f"{name}: the object is gone")
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(-1 if stop is None else stop - start)
            now = self._describe(path)
        except OSError as error:
            raise FetchError(f"{name}: the file cannot be read: {error.strerror}") from error
        self.counts.add(get_requests=1, received_bytes=len(data))
        expected = (now.size if stop is None else min(stop, now.size)) - start
        changed = wanted.size not in {-1, now.size} or wanted.etag not in {"", now.etag} or len(data) != expected
        if changed:
            raise FetchError(f"{name}: expected the {wanted.size:,} bytes of the listing, got other {now.size:,}")
        return data, now

    def read_optional(self, key: str) -> bytes | None:
        """Read a small file where there is one."""
        if not self._is_inside(self._root / key):
            return None
        return self.fetch(ObjectInfo(key, -1, "")).data

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self._root)

    def _describe(self, path: Path) -> ObjectInfo:
        stat = path.stat()
        key = path.relative_to(self._root).as_posix()
        return ObjectInfo(key, stat.st_size, f"{stat.st_size:x}-{stat.st_mtime_ns:x}")


def _refuse(error: OSError) -> None:
    raise error
