"""Scans as points: how far the nearest other people of each are, and which scans have somebody else close by.

All distances of n scans are n^2. Of many scans only those are looked at in full that have another person's scan within
reach: a bound that is never too long, on the distance along the first principal axes, rules out nearly all pairs. Of
more than COMPARED_IN_TILES, only pairs that meet in a leaf of a tree are compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from classify.cohort.scan_trees import close_in_trees, mark_close

ROWS_AT_ONCE = 4096
PROJECTED = 256
BLOCK_NUMBERS = 1 << 25
COMPARED_IN_TILES = 16384
"""Rows up to which trees would save no time."""

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
    def of(cls, vectors: Float32[np.ndarray, "all d"], rows: Int64[np.ndarray, " n"]) -> "Scale":
        """Learn it from some rows, a block of them at a time."""
        parts = [rows[first : first + ROWS_AT_ONCE] for first in range(0, len(rows), ROWS_AT_ONCE)]
        total = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts)
        middle = np.asarray(total / len(rows), dtype=np.float32)
        squares = sum(np.square(vectors[part] - middle).sum(axis=0, dtype=np.float64) for part in parts)
        return cls(middle, np.asarray(np.sqrt(squares / len(rows)), dtype=np.float32))

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
    scale: Scale, vectors: Float32[np.ndarray, "all d"], order: Int64[np.ndarray, " n"], seed: int
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

    seen: Float32[np.ndarray, "images n p"]
    owner: Shaped[np.ndarray, " n"]

    @property
    def points(self) -> Float32[np.ndarray, "n p"]:
        """The points themselves."""
        return np.asarray(self.seen[0])

    @cached_property
    def _squares(self) -> Float32[np.ndarray, "images n"]:
        return np.asarray(np.einsum("inp,inp->in", self.seen, self.seen))

    @property
    def rounding(self) -> float:
        """Bound the rounding of distances by the product of matrices, which is more than that of a pair alone."""
        return float(np.sqrt(16 * np.finfo("f4").eps * self._squares[0].max()))

    def sample(self, seed: int) -> Int64[np.ndarray, " m"]:
        """Choose SAMPLED rows at random."""
        drawn = np.random.default_rng(seed).choice(len(self.owner), min(SAMPLED, len(self.owner)), replace=False)
        return np.sort(drawn)

    def nearest_people(self, kept: int, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m kept"]:
        """Give the distances of some rows to the nearest other participants, ascending."""
        starts = np.flatnonzero(np.r_[True, self.owner[1:] != self.owner[:-1]])
        parts = [self._nearest(some, starts, kept) for some in self._blocks(rows)]
        return np.concatenate([np.empty((0, kept), np.float32), *parts])

    def close_rows(self, reach: float, seed: int) -> Int64[np.ndarray, " m"]:
        """List the rows that have another participant's scan within reach.

        All up to COMPARED_IN_TILES rows. Of more, fewer than 1 in 1,000 of copies at the edge of reach are missed
        (MISSED of those planted), and far fewer of closer ones.
        """
        few = self.seen @ self._axes(reach, seed)
        found = None
        if len(self.owner) > COMPARED_IN_TILES:
            found = close_in_trees(few, self.seen, self.owner, reach, np.random.default_rng(seed))
        return np.flatnonzero(self._close_in_tiles(few, reach) if found is None else found)

    def copies_within(self, limit: Float32[np.ndarray, " n"]) -> list[tuple[int, int]]:
        """List pairs of a row and another participant's within the row's limit (0: it has none), each once."""
        rows, found = np.flatnonzero(limit > 0), set()
        for some in self._blocks(rows):
            near = self._squared(some) <= (limit[some] ** 2 + self.rounding**2)[:, None]
            near &= self.owner[some][:, None] != self.owner[None, :]
            for place, other in zip(*(one.tolist() for one in np.nonzero(near)), strict=True):
                row = int(some[place])
                if self.apart(row, other) <= limit[row]:
                    found.add((min(row, other), max(row, other)))
        return sorted(found)

    def apart(self, first: int, second: int) -> float:
        """Give the distance of two rows."""
        return float(np.linalg.norm(self.seen[:, first] - self.points[second], axis=1).min())

    def _blocks(self, rows: Int64[np.ndarray, " m"]) -> Iterator[Int64[np.ndarray, " b"]]:
        step = max(1, BLOCK_NUMBERS // len(self.owner))
        return (rows[first : first + step] for first in range(0, len(rows), step))

    def _close_in_tiles(self, few: Float32[np.ndarray, "images n m"], reach: float) -> Bool[np.ndarray, " n"]:
        images, count = few.shape[:2]
        whole, found = self.seen.reshape(images * count, -1), np.zeros(images * count, dtype=bool)
        half, one = np.square(few).sum(axis=2, dtype=np.float32)[:, :, None] / 2, np.ones((count, 1), np.float32)
        right = np.hstack([few[0], -one, -half[0]])
        # -|a - b|^2 / 2 = a b - |a|^2 / 2 - |b|^2 / 2, which one product of matrices gives
        least = -(reach**2) / 2 - 64 * np.finfo("f4").eps * float(half.max())
        for image in range(images):
            left = np.hstack([few[image], half[image], one])
            for first in range(0, count, TILE[0]):
                # Of one image each pair is seen once, and counts for both.
                for start in range(first if images == 1 else 0, count, TILE[1]):
                    rows, columns = slice(first, first + TILE[0]), slice(start, start + TILE[1])
                    close = self._other(left[rows] @ right[columns].T, rows, columns)
                    if close.max() >= least:
                        mine, theirs = np.nonzero(close >= least)
                        mark_close(found, mine + image * count + first, theirs + start, whole, reach)
        return np.asarray(found.reshape(images, count).any(axis=0))

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
            close = _within(self.seen[:, some] @ few, reach)
            if count >= every.shape[1] or (close & strangers).sum() <= PASSED * max(strangers.sum(), 1):
                return few
        return every

    def _nearest(
        self, rows: Int64[np.ndarray, " b"], starts: Shaped[np.ndarray, " people"], kept: int
    ) -> Float32[np.ndarray, "b kept"]:
        square = self._squared(rows)
        if len(starts) < len(self.points):
            square = np.minimum.reduceat(square, starts, axis=1)
        number = np.searchsorted(self.owner[starts], self.owner[rows])
        square[np.arange(len(square)), number] = np.inf
        square.partition(kept - 1, axis=1)
        return np.asarray(np.sqrt(np.maximum(np.sort(square[:, :kept], axis=1), 0)))

    def _squared(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b n"]:
        least = None
        for seen, length in zip(self.seen, self._squares, strict=True):
            square = seen[rows] @ self.points.T
            square *= -2
            square += self._squares[0]
            square += length[rows][:, None]
            least = square if least is None else np.minimum(least, square, out=least)
        return np.asarray(least)


def _within(seen: Float32[np.ndarray, "images n m"], reach: float) -> Bool[np.ndarray, "n n"]:
    """Tell which points another, or its mirror image, is within reach of."""
    length = np.square(seen).sum(axis=2)
    square = [length[0] + own[:, None] - 2 * (one @ seen[0].T) for one, own in zip(seen, length, strict=True)]
    return np.asarray(np.min(square, axis=0) <= reach**2)
