"""Where --task a2a/amd, or amd of a store of one dataset, becomes a table of labels and a task file: here alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from classify.cohort.made_splits import SPLITS_FILE, read_splits_file
from classify.cohort.stored_labels import FOLDER, LABELS, StoredLabels, labels_of_store
from classify.cohort.tasks import FILE_SUFFIXES, TASKS
from classify.question_options import TargetOptions
from classify.run.record import RunRecord
from classify.run_options import JudgedOptions
from embeddings_store.errors import StoreError, UsageError

FOLDS, SHARES = 5, (70.0, 15.0, 15.0)
"""Where a dataset has no published split of three parts, and nobody says how people are split."""

T = TypeVar("T", bound=TargetOptions)
J = TypeVar("J", bound=JudgedOptions)


def with_stored_labels(
    options: T,
    stores: Sequence[str],
    tell: Callable[[str], None],
    find: Callable[[str], StoredLabels] | None = None,
) -> T:
    """Return options whose labels, task and splits are those of the stores' dataset, where they name one.

    Options with a table of labels, or of a task of AI-READI, stay as they are. stores: addresses; find: what gives the
    labels at one of them. Raises: UsageError, StoreError, RunFolderError.
    """
    asked = [task for task in _tasks_of(options) if task is not None]
    named = [task for task in asked if task not in TASKS and not task.endswith(FILE_SUFFIXES)]
    if options.labels is not None or options.participants is not None:
        _refuse_two_tables(options, named)
        return options
    if not stores or (asked and not named):
        _refuse_official(options)
        return options
    sure = any("/" in task for task in named) or options.official_splits
    stored = _labels_of(find or _in_stores(options), stores, sure=sure)
    if stored is None:
        return options
    if not asked and options.target is None:
        names = ", ".join(f"{stored.dataset}/{task.name}" for task in stored.tasks)
        raise UsageError(f"--store {stores[0]}: expected a --task of its dataset ({names}), got none")
    files = {task: str(stored.task(task)) if task in named else task for task in asked}
    changed: dict[str, Any] = {
        name: tuple(files[one] for one in task) if isinstance(task, tuple) else files[task]
        for name, task in _given(options).items()
    }
    splits = _splits_of(options, stored, tell)
    return replace(options, labels=stored.labels, official_splits=False, **changed, **splits)  # which are in the labels


def with_labels_of_run(options: J, record: RunRecord, stores: Sequence[str]) -> J:
    """Return options with the labels that a run of a dataset by name was made from, where no table is given."""
    folder = record.cohort.splits_from.get("folder")
    if options.labels is not None or options.participants is not None or not isinstance(folder, str):
        return options
    kept = options.runs / FOLDER / folder / LABELS
    if kept.is_file() or not stores:
        return replace(options, labels=kept)
    leaks = bool(record.cohort.splits_from.get("official") and record.cohort.splits_from.get("shared_people"))
    found = labels_of_store(stores[0], options.runs, official=leaks, endpoint_url=options.endpoint_url)
    return replace(options, labels=found.labels)


def with_labels_of_place(options: J, stores: Sequence[str]) -> J:
    """Return options with the labels of the stores' own dataset, where no table is given and they name one."""
    if options.labels is not None or options.participants is not None:
        return options
    try:
        found = labels_of_store(stores[0], options.runs, endpoint_url=options.endpoint_url)
    except UsageError:
        return options  # which says that a table is missing
    return replace(options, labels=found.labels)


def _given(options: TargetOptions) -> dict[str, Any]:
    """Return the fields that name tasks, where they do."""
    names = {one.name for one in fields(options)} & {"task", "tasks"}
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _tasks_of(options: TargetOptions) -> list[str]:
    return [one for value in _given(options).values() for one in (value if isinstance(value, tuple) else (value,))]


def _in_stores(options: TargetOptions) -> Callable[[str], StoredLabels]:
    runs, endpoint = vars(options)["runs"], vars(options)["endpoint_url"]
    return lambda address: labels_of_store(address, runs, official=options.official_splits, endpoint_url=endpoint)


def _labels_of(find: Callable[[str], StoredLabels], stores: Sequence[str], *, sure: bool) -> StoredLabels | None:
    """Publish the labels of the first store; None where it names no dataset and none was asked for."""
    found: list[StoredLabels] = []
    for address in stores:
        try:
            found.append(find(address))
        except (StoreError, UsageError):
            if sure or found:
                raise
            return None
        if found[-1].dataset != found[0].dataset:
            raise UsageError(
                f"--store {address}: it is of the dataset {found[-1].dataset}, and {stores[0]} of {found[0].dataset}: "
                "give stores of one dataset"
            )
    return found[0]


def _splits_of(options: TargetOptions, stored: StoredLabels, tell: Callable[[str], None]) -> Mapping[str, Any]:
    """Return what says the splits, where neither the dataset, the options nor an earlier run do."""
    typed = options.make_splits or options.split_column or vars(options).get("cross_validate")
    if options.official_splits and typed:
        raise UsageError("--official-splits: cannot be combined with --make-splits, --split-column or --cross-validate")
    if options.official_splits and vars(options).get("allow_near_copies"):
        raise UsageError(
            "--official-splits: cannot be combined with --allow-near-copies: a published split is used as "
            "it is, and the people and scans that its parts share are counted"
        )
    if stored.official or typed:
        return {}
    if (kept := stored.labels.parent / SPLITS_FILE).is_file():
        making = read_splits_file(kept).making
        same = making is not None and (making.shares, making.seed) == (SHARES, options.seed)
        return {"make_splits": SHARES} if same and stored.otherwise == "made" else {}
    if stored.otherwise == "made":
        tell(f"splits: {stored.dataset} has no published split to use; people are split 70/15/15 (--make-splits)")
        return {"make_splits": SHARES}
    if "cross_validate" not in vars(options):
        return {}
    tell(f"splits: {stored.dataset} has few people and no published split to use; {FOLDS} folds (--cross-validate)")
    return {"cross_validate": FOLDS}


def _refuse_two_tables(options: TargetOptions, named: Sequence[str]) -> None:
    given = "--labels" if options.labels is not None else "--participants"
    if slashed := [task for task in named if "/" in task]:
        raise UsageError(f"--task {slashed[0]}: a task of a dataset finds its labels in the store; leave {given} out")
    _refuse_official(options)


def _refuse_official(options: TargetOptions) -> None:
    if options.official_splits:
        raise UsageError("--official-splits: goes with a --task of a public dataset, such as a2a/amd, and its store")
