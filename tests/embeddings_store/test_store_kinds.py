"""What a row's object is, as text: kept beside the row, carried along, absent for rows of before."""

from dataclasses import replace
from pathlib import Path

import pytest
from store_makers import SPACE, WORKER, facts_of, make_refs, pooled_of, tokens_of, write_rows

from embeddings_store.derive import derive_store
from embeddings_store.errors import StoreError
from embeddings_store.export import export_store
from embeddings_store.kinds import COLUMNS, kind_path, read_kind
from embeddings_store.schema import Kind
from embeddings_store.snapshot import read_features_source, read_snapshot, write_snapshot
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer

FULL = replace(SPACE, token_grid=(8, 6, 6), pools=("mean",))
KIND = Kind("1.2.840.10008.5.1.4.1.1.77.1.5.4", "OPT", "ORIGINAL\\PRIMARY")


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    """A store of before with two rows, to which a third was added now."""
    writer = open_writer(str(tmp_path / "store"), FULL, worker=WORKER)
    writer.add_volumes(make_refs(3))
    for row in (0, 1):
        add(writer, row, None)
    add(writer, 2, KIND)
    return writer


def add(writer: StoreWriter, row: int, kind: Kind | None) -> None:
    facts = replace(facts_of(row), kind=kind)
    writer.write_row(row, pooled_of(row, FULL), tokens_of(row, FULL), facts, bytes(16), make_refs(3)[row].size)


def test_a_store_of_before_grows_and_old_rows_have_none(writer: StoreWriter, tmp_path: Path) -> None:
    url = writer.storage.url
    assert [read_kind(writer.storage, row) for row in range(3)] == [None, None, KIND]
    found = read_features_source(url)
    assert found.index["sop_class"].tolist() == ["", "", KIND.sop_class]
    assert found.index["image_type"].tolist() == ["", "", "ORIGINAL\\PRIMARY"]
    again = read_snapshot(url)
    assert again.index[list(COLUMNS)].equals(found.index[list(COLUMNS)])
    export_store(url, tmp_path / "out.parquet", "parquet")
    assert verify_store(url)["bad"] == 0


def test_a_store_without_kinds_has_no_columns_of_them(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path / "store"), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(1))
    write_rows(writer, [0])
    write_snapshot(writer.storage.url)
    assert not set(COLUMNS) & set(read_snapshot(writer.storage.url).index.columns)


def test_a_damaged_record_is_found_and_its_row_done_again(writer: StoreWriter) -> None:
    path = kind_path(2)
    body = bytes(writer.storage.get(path) or b"")
    writer.storage.put(path, body.replace(b'"OPT"', b'"OPX"'))
    with pytest.raises(StoreError, match=r"kinds/2\.json is damaged"):
        read_features_source(writer.storage.url)
    assert "kind" in verify_store(writer.storage.url, repair=True)["faults"]["2"]
    assert [line.row for line in writer.missing_rows()] == [2]
    add(writer, 2, KIND)
    assert verify_store(writer.storage.url)["bad"] == 0


def test_derived_stores_have_the_kinds_of_their_parent(writer: StoreWriter) -> None:
    found = derive_store(writer.storage.url, ["median"])
    assert read_features_source(found["store"]).index["modality"].tolist() == ["", "", "OPT"]
