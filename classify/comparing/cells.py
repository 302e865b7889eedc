"""The cells of a comparison: runs of classify probe, made here or found among those that were made before."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from classify.cohort.stored_labels import published_with
from classify.comparing.board import AbsentCell
from classify.errors import CohortError, LeakError, RunFolderError
from classify.evaluating.predict_split import DUMMY
from classify.features.stores import ReadStore
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.folder import Run, load_run
from classify.run.inputs import digest_inputs, digest_rows
from classify.run.record import RECORD
from classify.study_options import CompareOptions
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot


@dataclass(frozen=True)
class Cell:
    """One run of the comparison. store: its name, "" for a run that was given. reused: it was there before."""

    name: str
    store: str
    run: Run
    reused: bool

    @property
    def task(self) -> str:
        """Name of the question."""
        return self.run.record.asked.task

    @property
    def seconds(self) -> float | None:
        """Seconds of search and fit; None where the run does not tell."""
        spent = self.run.record.made.seconds
        known = [float(spent[stage]) for stage in ("search", "fit") if stage in spent]
        return sum(known) if known else None

    @property
    def cohort_sha256(self) -> str:
        """Digest of the people and volumes that it was made on."""
        return self.run.record.cohort.cohort_sha256


def run_cells(
    options: CompareOptions, clock: Callable[[], datetime], read: ReadStore, tell: Callable[[str], None]
) -> Iterator[Cell | AbsentCell]:
    """Give every cell, store by store, so that one store is in memory at a time; and why one is absent."""
    stores, models, tasks = options.stores, options.models, options.questions
    if not stores:
        return
    known, read = find_known_runs(options.runs, tell), published_with(options.labels).reading(read)
    total, number = len(stores) * len(models) * len(tasks), 0
    for store, address in stores.items():
        stored = read(address)
        rows = digest_rows(stored)
        for task in tasks:
            for model in models:
                number += 1
                # The dummy stands in every table, and has nothing that trials could choose.
                searched: dict[str, Any] = {"trials": 0, "minutes": None} if model == DUMMY else {}
                asked = replace(options.probe(model, address, task), **searched)
                name = f"{store}/{model}"
                asks = options.question(task).name
                said = f"[{number}/{total}] {name}, {asks}"
                folder = known.get(digest_inputs(asdict(asked), rows))
                try:
                    made = folder or make_run(asked, clock(), stored)
                except LeakError:
                    raise
                except (CohortError, UsageError) as error:  # such as a head on tokens that the store does not keep
                    tell(f"{said}: absent: {error}")
                    yield AbsentCell(name, asks, str(error))
                    continue
                cell = Cell(name, store, load_run(made), reused=folder is not None)
                tell(f"{said}: {cell.seconds or 0.0:.1f} s{', made before' if cell.reused else ''}")
                yield cell


def make_run(asked: ProbeOptions, now: datetime, stored: Snapshot) -> Path:
    """Make one cell, and give its folder."""
    return probe(asked, now=now, read=lambda *_: stored).folder


def find_known_runs(runs: Path, tell: Callable[[str], None]) -> dict[str, Path]:
    """Find the finished runs by the digest of their inputs; the newest of equals. A damaged one is told and left."""
    found = {}
    for path in sorted(runs.glob(f"[!.]*/{RECORD}")):
        try:
            found[load_run(path.parent).record.made.inputs_sha256] = path.parent
        except RunFolderError as error:
            tell(f"not reused: {error}")
    found.pop("", None)
    return found
