"""Gradient-boosted trees (LightGBM) with settings that are safe for hundreds of participants."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.contract import Head

MODEL = "head.lightgbm.txt"
MAX_BIN = 63
"""Embeddings need no finer cuts, and 63 bins fit a byte twice: about twice as fast as 255."""


class LgbmHead(Head):
    """LightGBM, softmax objective, a fixed number of rounds: nothing is held back, so nothing can leak.

    Defaults are for few participants and many features: small trees, large leaves, a tenth of the features a tree.
    min_child_share: smallest leaf, as a share of the training rows.
    """

    name = "lgbm"
    booster_: Any

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
        random_state: int | None = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_share = min_child_share
        self.feature_fraction = feature_fraction
        self.bagging_fraction = bagging_fraction
        self.lambda_l2 = lambda_l2
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002 - nothing is held back
    ) -> None:
        import lightgbm

        settings = self._settings(len(rows))
        scaled = weights / weights.mean()  # lambda_l2 means the same whatever the weights sum to
        data = lightgbm.Dataset(rows, label=codes, weight=scaled, params={"max_bin": MAX_BIN, "verbosity": -1})
        self.booster_ = lightgbm.train(settings, data, num_boost_round=self.n_estimators)

    def _settings(self, n_rows: int) -> dict[str, Any]:
        return {
            "objective": "multiclass",
            "num_class": len(self.classes_),
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": max(1, round(self.min_child_share * n_rows)),
            "min_sum_hessian_in_leaf": 1e-3,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": 1,
            "lambda_l2": self.lambda_l2,
            "max_bin": MAX_BIN,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": 0 if self.random_state is None else self.random_state,
            "verbosity": -1,
        }

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster_.predict(rows, num_threads=1))

    def _write(self, folder: Path) -> None:
        (folder / MODEL).write_text(self.booster_.model_to_string())

    def _read(self, folder: Path) -> None:
        import lightgbm

        self.booster_ = lightgbm.Booster(model_str=(folder / MODEL).read_text())
