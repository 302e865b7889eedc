"""Embedding, age and site together: does the retina add anything to what age and site say already?"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from classify.aggregate import SMALLEST_PROBABILITY
from classify.baselines import TOGETHER, encode_covariates
from classify.heads.contract import softmax
from classify.predictions import Predictions


def predict_with_age_and_site(
    held_out: Predictions, people: Predictions, train_people: pd.DataFrame, judged_people: pd.DataFrame
) -> Predictions:
    """Fit a logistic regression (C = 1, balanced) on the head's logits, age and site of train participants.

    held_out: participant predictions of train, each by a model that was not fitted on them (Wolpert 1992, stacked
    generalisation). people: the run's own predictions of the judged participants. Both tables: see predict_baselines.
    """
    classes = people.logits.shape[1]
    place = {name: number for number, name in enumerate(held_out.participant.tolist())}
    rows = [place[name] for name in train_people["participant"]]
    known, label = held_out.logits[rows], held_out.label[rows]
    centre, spread = known.mean(axis=0), known.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    columns = ("age", "site")
    fitted_on = np.hstack([(known - centre) / scale, encode_covariates(train_people, train_people, columns)])
    asked = judged_people.set_index("participant").loc[people.participant].reset_index()
    judged = np.hstack([(people.logits - centre) / scale, encode_covariates(asked, train_people, columns)])
    model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
    model.fit(fitted_on, label)
    probability = np.full((len(asked), classes), SMALLEST_PROBABILITY)
    probability[:, model.classes_] = np.clip(model.predict_proba(judged), SMALLEST_PROBABILITY, None)
    found = np.log(probability)
    return Predictions(
        TOGETHER, "participant", people.split, people.unit, people.participant, people.label, found, softmax(found)
    )
