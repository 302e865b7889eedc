"""The forms of the heads that predict a number: signal found, folder round trip, refusals, and scikit-learn's Ridge."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from classify.errors import RunFolderError
from classify.heads import HEADS, NUMBER_HEADS, find_head, load_head
from classify.heads.contract import STATE, Head, TrainingRows
from classify.heads.numbers import KnnNumber
from classify.heads.ridge import RidgeHead
from embeddings_store.errors import UsageError

CHECKED_TYPES = {
    "check_do_not_raise_errors_in_init_or_set_params": "tests check annotations, production does not",
    "check_regressors_no_decision_function": "predict_proba gives the number as a column, as all heads are asked",
}
BY_ROWS = {
    "KnnNumber": {"check_sample_weight_equivalence_on_dense_data": "the nearest rows are counted, whatever they weigh"}
}
QUICK = {"learning_rate": 1e-2, "weight_decay": 0.1, "max_epochs": 40}
PARAMETERS = {
    "dummy": {},
    "linear": {"C": 0.1},
    "lgbm": {"feature_fraction": 1.0, "pca": 4},
    "mlp": {"width": 16, "max_epochs": 30, "batch_size": 16, "learning_rate": 1e-2},
    "knn": {"n_neighbors": 7},
    "attentive": {"tokens": 2, "heads": 2, **QUICK},
    "mil": QUICK,
}


@parametrize_with_checks(
    [RidgeHead(C=1.0), KnnNumber()],
    expected_failed_checks=lambda head: CHECKED_TYPES | BY_ROWS.get(type(head).__name__, {}),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_a_form_for_numbers_is_a_scikit_learn_regressor(estimator: Head, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def planted(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    return x, 5e4 + 1e3 * (x[:, 0] + x[:, 2] + 0.2 * rng.normal(size=n)), np.repeat(np.arange(n // 2), 2)


def make(name: str) -> Head:
    return NUMBER_HEADS[name](random_state=0, **PARAMETERS[name])


@pytest.mark.parametrize("name", NUMBER_HEADS)
def test_a_head_finds_a_planted_number_in_its_unit_and_survives_its_folder(name: str, tmp_path: Path) -> None:
    x, y, _ = planted()
    groups = np.arange(len(y))
    head = make(name).fit(x[:160], y[:160], groups=groups[:160])
    said = head.predict(x[160:])
    r2 = 1 - ((said - y[160:]) ** 2).sum() / ((y[160:] - y[160:].mean()) ** 2).sum()
    assert r2 > (0.5 if name != "dummy" else -0.1) and head.predict_proba(x).shape == (240, 1)
    if name == "dummy":
        assert np.allclose(said, y[:160].mean(), rtol=1e-12)
    head.save(tmp_path)
    assert not list(tmp_path.glob("*.pkl")) and json.loads((tmp_path / STATE).read_text())["kind"] == "number"
    again = load_head(tmp_path)
    assert type(again) is type(head) and np.array_equal(again.predict(x[160:]), said)
    assert np.array_equal(make(name).fit(x[:160], y[:160], groups=groups[:160]).predict(x[160:]), said)


@pytest.mark.parametrize("name", NUMBER_HEADS)
def test_a_grid_fits_what_fit_does(name: str) -> None:
    x, y, groups = planted(120)
    groups = np.arange(120) if name == "mil" else groups
    weights = np.linspace(0.5, 1.5, 120)
    part = TrainingRows(x, y, weights, groups)
    ((found,),) = NUMBER_HEADS[name].fit_grid([part], [PARAMETERS[name]], 0)
    alone = make(name).fit(x, y, sample_weight=weights, groups=groups)
    prepared = make(name).fit_prepared(NUMBER_HEADS[name].prepare(part))
    assert np.allclose(found.predict(x), alone.predict(x), rtol=1e-9)
    assert np.allclose(prepared.predict(x), alone.predict(x), rtol=1e-9)


@pytest.mark.parametrize("shape", [(60, 5), (20, 50)])
def test_every_strength_of_the_ridge_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=shape), rng.uniform(0.2, 2, shape[0])
    y = 40 + x[:, 0] + rng.normal(size=shape[0])
    strengths = [1e-4, 1e-1, 10.0]
    (heads,) = RidgeHead.fit_grid([TrainingRows(x, y, weights)], [{"C": one} for one in strengths], 0)
    for one, head in zip(strengths, heads, strict=True):
        peer = Ridge(alpha=1 / one).fit(x, y, sample_weight=weights)
        assert np.allclose(head.predict(x), peer.predict(x), atol=1e-8)


def test_the_attentive_head_says_what_its_number_changes_with() -> None:
    x, y, groups = planted(120)
    head = make("attentive").fit(x, y, groups=groups)
    gradients = head.gradients(x[:3])
    assert gradients.shape == (3, 1, 2, 2)
    step = x[:3].copy()
    step[:, 0] += 1e-2
    change = (head.predict(step) - head.predict(x[:3])) / (step[:, 0] - x[:3, 0])
    assert np.allclose(gradients[:, 0, 0, 0], change, rtol=0.05, atol=1.0) and (np.abs(change) > 1).all()


@pytest.mark.parametrize("name", NUMBER_HEADS)
def test_one_value_for_everybody_is_refused(name: str) -> None:
    x, _, groups = planted(40)
    with pytest.raises(ValueError, match="expected numbers that differ, got 7 in every row"):
        make(name).fit(x, np.full(40, 7.0), groups=groups)


def test_a_head_of_classes_is_refused_by_its_name() -> None:
    assert set(NUMBER_HEADS) < set(HEADS) and "ordinal" not in NUMBER_HEADS
    with pytest.raises(UsageError, match="--model: ordinal predicts classes, and the target is a number; expected one"):
        find_head("ordinal", number=True)


@pytest.mark.parametrize(
    ("name", "value"), [("spread", 0.0), ("spread", -1.0), ("centre", "a"), ("kind", "class"), ("classes", [0, 1])]
)
def test_a_damaged_folder_is_refused_in_one_line(name: str, value: object, tmp_path: Path) -> None:
    x, y, groups = planted(40)
    make("linear").fit(x, y, groups=groups).save(tmp_path)
    state = json.loads((tmp_path / STATE).read_text()) | {name: value}
    (tmp_path / STATE).write_text(json.dumps(state))
    with pytest.raises(RunFolderError):
        load_head(tmp_path)
