"""Net benefit is Vickers and Elkin's: by the formula, against a plain count, and at its known ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.cohort.questions import Task
from classify.cohort.tasks import TASKS
from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates
from classify.judging.decision_curve import THRESHOLDS, Shown, decision_curves, net_benefit, treat_all
from classify.run.predictions import Predictions


def people(count: int, classes: int, shift: float = 1.0) -> Predictions:
    rng = np.random.default_rng(0)
    label = (np.arange(count) % classes).astype(np.int64)
    logits = rng.normal(size=(count, classes)) + shift * np.eye(classes)[label]
    names = np.array([f"{1000 + number}" for number in range(count)])
    return Predictions("m", "participant", "val", names, names, label, logits, softmax(logits))


def test_the_published_example_of_a_threshold_of_one_fifth() -> None:
    """100 people, 20 ill; 15 ill and 10 well reach 20 %: 15/100 - 10/100 * 0.2/0.8 = 0.125."""
    positive = np.arange(100) < 20
    probability = np.where((np.arange(100) < 15) | (np.arange(100) >= 90), 0.2, 0.1)
    got = net_benefit(positive, probability, np.ones((100, 1)), np.array([0.2]))
    assert got[0, 0] == pytest.approx(0.125, abs=1e-12)
    assert treat_all(0.2, np.array([0.2]))[0] == pytest.approx(0.0, abs=1e-12)


@given(seed=st.integers(0, 1000), threshold=st.floats(0.02, 0.98))
def test_it_agrees_with_a_count_of_repeated_people(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    positive, probability = rng.random(30) < 0.4, np.round(rng.random(30), 1)
    times = rng.integers(0, 4, 30)
    if not times.any():
        return
    got = net_benefit(positive, probability, times[:, None].astype(np.float64), np.array([threshold]))[0, 0]
    ill, said = np.repeat(positive, times), np.repeat(probability, times) >= threshold
    expected = (said & ill).sum() / len(ill) - (said & ~ill).sum() / len(ill) * threshold / (1 - threshold)
    assert got == pytest.approx(expected, abs=1e-12)


def test_everybody_reaches_a_threshold_below_all_probabilities() -> None:
    positive = np.arange(50) < 10
    got = net_benefit(positive, np.full(50, 0.99), np.ones((50, 1)), np.array(THRESHOLDS))[:, 0]
    np.testing.assert_allclose(got, treat_all(0.2, np.array(THRESHOLDS)), atol=1e-12)


def test_every_contrast_has_a_curve_with_an_interval_around_it() -> None:
    judged = people(120, 4)
    curves = decision_curves(
        judged, Shown("as they are"), draw_replicates(judged.participant, replicates=200, seed=0), TASKS["four-class"]
    )
    assert set(curves) == {"healthy-vs-rest", "medicated-vs-not", "insulin-vs-rest"}
    for curve in curves.values():
        low, value, high = (np.array(curve[name]) for name in ("low", "net_benefit", "high"))
        assert len(value) == len(curve["threshold"]) == len(curve["treat_all"]) == len(THRESHOLDS)
        assert (low <= value).all()
        assert (value <= high).all()
        assert curve["probabilities"] == "as they are"
    assert curves["medicated-vs-not"]["prevalence"] == 0.5
    middle = THRESHOLDS.index(0.5)
    assert curves["medicated-vs-not"]["net_benefit"][middle] > max(curves["medicated-vs-not"]["treat_all"][middle], 0)


def test_a_task_without_contrasts_has_no_curve_and_one_side_is_absent() -> None:
    three, two = people(30, 3), people(30, 2)
    drawn = draw_replicates(three.participant, replicates=10, seed=0)
    assert decision_curves(three, Shown("x"), drawn, Task("mine", ("a", "b", "c"), {}, "nominal")) == {}
    two.label[:] = 1
    assert (
        "no participant"
        in decision_curves(two, Shown("x"), drawn, Task("mine", ("a", "b"), {}, "binary"))["b vs a"]["absent"]
    )


def test_a_designed_split_is_weighed_to_the_prevalence_of_its_probabilities() -> None:
    """Half of the split is ill, one in ten of the place is: treating everybody is worth what it is there."""
    judged = people(400, 2)
    drawn = draw_replicates(judged.participant, replicates=20, seed=0)
    (curve,) = decision_curves(
        judged, Shown("x", (0.9, 0.1)), drawn, Task("mine", ("well", "ill"), {}, "binary")
    ).values()
    assert curve["prevalence"] == pytest.approx(0.1)
    np.testing.assert_allclose(curve["treat_all"], treat_all(0.1, np.array(THRESHOLDS)), atol=1e-12)
    assert curve["net_benefit"][0] == pytest.approx(treat_all(0.1, np.array(THRESHOLDS))[0], abs=0.01)
