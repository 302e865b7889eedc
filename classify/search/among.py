"""Which head did best inside train, and by how much that flatters it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.errors import CohortError
from classify.judging.bootstrap import draw_replicates, replicate_headline
from classify.judging.kinds import measures_of
from classify.run.predictions import Predictions

REPLICATES = 500


def compare_rivals(models: Sequence[str], held_out: Sequence[Predictions], *, seed: int) -> tuple[int, dict[str, Any]]:
    """Give the place of the best head, and the record: each head's value, and what choosing costs.

    held_out: predictions of the same participants, who were held out of each fit. cost_of_choosing: by how much the
    best value is too high for having been chosen among several: the mean over bootstrap replicates of participants of
    what the head that is best there loses on all of them (Efron, JASA 1983;78:316). Raises: CohortError where no head
    has a number.
    """
    people = held_out[0]
    metric = measures_of(people.numbered).searched_by
    drawn = draw_replicates(people.participant, replicates=REPLICATES, seed=seed)
    scores = np.stack([replicate_headline(one, drawn, people.numbered)[metric] for one in held_out])
    value = np.where(np.isfinite(scores[:, 0]), scores[:, 0], -np.inf)
    if not np.isfinite(value).any():
        raise CohortError(f"auto: no head has a {metric} on participants held out of train")
    usable = scores[:, np.isfinite(scores).all(axis=0)][:, 1:] if np.isfinite(value).all() else scores[:, :0]
    there = usable.argmax(axis=0) if usable.size else np.empty(0, np.int64)
    lost = usable[there, np.arange(len(there))] - value[there] if len(there) else np.zeros(0)
    heads = [
        {"model": model, "value": float(one) if np.isfinite(one) else None}
        for model, one in zip(models, value, strict=True)
    ]
    cost = max(0.0, float(lost.mean())) if len(lost) else None
    return int(value.argmax()), {"heads": heads, "cost_of_choosing": cost}
