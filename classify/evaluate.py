"""The verb ``classify evaluate``: the one look at the locked test split. Reads from top to bottom."""

from collections.abc import Callable
from datetime import UTC, datetime

from classify.baselines.random_twin import Twin, check_twin_of_run, look_beside
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import question_of_record
from classify.cohort.vouched import vouched_of_record
from classify.evaluating.look import (
    TEST,
    Evaluated,
    PredictedSplit,
    begin_look,
    check_same_cohort,
    finish_look,
    open_locked,
)
from classify.evaluating.predict_split import hold_out, predict_beside
from classify.features.stores import ReadStore, reader_at
from classify.fitting.model import load_model
from classify.fitting.source import check_same_space, require_same_objects, source_on
from classify.judging.kept_calibrator import read_calibrator
from classify.run.folder import TWIN_MODEL, Run
from classify.run.predictions import Predictions, judged_of
from classify.run_options import EvaluateOptions
from embeddings_store.snapshot import Snapshot
from embeddings_store.terminal.console import say

__all__ = ["EvaluateOptions", "Evaluated", "evaluate"]


def evaluate(
    options: EvaluateOptions,
    *,
    now: datetime | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Evaluated:
    """Predict the test split with a finished run's head, and write what came out into the run folder.

    read: opens a store by its address and snapshot, after the cheap checks; None: as the options say.
    Raises: UsageError, RunFolderError, CohortError, LeakError, StoreError; then the test split was not looked at.
    """
    run = open_locked(options)
    model, calibrator = load_model(run), read_calibrator(run.model_folder(), len(run.record.asked.classes))
    tables = read_tables(
        options.label_source.of_run(run.record), question_of_record(run.record), options.measurements,
        options.pretrain_participants,
        vouched=vouched_of_record(run.record), tell=tell,
    )  # fmt: skip
    read, number = read or reader_at(options.endpoint_url), run.record.asked.snapshot["number"]
    stored = read(options.store, number if isinstance(number, int) else None)
    cohort = tables.join(stored)
    check_same_space(run.record, stored)
    require_same_objects(run, stored)
    check_same_cohort(run, cohort)
    features = source_on(cohort, stored).table(model.features)
    test, classes = features.only(TEST), len(cohort.task.classes)

    twin = options.random_twin
    twin_of = open_twin_of_run(run, tables, read(twin), options) if twin else None

    look = begin_look(run, cohort, now=now or datetime.now(UTC))
    raw = model.predict(test, classes=classes, split=TEST)
    held_out = hold_out(model, features.only("train"), cohort, seed=run.record.made.seeds["folds"])
    others = predict_beside(judged_of(held_out), judged_of(raw), cohort, model.head.name)
    predicted = PredictedSplit(
        raw,
        others,
        lambda chosen: judged_of(model.predict(test.where(chosen), classes=classes, split=TEST)),
        calibrator,
        twin_of=twin_of,
    )
    return finish_look(look, predicted, options, tables, by="classify evaluate")


def open_twin_of_run(
    run: Run, tables: CohortTables, stored: Snapshot, options: EvaluateOptions
) -> Callable[[Predictions], Twin]:
    """Check the store of the run's random twin; give what predicts with the twin's model once the look is counted."""
    cohort = tables.join(stored)
    check_twin_of_run(run.record, stored, cohort, TEST)
    model = load_model(run, TWIN_MODEL)
    seed = run.record.made.seeds["bootstrap"] if options.seed is None else options.seed
    return lambda ours: look_beside(ours, run.record, model, cohort, stored, replicates=options.replicates, seed=seed)
