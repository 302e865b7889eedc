"""P7: SHAP values of a LightGBM and of a linear head as reports compute them, against the shap package."""

import warnings
from functools import partial

import numpy as np
from comparison import Goal, Row, time_row
from settings import Settings
from side_by_side import in_turn

from classify.heads.lgbm import LgbmHead
from classify.heads.linear import LinearHead
from reports.explain import ShapValues, explain_linear, explain_trees

CLASSES, TRAINED_ON = 4, 400
TOLERANCE = 1e-6


def measure(settings: Settings) -> list[Row]:
    rows, width = (200, 32) if settings.quick else (25_000, 768)
    rng = np.random.default_rng(0)
    label = np.arange(TRAINED_ON) % CLASSES
    train = rng.normal(size=(TRAINED_ON, width)) + 0.3 * label[:, None] * (np.arange(width) < 8)
    x = rng.normal(size=(rows, width))
    rounds = 1 if settings.quick else 3
    few = rows if settings.full else min(rows, 4000)  # the peer needs about 2 ms a row
    return [_trees(train, label, x[:few], rounds), _linear(train, label, x, rounds)]


def _trees(train: np.ndarray, label: np.ndarray, x: np.ndarray, rounds: int) -> Row:
    head = LgbmHead().fit(train, label)
    timed = in_turn(
        partial(explain_trees, head.booster_, x), partial(_shap_trees, head.booster_, x), rounds=rounds, agree=_equal
    )
    work = f"SHAP of LightGBM ({head.n_estimators} rounds, {CLASSES} classes, {head.num_leaves} leaves), {_size(x)}"
    return time_row(timed, id="P7", work=work, peer="shap.TreeExplainer", goal=Goal(ratio=1.0))


def _linear(train: np.ndarray, label: np.ndarray, x: np.ndarray, rounds: int) -> Row:
    head = LinearHead().fit(train, label)
    timed = in_turn(
        lambda: explain_linear(head.coef_, head.intercept_, x.mean(axis=0), x),
        partial(_shap_linear, head, x),
        rounds=rounds,
        agree=_equal,
    )
    work = f"SHAP of the linear head ({CLASSES} classes), {_size(x)}"
    return time_row(timed, id="P7", work=work, peer="shap.LinearExplainer", goal=Goal(ratio=4.0))


def _shap_trees(booster: object, x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import TreeExplainer

        return np.asarray(TreeExplainer(booster).shap_values(x))


def _shap_linear(head: LinearHead, x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import LinearExplainer
        from shap.maskers import Independent

        explainer = LinearExplainer((head.coef_, head.intercept_), Independent(x, max_samples=len(x)))
        return np.asarray(explainer.shap_values(x))


def _equal(ours: ShapValues, peer: np.ndarray) -> str:
    deviation = float(np.abs(ours.values - peer.transpose(0, 2, 1)).max())
    assert deviation <= TOLERANCE, f"SHAP values differ by {deviation}"
    return f"values equal to {deviation:.1e}; they add up to the score to {ours.gap:.1e}"


def _size(x: np.ndarray) -> str:
    return f"{x.shape[0]} x {x.shape[1]}, random"
