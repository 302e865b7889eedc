"""The participant-clustered bootstrap: whole participants are drawn, so scans of one person stay together.

A replicate is a column of multiplicities (how often each participant was drawn); metrics re-weigh their units by it,
so thousands of replicates cost a few matrix products. Column 0 counts everybody once: it is the estimate itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from classify.judging.kinds import measures_of
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

LEVEL_PERCENT = 95.0
LARGEST_DROPPED_SHARE = 0.5
"""When a metric is undefined in more replicates than this, what is left says little: it is absent."""

FEW_PARTICIPANTS = 10
"""Below this in the smallest class, percentile intervals are too narrow to be taken at their word."""

NUMBERS_AT_ONCE, COLUMNS_AT_ONCE = 2_000_000, 500
"""Units x replicates that are weighed at once: 16 MB an array."""


@dataclass(frozen=True)
class Replicates:
    """How often each participant was drawn in each replicate; column 0 is once for everybody."""

    participant: Shaped[np.ndarray, " people"]
    counts: Int64[np.ndarray, "people R"]

    def weights_of(self, participant: Shaped[np.ndarray, " n"], columns: slice) -> Float64[np.ndarray, "n columns"]:
        """Spread the multiplicities over units that belong to participants."""
        place = np.searchsorted(self.participant, participant)
        return self.counts[place, columns].astype(np.float64)

    def columns(self, units: int) -> list[slice]:
        """Return which replicates of so many units to weigh together, so that memory is bounded."""
        total, step = self.counts.shape[1], max(1, min(COLUMNS_AT_ONCE, NUMBERS_AT_ONCE // max(1, units)))
        return [slice(first, min(first + step, total)) for first in range(0, total, step)]


def draw_replicates(participant: Shaped[np.ndarray, " n"], *, replicates: int, seed: int) -> Replicates:
    """Draw as many participants as there are, with replacement, for each replicate."""
    people = np.unique(participant)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=replicates)
    return Replicates(people, np.vstack([np.ones(len(people), np.int64), drawn]).T)


def replicate_metrics(
    predictions: Predictions, replicates: Replicates, classes: Sequence[str]
) -> dict[str, Float64[np.ndarray, " R"]]:
    """Compute every metric in every replicate; element 0 is the estimate, NaN is undefined."""
    return _in_blocks(measures_of(classes).compute, predictions, replicates, classes)


def replicate_headline(
    predictions: Predictions, replicates: Replicates, classes: Sequence[str]
) -> dict[str, Float64[np.ndarray, " R"]]:
    """Do it for the headline alone, which takes a small part of the time."""
    return _in_blocks(measures_of(classes).compute_headline, predictions, replicates, classes)


def _in_blocks(
    compute: Callable[[Predictions, np.ndarray, Sequence[str]], dict[str, np.ndarray]],
    predictions: Predictions, replicates: Replicates, classes: Sequence[str],
) -> dict[str, np.ndarray]:  # fmt: skip
    blocks = [
        compute(predictions, replicates.weights_of(predictions.participant, some), classes)
        for some in replicates.columns(len(predictions.unit))
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def summarise(values: Float64[np.ndarray, " R"], reason: str, few: str | None = None) -> Estimate:
    """Give the estimate with its percentile interval; ``reason`` is told when the estimate is undefined.

    few: why the interval must not be shown ("too_few" of the result); one without width says so by itself.
    """
    estimate, drawn = values[0], values[1:]
    if not np.isfinite(estimate):
        return Estimate(absent=reason)
    defined = drawn[np.isfinite(drawn)]
    dropped = len(drawn) - len(defined)
    if not len(defined) or dropped > LARGEST_DROPPED_SHARE * len(drawn):
        return Estimate(absent=f"undefined in {dropped} of {len(drawn)} bootstrap replicates: too few participants")
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    few = few or ("the interval has no width" if low == high else "")
    return Estimate(float(estimate), float(low), float(high), dropped or None, few)


def measure(
    predictions: Predictions, replicates: Replicates, classes: Sequence[str]
) -> tuple[dict[str, Estimate], dict[str, Float64[np.ndarray, " R"]]]:
    """Give every metric with its interval, and the replicates behind them for paired differences."""
    values = replicate_metrics(predictions, replicates, classes)
    label, few, why_absent = predictions.label, why_too_few(predictions, classes), measures_of(classes).why_absent
    return {name: summarise(drawn, why_absent(name, label, classes), few) for name, drawn in values.items()}, values


def paired_differences(
    ours: Mapping[str, Float64[np.ndarray, " R"]],
    theirs: Mapping[str, Float64[np.ndarray, " R"]],
    people: Predictions,
    classes: Sequence[str],
) -> dict[str, Estimate]:
    """Give the headline of ours minus theirs, judged on these people."""
    few, measures = why_too_few(people, classes), measures_of(classes)
    return {
        name: summarise(ours[name] - theirs[name], measures.why_absent(name, people.label, classes), few)
        for name in measures.headline
    }


def why_too_few(people: Predictions, classes: Sequence[str]) -> str | None:
    """Say why intervals of these units must not be shown: too few in the smallest class, or at all of a number.

    A class that nobody is of has no say: what needs it is absent, and says so.
    """
    if not classes:
        count = len(set(people.participant.tolist()))
        return None if count >= FEW_PARTICIPANTS else f"{count} participants; intervals need {FEW_PARTICIPANTS}"
    counts = [(len(set(people.participant[people.label == c])), of) for c, of in enumerate(classes)]
    count, name = min((one for one in counts if one[0]), default=(0, "any class"))
    return None if count >= FEW_PARTICIPANTS else f"{count} participants of {name}; intervals need {FEW_PARTICIPANTS}"


def count_people(people: Predictions, classes: Sequence[str]) -> dict[str, Any]:
    """Count participants, the judged units of each class, and participants of each class where these differ."""
    of_class = [people.participant[people.label == number].tolist() for number in range(len(classes))]
    per_class = {name: len(of) for name, of in zip(classes, of_class, strict=True)}
    own = {name: len(set(of)) for name, of in zip(classes, of_class, strict=True)}
    counts = {"participants": len(set(people.participant.tolist())), "per_class": per_class}
    return counts | ({"participants_per_class": own} if own != per_class else {})


def caution_few(counts: Mapping[str, Any], split: str = "val") -> str | None:
    """Warn where the smallest class has too few participants for a percentile interval; None where it has enough.

    counts: participants, which are what counts where there are no classes but numbers; per_class: judged units, and
    participants_per_class where several units are of one participant, as count_people gives them.

    A recall over n participants takes n + 1 values, so resampling few of them cannot show how far another sample
    would lie: two of two right gives an interval without width.
    """
    per_class = counts.get("participants_per_class") or counts.get("per_class")
    if not per_class:
        people = counts.get("participants", FEW_PARTICIPANTS)
        few = people < FEW_PARTICIPANTS
        return f"few participants: {split} has {people}; intervals need {FEW_PARTICIPANTS}" if few else None
    name, count = min(per_class.items(), key=lambda item: item[1])
    if count >= FEW_PARTICIPANTS:
        return None
    return (
        f"few participants: the smallest class of {split} ({name}) has {count}; "
        f"below {FEW_PARTICIPANTS}, intervals are narrower than they should be"
    )
