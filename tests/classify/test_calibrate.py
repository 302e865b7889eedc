"""Calibration finds a known temperature, is judged on others than it was fitted on, and survives its folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classify.cohort.splits import grouped_folds
from classify.errors import RunFolderError
from classify.heads.contract import softmax
from classify.judging.calibrate import (
    CALIBRATION,
    METHODS,
    calibrate,
    cross_fit,
    find_method,
    load_calibrator,
    measure_calibration,
    reliability,
)
from classify.predictions import Predictions
from embeddings_store.errors import UsageError


def overconfident(participants: int, *, temperature: float = 3.0, scans: int = 1, seed: int = 0) -> Predictions:
    """Labels are drawn from the logits; what is reported are the logits times ``temperature``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(participants, 4)) * 1.5
    label = np.array([rng.choice(4, p=row) for row in softmax(logits)], dtype=np.int64)
    said = np.repeat(logits * temperature, scans, axis=0)
    person = np.repeat(np.array([f"{number:05d}" for number in range(participants)]), scans)
    unit = np.arange(len(person)).astype(str)
    return Predictions("m", "participant", "val", unit, person, np.repeat(label, scans), said, softmax(said))


def test_the_temperature_is_found() -> None:
    assert METHODS["temperature"].fit(overconfident(4000))["temperature"] == pytest.approx(3.0, rel=0.1)
    assert METHODS["temperature"].fit(overconfident(4000, temperature=1.0))["temperature"] == pytest.approx(
        1.0, rel=0.1
    )


def test_temperature_moves_no_decision() -> None:
    predictions = overconfident(200)
    calibrator, _ = calibrate("temperature", {"participant": predictions}, seed=0)
    after = calibrator.apply(predictions)
    assert (after.probability.argmax(axis=1) == predictions.probability.argmax(axis=1)).all()


@pytest.mark.parametrize("method", list(METHODS))
def test_it_helps_overconfident_predictions(method: str) -> None:
    _, record = calibrate(method, {"participant": overconfident(800)}, seed=0)
    judged = record["levels"]["participant"]
    for name in ("log_loss", "expected_calibration_error"):
        assert judged["after"][name] < judged["before"][name]


def test_isotonic_on_few_participants_is_not_flattered() -> None:
    """Fitted and judged on the same 40 people isotonic looks perfect; on people it did not see it does not."""
    predictions = overconfident(40, temperature=1.0)
    calibrator, record = calibrate("isotonic", {"participant": predictions}, seed=0)
    flattered = measure_calibration(calibrator.apply(predictions))["log_loss"]
    honest = record["levels"]["participant"]["after"]["log_loss"]
    assert flattered < record["levels"]["participant"]["before"]["log_loss"] < honest


@pytest.mark.parametrize("method", list(METHODS))
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
    calibrator, _ = calibrate(method, {"participant": predictions}, seed=0)
    calibrator.save(tmp_path)
    again = load_calibrator(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.apply(predictions).probability, calibrator.apply(predictions).probability)


@pytest.mark.parametrize("method", list(METHODS))
def test_probabilities_stay_probabilities(method: str) -> None:
    predictions = overconfident(50)
    calibrator, _ = calibrate(method, {"participant": predictions}, seed=0)
    probability = calibrator.apply(overconfident(50, temperature=30.0, seed=1)).probability
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-9)
    assert (probability >= 0).all()


def test_reliability_counts_everybody_once() -> None:
    bins = reliability(overconfident(300))
    assert sum(found["n"] for found in bins) == 300
    assert all(found["low"] <= found["confidence"] <= found["low"] + 1 / 15 + 1e-9 for found in bins)


def test_bad_requests_and_files_are_one_message(tmp_path: Path) -> None:
    assert find_method("none") is None
    with pytest.raises(UsageError, match="none, temperature, isotonic"):
        find_method("platt")
    assert load_calibrator(tmp_path) is None
    (tmp_path / CALIBRATION).write_text('{"method": "platt", "parameters": {}}')
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_calibrator(tmp_path)
