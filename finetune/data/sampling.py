"""Which volumes an epoch draws, in which order, and how heavily each counts in the loss."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from classify.features.table import FeatureTable, unit_weights

PARTICIPANTS = "participants"


@dataclass(frozen=True, slots=True)
class Draw:
    """One volume of one epoch: its row in the table of train, and its how-manieth time in the epoch.

    counts: False for what only fills a batch up.
    """

    row: int
    epoch: int
    repeat: int = 0
    counts: bool = True


def draw_epoch(table: FeatureTable, sampling: str, *, epoch: int, seed: tuple[int, ...]) -> list[Draw]:
    """Draw one epoch, in random order; the same seed and epoch draw the same.

    "volumes": each volume once. "participants": each participant equally often, about as many draws in all as there
    are volumes; a participant's volumes take turns.
    """
    rng = np.random.default_rng([*seed, epoch])
    if sampling != PARTICIPANTS:
        return [Draw(int(row), epoch) for row in rng.permutation(len(table.y))]
    people, person = np.unique(table.participant, return_inverse=True)
    times = max(1, round(len(person) / len(people)))
    drawn: list[Draw] = []
    for number in range(len(people)):
        rows = np.flatnonzero(person == number)
        drawn += [Draw(int(row), epoch, n // len(rows)) for n, row in enumerate(_take_turns(rows, times, rng))]
    return [drawn[place] for place in rng.permutation(len(drawn))]


def _take_turns(rows: Int64[np.ndarray, " v"], times: int, rng: np.random.Generator) -> Int64[np.ndarray, " times"]:
    rounds = -(-times // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:times]


def loss_weights(table: FeatureTable, sampling: str, *, class_weights: bool) -> Float64[np.ndarray, " n"]:
    """Weigh volumes so that classes count the same (where asked for), and participants of a class too; mean 1 a draw.

    Where participants are drawn equally often, the drawing has done the second already.
    """
    weights = unit_weights(table.y, table.unit, balanced=class_weights)
    _, first, inverse, volumes = np.unique(
        table.participant, return_index=True, return_inverse=True, return_counts=True
    )
    if sampling == PARTICIPANTS:
        weights = weights * volumes[inverse]
        return np.asarray(weights / weights[first].mean(), dtype=np.float64)
    return np.asarray(weights / weights.mean(), dtype=np.float64)
