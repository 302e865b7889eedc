"""Calibration finds a known distortion, stands at its prevalence, gives up in words, and survives its folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classify.cohort.splits import grouped_folds
from classify.errors import RunFolderError
from classify.heads.contract import softmax
from classify.judging.calibrate import (
    CALIBRATION,
    CHOICES,
    METHODS,
    Calibrator,
    choose_calibrator,
    cross_fit,
    describe_method,
    find_method,
    load_calibrator,
    log_loss,
)
from classify.judging.calibration_report import measure_calibration, recalibrate, report_levels
from classify.judging.matrix_scaling import BEND
from classify.judging.prevalence import move, read_shares, weigh_units
from classify.run.predictions import Predictions
from embeddings_store.errors import UsageError

SHARES = (0.4, 0.2, 0.3, 0.1)


def overconfident(
    participants: int, *, temperature: float = 3.0, scans: int = 1, seed: int = 0, shift: float = 0.0
) -> Predictions:
    """Labels are drawn from the logits; what is reported are the logits times ``temperature``, class 0 shifted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(participants, 4)) * 1.5
    label = np.array([rng.choice(4, p=row) for row in softmax(logits)], dtype=np.int64)
    reported = np.repeat(logits * temperature + np.array([shift, 0, 0, 0]), scans, axis=0)
    person = np.repeat(np.array([f"{number:05d}" for number in range(participants)]), scans)
    unit = np.arange(len(person)).astype(str)
    return Predictions("m", "participant", "train", unit, person, np.repeat(label, scans), reported, softmax(reported))


def chosen(asked: str, people: Predictions, prevalence: tuple[float, ...] = SHARES) -> Calibrator:
    return choose_calibrator(asked, {"participant": people}, prevalence, seed=0).calibrator


def test_the_temperature_is_found() -> None:
    assert METHODS["temperature"].fit(overconfident(4000))["temperature"] == pytest.approx(3.0, rel=0.1)
    assert METHODS["temperature"].fit(overconfident(4000, temperature=30.0))["temperature"] == pytest.approx(
        30, rel=0.1
    )


@pytest.mark.parametrize("method", [*CHOICES, "auto"])
def test_it_helps_overconfident_predictions_of_new_people(method: str) -> None:
    found = chosen(method, overconfident(800))
    new = overconfident(800, seed=1)
    own = np.bincount(overconfident(800).label, minlength=4) / 800
    after = found.at(tuple(own)).apply(new)
    assert log_loss(after.probability, new) < log_loss(new.probability, new)
    assert (after.logits == new.logits).all()


def test_a_shift_is_beyond_temperature_but_not_beyond_auto() -> None:
    """One class is always said too loudly: a temperature cannot mend that, shifts can."""
    people, new = overconfident(2000, shift=4.0), overconfident(4000, shift=4.0, seed=1)
    shares = tuple(METHODS["constant"].fit(people)["shares"])
    found = chosen("auto", people, shares)
    assert found.method == "logistic"
    expected = found.apply(new).probability.mean(axis=0)
    np.testing.assert_allclose(np.bincount(new.label) / 4000 / expected, 1, atol=0.1)
    cooled = METHODS["temperature"].apply(new.logits, METHODS["temperature"].fit(people)).mean(axis=0)
    assert cooled[0] > 1.2 * np.mean(new.label == 0)


def test_two_classes_are_platts_scaling() -> None:
    """Against an unpenalised logistic regression of the label on the bent logit; cross-fitting flattens little."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    score = rng.normal(size=3000)
    label = (rng.random(3000) < 1 / (1 + np.exp(-(0.7 * score - 1.5)))).astype(np.int64)
    logits = np.column_stack([-score, score])
    names = np.arange(3000).astype(str)
    people = Predictions("m", "participant", "train", names, names, label, logits, softmax(logits))
    ours = METHODS["logistic"].apply(logits, METHODS["logistic"].fit(people))[:, 1]
    bent = BEND * np.tanh((score - score.mean()) / score.std() / BEND)[:, None]
    theirs = LogisticRegression(C=np.inf).fit(bent, label).predict_proba(bent)[:, 1]
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_scores_with_heavy_tails_are_bent_before_they_are_believed() -> None:
    """They say no more beyond 1.5 than at it, and Platt's line would be surer and surer."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    score = rng.standard_t(3, size=6000)
    label = (rng.random(6000) < 1 / (1 + np.exp(-np.clip(score, -1.5, 1.5)))).astype(np.int64)
    logits = np.column_stack([-score, score])
    names = np.arange(6000).astype(str)
    people = Predictions("m", "participant", "train", names, names, label, logits, softmax(logits))
    ours = METHODS["logistic"].apply(logits, METHODS["logistic"].fit(people))
    theirs = LogisticRegression(C=np.inf).fit(score[:, None], label).predict_proba(score[:, None])
    assert log_loss(ours, people) < log_loss(theirs, people) - 0.003


def test_a_run_made_before_scores_were_bent_shows_what_it_showed() -> None:
    logits = overconfident(50).logits
    old = {"slopes": np.eye(4).tolist(), "shift": [0.1, 0.0, -0.2, 0.3], "spread": 2.0, "scale": 1.0}
    expected = softmax((logits - logits.mean(axis=1, keepdims=True)) / 2 + np.array(old["shift"]))
    np.testing.assert_allclose(METHODS["logistic"].apply(logits, old), expected, atol=1e-12)


def test_scores_that_know_nothing_end_as_the_prevalence_with_the_reason() -> None:
    people = replace(overconfident(300), label=np.random.default_rng(9).integers(0, 4, 300))
    found = chosen("auto", people)
    assert found.method == "constant"
    assert "no more than the class shares" in found.why_constant
    np.testing.assert_allclose(found.apply(people).probability, np.tile(SHARES, (300, 1)), atol=1e-12)
    assert "no calibration possible" in describe_method({"method": "constant", "prevalence": {}} | vars(found))


