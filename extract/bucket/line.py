"""How many streams a slow line is shared by: fewer while most of them crawl, and as many bytes come all the same."""

from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH_BYTES_PER_S = 256 * 1024  # for one stream; slower than that, they stand in each other's way
WINDOW_S = 5.0
LONGEST_WINDOW_S = 4 * WINDOW_S  # after a longer one nobody was reading: it tells nothing of the line
SAME_RATE = 0.7  # of the bytes that came before: half the streams of a line that is full still fill it
HOLD_S = 300.0  # before it is tried again, where each stream was slow by itself
QUICK_S = 1.0  # an object that came so fast would not come faster alone
BEHIND = 8.0  # a stream that many times slower than the others is on a sick connection, not on a slow line


@dataclass(eq=False)
class Stream:
    """One stream: what came through it, what of that at the last look, and when it began (monotonic seconds)."""

    number: int
    received: int = 0
    seen: int = 0
    since: float = 0.0


class LineMeter:
    """Halves the streams while most of them are slow, and takes it back where fewer of them carried less.

    Called under the lock of its gate. limit: how many streams may run. share: bytes per second and stream of the last
    window. lowered: how often the line proved slow.
    """

    def __init__(self, streams: int, now: float) -> None:
        self.limit, self.share, self.rate, self.lowered = streams, 0.0, 0.0, 0
        self._streams = streams
        self._looked_at, self._hold_until = now, float("-inf")
        self._before: tuple[int, float] | None = None
        self._gone = 0

    @property
    def look_at(self) -> float:
        """When the next window is over."""
        return self._looked_at + WINDOW_S

    def leave(self, stream: Stream, now: float, *, whole: bool) -> None:
        """Count a stream that ends; one whose object came quickly leaves room for one more."""
        self._gone += stream.received - stream.seen
        seconds = now - stream.since
        if whole and (seconds < QUICK_S or stream.received / seconds >= 2 * ENOUGH_BYTES_PER_S):
            self.limit = min(self._streams, self.limit + 1)

    def look(self, streams: Sequence[Stream], now: float) -> None:
        """End a window: judge the line by what each stream got."""
        seconds = now - self._looked_at
        came = {id(one): one.received - one.seen for one in streams}
        if seconds <= LONGEST_WINDOW_S:
            enough = ENOUGH_BYTES_PER_S * seconds
            slow = sum(one.since <= self._looked_at and came[id(one)] < enough for one in streams)
            self.rate = (sum(came.values()) + self._gone) / seconds
            self.share = self.rate / max(1, len(streams))
            self._judge(now, most_are_slow=2 * slow > len(streams), running=len(streams))
        for one in streams:
            one.seen = one.received
        self._looked_at, self._gone = now, 0

    def _judge(self, now: float, *, most_are_slow: bool, running: int) -> None:
        if self._before is not None:
            limit, rate = self._before
            self._before = None
            if self.rate < SAME_RATE * rate:  # it was each stream that was slow, not the line that they share
                self.limit, self._hold_until = limit, now + HOLD_S
                return
            self.lowered += 1
        if most_are_slow and running > 1 and now >= self._hold_until:
            self._before = self.limit, self.rate
            self.limit = max(1, min(self.limit, running) // 2)
