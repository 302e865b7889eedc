"""Reading a snapshot whole: its chunks side by side, each straight to its place, every byte compared with its sum."""

import io
import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
from jaxtyping import Float32

from embeddings_store.arrays import CRC_RESIDUE, flat_bytes
from embeddings_store.checksums import checksum, parse_checksums
from embeddings_store.errors import StoreError
from embeddings_store.layout import ROOT
from embeddings_store.schema import FACT_COLUMNS
from embeddings_store.snapshot_files import FOLDER, IMAGES, INDEX, KNOWN, SUMS, SnapshotFiles
from embeddings_store.storage import Storage, concurrently
from embeddings_store.thumbnails import Thumbnails


def get_snapshot(storage: Storage, number: int) -> SnapshotFiles:
    """Read one snapshot. Raises StoreError when it was not finished or is damaged."""
    root, sums = _checked_documents(storage, number)
    attributes: dict[str, Any] = root["attributes"]
    crc = sums.get(f"{number}.{INDEX}")
    table = _older_table(storage, number, attributes) if crc is None else _table(storage, number, crc)
    pooled = _rows(storage, number, root, "pooled", "<f4")
    thumbnails = None
    if IMAGES in root["consolidated_metadata"]["metadata"]:
        images, known = (_rows(storage, number, root, name, "|u1") for name in (IMAGES, KNOWN))
        thumbnails = Thumbnails(images, known.astype(np.bool_))
    layers, pools = (tuple(attributes["space"][name]) for name in ("layers", "pools"))
    return SnapshotFiles(pooled, table, layers, pools, attributes, thumbnails)


def read_pooled(storage: Storage, number: int) -> Float32[np.ndarray, "n L P C"]:
    """Read the vectors alone. Raises StoreError as get_snapshot does."""
    return _rows(storage, number, _checked_documents(storage, number)[0], "pooled", "<f4")


def _checked_documents(storage: Storage, number: int) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Read the group's document, compared with the list of sums beside it, which the very first snapshots lack."""
    root, listed = storage.get(f"{FOLDER}/{number}/{ROOT}"), storage.get(f"{FOLDER}/{number}.{SUMS}")
    if root is None:
        raise StoreError(f"{storage.url} has no snapshot {number}; make one with `extract-embeddings snapshot`")
    path = f"{number}/{ROOT}"
    sums = {path: checksum(root)} if listed is None else parse_checksums(listed, alone=path)
    if sums is None or sums.get(path) != checksum(root):
        raise _damaged(storage, number, f"{ROOT} has another checksum")
    document: dict[str, Any] = json.loads(bytes(root))
    return document, sums


def _table(storage: Storage, number: int, crc: int) -> pd.DataFrame:
    body = storage.get(f"{FOLDER}/{number}.{INDEX}")
    if body is None or checksum(body) != crc:
        raise _damaged(storage, number, f"{INDEX} is missing or has another checksum")
    return pd.read_parquet(io.BytesIO(body))


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
    metadata = root["consolidated_metadata"]["metadata"][name]
    rows, *row_shape = metadata["shape"]
    step = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    chunks = -(-rows // step)
    # With room for the whole of the last chunk, which zarr fills up: each file then has one place.
    whole = np.empty((chunks * step, *row_shape), dtype=np.dtype(dtype))

    def read(chunk: int) -> bool:
        place = flat_bytes(whole[chunk * step : (chunk + 1) * step])
        crc = 0
        for block in storage.read_into(f"{FOLDER}/{number}/{name}/c/{chunk}" + "/0" * len(row_shape), place):
            crc = google_crc32c.extend(crc, block)
        return crc == CRC_RESIDUE

    intact = list(concurrently(read, range(chunks), storage.threads))
    if not all(intact):
        raise _damaged(storage, number, f"chunk {intact.index(False)} of {name} is missing or has another checksum")
    return whole[:rows]


def _damaged(storage: Storage, number: int, why: str) -> StoreError:
    return StoreError(f"snapshot {number} of {storage.url} is damaged: {why}; make a new one")
