"""What the embedding knows besides the label: site, device, protocol, laterality, age and so on, by ridge probes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable, unit_weights
from classify.judging.bootstrap import Replicates, draw_replicates, summarise
from classify.judging.metrics import auroc_one_vs_rest
from classify.judging.regression import measure_regression

TARGETS = {"site": "participant", "device": "volume", "protocol": "volume", "eye": "volume", "age": "participant"}
"""What is guessed, and the level at which it is judged: a device differs between scans, a site does not."""

NUMBERS = {"age": "years", "hba1c": "%", "bmi": "kg/m2"}
"""Targets that are numbers, and their units; hba1c and bmi where measurements were given."""

AS_STORED = "as stored"
AS_SEEN = "standardised within protocol"
FEWEST_PARTICIPANTS = 5
"""A value with fewer participants than this in train or val is left out of its target."""

SHRINKAGE = 0.1
"""Penalty as a share of the weight of the training rows, for features of unit spread."""

ROWS_AT_ONCE = 4096
"""Rows that are in float64 at once."""

ABSENT_NUMBER = "no {} is known in train or in val"
SAME_NUMBER = "everybody whose {} is known in train, or in val, has the same"
ABSENT_VALUES = f"fewer than two values with {FEWEST_PARTICIPANTS} participants in train and in val"


def probe_nuisance(features: FeatureTable, table: pd.DataFrame, *, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Fit on train, judge on val, twice a target: features as stored (standardised over all) and as the heads see them.

    features: raw, one row a line of table (the cohort, with hba1c and bmi where measurements were given). A line:
    target, features, level, values, metric (macro_auroc; r_squared for a number), chance, and the measure with its
    interval or the reason why there is none; for a number also its unit and what measure_regression gives. Of patch
    tokens it is their mean that is probed.
    """
    pooled = features.pooled()
    targets = TARGETS | {name: "participant" for name in NUMBERS if name in table.columns}
    train, val = ((table["split"] == split).to_numpy() for split in ("train", "val"))
    drawn = draw_replicates(features.participant[val], replicates=replicates, seed=seed)
    nowhere = np.full(len(features.y), "all")
    lines = []
    for name, protocol in ((AS_STORED, nowhere), (AS_SEEN, features.protocol)):
        ridge = Ridges(Standardiser.fit(pooled.x, protocol, rows=np.flatnonzero(train)).transform(pooled.x, protocol))
        for target, level in targets.items():
            line = {"target": target, "features": name, "level": level}
            lines.append(line | _probe(target, ridge, table, train, val, drawn, level))
    return lines


def _probe(
    target: str,
    ridge: "Ridges",
    table: pd.DataFrame,
    train: Bool[np.ndarray, " n"],
    val: Bool[np.ndarray, " n"],
    drawn: Replicates,
    level: str,
) -> dict[str, Any]:
    number = target in NUMBERS
    values, usable, wanted = (encode_number if number else encode_values)(table, target)
    said = {"values": values, "metric": "r_squared" if number else "macro_auroc", "chance": 0.0 if number else 0.5}
    fitted, judged = train & usable, val & usable
    if len(values) == 1 or not fitted.any() or not judged.any():
        return said | {"absent": ABSENT_NUMBER.format(target) if number else ABSENT_VALUES}
    if number and min(len(np.unique(wanted[fitted])), len(np.unique(wanted[judged]))) < 2:
        return said | {"absent": SAME_NUMBER.format(target)}
    person = table["participant"].to_numpy(str)
    score = ridge.scores(wanted, person, fitted, judged)
    who, truth = person[judged], wanted[judged]
    if level == "participant":
        who, score, truth = _mean_by_person(who, score, truth)
    weights = drawn.weights_of(who, slice(None))
    said |= {"units": len(who)}
    if number:
        mean = float(_mean_by_person(person[fitted], wanted[fitted], wanted[fitted])[2].mean())
        return said | {"unit": NUMBERS[target]} | measure_regression(truth[:, 0], score[:, 0], weights, mean)
    return said | summarise(_auroc(truth, score, weights), "undefined for these units").to_dict()


def encode_number(
    table: pd.DataFrame, target: str
) -> tuple[list[str], Bool[np.ndarray, " n"], Float64[np.ndarray, "n 1"]]:
    """Give no names of values, the volumes whose number is known, and the numbers (0 where unknown)."""
    number = table[target].to_numpy(np.float64)
    return [], ~np.isnan(number), np.nan_to_num(number)[:, None]


