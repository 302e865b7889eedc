"""Does the map tell what the head read? Deletion and insertion against random order, and controls that must break it.

Deletion and insertion: Petsiuk et al., RISE, 2018. Randomisation controls: Adebayo et al., Sanity Checks, 2018.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from scipy.stats import spearmanr

STEPS = 20
RANDOM_ORDERS = 50

Score = Callable[[Bool[np.ndarray, "m T"]], Float64[np.ndarray, " m"]]
"""Scores volumes in which only the tokens marked True are kept, the others replaced by the reference."""


@dataclass(frozen=True)
class Curves:
    """Evidence for one class while tokens are taken away or put in, largest share first.

    share: of tokens changed so far [steps + 1]. random_*: the mean over random orders. area_*: mean height of a curve.
    A map that tells what was read makes deletion fall below random, and insertion rise above it.
    """

    share: Float64[np.ndarray, " steps"]
    deletion: Float64[np.ndarray, " steps"]
    insertion: Float64[np.ndarray, " steps"]
    random_deletion: Float64[np.ndarray, " steps"]
    random_insertion: Float64[np.ndarray, " steps"]
    deletion_beats: float
    insertion_beats: float


def faithfulness_curves(
    shares: Float64[np.ndarray, " T"], score: Score, *, rng: np.random.Generator, orders: int = RANDOM_ORDERS
) -> Curves:
    """Follow the evidence along the order of the shares, and along random orders.

    deletion_beats, insertion_beats: the share of random orders that the map's order beats by area.
    """
    count = len(shares)
    sizes = np.unique(np.linspace(0, count, min(STEPS, count) + 1).round().astype(np.int64))
    own = np.argsort(-shares, kind="stable")
    ranks = [own, *(rng.permutation(count) for _ in range(orders))]
    taken = np.concatenate([_first(order, sizes) for order in ranks])
    deletion = score(~taken).reshape(len(ranks), len(sizes))
    insertion = score(taken).reshape(len(ranks), len(sizes))
    by_deletion, by_insertion = deletion.mean(axis=1), insertion.mean(axis=1)
    return Curves(
        share=sizes / count,
        deletion=deletion[0],
        insertion=insertion[0],
        random_deletion=deletion[1:].mean(axis=0),
        random_insertion=insertion[1:].mean(axis=0),
        deletion_beats=float((by_deletion[0] < by_deletion[1:]).mean()),
        insertion_beats=float((by_insertion[0] > by_insertion[1:]).mean()),
    )


def map_agreement(one: Shaped[np.ndarray, "*shape"], other: Shaped[np.ndarray, "*shape"]) -> float | None:
    """Give the rank correlation of two maps; None where one of them is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _first(order: Int64[np.ndarray, " T"], sizes: Int64[np.ndarray, " steps"]) -> Bool[np.ndarray, "steps T"]:
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[None, :] < sizes[:, None])
