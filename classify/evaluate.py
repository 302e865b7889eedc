"""The verb ``classify evaluate``: the one look at the locked test split, or at people of another place."""

from collections.abc import Callable
from datetime import UTC, datetime

from classify.baselines.random_twin import Twin, check_twin_of_run, look_beside
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import question_of_record
from classify.cohort.vouched import vouched_of_record
from classify.evaluating.external import evaluate_external
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
from classify.features.several_stores import name_stores, open_stores_of
from classify.features.stores import ReadStore, reader_at
from classify.fitting.model import load_model
from classify.fitting.source import check_same_space, require_same_objects, source_on
from classify.judging.kept_calibrator import read_calibrator
from classify.named_tasks import with_labels_of_run
from classify.run.folder import TWIN_MODEL, Run
from classify.run.predictions import Predictions, judged_of
from classify.run_options import EvaluateOptions
from embeddings_store.errors import UsageError
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
    """Predict the test split, or people of another place, with a finished run's head; write it into the run folder.

    read: opens a store by its address and snapshot, after the cheap checks; None: as the options say.
    Raises: UsageError, RunFolderError, CohortError, LeakError, StoreError; then the test split was not looked at.
    """
    if options.split is None and not options.external:
        raise UsageError("--split test or --external: expected one of them, got neither")
    read, now = read or reader_at(options.endpoint_url), now or datetime.now(UTC)
    if options.external:
        return evaluate_external(options, now=now, read=read, tell=tell)
    run = open_locked(options)
    options = with_labels_of_run(options, run.record, tuple(name_stores(options.store).values()))
    if options.recalibrate_on is not None or options.allow_near_copies is not None:
        raise UsageError("--recalibrate-on, --allow-near-copies: go with --external; a run keeps its own")
    model, calibrator = load_model(run), read_calibrator(run.model_folder(), len(run.record.asked.classes))
    tables = read_tables(
        options.label_source.of_run(run.record), question_of_record(run.record), options.measurements,
        options.pretrain_participants,
        vouched=vouched_of_record(run.record), tell=tell,
    )  # fmt: skip
    read = tables.labels.published.reading(read)
    stored = open_stores_of(run.record, options.store, read, tables.task.level, then=True)
    cohort = tables.join(stored)
    check_same_space(run.record, stored)
    require_same_objects(run, stored)
    check_same_cohort(run, cohort)
    features = source_on(cohort, stored).table(model.features)
    test, classes = features.only(TEST), len(cohort.task.classes)

    twin = options.random_twin
    twin_of = open_twin_of_run(run, tables, read(twin), options) if twin else None

    look = begin_look(run, cohort, now=now)
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
