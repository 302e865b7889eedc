"""What can be said without looking at the retina: dummy, age, site, device ... fitted on participants of train."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float64

from classify.baselines.brightness import brightness_of_units
from classify.baselines.covariate_models import fit_covariates
from classify.baselines.pixels import Sides, predict_by_pixels, thumbnails_of_units, why_no_pixels
from classify.cohort.questions import STUDY_GROUP, Task
from classify.cohort.table import BRIGHTNESS, FACTS, FILE_TYPE, Cohort
from classify.fitting.aggregate import SMALLEST_PROBABILITY
from classify.heads.contract import softmax
from classify.run.predictions import Predictions
from classify.run.record import Missing

DUMMY = "dummy"
WITH_EMBEDDING = "embedding+"
"""Begins the name of the head's logits with the covariates (see stacking): what the embedding adds to them."""

CEILING = "HbA1c (ceiling)"
"""HbA1c defines the study group: what it reaches is a ceiling to compare with, no rival."""

PIXELS = "pixels"
"""The pixel floor: thumbnails, principal components, logistic regression (see classify.baselines.pixels)."""

DEFAULT = ("age", "site")
OF_SCANS: Mapping[str, tuple[str, ...]] = {
    "device+protocol": ("protocols", "facts"),
    "raw intensity statistics": ("brightness",),
    PIXELS: ("thumbnails",),
}
MEASURED: Mapping[str, tuple[str, ...]] = {"BMI": ("bmi",), CEILING: ("hba1c",)}
"""Of AI-READI's measurements."""


def covariates_of(task: Task) -> tuple[str, ...]:
    """Return what the baseline next to each number knows: what the task names, else age and site."""
    return DEFAULT if task.covariates is None else task.covariates


def headline_of(task: Task) -> str:
    """Name the baseline of all covariates together, such as "age+site"; "" where the task has none."""
    return "+".join(covariates_of(task))


def together_of(task: Task) -> str:
    """Name the head together with the covariates: its difference to headline_of is what the embedding adds."""
    return WITH_EMBEDDING + headline_of(task)


def baselines_of(task: Task) -> dict[str, tuple[str, ...]]:
    """Return the baselines of a task and what each knows: nothing, each covariate, all of them, facts of scans."""
    own = covariates_of(task)
    single = {name: (name,) for name in own}
    whole = {headline_of(task): own} if len(own) > 1 else {}
    measured = MEASURED if task.target == STUDY_GROUP else {}
    return {DUMMY: (), **single, **whole, **OF_SCANS, **measured}


def is_rival(name: str) -> bool:
    """Whether a baseline is one that a result has to beat; the others stand next to it for another reason."""
    return name not in (DUMMY, CEILING) and not name.startswith(WITH_EMBEDDING)


KNOWN_OF_FEW = (BRIGHTNESS[0], "bmi", "hba1c")
"""May be missing for most: what stands next to a result by itself, and not as its headline."""

NO_COVARIATES = "the task names no covariates, and the labels have neither age nor site"

FEWEST_KNOWN = 0.5
"""Ages that a smaller share of a split has are not usable: the baseline would be weaker than its name."""

TWIN_MISSING: Missing = {
    "name": "random-initialised twin",
    "reason": "needs a second store: extract-embeddings --encoder random:base, then classify probe --random-twin",
}
"""The baseline that needs another store than the one that is probed."""


def predict_baselines(
    task: Task, train: pd.DataFrame, judged: pd.DataFrame, *, split: str, names: Sequence[str]
) -> dict[str, Predictions]:
    """Fit each of the named baselines (of baselines_of) on train and predict the judged units.

    Both tables: one line a unit, as describe_units gives them: unit, participant, site, age (years, NaN: missing),
    label, protocols (each "device/protocol" that it was scanned with, with | between), and what the name asks.
    Each is the best of a straight, a curved and a boosted model, chosen inside train (see fit_covariates); PIXELS is
    that of predict_by_pixels; the dummy gives the class frequencies, or the mean, of train.
    """
    return {name: _predict(task, name, train, judged, split) for name in names}


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


def choose_baselines(
    task: Task, train: pd.DataFrame, judged: pd.DataFrame | None = None
) -> tuple[list[str], list[Missing]]:
    """Name the baselines that the units allow, and the others, {"name", "reason"} each.

    train, judged: as describe_units gives them. A baseline without a usable value of one of its covariates (nobody
    has it, everybody has the same one, few have it) is not made at all; nor is what the embedding adds to it.
    """
    known = baselines_of(task)
    found = {name: reason for name in known if (reason := why_no_baseline(known[name], train, judged))}
    whole = headline_of(task)
    if not whole:
        found["covariates"] = NO_COVARIATES
    elif whole in found:
        found[together_of(task)] = found[whole]
    return [n for n in known if n not in found], [{"name": n, "reason": reason} for n, reason in found.items()]


