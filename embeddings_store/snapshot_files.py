"""The files of snapshots: an immutable Zarr group each, labelled so that xarray opens it, and LATEST beside them."""

import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
from jaxtyping import Float32

from embeddings_store.errors import StoreError
from embeddings_store.layout import ROOT, zarr_documents
from embeddings_store.storage import Storage

FOLDER = "snapshots"
LATEST = "LATEST"
CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """What one snapshot holds: vectors, one table line a row, and the group's attributes."""

    pooled: Float32[np.ndarray, "n L P C"]
    table: pd.DataFrame
    layers: tuple[str, ...]
    pools: tuple[str, ...]
    attributes: Mapping[str, Any]


def latest_number(storage: Storage) -> int | None:
    """Give the number in LATEST; None when no snapshot was published."""
    body = storage.get(LATEST)
    text = "" if body is None else bytes(body).decode(errors="replace").strip()
    if body is not None and not text.isdigit():
        raise StoreError(f"{storage.url}/{LATEST} is damaged: expected a number, got {text[:40]!r}")
    return int(text) if text else None


def put_snapshot(storage: Storage, files: SnapshotFiles) -> int:
    """Write the next snapshot aside, then its group document, then LATEST; give its number."""
    number, claim = _claim_number(storage)
    folder = f"{FOLDER}/{number}"
    documents = zarr_documents(lambda group: _build(group, files), {**files.attributes, "number": number})
    root = _consolidated(documents.pop(ROOT), documents)
    for path, body in documents.items():
        storage.put(f"{folder}/{path}", body)
    _fill_pooled(storage, folder, files.pooled)
    storage.put(f"{folder}.crc32c", f"{google_crc32c.value(root):08x}\n".encode())
    storage.put(f"{folder}/{ROOT}", root)
    publish_newest(storage)
    storage.delete(claim)
    return number


def publish_newest(storage: Storage) -> None:
    """Name the newest finished snapshot in LATEST; look again, as another process may have finished meanwhile."""
    newest = None
    while newest != (found := _newest_finished(storage)):
        newest = found
        storage.put(LATEST, f"{newest}\n".encode())


def get_snapshot(storage: Storage, number: int) -> SnapshotFiles:
    """Read one snapshot whole. Raises StoreError when it was not finished or is damaged."""
    import zarr

    folder = f"{FOLDER}/{number}"
    _check_document(storage, folder, number)
    try:
        group = zarr.open_group(storage.zarr_store(), path=folder, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        values = {name: _array(group, name)[:] for name in [*attributes["columns"], "layer", "pool"]}
        pooled = _array(group, "pooled")[:]
    except (ValueError, KeyError) as error:
        raise StoreError(f"snapshot {number} of {storage.url} is damaged: {error}; make a new one") from error
    layers, pools = (tuple(str(value) for value in values.pop(name)) for name in ("layer", "pool"))
    table = pd.DataFrame({name: _column(column) for name, column in values.items()})
    return SnapshotFiles(pooled, table, layers, pools, attributes)


def _check_document(storage: Storage, folder: str, number: int) -> None:
    """Compare the group's document with its checksum beside it, which the first snapshots did not have."""
    root, crc = storage.get(f"{folder}/{ROOT}"), storage.get(f"{folder}.crc32c")
    if root is None:
        raise StoreError(f"{storage.url} has no snapshot {number}; make one with `extract-embeddings snapshot`")
    if crc is not None and bytes(crc).strip() != f"{google_crc32c.value(bytes(root)):08x}".encode():
        raise StoreError(f"snapshot {number} of {storage.url} is damaged: {ROOT} has another checksum; make a new one")


def _array(group: Any, name: str) -> Any:
    return group[name]


def _column(values: np.ndarray) -> pd.Series:
    text = values.dtype.kind in "TO"
    return pd.Series(values.astype(object), dtype="str") if text else pd.Series(values)


def _build(group: Any, files: SnapshotFiles) -> None:
    """Describe the pooled array and write every label; small enough to pass through memory."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    rows = files.pooled.shape[0]
    group.create_array(
        name="pooled",
        shape=files.pooled.shape,
        chunks=(min(CHUNK_ROWS, max(rows, 1)), *files.pooled.shape[1:]),
        dtype="<f4",
        compressors=[Crc32cCodec()],
        dimension_names=("volume", "layer", "pool", "channel"),
        attributes={"coordinates": " ".join(name for name in files.table.columns if name != "volume")},
        config={"write_empty_chunks": True},
    )
    labels = {name: ("volume", _labels(files.table[name])) for name in files.table.columns}
    labels |= {"layer": ("layer", _labels(files.layers)), "pool": ("pool", _labels(files.pools))}
    for name, (dimension, values) in labels.items():
        group.create_array(
            name=name,
            data=values,
            chunks=(max(len(values), 1),),
            compressors=[ZstdCodec(), Crc32cCodec()],
            dimension_names=(dimension,),
            # A column of zeros must be a chunk too: one that is lost would else read as zeros.
            config={"write_empty_chunks": True},
        )


def _consolidated(root: bytes, documents: Mapping[str, bytes]) -> bytes:
    """Repeat the arrays' metadata in the group's, as zarr.consolidate_metadata does: one request opens them all."""
    metadata = {path.rpartition("/")[0]: json.loads(body) for path, body in documents.items() if path.endswith(ROOT)}
    inline = {"kind": "inline", "must_understand": False, "metadata": metadata}
    return json.dumps({**json.loads(root), "consolidated_metadata": inline}).encode()


def _labels(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array if array.dtype.kind in "if" else np.asarray(list(values), dtype=np.dtypes.StringDType())


def _fill_pooled(storage: Storage, folder: str, pooled: np.ndarray) -> None:
    import zarr

    target: Any = zarr.open_array(
        storage.zarr_store(), path=f"{folder}/pooled", mode="r+", config={"write_empty_chunks": True}
    )
    step = target.chunks[0]
    for first in range(0, len(pooled), step):
        target[first : first + step] = pooled[first : first + step]


def _newest_finished(storage: Storage) -> int | None:
    numbers = sorted((int(name) for name in storage.list_names(FOLDER) if name.isdigit()), reverse=True)
    return next((number for number in numbers if storage.get(f"{FOLDER}/{number}/{ROOT}") is not None), None)


def _claim_number(storage: Storage) -> tuple[int, str]:
    """Take the next free number; of two processes at once at most one keeps it, the other takes a later one."""
    while True:
        taken = [int(name.partition(".")[0]) for name in storage.list_names(FOLDER)]
        number = 1 + max(taken, default=0)
        claim = f"{FOLDER}/{number}.{uuid.uuid4().hex}.claim"
        storage.put(claim, b"")
        rivals = [name for name in storage.list_names(FOLDER) if int(name.partition(".")[0]) >= number]
        if rivals == [claim.rpartition("/")[2]]:
            return number, claim
        storage.delete(claim)
        time.sleep(random.uniform(0.01, 0.2))  # noqa: S311 - so that two processes do not meet again in step
