"""Which participants get a case page when nobody is named, and what a probability like theirs has meant so far."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import binomtest

from classify.run.predictions import Predictions

LIKE = 30
"""Participants whose top probability lies nearest: enough for a share, few enough to be alike."""

FEWEST = 10

APART = 0.05
"""How far the nearest of the judged may lie; a group that is farther away says nothing of this one."""


@dataclass(frozen=True, slots=True)
class TellingCase:
    """A judged unit (a participant, eye or scan) worth a look, and why."""

    unit: str
    participant: str
    why: str


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """How often validation participants with a top probability like this one were right; interval: Wilson 1927."""

    like: int
    right: int
    low: float
    high: float
    least: float
    most: float


def telling_cases(people: Predictions) -> list[TellingCase]:
    """Choose, of judged units, the surest that is right, the surest that is wrong, and the least decided."""
    if people.probability.shape[1] == 1:
        return _telling_numbers(people)
    top = people.probability.max(axis=1)
    right = people.probability.argmax(axis=1) == people.label
    wanted = (
        ("the surest of those that the model gets right", np.where(right, top, -1.0)),
        ("the surest of those that the model gets wrong", np.where(~right, top, -1.0)),
        ("the one that the model is least decided about", 2.0 - top),
    )
    chosen: dict[str, TellingCase] = {}
    for why, worth in wanted:
        order = np.argsort(-worth, kind="stable")
        places = [place for place in order if worth[place] >= 0]
        free = next((place for place in places if str(people.unit[place]) not in chosen), None)
        if free is not None:
            unit = str(people.unit[free])
            chosen[unit] = TellingCase(unit, str(people.participant[free]), why)
    return list(chosen.values())


def _telling_numbers(people: Predictions) -> list[TellingCase]:
    """Choose the unit whose number is predicted best, worst, and in the middle of all errors."""
    order = np.argsort(np.abs(people.probability[:, 0] - people.label), kind="stable")
    chosen = {
        int(order[0]): "the one that the model gets nearest",
        int(order[len(order) // 2]): "one of a middling error",
        int(order[-1]): "the one that the model is farthest off",
    }
    return [TellingCase(str(people.unit[place]), str(people.participant[place]), why) for place, why in chosen.items()]


def track_record(top: float, participant: str, judged: Predictions) -> TrackRecord | None:
    """Look at the judged participants whose top probability lies nearest to this one, without the person itself.

    The range that is shown holds the person's own. None where fewer than FEWEST were judged, or where nobody is like
    this one: the nearest is farther away than APART.
    """
    others = judged.participant != participant
    confidence: Float64[np.ndarray, " n"] = judged.probability.max(axis=1)[others]
    right = (judged.probability.argmax(axis=1) == judged.label)[others]
    if len(confidence) < FEWEST or np.abs(confidence - top).min() > APART:
        return None
    near = np.argsort(np.abs(confidence - top), kind="stable")[:LIKE]
    count, hits = len(near), int(right[near].sum())
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    alike = [*confidence[near].tolist(), top]
    return TrackRecord(count, hits, interval.low, interval.high, min(alike), max(alike))
