"""Contrasts sum the right classes, and sensitivities agree with a search over scikit-learn's ROC curve."""

import numpy as np
import pytest
from sklearn import metrics as peer

from classify.cohort.questions import Task
from classify.cohort.tasks import TASKS
from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates
from classify.judging.contrasts import contrast_classes, measure_contrasts, sensitivity_at
from classify.run.predictions import Predictions
from classify.run.summary import format_measured


def people(count: int, *, shift: float = 1.0) -> Predictions:
    rng = np.random.default_rng(0)
    label = (np.arange(count) % 4).astype(np.int64)
    logits = np.round(rng.normal(size=(count, 4)) + shift * np.eye(4)[label], 1)
    names = np.array([f"{1000 + number}" for number in range(count)])
    return Predictions("m", "participant", "val", names, names, label, logits, softmax(logits))


def test_the_sides_are_those_of_the_two_class_tasks() -> None:
    assert contrast_classes(TASKS["four-class"]) == {
        "healthy-vs-rest": (1, 2, 3),
        "medicated-vs-not": (2, 3),
        "insulin-vs-rest": (3,),
    }
    assert contrast_classes(TASKS["healthy-vs-rest"]) == {"rest vs healthy": (1,)}
    assert contrast_classes(Task("mine", ("a", "b", "c"), {}, "nominal")) == {}


def test_auroc_agrees_with_scikit_learn() -> None:
    judged = people(80)
    drawn = draw_replicates(judged.participant, replicates=100, seed=0)
    measured = measure_contrasts(judged, drawn, TASKS["four-class"])
    for name, positive in contrast_classes(TASKS["four-class"]).items():
        score = judged.probability[:, list(positive)].sum(axis=1)
        auroc = measured[name]["auroc"]
        assert auroc.value == pytest.approx(peer.roc_auc_score(np.isin(judged.label, positive), score), abs=1e-9)
        assert auroc.low < auroc.value < auroc.high


@pytest.mark.parametrize("specificity", [0.9, 0.95, 1.0])
def test_sensitivity_agrees_with_a_search_over_the_roc_curve(specificity: float) -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(90) < 0.4
    score = np.round(rng.normal(size=90) + positive, 1)
    weights = np.vstack([np.ones(90), *rng.multinomial(90, np.full(90, 1 / 90), size=20)]).T.astype(np.float64)
    got = sensitivity_at(positive, score, weights, specificity)
    for column in range(21):
        false, true, _ = peer.roc_curve(positive, score, sample_weight=weights[:, column], drop_intermediate=False)
        assert got[column] == pytest.approx(true[1 - false >= specificity - 1e-9].max(), abs=1e-9)


def test_one_side_without_anybody_is_absent() -> None:
    score, weights = np.array([0.1, 0.9]), np.ones((2, 1))
    assert np.isnan(sensitivity_at(np.array([True, True]), score, weights, 0.9)).all()
    assert np.isnan(sensitivity_at(np.array([False, False]), score, weights, 0.9)).all()


@pytest.mark.parametrize(("count", "side"), [(28, 7), (40, 10)])
def test_a_side_of_few_carries_no_interval(count: int, side: int) -> None:
    judged = people(count)
    drawn = draw_replicates(judged.participant, replicates=50, seed=0)
    found = measure_contrasts(judged, drawn, TASKS["four-class"])["healthy-vs-rest"]["auroc"]
    assert found.too_few == (f"{side} participants on one side; intervals need 10" if side < 10 else "")
    assert ("too few to say" in format_measured(found)) is (side < 10)
