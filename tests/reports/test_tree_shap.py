"""Tabulated tree SHAP equals LightGBM's own, and leaves to LightGBM what it cannot tabulate."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import tree_shap
from reports.explain import explain_trees
from reports.tree_shap import DEEPEST, forest_shap, read_forest


def fit_trees(
    x: np.ndarray, y: np.ndarray, leaves: int, *, categories: tuple[int, ...] = (), **more: object
) -> lightgbm.Booster:
    told = {"objective": "multiclass", "num_class": int(y.max()) + 1, "num_leaves": leaves, "min_data_in_leaf": 5}
    quiet = {"verbosity": -1, "num_threads": 1, "seed": 0}
    data = lightgbm.Dataset(x, label=y, categorical_feature=list(categories))
    return lightgbm.train(told | quiet | more, data, num_boost_round=8)


def of_lightgbm(booster: lightgbm.Booster, x: np.ndarray) -> np.ndarray:
    return np.asarray(booster.predict(x, pred_contrib=True)).reshape(len(x), -1, x.shape[1] + 1)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000), leaves=st.integers(2, DEEPEST + 1), features=st.integers(1, 6), classes=st.integers(2, 4)
)
def test_values_are_those_of_lightgbm(seed: int, leaves: int, features: int, classes: int) -> None:
    """Few features: a path asks about the same one several times. Rounded: rows lie on thresholds."""
    rng = np.random.default_rng(seed)
    x, y = np.round(rng.normal(size=(120, features)), 1), rng.permutation(120) % classes
    booster = fit_trees(x, y, leaves)
    forest = read_forest(booster.dump_model())
    assert forest is not None
    theirs = of_lightgbm(booster, x)
    np.testing.assert_allclose(forest_shap(forest, x), theirs[:, :, :-1], atol=1e-12)
    np.testing.assert_allclose(forest.expected, theirs[0, :, -1], atol=1e-12)


def test_rows_in_blocks_are_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 5)), np.arange(100) % 3
    forest = read_forest(fit_trees(x, y, 7).dump_model())
    assert forest is not None
    whole = forest_shap(forest, x)
    monkeypatch.setattr(tree_shap, "ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(forest_shap(forest, x), whole)


def test_a_deep_tree_is_left_to_lightgbm() -> None:
    x = np.exp(np.linspace(0, 30, 400))[:, None]
    y = (np.arange(400) % 2).astype(int)
    booster = fit_trees(x, y, 60, min_data_in_leaf=1, max_bin=255)
    assert read_forest(booster.dump_model()) is None
    np.testing.assert_array_equal(explain_trees(booster, x).values, of_lightgbm(booster, x)[:, :, :-1])


def test_categories_missing_values_and_averages_are_left_to_lightgbm() -> None:
    rng = np.random.default_rng(0)
    x, y = np.abs(np.round(rng.normal(size=(200, 2)) * 3)), np.arange(200) % 2
    x[:, 0] += y
    assert read_forest(fit_trees(x, y, 7, categories=(0,), min_data_per_group=1).dump_model()) is None
    assert read_forest(fit_trees(x, y, 7, boosting="rf", bagging_freq=1, bagging_fraction=0.5).dump_model()) is None
    booster = fit_trees(x, y, 7)
    holes = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    np.testing.assert_array_equal(explain_trees(booster, holes).values, of_lightgbm(booster, holes)[:, :, :-1])
    assert read_forest(fit_trees(holes, y, 7).dump_model()) is None
