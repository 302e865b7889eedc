"""A store of schema 1 is read as it is, refused to writers, and upgraded in place, cut off wherever it may be."""

import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_line import Command
from rclone_server import rclone_s3
from store_makers import (
    SPACE,
    WORKER,
    CutOffStorage,
    facts_of,
    make_refs,
    memory_storage,
    pooled_of,
    tokens_of,
    write_rows,
)

from embeddings_store.diff import diff_stores
from embeddings_store.errors import StoreError
from embeddings_store.export import export_store
from embeddings_store.layout import Layout, load_layout
from embeddings_store.reader import open_reader, reader_on
from embeddings_store.rows import fact_numbers
from embeddings_store.schema import FACT_COLUMNS
from embeddings_store.snapshot import read_features_source, read_snapshot
from embeddings_store.status import store_status
from embeddings_store.storage import Storage, open_storage
from embeddings_store.upgrade import Upgrade, upgrade_on, upgrade_store
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer, writer_on

# Made by octprobe at schema version 1 with store_makers: volumes 0 to 3 are known, 0 and 1 in snapshot 1, then 3 came,
# and 2 is quarantined.
OLDER = Path(__file__).parent / "store_schema_1.zip"
DONE = [0, 1, 3]
SPACE_ID = "d158ac95e62d5ca9"
NEWER = list(FACT_COLUMNS[8:])
# Three rows, the array's document, the list of sums, the root document; the same documents again for thumbnails.
LENGTHENED, CHANGES = 6, 9


def unpack_on(storage: Storage) -> Storage:
    with zipfile.ZipFile(OLDER) as archive:
        for name in archive.namelist():
            storage.put(name, archive.read(name))
    return storage


@pytest.fixture
def url(tmp_path: Path) -> str:
    return unpack_on(open_storage(str(tmp_path / "older"), create=True)).url


def assert_whole(storage: Storage, *, version: int) -> None:
    """Every row is what it was when it was written, and the facts that came later are unknown."""
    reader = reader_on(storage)
    assert reader.schema_version == version
    assert np.flatnonzero(reader.committed()).tolist() == DONE
    pooled, facts = reader.vectors(DONE)
    np.testing.assert_array_equal(pooled, np.stack([pooled_of(row) for row in DONE]))
    np.testing.assert_array_equal(facts.to_numpy()[:, :8], np.stack([fact_numbers(facts_of(row))[:8] for row in DONE]))
    assert facts[NEWER].isna().all(axis=None)
    for row in DONE:
        np.testing.assert_array_equal(reader.committed_tokens(row)["last"], tokens_of(row)["last"])


def test_the_space_of_an_older_store_has_the_id_it_always_had(url: str) -> None:
    assert open_reader(url).space_id == SPACE.id == SPACE_ID
    upgrade_store(url)
    assert open_reader(url).space_id == SPACE_ID


def test_an_older_store_is_read_as_it_is(url: str, tmp_path: Path) -> None:
    assert_whole(open_storage(url, create=False), version=1)
    assert store_status(open_reader(url))["committed"] == 3
    found = verify_store(url)
    assert (found["checked"], found["bad"], found["orphans"]) == (3, 0, 0)

    snapshot = read_snapshot(url, 1)
    assert snapshot.index["row"].tolist() == [0, 1]
    assert snapshot.index[NEWER].isna().all(axis=None)
    newest = read_features_source(url)
    assert list(newest.index.columns) == list(snapshot.index.columns)
    assert newest.index["row"].tolist() == DONE
    assert export_store(url, tmp_path / "out", "npy", number=1)["rows"] == 2


def test_an_older_store_and_its_upgrade_say_the_same(url: str, tmp_path: Path) -> None:
    newer = str(tmp_path / "newer")
    shutil.copytree(url, newer)
    upgrade_store(newer)
    found = diff_stores(url, newer)
    assert (found["common"], found["different"], found["spaces"]) == (3, 0, [])


def test_a_writer_refuses_an_older_store_and_names_the_command(url: str) -> None:
    before = sorted(open_storage(url, create=False).list_paths(""))
    with pytest.raises(StoreError, match=r"run `extract-embeddings upgrade --store .*older` once"):
        open_writer(url, SPACE, worker=WORKER)
    assert sorted(open_storage(url, create=False).list_paths("")) == before


