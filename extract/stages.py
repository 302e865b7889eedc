"""How long each stage took, summed over threads."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

STAGES = ("fetch", "decode", "preprocess", "encode", "write")


class StageClock:
    """Sums the seconds spent in each stage; stages overlap, so their sum may exceed the wall time."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = Lock()
        self._start = perf_counter()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[stage] += perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Give seconds since the clock was made (wall), and by stage."""
        wall = perf_counter() - self._start
        return {"wall": round(wall, 3)} | {stage: round(self._seconds[stage], 3) for stage in STAGES}
