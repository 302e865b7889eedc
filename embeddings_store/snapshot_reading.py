"""Reading a snapshot whole: its chunks side by side, each straight to its place, every byte compared with its sum."""

import io
import math
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
from jaxtyping import Float32

from embeddings_store.arrays import CRC_RESIDUE, flat_bytes
from embeddings_store.checksums import checksum, parse_checksums
from embeddings_store.errors import StoreError, UnreadableError
from embeddings_store.layout import MOST_ROWS, ROOT, parse_document
from embeddings_store.schema import FACT_COLUMNS
from embeddings_store.snapshot_files import FOLDER, IMAGES, INDEX, KNOWN, SUMS, SnapshotFiles
from embeddings_store.space import EmbeddingSpace, is_count
from embeddings_store.storage import Storage, concurrently
from embeddings_store.thumbnails import Thumbnails

BELIEVED_BYTES = 1 << 30
"""An array that would take more is compared with what lies there, before the memory is asked for."""


def get_snapshot(storage: Storage, number: int) -> SnapshotFiles:
    """Read one snapshot. Raises StoreError when it was not finished or is damaged."""
    root, sums = _checked_documents(storage, number)
    attributes = root.get("attributes")
    if not isinstance(attributes, dict):
        raise _damaged(storage, number, f"{ROOT} has no attributes")
    space = EmbeddingSpace.from_dict(attributes.get("space"))
    crc = sums.get(f"{number}.{INDEX}")
    table = _older_table(storage, number, attributes) if crc is None else _table(storage, number, crc)
    pooled = _rows(storage, number, root, "pooled", "<f4")
    thumbnails = None
    if IMAGES in _arrays_of(storage, number, root):
        images, known = (_rows(storage, number, root, name, "|u1") for name in (IMAGES, KNOWN))
        thumbnails = Thumbnails(images, known.astype(np.bool_))
    if pooled.shape != (len(table), len(space.layers), len(space.pools), space.width):
        raise _damaged(storage, number, f"pooled has the shape {list(pooled.shape)}, which its space and index do not")
    return SnapshotFiles(pooled, table, space.layers, space.pools, attributes, thumbnails)


def read_pooled(storage: Storage, number: int) -> Float32[np.ndarray, "n L P C"]:
    """Read the vectors alone. Raises StoreError as get_snapshot does."""
    return _rows(storage, number, _checked_documents(storage, number)[0], "pooled", "<f4")


def _checked_documents(storage: Storage, number: int) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Read the group's document, and once more where it does not fit its sum. Raises: StoreError."""
    try:
        return _documents(storage, number)
    except UnreadableError:
        raise
    except StoreError:
        return _documents(storage, number)


def _documents(storage: Storage, number: int) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Read the group's document, compared with the list of sums beside it, which the very first snapshots lack."""
    root, listed = storage.get(f"{FOLDER}/{number}/{ROOT}"), storage.get(f"{FOLDER}/{number}.{SUMS}")
    if root is None:
        raise StoreError(f"{storage.url} has no snapshot {number}; make one with `extract-embeddings snapshot`")
    path = f"{number}/{ROOT}"
    sums = {path: checksum(root)} if listed is None else parse_checksums(listed, alone=path)
    if sums is None or sums.get(path) != checksum(root):
        raise _damaged(storage, number, f"{ROOT} has another checksum")
    return parse_document(root, storage, f"{FOLDER}/{path}"), sums


def _table(storage: Storage, number: int, crc: int) -> pd.DataFrame:
    for _ in range(2):
        body = storage.get(f"{FOLDER}/{number}.{INDEX}")
        if body is not None and checksum(body) == crc:
            return pd.read_parquet(io.BytesIO(body))
    raise _damaged(storage, number, f"{INDEX} is missing or has another checksum")


def _older_table(storage: Storage, number: int, attributes: Mapping[str, Any]) -> pd.DataFrame:
    """Gather the table of a snapshot of schema 1 from its labels; facts that it does not have are NaN."""
    import zarr

    try:
        group: Any = zarr.open_group(storage.zarr_store(), path=f"{FOLDER}/{number}", mode="r")
        columns = {name: _column(group[name][:]) for name in attributes["columns"]}
    except (ValueError, KeyError) as error:
        raise _damaged(storage, number, str(error)) from error
    absent = [name for name in FACT_COLUMNS if name not in columns and name != "eye"]
    return pd.DataFrame(columns).assign(**dict.fromkeys(absent, np.nan))


def _column(values: np.ndarray) -> pd.Series:
    text = values.dtype.kind in "TO"
    return pd.Series(values.astype(object), dtype="str") if text else pd.Series(values)


def _rows(storage: Storage, number: int, root: Mapping[str, Any], name: str, dtype: str) -> np.ndarray:
    rows, row_shape, step = _shape(storage, number, root, name)
    chunks = -(-rows // step)
    size_bytes = chunks * step * math.prod(row_shape) * np.dtype(dtype).itemsize
    if size_bytes > BELIEVED_BYTES and size_bytes > sum(storage.list_sizes(f"{FOLDER}/{number}/{name}").values()):
        raise _damaged(storage, number, f"{name} would take {size_bytes:,} bytes, more than lie there")
    # With room for the whole of the last chunk, which zarr fills up: each file then has one place.
    whole = np.empty((chunks * step, *row_shape), dtype=np.dtype(dtype))

    def read(chunk: int) -> bool:
        place = flat_bytes(whole[chunk * step : (chunk + 1) * step])
        crc = 0
        for block in storage.read_into(f"{FOLDER}/{number}/{name}/c/{chunk}" + "/0" * len(row_shape), place):
            crc = google_crc32c.extend(crc, block)
        return crc == CRC_RESIDUE

    # What came damaged is asked for once more, as of a row.
    intact = list(concurrently(lambda chunk: read(chunk) or read(chunk), range(chunks), storage.threads))
    if not all(intact):
        raise _damaged(storage, number, f"chunk {intact.index(False)} of {name} is missing or has another checksum")
    return whole[:rows]


def _shape(storage: Storage, number: int, root: Mapping[str, Any], name: str) -> tuple[int, tuple[int, ...], int]:
    """Return the rows of an array, the shape of one, and the rows of a chunk."""
    try:
        metadata = _arrays_of(storage, number, root)[name]
        rows, *row_shape = metadata["shape"]
        step = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(storage, number, f"{ROOT} does not describe {name}") from error
    if not (rows == 0 or is_count(rows, MOST_ROWS)) or not all(is_count(one) for one in (step, *row_shape)):
        raise _damaged(storage, number, f"{ROOT} gives {name} a shape that cannot be")
    return rows, tuple(row_shape), step


def _arrays_of(storage: Storage, number: int, root: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = root["consolidated_metadata"]["metadata"]
    except (KeyError, TypeError) as error:
        raise _damaged(storage, number, f"{ROOT} lists no arrays") from error
    if not isinstance(found, dict):
        raise _damaged(storage, number, f"{ROOT} lists no arrays")
    return found


def _damaged(storage: Storage, number: int, why: str) -> StoreError:
    return StoreError(f"snapshot {number} of {storage.url} is damaged: {why}; make a new one")
