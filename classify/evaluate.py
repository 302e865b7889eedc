"""The verb ``classify evaluate``: the one look at the locked test split. Reads from top to bottom."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import task_of_record
from classify.cohort.vouched import vouched_of_record
from classify.judging.calibrate import load_calibrator
from classify.look import (
    TEST,
    Evaluated,
    EvaluateOptions,
    PredictedSplit,
    begin_look,
    check_same_cohort,
    finish_look,
    open_locked,
)
from classify.model import load_model
from classify.predict_split import hold_out, predict_beside
from classify.predictions import Predictions
from classify.random_twin import Twin, check_twin_of_run, look_beside
from classify.run import MODEL, TWIN_MODEL, Run
from classify.source import check_same_space, require_same_objects, source_on
from embeddings_store.console import say
from embeddings_store.snapshot import Snapshot

__all__ = ["EvaluateOptions", "Evaluated", "evaluate"]


def evaluate(
    options: EvaluateOptions,
    *,
    now: datetime,
    read: Callable[[Mapping[str, Any]], Snapshot],
    read_twin: Callable[[], Snapshot] | None = None,
    tell: Callable[[str], None] = say,
) -> Evaluated:
    """Predict the test split with a finished run's head, and write what came out into the run folder.

    read: opens the store as the run record (its argument) names it, after the cheap checks; read_twin: that of the
    run's random twin, where it shall be looked at too.
    Raises: UsageError, RunFolderError, CohortError, LeakError, StoreError; then the test split was not looked at.
    """
    run = open_locked(options)
    model, calibrator = load_model(run), load_calibrator(run.folder / MODEL)
    tables = read_tables(
        options.participants, options.measurements, options.pretrain_participants,
        vouched=vouched_of_record(run.record), tell=tell,
    )  # fmt: skip
    stored = read(run.record)
    cohort = tables.join(stored, task_of_record(run.record))
    check_same_space(run.record, stored)
    require_same_objects(run, stored)
    check_same_cohort(run, cohort)
    features = source_on(cohort, stored).table(model.features)
    test, classes = features.only(TEST), len(cohort.task.classes)

    twin_of = open_twin_of_run(run, tables, read_twin(), options) if read_twin else None

    look = begin_look(run, cohort, now=now)
    raw = model.predict(test, classes=classes, split=TEST)
    held_out = hold_out(model, features.only("train"), cohort, seed=run.record["seeds"]["folds"])
    others = predict_beside(held_out["participant"], raw["participant"], cohort, model.head.name)
    predicted = PredictedSplit(
        raw,
        others,
        lambda chosen: model.predict(test.where(chosen), classes=classes, split=TEST)["participant"],
        calibrator,
        twin_of=twin_of,
    )
    return finish_look(look, predicted, options, tables, by="classify evaluate")


def open_twin_of_run(
    run: Run, tables: CohortTables, stored: Snapshot, options: EvaluateOptions
) -> Callable[[Predictions], Twin]:
    """Check the store of the run's random twin; give what predicts with the twin's model once the look is counted."""
    cohort = tables.join(stored, task_of_record(run.record))
    check_twin_of_run(run.record, stored, cohort, TEST)
    model = load_model(run, TWIN_MODEL)
    seed = run.record["seeds"]["bootstrap"] if options.seed is None else options.seed
    return lambda ours: look_beside(ours, run.record, model, cohort, stored, replicates=options.replicates, seed=seed)
