"""A thumbnail lies beside its row and is bound to its commit; stores from before thumbnails are grown, row by row."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
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

from embeddings_store import snapshot_files
from embeddings_store.arrays import CRC_BYTES
from embeddings_store.checksums import checksum
from embeddings_store.derive import derive_store
from embeddings_store.diff import diff_stores
from embeddings_store.errors import StoreError
from embeddings_store.export import export_store
from embeddings_store.growth import document_faults
from embeddings_store.layout import StoreLayout, load_layout
from embeddings_store.reader import open_reader, reader_on
from embeddings_store.rows import Commit
from embeddings_store.schema import THUMBNAIL_SHAPE, WITHOUT_THUMBNAIL
from embeddings_store.snapshot import read_features_source, read_snapshot, write_snapshot
from embeddings_store.storage import Storage, open_storage
from embeddings_store.thumbnails import Thumbnails
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer, writer_on

# Made by octprobe at schema version 2 with store_makers: volumes 0 to 3 are known, 0 and 1 in snapshot 1, then 3 came,
# and 2 is quarantined.
OLDER = Path(__file__).parent / "store_schema_2.zip"
DONE = [0, 1, 3]
# The array's document, the list of sums, the root document.
GROWING = 3


def unpack_on(storage: Storage) -> Storage:
    with zipfile.ZipFile(OLDER) as archive:
        for name in archive.namelist():
            storage.put(name, archive.read(name))
    return storage


@pytest.fixture
def older(tmp_path: Path) -> str:
    return unpack_on(open_storage(str(tmp_path / "older"), create=True)).url


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    made = open_writer(str(tmp_path / "store"), POOLED_ONLY, capacity=10, worker=WORKER)
    made.add_volumes(make_refs(4))
    write_rows(made, range(3))
    return made


def assert_rows(found: Thumbnails | None, rows: list[int], known: list[bool]) -> None:
    assert found is not None
    assert found.known.tolist() == known
    assert found.all_known == all(known)
    expected = [thumbnail_of(row) if one else np.zeros(THUMBNAIL_SHAPE) for row, one in zip(rows, known, strict=True)]
    np.testing.assert_array_equal(found.images, np.stack(expected))


def test_they_come_back_from_the_store_and_from_a_snapshot(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = writer.storage.url
    assert_rows(open_reader(url).thumbnails([0, 2]), [0, 2], [True, True])
    monkeypatch.setattr(snapshot_files, "CHUNK_ROWS", 2)
    assert_rows(read_features_source(url).thumbnails, [0, 1, 2], [True] * 3)
    assert_rows(read_snapshot(url).thumbnails, [0, 1, 2], [True] * 3)


def test_zarr_and_xarray_read_them(writer: StoreWriter) -> None:
    url = writer.storage.url
    np.testing.assert_array_equal(zarr.open_group(url, mode="r")["thumbnail"][1], thumbnail_of(1))
    with xarray.open_zarr(f"{url}/snapshots/{write_snapshot(url)}") as dataset:
        pictures = dataset["thumbnail"].sel(volume=make_ref(2).volume)
        np.testing.assert_array_equal(pictures.values, thumbnail_of(2))
        assert dataset["has_thumbnail"].values.tolist() == [1, 1, 1]


def test_a_thumbnail_of_another_kind_is_refused(writer: StoreWriter) -> None:
    asked = (3, pooled_of(3, POOLED_ONLY), {}, facts_of(3), bytes(16), 1003)
    for wrong in (thumbnail_of(3)[:4], thumbnail_of(3).astype(np.int16)):
        with pytest.raises(Exception, match="thumbnail"):
            writer.write_row(*asked, wrong)
    assert open_reader(writer.storage.url).committed().tolist() == [True, True, True, False]


def test_killed_between_thumbnail_and_commit_there_is_no_row_and_the_next_run_makes_it() -> None:
    storage = memory_storage()
    made = writer_on(storage, SPACE, 10, WORKER)
    made.add_volumes(make_refs(1))
    before = len(made.arrays.all) - 1
    killed = replace(made, storage=CutOffStorage(storage.url, storage.objects, [before]))
    with pytest.raises(StoreError, match="cut off"):
        write_rows(killed, [0])
    assert storage.get(made.arrays.thumbnail.chunk_path(0)) is not None
    assert [line.row for line in made.missing_rows()] == [0]
    write_rows(made, [0])
    assert_rows(reader_on(storage).thumbnails([0]), [0], [True])


def test_a_thumbnail_is_put_before_the_commit() -> None:
    arrays = writer_on(memory_storage(), SPACE, 10, WORKER).arrays
    assert [one.name for one in arrays.all[-2:]] == ["thumbnail", "commit"]


@pytest.mark.parametrize("crc", [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_a_commit_carries_both_sums_whatever_they_are(crc: int) -> None:
    for other in (0, 5, (1 << 32) - 1):
        commit = Commit(other, 7, 1, bytes(16), 2, 3, crc)
        found = Commit.from_numbers(commit.to_numbers())
        assert found is not None
        assert (found.crc_vectors, found.crc_thumbnail, found.crc_tokens) == (other, crc, 7)
        without = Commit.from_numbers(replace(commit, crc_thumbnail=None).to_numbers())
        assert without is not None
        assert (without.crc_vectors, without.crc_thumbnail) == (other, None)


def flip(file: Path) -> None:
    body = bytearray(file.read_bytes())
    body[5] ^= 1
    file.write_bytes(body)


def swap(file: Path) -> None:
    """Put another row's thumbnail there, whole."""
    file.write_bytes((file.parent / "c.0.0.0.0").read_bytes())


