"""Decision curves: is it better to act on the probability than to treat everybody, or nobody?

Net benefit at a threshold probability t is TP / n - FP / n * t / (1 - t): hits, less false alarms at the price that the
threshold itself names (Vickers & Elkin, Med Decis Making 2006;26:565). Treating nobody has a net benefit of 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from classify.cohort.questions import Task
from classify.judging.bootstrap import LEVEL_PERCENT, Replicates
from classify.judging.contrasts import contrast_classes
from classify.judging.prevalence import weigh_units
from classify.run.predictions import Predictions

THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))


@dataclass(frozen=True)
class Shown:
    """What probabilities are, in words, and the class shares that they are stated at (None: those of the split)."""

    words: str
    prevalence: tuple[float, ...] | None = None


AS_THE_HEAD = Shown("as the head predicts them, not calibrated")

Curve = dict[str, Any]
"""threshold, net_benefit, low, high, treat_all: lists of one length; prevalence, treat_none; or {"absent": reason}."""


def decision_curves(people: Predictions, shown: Shown, replicates: Replicates, task: Task) -> dict[str, dict[str, Any]]:
    """Return the curve of every contrast, {} where the task has none; the probability is the summed one.

    shown: how the probabilities came about, because a curve is read at face value. Participants are weighed so that
    the split has the prevalence that the probabilities are stated at.
    """
    weight = weigh_units(people.label, shown.prevalence)
    return {
        name: _curve(people, replicates, positive, weight) | {"probabilities": shown.words}
        for name, positive in contrast_classes(task).items()
    }


def _curve(
    people: Predictions, replicates: Replicates, positive: tuple[int, ...], weight: Float64[np.ndarray, " n"]
) -> Curve:
    truth = np.isin(people.label, positive)
    if truth.all() or not truth.any():
        return {"absent": "no participant on one side of the contrast"}
    score = people.probability[:, list(positive)].sum(axis=1)
    thresholds, blocks = np.array(THRESHOLDS), replicates.columns(len(truth))
    weights = (replicates.weights_of(people.participant, block) * weight[:, None] for block in blocks)
    drawn = np.hstack([net_benefit(truth, score, some, thresholds) for some in weights])
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.percentile(drawn[:, 1:], [tail, 100 - tail], axis=1)
    prevalence = float(truth @ weight / weight.sum())
    return {
        "threshold": list(THRESHOLDS),
        "net_benefit": drawn[:, 0].tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "treat_all": treat_all(prevalence, thresholds).tolist(),
        "treat_none": 0.0,
        "prevalence": prevalence,
    }


def net_benefit(
    positive: Bool[np.ndarray, " n"],
    probability: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "n R"],
    thresholds: Float64[np.ndarray, " t"],
) -> Float64[np.ndarray, "t R"]:
    """Weigh hits against false alarms, for each threshold and weighting; treated is who reaches the threshold."""
    treated = probability[None, :] >= thresholds[:, None]
    hits, alarms = ((treated & side).astype(np.float64) @ weights for side in (positive, ~positive))
    return np.asarray((hits - alarms * (thresholds / (1 - thresholds))[:, None]) / weights.sum(axis=0))


def treat_all(prevalence: float, thresholds: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, " t"]:
    """Give the net benefit of treating everybody."""
    return np.asarray(prevalence - (1 - prevalence) * thresholds / (1 - thresholds))
