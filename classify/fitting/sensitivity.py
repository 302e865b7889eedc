"""How much a result hangs on the seed: the final fit again with other seeds, everything else alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.features.table import FeatureTable
from classify.fitting.model import ModelSpec, fit_model
from classify.judging.metrics import HEADLINE, all_metrics
from classify.run.predictions import judged_of

MEANING = "the final fit with other seeds on the same participants; a range over fits, not an interval"


def vary_seeds(
    spec: ModelSpec, train: FeatureTable, val: FeatureTable, classes: Sequence[str], *, seeds: Sequence[int]
) -> dict[str, Any]:
    """Give HEADLINE of val participants for each seed, their mean and their range; absent where it is no number.

    train, val: raw features of the spec's choice. The parameters stay as they were chosen.
    """
    found = [_measure(spec, train, val, classes, seed) for seed in seeds]
    return {
        "meaning": MEANING,
        "seeds": list(seeds),
        "metrics": {name: _summarise([one[name] for one in found]) for name in HEADLINE},
    }


def _measure(
    spec: ModelSpec, train: FeatureTable, val: FeatureTable, classes: Sequence[str], seed: int
) -> dict[str, float]:
    model = fit_model(spec, train, classes=len(classes), seed=seed)
    people = judged_of(model.predict(val, classes=len(classes), split="val"))
    values = all_metrics(people.label, people.scores, np.ones((len(people.label), 1)), classes)
    return {name: float(values[name][0]) for name in HEADLINE}


def _summarise(values: list[float]) -> dict[str, Any]:
    if not np.isfinite(values).all():
        return {"absent": "val has no participant of some class"}
    return {"by_seed": values, "mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}
