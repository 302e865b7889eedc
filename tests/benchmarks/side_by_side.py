"""Time two ways of doing the same work in turn (ours, peer, ours, peer ...), so that both see the same machine."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any


@dataclass(frozen=True, slots=True)
class Rounds:
    """Wall and CPU seconds of every round, in order. CPU seconds are of the whole process, all threads.

    agreement: in words, how well the two results agreed.
    """

    ours_wall_s: tuple[float, ...]
    peer_wall_s: tuple[float, ...]
    ours_cpu_s: tuple[float, ...]
    peer_cpu_s: tuple[float, ...]
    agreement: str

    @property
    def ours_s(self) -> float:
        """Median wall seconds of ours."""
        return median(self.ours_wall_s)

    @property
    def peer_s(self) -> float:
        """Median wall seconds of the peer."""
        return median(self.peer_wall_s)

    @property
    def cpu_ratio(self) -> float:
        """Median CPU seconds of the peer over ours."""
        return median(self.peer_cpu_s) / max(median(self.ours_cpu_s), 1e-9)

    @property
    def count(self) -> int:
        """Rounds of each side."""
        return len(self.ours_wall_s)


def in_turn(
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    rounds: int,
    agree: Callable[[Any, Any], str],
    warm_up: bool = True,
    before: tuple[Callable[[], None], Callable[[], None]] | None = None,
) -> Rounds:
    """Call both in turn; ``agree`` raises where their first results differ, and says how well they agree.

    warm_up: the first calls are not counted (caches, imports, first allocations).
    before: what is done before each of our calls, and each of the peer's, and not timed (fresh folders, cold caches).
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    spent: list[tuple[float, float, float, float]] = []
    agreement = ""
    for number in range(rounds + warm_up):
        ours_wall, ours_cpu, mine = _timed(ours, before and before[0])
        peer_wall, peer_cpu, theirs = _timed(peer, before and before[1])
        if number == 0:
            agreement = agree(mine, theirs)
        if number >= warm_up:
            spent.append((ours_wall, peer_wall, ours_cpu, peer_cpu))
        del mine, theirs  # the next round starts with the memory that the first one had
    return Rounds(*(tuple(column) for column in zip(*spent, strict=True)), agreement=agreement)


def _timed(call: Callable[[], Any], before: Callable[[], None] | None) -> tuple[float, float, Any]:
    if before is not None:
        before()
    wall, cpu = perf_counter(), process_time()
    result = call()
    return perf_counter() - wall, process_time() - cpu, result
