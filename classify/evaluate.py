"""The verb ``classify evaluate``: the one look at the locked test split. Reads from top to bottom.

The ledger line is written after the last check and before the first prediction, so no look goes uncounted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from classify.aggregate import predict_levels
from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.splits import check_no_leak
from classify.cohort.table import Cohort
from classify.cohort.tasks import find_task
from classify.errors import CohortError, RunFolderError
from classify.features import make_features
from classify.heads import HEADS, Head, load_head
from classify.judging.calibrate import Calibrator, load_calibrator, measure_calibration
from classify.judging.judge import Judgement, judge
from classify.judging.subgroups import measure_subgroups
from classify.ledger import append_look, count_looks
from classify.predictions import stack_predictions
from classify.probe import predict_beside
from classify.run import MODEL, Run, load_run, update_run
from classify.standardise import Standardiser
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot

TEST = "test"


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line asked for. seed None: the bootstrap seed of the run."""

    run: Path
    participants: Path
    split: str
    replicates: int = 2000
    seed: int | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """The run record with the test split in it, and how often this cohort's test split has been looked at by now."""

    record: dict[str, Any]
    folder: Path
    looks: int


def evaluate(options: EvaluateOptions, *, now: datetime, read: Callable[[Mapping[str, Any]], Snapshot]) -> Evaluated:
    """Predict the test split with a finished run's head, and write what came out into the run folder.

    read: opens the store as the run record (its argument) names it, after the cheap checks.
    Raises: UsageError, RunFolderError, CohortError, LeakError, StoreError; then the test split was not looked at.
    """
    if options.split != TEST:
        raise UsageError(f"--split: expected {TEST}, got {options.split!r}; val is judged by classify probe")
    run = load_run(options.run)
    head, standardiser, calibrator = load_model(run)
    runs = options.run.resolve().parent
    looks = 1 + count_looks(runs, run.record["cohort_sha256"])
    people_table = read_participants(options.participants)
    stored = read(run.record)
    cohort = check_same_cohort(
        run, stored, join_cohort(stored.index, stored.pooled, people_table, find_task(run.record["task"]))
    )
    chosen = run.record["features"]
    features = make_features(cohort, stored.pooled, stored.space, layer=chosen["layer"], pools=chosen["pools"])
    test = features.only(TEST).standardised(standardiser)

    date = now.isoformat(timespec="seconds")
    append_look(runs, run=run.record["id"], date=date, cohort_sha256=cohort.sha256)
    raw = predict_levels(head, test, len(cohort.task.classes))
    levels = {level: calibrator.apply(part) for level, part in raw.items()} if calibrator else raw
    others = predict_beside(head, features.only("train"), raw["participant"], cohort, seed=run.record["seeds"]["folds"])
    seed = run.record["seeds"]["bootstrap"] if options.seed is None else options.seed
    judged = judge(levels, others, cohort.task.classes, replicates=options.replicates, seed=seed)
    groups = measure_subgroups(
        levels["volume"],
        cohort.table[cohort.table["split"] == TEST],
        cohort.task.classes,
        replicates=options.replicates,
        seed=seed,
    )
    entry = {
        "split": TEST,
        "date": date,
        "look": looks,
        "command": list(options.command),
        "replicates": options.replicates,
        "seed": seed,
        "calibration": calibrator.method if calibrator else None,
        "uncalibrated": {level: measure_calibration(part) for level, part in raw.items()},
        "confusion": judged.confusion,
        "difference_to_age_site": judged.difference_to_age_site,
        "added_to_age_site": judged.added_to_age_site,
    }
    record = merge_evaluation(run.record, judged, groups, entry)
    said = [*levels.values(), *(part for name, part in others.items() if name != head.name)]
    update_run(run, record, stack_predictions(said), split=TEST)
    return Evaluated(record, run.folder, looks)


def load_model(run: Run) -> tuple[Head, Standardiser, Calibrator | None]:
    """Read the saved head, standardiser and calibration. Raises: RunFolderError where the run has no such head."""
    model = run.record["model"]
    if model not in HEADS:
        raise RunFolderError(
            f"run {run.record['id']}: expected a run of classify probe ({', '.join(HEADS)}), got the model {model!r}"
        )
    folder = run.folder / MODEL
    return load_head(folder), Standardiser.load(folder), load_calibrator(folder)


def check_same_cohort(run: Run, stored: Snapshot, cohort: Cohort) -> Cohort:
    """Give the cohort back where it is the run's own, and nobody of its test split was fitted on.

    Raises: RunFolderError (another space), CohortError (another cohort, an empty test split), LeakError.
    """
    name, record = f"run {run.record['id']}", run.record
    if stored.space_id != record["space"]:
        raise RunFolderError(
            f"{name}: made in the embedding space {record['space']}, the store holds {stored.space_id}; "
            f"give the store that the run was made from"
        )
    if cohort.sha256 != record["cohort_sha256"]:
        raise CohortError(
            f"{name}: made on the cohort {record['cohort_sha256'][:12]}, store and participants table give "
            f"{cohort.sha256[:12]} ({len(cohort.table)} volumes, the run had {len(run.cohort)}); "
            f"give the same two, or probe again"
        )
    test = cohort.people(TEST)["participant"].tolist()
    if not test:
        raise CohortError(f"{name}: the test split is empty; there is nothing to evaluate")
    fitted_on = run.cohort.loc[run.cohort["split"] == "train", "participant"].tolist()
    check_no_leak({"train": fitted_on, TEST: test})
    return cohort


def merge_evaluation(
    record: Mapping[str, Any], judged: Judgement, groups: list[dict[str, Any]], entry: dict[str, Any]
) -> dict[str, Any]:
    """Put the test metrics beside those of val; an earlier look keeps its entry in ``evaluations``."""
    flow = [
        step | {"reason": f"predicted by classify evaluate on {entry['date'][:10]}"} if step["step"] == TEST else step
        for step in record["flow"]
    ]
    return {
        **record,
        "metrics": {level: table | judged.metrics[level] for level, table in record["metrics"].items()},
        "baselines": {
            name: table | judged.baselines.get(name, {})
            for name, table in (judged.baselines | record["baselines"]).items()
        },
        "contrasts": record.get("contrasts", {}) | judged.contrasts,
        "permutation": record.get("permutation", {}) | judged.permutation,
        "subgroups": record.get("subgroups", {}) | {TEST: groups},
        "flow": flow,
        "evaluations": [*record.get("evaluations", []), entry],
    }
