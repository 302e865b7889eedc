"""How far the probabilities of a split may be taken at their word, level by level and class by class.

Units are weighed so that the split has the prevalence that the probabilities are stated at: a designed split would
otherwise make every probability look wrong. Observed/expected, slope and intercept: Van Calster et al., J Clin
Epidemiol 2016;74:167 (a slope below 1: too sure; observed/expected above 1: too low).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.judging.bootstrap import Replicates, draw_replicates, summarise
from classify.judging.calibrate import Calibrator, Choice, describe_method
from classify.judging.decision_curve import Shown
from classify.judging.metrics import CALIBRATION_BINS, bin_of
from classify.judging.number_calibration import report_numbers
from classify.judging.prevalence import Prevalence, weigh_units
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of

MOST_REPLICATES = 500
"""Of a slope, which takes a small fit each; enough for the ends of a 95 % interval to within a tenth of its width."""

NEWTON_STEPS = 30
SETTLED = 1e-4
SMALLEST = 1e-9
SAME = "every unit has the same probability"


def shown_by(calibrator: Calibrator, prevalence: Prevalence | None = None) -> Shown:
    """Say what calibrated probabilities are, for a decision curve."""
    record = {"method": calibrator.method, "why_constant": calibrator.why_constant}
    words = describe_method(record | ({"prevalence": True} if calibrator.prevalence else {}))
    return Shown(words + (f", at the prevalence of {prevalence.source}" if prevalence else ""), calibrator.prevalence)


def report_calibration(
    fitted: Choice,
    prevalence: Prevalence,
    levels: Mapping[str, Predictions],
    classes: Sequence[str],
    *,
    folds: int,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Return the ``calibration`` field of the run record. levels: calibrated predictions of val; folds: of train."""
    calibrator = fitted.calibrator
    return {
        "method": calibrator.method,
        "why_constant": calibrator.why_constant,
        "fitted_on": "out-of-fold predictions of train",
        "folds": folds,
        "seed": seed,
        "log_loss_of_candidates": dict(fitted.log_loss),
        "prevalence": dict(zip(classes, prevalence.shares, strict=True)),
        "prevalence_of": prevalence.source,
        "judged_on": judged_of(levels).split,
        "levels": {
            level: {"parameters": calibrator.parameters[level]} | found
            for level, found in report_levels(
                levels, prevalence.shares, classes, replicates=replicates, seed=seed
            ).items()
        },
    }


def report_number(
    fitted: Choice, levels: Mapping[str, Predictions], *, folds: int, replicates: int, seed: int
) -> dict[str, Any]:
    """Return the same field of a run that predicts a number: see report_numbers for its levels."""
    calibrator = fitted.calibrator
    return {
        "method": calibrator.method,
        "why_constant": calibrator.why_constant,
        "fitted_on": "out-of-fold predictions of train",
        "folds": folds,
        "seed": seed,
        "squared_error_of_candidates": dict(fitted.log_loss),
        "judged_on": judged_of(levels).split,
        "levels": report_numbers(levels, calibrator.parameters, replicates=min(replicates, MOST_REPLICATES), seed=seed),
    }


