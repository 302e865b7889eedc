"""Boosted trees for ordered classes: one score, and cut points that move with it (as McCullagh 1980)."""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit

from classify.heads.ordinal import SMALLEST, cuts_of_shares

STEADY = 1e-6
"""Of all weight, added to the curvature along a cut: a class without weight has none of its own."""


class OrderedLoss:
    """Negative log-likelihood of classes between cut points, for LightGBM: gradient and curvature by the score.

    Each call first moves the cuts by a step of Newton. cuts: [k-1], rising; weights sum to what they come with.
    """

    def __init__(self, codes: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"], classes: int) -> None:
        self.codes, self.weights = codes, weights
        self.cuts = cuts_of_shares(codes, weights, classes)

    def __call__(
        self, score: Float64[np.ndarray, " n"], _: object
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Give both for the score of each row, with its weight in them."""
        self._settle(score)
        upper, lower = self._edges(score)
        return self.weights * (1 - upper - lower), self.weights * (upper * (1 - upper) + lower * (1 - lower))

    def _edges(self, score: Float64[np.ndarray, " n"]) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        edges = np.r_[-np.inf, self.cuts, np.inf]
        return expit(edges[self.codes + 1] - score), expit(edges[self.codes] - score)

    def _settle(self, score: Float64[np.ndarray, " n"]) -> None:
        """Move the cuts towards where they are likeliest; a step after which they would not rise is not taken."""
        upper, lower = self._edges(score)
        share = np.maximum(upper - lower, SMALLEST)
        by_upper, by_lower = upper * (1 - upper) / share, lower * (1 - lower) / share
        slope = self._sum(by_lower)[1:] - self._sum(by_upper)[:-1]
        curve = np.diag(
            self._sum(by_upper * (by_upper - (1 - 2 * upper)))[:-1]
            + self._sum(by_lower * (by_lower + (1 - 2 * lower)))[1:]
            + STEADY * self.weights.sum()
        )
        between = -self._sum(by_upper * by_lower)[1:-1]  # of a class with a cut on either side
        curve += np.diag(between, 1) + np.diag(between, -1)
        moved = self.cuts - np.linalg.solve(curve, slope)
        if (np.diff(moved) > 0).all():
            self.cuts = moved

    def _sum(self, of_rows: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " k"]:
        return np.bincount(self.codes, self.weights * of_rows, minlength=len(self.cuts) + 1)
