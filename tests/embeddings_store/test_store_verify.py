"""verify finds every flipped byte, wherever it lies, and takes back the commit of that row alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_makers import FAILURE, SPACE, WORKER, facts_of, make_ref, make_refs, pooled_of, tokens_of, write_rows

from embeddings_store.checksums import checksum
from embeddings_store.errors import StoreError
from embeddings_store.foreign import is_own
from embeddings_store.reader import open_reader
from embeddings_store.schema import Note
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.status import store_status
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer

ROWS = 4
DAMAGED = 2


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    writer = open_writer(str(tmp_path / "store"), SPACE, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(ROWS))
    write_rows(writer, range(ROWS))
    return writer


def flip(writer: StoreWriter, path: str, place: int) -> None:
    body = bytearray(writer.storage.get(path) or b"")
    body[place] ^= 1
    writer.storage.put(path, bytes(body))


@pytest.mark.parametrize("place", [0, 13, -1])
@pytest.mark.parametrize("array", ["pooled", "tokens/2", "tokens/last", "facts", "commit"])
def test_a_flipped_byte_is_found_and_the_row_done_again(writer: StoreWriter, array: str, place: int) -> None:
    chosen = {one.name: one for one in writer.arrays.all}[array]
    flip(writer, chosen.chunk_path(DAMAGED), place)

    assert verify_store(writer.storage.url)["bad"] == 1
    assert writer.missing_rows() == []  # to look harms nothing
    found = verify_store(writer.storage.url, repair=True)
    assert (found["checked"], found["bad"], list(found["faults"])) == (ROWS, 1, [str(DAMAGED)])
    assert [line.row for line in writer.missing_rows()] == [DAMAGED]

    write_rows(writer, [DAMAGED])
    assert verify_store(writer.storage.url)["bad"] == 0


def other_pooled(writer: StoreWriter) -> None:
    writer.arrays.pooled.write(writer.storage, DAMAGED, pooled_of(99))


def other_tokens(writer: StoreWriter) -> None:
    writer.arrays.tokens[1].write(writer.storage, DAMAGED, tokens_of(99)["last"])


def cut_short(writer: StoreWriter) -> None:
    writer.storage.put(writer.arrays.pooled.chunk_path(DAMAGED), b"")


def lost(writer: StoreWriter) -> None:
    writer.storage.delete(writer.arrays.tokens[0].chunk_path(DAMAGED))


def other_object(writer: StoreWriter) -> None:
    lines = [make_ref(DAMAGED, size=1000 + DAMAGED, etag="f" * 32)]
    writer.add_volumes(lines)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_pooled, "pooled or facts differ"),
        (other_tokens, "tokens differ"),
        (cut_short, "0 bytes came"),
        (lost, "missing"),
        (other_object, "another object than the index names"),
    ],
)
def test_whole_chunks_of_another_row_are_found(
    writer: StoreWriter, harm: Callable[[StoreWriter], None], message: str
) -> None:
    harm(writer)
    found = verify_store(writer.storage.url, repair=False)
    assert found["bad"] == 1
    assert message in found["faults"][str(DAMAGED)]
    assert found["repaired"] == 0
    assert open_reader(writer.storage.url).committed().all()


def test_orphans_are_listed(writer: StoreWriter) -> None:
    writer.add_volumes(make_refs(ROWS + 2))
    writer.arrays.pooled.write(writer.storage, ROWS, pooled_of(ROWS))  # cut off before its commit
    writer.write_error(9, FAILURE)  # beyond the index
    found = verify_store(writer.storage.url)
    assert found["orphans"] == 2
    assert "pooled without a commit" in found["orphan_rows"][str(ROWS)]
    assert "error record of no volume" in found["orphan_rows"]["9"]


def test_a_sample_is_spread_over_the_store_and_progress_is_told(writer: StoreWriter) -> None:
    told: list[tuple[int, int]] = []
    found = verify_store(writer.storage.url, sample=2, progress=lambda done, total: told.append((done, total)))
    assert (found["checked"], told) == (2, [(1, 2), (2, 2)])
    flip(writer, writer.arrays.pooled.chunk_path(ROWS - 1), 0)
    assert verify_store(writer.storage.url, sample=2)["bad"] == 1


def test_a_reader_never_hands_out_damaged_numbers(writer: StoreWriter) -> None:
    flip(writer, writer.arrays.tokens[1].chunk_path(DAMAGED), 5)
    reader = open_reader(writer.storage.url)
    with pytest.raises(StoreError, match=r"tokens/last row 2 .* is damaged"):
        reader.tokens(DAMAGED, "last")
    np.testing.assert_array_equal(reader.tokens(1, "last"), tokens_of(1)["last"])


def test_an_etag_that_is_no_md5_says_nothing_of_the_bytes(writer: StoreWriter) -> None:
    etag = "f" * 32
    ref = make_ref(ROWS, size=1000 + ROWS, etag=etag)
    for note, bad in ((Note.NONE, 1), (Note.ETAG_IS_NO_MD5, 0), (Note.MD5_UNCHECKED, 0)):
        writer.add_volumes([ref])
        facts = replace(facts_of(ROWS), notes=note)
        writer.write_row(ROWS, pooled_of(ROWS), tokens_of(ROWS), facts, bytes(16), 1000 + ROWS)
        assert verify_store(writer.storage.url)["bad"] == bad


@pytest.mark.parametrize("array", ["pooled", "tokens/2", "facts", "thumbnail", "commit"])
def test_what_cannot_be_read_is_not_bad(writer: StoreWriter, array: str) -> None:
    """A colleague without rights, too many open files, a failing disk: here a folder where the chunk should be."""
    chosen = {one.name: one for one in writer.arrays.all}[array]
    path = Path(writer.storage.url) / chosen.chunk_path(DAMAGED)
    body = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "keep").touch()
    before = sorted(writer.storage.list_paths("commit"))
    found = verify_store(writer.storage.url, repair=True)
    assert found["bad"] == 0
    if array not in ("commit", "thumbnail"):
        assert list(found["unreadable_rows"]) == [str(DAMAGED)]
        assert "cannot read" in found["unreadable_rows"][str(DAMAGED)]
    assert sorted(writer.storage.list_paths("commit")) == before
    (path / "keep").unlink()
    path.rmdir()
    if body:
        path.write_bytes(body)
    found = verify_store(writer.storage.url)
    assert (found["bad"], found["unreadable"]) == (0, 0)


@pytest.mark.parametrize("place", ["", "index", "errors", "workers", "commit", "pooled", "tokens/last", "snapshots",
                                   "kinds", "snapshots/1", "derived", "derived/0123456789abcdef"])  # fmt: skip
def test_foreign_files_are_named_and_ignored_by_all_else(writer: StoreWriter, place: str) -> None:
    url = writer.storage.url
    write_snapshot(url)
    root, segment = Path(url) / place, next((Path(url) / "index").iterdir())
    (root / "a folder").mkdir(parents=True)
    names = [".DS_Store", "Thumbs.db", "._000001.parquet", ".nfs0001", "README.md", "7", "c.1.0.0.0 (conflicted copy)",
             f"{segment.stem} (conflicted copy).parquet", "0.json.bak", "3 (1).json", "a folder/notes.txt",
             "a folder/.x"]  # fmt: skip
    for name in names:
        (root / name).write_bytes(b"not ours")
    found = verify_store(url, repair=True)
    assert (found["checked"], found["bad"], found["damaged_files"], found["orphans"]) == (ROWS, 0, {}, 0)
    laid = {f"{place}/{name}".lstrip("/") for name in names}
    assert laid <= set(found["foreign_files"])
    reader = open_reader(url)
    assert reader.committed().sum() == ROWS
    assert store_status(reader)["committed"] == ROWS
    number = write_snapshot(url)
    assert read_snapshot(url).number == number > 1
    write_rows(writer, range(ROWS))


def test_only_what_a_store_writes_is_its_own() -> None:
    derived = "derived/0123456789abcdef"
    own = ("zarr.json", "facts/zarr.json", "tokens/zarr.json", "tokens/last/zarr.json", "snapshots/1/zarr.json",
           "snapshots/1/eye/zarr.json", "snapshots/1/eye/c/0", f"{derived}/zarr.json", f"{derived}/commit/c.0.0",
           f"{derived}/index/000000-0a1b.parquet", "commit/c.1.0#1")  # fmt: skip
    foreign = ("README/zarr.json", "zarr.json/zarr.json", "snapshots/zarr.json", "snapshots/1/a/b/zarr.json",
               "tokens/.x/zarr.json", f"{derived}/.DS_Store", f"{derived}/README/zarr.json", f"{derived}/README.md",
               f"copy/{derived}/zarr.json", "derived/zarr.json", "zarr (1).json")  # fmt: skip
    assert [path for path in own if not is_own(path)] == []
    assert [path for path in foreign if is_own(path)] == []


def test_a_folder_that_a_desktop_looked_into_may_become_a_store(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"")
    open_writer(str(tmp_path), SPACE, capacity=10, worker=WORKER)


@pytest.mark.parametrize("column", ["key", "size", "etag", "participant", "row"])
def test_one_empty_cell_in_the_index_costs_no_row(writer: StoreWriter, column: str) -> None:
    segment = next((Path(writer.storage.url) / "index").iterdir())
    table = pd.read_parquet(segment)
    table[column] = table[column].astype(object)
    table.loc[1, column] = None
    segment.unlink()
    body = table.to_parquet(index=False)
    name = f"{segment.stem.rpartition('-')[0]}-{checksum(body):08x}.parquet"
    (segment.parent / name).write_bytes(body)
    found = verify_store(writer.storage.url, repair=True)
    assert (found["bad"], found["checked"]) == (0, ROWS)
    assert column in found["damaged_files"][f"index/{name}"]
    with pytest.raises(StoreError, match="restore it from a copy"):
        open_reader(writer.storage.url).index()
