"""Volume -> eye -> participant: every eye counts once, however often it was scanned.

Logits are averaged, each scan with the weight of its protocol; or the features are, and the head sees their means.
What a protocol weighs is learned in protocol_weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from classify.cohort.units import EYE, PARTICIPANT, VOLUME, name_eyes
from classify.features.table import FeatureTable, sum_rows
from classify.heads.contract import Head, softmax
from classify.run.predictions import Predictions

SMALLEST_PROBABILITY = 1e-12
"""A head that is certain would give a logit of minus infinity, and one volume would outvote all others."""

MEAN_LOGITS = "mean-logits"
MEAN_FEATURES = "mean-features"
BEST_PROTOCOL = "best-protocol"
LEARNED_WEIGHTS = "learned-weights"
BY_HEAD = "by-head"

AGGREGATIONS: Mapping[str, str] = {
    MEAN_LOGITS: "mean of logits: volume, eye, participant",
    MEAN_FEATURES: "the head is fitted on the mean features of participants and sees those of eyes and participants",
    BEST_PROTOCOL: "mean of logits over an eye's scans of the protocol that did best inside train, or over all",
    LEARNED_WEIGHTS: "mean of logits, each scan weighted by its protocol, learned inside train",
}
"""The aggregations that may be asked for, and what the record says of each."""

LEARNED = (BEST_PROTOCOL, LEARNED_WEIGHTS)
"""Those that learn from predictions of held-out participants, in folds inside the training part."""

SAID: Mapping[str, str] = {**AGGREGATIONS, BY_HEAD: "the head takes all scans of an eye or participant at once"}


@dataclass(frozen=True)
class Aggregation:
    """How scans become an eye and a participant.

    weights: weight of a protocol among the scans of an eye; other: the weight of protocols that are not named.
    An eye whose scans all weigh 0 counts them all alike.
    """

    name: str = MEAN_LOGITS
    weights: Mapping[str, float] = field(default_factory=dict)
    other: float = 1.0

    def weigh(self, protocol: Shaped[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Give the weight of each scan."""
        weight = np.full(len(protocol), self.other, dtype=np.float64)
        for name, own in self.weights.items():
            weight[protocol == name] = own
        return weight

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {"name": self.name, "weights": dict(self.weights), "other": self.other}


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
    """Spread the probabilities of the seen classes over all classes, and take their logarithm.

    classes 0: known is the number that is predicted, one column, and stands for both.
    """
    if not classes:
        return Predictions(model, level, split, unit, table.participant, table.y, known, known)
    probability = np.full((len(known), classes), SMALLEST_PROBABILITY)
    probability[:, seen] = np.clip(known, SMALLEST_PROBABILITY, None)
    logits = np.log(probability)
    return Predictions(model, level, split, unit, table.participant, table.y, logits, softmax(logits))


def aggregate_levels(
    volumes: Predictions,
    eye: Shaped[np.ndarray, " n"],
    weight: Float64[np.ndarray, " n"] | None = None,
    *,
    judged: str = PARTICIPANT,
) -> dict[str, Predictions]:
    """Return the predictions of all levels up to the judged one, by the mean of logits.

    eye: the letter of each volume's eye. weight: how much each volume counts within its eye; all alike by default.
    """
    if judged == VOLUME:
        return {VOLUME: volumes}
    alike = np.ones(len(eye)) if weight is None else weight
    eyes = _mean_by(volumes, name_eyes(volumes.participant, eye), alike, EYE)
    if judged == EYE:
        return {VOLUME: volumes, EYE: eyes}
    people = _mean_by(eyes, eyes.participant, np.ones(len(eyes.unit)), PARTICIPANT)
    return {VOLUME: volumes, EYE: eyes, PARTICIPANT: people}


def first_rows(table: FeatureTable, unit: Shaped[np.ndarray, " n"]) -> FeatureTable:
    """Keep the first row of each unit; units in sorted order, and their names in place of volumes."""
    names, first = np.unique(unit, return_index=True)
    return replace(table.where(first), volume=names)


def mean_rows(table: FeatureTable, unit: Shaped[np.ndarray, " n"]) -> FeatureTable:
    """Average the features of each unit; everything else is that of its first row."""
    inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)[1:]
    total = sum_rows(inverse, table.x, len(counts))
    return replace(first_rows(table, unit), x=(total / counts[:, None]).astype(np.float32))


def mean_eyes(table: FeatureTable) -> FeatureTable:
    """Average the features of each eye's scans."""
    return mean_rows(table, name_eyes(table.participant, table.eye))


def mean_units(table: FeatureTable) -> FeatureTable:
    """Average the features of each judged unit; both eyes of a participant count alike."""
    if table.level == VOLUME:
        return table
    eyes = mean_eyes(table)
    return eyes if table.level == EYE else mean_rows(eyes, eyes.participant)


def _mean_by(
    parts: Predictions, unit: Shaped[np.ndarray, " n"], weight: Float64[np.ndarray, " n"], level: str
) -> Predictions:
    names, first, inverse = np.unique(unit, return_index=True, return_inverse=True)
    nobody = np.bincount(inverse, weight, minlength=len(names)) == 0
    used = np.where(nobody[inverse], 1.0, weight)
    logits = sum_rows(inverse, parts.logits * used[:, None], len(names))
    logits /= np.bincount(inverse, used, minlength=len(names))[:, None]
    person, label = parts.participant[first], parts.label[first]
    return Predictions(parts.model, level, parts.split, names, person, label, logits, softmax(logits))
