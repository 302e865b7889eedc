"""The vectorised bootstrap equals an explicit loop, keeps persons together, and its intervals cover the truth."""

import numpy as np
import pytest
from sklearn import metrics as peer

from classify.heads.contract import softmax
from classify.judging import bootstrap
from classify.judging.bootstrap import (
    FEW_PARTICIPANTS,
    caution_few,
    count_people,
    draw_replicates,
    measure,
    replicate_metrics,
    summarise,
)
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions

CLASSES = ("a", "b", "c", "d")


def make_predictions(participants: int, *, scans: int = 1, seed: int = 0, shift: float = 1.0) -> Predictions:
    """Logits that know the class by ``shift``; rounded, so that scores tie."""
    rng = np.random.default_rng(seed)
    person = np.repeat([f"{1000 + number}" for number in range(participants)], scans)
    label = np.repeat(rng.permutation(np.arange(participants) % 4), scans).astype(np.int64)
    own = np.repeat(rng.normal(size=(participants, 4)), scans, axis=0)
    logits = np.round(own + rng.normal(size=own.shape) * 0.3 + shift * np.eye(4)[label], 1)
    unit = np.array([f"v{number}" for number in range(len(person))])
    return Predictions("m", "volume", "val", unit, person, label, logits, softmax(logits))


@pytest.mark.parametrize("at_once", [500, 7])
def test_the_vectorised_bootstrap_equals_an_explicit_loop(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "COLUMNS_AT_ONCE", at_once)
    predictions = make_predictions(24, scans=3)
    replicates = draw_replicates(predictions.participant, replicates=60, seed=1)
    got = replicate_metrics(predictions, replicates, CLASSES)
    compared = 0
    for column in range(1, 61):
        drawn = np.repeat(replicates.participant, replicates.counts[:, column])
        rows = np.concatenate([np.flatnonzero(predictions.participant == person) for person in drawn])
        label, probability = predictions.label[rows], predictions.probability[rows]
        if len(set(label)) < 4:
            assert np.isnan(got["macro_auroc"][column])
            continue
        compared += 1
        predicted = probability.argmax(axis=1)
        assert got["balanced_accuracy"][column] == pytest.approx(
            peer.balanced_accuracy_score(label, predicted), abs=1e-9
        )
        assert got["macro_auroc"][column] == pytest.approx(
            peer.roc_auc_score(label, probability, multi_class="ovr"), abs=1e-9
        )
        assert got["log_loss"][column] == pytest.approx(peer.log_loss(label, probability), abs=1e-9)
    assert compared > 40


def test_a_replicate_draws_as_many_participants_as_there_are_and_keeps_their_scans_together() -> None:
    predictions = make_predictions(10, scans=4)
    replicates = draw_replicates(predictions.participant, replicates=50, seed=0)
    assert (replicates.counts.sum(axis=0) == 10).all()
    weights = replicates.weights_of(predictions.participant, slice(0, 51))
    for person in replicates.participant:
        rows = weights[predictions.participant == person]
        assert (rows == rows[0]).all()


def test_repeating_every_scan_does_not_narrow_the_interval() -> None:
    once = make_predictions(40)
    rows = np.repeat(np.arange(40), 10)
    often = Predictions(
        "m", "volume", "val", np.arange(400).astype(str), once.participant[rows], once.label[rows],
        once.logits[rows], once.probability[rows],
    )  # fmt: skip
    narrow, _ = measure(once, draw_replicates(once.participant, replicates=200, seed=3), CLASSES)
    wide, _ = measure(often, draw_replicates(often.participant, replicates=200, seed=3), CLASSES)
    for end in ("value", "low", "high"):
        assert getattr(wide["accuracy"], end) == pytest.approx(getattr(narrow["accuracy"], end), abs=1e-12)


def test_undefined_replicates_are_dropped_and_counted() -> None:
    values = np.array([0.5, *np.linspace(0.4, 0.6, 90), *[np.nan] * 10])
    measured = summarise(values, "unused")
    assert measured.dropped == 10
    assert 0.4 < measured.low < measured.high < 0.6


def test_too_many_undefined_replicates_make_a_metric_absent() -> None:
    values = np.array([0.5, 0.4, 0.6, *[np.nan] * 8])
    assert summarise(values, "").absent == "undefined in 8 of 10 bootstrap replicates: too few participants"
    assert summarise(np.array([np.nan, 0.4]), "no unit of class d") == Estimate(absent="no unit of class d")


def test_a_model_does_not_differ_from_itself() -> None:
    predictions = make_predictions(40)
    replicates = draw_replicates(predictions.participant, replicates=100, seed=0)
    values = replicate_metrics(predictions, replicates, CLASSES)["accuracy"]
    nothing = Estimate(0.0, 0.0, 0.0, too_few="the interval has no width")
    assert summarise(values - values, "") == nothing


def test_a_paired_interval_is_narrower_than_the_two_alone_suggest() -> None:
    better, worse = make_predictions(80, shift=1.2), make_predictions(80, shift=1.0)
    replicates = draw_replicates(better.participant, replicates=300, seed=0)
    ours = replicate_metrics(better, replicates, CLASSES)["macro_auroc"]
    theirs = replicate_metrics(worse, replicates, CLASSES)["macro_auroc"]
    difference = summarise(ours - theirs, "")
    assert difference.low > 0
    assert difference.high - difference.low < np.ptp(np.percentile(ours, [2.5, 97.5]))


def test_few_participants_are_cautioned_by_the_smallest_class() -> None:
    assert caution_few({"per_class": {"healthy": 40, "insulin_dependent": FEW_PARTICIPANTS}}) is None
    caution = caution_few({"per_class": {"healthy": 40, "insulin_dependent": 2}})
    assert caution is not None
    assert "(insulin_dependent) has 2" in caution


def test_scans_of_one_person_count_once_for_the_caution() -> None:
    counts = count_people(make_predictions(12, scans=4), CLASSES)
    assert counts == {
        "participants": 12,
        "per_class": dict.fromkeys(CLASSES, 12),
        "participants_per_class": dict.fromkeys(CLASSES, 3),
    }
    assert "has 3" in str(caution_few(counts))
    assert caution_few(count_people(make_predictions(48), CLASSES)) is None


def test_intervals_cover_the_truth_of_simulated_cohorts() -> None:
    truth = _truth()
    covered = dict.fromkeys(truth, 0)
    for cohort in range(100):
        predictions = make_predictions(160, seed=cohort)
        replicates = draw_replicates(predictions.participant, replicates=300, seed=cohort)
        measured, _ = measure(predictions, replicates, CLASSES)
        for name, value in truth.items():
            covered[name] += measured[name].low <= value <= measured[name].high
    print("covered of 100:", covered)
    # 95 expected; 88 is three standard errors of a binomial below it.
    assert min(covered.values()) >= 88


def _truth() -> dict[str, float]:
    everybody = make_predictions(20_000, seed=10_000)
    replicates = draw_replicates(everybody.participant, replicates=1, seed=0)
    values = replicate_metrics(everybody, replicates, CLASSES)
    return {name: float(values[name][0]) for name in ("balanced_accuracy", "macro_auroc", "log_loss")}
