"""25,000 volumes over four devices and 1,061 participants: one LIST a thousand objects, none at the second start."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, time_ns

import pytest
from fault_proxy import FaultPlan, fault_proxy
from large_bucket import DEVICES, PAGES, PARTICIPANTS, VOLUMES, make_large_bucket
from rclone_server import rclone_s3

from embeddings_store.command_line import parse_words
from extract.options import ExtractOptions
from extract.selection import Selection, select_volumes

Select = Callable[..., Selection]


@pytest.fixture
def served(tmp_path: Path, s3_credentials: Callable[[str, str], None]) -> Iterator[tuple[FaultPlan, ExtractOptions]]:
    """A real server, behind a proxy that spoils nothing and counts."""
    make_large_bucket(tmp_path / "buckets/eye")
    plan = FaultPlan(seed=0, rate=0.0)
    with rclone_s3(tmp_path / "buckets") as (server, *keys), fault_proxy(server, plan) as endpoint:
        s3_credentials(*keys)
        yield (
            plan,
            parse_words(ExtractOptions, bucket="eye", endpoint_url=endpoint, store="unused", encoder="random:tiny"),
        )


@pytest.mark.s3
@pytest.mark.slow
def test_25_000_volumes_take_26_requests_and_then_none(served: tuple[FaultPlan, ExtractOptions]) -> None:
    plan, options = served
    starts = []
    for _ in range(2):
        before = (plan.list_requests, plan.requests, perf_counter())
        selection = select_volumes(options, now_ns=time_ns())
        seconds = perf_counter() - before[2]
        starts.append((selection, plan.list_requests - before[0], plan.requests - before[1], seconds))
    (first, *asked_first), (second, *asked_second) = starts
    print(f"first start: LIST, GET, seconds {asked_first}; second start: {asked_second}")

    assert len(first.refs) == VOLUMES
    assert {ref.device for ref in first.refs} == set(DEVICES)
    assert len({ref.participant for ref in first.refs}) == PARTICIPANTS
    assert first.catalogue.listing.listed == VOLUMES + 1
    assert asked_first[0] == first.source.counts.list_requests == PAGES
    assert asked_second[:2] == [0, 1], "participants.tsv proves that the catalogue is still this bucket's"
    assert second.source.counts.list_requests == 0
    assert second.catalogue.from_cache
    assert second.refs == first.refs
