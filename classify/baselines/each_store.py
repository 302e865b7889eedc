"""Several stores next to each other: what each gives alone, all on average, and whether the others add to the first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classify.cohort.table import Cohort
from classify.fitting.model import ModelSpec, fit_model
from classify.fitting.source import FeatureSource
from classify.judging.bootstrap import draw_replicates, measure, paired_differences
from classify.judging.kinds import sign_of
from classify.judging.simultaneous import hold_at_once
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of
from classify.run.record import RunRecord
from embeddings_store.snapshot import Snapshot

SIDE_BY_SIDE, AVERAGED = "side by side", "averaged"
"""Two ways to use several stores: one head on the features of all, or the mean of a head's probabilities on each."""


@dataclass(frozen=True)
class EachStore:
    """What a run says of its stores. rows: predictions on the judged units, by the name that tables call them.

    record: stores, first, metrics by name, parameters by store, differences {way: {metric: minus the first store}}.
    """

    rows: dict[str, Predictions]
    metrics: dict[str, dict[str, Estimate]]
    record: dict[str, Any]

    def beside(self, record: RunRecord) -> RunRecord:
        """Return the record with each store among what stands next to the model."""
        split = next(iter(self.rows.values())).split
        known = record.judged.baselines | {name: {split: table} for name, table in self.metrics.items()}
        return replace(
            record, judged=replace(record.judged, baselines=known), rivals=replace(record.rivals, stores=self.record)
        )


def stand_beside_each(
    ours: Predictions,
    cohort: Cohort,
    parts: Mapping[str, Snapshot],
    choose: Callable[[FeatureSource], ModelSpec],
    *,
    replicates: int,
    seed: int,
) -> EachStore:
    """Choose and fit on each store alone as it was done on all, and compare on the same units.

    ours: of the head on the features of all. parts: on the rows that cohort.position points into, see FusedSnapshot.
    """
    classes, first = cohort.task.classes, next(iter(parts))
    alone: dict[str, Predictions] = {}
    parameters = {}
    for name, part in parts.items():
        source = FeatureSource(cohort, part.pooled, part.space)
        spec = choose(source)
        table = source.table(spec.features)
        model = fit_model(spec, table.only("train"), classes=len(classes), seed=seed)
        found = judged_of(model.predict(table.only(ours.split), classes=len(classes), split=ours.split))
        alone[name], parameters[name] = replace(found, model=f"{name} alone"), dict(spec.parameters)
    mean = average(list(alone.values()), f"mean of {', '.join(parts)}", is_number=cohort.task.is_number)
    people = {part.model: part for part in (*alone.values(), mean)}
    drawn = draw_replicates(ours.participant, replicates=replicates, seed=seed)
    measured = {name: measure(part, drawn, classes) for name, part in people.items()}
    own, of_first = measure(ours, drawn, classes)[1], measured[f"{first} alone"][1]
    ways = {SIDE_BY_SIDE: own, AVERAGED: measured[mean.model][1]}
    differences = {way: paired_differences(values, of_first, ours, classes) for way, values in ways.items()}
    for metric in differences[AVERAGED]:
        apart = {way: ways[way][metric] - of_first[metric] for way in ways if differences[way][metric].ends}
        for way, interval in hold_at_once(apart).items():
            differences[way][metric] = replace(differences[way][metric], simultaneous=interval)
    kept = {
        "stores": list(parts), "first": first, "split": ours.split, "parameters": parameters,
        "differences_to_first": differences, "adds": say_adds(differences, first, [*parts][1:]),
    }  # fmt: skip
    return EachStore(people, {name: table for name, (table, _) in measured.items()}, kept)


def average(parts: list[Predictions], model: str, *, is_number: bool) -> Predictions:
    """Give the mean of the probabilities (or of the numbers) of several models of the same units."""
    if is_number:
        value = np.mean([part.logits for part in parts], axis=0)
        return replace(parts[0], model=model, logits=value, probability=value)
    mean = np.mean([part.probability for part in parts], axis=0)
    return replace(parts[0], model=model, logits=np.log(mean), probability=mean)


def say_adds(differences: Mapping[str, Mapping[str, Estimate]], first: str, others: list[str]) -> str:
    """Say in a sentence whether the other stores add anything to the first: by every measure, in either way."""
    above = {w: all(of[m].at_once().is_above(sign=sign_of(m)) for m in of) for w, of in differences.items()}
    ways = [way for way in above if above[way]]
    names = " and ".join(others)
    if ways:
        return f"{names} added to {first}: shown, {' and '.join(ways)}, by {' and '.join(differences[ways[0]])}"
    return f"{names} not shown to add anything to {first}, neither {SIDE_BY_SIDE} nor {AVERAGED}"
