"""The verb ``reports track``: mirrors finished runs into a tracker. The run folder stays the record; this is a copy.

::

    Tracker     the seam: MLflow (mlflow_tracker), W&B (wandb_tracker), and a fake in the tests
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from classify.run.estimate import Estimate
from classify.run.leaves import flatten
from classify.run.record import RECORD, RunRecord
from embeddings_store.errors import RunError
from reports.model_card import CARD
from reports.runs import FinishedRun, LeftOut, read_runs
from reports.shared_run import scratch_folder, share_run
from reports.study import PAGE
from reports.tables import pick_groups

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
    """A model for the registry. folder: a run folder, see share_run. features: how many numbers a row has.

    classes: in their order.
    """

    name: str
    folder: Path
    features: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MirroredRun:
    """What a tracker is told about one run. key: names this state of the run, so that it is mirrored once.

    started_ms, ended_ms: since the epoch; None where the record does not say. model: None where there is none to
    register (a head that reads tokens, a fine-tuned encoder) or it is held_back: the head holds rows of training
    participants.
    """

    key: str
    name: str
    started_ms: int | None
    ended_ms: int | None
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: tuple[Path, ...]
    trials: tuple[MirroredTrial, ...] = ()
    data: MirroredData | None = None
    model: MirroredModel | None = None
    held_back: bool = False


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
    """Ids of the runs that were mirrored now, of those that were there, and of those whose model was not sent.

    left_out: what cannot be read, or has a damaged model.
    """

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    held_back: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "mirrored": self.new,
            "already_there": self.kept,
            "models_held_back": self.held_back,
            "runs_left_out": [one.to_record() for one in self.left_out],
        }


def mirror_runs(
    runs_dir: Path, tracker: Tracker, *, page_folder: Path | None = None, with_participants: bool = False
) -> Mirrored:
    """Mirror every finished run of a folder that the tracker does not have yet.

    with_participants: a copy without them does not count as being there.
    Raises: UsageError when there is none; RunError when none can be read, or the tracker can't be used.
    """
    mirrored = Mirrored()
    pages = tuple(page for name in PAGES if page_folder and (page := page_folder / name).exists())
    for run in read_runs(runs_dir, tell=mirrored.left_out.append):
        if any(tracker.has(key_of(run, with_participants=more)) for more in {True, with_participants}):
            mirrored.kept.append(run.id)
            continue
        with scratch_folder() as aside:
            try:
                copy = describe(run, aside, pages, with_participants=with_participants)
            except RunError as error:
                mirrored.left_out.append(LeftOut(run.id, str(error)))
                continue
            tracker.keep(copy)
        mirrored.new.append(run.id)
        if copy.held_back:
            mirrored.held_back.append(run.id)
    return mirrored


def say_mirrored(mirrored: Mirrored, *, with_participants: bool) -> list[str]:
    """Say what was left out, which models stayed here, and what about participants was sent."""
    lines = [f"{one.folder}: cannot be mirrored: {one.reason}" for one in mirrored.left_out]
    lines += [
        f"{run}: its model was not sent: the head holds vectors of training participants; --with-participants sends it"
        for run in mirrored.held_back
    ]
    if not mirrored.new:
        return lines
    if with_participants:
        said = "sent with what the runs hold about participants: cohort tables, predictions, training vectors, test ids"
    else:
        said = "nothing about a single participant was sent; --with-participants sends it"
    return [*lines, said]


def key_of(run: FinishedRun, *, with_participants: bool = False) -> str:
    """Name this state of a run, and whether its participants go with it."""
    more = b"with participants" if with_participants else b""
    return sha256((run.folder / RECORD).read_bytes() + more).hexdigest()


def describe(
    run: FinishedRun, aside: Path, pages: tuple[Path, ...] = (), *, with_participants: bool = False
) -> MirroredRun:
    """Say about a run what a tracker should keep: settings, every metric with its interval, the record and the model.

    aside: a folder for what is written anew. Raises: RunError where the model is damaged, or aside cannot be written.
    """
    record = run.record
    try:
        shared = share_run(run, aside, with_participants=with_participants)
    except OSError as error:
        raise RunError(f"expected a run that can be copied below TMPDIR, got: {error.strerror}") from error
    started_ms = _milliseconds(record.made.created)
    seconds = record.made.seconds
    lasted_ms = round(1000 * seconds.get("wall", sum(seconds.values())))
    ended_ms = None if started_ms is None else started_ms + lasted_ms
    settings = pick_groups(record, PARAMETER_GROUPS)
    tags = {
        "octprobe.run": run.id,
        "octprobe.model": run.model,
        "octprobe.task": record.asked.task,
        "octprobe.space": record.asked.space,
        "octprobe.cohort_sha256": record.cohort.cohort_sha256,
        "octprobe.phantom": str(run.is_phantom).lower(),
        "octprobe.participants": "sent" if with_participants else "not sent",
        "octprobe.started": _iso(started_ms),
        "octprobe.ended": _iso(ended_ms),
        "octprobe.use": "research use only, not for clinical decisions",
    }
    return MirroredRun(
        key=key_of(run, with_participants=with_participants),
        name=run.id,
        started_ms=started_ms,
        ended_ms=ended_ms,
        parameters={"model": run.model, "task": record.asked.task, **dict(flatten(settings))},
        metrics=dict(_metrics(record)),
        tags=tags,
        artifacts=(shared.record, *pages),
        trials=tuple(_trials(record)),
        data=_data(record),
        model=_model(run, shared.model_folder) if shared.model_folder else None,
        held_back=shared.held_back,
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


def _model(run: FinishedRun, folder: Path) -> MirroredModel:
    """Say what is registered: a head over pooled vectors."""
    name = f"octprobe-{run.record.asked.task}-{run.model}"
    return MirroredModel(name, folder, int(run.record.fitted.features["dimensions"]), run.classes)


def _metrics(record: RunRecord) -> Iterator[tuple[str, float]]:
    """Give level/split/metric, baseline/name/split/metric, difference/metric; /low and /high if they may be shown."""
    trees = {**record.judged.metrics, **{f"baseline/{name}": tree for name, tree in record.judged.baselines.items()}}
    for name, splits in trees.items():
        for split, measures in splits.items():
            for metric, measured in measures.items():
                yield from _measured(f"{name}/{split}/{metric}", measured)
    for metric, measured in record.judged.difference_to_age_site.items():
        yield from _measured(f"difference_to_age_site/{metric}", measured)


def _measured(name: str, measured: Estimate) -> Iterator[tuple[str, float]]:
    if measured.value is not None:
        yield name, measured.value
        yield from zip((f"{name}/low", f"{name}/high"), measured.interval, strict=False)


def _iso(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "not recorded"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _milliseconds(created: str) -> int | None:
    """Turn an ISO time into milliseconds since the epoch; None where the record has none."""
    try:
        return int(datetime.fromisoformat(created).timestamp() * 1000)
    except ValueError:
        return None
