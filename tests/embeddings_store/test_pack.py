"""Packing: small files of many rows in one object each, and every promise of the store as before."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from obstore.store import MemoryStore
from rclone_server import rclone_s3
from store_makers import (
    FAILURE,
    POOLED_ONLY,
    SPACE,
    WORKER,
    CutOffStorage,
    facts_of,
    make_ref,
    make_refs,
    memory_storage,
    pooled_of,
    thumbnail_of,
    tokens_of,
    write_rows,
)

from embeddings_store import pack_claim, packs
from embeddings_store.arrays import arrays_of
from embeddings_store.errors import StoreError, UnreadableError
from embeddings_store.kinds import kind_path, read_kinds
from embeddings_store.pack import PackReport, pack_on, pack_store
from embeddings_store.packs import KINDS, PATHS, SPAN
from embeddings_store.reader import StoreReader, open_reader, reader_on
from embeddings_store.schema import Kind
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.status import store_status
from embeddings_store.storage import Storage, open_storage
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, clear_errors, open_writer, writer_on

FAR = SPAN + 1
"""A row of the second pack."""


@pytest.fixture(autouse=True)
def _the_killed_are_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_claim, "DEAD_S", 0.0)
    monkeypatch.setattr(pack_claim, "PAUSE_S", 0.001)


def fill(writer: StoreWriter, rows: tuple[int, ...] = (0, 1, 2, 4)) -> StoreWriter:
    """Write rows with kinds, one without a thumbnail, one error and one row that is missing."""
    writer.add_volumes(make_refs(6))
    for row in rows:
        kind = Kind("1.2.3", "OPT", f"ORIGINAL\\{row}") if row % 2 == 0 else None
        writer.write_row(
            row, pooled_of(row, writer.space), tokens_of(row, writer.space), replace(facts_of(row), kind=kind),
            bytes(range(16)), 1000 + row, None if row == 2 else thumbnail_of(row),
        )  # fmt: skip
    writer.write_error(3, FAILURE)
    return writer


def told(reader: StoreReader) -> dict[str, Any]:
    """Return everything that a store says of its rows."""
    rows = np.flatnonzero(reader.committed()).tolist()
    pooled, facts, pictures, _ = reader.whole_rows(rows)
    return {
        "rows": rows,
        "pooled": pooled.tobytes(),
        "facts": facts.to_numpy().tobytes(),
        "thumbnails": (pictures.images.tobytes(), pictures.known.tolist()),
        "commits": reader.commits().to_numpy().tolist(),
        "kinds": read_kinds(reader.storage, rows).to_dict("records"),
        "index": reader.index().to_dict("records"),
        "errors": reader.quarantined(),
        "tokens": [reader.committed_tokens(row)["last"].tobytes() for row in rows if reader.space.token_grid],
        "status": store_status(reader) | {"snapshot": None},
    }


def verified(url: str) -> dict[str, Any]:
    return verify_store(url)


def small_files(storage: Storage) -> list[str]:
    names = getattr(storage, "inner", storage).list_paths("")
    return [path for path in names if path.partition("/")[0] in PATHS and not path.endswith("zarr.json")]


def objects_of(storage: Storage, end: str) -> list[str]:
    return [path for path in storage.list_paths("packs") if path.endswith(end)]


class PackContract:
    def test_everything_reads_as_before(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER))
        opened_before = open_reader(url)
        write_snapshot(url)
        before, checks, shot = told(open_reader(url)), verified(url), read_snapshot(url)
        foreseen = pack_store(url, dry_run=True)
        assert small_files(writer.storage), "a dry run writes nothing"

        done = pack_store(url)
        assert done == foreseen
        assert done == PackReport(
            4,
            4,
            len(open_reader(url).storage.list_paths("")) + 4 * 4 - 1 + 3 - 5,
            len(open_reader(url).storage.list_paths("")),
            (),
        )
        assert small_files(writer.storage) == []
        assert told(open_reader(url)) == told(opened_before) == before
        assert verified(url) == checks
        write_snapshot(url)
        again = read_snapshot(url)
        assert again.pooled.tobytes() == shot.pooled.tobytes()
        assert again.frame().equals(shot.frame()) and again.index.equals(shot.index)
        assert pack_store(url).rows_packed == 0, "a second call finds nothing to do"

    def test_a_store_grows_after_it_was_packed(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER), (0, 1))
        pack_store(url)
        assert [line.row for line in open_writer(url, SPACE, worker=WORKER).missing_rows()] == [2, 4, 5]
        write_rows(writer, [2, 4])
        other = memory_storage()
        write_rows(fill(writer_on(other, SPACE, 2000, WORKER), (0, 1)), [2, 4])
        same = ("rows", "pooled", "facts", "thumbnails", "kinds", "tokens")
        for _ in range(2):
            now, expected = told(open_reader(url)), told(reader_on(other))
            assert [now[name] for name in same] == [expected[name] for name in same]
            assert pack_store(url).damaged_rows == ()
        assert (len(objects_of(writer.storage, ".commit")), small_files(writer.storage)) == (1, [])

    def test_a_replaced_object_takes_its_row_out_of_the_pack(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER))
        pack_store(url)
        assert [line.row for line in writer.add_volumes([make_ref(1, size=7)]).replaced] == [1]
        for reader in (reader_on(writer.storage), open_reader(url)):
            assert reader.committed().tolist() == [True, False, True, False, True, False]
        with pytest.raises(StoreError, match="never written"):
            open_reader(url).pooled([1])
        pack_store(url)
        assert open_reader(url).committed().tolist() == [True, False, True, False, True, False]
        writer.write_row(1, pooled_of(77), tokens_of(77), facts_of(77), bytes(16), 7, thumbnail_of(77))
        for _ in range(2):
            np.testing.assert_array_equal(open_reader(url).vectors([1])[0][0], pooled_of(77))
            pack_store(url)
        assert verified(url)["bad"] == 0

    def test_retry_of_an_error_row_inside_a_pack(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER))
        pack_store(url)
        assert clear_errors(url) == ({FAILURE.error: 1}, {})
        assert 3 in [line.row for line in writer.missing_rows()]
        write_rows(writer, [3])
        writer.write_error(1, FAILURE)  # a row that a pack holds stays as it is
        for _ in range(2):
            assert open_reader(url).committed().tolist() == [True, True, True, True, True, False]
            np.testing.assert_array_equal(open_reader(url).vectors([3])[0][0], pooled_of(3))
            pack_store(url)
        assert open_reader(url).errors() == []

    def test_verify_names_the_one_bad_row_of_a_pack_and_repair_drops_it_alone(self, url: str) -> None:
        for place, kind in enumerate(("pooled", "facts", "thumbnail", "kinds", "commit")):
            own = f"{url}-{kind}"
            writer = fill(open_writer(own, SPACE, capacity=2000, worker=WORKER))
            pack_store(own)
            (path,) = objects_of(writer.storage, f".{kind}")
            body = bytearray(writer.storage.get(path) or b"")
            row = 4 if kind == "kinds" else 1
            # The records of rows 0 and 2 are as long as that of row 4.
            at = len(body) * 5 // 6 if kind == "kinds" else len(body) // 3 if kind == "thumbnail" else 0
            size = 68 if kind == "commit" else len(body) // 4
            start = at or (packs._TABLE_BYTES if kind == "commit" else 0) + size + 3
            body[start + 40 if kind == "thumbnail" else start] ^= 4
            writer.storage.put(path, bytes(body))
            found = verify_store(own)
            assert list(found["faults"]) == [str(row)], (kind, found)
            report = pack_store(own)
            assert report.rows_packed == 0
            assert report.damaged_rows == ((row,) if kind == "commit" else ())
            assert verify_store(own, repair=True)["repaired"] == 1
            kept = [one for one in (0, 1, 2, 4) if one != row]
            assert np.flatnonzero(open_reader(own).committed()).tolist() == kept
            assert verify_store(own)["bad"] == 0
            write_rows(writer, [row])
            assert pack_store(own).damaged_rows == ()
            assert verify_store(own)["bad"] == 0
            assert np.flatnonzero(open_reader(own).committed()).tolist() == [0, 1, 2, 4]
            assert place < len(KINDS)


class TestLocalStore(PackContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    directory = tmp_path_factory.mktemp("s3") / "buckets"
    (directory / "bucket").mkdir(parents=True)
    with rclone_s3(directory) as server:
        yield server


@pytest.mark.s3
class TestS3Store(PackContract):
    @pytest.fixture
    def url(
        self, s3_server: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> str:
        endpoint, access_key, secret_key = s3_server
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        return f"s3://bucket/packs/{request.node.name}"
