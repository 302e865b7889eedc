"""Every metric for many weightings at once: column r of ``weights`` says how often each unit counts in replicate r.

Where a metric is undefined (a class without a unit, nothing predicted as it) its value is NaN, never 0 or 0.5.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

Values = Float64[np.ndarray, " R"]

CALIBRATION_BINS = 15
"""Equal-width bins of the top probability (Guo et al., ICML 2017, section 2)."""

PAIRS_AT_ONCE = 50_000
"""Pairs of a positive and a negative unit that are compared one by one: 400 kB, and faster than sorting."""

HEADLINE = ("balanced_accuracy", "macro_auroc")
"""The metrics whose difference to age+site is the headline."""

OVERALL = (
    "balanced_accuracy",
    "macro_auroc",
    "quadratic_weighted_kappa",
    "accuracy",
    "ordinal_error",
    "log_loss",
    "brier",
    "expected_calibration_error",
)
OF_ORDER = ("quadratic_weighted_kappa", "ordinal_error")
"""Metrics that need classes in order."""

PER_CLASS = ("recall", "precision", "f1", "auroc")


def all_metrics(
    label: Int64[np.ndarray, " n"],
    probability: Float64[np.ndarray, "n k"],
    weights: Float64[np.ndarray, "n R"],
    classes: Sequence[str],
    *,
    scores: Float64[np.ndarray, "n k"] | None = None,
) -> dict[str, Float64[np.ndarray, " R"]]:
    """Compute OVERALL and, as "recall/<class>" and so on, PER_CLASS metrics of every replicate.

    probability: judged by log_loss, brier and expected_calibration_error. scores: what ranks and decides, for all
    others; the probability where there are no scores of their own.

    Agrees with scikit-learn's balanced_accuracy_score, roc_auc_score (one against the rest, macro; two classes: the
    second), cohen_kappa_score (quadratic), accuracy_score, log_loss, brier_score_loss, mean_absolute_error (of class
    numbers: ordinal_error), precision_recall_fscore_support; tests hold them to 1e-9.
    """
    ranking = probability if scores is None else scores
    counts = confusion_counts(label, ranking.argmax(axis=1), weights, len(classes))
    auroc = [auroc_one_vs_rest(label == c, ranking[:, c], weights) for c in range(len(classes))]
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.einsum("ccr->cr", counts)
        recall, precision = right / counts.sum(axis=1), right / counts.sum(axis=0)
        f1 = np.where(counts.sum(axis=1) > 0, 2 * right / (counts.sum(axis=1) + counts.sum(axis=0)), np.nan)
        overall = _headline(recall, auroc) | {
            "quadratic_weighted_kappa": _quadratic_weighted_kappa(counts),
            "accuracy": right.sum(axis=0) / counts.sum(axis=(0, 1)),
            "ordinal_error": _mean(np.abs(label - ranking.argmax(axis=1)).astype(np.float64), weights),
            "log_loss": _mean(-np.log(_of_label(np.clip(probability, np.finfo(float).eps, 1.0), label)), weights),
            "brier": _mean(_squared_error(label, probability), weights),
            "expected_calibration_error": _calibration_error(label, probability, weights),
        }
    if len(classes) == 2:
        overall["average_precision"] = average_precision(label == 1, ranking[:, 1], weights)
    by_class = {"recall": recall, "precision": precision, "f1": f1, "auroc": auroc}
    return overall | {f"{name}/{of}": by_class[name][c] for name in PER_CLASS for c, of in enumerate(classes)}


def headline_metrics(
    label: Int64[np.ndarray, " n"],
    scores: Float64[np.ndarray, "n k"],
    weights: Float64[np.ndarray, "n R"],
    classes: Sequence[str],
) -> dict[str, Float64[np.ndarray, " R"]]:
    """Compute HEADLINE alone of every replicate, as all_metrics does: the rest is most of its time."""
    counts = confusion_counts(label, scores.argmax(axis=1), weights, len(classes))
    judged = range(len(classes)) if len(classes) > 2 else (1,)
    auroc = [auroc_one_vs_rest(label == c, scores[:, c], weights) for c in judged]
    with np.errstate(invalid="ignore", divide="ignore"):
        return _headline(np.einsum("ccr->cr", counts) / counts.sum(axis=1), auroc)


def _headline(
    recall: Float64[np.ndarray, "k R"], auroc: Sequence[Float64[np.ndarray, " R"]]
) -> dict[str, Float64[np.ndarray, " R"]]:
    """Give HEADLINE from what holds of each class; of two classes the second ranks."""
    ranked = np.mean(auroc, axis=0) if len(auroc) > 2 else auroc[-1]
    return {"balanced_accuracy": recall.mean(axis=0), "macro_auroc": ranked}


def why_absent(metric: str, label: Int64[np.ndarray, " n"], classes: Sequence[str]) -> str:
    """Say in one line why a metric of these units is undefined."""
    missing = [name for number, name in enumerate(classes) if not (label == number).any()]
    if metric.startswith("precision/"):
        return f"{metric.removeprefix('precision/')} is never predicted"
    if missing:
        return f"no unit of class {', '.join(missing)}"
    return "undefined for these units"


def confusion_counts(
    label: Int64[np.ndarray, " n"],
    predicted: Int64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "n R"],
    classes: int,
) -> Float64[np.ndarray, "k k R"]:
    """Count label x prediction for every replicate."""
    cell = np.eye(classes * classes)[label * classes + predicted]
    return np.asarray((cell.T @ weights).reshape(classes, classes, -1))


def average_precision(
    positive: np.ndarray, score: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Sum of precision over the steps of recall, equal scores in one step; NaN where nobody is positive.

    Agrees with scikit-learn's average_precision_score.
    """
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(-score[order], prepend=-np.inf))
    taken = np.add.reduceat(weights[order], starts, axis=0)
    found = np.add.reduceat(weights[order] * positive[order][:, None], starts, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.cumsum(found, axis=0) / np.cumsum(taken, axis=0)
        return np.asarray(np.nansum(precision * found, axis=0) / found.sum(axis=0))


def auroc_one_vs_rest(
    positive: np.ndarray, score: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Area under the ROC curve as the Mann-Whitney statistic, ties counting one half (Hanley & McNeil 1982).

    Few units: every pair is compared once, and two matrix products weigh the pairs. Many: scores are sorted once, and
    each replicate only re-weighs them. NaN where one side is empty.
    """
    if positive.sum() * (~positive).sum() <= PAIRS_AT_ONCE:
        return _auroc_of_pairs(positive, score, weights)
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    sorted_weights, sorted_positive = weights[order], positive[order]
    above, below = (sorted_weights * side[:, None] for side in (sorted_positive, ~sorted_positive))
    if len(starts) < len(order):
        above, below = (np.add.reduceat(side, starts, axis=0) for side in (above, below))
    won = above * (np.cumsum(below, axis=0) - below / 2)
    pairs = above.sum(axis=0) * below.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(pairs > 0, won.sum(axis=0) / np.where(pairs > 0, pairs, 1.0), np.nan))


def _auroc_of_pairs(
    positive: np.ndarray, score: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    apart = score[positive][:, None] - score[~positive][None, :]
    above, below = weights[positive], weights[~positive]
    won = np.einsum("pr,pr->r", above, ((np.sign(apart) + 1) / 2) @ below)
    pairs = above.sum(axis=0) * below.sum(axis=0)
    return np.asarray(np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1.0), np.nan))


def _quadratic_weighted_kappa(counts: Float64[np.ndarray, "k k R"]) -> Float64[np.ndarray, " R"]:
    """Cohen's kappa with squared distances between ordered classes (Cohen 1968)."""
    number = np.arange(len(counts))
    distance = (number[:, None] - number[None, :]) ** 2.0
    expected = np.einsum("ir,jr->ijr", counts.sum(axis=1), counts.sum(axis=0)) / counts.sum(axis=(0, 1))
    chance = np.einsum("ij,ijr->r", distance, expected)
    seen = np.einsum("ij,ijr->r", distance, counts)
    return np.asarray(np.where(chance > 0, 1.0 - seen / chance, np.nan))


def _calibration_error(
    label: Int64[np.ndarray, " n"], probability: Float64[np.ndarray, "n k"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    """Expected calibration error of the top class over CALIBRATION_BINS bins."""
    confidence = probability.max(axis=1)
    gap = (probability.argmax(axis=1) == label) - confidence
    bins = bin_of(confidence)
    in_bin = np.eye(CALIBRATION_BINS)[bins] * gap[:, None]
    return np.asarray(np.abs(in_bin.T @ weights).sum(axis=0) / weights.sum(axis=0))


def bin_of(confidence: Float64[np.ndarray, " n"], bins: int = CALIBRATION_BINS) -> Int64[np.ndarray, " n"]:
    """Return which of equal bins (left, right] of the top probability each unit lies in; 0 lies in the first."""
    return np.asarray(np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1))


def _squared_error(
    label: Int64[np.ndarray, " n"], probability: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """Sum of squared errors over classes, halved for two classes (Brier 1950, as in scikit-learn)."""
    classes = probability.shape[1]
    error = ((probability - np.eye(classes)[label]) ** 2).sum(axis=1)
    return np.asarray(error / 2 if classes == 2 else error)


def _of_label(probability: Float64[np.ndarray, "n k"], label: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    return np.asarray(probability[np.arange(len(label)), label])


def _mean(per_unit: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, "n R"]) -> Float64[np.ndarray, " R"]:
    return np.asarray(per_unit @ weights / weights.sum(axis=0))
