"""Every line of a table against one that was named before anybody looked: paired differences, p-values, Holm's ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.comparing.leaderboard import Entry, Values, keep_common
from classify.judging.bootstrap import draw_replicates, paired_differences, replicate_metrics
from classify.judging.holm import adjust_holm
from classify.judging.kinds import measures_of

Differences = dict[str, dict[str, Any]]
"""By metric: value, low, high, p and holm; or absent, with the reason."""


def compare_to(
    reference: str, entries: Sequence[Entry], classes: Sequence[str], *, replicates: int, seed: int
) -> dict[str, Differences]:
    """Give the headline of each entry minus the reference's, on the participants that all of them predicted.

    Whole participants are drawn. Only models are a family: p of baselines is not adjusted, nor counted.
    Raises: CohortError as keep_common does; KeyError where no entry has the reference's name.
    """
    common = {entry.name: entry for entry in keep_common(entries)}
    people = common[reference].people
    drawn = draw_replicates(people.participant, replicates=replicates, seed=seed)
    values = {name: replicate_metrics(entry.people, drawn, classes) for name, entry in common.items()}
    found = {
        name: with_p(
            values[name], values[reference], paired_differences(values[name], values[reference], people, classes)
        )
        for name in common
        if name != reference
    }
    add_holm({name: of for name, of in found.items() if common[name].kind == "model"}, measures_of(classes).headline)
    return found


def with_p(ours: Values, theirs: Values, differences: Mapping[str, Any]) -> Differences:
    """Add p to each difference that has an interval to be believed."""
    return {
        metric: measured
        if "absent" in measured or "too_few" in measured
        else {**measured, "p": two_sided_p(ours[metric] - theirs[metric])}
        for metric, measured in differences.items()
    }


def two_sided_p(apart: Float64[np.ndarray, " R"]) -> float:
    """Return twice the share of draws on the other side of 0, as the percentile interval goes; element 0: the estimate.

    Below 0.05 where the 95 % interval leaves 0 out. One is added, so that it is never 0 (Davison & Hinkley 1997, 4.2).
    """
    drawn = apart[1:][np.isfinite(apart[1:])]
    sides = ((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (1 + min(sides)) / (1 + len(drawn))))


def add_holm(found: Mapping[str, Differences], metrics: Sequence[str]) -> None:
    """Add holm, and of: how many were adjusted together, to each p."""
    for metric in metrics:
        known = {name: of[metric]["p"] for name, of in found.items() if "p" in of.get(metric, {})}
        for name, adjusted in adjust_holm(known).items():
            found[name][metric] |= {"holm": adjusted, "of": len(known)}
