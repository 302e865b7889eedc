"""Whole or in parts: both are tried while fetching limits the run, and the faster one is kept."""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

How: TypeAlias = Literal["whole", "partial"]
OTHER: dict[How, How] = {"whole": "partial", "partial": "whole"}

ENOUGH = 6  # volumes of each kind before they are compared
MARGIN = 1.1  # how much faster the other way has to be before it is taken
LOOK_BACK = 2 * ENOUGH  # volumes
LIMITED_SHARE = 0.2  # of those volumes that found room in every later stage, to say that fetching limits the run
SHORTEST_S = 1e-6
REVIEW_AFTER = 256  # volumes between two comparisons: servers and networks change in hours, not in seconds


@dataclass(frozen=True, slots=True)
class Attempt:
    """One volume on its way. alone: no volume was being read the other way when this one began."""

    how: How
    alone: bool


class ReadChoice:
    """Says how the next volume is read, from how long the last ones took; it reads no clock itself.

    Seconds a byte of the whole object are compared, whatever part of it came. As many volumes are in flight one way as
    the other, so (Little, 1961) the ratio of those seconds is the ratio of volumes a second.
    """

    def __init__(self) -> None:
        self._how: How = "whole"
        self._compared = False
        self._settled: How = "whole"
        self._since = 0
        self._in_flight = dict.fromkeys(OTHER, 0)
        self._pace: dict[How, deque[float]] = {how: deque(maxlen=LOOK_BACK) for how in OTHER}
        self._limited = deque[bool](maxlen=LOOK_BACK)

    def begin(self) -> Attempt:
        """Choose for one volume that is about to be read."""
        attempt = Attempt(self._how, alone=not self._in_flight[OTHER[self._how]])
        self._in_flight[attempt.how] += 1
        return attempt

    def end(self, attempt: Attempt, *, how: How, seconds: float, size_bytes: int, limited: bool) -> str | None:
        """Note one volume that came; say so where that settles the matter, or settles it anew.

        how: as it really was read, which may be whole after a try in parts. limited: every later stage
        had room for another volume when this one came.
        """
        self.drop(attempt)
        self._since += 1
        self._limited.append(limited)
        if attempt.alone and how == attempt.how == self._how and size_bytes:
            self._pace[how].append(max(seconds, SHORTEST_S) / size_bytes)
        if len(self._pace[self._how]) < ENOUGH:
            return None
        if self._how != self._settled:
            return self._compare()
        self._look_about()
        return None

    def drop(self, attempt: Attempt) -> None:
        """Note one volume that is no longer on its way."""
        self._in_flight[attempt.how] -= 1

    def _look_about(self) -> None:
        """Try the other way: in parts as soon as fetching limits the run; again, either way, after many volumes."""
        due = self._since >= REVIEW_AFTER if self._compared else True
        limited = len(self._limited) == LOOK_BACK and sum(self._limited) >= LIMITED_SHARE * LOOK_BACK
        if due and (limited or self._settled == "partial"):
            self._how = OTHER[self._settled]
            self._pace[self._how].clear()

    def _compare(self) -> str | None:
        """Keep what is faster, but change only for what is clearly so."""
        tried, before = self._how, self._settled
        gain = median(self._pace[before]) / median(self._pace[tried])
        self._settled = self._how = tried if gain >= MARGIN else before
        changed = self._settled != before or not self._compared
        self._compared, self._since = True, 0
        return _describe(self._settled, gain if tried == "partial" else 1 / gain) if changed else None


def _describe(settled: How, gain: float) -> str:
    words = {"partial": "on: fetching limits the run, and", "whole": "off: fetching limits the run, but"}
    return f"partial reads: {words[settled]} a volume takes {1 / gain:.2f} times as long in parts as whole"
