"""A store's Zarr metadata: made once, checked at every open.

The group document at the root is put last, so a folder without it is a store that was never finished.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from embeddings_store.arrays import RowArray, StoreArrays, arrays_of
from embeddings_store.checksums import ROOT_DOCUMENT, checksum_list
from embeddings_store.creation import claims, is_claim, sole_creation
from embeddings_store.documents import parse_object
from embeddings_store.errors import SpaceMismatchError, StoreError
from embeddings_store.foreign import is_desktop_file
from embeddings_store.schema import PACKED, READABLE, SCHEMA_VERSION
from embeddings_store.space import EmbeddingSpace, is_count
from embeddings_store.storage import Storage

NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})
ROOT = ROOT_DOCUMENT
CHECKSUMS = "layout.crc32c"
FORMAT = "octprobe embeddings"
MOST_ROWS = 10**10


class StoreLayout(NamedTuple):
    """What a store's root document says."""

    space: EmbeddingSpace
    capacity: int
    schema_version: int

    @property
    def arrays(self) -> StoreArrays:
        """The arrays of this store."""
        return arrays_of(self.space)

    @property
    def described(self) -> tuple[RowArray, ...]:
        """The arrays that have a document: before schema 3 there is no thumbnail."""
        arrays = self.arrays
        return tuple(one for one in arrays.all if one is not arrays.thumbnail or self.schema_version >= SCHEMA_VERSION)


def zarr_documents(build: Callable[[Any], None], attributes: dict[str, Any]) -> dict[str, bytes]:
    """Let zarr make a group in memory and give its files, the root document last.

    zarr creates parents with a conditional PUT (set_if_not_exists), which B2 refuses; so its files are put by us.
    """
    import zarr

    files: dict[str, Any] = {}
    group = zarr.create_group(zarr.storage.MemoryStore(files), attributes=attributes)
    build(group)
    root = files.pop(ROOT)
    return {path: files[path].to_bytes() for path in sorted(files)} | {ROOT: root.to_bytes()}


def add_array(group: Any, array: RowArray, capacity: int) -> None:
    """Describe one array of a store in a Zarr group in memory."""
    from zarr.codecs import Crc32cCodec

    group.create_array(
        name=array.name,
        shape=(capacity, *array.row_shape),
        chunks=(1, *array.row_shape),
        dtype=array.dtype,
        fill_value=0,
        compressors=[Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )


def create_layout(
    storage: Storage, space: EmbeddingSpace, capacity: int, further: Mapping[str, Any] = NO_ATTRIBUTES
) -> None:
    """Write the metadata of an empty store, or finish a creation that was cut off; ``further`` attributes if any.

    Two processes at once write the same bytes; of two with different spaces one makes the store, the other finds it.
    Raises StoreError for a place where something else lies.
    """
    arrays = arrays_of(space)

    def build(group: Any) -> None:
        for array in arrays.all:
            add_array(group, array, capacity)

    attributes = {
        **further,
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "space": space.to_dict(),
        "space_id": space.id,
        "capacity": capacity,
    }
    documents = zarr_documents(build, attributes)
    files = {CHECKSUMS: checksum_list(documents), **documents}
    if not claims(storage):
        # Before a claim is put, so that a foreign place is not touched.
        _refuse_foreign(storage, files)
    with sole_creation(storage, f"{space.id}-{capacity}"):
        if storage.get(ROOT) is None:
            _refuse_foreign(storage, files, alone=True)
            for path, body in files.items():
                storage.put(path, body)


def _refuse_foreign(storage: Storage, files: Mapping[str, bytes], *, alone: bool = False) -> None:
    """Raise StoreError where something else lies than a creation that was cut off, or goes on (unless ``alone``)."""
    found = storage.first_paths(len(files) + 1 + len(claims(storage)))
    foreign = [path for path in found if path not in files and not is_claim(path) and not is_desktop_file(path)]
    # In this order: a creator puts its claim, its files, the root document, and deletes the claim last.
    if not foreign or (not alone and claims(storage)) or storage.get(ROOT) is not None:
        return
    raise StoreError(
        f"{storage.url} is not empty and no store: it holds {foreign[0].partition('/')[0]!r}; "
        "name an empty or new place"
    )


def load_layout(storage: Storage) -> StoreLayout | None:
    """Read what a store is; None where no store was finished. Raises StoreError for other groups and newer stores."""
    body = storage.get(ROOT)
    if body is None:
        return None
    attributes = parse_document(body, storage, ROOT).get("attributes")
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise StoreError(f"{storage.url} is a Zarr group, but no store of embeddings: its attributes name none")
    version = attributes.get("schema_version")
    if not isinstance(version, int) or version not in (*READABLE, PACKED):
        raise StoreError(
            f"{storage.url} has schema version {version}, this octprobe reads {min(READABLE)} to {PACKED}: "
            "update octprobe for a newer store; an older one, which no release wrote, has to be made again"
        )
    space, capacity = EmbeddingSpace.from_dict(attributes.get("space")), attributes.get("capacity")
    if space.id != attributes.get("space_id"):
        raise StoreError(
            f"{storage.url} is damaged: {ROOT} names the space {attributes.get('space_id')!r:.80}, its fields give "
            f"{space.id}"
        )
    if not is_count(capacity, MOST_ROWS):
        raise StoreError(f"{storage.url} is damaged: {ROOT}: expected a capacity in rows, got {capacity!r:.80}")
    found = StoreLayout(space, capacity, version)
    _check_arrays(storage, found)
    return found


def check_same_space(storage: Storage, stored: EmbeddingSpace, asked: EmbeddingSpace) -> None:
    """Refuse to mix spaces. Raises SpaceMismatchError with one line for each field that differs."""
    if lines := stored.differences(asked):
        raise SpaceMismatchError(
            f"the store {storage.url} holds another embedding space than this run would write "
            "(here: the store; there: this run):\n  "
            + "\n  ".join(lines)
            + "\nuse the same settings, or another --store"
        )


def parse_document(body: memoryview, storage: Storage, path: str) -> dict[str, Any]:
    """Read a Zarr document. Raises StoreError when it is no JSON."""
    try:
        return parse_object(body)
    except ValueError as error:
        raise StoreError(f"{storage.url} is damaged: {path} is no JSON of a store ({error})") from error


def _check_arrays(storage: Storage, found: StoreLayout) -> None:
    for array in found.described:
        path = f"{array.name}/{ROOT}"
        body = storage.get(path)
        shape = parse_document(body, storage, path).get("shape") if body is not None else None
        expected = [found.capacity, *array.row_shape]
        if shape != expected:
            raise StoreError(f"{storage.url} is damaged: {path} should give the shape {expected}, got {shape}")