def why_no_baseline(columns: Sequence[str], train: pd.DataFrame, judged: pd.DataFrame | None = None) -> str:
    """Say why a baseline of these columns cannot be made from these units; "" where it can."""
    sides = {"train": train} | ({} if judged is None else {"the judged split": judged})
    return "; ".join(reason for column in columns if (reason := _why_not(column, sides)))


def _why_not(column: str, sides: Sides) -> str:
    if column == "facts":
        return ""
    if column in _WHY_NOT:
        return _WHY_NOT[column](sides)
    if pd.api.types.is_numeric_dtype(sides["train"].get(column, pd.Series(dtype=np.float64))):
        return _why_no_number(sides, column=column, not_given=f"the labels have no column {column}")
    return _why_no_group(sides, column)


def _why_no_group(sides: Sides, column: str) -> str:
    for split, units in sides.items():
        known = int((units[column] != "").sum())
        if known < FEWEST_KNOWN * len(units):
            return f"only {known} of {len(units)} of {split} have a usable {column}"
    values = sorted(set(sides["train"][column]) - {""})
    return "" if len(values) > 1 else f"everybody in train has the same {column} ({values[0]})"


def _why_no_site(sides: Sides) -> str:
    sites = sides["train"]["site"].unique()
    return "" if len(sites) > 1 else f"everybody in train is of one site ({sites[0]})"


def _why_no_device(sides: Sides) -> str:
    train = sides["train"]
    names = train["protocols"].unique()
    return "" if len(names) > 1 or _varying_facts(train) else f"everybody in train was scanned alike ({names[0]})"


def _varying_facts(train: pd.DataFrame) -> list[str]:
    return [name for name in ("scans", *FACTS, FILE_TYPE) if name in train.columns and len(train[name].unique()) > 1]


def _why_no_number(sides: Sides, *, column: str, not_given: str) -> str:
    for split, people in sides.items():
        if column not in people.columns:
            return not_given
        known = int(people[column].notna().sum())
        if not known:
            return f"no participant of {split} has a usable {column}"
        if column not in KNOWN_OF_FEW and known < FEWEST_KNOWN * len(people):
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


def _predict(task: Task, name: str, train: pd.DataFrame, judged: pd.DataFrame, split: str) -> Predictions:
    columns, classes = baselines_of(task)[name], len(task.classes)
    label = train["label"].to_numpy()
    if name == PIXELS:
        seen, asked = list(train["thumbnails"]), list(judged["thumbnails"])
        logits = predict_by_pixels(seen, asked, label, classes=classes)
    elif columns:
        model = fit_covariates(encode_covariates(train, train, columns), label, classes=classes)
        logits = model.logits(encode_covariates(judged, train, columns))
    elif not classes:
        logits = np.full((len(judged), 1), label.mean())
    else:
        share = np.bincount(label, minlength=classes) / len(label)
        logits = np.log(np.clip(np.tile(share, (len(judged), 1)), SMALLEST_PROBABILITY, None))
    person = judged["participant"].to_numpy(str)
    truth = judged["label"].to_numpy()
    unit = judged["unit"].to_numpy(str)
    return Predictions(name, task.judged, split, unit, person, truth, logits, softmax(logits))


def encode_covariates(
    people: pd.DataFrame, train: pd.DataFrame, columns: tuple[str, ...]
) -> Float64[np.ndarray, "n d"]:
    """Encode numbers (standardised, and whether one is missing), and groups such as site (a column each), as on train.

    A missing number stands at the mean of train, with its mark; a group that train has not has no column. columns: of
    age, bmi, hba1c, site, protocols, facts, brightness, and any covariate of the task.
    """
    return np.hstack([_encoder_of(column, train)(people, train) for column in columns])


def _encoder_of(column: str, train: pd.DataFrame) -> Callable[[pd.DataFrame, pd.DataFrame], Float64[np.ndarray, "n d"]]:
    if column in _ENCODERS:
        return _ENCODERS[column]
    return partial(_encode_number if pd.api.types.is_numeric_dtype(train[column]) else _encode_group, column=column)


def _encode_number(people: pd.DataFrame, train: pd.DataFrame, *, column: str) -> Float64[np.ndarray, "n 2"]:
    known = train[column].dropna().to_numpy(np.float64)
    mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
    value = people[column].to_numpy(np.float64)
    missing = np.isnan(value)
    standard = np.where(missing, 0.0, (value - mean) / (spread if spread > 0 else 1.0))
    return np.column_stack([standard, missing.astype(np.float64)])


def _encode_group(people: pd.DataFrame, train: pd.DataFrame, *, column: str) -> Float64[np.ndarray, "n groups"]:
    groups = np.unique(train[column].to_numpy(str))
    here = people[column].to_numpy(str)
    return np.asarray(here[:, None] == groups[None, :], dtype=np.float64)


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
    "site": partial(_encode_group, column="site"),
    "protocols": _encode_protocols,
    "brightness": _encode_brightness,
    "facts": _encode_facts,
}
