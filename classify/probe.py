"""The verb ``classify probe``: train one head on stored embeddings and judge it on val. Reads from top to bottom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from classify.baselines.covariates import TWIN_MISSING
from classify.baselines.each_store import EachStore, stand_beside_each
from classify.baselines.random_twin import Twin, read_checked_twin, stand_beside
from classify.cohort.identity import with_groups
from classify.cohort.questions import Question
from classify.cohort.table import Cohort
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.vouched import NOBODY, read_vouched
from classify.evaluating.cross_validation import Asked as AskedOfFolds
from classify.evaluating.cross_validation import CrossValidated, cross_validate, deal_outer
from classify.evaluating.predict_split import DUMMY, ValJudged, judge_val
from classify.features.fused import FusedSnapshot, mark_all
from classify.features.several_stores import name_stores, open_stores
from classify.features.stores import ReadStore, reader_at
from classify.features.tokens import resolve_grid
from classify.fitting.model import FittedModel, check_aggregation, fit_model
from classify.fitting.source import FeatureSource, source_on
from classify.heads import HEADS, find_head
from classify.heads.device import find_device
from classify.judging.calibrate import Calibrator, find_method
from classify.judging.prevalence import state_prevalence
from classify.named_tasks import with_stored_labels
from classify.options import AUTO, ProbeOptions
from classify.probe_checks import (
    check_crossed,
    check_device,
    check_kind,
    check_learnable,
    check_tokens,
    count_views,
    rivals_of,
)
from classify.probe_record import (
    PACKAGES,
    describe_making,
    describe_missing,
    describe_model,
    describe_question,
)
from classify.reference.training import TrainingReference, remember_train
from classify.run.earlier import check_earlier
from classify.run.folder import MODEL, TWIN_MODEL, digest_models, new_run_id, run_folder, save_run, save_tables
from classify.run.predictions import Predictions, judged_of, stack_predictions
from classify.run.record import Rivals, RunRecord
from classify.run.stopwatch import Stopwatch
from classify.search.folds import FOLDS, count_folds
from classify.search.nested import score_nested
from classify.search.search import Chosen, SearchPlan, check_plan, choose_model, keep_journal
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot
from embeddings_store.terminal.console import say
from embeddings_store.terminal.provenance import code_commit, package_versions


@dataclass(frozen=True)
class Probed:
    """A published run: its record and its folder."""

    record: RunRecord
    folder: Path


def probe(
    options: ProbeOptions,
    *,
    now: datetime | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Probed:
    """Fit one head on train, judge it on val beside the baselines, and publish the run folder.

    The test split is counted and left alone. read: opens a store by its address, after the cheap checks; None: as the
    options say. tell: hears what is worth knowing.
    Raises: UsageError, CohortError, LeakError, StoreError, RunFolderError.
    """
    clock, options = Stopwatch(), with_stored_labels(options, tuple(name_stores(options.store).values()), tell)
    question, method = check_options(options)
    tables = read_tables_of(options, question, tell)
    task = check_kind(tables.task, options)
    now, read = now or datetime.now(UTC), tables.labels.published.reading(read or reader_at(options.endpoint_url))
    stored = open_stores(options.store, read, task.level)
    twin_stored = read_checked_twin(read(options.random_twin), stored.space) if options.random_twin else None
    cohort = join_told(tables, stored, tell)
    marked = with_groups(mark_all(stored), cohort)
    standing = check_earlier(options.runs, cohort, marked, stored.space_id, resplit=options.resplit, tell=tell)
    source = source_on(cohort, stored)
    folds = deal_outer(cohort, options.cross_validate, options.seed) if tables.labels.crossed else None
    plan = plan_search(options, source, tell)
    tables.keep_splits(marked, tell)
    clock.lap("read")
    with run_folder(options.runs, run_id := new_run_id(now, options.model, task.name)) as aside:
        chosen = search(options, plan, source, tell)
        keep_journal(options.runs, chosen, aside)
        clock.lap("search")
        train = source.only("train").table(chosen.spec.features)
        model = fit_model(chosen.spec, train, classes=len(task.classes), seed=options.seed)
        clock.lap("fit")
        crossed = cross(options, method, source, folds, model, tables, tell) if folds else None
        val_judged = crossed.judged if crossed else judge(options, method, model, source, tables, clock)
        clock.lap("evaluate")
        levels, others, said = val_judged.levels, val_judged.others, val_judged.said
        twin = compare_to_twin(options, plan, tables, twin_stored, source, judged_of(levels))
        beside = twin or compare_to_each_store(options, plan, source, stored, judged_of(levels))
        clock.lap("twin" if twin else "each_store", only_if=beside is not None)
        remembered = remember_train(model.features, source, stored.index, seed=options.seed)
        clock.lap("novelty")
        fitted = describe_model(options, model, source, chosen, val_judged.calibration, clock, crossed)
        save_parts(aside, model, remembered, val_judged.calibrator, twin)
        rows = rows_of(levels, others, model.head.name, beside)
        save_tables(aside, rows, crossed.with_folds(cohort.table) if crossed else cohort.table, marked)
        record = RunRecord(
            id=run_id,
            made=describe_making(options, stored, now, clock, digest_models(aside)),
            asked=describe_question(cohort, stored),
            cohort=tables.describe_run(cohort, marked, said.without, standing, balanced=model.head.balanced),
            fitted=fitted,
            judged=said.judged,
            rivals=Rivals([TWIN_MISSING, *crossed.missing] if crossed else describe_missing(cohort)),
        )
        folder = save_run(aside, record := beside.beside(record) if beside else record)
    tell(clock.said())
    return Probed(record, folder)


def join_told(tables: CohortTables, stored: Snapshot, tell: Callable[[str], None]) -> Cohort:
    """Join the tables with what is stored, and say who was found."""
    cohort = tables.join(stored)
    for line in cohort.said():
        tell(line)
    return cohort


def rows_of(
    levels: Mapping[str, Predictions], others: Mapping[str, Predictions], own: str, beside: Twin | EachStore | None
) -> pd.DataFrame:
    """Give all predictions of a run as one table: its own, those of the baselines, and of what it was held against."""
    baselines = {name: part for name, part in others.items() if name != own}
    return stack_predictions([*levels.values(), *(baselines | dict(beside.rows if beside else {})).values()])


def read_tables_of(options: ProbeOptions, question: Question, tell: Callable[[str], None]) -> CohortTables:
    """Read the tables that the options name. Raises: CohortError, LeakError; UsageError for what folds cannot have."""
    vouched = read_vouched(options.allow_near_copies) if options.allow_near_copies else NOBODY
    tables = read_tables(
        options.label_source, question, options.measurements, options.pretrain_participants, vouched=vouched, tell=tell
    )
    if tables.labels.crossed:
        check_crossed(options)
    return tables


def check_options(options: ProbeOptions) -> tuple[Question, str | None]:
    """Give the question and the calibration; refuse what cannot be, before anything is read. Raises: UsageError."""
    question, method = options.question(options.task), find_method(options.calibrate)
    _ = options.label_source
    if "" not in name_stores(options.store) and options.random_twin is not None:
        raise UsageError("--random-twin: goes with one --store; of several, each would need a twin of its own")
    if options.model != AUTO:
        find_head(options.model)
        check_tokens(options.model, options.pools, options.token_grid)
        if options.aggregate != AUTO:
            check_aggregation(options.model, options.aggregate)
    check_device(options.device)
    if AUTO in options.pools and len(options.pools) > 1:
        raise UsageError("--pool: expected either auto or names of pools, got both")
    check_plan(SearchPlan(options.model, trials=options.trials, minutes=options.minutes, engine=options.engine))
    if options.nested and not (options.trials or options.minutes or options.model == AUTO):
        raise UsageError("--nested: expected --trials or --minutes with it; without a search there is nothing to judge")
    return question, method


def plan_search(options: ProbeOptions, source: FeatureSource, tell: Callable[[str], None]) -> SearchPlan:
    """Say what is searched, with as many folds as the smallest class of train allows.

    Raises: UsageError where more folds are asked for, or tokens that are not stored; CohortError where no fold can be
    made.
    """
    cohort = source.cohort
    train = cohort.table[cohort.table["split"] == "train"]
    check_learnable(cohort)
    people, label = train["participant"].to_numpy(str), train["label"].to_numpy()
    folds, said = FOLDS, None
    if options.model != DUMMY:  # which fits on nothing but counts
        folds, said = count_folds(people, label, cohort.task.classes, options.folds)
    if said:
        tell(said)
    if options.model != AUTO:
        return _plan_head(options, options.model, options.views, folds, source)
    names = rivals_of(options.pools, options.aggregate, source)
    plain = {name for name in names if not (HEADS[name].reads_tokens or HEADS[name].pools_scans)}
    rivals = [_plan_head(options, name, options.views if name in plain else None, folds, source) for name in names]
    return replace(rivals[0], model=AUTO, views=max(one.views for one in rivals), rivals=tuple(rivals))


def _plan_head(options: ProbeOptions, model: str, views: int | None, folds: int, source: FeatureSource) -> SearchPlan:
    head = HEADS[model]
    return SearchPlan(
        model, options.layer, ",".join(options.pools), options.aggregate, options.trials, options.minutes,
        folds, options.jobs, options.engine, options.ray_address, options.seed,
        resolve_grid(source.space, options.token_grid, head.most_tokens) if head.reads_tokens else None,
        find_device(options.device), count_views(model, views, source),
    )  # fmt: skip


def search(
    options: ProbeOptions,
    plan: SearchPlan,
    source: FeatureSource,
    tell: Callable[[str], None],
    outer: int | None = None,
) -> Chosen:
    """Choose on train alone; nested: also judge such a choice on outer folds of train and val.

    outer: number of the fold of a cross-validation that the search is inside of.
    """
    facts = {
        "task": source.cohort.task.to_dict(),
        "versions": package_versions(PACKAGES) | {"commit": code_commit()},
        **({} if outer is None else {"outer": outer}),
    }
    chosen = choose_model(plan, source.only("train"), runs=options.runs, facts=facts, tell=tell)
    if not options.nested or chosen.record is None:
        return chosen
    nested = score_nested(plan, source, runs=options.runs, facts=facts, replicates=options.replicates, tell=tell)
    return replace(chosen, record=replace(chosen.record, nested=nested))


def judge(
    options: ProbeOptions, method: str | None, model: FittedModel, source: FeatureSource, tables: CohortTables,
    clock: Stopwatch,
) -> ValJudged:  # fmt: skip
    """Judge val."""
    train, val = (source.only(split).table(model.features) for split in ("train", "val"))
    return judge_val(
        model, method, train, val, source.cohort, prevalence=options.prevalence,
        pretrained=tables.pretrained, replicates=options.replicates, seed=options.seed, clock=clock,
    )  # fmt: skip


def cross(
    options: ProbeOptions, method: str | None, source: FeatureSource, folds: tuple[np.ndarray, list[str]],
    final: FittedModel, tables: CohortTables, tell: Callable[[str], None],
) -> CrossValidated:  # fmt: skip
    """Judge everybody on outer folds, the whole search inside each."""

    def choose(inside: FeatureSource, number: int) -> Chosen:
        plan = plan_search(options, inside, tell)
        return search(options, plan, inside, tell, outer=number)

    stated = None if tables.task.is_number else state_prevalence(options.prevalence, source.cohort)
    asked = AskedOfFolds(method, stated, tables.pretrained, options.replicates, options.seed)
    return cross_validate(source, folds, choose, final, asked, tell)


def save_parts(
    run: Path, model: FittedModel, remembered: TrainingReference, calibrator: Calibrator | None, twin: Twin | None
) -> None:
    """Write all that evaluate and predict need: the store is not asked for train again."""
    model.save(run / MODEL)
    remembered.save(run / MODEL)
    if calibrator:
        calibrator.save(run / MODEL)
    if twin:
        (run / TWIN_MODEL).mkdir()
        twin.model.save(run / TWIN_MODEL)


def compare_to_twin(
    options: ProbeOptions,
    plan: SearchPlan,
    tables: CohortTables,
    stored: Snapshot | None,
    source: FeatureSource,
    people: Predictions,
) -> Twin | None:
    """Search and fit once more, on the vectors of the random twin where there is one; judge it on the same people."""
    if stored is None:
        return None
    alone = replace(options, nested=False)
    plan = replace(plan, views=min(plan.views, stored.space.view_count))
    return stand_beside(
        people,
        source.cohort,
        source.space,
        tables.join(stored),
        stored,
        lambda twin: search(alone, plan, twin, say).spec,
        replicates=options.replicates,
        seed=options.seed,
    )


def compare_to_each_store(
    options: ProbeOptions, plan: SearchPlan, source: FeatureSource, stored: Snapshot, people: Predictions
) -> EachStore | None:
    """Search and fit once more on each of several stores alone, and judge that on the same people."""
    if not isinstance(stored, FusedSnapshot):
        return None
    alone = replace(options, nested=False)
    return stand_beside_each(
        people, source.cohort, stored.parts, lambda part: search(alone, plan, part, say).spec,
        replicates=options.replicates, seed=options.seed,
    )  # fmt: skip
