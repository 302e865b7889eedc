"""Snapshots: what training reads is what was committed, labelled, immutable, and said where from."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from store_makers import (
    FAILURE,
    POOLED_ONLY,
    WORKER,
    ReadOnlyStorage,
    make_ref,
    make_refs,
    pooled_of,
    write_rows,
)

from embeddings_store import snapshot as snapshot_module
from embeddings_store import snapshot_files
from embeddings_store.errors import StoreError
from embeddings_store.reader import StoreReader, reader_on
from embeddings_store.schema import FACT_COLUMNS, INDEX_COLUMNS
from embeddings_store.snapshot import read_features_source, read_snapshot, write_snapshot
from embeddings_store.writer import StoreWriter, open_writer

DONE = [0, 1, 3, 4]


@pytest.fixture
def url(tmp_path: Path) -> str:
    writer = open_store(str(tmp_path / "store"))
    writer.add_volumes(make_refs(6))
    write_rows(writer, DONE)
    writer.write_error(2, FAILURE)
    return writer.storage.url


def open_store(url: str) -> StoreWriter:
    return open_writer(url, POOLED_ONLY, capacity=10, worker=WORKER)


def expected_pooled() -> np.ndarray:
    return np.stack([pooled_of(row, POOLED_ONLY) for row in DONE])


def test_a_snapshot_holds_the_committed_rows_and_their_labels(url: str) -> None:
    number = write_snapshot(url)
    found = read_snapshot(url, number)

    np.testing.assert_array_equal(found.pooled, expected_pooled())
    assert found.index["row"].tolist() == DONE
    assert found.index["key"].tolist() == [make_ref(row).key for row in DONE]
    assert found.index["site"].tolist() == ["UW", "UCSD", "UW", "UCSD"]
    assert found.index["frames"].tolist() == [8, 9, 11, 12]
    assert found.index["spacing_axial_mm"].isna().tolist() == [False, True, True, False]
    facts = ["eye_in_file" if name == "eye" else name for name in FACT_COLUMNS]
    assert list(found.index.columns) == [*INDEX_COLUMNS, "site", *facts]
    assert (found.space, found.layers, found.pools) == (POOLED_ONLY, ("last",), ("mean", "max", "std"))


def test_more_rows_than_a_chunk_come_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_files, "CHUNK_ROWS", 3)
    write_snapshot(url)
    np.testing.assert_array_equal(read_snapshot(url).pooled, expected_pooled())


def test_xarray_opens_it_as_a_labelled_dataset(url: str) -> None:
    number = write_snapshot(url)
    with xarray.open_zarr(f"{url}/snapshots/{number}") as dataset:
        mean = dataset["pooled"].sel(layer="last", pool="mean", volume=make_ref(3).volume)
        np.testing.assert_array_equal(mean.values, pooled_of(3, POOLED_ONLY)[0, 0])
        assert dataset["pooled"].dims == ("volume", "layer", "pool", "channel")
        labels = {"volume", "participant", "eye", "device", "protocol", "site", "layer", "pool"}
        assert labels <= set(dataset.coords)
        assert dataset["device"].values.tolist() == ["Spectralis", "Cirrus", "Spectralis", "Cirrus"]


def test_numpy_reads_it_in_two_lines(url: str) -> None:
    number = write_snapshot(url)
    group = zarr.open_group(f"{url}/snapshots/{number}", mode="r")
    pooled, participants = group["pooled"][:], group["participant"][:]
    np.testing.assert_array_equal(pooled, expected_pooled())
    assert participants.tolist() == [make_ref(row).participant for row in DONE]


def test_a_snapshot_stays_when_the_store_grows(url: str) -> None:
    first = write_snapshot(url)
    write_rows(open_store(url), [5])
    second = write_snapshot(url)
    assert (first, second) == (1, 2)
    assert len(read_snapshot(url, first).pooled) == len(DONE)
    assert len(read_snapshot(url).pooled) == len(DONE) + 1


def test_features_come_from_the_newest_snapshot_until_rows_are_newer(url: str) -> None:
    origins = [read_features_source(url) for _ in range(2)]
    write_rows(open_store(url), [5])
    origins += [read_features_source(url) for _ in range(2)]
    assert [(one.origin, one.number) for one in origins] == [
        ("new snapshot", 1),
        ("snapshot", 1),
        ("new snapshot", 2),
        ("snapshot", 2),
    ]


def test_a_row_done_again_from_another_object_makes_a_new_snapshot(url: str) -> None:
    write_snapshot(url)
    writer = open_store(url)
    writer.add_volumes([make_ref(0, size=5)])
    write_rows(writer, [0])
    found = read_features_source(url)
    assert (found.origin, found.number) == ("new snapshot", 2)


def test_a_store_that_cannot_be_written_gives_live_rows_and_says_why(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_read_only(url: str, *, endpoint_url: str | None = None) -> StoreReader:
        storage = open_store(url).storage
        return reader_on(ReadOnlyStorage(storage.url, storage.objects))

    monkeypatch.setattr(snapshot_module, "open_reader", open_read_only)
    found = read_features_source(url)
    assert (found.origin, found.number) == ("live rows", None)
    assert "permission denied" in found.note
    np.testing.assert_array_equal(found.pooled, expected_pooled())


def test_a_damaged_row_never_gets_into_a_snapshot(url: str) -> None:
    writer = open_store(url)
    writer.arrays.pooled.write(writer.storage, 3, pooled_of(99, POOLED_ONLY))
    with pytest.raises(StoreError, match=r"row 3 .* differ from its commit"):
        write_snapshot(url)
    assert writer.storage.list_names("snapshots") == []


def test_a_damaged_snapshot_is_not_read(url: str) -> None:
    number = write_snapshot(url)
    chunk = Path(url) / "snapshots" / str(number) / "pooled" / "c" / "0" / "0" / "0" / "0"
    body = bytearray(chunk.read_bytes())
    body[3] ^= 1
    chunk.write_bytes(body)
    with pytest.raises(StoreError, match=r"snapshot 1 of .* is damaged"):
        read_snapshot(url)


def test_one_that_was_cut_off_is_passed_over(url: str) -> None:
    storage = open_store(url).storage
    storage.put("snapshots/1/pooled/zarr.json", b"{}")
    with pytest.raises(StoreError, match="no snapshot 1"):
        read_snapshot(url, 1)
    assert write_snapshot(url) == 2
    assert read_snapshot(url).number == 2


def test_two_at_once_get_two_numbers(url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        numbers = list(pool.map(lambda _: write_snapshot(url), range(3)))
    assert len(set(numbers)) == 3
    assert read_snapshot(url).number == max(numbers)
    for number in numbers:
        np.testing.assert_array_equal(read_snapshot(url, number).pooled, expected_pooled())
    assert not [name for name in open_store(url).storage.list_names("snapshots") if name.endswith(".claim")]


def test_a_slow_writer_does_not_hide_a_newer_snapshot(url: str) -> None:
    for _ in range(2):
        write_snapshot(url)
    storage = open_store(url).storage
    storage.put("LATEST", b"1")
    snapshot_files.publish_newest(storage)
    assert read_snapshot(url).number == 2


def test_an_empty_store_gives_an_empty_snapshot(tmp_path: Path) -> None:
    url = open_store(str(tmp_path / "empty")).storage.url
    assert read_snapshot(url).note == "live rows: the store has no snapshot yet"
    found = read_features_source(url)
    assert found.pooled.shape == (0, 1, 3, POOLED_ONLY.width)
    assert read_snapshot(url).pooled.shape == found.pooled.shape


def test_a_store_without_a_snapshot_gives_its_live_rows_and_stays_as_it_is(url: str) -> None:
    before = sorted(path for path in Path(url).rglob("*"))
    found = read_snapshot(url)
    assert (found.number, found.origin) == (None, "live rows")
    np.testing.assert_array_equal(found.pooled, expected_pooled())
    assert sorted(path for path in Path(url).rglob("*")) == before
    with pytest.raises(StoreError, match="no snapshot 1"):
        read_snapshot(url, 1)


def test_a_snapshot_older_than_the_rows_says_so(url: str) -> None:
    write_snapshot(url)
    assert read_snapshot(url).note == "snapshot 1"
    write_rows(open_store(url), [5])
    found = read_snapshot(url)
    assert len(found.index) == len(DONE)
    assert found.note == "snapshot 1; 1 rows are newer: `extract-embeddings snapshot` makes one with them"
    assert read_snapshot(url, 1).note == "snapshot 1"


def test_the_space_of_a_snapshot_is_the_stores(url: str) -> None:
    write_snapshot(url)
    assert read_snapshot(url).space_id == POOLED_ONLY.id != replace(POOLED_ONLY, precision="bf16").id
