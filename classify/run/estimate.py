"""A measured number, with its 95 % interval or the reason why there is none; and its one way to and from JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter
from typing_extensions import TypedDict

TOO_FEW = "too few to say"
"""What is shown in the place of an interval that cannot carry anything; run.json holds its numbers and why."""


class Ends(TypedDict):
    """Both ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, or ``absent``: why there is no number. The fields stand so in JSON, empty ones not.

    dropped: replicates in which it was undefined. too_few: why the interval must not be shown. simultaneous: low and
    high that hold for all lines of a table at once. p: two-sided; holm: adjusted for as many as ``of`` says. more: what
    else JSON holds beside it, such as the spread over repeats.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    dropped: int | None = None
    too_few: str = ""
    absent: str = ""
    simultaneous: Ends | None = field(default=None, hash=False)
    p: float | None = None
    holm: float | None = None
    of: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def ends(self) -> tuple[float, ...]:
        """Low and high as they were measured; () where there are none."""
        return () if self.low is None or self.high is None else (self.low, self.high)

    @property
    def interval(self) -> tuple[float, ...]:
        """Low and high where they may be shown; () where there are none, or too few people for them."""
        return () if self.too_few or self.low == self.high else self.ends

    @property
    def reason(self) -> str:
        """Why there is no number, or no interval."""
        return self.absent or (TOO_FEW if self.ends or self.too_few else "no interval")

    def is_above(self, line: float = 0.0, sign: float = 1.0) -> bool:
        """Tell whether an interval that may be shown is better than a line; sign: -1 where less is better."""
        return bool(self.interval) and min(sign * (end - line) for end in self.interval) > 0

    def at_once(self) -> "Estimate":
        """Return a difference as tables of many lines show it: with the interval that holds for all, or too few."""
        few = self.too_few or ("" if self.simultaneous else "made before all lines were compared")
        low, high = (self.simultaneous["low"], self.simultaneous["high"]) if self.simultaneous else (None, None)
        return self if self.value is None else Estimate(self.value, low, high, too_few=few)

    def text(self, number: Callable[[float], str]) -> str:
        """Write "0.71 (0.64 to 0.78)", "0.71 (too few to say)", or why there is no number."""
        if self.value is None:
            return f"absent: {self.absent}"
        return f"{number(self.value)} ({' to '.join(map(number, self.interval)) or self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """Return its JSON object."""
        return {name: one for name in FIELDS if (one := getattr(self, name)) not in (None, "", {})} | dict(self.more)


def _gather(raw: Any) -> Any:
    """Put what a JSON object holds besides an estimate into its ``more``."""
    if not isinstance(raw, dict):
        return raw
    more = {name: one for name, one in raw.items() if name not in FIELDS}
    return {name: raw[name] for name in FIELDS if name in raw} | {"more": more}


FIELDS = tuple(one.name for one in fields(Estimate) if one.name != "more")
ALONE = {*FIELDS, "spread"}
"""What a JSON object holds that is an estimate and nothing else."""

Read = Annotated[Estimate, BeforeValidator(_gather)]
Measures = dict[str, Read]
"""Of each metric."""

ESTIMATE: TypeAdapter[Estimate] = TypeAdapter(Read)
"""Reads one from a JSON object, which may hold other fields."""


def lift(tree: Any) -> Any:
    """Return a JSON tree with an Estimate in the place of each object that is one and nothing else."""
    if isinstance(tree, dict):
        is_one = tree.keys() <= ALONE and tree.keys() & {"value", "absent"}
        return ESTIMATE.validate_python(tree) if is_one else {name: lift(one) for name, one in tree.items()}
    return [lift(one) for one in tree] if isinstance(tree, list) else tree
