"""How long each stage took."""

from time import perf_counter


class Stopwatch:
    """Counts the seconds from one lap to the next."""

    def __init__(self) -> None:
        self._started = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str, *, only_if: bool = True) -> None:
        """End a stage; one that was there before goes on. only_if: whether there was such a stage at all."""
        if not only_if:
            return
        now = perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Give seconds by stage, and "wall" from the start until now."""
        laps = {stage: round(seconds, 4) for stage, seconds in self._laps.items()}
        return laps | {"wall": round(perf_counter() - self._started, 4)}

    def said(self) -> str:
        """Say in one line where the time went, the longest stage first."""
        *laps, (_, wall) = self.seconds().items()
        laps.sort(key=lambda lap: -lap[1])
        return f"{wall:.1f} s: {', '.join(f'{stage} {seconds:.1f}' for stage, seconds in laps)}"
