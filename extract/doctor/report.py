"""What an examination finds: checks with a status and plain words, figures, and what could not be computed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from embeddings_store.errors import RunError, StoreError, VolumeError

Found = TypeVar("Found")


class Status(StrEnum):
    """How a check ended; only ``fail`` changes the exit code."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer: message says what was found, what was expected and what to do."""

    name: str
    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The answers of one part, or of all of them.

    figures: measured values by name, in plain JSON types. absent: why a figure that one would look for is not there.
    """

    checks: tuple[Check, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: "Report") -> "Report":
        return Report(self.checks + other.checks, {**self.figures, **other.figures}, {**self.absent, **other.absent})

    @property
    def status(self) -> Status:
        """Give the worst status of all checks."""
        found = {check.status for check in self.checks}
        return next((status for status in (Status.FAIL, Status.WARN) if status in found), Status.OK)

    @property
    def failed(self) -> bool:
        """Tell whether any check failed."""
        return self.status is Status.FAIL

    def named(self, status: Status) -> list[str]:
        """Name the checks that ended so."""
        return [check.name for check in self.checks if check.status == status]

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON object of ``doctor --json``."""
        return {
            "verdict": self.status.value,
            "checks": [asdict(check) | {"status": check.status.value} for check in self.checks],
            "figures": dict(self.figures),
            "absent": dict(self.absent),
        }


def measured(figures: Mapping[str, int | float | None], reasons: Mapping[str, str] | None = None) -> Report:
    """Put numbers into a report; what is None, NaN or infinite is absent, with its reason: never a made-up number."""
    known = {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}
    reasons = reasons or {}
    absent = {
        name: reasons.get(name, "not known") if value is None else f"the number is {value}"
        for name, value in figures.items()
        if name not in known
    }
    return Report(figures=known, absent=absent)


class Examination:
    """Runs one part after the other; a part that cannot go on is a failed check, and the others go on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.report = Report()
        self._tell = tell

    def add(self, report: Report) -> None:
        """Add what was found."""
        self.report += report

    def attempt(self, name: str, part: Callable[[], tuple[Report, Found]]) -> Found | None:
        """Run a part and add its report; give what it made for later parts, or None where it failed."""
        self._tell(f"doctor: {name} ...")
        try:
            report, found = part()
        except (RunError, StoreError, VolumeError) as error:
            self.add(Report((Check(name, Status.FAIL, str(error)),)))
            return None
        self.add(report)
        return found
