"""What can be said without looking at the retina: dummy, age, site, device ... fitted on participants of train."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float64

from classify.baselines.brightness import brightness_of_units
from classify.baselines.covariate_models import fit_covariates
from classify.baselines.pixels import Sides, predict_by_pixels, thumbnails_of_units, why_no_pixels
from classify.cohort.clinical import refuse_label_defining
from classify.cohort.table import BRIGHTNESS, FACTS, Cohort
from classify.cohort.units import PARTICIPANT
from classify.fitting.aggregate import SMALLEST_PROBABILITY
from classify.heads.contract import softmax
from classify.run.predictions import Predictions
from classify.run.record import Missing

HEADLINE_BASELINE = "age+site"
TOGETHER = "embedding+age+site"
"""The head's logits with age and site (see stacking); its difference to age+site is what the embedding adds."""

CEILING = "HbA1c (ceiling)"
"""HbA1c defines the label: what it reaches is a ceiling to compare with, no rival."""

PIXELS = "pixels"
"""The pixel floor: thumbnails, principal components, logistic regression (see classify.baselines.pixels)."""

COVARIATES: Mapping[str, tuple[str, ...]] = {
    "dummy": (),
    "age": ("age",),
    "site": ("site",),
    "age+site": ("age", "site"),
    "device+protocol": ("protocols", "facts"),
    "raw intensity statistics": ("brightness",),
    PIXELS: ("thumbnails",),
    "BMI": ("bmi",),
    CEILING: ("hba1c",),
}

WITHOUT_DEVICE = ("dummy", "age", "site", "age+site")

NO_RIVALS = ("dummy", TOGETHER, CEILING)
"""What stands beside a result without being what it has to beat: the verdict compares with all others."""

FEWEST_KNOWN = 0.5
"""Ages that a smaller share of a split has are not usable: the baseline would be weaker than its name."""

TWIN_MISSING: Missing = {
    "name": "random-initialised twin",
    "reason": "needs a second store: extract-embeddings --encoder random:base, then classify probe --random-twin",
}
"""The baseline that needs another store than the one that is probed."""


def predict_baselines(
    train: pd.DataFrame,
    judged: pd.DataFrame,
    *,
    classes: int,
    split: str,
    names: Sequence[str] = WITHOUT_DEVICE,
    level: str = PARTICIPANT,
) -> dict[str, Predictions]:
    """Fit each of the named baselines (of COVARIATES) on train and predict the judged units.

    Both tables: one line a unit, as describe_units gives them: unit, participant, site, age (years, NaN: missing),
    label, protocols (each "device/protocol" that it was scanned with, with | between), and what the name asks.
    Each is the best of a straight, a curved and a boosted model, chosen inside train (see fit_covariates); PIXELS is
    that of predict_by_pixels; the dummy gives the class frequencies, or the mean, of train.
    """
    return {name: _predict(name, train, judged, classes, split, level) for name in names}


def describe_units(cohort: Cohort, split: str) -> pd.DataFrame:
    """Return the units of a split with all that a baseline may ask: brightness, facts and thumbnails of scans."""
    units = cohort.units(split)
    scanned = (brightness_of_units(cohort, split), _facts_of_units(cohort, split), thumbnails_of_units(cohort, split))
    for found in scanned:
        units = units if found is None else units.merge(found, on="unit", how="left")
    return units


def _facts_of_units(cohort: Cohort, split: str) -> pd.DataFrame | None:
    """Return unit, how many scans there are, and the mean of FACTS over a unit's scans (NaN: unknown)."""
    if cohort.facts is None:
        return None
    part = cohort.table.assign(unit=cohort.unit).loc[cohort.table["split"] == split, ["volume", "unit"]]
    rows = part.merge(cohort.facts, on="volume", how="left").drop(columns="volume").groupby("unit")
    return rows.mean().astype(np.float64).join(rows.size().rename("scans").astype(np.float64)).reset_index()


def choose_baselines(train: pd.DataFrame, judged: pd.DataFrame | None = None) -> tuple[list[str], list[Missing]]:
    """Name the baselines that the participants allow, and the others, {"name", "reason"} each.

    train, judged: as describe_units gives them. A baseline without a usable value of one of its covariates (nobody
    has it, everybody has the same one, few have it) is not made at all; nor is TOGETHER without age or site.
    """
    found = {name: reason for name in COVARIATES if (reason := why_no_baseline(name, train, judged))}
    if HEADLINE_BASELINE in found:
        found[TOGETHER] = found[HEADLINE_BASELINE]
    return [n for n in COVARIATES if n not in found], [{"name": n, "reason": reason} for n, reason in found.items()]


