"""The bag head finds the one scan of a participant that tells, where the mean of all scans drowns it."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from classify.heads.contract import Head
from classify.heads.linear import LinearHead
from classify.heads.mil import MilHead

SCANS, FEATURES = 6, 16
QUICK = {"learning_rate": 1e-2, "weight_decay": 0.1, "max_epochs": 6}


def make_bags(
    people: int = 300, *, effect: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One scan of each participant shows the class, and that it is the one; give also which rows these are."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, people)
    x = rng.normal(size=(people, SCANS, FEATURES))
    telling = rng.integers(0, SCANS, people)
    x[np.arange(people), telling, 0] += effect * (2 * y - 1)
    x[np.arange(people), telling, 1] += 5
    groups = np.repeat(np.arange(people), SCANS)
    return x.reshape(-1, FEATURES).astype(np.float32), np.repeat(y, SCANS), groups, np.arange(people) * SCANS + telling


def bags(head: Head, x: np.ndarray, groups: np.ndarray) -> np.ndarray:
    assert isinstance(head, MilHead)
    names, probability = head.predict_bags(x, groups)
    assert (names == np.unique(groups)).all()
    return probability


def test_it_finds_the_scan_that_the_mean_of_logits_drowns() -> None:
    x, y, groups, telling = make_bags()
    train, truth = groups < 150, y[::SCANS][150:]
    head = MilHead().fit(x[train], y[train], None, groups[train])
    linear = LinearHead(C=0.1).fit(x[train], y[train])
    logits = np.log(linear.predict_proba(x[~train]))
    mean = (logits[:, 1] - logits[:, 0]).reshape(-1, SCANS).mean(axis=1)
    found = bags(head, x[~train], groups[~train])[:, 1]
    assert roc_auc_score(truth, found) > roc_auc_score(truth, mean) + 0.1
    shares = head.scan_weights(x, groups)
    np.testing.assert_allclose(np.bincount(groups, shares), 1)
    assert shares[telling[150:]].mean() > 0.5


def test_without_an_effect_it_stays_at_chance() -> None:
    found = []
    for seed in range(3):
        x, y, groups, _ = make_bags(500, effect=0.0, seed=seed)
        train = groups < 120
        head = MilHead(max_epochs=20).fit(x[train], y[train], None, groups[train])
        found.append(roc_auc_score(y[::SCANS][120:], bags(head, x[~train], groups[~train])[:, 1]))
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)


def test_bags_of_any_size_come_in_the_order_of_their_names() -> None:
    x, y, groups, _ = make_bags(40)
    keep = np.random.default_rng(2).random(len(x)) < 0.6
    keep[::SCANS] = True
    names = np.array([f"p{(7 * number) % 40:02d}" for number in groups])
    head = MilHead(**QUICK).fit(x[keep], y[keep], None, names[keep])
    whole = bags(head, x[keep], names[keep])
    for place, name in enumerate(np.unique(names[keep])):
        own = keep & (names == name)
        np.testing.assert_allclose(bags(head, x[own], names[own])[0], whole[place], atol=1e-12)


def test_the_order_of_the_scans_does_not_matter_to_a_bag() -> None:
    x, y, groups, _ = make_bags(30)
    head = MilHead(**QUICK).fit(x, y, None, groups)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(bags(head, x[order], groups[order]), bags(head, x, groups), rtol=0, atol=1e-12)
    np.testing.assert_allclose(head.scan_weights(x[order], groups[order]), head.scan_weights(x, groups)[order])


def test_a_row_alone_is_a_bag_of_one() -> None:
    x, y, groups, _ = make_bags(30)
    head = MilHead(**QUICK).fit(x, y, None, groups)
    np.testing.assert_allclose(bags(head, x, np.arange(len(x))), head.predict_proba(x), atol=1e-12)
    assert (head.scan_weights(x, np.arange(len(x))) == 1).all()


def test_a_bag_with_two_labels_is_refused() -> None:
    x, y, groups, _ = make_bags(10)
    y[0] = 1 - y[0]
    with pytest.raises(ValueError, match="mixed group"):
        MilHead(**QUICK).fit(x, y, None, groups)


def test_a_bag_weighs_what_its_scans_weigh(tmp_path: Path) -> None:
    x, y, groups, _ = make_bags(60, effect=0.3)
    heavy = MilHead(**QUICK).fit(x, y, np.where(y == 1, 20.0, 1.0), groups)
    plain = MilHead(**QUICK).fit(x, y, None, groups)
    assert bags(heavy, x, groups)[:, 1].mean() > bags(plain, x, groups)[:, 1].mean() + 0.1
    heavy.save(tmp_path)
    again = MilHead().load(tmp_path)
    assert (bags(again, x, groups) == bags(heavy, x, groups)).all()
