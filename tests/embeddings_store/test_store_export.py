"""An export read with two lines of pandas or NumPy is the snapshot, number by number."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from store_makers import SPACE, WORKER, make_refs, pooled_of, write_rows

from embeddings_store import export
from embeddings_store.errors import StoreError, UsageError
from embeddings_store.export import export_store
from embeddings_store.writer import open_writer

ROWS = [0, 2, 3]
POOLED = np.stack([pooled_of(row) for row in ROWS])


@pytest.fixture
def url(tmp_path: Path) -> str:
    writer = open_writer(str(tmp_path / "store"), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(4))
    write_rows(writer, ROWS)
    return writer.storage.url


def test_a_parquet_table_is_a_matrix_in_two_lines(url: str, tmp_path: Path) -> None:
    written = export_store(url, tmp_path / "pooled.parquet", "parquet")
    table = pd.read_parquet(tmp_path / "pooled.parquet")
    matrix = table.filter(like="last.std.").to_numpy()

    np.testing.assert_array_equal(matrix, POOLED[:, 1, 2])
    assert matrix.dtype == np.float32
    assert table["row"].tolist() == ROWS
    assert table["participant"].tolist() == ["1000", "7002", "1003"]
    assert {"eye", "frames", "notes", "site"} <= set(table.columns)
    assert (written["rows"], written["numbers_a_row"]) == (3, POOLED[0].size)
    assert not table.isna().loc[:, table.columns.str.contains(r"\.")].any().any()
    origin = json.loads(pq.read_schema(tmp_path / "pooled.parquet").metadata[export.METADATA_KEY])
    assert (origin["space_id"], origin["snapshot"]) == (SPACE.id, 1)


def test_a_folder_for_numpy_holds_the_matrix_and_its_index(url: str, tmp_path: Path) -> None:
    export_store(url, tmp_path / "out", "npy")
    pooled = np.load(tmp_path / "out" / "pooled.npy")
    index = pd.read_csv(tmp_path / "out" / "index.csv", dtype={"participant": str})

    np.testing.assert_array_equal(pooled, POOLED)
    assert index["row"].tolist() == ROWS
    assert index["participant"].tolist() == ["1000", "7002", "1003"]
    origin = json.loads((tmp_path / "out" / "origin.json").read_text())
    assert (origin["layers"], origin["pools"]) == (list(SPACE.layers), list(SPACE.pools))


def test_an_older_snapshot_can_be_chosen(url: str, tmp_path: Path) -> None:
    export_store(url, tmp_path / "one.parquet", "parquet")
    write_rows(open_writer(url, SPACE, worker=WORKER), [1])
    export_store(url, tmp_path / "two.parquet", "parquet")
    export_store(url, tmp_path / "again.parquet", "parquet", number=1)
    assert [len(pd.read_parquet(tmp_path / f"{name}.parquet")) for name in ("one", "two", "again")] == [3, 4, 3]


@pytest.mark.parametrize(
    ("out", "form", "message"),
    [
        ("store", "npy", "expected a new name"),
        ("no/such/folder.parquet", "parquet", "expected a new name"),
        ("x.csv", "csv", "expected one of parquet, npy, got 'csv'"),
    ],
)
def test_a_wrong_wish_is_one_message(url: str, tmp_path: Path, out: str, form: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export_store(url, tmp_path / out, form)


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_a_full_disk_leaves_nothing(url: str, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(_found: object, aside: Path) -> None:
        aside.mkdir()
        (aside / "half").write_bytes(b"1")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export.WRITERS, form, write_half)
    with pytest.raises(StoreError, match="No space left on device; nothing was left there"):
        export_store(url, tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
