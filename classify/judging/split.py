"""Everything that one split is judged by: metrics beside the baselines, groups, and the unseen by pretraining."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classify.cohort.table import Cohort
from classify.judging.decision_curve import AS_THE_HEAD, Shown
from classify.judging.judge import judge
from classify.judging.overlap import measure_without
from classify.judging.subgroups import measure_subgroups
from classify.run.predictions import Predictions, judged_of
from classify.run.record import Judgement


@dataclass(frozen=True)
class JudgedSplit:
    """The judgement, and {split: the result without the participants of pretraining}."""

    judged: Judgement
    without: dict[str, Any]


def judge_split(
    levels: Mapping[str, Predictions],
    others: Mapping[str, Predictions],
    cohort: Cohort,
    people_of: Callable[[np.ndarray], Predictions],
    *,
    shown: Shown = AS_THE_HEAD,
    pretrained: Set[str] | None,
    replicates: int,
    seed: int,
) -> JudgedSplit:
    """Judge the predictions of one split at every level, beside others.

    people_of: participant predictions from those volumes of the split that a mask chooses. shown: see judge.
    pretrained: ids of those that the encoder was pretrained on, None where nobody said.
    """
    people, task = judged_of(levels), cohort.task
    table = cohort.table[cohort.table["split"] == people.split]
    groups = measure_subgroups(people_of, table, task.classes, replicates=replicates, seed=seed)
    judged = judge(levels, others, task, replicates=replicates, seed=seed, shown=shown)
    return JudgedSplit(
        replace(judged, subgroups={people.split: groups}),
        measure_without(people, others, pretrained, task, replicates=replicates, seed=seed),
    )
