"""Intervals that hold for many differences at once: studentised maximum over bootstrap replicates."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from classify.judging.bootstrap import LARGEST_DROPPED_SHARE, LEVEL_PERCENT
from classify.run.estimate import Ends

Apart = Mapping[str, Float64[np.ndarray, " R"]]


def hold_at_once(apart: Apart, family: Apart | None = None, like: Sequence[str] = ()) -> dict[str, Ends]:
    """Return by name the ends of differences (element 0: the estimate) that all hold at once in 95 % of studies.

    An interval reaches as many standard errors as 95 % of the replicates keep the largest deviation of the family
    within (Romano & Wolf 2005). family: all differences that could have been looked at, such as those to every model
    that could have been the best; apart itself where nothing was chosen. like: those of the family that none may seem
    surer than: an error that is small by luck would make its difference stand out. {} where too many replicates are
    undefined.
    """
    if not apart:
        return {}
    family = apart if family is None else family
    everything = np.stack(list(family.values()))
    defined = np.isfinite(everything).all(axis=0)
    if not defined[0] or (~defined[1:]).mean() > LARGEST_DROPPED_SHARE:
        return {}
    drawn = everything[:, 1:][:, defined[1:]]
    error = drawn.std(axis=1)
    least = max((float(error[place]) for place, name in enumerate(family) if name in like), default=0.0)
    error = np.maximum(error, least)
    deviation = np.abs(drawn - everything[:, :1]) / np.where(error > 0, error, np.inf)[:, None]
    reach = float(np.percentile(deviation.max(axis=0), LEVEL_PERCENT))
    width = {name: reach * max(least, float(values[1:][defined[1:]].std())) for name, values in apart.items()}
    return {n: {"low": float(v[0]) - width[n], "high": float(v[0]) + width[n]} for n, v in apart.items()}
