"""One row of the table: our figure, the peer's, their ratio, and whether the goal is met."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from peak_memory import Peak
from side_by_side import Rounds

Unit = Literal["s", "CPU s", "MB"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row has to reach: a ratio peer / ours of at least ``ratio``, or a figure of ours of at most ``ours``."""

    ratio: float | None = None
    ours: float | None = None

    def is_met(self, ours: float, ratio: float | None) -> bool:
        if self.ours is not None:
            return ours <= self.ours
        return ratio is not None and self.ratio is not None and ratio >= self.ratio

    def describe(self, unit: Unit) -> str:
        return f"<= {self.ours:g} {unit}" if self.ours is not None else f">= {self.ratio:.3g}x"


@dataclass(frozen=True, slots=True)
class Row:
    """A comparison that was made, or (``ours`` None) the reason in ``notes`` why it was not.

    ours, peer_value: medians, in ``unit``. cpu_ratio: the ratio of CPU seconds, which a busy machine disturbs less.
    """

    id: str
    work: str
    peer: str
    unit: Unit
    ours: float | None = None
    peer_value: float | None = None
    goal: Goal | None = None
    rounds: int = 0
    notes: str = ""
    cpu_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """Peer over ours: above 1, ours is faster or smaller."""
        if self.ours is None or self.peer_value is None:
            return None
        return self.peer_value / self.ours

    @property
    def met(self) -> bool | None:
        """None where there is no goal, or nothing was measured."""
        if self.goal is None or self.ours is None:
            return None
        return self.goal.is_met(self.ours, self.ratio)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types; figures carry their unit in the name: ours_s, peer_s, ours_cpu_s, ours_mb ..."""
        unit = self.unit.lower().replace(" ", "_")
        figures = {f"ours_{unit}": self.ours, f"peer_{unit}": self.peer_value}
        verdict = {"ratio": self.ratio, "cpu_ratio": self.cpu_ratio, "met": self.met}
        rounded = {name: _round(value) for name, value in (figures | verdict).items()}
        goal = {"goal": self.goal.describe(self.unit) if self.goal else None}
        words = {"id": self.id, "work": self.work, "peer": self.peer, "unit": self.unit}
        return words | rounded | goal | {"rounds": self.rounds, "notes": self.notes}


def time_row(timed: Rounds, *, notes: Sequence[str] = (), peer_scale: float = 1.0, **words: Any) -> Row:
    """Make a row of wall seconds; ``peer_scale`` extrapolates the peer, which ``notes`` then has to say."""
    return Row(
        unit="s",
        ours=timed.ours_s,
        peer_value=timed.peer_s * peer_scale,
        cpu_ratio=timed.cpu_ratio * peer_scale,
        rounds=timed.count,
        notes="; ".join(note for note in (timed.agreement, *notes) if note),
        **words,
    )


def memory_row(ours_peak: Peak, peer_peak: Peak, *, notes: Sequence[str] = (), **words: Any) -> Row:
    """Make a row of the peak memory above inputs and weights; the totals go to the notes."""
    totals = (
        f"above what was there before; whole process {ours_peak.highest_mb:.0f} against {peer_peak.highest_mb:.0f} MB"
    )
    said = "; ".join(note for note in (totals, *notes) if note)
    return Row(unit="MB", ours=ours_peak.above_mb, peer_value=peer_peak.above_mb, rounds=1, notes=said, **words)


def not_measured(reason: str, **words: Any) -> Row:
    """Make a row that says why there is no figure."""
    return Row(notes=f"not measured: {reason}", **words)


def _round(value: float | bool | None) -> float | bool | None:
    return value if value is None or isinstance(value, bool) else float(f"{value:.4g}")
