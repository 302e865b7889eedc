"""``classify evaluate --external``: a finished run on people of another place, locked and counted like its test split.

Nothing of the place was learned from: its people must be strangers to the run, and those few that recalibrate it are
not judged. Reads from top to bottom.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.identity import people_of
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import question_of_record
from classify.cohort.vouched import NOBODY, read_vouched
from classify.errors import CohortError
from classify.evaluating.abroad import Abroad, Judging, asked_abroad
from classify.evaluating.look import Evaluated, begin_look
from classify.evaluating.strangers import count_namesakes, refuse_near_copies
from classify.features.fused import mark_all
from classify.features.several_stores import name_stores, open_stores_of
from classify.features.stores import ReadStore
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, load_model
from classify.fitting.source import check_comparable, source_on
from classify.judging.kept_calibrator import read_calibrator
from classify.judging.transport import draw_people
from classify.named_tasks import with_labels_of_place
from classify.reference.novelty import THRESHOLD_PERCENTILE
from classify.reference.training import TrainingReference
from classify.run.folder import Run, find_run, load_run, update_run
from classify.run.ledger import ledger_lock
from classify.run.predictions import stack_predictions
from classify.run.record import EXTERNAL, Evaluation
from classify.run_options import EvaluateOptions
from embeddings_store.errors import UsageError

SAME_NUMBER = (
    "participants carry the number of somebody of the run, with none of the same scans: they count as other people; if "
    "they are the same people at another visit, leave them out of --labels"
)
ONLY_HERE = (("measurements", "--measurements"), ("random_twin", "--random-twin"))


def evaluate_external(
    options: EvaluateOptions, *, now: datetime, read: ReadStore, tell: Callable[[str], None]
) -> Evaluated:
    """Predict people of another place with a finished run, and write what came out into the run folder.

    Raises: UsageError, RunFolderError (another embedding space), CohortError, LeakError (people of the run),
    StoreError; then nobody was looked at.
    """
    check_external(options)
    run = load_run(find_run(options.run, options.runs))
    model, calibrator = load_model(run), read_calibrator(run.model_folder(), len(run.record.asked.classes))
    reference = TrainingReference.load(run.model_folder())
    abroad = open_abroad(options, run, model, reference, read, tell)
    seed = run.record.made.seeds["bootstrap"] if options.seed is None else options.seed
    people = abroad.cohort.table["participant"].to_numpy(str)
    if (count := options.recalibrate_on) and count >= len(set(people)):
        raise UsageError(
            f"--recalibrate-on {count}: expected fewer than the {len(set(people))} participants there; they are not "
            "judged, and nobody would be left"
        )
    drawn = draw_people(people, options.recalibrate_on, seed=seed)
    seen = people_of(abroad.marked[abroad.marked["volume"].isin(abroad.cohort.table["volume"])])
    look = begin_look(run, abroad.cohort, now=now, tell=tell, outside=seen)
    judging = Judging(abroad, model, calibrator, options.replicates, seed)
    found, rows = judging.judge(drawn)
    entry: Evaluation = {
        "kind": EXTERNAL,
        "split": abroad.split,
        "date": look.date,
        "look": look.number,
        "id": look.id,
        "seed": seed,
        "replicates": options.replicates,
        "command": list(options.command),
        "cohort_sha256": abroad.sha256,
        "people": seen,
        "table_notes": list(abroad.tables.notes),
        "calibration": calibrator.method if calibrator else None,
        "place": describe_place(abroad),
        "novelty": novelty_by_device(reference, abroad.near, abroad.cohort.table, run.cohort),
        "judged": found["judged"],
        "baselines_missing": found["baselines_missing"],
        "transport": found["transport"],
        "probabilities": found["probabilities"],
        "recalibration": found["recalibration"],
        "sizes": found["sizes"],
        "absent_classes": found["absent_classes"],
    }
    with ledger_lock(run.folder.resolve().parent):
        run = load_run(run.folder)  # another look may have ended since
        record = replace(run.record, evaluations=[*run.record.evaluations, entry])
        update_run(run, record, stack_predictions(rows), split=abroad.split)
    return Evaluated(record, run.folder, look.number)


def check_external(options: EvaluateOptions) -> None:
    """Refuse options that say nothing of people of another place. Raises: UsageError."""
    if options.split is not None:
        raise UsageError("--external and --split test: expected one of them; people of another place have no splits")
    if options.split_column:
        raise UsageError("--split-column: not with --external, which judges all people of --labels")
    for field, option in ONLY_HERE:
        if getattr(options, field) is not None:
            raise UsageError(f"{option}: not with --external; the run folder keeps nothing to compare it with there")


def open_abroad(
    options: EvaluateOptions,
    run: Run,
    model: FittedModel,
    reference: TrainingReference,
    read: ReadStore,
    tell: Callable[[str], None],
) -> Abroad:
    """Read labels and store, join them, and see that everybody is a stranger to the run."""
    vouched = read_vouched(options.allow_near_copies) if options.allow_near_copies else NOBODY
    options = with_labels_of_place(options, tuple(name_stores(options.store).values()))
    source = replace(options.label_source, everybody=EXTERNAL)
    question = asked_abroad(question_of_record(run.record))
    tables = read_tables(source, question, None, options.pretrain_participants, tell=tell)
    unknown = count_unknown(tables, tell)
    stored = open_stores_of(run.record, options.store, tables.labels.published.reading(read), tables.task.level)
    check_comparable(run.record, stored)
    joined = tables.join_outside(stored, EXTERNAL)
    for line in joined.said((EXTERNAL,)):
        tell(line)
    sha256, marked = joined.sha256, mark_all(stored)
    namesakes = count_namesakes(run, joined, marked, stored.space_id)
    if namesakes:
        tell(f"{namesakes} {SAME_NUMBER}")
    cohort = replace(joined, table=joined.table.assign(split=f"{EXTERNAL}-{sha256[:8]}"))
    features = source_on(cohort, stored)
    near = features.table(reference.choice)
    vouched.require_known({*cohort.table["participant"], *run.cohort["participant"]})
    refuse_near_copies(run, reference, near, vouched)
    return Abroad(run, cohort, tables, stored, marked, features.table(model.features), near, sha256, unknown, namesakes)


def count_unknown(tables: CohortTables, tell: Callable[[str], None]) -> dict[str, int]:
    """Count the values of the target that the run's task does not know; all are named.

    Raises: CohortError where it knows none.
    """
    task, group = tables.task, tables.labels.lines["group"]
    if task.is_number:
        return {}
    strange = group[(group != "") & ~group.isin([*task.class_of, *task.exclude])].value_counts()
    counts = {str(value): int(count) for value, count in strange.items()}
    said = ", ".join(f"{value[:40]!r} ({count})" for value, count in counts.items())
    if not group.isin(list(task.class_of)).any():
        raise CohortError(
            f"--external: no label of {task.target} is known to the run's task, which knows "
            f"{', '.join(map(repr, task.class_of))}; got {said or 'no value'}; write them as the run's labels do"
        )
    if counts:
        tell(f"values of {task.target} that the run's task does not know, left out: {said}")
    return counts


def describe_place(abroad: Abroad) -> dict[str, Any]:
    """Say whose scans and labels were judged, and who was left out."""
    flow, stored = abroad.cohort.flow, abroad.stored
    return {
        "space": stored.space_id,
        "snapshot": {"number": "live" if stored.number is None else stored.number, "note": stored.note},
        "phantom": abroad.cohort.phantom,
        "sites": sorted(map(str, abroad.cohort.table["site"].unique())),
        "flow": list(flow),
        "unknown_values": dict(abroad.unknown),
        "same_number": abroad.namesakes,
    }


def novelty_by_device(
    reference: TrainingReference, near: FeatureTable, table: pd.DataFrame, home: pd.DataFrame
) -> list[dict[str, Any]]:
    """Give one line a device: how many scans and people, how far they lie from train, and what train held of it.

    beyond: share of scans farther than THRESHOLD_PERCENTILE of train, which would be 1 % of scans like it.
    """
    x = reference.standardiser.transform(near.x, near.protocol)
    percentile = reference.novelty.percentile(reference.novelty.gaussians.distance(x))
    train = home[home["split"] == "train"]
    lines = []
    for device in sorted(table["device"].unique()):
        here = (table["device"] == device).to_numpy()
        protocols = sorted(set(table.loc[here, "protocol"].astype(str)) - set(train["protocol"].astype(str)))
        lines.append(
            {
                "device": str(device),
                "volumes": int(here.sum()),
                "participants": int(table.loc[here, "participant"].nunique()),
                "in_training": bool((train["device"] == device).any()),
                "new_protocols": protocols,
                "median_percentile": float(np.median(percentile[here])),
                "beyond": float((percentile[here] > THRESHOLD_PERCENTILE).mean()),
            }
        )
    return lines
