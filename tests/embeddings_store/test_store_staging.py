"""What is written aside is seen by nobody, and nothing of it stays when a row is refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_makers import SPACE, WORKER, facts_of, make_refs, memory_storage, pooled_of, tokens_of

from embeddings_store.arrays import flat_bytes
from embeddings_store.errors import StoreError
from embeddings_store.leftovers import abandoned_files
from embeddings_store.reader import open_reader
from embeddings_store.row_checks import RowError
from embeddings_store.staging import stage, staging
from embeddings_store.storage import BLOCK_BYTES, Storage, open_storage
from embeddings_store.writer import StoreWriter, open_writer

# Two layers of 1.5 MB: large enough to be summed in a thread while they are written.
LARGE = replace(SPACE, width=512, token_grid=(8, 12, 16))
DATA = flat_bytes(np.arange(300, dtype=np.float32))


@pytest.fixture(params=["a folder", "a memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path), create=True) if request.param == "a folder" else memory_storage()


def aside(folder: Path) -> list[Path]:
    return list(folder.rglob("*#*"))


@pytest.mark.parametrize("size", [len(DATA), 2 * BLOCK_BYTES + 5])
def test_it_is_seen_when_it_is_published_and_whole_then(storage: Storage, size: int) -> None:
    data = np.resize(DATA, size)
    storage.put("x/other", b"")
    staged = stage(storage, "x/object", data)
    assert storage.get("x/object") is None
    assert storage.list_paths("x") == ["x/other"]
    staged.publish(b"end")
    staged.discard()
    assert bytes(storage.get("x/object") or b"") == data.tobytes() + b"end"


def test_what_is_staged_looks_like_any_other_file_aside(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path), create=True)
    stage(storage, "object", DATA)
    assert [leftover.size_bytes for leftover in abandoned_files(storage, clock=lambda: 4e9)] == [DATA.size]


def test_nothing_stays_aside_when_anything_goes_wrong(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path), create=True)
    with pytest.raises(KeyboardInterrupt), staging() as staged:
        staged += [stage(storage, f"object{number}", DATA) for number in range(2)]
        staged[0].publish(b"")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["object0"]


def test_a_full_disk_leaves_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    storage = open_storage(str(tmp_path), create=True)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"cannot write in the store .*No space left"):
        stage(storage, "object", DATA)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    writer = open_writer(str(tmp_path / "store"), LARGE, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(1))
    return writer


@pytest.mark.parametrize("place", [0, -1])
def test_a_large_row_that_is_not_finite_is_refused_and_leaves_nothing(writer: StoreWriter, place: int) -> None:
    tokens = tokens_of(0, LARGE)
    tokens["last"].reshape(-1)[place] = np.nan
    before = sorted(writer.storage.list_paths(""))
    with pytest.raises(RowError, match="tokens/last holds values that are not finite"):
        writer.write_row(0, pooled_of(0, LARGE), tokens, facts_of(0), bytes(16), 1)
    assert sorted(writer.storage.list_paths("")) == before
    assert aside(Path(writer.storage.url)) == []


def test_a_large_row_comes_back(writer: StoreWriter) -> None:
    writer.write_row(0, pooled_of(0, LARGE), tokens_of(0, LARGE), facts_of(0), bytes(16), 1)
    found = open_reader(writer.storage.url).committed_tokens(0)
    for layer, tokens in tokens_of(0, LARGE).items():
        np.testing.assert_array_equal(found[layer], tokens)
    assert aside(Path(writer.storage.url)) == []
