"""The whole search judged on participants that it never saw: outer folds, and a search inside each of their parts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from classify.cohort.splits import grouped_folds
from classify.fitting.model import fit_model
from classify.fitting.source import FeatureSource
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.kinds import measures_of
from classify.run.predictions import Predictions, join_predictions, judged_of
from classify.search.folds import count_folds
from classify.search.search import Chosen, SearchPlan, choose_model

OUTER_SPLITS = ("train", "val")


def score_nested(
    plan: SearchPlan,
    source: FeatureSource,
    *,
    runs: Path,
    facts: Mapping[str, Any],
    replicates: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Give the outer score of the search with its interval: what choosing among so many is worth on new participants.

    Outer folds are made inside train and val together; each fold's model is chosen and fitted on the others alone.
    Varma & Simon, BMC Bioinformatics 2006, 7:91. Raises: UsageError, CohortError.
    """
    whole = source.among(OUTER_SPLITS)
    table, names = whole.cohort.table, whole.cohort.task.classes
    people, label = table["participant"].to_numpy(str), table["label"].to_numpy()
    outer, _ = count_folds(people, label, names, None)
    fold = grouped_folds(people, label, folds=outer, seed=plan.seed)
    parts, lines = [], []
    for number in range(outer):
        tell(f"nested: outer fold {number + 1} of {outer}")
        inside = whole.where(fold != number)
        inner, _ = count_folds(people[fold != number], label[fold != number], names, None)
        chosen = choose_model(
            replace(plan, folds=min(plan.folds, inner)), inside, runs=runs, facts={**facts, "outer": number}, tell=tell
        )
        parts.append(_predict_outer(chosen, whole, fold == number, len(names), plan.seed))
        lines.append(describe_chosen(chosen))
    predicted = join_predictions(parts)
    measured, _ = measure(
        predicted, draw_replicates(predicted.participant, replicates=replicates, seed=plan.seed), names
    )
    return {
        "outer_folds": outer,
        "splits": list(OUTER_SPLITS),
        "participants": len(predicted.label),
        "metrics": {name: measured[name] for name in measures_of(names).headline},
        "chosen": lines,
    }


def _predict_outer(chosen: Chosen, whole: FeatureSource, held: np.ndarray, classes: int, seed: int) -> Predictions:
    raw = whole.table(chosen.spec.features)
    model = fit_model(chosen.spec, raw.where(~held), classes=classes, seed=seed)
    return judged_of(model.predict(raw.where(held), classes=classes, split="+".join(OUTER_SPLITS)))


def describe_chosen(chosen: Chosen) -> dict[str, Any]:
    """Say what a search chose, for the line of an outer fold."""
    spec = chosen.spec
    return {
        "model": spec.model,
        "parameters": dict(spec.parameters),
        "features": {"layer": spec.features.layer, "pools": list(spec.features.pools)},
        "aggregation": spec.aggregation,
        "inner_value": chosen.record.best.value if chosen.record else None,
    }
