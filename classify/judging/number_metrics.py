"""How well a number is predicted, for many weightings at once: column r of ``weights`` counts each unit in replicate r.

Where a metric is undefined (everybody has the same value) it is NaN, never 0.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

Values = Float64[np.ndarray, " R"]

HEADLINE = ("r2", "mean_absolute_error")
OVERALL = (
    "r2",
    "mean_absolute_error",
    "root_mean_squared_error",
    "spearman",
    "calibration_slope",
    "calibration_intercept",
    "bland_altman_bias",
    "bland_altman_low",
    "bland_altman_high",
)
LIMITS = 1.96
"""Standard deviations of the differences between the bias and a limit of agreement (Bland & Altman, Lancet 1986)."""

NO_SPREAD = 1e-12
"""Of the sum of squares: below it, what is left of a variance is rounding."""


def number_metrics(
    truth: Float64[np.ndarray, " n"], shown: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> dict[str, Values]:
    """Compute OVERALL of every replicate; truth and shown are in the unit of the target.

    bland_altman_*: of shown minus truth; the limits hold 95 % of the differences where they are normal. calibration_*:
    the line truth = intercept + slope * shown by least squares; 0 and 1 where shown may be taken at its word.

    Agrees with scikit-learn's r2_score, mean_absolute_error, root_mean_squared_error, SciPy's spearmanr and
    statsmodels' OLS; tests hold them to 1e-9.
    """
    centre = _centre(truth)
    x, y = shown - centre, truth - centre
    total = weights.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        bias = (x - y) @ weights / total
        squares = ((x - y)[:, None] - bias) ** 2
        apart = LIMITS * np.sqrt((squares * weights).sum(axis=0) / np.where(total > 1, total - 1, np.nan))
        slope = _slope(x, y, weights)
        return headline_metrics(truth, shown, weights) | {
            "root_mean_squared_error": np.sqrt((y - x) ** 2 @ weights / total),
            "spearman": spearman(y, x, weights),
            "calibration_slope": slope,
            "calibration_intercept": centre + y @ weights / total - slope * (centre + x @ weights / total),
            "bland_altman_bias": bias,
            "bland_altman_low": bias - apart,
            "bland_altman_high": bias + apart,
        }


def headline_metrics(
    truth: Float64[np.ndarray, " n"], shown: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> dict[str, Values]:
    """Compute HEADLINE alone of every replicate, as number_metrics does."""
    centre = _centre(truth)
    x, y = shown - centre, truth - centre
    return {"r2": r_squared(y, x, weights), "mean_absolute_error": absolute_error(y, x, weights)}


def why_absent(metric: str, label: Float64[np.ndarray, " n"], classes: Sequence[str]) -> str:  # noqa: ARG001 - has none
    """Say in one line why a metric of these units is undefined."""
    if not len(label):
        return "nobody is judged"
    if len(label) == 1:
        return "one unit is judged; this needs two"
    if np.ptp(label) == 0:
        return f"everybody judged has the same value ({label[0]:g})"
    return f"everybody is given the same number, which {metric.replace('_', ' ')} says nothing of"


def _centre(truth: Float64[np.ndarray, " n"]) -> float:
    """Return what is taken off, since variances of large numbers would be lost in rounding."""
    return float(truth.mean()) if len(truth) else 0.0


def _slope(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]) -> Values:
    """Return the least-squares slope of y on x; NaN where x does not vary."""
    total = weights.sum(axis=0)
    away = x[:, None] - x @ weights / total
    spread = (away**2 * weights).sum(axis=0)
    rounding = NO_SPREAD * np.maximum(x**2 @ weights, np.finfo(float).tiny)
    return np.asarray((away * weights * y[:, None]).sum(axis=0) / np.where(spread > rounding, spread, np.nan))


def r_squared(
    truth: Float64[np.ndarray, " n"], guess: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Share of the variance among the judged that is explained; below 0: worse than their own mean."""
    total = weights.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = truth**2 @ weights
        spread = squares - (truth @ weights) ** 2 / total
        explained = 1 - (truth - guess) ** 2 @ weights / np.where(spread > NO_SPREAD * squares, spread, np.nan)
    return np.asarray(explained)


def absolute_error(
    truth: Float64[np.ndarray, " n"], guess: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Mean distance of guess and truth, in their unit."""
    return np.asarray(np.abs(truth - guess) @ weights / weights.sum(axis=0))


def spearman(
    truth: Float64[np.ndarray, " n"], guess: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Spearman's rho of units that stand as often as they weigh, ties sharing ranks; NaN where one side is constant."""
    ours, theirs = (weighted_ranks(values, weights) for values in (truth, guess))
    total = weights.sum(axis=0)
    ours = ours - (ours * weights).sum(axis=0) / total
    theirs = theirs - (theirs * weights).sum(axis=0) / total
    scale = np.sqrt((ours**2 * weights).sum(axis=0) * (theirs**2 * weights).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ours * theirs * weights).sum(axis=0) / np.where(scale > 1e-9, scale, np.nan))


def weighted_ranks(
    values: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, "n R"]:
    """Give the mean rank of each value (from one half) among values repeated as often as they weigh."""
    _, group = np.unique(values, return_inverse=True)
    mass = np.zeros((int(group.max()) + 1, weights.shape[1]))
    np.add.at(mass, group, weights)
    return np.asarray((np.cumsum(mass, axis=0) - mass / 2)[group])
