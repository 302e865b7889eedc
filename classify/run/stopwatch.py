"""How long each stage took."""

from time import perf_counter


class Stopwatch:
    """Counts the seconds from one lap to the next."""

    def __init__(self) -> None:
        self._started = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = perf_counter()
        self._laps[stage] = now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Give seconds by stage, and "wall" from the start until now."""
        laps = {stage: round(seconds, 4) for stage, seconds in self._laps.items()}
        return laps | {"wall": round(perf_counter() - self._started, 4)}
