"""What the embedding knows besides the label: site, device, protocol, laterality, age and so on, by ridge probes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable, sum_rows, unit_weights
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


Rows = Callable[[Int64[np.ndarray, " b"]], Float32[np.ndarray, "b d"]]
"""Gives the features of some rows."""


def probe_nuisance(
    train: FeatureTable, val: FeatureTable, table: pd.DataFrame, *, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Fit on train, judge on val, twice a target: features as stored (standardised over all) and as the heads see them.

    train, val: raw features, one row a line of their split in table (the cohort, with hba1c and bmi where measurements
    were given). A line: target, features, level, values, metric (macro_auroc; r_squared for a number), chance, and
    the measure with its interval or the reason why there is none; for a number also its unit and what
    measure_regression gives. Of patch tokens it is their mean that is probed.
    """
    parts = [train.pooled(), val.pooled()]
    table = pd.concat([table[table["split"] == split] for split in ("train", "val")], ignore_index=True)
    person = table["participant"].to_numpy(str)
    targets = TARGETS | {name: "participant" for name in NUMBERS if name in table.columns}
    asked = [_ask(target, level, table) for target, level in targets.items()]
    known = [one for one in asked if not one.absent]
    drawn = draw_replicates(val.participant, replicates=replicates, seed=seed)
    lines = []
    for name, protocols in (
        (AS_STORED, [np.full(len(part.y), "all") for part in parts]),
        (AS_SEEN, [part.protocol for part in parts]),
    ):
        scores = iter(guess(standardised_rows(parts, protocols), person, known))
        for one in asked:
            line = {"target": one.name, "features": name, "level": one.level} | one.said
            lines.append(line if one.absent else line | _judge(one, next(scores), person, drawn))
    return lines


