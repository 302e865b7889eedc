"""Clouds of scans as points: how near other participants' scans are, in blocks that fit into memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

BLOCK_NUMBERS = 1 << 25


@dataclass(frozen=True)
class Cloud:
    """Points of scans, sorted by owner. seen: the points, and those of their mirror images, where there are any."""

    points: Float32[np.ndarray, "n p"]
    seen: Sequence[Float32[np.ndarray, "n p"]]
    owner: Shaped[np.ndarray, " n"]

    def nearest_people(self, kept: int) -> Float32[np.ndarray, "n kept"]:
        """Give each row's distances to the nearest other participants, ascending."""
        starts = np.flatnonzero(np.r_[True, self.owner[1:] != self.owner[:-1]])
        step = max(1, BLOCK_NUMBERS // len(self.points))
        return np.concatenate(
            [self._nearest(slice(n, n + step), starts, kept) for n in range(0, len(self.owner), step)]
        )

    def _nearest(self, rows: slice, starts: Shaped[np.ndarray, " people"], kept: int) -> Float32[np.ndarray, "b kept"]:
        square = self._squares(rows)
        if len(starts) < len(self.points):
            square = np.minimum.reduceat(square, starts, axis=1)
        square[np.arange(len(square)), self.owner[rows]] = np.inf
        square.partition(kept - 1, axis=1)
        return np.asarray(np.sqrt(np.maximum(np.sort(square[:, :kept], axis=1), 0)))

    def _squares(self, rows: slice) -> Float32[np.ndarray, "b n"]:
        length = np.square(self.points).sum(axis=1)
        least: Float32[np.ndarray, "b n"] | None = None
        for seen in self.seen:
            square = seen[rows] @ self.points.T
            square *= -2
            square += length
            square += np.square(seen[rows]).sum(axis=1)[:, None]
            least = square if least is None else np.minimum(least, square, out=least)
        assert least is not None  # noqa: S101 - the points are seen once at least
        return least

    def _apart_from(self, row: int) -> Float32[np.ndarray, " n"]:
        """Give the squared distances of one row, without the rounding of a product of matrices."""
        return np.asarray(np.min([np.square(self.points - seen[row]).sum(axis=1) for seen in self.seen], axis=0))

    def copies_of(self, row: int, limit: float) -> list[tuple[int, int]]:
        """List a row's copies under other participants."""
        apart = self._apart_from(row)
        others = np.flatnonzero((apart <= limit**2) & (self.owner != self.owner[row])).tolist()
        return [(min(row, one), max(row, one)) for one in others]

    def apart(self, first: int, second: int) -> float:
        """Give the distance of two rows."""
        return float(np.sqrt(self._apart_from(first)[second]))


@dataclass(frozen=True)
class BothClouds(Cloud):
    """Distances are geometric means of those of two clouds; a scan and its mirror image are one in the second alone."""

    other: Cloud

    def _squares(self, rows: slice) -> Float32[np.ndarray, "b n"]:
        one, other = super()._squares(rows), self.other._squares(rows)
        return np.asarray(np.sqrt(np.maximum(one, 0) * np.maximum(other, 0)))

    def _apart_from(self, row: int) -> Float32[np.ndarray, " n"]:
        return np.asarray(np.sqrt(super()._apart_from(row) * self.other._apart_from(row)))