def resum(file: Path) -> None:
    flip(file)
    body = file.read_bytes()[:-CRC_BYTES]
    file.write_bytes(body + checksum(body).to_bytes(CRC_BYTES, "little"))


@pytest.mark.parametrize("damage", [flip, swap, resum, Path.unlink])
def test_damage_is_found_and_the_row_is_made_again(writer: StoreWriter, damage: Callable[[Path], None]) -> None:
    url = writer.storage.url
    damage(Path(url) / "thumbnail" / "c.1.0.0.0")
    with pytest.raises(StoreError, match=r"thumbnail"):
        open_reader(url).thumbnails([0, 1])
    with pytest.raises(StoreError, match=r"row 1 .*was never written|verify"):
        write_snapshot(url)
    found = verify_store(url, repair=True)
    assert list(found["faults"]) == ["1"]
    assert [line.row for line in writer.missing_rows()] == [1, 3]
    write_rows(writer, [1])
    assert verify_store(url)["bad"] == 0
    assert_rows(read_features_source(url).thumbnails, [0, 1, 2], [True] * 3)


@pytest.mark.parametrize("name", ["thumbnail", "has_thumbnail"])
def test_damage_of_a_snapshot_is_found(writer: StoreWriter, name: str) -> None:
    url = writer.storage.url
    number = write_snapshot(url)
    chunk = next(path for path in (Path(url) / "snapshots" / str(number) / name).rglob("0*") if path.is_file())
    body = bytearray(chunk.read_bytes())
    body[0] ^= 1
    chunk.write_bytes(body)
    with pytest.raises(StoreError, match=f"chunk 0 of {name}"):
        read_snapshot(url, number)
    assert any(f"/{name}/" in path for path in verify_store(url)["damaged_files"])


def test_an_older_store_is_read_as_it_is_and_has_no_thumbnails(older: str, tmp_path: Path) -> None:
    reader = open_reader(older)
    assert (reader.schema_version, reader.space_id) == (WITHOUT_THUMBNAIL, SPACE.id)
    assert_rows(reader.thumbnails(DONE), DONE, [False] * 3)
    assert read_snapshot(older, 1).thumbnails is None
    assert read_features_source(older).thumbnails is None
    assert verify_store(older)["bad"] == 0
    assert verify_store(older)["damaged_files"] == {}
    assert diff_stores(older, older)["different"] == 0
    assert export_store(older, tmp_path / "out", "npy")["rows"] == 3


