"""How many threads each stage gets: by cores and memory, unless the user says."""

from typing import Any

import pytest
import torch

from embeddings_store.command_line import parse_words
from embeddings_store.errors import UsageError
from extract.device.cpu import CpuBackend
from extract.engines import workers
from extract.engines.workers import Share, Workers, choose_workers
from extract.options import ExtractOptions
from extract.targets import OpenedEncoder, open_encoders

GB = 10**9


class Accelerator(CpuBackend):
    name = "cuda"

    def free_memory_bytes(self) -> int:
        return 16 * GB


@pytest.fixture(autouse=True)
def _unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, 64)


def pin(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


def choose(share: Share, backend: CpuBackend | None = None, **said: Any) -> Workers:
    given = parse_words(
        ExtractOptions, **({"bucket": "b", "store": "s", "encoder": "random:tiny", "device": "cpu"} | said)
    )
    used = backend or CpuBackend("fp32")
    return choose_workers(given, used, encoders(used, **said), share)


def encoders(backend: CpuBackend, **said: Any) -> list[OpenedEncoder]:
    size = {"image_size": said.get("image_size", "32,96,96"), "batch_size": said.get("batch_size", "auto")}
    return open_encoders(parse_words(ExtractOptions, bucket="b", store="s", encoder="random:tiny", **size), backend)


def test_a_forward_a_core_on_the_cpu() -> None:
    found = choose(Share(8, 64 * GB))
    assert found.by_stage() == {"fetch": 32, "decode": 8, "encode": 8, "write": 2}
    assert (found.forward_threads, found.budget_bytes) == (1, 8 * GB)
    assert found.volumes_in_flight == 32 + 2 * 16


def test_fewer_forwards_where_memory_is_short_each_with_more_threads() -> None:
    """A forward of 72 x 72 x 8 tokens takes about 0.25 GB by the estimate; half of the memory is for forwards."""
    found = choose(Share(8, 2 * GB), image_size="32,1152,1152")
    assert 1 <= found.encode < 8
    assert found.forward_threads == 8 // found.encode
    assert found.budget_bytes == 1 * GB
    assert choose(Share(8, 1), image_size="32,1152,1152").encode == 1


def test_threads_that_the_user_pinned_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, 4)
    found = choose(Share(8, 64 * GB))
    assert (found.encode, found.forward_threads) == (2, 4)


def test_one_stream_of_batches_on_an_accelerator() -> None:
    assert choose(Share(8, 64 * GB), Accelerator("fp32")).encode == 1


def test_what_the_user_says_counts() -> None:
    found = choose(Share(8, 64 * GB), streams=5, decoders="3", writers="7")
    assert found.by_stage() == {"fetch": 5, "decode": 3, "encode": 8, "write": 7}
    assert choose(Share(8, 64 * GB), store="s3://bucket/store").write == workers.WRITERS_S3


@pytest.mark.parametrize("option", ["decoders", "writers"])
@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_a_count_is_auto_or_a_number_from_1(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--{option}: expected auto or a number from 1, got '{text}'"):
        choose(Share(8, 64 * GB), **{option: text})


def test_it_is_said_in_one_line() -> None:
    said = choose(Share(2, 16 * GB)).describe([1, 4])
    assert said == (
        "workers: 32 fetch, 2 decode, 2 encode (1 torch threads each, batches of 1, 4), 2 write; "
        "at most 40 volumes and 2.0 GB before the encoder"
    )
