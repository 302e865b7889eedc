"""Small models of a few covariates: a straight, a curved, a crossed and a boosted one, the best chosen inside train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer

from classify.fitting.aggregate import SMALLEST_PROBABILITY

Kinds = Mapping[str, Callable[[], Any]]
"""What makes an unfitted model, by the name of its kind."""

FOLDS = 5
KNOTS = 5
FURTHEST = 2.5
"""Standard deviations from the mean beyond which a curve stays flat: single values do not bend it."""


@dataclass(frozen=True)
class CovariateModel:
    """A fitted model of covariates. kind: its name among those tried; classes: of the task, 0 where it is a number."""

    kind: str
    fitted: Any
    classes: int

    def logits(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        """Give log-probabilities of the classes, or the number as one column."""
        if not self.classes:
            return np.asarray(self.fitted.predict(x), dtype=np.float64).reshape(len(x), 1)
        return np.asarray(np.log(self.probability(x)))

    def probability(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        """Give class probabilities; a class that train did not hold gets next to nothing."""
        found = np.full((len(x), self.classes), SMALLEST_PROBABILITY)
        found[:, self.fitted.classes_] = np.clip(self.fitted.predict_proba(x), SMALLEST_PROBABILITY, None)
        return np.asarray(found / found.sum(axis=1, keepdims=True))


def fit_covariates(
    x: Float64[np.ndarray, "n d"],
    label: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
    *,
    classes: int,
    kinds: Kinds | None = None,
    seed: int = 0,
) -> CovariateModel:
    """Fit each of the kinds (by default KINDS), and keep that of the smallest class-balanced log-loss over folds.

    classes 0: label is a number, the kinds are NUMBER_KINDS, and the loss is the squared error.

    x: standardised numbers and columns of 0 and 1, one line a participant, nothing missing. Where a class has one
    participant no fold can be made: the first kind is taken, the straight one. Kinds of one name are one kind.
    """
    known = kinds or (KINDS if classes else NUMBER_KINDS)
    told = repr((x.shape, label.dtype, classes, tuple(known), seed)).encode()
    digest = sha256(told + x.tobytes() + label.tobytes()).digest()
    return _fitted(_Asked(digest, partial(_fit, known, x, label, classes, seed)))


@dataclass(frozen=True)
class _Asked:
    """A fit by the digest of all that it depends on. make: fits it."""

    digest: bytes
    make: Callable[[], CovariateModel] = field(compare=False)


@lru_cache(maxsize=32)
def _fitted(asked: _Asked) -> CovariateModel:
    """Fit, or give what the same was fitted to before: every cell of a comparison has the same floors."""
    return asked.make()


def _fit(known: Kinds, x: Any, label: Any, classes: int, seed: int) -> CovariateModel:
    kind = (_choose if classes else _choose_for_number)(known, x, label, seed)
    return CovariateModel(kind, known[kind]().fit(x, label), classes)


def _choose(kinds: Kinds, x: Float64[np.ndarray, "n d"], label: Int64[np.ndarray, " n"], seed: int) -> str:
    smallest = int(np.unique(label, return_counts=True)[1].min())
    if smallest < 2:
        return next(iter(kinds))
    folds = list(StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=seed).split(x, label))
    loss = {name: _out_of_fold_loss(make, x, label, folds) for name, make in kinds.items()}
    return min(loss, key=lambda name: loss[name])


def _out_of_fold_loss(
    make: Callable[[], Any], x: Float64[np.ndarray, "n d"], label: Int64[np.ndarray, " n"], folds: list[Any]
) -> float:
    loss = np.zeros(len(label))
    for fitted_on, judged in folds:
        model = CovariateModel("", make().fit(x[fitted_on], label[fitted_on]), int(label.max()) + 1)
        loss[judged] = -np.log(model.probability(x[judged])[np.arange(len(judged)), label[judged]])
    return float(np.mean([loss[label == one].mean() for one in np.unique(label)]))


def _choose_for_number(
    kinds: Kinds, x: Float64[np.ndarray, "n d"], wanted: Float64[np.ndarray, " n"], seed: int
) -> str:
    """Give the kind with the smallest squared error over folds of people; the first one where there are too few."""
    if len(wanted) < 2 * FOLDS:
        return next(iter(kinds))
    folds = list(KFold(FOLDS, shuffle=True, random_state=seed).split(x))
    loss = {
        name: sum(float(((make().fit(x[a], wanted[a]).predict(x[b]) - wanted[b]) ** 2).sum()) for a, b in folds)
        for name, make in kinds.items()
    }
    return min(loss, key=lambda name: loss[name])


def _straight() -> Any:
    return LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")


def line_of_number() -> Any:
    """Make the straight model of a number."""
    return Ridge(alpha=1.0)


def _curved(straight: Callable[[], Any] = _straight) -> Any:
    return make_pipeline(
        FunctionTransformer(_clip), SplineTransformer(n_knots=KNOTS, degree=3, extrapolation="constant"), straight()
    )


class _Crossed:
    """A curve of each number, and another in each group of people that a column of 0 and 1 marks, such as a site."""

    def __init__(self, straight: Callable[[], Any] = _straight) -> None:
        self._straight = straight

    def fit(self, x: Float64[np.ndarray, "n d"], label: Shaped[np.ndarray, " n"]) -> "_Crossed":
        varies = np.ptp(x, axis=0) > 0
        self._groups = varies & np.isin(x, (0.0, 1.0)).all(axis=0)
        self._numbers = varies & ~self._groups
        self._crosses = bool(self._groups.any() and self._numbers.any())
        if self._crosses:
            self._curve = SplineTransformer(n_knots=KNOTS, degree=3, extrapolation="constant")
            self._curve.fit(_clip(x[:, self._numbers]))
        self._model = self._straight().fit(self._columns(x), label)
        self.classes_ = getattr(self._model, "classes_", np.array([]))
        return self

    def predict_proba(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        return np.asarray(self._model.predict_proba(self._columns(x)), dtype=np.float64)

    def predict(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return np.asarray(self._model.predict(self._columns(x)), dtype=np.float64)

    def _columns(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n c"]:
        if not self._crosses:
            return x
        curves = self._curve.transform(_clip(x[:, self._numbers]))
        within = x[:, self._groups, None] * curves[:, None, :]
        return np.hstack([x, curves, within.reshape(len(x), -1)])


BOOSTED: Mapping[str, Any] = {
    "n_estimators": 60, "learning_rate": 0.1, "num_leaves": 6, "min_child_samples": 8, "reg_lambda": 1.0, "n_jobs": 1,
    "random_state": 0, "deterministic": True, "force_row_wise": True, "verbose": -1,
}  # fmt: skip


def _boosted() -> Any:
    from lightgbm import LGBMClassifier  # slow to import, and not needed where no baseline is fitted

    return _OnArrays(LGBMClassifier(class_weight="balanced", **BOOSTED))


def _boosted_number() -> Any:
    from lightgbm import LGBMRegressor

    return _OnArrays(LGBMRegressor(**BOOSTED))


class _OnArrays:
    """LightGBM without names of columns, about which scikit-learn would warn."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def fit(self, x: Float64[np.ndarray, "n d"], label: Shaped[np.ndarray, " n"]) -> "_OnArrays":
        self._model.fit(x, label)
        self.classes_ = getattr(self._model, "classes_", np.array([]))
        return self

    def predict(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return np.asarray(self._model.predict(x, validate_features=False), dtype=np.float64)

    def predict_proba(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        return np.asarray(self._model.predict_proba(x, validate_features=False), dtype=np.float64)


def _clip(x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    return np.asarray(np.clip(x, -FURTHEST, FURTHEST))


KINDS: Kinds = {"straight": _straight, "curved": _curved, "crossed": _Crossed, "boosted": _boosted}

NUMBER_KINDS: Kinds = {
    "straight": line_of_number,
    "curved": partial(_curved, line_of_number),
    "crossed": partial(_Crossed, line_of_number),
    "boosted": _boosted_number,
}
