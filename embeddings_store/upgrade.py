"""From a store of schema 1 to one of today, in place: a row gets room for six more facts, which are unknown.

At every moment the store is whole: first each row's facts, one file at a time, which readers of a schema-1 store take
in either length; then the array's document; the root document, which says that it is done, last; then room for
thumbnails (see growth). Commits stay as they are, for theirs says how many facts it covers. No token is read. A call
that was cut off is repeated.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings_store.arrays import CRC_RESIDUE, RowArray
from embeddings_store.checksums import checksum, checksum_list
from embeddings_store.derive import FOLDER as DERIVED
from embeddings_store.errors import StoreError
from embeddings_store.growth import grow_store
from embeddings_store.layout import CHECKSUMS, ROOT, Layout, load_layout, parse_document
from embeddings_store.schema import FACTS_OF_SCHEMA, SCHEMA_VERSION, WITHOUT_THUMBNAIL
from embeddings_store.storage import Storage, concurrently, open_storage


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did to one store. ``damaged``: rows whose facts were damaged before, and are left to verify."""

    store: str
    schema_version_before: int
    rows: int
    damaged: tuple[int, ...]


def upgrade_store(url: str, *, endpoint_url: str | None = None) -> list[Upgrade]:
    """Bring a store, and those derived from it, to SCHEMA_VERSION; nothing is done where that is so already.

    No process of an older octprobe may be writing to it meanwhile. Raises StoreError.
    """
    storage = open_storage(url, endpoint_url=endpoint_url, create=False)
    found = upgrade_on(storage)
    places = [f"{storage.url}/{DERIVED}/{name}" for name in sorted(storage.list_names(DERIVED))]
    derived = (open_storage(place, endpoint_url=endpoint_url, create=False) for place in places)
    return [found, *(upgrade_on(one) for one in derived)]


def upgrade_on(storage: Storage) -> Upgrade:
    """Do it to one store on an opened storage."""
    layout = load_layout(storage)
    if layout is None:
        raise StoreError(f"there is no store at {storage.url}: expected what `extract-embeddings --store` made")
    if layout.schema_version == SCHEMA_VERSION:
        return Upgrade(storage.url, SCHEMA_VERSION, 0, ())
    lengthened = dict[int, bool]()
    if layout.schema_version < WITHOUT_THUMBNAIL:
        lengthened = _lengthen_all(storage, layout)
        _rewrite_documents(storage, layout)
    grow_store(storage, layout._replace(schema_version=WITHOUT_THUMBNAIL))
    damaged = tuple(sorted(row for row, done in lengthened.items() if not done))
    return Upgrade(storage.url, layout.schema_version, len(lengthened) - len(damaged), damaged)


def _lengthen_all(storage: Storage, layout: Layout) -> dict[int, bool]:
    """Rewrite the facts that are short: {row: whether it could be}. Found by their sizes, in one listing."""
    facts = layout.arrays.facts
    sizes = storage.list_sizes(facts.name)
    rows = {path: row for path in sizes if (row := facts.row_of(path)) is not None}
    short = sorted(row for path, row in rows.items() if sizes[path] != facts.row_bytes)
    done = concurrently(lambda row: _lengthen(storage, layout, row), short)
    return dict(zip(short, done, strict=True))


def _lengthen(storage: Storage, layout: Layout, row: int) -> bool:
    facts = layout.arrays.facts
    older = RowArray(facts.name, (FACTS_OF_SCHEMA[layout.schema_version],), facts.dtype)
    body = storage.get(older.chunk_path(row))
    if body is None or len(body) != older.row_bytes or checksum(body) != CRC_RESIDUE:
        return False
    known = np.frombuffer(body, dtype=facts.dtype, count=older.row_shape[0])
    unknown = np.full(facts.row_shape[0] - known.size, np.nan)
    facts.write(storage, row, np.concatenate([known, unknown]))
    return True


def _rewrite_documents(storage: Storage, layout: Layout) -> None:
    """Give the facts' array its new shape, list the documents' sums, and then say the new version."""
    facts, root = f"{layout.arrays.facts.name}/{ROOT}", _document(storage, ROOT)
    array, shape = _document(storage, facts), layout.arrays.facts.row_shape
    array["shape"] = [layout.capacity, *shape]
    array["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape]
    root["attributes"]["schema_version"] = WITHOUT_THUMBNAIL
    changed = {facts: _to_json(array), ROOT: _to_json(root)}
    folders = {array.name for array in layout.arrays.all} | {"tokens"}
    bodies = {path: storage.get(path) for path in (f"{folder}/{ROOT}" for folder in folders)}
    documents = {path: bytes(body) for path, body in bodies.items() if body is not None}
    storage.put(facts, changed[facts])
    storage.put(CHECKSUMS, checksum_list(documents | changed))
    storage.put(ROOT, changed[ROOT])


def _document(storage: Storage, path: str) -> dict[str, Any]:
    body = storage.get(path)
    if body is None:
        raise StoreError(f"{storage.url} is damaged: {path} is missing")
    return parse_document(body, storage, path)


def _to_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()
