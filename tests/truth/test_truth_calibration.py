"""What is shown to new people is true at the stated prevalence: on cohorts like AI-READI's train, whose truth is known.

The long form, with more heads, tasks and seeds, is ``python tests/truth/calibration_cohorts.py``; its table is in
docs/evaluation.md.
"""

import numpy as np
import pytest
from calibration_cohorts import Shown, meet_new_people

SEEDS = range(3)


@pytest.fixture(scope="module")
def healthy() -> list[Shown]:
    return [meet_new_people("linear", "healthy-vs-rest", seed) for seed in SEEDS]


def test_of_those_who_are_promised_as_many_are_there(healthy: list[Shown]) -> None:
    rare = [meet_new_people("linear", "insulin-vs-rest", seed) for seed in SEEDS]
    for found in (healthy, rare):
        np.testing.assert_allclose(np.mean([one.ratio for one in found], axis=0), 1, atol=0.1)
    assert all(one.fresh.probability[:, 1].mean() < 0.1 for one in rare)


def test_probabilities_are_neither_too_sure_nor_too_timid(healthy: list[Shown]) -> None:
    assert np.mean([one.slope[1] for one in healthy]) == pytest.approx(1, abs=0.1)


def test_they_are_worth_more_than_the_prevalence_where_there_is_a_signal_and_cost_nothing_where_there_is_none(
    healthy: list[Shown],
) -> None:
    assert all(one.loss < one.constant for one in healthy)
    null = [meet_new_people("linear", "healthy-vs-rest", seed, effect=0.0) for seed in SEEDS]
    assert max(one.loss - one.constant for one in null) < 0.01


def test_one_temperature_at_balanced_classes_would_not_have_been_true() -> None:
    """The way of before, for contrast: no shift, so a class of 8 % is promised to far too many."""
    old = meet_new_people("linear", "insulin-vs-rest", 0, asked="temperature")
    assert old.method == "constant" or not 0.9 < old.ratio[1] < 1.1
