"""New pooled vectors and coarser token grids from stored tokens: no bucket, no encoder.

What is derived is an ordinary store below its parent, ``<store>/derived/<space id>``, with the parent's rows: every
reader opens it. Its attributes name the parent; its space says that the numbers came through stored tokens, for the
rounding of those limits them: float16 keeps 11 bits, a relative error of up to 2^-11 (IEEE 754) of a number; for int8
see token_codec.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from embeddings_store.encoder_source import read_encoder_source, record_encoder_source
from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.index import index_rows
from embeddings_store.kinds import put_kind, read_kind
from embeddings_store.machine import usable_cores
from embeddings_store.reader import StoreReader, open_reader, reader_on
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import concurrently, open_storage
from embeddings_store.terminal.progress import Progress, no_progress
from embeddings_store.terminal.provenance import code_commit, package_versions
from embeddings_store.token_pooling import TOKEN_POOLS, coarsen_tokens, pool_tokens, require_token_pools
from embeddings_store.writer import StoreWriter, writer_on

FOLDER = "derived"
SOURCE_COLUMNS = ["source_size_bytes", "source_md5_high", "source_md5_low"]


@dataclass(slots=True)
class PoolDeviation:
    """How far vectors pooled from stored tokens lie from those the encoder's own tokens gave, over ``rows`` rows.

    By pool: the largest difference of a number, and the largest length of a difference over that of the vector.
    """

    pools: tuple[str, ...]
    rows: int = 0
    max_abs: dict[str, float] = field(default_factory=dict)
    max_relative: dict[str, float] = field(default_factory=dict)

    def add(self, derived: Float32[np.ndarray, "L P C"], stored: Float32[np.ndarray, "L P C"]) -> None:
        """Take one row into account; both in the order of ``pools``."""
        gap = derived.astype(np.float64) - stored
        relative = np.linalg.norm(gap, axis=-1) / np.maximum(np.linalg.norm(stored, axis=-1), np.finfo("f4").tiny)
        self.rows += 1
        for place, name in enumerate(self.pools):
            self.max_abs[name] = max(self.max_abs.get(name, 0.0), float(np.abs(gap[:, place]).max()))
            self.max_relative[name] = max(self.max_relative.get(name, 0.0), float(relative[:, place].max()))


def derive_store(
    url: str,
    pools: Sequence[str],
    token_grid: Grid | None = None,
    *,
    endpoint_url: str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Derive every committed row of a store with full tokens that was not derived yet; give store, space and figures.

    An interrupted call is repeated. Rows whose object was replaced since are derived again.
    Raises UsageError when the store has no full tokens; StoreError when a row's tokens differ from its commit.
    """
    parent = open_reader(url, endpoint_url=endpoint_url)
    space = derived_space(parent.space, pools, token_grid)
    place = f"{parent.storage.url}/{FOLDER}/{space.id}"
    storage = open_storage(place, endpoint_url=endpoint_url, create=True)
    worker = {"device": "cpu", "versions": package_versions(("octprobe", "numpy")), "commit": code_commit()}
    origin = {"parent": {"space_id": parent.space_id, "store": "../.."}}
    writer = writer_on(storage, space, parent.capacity, {**worker, **origin}, attributes=origin)
    if source := read_encoder_source(parent.storage, parent.space):
        record_encoder_source(storage, source)

    rows = _rows_to_derive(parent, writer)
    deviation = PoolDeviation(tuple(pool for pool in parent.space.pools if pool in TOKEN_POOLS))
    # As many at once as there are cores: a row of full tokens takes 60 MB while its medians are sought.
    pairs = concurrently(lambda row: _derive_row(parent, writer, row, deviation.pools), rows, usable_cores())
    for done, (derived, stored) in enumerate(pairs, start=1):
        deviation.add(derived, stored)
        progress(done, len(rows))
    return {
        "store": place,
        "parent_space_id": parent.space_id,
        "space_id": space.id,
        "derived": len(rows),
        "committed": len(writer.arrays.commit.written_rows(storage)),
        "precision": space.precision,
        "deviation": {"rows": deviation.rows, "max_abs": deviation.max_abs, "max_relative": deviation.max_relative},
    }


def derived_space(parent: EmbeddingSpace, pools: Sequence[str], token_grid: Grid | None) -> EmbeddingSpace:
    """Name the space of what is derived; its precision says by which way. Raises UsageError without full tokens."""
    own = tuple(whole // part for whole, part in zip(parent.image_size, parent.patch, strict=True))
    if parent.token_grid != own:
        stored = "none" if parent.token_grid is None else "x".join(map(str, parent.token_grid))
        raise UsageError(
            f"--store: expected all {'x'.join(map(str, own))} tokens of each volume, the store holds {stored}: "
            "extract with --tokens full"
        )
    if token_grid is not None:
        coarsen_tokens(np.zeros((*own, 1), np.float16), token_grid)
    precision = f"{parent.precision} through {parent.token_dtype} tokens"
    return replace(parent, pools=require_token_pools(pools), token_grid=token_grid, precision=precision)


def _rows_to_derive(parent: StoreReader, writer: StoreWriter) -> list[int]:
    """Copy the parent's index into the derived store, and return the rows to derive."""
    lines = index_rows(parent.index())
    writer.add_volumes([line.ref for line in lines])
    committed = parent.arrays.commit.written_rows(parent.storage) & {line.row for line in lines}
    done = writer.arrays.commit.written_rows(writer.storage)
    return sorted((committed - done) | _made_from_others(parent, writer, sorted(committed & done)))


def _made_from_others(parent: StoreReader, writer: StoreWriter, rows: list[int]) -> set[int]:
    """List rows that were derived from another object than the parent's row is made of now."""
    readers = (reader_on(writer.storage), parent)
    here, there = (reader.commits(rows)[SOURCE_COLUMNS].to_numpy() for reader in readers)
    return {row for row, same in zip(rows, (here == there).all(axis=1).tolist(), strict=True) if not same}


def _derive_row(
    parent: StoreReader, writer: StoreWriter, row: int, compared: Sequence[str]
) -> tuple[Float32[np.ndarray, "L P C"], Float32[np.ndarray, "L P C"]]:
    """Write one row; give its vectors in the pools to be compared, and those of the parent."""
    commit = parent.commit(row)
    stored, facts = parent.vectors([row])
    grids = parent.committed_tokens(row)
    wanted = (*writer.space.pools, *(pool for pool in compared if pool not in writer.space.pools))
    pooled = np.stack([pool_tokens(grid, wanted) for grid in grids.values()])
    target = writer.space.token_grid
    tokens = {} if target is None else {layer: coarsen_tokens(grid, target) for layer, grid in grids.items()}
    vectors = np.ascontiguousarray(pooled[:, : len(writer.space.pools)])
    put_kind(writer.storage, row, read_kind(parent.storage, row))
    picture = parent.thumbnails([row])
    writer.write_row(
        row, vectors, tokens, facts.to_numpy(dtype="<f8")[0], commit.source_md5, commit.source_size_bytes,
        picture.images[0] if picture.all_known else None,
    )  # fmt: skip
    there = [parent.space.pools.index(pool) for pool in compared]
    return pooled[:, [wanted.index(pool) for pool in compared]], stored[0][:, there]
