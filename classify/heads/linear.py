"""Multinomial logistic regression: the linear probe."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression

from classify.heads.contract import ARRAYS, Head, softmax


class LinearHead(Head):
    """Logistic regression with an L2 penalty; C is the inverse strength (scikit-learn's C).

    coef_ [k, d] and intercept_ [k] hold one row a class, also for two classes, so that
    logits = X @ coef_.T + intercept_ everywhere.
    """

    name = "linear"
    coef_: Float64[np.ndarray, "k d"]
    intercept_: Float64[np.ndarray, " k"]

    def __init__(
        self, *, C: float = 1e-2, max_iter: int = 1000, tol: float = 1e-4, random_state: int | None = 0
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002 - nothing is held back
    ) -> None:
        model = LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol, random_state=self.random_state)
        model.fit(rows, codes, sample_weight=weights)
        self.n_iter_ = int(model.n_iter_.max())
        coefficients, intercepts = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
        if len(self.classes_) == 2:  # scikit-learn keeps one row of log-odds: halve it over the two classes
            coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercepts, intercepts] / 2
        self.coef_, self.intercept_ = coefficients, intercepts

    def decision_logits(self, rows: np.ndarray) -> Float64[np.ndarray, "n k"]:
        """Give the logits [n, k] of feature rows."""
        return np.asarray(rows @ self.coef_.T + self.intercept_, dtype=np.float64)

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return softmax(self.decision_logits(rows))

    def _write(self, folder: Path) -> None:
        np.savez(folder / ARRAYS, coef=self.coef_, intercept=self.intercept_)

    def _read(self, folder: Path) -> None:
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
