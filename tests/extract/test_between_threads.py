"""What volumes pass through between threads: channels that end, a budget that holds, a crew that fails together."""

import time
from collections.abc import Callable
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.engines.budget import Budget
from extract.engines.channel import Channel, GivenUpError
from extract.engines.crew import Crew
from extract.engines.shared_iterator import SharedIterator

PATIENCE_S = 10.0


def in_thread(work: Callable[[], object]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


@given(st.lists(st.integers()), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_every_item_comes_out_once(items: list[int], makers: int, takers: int, capacity: int) -> None:
    channel = Channel[int](makers=makers, capacity=capacity)
    given_out, taken = SharedIterator(items), list[int]()

    def make() -> None:
        for item in given_out:
            channel.put(item)
        channel.leave()

    threads = [in_thread(make) for _ in range(makers)] + [
        in_thread(lambda: taken.extend(channel)) for _ in range(takers)
    ]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(taken) == sorted(items)


def test_a_full_channel_waits_for_room() -> None:
    channel, put = Channel[int](makers=1, capacity=1), Event()
    channel.put(1)
    thread = in_thread(lambda: (channel.put(2), put.set()))
    assert not put.wait(0.05)
    assert next(iter(channel)) == 1
    assert put.wait(PATIENCE_S)
    thread.join(PATIENCE_S)


def test_giving_up_drops_what_is_left_and_frees_everybody() -> None:
    full, empty, said = Channel[int](makers=1, capacity=1), Channel[int](makers=1), list[str]()
    full.put(1)

    def put() -> None:
        with pytest.raises(GivenUpError):
            full.put(2)
        said.append("put")

    def take() -> None:
        assert list(empty) == []
        said.append("take")

    threads = [in_thread(put), in_thread(take)]
    time.sleep(0.02)
    full.give_up()
    empty.give_up()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(said) == ["put", "take"]
    assert list(full) == []


@pytest.mark.parametrize(
    ("held", "asked", "fits"),
    [([], 1000, True), ([1000], 1, False), ([60], 40, True), ([60], 41, False), ([1, 1], 1, False)],
)
def test_a_budget_holds_bytes_and_volumes_but_lets_one_volume_through(held: list[int], asked: int, fits: bool) -> None:
    budget, taken = Budget(size_bytes=100, volumes=2), Event()
    for size in held:
        budget.take(size)
    in_thread(lambda: (budget.take(asked), taken.set()))
    assert taken.wait(0.05) is fits
    budget.give_back(sum(held), volumes=len(held))
    assert taken.wait(PATIENCE_S)


def test_a_budget_that_is_given_up_frees_who_waits() -> None:
    budget, freed = Budget(10, 1), Event()
    budget.take(10)

    def take() -> None:
        with pytest.raises(GivenUpError):
            budget.take(1)
        freed.set()

    in_thread(take)
    budget.give_up()
    assert freed.wait(PATIENCE_S)


def test_the_first_failure_stops_the_whole_crew_and_is_raised() -> None:
    first, second = Channel[int](makers=1), Channel[int](makers=1)
    crew, left = Crew([first, second]), list[str]()

    def fail() -> None:
        raise KeyError("the disk is full")

    crew.start("wait", 2, lambda: list(first).clear(), lambda: left.append("wait"))
    crew.start("fail", 1, fail, lambda: left.append("fail"))
    with pytest.raises(KeyError, match="the disk is full"):
        crew.join()
    assert sorted(left) == ["fail", "wait", "wait"]


def test_a_crew_does_not_wait_for_who_hangs_in_a_network() -> None:
    crew, forever = Crew([]), Event()

    def hang() -> None:
        forever.wait(PATIENCE_S)

    crew.start("hang", 1, hang, lambda: None, awaited=False)
    start = time.monotonic()
    crew.join()
    forever.set()
    assert time.monotonic() - start < PATIENCE_S / 2
