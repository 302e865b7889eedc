"""The store: can it be written, and does it hold the embedding space that this encoder would write?"""

import shutil
import uuid
from dataclasses import replace
from pathlib import Path

from embeddings_store.errors import StoreError
from embeddings_store.layout import load_layout
from embeddings_store.places import expand_home
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage, open_storage
from extract.doctor.report import Check, Report, Status
from extract.encoder.encoder import Encoder

TRIAL = b"written by extract-embeddings doctor; may be deleted"


def examine_store(url: str, endpoint_url: str | None) -> tuple[Report, EmbeddingSpace | None]:
    """Write, read and delete a temporary object; give the space of the store, or None where none is yet.

    A store that is not there is not made: its nearest existing folder is tried. Raises StoreError.
    """
    storage = open_storage(_nearest(url), endpoint_url=endpoint_url, create=False)
    stored = load_layout(storage) if _is_here(url) else None
    try_writing(storage)
    words = f"{storage.url} can be written, read and deleted"
    words += f"; it holds the space {stored[0].id}" if stored else "; no store is there yet"
    free = shutil.disk_usage(storage.url).free if _is_folder(url) else None
    if free is not None:
        words += f"; {free / 1e9:,.1f} GB free"
    figures = {} if free is None else {"store_free_bytes": free}
    return Report((Check("store", Status.OK, words),), figures), stored[0] if stored else None


def try_writing(storage: Storage) -> None:
    """Put a temporary object, read it back and delete it, whatever happens. Raises StoreError."""
    path = f"octprobe-doctor-{uuid.uuid4().hex}"
    try:
        storage.put(path, TRIAL)
        returned = storage.get(path)
        if returned is None or bytes(returned) != TRIAL:
            raise StoreError(f"{storage.url}: expected to read back what was written, got something else")
    finally:
        storage.delete(path)
    if storage.get(path) is not None:
        raise StoreError(f"{storage.url}: expected the temporary object {path} to be gone, but it is not; delete it")


def examine_space(stored: EmbeddingSpace, encoder: Encoder, precision: str) -> tuple[Report, None]:
    """Compare what the encoder fixes of the embedding space with the store; preset, layers and pools are not judged."""
    architecture = encoder.architecture
    asked = replace(
        stored,
        family=architecture.family,
        weights_sha256=encoder.weights_sha256,
        image_size=architecture.image_size,
        patch=architecture.patch,
        width=architecture.width,
        depth=architecture.depth,
        heads=architecture.heads,
        precision=precision,
    )
    if lines := stored.differences(asked):
        words = f"the store holds another embedding space (here: the store; there: this encoder): {'; '.join(lines)}"
        return Report((Check("space", Status.FAIL, f"{words}; use another --store"),)), None
    return Report((Check("space", Status.OK, f"the store's space {stored.id} is this encoder's"),)), None


def _is_folder(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


def _folder(url: str) -> Path:
    return expand_home(url.removeprefix("file://")).absolute()


def _is_here(url: str) -> bool:
    return not _is_folder(url) or _folder(url).is_dir()


def _nearest(url: str) -> str:
    """Give the place itself, or the nearest folder above it that exists. Raises StoreError where that is a file."""
    if not _is_folder(url):
        return url
    folder = _folder(url)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise StoreError(f"store {url}: expected a folder, or a place for one, but {nearest} is a file")
    return str(nearest)
