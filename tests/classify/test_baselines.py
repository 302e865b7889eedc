"""Baselines learn on participants of train, say what age and site say, and handle what is missing."""

import numpy as np
import pandas as pd
import pytest

from classify.baselines import COVARIATES, encode_covariates, predict_baselines


def people(count: int, *, seed: int = 0) -> pd.DataFrame:
    """Age tells the class apart; the site does not."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    return pd.DataFrame(
        {
            "participant": [f"{1000 + number}" for number in range(count)],
            "site": np.array(["UW", "UAB", "UCSD"])[rng.integers(0, 3, count)],
            "age": 50.0 + 20 * label + rng.normal(0, 3, count),
            "label": label,
            "protocols": np.where(rng.integers(0, 2, count) > 0, "a/p|b/q", "a/p"),
        }
    )


def accuracy(name: str, train: pd.DataFrame, judged: pd.DataFrame) -> float:
    predictions = predict_baselines(train, judged, classes=2, split="val", names=[name])[name]
    return float((predictions.probability.argmax(axis=1) == predictions.label).mean())


def test_age_is_found_and_site_is_not() -> None:
    train, judged = people(60), people(40, seed=1)
    assert accuracy("age", train, judged) > 0.95
    assert accuracy("age+site", train, judged) > 0.95
    assert accuracy("site", train, judged) < 0.75


def test_the_dummy_gives_the_frequencies_of_train() -> None:
    train = people(40).query("label == 0 or age > 72")
    share = train["label"].mean()
    dummy = predict_baselines(train, people(10), classes=2, split="val")["dummy"]
    assert dummy.probability[:, 1] == pytest.approx(share)


def test_missing_ages_are_marked_not_guessed() -> None:
    train = people(40)
    train.loc[:3, "age"] = np.nan
    encoded = encode_covariates(train, train, ("age",))
    assert encoded[:4].tolist() == [[0.0, 1.0]] * 4
    assert (encoded[4:, 1] == 0).all()
    assert np.isfinite(encoded).all()


def test_no_ages_at_all_and_an_unseen_site_still_predict() -> None:
    train, judged = people(40), people(8, seed=1)
    train["age"] = judged["age"] = np.nan
    judged["site"] = "elsewhere"
    for name, predictions in predict_baselines(train, judged, classes=4, split="val", names=list(COVARIATES)).items():
        assert predictions.model == name
        assert predictions.probability.shape == (8, 4)
        assert predictions.probability.sum(axis=1) == pytest.approx(1)
        assert (predictions.probability[:, 2:] < 1e-9).all()


def test_device_and_protocol_are_found_where_they_tell_the_class() -> None:
    train, judged = people(60), people(40, seed=1)
    assert accuracy("device+protocol", train, judged) < 0.75
    for table in (train, judged):
        table["protocols"] = np.where(table["label"] == 1, "a/p|b/q", "a/p")
    assert accuracy("device+protocol", train, judged) == 1.0
    judged["protocols"] = "unseen/r"
    encoded = encode_covariates(judged, train, ("protocols",))
    assert encoded.shape == (40, 2)
    assert (encoded == 0).all()
