"""``classify evaluate --external``: a finished run on people of another place, locked and counted like its test split.

Nothing of the place was learned from: its people must be strangers to the run, and those few that recalibrate it are
not judged. Reads from top to bottom.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from classify.baselines.covariates import (
    COVARIATES,
    TOGETHER,
    WITHOUT_DEVICE,
    choose_baselines,
    describe_units,
    predict_baselines,
)
from classify.cohort.identity import mark_volumes, people_of
from classify.cohort.questions import Task
from classify.cohort.table import COLUMNS, Cohort
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import question_of_record, task_of_record
from classify.cohort.vouched import NOBODY, read_vouched
from classify.errors import CohortError
from classify.evaluating.look import Evaluated, begin_look
from classify.evaluating.strangers import refuse_known, refuse_near_copies
from classify.features.stores import ReadStore
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, load_model
from classify.fitting.source import check_comparable, source_on
from classify.judging.calibrate import Calibrator
from classify.judging.calibration_report import report_levels, shown_by
from classify.judging.decision_curve import AS_THE_HEAD
from classify.judging.kept_calibrator import read_calibrator
from classify.judging.split import judge_split
from classify.judging.transport import (
    compare_calibration,
    draw_people,
    measure_gap,
    recalibrate,
    why_not_recalibrated,
)
from classify.reference.novelty import THRESHOLD_PERCENTILE
from classify.reference.training import TrainingReference
from classify.run.folder import Run, load_run, update_run
from classify.run.ledger import ledger_lock
from classify.run.predictions import Predictions, judged_of, pick_predictions, stack_predictions
from classify.run.record import EXTERNAL, Evaluation, Missing
from classify.run_options import EvaluateOptions
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot

NOT_KEPT = "needs the scans of train, of which the run folder keeps labels, age and site alone"
NOT_HELD_OUT = "needs predictions of held-out train, which the run folder does not keep"
ONLY_HERE = (("measurements", "--measurements"), ("random_twin", "--random-twin"))


@dataclass(frozen=True)
class Abroad:
    """People of another place, joined and checked, and not yet predicted.

    cohort: its split has a name of its own. marked: what each volume is known by. raw: features of the run's choice,
    near: of its reference's. unknown: values of the target that the task does not know, with counts.
    """

    run: Run
    cohort: Cohort
    tables: CohortTables
    stored: Snapshot
    marked: pd.DataFrame
    raw: FeatureTable
    near: FeatureTable
    sha256: str
    unknown: Mapping[str, int]

    @property
    def split(self) -> str:
        """Name of the split."""
        return f"{EXTERNAL}-{self.sha256[:8]}"


def evaluate_external(
    options: EvaluateOptions, run: Run, *, now: datetime, read: ReadStore, tell: Callable[[str], None]
) -> Evaluated:
    """Predict people of another place with a finished run, and write what came out into the run folder.

    Raises: UsageError, RunFolderError (another embedding space), CohortError, LeakError (people of the run),
    StoreError; then nobody was looked at.
    """
    check_external(options)
    model, calibrator = load_model(run), read_calibrator(run.model_folder(), len(run.record.asked.classes))
    reference = TrainingReference.load(run.model_folder())
    abroad = open_abroad(options, run, model, reference, read, tell)
    seed = run.record.made.seeds["bootstrap"] if options.seed is None else options.seed
    drawn = draw_people(abroad.cohort.table["participant"].to_numpy(str), options.recalibrate_on, seed=seed)
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
        **found,
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
    source = replace(options.label_source, everybody=EXTERNAL)
    question = replace(question_of_record(run.record), covariates=None)
    tables = read_tables(source, question, None, options.pretrain_participants, tell=tell)
    unknown = count_unknown(tables, tell)
    stored = read(options.store)
    check_comparable(run.record, stored)
    joined = tables.join_outside(stored, EXTERNAL)
    for line in joined.said((EXTERNAL,)):
        tell(line)
    sha256, marked = joined.sha256, mark_volumes(stored)
    refuse_known(run, joined, marked, stored.space_id)
    cohort = replace(joined, table=joined.table.assign(split=f"{EXTERNAL}-{sha256[:8]}"))
    features = source_on(cohort, stored)
    near = features.table(reference.choice)
    refuse_near_copies(run, reference, near, vouched)
    return Abroad(run, cohort, tables, stored, marked, features.table(model.features), near, sha256, unknown)


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


@dataclass(frozen=True)
class Judging:
    """How people of another place are judged."""

    abroad: Abroad
    model: FittedModel
    calibrator: Calibrator | None
    replicates: int
    seed: int

    @property
    def task(self) -> Task:
        """The question."""
        return self.abroad.cohort.task

    def judge(self, drawn: np.ndarray) -> tuple[dict[str, Any], list[Predictions]]:
        """Give the parts of an evaluation that say how good the run is there, and the rows of predictions.

        drawn: participants to recalibrate on, who are not judged, unless they cannot recalibrate anything.
        """
        again: Mapping[str, Predictions] = {}
        few = self._predict(np.isin(self.abroad.raw.participant, drawn)) if len(drawn) else {}
        why = why_not_recalibrated(judged_of(few), self.task.classes) if few else "nobody was drawn to recalibrate on"
        kept = np.ones(len(self.abroad.raw.y), dtype=bool) if why else ~np.isin(self.abroad.raw.participant, drawn)
        raw = self._predict(kept)
        levels = self._shown(raw)
        cohort = replace(
            self.abroad.cohort,
            table=self.abroad.cohort.table[kept].reset_index(drop=True),
            position=self.abroad.cohort.position[kept],
        )
        people, classes, asked = (
            judged_of(levels),
            self.task.classes,
            {"replicates": self.replicates, "seed": self.seed},
        )
        others, missing = predict_beside_abroad(self.abroad.run, cohort, people)
        rows = np.flatnonzero(kept)
        said = judge_split(
            levels, others, cohort, lambda chosen: judged_of(self._shown(self._predict(rows[chosen]))),
            shown=shown_by(self.calibrator) if self.calibrator else AS_THE_HEAD,
            pretrained=self.abroad.tables.pretrained, **asked,
        )  # fmt: skip
        recalibration: dict[str, Any] = {"absent": why}
        if not why:
            fitted = recalibrate(few, seed=self.seed)
            again = {level: fitted.apply(part) for level, part in raw.items()}
            recalibration = {
                "method": fitted.method,
                "why_constant": fitted.why_constant,
                **compare_calibration(levels, again, classes, **asked),
            }
        found = {
            "judged": asdict(said.judged) | {"without_pretraining": said.without},
            "baselines_missing": missing,
            "transport": self._gap(people),
            "probabilities": report_levels(levels, None, classes, **asked),
            "recalibration": {"participants": 0 if why else len(drawn), **recalibration},
            "sizes": cohort.sizes((self.abroad.split,))[self.abroad.split],
            "absent_classes": [name for number, name in enumerate(classes) if not (people.label == number).any()],
        }
        renamed = [replace(part, model=f"{part.model}, recalibrated") for part in again.values()]
        return found, [*levels.values(), *others.values(), *renamed]

    def _predict(self, rows: np.ndarray) -> dict[str, Predictions]:
        return self.model.predict(self.abroad.raw.where(rows), classes=len(self.task.classes), split=self.abroad.split)

    def _shown(self, raw: Mapping[str, Predictions]) -> dict[str, Predictions]:
        return {level: self.calibrator.apply(part) if self.calibrator else part for level, part in raw.items()}

    def _gap(self, people: Predictions) -> dict[str, Any]:
        """Compare with the run's own test where it was looked at, else with its val."""
        record, frame = self.abroad.run.record, self.abroad.run.predictions
        split = "test" if record.looks_at_test else "val"
        home = pick_predictions(frame, model=record.fitted.model, level=people.level, split=split)
        if not len(home.label):
            return {"absent": f"the run has no predictions of {split} at the level {people.level}"}
        gap = measure_gap(people, home, self.task.classes, replicates=self.replicates, seed=self.seed)
        return {"home": split, "level": people.level, "units": len(people.label), "units_at_home": len(home.label),
                "gap": gap}  # fmt: skip


