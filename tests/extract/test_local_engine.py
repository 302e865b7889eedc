"""The engine of one machine: the same rows however many threads, and a volume that fails takes no neighbour along."""

from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from small_bucket import assert_same_rows, errors, fill_bucket, key_of, options, rows

from embeddings_store.errors import RunError, StoreError
from embeddings_store.writer import StoreWriter
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, Wanted
from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder
from extract.errors import BucketError, FetchError
from extract.load import VolumeLoader
from extract.pipeline import extract

VOLUMES = 12
POISONED = key_of(5)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return fill_bucket(tmp_path / "bucket", VOLUMES)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("compressed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_are_bit_equal_with_1_4_and_16_workers(tmp_path: Path, compressed: bool) -> None:
    """Compressed frames are decoded in processes, 16 of them side by side."""
    files = fill_bucket(tmp_path / "files", VOLUMES, compressed=compressed)
    for workers in (1, 4, 16):
        threads = {"streams": workers, "decoders": str(workers), "writers": str(workers)}
        summary = extract(options(files, tmp_path / f"store-{workers}", **threads))
        assert (summary["committed"], summary["errors"]) == (VOLUMES, {})
        assert [summary["workers"][stage] for stage in ("fetch", "decode", "write")] == [workers] * 3
    assert len(rows(tmp_path / "store-1")) == VOLUMES
    assert len({numbers.tobytes() for numbers in rows(tmp_path / "store-1").values()}) == VOLUMES
    assert_same_rows(tmp_path / "store-1", tmp_path / "store-4")
    assert_same_rows(tmp_path / "store-1", tmp_path / "store-16")


def poison_fetch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fetch = FolderSource.fetch

    def fail(self: FolderSource, wanted: Wanted) -> Fetched:
        if wanted.key == POISONED:
            raise error
        return fetch(self, wanted)

    monkeypatch.setattr(FolderSource, "fetch", fail)


def poison_decode(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    decode = VolumeLoader.decode

    def fail(self: VolumeLoader, ref: Any, *rest: Any) -> Any:
        if ref.key == POISONED:
            raise error
        return decode(self, ref, *rest)

    monkeypatch.setattr(VolumeLoader, "decode", fail)


def poison_encode(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Mark the poisoned volume's voxels, and refuse every batch that holds them."""
    decode, submit = VolumeLoader.decode, BatchEncoder.submit

    def mark(self: VolumeLoader, ref: Any, *rest: Any) -> Any:
        decoded = decode(self, ref, *rest)
        if ref.key == POISONED:
            for image in decoded.images.values():
                image[0, 0, 0, 0] = 12345.0
        return decoded

    def fail(self: BatchEncoder, batch: Any) -> Any:
        if any((image == 12345.0).any() for image in batch):
            raise error
        return submit(self, batch)

    monkeypatch.setattr(VolumeLoader, "decode", mark)
    monkeypatch.setattr(BatchEncoder, "submit", fail)


def poison_write(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Fail the sixth row that is written: of whichever volume, as many threads write."""
    write, lock, seen = StoreWriter.write_row, Lock(), Counter[str]()

    def fail(self: StoreWriter, *row: Any) -> None:
        with lock:
            seen["rows"] += 1
            number = seen["rows"]
        if number == 6:
            raise error
        write(self, *row)

    monkeypatch.setattr(StoreWriter, "write_row", fail)


POISONS = {"fetch": poison_fetch, "decode": poison_decode, "encode": poison_encode, "write": poison_write}


@pytest.mark.parametrize("batch_size", ["1", "4"])
@pytest.mark.parametrize("stage", POISONS)
def test_a_poisoned_volume_takes_no_neighbour_with_it(
    bucket: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, batch_size: str
) -> None:
    extract(options(bucket, tmp_path / "sound", batch_size=batch_size))
    POISONS[stage](monkeypatch, ZeroDivisionError("DOE^JANE"))
    summary = extract(options(bucket, store, batch_size=batch_size))
    assert summary["errors"] == {"ZeroDivisionError": 1}
    assert summary["committed"] == VOLUMES - 1
    assert list(errors(store).values()) == [(stage, "ZeroDivisionError")]
    if stage != "write":
        assert list(errors(store)) == [POISONED]
    sound = rows(tmp_path / "sound")
    for key, numbers in rows(store).items():
        np.testing.assert_allclose(numbers, sound[key], rtol=2e-3, atol=2e-3)  # batches of other sizes round otherwise


@pytest.mark.parametrize("stage", POISONS)
def test_what_concerns_the_run_stops_it_and_leaves_nothing_half_written(
    bucket: Path, store: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    error = {"fetch": BucketError("no such bucket"), "write": StoreError("the disk is full")}.get(stage, RunError("no"))
    with monkeypatch.context() as poisoned:
        POISONS[stage](poisoned, error)
        with pytest.raises(type(error), match=str(error)):
            extract(options(bucket, store, streams=2, decoders="1"))
    done_before = len(rows(store))
    assert done_before < VOLUMES
    assert errors(store) == {}
    again = extract(options(bucket, store))
    assert (again["committed"], again["already_done"], again["errors"]) == (VOLUMES, done_before, {})


def test_an_accelerator_that_breaks_stops_the_run(bucket: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuBackend, "name", "cuda")
    monkeypatch.setattr(CpuBackend, "free_memory_bytes", lambda _: 10**9)
    poison_encode(monkeypatch, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RunError, match=r"device cuda: .*RuntimeError"):
        extract(options(bucket, store))
    assert errors(store) == {}


def test_no_more_volumes_are_in_flight_than_the_workers_say(
    bucket: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten streams with room for one volume of the largest size: they take turns."""
    monkeypatch.setattr("extract.engines.workers.SMALLEST_BUDGET_BYTES", 1)
    monkeypatch.setattr("extract.engines.workers.LARGEST_BUDGET_BYTES", 1)
    fetch, lock, in_flight, most = FolderSource.fetch, Lock(), Counter[str](), list[int]()

    def count(self: FolderSource, wanted: Wanted) -> Fetched:
        with lock:
            in_flight["now"] += 1
            most.append(in_flight["now"])
        try:
            return fetch(self, wanted)
        finally:
            with lock:
                in_flight["now"] -= 1

    monkeypatch.setattr(FolderSource, "fetch", count)
    assert extract(options(bucket, store, streams=10))["committed"] == VOLUMES
    assert max(most) == 1


def test_a_failed_fetch_gives_its_room_back(bucket: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.engines.workers.SMALLEST_BUDGET_BYTES", 1)
    monkeypatch.setattr("extract.engines.workers.LARGEST_BUDGET_BYTES", 1)

    def fail(self: FolderSource, wanted: Wanted) -> Fetched:
        raise FetchError("0123456789abcdef: gone")

    monkeypatch.setattr(FolderSource, "fetch", fail)
    assert extract(options(bucket, store, streams=3))["errors"] == {"FetchError": VOLUMES}
