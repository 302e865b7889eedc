"""Two-sided questions asked of class probabilities: who is healthy, who takes medication, who needs insulin."""

import numpy as np
from jaxtyping import Bool, Float64

from classify.cohort.questions import Task
from classify.judging.bootstrap import FEW_PARTICIPANTS, Replicates, summarise
from classify.judging.metrics import auroc_one_vs_rest
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

SPECIFICITIES = {f"sensitivity_at_specificity_{percent}": percent / 100 for percent in (80, 90, 95)}


def contrast_classes(task: Task) -> dict[str, tuple[int, ...]]:
    """Name the contrasts of a task and the classes on their further side; two classes: the second one."""
    if len(task.classes) == 2:
        return {f"{task.classes[1]} vs {task.classes[0]}": (1,)}
    return {name: tuple(task.classes.index(one) for one in side) for name, side in task.contrasts.items()}


def measure_contrasts(predictions: Predictions, replicates: Replicates, task: Task) -> dict[str, dict[str, Estimate]]:
    """Return AUROC and sensitivities with intervals of every contrast; the score is the summed probability.

    Every replicate chooses its own threshold for a specificity, as the estimate does: both are chosen on the
    participants they are judged on, so a threshold taken elsewhere will do somewhat worse.
    """
    return {name: _measure(predictions, replicates, positive) for name, positive in contrast_classes(task).items()}


def _measure(predictions: Predictions, replicates: Replicates, positive: tuple[int, ...]) -> dict[str, Estimate]:
    truth = np.isin(predictions.label, positive)
    score = predictions.scores[:, list(positive)].sum(axis=1)
    parts: dict[str, list[np.ndarray]] = {"auroc": [], **{name: [] for name in SPECIFICITIES}}
    for some in replicates.columns(len(truth)):
        weights = replicates.weights_of(predictions.participant, some)
        parts["auroc"].append(auroc_one_vs_rest(truth, score, weights))
        for name, specificity in SPECIFICITIES.items():
            parts[name].append(sensitivity_at(truth, score, weights, specificity))
    reason = "no participant on one side of the contrast"
    count = min(len(set(predictions.participant[truth == side])) for side in (True, False))
    few = None if count >= FEW_PARTICIPANTS else f"{count} participants on one side; intervals need {FEW_PARTICIPANTS}"
    return {name: summarise(np.concatenate(values), reason, few) for name, values in parts.items()}


def sensitivity_at(
    positive: Bool[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "n R"],
    specificity: float,
) -> Float64[np.ndarray, " R"]:
    """Give the largest sensitivity of a threshold whose specificity is at least the one asked for, per weighting.

    Units with a score above the threshold are called positive; equal scores are called the same. NaN where one side
    is empty. Agrees with a search over scikit-learn's roc_curve.
    """
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(-score[order], prepend=-np.inf))
    hits = np.cumsum(np.add.reduceat(weights[order] * positive[order][:, None], starts, axis=0), axis=0)
    alarms = np.cumsum(np.add.reduceat(weights[order] * ~positive[order][:, None], starts, axis=0), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = np.where(alarms <= (1 - specificity) * alarms[-1] + 1e-9, hits, 0.0).max(axis=0) / hits[-1]
    return np.asarray(np.where(alarms[-1] > 0, sensitivity, np.nan))
