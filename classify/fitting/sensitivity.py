"""How much a result hangs on the seed: the final fit again with other seeds, everything else alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.features.table import FeatureTable
from classify.fitting.model import ModelSpec, fit_model
from classify.judging.kinds import measures_of
from classify.run.predictions import judged_of

MEANING = "the final fit with other seeds on the same participants; a range over fits, not an interval"


def vary_seeds(
    spec: ModelSpec, train: FeatureTable, val: FeatureTable, classes: Sequence[str], *, seeds: Sequence[int]
) -> dict[str, Any]:
    """Give the headline of val participants for each seed, their mean and their range; absent where it is no number.

    train, val: raw features of the spec's choice. The parameters stay as they were chosen.
    """
    found = [_measure(spec, train, val, classes, seed) for seed in seeds]
    return {
        "meaning": MEANING,
        "seeds": list(seeds),
        "metrics": {name: _summarise([one[name] for one in found]) for name in measures_of(classes).headline},
    }


def _measure(
    spec: ModelSpec, train: FeatureTable, val: FeatureTable, classes: Sequence[str], seed: int
) -> dict[str, float]:
    model = fit_model(spec, train, classes=len(classes), seed=seed)
    people = judged_of(model.predict(val, classes=len(classes), split="val"))
    return measures_of(classes).once(people, classes)


def _summarise(values: list[float]) -> dict[str, Any]:
    if not np.isfinite(values).all():
        return {"absent": "undefined on val: a class without anybody, or everybody of one value"}
    return {"by_seed": values, "mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}
