"""Scans under two participants that are too alike to be two people's: lossy, noisy or brightened copies.

A scan's nearest other participants lie at distances d1 <= d2 <= ... In honest data d(k)/d(k+1) is seldom far below 1:
P(d1/d2 < r) = r^m, where m is the intrinsic dimension, found from the median ratio (Facco et al., Scientific Reports
2017, "TwoNN"). A gap that would come once in 10,000 honest stores, below a quarter of what is usual here, is a copy.
So people with one scan an eye are enough, and nothing is assumed of the encoder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Shaped

from classify.cohort.vouched import OPTION, Vouched
from classify.errors import LeakError

FALSE_ALARMS = 1e-4
"""Expected in a whole store of honest participants."""

LARGEST_RATIO = 0.35
"""However high the dimension: the nearest person at a third of the distance of the next one is looked at."""

FAR_BELOW = 0.25
"""Of the usual distance to the (NEAREST + 1)th participant: rare devices have few neighbours, all of them far."""

EQUAL = 1e-3
"""Of that distance: a copy, however many participants share it."""

NEAREST = 8
FEWEST_PEOPLE = 12
PROJECTED = 256
BLOCK_NUMBERS = 1 << 25


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two rows of two participants, their distance, and the usual one to a near stranger's scan."""

    first: int
    second: int
    distance: float
    usual: float


def find_near_copies(
    vectors: Float32[np.ndarray, "n d"], participant: Shaped[np.ndarray, " n"], *, seed: int = 0
) -> list[NearCopy]:
    """List pairs of rows of two participants that are near copies, each pair once, first < second.

    Standardised here. Memory: the vectors twice, and blocks of 128 MB. None where there are fewer than FEWEST_PEOPLE.
    """
    people, owner = np.unique(participant, return_inverse=True)
    if len(people) < FEWEST_PEOPLE:
        return []
    order = np.argsort(owner, kind="stable")
    points, owner = _standardise(vectors)[order], owner[order]
    flat = _project(points, seed)
    kept = min(NEAREST + 1, len(people) - 2)
    near = np.concatenate(list(_nearest_people(flat, owner, kept)))
    usual = float(np.median(near[:, -1]))
    if usual == 0:
        return []
    # Distances by the product of matrices are rounded: more than those of a pair alone.
    rounding = float(np.sqrt(16 * np.finfo("f4").eps * np.square(flat).sum(axis=1).max()))
    limit = _reach(near, usual, rounding)
    found = {pair for row in np.flatnonzero(limit > 0) for pair in _pairs(flat, owner, int(row), float(limit[row]))}
    return [
        NearCopy(int(min(order[[a, b]])), int(max(order[[a, b]])), float(np.linalg.norm(points[a] - points[b])), usual)
        for a, b in sorted(found)
    ]


