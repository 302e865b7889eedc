"""What can be said without looking at the retina: dummy, age, site, device ... fitted on participants of train."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float64
from sklearn.linear_model import LogisticRegression

from classify.aggregate import SMALLEST_PROBABILITY
from classify.brightness import brightness_of_people
from classify.cohort.clinical import refuse_label_defining
from classify.cohort.table import BRIGHTNESS, Cohort
from classify.heads.contract import softmax
from classify.predictions import Predictions

HEADLINE_BASELINE = "age+site"
TOGETHER = "embedding+age+site"
"""The head's logits with age and site (see stacking); its difference to age+site is what the embedding adds."""

CEILING = "HbA1c (ceiling)"
"""HbA1c defines the label: what it reaches is a ceiling to compare with, no rival."""

COVARIATES: Mapping[str, tuple[str, ...]] = {
    "dummy": (),
    "age": ("age",),
    "site": ("site",),
    "age+site": ("age", "site"),
    "device+protocol": ("protocols",),
    "raw intensity statistics": ("brightness",),
    "BMI": ("bmi",),
    CEILING: ("hba1c",),
}

WITHOUT_DEVICE = ("dummy", "age", "site", "age+site")

TWIN_MISSING = {
    "name": "random-initialised twin",
    "reason": "needs a second store: extract-embeddings --encoder random:base, then classify probe --random-twin",
}
"""The baseline that needs another store than the one that is probed."""


def predict_baselines(
    train: pd.DataFrame, judged: pd.DataFrame, *, classes: int, split: str, names: Sequence[str] = WITHOUT_DEVICE
) -> dict[str, Predictions]:
    """Fit each of the named baselines (of COVARIATES) on train and predict the judged participants.

    Both tables: one line a participant, as describe_people gives them: participant, site, age (years, NaN: missing),
    label, protocols (each "device/protocol" that the person was scanned with, with | between), and what the name asks.
    Logistic regression with balanced classes and C = 1; the dummy gives the class frequencies of train.
    """
    return {name: _predict(name, train, judged, classes, split) for name in names}


def describe_people(cohort: Cohort, split: str) -> pd.DataFrame:
    """Give the participants of a split with everything that a baseline may ask: the people and their brightness."""
    people, brightness = cohort.people(split), brightness_of_people(cohort, split)
    return people if brightness is None else people.merge(brightness, on="participant", how="left")


def choose_baselines(train: pd.DataFrame) -> tuple[list[str], list[dict[str, str]]]:
    """Name the baselines that the participants of train allow, and the others, {"name", "reason"} each.

    train: as describe_people gives it. age+site and the dummy are always there, as differences are taken to them.
    """
    found = {name: reason for name, why_not in _WHY_NOT.items() if (reason := why_not(train))}
    return [n for n in COVARIATES if n not in found], [{"name": n, "reason": reason} for n, reason in found.items()]


def _why_no_site(train: pd.DataFrame) -> str:
    sites = train["site"].unique()
    return "" if len(sites) > 1 else f"everybody in train is of one site ({sites[0]}); age+site is age alone here"


def _why_no_number(train: pd.DataFrame, *, column: str, not_given: str) -> str:
    if column not in train.columns:
        return not_given
    return "" if train[column].notna().any() else f"no participant of train has a usable {column}"


_WHY_NOT: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "age": partial(_why_no_number, column="age", not_given="the participants table has no age"),
    "site": _why_no_site,
    "raw intensity statistics": partial(
        _why_no_number,
        column=BRIGHTNESS[0],
        not_given="the store does not know how bright its volumes are; it was written by an older extract-embeddings",
    ),
    "BMI": partial(_why_no_number, column="bmi", not_given="--measurements was not given"),
    CEILING: partial(_why_no_number, column="hba1c", not_given="--measurements was not given"),
}


def _predict(name: str, train: pd.DataFrame, judged: pd.DataFrame, classes: int, split: str) -> Predictions:
    columns = COVARIATES[name]
    label = train["label"].to_numpy(np.int64)
    probability = np.full((len(judged), classes), SMALLEST_PROBABILITY)
    if columns:
        encode = _encode if name == CEILING else encode_covariates
        model = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
        model.fit(encode(train, train, columns), label)
        probability[:, model.classes_] = model.predict_proba(encode(judged, train, columns))
    else:
        probability += np.bincount(label, minlength=classes) / len(label)
    logits = np.log(np.clip(probability, SMALLEST_PROBABILITY, None))
    person = judged["participant"].to_numpy(str)
    truth = judged["label"].to_numpy(np.int64)
    return Predictions(name, "participant", split, person, person, truth, logits, softmax(logits))


def encode_covariates(
    people: pd.DataFrame, train: pd.DataFrame, columns: tuple[str, ...]
) -> Float64[np.ndarray, "n d"]:
    """Encode numbers (standardised, and whether one is missing), site and protocols (one column each), as on train.

    columns: of age, bmi, site, protocols, brightness. Raises: LeakError where one of them makes the label.
    """
    refuse_label_defining(columns)
    return _encode(people, train, columns)


def _encode(people: pd.DataFrame, train: pd.DataFrame, columns: tuple[str, ...]) -> Float64[np.ndarray, "n d"]:
    return np.hstack([_ENCODERS[column](people, train) for column in columns])


def _encode_number(people: pd.DataFrame, train: pd.DataFrame, *, column: str) -> Float64[np.ndarray, "n 2"]:
    known = train[column].dropna().to_numpy(np.float64)
    mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
    value = people[column].to_numpy(np.float64)
    missing = np.isnan(value)
    standard = np.where(missing, 0.0, (value - mean) / (spread if spread > 0 else 1.0))
    return np.column_stack([standard, missing.astype(np.float64)])


def _encode_site(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n sites"]:
    sites = np.unique(train["site"].to_numpy(str))
    here = people["site"].to_numpy(str)
    return np.asarray(here[:, None] == sites[None, :], dtype=np.float64)


def _encode_protocols(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n protocols"]:
    known = sorted({name for names in train["protocols"] for name in names.split("|")})
    return np.array([[name in names.split("|") for name in known] for names in people["protocols"]], dtype=np.float64)


def _encode_brightness(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n 10"]:
    return np.hstack([_encode_number(people, train, column=column) for column in BRIGHTNESS])


_ENCODERS: Mapping[str, Callable[[pd.DataFrame, pd.DataFrame], Float64[np.ndarray, "n d"]]] = {
    "age": partial(_encode_number, column="age"),
    "bmi": partial(_encode_number, column="bmi"),
    "hba1c": partial(_encode_number, column="hba1c"),
    "site": _encode_site,
    "protocols": _encode_protocols,
    "brightness": _encode_brightness,
}
