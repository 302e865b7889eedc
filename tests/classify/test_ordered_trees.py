"""Trees that know the order of the classes: their loss, what the order is worth, when it is searched, their folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from classify.errors import RunFolderError
from classify.heads import HEADS, find_head, load_head
from classify.heads.contract import STATE
from classify.heads.lgbm import LgbmHead
from classify.heads.lgbm_order import OrderedLoss
from classify.heads.ordinal import shares_between
from classify.search.spaces import SPACES, WITH_ORDER, Among, SearchSpace, make_space

CODES = np.arange(80) % 4
WEIGHTS = np.random.default_rng(0).uniform(0.2, 2.0, 80)
SCORE = np.random.default_rng(1).normal(size=80) + 0.5 * CODES


def losses(cuts: np.ndarray, score: np.ndarray) -> np.ndarray:
    return np.asarray(-WEIGHTS * np.log(shares_between(cuts, score)[np.arange(80), CODES]))


def test_gradient_and_curvature_are_those_of_the_loss() -> None:
    loss = OrderedLoss(CODES, WEIGHTS, 4)
    slope, curvature = loss(SCORE, None)
    step = 1e-4
    above, at, below = (losses(loss.cuts, SCORE + move) for move in (step, 0.0, -step))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), atol=1e-6)
    np.testing.assert_allclose(curvature, (above - 2 * at + below) / step**2, atol=1e-5)


def test_cuts_come_to_where_they_are_likeliest() -> None:
    loss = OrderedLoss(CODES, WEIGHTS, 4)
    for _ in range(20):
        loss(SCORE, None)
    best = minimize(lambda cuts: losses(cuts, SCORE).sum(), loss.cuts + 0.1 * np.arange(3), tol=1e-10).x
    np.testing.assert_allclose(loss.cuts, best, atol=1e-4)


def test_a_class_without_weight_has_cuts_all_the_same() -> None:
    loss = OrderedLoss(CODES, np.where(CODES == 1, 0.0, WEIGHTS), 4)
    for _ in range(20):
        assert all(np.isfinite(part).all() for part in loss(SCORE, None))
    assert (np.diff(loss.cuts) > 0).all()


def weak_rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four ordered classes, of which eight of sixty features each say a little."""
    rng = np.random.default_rng(seed)
    y = np.arange(400) % 4
    x = rng.normal(size=(400, 60))
    x[:, :8] += 0.4 * y[:, None]
    return x, y


@pytest.mark.parametrize("name", ["lgbm", "forest"])
def test_who_knows_the_order_ranks_fresh_rows_better(name: str) -> None:
    (x, y), (fresh, wanted) = weak_rows(0), weak_rows(1)
    heads = [HEADS[name](n_estimators=100, ordered=ordered).fit(x, y) for ordered in (False, True)]
    plain, ordered = (roc_auc_score(wanted, head.predict_proba(fresh), multi_class="ovr") for head in heads)
    assert ordered > plain + 0.005


def test_a_leaf_counts_rows_by_what_they_weigh() -> None:
    trunk = HEADS["forest"](n_estimators=3, min_leaf_share=1.0, ordered=True).fit(np.ones((80, 2)), CODES, WEIGHTS)
    shares = np.bincount(CODES, WEIGHTS) / WEIGHTS.sum()
    np.testing.assert_allclose(trunk.predict_proba(np.ones((1, 2)))[0], shares)


def test_the_order_is_searched_where_there_is_one() -> None:
    def space(model: str, *, ordered: bool) -> SearchSpace:
        return make_space(
            model, layer="last", pool="mean", aggregate="mean-logits", layers=["last"], pools=["mean"],
            smallest_class=50, searched=True, ordered=ordered,
        )  # fmt: skip

    for model in WITH_ORDER:
        plain = space(model, ordered=False)
        assert (plain.ranges, plain.tried_first()) == (SPACES[model], [plain.defaults()])
        assert space(model, ordered=True).ranges == {**SPACES[model], "ordered": Among((False, True))}
        first = space(model, ordered=True).tried_first()
        assert [one["ordered"] for one in first] == [False, True]
        assert [{**one, "ordered": False} for one in first] == [space(model, ordered=True).defaults()] * 2
    assert space("linear", ordered=True).ranges == SPACES["linear"]


def test_a_number_has_no_order_of_classes() -> None:
    x, y = weak_rows(0)
    with pytest.raises(ValueError, match="a number has no classes"):
        find_head("lgbm", number=True)(ordered=True).fit(x, y + 0.5)


def test_trees_of_before_have_no_order(tmp_path: Path) -> None:
    x, y = weak_rows(0)
    head = LgbmHead(n_estimators=3).fit(x, y)
    head.save(tmp_path)
    state = json.loads((tmp_path / STATE).read_text())
    del state["parameters"]["ordered"]
    assert "cuts" not in state
    (tmp_path / STATE).write_text(json.dumps(state))
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(x), head.predict_proba(x))


def test_where_nothing_varies_classes_are_as_frequent_as_they_were(tmp_path: Path) -> None:
    head = LgbmHead(n_estimators=3, ordered=True).fit(np.ones((80, 5)), CODES)
    head.save(tmp_path)
    for one in (head, load_head(tmp_path)):
        np.testing.assert_allclose(one.predict_proba(np.zeros((2, 5))), 0.25)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state["cuts"].pop(),
        lambda state: state["cuts"].reverse(),
        lambda state: state.update(cuts=[0.0, 1.0, float("nan")]),
        lambda state: state.pop("cuts"),
    ],
)
def test_cuts_that_were_changed_are_refused(spoil: Callable[[Any], object], tmp_path: Path) -> None:
    x, y = weak_rows(0)
    LgbmHead(n_estimators=3, ordered=True).fit(x, y).save(tmp_path)
    state = json.loads((tmp_path / STATE).read_text())
    spoil(state)
    (tmp_path / STATE).write_text(json.dumps(state))
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_head(tmp_path)
