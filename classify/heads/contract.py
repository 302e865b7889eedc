"""What every head is: a scikit-learn classifier that saves itself without pickle."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from classify.features.standardise import Standardiser
from classify.model_files import check_finite, read_object, readable
from embeddings_store.errors import UsageError
from embeddings_store.frame import FEATURES, RAW
from embeddings_store.regular_file import require_regular_below

STATE = "head.json"
ARRAYS = "head.npz"
MOST_FEATURES = 100_000_000
WANTS_STANDARDISED = (
    "head: expected features standardised within protocol, got raw ones, for which its answer would be wrong; "
    "octprobe.load_run(folder).predict(snapshot) does all that the command does"
)


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What one fit sees: rows and labels, and where they matter weights and the participant of each row."""

    x: Float[np.ndarray, "n d"]
    y: Shaped[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"] | None = None
    groups: Shaped[np.ndarray, " n"] | None = None


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The same, parsed: class codes from 0 into classes, participants as numbers, nothing missing.

    Of a number, codes are standardised, scale is their mean and deviation, classes is [0]: the one column of answers.
    """

    rows: Float[np.ndarray, "n d"]
    classes: np.ndarray
    codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"]
    people: Int64[np.ndarray, " n"]
    scale: tuple[float, float] | None = None


class Head(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier over feature rows; a head adds its parameters, _fit, _probability, _write and _read.

    fit(X [n,d], y [n], sample_weight [n], groups [n]): groups names the participant of each row, for heads that
    hold some rows back. predict_proba(X) -> float64 [n, k]. Learned: classes_, n_features_in_.
    """

    name: str
    balanced = True  # whether the classes should weigh the same when it learns
    pools_scans = False  # whether it takes all scans of an eye or participant at once, by predict_bags
    keeps_rows = False  # whether it is saved with rows of training participants in it
    is_number = False  # whether it predicts a number, see number_form
    fits_aside = False  # whether a fit uses one core and leaves Python alone, so that threads may fit side by side
    sketch: Mapping[str, Any] = MappingProxyType({})  # parameters of fits that candidates of a search are compared by
    holds_back = False  # whether parts of it saw no row of some participants, and predict these by held_out_proba
    reads_tokens = False  # whether its rows are patch tokens side by side, as many as its parameter ``tokens`` says
    most_tokens: int | None = None  # of a volume, where no grid is asked for; None: as many as features.tokens says
    classes_: np.ndarray
    n_features_in_: int
    standardiser_: Standardiser | None = None  # of the run whose head was read alone

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "Head":
        """Learn from feature rows. Raises: ValueError where rows, labels or weights cannot be used."""
        checked = self._check(X, y, sample_weight, groups)
        self.classes_ = checked.classes
        self._fit(checked.rows, checked.codes, checked.weights, checked.people)
        return self

    def _check(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> CheckedRows:
        """Parse what fit was given, and note the features. Raises: ValueError."""
        rows, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"{type(self).__name__} needs labels of at least two classes, got one class")
        weights = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
        people = np.arange(len(codes)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        return CheckedRows(rows, classes, codes.astype(np.int64), weights, people.astype(np.int64))

    @classmethod
    def prepare(cls, part: TrainingRows) -> Any:
        """Do once what every fit on these rows shares, whatever the parameters; what comes goes to fit_prepared."""
        return part

    def fit_prepared(self, prepared: Any) -> "Head":
        """Learn from what prepare gave: the same head as fit on its rows. Raises: ValueError as fit does."""
        return self.fit(prepared.x, prepared.y, prepared.weights, prepared.groups)

    @classmethod
    def fit_grid(
        cls, parts: Sequence[TrainingRows], candidates: Sequence[Mapping[str, Any]], random_state: int
    ) -> list[list["Head"]]:
        """Fit every candidate's parameters on every part: fitted[part][candidate], each the same as by fit."""
        prepared = [cls.prepare(part) for part in parts]
        return [
            [cls(random_state=random_state, **candidate).fit_prepared(one) for candidate in candidates]
            for one in prepared
        ]

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "n k"]:
        """Give the probability of each class of classes_. Raises: UsageError for features that are raw."""
        if getattr(X, "attrs", {}).get(FEATURES) == RAW:
            raise UsageError(WANTS_STANDARDISED)
        check_is_fitted(self, "classes_")
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        if self.standardiser_ is not None and self.standardiser_.looks_raw(rows):
            raise UsageError(WANTS_STANDARDISED)
        return np.asarray(self._probability(rows), dtype=np.float64)

    def predict_bags(
        self, X: Any, groups: Shaped[np.ndarray, " n"]
    ) -> tuple[Shaped[np.ndarray, " bags"], Float64[np.ndarray, "bags k"]]:
        """Give the names of the groups, sorted, and the probability of each class of classes_ for the rows of each.

        Raises: NotImplementedError where the head does not pool scans.
        """
        raise NotImplementedError(f"{type(self).__name__} predicts rows; pools_scans is False")

    def held_out_proba(self, X: Any) -> Float64[np.ndarray, "n k"]:
        """Give the probability of each class for rows that it was fitted on, by what did not see their participants.

        NaN for a row that every part of the head saw. Raises: NotImplementedError where holds_back is False.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from all rows at once; holds_back is False")

    def predict(self, X: Any) -> np.ndarray:
        """Give the most probable class."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[likeliest])

    def save(self, folder: Path) -> None:
        """Write the head as JSON and plain arrays."""
        check_is_fitted(self, "classes_")
        state = {
            "head": self.name,
            "parameters": self.get_params(),
            "classes": self.classes_.tolist(),
            "features": self.n_features_in_,
            **self._scale(),
        }
        (folder / STATE).write_text(json.dumps(state, indent=2))
        self._write(folder)

    def load(self, folder: Path) -> "Head":
        """Become the head that save wrote, asked of one row before it is believed. Raises: RunFolderError."""
        state = read_object(folder / STATE)
        with readable(f"{folder.name}/{STATE}"):
            require_regular_below(folder)
            self._take_parameters(state["parameters"])
            self.classes_, self.n_features_in_ = np.asarray(state["classes"]), state["features"]
            if (
                self.classes_.dtype != np.int64
                or self.classes_.ndim != 1
                or (np.diff(self.classes_, prepend=-1) < 1).any()
            ):
                raise ValueError("expected class numbers in their order")
            if type(self.n_features_in_) is not int or not 0 < self.n_features_in_ <= MOST_FEATURES:
                raise ValueError(f"expected 1 to {MOST_FEATURES} features, got {self.n_features_in_}")
            self._take_scale(state)
            self._read(folder)
            answer = self._probability(np.zeros((1, self.n_features_in_)))
            if answer.shape != (1, len(self.classes_)):
                raise ValueError(f"expected an answer for {len(self.classes_)} classes, got one of {answer.shape}")
            check_finite("its answer to a row of zeros", answer)
        return self

    def _take_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Read the parameters of a folder."""
        self.set_params(**parameters)

    def _scale(self) -> dict[str, Any]:
        """Give what head.json says as well: of a number its scale."""
        return {}

    def _take_scale(self, state: Mapping[str, Any]) -> None:
        """Read what _scale gave."""

    @abstractmethod
    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        """Learn from rows, class codes from 0, weights and participants, all checked."""

    @abstractmethod
    def _probability(self, rows: np.ndarray) -> np.ndarray:
        """Give float64 [n, k] for float64 rows [n, d]."""

    @abstractmethod
    def _write(self, folder: Path) -> None:
        """Write what was learned, beside the parameters."""

    @abstractmethod
    def _read(self, folder: Path) -> None:
        """Read what _write wrote."""


def softmax(logits: Float64[np.ndarray, "... k"]) -> Float64[np.ndarray, "... k"]:
    """Turn logits into probabilities, row by row. One column is no class but a number, which stays what it is."""
    if logits.shape[-1] == 1:
        return logits
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
