"""How many objects may be fetched at once: fewer when the server says SlowDown or the line is slow, else slowly more.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it: one more stream after as many
successes as there are streams, half of them after a refusal. LineMeter does the same by the bytes that come.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition
from time import monotonic, sleep

from extract.bucket.line import BEHIND, LineMeter, Stream

LONGEST_PAUSE_S = 60.0
ONE_REFUSAL_S = 1.0  # refusals of streams that were in flight together say the same thing once


class Place(Stream):
    """One stream's place in a gate. must_wait: older streams need the line for themselves."""

    def __init__(self, gate: "StreamGate", number: int) -> None:
        super().__init__(number)
        self.must_wait = False
        self._gate = gate

    def note(self, size_bytes: int) -> None:
        """Count bytes that came."""
        self.received += size_bytes
        self._gate.look()

    def is_behind(self, bytes_per_s: float) -> bool:
        """Tell whether the other streams are so much faster that another connection would be, too."""
        return self._gate.share > BEHIND * bytes_per_s

    def step_aside(self) -> None:
        """Let older streams have the line; return when it is this one's turn again."""
        self._gate.leave(self)
        self._gate.enter(self)


class StreamGate:
    """Lets at most ``limit`` streams through, and nobody before the server's Retry-After is over. Thread-safe.

    tell: called with a sentence when the line first proves slow, and lowered(): each time that it does.
    """

    def __init__(
        self, streams: int, *, tell: Callable[[str], None] | None = None, lowered: Callable[[], None] | None = None
    ) -> None:
        self._streams = streams
        self._limit = float(streams)
        self._closed_until = self._halved_at = float("-inf")
        self._line = LineMeter(streams, monotonic())
        self._running, self._waiting = list[Place](), list[Place]()
        self._numbers = count()
        self._changed = Condition()
        self._tell, self._lowered = tell, lowered

    @property
    def limit(self) -> int:
        """How many streams may run now."""
        return min(int(self._limit), self._line.limit)

    @property
    def share(self) -> float:
        """Bytes per second that a stream got of late, on average."""
        return self._line.share

    @contextmanager
    def stream(self) -> Iterator[Place]:
        """Wait for a place, and hold it."""
        place = Place(self, next(self._numbers))
        self.enter(place)
        whole = False
        try:
            self.wait()
            yield place
            whole = True
        finally:
            self.leave(place, whole=whole)

    def enter(self, place: Place) -> None:
        """Wait for a place: the oldest stream first."""
        with self._changed:
            self._waiting.append(place)
            self._changed.wait_for(lambda: len(self._running) < self.limit and place is min(self._waiting, key=_age))
            self._waiting.remove(place)
            self._running.append(place)
            place.received = place.seen = 0
            place.since, place.must_wait = monotonic(), False
            self._changed.notify_all()

    def leave(self, place: Place, *, whole: bool = False) -> None:
        """Give a place back; whole: its object came."""
        with self._changed:
            self._running.remove(place)
            self._line.leave(place, monotonic(), whole=whole)
            self._changed.notify_all()

    def look(self) -> None:
        """Judge the line when it is time to; the youngest streams are asked to wait where it is slow."""
        if monotonic() < self._line.look_at:
            return
        with self._changed:
            now, before = monotonic(), self._line.lowered
            if now < self._line.look_at:
                return
            self._line.look(self._running, now)
            for place in sorted(self._running, key=_age)[self._line.limit :]:
                place.must_wait = True
            lowered, limit, rate = self._line.lowered, self.limit, self._line.rate
            self._changed.notify_all()
        if lowered > before and self._lowered is not None:
            self._lowered()
        if lowered > before == 0 and self._tell is not None:
            self._tell(
                f"the line is slow ({rate / 1e6:,.2f} MB/s): fewer objects are fetched at once, {limit} instead of "
                f"{self._streams}; nothing is broken, and what came is kept"
            )

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


def _age(place: Place) -> int:
    return place.number