def encode_values(
    table: pd.DataFrame, target: str
) -> tuple[list[str], Bool[np.ndarray, " n"], Float64[np.ndarray, "n t"]]:
    """Give the shared values, the volumes that have one of them, and a column of 0 and 1 for each."""
    values = shared_values(table, target)
    member = table[target].to_numpy(str)[:, None] == np.array(values, dtype=str)[None, :]
    return values, member.any(axis=1), member.astype(np.float64)


def shared_values(table: pd.DataFrame, target: str) -> list[str]:
    """List the values that FEWEST_PARTICIPANTS of train and of val have."""
    sides = pd.crosstab(table[target], table["split"], table["participant"], aggfunc="nunique")
    counts = sides.reindex(columns=["train", "val"]).fillna(0)
    return [str(value) for value in counts.index[(counts >= FEWEST_PARTICIPANTS).all(axis=1)]]


class Ridges:
    """Weighted ridge regressions on the same features in closed form.

    What targets that are known of the same rows share is kept. Sums are in float64, of some rows at a time.
    """

    def __init__(self, x: Float32[np.ndarray, "n d"]) -> None:
        self._x = x
        self._kept: tuple[Bool[np.ndarray, " n"], Moments] | None = None

    def scores(
        self,
        wanted: Float64[np.ndarray, "n t"],
        participant: Shaped[np.ndarray, " n"],
        fitted: Bool[np.ndarray, " n"],
        judged: Bool[np.ndarray, " n"],
    ) -> Float64[np.ndarray, "m t"]:
        """Fit on some rows, where every participant weighs one, and predict others."""
        if self._kept is None or not np.array_equal(self._kept[0], fitted):
            rows = np.flatnonzero(fitted)
            weights = unit_weights(np.zeros(len(rows), np.int64), participant[fitted], balanced=False)
            self._kept = fitted, Moments.of(self._x, rows, weights)
        moments = self._kept[1]
        mean = moments.weights @ wanted[fitted] / moments.weights.sum()
        apart = moments.weights[:, None] * (wanted[fitted] - mean)
        crossed = sum(self._x[rows].T.astype(np.float64) @ apart[at] for at, rows in _blocks(moments.rows))
        slopes = np.linalg.solve(moments.gram, crossed - np.outer(moments.centre, apart.sum(axis=0)))
        found = [(self._x[rows] - moments.centre) @ slopes for _, rows in _blocks(np.flatnonzero(judged))]
        return np.asarray(np.concatenate(found) + mean)


@dataclass(frozen=True)
class Moments:
    """Of some rows: their weights and weighted mean, and their products with the penalty."""

    rows: Int64[np.ndarray, " m"]
    weights: Float64[np.ndarray, " m"]
    centre: Float64[np.ndarray, " d"]
    gram: Float64[np.ndarray, "d d"]

    @classmethod
    def of(
        cls, x: Float32[np.ndarray, "n d"], rows: Int64[np.ndarray, " m"], weights: Float64[np.ndarray, " m"]
    ) -> "Moments":
        """Sum them up."""
        width = x.shape[1]
        total, products = np.zeros(width), np.zeros((width, width))
        for at, some in _blocks(rows):
            block = x[some].astype(np.float64)
            heavy = block * weights[at][:, None]
            total += heavy.sum(axis=0)
            products += heavy.T @ block
        centre = total / weights.sum()
        gram = products - np.outer(centre, total) + SHRINKAGE * weights.sum() * np.eye(width)
        return cls(rows, weights, centre, gram)


def _blocks(rows: Int64[np.ndarray, " m"]) -> Iterator[tuple[slice, Int64[np.ndarray, " b"]]]:
    for first in range(0, len(rows), ROWS_AT_ONCE):
        yield slice(first, first + ROWS_AT_ONCE), rows[first : first + ROWS_AT_ONCE]


def _mean_by_person(
    who: Shaped[np.ndarray, " n"], score: Float64[np.ndarray, "n t"], truth: Float64[np.ndarray, "n t"]
) -> tuple[Shaped[np.ndarray, " p"], Float64[np.ndarray, "p t"], Float64[np.ndarray, "p t"]]:
    people, first, place, count = np.unique(who, return_index=True, return_inverse=True, return_counts=True)
    total = np.zeros((len(people), score.shape[1]))
    np.add.at(total, place, score)
    return people, total / count[:, None], truth[first]


def _auroc(
    truth: Float64[np.ndarray, "n t"], score: Float64[np.ndarray, "n t"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    each = [auroc_one_vs_rest(truth[:, t] > 0, score[:, t], weights) for t in range(truth.shape[1])]
    return np.asarray(np.mean(each, axis=0))
