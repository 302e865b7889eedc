"""The verb ``classify compare``: checkpoints x heads x tasks in one leaderboard, on val only. Reads from top to bottom.

Every cell is a run of classify probe; a cell that was made from the same inputs before is taken as it is, so that a
comparison that broke off goes on where it stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd

from classify.baselines.random_twin import refuse_trained
from classify.cohort.identity import people_of, same_number_only
from classify.cohort.tasks import task_of_record
from classify.comparing.board import AbsentCell, CellRun, CohortOf, ComparisonRecord, TaskBoard
from classify.comparing.cells import Cell, run_cells
from classify.comparing.entries import entries_of
from classify.comparing.folder import save_comparison
from classify.comparing.leaderboard import rank_entries
from classify.errors import CohortError
from classify.features.stores import ReadStore, reader_at
from classify.heads import find_head
from classify.named_tasks import with_stored_labels
from classify.run.earlier import EarlierRun, count_changes
from classify.run.folder import Run, find_run, load_run
from classify.run.record import RunRecord, SplitSize
from classify.run.summary import missing_lines
from classify.study_options import CompareOptions
from embeddings_store.command_line import several
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot
from embeddings_store.terminal.console import say


@dataclass(frozen=True)
class Compared:
    """The saved comparison: its record and its folder."""

    record: ComparisonRecord
    folder: Path


def compare(
    options: CompareOptions,
    *,
    clock: Callable[[], datetime] | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Compared:
    """Make or find every cell, rank them task by task, and save the comparison below the runs.

    read: opens a store by its address; None: as the options say. tell: hears of every cell. A cell whose cohort cannot
    be used is absent, with its reason.
    Raises: UsageError, CohortError (tasks, labels or splits disagree), LeakError, StoreError, RunFolderError; finished
    cells stay, and the next comparison finds them.
    """
    check_options(options := with_stored_labels(options, tuple(options.stores.values()), tell))
    given = [Cell(run.folder.name, "", run, reused=True) for run in finished_runs(options)]
    refuse_other_tasks(options, given)
    made, absent = list[Cell](), list[AbsentCell]()
    clock = clock or partial(datetime.now, UTC)
    twin, read = options.stores.get(options.random_twin or ""), read or reader_at(options.endpoint_url)
    for outcome in run_cells(options, clock, partial(read_random, read, twin) if twin else read, tell):
        if isinstance(outcome, Cell):
            made.append(outcome)
        else:
            absent.append(outcome)
    cells = [*made, *given]
    if not cells:
        raise CohortError(f"compare: no cell could be made; the first one: {absent[0].reason}")
    boards = {}
    for task in dict.fromkeys(cell.task for cell in cells):
        here = [cell for cell in cells if cell.task == task]
        refuse_other_kinds(here)
        refuse_disagreement(here)
        by_number = describe_strangers(here)
        for said in by_number:
            tell(said)
        entries = [entry for cell in here for entry in entries_of(cell, here, options.random_twin)]
        classes = here[0].run.record.asked.classes
        ranked = rank_entries(entries, classes, replicates=options.replicates, seed=options.seed)
        boards[task] = TaskBoard(
            **vars(ranked), classes=classes, cohorts=describe_cohorts(here), baselines_missing=describe_missing(here),
            unlike_train=describe_unlike_train(here), paired_by_number=by_number,
        )  # fmt: skip
    now = clock()
    asked = {cell.store or cell.name: cell.run.record.asked for cell in cells}
    record = ComparisonRecord(
        created=now.isoformat(timespec="seconds"),
        command=list(options.command),
        stores=list(options.stores),
        random_twin=options.random_twin,
        encoders={name: one.encoder_source for name, one in asked.items()},
        encoding_costs={name: one.encoding_cost for name, one in asked.items()},
        phantom=any(cell.run.record.asked.phantom for cell in cells),
        runs=[CellRun(cell.name, cell.run.record.id, cell.reused) for cell in cells],
        absent=absent,
        tasks=boards,
    )
    folder = save_comparison(options.runs, record, now)
    return Compared(replace(record, id=folder.name), folder)


def finished_runs(options: CompareOptions) -> list[Run]:
    """Open the runs that were given. Raises: UsageError, RunFolderError."""
    return [load_run(find_run(run, options.runs)) for run in several(options.run)]


def read_random(read: ReadStore, twin: str, address: str) -> Snapshot:
    """Open a store; that of the twin must not be of trained weights. Raises: UsageError, StoreError."""
    stored = read(address)
    if address == twin:
        refuse_trained(stored)
    return stored


def check_options(options: CompareOptions) -> None:
    """Refuse what can be refused before a store is opened."""
    if not options.stores and not several(options.run):
        raise UsageError("compare: nothing to compare; give --store NAME=ADDRESS with --models, or --run FOLDER")
    if options.stores and (not (options.participants or options.labels) or not options.models):
        raise UsageError("compare: --store needs --models and --participants or --labels, so that cells can be fitted")
    for model in options.models:
        find_head(model)
    for task in options.questions:
        options.question(task)
    if options.random_twin is not None and options.random_twin not in options.stores:
        raise UsageError(
            f"--random-twin: expected the name of one --store ({', '.join(options.stores) or 'none was given'}), "
            f"got {options.random_twin!r}"
        )


def refuse_other_tasks(options: CompareOptions, given: list[Cell]) -> None:
    """Runs that were given stand once, and answer a question of this comparison, or all the same one."""
    if len({cell.name for cell in given}) < len(given):
        raise UsageError("--run: two folders have the same name; give each run once")
    tasks = [options.question(task).name for task in options.questions] or [cell.task for cell in given[:1]]
    for cell in given:
        if cell.task not in tasks:
            raise UsageError(
                f"--run {cell.name}: its task is {cell.task}, this comparison is of {', '.join(tasks)}; "
                f"compare it with runs of its own task"
            )


def refuse_other_kinds(cells: list[Cell]) -> None:
    """Raises: UsageError where some runs are cross-validated and others judged on val."""
    crossed = [cell.name for cell in cells if cell.run.record.is_crossed]
    others = [cell.name for cell in cells if not cell.run.record.is_crossed]
    if crossed and others:
        raise UsageError(
            f"compare: {', '.join(crossed)}: cross-validated; {', '.join(others)}: judged on val: their numbers are of "
            "other people and other fits; compare runs of one kind"
        )


def refuse_disagreement(cells: list[Cell]) -> None:
    """Runs are compared when their classes agree, and people by their volumes: split, number, label, age and site.

    Raises: CohortError.
    """
    first = cells[0]
    known = _splits(first)
    before = EarlierRun(first.run.record, first.run.cohort)
    for cell in cells[1:]:
        if cell.run.record.asked.classes != first.run.record.asked.classes:
            raise CohortError(f"{first.name} and {cell.name}: the task {cell.task} has other classes in each")
        if others := before.other_objects(cell.run.cohort, cell.run.record.asked.space):
            raise CohortError(
                f"{cell.name}: {len(others)} volumes are other objects, under the same keys, than in {first.name} "
                f"({', '.join(sorted(others)[:3])}); make the older run again"
            )
        changed, _ = count_changes(cell.run.cohort, task_of_record(cell.run.record), before)
        if changed:
            raise CohortError(
                f"{cell.name}: {changed} participants have another number, label, or age and site than in "
                f"{first.name}, by the same volumes; compare runs of one participants table"
            )
        own = _splits(cell)
        both = known.index.intersection(own.index)
        if unlike := int((known[both] != own[both]).sum()):
            raise CohortError(
                f"{cell.name}: {unlike} participants stand in another split than in {first.name} or the next ones; "
                f"compare runs of one participants table"
            )
        known = known.combine_first(own)


def _splits(cell: Cell) -> "pd.Series[str]":
    """Give the split of every participant."""
    return cell.run.cohort.drop_duplicates("participant").set_index("participant")["split"]


def describe_missing(cells: list[Cell]) -> dict[str, str]:
    """Give, of each run, the baselines that could not be made beside it, with their reasons."""
    found = {cell.name: "; ".join(missing_lines(cell.run.record.rivals.baselines_missing)) for cell in cells}
    return {name: said for name, said in found.items() if said}


def describe_strangers(cells: list[Cell]) -> list[str]:
    """Say of each run how many of its people the first one knows by number alone."""
    first, people = cells[0], people_of(cells[0].run.cohort)
    counts = {cell.name: len(same_number_only(people_of(cell.run.cohort), people)) for cell in cells[1:]}
    return [
        f"{name}: {count} participants have none of the volumes that their numbers have in {first.name}; they are "
        "paired by number alone, so be sure that they are the same people"
        for name, count in counts.items()
        if count
    ]


def describe_unlike_train(cells: list[Cell]) -> list[str]:
    """Say of each run that was not fitted on the people of the first how its train differs."""
    first, *others = ((cell.name, set(_people_of_train(cell))) for cell in cells)
    return [
        f"{name} was fitted on other people than {first[0]}: {len(people)} and {len(first[1])} participants of train, "
        f"{len(people & first[1])} in both; a difference may be that of train"
        for name, people in others
        if people != first[1]
    ] + describe_folds(cells)


def describe_folds(cells: list[Cell]) -> list[str]:
    """Say of each cross-validated run whether its people were in other folds than those of the first."""
    first, *others = cells
    if not first.run.record.is_crossed:
        return []
    folds = [_folds(cell) for cell in (first, *others)]
    return [
        f"{cell.name} was cross-validated in other folds than {first.name}; a difference may be that of the folds"
        for cell, of in zip(others, folds[1:], strict=True)
        if not _same_folds(folds[0], of)
    ]


def _folds(cell: Cell) -> "pd.Series[str]":
    return cell.run.cohort.drop_duplicates("participant").set_index("participant")["fold"]


def _same_folds(ours: "pd.Series[str]", theirs: "pd.Series[str]") -> bool:
    """Say whether those who stand in both are together, and apart, in both; names of folds do not matter."""
    both = ours.index.intersection(theirs.index)
    pairs = set(zip(ours[both], theirs[both], strict=True))
    return len(pairs) == len({one for one, _ in pairs}) == len({one for _, one in pairs})


def _people_of_train(cell: Cell) -> list[str]:
    splits = _splits(cell)
    return [str(name) for name in splits.index[splits == "train"]]


def judged_size(record: RunRecord) -> SplitSize:
    """Return the size of the split that a run judged."""
    return record.cohort.splits[record.judged_split]


def describe_cohorts(cells: list[Cell]) -> list[CohortOf]:
    """List the different cohorts, and whose they are."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.cohort_sha256, []).append(cell)
    return [
        CohortOf(digest, judged_size(same[0].run.record), [cell.name for cell in same])
        for digest, same in groups.items()
    ]
