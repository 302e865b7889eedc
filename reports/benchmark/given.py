"""Finished runs of finetune that a plan names for a dataset: opened before hours are spent, then its cells, too."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from classify.compare import describe_strangers, refuse_disagreement, refuse_other_kinds
from classify.comparing.cells import Cell
from classify.errors import CohortError, RunFolderError
from classify.run.folder import Run, load_run
from embeddings_store.errors import UsageError
from reports.benchmark.cells import Made
from reports.benchmark.look import Gap
from reports.benchmark.plan import FINE_TUNED, Plan

Given = Mapping[str, Sequence[Cell]]
"""The runs that a plan names, by dataset."""


def open_given(plan: Plan) -> Given:
    """Open the runs of every dataset. Raises: UsageError for a folder that is no finished run of finetune train."""
    return {one.name: [_open(one.name, Path(path)) for path in one.runs] for one in plan.datasets}


def _open(dataset: str, path: Path) -> Cell:
    try:
        run = load_run(path)
    except RunFolderError as error:
        raise UsageError(f"dataset {dataset}: runs: {error}") from error
    if not run.record.fitted.parameters.get("stages"):
        raise UsageError(
            f"dataset {dataset}: runs: {path.name}: expected a run of finetune train, got one of the head "
            f"{run.record.fitted.model}; name that head in heads"
        )
    return Cell(f"{FINE_TUNED}/{path.name}", "", run, reused=True)


def given_cells(plan: Plan, given: Given, made: Sequence[Made]) -> Iterator[Made | Gap]:
    """Give the runs where they are of the tasks and people of a dataset's cells, and why one is not there."""
    for dataset, cells in given.items():
        for cell in cells:
            head = cell.run.folder.name
            same = [one for one in made if one.dataset == dataset and one.cell.task == cell.task]
            try:
                _require_own(plan, cell, same)
            except (CohortError, UsageError) as error:
                yield Gap(dataset, FINE_TUNED, str(error), head=head)
            else:
                yield Made(dataset, same[0].task, FINE_TUNED, head, "", cell)


def _require_own(plan: Plan, cell: Cell, same: Sequence[Made]) -> None:
    """Raises: CohortError, UsageError where a run is of another question, of other people, or not yet judged."""
    if not same:
        raise CohortError(f"its task is {cell.task}, of which there is no cell here")
    both = [same[0].cell, cell]
    refuse_other_kinds(both)
    refuse_disagreement(both)
    if said := describe_strangers(both):
        raise CohortError(said[0])
    if plan.judge == "test" and not cell.run.record.looks_at_test:
        raise CohortError("it was not judged on test: finetune evaluate --split test")
    here, own = (_volumes(one.run, plan.judge) for one in both)
    if here != own:
        raise CohortError(
            f"{len(own - here)} of its {len(own)} volumes of {plan.judge} are not among those of {both[0].name}, and "
            f"{len(here - own)} of those are not its own, so that the two are of other people or scans; fine-tune on "
            "the same bucket and table"
        )


def _volumes(run: Run, split: str) -> set[str]:
    """Name the volumes of a split by which a run is judged."""
    return set(run.cohort.loc[run.cohort["split"] == split, "volume"])
