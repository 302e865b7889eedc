"""Which head to take by what each reached inside train, and by how much that flatters it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.errors import CohortError
from classify.judging.bootstrap import draw_replicates, replicate_headline
from classify.judging.kinds import measures_of
from classify.run.predictions import Predictions

REPLICATES = 500

SIMPLE = ("linear", "ordinal")
NEAR = 0.2
"""One of these is taken before a better head that gains less than this over the root of the participants: 0.02 of 100.
On 77 cohorts of known truth (tests/benchmarks/heads.py, 8 trials) heads taken so reached 0.002 ± 0.001 more of
macro AUROC than the best inside train, whose lead is often luck; 0.3 and 0.4 gave 0.003 ± 0.002.
"""


def compare_rivals(models: Sequence[str], held_out: Sequence[Predictions], *, seed: int) -> tuple[int, dict[str, Any]]:
    """Give the place of the head to take (see take_among), and the record: each head's value, and what choosing costs.

    held_out: predictions of the same participants, who were held out of each fit. cost_of_choosing: by how much the
    value of the one taken is too high for having been chosen among several: the mean over bootstrap replicates of
    participants of what the head that is taken there loses on all of them (Efron, JASA 1983;78:316). Raises:
    CohortError where no head has a number.
    """
    people = held_out[0]
    metric = measures_of(people.numbered).searched_by
    drawn = draw_replicates(people.participant, replicates=REPLICATES, seed=seed)
    scores = np.stack([replicate_headline(one, drawn, people.numbered)[metric] for one in held_out])
    value = np.where(np.isfinite(scores[:, 0]), scores[:, 0], -np.inf)
    if not np.isfinite(value).any():
        raise CohortError(f"auto: no head has a {metric} on participants held out of train")
    usable = scores[:, np.isfinite(scores).all(axis=0)][:, 1:] if np.isfinite(value).all() else scores[:, :0]
    count = len(np.unique(people.participant))
    there = take_among(models, usable, count) if usable.size else np.empty(0, np.int64)
    lost = usable[there, np.arange(len(there))] - value[there] if len(there) else np.zeros(0)
    heads = [
        {"model": model, "value": float(one) if np.isfinite(one) else None}
        for model, one in zip(models, value, strict=True)
    ]
    cost = max(0.0, float(lost.mean())) if len(lost) else None
    (taken,) = take_among(models, value[:, None], count)
    return int(taken), {"heads": heads, "taken": models[taken], "cost_of_choosing": cost}


def take_among(
    models: Sequence[str], values: Float64[np.ndarray, "models columns"], people: int
) -> Int64[np.ndarray, " columns"]:
    """Give the place of the best model in each column, or of the best of SIMPLE where that one is near it.

    people: the participants that the values rest on.
    """
    best, columns = values.argmax(axis=0), np.arange(values.shape[1])
    simple = np.flatnonzero(np.isin(models, SIMPLE))
    if not len(simple):
        return np.asarray(best)
    plain = simple[values[simple].argmax(axis=0)]
    near = values[plain, columns] >= values[best, columns] - NEAR / people**0.5
    return np.asarray(np.where(near, plain, best))
