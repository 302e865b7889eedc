"""The tables of the study page: runs and baselines with intervals, per class, splits, and which run used what."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from classify.cohort.questions import Task
from classify.cohort.splits import SPLITS
from classify.run.estimate import Estimate
from classify.run.record import RunRecord
from classify.run.summary import describe_search
from reports.runs import FinishedRun

UNIT_FIELD = {"participant": "participants", "eye": "eyes", "volume": "volumes"}


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is called on paper, what chance gives (None: depends on the data), and whether more is better."""

    name: str
    title: str
    more_is_better: bool = True

    def chance(self, classes: int) -> float | None:
        """Give the value of a model that knows nothing."""
        known = {"macro_auroc": 0.5, "quadratic_weighted_kappa": 0.0, "r2": 0.0, "spearman": 0.0}
        return 1 / classes if self.name == "balanced_accuracy" else known.get(self.name)


METRICS = (
    Metric("balanced_accuracy", "Balanced accuracy"),
    Metric("macro_auroc", "Macro AUROC"),
    Metric("quadratic_weighted_kappa", "Quadratic kappa"),
)
"""Of classes in order."""
UNORDERED = METRICS[:2]
OF_NUMBER = (
    Metric("r2", "R²"),
    Metric("mean_absolute_error", "Mean absolute error", more_is_better=False),
    Metric("spearman", "Spearman’s rho"),
)
SIDE_OF_NUMBER = (
    Metric("root_mean_squared_error", "Root mean squared error", more_is_better=False),
    Metric("calibration_slope", "Slope of truth on prediction"),
    Metric("calibration_intercept", "Intercept"),
    Metric("bland_altman_bias", "Bias (Bland-Altman)"),
    Metric("bland_altman_low", "Lower limit of agreement"),
    Metric("bland_altman_high", "Upper limit of agreement"),
)
SIDE_METRICS = (
    Metric("accuracy", "Accuracy"),
    Metric("log_loss", "Log-loss", more_is_better=False),
    Metric("brier", "Brier score", more_is_better=False),
    Metric("expected_calibration_error", "Expected calibration error", more_is_better=False),
)


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """Return the metrics of a results table: distances between classes count only where these have an order."""
    if task.is_number:
        return OF_NUMBER
    return METRICS if task.kind == "ordered" else UNORDERED


def side_metrics_of(task: Task) -> tuple[Metric, ...]:
    """Return the metrics of the second table: of probabilities, or of how far a number is off."""
    return SIDE_OF_NUMBER if task.is_number else SIDE_METRICS


def say_question(task: Task) -> str:
    """Say what a task asks: its classes, in order where they have one, or that it is a number."""
    if task.is_number:
        return f"{task.target}, a number"
    between = " < " if task.kind == "ordered" else ", "
    return between.join(name.replace("_", " ") for name in task.classes)


def title_of(metric: str) -> str:
    """Name a metric in a sentence."""
    title = next((one.title for one in (*METRICS, *OF_NUMBER) if one.name == metric), metric.replace("_", " "))
    return title if title.startswith("R") else title[0].lower() + title[1:]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of a results table: a run or a baseline, with an estimate for each metric asked for."""

    name: str
    run_id: str
    is_baseline: bool
    units: int
    estimates: tuple[Estimate, ...]
    difference: Estimate | None


def results(
    runs: Sequence[FinishedRun], level: str, split: str, metrics: Sequence[Metric] | None = None
) -> list[ResultRow]:
    """List the runs, best first by the first metric, then the baselines (judged level only)."""
    metrics = metrics or metrics_of(runs[0].task)
    rows = [_run_row(run_name(run, runs), run, level, split, metrics) for run in runs]
    rows.sort(key=lambda row: -(row.estimates[0].value if row.estimates[0].value is not None else -1.0))
    return rows + (_baseline_rows(runs, split, metrics) if level == runs[0].level else [])


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of the interval figure: a metric's rows in the order of the table.

    line: where chance, or no difference, lies. A None instead of an estimate: does not apply to this row.
    """

    title: str
    line: float | None
    names: tuple[str, ...]
    estimates: tuple[Estimate | None, ...]
    is_baseline: tuple[bool, ...]


def forest(rows: Sequence[ResultRow], metrics: Sequence[Metric], classes: int, covariates: str) -> list[Panel]:
    """Arrange the interval figure: a panel for each metric, and one for the difference to the covariates."""
    names, baselines = tuple(row.name for row in rows), tuple(row.is_baseline for row in rows)
    panels = [
        Panel(metric.title, metric.chance(classes), names, tuple(row.estimates[i] for row in rows), baselines)
        for i, metric in enumerate(metrics)
    ]
    differences = tuple(row.difference for row in rows)
    if any(difference is not None for difference in differences):
        panels.append(Panel(f"{metrics[0].title} − {covariates}", 0.0, names, differences, baselines))
    return panels