def report_levels(
    levels: Mapping[str, Predictions],
    prevalence: Sequence[float] | None,
    classes: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Judge shown probabilities ("after") and the head's own ("before") of one split at every level."""
    drawn = draw_replicates(judged_of(levels).participant, replicates=min(replicates, MOST_REPLICATES), seed=seed)
    return {level: _report(part, prevalence, classes, drawn) for level, part in levels.items()}


def measure_calibration(
    probability: Float64[np.ndarray, "n k"], truth: Predictions, prevalence: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return log-loss, expected calibration error and the bins of the reliability diagram, weighed to a prevalence."""
    weight = weigh_units(truth.label, prevalence)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth.label
    bins = bin_of(confidence)
    lines = []
    for number in np.unique(bins).tolist():
        here = bins == number
        line = {"low": number / CALIBRATION_BINS, "n": int(here.sum())}
        line |= {name: float(np.average(x[here], weights=weight[here])) for name, x in (
            ("confidence", confidence), ("right", right.astype(np.float64))
        )}  # fmt: skip
        lines.append((weight[here].sum() / weight.sum(), line))
    return {
        "log_loss": float(_log_loss(probability, truth) @ weight / weight.sum()),
        "expected_calibration_error": float(sum(share * abs(x["confidence"] - x["right"]) for share, x in lines)),
        "reliability": [line for _, line in lines],
    }


def _report(
    part: Predictions, prevalence: Sequence[float] | None, classes: Sequence[str], drawn: Replicates
) -> dict[str, Any]:
    found = {
        "before": measure_calibration(part.scores, part, prevalence),
        "after": measure_calibration(part.probability, part, prevalence),
    }
    missing = [name for number, name in enumerate(classes) if not (part.label == number).any()]
    if missing:
        return found | {"absent": f"no unit of class {', '.join(missing)}"}
    columns = slice(0, drawn.counts.shape[1])
    weights = drawn.weights_of(part.participant, columns) * weigh_units(part.label, prevalence)[:, None]
    shares = np.bincount(part.label) / len(part.label) if prevalence is None else np.array(prevalence)
    constant = np.tile(shares, (len(part.label), 1))
    return found | {
        "against_constant": {
            "log_loss": _compare(_log_loss(part.probability, part), _log_loss(constant, part), weights),
            "brier": _compare(_brier(part.probability, part), _brier(constant, part), weights),
        },
        "by_class": {
            name: _judge_class(part.label == number, part.probability[:, number], weights)
            for number, name in enumerate(classes)
        },
    }


def _compare(ours: np.ndarray, theirs: np.ndarray, weights: Float64[np.ndarray, "n R"]) -> dict[str, Estimate]:
    """Return a loss, that of saying the prevalence to everybody, and their difference (negative: ours is better)."""
    values, constant = (loss @ weights / weights.sum(axis=0) for loss in (ours, theirs))
    return {
        "value": summarise(values, "undefined"),
        "constant": summarise(constant, "undefined"),
        "difference": summarise(values - constant, "undefined"),
    }


def _judge_class(positive: np.ndarray, said: np.ndarray, weights: Float64[np.ndarray, "n R"]) -> dict[str, Estimate]:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (positive @ weights) / (said @ weights)
    if np.ptp(said) < SMALLEST:
        slope = Estimate(absent=SAME)
        return {"observed_expected": summarise(ratio, SAME), "slope": slope, "intercept": slope}
    intercept, slopes = recalibrate(positive, said, weights)
    return {
        "observed_expected": summarise(ratio, "nobody was expected"),
        "slope": summarise(slopes, "the fit does not converge"),
        "intercept": summarise(intercept, "the fit does not converge"),
    }


def recalibrate(
    positive: np.ndarray, said: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> tuple[Float64[np.ndarray, " R"], Float64[np.ndarray, " R"]]:
    """Fit logit P(positive) = a + b logit(said) in every weighting by Newton's method; NaN where it does not settle.

    Returns intercepts a and slopes b; with said calibrated, a = 0 and b = 1 (Cox 1958).
    """
    clipped = np.clip(said, SMALLEST, 1 - SMALLEST)
    x = np.log(clipped / (1 - clipped))[:, None]
    truth = positive.astype(np.float64)[:, None]
    a, b = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(NEWTON_STEPS):
            p = 1 / (1 + np.exp(-(a + b * x)))
            away, bend = weights * (truth - p), weights * p * (1 - p)
            g0, g1 = away.sum(axis=0), (away * x).sum(axis=0)
            h00, h01, h11 = bend.sum(axis=0), (bend * x).sum(axis=0), (bend * x * x).sum(axis=0)
            determinant = h00 * h11 - h01 * h01
            step_a = np.clip((h11 * g0 - h01 * g1) / determinant, -2, 2)
            step_b = np.clip((h00 * g1 - h01 * g0) / determinant, -2, 2)
            a, b = a + step_a, b + step_b
            if np.nanmax(np.abs(np.r_[step_a, step_b]), initial=0.0) < SETTLED:
                break
    settled = (np.abs(step_a) < SETTLED) & (np.abs(step_b) < SETTLED)
    return np.where(settled, a, np.nan), np.where(settled, b, np.nan)


def _log_loss(probability: Float64[np.ndarray, "n k"], truth: Predictions) -> Float64[np.ndarray, " n"]:
    right = probability[np.arange(len(truth.label)), truth.label]
    return np.asarray(-np.log(np.clip(right, np.finfo(float).tiny, None)))


def _brier(probability: Float64[np.ndarray, "n k"], truth: Predictions) -> Float64[np.ndarray, " n"]:
    classes = probability.shape[1]
    error = ((probability - np.eye(classes)[truth.label]) ** 2).sum(axis=1)
    return np.asarray(error / 2 if classes == 2 else error)
