"""Stores, opened for learning: all rows, and the way to the patch tokens."""

from collections.abc import Callable
from functools import partial

from classify.features.tokens import with_tokens
from embeddings_store.snapshot import Snapshot, read_features_source, read_snapshot
from embeddings_store.terminal.console import say

ReadStore = Callable[..., Snapshot]
"""Opens a store by its address, and the number of one of its snapshots; as read_store does."""


def read_store(address: str, number: int | None = None, *, endpoint_url: str | None = None) -> Snapshot:
    """Read all rows of a store, or one snapshot by its number, and say what was read. Raises: StoreError.

    A store that has grown since a run still holds the snapshot of the run.
    """
    if number is None:
        snapshot = read_features_source(address, endpoint_url=endpoint_url)
    else:
        snapshot = read_snapshot(address, number, endpoint_url=endpoint_url)
    say(f"store: {len(snapshot.index)} volumes, {snapshot.note}")
    return with_tokens(snapshot, address, endpoint_url=endpoint_url)


def reader_at(endpoint_url: str | None) -> ReadStore:
    """Return read_store for stores at an endpoint."""
    return partial(read_store, endpoint_url=endpoint_url)
