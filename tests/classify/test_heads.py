"""Every head is a scikit-learn classifier, repeats itself per seed, and survives its folder without pickle."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from classify.errors import RunFolderError
from classify.heads import HEADS, find_head, load_head, mlp
from classify.heads.attentive import AttentiveHead
from classify.heads.contract import ARRAYS, Head
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


class TestOrderedLgbm(HeadContract):
    def make(self) -> Head:
        return HEADS["lgbm"](n_estimators=60, feature_fraction=1.0, ordered=True)


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
        return HEADS["forest"](n_estimators=40, max_features=1.0, min_leaf_share=0.1)


class TestRandomForest(HeadContract):
    def make(self) -> Head:
        return HEADS["forest"](n_estimators=40, max_features=1.0, min_leaf_share=0.1, kind="random")


class TestOrderedForest(HeadContract):
    def make(self) -> Head:
        return HEADS["forest"](n_estimators=40, max_features=1.0, min_leaf_share=0.1, ordered=True)


class TestOrderedRandomForest(HeadContract):
    def make(self) -> Head:
        return HEADS["forest"](n_estimators=40, max_features=1.0, min_leaf_share=0.1, kind="random", ordered=True)


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


def layers_of(folder: Path, sizes: tuple[int, ...], classes: int) -> list[torch.nn.Module]:
    """Give the networks of a folder as torch's own layers; linear ones before a normalisation may have no bias."""
    networks, found = [], load_file(folder / "head.safetensors")
    for number in sorted({name.split("/")[0] for name in found}):
        hidden = [
            layer
            for wide, narrow in pairwise(sizes)
            for layer in (
                torch.nn.Linear(wide, narrow), torch.nn.BatchNorm1d(narrow), torch.nn.ReLU(), torch.nn.Dropout()
            )
        ]  # fmt: skip
        network = torch.nn.Sequential(*hidden, torch.nn.Linear(sizes[-1], classes))
        torch.nn.init.zeros_(network[0].bias)
        torch.nn.init.zeros_(network[4].bias)
        own = {name.split("/")[1]: value for name, value in found.items() if name.startswith(number)}
        assert not network.load_state_dict(own, strict=False).unexpected_keys
        networks.append(network.eval())
    return networks


def test_an_mlp_is_that_of_torchs_own_layers_and_normalises_by_all_rows(tmp_path: Path) -> None:
    x, y, people = make_rows(4)
    head = mlp.MlpHead(width=16, max_epochs=9, hold_out=5).fit(x, y, None, people)
    head.save(tmp_path)
    networks = layers_of(tmp_path, (8, 16, 8), 4)
    assert len(networks) == 5
    rows = torch.from_numpy(x)
    with torch.inference_mode():
        theirs = torch.stack([network(rows).softmax(dim=1) for network in networks]).mean(dim=0)
        for network in networks:
            summed = network[:5](rows)
            np.testing.assert_allclose(network[1].running_mean, network[0](rows).mean(dim=0), atol=1e-6)
            np.testing.assert_allclose(network[5].running_mean, summed.mean(dim=0), atol=1e-5)
            np.testing.assert_allclose(network[5].running_var, summed.var(dim=0), rtol=1e-4)
    np.testing.assert_allclose(head.predict_proba(x), theirs, atol=1e-6)


def test_an_mlp_of_before_is_one_network(tmp_path: Path) -> None:
    x, y, people = make_rows(3)
    head = mlp.MlpHead(width=8, max_epochs=4).fit(x, y, None, people)
    head.weights_ = {name: value[:1] for name, value in head.weights_.items()}
    head.save(tmp_path)
    network = layers_of(tmp_path, (8, 8, 4), 3)[0]
    with torch.no_grad():
        for linear, norm in ((network[0], network[1]), (network[4], network[5])):
            linear.bias += 0.7
            norm.running_mean += 0.7
    save_file(network.state_dict(), tmp_path / "head.safetensors")
    state = json.loads((tmp_path / "head.json").read_text())
    state["parameters"]["ensemble"] = 1
    (tmp_path / "head.json").write_text(json.dumps(state))
    again = load_head(tmp_path)
    assert len(again.weights_["0.weight"]) == 1
    np.testing.assert_allclose(again.predict_proba(x), head.predict_proba(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["extra", "random"])
def test_a_forest_predicts_from_its_arrays_as_scikit_learn_does(kind: str) -> None:
    x, y, _ = make_rows(4)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    head = ForestHead(n_estimators=25, max_features=0.5, min_leaf_share=0.02, kind=kind, random_state=3)
    theirs = {"extra": ExtraTreesClassifier, "random": RandomForestClassifier}[kind](
        25, max_features=0.5, min_samples_leaf=2, random_state=3
    ).fit(x, y, weights / weights.mean())
    fresh = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    np.testing.assert_allclose(head.fit(x, y, weights).predict_proba(fresh), theirs.predict_proba(fresh), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("children", lambda part: part * 0),  # a loop
        ("children", lambda part: part + 10_000),
        ("children", lambda part: part.astype(np.float64)),
        ("feature", lambda part: part + 100),
        ("feature", lambda part: part[:-1]),
        ("threshold", lambda part: part[:-1]),
        ("value", lambda part: part * 2),
        ("value", lambda part: part[:, :-1]),
        ("roots", lambda part: part[:0]),
        ("roots", lambda part: part - 1),
    ],
)
def test_a_damaged_forest_is_refused(name: str, spoil: Any, tmp_path: Path) -> None:
    x, y, _ = make_rows(3)
    ForestHead(n_estimators=3).fit(x, y).save(tmp_path)
    with np.load(tmp_path / ARRAYS) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / ARRAYS, **arrays | {name: spoil(arrays[name])})
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_head(tmp_path)


def test_neighbours_by_angle_do_not_see_length() -> None:
    x, y, _ = make_rows(3)
    plain, angle = (KnnHead(n_neighbors=7, cosine=cosine).fit(x, y) for cosine in (0, 1))
    fresh = x[::5] + 0.01
    np.testing.assert_allclose(angle.predict_proba(fresh * 9), angle.predict_proba(fresh))
    assert not np.allclose(plain.predict_proba(fresh * 9), plain.predict_proba(fresh))


def test_neighbours_along_components_do_not_see_the_rest() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = 0.1 * rng.normal(size=(120, 30))
    x[:, 0] += 5 * y
    head = KnnHead(n_neighbors=5, pca=1).fit(x, y)
    moved = x.copy()
    moved[:, 1:] += 3 * (np.eye(29)[rng.integers(0, 29, 120)])
    assert (head.predict(moved) == y).mean() > 0.95


def test_an_unknown_head_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dummy, linear, lgbm, forest, mlp, ordinal, knn"):
        find_head("oracle")
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_head(tmp_path)


def test_the_heads_that_can_be_chosen_are_those_there_are() -> None:
    assert set(get_args(HeadName)) == set(HEADS)
