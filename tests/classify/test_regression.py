"""Numbers are judged as scikit-learn and scipy judge them, for repeated people too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as peer

from classify.judging.number_metrics import absolute_error, r_squared, spearman
from classify.judging.regression import measure_regression


@given(seed=st.integers(0, 1000))
def test_all_three_agree_with_their_peers_on_repeated_people(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(40, 60, 25).astype(np.float64), np.round(rng.normal(50, 5, 25))
    times = rng.integers(0, 3, 25)
    times[:2], truth[:2], guess[:2] = 1, (40, 60), (45, 55)
    weights = times[:, None].astype(np.float64)
    repeated, guessed = np.repeat(truth, times), np.repeat(guess, times)
    assert r_squared(truth, guess, weights)[0] == pytest.approx(peer.r2_score(repeated, guessed), abs=1e-9)
    assert absolute_error(truth, guess, weights)[0] == pytest.approx(
        peer.mean_absolute_error(repeated, guessed), abs=1e-9
    )
    assert spearman(truth, guess, weights)[0] == pytest.approx(spearmanr(repeated, guessed).statistic, abs=1e-9)


def test_a_good_guess_beats_the_mean_and_a_blind_one_does_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(60, 9, 80)
    weights = np.vstack([np.ones(80), *rng.multinomial(80, np.full(80, 1 / 80), size=200)]).T.astype(np.float64)
    good = measure_regression(truth, truth + rng.normal(0, 2, 80), weights, 60.0)
    blind = measure_regression(truth, rng.normal(60, 9, 80), weights, 60.0)
    assert good["less_error_than_the_mean"].low > 0 > blind["less_error_than_the_mean"].high
    assert good["spearman"].low > 0.9
    assert good["mean_absolute_error"].value < 3 < good["mean_absolute_error_of_the_mean"].value


def test_equal_values_are_absent_not_zero() -> None:
    measured = measure_regression(np.full(9, 50.0), np.arange(9.0), np.ones((9, 3)), 50.0)
    assert "absent" in measured
    assert measured["spearman"].absent
    assert measured["mean_absolute_error_of_the_mean"].value == 0
