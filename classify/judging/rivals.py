"""What a result has to beat: the difference to every baseline, and which of them is the hardest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from classify.baselines.covariates import is_rival
from classify.judging.bootstrap import paired_differences
from classify.judging.metrics import HEADLINE
from classify.judging.simultaneous import hold_at_once
from classify.run.predictions import Predictions
from classify.run.record import Measured

Values = Mapping[str, Float64[np.ndarray, " R"]]
Differences = Mapping[str, Mapping[str, Measured]]


def compare_with_rivals(
    ours: Values, others: Mapping[str, Values], people: Predictions, classes: Sequence[str]
) -> dict[str, dict[str, Measured]]:
    """Give HEADLINE of ours minus that of each baseline that is a rival, paired, with "simultaneous" {low, high}.

    "Better than all" needs every plain interval above 0: an intersection-union test (Berger 1982), which more baselines
    make rarer (see is_above_all). "Worse than one of them" needs a simultaneous interval below 0.
    """
    rivals = [name for name in others if is_rival(name)]
    found = {name: paired_differences(ours, others[name], people, classes) for name in rivals}
    for metric in HEADLINE:
        apart = {name: ours[metric] - others[name][metric] for name in rivals if "value" in found[name][metric]}
        for name, interval in hold_at_once(apart).items():
            found[name][metric]["simultaneous"] = interval
    return found


def hardest_rival(differences: Any, metric: str) -> str | None:
    """Name the baseline whose difference reaches lowest; None where no difference has an interval."""
    known = {n: of[metric]["low"] for n, of in (differences or {}).items() if "low" in (of.get(metric) or {})}
    return min(known, key=lambda name: known[name]) if known else None


def is_above_all(differences: Any, metric: str) -> bool:
    """Tell whether the interval of each difference lies above 0. "Better" needs this by every metric of HEADLINE.

    Balanced accuracy alone would not do: a baseline whose threshold lies a little off by chance of its training is
    beaten by one number, but ranks people as well.
    """
    rival = hardest_rival(differences, metric)
    return rival is not None and differences[rival][metric]["low"] > 0 and "too_few" not in differences[rival][metric]
