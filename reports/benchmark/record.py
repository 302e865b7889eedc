"""What a benchmark says of itself, in benchmark.json: parts that are made by those who know them."""

from dataclasses import dataclass
from typing import Literal

from classify.comparing.ranks import NoRanks, Ranks
from reports.benchmark.cost import CostLine
from reports.benchmark.look import Gap
from reports.benchmark.plan import Judge
from reports.benchmark.results import CellFacts, DatasetBoard, OverDatasets
from reports.benchmark.sources import DatasetSource, WeightsSource
from reports.benchmark.transport import Moved


@dataclass(frozen=True)
class PlanRead:
    """Which plan it was."""

    name: str
    sha256: str


@dataclass(frozen=True)
class PlanFacts(PlanRead):
    """Which plan it was, against which encoder it compares, and on which split."""

    reference: str
    judge: Judge


@dataclass(frozen=True, kw_only=True)
class BenchmarkRecord:
    """The record of a benchmark. boards: by dataset/task; ranks: by head."""

    created: str
    command: list[str]
    plan: PlanFacts
    phantom: bool
    sources: list[DatasetSource | WeightsSource]
    notes: list[str]
    cells: list[CellFacts]
    gaps: list[Gap]
    boards: dict[str, DatasetBoard]
    over_datasets: OverDatasets
    ranks: dict[str, Ranks | NoRanks]
    transport: list[Moved]
    cost: list[CostLine]


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a benchmark would do, and what of it is there. said: the same for a person."""

    dry_run: Literal[True] = True
    plan: PlanRead
    volumes: dict[str, int]
    cells: int
    runs_there: int
    hours: float
    cost: list[CostLine]
    gaps: list[Gap]
    said: str
