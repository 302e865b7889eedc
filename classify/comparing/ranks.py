"""Ranks of models over datasets: Friedman's test, and the critical difference of Nemenyi (Demsar, JMLR 2006)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from jaxtyping import Float64
from scipy import stats

ALPHA = 0.05
FEWEST_DATASETS = 2


@dataclass(frozen=True)
class NoRanks:
    """Why models are not ranked. datasets: those that have every model; left_out: those that lack one."""

    absent: str
    datasets: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over datasets, 1 is best; of which datasets, see NoRanks.

    friedman: see friedman. groups: models next to each other in rank that are not shown to differ, as the picture joins
    them.
    """

    datasets: list[str]
    left_out: list[str]
    ranks: dict[str, float]
    friedman: dict[str, float]
    critical_difference: float
    groups: list[list[str]]


def rank_models(scores: Mapping[str, Mapping[str, float]]) -> Ranks | NoRanks:
    """Rank the models over datasets.

    scores: more is better, by dataset and model. Only datasets that have every model count: a rank among fewer models
    is another rank.
    """
    models = sorted({name for of in scores.values() for name in of})
    whole = [name for name, of in scores.items() if all(np.isfinite(of.get(model, np.nan)) for model in models)]
    left_out = [name for name in scores if name not in whole]
    if len(models) < 2 or len(whole) < FEWEST_DATASETS:
        why = f"{len(models)} models on {len(whole)} datasets that have all of them; expected 2 of each or more"
        return NoRanks(why, whole, left_out)
    table = np.array([[scores[name][model] for model in models] for name in whole])
    each = stats.rankdata(-table, axis=1)
    mean = dict(sorted(zip(models, each.mean(axis=0).tolist(), strict=True), key=lambda one: one[1]))
    reach = critical_difference(len(models), len(whole))
    return Ranks(whole, left_out, mean, friedman(each), reach, join_alike(list(mean.items()), reach))


def friedman(ranks: Float64[np.ndarray, "N k"]) -> dict[str, float]:
    """Give Iman & Davenport's F form of Friedman's test, which is less shy, with ties allowed for: f and p.

    Where all datasets rank the models alike there is no f, and p is the chance of just that: 1/k! a further dataset.
    """
    count, models = ranks.shape
    sums = ranks.sum(axis=0)
    # Conover's form: with ties the ranks spread less than those of 1 to k.
    spread = float((ranks**2).sum()) - count * models * (models + 1) ** 2 / 4
    between = float(((sums - count * (models + 1) / 2) ** 2).sum()) / count
    if spread == 0:
        return {"f": 0.0, "p": 1.0}
    if np.isclose(spread, between):
        return {"p": float(factorial(models)) ** (1 - count)}
    f = (count - 1) * between / (spread - between)
    return {"f": f, "p": float(stats.f.sf(f, models - 1, (models - 1) * (count - 1)))}


def critical_difference(models: int, datasets: int) -> float:
    """Return by how much two mean ranks must differ, for all pairs at once at 5 %."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, models, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(models * (models + 1) / (6 * datasets)))


def join_alike(ranks: Sequence[tuple[str, float]], reach: float) -> list[list[str]]:
    """List the longest runs of models, in order of rank, whose first and last are not shown to differ."""
    found: list[list[str]] = []
    for start in range(len(ranks)):
        names = [name for name, rank in ranks[start:] if rank - ranks[start][1] <= reach]
        if len(names) > 1 and not (found and set(names) <= set(found[-1])):
            found.append(names)
    return found
