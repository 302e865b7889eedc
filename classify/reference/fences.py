"""How bright and how large a scan of train is: fences around intensity facts, and the sizes of each protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

PREFIX = "intensity_"
FAR_OUT = 3.0
"""Interquartile ranges beyond a quartile at which a value is "far out" (Tukey 1977, section 2D)."""

FEWEST_VOLUMES = 20
"""A protocol with fewer training volumes than this has no fences: its quartiles would be guesses."""

SIZE = ["frames", "rows", "columns"]

Sizes = Mapping[str, Sequence[Sequence[int]]]
"""Protocol -> the frames, rows and columns of its training volumes."""

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
        """Read the fences as JSON gives them. Raises: ValueError."""
        found = {key: {name: (low, high) for name, (low, high) in own.items()} for key, own in raw.items()}
        ends = [end for own in found.values() for fence in own.values() for end in fence]
        if any(type(end) not in (int, float) for end in ends):
            raise ValueError("fences: expected two numbers of each fact")
        return cls(found)

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


def sizes_of(index: pd.DataFrame) -> Sizes:
    """Return the sizes of each protocol's volumes; {} where the store does not know them."""
    if not set(SIZE) <= set(index.columns):
        return {}
    known = index.dropna(subset=SIZE)
    sizes = known[SIZE].astype(np.int64).groupby(known["protocol"], sort=True)
    return {str(name): np.unique(part, axis=0).tolist() for name, part in sizes}


def read_sizes(raw: Any) -> Sizes:
    """Read the sizes as JSON gives them. Raises: ValueError."""
    known = isinstance(raw, dict) and all(isinstance(sizes, list) for sizes in raw.values())
    each = [size for sizes in raw.values() for size in sizes] if known else [None]
    if not all(isinstance(size, list) and len(size) == len(SIZE) and {*map(type, size)} == {int} for size in each):
        raise ValueError(f"sizes: expected lists of {', '.join(SIZE)} by protocol")
    return dict(raw)


def of_new_size(index: pd.DataFrame, sizes: Sizes) -> Bool[np.ndarray, " n"]:
    """Say which lines of a store have frames, rows or columns that no training volume of their protocol had."""
    if not set(SIZE) <= set(index.columns):
        return np.zeros(len(index), dtype=bool)
    found = zip(index["protocol"], index[SIZE].fillna(0).to_numpy(np.int64).tolist(), strict=True)
    return np.array([size not in [*sizes.get(protocol, [size]), [0, 0, 0]] for protocol, size in found], dtype=bool)


def _fence(values: "pd.Series[float]") -> tuple[float, float] | None:
    known = values.to_numpy(np.float64)
    known = known[np.isfinite(known)]
    if len(known) < FEWEST_VOLUMES:
        return None
    lower, upper = np.percentile(known, [25, 75])
    reach = FAR_OUT * (upper - lower)
    return float(lower - reach), float(upper + reach)