def test_a_fit_at_its_limit_is_no_calibration() -> None:
    people = overconfident(500, temperature=1.0)
    quiet = replace(people, logits=people.logits * 1e-6)
    found = chosen("temperature", quiet)
    assert found.method == "constant"
    assert "limit" in found.why_constant


def test_separated_classes_keep_finite_probabilities() -> None:
    label = np.arange(40) % 2
    logits = np.column_stack([-50.0 * label, 50.0 * label])
    names = np.arange(40).astype(str)
    people = Predictions("m", "participant", "train", names, names, label, logits, softmax(logits))
    probability = chosen("auto", people, (0.5, 0.5)).apply(people).probability
    assert 0.9 < probability[np.arange(40), label].min() < 1


@pytest.mark.parametrize("method", list(CHOICES))
def test_a_participant_is_calibrated_by_others_only(method: str) -> None:
    predictions = overconfident(60, scans=3)
    fold = grouped_folds(predictions.participant, predictions.label, folds=5, seed=1)
    own = predictions.participant == predictions.participant[0]
    logits = predictions.logits.copy()
    logits[own] = logits[own][:, ::-1]
    changed = replace(predictions, logits=logits, probability=softmax(logits))
    before, after = (cross_fit(method, part, seed=1).probability for part in (predictions, changed))
    mates = (fold == fold[0]) & ~own
    np.testing.assert_array_equal(after[mates], before[mates])
    assert (after[fold != fold[0]] != before[fold != fold[0]]).any()


@pytest.mark.parametrize("method", list(METHODS))
def test_it_survives_its_folder(method: str, tmp_path: Path) -> None:
    predictions = overconfident(100)
    found = Calibrator(method, {"participant": METHODS[method].fit(predictions)}, SHARES, (0.7, 0.1, 0.1, 0.1))
    found.save(tmp_path)
    again = load_calibrator(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.apply(predictions).probability, found.apply(predictions).probability)
    np.testing.assert_allclose(again.apply(predictions).probability.sum(axis=1), 1, atol=1e-9)


def test_a_run_of_before_is_read_and_says_what_its_probabilities_are(tmp_path: Path) -> None:
    predictions = overconfident(100)
    (tmp_path / CALIBRATION).write_text(
        json.dumps({"method": "temperature", "parameters": {"participant": {"temperature": 3.0}}})
    )
    old = load_calibrator(tmp_path)
    assert old is not None
    np.testing.assert_allclose(old.apply(predictions).probability, softmax(predictions.logits / 3.0))
    with pytest.raises(UsageError, match="make the run again"):
        old.at(SHARES)
    assert describe_method({"method": "temperature", "levels": {}}) == "temperature only, at balanced classes"


def test_moving_to_a_prevalence_and_back_changes_nothing() -> None:
    probability = overconfident(50).probability
    there = move(probability, SHARES, (0.25, 0.25, 0.25, 0.25))
    np.testing.assert_allclose(move(there, (0.25, 0.25, 0.25, 0.25), SHARES), probability, atol=1e-12)
    weight = weigh_units(np.array([0, 0, 0, 1]), (0.5, 0.5))
    np.testing.assert_allclose(weight, [2 / 3, 2 / 3, 2 / 3, 2])
    assert read_shares("b=0.25, a=0.75", ("a", "b")) == (0.75, 0.25)


def test_observed_over_expected_and_slope_of_probabilities_that_are_true() -> None:
    """Labels are drawn from the probabilities: ratio, slope and intercept are 1, 1 and 0, and intervals hold them."""
    people = overconfident(3000, temperature=1.0)
    (found,) = report_levels({"participant": people}, None, list("abcd"), replicates=100, seed=0).values()
    for line in found["by_class"].values():
        assert line["observed_expected"].value == pytest.approx(1, abs=0.08)
        assert line["slope"].value == pytest.approx(1, abs=0.12)
        assert line["intercept"].low < 0.1
        assert line["intercept"].high > -0.1
    assert found["against_constant"]["brier"]["difference"].high < 0
    bold = recalibrate(people.label == 1, overconfident(3000).probability[:, 1], np.ones((3000, 1)))
    assert bold[1][0] < 0.6


def test_what_cannot_be_judged_is_absent() -> None:
    people = overconfident(60)
    alone = replace(people, label=np.zeros(60, np.int64))
    (found,) = report_levels({"participant": alone}, SHARES, list("abcd"), replicates=20, seed=0).values()
    assert found["absent"] == "no unit of class b, c, d"
    same = replace(people, probability=np.tile(SHARES, (60, 1)))
    (found,) = report_levels({"participant": same}, None, list("abcd"), replicates=20, seed=0).values()
    assert "same probability" in found["by_class"]["a"]["slope"].absent


def test_reliability_counts_everybody_once() -> None:
    people = overconfident(300)
    bins = measure_calibration(people.probability, people)["reliability"]
    assert sum(found["n"] for found in bins) == 300
    assert all(found["low"] <= found["confidence"] <= found["low"] + 1 / 15 + 1e-9 for found in bins)


def test_bad_requests_and_files_are_one_message(tmp_path: Path) -> None:
    assert find_method("none") is None
    with pytest.raises(UsageError, match="auto, logistic, temperature, isotonic, none"):
        find_method("platt")
    assert load_calibrator(tmp_path) is None
    (tmp_path / CALIBRATION).write_text('{"method": "platt", "parameters": {}}')
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_calibrator(tmp_path)
