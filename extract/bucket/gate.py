"""How many objects may be fetched at once: fewer when the server says SlowDown, slowly more again when it does not.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it: one more stream after as many
successes as there are streams, half of them after a refusal.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic, sleep

LONGEST_PAUSE_S = 60.0
ONE_REFUSAL_S = 1.0  # refusals of streams that were in flight together say the same thing once


class StreamGate:
    """Lets at most ``limit`` streams through, and nobody before the server's Retry-After is over. Thread-safe."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self._limit = float(streams)
        self._in_flight = 0
        self._closed_until = self._halved_at = float("-inf")
        self._changed = Condition()

    @property
    def limit(self) -> int:
        """How many streams may run now."""
        return int(self._limit)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Wait for a place, and hold it."""
        with self._changed:
            while self._in_flight >= int(self._limit):
                self._changed.wait()
            self._in_flight += 1
        try:
            self.wait()
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until the server's Retry-After is over."""
        while (left_s := self._closed_until - monotonic()) > 0:
            sleep(left_s)

    def succeed(self) -> None:
        """Note an object that came; streams grow by one after as many of them as there are streams."""
        with self._changed:
            self._limit = min(float(self._streams), self._limit + 1 / self._limit)
            self._changed.notify_all()

    def slow_down(self, retry_after_s: float) -> None:
        """Halve the streams, and let nobody ask again before ``retry_after_s`` is over (at most LONGEST_PAUSE_S)."""
        now = monotonic()
        with self._changed:
            if now - self._halved_at >= ONE_REFUSAL_S:
                self._limit = max(1.0, self._limit / 2)
                self._halved_at = now
            self._closed_until = max(self._closed_until, now + min(retry_after_s, LONGEST_PAUSE_S))
