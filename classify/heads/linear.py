"""Multinomial logistic regression: the linear probe."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.contract import ARRAYS, CheckedRows, Head, TrainingRows, softmax
from classify.heads.multinomial import ROWS_AT_ONCE, Design, Solution, make_design, solve
from classify.model_files import read_arrays
from classify.on_cores import PART_ROWS, one_thread


class PreparedRows:
    """Checked rows and, from the first fit on a device on, their design there."""

    def __init__(self, checked: CheckedRows) -> None:
        self.checked = checked
        self._designs: dict[str, Design] = {}

    def design(self, device: str) -> Design:
        """Give what fits of every C share."""
        if device not in self._designs:
            known = self.checked
            self._designs[device] = make_design(known.rows, known.codes, known.weights, len(known.classes), device)
        return self._designs[device]


class LinearHead(Head):
    """Logistic regression with an L2 penalty; C is the inverse strength (scikit-learn's C).

    coef_ [k, d] and intercept_ [k] hold one row a class, also for two classes, so that
    logits = X @ coef_.T + intercept_ everywhere. tol: about the error of a training logit (multinomial.solve); None
    keeps probabilities of rows never seen within 1e-4. device: cpu (NumPy), or where torch is to compute.
    """

    name = "linear"
    coef_: Float64[np.ndarray, "k d"]
    intercept_: Float64[np.ndarray, " k"]

    def __init__(
        self,
        *,
        C: float = 1e-2,
        max_iter: int = 1000,
        tol: float | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.device = device
        self.random_state = random_state

    @classmethod
    def prepare(cls, part: TrainingRows) -> PreparedRows:
        """Check the rows; their eigenbasis is found at the first fit."""
        return PreparedRows(cls()._check(part.x, part.y, part.weights, part.groups))

    def fit_prepared(self, prepared: PreparedRows) -> Head:
        """Learn from prepared rows."""
        # To ask every loaded library for its threads takes longer than a fit on few rows.
        with one_thread() if len(prepared.checked.rows) > PART_ROWS else nullcontext():
            (solution,) = solve(prepared.design(self.device), [self.C], tol=self.tol, max_iter=self.max_iter)
        return self._take(solution, prepared.checked)

    @classmethod
    def fit_grid(
        cls, parts: Sequence[TrainingRows], candidates: Sequence[Mapping[str, Any]], random_state: int
    ) -> list[list[Head]]:
        """Fit candidates that differ in C alone at once."""
        return [cls._fit_part(cls.prepare(part), candidates, random_state) for part in parts]

    @classmethod
    def _fit_part(
        cls, prepared: PreparedRows, candidates: Sequence[Mapping[str, Any]], random_state: int
    ) -> list[Head]:
        heads = [cls(random_state=random_state, **candidate) for candidate in candidates]
        alike: dict[tuple[str, float | None, int], list[LinearHead]] = {}
        for head in heads:
            alike.setdefault((head.device, head.tol, head.max_iter), []).append(head)
        for (device, tol, max_iter), together in alike.items():
            found = solve(prepared.design(device), [head.C for head in together], tol=tol, max_iter=max_iter)
            for head, solution in zip(together, found, strict=True):
                head._take(solution, prepared.checked)
        return [*heads]

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        self.fit_prepared(PreparedRows(CheckedRows(rows, self.classes_, codes, weights, people)))

    def _take(self, solution: Solution, checked: CheckedRows) -> Head:
        self.classes_, self.n_features_in_ = checked.classes, checked.rows.shape[1]
        self.coef_, self.intercept_ = solution.coef, solution.intercept
        self.n_iter_ = max(solution.passes, 1)
        return self

    def decision_logits(self, rows: np.ndarray) -> Float64[np.ndarray, "n k"]:
        """Give the logits [n, k] of feature rows."""
        out = np.empty((len(rows), len(self.coef_)))
        for first in range(0, len(rows), ROWS_AT_ONCE):  # which are in float64 for a moment
            out[first : first + ROWS_AT_ONCE] = rows[first : first + ROWS_AT_ONCE] @ self.coef_.T
        return np.asarray(out + self.intercept_)

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return softmax(self.decision_logits(rows))

    def _write(self, folder: Path) -> None:
        np.savez(folder / ARRAYS, coef=self.coef_, intercept=self.intercept_)

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
