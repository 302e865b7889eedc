"""How a model does when it learns from fewer participants: nested subsets of train, all judged on the same val."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from classify.cohort.splits import strata_of
from classify.features.table import FeatureTable
from classify.fitting.model import ModelSpec, fit_model
from classify.judging.bootstrap import Replicates, draw_replicates, replicate_headline, summarise
from classify.judging.kinds import measures_of
from classify.run.estimate import Estimate
from classify.run.predictions import judged_of
from classify.search.folds import why_not_learned
from embeddings_store.errors import UsageError

ALL = 1.0

Values = dict[str, Float64[np.ndarray, " R"]]
Point = dict[str, Any]


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """Give fractions in rising order. Raises: UsageError where one is not above 0 and at most 1, or stands twice."""
    if not fractions or not all(0 < fraction <= ALL for fraction in fractions):
        raise UsageError(f"--fractions: expected numbers above 0 and at most 1, got {', '.join(map(str, fractions))}")
    if len(set(fractions)) < len(fractions):
        raise UsageError("--fractions: expected different numbers, got one twice")
    return tuple(sorted(fractions))


def draw_subsets(
    participant: Shaped[np.ndarray, " n"], label: Shaped[np.ndarray, " n"], fractions: Sequence[float], *, seed: int
) -> list[Shaped[np.ndarray, " people"]]:
    """Draw participants for each of rising fractions: the same share of every class, the smaller within the larger.

    participant and label: one a volume; shares are rounded to whole people, so a class may have nobody. Of numbers,
    fifths are the classes.
    """
    names, first, person = np.unique(participant, return_index=True, return_inverse=True)
    rng = np.random.default_rng(seed)
    stratum = strata_of(label, person) if np.issubdtype(label.dtype, np.floating) else label[first]
    shuffled = [rng.permutation(names[stratum == number]) for number in np.unique(stratum)]
    return [
        np.sort(np.concatenate([people[: int(fraction * len(people) + 0.5)] for people in shuffled]))
        for fraction in fractions
    ]


def trace_curve(
    spec: ModelSpec,
    train: FeatureTable,
    val: FeatureTable,
    classes: Sequence[str],
    *,
    fractions: Sequence[float],
    repeats: int,
    replicates: int,
    seed: int,
    tell: Callable[[str], None],
) -> list[Point]:
    """Give a point for each of rising fractions: fraction, participants, volumes, per_class, repeats, the headline.

    A metric is the mean over repeats (other people drawn, another seed of the head) with an interval over the people of
    val, and "spread": lowest, highest and standard deviation over the repeats. The whole of train is fitted once, since
    there is one way to draw it; the others have "difference_to_all", paired on the people of val. A point without a
    class is "absent", with the reason. train, val: raw rows of spec.features.
    """
    drawn = [draw_subsets(train.participant, train.y, fractions, seed=seed + repeat) for repeat in range(repeats)]
    replicated = draw_replicates(val.participant, replicates=replicates, seed=seed)
    points: list[Point] = []
    curve: dict[float, Values] = {}
    for place, fraction in enumerate(fractions):
        subsets = [one[place] for one in drawn][: 1 if fraction == ALL else repeats]
        point: Point = {"fraction": fraction, **_count(train, subsets[0], classes)}
        if missing := [name for name, people in point["per_class"].items() if not people]:
            points.append(point | {"absent": f"at {fraction:g} of train, nobody is {', '.join(missing)}"})
            continue
        if not classes and (few := why_not_learned(train.where(np.isin(train.participant, subsets[0])))):
            points.append(point | {"absent": f"at {fraction:g} of train, {few}"})
            continue
        values = [
            _judge_subset(spec, train, val, subset, classes, replicated, seed + repeat)
            for repeat, subset in enumerate(subsets)
        ]
        curve[fraction] = {name: np.mean([one[name] for one in values], axis=0) for name in values[0]}
        points.append(point | {"repeats": len(subsets)} | _measure(curve[fraction], values, val, classes))
        tell(f"{fraction:g} of train: {point['participants']} participants, fitted {len(subsets)} times")
    return [_compare_to_all(point, curve, val, classes) for point in points]


def _judge_subset(
    spec: ModelSpec,
    train: FeatureTable,
    val: FeatureTable,
    people: Shaped[np.ndarray, " people"],
    classes: Sequence[str],
    replicated: Replicates,
    seed: int,
) -> Values:
    """Fit everything on the volumes of some people, the standardiser too; give the headline on val."""
    model = fit_model(spec, train.where(np.isin(train.participant, people)), classes=len(classes), seed=seed)
    predicted = judged_of(model.predict(val, classes=len(classes), split="val"))
    return replicate_headline(predicted, replicated, classes)


def _measure(mean: Values, values: Sequence[Values], val: FeatureTable, classes: Sequence[str]) -> dict[str, Estimate]:
    found = {}
    for name in (measures := measures_of(classes)).headline:
        spread = _spread(np.array([one[name][0] for one in values]))
        found[name] = replace(summarise(mean[name], measures.why_absent(name, val.y, classes)), more={"spread": spread})
    return found


def _spread(found: Float64[np.ndarray, " repeats"]) -> dict[str, float] | None:
    """Say how far the repeats lie apart; one repeat cannot."""
    if len(found) < 2 or not np.isfinite(found).all():
        return None
    return {"low": float(found.min()), "high": float(found.max()), "sd": float(found.std(ddof=1))}


def _compare_to_all(
    point: Point, curve: dict[float, Values], val: FeatureTable, classes: Sequence[str]
) -> dict[str, Any]:
    fraction = point["fraction"]
    if fraction == ALL or fraction not in curve or ALL not in curve:
        return point
    measures = measures_of(classes)
    return point | {
        "difference_to_all": {
            name: summarise(curve[fraction][name] - curve[ALL][name], measures.why_absent(name, val.y, classes))
            for name in measures.headline
        }
    }


def _count(train: FeatureTable, people: Shaped[np.ndarray, " people"], classes: Sequence[str]) -> Point:
    rows = np.isin(train.participant, people)
    label = train.y[rows][np.unique(train.unit[rows], return_index=True)[1]]
    return {
        "participants": len(people),
        "volumes": int(rows.sum()),
        "per_class": {name: int((label == number).sum()) for number, name in enumerate(classes)},
    }
