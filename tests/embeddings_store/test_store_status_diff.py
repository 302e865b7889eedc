"""What status counts and what diff compares."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_makers import FAILURE, POOLED_ONLY, SPACE, WORKER, facts_of, make_ref, make_refs, pooled_of, write_rows

from embeddings_store.diff import diff_stores
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import write_snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.status import store_status
from embeddings_store.writer import StoreWriter, open_writer


def make_store(url: Path, space: EmbeddingSpace = SPACE, volumes: int = 6, rows: int = 4) -> StoreWriter:
    writer = open_writer(str(url), space, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(volumes))
    write_rows(writer, range(rows))
    return writer


def test_status_counts_every_volume_once_in_every_view(tmp_path: Path) -> None:
    writer = make_store(tmp_path / "a")
    writer.write_error(4, FAILURE)
    write_snapshot(writer.storage.url)
    found = store_status(open_reader(writer.storage.url))

    assert (found["rows"], found["committed"], found["errors"], found["missing"]) == (6, 4, 1, 1)
    assert found["errors_by_class"] == {"BadPixels": 1}
    assert (found["participants"], found["snapshot"], found["space_id"]) == (6, 1, SPACE.id)
    assert found["coverage"]["site"] == {
        "UW": {"committed": 2, "errors": 0, "missing": 0},
        "UCSD": {"committed": 1, "errors": 1, "missing": 0},
        "UAB": {"committed": 1, "errors": 0, "missing": 1},
    }
    for column in ("site", "device", "protocol", "eye"):
        assert sum(sum(states.values()) for states in found["coverage"][column].values()) == 6


def test_status_of_an_empty_store(tmp_path: Path) -> None:
    writer = make_store(tmp_path / "a", volumes=0, rows=0)
    found = store_status(open_reader(writer.storage.url))
    assert (found["rows"], found["snapshot"], found["coverage"]["site"]) == (0, None, {})


def test_equal_stores_have_no_difference(tmp_path: Path) -> None:
    a, b = (make_store(tmp_path / name).storage.url for name in "ab")
    found = diff_stores(a, b)
    assert {name: found[name] for name in ("only_a", "only_b", "common", "different", "max_abs", "spaces")} == {
        "only_a": 0,
        "only_b": 0,
        "common": 4,
        "different": 0,
        "max_abs": 0.0,
        "spaces": [],
    }


def test_rows_are_joined_by_key_and_their_largest_gap_told(tmp_path: Path) -> None:
    a = make_store(tmp_path / "a", POOLED_ONLY)
    b = open_writer(str(tmp_path / "b"), replace(POOLED_ONLY, precision="bf16"), capacity=10, worker=WORKER)
    b.add_volumes([make_ref(number) for number in (9, 2, 1)])
    for row, number in enumerate((9, 2, 1)):
        pooled = pooled_of(number, POOLED_ONLY)
        pooled[0, 1, 2] += np.float32(0.25) * (number == 2)
        b.write_row(row, pooled, {}, facts_of(number), bytes(16), 1)

    found = diff_stores(a.storage.url, b.storage.url)
    assert (found["only_a"], found["only_b"], found["common"], found["different"]) == (2, 1, 2, 1)
    assert found["max_abs"] == pytest.approx(0.25, abs=1e-6)
    assert found["spaces"] == ["precision: fp32 here, bf16 there"]


def test_only_shared_layers_and_pools_are_compared(tmp_path: Path) -> None:
    a = make_store(tmp_path / "a").storage.url
    some = replace(POOLED_ONLY, pools=("std", "mean"))
    b = open_writer(str(tmp_path / "b"), some, capacity=10, worker=WORKER)
    b.add_volumes(make_refs(1))
    b.write_row(0, np.ascontiguousarray(pooled_of(0)[1:, [2, 0]]), {}, facts_of(0), bytes(16), 1)
    found = diff_stores(a, b.storage.url)
    assert (found["different"], found["max_abs"]) == (0, 0.0)
    assert found["compared"] == {"layers": ["last"], "pools": ["mean", "std"]}


def test_what_cannot_be_compared_counts_as_different(tmp_path: Path) -> None:
    a = make_store(tmp_path / "a").storage.url
    b = make_store(tmp_path / "b", replace(SPACE, width=8)).storage.url
    found = diff_stores(a, b)
    assert (found["common"], found["different"], found["max_abs"]) == (4, 4, None)


def test_other_tokens_alone_make_a_row_different(tmp_path: Path) -> None:
    a, b = (make_store(tmp_path / name, rows=2) for name in "ab")
    tokens = {layer: np.zeros((*(SPACE.token_grid or ()), SPACE.width), np.float16) for layer in SPACE.layers}
    b.write_row(1, pooled_of(1), tokens, facts_of(1), bytes(range(16)), 1001)
    found = diff_stores(a.storage.url, b.storage.url)
    assert (found["different"], found["max_abs"]) == (1, 0.0)
