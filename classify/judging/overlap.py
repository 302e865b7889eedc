"""The same result without the participants that the encoder was pretrained on: the number that is left to believe."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from classify.baselines.covariates import headline_of
from classify.cohort.questions import Task
from classify.judging.bootstrap import draw_replicates, measure, paired_differences
from classify.judging.subgroups import count_group
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, rows_of


def measure_without(
    people: Predictions,
    baselines: Mapping[str, Predictions],
    pretrained: Set[str] | None,
    task: Task,
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Give {split: count, metrics and difference to age+site of the participants that the encoder never saw}.

    people, baselines: participant predictions of one split. pretrained: ids, None where nobody said: then the answer
    is empty.
    """
    if pretrained is None:
        return {}
    classes, whole = task.classes, headline_of(task)
    ours = rows_of(people, ~np.isin(people.participant, list(pretrained)))
    if len(ours.label) == len(people.label):
        why = f"nobody of {people.split} was in pretraining: the result stands as it is"
        return {people.split: Estimate(absent=why)}
    if not len(ours.label):
        return {people.split: Estimate(absent=f"everybody of {people.split} was in pretraining")}
    drawn = draw_replicates(ours.participant, replicates=replicates, seed=seed)
    table, values = measure(ours, drawn, classes)
    found = {**count_group(ours, classes), "metrics": table}
    if beside := baselines.get(whole):
        theirs = measure(rows_of(beside, ~np.isin(beside.participant, list(pretrained))), drawn, classes)[1]
        found["difference_to_age_site"] = paired_differences(values, theirs, ours, classes)
    return {people.split: found}
