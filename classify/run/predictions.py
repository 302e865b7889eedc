"""What a model said about each unit of one level: a volume, an eye or a participant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, Shaped

from classify.cohort.questions import Task
from classify.cohort.units import PARTICIPANT
from classify.features.table import unit_weights
from classify.heads.contract import softmax

LEVELS = ("volume", "eye", "participant")


@dataclass(frozen=True)
class Predictions:
    """Logits and probabilities of one model, level and split.

    unit: volume id, "participant:eye" or participant. label: class numbers. logits: the head's own, mostly of a fit in
    which every class weighs the same; they rank and decide. probability: what is shown, at the stated prevalence where
    the model is calibrated, else the softmax of the logits. Of a task that asks for a number, label is the number, and
    both have one column: the head's own number and the one that is shown. by_unit: in what is fitted on them every unit
    weighs one; else every participant, whose units share it.
    """

    model: str
    level: str
    split: str
    unit: Shaped[np.ndarray, " n"]
    participant: Shaped[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"]
    logits: Float64[np.ndarray, "n k"]
    probability: Float64[np.ndarray, "n k"]
    by_unit: bool = False

    @property
    def fit_weights(self) -> Float64[np.ndarray, " n"]:
        """What each unit weighs in what is fitted on them; the sum is the number of units, or of participants."""
        return unit_weights(self.label, self.unit if self.by_unit else self.participant, balanced=False)

    @property
    def numbered(self) -> tuple[str, ...]:
        """The numbers of the classes, for what measures without their names; () where a number is predicted."""
        return () if self.logits.shape[1] == 1 else tuple(map(str, range(self.logits.shape[1])))

    @property
    def scores(self) -> Float64[np.ndarray, "n k"]:
        """The softmax of the logits: a decision by them gives each class the weight that it had in the fit."""
        return softmax(self.logits)

    def to_frame(self) -> pd.DataFrame:
        """Give one line a unit: model, level, split, unit, participant, label, probability_0.., logit_0.."""
        columns = {
            "model": self.model,
            "level": self.level,
            "split": self.split,
            "unit": self.unit.astype(object),
            "participant": self.participant.astype(object),
            "label": self.label,
        }
        classes = range(self.logits.shape[1])
        columns |= {f"probability_{number}": self.probability[:, number] for number in classes}
        columns |= {f"logit_{number}": self.logits[:, number] for number in classes}
        return pd.DataFrame(columns)


def judged_of(levels: Mapping[str, Predictions]) -> Predictions:
    """Return the predictions of the judged level, which is the last: participants, or eyes or volumes of such tasks."""
    return levels[next(reversed([*levels]))]


def weigh_as_judged(levels: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Let every unit weigh one where eyes or scans are judged, as in their metrics; else every participant."""
    by_unit = judged_of(levels).level != PARTICIPANT
    return {level: replace(part, by_unit=by_unit) for level, part in levels.items()}


def levels_of(task: Task) -> tuple[str, ...]:
    """Name the levels of predictions of a task, the judged one last."""
    return LEVELS[: LEVELS.index(task.judged) + 1]


def unit_loss(shown: Float64[np.ndarray, "n k"], truth: Predictions) -> Float64[np.ndarray, " n"]:
    """Return minus the logarithm of the probability of what each unit is; of a number, the squared error."""
    if shown.shape[1] == 1:
        return np.asarray((shown[:, 0] - truth.label) ** 2)
    right = shown[np.arange(len(truth.label)), truth.label]
    return np.asarray(-np.log(np.clip(right, np.finfo(float).tiny, None)))


def rows_of(predictions: Predictions, chosen: Shaped[np.ndarray, " rows"]) -> Predictions:
    """Keep the units of a mask or of positions."""
    arrays = ("unit", "participant", "label", "logits", "probability")
    return replace(predictions, **{name: getattr(predictions, name)[chosen] for name in arrays})


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Put the units of several parts of one model, level and split under each other."""
    return replace(
        parts[0],
        unit=np.concatenate([part.unit for part in parts]),
        participant=np.concatenate([part.participant for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
    )


def stack_predictions(parts: Iterable[Predictions]) -> pd.DataFrame:
    """Put the predictions of several models and levels under each other."""
    return pd.concat([part.to_frame() for part in parts], ignore_index=True)


def pick_predictions(frame: pd.DataFrame, *, model: str, level: str, split: str) -> Predictions:
    """Take one model, level and split out of a stacked table."""
    part = frame[(frame["model"] == model) & (frame["level"] == level) & (frame["split"] == split)]
    classes = sum(name.startswith("logit_") for name in frame.columns)
    return Predictions(
        model,
        level,
        split,
        part["unit"].to_numpy(str),
        part["participant"].to_numpy(str),
        part["label"].to_numpy(),
        part[[f"logit_{number}" for number in range(classes)]].to_numpy(np.float64),
        part[[f"probability_{number}" for number in range(classes)]].to_numpy(np.float64),
    )
