"""How well a number is guessed, many weightings at once: column r of ``weights`` counts each unit in replicate r."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.judging.bootstrap import summarise
from classify.judging.number_metrics import absolute_error, r_squared, spearman

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
        **summarise(r_squared(truth, guess, weights), undefined).to_dict(),
        "mean_absolute_error": summarise(error, undefined),
        "spearman": summarise(spearman(truth, guess, weights), undefined),
        "mean_absolute_error_of_the_mean": summarise(of_mean, undefined),
        "less_error_than_the_mean": summarise(of_mean - error, undefined),
    }
