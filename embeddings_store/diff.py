"""Do two stores say the same? Rows joined by key, compared on the layers and pools that both have."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from embeddings_store.reader import StoreReader, open_reader

BLOCK_ROWS = 1024


def diff_stores(url_a: str, url_b: str, *, endpoint_url: str | None = None) -> dict[str, Any]:
    """Compare the committed rows of two stores.

    Returns only_a, only_b, common, different (counts), max_abs (largest difference of a pooled number; None when no
    number can be compared), compared {layers, pools} and spaces (the fields that differ, one line each).
    A common row is different when a pooled number differs, when nothing can be compared, or, where both store the
    same token grids, when the tokens' checksums differ.
    """
    a, b = (open_reader(url, endpoint_url=endpoint_url) for url in (url_a, url_b))
    rows_a, rows_b = _committed_keys(a), _committed_keys(b)
    common = sorted(rows_a.keys() & rows_b.keys())
    layers = [layer for layer in a.space.layers if layer in b.space.layers]
    pools = [pool for pool in a.space.pools if pool in b.space.pools]
    different, max_abs = _compare(a, b, [(rows_a[key], rows_b[key]) for key in common], layers, pools)
    return {
        "only_a": len(rows_a) - len(common),
        "only_b": len(rows_b) - len(common),
        "common": len(common),
        "different": different,
        "max_abs": max_abs,
        "compared": {"layers": layers, "pools": pools},
        "spaces": a.space.differences(b.space),
    }


def _committed_keys(reader: StoreReader) -> dict[str, int]:
    index = reader.index()
    chosen = index[reader.committed_among(len(index))]
    return dict(zip(chosen["key"].tolist(), chosen["row"].tolist(), strict=True))


def _compare(
    a: StoreReader, b: StoreReader, pairs: Sequence[tuple[int, int]], layers: list[str], pools: list[str]
) -> tuple[int, float | None]:
    """Count the rows that differ and find the largest difference, block by block."""
    if a.space.width != b.space.width or not layers or not pools:
        return len(pairs), None
    different, largest = 0, 0.0
    for first in range(0, len(pairs), BLOCK_ROWS):
        rows_a, rows_b = (list(side) for side in zip(*pairs[first : first + BLOCK_ROWS], strict=True))
        gap = np.abs(_chosen(a, rows_a, layers, pools) - _chosen(b, rows_b, layers, pools)).max(axis=(1, 2, 3))
        different += int(((gap > 0) | _other_tokens(a, b, rows_a, rows_b)).sum())
        largest = max(largest, float(gap.max()))
    return different, largest if pairs else None


def _chosen(reader: StoreReader, rows: list[int], layers: list[str], pools: list[str]) -> np.ndarray:
    """Read pooled vectors in float64 at the layers and pools that both stores have."""
    at_layers = [reader.space.layers.index(layer) for layer in layers]
    at_pools = [reader.space.pools.index(pool) for pool in pools]
    return reader.pooled(rows).astype(np.float64)[:, at_layers][:, :, at_pools]


def _other_tokens(a: StoreReader, b: StoreReader, rows_a: list[int], rows_b: list[int]) -> np.ndarray:
    same_grids = a.space.token_grid == b.space.token_grid and a.space.layers == b.space.layers
    if a.space.token_grid is None or not same_grids:
        return np.zeros(len(rows_a), dtype=np.bool_)
    differs: np.ndarray = a.commits(rows_a)["crc_tokens"].to_numpy() != b.commits(rows_b)["crc_tokens"].to_numpy()
    return differs
