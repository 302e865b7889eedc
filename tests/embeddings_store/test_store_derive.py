"""Deriving pooled vectors and coarser grids from stored tokens: the right numbers, resumable, with a measured loss."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from store_makers import SPACE, WORKER, facts_of, make_ref, make_refs

from embeddings_store import derive
from embeddings_store.derive import derive_store, derived_space
from embeddings_store.errors import StoreError, UsageError
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source
from embeddings_store.space import EmbeddingSpace
from embeddings_store.status import store_status
from embeddings_store.token_pooling import coarsen_tokens, pool_tokens
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer
from extract.pooling import POOLS, pool, reduce_tokens

FULL = replace(SPACE, image_size=(16, 32, 48), token_grid=(4, 2, 3), pools=("mean", "std"))
HALF_PRECISION = 2.0**-11


def exact_tokens(row: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(row)
    return {layer: 1 + rng.standard_normal((4, 2, 3, FULL.width), dtype=np.float32) for layer in FULL.layers}


def write_encoded(writer: StoreWriter, rows: list[int], *, size: int | None = None, seed: int = 0) -> None:
    """Write rows as the encoder would: pooled from exact tokens, which are then stored in float16."""
    for row in rows:
        tokens = exact_tokens(row + seed)
        flat = [grid.reshape(-1, FULL.width) for grid in tokens.values()]
        pooled = np.stack([np.stack([one.mean(0), one.std(0)]) for one in flat])
        stored = {layer: grid.astype(np.float16) for layer, grid in tokens.items()}
        writer.write_row(row, pooled, stored, facts_of(row), bytes(range(16)), 1000 + row if size is None else size)


@pytest.fixture
def parent(tmp_path: Path) -> StoreWriter:
    writer = open_writer(str(tmp_path / "store"), FULL, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(4))
    write_encoded(writer, [0, 1, 3])
    return writer


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_numpy_pools_as_the_encoder_does(seed: int, scale: float) -> None:
    tokens = (scale * np.random.default_rng(seed).standard_normal((4, 2, 6, 5))).astype(np.float16)
    batch = torch.from_numpy(tokens.reshape(1, -1, 5))
    pooled = pool(batch, tuple(POOLS))[0].numpy()
    np.testing.assert_allclose(pool_tokens(tokens, tuple(POOLS)), pooled, rtol=1e-5, atol=1e-6 * scale)
    boxes = reduce_tokens(batch, (4, 2, 6), (2, 1, 2))[0].numpy()
    np.testing.assert_allclose(coarsen_tokens(tokens, (2, 1, 2)), boxes, rtol=1e-3, atol=1e-6)


def test_what_is_derived_is_an_ordinary_store_that_names_its_parent(parent: StoreWriter) -> None:
    found = derive_store(parent.storage.url, ("median", "max"), (2, 1, 1))
    reader = open_reader(found["store"])

    assert found["store"] == f"{parent.storage.url}/derived/{found['space_id']}"
    assert (reader.space.pools, reader.space.token_grid) == (("median", "max"), (2, 1, 1))
    assert reader.space.precision == "fp32 through float16 tokens"
    assert reader.index().equals(open_reader(parent.storage.url).index())
    assert reader.committed().tolist() == [True, True, False, True]
    stored = exact_tokens(3)["last"].astype(np.float16)
    np.testing.assert_array_equal(reader.pooled([3])[0, 1, 1], stored.reshape(-1, FULL.width).max(0))
    np.testing.assert_array_equal(reader.tokens(3, "last"), coarsen_tokens(stored, (2, 1, 1)))
    assert reader.facts([0, 3]).equals(open_reader(parent.storage.url).facts([0, 3]))
    assert read_features_source(found["store"]).pooled.shape == (3, 2, 2, FULL.width)
    assert verify_store(found["store"])["bad"] == 0
    assert verify_store(parent.storage.url)["orphans"] == 0
    assert store_status(open_reader(parent.storage.url))["derived"] == [found["space_id"]]


def test_the_loss_by_rounded_tokens_is_measured_and_small(parent: StoreWriter) -> None:
    found = derive_store(parent.storage.url, ("min",))["deviation"]
    assert found["rows"] == 3
    assert set(found["max_relative"]) == {"mean", "std"}
    assert all(0 < loss < HALF_PRECISION for loss in found["max_relative"].values())
    assert all(0 < loss < 0.01 for loss in found["max_abs"].values())


def test_a_repeated_call_does_only_what_is_new(parent: StoreWriter) -> None:
    url = parent.storage.url
    assert [derive_store(url, ("max",))["derived"] for _ in range(2)] == [3, 0]
    write_encoded(parent, [2])
    assert (derive_store(url, ("max",))["derived"], derive_store(url, ("max",))["committed"]) == (1, 4)


def test_a_call_that_was_cut_off_goes_on(parent: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(tokens: np.ndarray, pools: tuple[str, ...]) -> np.ndarray:
        if np.array_equal(tokens, last.committed_tokens(last_row)["2"]):
            raise KeyboardInterrupt
        return pool_tokens(tokens, pools)

    last, last_row = open_reader(parent.storage.url), 3
    monkeypatch.setattr(derive, "pool_tokens", stop)
    with pytest.raises(KeyboardInterrupt):
        derive_store(parent.storage.url, ("max",))
    monkeypatch.undo()
    found = derive_store(parent.storage.url, ("max",))
    assert (found["derived"], found["committed"]) == (1, 3)


def test_a_row_whose_object_was_replaced_is_derived_again(parent: StoreWriter) -> None:
    derive_store(parent.storage.url, ("max",))
    parent.add_volumes([make_ref(1, size=7, etag="")])
    write_encoded(parent, [1], size=7, seed=50)
    found = derive_store(parent.storage.url, ("max",))
    assert found["derived"] == 1
    expected = exact_tokens(51)["2"].astype(np.float16).reshape(-1, FULL.width).max(0)
    np.testing.assert_array_equal(open_reader(found["store"]).pooled([1])[0, 0, 0], expected)


def test_an_object_of_unknown_size_that_was_replaced_is_noticed_by_its_digest(parent: StoreWriter) -> None:
    derive_store(parent.storage.url, ("max",))
    tokens = {layer: grid.astype(np.float16) for layer, grid in exact_tokens(60).items()}
    pooled = np.zeros((2, 2, FULL.width), np.float32)
    parent.write_row(1, pooled, tokens, facts_of(1), bytes(16), 1001)
    assert derive_store(parent.storage.url, ("max",))["derived"] == 1


def test_tokens_that_do_not_belong_to_their_commit_are_refused(parent: StoreWriter) -> None:
    parent.arrays.tokens[0].write(parent.storage, 1, exact_tokens(99)["2"].astype(np.float16))
    with pytest.raises(
        StoreError, match=r"row 1 .* tokens differ from its commit; run `extract-embeddings verify --repair`"
    ):
        derive_store(parent.storage.url, ("max",))
    assert verify_store(parent.storage.url, repair=True)["bad"] == 1
    assert derive_store(parent.storage.url, ("max",))["committed"] == 2


@pytest.mark.parametrize(
    ("space", "pools", "grid", "message"),
    [
        (
            replace(FULL, token_grid=None),
            ("max",),
            None,
            "expected all 4x2x3 tokens .* store holds none",
        ),
        (replace(FULL, token_grid=(2, 1, 1)), ("max",), None, "the store holds 2x1x1"),
        (FULL, ("mode",), None, "expected one of mean, max, std, min, median"),
        (FULL, ("max", "max"), None, "none twice"),
        (FULL, ("max",), (3, 1, 1), "token grid 3x1x1: expected a divisor of the stored 4x2x3"),
    ],
)
def test_what_cannot_be_derived_is_one_message(
    space: EmbeddingSpace, pools: tuple[str, ...], grid: tuple[int, int, int] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        derived_space(space, pools, grid)


def test_the_spaces_of_parent_and_derived_store_are_different(parent: StoreWriter) -> None:
    assert derived_space(FULL, FULL.pools, FULL.token_grid).id != FULL.id
    assert derive.FOLDER not in {path.partition("/")[0] for path in parent.storage.list_paths("")}
