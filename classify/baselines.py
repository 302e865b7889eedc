"""What can be said without looking at the retina: dummy, age, site, device, fitted on participants of train."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64
from sklearn.linear_model import LogisticRegression

from classify.aggregate import SMALLEST_PROBABILITY
from classify.heads.contract import softmax
from classify.predictions import Predictions

HEADLINE_BASELINE = "age+site"
TOGETHER = "embedding+age+site"
"""The head's logits with age and site (see stacking); its difference to age+site is what the embedding adds."""

COVARIATES: Mapping[str, tuple[str, ...]] = {
    "dummy": (),
    "age": ("age",),
    "site": ("site",),
    "age+site": ("age", "site"),
    "device+protocol": ("protocols",),
}

WITHOUT_DEVICE = ("dummy", "age", "site", "age+site")

MISSING: tuple[dict[str, str], ...] = (
    {"name": "raw intensity statistics", "reason": "needs the volumes; a probe reads the store only"},
    {
        "name": "random-initialised twin",
        "reason": "needs a second store: extract-embeddings --encoder random:base, then probe it with the same options",
    },
    {"name": "HbA1c", "reason": "participants.tsv holds no clinical values; it would be a ceiling, not a rival"},
)
"""Baselines that a result should stand beside and that a probe cannot compute, with the reason."""


def predict_baselines(
    train: pd.DataFrame, judged: pd.DataFrame, *, classes: int, split: str, names: Sequence[str] = WITHOUT_DEVICE
) -> dict[str, Predictions]:
    """Fit each of the named baselines (of COVARIATES) on train and predict the judged participants.

    Both tables: one line a participant with participant, site, age (years, NaN: missing), label, protocols
    (each "device/protocol" that the person was scanned with, with | between).
    Logistic regression with balanced classes and C = 1; the dummy gives the class frequencies of train.
    """
    return {name: _predict(name, train, judged, classes, split) for name in names}


def _predict(name: str, train: pd.DataFrame, judged: pd.DataFrame, classes: int, split: str) -> Predictions:
    columns = COVARIATES[name]
    label = train["label"].to_numpy(np.int64)
    probability = np.full((len(judged), classes), SMALLEST_PROBABILITY)
    if columns:
        model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
        model.fit(encode_covariates(train, train, columns), label)
        probability[:, model.classes_] = model.predict_proba(encode_covariates(judged, train, columns))
    else:
        probability += np.bincount(label, minlength=classes) / len(label)
    logits = np.log(np.clip(probability, SMALLEST_PROBABILITY, None))
    person = judged["participant"].to_numpy(str)
    truth = judged["label"].to_numpy(np.int64)
    return Predictions(name, "participant", split, person, person, truth, logits, softmax(logits))


def encode_covariates(
    people: pd.DataFrame, train: pd.DataFrame, columns: tuple[str, ...]
) -> Float64[np.ndarray, "n d"]:
    """Encode age (standardised, and whether it is missing), site and protocols (one column each), learned on train."""
    parts = [_encode_age(people, train)] if "age" in columns else []
    parts += [_encode_site(people, train)] if "site" in columns else []
    parts += [_encode_protocols(people, train)] if "protocols" in columns else []
    return np.hstack(parts)


def _encode_age(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    known = train["age"].dropna().to_numpy(np.float64)
    mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
    age = people["age"].to_numpy(np.float64)
    missing = np.isnan(age)
    standard = np.where(missing, 0.0, (age - mean) / (spread if spread > 0 else 1.0))
    return np.column_stack([standard, missing.astype(np.float64)])


def _encode_site(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n sites"]:
    sites = np.unique(train["site"].to_numpy(str))
    here = people["site"].to_numpy(str)
    return np.asarray(here[:, None] == sites[None, :], dtype=np.float64)


def _encode_protocols(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n protocols"]:
    known = sorted({name for names in train["protocols"] for name in names.split("|")})
    return np.array([[name in names.split("|") for name in known] for names in people["protocols"]], dtype=np.float64)
