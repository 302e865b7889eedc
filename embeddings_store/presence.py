"""Who is at work on a store: each run leaves a sign of life, and notices others that take themselves for the same one.

No lock: a row that is done twice is the same row. But two processes that are both the only one do everything twice.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Thread

from embeddings_store.errors import StoreError, UsageError
from embeddings_store.ranks import Rank
from embeddings_store.storage import Storage
from embeddings_store.terminal.console import say

FOLDER = "running"
BEAT_S = 20.0
FORGOTTEN_S = 24 * 3600.0
"""A sign that did not change for so long is of a process that was killed, and is deleted."""


@dataclass
class Presence:
    """One process at work. twins: how many others were seen at work on rows of this one.

    Whether another lives is told by the time of its sign, which the store's own clock gives: the sign is newer than
    this one's first, or has changed since it was first seen. What a killed process left does neither.
    """

    storage: Storage
    worker_id: int
    rank: Rank
    tell: Callable[[str], None] = say
    twins: int = 0
    _first_seen: dict[str, datetime] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)

    def beat(self) -> None:
        """Leave a sign, and look for those of others. Raises StoreError."""
        own = f"{FOLDER}/{self.worker_id}.json"
        self.storage.put(own, json.dumps({"rank": self.rank.number, "ranks": self.rank.count}).encode())
        times = self.storage.list_times(FOLDER)
        if own not in times:  # a store that lists late
            return
        began = self._first_seen.setdefault(own, times[own])
        for path, time in times.items():
            if path == own or path in self._met:
                continue
            if (times[own] - time).total_seconds() > FORGOTTEN_S:
                self.storage.delete(path)
            elif time > began or time > self._first_seen.setdefault(path, time):
                self._met.add(path)
                self._meet(path)

    def leave(self) -> None:
        """Take the sign away."""
        self.storage.delete(f"{FOLDER}/{self.worker_id}.json")

    def _meet(self, path: str) -> None:
        """Tell of another that does rows of this one; a sign that cannot be read is of a newer version."""
        with suppress(ValueError, KeyError, TypeError, UsageError):
            found = json.loads(bytes(self.storage.get(path) or b""))
            other, own = Rank(int(found["rank"]), int(found["ranks"])), self.rank
            if (other.number - own.number) % math.gcd(other.count, own.count):
                return
            self.twins += 1
            self.tell(
                f"another process is at work on {self.storage.url}, as rank {other.number} of {other.count}; this one "
                f"is rank {own.number} of {own.count}: what both select is done twice. Where they were meant to "
                "share the volumes, stop them, and say --rank and --ranks"
            )


@contextmanager
def at_work(storage: Storage, worker_id: int, rank: Rank, tell: Callable[[str], None] = say) -> Iterator[Presence]:
    """Leave signs of life for as long as the block lasts; a store that cannot be asked is no reason to stop."""
    presence, over = Presence(storage, worker_id, rank, tell), Event()

    def go_on() -> None:
        while True:
            with suppress(StoreError):
                presence.beat()
            if over.wait(BEAT_S):
                return

    beating = Thread(target=go_on, daemon=True)
    beating.start()
    try:
        yield presence
    finally:
        over.set()
        beating.join()
        with suppress(StoreError):
            presence.beat()
            presence.leave()
