"""A store of an older version gets room for thumbnails, when a writer opens it, or may hold packs, when it is packed.

No row is touched, and no space: a row has a thumbnail where its commit says so. Of several writers at once all put the
same bytes. The root document comes last; until then the store is the older one, whole, and the next writer goes on.
"""

import json
from typing import Any

from embeddings_store.checksums import CHANGED, checksum, checksum_list, listed_faults, parse_checksums
from embeddings_store.errors import StoreError
from embeddings_store.layout import CHECKSUMS, ROOT, StoreLayout, add_array, parse_document, zarr_documents
from embeddings_store.schema import PACKED, SCHEMA_VERSION
from embeddings_store.storage import Storage


def grow_store(storage: Storage, found: StoreLayout, version: int = SCHEMA_VERSION) -> None:
    """Bring an older store to a version; nothing is done where it is that far already.

    Raises StoreError for a store that cannot be written.
    """
    if found.schema_version >= version:
        return
    thumbnail, path = found.arrays.thumbnail, f"{found.arrays.thumbnail.name}/{ROOT}"
    changed = {ROOT: _grown_root(storage, version)}
    if thumbnail not in found.described:
        changed[path] = zarr_documents(lambda group: add_array(group, thumbnail, found.capacity), {})[path]
        storage.put(path, changed[path])
    # A group of arrays has a document of its own, which no row array is: tokens/zarr.json.
    folders = [*(one.name for one in found.described), *{one.name.partition("/")[0] for one in found.arrays.tokens}]
    bodies = {path: storage.get(path) for path in (f"{folder}/{ROOT}" for folder in folders)}
    documents = {path: bytes(body) for path, body in bodies.items() if body is not None}
    storage.put(CHECKSUMS, checksum_list(documents | changed))
    storage.put(ROOT, changed[ROOT])


def document_faults(storage: Storage, schema_version: int) -> dict[str, str]:
    """Compare a store's Zarr documents with the list of their sums.

    The list of a growth that was cut off before its last file names the root document that would have come.
    """
    found = listed_faults(storage, CHECKSUMS, "")
    if found.get(ROOT) == CHANGED and (listed := parse_checksums(storage.get(CHECKSUMS) or b"")):
        to_come = (version for version in (SCHEMA_VERSION, PACKED) if version > schema_version)
        if any(listed.get(ROOT) == checksum(_grown_root(storage, version)) for version in to_come):
            del found[ROOT]
    return found


def _grown_root(storage: Storage, version: int) -> bytes:
    body = storage.get(ROOT)
    if body is None:
        raise StoreError(f"{storage.url} is damaged: {ROOT} is missing")
    document: dict[str, Any] = parse_document(body, storage, ROOT)
    document["attributes"]["schema_version"] = version
    return json.dumps(document, indent=2).encode()
