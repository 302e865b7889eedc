"""The heads that predict a number as they predict classes: the same learners, by squared error."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.attentive import AttentiveHead
from classify.heads.dummy import DummyHead
from classify.heads.knn import KnnHead
from classify.heads.lgbm import LgbmHead
from classify.heads.mil import MilHead
from classify.heads.mlp import MlpHead
from classify.heads.number_form import NumberForm


class DummyNumber(NumberForm, DummyHead):
    """Predict the weighted mean of training for everybody."""

    def _fit(
        self,
        rows: np.ndarray,  # noqa: ARG002 - a dummy does not look
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002
    ) -> None:
        self.prior_ = np.array([codes @ weights / weights.sum()])


class LgbmNumber(NumberForm, LgbmHead):
    """LightGBM with squared error."""


class MlpNumber(NumberForm, MlpHead):
    """The perceptron with one output."""


class KnnNumber(NumberForm, KnnHead):
    """Weighted mean of the nearest training rows, with one vote that says the mean of all."""

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        member = np.column_stack([self.weights_ * self.codes_, self.weights_])
        total, heaviness = self._count(rows, member, self.weights_.sum()).T
        return np.asarray(total / heaviness)[:, None]


class AttentiveNumber(NumberForm, AttentiveHead):
    """The attentive probe with one output."""

    def gradients(self, X: Any) -> Float64[np.ndarray, "n 1 tokens C"]:
        """Give how the number, in its own unit, changes with each number of each token."""
        return np.asarray(self.spread_ * super().gradients(X))


class MilNumber(NumberForm, MilHead):
    """The bag head with one output."""
