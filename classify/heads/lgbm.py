"""Gradient-boosted trees (LightGBM) with settings that are safe for hundreds of participants."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from classify.heads.contract import ARRAYS, CheckedRows, Head, TrainingRows
from classify.heads.lgbm_order import OrderedLoss
from classify.heads.lgbm_text import check_trees
from classify.heads.ordinal import shares_between
from classify.heads.principal import Components, find_components
from classify.model_files import read_arrays

MODEL = "head.lightgbm.txt"
MAX_BIN = 15
"""Embeddings need no finer cuts. Finding a split costs about as much as there are bins, when a leaf holds few rows:
31 are three to four times as fast as LightGBM's 255, and 15 are 1.2 times as fast as 31, with equal scores (over 30
pairs of fits on the participants of tests/benchmarks/bench_lightgbm.py, macro AUROC +0.0001 +- 0.0007)."""

BINNED_BY = 20_000
"""Rows that the cuts of a feature are learned from: all of them are in float64 for a moment."""

ASKED_AT_ONCE = 4096
"""Rows that LightGBM is asked of at once, of which it makes a copy."""


class PreparedTrees:
    """Checked rows and, from the first fit on, their bins: made once for each number of components (0: none)."""

    def __init__(self, checked: CheckedRows) -> None:
        self.checked = checked
        self._all: Components | None = None
        self._binned: dict[int, tuple[Components | None, Any]] = {}

    def binned(self, pca: int) -> tuple[Components | None, Any]:
        """Give the components that the rows are turned to, and LightGBM's data set of the turned rows."""
        if pca not in self._binned:
            components = self._components(pca) if pca else None
            rows = self.checked.rows if components is None else components.project(self.checked.rows)
            self._binned[pca] = components, self._bin(rows)
        return self._binned[pca]

    def _components(self, pca: int) -> Components:
        if self._all is None:
            self._all = find_components(self.checked.rows, self.checked.weights)
        return self._all.first(pca)

    def _bin(self, rows: Float[np.ndarray, "n d"]) -> Any:
        import lightgbm

        scaled = self.checked.weights / self.checked.weights.mean()  # lambda_l2 means the same whatever they sum to
        settings = {  # leaf sizes differ by trial, so nothing is filtered by them
            "max_bin": MAX_BIN, "bin_construct_sample_cnt": BINNED_BY, "feature_pre_filter": False, "num_threads": 1,
            "verbosity": -1,
        }  # fmt: skip
        return lightgbm.Dataset(rows, label=self.checked.codes, weight=scaled, params=settings).construct()


