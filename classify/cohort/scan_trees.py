"""Which of many points have a stranger's within reach, without comparing all with all: trees of random cuts.

A tree cuts the points in half along a random direction, each half again, and so on; only points that end in one leaf
are compared (Dasgupta & Freund, STOC 2008). Halves are equal whatever clumps there are, so that a tree costs n log n.
A cut may part two points that are close: how often is measured on planted copies at the edge of reach, and trees are
grown until at most MISSED of them have never been in one leaf with their source. Closer copies are parted less often.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

LEAF = 128
"""Points of a leaf, at most; at least half as many."""

PLANTED = 4096
MISSED = 2.5e-4
"""Share of planted copies that may never have been in one leaf with their source."""

MOST_TREES = 64
LEAVES_AT_ONCE = 32
PAIRS_AT_ONCE = 1 << 16


def close_in_trees(
    few: Float32[np.ndarray, "images n m"],
    whole: Float32[np.ndarray, "images n p"],
    owner: Shaped[np.ndarray, " n"],
    reach: float,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " n"] | None:
    """Tell which points have one of another owner within reach, itself or mirrored.

    few: the points along some axes, which are cut and compared first; whole: along all, which decide. images: a point
    and its mirror images, of which each is close to one of the other's, so that any pair of these tells. None where
    MOST_TREES would part too many planted copies.
    """
    images, count = few.shape[:2]
    real = images * count
    depth = int(np.ceil(np.log2((real + images * PLANTED) / LEAF)))
    planted = (-(-(real + images * PLANTED) >> depth) << depth) - real  # that every cut is even
    each = planted // images
    one = rng.integers(0, count, each)
    moved = few[:, one] + _steps(few, whole, each, reach, rng)
    flat, full = few.reshape(real, -1), whole.reshape(real, -1)
    points = np.concatenate([flat, *moved, moved[0, : planted % images]])
    people = np.r_[np.tile(np.unique(owner, return_inverse=True)[1], images), np.zeros(planted)].astype(np.int32)
    half = np.r_[np.square(flat).sum(axis=1) / 2, np.full(planted, np.inf, np.float32)]  # planted: close to nobody
    slack = float(64 * np.finfo("f4").eps * half[:real].max() + reach**2 / 2)
    found, apart = np.zeros(real, dtype=bool), np.ones(each, dtype=bool)
    place, enough = np.empty(len(points), np.int64), MOST_TREES
    for tree in range(1, MOST_TREES + 1):
        leaves = _grow(points, depth, rng)
        for first, second in _close_pairs(leaves, points, half, people, slack):
            mark_close(found, first, second, full, reach)
        place[leaves] = np.arange(len(leaves))[:, None]
        home = place[:real].reshape(images, count)[:, one]
        apart &= (place[real : real + images * each].reshape(images, each) != home).all(axis=0)
        if apart.mean() <= MISSED:
            enough = min(enough, tree + tree // 2)  # half as many again: some meet that share early, by luck
        if tree >= enough and apart.mean() <= MISSED:
            return np.asarray(found.reshape(images, count).any(axis=0))
        if apart.mean() > MISSED ** (tree / MOST_TREES):
            break  # the trees left would not be enough
    return None


def mark_close(
    found: Bool[np.ndarray, " n"],
    first: Int64[np.ndarray, " pairs"],
    second: Int64[np.ndarray, " pairs"],
    points: Float32[np.ndarray, "n p"],
    reach: float,
) -> None:
    """Mark in found both points of the pairs that are within reach of each other."""
    for start in range(0, len(first), PAIRS_AT_ONCE):
        one, other = first[start : start + PAIRS_AT_ONCE], second[start : start + PAIRS_AT_ONCE]
        new = ~(found[one] & found[other])
        one, other = one[new], other[new]
        near = np.square(points[one] - points[other]).sum(axis=1) <= reach**2
        found[one[near]] = found[other[near]] = True


def _steps(
    few: Float32[np.ndarray, "images n m"],
    whole: Float32[np.ndarray, "images n p"],
    count: int,
    reach: float,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "images count m"]:
    """Draw steps as long as reach, along some axes: half go anywhere, half where one point lies from another.

    Mirror images move together, or a copy would seem to have more chances to be met than it has.
    """
    anywhere = rng.standard_normal((count, whole.shape[2]), dtype=np.float32)
    steps, length = np.repeat(anywhere[None, :, : few.shape[2]], len(few), axis=0), np.linalg.norm(anywhere, axis=1)
    one, other = rng.integers(0, few.shape[1], (2, len(length[::2])))
    steps[:, ::2] = few[:, one] - few[:, other]
    length[::2] = np.linalg.norm(whole[0, one] - whole[0, other], axis=1)
    return np.asarray(steps * np.float32(reach) / np.maximum(length, np.float32(1e-6 * reach))[:, None])


def _grow(
    points: Float32[np.ndarray, "n m"], depth: int, rng: np.random.Generator
) -> Int64[np.ndarray, "leaves n/leaves"]:
    """Cut the points in half so many times, and give those of each leaf."""
    heights = rng.standard_normal((depth, points.shape[1]), dtype=np.float32) @ points.T
    nodes = np.arange(len(points))[None]
    for height in heights:
        middle = nodes.shape[1] // 2
        nodes = np.take_along_axis(nodes, np.argpartition(height[nodes], middle, axis=1), axis=1).reshape(-1, middle)
    return nodes


def _close_pairs(
    leaves: Int64[np.ndarray, "leaves size"],
    points: Float32[np.ndarray, "n m"],
    half: Float32[np.ndarray, " n"],
    owner: Shaped[np.ndarray, " n"],
    slack: float,
) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
    """Give the pairs of two owners in a leaf with |a - b|^2 / 2 = |a|^2 / 2 + |b|^2 / 2 - a b <= slack."""
    for first in range(0, len(leaves), LEAVES_AT_ONCE):
        rows = leaves[first : first + LEAVES_AT_ONCE]
        seen, length, whose = points[rows], half[rows], owner[rows]
        product = seen @ seen.transpose(0, 2, 1)
        product -= length[:, :, None]
        close = product >= length[:, None, :] - np.float32(slack)
        close &= whose[:, :, None] < whose[:, None, :]
        leaf, one, other = np.unravel_index(np.flatnonzero(close), close.shape)  # four times as fast as nonzero
        yield rows[leaf, one], rows[leaf, other]
