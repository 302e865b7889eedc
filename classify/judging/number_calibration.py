"""Calibration of a number: shift and slope fitted on held-out predictions of train, and how far an answer may be off.

The interval of an answer reaches as far as 95 % of the held-out residuals (Lei et al., JASA 2018;113:1094, split
conformal with the absolute residual): it holds 95 % of new people like those of train, whatever the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.cohort.splits import grouped_folds
from classify.judging.bootstrap import Replicates, draw_replicates, measure, summarise
from classify.judging.kinds import measures_of
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of, rows_of, unit_loss, weigh_as_judged

LINE, AS_IS, MEAN = "line", "as-is", "mean"
SHARE = 0.95
FOLDS = 5
HALF_WIDTH = "half_width"

Parameters = dict[str, Any]
Column = Float64[np.ndarray, "n 1"]

SAYS_NOTHING = "on participants held out of train the numbers say no more than the mean of train does"


def fit_line(part: Predictions) -> Parameters:
    """Fit truth = shift + slope * number by least squares, everybody weighing one."""
    weights = part.fit_weights
    x, y = part.logits[:, 0], part.label
    level, mean = float(weights @ y / weights.sum()), float(weights @ x / weights.sum())
    spread = float(weights @ (x - mean) ** 2)
    slope = float(weights @ ((x - mean) * (y - level))) / spread if spread > 0 else 0.0
    return {"slope": slope, "shift": level - slope * mean}


def fit_mean(part: Predictions) -> Parameters:
    """Take the mean of participants."""
    weights = part.fit_weights
    return {"slope": 0.0, "shift": float(weights @ part.label / weights.sum())}


def fit_as_is(part: Predictions) -> Parameters:  # noqa: ARG001 - nothing is learned
    """Leave the head's number as it is."""
    return {"slope": 1.0, "shift": 0.0}


def apply_line(numbers: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Return the numbers that are shown."""
    return np.asarray(parameters["shift"] + parameters["slope"] * numbers, dtype=np.float64)


FITS: Mapping[str, Callable[[Predictions], Parameters]] = {LINE: fit_line, AS_IS: fit_as_is, MEAN: fit_mean}


def choose_line(
    asked: str | None, held_out: Mapping[str, Predictions], *, seed: int
) -> tuple[str, dict[str, Parameters], str, dict[str, float]]:
    """Give the method, its parameters by level, why everybody has the mean, if so, and squared errors cross-fitted.

    asked: None leaves the head's numbers as they are.
    """
    held_out = weigh_as_judged(held_out)
    people = judged_of(held_out)
    crossed = {name: cross_fit_line(name, people, seed) for name in FITS}
    weights = people.fit_weights
    losses = {n: float(unit_loss(part.probability, people) @ weights / weights.sum()) for n, part in crossed.items()}
    name = AS_IS if asked is None else min((LINE, AS_IS), key=lambda one: losses[one])
    why = ""
    if asked and (losses[name] >= losses[MEAN] or FITS[name](people)["slope"] <= 0):
        name, why = MEAN, SAYS_NOTHING
    found = {level: FITS[name](part) | _reach(cross_fit_line(name, part, seed)) for level, part in held_out.items()}
    return name, found, why, losses


def cross_fit_line(name: str, part: Predictions, seed: int) -> Predictions:
    """Show each participant the number of a fit on the other folds of participants."""
    fold = grouped_folds(part.participant, part.label, folds=FOLDS, seed=seed)
    shown = part.probability.copy()
    for number in np.unique(fold):
        fitted = FITS[name](rows_of(part, fold != number))
        shown[fold == number] = apply_line(part.logits[fold == number], fitted)
    return replace(part, probability=shown)


def _reach(crossed: Predictions) -> Parameters:
    """Give how far 95 % of new people lie from their number; {} where train has too few to know."""
    residual = np.abs(crossed.label - crossed.probability[:, 0])
    people = len(set(crossed.participant.tolist()))
    wanted = ceil(SHARE * (people + 1)) / people
    if wanted > 1:
        return {}
    order = np.argsort(residual, kind="stable")
    weight = crossed.fit_weights[order]
    place = int(np.searchsorted(np.cumsum(weight) / weight.sum(), wanted - 1e-9))
    return {HALF_WIDTH: float(residual[order][min(place, len(order) - 1)])}


def check_line(parameters: Parameters) -> None:
    """Raises: ValueError where parameters that were read again cannot have been written."""
    wrong = [name for name in ("slope", "shift") if type(parameters.get(name)) is not float]
    if wrong or not parameters.get(HALF_WIDTH, 0.0) >= 0 or parameters["slope"] < 0:
        raise ValueError("expected a slope of at least 0, a shift and a half width")


def report_numbers(
    levels: Mapping[str, Predictions], parameters: Mapping[str, Parameters], *, replicates: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Judge the shown numbers ("after") and the head's own ("before") of one split at every level."""
    drawn = draw_replicates(judged_of(levels).participant, replicates=replicates, seed=seed)
    return {level: _report(part, parameters[level], drawn) for level, part in levels.items()}


def plain_metrics(part: Predictions, shown: Column) -> dict[str, float]:
    """Give every metric of numbers that is defined, without intervals."""
    own = replace(part, logits=shown, probability=shown)
    values = measures_of(()).compute(own, np.ones((len(own.label), 1)), ())
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


def _report(part: Predictions, parameters: Parameters, drawn: Replicates) -> dict[str, Any]:
    weights = drawn.weights_of(part.participant, slice(None))
    said = {"parameters": parameters, "before": plain_metrics(part, part.logits), "after": measure(part, drawn, ())[0]}
    if HALF_WIDTH not in parameters:
        few = f"train has too few participants for an interval of {SHARE:.0%}"
        return said | {"interval": Estimate(absent=few)}
    inside = (np.abs(part.label - part.probability[:, 0]) <= parameters[HALF_WIDTH]).astype(np.float64)
    held = summarise(inside @ weights / weights.sum(axis=0), "nobody is judged")
    return said | {"interval": {HALF_WIDTH: parameters[HALF_WIDTH], "share": SHARE, "covered": held}}
