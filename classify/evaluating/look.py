"""One look at the locked test split: checked, counted, judged, and put into the run folder.

Whoever predicts (``classify evaluate``, ``finetune evaluate``) does so between begin_look and finish_look: the ledger
line is written after the last check and before the first prediction, so no look goes uncounted.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from classify.baselines.random_twin import Twin
from classify.cohort.identity import People
from classify.cohort.splits import check_no_leak
from classify.cohort.table import Cohort
from classify.cohort.tables import CohortTables
from classify.errors import CohortError
from classify.judging.calibrate import Calibrator
from classify.judging.calibration_report import measure_calibration, report_levels, shown_by
from classify.judging.decision_curve import AS_THE_HEAD
from classify.judging.number_calibration import plain_metrics, report_numbers
from classify.judging.split import JudgedSplit, judge_split
from classify.run.earlier import EarlierRun, find_earlier, find_looks
from classify.run.folder import Run, find_run, load_run, update_run
from classify.run.ledger import LEDGER, LedgerLine, append_look, ledger_lock, read_ledger
from classify.run.predictions import Predictions, judged_of, stack_predictions
from classify.run.record import Evaluation, FlowStep, RunRecord
from classify.run_options import JudgedOptions
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say

TEST = "test"


@dataclass(frozen=True)
class TestLook:
    """A look that is in the ledger. number: the how-manieth at any of these people; date: in UTC; id: its own name."""

    run: Run
    cohort: Cohort
    number: int
    date: str
    id: str


@dataclass(frozen=True)
class PredictedSplit:
    """What was predicted of the test split. raw: by level, before a calibrator was applied.

    others: beside the model, by name. people_of: raw participant predictions from those volumes of the split that a
    mask chooses. failures: volumes that could not be predicted, by error class. twin_of: makes the random twin's
    look from the model's own participant predictions, as they are judged.
    """

    raw: Mapping[str, Predictions]
    others: Mapping[str, Predictions]
    people_of: Callable[[np.ndarray], Predictions]
    calibrator: Calibrator | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    twin_of: Callable[[Predictions], Twin] | None = None

    def calibrated(self, predictions: Predictions) -> Predictions:
        """Give predictions as they are judged."""
        return self.calibrator.apply(predictions) if self.calibrator else predictions


@dataclass(frozen=True)
class Evaluated:
    """The run record with the test split in it, and how often people of it have been looked at by now."""

    record: RunRecord
    folder: Path
    looks: int


def open_locked(options: JudgedOptions) -> Run:
    """Open the run that shall be evaluated.

    Raises: RunFolderError, UsageError where no run has its name, or it is cross-validated.
    """
    run = load_run(find_run(options.run, options.runs))
    if run.record.is_crossed:
        raise UsageError(
            f"--run {run.record.id}: it is cross-validated and has no test split to look at; its own numbers, each "
            "participant predicted by fits without them, are all that it claims. For a locked test make a run with "
            "--make-splits"
        )
    return run


def check_same_cohort(run: Run, cohort: Cohort) -> None:
    """Refuse another cohort than the run's own, and a test split of which somebody was fitted on.

    Raises: CohortError (another cohort, an empty test split), LeakError.
    """
    name, record = f"run {run.record.id}", run.record
    if cohort.sha256 != record.cohort.cohort_sha256:
        raise CohortError(
            f"{name}: made on the cohort {record.cohort.cohort_sha256[:12]}, what was given now makes "
            f"{cohort.sha256[:12]} ({len(cohort.table)} volumes, the run had {len(run.cohort)}); "
            f"give the same data and participants table, or make the run again"
        )
    test = cohort.units(TEST)["participant"].tolist()
    if not test:
        raise CohortError(f"{name}: the test split is empty; there is nothing to evaluate")
    fitted_on = run.cohort.loc[run.cohort["split"] == "train", "participant"].tolist()
    check_no_leak({"train": fitted_on, TEST: test})


def begin_look(
    run: Run, cohort: Cohort, *, now: datetime, tell: Callable[[str], None] = say, outside: People | None = None
) -> TestLook:
    """Write the ledger line; cohort: as check_same_cohort let it pass. Raises: RunFolderError, then nobody looked.

    tell: hears of ledger lines that were cut, and of earlier runs that cannot be read. outside: the people of another
    place who are looked at; None: those of the run's test split.
    """
    runs, date = run.folder.resolve().parent, now.isoformat(timespec="seconds")
    people = EarlierRun(run.record, run.cohort).analysed_test if outside is None else outside
    line = LedgerLine(run.record.id, date, cohort.sha256, secrets.token_hex(8), people)
    with ledger_lock(runs):
        if cut := read_ledger(runs).cut:
            tell(f"{LEDGER}: line {', '.join(map(str, cut))} was cut while it was written; going on after it")
        number = 1 + len(find_looks(runs, people, cohort.sha256, find_earlier(runs, tell)))
        append_look(runs, line)
    return TestLook(run, cohort, number, date, line.id)


def finish_look(
    look: TestLook, predicted: PredictedSplit, options: JudgedOptions, tables: CohortTables, *, by: str
) -> Evaluated:
    """Judge what was predicted, and write it into the run folder. by: the command that looked, as the flow names it.

    look.cohort: by now without the volumes that could not be predicted. Raises: RunFolderError.
    """
    run, cohort = look.run, look.cohort
    levels = {level: predicted.calibrated(part) for level, part in predicted.raw.items()}
    seed = run.record.made.seeds["bootstrap"] if options.seed is None else options.seed
    said = judge_split(
        levels, predicted.others, cohort, lambda chosen: predicted.calibrated(predicted.people_of(chosen)),
        shown=shown_by(predicted.calibrator) if predicted.calibrator else AS_THE_HEAD,
        pretrained=tables.pretrained, replicates=options.replicates, seed=seed,
    )  # fmt: skip
    of_tables = tables.describe(cohort, said.without)
    twin = predicted.twin_of(judged_of(levels)) if predicted.twin_of else None
    number, probabilities, asked = cohort.task.is_number, None, {"replicates": options.replicates, "seed": seed}
    if predicted.calibrator and number:
        probabilities = report_numbers(levels, predicted.calibrator.parameters, **asked)
    elif predicted.calibrator:
        probabilities = report_levels(levels, predicted.calibrator.prevalence, cohort.task.classes, **asked)
    entry: Evaluation = {
        "split": TEST,
        "date": look.date,
        "look": look.number,
        "id": look.id,
        "seed": seed,
        "measurements": of_tables.measurements,
        "table_notes": of_tables.table_notes,
        "calibration": predicted.calibrator.method if predicted.calibrator else None,
        "command": list(options.command),
        "replicates": options.replicates,
        "uncalibrated": {
            level: plain_metrics(part, part.logits) if number else measure_calibration(part.scores, part)
            for level, part in predicted.raw.items()
        },
        "probabilities": probabilities,
        "confusion": said.judged.confusion,
        "difference_to_age_site": said.judged.difference_to_age_site,
        "added_to_age_site": said.judged.added_to_age_site,
        "difference_to_baselines": said.judged.difference_to_baselines,
        "failures": dict(predicted.failures),
    }
    if twin:
        entry["difference_to_random_twin"] = twin.difference
    own = run.record.fitted.model
    rows = [*levels.values(), *(part for name, part in predicted.others.items() if name != own)]
    with ledger_lock(run.folder.resolve().parent):
        run = load_run(run.folder)  # another look may have ended since
        record = merge_evaluation(run.record, cohort, said, entry, of_tables.pretraining, by=by)
        if twin:
            record, rows = twin.seen_beside(record), [*rows, twin.people]
        update_run(run, record, stack_predictions(rows), split=TEST)
    return Evaluated(record, run.folder, look.number)


def merge_evaluation(
    record: RunRecord,
    cohort: Cohort,
    said: JudgedSplit,
    entry: Evaluation,
    pretraining: Mapping[str, Any],
    *,
    by: str,
) -> RunRecord:
    """Put the test metrics beside those of val; an earlier look keeps its entry in ``evaluations``."""
    of_test, of_val, size = said.judged, record.judged, cohort.sizes()[TEST]
    known = record.cohort.pretraining or dict(pretraining)
    if pretraining["given"]:
        known = {**known, **pretraining, "without": known.get("without", {}) | pretraining["without"]}
    failed = "".join(f"; {count} not used: {error}" for error, count in sorted(entry["failures"].items()))
    told = FlowStep(
        step=TEST,
        kind="total",
        volumes=size["volumes"],
        participants=size["participants"],
        reason=f"predicted by {by} on {entry['date'][:10]}{failed}",
    )
    return replace(
        record,
        cohort=replace(
            record.cohort,
            splits={**record.cohort.splits, TEST: size},
            pretraining=known,
            flow=[told if step["step"] == TEST else step for step in record.cohort.flow],
        ),
        judged=replace(
            of_val,
            metrics={level: table | of_test.metrics[level] for level, table in of_val.metrics.items()},
            baselines={
                name: table | of_test.baselines.get(name, {})
                for name, table in (of_test.baselines | of_val.baselines).items()
            },
            contrasts=of_val.contrasts | of_test.contrasts,
            permutation=of_val.permutation | of_test.permutation,
            decision_curves=of_val.decision_curves | of_test.decision_curves,
            subgroups=of_val.subgroups | of_test.subgroups,
        ),
        evaluations=[*record.evaluations, entry],
    )
