"""The proportional-odds model: one direction, and cut points between ordered classes (McCullagh 1980)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import minimize
from scipy.special import expit

from classify.heads.contract import ARRAYS, CheckedRows, Head, TrainingRows
from classify.model_files import read_arrays

SMALLEST = 1e-15
"""Keeps the logarithm of a class between two cut points finite while the optimiser tries out steps."""

STEEPEST = 0.25
"""Second derivative of a logistic loss, at most: what the preconditioner takes for the curvature of every row."""


@dataclass(frozen=True)
class PreparedRows:
    """Checked rows and, from the first fit on, their eigenbasis, in which the penalty stays what it was."""

    checked: CheckedRows

    @cached_property
    def basis(self) -> tuple[Float64[np.ndarray, "d r"], Float64[np.ndarray, " r"], Float64[np.ndarray, "n r"]]:
        """Give basis, second moments along it, and the rows in it; r is the smaller side of the rows."""
        x = self.checked.rows.astype(np.float64)
        root = np.sqrt(self.checked.weights)[:, None]
        if len(x) < x.shape[1]:  # no row lies outside of the rows' own span, and the penalty keeps coef in it
            basis = np.linalg.qr(x.T)[0]
            moments, turn = np.linalg.eigh((root * (x @ basis)).T @ (root * (x @ basis)))
            basis = basis @ turn
        else:
            moments, basis = np.linalg.eigh((root * x).T @ (root * x))
        return basis, np.maximum(moments, 0.0), np.ascontiguousarray(x @ basis)


class OrdinalHead(Head):
    """P(class <= j | x) = sigmoid(cut_j - x . coef), L2 penalty on coef; C is the inverse strength.

    With two classes this is logistic regression with scikit-learn's C. coef_ [d], cuts_ [k-1], rising. tol: largest
    slope left, in units in which the loss curves by about one along every direction.
    """

    name = "ordinal"
    coef_: Float64[np.ndarray, " d"]
    cuts_: Float64[np.ndarray, " cuts"]

    def __init__(
        self, *, C: float = 1e-2, max_iter: int = 1000, tol: float = 1e-5, random_state: int | None = 0
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @classmethod
    def prepare(cls, part: TrainingRows) -> PreparedRows:
        """Check the rows; their eigenbasis is found at the first fit."""
        return PreparedRows(cls()._check(part.x, part.y, part.weights, part.groups))

    def fit_prepared(self, prepared: PreparedRows) -> Head:
        """Learn from prepared rows."""
        checked = prepared.checked
        self.classes_, self.n_features_in_ = checked.classes, checked.rows.shape[1]
        basis, moments, rows = prepared.basis
        weights, width = checked.weights, len(moments)
        cuts = cuts_of_shares(checked.codes, weights, len(self.classes_))
        tail = np.r_[cuts[0], np.log(np.maximum(np.diff(cuts), 1e-3))]
        # In these units the loss curves alike along every direction, so that few steps are enough.
        unit = np.r_[
            1 / np.sqrt(1 / self.C + STEEPEST * moments),
            np.full(len(tail), 1 / np.sqrt(STEEPEST * weights.sum())),
        ]

        def loss(scaled: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
            value, slope = penalised_loss(scaled * unit, rows, checked.codes, weights, self.C)
            return value / self.C, slope * unit / self.C

        found = minimize(
            loss, np.r_[np.zeros(width), tail] / unit, jac=True, method="L-BFGS-B",
            options={"maxiter": self.max_iter, "gtol": self.tol, "ftol": 1e-14, "maxcor": 20},
        )  # fmt: skip
        self.n_iter_ = int(found.nit)
        turned, self.cuts_ = unpack(found.x * unit, width)
        self.coef_ = basis @ turned
        return self

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        self.fit_prepared(PreparedRows(CheckedRows(rows, self.classes_, codes, weights, people)))

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return shares_between(self.cuts_, rows.astype(np.float64) @ self.coef_)

    def _write(self, folder: Path) -> None:
        np.savez(folder / ARRAYS, coef=self.coef_, cuts=self.cuts_)

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.coef_, self.cuts_ = arrays["coef"], arrays["cuts"]


def cuts_of_shares(
    codes: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"], classes: int
) -> Float64[np.ndarray, " cuts"]:
    """Give the cut points of a head that knows how frequent the classes are and nothing else; they rise."""
    share = np.cumsum(np.bincount(codes, weights, minlength=classes))[:-1] / weights.sum()
    clipped = np.clip(share, 1e-3, 1 - 1e-3)
    return np.asarray(np.maximum.accumulate(np.log(clipped / (1 - clipped)) + 1e-3 * np.arange(len(share))))


def shares_between(cuts: Float64[np.ndarray, " cuts"], score: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n k"]:
    """Give the probability of each class for rows of such scores."""
    below = expit(cuts[None, :] - score[:, None])
    return np.diff(np.hstack([np.zeros((len(score), 1)), below, np.ones((len(score), 1))]), axis=1)


def unpack(
    parameters: Float64[np.ndarray, " p"], features: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " cuts"]]:
    """Split into coefficients and cut points; the first cut is free, the logarithms of the gaps follow."""
    tail = parameters[features:]
    return parameters[:features], np.cumsum(np.r_[tail[0], np.exp(tail[1:])])


def penalised_loss(
    parameters: Float64[np.ndarray, " p"],
    x: Float64[np.ndarray, "n d"],
    codes: Int64[np.ndarray, " n"],
    weights: Float64[np.ndarray, " n"],
    strength: float,
) -> tuple[float, Float64[np.ndarray, " p"]]:
    """Give |coef|^2 / 2 + C * weighted negative log-likelihood, and its gradient."""
    coef, cuts = unpack(parameters, x.shape[1])
    score = x @ coef
    edges = np.r_[-np.inf, cuts, np.inf]
    upper, lower = expit(edges[codes + 1] - score), expit(edges[codes] - score)
    probability = np.maximum(upper - lower, SMALLEST)
    by_upper, by_lower = upper * (1 - upper) / probability, lower * (1 - lower) / probability
    loss = coef @ coef / 2 - strength * (weights @ np.log(probability))
    pull = strength * weights
    by_coef = coef + x.T @ (pull * (by_upper - by_lower))
    count = len(cuts)
    by_cut = np.bincount(codes, -pull * by_upper, minlength=count + 1)[:count]
    by_cut += np.bincount(codes, pull * by_lower, minlength=count + 1)[1:]
    by_gap = np.cumsum(by_cut[::-1])[::-1]  # a gap moves every cut above it
    by_tail = np.r_[by_gap[0], by_gap[1:] * np.diff(cuts)]
    return float(loss), np.r_[by_coef, by_tail]
