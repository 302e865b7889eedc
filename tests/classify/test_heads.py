"""Every head is a scikit-learn classifier, repeats itself per seed, and survives its folder without pickle."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from classify.errors import RunFolderError
from classify.heads import HEADS, find_head, load_head
from classify.heads.attentive import AttentiveHead
from classify.heads.contract import Head
from classify.heads.dummy import DummyHead
from classify.heads.forest import ForestHead
from classify.heads.knn import KnnHead
from classify.heads.lgbm import LgbmHead
from classify.heads.linear import LinearHead
from classify.heads.mil import MilHead
from classify.heads.ordinal import OrdinalHead, penalised_loss
from classify.heads.tokens_linear import TokensLinearHead
from classify.options import HeadName
from embeddings_store.errors import UsageError

CHECKED_TYPES = {"check_do_not_raise_errors_in_init_or_set_params": "tests check annotations, production does not"}
KNOWN_DEVIATIONS = {
    "LgbmHead": {
        "check_sample_weight_equivalence_on_dense_data": "leaf sizes and row sampling count rows, not weights",
    },
    "OrdinalHead": {
        "check_classifiers_train": "the check wants 83 % of three blobs whose classes lie in no order",
    },
    "ForestHead": {
        "check_sample_weight_equivalence_on_dense_data": "rows are drawn and leaves are counted, whatever they weigh",
    },
    "KnnHead": {
        "check_sample_weight_equivalence_on_dense_data": "the nearest rows are counted, whatever they weigh",
    },
    "AttentiveHead": {
        "check_sample_weight_equivalence_on_dense_data": "rows are held back and dealt out, whatever they weigh",
    },
    "MilHead": {
        "check_sample_weight_equivalence_on_dense_data": "bags are held back and dealt out, whatever they weigh",
    },
}
QUICK = {"learning_rate": 1e-2, "weight_decay": 0.1, "max_epochs": 30}


@parametrize_with_checks(
    [
        DummyHead(),
        LinearHead(C=1.0),
        LgbmHead(feature_fraction=1.0, lambda_l2=0.0),
        OrdinalHead(C=1.0),
        KnnHead(),
        ForestHead(n_estimators=30),
        TokensLinearHead(C=1.0),
        AttentiveHead(**QUICK),
        MilHead(**QUICK),
    ],
    expected_failed_checks=lambda head: CHECKED_TYPES | KNOWN_DEVIATIONS.get(type(head).__name__, {}),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_a_head_is_a_scikit_learn_estimator(estimator: Head, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def make_rows(classes: int, *, effect: float = 1.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), 30)
    x = rng.normal(size=(len(y), 8)).astype(np.float32)
    x[:, 0] += effect * y
    return x, y, np.repeat(np.arange(len(y) // 2), 2)


class HeadContract:
    """What holds for every head; a subclass says how to make one."""

    learns = True

    def make(self) -> Head:
        raise NotImplementedError

    @pytest.mark.parametrize("classes", [2, 4])
    def test_probabilities_are_probabilities(self, classes: int) -> None:
        x, y, people = make_rows(classes)
        probability = self.make().fit(x, y, None, people).predict_proba(x)
        assert probability.shape == (len(y), classes)
        np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)

    def test_it_finds_an_effect(self) -> None:
        x, y, people = make_rows(4)
        right = (self.make().fit(x, y, None, people).predict(x) == y).mean()
        assert right > 0.5 if self.learns else right == 0.25

    @pytest.mark.parametrize("classes", [2, 4])
    def test_it_survives_its_folder(self, classes: int, tmp_path: Path) -> None:
        x, y, people = make_rows(classes)
        head = self.make().fit(x, y, None, people)
        head.save(tmp_path)
        again = load_head(tmp_path)
        assert type(again) is type(head)
        np.testing.assert_allclose(again.predict_proba(x), head.predict_proba(x), rtol=0, atol=1e-12)
        assert again.get_params() == head.get_params()
        for path in tmp_path.iterdir():
            assert path.suffix in {".json", ".npz", ".txt", ".safetensors"}

    def test_it_repeats_itself(self) -> None:
        x, y, people = make_rows(4)
        one, two = (self.make().fit(x, y, None, people).predict_proba(x) for _ in range(2))
        assert (one == two).all()

    def test_weights_matter(self) -> None:
        x, y, people = make_rows(2, effect=0.3)
        heavy = np.where(y == 1, 20.0, 1.0)
        balanced = self.make().fit(x, y, None, people).predict_proba(x)[:, 1].mean()
        assert self.make().fit(x, y, heavy, people).predict_proba(x)[:, 1].mean() > balanced + 0.1

    def test_one_class_is_refused(self) -> None:
        x, y, people = make_rows(2)
        with pytest.raises(ValueError, match="one class"):
            self.make().fit(x, y * 0, None, people)


class TestDummy(HeadContract):
    learns = False

    def make(self) -> Head:
        return HEADS["dummy"]()


class TestLinear(HeadContract):
    def make(self) -> Head:
        return HEADS["linear"](C=1.0)


class TestLgbm(HeadContract):
    def make(self) -> Head:
        return HEADS["lgbm"](n_estimators=60, feature_fraction=1.0)


class TestMlp(HeadContract):
    def make(self) -> Head:
        return HEADS["mlp"](width=16, max_epochs=15, batch_size=16, learning_rate=1e-2)


class TestOrdinal(HeadContract):
    def make(self) -> Head:
        return HEADS["ordinal"](C=1.0)


class TestKnn(HeadContract):
    def make(self) -> Head:
        return HEADS["knn"](n_neighbors=9)


class TestKnnAlongComponentsByAngle(HeadContract):
    def make(self) -> Head:
        return HEADS["knn"](n_neighbors=9, pca=4, cosine=1)


class TestForest(HeadContract):
    def make(self) -> Head:
        return HEADS["forest"](n_estimators=40, max_features=1.0)


class TestRandomForest(HeadContract):
    def make(self) -> Head:
        return HEADS["forest"](n_estimators=40, max_features=1.0, kind="random")


class TestTokensLinear(HeadContract):
    def make(self) -> Head:
        return HEADS["tokens-linear"](tokens=2, C=1.0)


class TestAttentive(HeadContract):
    def make(self) -> Head:
        return HEADS["attentive"](tokens=2, heads=2, **QUICK)


class TestMil(HeadContract):
    def make(self) -> Head:
        return HEADS["mil"](**QUICK)


def test_the_ordinal_gradient_is_the_slope_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    x, codes, weights = rng.normal(size=(40, 5)), rng.integers(0, 4, 40), rng.uniform(0.2, 2.0, 40)
    at = rng.normal(size=8) * 0.5
    _, gradient = penalised_loss(at, x, codes, weights, 0.7)
    for number in range(8):
        step = 1e-6 * np.eye(8)[number]
        above, below = (penalised_loss(at + sign * step, x, codes, weights, 0.7)[0] for sign in (1, -1))
        assert gradient[number] == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-6)


def test_the_ordinal_head_on_two_classes_is_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y, people = make_rows(2)
    ours = OrdinalHead(C=0.5, tol=1e-9).fit(x, y, None, people)
    theirs = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_[0], atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x.astype(np.float64)), atol=1e-4)


def test_the_ordinal_head_recovers_its_own_model() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 2))
    latent = x @ [1.0, -0.5] + rng.logistic(size=20_000)
    y = np.searchsorted([-1.0, 0.5, 2.0], latent)
    head = OrdinalHead(C=100.0).fit(x, y)
    np.testing.assert_allclose(head.coef_, [1.0, -0.5], atol=0.06)
    np.testing.assert_allclose(head.cuts_, [-1.0, 0.5, 2.0], atol=0.08)


def test_the_mlp_stops_on_participants_it_did_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from classify.heads import mlp

    seen = {}
    monkeypatch.setattr(mlp.MlpHead, "_train", lambda self, rows, codes, weights, held: seen.update(held=held))
    x, y, people = make_rows(4)
    mlp.MlpHead().fit(x, y, None, people)
    assert 0.1 < seen["held"].mean() < 0.3
    assert not set(people[seen["held"]]) & set(people[~seen["held"]])


def test_an_unknown_head_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dummy, linear, lgbm, mlp, ordinal, knn"):
        find_head("forest")
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_head(tmp_path)


def test_the_heads_that_can_be_chosen_are_those_there_are() -> None:
    assert set(get_args(HeadName)) == set(HEADS)
