"""A bucket that is a local folder."""

import os
from collections import Counter
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

from embeddings_store.schema import ObjectInfo, volume_id
from extract.bucket.etags import folder_etag
from extract.bucket.source import Fetched, FetchedRange, TransferCounts, Wanted
from extract.errors import BucketError, FetchError
from extract.layouts.contract import Skip


class FolderSource:
    """Files below a folder, under keys with "/"; the etag is made of size and time of change.

    Links are followed within the folder; what else is no file of its own is passed over and counted by reason.
    Raises: BucketError when there is no such folder.
    """

    far = False
    layout: object = None

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise BucketError(f"bucket {str(root)!r}: expected an existing folder; is the prefix right?")
        self._root = root.resolve()
        self.name = str(root)
        self.counts = TransferCounts()

    def list_objects(self, folder: str = "") -> Iterator[ObjectInfo]:
        """List every file, in the order of names within each folder; counts.passed_over says what was not followed."""
        self.counts.add(list_requests=1)
        passed_over = Counter[str]() if folder else self.counts.passed_over
        passed_over.clear()
        start = self._root / folder
        try:
            yield from self._list(start, (self._root, start.resolve()), passed_over)
        except OSError as error:
            raise BucketError(f"bucket {self.name!r}: cannot be listed: {error.strerror}") from error

    def _list(self, folder: Path, above: tuple[Path, ...], passed_over: Counter[str]) -> Iterator[ObjectInfo]:
        """List below one folder; above: the real folders on the way, which a link must not lead back to."""
        with os.scandir(folder) as seen:
            entries = sorted(seen, key=lambda entry: entry.name)
        for entry in entries:
            path = folder / entry.name
            reason = self._refused_link(path, above) if entry.is_symlink() else None
            if reason is None and entry.is_dir():
                yield from self._list(path, (*above, path.resolve()), passed_over)
            elif reason is None and entry.is_file():
                yield self._describe(path)
            else:
                passed_over[reason or Skip.SPECIAL] += 1

    def _refused_link(self, path: Path, above: tuple[Path, ...]) -> Skip | None:
        real = Path(os.path.realpath(path))  # unlike resolve, also of links that lead to themselves
        if real in above or real.is_symlink():
            return Skip.CIRCLE
        if not real.is_relative_to(self._root):
            return Skip.OUTSIDE
        return None if real.exists() else Skip.DANGLING

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
            raise FetchError(f"{name}: the object is {'a link out of the bucket' if path.is_symlink() else 'gone'}")
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
        return ObjectInfo(key, stat.st_size, folder_etag(stat.st_size, stat.st_mtime_ns))
