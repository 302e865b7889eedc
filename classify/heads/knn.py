"""Nearest neighbours: the probe that fits nothing."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64
from sklearn.neighbors import NearestNeighbors

from classify.heads.contract import ARRAYS, Head
from classify.model_files import read_arrays


class KnnHead(Head):
    """Weighted votes of the nearest training rows by Euclidean distance, with one vote spread by the weights of all.

    The spread vote keeps a probability from being 0 where no neighbour has a class. The saved head holds the
    standardised training rows themselves.
    """

    name = "knn"
    keeps_rows = True
    rows_: Float32[np.ndarray, "m d"]
    codes_: Int64[np.ndarray, " m"]
    weights_: Float64[np.ndarray, " m"]

    def __init__(self, *, n_neighbors: int = 15, random_state: int | None = 0) -> None:
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002 - nothing is held back
    ) -> None:
        used = weights > 0
        self.rows_ = rows[used].astype(np.float32)
        self.codes_ = codes[used]
        self.weights_ = weights[used] / weights[used].mean()

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        member = np.eye(len(self.classes_))[self.codes_] * self.weights_[:, None]
        votes = self._count(rows, member, member.sum())
        return np.asarray(votes / votes.sum(axis=1, keepdims=True))

    def _count(self, rows: np.ndarray, member: Float64[np.ndarray, "m k"], total: float) -> Float64[np.ndarray, "n k"]:
        """Sum what the nearest training rows hold, and one vote's share of what all of them hold."""
        count = min(self.n_neighbors, len(self.rows_))
        finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(self.rows_)
        near = finder.kneighbors(rows.astype(np.float32), return_distance=False)
        return np.asarray(member[near].sum(axis=1) + member.sum(axis=0) / total)

    def _write(self, folder: Path) -> None:
        np.savez(folder / ARRAYS, rows=self.rows_, codes=self.codes_, weights=self.weights_)

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.rows_, self.codes_, self.weights_ = arrays["rows"], arrays["codes"], arrays["weights"]