def _standardise(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n varying"]:
    """Give numbers that vary as much as each other; constant ones go. No centring by group, which would move copies."""
    middle = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    points = vectors - middle
    spread = np.sqrt(np.square(points).mean(axis=0, dtype=np.float64)).astype(np.float32)
    varies = spread > 1e-6 * np.abs(middle)
    return np.asarray(points[:, varies] / spread[varies])


def _project(points: Float32[np.ndarray, "n d"], seed: int) -> Float32[np.ndarray, "n p"]:
    """Keep PROJECTED random directions (Johnson & Lindenstrauss 1984): distances to about 4 %."""
    width = points.shape[1]
    if width <= 2 * PROJECTED:
        return points
    directions = np.random.default_rng(seed).standard_normal((width, PROJECTED), dtype=np.float32)
    return np.asarray(points @ (directions / np.float32(np.sqrt(PROJECTED))))


def _nearest_people(
    points: Float32[np.ndarray, "n p"], owner: Shaped[np.ndarray, " n"], kept: int
) -> Iterator[Float32[np.ndarray, "block kept"]]:
    """Give each row's distances to the nearest other participants, ascending; owner is sorted."""
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    length, step = np.square(points).sum(axis=1), max(1, BLOCK_NUMBERS // len(points))
    for first in range(0, len(points), step):
        block = slice(first, first + step)
        square = points[block] @ points.T
        square *= -2
        square += length
        square += length[block, None]
        if len(starts) < len(points):
            square = np.minimum.reduceat(square, starts, axis=1)
        square[np.arange(len(square)), owner[block]] = np.inf
        square.partition(kept - 1, axis=1)
        yield np.sqrt(np.maximum(np.sort(square[:, :kept], axis=1), 0))


def _reach(near: Float32[np.ndarray, "n k"], usual: float, rounding: float) -> Float32[np.ndarray, " n"]:
    """Give for each row the distance up to which another participant's scan is a copy of it; 0: none is."""
    ratio = near[:, :-1] / np.maximum(near[:, 1:], np.finfo("f4").tiny)
    few = (FALSE_ALARMS / len(near)) ** (1 / _dimension(ratio))
    gap = (ratio <= min(few, LARGEST_RATIO)) & (near[:, :-1] <= FAR_BELOW * usual)
    last = np.where(gap.any(axis=1), gap.shape[1] - gap[:, ::-1].argmax(axis=1) - 1, -1)
    by_gap = np.where(last >= 0, near[np.arange(len(near)), last], 0)
    equal = np.where(near[:, 0] <= EQUAL * usual, EQUAL * usual, 0)
    far = np.maximum(by_gap, equal)
    found = (last >= 0) | (near[:, 0] <= EQUAL * usual)
    return np.where(found, 1.001 * far + rounding, 0).astype(np.float32)


def _dimension(ratio: Float32[np.ndarray, "n k"]) -> float:
    """Estimate the intrinsic dimension by medians, from the nearest and from the next person: copies spoil one of them.

    -log(d(k)/d(k+1)) is exponential with rate k m.
    """
    logs = -np.log(np.clip(np.median(ratio[:, :2], axis=0), 1e-6, 1 - 1e-6))
    return float(max(np.log(2) / (place * one) for place, one in enumerate(logs, start=1)))


def _pairs(
    flat: Float32[np.ndarray, "n p"], owner: Shaped[np.ndarray, " n"], row: int, limit: float
) -> list[tuple[int, int]]:
    """List a row's copies under other participants."""
    apart = np.sqrt(np.square(flat - flat[row]).sum(axis=1))
    others = np.flatnonzero((apart <= limit) & (owner != owner[row])).tolist()
    return [(min(row, one), max(row, one)) for one in others]


def count_once(
    rows: pd.DataFrame, pooled: Float32[np.ndarray, "rows L P C"], vouched: Vouched
) -> tuple["pd.Series[bool]", "pd.Series[bool]"]:
    """Mark the rows to leave out, as another participant of their split has them already, and those vouched for.

    rows: participant, split and position of the analysed volumes. Raises: LeakError where two participants of two
    splits have near copies; it names every pair.
    """
    participant, split = rows["participant"].to_numpy(str), rows["split"].to_numpy(str)
    found = find_near_copies(pooled.reshape(len(pooled), int(np.prod(pooled.shape[1:])))[rows["position"]], participant)
    open_pairs = [one for one in found if not vouched.allows(participant[one.first], participant[one.second])]
    across = [one for one in open_pairs if split[one.first] != split[one.second]]
    if across:
        said = "; ".join(
            f"{participant[one.first]} ({split[one.first]}) and {participant[one.second]} ({split[one.second]}), "
            f"standardised distance {one.distance:.3g}"
            for one in name_pairs(across, participant).values()
        )
        raise LeakError(
            f"nearly the same scan stands under participants of two splits: {said}; strangers' scans lie at about "
            f"{across[0].usual:.3g} here; find out whose they are, or vouch for twins and repeats: {OPTION} FILE"
        )
    told = {place for one in found for place in (one.first, one.second)}
    repeated = {one.second for one in open_pairs}
    allowed = told - {place for one in open_pairs for place in (one.first, one.second)}
    number = np.arange(len(rows))
    return (
        pd.Series(np.isin(number, list(repeated)), index=rows.index),
        pd.Series(np.isin(number, list(allowed)), index=rows.index),
    )


def name_pairs(found: Sequence[NearCopy], participant: Shaped[np.ndarray, " n"]) -> dict[tuple[str, str], NearCopy]:
    """Give the nearest copy of each pair of participants."""
    named: dict[tuple[str, str], NearCopy] = {}
    for copy in sorted(found, key=lambda one: one.distance):
        first, second = sorted((str(participant[copy.first]), str(participant[copy.second])))
        named.setdefault((first, second), copy)
    return named
