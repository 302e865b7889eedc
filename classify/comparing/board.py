"""What is kept of a comparison: leaderboards, their lines, and of what and whom they are."""

from dataclasses import dataclass, field
from typing import Literal

from classify.run.estimate import Measures
from classify.run.record import Count, Open, SplitSize
from classify.run.typed_record import LEFT_OUT

Kind = Literal["model", "together", "baseline"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a leaderboard. kind: see Entry; of a baseline, note and store are "". seconds: of search and fit.

    The differences are of the headline, None to itself or to nobody.
    """

    name: str
    kind: Kind
    run: str = ""
    store: str = ""
    model: str = ""
    space: str = ""
    note: str = ""
    participants: Count
    seconds: float | None
    metrics: Measures
    difference_to_best: Measures | None
    difference_to_random_twin: Measures | None


@dataclass(frozen=True)
class BestOfN:
    """What being first of so many is worth. corrected: what the choice did not flatter, {} where nothing is best."""

    compared: Count
    corrected: Measures


@dataclass(frozen=True, kw_only=True)
class Board:
    """The leaderboard of one task, best first. differences_hold: see DIFFERENCES_HOLD, None in older records.

    participants_per_class: where these differ from the judged units of per_class.
    """

    split: str
    ranked_by: str
    participants: Count
    per_class: dict[str, Count]
    participants_per_class: dict[str, Count] | None = field(default=None, metadata=LEFT_OUT)
    replicates: Count
    seed: int
    best: str | None
    differences_hold: str | None = None
    best_of_n: BestOfN
    lines: list[Line]


@dataclass(frozen=True)
class CohortOf:
    """Whose people the cells of these names are, and how many of them are judged."""

    cohort_sha256: str
    val: SplitSize
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class TaskBoard(Board):
    """The leaderboard of one task of ``classify compare``; the last three say what to know when reading it."""

    classes: list[str]
    cohorts: list[CohortOf]
    baselines_missing: dict[str, str] = field(default_factory=dict)
    unlike_train: list[str] = field(default_factory=list)
    paired_by_number: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CellRun:
    """The run of a cell; reused: it was there before."""

    name: str
    run: str
    reused: bool


@dataclass(frozen=True)
class AbsentCell:
    """A cell that could not be made, and why."""

    name: str
    task: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ComparisonRecord:
    """The record of ``classify compare``. id: of its folder. encoders, encoding_costs: by store, or by given run."""

    id: str = ""
    created: str
    command: list[str]
    stores: list[str]
    random_twin: str | None
    encoders: dict[str, Open | None] = field(default_factory=dict)
    encoding_costs: dict[str, Open | None] = field(default_factory=dict)
    phantom: bool
    runs: list[CellRun]
    absent: list[AbsentCell]
    tasks: dict[str, TaskBoard]
