"""Exact Shapley values over a few regions: every coalition is scored, none is sampled.

Source: Shapley, "A value for n-person games", 1953. 2^n coalitions: 1,024 for the ten ETDRS regions.
"""

from collections.abc import Callable
from math import factorial

import numpy as np
from jaxtyping import Bool, Float64

MOST_PLAYERS = 14


def coalitions(players: int) -> Bool[np.ndarray, "coalitions players"]:
    """List every set of players; set number s holds player i where bit i of s is set.

    Raises: ValueError above MOST_PLAYERS, where the sets would not fit a minute.
    """
    if players > MOST_PLAYERS:
        raise ValueError(f"{players} regions are {2**players:,} coalitions; expected at most {MOST_PLAYERS} regions")
    sets: Bool[np.ndarray, "coalitions players"] = (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1
    return sets


def shapley_values(
    players: int, score: Callable[[Bool[np.ndarray, "coalitions players"]], Float64[np.ndarray, "coalitions k"]]
) -> tuple[Float64[np.ndarray, "players k"], Float64[np.ndarray, " k"]]:
    """Give each player's share of each score, and the score of the empty set; they sum to the score of all.

    score: called once, with every coalition.
    """
    sets = coalitions(players)
    value = score(sets)
    sizes = sets.sum(axis=1)
    weight = np.array([factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)])
    share = np.empty((players, value.shape[1]))
    for player in range(players):
        without = np.flatnonzero(~sets[:, player])
        gained = value[without + (1 << player)] - value[without]
        share[player] = weight[sizes[without]] @ gained
    return share, value[0]
