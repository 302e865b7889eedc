"""Nearest neighbours: the probe that fits nothing but the axes that it measures along."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64
from sklearn.neighbors import NearestNeighbors

from classify.heads.contract import ARRAYS, Head
from classify.heads.principal import Components, find_components
from classify.model_files import read_arrays


class KnnHead(Head):
    """Weighted votes of the nearest training rows, with one vote spread by the weights of all.

    The spread vote keeps a probability from being 0 where no neighbour has a class. pca: how many principal components
    of the training rows to measure along in place of the features; 0 for the features themselves. cosine: 1 for the
    angle between rows, 0 for their Euclidean distance. The saved head holds the standardised training rows themselves.
    """

    name = "knn"
    keeps_rows = True
    rows_: Float32[np.ndarray, "m d"]
    codes_: Int64[np.ndarray, " m"]
    weights_: Float64[np.ndarray, " m"]
    components_: Components | None

    def __init__(self, *, n_neighbors: int = 15, pca: int = 0, cosine: int = 0, random_state: int | None = 0) -> None:
        self.n_neighbors = n_neighbors
        self.pca = pca
        self.cosine = cosine
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002 - nothing is held back
    ) -> None:
        used = weights > 0
        self.components_ = find_components(rows[used], weights[used]).first(self.pca) if self.pca else None
        self.rows_ = self._turn(rows[used])
        self.codes_ = codes[used]
        self.weights_ = weights[used] / weights[used].mean()

    def _turn(self, rows: np.ndarray) -> Float32[np.ndarray, "m d"]:
        """Give rows in the axes, and the length, that they are compared in."""
        turned = rows if self.components_ is None else self.components_.project(rows)
        if self.cosine:
            turned = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return turned.astype(np.float32)

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        count = min(self.n_neighbors, len(self.rows_))
        finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(self.rows_)
        near = finder.kneighbors(self._turn(rows), return_distance=False)
        member = np.eye(len(self.classes_))[self.codes_] * self.weights_[:, None]
        votes = member[near].sum(axis=1) + member.sum(axis=0) / member.sum()
        return np.asarray(votes / votes.sum(axis=1, keepdims=True))

    def _write(self, folder: Path) -> None:
        axes = {} if self.components_ is None else asdict(self.components_)
        np.savez(folder / ARRAYS, rows=self.rows_, codes=self.codes_, weights=self.weights_, **axes)

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.rows_, self.codes_, self.weights_ = arrays["rows"], arrays["codes"], arrays["weights"]
        self.components_ = Components(arrays["mean"], arrays["directions"]) if self.pca else None
