"""What turns a head of classes into one that predicts a number: a standardised target, squared error, one column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_sample_weight, validate_data

from classify.heads.contract import CheckedRows, Head, TrainingRows

NUMBER = "number"


class NumberForm(RegressorMixin):  # type: ignore[misc]  # scikit-learn has no types
    """Stands before a head among the bases of its form for numbers, a scikit-learn regressor.

    fit takes numbers for y; predict gives them back in the same unit, predict_proba the same as [n, 1]. Within, the
    target is standardised by the weighted mean centre_ and deviation spread_ of training.
    """

    is_number = True
    balanced = False
    centre_: float
    spread_: float
    classes_: np.ndarray
    n_features_in_: int

    def _check(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> CheckedRows:
        rows, wanted = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        wanted = np.asarray(wanted, dtype=np.float64)
        weights = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
        self.centre_, self.spread_ = scale_of(wanted, weights)
        people = np.arange(len(wanted)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        codes = (wanted - self.centre_) / self.spread_
        scale = (self.centre_, self.spread_)
        return CheckedRows(rows, np.zeros(1, np.int64), codes, weights, people.astype(np.int64), scale)

    @classmethod
    def fit_grid(
        cls, parts: Sequence[TrainingRows], candidates: Sequence[Mapping[str, Any]], random_state: int
    ) -> list[list[Head]]:
        """Fit every candidate on every part, as Head.fit_grid does."""
        fitted: list[list[Head]] = super().fit_grid(parts, candidates, random_state)
        for part, heads in zip(parts, fitted, strict=True):
            weights = np.ones(len(part.y)) if part.weights is None else part.weights
            for head in heads:
                head.centre_, head.spread_ = scale_of(part.y, weights)
        return fitted

    def fit_prepared(self, prepared: Any) -> Head:
        """Learn from what prepare gave."""
        head: Head = super().fit_prepared(prepared)
        checked = getattr(prepared, "checked", None)
        if checked is not None and checked.scale is not None:  # else fit itself has checked the rows
            self.centre_, self.spread_ = checked.scale
        return head

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "n 1"]:
        """Give the number of each row, as one column. Raises: UsageError for features that are raw."""
        return self._in_unit(super().predict_proba(X))

    def predict_bags(
        self, X: Any, groups: Shaped[np.ndarray, " n"]
    ) -> tuple[Shaped[np.ndarray, " bags"], Float64[np.ndarray, "bags 1"]]:
        """Give the names of the groups, sorted, and the number of each."""
        names, answer = super().predict_bags(X, groups)
        return names, self._in_unit(answer)

    def held_out_proba(self, X: Any) -> Float64[np.ndarray, "n 1"]:
        """Give the number of rows that it was fitted on, by what did not see their participants."""
        return self._in_unit(super().held_out_proba(X))

    def predict(self, X: Any) -> Float64[np.ndarray, " n"]:
        """Give the number of each row."""
        return np.asarray(self.predict_proba(X)[:, 0])

    def _in_unit(self, answer: Float64[np.ndarray, "n 1"]) -> Float64[np.ndarray, "n 1"]:
        return np.asarray(self.centre_ + self.spread_ * answer)

    def _scale(self) -> dict[str, Any]:
        return {"kind": NUMBER, "centre": self.centre_, "spread": self.spread_}

    def _take_scale(self, state: Mapping[str, Any]) -> None:
        self.centre_, self.spread_ = state["centre"], state["spread"]
        if type(self.centre_) is not float or type(self.spread_) is not float or self.spread_ <= 0:
            raise ValueError(f"expected a centre and a positive spread, got {self.centre_!r} and {self.spread_!r}")
        if self.classes_.tolist() != [0]:
            raise ValueError("expected one column of a number, got classes")


def scale_of(y: Shaped[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the weighted mean and standard deviation of a target. Raises: ValueError where it does not vary."""
    wanted = np.asarray(y, dtype=np.float64)
    centre = float(wanted @ weights / weights.sum())
    spread = float(np.sqrt((wanted - centre) ** 2 @ weights / weights.sum()))
    if not spread > 1e-12 * max(1e-300, float(np.abs(wanted).max())):
        rows = "every row" if len(wanted) > 1 else "one sample"
        raise ValueError(f"expected numbers that differ, got {wanted[0]:g} in {rows}")
    return centre, spread
