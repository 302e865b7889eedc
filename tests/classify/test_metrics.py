"""Metrics agree with scikit-learn to 1e-9, ties included, and the undefined is NaN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from classify.judging.metrics import HEADLINE, all_metrics, auroc_one_vs_rest, headline_metrics, why_absent

CLASSES = ("a", "b", "c", "d")


@st.composite
def tied_predictions(draw: st.DrawFn, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Every class stands in the labels; probabilities come from few values, so that scores tie."""
    extra = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=30))
    label = np.array([*range(classes), *extra], dtype=np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    raw = rng.integers(1, 4, (len(label), classes)).astype(np.float64)
    return label, raw / raw.sum(axis=1, keepdims=True)


def ours(label: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    weights = np.ones(len(label)) if weights is None else weights
    values = all_metrics(label, probability, weights[:, None], CLASSES[: probability.shape[1]])
    alone = headline_metrics(label, probability, weights[:, None], CLASSES[: probability.shape[1]])
    assert tuple(alone) == HEADLINE
    for name in HEADLINE:
        np.testing.assert_array_equal(alone[name], values[name])
    return {name: float(value[0]) for name, value in values.items()}


def theirs(label: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    classes = probability.shape[1]
    predicted, numbers = probability.argmax(axis=1), list(range(classes))
    binary = classes == 2
    score = {"y_score": probability[:, 1]} if binary else {"y_score": probability, "multi_class": "ovr"}
    by_class = peer.precision_recall_fscore_support(
        label, predicted, labels=numbers, sample_weight=weights, zero_division=np.nan
    )
    expected = {
        "balanced_accuracy": peer.balanced_accuracy_score(label, predicted, sample_weight=weights),
        "macro_auroc": peer.roc_auc_score(label, sample_weight=weights, **score),
        "quadratic_weighted_kappa": peer.cohen_kappa_score(
            label, predicted, labels=numbers, weights="quadratic", sample_weight=weights
        ),
        "accuracy": peer.accuracy_score(label, predicted, sample_weight=weights),
        "ordinal_error": peer.mean_absolute_error(label, predicted, sample_weight=weights),
        "log_loss": peer.log_loss(label, probability, labels=numbers, sample_weight=weights),
        "brier": peer.brier_score_loss(label, probability, labels=numbers, sample_weight=weights),
    }
    if binary:
        expected["average_precision"] = peer.average_precision_score(label, sample_weight=weights, **score)
    for number in numbers:
        name = CLASSES[number]
        expected[f"precision/{name}"] = by_class[0][number]
        expected[f"recall/{name}"] = by_class[1][number]
        expected[f"f1/{name}"] = by_class[2][number]
        expected[f"auroc/{name}"] = peer.roc_auc_score(label == number, probability[:, number], sample_weight=weights)
    return expected


@pytest.mark.parametrize("classes", [2, 4])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_metrics_agree_with_scikit_learn(classes: int, data: st.DataObject) -> None:
    label, probability = data.draw(tied_predictions(classes))
    got = ours(label, probability)
    for name, value in theirs(label, probability).items():
        assert got[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@given(drawn=tied_predictions(4), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_multiplicities_are_scikit_learn_sample_weights(drawn: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    label, probability = drawn
    weights = np.random.default_rng(seed).integers(1, 4, len(label)).astype(np.float64)
    got = ours(label, probability, weights)
    for name, value in theirs(label, probability, weights).items():
        assert got[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_calibration_error_by_hand() -> None:
    label = np.array([0, 1, 1, 0], dtype=np.int64)
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    # Two bins of two: sure 0.9 and right half of the time, sure 0.7 and right half of the time.
    assert ours(label, probability)["expected_calibration_error"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.2)


def test_a_class_without_units_makes_metrics_undefined_never_a_half() -> None:
    label = np.array([0, 1, 2, 0], dtype=np.int64)
    probability = np.full((4, 4), 0.25)
    got = ours(label, probability)
    for name in ("balanced_accuracy", "macro_auroc", "auroc/d", "recall/d", "precision/b"):
        assert np.isnan(got[name]), name
    assert got["accuracy"] == 0.5
    assert why_absent("macro_auroc", label, CLASSES) == "no unit of class d"
    assert why_absent("precision/b", label, CLASSES) == "b is never predicted"


def test_of_two_classes_the_second_ranks_whatever_the_scores() -> None:
    label, scores = np.arange(6) % 2, np.array([[5.0, 0.1], [0.0, 0.2], [1.0, 0.3], [2.0, 0.4], [6.0, 0.5], [4.0, 0.6]])
    found = all_metrics(label, np.full((6, 2), 0.5), np.ones((6, 1)), CLASSES[:2], scores=scores)
    assert found["macro_auroc"][0] == found["auroc/b"][0] != found["auroc/a"][0]


def test_auroc_of_one_side_only_is_nan() -> None:
    value = auroc_one_vs_rest(np.array([True, True]), np.array([0.1, 0.2]), np.ones((2, 1)))
    assert np.isnan(value[0])


def test_comparing_pairs_and_sorting_give_the_same_auroc(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    positive, score = rng.random(60) < 0.3, np.round(rng.normal(size=60), 1)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=40).T.astype(np.float64)
    weights[positive, 0] = 0
    pairs = auroc_one_vs_rest(positive, score, weights)
    monkeypatch.setattr("classify.judging.metrics.PAIRS_AT_ONCE", -1)
    np.testing.assert_allclose(auroc_one_vs_rest(positive, score, weights), pairs, rtol=0, atol=1e-12)
    assert np.isnan(pairs[0])
