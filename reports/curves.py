"""What the figures say, as arrays: confusion, ROC, reliability. Nothing is drawn here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.metrics import confusion_matrix, roc_curve

from classify.judging.metrics import CALIBRATION_BINS, bin_of
from classify.run.predictions import Predictions

MACRO_GRID_POINTS = 201


@dataclass(frozen=True, slots=True)
class RocCurve:
    """One class against the rest; ``absent`` says why there is no curve (then the arrays are empty)."""

    name: str
    false_positive_rate: Float64[np.ndarray, " t"]
    true_positive_rate: Float64[np.ndarray, " t"]
    auroc: float | None
    positives: int
    negatives: int
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often the most probable class was right, by how probable it was said to be.

    confidence and accuracy are the means inside each bin (NaN in an empty bin); count: units in each bin.
    ece: mean |accuracy - confidence|, weighted by count (Guo et al., ICML 2017, eq. 3).
    """

    edges: Float64[np.ndarray, " edges"]
    confidence: Float64[np.ndarray, " bins"]
    accuracy: Float64[np.ndarray, " bins"]
    count: Int64[np.ndarray, " bins"]
    ece: float


def count_confusion(predictions: Predictions) -> Int64[np.ndarray, "k k"]:
    """Count units: rows are the true classes, columns the most probable ones (the first of equals)."""
    labels = list(range(predictions.probability.shape[1]))
    said = predictions.scores.argmax(axis=1)
    return np.asarray(confusion_matrix(predictions.label, said, labels=labels), dtype=np.int64)


def trace_roc(predictions: Predictions, classes: Sequence[str]) -> list[RocCurve]:
    """Trace each class against the rest; with two classes only the second, since the first is its mirror."""
    numbers = range(len(classes)) if len(classes) > 2 else (1,)
    return [_trace_one(predictions, number, classes[number]) for number in numbers]


def macro_roc(curves: Sequence[RocCurve]) -> RocCurve:
    """Average the curves vertically, and their areas; absent when a class has no curve.

    positives and negatives are left at 0: they differ by class.
    """
    missing = [curve.name for curve in curves if curve.auroc is None]
    if missing:
        return RocCurve("macro", np.zeros(0), np.zeros(0), None, 0, 0, f"no curve for {', '.join(missing)}")
    grid = np.linspace(0.0, 1.0, MACRO_GRID_POINTS)
    heights = [np.interp(grid, c.false_positive_rate, c.true_positive_rate) for c in curves]
    area = float(np.mean([curve.auroc for curve in curves if curve.auroc is not None]))
    return RocCurve("macro", np.append(0.0, grid), np.append(0.0, np.mean(heights, axis=0)), area, 0, 0)


def bin_reliability(predictions: Predictions, bins: int = CALIBRATION_BINS) -> Reliability:
    """Put units into equal bins (left, right] of the highest probability, as the metric of classify does."""
    confidence = predictions.probability.max(axis=1)
    correct = (predictions.probability.argmax(axis=1) == predictions.label).astype(np.float64)
    place = bin_of(confidence, bins)
    count = np.bincount(place, minlength=bins).astype(np.int64)
    filled = np.where(count > 0, count, np.nan)
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / filled
    accuracy = np.bincount(place, weights=correct, minlength=bins) / filled
    ece = float(np.nansum(count * np.abs(accuracy - mean_confidence)) / len(confidence))
    return Reliability(np.linspace(0.0, 1.0, bins + 1), mean_confidence, accuracy, count, ece)


def _trace_one(predictions: Predictions, number: int, name: str) -> RocCurve:
    positive = predictions.label == number
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        lacking = "no unit of this class" if not positives else "no unit of another class"
        return RocCurve(name, np.zeros(0), np.zeros(0), None, positives, negatives, lacking)
    false_rate, true_rate, _ = roc_curve(positive, predictions.scores[:, number], drop_intermediate=False)
    area = float(np.trapezoid(true_rate, false_rate))
    return RocCurve(name, false_rate, true_rate, area, positives, negatives)
