"""int8 tokens: half the room, within the bound that the space states, and noticed when they are damaged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from store_makers import SPACE, WORKER, facts_of, make_refs, pooled_of, tokens_of, write_rows

from embeddings_store.derive import derive_store
from embeddings_store.diff import diff_stores
from embeddings_store.errors import SpaceMismatchError, UsageError
from embeddings_store.reader import open_reader
from embeddings_store.room import row_bytes
from embeddings_store.row_checks import RowError
from embeddings_store.space import EmbeddingSpace
from embeddings_store.token_codec import CODECS, cosine_error_bound, cosine_errors
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, open_writer

INT8 = replace(SPACE, token_dtype="int8", image_size=(8, 48, 64))
WIDTH = 64
GRID = (2, 1, 2)


def there_and_back(tokens: np.ndarray) -> np.ndarray:
    codec = CODECS["int8"]
    return codec.decode(codec.encode(tokens))


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    writer = open_writer(str(tmp_path / "int8"), INT8, capacity=10, worker=WORKER)
    writer.add_volumes(make_refs(3))
    write_rows(writer, range(3))
    return writer


# Sizes from 1e-3 to float16's largest; some tokens have one number that dwarfs the others, which is the hard case.
numbers = st.floats(-1, 1, width=16) | st.sampled_from([0.0, 1.0, -1.0, 0.00394, -0.00394])
sizes = st.sampled_from([1e-3, 0.1, 1.0, 100.0, 65504.0])


@given(st_numpy.arrays(np.float32, (*GRID, WIDTH), elements=numbers), sizes)
def test_any_token_comes_back_within_the_bound(shape: np.ndarray, size: float) -> None:
    largest = np.abs(shape).max(-1, keepdims=True)
    tokens = (shape / np.where(largest > 0, largest, 1) * size).astype(np.float16)
    back = there_and_back(tokens)
    step = np.abs(tokens.astype(np.float64)).max(-1, keepdims=True) / 254
    assert np.all(np.abs(back.astype(np.float64) - tokens) <= 1.01 * step + np.abs(tokens) * 2.0**-11)
    assert cosine_errors(tokens, back).max() <= cosine_error_bound(WIDTH)


def test_zeros_stay_zeros_and_the_largest_number_is_met() -> None:
    tokens = np.zeros((*GRID, WIDTH), np.float16)
    tokens[0, 0, 0, 3] = -65504
    back = there_and_back(tokens)
    np.testing.assert_array_equal(back, tokens)
    assert cosine_errors(tokens, back).tolist() == [0.0] * 4


def test_the_bound_is_nearly_met_by_the_worst_token() -> None:
    worst = np.full((*GRID, WIDTH), 0.499 / 127, np.float16)
    worst[..., 0] = 1.0
    found = cosine_errors(worst, there_and_back(worst)).max()
    assert 0.9 * cosine_error_bound(WIDTH) < found <= cosine_error_bound(WIDTH)


def test_the_bound_is_part_of_the_space_and_of_no_other() -> None:
    assert INT8.token_cosine_error == cosine_error_bound(INT8.width)
    assert EmbeddingSpace.from_dict(json.loads(INT8.to_json())) == INT8
    assert "token_cosine_error: None here" in " ".join(replace(INT8, token_dtype="float16").differences(INT8))
    assert "token_cosine_error" not in SPACE.to_dict()
    assert cosine_error_bound(768) == 0.0062
    with pytest.raises(UsageError, match="expected one of float16, int8, got 'int4'"):
        replace(SPACE, token_dtype="int4")


def test_a_store_of_the_other_kind_is_refused(writer: StoreWriter) -> None:
    with pytest.raises(SpaceMismatchError, match="token_dtype: int8 here, float16 there"):
        open_writer(writer.storage.url, replace(INT8, token_dtype="float16"), worker=WORKER)


def test_tokens_come_back_alike_by_every_way(writer: StoreWriter) -> None:
    reader = open_reader(writer.storage.url)
    for layer, tokens in tokens_of(1).items():
        expected = there_and_back(tokens)
        np.testing.assert_array_equal(reader.tokens(1, layer), expected)
        np.testing.assert_array_equal(reader.token_batch([2, 1], layer)[1], expected)
        np.testing.assert_array_equal(reader.committed_tokens(1)[layer], expected)


def test_plain_zarr_reads_them_in_one_line(writer: StoreWriter) -> None:
    group = zarr.open_group(writer.storage.url, mode="r")
    tokens = group["tokens/last"][1] * group["token_scales/last"][1][..., None]
    np.testing.assert_allclose(tokens, there_and_back(tokens_of(1)["last"]), rtol=2**-11)


@pytest.mark.parametrize("part", ["tokens/last", "token_scales/2"])
def test_a_flipped_byte_in_either_array_is_found(writer: StoreWriter, part: str) -> None:
    array = {one.name: one for one in writer.arrays.all}[part]
    changed = array.read(writer.storage, 1)
    assert changed is not None
    array.write(writer.storage, 1, changed + np.ones((), changed.dtype))  # with a right checksum of its own
    assert verify_store(writer.storage.url, repair=False)["faults"] == {"1": "the tokens differ from the commit"}


def test_a_number_that_is_not_finite_is_refused_before_it_is_rounded(writer: StoreWriter) -> None:
    broken = tokens_of(0) | {"last": np.full_like(tokens_of(0)["last"], np.nan)}
    with pytest.raises(RowError, match="tokens/last holds values that are not finite"):
        writer.write_row(0, pooled_of(0), broken, facts_of(0), bytes(16), 1)


def test_a_row_takes_half_the_room() -> None:
    full = replace(INT8, width=768, token_grid=(16, 24, 24))
    int8, float16 = (row_bytes(replace(full, token_dtype=name)) for name in ("int8", "float16"))
    ours = sum(int8[f"{folder}/last"] for folder in ("tokens", "token_scales"))
    assert 0.5 < ours / float16["tokens/last"] < 0.503


def test_pools_are_derived_from_them_and_say_so(writer: StoreWriter) -> None:
    found = derive_store(writer.storage.url, ["mean", "median"])
    assert found["precision"] == "fp32 through int8 tokens"
    derived = open_reader(found["store"])
    expected = there_and_back(tokens_of(2)["last"]).astype(np.float64).mean((0, 1, 2))
    np.testing.assert_allclose(derived.pooled([2])[0, 1, 0], expected, rtol=1e-6)


def test_diff_compares_them(writer: StoreWriter, tmp_path: Path) -> None:
    other = open_writer(str(tmp_path / "other"), INT8, capacity=10, worker=WORKER)
    other.add_volumes(make_refs(3))
    write_rows(other, [0, 1])
    other.write_row(2, pooled_of(2), tokens_of(7), facts_of(2), bytes(16), 1)
    assert diff_stores(writer.storage.url, other.storage.url)["different"] == 1