def standardised_rows(parts: Sequence[FeatureTable], protocols: Sequence[Shaped[np.ndarray, " m"]]) -> Rows:
    """Return what standardises rows of train, or of val, which are numbered after them; no copy of all is made."""
    standardiser, count = Standardiser.fit(parts[0].x, protocols[0]), len(parts[0].y)

    def rows(chosen: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b d"]:
        of = int(chosen[0] >= count)
        return standardiser.transform(parts[of].x, protocols[of], chosen - of * count)

    return rows


@dataclass(frozen=True)
class Target:
    """What is guessed of each row, which rows are fitted on and which are judged, or why it cannot be asked."""

    name: str
    level: str
    wanted: Float64[np.ndarray, "n t"]
    fitted: Bool[np.ndarray, " n"]
    judged: Bool[np.ndarray, " n"]
    said: dict[str, Any]

    @property
    def absent(self) -> bool:
        """Whether it cannot be asked."""
        return "absent" in self.said


def _ask(target: str, level: str, table: pd.DataFrame) -> Target:
    number = target in NUMBERS
    values, usable, wanted = (encode_number if number else encode_values)(table, target)
    said = {"values": values, "metric": "r_squared" if number else "macro_auroc", "chance": 0.0 if number else 0.5}
    fitted, judged = ((table["split"] == split).to_numpy() & usable for split in ("train", "val"))
    if len(values) == 1 or not fitted.any() or not judged.any():
        said["absent"] = ABSENT_NUMBER.format(target) if number else ABSENT_VALUES
    elif number and min(len(np.unique(wanted[fitted])), len(np.unique(wanted[judged]))) < 2:
        said["absent"] = SAME_NUMBER.format(target)
    return Target(target, level, wanted, fitted, judged, said)


def _judge(
    target: Target, score: Float64[np.ndarray, "m t"], person: Shaped[np.ndarray, " n"], drawn: Replicates
) -> dict[str, Any]:
    who, truth = person[target.judged], target.wanted[target.judged]
    if target.level == "participant":
        who, score, truth = _mean_by_person(who, score, truth)
    said: dict[str, Any] = {"units": len(who)}
    if unit := NUMBERS.get(target.name):
        owner, wanted = person[target.fitted], target.wanted[target.fitted]
        mean = float(_mean_by_person(owner, wanted, wanted)[2].mean())
        weights = drawn.weights_of(who, slice(None))
        return said | {"unit": unit} | measure_regression(truth[:, 0], score[:, 0], weights, mean)
    parts = [_auroc(truth, score, drawn.weights_of(who, some)) for some in drawn.columns(len(who))]
    return said | summarise(np.concatenate(parts), "undefined for these units").to_dict()


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


def guess(
    features: Rows, participant: Shaped[np.ndarray, " n"], targets: Sequence[Target]
) -> list[Float64[np.ndarray, "m t"]]:
    """Return what a weighted ridge, in closed form, says of the judged rows of each target; a participant weighs one.

    Targets that are known of the same rows are fitted together: every row is asked for once.
    """
    together: dict[bytes, list[int]] = {}
    for place, target in enumerate(targets):
        together.setdefault(target.fitted.tobytes(), []).append(place)
    found: dict[int, Float64[np.ndarray, "m t"]] = {}
    for places in together.values():
        wanted = np.hstack([targets[place].wanted for place in places])
        judged = np.any([targets[place].judged for place in places], axis=0)
        scores = np.empty((len(judged), wanted.shape[1]))
        _fill(scores, features, participant, wanted, targets[places[0]].fitted, np.flatnonzero(judged))
        ends = np.cumsum([targets[place].wanted.shape[1] for place in places])
        for place, own in zip(places, np.split(scores, ends[:-1], axis=1), strict=True):
            found[place] = own[targets[place].judged]
    return [found[place] for place in range(len(targets))]


def _fill(
    scores: Float64[np.ndarray, "n t"], features: Rows, participant: Shaped[np.ndarray, " n"],
    wanted: Float64[np.ndarray, "n t"], fitted: Bool[np.ndarray, " n"], judged: Int64[np.ndarray, " m"],
) -> None:  # fmt: skip
    """Fit on some rows and write down what that says of others; sums are in float64, of some rows at a time."""
    rows = np.flatnonzero(fitted)
    weights = unit_weights(np.zeros(len(rows), np.int64), participant[rows], balanced=False)
    mean = weights @ wanted[rows] / weights.sum()
    width = features(rows[:1]).shape[1]
    total, products, crossed = np.zeros(width), np.zeros((width, width)), np.zeros((width, wanted.shape[1]))
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some, root = rows[first : first + ROWS_AT_ONCE], np.sqrt(weights[first : first + ROWS_AT_ONCE])
        heavy = features(some) * root[:, None]
        total += root @ heavy
        products += heavy.T @ heavy  # of a matrix by itself, half is computed
        crossed += heavy.T @ (root[:, None] * (wanted[some] - mean))
    centre = total / weights.sum()
    gram = products - np.outer(centre, total) + SHRINKAGE * weights.sum() * np.eye(width)
    slopes = np.linalg.solve(gram, crossed - np.outer(centre, weights @ (wanted[rows] - mean)))
    for first in range(0, len(judged), ROWS_AT_ONCE):
        some = judged[first : first + ROWS_AT_ONCE]
        scores[some] = (features(some) - centre) @ slopes + mean


def _mean_by_person(
    who: Shaped[np.ndarray, " n"], score: Float64[np.ndarray, "n t"], truth: Float64[np.ndarray, "n t"]
) -> tuple[Shaped[np.ndarray, " p"], Float64[np.ndarray, "p t"], Float64[np.ndarray, "p t"]]:
    people, first, place, count = np.unique(who, return_index=True, return_inverse=True, return_counts=True)
    return people, sum_rows(place, score, len(people)) / count[:, None], truth[first]


def _auroc(
    truth: Float64[np.ndarray, "n t"], score: Float64[np.ndarray, "n t"], weights: Float64[np.ndarray, "n R"]
) -> Float64[np.ndarray, " R"]:
    each = [auroc_one_vs_rest(truth[:, t] > 0, score[:, t], weights) for t in range(truth.shape[1])]
    return np.asarray(np.mean(each, axis=0))
