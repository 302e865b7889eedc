"""Where the bytes lie: one way to local folders, S3 prefixes and memory (obstore behind it).

Only whole objects are put, listed and deleted: no append, no lock and no conditional PUT, which Backblaze B2 refuses.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import obstore
from jaxtyping import UInt8
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from embeddings_store.addresses import require_plain_word
from embeddings_store.errors import StoreError, UnreadableError
from embeddings_store.places import expand_home, is_folder
from embeddings_store.regular_file import require_regular
from embeddings_store.s3_access import (
    NOT_TRUSTED,
    PROXY_REFUSES,
    UNREACHABLE,
    find_s3,
    open_credentials,
    read_ca,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config
    from zarr.storage import ObjectStore

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
AHEAD = 8
LIST_PAGE = 10_000
S3_PAGE = 1_000  # the most that a server gives at once
BLOCK_BYTES = 1 << 20
TAIL_BYTES = 64
# obstore's default is 30 s a request: too little for a 14 MB token grid over a slow line.
CLIENT_OPTIONS: "ClientConfig" = {"timeout": "300s", "connect_timeout": "10s", "allow_http": True}

NO_CONNECTION = {
    r"InvalidCertificate": NOT_TRUSTED,
    r"TunnelUnsuccessful|ProxyAuthRequired|TunnelUnexpectedEof": PROXY_REFUSES,
    r"kind: Connect\b": UNREACHABLE,
}
"""What obstore says only in its debug output, by a sign of it there."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A place for objects with paths. ``url`` names it for people; ``objects`` is any obstore store."""

    url: str
    objects: Any

    @property
    def threads(self) -> int:
        """How many reads at once pay: few for a disk, where the interpreter is the limit, many for a far server."""
        return 4 if isinstance(self.objects, LocalStore) else THREADS

    def put(self, path: str, *parts: Any) -> None:
        """Write one object whole, from one or more buffers. Raises UnreadableError when the place refuses."""
        body = parts[0] if len(parts) == 1 else iter(parts)
        with self.as_store_error("write"):
            obstore.put(self.objects, path, body, use_multipart=False)

    def get(self, path: str) -> memoryview | None:
        """Read one object whole (no copy, read-only); None when it is not there."""
        with self.as_store_error("read"):
            try:
                self._require_plain(path)
                return memoryview(obstore.get(self.objects, path).bytes())
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _require_plain(self, path: str) -> None:
        """Refuse what would never end, in a local folder. Raises: OSError."""
        if isinstance(self.objects, LocalStore):
            require_regular(Path(self.url) / path)

    def read_into(self, path: str, target: UInt8[np.ndarray, " bytes"]) -> Iterator[UInt8[np.ndarray, " block"]]:
        """Fill a buffer with the beginning of an object, and give each part while it is in the processor's cache.

        What the object holds beyond the buffer comes last, of a local file only as far as TAIL_BYTES.
        Nothing comes when the object is not there.
        """
        if isinstance(self.objects, LocalStore):
            yield from self._read_file_into(Path(self.url) / path, target)
        elif (body := self.get(path)) is not None:
            data = np.frombuffer(body, dtype=np.uint8)
            target[: data.size] = data[: target.size]
            yield data

    def _read_file_into(self, file: Path, target: UInt8[np.ndarray, " bytes"]) -> Iterator[UInt8[np.ndarray, " block"]]:
        # Twice as fast as obstore's whole-object get for a token grid, which faults in new pages for every row.
        with self.as_store_error("read"):
            try:
                require_regular(file)
                stream = file.open("rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError):
                return
            with stream:
                place = 0
                while got := stream.readinto(target[place : place + BLOCK_BYTES].data):
                    yield target[place : place + got]
                    place += got
                yield np.frombuffer(stream.read(TAIL_BYTES), dtype=np.uint8)

    def list_paths(self, folder: str) -> list[str]:
        """List every path below a folder ("" for all), in no order."""
        return list(self.list_sizes(folder))

    def list_sizes(self, folder: str) -> dict[str, int]:
        """List every path below a folder ("" for all) with its size in bytes, in no order."""
        return {entry["path"]: entry["size"] for entry in self._list(folder)}

    def list_times(self, folder: str) -> dict[str, datetime]:
        """List every path below a folder with the time when it was written, by the clock of the store."""
        return {entry["path"]: entry["last_modified"] for entry in self._list(folder)}

    def _list(self, folder: str) -> Iterator[Any]:
        """Yield what lies below a folder. Raises: StoreError, also for a server that lists the same again and again."""
        is_local, seen = isinstance(self.objects, LocalStore), set[str]()
        with self.as_store_error("list"):
            for page in obstore.list(self.objects, folder or None, chunk_size=LIST_PAGE if is_local else S3_PAGE):
                paths = () if is_local else [entry["path"] for entry in page]
                if again := next((path for path in paths if path in seen), None):
                    raise StoreError(
                        f"{self.url}: the listing goes round in circles: the server gave {again} twice. "
                        "Is this an S3 server, and is it up to date?"
                    )
                seen.update(paths)
                yield from page

    def first_paths(self, count: int) -> list[str]:
        """List a few paths only: cheap where a folder is large and foreign."""
        with self.as_store_error("list"):
            page = next(iter(obstore.list(self.objects, chunk_size=count)), [])
            return [entry["path"] for entry in page][:count]

    def list_names(self, folder: str) -> list[str]:
        """List the names directly below a folder, of files and of folders."""
        folders, files = self._look_into(folder)
        return [*folders, *files]

    def list_folders(self, folder: str) -> list[str]:
        """List the names of the folders directly below a folder."""
        return self._look_into(folder)[0]

    def _look_into(self, folder: str) -> tuple[list[str], list[str]]:
        with self.as_store_error("list"):
            found = obstore.list_with_delimiter(self.objects, folder)
        paths = found["common_prefixes"], [entry["path"] for entry in found["objects"]]
        folders, files = ([path.rstrip("/").rpartition("/")[2] for path in some] for some in paths)
        return folders, files

    def delete(self, path: str) -> None:
        """Delete one object; one that is not there is no error."""
        with self.as_store_error("delete"):
            try:
                obstore.delete(self.objects, path)
            except (FileNotFoundError, NotADirectoryError):
                return

    def zarr_store(self) -> "ObjectStore[Any]":
        """Return the same place as a Zarr store.

        Only open arrays with it: creating one writes parents with a conditional PUT (zarr 3.1, set_if_not_exists).
        """
        from zarr.storage import ObjectStore

        return ObjectStore(self.objects)

    @contextmanager
    def as_store_error(self, verb: str) -> Iterator[None]:
        """Raise what fails as a StoreError that says what and where, in one line."""
        try:
            yield
        except (BaseError, OSError) as error:
            raise UnreadableError(f"cannot {verb} in the store {self.url}: {_first_line(error)}") from error


def open_storage(url: str, *, endpoint_url: str | None = None, create: bool) -> Storage:
    """Open a local folder or s3://bucket/prefix; ``create`` makes a missing folder.

    Endpoint, region, credentials and CA of S3 are found as for the bucket (see s3_access).
    Raises StoreError when the place is missing or cannot be made, and for an address with a password.
    """
    if not is_folder(url):
        require_plain_word(url, "store", StoreError)
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme not in ("file", "s3"):
        raise StoreError(f"store {url}: expected a local folder or s3://bucket/prefix, got the scheme {scheme!r}")
    return _open_s3(url, endpoint_url) if scheme == "s3" else _open_folder(url.removeprefix("file://"), create=create)


def concurrently(function: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> Iterator[R]:
    """Apply a function in threads, results in order; obstore waits without the interpreter lock.

    A few items ahead at a time, so that a quarter of a million take no more memory than a hundred.
    """
    waiting = deque[Future[R]]()
    with droppable_pool(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def droppable_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads to a generator. At its end they are waited for, but not where it is dropped before.

    Then the garbage collector may be what closes it, in any thread and under any lock, that of a thread's start too.
    """
    pool, dropped = ThreadPoolExecutor(threads, thread_name_prefix="read"), False
    try:
        yield pool
    except GeneratorExit:
        dropped = True
        raise
    finally:
        pool.shutdown(wait=not dropped, cancel_futures=True)


def _open_folder(name: str, *, create: bool) -> Storage:
    # Named as the user typed it: messages and pages then carry no more of this machine than the user did.
    folder = expand_home(name)
    if not create and not is_folder(folder):
        raise StoreError(f"there is no store at {folder}: the folder does not exist")
    try:
        return Storage(str(folder), LocalStore(folder.absolute(), mkdir=create))
    except (BaseError, OSError) as error:
        raise StoreError(
            f"cannot make the store {folder}: {_first_line(error)}; choose a folder you can write to"
        ) from error


def _open_s3(url: str, endpoint_url: str | None) -> Storage:
    parts = urlsplit(url)
    if not parts.netloc:
        raise StoreError(f"store {url}: expected s3://bucket/prefix, got no bucket")
    access, prefix = find_s3(endpoint_url), parts.path.strip("/") or None
    config: S3Config = {"region": access.region, "endpoint": access.address, "virtual_hosted_style_request": False}
    options, keys = CLIENT_OPTIONS | read_ca(access), open_credentials(access)
    try:
        objects = S3Store(parts.netloc, prefix=prefix, config=config, client_options=options, credential_provider=keys)
    except BaseError as error:
        raise StoreError(f"store {url}: {_first_line(error)}") from error
    return Storage(url.rstrip("/"), objects)


def _first_line(error: BaseException) -> str:
    """Shorten obstore's message: its other lines are debug output, and of a server's XML the rest may name the key."""
    text = str(error).strip()
    if known := next((words for sign, words in NO_CONNECTION.items() if re.search(sign, text)), None):
        return known
    code, message = (re.search(f"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message"))
    plain = text.partition("<")[0] if code else text
    said = f"{message[1]} " if message and code else ""
    return "".join(plain.splitlines()[:1])[:300] + (f"{said}({code[1]})" if code else "") or type(error).__name__
