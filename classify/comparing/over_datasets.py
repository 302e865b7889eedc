"""One difference over several datasets: its mean, with what it may be said of.

Two claims, two intervals. **These datasets**: the mean of the true differences on the very datasets that were judged;
only their people were drawn. **Datasets like these**: the mean over the kind of dataset that they are a sample of; the
datasets were drawn, too, so their spread counts, and few datasets say little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy import stats

from classify.comparing.to_reference import two_sided_p
from classify.judging.bootstrap import LEVEL_PERCENT, summarise
from classify.run.estimate import Estimate, Read

FEWEST_DATASETS = 3
"""Of "datasets like these": two of them give an interval twelve times as wide as their spread, which nobody can use."""


@dataclass(frozen=True)
class MeanDifference:
    """A difference over those datasets that have both; these, like_these: with p and, of several, holm."""

    datasets: list[str]
    these: Read
    like_these: Read


def mean_difference(
    apart: Mapping[str, Float64[np.ndarray, " R"]], few: Mapping[str, str | None] | None = None
) -> MeanDifference:
    """Give the mean of differences by dataset: element 0 the estimate, the rest bootstrap draws.

    The draws of different datasets must be of different seeds: their people are other people. A dataset weighs one,
    whatever its size. NaN: undefined there; such a dataset is left out. few: by dataset why its people are too few to
    be drawn anew; one such dataset makes the interval of these datasets one that cannot be believed.
    """
    known = {name: values for name, values in apart.items() if np.isfinite(values[0])}
    if not known:
        absent = Estimate(absent="no dataset has both")
        return MeanDifference([], absent, absent)
    table = np.stack(list(known.values()))
    why = next((f"{name}: {said}" for name in known if (said := (few or {}).get(name))), None)
    return MeanDifference(list(known), of_these(table, why), of_others_like(table[:, 0]))


def of_these(apart: Float64[np.ndarray, "K R"], few: str | None = None) -> Estimate:
    """Give the mean over these datasets: people are drawn anew within each, independently."""
    mean = apart.mean(axis=0)
    measured = summarise(mean, "undefined for one of the datasets", few)
    return replace(measured, p=two_sided_p(mean)) if measured.interval else measured


def of_others_like(estimates: Float64[np.ndarray, " K"]) -> Estimate:
    """Give the mean over datasets like these: Student's t over one estimate a dataset.

    The people's noise is already in each estimate, so it must not be added again; and datasets may be of any sizes:
    with unequal variances this interval errs on the wide side (Ibragimov & Mueller, J Bus Econ Stat 2010). A bootstrap
    over five datasets covers 80 to 85 % where it promises 95 (tests/truth/datasets_cohorts.py), so it is not used.
    """
    count = len(estimates)
    if count < FEWEST_DATASETS:
        return Estimate(absent=f"{count} datasets; expected {FEWEST_DATASETS} or more to speak of others like them")
    mean, spread = float(estimates.mean()), float(estimates.std(ddof=1) / np.sqrt(count))
    if spread == 0:
        return Estimate(mean, mean, mean, too_few="the interval has no width")
    reach = float(stats.t.ppf(0.5 + LEVEL_PERCENT / 200, count - 1)) * spread
    p = float(2 * stats.t.sf(abs(mean) / spread, count - 1))
    return Estimate(mean, mean - reach, mean + reach, p=p)
