"""What the figures say agrees with scikit-learn and with the metrics of classify."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from classify.heads.contract import softmax
from classify.judging.metrics import all_metrics
from classify.run.predictions import Predictions
from reports.curves import bin_reliability, count_confusion, macro_roc, trace_roc

CLASSES = ("low", "middle", "high")


def simulate(n: int, k: int, seed: int, *, ties: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(k), n)
    if ties:
        probability = np.round(probability * 4 + 0.5)
        probability /= probability.sum(axis=1, keepdims=True)
    label = np.concatenate([np.arange(k), rng.integers(k, size=n - k)]).astype(np.int64)
    unit = np.array([str(i) for i in range(n)])
    logits = np.log(probability + 1e-9)
    return Predictions("linear", "participant", "val", unit, unit, label, logits, softmax(logits))


@pytest.mark.parametrize("ties", [False, True])
def test_roc_curves_are_those_of_scikit_learn(ties: bool) -> None:
    predictions = simulate(200, 3, 1, ties=ties)
    for number, curve in enumerate(trace_roc(predictions, CLASSES)):
        positive = predictions.label == number
        fpr, tpr, _ = roc_curve(positive, predictions.scores[:, number], drop_intermediate=False)
        np.testing.assert_array_equal(curve.false_positive_rate, fpr)
        np.testing.assert_array_equal(curve.true_positive_rate, tpr)
        assert curve.auroc == pytest.approx(roc_auc_score(positive, predictions.scores[:, number]), abs=1e-12)
        assert curve.positives == positive.sum()
        assert curve.positives + curve.negatives == 200


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 4), ties=st.booleans())
def test_areas_confusion_and_calibration_error_are_those_of_the_record(seed: int, k: int, ties: bool) -> None:
    predictions = simulate(60, k, seed, ties=ties)
    names = [f"c{i}" for i in range(k)]
    weights = np.ones((60, 1))
    recorded = all_metrics(predictions.label, predictions.probability, weights, names, scores=predictions.scores)
    curves = trace_roc(predictions, names)
    shown = macro_roc(curves).auroc if k > 2 else curves[0].auroc
    assert shown == pytest.approx(recorded["macro_auroc"][0], abs=1e-9)
    counts = count_confusion(predictions)
    assert np.trace(counts) / 60 == pytest.approx(recorded["accuracy"][0], abs=1e-12)
    expected = confusion_matrix(predictions.label, predictions.scores.argmax(axis=1), labels=range(k))
    np.testing.assert_array_equal(counts, expected)
    assert bin_reliability(predictions).ece == pytest.approx(recorded["expected_calibration_error"][0], abs=1e-9)


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_reliability_is_that_of_scikit_learn(bins: int) -> None:
    predictions = simulate(300, 3, 7)
    confidence = predictions.probability.max(axis=1)
    correct = predictions.probability.argmax(axis=1) == predictions.label
    right, said = calibration_curve(correct, confidence, n_bins=bins)
    reliability = bin_reliability(predictions, bins)
    seen = reliability.count > 0
    np.testing.assert_allclose(reliability.accuracy[seen], right, atol=1e-12)
    np.testing.assert_allclose(reliability.confidence[seen], said, atol=1e-12)
    assert reliability.count.sum() == 300
    assert np.isnan(reliability.accuracy[~seen]).all()


def test_a_class_without_units_is_absent_and_so_is_the_mean() -> None:
    whole = simulate(30, 3, 2)
    label = np.where(whole.label == 2, 1, whole.label)
    predictions = Predictions("m", "eye", "val", whole.unit, whole.participant, label, whole.logits, whole.probability)
    curves = trace_roc(predictions, CLASSES)
    assert curves[2].auroc is None
    assert curves[2].absent == "no unit of this class"
    assert macro_roc(curves).auroc is None
    assert "high" in macro_roc(curves).absent


def test_the_mean_curve_lies_between_the_lowest_and_the_highest() -> None:
    curves = trace_roc(simulate(150, 3, 3), CLASSES)
    mean = macro_roc(curves)
    heights = [np.interp(mean.false_positive_rate[1:], c.false_positive_rate, c.true_positive_rate) for c in curves]
    assert (mean.true_positive_rate[1:] >= np.min(heights, axis=0) - 1e-12).all()
    assert (mean.true_positive_rate[1:] <= np.max(heights, axis=0) + 1e-12).all()
