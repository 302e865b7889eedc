"""How long each stage took, summed over threads."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

STAGES = ("fetch", "decode", "preprocess", "encode", "write")


class StageClock:
    """Sums the seconds spent in each stage; stages overlap, so their sum may exceed the wall time."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._running: defaultdict[str, int] = defaultdict(int)
        self._lock = Lock()
        self._start = perf_counter()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        self._count(stage, 1)
        try:
            yield
        finally:
            self._count(stage, -1)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by stage that were spent elsewhere."""
        with self._lock:
            for stage in STAGES:
                self._seconds[stage] += seconds.get(stage, 0.0)

    def seconds(self) -> dict[str, float]:
        """Give seconds since the clock was made (wall), and by stage; what is going on now counts as far as it got."""
        now = perf_counter()
        with self._lock:
            found = {stage: self._seconds[stage] + self._running[stage] * now for stage in STAGES}
        return {"wall": round(now - self._start, 3)} | {stage: round(sum_s, 3) for stage, sum_s in found.items()}

    def running(self) -> dict[str, int]:
        """Give how many are at work now, by stage."""
        with self._lock:
            return {stage: self._running[stage] for stage in STAGES}

    def _count(self, stage: str, step: int) -> None:
        """Note that one more, or one fewer, is at work: each takes its start away, and later adds its end."""
        now = perf_counter()
        with self._lock:
            self._running[stage] += step
            self._seconds[stage] -= step * now
