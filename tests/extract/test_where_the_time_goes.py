"""Busy shares, the stage that limits, the line that a person watches, and what 1,000 volumes cost."""

import time
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.bucket.prices import DOLLARS_PER_BYTE, DOLLARS_PER_GET
from extract.bucket.source import TransferCounts
from extract.busy import ADVICE, NO_ADVICE, NOTHING_TO_DO, RecentWork, advise, busy_shares, limiting_stage
from extract.cost import cost_per_1000_volumes, describe_cost
from extract.progress import Progress
from extract.stages import STAGES, StageClock

WORKERS = {"fetch": 4, "decode": 2, "encode": 1, "write": 2}
B2 = "https://s3.us-west-004.backblazeb2.com"


def look(wall: float, **spent: float) -> dict[str, float]:
    return {"wall": wall} | dict.fromkeys(STAGES, 0.0) | spent


def test_shares_are_of_the_workers_time_and_decoders_resize_too() -> None:
    before = look(10.0, fetch=5.0, encode=1.0)
    after = look(20.0, fetch=25.0, decode=6.0, preprocess=4.0, encode=10.5, write=0.0)
    found = busy_shares(before, after, WORKERS)
    assert found == {"fetch": 0.5, "decode": 0.5, "encode": 0.95, "write": 0.0}
    assert limiting_stage(found) == "encode"


def test_a_share_is_never_more_than_whole_and_no_time_is_no_share() -> None:
    assert busy_shares({}, look(1.0, encode=1.5), WORKERS)["encode"] == 1.0
    assert busy_shares(look(3.0), look(3.0), WORKERS) == dict.fromkeys(WORKERS, 0.0)


@given(st.dictionaries(st.sampled_from(list(WORKERS)), st.floats(0, 1), min_size=4, max_size=4))
def test_the_limiting_stage_is_the_busiest_if_any_was_busy(busy: dict[str, float]) -> None:
    found = limiting_stage(busy)
    assert (found is None) == (max(busy.values()) < 0.5)
    assert found is None or busy[found] == max(busy.values())


def test_advice_names_what_would_help() -> None:
    assert set(ADVICE) == set(WORKERS)
    assert "GPU" in advise("encode", "cpu", 5.0)
    assert "--batch-size" in advise("encode", "cuda", 5.0)
    assert "--streams" in advise("fetch", "cpu", 5.0)
    assert advise(None, "cpu", 5.0) == NO_ADVICE
    assert advise(None, "cpu", 0.0) == NOTHING_TO_DO


def test_a_stage_that_is_still_at_work_counts_as_far_as_it_got() -> None:
    clock, begun, go_on = StageClock(), Event(), Event()

    def encode() -> None:
        with clock.time("encode"):
            begun.set()
            go_on.wait(10)

    thread = Thread(target=encode)
    thread.start()
    begun.wait(10)
    time.sleep(0.05)
    during = clock.seconds()
    go_on.set()
    thread.join()
    after = clock.seconds()
    assert 0.04 < during["encode"] <= during["wall"]
    assert during["encode"] <= after["encode"]
    assert clock.seconds()["encode"] == after["encode"], "the clock of a stage stops when nobody is at work"


def test_the_line_tells_speed_transfer_and_shares() -> None:
    counts, clock = TransferCounts(), StageClock()
    recent = RecentWork(clock, counts, WORKERS)
    progress = Progress(10, "rows", recent.describe)
    with clock.time("encode"):
        time.sleep(0.05)
    counts.add(received_bytes=5_000_000)
    progress.advance(failed=False)
    progress.advance(failed=True)
    line = progress.describe()
    assert line.startswith("2 of 10 rows, 1 errors, ")
    assert " rows/s, " in line
    assert " MB/s; busy: fetch 0 %, decode 0 %, encode " in line
    assert "; 0.0 MB/s" not in line


def test_the_cost_of_1000_volumes() -> None:
    counts = TransferCounts(get_requests=55, list_requests=1, bytes=50 * 60_000_000)
    found = cost_per_1000_volumes(50.0, counts, 100.0, B2, 3.6)
    expected = 1000 * 60e6 * DOLLARS_PER_BYTE + 1100 * DOLLARS_PER_GET
    assert found["reading"] == pytest.approx(expected, abs=0.01)
    assert found["machine"] == 2.0, "20 volumes a second and 3.60 dollars an hour: 2,000 seconds"
    assert "absent" not in found
    when = found["looked_up"]
    told = f"\n1,000 volumes cost at most $0.60 to read (prices of {when}) and $2.00 of machine hours"
    assert describe_cost(found) == told


def test_prices_that_nobody_told_are_absent_with_the_reason() -> None:
    found = cost_per_1000_volumes(50.0, TransferCounts(), 100.0, None, None)
    assert found == {
        "absent": {
            "reading": "prices are known for Backblaze B2 endpoints only",
            "machine": "say --usd-per-hour, what this machine costs",
        }
    }
    assert describe_cost(found) == ""
    assert set(cost_per_1000_volumes(0.0, TransferCounts(), 1.0, B2, 1.0)["absent"]) == {"reading", "machine"}
