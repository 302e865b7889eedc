import numpy as np
import pytest

from classify.run.predictions import Predictions
from reports.cases.people import telling_cases, track_record


def people(probability: list[list[float]], label: list[int]) -> Predictions:
    p = np.array(probability)
    names = np.array([f"{number:04d}" for number in range(len(label))])
    return Predictions("linear", "participant", "val", names, names, np.array(label), np.log(p), p)


def test_the_telling_cases_are_sure_and_right_sure_and_wrong_and_undecided() -> None:
    judged = people([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.51, 0.49], [0.4, 0.6]], [0, 1, 1, 0, 1])
    assert [case.participant for case in telling_cases(judged)] == ["0000", "0002", "0003"]
    assert ["right" in telling_cases(judged)[0].why, "wrong" in telling_cases(judged)[1].why] == [True, True]


def test_nobody_is_shown_twice_and_no_kind_is_invented() -> None:
    everybody_right = people([[0.9, 0.1], [0.8, 0.2]], [0, 0])
    assert [case.participant for case in telling_cases(everybody_right)] == ["0000", "0001"]


def test_the_track_record_counts_those_that_were_as_sure() -> None:
    rng = np.random.default_rng(0)
    top = np.r_[np.full(40, 0.9), np.full(40, 0.6)]
    right = np.r_[rng.permutation(np.r_[np.ones(30), np.zeros(10)]), np.zeros(40)].astype(int)
    judged = people([[1 - p, p] for p in top], [int(one) for one in right])
    sure = track_record(0.9, "nobody", judged)
    assert sure is not None
    assert sure.like == 30
    assert sure.right == right[:30].sum()
    assert 0 < sure.low < sure.right / sure.like < sure.high < 1
    assert (sure.least, sure.most) == (pytest.approx(0.9), pytest.approx(0.9))
    unsure = track_record(0.6, "nobody", judged)
    assert unsure is not None
    assert unsure.right == 0


def test_a_person_is_no_witness_for_themselves_and_few_are_none() -> None:
    judged = people([[0.1, 0.9]] * 11, [1] * 10 + [0])
    alone = track_record(0.9, "0010", judged)
    assert alone is not None
    assert (alone.like, alone.right) == (10, 10)
    assert track_record(0.9, "0009", people([[0.1, 0.9]] * 10, [1] * 10)) is None
