"""Embedding, age and site together: does the retina add anything to what age and site say already?"""

import numpy as np
import pandas as pd
from jaxtyping import Float64

from classify.baselines import TOGETHER, encode_covariates
from classify.covariate_models import fit_covariates
from classify.features import FeatureTable
from classify.heads.contract import softmax
from classify.model import ModelSpec, predict_out_of_fold
from classify.predictions import Predictions
from classify.search.folds import deal_folds


def predict_with_age_and_site(
    spec: ModelSpec,
    train: FeatureTable,
    people: Predictions,
    train_people: pd.DataFrame,
    judged_people: pd.DataFrame,
    *,
    seed: int,
) -> Predictions:
    """Fit what a baseline is fitted by (see fit_covariates) on the head's logits, age and site of train participants.

    The logits of train come from folds that did not fit on the participant (Wolpert 1992, stacked generalisation).
    train: raw features of the spec's choice. people: the run's own predictions of the judged participants. Both
    tables: see predict_baselines.
    """
    classes = people.logits.shape[1]
    logits, label = out_of_fold_logits(spec, train, classes, seed=seed)
    order = train_people["participant"].tolist()
    known = np.stack([logits[name] for name in order])
    centre, spread = known.mean(axis=0), known.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    columns = ("age", "site")
    fitted_on = np.hstack([(known - centre) / scale, encode_covariates(train_people, train_people, columns)])
    rows = judged_people.set_index("participant").loc[people.participant].reset_index()
    judged = np.hstack([(people.logits - centre) / scale, encode_covariates(rows, train_people, columns)])
    wanted = np.array([label[name] for name in order], dtype=np.int64)
    found = np.log(fit_covariates(fitted_on, wanted, classes=classes).probability(judged))
    return Predictions(
        TOGETHER, "participant", people.split, people.unit, people.participant, people.label, found, softmax(found)
    )


def out_of_fold_logits(
    spec: ModelSpec, train: FeatureTable, classes: int, *, seed: int
) -> tuple[dict[str, Float64[np.ndarray, " k"]], dict[str, int]]:
    """Give logits and label of every participant of train, by name, each from a model that did not see them."""
    logits: dict[str, Float64[np.ndarray, " k"]] = {}
    label: dict[str, int] = {}
    for levels in predict_out_of_fold(spec, deal_folds(train, seed), classes=classes, seed=seed):
        people = levels["participant"]
        logits |= dict(zip(people.participant.tolist(), people.logits, strict=True))
        label |= dict(zip(people.participant.tolist(), people.label.tolist(), strict=True))
    return logits, label
