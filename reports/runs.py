"""Finished runs as the report reads them: one task, one cohort, never mixed silently."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classify.baselines.covariates import headline_of
from classify.cohort.questions import Task
from classify.cohort.tasks import task_of_record
from classify.judging.bootstrap import caution_few
from classify.judging.kinds import measures_of
from classify.run.estimate import TOO_FEW, Estimate
from classify.run.folder import PREDICTIONS, Run, load_run
from classify.run.predictions import Predictions, pick_predictions
from classify.run.record import RECORD, RunRecord
from embeddings_store.encoder_source import EncoderSource, source_of_record
from embeddings_store.errors import RunError, UsageError
from embeddings_store.terminal.console import say


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run folder with telling names for what its record (run.json) holds."""

    run: Run

    @property
    def record(self) -> RunRecord:
        """What the run says of itself."""
        return self.run.record

    @property
    def task(self) -> Task:
        """The question."""
        return task_of_record(self.record)

    @property
    def level(self) -> str:
        """The judged level of predictions: participant, eye or volume."""
        return self.task.judged

    @property
    def units(self) -> str:
        """What is judged, in words: participants, eyes or scans."""
        return self.task.units

    @property
    def primary(self) -> str:
        """Name of the metric that runs are ordered by: balanced accuracy, or of a number R2."""
        return measures_of(self.classes).headline[0]

    @property
    def ranking(self) -> str:
        """Name of the second metric of a verdict: macro AUROC, or of a number the mean absolute error."""
        return measures_of(self.classes).headline[1]

    @property
    def covariates(self) -> str:
        """Name of the baseline of all covariates together, such as age+site; "" where the task has none."""
        return headline_of(self.task)

    @property
    def stages(self) -> tuple[str, ...]:
        """Name the stages of fine-tuning, in order; () for a probe, which leaves the encoder as it is."""
        return tuple(self.record.fitted.parameters.get("stages", ()))

    @property
    def folder(self) -> Path:
        """Say where it lies."""
        return self.run.folder

    @property
    def id(self) -> str:
        """Name of the run."""
        return self.record.id

    @property
    def model(self) -> str:
        """Name of the head: lgbm, linear ..."""
        return self.record.fitted.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the task."""
        return tuple(str(name) for name in self.record.asked.classes)

    @property
    def is_phantom(self) -> bool:
        """True when the run saw a synthetic phantom."""
        return self.record.asked.phantom

    @property
    def encoder(self) -> EncoderSource | None:
        """Say where the encoder came from; None where that was not recorded."""
        return source_of_record(self.record.asked.encoder_source)

    def estimate(self, level: str, split: str, metric: str) -> Estimate:
        """Give one of the run's own metrics."""
        found = self.record.judged.metrics.get(level, {}).get(split, {}).get(metric)
        return self._unless_few(split, to_estimate(found, f"not in run.json for {level}, {split}"))

    def baseline(self, name: str, split: str, metric: str) -> Estimate:
        """Give a baseline's metric at the judged level."""
        found = self.record.judged.baselines.get(name, {}).get(split, {}).get(metric)
        return self._unless_few(split, to_estimate(found, f"not in run.json for {split}"))

    def difference(self, metric: str) -> Estimate:
        """Give the paired difference to the baseline of the covariates: run minus baseline, units of validation."""
        if reason := next(
            (why for name, why in self.missing() if name in {*self.covariates.split("+"), self.covariates}), ""
        ):
            return Estimate(absent=reason)
        found = self.record.judged.difference_to_age_site.get(metric)
        return self._unless_few("val", to_estimate(found, "run.json holds no such difference"))

    def missing(self) -> list[tuple[str, str]]:
        """List the baselines that could not be made, and why; a run made before this was written down lists none."""
        return [(str(line["name"]), str(line["reason"])) for line in self.record.rivals.baselines_missing]

    def rivals(self, metric: str) -> dict[str, Estimate]:
        """Give the paired difference to each baseline that the run has to beat; an older run knows one alone.

        The upper end is that which holds for all of them at once: to be worse than one of many needs more.
        """
        found = self.record.judged.difference_to_baselines
        if not found:
            return {self.covariates: self.difference(metric)}
        known = {name: to_estimate(of.get(metric)) for name, of in found.items()}
        return {name: self._unless_few("val", _with_high_of_all(one)) for name, one in known.items()}

    def _unless_few(self, split: str, estimate: Estimate) -> Estimate:
        """Drop an interval that so few participants of a class cannot carry."""
        return replace(estimate, too_few=TOO_FEW) if estimate.interval and caution_of_run(self, split) else estimate

    def predictions(self, level: str, split: str) -> Predictions | None:
        """Give the run's own predictions; None where it made none for this level and split."""
        found = pick_predictions(self.run.predictions, model=self.model, level=level, split=split)
        return found if len(found.label) else None

    def metric_names(self, level: str, split: str) -> tuple[str, ...]:
        """List the metrics recorded for a level and split, absent ones too."""
        return tuple(self.record.judged.metrics.get(level, {}).get(split, ()))

    def splits_judged(self) -> tuple[str, ...]:
        """List the splits that have metrics at the judged level."""
        return tuple(self.record.judged.metrics.get(self.level, ()))


