"""Pooled vectors of a volume some of whose tokens were replaced: from sums by region, not from the tokens again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from embeddings_store.errors import UsageError

REPLACEABLE = ("mean", "std", "max", "min")
"""Pools that a few numbers a region are enough for; a median needs every token."""


@dataclass(frozen=True)
class RegionSums:
    """What pooling needs of each region: counts [r], and sums, squares, largest and smallest values [r, C].

    reference: the token that stands in for a replaced one, [C].
    """

    count: Float64[np.ndarray, " r"]
    total: Float64[np.ndarray, "r C"]
    squares: Float64[np.ndarray, "r C"]
    largest: Float64[np.ndarray, "r C"]
    smallest: Float64[np.ndarray, "r C"]
    reference: Float64[np.ndarray, " C"]

    def pooled(self, kept: Bool[np.ndarray, "m r"], pools: Sequence[str]) -> Float64[np.ndarray, "m D"]:
        """Pool m volumes in which the regions that are not kept hold reference tokens; pools lie side by side."""
        make = {"mean": self._mean, "std": self._std, "max": self._max, "min": self._min}
        return np.hstack([make[pool](kept) for pool in pools])

    def _mean(self, kept: Bool[np.ndarray, "m r"]) -> Float64[np.ndarray, "m C"]:
        inside, outside = kept.astype(np.float64), (~kept).astype(np.float64)
        replaced = (outside @ self.count)[:, None] * self.reference
        return np.asarray((inside @ self.total + replaced) / self.count.sum())

    def _std(self, kept: Bool[np.ndarray, "m r"]) -> Float64[np.ndarray, "m C"]:
        inside = kept.astype(np.float64)
        # Around the reference, so that nearly equal squares are not subtracted from each other.
        about = self.squares - 2 * self.reference * self.total + self.count[:, None] * self.reference**2
        shift = self.total - self.count[:, None] * self.reference
        mean_square = inside @ about / self.count.sum()
        mean = inside @ shift / self.count.sum()
        spread: Float64[np.ndarray, "m C"] = np.sqrt(np.maximum(mean_square - mean**2, 0.0))
        return spread

    def _max(self, kept: Bool[np.ndarray, "m r"]) -> Float64[np.ndarray, "m C"]:
        held = kept[:, self.count > 0]
        largest = self.largest[self.count > 0]
        return np.stack([np.where(row[:, None], largest, self.reference).max(axis=0) for row in held])

    def _min(self, kept: Bool[np.ndarray, "m r"]) -> Float64[np.ndarray, "m C"]:
        held = kept[:, self.count > 0]
        smallest = self.smallest[self.count > 0]
        return np.stack([np.where(row[:, None], smallest, self.reference).min(axis=0) for row in held])


def region_sums(
    tokens: Shaped[np.ndarray, "T C"],
    label: Int64[np.ndarray, " T"],
    regions: int,
    reference: Float64[np.ndarray, " C"],
) -> RegionSums:
    """Sum the tokens of each region, in float64; a region without tokens never changes anything."""
    exact = tokens.astype(np.float64, copy=False)
    one_hot = (label[None, :] == np.arange(regions)[:, None]).astype(np.float64)
    held = [exact[label == number] for number in range(regions)]
    return RegionSums(
        count=one_hot.sum(axis=1),
        total=one_hot @ exact,
        squares=one_hot @ exact**2,
        largest=np.stack([part.max(axis=0) if len(part) else reference for part in held]),
        smallest=np.stack([part.min(axis=0) if len(part) else reference for part in held]),
        reference=reference,
    )


def require_replaceable(pools: Sequence[str]) -> None:
    """Refuse pools that cannot be computed from sums. Raises: UsageError."""
    if unknown := [pool for pool in pools if pool not in REPLACEABLE]:
        raise UsageError(f"pool {unknown[0]!r}: regions can be replaced for {', '.join(REPLACEABLE)} only")