def predict_beside_abroad(
    run: Run, cohort: Cohort, people: Predictions
) -> tuple[dict[str, Predictions], list[Missing]]:
    """Predict what can be said there by what the run folder keeps of train: counts of classes, age, and site.

    Gives the others with their reasons. A site that train did not hold says nothing.
    """
    home = Cohort(run.cohort[list(COLUMNS)], np.zeros(len(run.cohort), np.int64), task_of_record(run.record), False)
    fitted_on, judged = describe_units(home, "train"), describe_units(cohort, people.split)
    able, missing = choose_baselines(fitted_on, judged)
    reasons = {line["name"]: line["reason"] for line in missing if line["name"] in WITHOUT_DEVICE}
    reasons |= {name: NOT_KEPT for name in COVARIATES if name not in WITHOUT_DEVICE}
    if not set(judged["site"]) & set(fitted_on["site"]):
        new = f"train was of {_few(fitted_on['site'])}, these people are of {_few(judged['site'])}"
        reasons |= {name: reasons.get(name, new) for name in WITHOUT_DEVICE if "site" in COVARIATES[name]}
    names = [name for name in able if name not in reasons]
    others = predict_baselines(
        fitted_on, judged, classes=len(cohort.task.classes), split=people.split, names=names, level=people.level
    )
    order = [name for name in (*COVARIATES, TOGETHER) if name in reasons | {TOGETHER: NOT_HELD_OUT}]
    told = reasons | {TOGETHER: NOT_HELD_OUT}
    own = run.record.fitted.model
    return {name: part for name, part in others.items() if name != own}, [
        {"name": name, "reason": told[name]} for name in order
    ]


def _few(values: "pd.Series[str]") -> str:
    names = sorted({str(value) or "no known site" for value in values})
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


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
