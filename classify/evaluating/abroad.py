"""People of another place, predicted and judged next to what the run folder allows, and the run's own people."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from classify.baselines.covariates import baselines_of, choose_baselines, describe_units, predict_baselines, together_of
from classify.cohort.questions import Question, Task
from classify.cohort.table import COLUMNS, Cohort
from classify.cohort.tables import CohortTables
from classify.cohort.tasks import task_of_record
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel
from classify.judging.calibrate import Calibrator
from classify.judging.calibration_report import report_levels, shown_by
from classify.judging.decision_curve import AS_THE_HEAD
from classify.judging.split import judge_split
from classify.judging.transport import compare_calibration, measure_gap, recalibrate, why_not_recalibrated
from classify.run.estimate import Estimate
from classify.run.folder import Run
from classify.run.predictions import Predictions, judged_of, pick_predictions
from classify.run.record import Missing
from embeddings_store.snapshot import Snapshot

KEPT = ("age", "site")
"""The covariates of train that a run folder holds."""

NOT_KEPT = "needs the scans of train, of which the run folder keeps labels, age and site alone"
NOT_HELD_OUT = "needs predictions of held-out train, which the run folder does not keep"


@dataclass(frozen=True)
class Abroad:
    """People of another place, joined and checked, and not yet predicted.

    cohort: its split has a name of its own. marked: what each volume is known by. raw: features of the run's choice,
    near: of its reference's. unknown: values of the target that the task does not know, with counts. namesakes: who has
    the number of somebody of the run, and none of the same scans.
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
    namesakes: int = 0

    @property
    def split(self) -> str:
        """Name of the split."""
        return str(self.cohort.table["split"].iloc[0])


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
            "judged": vars(said.judged) | {"without_pretraining": said.without},
            "baselines_missing": missing,
            "transport": self._gap(people),
            "probabilities": report_levels(levels, None, classes, **asked) if classes else None,
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

    def _gap(self, people: Predictions) -> dict[str, Any] | Estimate:
        """Compare with the run's own test where it was looked at, else with its val."""
        record, frame = self.abroad.run.record, self.abroad.run.predictions
        split = "test" if record.looks_at_test else "val"
        home = pick_predictions(frame, model=record.fitted.model, level=people.level, split=split)
        if not len(home.label):
            return Estimate(absent=f"the run has no predictions of {split} at the level {people.level}")
        gap = measure_gap(people, home, self.task.classes, replicates=self.replicates, seed=self.seed)
        return {"home": split, "level": people.level, "units": len(people.label), "units_at_home": len(home.label),
                "gap": gap}  # fmt: skip


def predict_beside_abroad(
    run: Run, cohort: Cohort, people: Predictions
) -> tuple[dict[str, Predictions], list[Missing]]:
    """Predict what can be said there by what the run folder keeps of train: counts of classes, age, and site.

    Gives the other baselines of the run's task with their reasons. A site that train did not hold says nothing.
    """
    task, asked = cohort.task, task_of_record(run.record)
    home = Cohort(run.cohort[list(COLUMNS)], np.zeros(len(run.cohort), np.int64), task, phantom=False)
    fitted_on, judged = describe_units(home, "train"), describe_units(cohort, people.split)
    able, missing = choose_baselines(task, fitted_on, judged)
    kept = {name for name, columns in baselines_of(task).items() if set(columns) <= set(KEPT)}
    reasons = {line["name"]: line["reason"] for line in missing if line["name"] in kept}
    if not set(judged["site"]) & set(fitted_on["site"]):
        new = f"train was of {_few(fitted_on['site'])}, these people are of {_few(judged['site'])}"
        reasons |= {name: reasons.get(name, new) for name in kept if "site" in baselines_of(task)[name]}
    order = [*baselines_of(task), *(name for name in baselines_of(asked) if name not in baselines_of(task))]
    told = {name: reasons.get(name, NOT_KEPT) for name in order if name in reasons or name not in kept}
    told[together_of(asked)] = NOT_HELD_OUT
    others = predict_baselines(
        task, fitted_on, judged, split=people.split, names=[name for name in able if name in kept and name not in told]
    )
    own = run.record.fitted.model
    return (
        {name: part for name, part in others.items() if name != own},
        [{"name": name, "reason": reason} for name, reason in told.items()],
    )


def asked_abroad(question: Question) -> Question:
    """Return the question of a run for people of another place: of its covariates, those that the run folder keeps."""
    own = question.covariates
    return replace(question, covariates=None if own is None else tuple(name for name in own if name in KEPT))


def _few(values: "pd.Series[str]") -> str:
    names = sorted({str(value) or "no known site" for value in values})
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
