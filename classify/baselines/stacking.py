"""Embedding and covariates together: does the retina add anything to what age and site, or others, say already?"""

import numpy as np
import pandas as pd

from classify.baselines.covariate_models import fit_covariates
from classify.baselines.covariates import covariates_of, encode_covariates, together_of
from classify.cohort.questions import Task
from classify.heads.contract import softmax
from classify.run.predictions import Predictions


def predict_with_covariates(
    task: Task, held_out: Predictions, people: Predictions, train_people: pd.DataFrame, judged_people: pd.DataFrame
) -> Predictions:
    """Fit what a baseline is fitted by (see fit_covariates) on the head's logits and the covariates of train units.

    held_out: participant predictions of train, each by a model that was not fitted on them (Wolpert 1992, stacked
    generalisation). people: the run's own predictions of the judged participants. Both tables: see predict_baselines.
    """
    classes = people.logits.shape[1]
    place = {name: number for number, name in enumerate(held_out.unit.tolist())}
    rows = [place[name] for name in train_people["unit"]]
    known, label = held_out.logits[rows], held_out.label[rows]
    centre, spread = known.mean(axis=0), known.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    columns = covariates_of(task)
    fitted_on = np.hstack([(known - centre) / scale, encode_covariates(train_people, train_people, columns)])
    asked = judged_people.set_index("unit").loc[people.unit].reset_index()
    judged = np.hstack([(people.logits - centre) / scale, encode_covariates(asked, train_people, columns)])
    found = np.log(fit_covariates(fitted_on, label, classes=classes).probability(judged))
    return Predictions(
        together_of(task),
        people.level,
        people.split,
        people.unit,
        people.participant,
        people.label,
        found,
        softmax(found),
    )