def caution_of_run(run: FinishedRun, split: str) -> str | None:
    """Say why a split has too few people for intervals; None where it has enough, or did not count them."""
    size = run.record.cohort.splits.get(split) or {}
    return caution_few(size, split) if run.task.is_number or size.get("per_class") else None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run of the folder that cannot be read: the name of its folder, and why."""

    folder: str
    reason: str

    def to_record(self) -> dict[str, str]:
        """Give plain JSON types."""
        return {"run": self.folder, "reason": self.reason}


def say_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """Count the runs that cannot be read, then name each; nothing where there are none."""
    if not left_out:
        return []
    count = "1 run" if len(left_out) == 1 else f"{len(left_out)} runs"
    counted = f"{count} of this folder cannot be read and is left out: what is called best is the best of the others."
    return [counted, *(f"Left out: {one.folder}: {one.reason}." for one in left_out)]


def name_left_out(one: LeftOut) -> None:
    """Name a run that cannot be read on the terminal."""
    say(f"Left out: {one.folder}: {one.reason}.")


def read_runs(runs_dir: Path, *, tell: Callable[[LeftOut], None] = name_left_out) -> list[FinishedRun]:
    """Read every finished run below a folder, oldest first; a folder without run.json is an unfinished run.

    tell: hears of each run that cannot be read, or that is a copy of another.
    Raises: UsageError when there is no such folder or no finished run; RunError when none of them can be read.
    """
    runs, left_out = list[FinishedRun](), list[LeftOut]()
    for folder in _run_folders(runs_dir):
        try:
            if _is_run(folder):
                runs.append(FinishedRun(load_run(folder)))
        except (OSError, RunError) as error:
            reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
            left_out.append(LeftOut(folder.name, reason.removeprefix(f"run folder {folder.name}: ")))
    runs, copies = _without_copies(runs)
    left_out += copies
    if left_out and not runs:
        first = f"{left_out[0].folder}: {left_out[0].reason}"
        raise RunError(f"--runs {runs_dir}: {len(left_out)} runs, none can be read: {first}")
    if not runs:
        raise UsageError(
            f"--runs {runs_dir}: expected finished runs (folders with {RECORD}), found none; run `classify probe` first"
        )
    for one in left_out:
        tell(one)
    return sorted(runs, key=lambda run: (run.record.made.created, run.id))


def _without_copies(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[LeftOut]]:
    """Keep each run once, best in the folder of its own name: a copy ("... (conflicted copy)") would count twice."""
    kept: dict[str, FinishedRun] = {}
    for run in sorted(runs, key=lambda one: (one.folder.name != one.id, one.folder.name)):
        kept.setdefault(run.id, run)
    copies = [run for run in runs if kept[run.id] is not run]
    return [*kept.values()], [LeftOut(run.folder.name, f"it is a copy of the run {run.id}") for run in copies]


def _run_folders(runs_dir: Path) -> list[Path]:
    """List what may be a run. Raises: UsageError where there is no folder, or one that may not be listed."""
    if not runs_dir.is_dir():
        raise UsageError(f"--runs {runs_dir}: expected a folder of runs, found none; run `classify probe` first")
    try:
        return sorted(one for one in runs_dir.iterdir() if not one.name.startswith("."))
    except OSError as error:
        raise UsageError(f"--runs {runs_dir}: expected a folder that can be listed, got: {error.strerror}") from error


def _is_run(folder: Path) -> bool:
    """Say whether a record or its predictions lie in a folder. Raises: OSError where nobody may look."""
    try:
        names = {one.name for one in folder.iterdir()}
    except NotADirectoryError:
        return False
    return bool(names & {RECORD, PREDICTIONS})


def select_runs(runs: Sequence[FinishedRun], task: str | None, cohort: str | None) -> list[FinishedRun]:
    """Keep the runs of one task and one cohort (hash, or the start of it).

    Raises: UsageError naming the tasks or cohorts when more than one is left, or none.
    """
    kept = _keep(runs, "--task", lambda run: run.record.asked.task, task, lambda value: value == task)
    kept = _keep(kept, "--cohort", cohort_of, cohort, lambda value: value.startswith(cohort or ""))
    _refuse_mixture(kept, "tasks", "choose one with --task", lambda run: run.record.asked.task)
    _refuse_mixture(kept, "cohorts", "choose one with --cohort", lambda run: cohort_of(run)[:12])
    _refuse_mixture(
        kept,
        "classes",
        "keep each labelling in a folder of its own",
        lambda run: f"{' < '.join(run.classes)} by {run.task.level}",
    )
    return kept


def best_by_validation(runs: Iterable[FinishedRun]) -> FinishedRun | None:
    """Choose the run with the highest primary metric on validation; the oldest of equals.

    None when no run has that number.
    """
    scored = [(run.estimate(run.level, "val", run.primary).value, run) for run in runs]
    known = [(value, run) for value, run in scored if value is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def cohort_of(run: FinishedRun) -> str:
    """Return the digest of the people and volumes that a run was made on."""
    return run.record.cohort.cohort_sha256


def _keep(
    runs: Sequence[FinishedRun],
    option: str,
    value_of: Callable[[FinishedRun], str],
    wanted: str | None,
    keeps: Callable[[str], bool],
) -> list[FinishedRun]:
    kept = [run for run in runs if wanted is None or keeps(value_of(run))]
    if not kept:
        there = ", ".join(sorted({value_of(run) for run in runs}))
        raise UsageError(f"{option} {wanted}: no run has it; the runs have: {there}")
    return kept


def _refuse_mixture(runs: Sequence[FinishedRun], what: str, cure: str, value_of: Callable[[FinishedRun], str]) -> None:
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(value_of(run), []).append(run.id)
    if len(groups) > 1:
        said = "; ".join(f"{value} ({', '.join(ids)})" for value, ids in sorted(groups.items()))
        raise UsageError(f"the runs have different {what}, which one page must not mix: {said}; {cure}")


def to_estimate(found: Estimate | None, missing_reason: str = "the run recorded no such number") -> Estimate:
    """Return what a record holds, or an estimate that is absent."""
    return found or Estimate(absent=missing_reason)


def _with_high_of_all(one: Estimate) -> Estimate:
    return replace(one, high=max(one.ends[1], one.simultaneous["high"])) if one.ends and one.simultaneous else one
