"""The seam to the outside: where objects are listed and fetched, whatever holds them."""

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol, TypeAlias, runtime_checkable

from embeddings_store.schema import ObjectInfo, VolumeRef

Wanted: TypeAlias = ObjectInfo | VolumeRef
"""What fetch needs to know: key, and size and etag where they are known."""


@dataclass(frozen=True)
class Fetched:
    """One object, whole. md5: 16 bytes, of the data. size, etag: as they are now, never unknown but for etag ""."""

    data: bytes
    size: int
    etag: str
    md5: bytes


@dataclass(frozen=True)
class FetchedRange:
    """Some bytes of one object, the first of them at ``start``. size, etag: of the whole object, as it is now."""

    start: int
    data: bytes
    size: int
    etag: str


@dataclass(frozen=True)
class PartlyFetched:
    """One object of which only some bytes came. pieces: where each starts, and its bytes. size, etag: as in Fetched.

    frames: the numbers of those that came. md5: zeros, since what did not come cannot be summed.
    """

    pieces: tuple[tuple[int, bytes], ...]
    size: int
    etag: str
    frames: tuple[int, ...]
    md5: bytes = bytes(16)

    @property
    def data(self) -> mmap.mmap:
        """Lay each piece where it belongs among as many bytes as the object has; the rest is 0 and takes no memory."""
        image = mmap.mmap(-1, self.size)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page around every piece would be the whole object in memory
            image.madvise(mmap.MADV_NOHUGEPAGE)
        for start, piece in self.pieces:
            image[start : start + len(piece)] = piece
        return image


class RangeRefused(Exception):  # noqa: N818 - an answer, no fault
    """The server gives this object whole or not at all."""


@dataclass
class TransferCounts:
    """What the source was asked for so far; retries and resumed bodies count as get_requests, too. Thread-safe.

    partial_volumes: objects of which only the header and some frames came. saved_bytes, extra_requests: by
    how much less, and more, came than if all had been read whole. slow_lines: how often fewer objects were fetched
    at once because the line was slow. passed_over: what the last listing saw but could not give, by reason.
    """

    list_requests: int = 0
    get_requests: int = 0
    retries: int = 0
    bytes: int = 0
    partial_volumes: int = 0
    saved_bytes: int = 0
    extra_requests: int = 0
    slow_lines: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(
        self,
        *,
        list_requests: int = 0,
        get_requests: int = 0,
        retries: int = 0,
        received_bytes: int = 0,
        slow_lines: int = 0,
    ) -> None:
        """Add to the counts."""
        with self._lock:
            self.list_requests += list_requests
            self.get_requests += get_requests
            self.retries += retries
            self.bytes += received_bytes
            self.slow_lines += slow_lines

    def add_partial(self, *, volumes: int, saved_bytes: int, extra_requests: int) -> None:
        """Count an object that was read in parts; or, of one that had to be read whole after all, what that cost."""
        with self._lock:
            self.partial_volumes += volumes
            self.saved_bytes += saved_bytes
            self.extra_requests += extra_requests


@runtime_checkable
class Source(Protocol):
    """Where objects come from. name is safe to print; all methods may be called from several threads.

    Every method raises BucketError when the bucket as a whole cannot be used.
    """

    name: str
    counts: TransferCounts

    def list_objects(self, folder: str = "") -> Iterator[ObjectInfo]:
        """List every object below the prefix, junk too; or below a folder there, whose name ends with "/"."""

    def fetch(self, wanted: Wanted) -> Fetched:
        """Give one object whole, checked against the size and etag that are known of it.

        Raises: FetchError when it is gone, has changed, or breaks off again and again.
        """

    def read_optional(self, key: str) -> bytes | None:
        """Give a small object, or None when there is none. Raises: FetchError when it cannot be read."""


@runtime_checkable
class RangeSource(Source, Protocol):
    """A source that also gives parts of objects. far: behind a network, so that fewer bytes may pay."""

    far: bool

    def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
        """Give the bytes from start to stop (or the object's end) of an object with the size and etag that are known.

        Raises: FetchError as fetch does; RangeRefused.
        """