def why_no_baseline(name: str, train: pd.DataFrame, judged: pd.DataFrame | None = None) -> str:
    """Say why a baseline cannot be made from these participants; "" where it can."""
    sides = {"train": train} | ({} if judged is None else {"the judged split": judged})
    return "; ".join(
        reason for column in COVARIATES[name] if column in _WHY_NOT and (reason := _WHY_NOT[column](sides))
    )


def _why_no_site(sides: Sides) -> str:
    sites = sides["train"]["site"].unique()
    return "" if len(sites) > 1 else f"everybody in train is of one site ({sites[0]})"


def _why_no_device(sides: Sides) -> str:
    train = sides["train"]
    names = train["protocols"].unique()
    return "" if len(names) > 1 or _varying_facts(train) else f"everybody in train was scanned alike ({names[0]})"


def _varying_facts(train: pd.DataFrame) -> list[str]:
    return [name for name in ("scans", *FACTS) if name in train.columns and len(train[name].unique()) > 1]


def _why_no_number(sides: Sides, *, column: str, not_given: str) -> str:
    for split, people in sides.items():
        if column not in people.columns:
            return not_given
        known = int(people[column].notna().sum())
        if not known:
            return f"no participant of {split} has a usable {column}"
        if column == "age" and known < FEWEST_KNOWN * len(people):
            return f"only {known} of {len(people)} participants of {split} have a usable {column}"
    values = sides["train"][column].dropna().unique()
    return "" if len(values) > 1 else f"everybody in train has the same {column} ({values[0]:g})"


_WHY_NOT: Mapping[str, Callable[[Sides], str]] = {
    "age": partial(_why_no_number, column="age", not_given="the participants table has no age"),
    "site": _why_no_site,
    "protocols": _why_no_device,
    "brightness": partial(
        _why_no_number,
        column=BRIGHTNESS[0],
        not_given="the store does not know how bright its volumes are; it was written by an older extract-embeddings",
    ),
    "thumbnails": why_no_pixels,
    "bmi": partial(_why_no_number, column="bmi", not_given="--measurements was not given"),
    "hba1c": partial(_why_no_number, column="hba1c", not_given="--measurements was not given"),
}


def _predict(name: str, train: pd.DataFrame, judged: pd.DataFrame, classes: int, split: str, level: str) -> Predictions:
    columns = COVARIATES[name]
    label = train["label"].to_numpy()
    if name == PIXELS:
        seen, asked = list(train["thumbnails"]), list(judged["thumbnails"])
        logits = predict_by_pixels(seen, asked, label, classes=classes)
    elif columns:
        encode = _encode if name == CEILING else encode_covariates
        model = fit_covariates(encode(train, train, columns), label, classes=classes)
        logits = model.logits(encode(judged, train, columns))
    elif not classes:
        logits = np.full((len(judged), 1), label.mean())
    else:
        share = np.bincount(label, minlength=classes) / len(label)
        logits = np.log(np.clip(np.tile(share, (len(judged), 1)), SMALLEST_PROBABILITY, None))
    person = judged["participant"].to_numpy(str)
    truth = judged["label"].to_numpy()
    unit = judged["unit"].to_numpy(str)
    return Predictions(name, level, split, unit, person, truth, logits, softmax(logits))


def encode_covariates(
    people: pd.DataFrame, train: pd.DataFrame, columns: tuple[str, ...]
) -> Float64[np.ndarray, "n d"]:
    """Encode numbers (standardised, and whether one is missing), site and protocols (one column each), as on train.

    A missing number stands at the mean of train, with its mark. columns: of age, bmi, site, protocols, facts,
    brightness. Raises: LeakError where one of them makes the label.
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


def _encode_facts(people: pd.DataFrame, train: pd.DataFrame) -> Float64[np.ndarray, "n facts"]:
    known = [_encode_number(people, train, column=column) for column in _varying_facts(train)]
    return np.hstack([np.empty((len(people), 0)), *known])


_ENCODERS: Mapping[str, Callable[[pd.DataFrame, pd.DataFrame], Float64[np.ndarray, "n d"]]] = {
    "age": partial(_encode_number, column="age"),
    "bmi": partial(_encode_number, column="bmi"),
    "hba1c": partial(_encode_number, column="hba1c"),
    "site": _encode_site,
    "protocols": _encode_protocols,
    "brightness": _encode_brightness,
    "facts": _encode_facts,
}
