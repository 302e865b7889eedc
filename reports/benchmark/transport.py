"""Trained on A, tested on B: for tasks that mean the same, each encoder and head, counted in the runs' ledger."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import permutations
from pathlib import Path

from classify.cohort.tasks import task_of_record
from classify.errors import CohortError
from classify.evaluating.external import evaluate_external
from classify.features.stores import ReadStore
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.kinds import measures_of
from classify.judging.transport import measure_gap
from classify.run.estimate import Measures
from classify.run.folder import Run, load_run
from classify.run.inputs import digest_rows
from classify.run.predictions import pick_predictions
from classify.run.record import Evaluation
from classify.run_options import EvaluateOptions
from embeddings_store.errors import RunError, UsageError
from embeddings_store.publish import published
from extract.layouts.datasets import dataset_names, load_datasets
from reports.benchmark.cells import Made
from reports.benchmark.look import Looked
from reports.benchmark.plan import Plan

FOLDER = "transport"


@dataclass(frozen=True)
class Moved:
    """One run at another place, or why it is not there. home, away: dataset/task. metrics: there; gap: to home."""

    meaning: str
    home: str
    away: str
    variant: str
    head: str
    metrics: Measures
    gap: Measures
    participants: int = 0
    reason: str = ""


def meanings_of(plan: Plan, looked: Sequence[Looked]) -> dict[str, list[str]]:
    """Name the tasks that mean the same in several datasets: by the plan, else as the datasets by name say."""
    found = {name: list(tasks) for name, tasks in plan.same.items()}
    known: dict[str, list[str]] = {}
    for one in looked:
        layout = one.selection.catalogue.listing.layout
        same = {task.name: task.same_as for task in load_datasets()[layout].tasks} if layout in dataset_names() else {}
        for task in one.dataset.tasks:
            if meaning := same.get(task):
                known.setdefault(meaning, []).append(f"{one.dataset.name}/{task}")
    return {name: tasks for name, tasks in known.items() if len(tasks) > 1} | found


def transport(
    plan: Plan, looked: Sequence[Looked], made: Sequence[Made], out: Path, clock: Callable[[], datetime],
    read: ReadStore, tell: Callable[[str], None],
) -> Iterator[Moved]:  # fmt: skip
    """Judge every run at every other place where its question is asked; one that was judged there is taken as it is."""
    cells = {(f"{one.dataset}/{one.task}", one.variant, one.head): one for one in made}
    for meaning, tasks in meanings_of(plan, looked).items():
        for home, away in permutations(tasks, 2):
            for variant in plan.variants:
                for head in plan.heads:
                    ours, theirs = (cells.get((task, variant.name, head)) for task in (home, away))
                    named = (meaning, home, away, variant.name, head)
                    if ours is None or theirs is None:
                        yield Moved(*named, {}, {}, reason="there is no cell at both places")
                        continue
                    try:
                        yield _moved(named, _look(ours, theirs, out, clock, read), plan)
                    except (RunError, UsageError) as error:
                        tell(f"{home} -> {away}, {variant.name}/{head}: absent: {error}")
                        yield Moved(*named, {}, {}, reason=str(error))


def _look(
    ours: Made, theirs: Made, out: Path, clock: Callable[[], datetime], read: ReadStore
) -> tuple[Run, Evaluation]:
    """Judge ours on the people of theirs, or find that it was done. Raises: CohortError, LeakError, RunFolderError."""
    stored = read(theirs.store)
    text = labels_for(
        ours.cell.run, theirs.cell.run, dict(zip(stored.index["volume"], stored.index["key"], strict=True))
    )
    digest = sha256(f"{digest_rows(stored)}{text}".encode()).hexdigest()[:16]
    mark = ["classify", "benchmark", "transport", f"{theirs.dataset}/{theirs.task}", digest]
    run = load_run(ours.cell.run.folder)
    done = next((one for one in run.record.evaluations if list(one.get("command", ())) == mark), None)
    if done is not None:
        return run, done
    path = out / FOLDER / f"{digest}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with published(path) as aside:
        aside.write_text(text, encoding="utf-8")
    options = EvaluateOptions(
        run=run.folder, store=theirs.store, external=True, labels=path, recalibrate_on=0, runs=run.folder.parent,
        command=tuple(mark),
    )  # fmt: skip
    record = evaluate_external(options, now=clock(), read=lambda *_: stored, tell=lambda _: None).record
    return load_run(run.folder), record.evaluations[-1]


def labels_for(ours: Run, theirs: Run, key_of: Mapping[str, str]) -> str:
    """Write their labels in the words of our run, classes by name. Raises: CohortError where they have others."""
    task, classes = task_of_record(ours.record), theirs.record.asked.classes
    if not classes or set(classes) != set(task.classes):
        raise CohortError(
            f"its classes are {', '.join(task.classes) or 'a number'}, and there {', '.join(classes) or 'a number'}: "
            "a run can be tried elsewhere only where the classes mean the same"
        )
    word = {name: next(v for v, number in task.class_of.items() if task.classes[number] == name) for name in classes}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("file", "participant", "eye", task.target))
    cohort = theirs.cohort.sort_values("volume")
    for volume, person, eye, label in cohort[["volume", "participant", "eye", "label"]].itertuples(index=False):
        table.writerow((key_of[volume], person, eye if eye in ("L", "R") else "", word[classes[int(label)]]))
    return text.getvalue()


def _moved(named: tuple[str, str, str, str, str], found: tuple[Run, Evaluation], plan: Plan) -> Moved:
    run, entry = found
    record, classes = run.record, run.record.asked.classes
    split = "test" if plan.judge == "test" and record.looks_at_test else record.judged_split
    away, home = (
        pick_predictions(
            run.predictions, model=record.fitted.model, level=task_of_record(record).judged, split=str(one)
        )
        for one in (entry["split"], split)
    )
    words = {"replicates": int(plan.fitted.get("replicates", 2000)), "seed": int(entry["seed"])}
    measured = measure(away, draw_replicates(away.participant, **words), classes)[0]
    gap, headline = measure_gap(away, home, classes, **words), measures_of(classes).headline
    return Moved(
        *named, {name: measured[name] for name in headline}, {name: gap[name] for name in headline},
        len(set(away.participant.tolist())),
    )  # fmt: skip
