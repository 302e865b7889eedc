"""Making a store: of processes that would make different ones at the same place, at most one goes on.

Each puts a claim that names what it would make, then lists: one that sees another's claim withdraws and looks again.
So of two, at least the later one sees both. Nothing but PUT, LIST and DELETE, as for the index.
"""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from embeddings_store.errors import StoreError
from embeddings_store.storage import Storage

PREFIX = "creating-"
PATIENCE_S = 5.0


@contextmanager
def sole_creation(storage: Storage, content: str) -> Iterator[None]:
    """Hold the right to make ``content`` (a name of what would be written) while others may make the same only.

    Look again inside whether the store is there. Raises StoreError when another creation does not end.
    """
    own = f"{PREFIX}{content}-{uuid.uuid4().hex}"
    _claim(storage, own, content)
    try:
        yield
    except BaseException:
        storage.delete(own)
        raise
    # Now the store is there, which all look for after they claimed: claims of killed processes can go too.
    for claim in claims(storage):
        storage.delete(claim)


def claims(storage: Storage) -> list[str]:
    """List the claims that lie here, those of killed processes included."""
    return [name for name in storage.list_names("") if is_claim(name)]


def is_claim(path: str) -> bool:
    """Return whether a path is a claim, and not a file of a store."""
    return path.startswith(PREFIX) and "/" not in path


def _claim(storage: Storage, own: str, content: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        storage.put(own, b"")
        rivals = [claim for claim in claims(storage) if not claim.startswith(f"{PREFIX}{content}-")]
        if not rivals:
            return
        storage.delete(own)
        if time.monotonic() > deadline:
            raise StoreError(
                f"{storage.url} is being made by another run with other settings, or that run was killed: "
                f"if none is running, delete {rivals[0]} there, and start again"
            )
        time.sleep(random.uniform(0.01, 0.2))  # noqa: S311 - so that two processes do not meet again in step
