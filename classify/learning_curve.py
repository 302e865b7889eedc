"""The verb ``classify learning-curve``: would more participants help? Reads from top to bottom."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from classify.cohort.identity import mark_volumes, with_groups
from classify.cohort.tables import CohortTables
from classify.features.stores import ReadStore, reader_at
from classify.fitting.source import source_on
from classify.judging.learning import check_fractions, trace_curve
from classify.named_tasks import with_stored_labels
from classify.probe import check_options, plan_search, read_tables_of, search
from classify.probe_checks import check_kind
from classify.run.earlier import check_earlier
from classify.run.estimate import lift
from classify.run.published_folder import LEARNING_CURVES, published_folder
from classify.run.record import Count, Judged, Open, Resplit, SplitSize
from classify.run.stopwatch import Stopwatch
from classify.run.typed_record import as_json, write_record
from classify.study_options import CurveOptions
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say

CURVE = "curve.json"

SAME_JUDGES = (
    "every point is judged on the same participants of val, so the points share their luck; compare two of them by "
    "difference_to_all, which is paired"
)
SAME_PEOPLE = "the spread over repeats is that of drawing other people from this train, so it shrinks as it is used up"
OF_ALL = "the parameters were chosen once, on the whole of train: the small subsets are helped by people they lack"
BY_DEFAULT = "the parameters are the head's defaults at every point; nothing was chosen"


@dataclass(frozen=True, kw_only=True)
class CurveRecord:
    """The record of a learning curve. id: of its folder. points: see trace_curve. said: how to read them."""

    id: str
    created: str
    command: list[str]
    model: str
    task: str
    classes: list[str]
    space: str
    cohort_sha256: str
    phantom: bool
    resplit: Resplit | None = None
    parameters: Open
    features: Open
    aggregation: str
    search: Judged | None
    split: str
    val: SplitSize
    seed: int
    repeats: Count
    replicates: Count
    points: list[Judged]
    said: list[str]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """The saved curve: its record and its folder."""

    record: CurveRecord
    folder: Path


def learning_curve(
    options: CurveOptions,
    *,
    now: datetime | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Curve:
    """Fit a head on growing parts of train, judge each on val, and save the curve below the runs; test stays locked.

    read: opens a store by its address, after the cheap checks; None: as the options say. tell: hears of every point.
    Raises: UsageError, CohortError, LeakError, StoreError, RunFolderError.
    """
    clock, fractions = Stopwatch(), check_fractions(options.fractions)
    asked = with_stored_labels(options, (options.store,), tell).probed
    question, _ = check_options(asked)
    tables = refuse_folds(read_tables_of(asked, question, tell))
    task = check_kind(tables.task, asked)
    stored = tables.labels.published.reading(read or reader_at(options.endpoint_url))(options.store)
    cohort = tables.join(stored)
    marked = with_groups(mark_volumes(stored), cohort)
    standing = check_earlier(asked.runs, cohort, marked, stored.space_id, resplit=asked.resplit, tell=tell)
    source = source_on(cohort, stored)
    plan = plan_search(asked, source, tell)
    tables.keep_splits(marked, tell)
    clock.lap("read")
    chosen = search(asked, plan, source, tell)
    clock.lap("search")
    with published_folder(asked.runs, LEARNING_CURVES, now := now or datetime.now(UTC)) as (aside, place):
        features = source.table(chosen.spec.features)
        points = trace_curve(
            chosen.spec, features.only("train"), features.only("val"), task.classes, fractions=fractions,
            repeats=options.repeats, replicates=asked.replicates, seed=asked.seed, tell=tell,
        )  # fmt: skip
        clock.lap("fit")
        record = CurveRecord(
            id=place.name,
            created=now.isoformat(timespec="seconds"),
            command=list(asked.command),
            model=chosen.spec.model,
            task=task.name,
            classes=list(task.classes),
            space=stored.space_id,
            cohort_sha256=cohort.sha256,
            phantom=cohort.phantom,
            resplit=standing.resplit,
            parameters=dict(chosen.spec.parameters),
            features=asdict(chosen.spec.features),
            aggregation=chosen.spec.aggregation,
            search=lift(as_json(chosen.record)) if chosen.record else None,
            split="val",
            val=cohort.sizes()["val"],
            seed=asked.seed,
            repeats=options.repeats,
            replicates=asked.replicates,
            points=points,
            said=[SAME_JUDGES, SAME_PEOPLE, OF_ALL if chosen.record else BY_DEFAULT],
            seconds=clock.seconds(),
        )
        write_record(aside / CURVE, record)
    return Curve(record, place)


def refuse_folds(tables: CohortTables) -> CohortTables:
    """Return the tables. Raises: UsageError where the labels say folds in the place of splits."""
    if tables.labels.crossed:
        raise UsageError(
            "learning-curve: the labels say folds, and a curve is judged on one val split; give a column of train, val "
            "and test, or --make-splits 70/15/15"
        )
    return tables
