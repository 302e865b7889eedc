"""Judge predictions: metrics with intervals at each level, baselines on the same people, and the paired difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.baselines import HEADLINE_BASELINE, TOGETHER
from classify.judging.bootstrap import Measured, draw_replicates, measure, paired_difference
from classify.judging.contrasts import measure_contrasts
from classify.judging.decision_curve import AS_THE_HEAD, Shown, decision_curves
from classify.judging.metrics import HEADLINE, confusion_counts, why_absent
from classify.judging.permutation import PERMUTATIONS, permute_labels
from classify.predictions import Predictions


@dataclass(frozen=True)
class Judgement:
    """The judged parts of a run record, as run.json holds them."""

    metrics: dict[str, dict[str, dict[str, Measured]]]
    confusion: dict[str, list[list[int]]]
    baselines: dict[str, dict[str, dict[str, Measured]]]
    difference_to_age_site: dict[str, Measured]
    added_to_age_site: dict[str, Measured]
    contrasts: dict[str, dict[str, Mapping[str, Measured]]]
    permutation: dict[str, dict[str, Any]]
    decision_curves: dict[str, dict[str, Mapping[str, Any]]]


def judge(
    levels: Mapping[str, Predictions],
    baselines: Mapping[str, Predictions],
    classes: Sequence[str],
    *,
    replicates: int,
    seed: int,
    shown: Shown = AS_THE_HEAD,
) -> Judgement:
    """Measure a model at every level and the baselines at participant level, all on the same bootstrap replicates.

    levels: volume, eye and participant predictions of one split; baselines: participant predictions of that split.
    shown: what the probabilities are, for the decision curves.
    """
    people = levels["participant"]
    drawn = draw_replicates(people.participant, replicates=replicates, seed=seed)
    measured = {level: measure(predictions, drawn, classes) for level, predictions in levels.items()}
    others = {name: measure(predictions, drawn, classes) for name, predictions in baselines.items()}
    ours, theirs = measured["participant"][1], others[HEADLINE_BASELINE][1]
    together = others[TOGETHER][1] if TOGETHER in others else {}
    return Judgement(
        metrics={level: {people.split: table} for level, (table, _) in measured.items()},
        confusion={level: _confusion(predictions, len(classes)) for level, predictions in levels.items()},
        baselines={name: {people.split: table} for name, (table, _) in others.items()},
        difference_to_age_site={
            name: paired_difference(ours[name], theirs[name], why_absent(name, people.label, classes))
            for name in HEADLINE
        },
        added_to_age_site={
            name: paired_difference(values, theirs[name], why_absent(name, people.label, classes))
            for name, values in together.items()
            if name in HEADLINE
        },
        contrasts={people.split: measure_contrasts(people, drawn, classes)},
        permutation={people.split: permute_labels(people, classes, permutations=PERMUTATIONS, seed=seed)},
        decision_curves={people.split: decision_curves(people, shown, drawn, classes)},
    )


def _confusion(predictions: Predictions, classes: int) -> list[list[int]]:
    """Count units by label (row) and predicted class (column)."""
    once = np.ones((len(predictions.label), 1))
    counts: Any = confusion_counts(predictions.label, predictions.scores.argmax(axis=1), once, classes)
    return [[int(count) for count in row] for row in counts[:, :, 0]]
