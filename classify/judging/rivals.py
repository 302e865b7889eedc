"""What a result has to beat: the difference to every baseline, and which of them is the hardest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from classify.baselines.covariates import is_rival
from classify.judging.bootstrap import paired_differences
from classify.judging.kinds import measures_of, sign_of
from classify.judging.simultaneous import hold_at_once
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

Values = Mapping[str, Float64[np.ndarray, " R"]]
Differences = Mapping[str, Mapping[str, Estimate]]


def compare_with_rivals(
    ours: Values, others: Mapping[str, Values], people: Predictions, classes: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """Give the headline of ours minus that of each baseline that is a rival, paired, with "simultaneous" {low, high}.

    "Better than all" needs every plain interval above 0: an intersection-union test (Berger 1982), which more baselines
    make rarer (see is_above_all). "Worse than one of them" needs a simultaneous interval below 0.
    """
    rivals = [name for name in others if is_rival(name)]
    found = {name: paired_differences(ours, others[name], people, classes) for name in rivals}
    for metric in measures_of(classes).headline:
        apart = {name: ours[metric] - others[name][metric] for name in rivals if found[name][metric].ends}
        for name, interval in hold_at_once(apart).items():
            found[name][metric] = replace(found[name][metric], simultaneous=interval)
    return found


def hardest_rival(differences: Differences, metric: str) -> str | None:
    """Name the baseline whose difference reaches farthest to the worse; None where no difference has an interval."""
    ends = {name: of[metric].ends for name, of in differences.items() if metric in of and of[metric].ends}
    return min(ends, key=lambda name: min(sign_of(metric) * end for end in ends[name])) if ends else None


def is_above_all(differences: Differences, metric: str) -> bool:
    """Tell whether each difference's interval is better than 0. "Better" needs this by every metric of the headline.

    Better is above 0, and below it where less is better, such as an error.

    Balanced accuracy alone would not do: a baseline whose threshold lies a little off by chance of its training is
    beaten by one number, but ranks people as well.
    """
    rival = hardest_rival(differences, metric)
    return rival is not None and differences[rival][metric].is_above(sign=sign_of(metric))
