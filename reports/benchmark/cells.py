"""The cells of a benchmark: stores by one pass a dataset, and a run of classify probe each, made or found again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from classify.comparing.cells import Cell, run_cells
from classify.errors import CohortError
from classify.evaluate import evaluate
from classify.features.stores import ReadStore
from classify.named_tasks import with_stored_labels
from classify.run.folder import load_run
from classify.run_options import EvaluateOptions
from classify.study_options import CompareOptions
from embeddings_store.errors import RunError, UsageError
from extract.pipeline import extract
from extract.summary import store_accounts
from reports.benchmark.look import Gap, Looked
from reports.benchmark.plan import FINE_TUNED, Plan, asked_of

RUNS = "runs"


@dataclass(frozen=True)
class Made:
    """One cell that there is. name: variant/head."""

    dataset: str
    task: str
    variant: str
    head: str
    store: str
    cell: Cell

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.variant}/{self.head}"


def fill_stores(looked: Sequence[Looked], tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Encode what each dataset's stores lack, in one pass over it for all encoders; give the accounts by dataset."""
    accounts = {}
    for one in looked:
        if not one.seen:
            continue
        account = extract(one.options)
        accounts[one.dataset.name] = account
        if account["stopped_by"]:
            raise RunError(
                f"{one.dataset.name}: stopped by {account['stopped_by']}; the same command goes on from here"
            )
        stores = store_accounts(account)
        done = sum(store["committed"] - store["already_done"] for store in stores)
        tell(f"{one.dataset.name}: {done:,} rows made now, in {account['seconds']['wall']:.1f} s")
    return accounts


def make_cells(
    plan: Plan, looked: Sequence[Looked], runs: Path, clock: Callable[[], datetime], read: ReadStore,
    tell: Callable[[str], None],
) -> Iterator[Made | Gap]:  # fmt: skip
    """Give every cell, made now or found below runs, and why one is absent."""
    for one in looked:
        for task in one.dataset.tasks:
            done = set[str]()
            try:
                options = options_of(plan, one, task, runs, tell)
                for found in _cells(one, task, options, clock, read, tell):
                    done.add(found.variant)
                    yield found
            except (CohortError, UsageError) as error:  # of the task as a whole: no such column, no split, a leak
                tell(f"{one.dataset.name}/{task}: absent: {error}")
                names = [seen.variant.name for seen in one.seen if seen.variant.name not in done]
                yield from (Gap(one.dataset.name, name, str(error), task) for name in names)


def options_of(
    plan: Plan, looked: Looked, task: str, runs: Path, tell: Callable[[str], None] = lambda _: None
) -> CompareOptions:
    """Return the comparison of one task of a dataset: all of its encoders by all heads, and where its labels lie.

    Each dataset has a folder of its own below runs: people of another one may have the same numbers.
    """
    stores = tuple(f"{seen.variant.name}={seen.store}" for seen in looked.seen)
    asked = asked_of(
        plan, looked.dataset, task, store=stores, models=",".join(plan.heads), runs=runs / looked.dataset.name
    )
    return with_stored_labels(asked, [seen.store for seen in looked.seen], tell)


def _cells(
    looked: Looked, task: str, options: CompareOptions, clock: Callable[[], datetime], read: ReadStore,
    tell: Callable[[str], None],
) -> Iterator[Made | Gap]:  # fmt: skip
    for found in run_cells(options, clock, read, tell):
        variant, _, head = found.name.partition("/")
        if isinstance(found, Cell):
            yield Made(looked.dataset.name, task, variant, head, options.stores[variant], found)
        else:
            yield Gap(looked.dataset.name, variant, found.reason, task, head)


def open_test(plan: Plan, looked: Looked, made: Made, clock: Callable[[], datetime], read: ReadStore) -> Made | Gap:
    """Judge a cell on test, once: one that was judged there before is taken as it is. Cross-validated: unchanged.

    A cell that cannot be, such as of labels without test people, is a gap.
    """
    record = made.cell.run.record
    if made.variant == FINE_TUNED or record.is_crossed or any(one["split"] == "test" for one in record.evaluations):
        return made
    asked = options_of(plan, looked, made.task, made.cell.run.folder.parent.parent)
    options = EvaluateOptions(
        run=made.cell.run.folder, store=made.store, split="test", participants=asked.participants, labels=asked.labels,
        split_column=asked.split_column, replicates=asked.replicates, runs=asked.runs,
        pretrain_participants=asked.pretrain_participants, allow_near_copies=asked.allow_near_copies,
        command=("classify", "benchmark"),
    )  # fmt: skip
    try:
        evaluate(options, now=clock(), read=read)
    except (CohortError, UsageError) as error:
        return Gap(made.dataset, made.variant, str(error), made.task, made.head)
    return replace(made, cell=replace(made.cell, run=load_run(made.cell.run.folder)))
