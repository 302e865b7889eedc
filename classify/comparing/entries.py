"""From the cells of a comparison to the lines of its leaderboard."""

from collections.abc import Iterator, Sequence

from classify.baselines.covariates import WITH_EMBEDDING
from classify.baselines.random_twin import RANDOM_TWIN
from classify.cohort.tasks import task_of_record
from classify.comparing.cells import Cell
from classify.comparing.leaderboard import Entry
from classify.run.predictions import pick_predictions

CHOSEN_ON_VAL = "fine-tuned: val chose when its training stopped, so val is too optimistic"


def entries_of(cell: Cell, cells: Sequence[Cell], random_twin: str | None, split: str | None = None) -> Iterator[Entry]:
    """Give the lines of a run: its model, and what stands beside it. A baseline of the same people stands once.

    split: None is the one that the run judged itself.
    """
    record = cell.run.record
    told = {
        "run": record.id,
        "store": cell.store,
        "model": record.fitted.model,
        "space": record.asked.space,
        "note": "",
    }
    frame = cell.run.predictions
    level, split = task_of_record(record).judged, split or record.judged_split
    people = frame[(frame["level"] == level) & (frame["split"] == split)]
    names = [str(name) for name in people["model"].unique()]
    own_twin = f"{cell.name} {RANDOM_TWIN}"
    for name in names:
        found = pick_predictions(people, model=name, level=level, split=split)
        if name == record.fitted.model:
            twin = own_twin if RANDOM_TWIN in names else _name_of_twin(cell, random_twin)
            note = CHOSEN_ON_VAL if "stages" in record.fitted.parameters else ""
            yield Entry(cell.name, "model", found, told | {"note": note}, cell.seconds, twin)
        elif name == RANDOM_TWIN:
            yield Entry(own_twin, "baseline", found, told)
        elif name.startswith(WITH_EMBEDDING):
            yield Entry(f"{cell.name} +{name.removeprefix(WITH_EMBEDDING)}", "together", found, told)
        elif cell is _first_with(name, cell, cells):
            alone = len({one.cohort_sha256 for one in cells}) == 1
            told_of_it = told | {"model": name, "store": ""}
            yield Entry(name if alone else f"{name} ({cell.name}'s people)", "baseline", found, told_of_it)


def _name_of_twin(cell: Cell, random_twin: str | None) -> str | None:
    """Name the cell of the same head on the random encoder's store; the twin itself has none."""
    if random_twin is None or cell.store in {"", random_twin}:
        return None
    return f"{random_twin}/{cell.run.record.fitted.model}"


def _first_with(baseline: str, cell: Cell, cells: Sequence[Cell]) -> Cell:
    """Find the first cell of the same people that was judged beside a baseline."""
    same = (one for one in cells if one.cohort_sha256 == cell.cohort_sha256)
    return next(one for one in same if baseline in set(one.run.predictions["model"]) - {one.run.record.fitted.model})
