"""The verb ``reports track``: mirrors finished runs into a tracker. The run folder stays the record; this is a copy.

::

    Tracker     the seam: MLflow (mlflow_tracker), W&B (wandb_tracker), and a fake in the tests
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from classify.heads.contract import STATE
from classify.run.folder import MODEL
from classify.run.record import RECORD, RunRecord
from reports.model_card import CARD
from reports.runs import FinishedRun, read_runs
from reports.study import PAGE
from reports.tables import flatten, pick_groups

PAGES = (PAGE, CARD)
"""What of OUT goes with a run: the page of no participant."""

PARAMETER_GROUPS = ("features", "parameters", "search", "seeds")


@dataclass(frozen=True, slots=True)
class MirroredTrial:
    """One trial of a run's search. value: None where it was pruned before it had one."""

    number: int
    parameters: Mapping[str, str]
    value: float | None
    state: str


@dataclass(frozen=True, slots=True)
class MirroredData:
    """What a run was made on: name, digest of the cohort, and where its vectors come from."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True, slots=True)
class MirroredModel:
    """A model for the registry. folder: of the run. features: how many numbers a row has. classes: in their order."""

    name: str
    folder: Path
    features: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MirroredRun:
    """What a tracker is told about one run. key: names this state of the run, so that it is mirrored once.

    model: None where there is none to register (a head that reads tokens, a fine-tuned encoder).
    """

    key: str
    name: str
    started_ms: int
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: tuple[Path, ...]
    trials: tuple[MirroredTrial, ...] = ()
    data: MirroredData | None = None
    model: MirroredModel | None = None


@runtime_checkable
class Tracker(Protocol):
    """Keeps copies of finished runs. After keep(run), has(run.key) is True; an interrupted keep leaves it False."""

    def has(self, key: str) -> bool:
        """Say whether a whole copy is there."""
        ...

    def keep(self, run: MirroredRun) -> None:
        """Store a copy; only a whole one counts."""
        ...


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Ids of the runs that were mirrored now, and of those that were there."""

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {"mirrored": self.new, "already_there": self.kept}


def mirror_runs(runs_dir: Path, tracker: Tracker, *, page_folder: Path | None = None) -> Mirrored:
    """Mirror every finished run of a folder that the tracker does not have yet.

    Raises: UsageError when there is none; RunError when one can't be read, or the tracker can't be used.
    """
    mirrored = Mirrored()
    pages = tuple(page for name in PAGES if page_folder and (page := page_folder / name).exists())
    for run in read_runs(runs_dir):
        copy = describe(run, pages)
        if tracker.has(copy.key):
            mirrored.kept.append(run.id)
            continue
        tracker.keep(copy)
        mirrored.new.append(run.id)
    return mirrored


def describe(run: FinishedRun, pages: tuple[Path, ...] = ()) -> MirroredRun:
    """Say about a run what a tracker should keep: settings, every metric with its interval, and the record itself."""
    record = run.record
    source = run.folder / RECORD
    settings = pick_groups(record, PARAMETER_GROUPS)
    tags = {
        "octprobe.run": run.id,
        "octprobe.model": run.model,
        "octprobe.task": record.asked.task,
        "octprobe.space": record.asked.space,
        "octprobe.cohort_sha256": record.cohort.cohort_sha256,
        "octprobe.phantom": str(run.is_phantom).lower(),
        "octprobe.use": "research use only, not for clinical decisions",
    }
    return MirroredRun(
        key=sha256(source.read_bytes()).hexdigest(),
        name=run.id,
        started_ms=_milliseconds(record.made.created),
        parameters={"model": run.model, "task": record.asked.task, **dict(flatten(settings))},
        metrics=dict(_metrics(record)),
        tags=tags,
        artifacts=(source, *pages),
        trials=tuple(_trials(record)),
        data=_data(record),
        model=_model(run),
    )


def _data(record: RunRecord) -> MirroredData:
    """Name the cohort; MLflow keeps 36 letters of a digest."""
    digest = record.cohort.cohort_sha256[:36]
    return MirroredData(f"cohort for {record.asked.task}", digest, f"space {record.asked.space}")


def _trials(record: RunRecord) -> Iterator[MirroredTrial]:
    """Give the trials of the search, each with all that it chose."""
    for number, tried in enumerate((record.fitted.search or {}).get("history") or []):
        chosen = {name: tried[name] for name in ("parameters", "features", "aggregation") if name in tried}
        value = tried.get("value")
        known = value if isinstance(value, int | float) and math.isfinite(value) else None
        yield MirroredTrial(number, dict(flatten(chosen)), known, str(tried.get("state", "complete")))


def _model(run: FinishedRun) -> MirroredModel | None:
    """Say what can be registered: a head over pooled vectors, as probe saved it."""
    features = run.record.fitted.features
    if run.stages or features.get("token_grid") or not (run.folder / MODEL / STATE).exists():
        return None
    name = f"octprobe-{run.record.asked.task}-{run.model}"
    return MirroredModel(name, run.folder, int(features["dimensions"]), run.classes)


def _metrics(record: RunRecord) -> Iterator[tuple[str, float]]:
    """Give level/split/metric, baseline/name/split/metric, difference/metric; /low and /high if they may be shown."""
    trees = {
        **record.judged.metrics,
        **{f"baseline/{name}": tree for name, tree in record.judged.baselines.items()},
    }
    for name, splits in trees.items():
        for split, measures in splits.items():
            for metric, measured in measures.items():
                yield from _measured(f"{name}/{split}/{metric}", measured)
    for metric, measured in record.judged.difference_to_age_site.items():
        yield from _measured(f"difference_to_age_site/{metric}", measured)


def _measured(name: str, measured: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    ends = () if "too_few" in measured else (("low", "/low"), ("high", "/high"))
    for part, suffix in (("value", ""), *ends):
        number = measured.get(part)
        if isinstance(number, int | float) and math.isfinite(number):
            yield name + suffix, float(number)


def _milliseconds(created: str) -> int:
    """Turn an ISO time into milliseconds since the epoch; 0 where the record has none."""
    try:
        return int(datetime.fromisoformat(created).timestamp() * 1000)
    except ValueError:
        return 0
