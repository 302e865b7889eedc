"""Ridge regression: the linear probe of a number, every strength from one eigenbasis."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.contract import ARRAYS, CheckedRows, Head, TrainingRows
from classify.heads.number_form import NumberForm
from classify.model_files import read_arrays


@dataclass(frozen=True)
class PreparedRidge:
    """Checked rows and, from the first fit on, what all strengths share."""

    checked: CheckedRows

    @cached_property
    def basis(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Give the weighted mean row, and eigenvalues, eigenvectors and target of the smaller Gram matrix.

        Of fewer rows than features the Gram matrix is that of the rows, whose eigenvectors are turned into those of the
        features: no solution lies outside of the rows' own span.
        """
        x, weights = self.checked.rows.astype(np.float64), self.checked.weights
        root = np.sqrt(weights)[:, None]
        mean = weights @ x / weights.sum()
        heavy = root * (x - mean)
        wanted = root[:, 0] * (self.checked.codes - weights @ self.checked.codes / weights.sum())
        if len(x) >= x.shape[1]:
            moments, vectors = np.linalg.eigh(heavy.T @ heavy)
            return mean, np.maximum(moments, 0.0), vectors, vectors.T @ (heavy.T @ wanted)
        moments, vectors = np.linalg.eigh(heavy @ heavy.T)
        kept = moments > 1e-12 * max(float(moments[-1]), np.finfo(float).tiny)
        directions = heavy.T @ vectors[:, kept] / np.sqrt(moments[kept])
        return mean, moments[kept], directions, np.sqrt(moments[kept]) * (vectors[:, kept].T @ wanted)

    def solve(self, C: float) -> tuple[Float64[np.ndarray, " d"], float]:
        """Give coefficients and intercept at one strength."""
        mean, moments, vectors, target = self.basis
        coef = vectors @ (target / (moments + 1 / C))
        level = self.checked.weights @ self.checked.codes / self.checked.weights.sum()
        return coef, float(level - mean @ coef)


class RidgeHead(NumberForm, Head):
    """Least squares with an L2 penalty; C is the inverse strength: scikit-learn's Ridge with alpha 1 / C.

    coef_ [d] and intercept_ are in standard deviations of the target. device: of no matter; the closed form is quick.
    """

    name = "linear"
    coef_: Float64[np.ndarray, " d"]
    intercept_: float

    def __init__(self, *, C: float = 1e-2, random_state: int | None = 0) -> None:
        self.C = C
        self.random_state = random_state

    @classmethod
    def prepare(cls, part: TrainingRows) -> PreparedRidge:
        """Check the rows; their eigenbasis is found at the first fit."""
        return PreparedRidge(cls()._check(part.x, part.y, part.weights, part.groups))

    def fit_prepared(self, prepared: PreparedRidge) -> Head:
        """Learn from prepared rows."""
        self.classes_, self.n_features_in_ = prepared.checked.classes, prepared.checked.rows.shape[1]
        self.coef_, self.intercept_ = prepared.solve(self.C)
        if prepared.checked.scale is not None:
            self.centre_, self.spread_ = prepared.checked.scale
        return self

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        checked = CheckedRows(rows, self.classes_, codes, weights, people)
        self.coef_, self.intercept_ = PreparedRidge(checked).solve(self.C)

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ self.coef_ + self.intercept_, dtype=np.float64)[:, None]

    def _write(self, folder: Path) -> None:
        np.savez(folder / ARRAYS, coef=self.coef_, intercept=self.intercept_)

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.coef_, self.intercept_ = arrays["coef"], float(arrays["intercept"])
