"""A p-value for the headline metrics: labels are permuted between participants, the predictions stay as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import rankdata

from classify.judging.kinds import measures_of, sign_of
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

NULL = (
    "the predictions of these participants carry no information about their labels: every way to give the labels "
    "to the participants is equally likely. The head is not fitted again. Age and site are not held fixed, so a head "
    "that only knows them may have a small p-value; the difference to age+site answers that"
)
PERMUTATIONS = 2000
COLUMNS_AT_ONCE = 500


def permute_labels(people: Predictions, classes: Sequence[str], *, permutations: int, seed: int) -> dict[str, Any]:
    """Give {"null", "permutations", "seed", "p_values": {metric: Estimate}} of participant predictions.

    One-sided: the share of dealings that do as well or better, the real one among them (Phipson & Smyth 2010).
    """
    rng = np.random.default_rng(seed)
    measures = measures_of(classes)
    real = measures.once(people, classes)
    columns = [min(COLUMNS_AT_ONCE, permutations - start) for start in range(0, permutations, COLUMNS_AT_ONCE)]
    if classes:
        blocks = [permuted_metrics(people.scores, people.label, rng, count) for count in columns]
    else:
        blocks = [permuted_numbers(people.probability[:, 0], people.label, rng, count) for count in columns]
    permuted = {name: np.concatenate([block[name] for block in blocks]) for name in measures.headline}
    p_values = {
        name: Estimate(p_value(sign_of(name) * real[name], sign_of(name) * permuted[name]))
        if np.isfinite(real[name])
        else Estimate(absent=measures.why_absent(name, people.label, classes))
        for name in measures.headline
    }
    return {"null": NULL, "permutations": permutations, "seed": seed, "p_values": p_values}


def p_value(real: float, permuted: Float64[np.ndarray, " P"]) -> float:
    """Count dealings at or above the real value; rounding noise of equal values counts as equal."""
    return float((1 + (permuted >= real - 1e-12).sum()) / (1 + len(permuted)))


def permuted_metrics(
    probability: Float64[np.ndarray, "n k"], label: Int64[np.ndarray, " n"], rng: np.random.Generator, columns: int
) -> dict[str, Float64[np.ndarray, " columns"]]:
    """Compute the headline of classes for as many dealings as there are columns; NaN where a class has nobody.

    Balanced accuracy from hits by class; AUROC from the rank sum of each class (Mann-Whitney, ties share ranks).
    """
    permuted = rng.permuted(np.repeat(label[:, None], columns, axis=1), axis=0)
    predicted = probability.argmax(axis=1)
    recall, auroc = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for number in range(probability.shape[1]):
            member = (permuted == number).astype(np.float64)
            size = member.sum(axis=0)
            recall.append((predicted == number).astype(np.float64) @ member / size)
            ranks = rankdata(probability[:, number]) @ member
            auroc.append((ranks - size * (size + 1) / 2) / (size * (len(label) - size)))
    macro = np.mean(auroc, axis=0) if probability.shape[1] > 2 else auroc[1]
    return {"balanced_accuracy": np.mean(recall, axis=0), "macro_auroc": np.asarray(macro)}


def permuted_numbers(
    said: Float64[np.ndarray, " n"], truth: Float64[np.ndarray, " n"], rng: np.random.Generator, columns: int
) -> dict[str, Float64[np.ndarray, " columns"]]:
    """Compute the headline of numbers for as many dealings as there are columns; NaN where everybody has the same."""
    permuted = rng.permuted(np.repeat(truth[:, None], columns, axis=1), axis=0)
    spread = ((truth - truth.mean()) ** 2).sum()
    away = permuted - said[:, None]
    r2 = 1 - (away**2).sum(axis=0) / spread if np.ptp(truth) else np.full(columns, np.nan)
    return {"r2": np.asarray(r2), "mean_absolute_error": np.abs(away).mean(axis=0)}
