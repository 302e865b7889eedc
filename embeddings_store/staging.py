"""An object that is being written while its checksum is still worked out: seen by nobody until it is published."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray
from obstore.store import LocalStore

from embeddings_store.storage import BLOCK_BYTES, Storage

MODE = 0o666  # the umask takes from it, as for any new file


@dataclass(frozen=True, slots=True)
class StagedObject:
    """The beginning of an object. On a disk it lies aside already; elsewhere it is kept until it can be put whole.

    The name aside is obstore's (``name#7``), which every listing hides and `verify` deletes when it is old.
    """

    storage: Storage
    path: str
    start: UInt8[ndarray, " bytes"]
    aside: tuple[int, Path] | None

    def publish(self, end: bytes) -> None:
        """Add the end, and let everybody see the whole. Raises StoreError when the place refuses."""
        if self.aside is None:
            self.storage.put(self.path, self.start.data, end)
            return
        descriptor, file = self.aside
        with self.storage.as_store_error("write"):
            os.write(descriptor, end)
            os.close(descriptor)
            file.rename(Path(self.storage.url) / self.path)

    def discard(self) -> None:
        """Leave nothing behind; harmless after publish."""
        if self.aside is None or not self.aside[1].exists():
            return
        with suppress(OSError):  # closed already, where only the renaming failed
            os.close(self.aside[0])
        self.aside[1].unlink()


@contextmanager
def staging() -> Iterator[list[StagedObject]]:
    """Collect what is staged; whatever goes wrong before all of it is published leaves nothing aside."""
    staged: list[StagedObject] = []
    try:
        yield staged
    except BaseException:
        for one in staged:
            one.discard()
        raise


def stage(storage: Storage, path: str, start: UInt8[ndarray, " bytes"]) -> StagedObject:
    """Begin to write an object. Raises StoreError when the place refuses."""
    if not isinstance(storage.objects, LocalStore):
        return StagedObject(storage, path, start, None)
    file = Path(storage.url) / f"{path}#{random.getrandbits(62)}"
    with storage.as_store_error("write"):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        staged = StagedObject(storage, path, start, (descriptor, file))
        try:
            _write_all(descriptor, start)
        except BaseException:
            staged.discard()
            raise
    return staged


def _write_all(descriptor: int, data: UInt8[ndarray, " bytes"]) -> None:
    """Write it block by block: for one large write Linux looks for large pieces of memory, at five times the cost."""
    written = 0
    while written < data.size:
        written += os.write(descriptor, data[written : written + BLOCK_BYTES].data)
