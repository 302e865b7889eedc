"""P8: the participant-clustered bootstrap of every metric, against scikit-learn on resampled rows in a loop."""

from itertools import pairwise

import numpy as np
from comparison import Goal, Row, time_row
from settings import Settings
from side_by_side import in_turn
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    log_loss,
    mean_absolute_error,
    precision_recall_fscore_support,
    roc_auc_score,
)

from classify.heads.contract import softmax
from classify.judging.bootstrap import Replicates, draw_replicates, replicate_metrics
from classify.judging.metrics import CALIBRATION_BINS
from classify.run.predictions import Predictions

CLASSES = ("healthy", "pre", "oral", "insulin")
REPLICATES, LOOPED = 2000, 200
TOLERANCE = 1e-9


def measure(settings: Settings) -> list[Row]:
    people, replicates, looped = (60, 100, 20) if settings.quick else (500, REPLICATES, LOOPED)
    predictions = random_predictions(people)
    drawn = draw_replicates(predictions.participant, replicates=replicates, seed=0)
    timed = in_turn(
        lambda: replicate_metrics(predictions, drawn, CLASSES),
        lambda: scikit_learn_loop(predictions, drawn, looped),
        rounds=1 if settings.quick else 3,
        agree=same_metrics,
    )
    rows = len(predictions.label)
    return [
        time_row(
            timed,
            peer_scale=replicates / looped,
            id="P8",
            work=f"clustered bootstrap, {replicates} replicates of all metrics, {rows} random predictions with ties",
            peer="scikit-learn on resampled rows in a loop",
            goal=Goal(ratio=50.0),
            notes=[f"peer extrapolated from {looped} replicates"],
        )
    ]


def random_predictions(people: int, volumes_a_person: int = 4) -> Predictions:
    """Draw probabilities on a coarse grid, so that many scores tie; every one is above 0."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(people), volumes_a_person)
    label = (person % len(CLASSES)).astype(np.int64)
    lean = 0.15 + 0.4 * np.eye(len(CLASSES))[label]
    votes = np.stack([rng.multinomial(20, row / row.sum()) for row in lean])
    logits = np.log((votes + 1.0) / (20 + len(CLASSES)))
    names = np.array([f"{1000 + number}" for number in person])
    return Predictions("random", "volume", "val", np.arange(len(person)).astype(str), names, label,
                       logits, softmax(logits))  # fmt: skip


def scikit_learn_loop(predictions: Predictions, drawn: Replicates, looped: int) -> list[dict[str, float]]:
    rows_of = [np.flatnonzero(predictions.participant == person) for person in drawn.participant]
    found = []
    for replicate in range(looped):
        counts = drawn.counts[:, replicate]
        rows = np.concatenate([np.tile(rows, count) for rows, count in zip(rows_of, counts, strict=True)])
        found.append(scikit_learn_metrics(predictions.label[rows], predictions.probability[rows]))
    return found


def scikit_learn_metrics(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Compute what classify.judging.metrics computes, one resample at a time."""
    predicted, numbers = probability.argmax(axis=1), np.arange(len(CLASSES))
    precision, recall, f1, _ = precision_recall_fscore_support(label, predicted, labels=numbers, zero_division=np.nan)
    auroc = [roc_auc_score(label == number, probability[:, number]) for number in numbers]
    found = {
        "balanced_accuracy": balanced_accuracy_score(label, predicted),
        "macro_auroc": roc_auc_score(label, probability, multi_class="ovr", average="macro"),
        "quadratic_weighted_kappa": cohen_kappa_score(label, predicted, weights="quadratic", labels=numbers),
        "accuracy": accuracy_score(label, predicted),
        "ordinal_error": mean_absolute_error(label, predicted),
        "log_loss": log_loss(label, probability, labels=numbers),
        "brier": brier_score_loss(label, probability, labels=numbers),
        "expected_calibration_error": _calibration_error(label, probability),
    }
    by_class = {"recall": recall, "precision": precision, "f1": f1, "auroc": auroc}
    return found | {f"{name}/{of}": values[c] for name, values in by_class.items() for c, of in enumerate(CLASSES)}


def same_metrics(ours: dict[str, np.ndarray], peer: list[dict[str, float]]) -> str:
    assert set(ours) == set(peer[0])
    deviation = 0.0
    for name, values in ours.items():
        theirs = np.array([metrics[name] for metrics in peer])
        np.testing.assert_array_equal(np.isfinite(values[: len(theirs)]), np.isfinite(theirs), err_msg=name)
        deviation = max(deviation, float(np.nanmax(np.abs(values[: len(theirs)] - theirs))))
    assert deviation <= TOLERANCE, f"metrics differ by {deviation}"
    return f"{len(ours)} metrics equal to {deviation:.1e}"


def _calibration_error(label: np.ndarray, probability: np.ndarray) -> float:
    """Expected calibration error (scikit-learn has none): the usual loop over bins."""
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == label
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    error = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)
