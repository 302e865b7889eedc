"""An estimate is read from JSON and written to it without a loss, and shows no interval that cannot carry anything."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from classify.errors import RunFolderError
from classify.run.estimate import ESTIMATE, Estimate, lift
from classify.run.record import RunRecord
from classify.run.typed_record import plain

NUMBER = st.floats(-1e6, 1e6)
MEASURED = st.fixed_dictionaries(
    {"value": NUMBER, "low": NUMBER, "high": NUMBER},
    optional={
        "dropped": st.integers(1, 9), "too_few": st.text(min_size=1), "p": NUMBER, "holm": NUMBER, "of": st.integers(1),
        "simultaneous": st.fixed_dictionaries({"low": NUMBER, "high": NUMBER}),
        "spread": st.none() | st.just({"sd": 1.0}),
    },
)  # fmt: skip
ABSENT = st.fixed_dictionaries({"absent": st.text(min_size=1)}, optional={"spread": st.none()})


@given(found=st.lists(st.dictionaries(st.sampled_from("abc"), MEASURED | ABSENT), max_size=3))
def test_what_is_lifted_is_written_again_as_it_was(found: list[dict[str, dict[str, object]]]) -> None:
    tree = {"by": "site", "lines": found, "absent": [], "few": None}
    lifted = lift(tree)
    assert all(isinstance(one, Estimate) for line in lifted["lines"] for one in line.values())
    assert json.loads(json.dumps(plain(lifted))) == tree


def test_objects_that_hold_more_than_an_estimate_stay_objects() -> None:
    for tree in ({"target": "age", "value": 0.1}, {"low": 0.0, "high": 1.0}, {"participants": 0, "absent": "nobody"}):
        assert lift(tree) == tree
    line = {"target": "age", "value": 0.1, "low": 0.0, "high": 0.2, "units": 9}
    assert ESTIMATE.validate_python(line) == Estimate(0.1, 0.0, 0.2, more={"target": "age", "units": 9})


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Estimate(0.5, 0.25, 0.75), "0.50 (0.25 to 0.75)"),
        (Estimate(0.5, 0.25, 0.75, too_few="9 participants"), "0.50 (too few to say)"),
        (Estimate(0.5, 0.5, 0.5), "0.50 (too few to say)"),
        (Estimate(0.5), "0.50 (no interval)"),
        (Estimate(absent="no unit of class a"), "absent: no unit of class a"),
    ],
)
def test_an_interval_is_shown_where_it_can_carry_something(one: Estimate, said: str) -> None:
    assert one.text("{:.2f}".format) == said
    assert one.is_above(0.2) == (one.interval != ())
    assert one.is_above(0.8, sign=-1.0) == (one.interval != ()) and not one.is_above(0.3)


def test_a_difference_among_many_lines_is_shown_with_the_interval_of_all() -> None:
    apart = Estimate(0.5, 0.25, 0.75, simultaneous={"low": 0.125, "high": 0.875})
    assert apart.at_once().interval == (0.125, 0.875)
    assert Estimate(0.5, 0.25, 0.75).at_once().interval == ()
    assert Estimate(absent="none").at_once() == Estimate(absent="none")


def test_a_record_with_a_number_that_is_none_is_refused_in_one_line() -> None:
    raw = {
        "id": "x", "task": "t", "classes": [], "space": "", "phantom": False, "cohort_sha256": "", "splits": {},
        "model": "m", "metrics": {"participant": {"val": {"r2": {"value": "high"}}}},
    }  # fmt: skip
    with pytest.raises(RunFolderError, match=r"metrics.participant.val.r2.value: Input should be a valid number"):
        RunRecord.from_dict(raw, "x")
    raw |= {"metrics": {}, "subgroups": {"val": [{"r2": {"value": "high"}}]}}
    with pytest.raises(RunFolderError, match=r"subgroups.val.0.value: Input should be a valid number"):
        RunRecord.from_dict(raw, "x")


@pytest.mark.parametrize("ends", [{}, {"low": 0.1}, {"low": 0.1, "high": "x"}, 3])
def test_an_interval_of_one_end_is_refused(ends: object) -> None:
    with pytest.raises(ValidationError):
        ESTIMATE.validate_python({"value": 0.2, "low": 0.1, "high": 0.3, "simultaneous": ends})
