"""Scans as points: how far the nearest other people of each are, and which scans have somebody else close by.

All distances of n scans are n^2. Of many scans only those are looked at in full that have another person's scan within
reach: a bound that is never too long, on the distance along the first principal axes, rules out nearly all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

ROWS_AT_ONCE = 4096
PROJECTED = 256
BLOCK_NUMBERS = 1 << 25
TILE = (512, 2048)
"""Rows and columns of distances that are made at once, and stay in the processor's cache."""

FEW_AXES = (8, 16, 32, 64, 128)
SAMPLED = 2048
PASSED = 1e-5
"""Share of pairs that the bound may let through by chance."""


@dataclass(frozen=True)
class Scale:
    """What makes numbers vary as much as each other; constant ones go. No centring by group: it would move copies."""

    middle: Float32[np.ndarray, " d"]
    spread: Float32[np.ndarray, " d"]

    @classmethod
    def of(cls, vectors: Float32[np.ndarray, "n d"]) -> "Scale":
        """Learn it from all rows, some at a time."""
        parts = [slice(first, first + ROWS_AT_ONCE) for first in range(0, len(vectors), ROWS_AT_ONCE)]
        total = sum(vectors[rows].sum(axis=0, dtype=np.float64) for rows in parts)
        middle = np.asarray(total / len(vectors), dtype=np.float32)
        squares = sum(np.square(vectors[rows] - middle).sum(axis=0, dtype=np.float64) for rows in parts)
        return cls(middle, np.asarray(np.sqrt(squares / len(vectors)), dtype=np.float32))

    @property
    def varies(self) -> Bool[np.ndarray, " d"]:
        """Tell which numbers vary."""
        return np.asarray(self.spread > 1e-6 * np.abs(self.middle))

    def applied(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n varying"]:
        """Standardise rows."""
        varies = self.varies
        return np.asarray((vectors - self.middle)[:, varies] / self.spread[varies])

    def apart(self, one: Float32[np.ndarray, " d"], other: Float32[np.ndarray, " d"]) -> float:
        """Give the distance of two rows."""
        first, second = self.applied(np.stack([one, other]))
        return float(np.linalg.norm(first - second))


def project(
    scale: Scale, vectors: Float32[np.ndarray, "n d"], order: Int64[np.ndarray, " n"], seed: int
) -> Float32[np.ndarray, "n p"]:
    """Standardise in an order; keep PROJECTED random directions (Johnson & Lindenstrauss 1984): distances to 4 %."""
    width = int(scale.varies.sum())
    parts = [order[first : first + ROWS_AT_ONCE] for first in range(0, len(order), ROWS_AT_ONCE)]
    if width <= 2 * PROJECTED:
        return np.concatenate([scale.applied(vectors[rows]) for rows in parts])
    directions = np.random.default_rng(seed).standard_normal((width, PROJECTED), dtype=np.float32)
    directions /= np.float32(np.sqrt(PROJECTED))
    return np.concatenate([scale.applied(vectors[rows]) @ directions for rows in parts])


@dataclass(frozen=True)
class ScanCloud:
    """Points of scans, sorted by owner. seen: the points, and those of their mirror images, where there are any."""

    points: Float32[np.ndarray, "n p"]
    seen: Sequence[Float32[np.ndarray, "n p"]]
    owner: Shaped[np.ndarray, " n"]

    def sample(self, seed: int) -> Int64[np.ndarray, " m"]:
        """Choose SAMPLED rows at random."""
        drawn = np.random.default_rng(seed).choice(len(self.owner), min(SAMPLED, len(self.owner)), replace=False)
        return np.sort(drawn)

    def nearest_people(self, kept: int, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m kept"]:
        """Give the distances of some rows to the nearest other participants, ascending."""
        starts = np.flatnonzero(np.r_[True, self.owner[1:] != self.owner[:-1]])
        step = max(1, BLOCK_NUMBERS // len(self.points))
        parts = [self._nearest(rows[n : n + step], starts, kept) for n in range(0, len(rows), step)]
        return np.concatenate([np.empty((0, kept), np.float32), *parts])

    def close_rows(self, reach: float, seed: int) -> Int64[np.ndarray, " m"]:
        """List all rows that have another participant's scan within reach, and perhaps a few more."""
        axes = self._axes(reach, seed)
        turned = self.points @ axes
        half, one = np.square(turned).sum(axis=1, dtype=np.float32)[:, None] / 2, np.ones((len(turned), 1), np.float32)
        right, found = np.hstack([turned, -one, -half]), np.zeros(len(turned), dtype=bool)
        # -|a - b|^2 / 2 = a b - |a|^2 / 2 - |b|^2 / 2, which one product of matrices gives
        least = -(reach**2) / 2 - 64 * np.finfo("f4").eps * float(half.max())
        for seen in self.seen:
            turned = seen @ axes
            half = np.square(turned).sum(axis=1, dtype=np.float32)[:, None] / 2
            left = np.hstack([turned, half, one])
            for first in range(0, len(left), TILE[0]):
                # Of one cloud each pair is seen once, and counts for both.
                for start in range(first if len(self.seen) == 1 else 0, len(left), TILE[1]):
                    rows, columns = slice(first, first + TILE[0]), slice(start, start + TILE[1])
                    close = self._other(left[rows] @ right[columns].T, rows, columns)
                    if close.max() >= least:
                        found[rows] |= (close >= least).any(axis=1)
                        found[columns] |= (close >= least).any(axis=0)
        return np.flatnonzero(found)

    def copies_of(self, row: int, limit: float) -> list[tuple[int, int]]:
        """List a row's copies under other participants."""
        apart = np.min([np.square(self.points - seen[row]).sum(axis=1) for seen in self.seen], axis=0)
        others = np.flatnonzero((apart <= limit**2) & (self.owner != self.owner[row])).tolist()
        return [(min(row, one), max(row, one)) for one in others]

    def apart(self, first: int, second: int) -> float:
        """Give the distance of two rows."""
        return min(float(np.linalg.norm(seen[first] - self.points[second])) for seen in self.seen)

    def _other(self, close: Float32[np.ndarray, "b c"], rows: slice, columns: slice) -> Float32[np.ndarray, "b c"]:
        """Take pairs of one participant out."""
        mine, theirs = self.owner[rows], self.owner[columns]
        if mine[0] <= theirs[-1] and theirs[0] <= mine[-1]:
            close[mine[:, None] == theirs[None, :]] = -np.inf
        return close

    def _axes(self, reach: float, seed: int) -> Float32[np.ndarray, "p m"]:
        """Give as few principal axes as rule out nearly all pairs, learned from a sample of pairs; or all."""
        from scipy.linalg import eigh

        centred = self.points - self.points.mean(axis=0)
        every = np.ascontiguousarray(eigh(centred.T @ centred)[1][:, ::-1], dtype=np.float32)
        some = self.sample(seed)
        strangers = self.owner[some][:, None] != self.owner[some][None, :]
        for count in FEW_AXES:
            few = every[:, :count]
            close = _within([seen[some] @ few for seen in self.seen], self.points[some] @ few, reach)
            if count >= every.shape[1] or (close & strangers).sum() <= PASSED * max(strangers.sum(), 1):
                return few
        return every

    def _nearest(
        self, rows: Int64[np.ndarray, " b"], starts: Shaped[np.ndarray, " people"], kept: int
    ) -> Float32[np.ndarray, "b kept"]:
        square = self._squares(rows)
        if len(starts) < len(self.points):
            square = np.minimum.reduceat(square, starts, axis=1)
        number = np.searchsorted(self.owner[starts], self.owner[rows])
        square[np.arange(len(square)), number] = np.inf
        square.partition(kept - 1, axis=1)
        return np.asarray(np.sqrt(np.maximum(np.sort(square[:, :kept], axis=1), 0)))

    def _squares(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b n"]:
        length = np.square(self.points).sum(axis=1)
        least = np.full((len(rows), len(length)), np.inf, np.float32)
        for seen in self.seen:
            square = seen[rows] @ self.points.T
            square *= -2
            square += length
            square += np.square(seen[rows]).sum(axis=1)[:, None]
            np.minimum(least, square, out=least)
        return least


def _within(
    seen: Sequence[Float32[np.ndarray, "n m"]], points: Float32[np.ndarray, "n m"], reach: float
) -> Bool[np.ndarray, "n n"]:
    length = np.square(points).sum(axis=1)
    square = [length + np.square(one).sum(axis=1)[:, None] - 2 * (one @ points.T) for one in seen]
    return np.asarray(np.min(square, axis=0) <= reach**2)
