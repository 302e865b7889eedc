"""How well a number is guessed, many weightings at once: column r of ``weights`` counts each unit in replicate r."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.judging.bootstrap import paired_difference, summarise

MEASURES = ("r_squared", "mean_absolute_error", "spearman")


def measure_regression(
    truth: Float64[np.ndarray, " n"],
    guess: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "n R"],
    mean_of_train: float,
) -> dict[str, Any]:
    """Give R2 (as value, low, high), mean absolute error, Spearman's rho, and the error of always saying the mean.

    less_error_than_the_mean: paired over replicates; above 0: the guess is better than the mean of train.
    """
    undefined = "everybody judged has the same value"
    error, of_mean = (absolute_error(truth, said, weights) for said in (guess, np.full(len(truth), mean_of_train)))
    return {
        **summarise(r_squared(truth, guess, weights), undefined),
        "mean_absolute_error": summarise(error, undefined),
        "spearman": summarise(spearman(truth, guess, weights), undefined),
        "mean_absolute_error_of_the_mean": summarise(of_mean, undefined),
        "less_error_than_the_mean": paired_difference(of_mean, error, undefined),
    }


def r_squared(
    truth: Float64[np.ndarray, " n"], guess: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Share of the variance among the judged that is explained; below 0: worse than their own mean."""
    total = weights.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = truth**2 @ weights - (truth @ weights) ** 2 / total
        explained = 1 - (truth - guess) ** 2 @ weights / np.where(spread > 0, spread, np.nan)
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
