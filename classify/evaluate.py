"""The verb ``classify evaluate``: the one look at the locked test split. Reads from top to bottom.

The ledger line is written after the last check and before the first prediction, so no look goes uncounted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from classify.cohort.splits import check_no_leak
from classify.cohort.table import Cohort
from classify.cohort.tables import read_tables
from classify.cohort.tasks import task_of_record
from classify.errors import CohortError
from classify.judging.calibrate import Calibrator, load_calibrator, measure_calibration
from classify.judging.split import JudgedSplit, judge_split
from classify.ledger import append_look, count_looks
from classify.model import load_model
from classify.predictions import Predictions, stack_predictions
from classify.probe import predict_beside
from classify.run import MODEL, Run, load_run, update_run
from classify.source import check_same_space, source_on
from embeddings_store.console import say
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot

TEST = "test"


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line asked for. seed None: the bootstrap seed of the run.

    measurements, pretrain_participants: as for a probe; they are not kept with a run, so they are given again.
    """

    run: Path
    participants: Path
    split: str
    replicates: int = 2000
    seed: int | None = None
    command: tuple[str, ...] = ()
    measurements: Path | None = None
    pretrain_participants: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """The run record with the test split in it, and how often this cohort's test split has been looked at by now."""

    record: dict[str, Any]
    folder: Path
    looks: int


def evaluate(
    options: EvaluateOptions,
    *,
    now: datetime,
    read: Callable[[Mapping[str, Any]], Snapshot],
    tell: Callable[[str], None] = say,
) -> Evaluated:
    """Predict the test split with a finished run's head, and write what came out into the run folder.

    read: opens the store as the run record (its argument) names it, after the cheap checks.
    Raises: UsageError, RunFolderError, CohortError, LeakError, StoreError; then the test split was not looked at.
    """
    if options.split != TEST:
        raise UsageError(f"--split: expected {TEST}, got {options.split!r}; val is judged by classify probe")
    run = load_run(options.run)
    model, calibrator = load_model(run), load_calibrator(run.folder / MODEL)
    runs = options.run.resolve().parent
    looks = 1 + count_looks(runs, run.record["cohort_sha256"])
    tables = read_tables(options.participants, options.measurements, options.pretrain_participants, tell=tell)
    stored = read(run.record)
    cohort = check_same_cohort(run, stored, tables.join(stored, task_of_record(run.record)))
    features = source_on(cohort, stored).table(model.features)
    test = features.only(TEST)

    date = now.isoformat(timespec="seconds")
    append_look(runs, run=run.record["id"], date=date, cohort_sha256=cohort.sha256)
    raw = model.predict(test, classes=len(cohort.task.classes), split=TEST)
    levels = {level: calibrator.apply(part) for level, part in raw.items()} if calibrator else raw
    others = predict_beside(
        model.spec, features.only("train"), raw["participant"], cohort, seed=run.record["seeds"]["folds"]
    )
    seed = run.record["seeds"]["bootstrap"] if options.seed is None else options.seed

    def people_of(chosen: np.ndarray) -> Predictions:
        part = model.predict(test.where(chosen), classes=len(cohort.task.classes), split=TEST)["participant"]
        return calibrator.apply(part) if calibrator else part

    said = judge_split(
        levels, others, cohort, people_of,
        decided_on=(levels["participant"], f"{calibrator.method}, fitted on val") if calibrator else None,
        pretrained=tables.pretrained, replicates=options.replicates, seed=seed,
    )  # fmt: skip
    of_tables = tables.describe(cohort, said.without)
    entry = {"split": TEST, "date": date, "look": looks, "seed": seed, "measurements": of_tables["measurements"]}
    entry |= describe_look(options, calibrator, raw, said)
    record = merge_evaluation(run.record, said, entry, of_tables["pretraining"])
    predictions = [*levels.values(), *(part for name, part in others.items() if name != model.head.name)]
    update_run(run, record, stack_predictions(predictions), split=TEST)
    return Evaluated(record, run.folder, looks)


def describe_look(
    options: EvaluateOptions, calibrator: Calibrator | None, raw: Mapping[str, Predictions], said: JudgedSplit
) -> dict[str, Any]:
    """Give what an entry of ``evaluations`` says of the predictions; raw: before they were calibrated."""
    return {
        "command": list(options.command),
        "replicates": options.replicates,
        "calibration": calibrator.method if calibrator else None,
        "uncalibrated": {level: measure_calibration(part) for level, part in raw.items()},
        "confusion": said.judged.confusion,
        "difference_to_age_site": said.judged.difference_to_age_site,
        "added_to_age_site": said.judged.added_to_age_site,
    }


def check_same_cohort(run: Run, stored: Snapshot, cohort: Cohort) -> Cohort:
    """Give the cohort back where it is the run's own, and nobody of its test split was fitted on.

    Raises: RunFolderError (another space), CohortError (another cohort, an empty test split), LeakError.
    """
    name, record = f"run {run.record['id']}", run.record
    check_same_space(record, stored)
    if cohort.sha256 != record["cohort_sha256"]:
        raise CohortError(
            f"{name}: made on the cohort {record['cohort_sha256'][:12]}, store and participants table give "
            f"{cohort.sha256[:12]} ({len(cohort.table)} volumes, the run had {len(run.cohort)}); "
            f"give the same two, or probe again"
        )
    test = cohort.people(TEST)["participant"].tolist()
    if not test:
        raise CohortError(f"{name}: the test split is empty; there is nothing to evaluate")
    fitted_on = run.cohort.loc[run.cohort["split"] == "train", "participant"].tolist()
    check_no_leak({"train": fitted_on, TEST: test})
    return cohort


def merge_evaluation(
    record: Mapping[str, Any],
    said: JudgedSplit,
    entry: dict[str, Any],
    pretraining: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the test metrics beside those of val; an earlier look keeps its entry in ``evaluations``."""
    judged = said.judged
    known = record.get("pretraining") or pretraining
    if pretraining["given"]:
        known = {**pretraining, "without": known.get("without", {}) | pretraining["without"]}
    flow = [
        step | {"reason": f"predicted by classify evaluate on {entry['date'][:10]}"} if step["step"] == TEST else step
        for step in record["flow"]
    ]
    return {
        **record,
        "metrics": {level: table | judged.metrics[level] for level, table in record["metrics"].items()},
        "baselines": {
            name: table | judged.baselines.get(name, {})
            for name, table in (judged.baselines | record["baselines"]).items()
        },
        "contrasts": record.get("contrasts", {}) | judged.contrasts,
        "permutation": record.get("permutation", {}) | judged.permutation,
        "decision_curves": record.get("decision_curves", {}) | judged.decision_curves,
        "subgroups": record.get("subgroups", {}) | {TEST: said.groups},
        "pretraining": known,
        "flow": flow,
        "evaluations": [*record.get("evaluations", []), entry],
    }
