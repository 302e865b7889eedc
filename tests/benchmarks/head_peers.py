"""What a user would write with scikit-learn instead: common recipes, tuned by Optuna in their usual spaces.

Each tries its fits on the folds of ours, on volumes or on participants' means as the trial draws it, and is judged
by participants: the mean of its scans' log-probabilities.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from heads_measured import macro_auroc
from lightgbm import LGBMClassifier
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from classify.features.table import FeatureTable
from classify.fitting.aggregate import mean_units

Space = Callable[[Any], Any]


class RidgeOnNumber(Ridge):
    """Ridge on the class number; a class is as likely as the number is near to its mean."""

    def fit(self, X: Any, y: Any) -> "RidgeOnNumber":
        super().fit(X, y)
        self.classes_ = np.unique(y)
        found = super().predict(X)
        self.centres_ = np.array([found[y == one].mean() for one in self.classes_])
        self.spread_ = max(float(found.std()), 1e-9)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        away = ((super().predict(X)[:, None] - self.centres_) / self.spread_) ** 2
        return np.exp(log_softmax(-away, axis=1))


class Neighbours(KNeighborsClassifier):
    """Nearest rows, or all where there are fewer."""

    def fit(self, X: Any, y: Any) -> "Neighbours":
        self.n_neighbors = min(self.n_neighbors, len(X))
        super().fit(X, y)
        return self


def _forest(kind: type) -> Space:
    def make(trial: Any) -> Any:
        return kind(
            300, max_features=trial.suggest_float("max_features", 0.02, 0.5, log=True),
            min_samples_leaf=trial.suggest_int("leaf", 1, 20, log=True), random_state=0,
        )  # fmt: skip

    return make


PEERS: Mapping[str, Space] = {
    "LogisticRegression": lambda t: LogisticRegression(C=t.suggest_float("C", 1e-5, 10, log=True), max_iter=500),
    "Ridge on the class number": lambda t: RidgeOnNumber(t.suggest_float("alpha", 1.0, 1e5, log=True)),
    "SVC": lambda t: SVC(
        C=t.suggest_float("C", 1e-2, 100, log=True), gamma=t.suggest_float("gamma", 1e-5, 1e-1, log=True),
        probability=True, random_state=0,
    ),
    "RandomForest": _forest(RandomForestClassifier),
    "ExtraTrees": _forest(ExtraTreesClassifier),
    "HistGradientBoosting": lambda t: HistGradientBoostingClassifier(
        learning_rate=t.suggest_float("rate", 0.01, 0.3, log=True), max_leaf_nodes=t.suggest_int("leaves", 3, 31),
        l2_regularization=t.suggest_float("l2", 1e-3, 10, log=True), max_iter=150, random_state=0,
    ),
    "LightGBM": lambda t: LGBMClassifier(
        n_estimators=t.suggest_int("rounds", 50, 400), learning_rate=t.suggest_float("rate", 0.01, 0.3, log=True),
        num_leaves=t.suggest_int("leaves", 3, 63), min_child_samples=t.suggest_int("child", 5, 50),
        colsample_bytree=t.suggest_float("columns", 0.05, 1.0), subsample=t.suggest_float("rows", 0.4, 1.0),
        subsample_freq=1, reg_lambda=t.suggest_float("l2", 1e-3, 10, log=True), n_jobs=1, verbosity=-1, random_state=0,
    ),
    "MLPClassifier": lambda t: MLPClassifier(
        (t.suggest_int("width", 32, 256, log=True),), alpha=t.suggest_float("alpha", 1e-4, 10, log=True),
        learning_rate_init=t.suggest_float("rate", 1e-4, 1e-2, log=True), max_iter=60, random_state=0,
    ),
    "KNeighbors by cosine": lambda t: Neighbours(t.suggest_int("k", 5, 150, log=True), metric="cosine"),
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The rows that a peer learns from or is judged by; person: of each row."""

    x: np.ndarray
    y: np.ndarray
    person: np.ndarray

    def where(self, here: np.ndarray) -> "Rows":
        return Rows(self.x[here], self.y[here], self.person[here])


def rows_of(table: FeatureTable, *, means: bool) -> Rows:
    """Give raw volumes, or the means of participants."""
    seen = mean_units(table) if means else table
    return Rows(seen.x.astype(np.float64), seen.y, seen.participant)


def search_peer(space: Space, train: FeatureTable, fresh: FeatureTable, fold: Mapping[str, int], seed: int, trials: int,
                ) -> float:  # fmt: skip
    """Tune on the folds (of participants), fit on all of train, and give the macro AUROC of fresh participants."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    both = {means: rows_of(train, means=means) for means in (False, True)}
    made: dict[int, tuple[Any, bool]] = {}

    def score(trial: Any) -> float:
        means = trial.suggest_categorical("means", [True, False])
        model = make_pipeline(StandardScaler(), space(trial))
        made[trial.number] = model, means
        rows = both[means]
        fold_of = np.array([fold[name] for name in rows.person.tolist()])
        parts = [
            judge(clone(model).fit(rows.x[fold_of != k], rows.y[fold_of != k]), rows.where(fold_of == k))
            for k in np.unique(fold_of)
        ]
        label, logits = (np.concatenate(some) for some in zip(*parts, strict=True))
        return macro_auroc(label, logits)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(score, n_trials=trials)
    model, means = made[study.best_trial.number]
    rows = both[means]
    return macro_auroc(*judge(clone(model).fit(rows.x, rows.y), rows_of(fresh, means=means)))


def judge(model: Any, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Give label and mean log-probabilities of each participant."""
    logs = np.log(np.clip(model.predict_proba(rows.x), 1e-12, None))
    _, first, person, count = np.unique(rows.person, return_index=True, return_inverse=True, return_counts=True)
    total = np.zeros((len(first), logs.shape[1]))
    np.add.at(total, person, logs)
    return rows.y[first], total / count[:, None]
