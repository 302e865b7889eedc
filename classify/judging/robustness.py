"""Leave one site, or one device, out of training and judge on it: does the head know the retina or the place?

Fewer people to learn from cost something by themselves. So as many are left out at random, DRAWS times, and only what
is lost beyond that is put down to the place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, Shaped

from classify.cohort.splits import strata_of
from classify.errors import CohortError
from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from classify.fitting.model import FittedModel, fit_model
from classify.judging.bootstrap import (
    LEVEL_PERCENT,
    Replicates,
    draw_replicates,
    measure,
    paired_differences,
    replicate_headline,
    why_too_few,
)
from classify.judging.kinds import measures_of
from classify.judging.rivals import Values
from classify.judging.subgroups import count_group
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of
from classify.search.folds import why_not_learned

LEFT_OUT = ("site", "device")
DRAWS = 10


def leave_one_out(
    model: FittedModel,
    features: FeatureTable,
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """Give, for each of LEFT_OUT, one line a value that stands in val: the headline with and without it in training.

    model: the run's own, whose parameters were chosen on all of train; head and what its aggregation learns are fitted
    again without the place. features: raw, one row a line of table (the cohort). beyond_chance: minus the mean of DRAWS
    heads that were fitted without as many volumes at random; its intervals hold for all lines at once (Bonferroni).
    """
    val = table.loc[table["split"] == "val"]
    places = [(by, str(value)) for by in LEFT_OUT for value in sorted(val[by].unique())]
    one = _Leaving(model, features, table, classes, replicates, seed, len(places))
    return {by: [one.line(by, value) for of, value in places if of == by] for by in LEFT_OUT}


@dataclass(frozen=True)
class _Leaving:
    model: FittedModel
    features: FeatureTable
    table: pd.DataFrame
    classes: Sequence[str]
    replicates: int
    seed: int
    lines: int

    def line(self, by: str, value: str) -> dict[str, Any]:
        here, split = (self.table[by] == value).to_numpy(), self.table["split"].to_numpy(str)
        judged, train = self.features.where(here & (split == "val")), split == "train"
        with_it = self._predict(self.model, judged)
        line = {"held_out": value, "volumes": len(judged.y), **count_group(with_it, self.classes)}
        if (here & train).sum() == train.sum():
            return line | {"absent": f"all of train is {by} {value}: nothing is left to fit on"}
        left = self.features.where(~here & train)
        if missing := [name for number, name in enumerate(self.classes) if not (left.y == number).any()]:
            return line | {"absent": f"without {value}, nobody in train is {', '.join(missing)}"}
        if not self.classes and (few := why_not_learned(left)):
            return line | {"absent": f"without {value}, {few}"}
        if not (here & train).any():
            return line | {"absent": f"nobody in train is of {value}: there is nothing to leave out"}
        try:
            gone = self.features.where(here & train)
            without_it = self._fit(left, gone, judged)
            chance = [self._fit(self.features.where(kept), gone, judged) for kept in self._draws(here & train, train)]
        except CohortError as error:  # the aggregation learns from folds, which may be impossible without the place
            return line | {"absent": str(error)}
        drawn = draw_replicates(with_it.participant, replicates=self.replicates, seed=self.seed)
        (ours, values), (theirs, known) = (measure(part, drawn, self.classes) for part in (without_it, with_it))
        headline = measures_of(self.classes).headline
        return line | {
            "without": {name: ours[name] for name in headline},
            "with": {name: theirs[name] for name in headline},
            "difference": paired_differences(values, known, with_it, self.classes),
            "beyond_chance": self._beyond_chance(values, chance, drawn),
        }

    def _draws(self, gone: Bool[np.ndarray, " n"], train: Bool[np.ndarray, " n"]) -> list[Bool[np.ndarray, " n"]]:
        """Give masks of train that lack what the place took, from people at random.

        Each person loses as much as somebody of their own class lost to the place, so classes stay as large.
        """
        rng = np.random.default_rng(self.seed)
        person = np.unique(self.table["participant"].to_numpy(str), return_inverse=True)[1]  # numbers compare faster
        label = self.table["label"].to_numpy()
        if not self.classes:
            label = strata_of(label, person)[person]
        return [train & ~_as_much(gone, train, person, label, rng) for _ in range(DRAWS)]

    def _fit(self, rows: FeatureTable, gone: FeatureTable, judged: FeatureTable) -> Predictions:
        """Fit on some rows; a protocol that is gone with the place keeps its scale, learned without any label."""
        again = fit_model(self.model.spec, rows, classes=len(self.classes), seed=self.seed)
        scale = again.standardiser.with_protocols_of(Standardiser.fit(gone.x, gone.protocol, tokens=gone.tokens))
        return self._predict(replace(again, standardiser=scale), judged)

    def _predict(self, model: FittedModel, judged: FeatureTable) -> Predictions:
        return judged_of(model.predict(judged, classes=len(self.classes), split="val"))

    def _beyond_chance(self, values: Values, chance: Sequence[Predictions], drawn: Replicates) -> dict[str, Estimate]:
        """Compare with the mean of the draws; one more draw would lie apart from it by chance as well."""
        few = why_too_few(chance[0], self.classes) or ""
        found = [replicate_headline(part, drawn, self.classes) for part in chance]
        reach = NormalDist().inv_cdf(1 - (1 - LEVEL_PERCENT / 100) / (2 * self.lines))
        said: dict[str, Estimate] = {}
        for name in measures_of(self.classes).headline:
            draws = np.stack([one[name] for one in found])
            apart = values[name] - draws.mean(axis=0)
            if not np.isfinite(apart[0]):
                undefined = "not defined where a class is missing" if self.classes else "undefined for these units"
                said[name] = Estimate(absent=undefined)
                continue
            between = draws[:, 0].var(ddof=1) * (1 + 1 / DRAWS)
            width = reach * float(np.sqrt(np.nanvar(apart[1:]) + between))
            said[name] = Estimate(float(apart[0]), float(apart[0]) - width, float(apart[0]) + width, too_few=few)
        return said


def _as_much(
    gone: Bool[np.ndarray, " n"],
    train: Bool[np.ndarray, " n"],
    person: Shaped[np.ndarray, " n"],
    label: Int64[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, " n"]:
    """Choose as many people of each class at random as lost volumes; each loses the share that one of them lost."""
    chosen = np.zeros(len(gone), dtype=bool)
    for one in np.unique(label[train]):
        people = np.unique(person[train & (label == one)])
        losers = np.unique(person[gone & (label == one)])
        for other, loser in zip(rng.permutation(people)[: len(losers)], losers, strict=True):
            share = gone[train & (person == loser)].mean()
            rows = np.flatnonzero(train & (person == other))
            chosen[rng.choice(rows, max(1, round(share * len(rows))), replace=False)] = True
    return chosen
