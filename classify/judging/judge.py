"""Judge predictions: metrics with intervals at each level, baselines on the same people, and the paired difference."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from classify.baselines.covariates import covariates_of, headline_of, together_of
from classify.cohort.questions import Task
from classify.judging.bootstrap import Replicates, draw_replicates, measure, paired_differences
from classify.judging.contrasts import measure_contrasts
from classify.judging.decision_curve import AS_THE_HEAD, Shown, decision_curves
from classify.judging.kinds import measures_of
from classify.judging.metrics import OF_ORDER, confusion_counts
from classify.judging.permutation import PERMUTATIONS, permute_labels
from classify.judging.rivals import Values, compare_with_rivals
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of
from classify.run.record import Judgement

NO_COVARIATES = "{} have no usable value in this cohort; see the baselines that are missing"


def judge(
    levels: Mapping[str, Predictions],
    baselines: Mapping[str, Predictions],
    task: Task,
    *,
    replicates: int,
    seed: int,
    shown: Shown = AS_THE_HEAD,
) -> Judgement:
    """Measure a model at every level and the baselines at the judged one, all on the same bootstrap replicates.

    levels: predictions of one split, the judged level last; baselines: predictions of that level and split.
    shown: what the probabilities are, for the decision curves.
    """
    people, classes = judged_of(levels), task.classes
    drawn = draw_replicates(people.participant, replicates=replicates, seed=seed)
    measured = {level: _measure(part, drawn, task) for level, part in levels.items()}
    others = {name: _measure(part, drawn, task) for name, part in baselines.items()}
    values = {name: drawn_values for name, (_, drawn_values) in others.items()} | {"": measured[people.level][1]}
    return Judgement(
        metrics={level: {people.split: table} for level, (table, _) in measured.items()},
        confusion={level: _confusion(part, len(classes)) for level, part in levels.items()} if classes else {},
        baselines={name: {people.split: table} for name, (table, _) in others.items()},
        difference_to_age_site=_to_covariates(values, "", people, task),
        added_to_age_site=_to_covariates(values, together_of(task), people, task),
        difference_to_baselines=compare_with_rivals(
            values[""], {name: values[name] for name in others}, people, classes
        ),
        contrasts={people.split: measure_contrasts(people, drawn, task)},
        permutation={people.split: permute_labels(people, classes, permutations=PERMUTATIONS, seed=seed)},
        decision_curves={people.split: decision_curves(people, shown, drawn, task) if classes else {}},
    )


def _measure(part: Predictions, drawn: Replicates, task: Task) -> tuple[dict[str, Estimate], Values]:
    """Measure predictions; distances between classes mean nothing where these have no order."""
    table, values = measure(part, drawn, task.classes)
    if task.kind == "nominal":
        table = {name: found for name, found in table.items() if name not in OF_ORDER}
    return table, values


def _to_covariates(values: Mapping[str, Values], name: str, people: Predictions, task: Task) -> dict[str, Estimate]:
    """Return HEADLINE of a model minus that of the covariates; absent where nothing could be made from them."""
    whole = headline_of(task)
    if whole not in values:
        said = NO_COVARIATES.format(" and ".join(covariates_of(task)) or "covariates")
        return {metric: Estimate(absent=said) for metric in measures_of(task.classes).headline}
    return paired_differences(values[name], values[whole], people, task.classes) if name in values else {}


def _confusion(predictions: Predictions, classes: int) -> list[list[int]]:
    """Count units by label (row) and predicted class (column)."""
    once = np.ones((len(predictions.label), 1))
    counts: Any = confusion_counts(predictions.label, predictions.scores.argmax(axis=1), once, classes)
    return [[int(count) for count in row] for row in counts[:, :, 0]]