def test_the_command_upgrades_once(command: Command, url: str) -> None:
    finished = command("extract-embeddings", "upgrade", "--store", url, "--json")
    assert (finished.code, finished.json["stores"][0]["rows"]) == (0, 3)
    assert "3 rows" in finished.stderr
    again = command("extract-embeddings", "upgrade", "--store", url, "--json")
    assert (again.code, again.json["stores"][0]["rows"]) == (0, 0)
    writer = open_writer(url, SPACE, worker=WORKER)
    write_rows(writer, [2])
    assert verify_store(url)["bad"] == 0


def test_an_upgrade_copies_no_token_and_touches_no_commit(url: str) -> None:
    kept = [path for folder in ("tokens", "pooled", "commit", "snapshots") for path in (Path(url) / folder).rglob("c*")]
    before = {path: path.stat().st_mtime_ns for path in kept if path.is_file()}
    assert before
    upgrade_store(url)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_zarr_reads_an_upgraded_store(url: str) -> None:
    upgrade_store(url)
    facts = zarr.open_group(url, mode="r")["facts"]
    assert facts.shape == (10, len(FACT_COLUMNS))
    np.testing.assert_array_equal(facts[1], [*fact_numbers(facts_of(1))[:8], *[np.nan] * 6])


@pytest.mark.parametrize("changes", range(CHANGES))
def test_cut_off_after_any_change_it_is_whole_and_can_be_repeated(changes: int) -> None:
    storage = unpack_on(memory_storage())
    with pytest.raises(StoreError, match="cut off"):
        upgrade_on(CutOffStorage(storage.url, storage.objects, [changes]))
    assert_whole(storage, version=1 if changes < LENGTHENED else 2)
    upgrade_on(storage)
    assert_whole(storage, version=3)
    assert upgrade_on(storage) == Upgrade(storage.url, 3, 0, ())


def test_that_is_every_change_of_an_upgrade() -> None:
    storage = unpack_on(memory_storage())
    upgrade_on(CutOffStorage(storage.url, storage.objects, [CHANGES]))
    assert_whole(storage, version=3)


def test_a_process_killed_while_it_upgrades_leaves_a_whole_store(url: str) -> None:
    imports = "import sys; from embeddings_store.upgrade import upgrade_store"
    script = f"{imports}; print(1, flush=True); upgrade_store(sys.argv[1])"
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.001 * attempt)
        process.kill()
        process.communicate()
        found = load_layout(open_storage(url, create=False))
        assert isinstance(found, Layout)
        assert_whole(open_storage(url, create=False), version=found.schema_version)
    upgrade_store(url)
    assert_whole(open_storage(url, create=False), version=3)


def test_facts_that_were_damaged_before_are_left_to_verify(url: str) -> None:
    chunk = Path(url) / "facts" / "c.1.0"
    chunk.write_bytes(b"?" + chunk.read_bytes()[1:])
    (done,) = upgrade_store(url)
    assert (done.rows, done.damaged) == (2, (1,))
    assert list(verify_store(url)["faults"]) == ["1"]
    writer = open_writer(url, SPACE, worker=WORKER)
    write_rows(writer, [1])
    assert verify_store(url)["bad"] == 0


def test_stores_derived_from_it_are_upgraded_with_it(url: str) -> None:
    unpack_on(open_storage(f"{url}/derived/{SPACE_ID}", create=True))
    assert [done.rows for done in upgrade_store(url)] == [3, 3]
    assert open_reader(f"{url}/derived/{SPACE_ID}").schema_version == 3


def test_rows_of_both_kinds_lie_side_by_side(url: str) -> None:
    upgrade_store(url)
    writer = open_writer(url, SPACE, worker=WORKER)
    writer.add_volumes(make_refs(4))
    write_rows(writer, [2])
    reader = open_reader(url)
    assert reader.commits()["status"].tolist() == [1, 1, 3, 1]
    assert reader.facts(range(4))["spacing_source"].isna().tolist() == [True, True, False, True]
    assert verify_store(url)["bad"] == 0


@pytest.fixture
def s3_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    with rclone_s3(tmp_path / "buckets") as (endpoint, access_key, secret_key):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        yield "s3://bucket/older"


@pytest.mark.s3
def test_an_upgrade_works_on_s3_too(s3_url: str) -> None:
    storage = unpack_on(open_storage(s3_url, create=True))
    assert_whole(storage, version=1)
    assert upgrade_store(s3_url)[0].rows == 3
    assert_whole(storage, version=3)
    write_rows(writer_on(storage, SPACE, 10, WORKER), [2])
    assert verify_store(s3_url)["bad"] == 0
