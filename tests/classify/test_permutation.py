"""The vectorised dealing equals an explicit loop; p-values are uniform without an effect and small with one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn import metrics as peer

from classify.heads.contract import softmax
from classify.judging.permutation import permute_labels, permuted_metrics
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

CLASSES = ("a", "b", "c", "d")


def people(count: int, rng: np.random.Generator, *, shift: float = 0.0) -> Predictions:
    label = rng.permutation(np.arange(count) % 4).astype(np.int64)
    logits = np.round(rng.normal(size=(count, 4)) + shift * np.eye(4)[label], 1)
    names = np.array([f"{1000 + number}" for number in range(count)])
    return Predictions("m", "participant", "val", names, names, label, logits, softmax(logits))


def test_the_vectorised_dealing_equals_an_explicit_loop() -> None:
    judged = people(40, np.random.default_rng(0))
    got = permuted_metrics(judged.probability, judged.label, np.random.default_rng(1), 30)
    dealt = np.random.default_rng(1).permuted(np.repeat(judged.label[:, None], 30, axis=1), axis=0)
    for column in range(30):
        label, predicted = dealt[:, column], judged.probability.argmax(axis=1)
        balanced = peer.balanced_accuracy_score(label, predicted)
        auroc = peer.roc_auc_score(label, judged.probability, multi_class="ovr")
        assert got["balanced_accuracy"][column] == pytest.approx(balanced, abs=1e-9)
        assert got["macro_auroc"][column] == pytest.approx(auroc, abs=1e-9)


def test_two_classes_are_judged_by_the_second() -> None:
    judged = people(40, np.random.default_rng(0))
    label, probability = judged.label % 2, softmax(judged.logits[:, :2])
    got = permuted_metrics(probability, label, np.random.default_rng(1), 5)["macro_auroc"]
    dealt = np.random.default_rng(1).permuted(np.repeat(label[:, None], 5, axis=1), axis=0)
    expected = [peer.roc_auc_score(dealt[:, column], probability[:, 1]) for column in range(5)]
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_p_values_are_uniform_without_an_effect() -> None:
    rng = np.random.default_rng(7)
    found = [
        permute_labels(people(60, rng), CLASSES, permutations=199, seed=number)["p_values"]["macro_auroc"].value
        for number in range(200)
    ]
    assert kstest(found, "uniform").pvalue > 0.01


def test_an_effect_has_a_small_p_value() -> None:
    found = permute_labels(people(80, np.random.default_rng(0), shift=1.0), CLASSES, permutations=500, seed=0)
    for p in found["p_values"].values():
        assert p.value == pytest.approx(1 / 501)


def test_a_seed_repeats_itself_and_constant_predictions_prove_nothing() -> None:
    judged = people(30, np.random.default_rng(0))
    one, two = (permute_labels(judged, CLASSES, permutations=100, seed=3) for _ in range(2))
    assert one == two
    constant = replace(judged, logits=np.zeros((30, 4)), probability=np.full((30, 4), 0.25))
    for p in permute_labels(constant, CLASSES, permutations=100, seed=3)["p_values"].values():
        assert p.value == 1.0


def test_a_class_without_anybody_is_absent() -> None:
    judged = people(30, np.random.default_rng(0))
    nobody = replace(judged, label=np.where(judged.label == 3, 2, judged.label))
    found = permute_labels(nobody, CLASSES, permutations=20, seed=0)["p_values"]
    assert found["macro_auroc"] == Estimate(absent="no unit of class d")
