"""Whole or in parts: what a run learns from its own volumes."""

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.partial.choice import ENOUGH, LOOK_BACK, MARGIN, REVIEW_AFTER, Attempt, How, ReadChoice
from extract.partial.downstream import Downstream
from extract.stages import StageClock

SIZE = 130_000_000


def read(
    choice: ReadChoice, count: int, *, whole_s: float = 2.6, partial_s: float = 0.9, limited: bool = True
) -> tuple[list[How], list[str]]:
    """Read volumes one after the other; give how each was read, and what was said."""
    ways, said = list[How](), list[str]()
    for _ in range(count):
        attempt = choice.begin()
        ways.append(attempt.how)
        seconds = {"whole": whole_s, "partial": partial_s}[attempt.how]
        words = choice.end(attempt, how=attempt.how, seconds=seconds, size_bytes=SIZE, limited=limited)
        said += [words] if words else []
    return ways, said


def test_parts_are_kept_where_they_are_faster() -> None:
    ways, said = read(ReadChoice(), 40)
    assert ways == ["whole"] * LOOK_BACK + ["partial"] * (40 - LOOK_BACK)
    assert said == [
        "partial reads: on: fetching limits the run, and a volume takes 0.35 times as long in parts as whole"
    ]


@pytest.mark.parametrize("partial_s", [2.6, 2.6 / MARGIN + 0.01, 9.9])
def test_whole_volumes_are_kept_where_parts_gain_nothing(partial_s: float) -> None:
    ways, said = read(ReadChoice(), 40, partial_s=partial_s)
    assert ways == ["whole"] * LOOK_BACK + ["partial"] * ENOUGH + ["whole"] * (40 - LOOK_BACK - ENOUGH)
    assert len(said) == 1
    assert said[0].startswith("partial reads: off: ")


def test_nothing_is_tried_where_fetching_is_not_the_limit() -> None:
    choice = ReadChoice()
    assert read(choice, 60, limited=False) == (["whole"] * 60, [])
    assert "partial" in read(choice, 60)[0], "but it is as soon as fetching is"


def test_what_is_settled_is_looked_at_again_after_many_volumes_and_said_only_if_changed() -> None:
    choice = ReadChoice()
    read(choice, LOOK_BACK + ENOUGH)
    ways, said = read(choice, REVIEW_AFTER + ENOUGH, limited=False)
    assert (ways.count("whole"), said) == (ENOUGH, []), "in parts, fetching may no longer be the limit"
    assert ways[-ENOUGH:] == ["whole"] * ENOUGH
    ways, said = read(choice, 2 * REVIEW_AFTER, partial_s=20.0)
    assert ways[-1] == "whole"
    assert len(said) == 1


def test_a_slight_gain_changes_nothing_that_is_settled() -> None:
    for first, later in ((0.9, 2.7), (9.0, 2.5)):
        choice = ReadChoice()
        read(choice, LOOK_BACK + ENOUGH, partial_s=first)
        settled = choice.begin()
        choice.drop(settled)
        assert read(choice, 2 * REVIEW_AFTER, partial_s=later)[1] == []
        assert read(choice, 1)[0] == [settled.how]


def test_volumes_on_their_way_side_by_side_with_the_other_kind_are_not_compared() -> None:
    choice = ReadChoice()
    early = [choice.begin() for _ in range(LOOK_BACK + 3)]
    for attempt in early[:LOOK_BACK]:
        choice.end(attempt, how="whole", seconds=2.6, size_bytes=SIZE, limited=True)
    beside = [choice.begin() for _ in range(ENOUGH)]
    assert {(attempt.how, attempt.alone) for attempt in beside} == {("partial", False)}
    said = [choice.end(one, how="partial", seconds=99.0, size_bytes=SIZE, limited=True) for one in beside]
    said += [choice.end(one, how="whole", seconds=99.0, size_bytes=SIZE, limited=True) for one in early[LOOK_BACK:]]
    assert set(said) == {None}
    ways, words = read(choice, ENOUGH)
    assert set(ways) == {"partial"}
    assert words[0].startswith("partial reads: on")


def test_volumes_that_had_to_be_read_whole_after_all_say_nothing_of_parts() -> None:
    choice = ReadChoice()
    read(choice, LOOK_BACK)
    for _ in range(3 * ENOUGH):
        attempt = choice.begin()
        assert attempt == Attempt("partial", alone=True)
        assert choice.end(attempt, how="whole", seconds=9.9, size_bytes=SIZE, limited=True) is None
    assert read(choice, ENOUGH, partial_s=2.5)[1][0].startswith("partial reads: off")


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 9.0), st.booleans()), max_size=200))
def test_no_course_of_a_run_breaks_it(course: list[tuple[bool, float, bool]]) -> None:
    choice, flying = ReadChoice(), deque[Attempt]()
    for begins, seconds, limited in course:
        if begins or not flying:
            flying.append(choice.begin())
        else:
            one = flying.popleft()
            choice.end(one, how=one.how, seconds=seconds, size_bytes=SIZE, limited=limited)


class FakeClock(StageClock):
    def __init__(self) -> None:
        super().__init__()
        self.at_work = dict.fromkeys(("fetch", "decode", "preprocess", "encode", "write"), 0)
        self.written_s = 1.0

    def seconds(self) -> dict[str, float]:
        return {"write": self.written_s}

    def running(self) -> dict[str, int]:
        return self.at_work


@pytest.mark.parametrize(
    ("now", "room"),
    [
        ({}, True),
        ({"fetch": 9}, True),
        ({"decode": 1}, True),
        ({"decode": 1, "preprocess": 1}, False),
        ({"encode": 1}, False),
        ({"write": 1}, True),
    ],
)
def test_a_later_stage_is_full_when_all_of_its_workers_are_at_work(now: dict[str, int], room: bool) -> None:
    clock = FakeClock()
    look: Callable[[], bool] = Downstream(clock).has_room
    clock.at_work |= {"decode": 2, "encode": 1, "write": 2}
    assert not look()
    clock.at_work = dict.fromkeys(clock.at_work, 0) | now
    assert look() is room


def test_nothing_is_known_before_a_volume_is_through() -> None:
    clock = FakeClock()
    clock.written_s = 0.0
    assert not Downstream(clock).has_room()
    clock.written_s = 0.1
    assert Downstream(clock).has_room()


def test_the_stage_clock_tells_who_is_at_work() -> None:
    clock = StageClock()
    with clock.time("decode"), clock.time("decode"), clock.time("fetch"):
        assert clock.running() == {"fetch": 1, "decode": 2, "preprocess": 0, "encode": 0, "write": 0}
    assert set(clock.running().values()) == {0}
