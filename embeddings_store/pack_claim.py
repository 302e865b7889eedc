"""One process packs a store at a time: a claim that is put again and again, and forgotten once it is not.

Who finds another's claim withdraws and waits. Nothing but PUT, LIST and DELETE, as for the index.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from threading import Event, Thread

from embeddings_store.errors import StoreError
from embeddings_store.storage import Storage
from embeddings_store.terminal.console import say

FOLDER = "packs"
PREFIX = f"{FOLDER}/packing."
BEAT_S = 5.0
DEAD_S = 30.0
"""A claim that did not change for so long is a killed process's."""
PAUSE_S = 0.2


def is_claim(path: str) -> bool:
    """Return whether a path is a claim."""
    return path.startswith(PREFIX)


def await_packers(storage: Storage, tell: Callable[[str], None] = say) -> None:
    """Return when nobody packs the store; claims of killed processes are deleted."""
    seen: dict[str, tuple[datetime, float]] = {}
    while claims := {path: time for path, time in storage.list_times(FOLDER).items() if is_claim(path)}:
        if not seen:
            tell(f"another process packs {storage.url}, or was killed less than {DEAD_S:.0f} s ago: waiting for it")
        for path, changed in claims.items():
            before, since = seen.get(path, (None, 0.0))
            if before != changed:
                seen[path] = (changed, time.monotonic())
            elif time.monotonic() - since > DEAD_S:
                storage.delete(path)
        time.sleep(PAUSE_S)


@contextmanager
def sole_packer(storage: Storage) -> Iterator[Callable[[], None]]:
    """Hold the right to pack; what is given raises StoreError once it is lost, to one who took this for killed."""
    own = f"{PREFIX}{uuid.uuid4().hex}"
    over = Event()

    def is_held() -> bool:
        return own in storage.list_paths(FOLDER)

    def beat() -> None:
        while not over.wait(BEAT_S):
            with suppress(StoreError):
                if is_held():
                    storage.put(own, b"")

    def require_held() -> None:
        if not is_held():
            raise StoreError(f"{storage.url}: another process packs it now, as this one was still for {DEAD_S:.0f} s")

    beating = Thread(target=beat, daemon=True)
    try:
        _claim(storage, own)
        beating.start()
        yield require_held
    finally:
        over.set()
        if beating.ident is not None:
            beating.join()
        with suppress(StoreError):
            storage.delete(own)


def _claim(storage: Storage, own: str) -> None:
    while True:
        await_packers(storage)
        storage.put(own, b"")
        if [path for path in storage.list_paths(FOLDER) if is_claim(path)] == [own]:
            return
        storage.delete(own)
        time.sleep(random.uniform(0.01, 0.2))  # noqa: S311 - so that two processes do not meet again in step
