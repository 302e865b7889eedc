"""Patch tokens of a cohort as features: one layer, on a grid coarse enough for memory.

A row of the table holds the tokens of a volume one after another, depth slowest, each with all its channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from jaxtyping import Float, Float32

from classify.cohort.table import Cohort
from classify.features.table import FeatureChoice, FeatureTable, table_of
from embeddings_store.errors import StoreError, UsageError
from embeddings_store.grid import Grid
from embeddings_store.machine import usable_memory_bytes
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.schema import Eye
from embeddings_store.snapshot import Snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.token_pooling import coarsen_tokens

MOST_TOKENS = 150
"""Tokens of a volume, where no grid is asked for: 4x6x6 of a stored 16x24x24 or 8x12x12."""

COPIES = 5
"""Tables that are alive at once: as read, its train rows, those standardised, and two folds while one makes way."""

MEMORY_SHARE = 0.75
"""Of the machine's memory; the rest is for everything else."""

ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class TokenReader:
    """Reads the tokens of a cohort's volumes from a store; row_of: where each volume lies in it.

    The store is opened anew each time, so that a reader may go to another process.
    """

    store: str
    endpoint_url: str | None
    row_of: Mapping[str, int]
    memory_bytes: float

    def __call__(self, cohort: Cohort, choice: FeatureChoice) -> FeatureTable:
        """Give one row a line of the cohort's table, tokens on choice.token_grid.

        Raises: UsageError where the store has no such tokens, or they would not fit into memory; StoreError where a
        row is missing or damaged.
        """
        reader = open_reader(self.store, endpoint_url=self.endpoint_url)
        space = reader.space
        grid = resolve_grid(space, choice.token_grid)
        if choice.layer not in space.layers:
            raise UsageError(f"--layer: the store holds {', '.join(space.layers)}; got {choice.layer!r}")
        rows = [self.row_of[volume] for volume in cohort.table["volume"]]
        check_memory(len(rows), grid, space, self.memory_bytes)
        places = [f"d{depth}h{height}w{width}" for depth, height, width in product(*map(range, grid))]
        names = tuple(f"{choice.layer}/{place}/{channel:03d}" for place in places for channel in range(space.width))
        x = _read_tokens(reader, rows, choice.layer, grid)
        if choice.mirror:
            x[cohort.table["eye"] == Eye.LEFT] = mirrored(x[cohort.table["eye"] == Eye.LEFT], grid)
        return table_of(cohort, x, names, space, tokens=len(places))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSnapshot(Snapshot):
    """A snapshot that knows its store: patch tokens are too many to be in it, and are read where they lie."""

    read_tokens: TokenReader


def with_tokens(snapshot: Snapshot, store: str, *, endpoint_url: str | None = None) -> TokenSnapshot:
    """Tell a snapshot the store that it was read from; nothing is read until tokens are asked for."""
    row_of = dict(zip(snapshot.index["volume"], snapshot.index["row"].tolist(), strict=True))
    reader = TokenReader(store, endpoint_url, row_of, MEMORY_SHARE * usable_memory_bytes())
    kept = {one.name: getattr(snapshot, one.name) for one in fields(Snapshot)}
    return TokenSnapshot(**kept, read_tokens=reader)


def resolve_grid(space: EmbeddingSpace, asked: Grid | None, most: int | None = None) -> Grid:
    """Give the grid asked for, or the finest one of at most so many (MOST_TOKENS) that is coarsened most evenly.

    Raises: UsageError where the store holds no tokens, or the grid does not divide theirs.
    """
    if space.token_grid is None:
        own = (whole // patch for whole, patch in zip(space.image_size, space.patch, strict=True))
        advice = "x".join(str(size // 2 if size % 2 == 0 else size) for size in own)
        raise UsageError(
            f"--store: expected patch tokens, the store holds pooled vectors only; run extract-embeddings again into "
            f"another store with --tokens {advice}"
        )
    if asked is None:
        return _finest(space.token_grid, most or MOST_TOKENS)
    coarsen_tokens(np.zeros((*space.token_grid, 1), np.float16), asked)
    return asked


def mirrored(rows: Float[np.ndarray, "n d"], grid: Grid) -> Float[np.ndarray, "n d"]:
    """Give the tokens of each row from right to left within a B-scan."""
    return np.ascontiguousarray(rows.reshape(len(rows), *grid, -1)[:, :, :, ::-1]).reshape(rows.shape)


def parse_token_grid(text: str) -> Grid:
    """Read --token-grid: three numbers such as 4x6x6; else UsageError."""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--token-grid: expected depth x height x width, such as 4x6x6, got {text!r}")
    depth, height, width = (int(part) for part in parts)
    return depth, height, width


def check_memory(volumes: int, grid: Grid, space: EmbeddingSpace, memory_bytes: float) -> None:
    """Raises: UsageError where the tokens of so many volumes would not fit, with a grid that would."""
    each = COPIES * volumes * space.width * 4
    needed = each * int(np.prod(grid))
    if needed <= memory_bytes or space.token_grid is None:
        return
    most = int(memory_bytes // each)
    advice = (
        f"give --token-grid {'x'.join(map(str, _finest(space.token_grid, most)))}" if most else "use pooled vectors"
    )
    raise UsageError(
        f"--token-grid {'x'.join(map(str, grid))}: the tokens of {volumes} volumes need {needed / 1e9:.1f} GB, "
        f"{memory_bytes / 1e9:.1f} GB may be used; {advice}"
    )


def _read_tokens(reader: StoreReader, rows: list[int], layer: str, grid: Grid) -> Float32[np.ndarray, "n d"]:
    x = np.empty((len(rows), *grid, reader.space.width), dtype=np.float32)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        for place, (row, tokens) in enumerate(zip(some, reader.token_batch(some, layer), strict=True), first):
            x[place] = coarsen_tokens(tokens, grid)
            if not np.isfinite(x[place]).all():
                raise StoreError(f"tokens of row {row} hold NaN or infinity; run `extract-embeddings verify`")
    return x.reshape(len(rows), -1)


def _finest(stored: Grid, most: int) -> Grid:
    """Give the finest divisor of the stored grid with at most so many tokens; of equals the most evenly coarsened."""
    depths, heights, widths = ([part for part in range(1, size + 1) if size % part == 0] for size in stored)
    grids = [grid for grid in product(depths, heights, widths) if np.prod(grid) <= most]

    def rank(grid: Grid) -> tuple[int, float]:
        factors = [whole / part for whole, part in zip(stored, grid, strict=True)]
        return int(np.prod(grid)), -max(factors) / min(factors)

    return max(grids, key=rank)