def units_judged(run: FinishedRun, level: str, split: str) -> int:
    """Count the units of a level in a split, as the run recorded them."""
    return int(_size(run, split).get(UNIT_FIELD[level], 0))


def run_name(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    """Name a run by its head; where heads repeat by the end of its id, or by all of it where ends repeat, too."""
    alone = sum(other.model == run.model for other in runs) == 1
    return run.model if alone else f"{run.model} · {short_id(run.id, [other.id for other in runs])}"


def short_id(own: str, ids: Sequence[str]) -> str:
    """Give the last part of a run's id (date-time-head-task-digits), or all of it where another run ends alike."""
    end = own.rpartition("-")[2]
    return end if sum(other.rpartition("-")[2] == end for other in ids) == 1 else own


@dataclass(frozen=True, slots=True)
class SplitRow:
    """Sizes of one split; per_class counts judged units in the order of the classes."""

    split: str
    participants: int
    eyes: int
    volumes: int
    per_class: tuple[int, ...]


def splits_table(run: FinishedRun) -> list[SplitRow]:
    """List the splits that the run recorded."""
    rows = []
    for split in SPLITS:
        if size := _size(run, split):
            counts = {field: int(size.get(field, 0)) for field in ("participants", "eyes", "volumes")}
            per_class = tuple(int(size.get("per_class", {}).get(name, 0)) for name in run.classes)
            rows.append(SplitRow(split, **counts, per_class=per_class))
    return rows


@dataclass(frozen=True, slots=True)
class UsedRow:
    """What one run used."""

    run: str
    model: str
    features: str
    aggregation: str
    dimensions: str
    snapshot: str
    search: str
    space: str


def used_row(run: FinishedRun) -> UsedRow:
    """Say what a run used, in the words of its record."""
    features, snapshot = run.record.fitted.features, run.record.asked.snapshot
    search = run.record.fitted.search
    return UsedRow(
        run=run.id,
        model=run.model,
        features=f"{features.get('layer', 'unknown')}; {', '.join(features.get('pools', ()))}",
        aggregation=str(features.get("aggregation", "unknown")),
        dimensions=str(features.get("dimensions", "unknown")),
        snapshot=f"{snapshot.get('number', 'unknown')} ({snapshot.get('rows', 'unknown')} rows)",
        search=describe_search(search) if search else "none",
        space=run.record.asked.space,
    )


def class_table(run: FinishedRun, split: str) -> tuple[list[str], list[tuple[str, list[Estimate]]]]:
    """List the per-class metrics of the judged units: their names, then a line for each class.

    A per-class metric is called "<kind>/<class>": recall/healthy, auroc/insulin_dependent ...
    """
    names = run.metric_names(run.level, split)
    kinds = list(dict.fromkeys(name.split("/", 1)[0] for name in names if "/" in name))
    lines = [(name, [run.estimate(run.level, split, f"{kind}/{name}") for kind in kinds]) for name in run.classes]
    return kinds, lines


def pick_groups(record: RunRecord, groups: Sequence[str]) -> dict[str, Any]:
    """Return the fields of run.json of some names that hold anything."""
    tree = record.to_dict()
    return {group: tree[group] for group in groups if tree[group]}


def _size(run: FinishedRun, split: str) -> Mapping[str, Any]:
    size = run.record.cohort.splits.get(split, {})
    return size if isinstance(size, Mapping) else {}


def _run_row(name: str, run: FinishedRun, level: str, split: str, metrics: Sequence[Metric]) -> ResultRow:
    estimates = tuple(run.estimate(level, split, metric.name) for metric in metrics)
    compared = level == run.level and split == "val"
    difference = run.difference(run.primary) if compared else None
    return ResultRow(name, run.id, False, units_judged(run, level, split), estimates, difference)


def _baseline_rows(runs: Sequence[FinishedRun], split: str, metrics: Sequence[Metric]) -> list[ResultRow]:
    """List each baseline once where all runs recorded the same numbers for it, else once a run that differs."""
    seen: dict[tuple[str, tuple[Estimate, ...]], ResultRow] = {}
    for run in runs:
        for name in run.record.judged.baselines:
            estimates = tuple(run.baseline(name, split, metric.name) for metric in metrics)
            row = ResultRow(str(name), run.id, True, units_judged(run, run.level, split), estimates, None)
            seen.setdefault((str(name), estimates), row)
    order = [str(name) for run in runs for name in run.record.judged.baselines]
    rows = sorted(seen.values(), key=lambda row: order.index(row.name))
    repeats = Counter(row.name for row in rows)
    ids = [run.id for run in runs]
    return [replace(r, name=f"{r.name} · {short_id(r.run_id, ids)}") if repeats[r.name] > 1 else r for r in rows]