class LgbmHead(Head):
    """LightGBM, softmax objective, a fixed number of rounds: nothing is held back, so nothing can leak.

    Defaults are for few participants and many features: small trees, large leaves, a tenth of the features a tree.
    min_child_share: smallest leaf, as a share of the training rows. pca: how many principal components of the
    training rows to take in place of the features; 0 for the features themselves. ordered: whether the classes lie in
    their order along one score, which one tree a round raises or lowers, with cut points between them; else a tree a
    round for each class. Learned: booster_, components_ and, where ordered, cuts_ [k-1] (None where nothing varies).
    """

    name = "lgbm"
    fits_aside = True
    booster_: Any
    components_: Components | None
    cuts_: Float64[np.ndarray, " cuts"] | None = None

    def __init__(
        self,
        *,
        n_estimators: int = 150,
        learning_rate: float = 0.05,
        num_leaves: int = 7,
        min_child_share: float = 0.02,
        feature_fraction: float = 0.1,
        bagging_fraction: float = 0.7,
        lambda_l2: float = 10.0,
        pca: int = 0,
        ordered: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_share = min_child_share
        self.feature_fraction = feature_fraction
        self.bagging_fraction = bagging_fraction
        self.lambda_l2 = lambda_l2
        self.pca = pca
        self.ordered = ordered
        self.random_state = random_state

    @classmethod
    def prepare(cls, part: TrainingRows) -> PreparedTrees:
        """Check the rows; they are binned at the first fit."""
        return PreparedTrees(cls()._check(part.x, part.y, part.weights, part.groups))

    def fit_prepared(self, prepared: PreparedTrees) -> Head:
        """Learn from prepared rows. Raises: ValueError for an order of the classes of a number, which has none."""
        import lightgbm

        if self.ordered and self.is_number:
            raise ValueError(f"{type(self).__name__}: expected ordered=False, a number has no classes")
        checked = prepared.checked
        self.classes_, self.n_features_in_ = checked.classes, checked.rows.shape[1]
        self.components_, data = prepared.binned(self.pca)
        settings = self._settings(len(checked.rows))
        self.cuts_ = None
        # Where no feature varies, LightGBM takes no loss but its own, which says how frequent the classes are.
        if self.ordered and any(data.feature_num_bin(number) for number in range(data.num_feature())):
            return self._fit_order(checked, data, settings)
        # Without keep_training_booster, LightGBM writes every model as text and reads it again: a quarter of the time.
        self.booster_ = lightgbm.train(settings, data, num_boost_round=self.n_estimators, keep_training_booster=True)
        return self

    def _fit_order(self, checked: CheckedRows, data: Any, settings: dict[str, Any]) -> Head:
        import lightgbm

        loss = OrderedLoss(checked.codes, checked.weights / checked.weights.mean(), len(checked.classes))
        self.booster_ = lightgbm.Booster({**settings, "objective": "none", "num_class": 1}, data)
        for _ in range(self.n_estimators):
            self.booster_.update(fobj=loss)
        self.cuts_ = loss.cuts
        return self

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        self.fit_prepared(PreparedTrees(CheckedRows(rows, self.classes_, codes, weights, people)))

    def _settings(self, n_rows: int) -> dict[str, Any]:
        return {
            **(
                {"objective": "regression"}
                if self.is_number
                else {"objective": "multiclass", "num_class": len(self.classes_)}
            ),
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": max(1, round(self.min_child_share * n_rows)),
            "min_sum_hessian_in_leaf": 1e-3,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": 1,
            "lambda_l2": self.lambda_l2,
            "max_bin": MAX_BIN,
            "feature_pre_filter": False,
            "num_threads": 1,
            "deterministic": True,
            "force_col_wise": True,  # faster where a tree sees few of the features
            "seed": 0 if self.random_state is None else self.random_state,
            "verbosity": -1,
        }

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        firsts = range(0, max(1, len(rows)), ASKED_AT_ONCE)
        found = np.concatenate([self._scores_of(rows[first : first + ASKED_AT_ONCE]) for first in firsts])
        if self.cuts_ is not None:
            return shares_between(self.cuts_, found)
        return found.reshape(len(rows), len(self.classes_))

    def _scores_of(self, rows: np.ndarray) -> np.ndarray:
        turned = rows if self.components_ is None else self.components_.project(rows)
        return np.asarray(self.booster_.predict(turned, num_threads=1))

    def _scale(self) -> dict[str, Any]:
        return {} if self.cuts_ is None else {"cuts": self.cuts_.tolist()}

    def _take_scale(self, state: Mapping[str, Any]) -> None:
        """Read the cut points too. Raises: ValueError where they are no rising numbers between the classes."""
        self.cuts_ = np.asarray(state["cuts"], dtype=np.float64) if "cuts" in state else None
        if self.cuts_ is not None and not (
            self.cuts_.shape == (len(self.classes_) - 1,)
            and np.isfinite(self.cuts_).all()
            and (np.diff(self.cuts_) > 0).all()
        ):
            raise ValueError(f"expected {len(self.classes_) - 1} rising cut points, got {state['cuts']}")

    def _write(self, folder: Path) -> None:
        (folder / MODEL).write_text(self.booster_.model_to_string())
        if self.components_ is not None:
            np.savez(folder / ARRAYS, mean=self.components_.mean, directions=self.components_.directions)

    def _read(self, folder: Path) -> None:
        import lightgbm

        self.components_, features = None, self.n_features_in_
        if self.pca:
            arrays = read_arrays(folder / ARRAYS)
            self.components_ = Components(arrays["mean"], arrays["directions"])
            features = len(self.components_.directions)
        checked = check_trees(
            (folder / MODEL).read_text(encoding="utf-8"),
            classes=len(self.classes_), features=features, most_rounds=self.n_estimators,
            ordered=self.cuts_ is not None,
        )  # fmt: skip
        self.booster_ = lightgbm.Booster(model_str=checked)
