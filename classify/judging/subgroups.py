"""The same predictions, group by group: site, device, protocol, eye, age band. Small groups stay, and say so."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from classify.judging.bootstrap import caution_few, count_people, draw_replicates, measure
from classify.judging.kinds import measures_of
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

PeopleOf = Callable[[np.ndarray], Predictions]
"""Predicts participants from a part of their volumes, given as a mask over the lines of the cohort."""

GROUPINGS = ("site", "device", "protocol", "eye", "age_band")
AGE_BANDS = ((0.0, 50.0, "under 50"), (50.0, 60.0, "50 to 59"), (60.0, 70.0, "60 to 69"), (70.0, np.inf, "70 and over"))
"""From (years, included) to (excluded), and the name."""

UNKNOWN_AGE = "unknown"


def measure_subgroups(
    people_of: PeopleOf, table: pd.DataFrame, classes: Sequence[str], *, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Give one line a group: by, value, participants, volumes, per_class, the headline with intervals, caution.

    table: the cohort's lines of one split, which the masks of people_of are over. A participant is judged by those of
    their volumes that are in the group, so one scanned by two devices stands under both.
    """
    groups = table.assign(age_band=[name_age_band(age) for age in table["age"]])
    return [
        _measure_group(people_of, groups, by, value, classes, replicates, seed)
        for by in GROUPINGS
        for value in sorted(groups[by].unique())
    ]


def name_age_band(age: float) -> str:
    """Name the band of an age in years; NaN is "unknown"."""
    return next((name for low, high, name in AGE_BANDS if low <= age < high), UNKNOWN_AGE)


def _measure_group(
    people_of: PeopleOf, groups: pd.DataFrame, by: str, value: str, classes: Sequence[str], replicates: int, seed: int
) -> dict[str, Any]:
    chosen = (groups[by] == value).to_numpy()
    people = people_of(chosen)
    measured, _ = measure(people, draw_replicates(people.participant, replicates=replicates, seed=seed), classes)
    headline = measures_of(classes).headline
    said = {name: measured[name] for name in headline}
    if by == "age_band" and value == UNKNOWN_AGE and chosen.all():
        said = {name: Estimate(absent="nobody of this split has a usable age") for name in headline}
    return {"by": by, "value": str(value), "volumes": int(chosen.sum()), **count_group(people, classes), **said}


def count_group(people: Predictions, classes: Sequence[str]) -> dict[str, Any]:
    """Count participants and units as count_people does, and caution where a class has few people."""
    counts = count_people(people, classes)
    return counts | {"caution": caution_few(counts, "this group")}
