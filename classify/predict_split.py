"""What is predicted when a split is judged: the model's own levels, calibrated, and what it is compared with."""

from classify.baselines import TOGETHER, choose_baselines, describe_people, predict_baselines
from classify.cohort.table import Cohort
from classify.features import FeatureTable
from classify.judging.calibrate import Choice
from classify.model import FittedModel, predict_held_out
from classify.predictions import Predictions
from classify.stacking import predict_with_age_and_site

DUMMY = "dummy"


def hold_out(model: FittedModel, train: FeatureTable, cohort: Cohort, *, seed: int) -> dict[str, Predictions]:
    """Predict train by fits that did not see the participant; a dummy, which knows counts alone, predicts it as is."""
    classes = len(cohort.task.classes)
    if model.head.name == DUMMY:
        return model.predict(train, classes=classes, split="train")
    return predict_held_out(model.spec, train, classes=classes, seed=seed)


def predict_calibrated(
    model: FittedModel, fitted: Choice | None, rows: FeatureTable, cohort: Cohort, split: str
) -> dict[str, Predictions]:
    """Predict rows at every level, with the probabilities that are shown."""
    raw = model.predict(rows, classes=len(cohort.task.classes), split=split)
    return {level: fitted.calibrator.apply(part) for level, part in raw.items()} if fitted else raw


def predict_beside(held_out: Predictions, people: Predictions, cohort: Cohort, model: str) -> dict[str, Predictions]:
    """Predict what the head is compared with: the baselines, and the head together with age and site.

    held_out: of train's participants; people: the model's own participant predictions of the judged split.
    """
    fitted_on, judged = describe_people(cohort, "train"), describe_people(cohort, people.split)
    names, missing = choose_baselines(fitted_on, judged)
    others = predict_baselines(fitted_on, judged, classes=len(cohort.task.classes), split=people.split, names=names)
    if model == DUMMY or TOGETHER in {line["name"] for line in missing}:  # without an embedding: age+site again
        return others
    together = predict_with_age_and_site(held_out, people, fitted_on, judged)
    return others | {TOGETHER: together}
