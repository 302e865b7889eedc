"""What a protocol is worth: the one that knows the class is found, and the rest of the rule follows from it."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from classify.fitting.aggregate import Aggregation, aggregate_levels
from classify.fitting.protocol_weights import ScanPredictions, _ParticipantLoss, learn_best_protocol, learn_weights
from classify.heads.contract import softmax
from classify.run.predictions import Predictions


def make_scans(participants: int = 120, *, good: float = 2.0, lacking: int = 0, seed: int = 0) -> ScanPredictions:
    """Each eye has three scans; only "good" knows the class, and the first ``lacking`` participants have none of it."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{person:03d}", eye, name, person % 3)
        for person in range(participants)
        for eye in "LR"
        for name in ("bad", "good", "worse")
        if not (name == "good" and person < lacking)
    ]
    person, eye, protocol, label = (np.array(column) for column in zip(*rows, strict=True))
    spread = np.where(protocol == "worse", 3.0, 1.0)[:, None]
    logits = spread * rng.normal(size=(len(rows), 3)) + good * np.eye(3)[label] * (protocol == "good")[:, None]
    unit = np.array([f"v{number}" for number in range(len(rows))])
    volumes = Predictions("m", "volume", "train", unit, person, label.astype(np.int64), logits, softmax(logits))
    return ScanPredictions(volumes, eye, protocol)


def accuracy(scans: ScanPredictions, aggregation: Aggregation) -> float:
    levels = aggregate_levels(scans.volumes, scans.eye, aggregation.weigh(scans.protocol))
    people = levels["participant"]
    return float((people.probability.argmax(axis=1) == people.label).mean())


def test_the_protocol_that_knows_the_class_is_the_best() -> None:
    assert learn_best_protocol(make_scans()) == ({"good": 1.0}, 0.0)


def test_weights_are_positive_follow_what_a_protocol_knows_and_help_others() -> None:
    weights, other = learn_weights(make_scans())
    assert other == 1.0
    assert weights["good"] > weights["bad"] > weights["worse"] > 0
    fresh = make_scans(seed=1)
    learned = accuracy(fresh, Aggregation("learned-weights", weights, other))
    assert learned > accuracy(fresh, Aggregation()) + 0.05


def test_protocols_that_are_alike_weigh_alike() -> None:
    weights, _ = learn_weights(make_scans(good=0.0, participants=240))
    assert weights["bad"] == pytest.approx(weights["good"], rel=0.5)


def test_an_eye_without_the_best_protocol_counts_all_its_scans() -> None:
    scans = make_scans(lacking=10)
    weights, other = learn_best_protocol(scans)
    levels = aggregate_levels(
        scans.volumes, scans.eye, Aggregation("best-protocol", weights, other).weigh(scans.protocol)
    )
    plain = aggregate_levels(scans.volumes, scans.eye)["eye"].logits
    place = {name: number for number, name in enumerate(levels["eye"].unit)}
    np.testing.assert_allclose(levels["eye"].logits[place["p003:L"]], plain[place["p003:L"]])
    own = (scans.volumes.participant == "p050") & (scans.eye == "R") & (scans.protocol == "good")
    np.testing.assert_allclose(levels["eye"].logits[place["p050:R"]], scans.volumes.logits[own][0])
    assert np.isfinite(levels["participant"].logits).all()


def test_the_gradient_is_that_of_the_loss() -> None:
    scans = make_scans(24, lacking=3)
    names, code = np.unique(scans.protocol, return_inverse=True)
    loss = _ParticipantLoss(scans, code, len(names))
    at = np.array([0.2, -0.4, 0.7, 0.1])
    numeric = approx_fprime(at, lambda parameters: loss(parameters)[0], 1e-6)
    np.testing.assert_allclose(loss(at)[1], numeric, rtol=1e-4, atol=1e-4)