def test_a_writer_grows_an_older_store_and_rewrites_no_row(older: str) -> None:
    folders = ("tokens", "pooled", "facts", "commit", "snapshots", "index")
    kept = [path for folder in folders for path in (Path(older) / folder).rglob("*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}
    grown = open_writer(older, SPACE, worker=WORKER)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == before
    assert verify_store(older)["damaged_files"] == {}
    assert open_reader(older).space_id == SPACE.id

    grown.add_volumes(make_refs(6))
    write_rows(grown, [4])
    grown.write_error(5, FAILURE)
    rows, known = [0, 1, 3, 4], [False, False, False, True]
    assert_rows(open_reader(older).thumbnails(rows), rows, known)
    assert_rows(read_features_source(older).thumbnails, rows, known)
    assert_rows(read_snapshot(older).thumbnails, rows, known)
    np.testing.assert_array_equal(read_snapshot(older).pooled, np.stack([pooled_of(row) for row in rows]))
    assert open_reader(older).commits()["status"].tolist() == [2, 2, 2, 3]
    assert (verify_store(older)["bad"], verify_store(older)["damaged_files"]) == (0, {})
    assert zarr.open_group(older, mode="r")["thumbnail"].shape == (10, *THUMBNAIL_SHAPE)


@pytest.mark.parametrize("changes", range(GROWING))
def test_growth_that_is_cut_off_leaves_a_whole_store(changes: int) -> None:
    storage = unpack_on(memory_storage())
    with pytest.raises(StoreError, match="cut off"):
        writer_on(CutOffStorage(storage.url, storage.objects, [changes]), SPACE, 10, WORKER)
    found = load_layout(storage)
    assert isinstance(found, StoreLayout)
    assert found.schema_version == WITHOUT_THUMBNAIL
    assert document_faults(storage, found.schema_version) == {}
    reader_on(storage).vectors(DONE)
    write_rows(writer_on(storage, SPACE, 10, WORKER), [2])
    assert document_faults(storage, 3) == {}
    assert_rows(reader_on(storage).thumbnails(range(4)), [0, 1, 2, 3], [False, False, True, False])


def test_a_root_document_that_was_changed_is_found_before_and_after_growth() -> None:
    for opened in (False, True):
        storage = unpack_on(memory_storage())
        if opened:
            writer_on(storage, SPACE, 10, WORKER)
        storage.put("zarr.json", bytes(storage.get("zarr.json") or b"") + b" ")
        found = load_layout(storage)
        assert found is not None
        assert list(document_faults(storage, found.schema_version)) == ["zarr.json"]


def test_a_writer_from_before_goes_on_in_a_grown_store() -> None:
    """It opened the store before it grew, and writes rows of version 2 beside those of version 3."""
    storage = unpack_on(memory_storage())
    grown = writer_on(storage, SPACE, 10, WORKER)
    write_rows(grown, [0, 2])
    grown.write_row(0, pooled_of(0), tokens_of(0), facts_of(0), bytes(range(16)), 1000)
    assert_rows(reader_on(storage).thumbnails([0, 2]), [0, 2], [False, True])


def test_what_is_derived_has_the_thumbnails_of_its_parent(tmp_path: Path) -> None:
    full = replace(SPACE, token_grid=(8, 6, 6), patch=(4, 16, 16))
    url = str(tmp_path / "full")
    made = open_writer(url, full, capacity=10, worker=WORKER)
    made.add_volumes(make_refs(2))
    write_rows(made, [0])
    made.write_row(1, pooled_of(1, full), tokens_of(1, full), facts_of(1), bytes(range(16)), 1001)
    derived = derive_store(url, ["mean"])["store"]
    assert_rows(read_features_source(derived).thumbnails, [0, 1], [True, False])
    assert verify_store(derived)["bad"] == 0
