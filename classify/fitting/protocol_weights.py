"""What a scan's protocol is worth, learned inside train from predictions of participants that were held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from scipy.optimize import minimize

from classify.cohort.units import EYE, PARTICIPANT, name_eyes
from classify.features.table import FeatureTable, sum_rows, unit_weights
from classify.fitting.aggregate import aggregate_levels
from classify.heads.contract import softmax
from classify.judging.kinds import measures_of
from classify.run.predictions import Predictions, join_predictions, judged_of

Weights = tuple[dict[str, float], float]
"""The weight of each named protocol, and that of all others."""


@dataclass(frozen=True)
class ScanPredictions:
    """Predictions of scans by models that did not see their participants, with eye and protocol of each scan."""

    volumes: Predictions
    eye: Shaped[np.ndarray, " n"]
    protocol: Shaped[np.ndarray, " n"]
    level: str = PARTICIPANT

    @classmethod
    def join(cls, parts: Sequence[Predictions], held: Sequence[FeatureTable]) -> "ScanPredictions":
        """Put the held-out scans of all folds under each other."""
        eye, protocol = (np.concatenate([getattr(table, name) for table in held]) for name in ("eye", "protocol"))
        return cls(join_predictions(parts), eye, protocol, held[0].level)


def learn_best_protocol(scans: ScanPredictions) -> Weights:
    """Weigh the one protocol 1 and others 0 by which the participants' macro AUROC, or R2 of a number, is highest.

    An eye without the protocol counts all its scans, as it will when the rule is used, so every protocol is judged on
    the same participants. Of equals, the protocol with more scans is taken, then the first by name.
    """
    names, counts = np.unique(scans.protocol, return_counts=True)
    order = sorted(range(len(names)), key=lambda one: (-counts[one], str(names[one])))
    best = max(order, key=lambda one: _score(scans, (scans.protocol == names[one]).astype(np.float64)))
    return {str(names[best]): 1.0}, 0.0


def learn_weights(scans: ScanPredictions) -> Weights:
    """Weigh each protocol so that the participants' loss is lowest; weights are positive, 1 for unseen ones.

    The logarithms of the weights have a standard normal prior, so a protocol with few scans stays near 1. A common
    scale of the logits is fitted beside the weights and let go again: calibration is the matter of val. Participants
    weigh as for a balanced head.
    """
    names, code = np.unique(scans.protocol, return_inverse=True)
    loss = (_ParticipantLoss if scans.volumes.numbered else _NumberLoss)(scans, code, len(names))
    found = minimize(loss, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return {str(name): float(weight) for name, weight in zip(names, np.exp(found.x[1:]), strict=True)}, 1.0


def _score(scans: ScanPredictions, weight: Float64[np.ndarray, " n"]) -> float:
    people = judged_of(aggregate_levels(scans.volumes, scans.eye, weight, judged=scans.level))
    measures = measures_of(people.numbered)
    value = measures.once(people, people.numbered)[measures.searched_by]
    return value if np.isfinite(value) else -np.inf


class _ParticipantLoss:
    """Minus the log posterior of (log scale, log weights), and its gradient.

    An eye's logits are sum(w l) / sum(w) over its scans; a participant's are the mean of the eyes, times the scale.
    """

    def __init__(self, scans: ScanPredictions, code: Int64[np.ndarray, " n"], protocols: int) -> None:
        eyes, first, self.eye_of_scan = np.unique(
            name_eyes(scans.volumes.participant, scans.eye), return_index=True, return_inverse=True
        )
        person = scans.volumes.participant[first]
        judged = eyes if scans.level == EYE else person
        people, one_eye, self.person_of_eye = np.unique(judged, return_index=True, return_inverse=True)
        self.eyes_of_person = np.bincount(self.person_of_eye).astype(np.float64)
        label = scans.volumes.label[first][one_eye]
        self.truth = self._as_truth(label, scans.volumes.logits.shape[1])
        self.people_weight = unit_weights(label, people)
        self.logits, self.code, self.protocols = self._in_unit(scans.volumes.logits, label), code, protocols
        self.n_eyes = len(eyes)

    def __call__(self, parameters: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
        scale, weight = np.exp(parameters[0]), np.exp(parameters[1:])[self.code]
        total = np.bincount(self.eye_of_scan, weight, minlength=self.n_eyes)
        eye = sum_rows(self.eye_of_scan, self.logits * weight[:, None], self.n_eyes) / total[:, None]
        share = 1.0 / self.eyes_of_person[self.person_of_eye]
        mean = sum_rows(self.person_of_eye, eye * share[:, None], len(self.eyes_of_person))
        loss, by_scaled = self._judge(scale * mean)
        by_eye = scale * by_scaled[self.person_of_eye] * share[:, None]
        away = self.logits - eye[self.eye_of_scan]
        by_scan = (by_eye[self.eye_of_scan] * away).sum(axis=1) * weight / total[self.eye_of_scan]
        gradient = np.r_[scale * (by_scaled * mean).sum(), np.bincount(self.code, by_scan, minlength=self.protocols)]
        return float(loss + parameters @ parameters / 2), gradient + parameters

    def _in_unit(self, logits: Float64[np.ndarray, "n k"], label: Shaped[np.ndarray, " people"]) -> np.ndarray:  # noqa: ARG002 - classes have no unit
        return logits

    def _as_truth(self, label: Shaped[np.ndarray, " n"], columns: int) -> Float64[np.ndarray, "n k"]:
        return np.asarray(np.eye(columns)[label])

    def _judge(self, scaled: Float64[np.ndarray, "n k"]) -> tuple[float, Float64[np.ndarray, "n k"]]:
        """Return the loss of participants, and its slope in each of their logits."""
        probability = softmax(scaled)
        chosen = np.clip((probability * self.truth).sum(axis=1), np.finfo(float).tiny, None)
        away = (probability - self.truth) * self.people_weight[:, None]
        return float(-self.people_weight @ np.log(chosen)), away


class _NumberLoss(_ParticipantLoss):
    """The same of numbers: half the squared error, in the variance of the target, of the line that fits best."""

    def _in_unit(self, logits: Float64[np.ndarray, "n 1"], label: Shaped[np.ndarray, " people"]) -> np.ndarray:
        return np.asarray((logits - label.mean()) / max(float(label.std()), np.finfo(float).tiny))

    def _as_truth(self, label: Shaped[np.ndarray, " n"], columns: int) -> Float64[np.ndarray, "n 1"]:  # noqa: ARG002 - classes have no unit
        return self._in_unit(label[:, None], label)

    def _judge(self, scaled: Float64[np.ndarray, "n 1"]) -> tuple[float, Float64[np.ndarray, "n 1"]]:
        weight = self.people_weight[:, None]
        centred = scaled - (scaled * weight).sum() / weight.sum()
        away = centred - self.truth
        away = away - (away * weight).sum() / weight.sum()
        return float((away**2 * weight).sum() / 2), away * weight
