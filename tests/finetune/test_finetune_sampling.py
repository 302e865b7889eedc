"""Which volumes an epoch draws, and how heavily they count."""

from collections import Counter

import numpy as np
import pytest
from finetune_study import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.sampling import draw_epoch, loss_weights

SCANS = {"1": 6, "2": 1, "3": 2, "4": 3}
PEOPLE = [person for person, count in SCANS.items() for _ in range(count)]
LABEL = [0 if person in "12" else 1 for person in PEOPLE]
TABLE = rows_of(LABEL, "train", [f"v{n}" for n in range(len(PEOPLE))], PEOPLE)


def test_participants_are_drawn_equally_often_and_their_scans_take_turns() -> None:
    for epoch in range(5):
        draws = draw_epoch(TABLE, "participants", epoch=epoch, seed=(0,))
        assert Counter(PEOPLE[draw.row] for draw in draws) == dict.fromkeys(SCANS, 3)
        assert len({(draw.row, draw.repeat) for draw in draws}) == len(draws)
        assert {draw.row for draw in draws if PEOPLE[draw.row] == "4"} == {9, 10, 11}
    seen = {draw.row for epoch in range(20) for draw in draw_epoch(TABLE, "participants", epoch=epoch, seed=(0,))}
    assert seen == set(range(12))


def test_volumes_are_drawn_once_each() -> None:
    draws = draw_epoch(TABLE, "volumes", epoch=1, seed=(0,))
    assert sorted(draw.row for draw in draws) == list(range(12))


@pytest.mark.parametrize("sampling", ["participants", "volumes"])
def test_order_depends_on_seed_and_epoch_alone(sampling: str) -> None:
    one, same, other_epoch, other_seed = (
        draw_epoch(TABLE, sampling, epoch=epoch, seed=(seed,)) for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert one == same
    assert [draw.row for draw in one] != [draw.row for draw in other_epoch]
    assert [draw.row for draw in one] != [draw.row for draw in other_seed]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 4)), min_size=2, max_size=8, unique_by=lambda p: p[0]
    ),
    st.sampled_from(["participants", "volumes"]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_drawing_and_weights_together_balance_people_and_classes(
    scans: list[tuple[str, int]], sampling: str, class_weights: bool
) -> None:
    people = [person for person, count in scans for _ in range(count)]
    class_of = {person: int(number > 0) for number, (person, _) in enumerate(scans)}
    table = rows_of([class_of[person] for person in people], "train", [str(n) for n in range(len(people))], people)
    weights = loss_weights(table, sampling, class_weights=class_weights)
    told = np.zeros(len(people))
    draws = draw_epoch(table, sampling, epoch=0, seed=(0,))
    for draw in draws:
        told[draw.row] += weights[draw.row]
    by_person = {person: sum(told[n] for n, name in enumerate(people) if name == person) for person, _ in scans}
    for label in (0, 1):
        assert len({round(by_person[person], 9) for person, _ in scans if class_of[person] == label}) == 1
    totals = [sum(by_person[person] for person, _ in scans if class_of[person] == label) for label in (0, 1)]
    if class_weights:
        assert totals[0] == pytest.approx(totals[1])
    else:
        assert len({round(value, 9) for value in by_person.values()}) == 1
    assert told.sum() == pytest.approx(len(draws))
