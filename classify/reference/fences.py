"""How bright an ordinary scan is: fences around the intensity facts of train, protocol by protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

PREFIX = "intensity_"
FAR_OUT = 3.0
"""Interquartile ranges beyond a quartile at which a value is "far out" (Tukey 1977, section 2D)."""

FEWEST_VOLUMES = 20
"""A protocol with fewer training volumes than this has no fences: its quartiles would be guesses."""

Fences = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class IntensityFences:
    """Protocol -> intensity column -> lowest and highest ordinary value. Empty where the store has no such facts."""

    fences: Fences

    @classmethod
    def fit(cls, index: pd.DataFrame) -> "IntensityFences":
        """Learn from the store's lines of the training volumes."""
        columns = [name for name in index.columns if name.startswith(PREFIX)]
        found = {
            str(protocol): {name: fence for name in columns if (fence := _fence(part[name])) is not None}
            for protocol, part in index.groupby("protocol", sort=True)
        }
        return cls({protocol: fences for protocol, fences in found.items() if fences})

    @classmethod
    def from_dict(cls, raw: Mapping[str, Mapping[str, Sequence[float]]]) -> "IntensityFences":
        """Read the fences as JSON gives them."""
        return cls({key: {name: (low, high) for name, (low, high) in own.items()} for key, own in raw.items()})

    def outside(self, index: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Tell which lines of a store are far brighter, darker, flatter or richer in contrast than train's."""
        outside = np.zeros(len(index), dtype=bool)
        for protocol, fences in self.fences.items():
            here = (index["protocol"] == protocol).to_numpy()
            for name, (low, high) in fences.items():
                if name in index.columns:
                    value = index[name].to_numpy(np.float64)
                    outside |= here & ((value < low) | (value > high))
        return outside


def _fence(values: "pd.Series[float]") -> tuple[float, float] | None:
    known = values.to_numpy(np.float64)
    known = known[np.isfinite(known)]
    if len(known) < FEWEST_VOLUMES:
        return None
    lower, upper = np.percentile(known, [25, 75])
    reach = FAR_OUT * (upper - lower)
    return float(lower - reach), float(upper + reach)
