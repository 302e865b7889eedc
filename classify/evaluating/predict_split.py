"""What is predicted when a split is judged, calibrated, with what it is compared with; and the judging of val."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import pandas as pd

from classify.baselines.covariates import choose_baselines, describe_units, headline_of, predict_baselines
from classify.baselines.stacking import predict_with_covariates
from classify.cohort.table import Cohort
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, predict_held_out
from classify.judging.calibrate import Calibrator, Choice, calibrate_on
from classify.judging.calibration_report import report_calibration, report_number, shown_by
from classify.judging.decision_curve import AS_THE_HEAD
from classify.judging.prevalence import state_prevalence
from classify.judging.split import JudgedSplit, judge_split
from classify.on_cores import one_thread
from classify.run.predictions import Predictions, join_predictions, judged_of
from classify.run.stopwatch import Stopwatch
from classify.search.folds import HELD_OUT_FOLDS, smallest_class

DUMMY = "dummy"


def hold_out(model: FittedModel, train: FeatureTable, cohort: Cohort, *, seed: int) -> dict[str, Predictions]:
    """Predict train by fits that did not see the participant; a dummy, which knows counts alone, predicts it as is."""
    classes = len(cohort.task.classes)
    if model.head.name == DUMMY:
        return model.predict(train, classes=classes, split="train")
    return predict_held_out(model, train, classes=classes, seed=seed)


def predict_calibrated(
    model: FittedModel, fitted: Choice | None, rows: FeatureTable, cohort: Cohort, split: str
) -> dict[str, Predictions]:
    """Predict rows at every level, with the probabilities that are shown."""
    raw = model.predict(rows, classes=len(cohort.task.classes), split=split)
    return {level: fitted.calibrator.apply(part) for level, part in raw.items()} if fitted else raw


def predict_beside(
    held_out: Predictions, people: Predictions, cohort: Cohort, model: str, *, and_train: bool = False
) -> dict[str, Predictions]:
    """Predict what the head is compared with: the baselines, and the head together with age and site.

    held_out: of train's participants; people: the model's own participant predictions of the judged split.
    and_train: predict train's as well, after them.
    """
    fitted_on, judged = describe_units(cohort, "train"), describe_units(cohort, people.split)
    names, missing = choose_baselines(cohort.task, fitted_on, judged)
    if and_train:
        judged = pd.concat([judged, fitted_on], ignore_index=True)
        people = join_predictions([people, held_out])
    others = predict_baselines(cohort.task, fitted_on, judged, split=people.split, names=names)
    without = {"", *(line["name"] for line in missing)}
    if model == DUMMY or headline_of(cohort.task) in without:  # no embedding, or nothing that it could add to
        return others
    together = predict_with_covariates(cohort.task, held_out, people, fitted_on, judged)
    return others | {together.model: together}


@dataclass(frozen=True)
class ValJudged:
    """What was predicted of val, what it is compared with, the judgement, and the calibration (None: none wanted)."""

    levels: Mapping[str, Predictions]
    others: Mapping[str, Predictions]
    said: JudgedSplit
    calibrator: Calibrator | None
    calibration: dict[str, Any] | None


def judge_val(
    model: FittedModel,
    method: str | None,
    train: FeatureTable,
    val: FeatureTable,
    cohort: Cohort,
    *,
    prevalence: str | None,
    pretrained: Set[str] | None,
    replicates: int,
    seed: int,
    clock: Stopwatch,
) -> ValJudged:
    """Calibrate on train, predict val with it, and judge that. train, val: raw features; prevalence: as asked for.

    clock: notes the seconds of the stages held_out, calibrate and covariates; what follows them is left to its owner.
    """
    held_out = hold_out(model, train, cohort, seed=seed)
    clock.lap("held_out")
    stated = None if cohort.task.is_number else state_prevalence(prevalence, cohort)
    with one_thread():  # numbers are few from here on, and a second thread waits longer than it works
        fitted = calibrate_on(method, held_out, stated.shares if stated else (), seed=seed)
    levels = predict_calibrated(model, fitted, val, cohort, "val")
    clock.lap("calibrate")
    with one_thread():
        others = predict_beside(judged_of(held_out), judged_of(levels), cohort, model.head.name)
    clock.lap("covariates")
    said = judge_split(
        levels, others, cohort,
        lambda chosen: judged_of(predict_calibrated(model, fitted, val.where(chosen), cohort, "val")),
        shown=shown_by(fitted.calibrator, stated) if fitted else AS_THE_HEAD,
        pretrained=pretrained, replicates=replicates, seed=seed,
    )  # fmt: skip
    if fitted is None:
        return ValJudged(levels, others, said, None, None)
    folds = min(HELD_OUT_FOLDS, smallest_class(train.participant, train.y))
    if stated is None:
        report = report_number(fitted, levels, folds=folds, replicates=replicates, seed=seed)
    else:
        report = report_calibration(
            fitted, stated, levels, cohort.task.classes, folds=folds, replicates=replicates, seed=seed
        )
    return ValJudged(levels, others, said, fitted.calibrator, report)
