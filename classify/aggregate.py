"""Volume -> eye -> participant by the mean of logits: every eye counts once, however often it was scanned."""

import numpy as np
from jaxtyping import Float64, Shaped

from classify.features import FeatureTable
from classify.heads.contract import Head, softmax
from classify.predictions import Predictions

SMALLEST_PROBABILITY = 1e-12
"""A head that is certain would give a logit of minus infinity, and one volume would outvote all others."""


def predict_volumes(head: Head, table: FeatureTable, *, classes: int, model: str, split: str) -> Predictions:
    """Predict each row of a standardised table; logits are log-probabilities.

    A class that the head never saw has the smallest probability.
    """
    known = head.predict_proba(table.x)
    return from_probability(
        known, head.classes_, classes, model=model, level="volume", split=split, unit=table.volume, table=table
    )


def from_probability(
    known: Float64[np.ndarray, "n seen"],
    seen: Shaped[np.ndarray, " seen"],
    classes: int,
    *,
    model: str,
    level: str,
    split: str,
    unit: Shaped[np.ndarray, " n"],
    table: FeatureTable,
) -> Predictions:
    """Spread the probabilities of the seen classes over all classes, and take their logarithm."""
    probability = np.full((len(known), classes), SMALLEST_PROBABILITY)
    probability[:, seen] = np.clip(known, SMALLEST_PROBABILITY, None)
    logits = np.log(probability)
    return Predictions(model, level, split, unit, table.participant, table.y, logits, softmax(logits))


def aggregate_levels(volumes: Predictions, eye: Shaped[np.ndarray, " n"]) -> dict[str, Predictions]:
    """Give the predictions of all three levels; eye is the letter of each volume's eye."""
    separator = np.full(len(eye), ":")
    eyes = _mean_by(volumes, np.strings.add(np.strings.add(volumes.participant, separator), eye), "eye")
    return {"volume": volumes, "eye": eyes, "participant": _mean_by(eyes, eyes.participant, "participant")}


def predict_levels(head: Head, table: FeatureTable, classes: int) -> dict[str, Predictions]:
    """Predict standardised rows of one split, per volume, eye and participant."""
    volumes = predict_volumes(head, table, classes=classes, model=head.name, split=str(table.split[0]))
    return aggregate_levels(volumes, table.eye)


def _mean_by(parts: Predictions, unit: Shaped[np.ndarray, " n"], level: str) -> Predictions:
    names, first, inverse, counts = np.unique(unit, return_index=True, return_inverse=True, return_counts=True)
    logits = np.zeros((len(names), parts.logits.shape[1]))
    np.add.at(logits, inverse, parts.logits)
    logits /= counts[:, None]
    person, label = parts.participant[first], parts.label[first]
    return Predictions(parts.model, level, parts.split, names, person, label, logits, softmax(logits))
