"""A full disk, a server that fails, a clock that goes backwards, a flipped byte anywhere: said, and nothing lost."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing_server import CUT, failing_s3
from store_makers import FAILURE, SPACE, WORKER, make_refs, memory_storage, pooled_of, write_rows

from embeddings_store.errors import StoreError
from embeddings_store.reader import open_reader, reader_on
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.storage import Storage, open_storage
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer, writer_on

BIG = replace(SPACE, width=2048, token_grid=(4, 4, 4))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only a privileged user may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_stops_the_run_with_whole_rows(small_disk: Path) -> None:
    url = str(small_disk / "store")
    writer = open_writer(url, BIG, capacity=100, worker=WORKER)
    writer.add_volumes(make_refs(20))
    with pytest.raises(StoreError, match=r"(?i)cannot write in the store .*(no space|os error 28)"):
        write_rows(writer, range(20))

    reader = open_reader(url)
    done = np.flatnonzero(reader.committed()).tolist()
    assert 0 < len(done) < 20
    np.testing.assert_array_equal(reader.vectors(done)[0], np.stack([pooled_of(row, BIG) for row in done]))
    assert verify_store(url)["bad"] == 0
    assert [line.row for line in writer.missing_rows()] == list(range(len(done), 20))


@dataclass(frozen=True, slots=True)
class FullStorage(Storage):
    """A place that refuses to write below one folder, as a full disk may refuse the large objects only."""

    folder: str = ""

    def put(self, path: str, *parts: Any) -> None:
        if path.startswith(self.folder):
            raise StoreError(f"cannot write in the store {self.url}: no space left on device")
        Storage.put(self, path, *parts)


@pytest.mark.parametrize("folder", ["pooled/c", "tokens/2/c", "tokens/last/c", "facts/c", "commit/c"])
def test_wherever_the_disk_is_full_a_row_is_not_committed_and_can_be_repeated(folder: str) -> None:
    storage = memory_storage()
    writer = writer_on(storage, SPACE, 10, WORKER)
    writer.add_volumes(make_refs(1))
    full = writer_on(FullStorage(storage.url, storage.objects, folder), SPACE, 10, WORKER)
    with pytest.raises(StoreError, match="no space left"):
        write_rows(full, [0])
    assert [line.row for line in writer.missing_rows()] == [0]
    write_rows(writer, [0])
    np.testing.assert_array_equal(reader_on(storage).vectors([0])[0][0], pooled_of(0))


def test_a_clock_that_goes_backwards_changes_no_row(tmp_path: Path) -> None:
    times = iter(range(1000, 0, -1))
    writer = open_writer(str(tmp_path), SPACE, capacity=10, worker=WORKER, clock=lambda: next(times))
    writer.add_volumes(make_refs(3))
    writer.write_error(2, FAILURE)
    write_rows(writer, range(3))
    assert open_reader(str(tmp_path)).committed().all()
    assert np.diff(open_reader(str(tmp_path)).commits()["time_ns"]).max() < 0
    assert verify_store(str(tmp_path))["bad"] == 0


@pytest.fixture
def written(tmp_path: Path) -> StoreWriter:
    writer = open_writer(str(tmp_path / "store"), SPACE, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(3))
    write_rows(writer, range(2))
    writer.write_error(2, FAILURE)
    write_snapshot(writer.storage.url)
    return writer


def flip(storage: Storage, path: str, place: int) -> None:
    body = bytearray(storage.get(path) or b"")
    body[place] ^= 0x04
    storage.put(path, bytes(body))


@pytest.mark.parametrize(
    "part",
    [
        *("index/", "zarr.json", "pooled/zarr.json", "errors/2.json"),
        *("snapshots/1/zarr.json", "snapshots/1/pooled/c", "snapshots/1.index.parquet", "snapshots/1.crc32c"),
    ],
)
def test_a_flipped_byte_outside_the_rows_is_said_or_harmless_but_never_another_number(
    written: StoreWriter, part: str
) -> None:
    storage = written.storage
    path = next(path for path in sorted(storage.list_paths("")) if path.startswith(part))
    whole = bytes(storage.get(path) or b"")
    said = 0
    for place in np.linspace(0, len(whole) - 1, 10).astype(int):
        flip(storage, path, int(place))
        said += not reads_the_same(storage.url)
        storage.put(path, whole)
    assert said > 0
    assert reads_the_same(storage.url)


def test_verify_finds_a_flipped_byte_in_every_kind_of_file_and_only_that(written: StoreWriter) -> None:
    storage, kinds = written.storage, {}
    storage.put("errors/8.json", storage.get("errors/2.json") or b"")
    rows = {array.chunk_path(row): str(row) for array in written.arrays.all for row in range(2)}
    for path in storage.list_paths(""):
        kinds[re.sub(r"\d+-\w+-\w+|\b\d{9,}", "N", path)] = path
    assert len(kinds) > 70
    for path in kinds.values():
        whole = bytes(storage.get(path) or b"")
        for place in {0, len(whole) // 2, len(whole) - 1}:
            flip(storage, path, place)
            assert found_by_verify(storage.url) == rows.get(path, path), (path, place)
            storage.put(path, whole)
    assert found_by_verify(storage.url) == ""


def found_by_verify(url: str) -> str:
    """Name what verify calls damaged: a row, a path, or the file in the message of a store that cannot be opened."""
    try:
        found = verify_store(url, repair=False)
    except StoreError as error:
        return str(error).partition("(damaged: ")[2].rstrip(")")
    return ", ".join([*found["faults"], *found["damaged_files"]])


def reads_the_same(url: str) -> bool:
    """Read everything; False where that is refused with a StoreError. Numbers that come are the ones written."""
    try:
        reader = open_reader(url)
        keys = reader.index()["key"].tolist()
        rows, found = reader.vectors([0, 1])[0], read_snapshot(url)
        reader.errors()
    except StoreError:
        return False
    assert found.index["key"].tolist() == [ref.key for ref in make_refs(2)]
    assert found.index["participant"].tolist() == [ref.participant for ref in make_refs(2)]
    assert found.index[["row", "frames"]].to_numpy().tolist() == [[0, 8], [1, 9]]
    for pooled in (rows, found.pooled):
        np.testing.assert_array_equal(pooled, np.stack([pooled_of(0), pooled_of(1)]))
    return keys == [ref.key for ref in make_refs(3)]


@pytest.mark.s3
@pytest.mark.parametrize("status", [500, 503, CUT])
def test_a_server_that_fails_now_and_then_is_asked_again(status: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with failing_s3(status, every=4) as (endpoint, state):
        storage = open_storage("s3://bucket/x", endpoint_url=endpoint, create=True)
        for number in range(8):
            storage.put(f"c.{number}", bytes([number]) * 1000, b"sum!")
        for number in range(8):
            assert bytes(storage.get(f"c.{number}") or b"") == bytes([number]) * 1000 + b"sum!"
    assert state.requests > 16
