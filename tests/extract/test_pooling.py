"""Pools and token grids, against plain NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings_store.errors import UsageError
from extract.pooling import parse_token_grid, pool, reduce_tokens


def random_tokens(batch: int, count: int, width: int, seed: int = 0) -> torch.Tensor:
    numbers = np.random.default_rng(seed).normal(3.0, 2.0, (batch, count, width))
    return torch.from_numpy(numbers.astype(np.float32))


def test_pools_are_those_of_numpy_in_the_order_asked_for() -> None:
    tokens = random_tokens(2, 60, 5)
    exact = tokens.double().numpy()
    expected = np.stack([exact.std(1), exact.mean(1), exact.max(1)], axis=1)
    np.testing.assert_allclose(pool(tokens, ("std", "mean", "max")).numpy(), expected, rtol=1e-5)


def test_pooling_bfloat16_tokens_loses_nothing_more() -> None:
    rounded = random_tokens(1, 4096, 3).to(torch.bfloat16)
    pooled = pool(rounded, ("mean",))
    assert pooled.dtype == torch.float32
    np.testing.assert_allclose(pooled[0, 0].numpy(), rounded.double().mean(1)[0].numpy(), rtol=1e-5)


@pytest.mark.parametrize("pools", [("median",), (), ("mean", "mean")])
def test_unknown_or_double_pools_are_refused(pools: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="pool"):
        pool(random_tokens(1, 4, 2), pools)


sides = st.integers(1, 3)


@settings(max_examples=30, deadline=None)
@given(st.tuples(sides, sides, sides), st.tuples(sides, sides, sides), st.integers(0, 5))
def test_each_kept_token_is_the_mean_of_its_box(
    target: tuple[int, int, int], box: tuple[int, int, int], seed: int
) -> None:
    grid = (target[0] * box[0], target[1] * box[1], target[2] * box[2])
    tokens = random_tokens(2, grid[0] * grid[1] * grid[2], 3, seed)
    volume = tokens.numpy().reshape(2, *grid, 3)
    reduced = reduce_tokens(tokens, grid, target).numpy()
    assert reduced.shape == (2, *target, 3)
    for place in np.ndindex(*target):
        cut = tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, box, strict=True))
        np.testing.assert_allclose(
            reduced[(slice(None), *place)], volume[(slice(None), *cut)].mean((1, 2, 3)), rtol=1e-4, atol=1e-5
        )


def test_the_full_grid_keeps_every_token() -> None:
    tokens = random_tokens(1, 24, 3)
    assert torch.equal(reduce_tokens(tokens, (2, 3, 4), (2, 3, 4)).flatten(1, 3), tokens)


def test_reading_the_option() -> None:
    grid = (16, 24, 24)
    assert parse_token_grid("full", grid) == grid
    assert parse_token_grid("none", grid) is None
    assert parse_token_grid("4x6x6", grid) == (4, 6, 6)


@pytest.mark.parametrize("text", ["4x6", "5x6x6", "0x6x6", "all", "", "4x6x6x6", "-4x6x6", "32x24x24"])
def test_grids_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="token"):
        parse_token_grid(text, (16, 24, 24))
