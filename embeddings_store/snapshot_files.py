"""Writing snapshots: an immutable Zarr group each, labelled so that xarray opens it, and LATEST beside them.

Beside each group lie <n>.index.parquet, its labels once more as one table, and <n>.crc32c, the sums of all documents.
"""

import io
import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from embeddings_store.arrays import CRC_BYTES, flat_bytes
from embeddings_store.checksums import checksum, checksum_list
from embeddings_store.errors import StoreError
from embeddings_store.layout import ROOT, zarr_documents
from embeddings_store.storage import Storage, concurrently
from embeddings_store.thumbnails import Thumbnails

FOLDER = "snapshots"
LATEST = "LATEST"
CHUNK_ROWS = 4096
INDEX, SUMS = "index.parquet", "crc32c"
CLAIM = ".claim"
IMAGES, KNOWN = "thumbnail", "has_thumbnail"


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """What one snapshot holds: vectors, one table line a row, attributes, and thumbnails where any row has one."""

    pooled: Float32[np.ndarray, "n L P C"]
    table: pd.DataFrame
    layers: tuple[str, ...]
    pools: tuple[str, ...]
    attributes: Mapping[str, Any]
    thumbnails: Thumbnails | None = None


def latest_number(storage: Storage) -> int | None:
    """Return the number in LATEST; None when no snapshot was published."""
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
    documents[ROOT] = _consolidated(documents.pop(ROOT), documents)
    index = _index_file(files.table)
    sums = {f"{number}/{path}": body for path, body in documents.items() if path.endswith(ROOT)}
    for path, body in documents.items():
        if path != ROOT:
            storage.put(f"{folder}/{path}", body)
    for name, _, values in _row_arrays(files):
        _put_chunks(storage, f"{folder}/{name}", values)
    storage.put(f"{folder}.{INDEX}", index)
    storage.put(f"{folder}.{SUMS}", checksum_list(sums | {f"{number}.{INDEX}": index}))
    storage.put(f"{folder}/{ROOT}", documents[ROOT])
    publish_newest(storage)
    storage.delete(claim)
    return number


def publish_newest(storage: Storage) -> None:
    """Name the newest finished snapshot in LATEST; look again, as another process may have finished meanwhile."""
    newest = None
    while newest != (found := max(finished_numbers(storage), default=None)):
        newest = found
        storage.put(LATEST, f"{newest}\n".encode())


def finished_numbers(storage: Storage) -> list[int]:
    """List the snapshots that are whole, in order."""
    numbers = sorted(int(name) for name in storage.list_folders(FOLDER) if name.isdecimal() and name.isascii())
    return [number for number in numbers if storage.get(f"{FOLDER}/{number}/{ROOT}") is not None]


def unfinished_files(storage: Storage, before_s: float) -> dict[str, int]:
    """Return path and bytes of what a killed process left of snapshots: its claim and, of an unfinished one, all.

    before_s: seconds since 1970; nothing of a snapshot with a newer file. A snapshot that is damaged has no claim.
    """
    changed, finished = storage.list_times(FOLDER), set(map(str, finished_numbers(storage)))
    newest = dict.fromkeys((_number_of(path) for path in changed if path.endswith(CLAIM)), 0.0)
    for path, when in changed.items():
        if (number := _number_of(path)) in newest:
            newest[number] = max(newest[number], when.timestamp())
    old = {number for number, when in newest.items() if when < before_s}
    left = {
        path
        for path in changed
        if _number_of(path) in old and (path.endswith(CLAIM) or _number_of(path) not in finished)
    }
    return {path: size for path, size in storage.list_sizes(FOLDER).items() if path in left} if left else {}


def _number_of(path: str) -> str:
    return path.removeprefix(f"{FOLDER}/").partition("/")[0].partition(".")[0]


def _build(group: Any, files: SnapshotFiles) -> None:
    """Describe the arrays of rows and write every label; small enough to pass through memory."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    for array, dimensions, stored in _row_arrays(files):
        group.create_array(
            name=array,
            shape=stored.shape,
            chunks=(_chunk_rows(len(stored)), *stored.shape[1:]),
            dtype=stored.dtype,
            compressors=[Crc32cCodec()],
            dimension_names=dimensions,
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


def _index_file(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _labels(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array if array.dtype.kind in "if" else np.asarray(list(values), dtype=np.dtypes.StringDType())


def _row_arrays(files: SnapshotFiles) -> list[tuple[str, tuple[str, ...], np.ndarray]]:
    """Name the arrays with one entry a row: with their dimensions, and their numbers."""
    found: list[tuple[str, tuple[str, ...], np.ndarray]] = [
        ("pooled", ("volume", "layer", "pool", "channel"), files.pooled)
    ]
    if files.thumbnails is not None:
        found.append((IMAGES, ("volume", "slice", "line", "column"), files.thumbnails.images))
        found.append((KNOWN, ("volume",), files.thumbnails.known.astype(np.uint8)))
    return found


def _put_chunks(storage: Storage, folder: str, values: np.ndarray) -> None:
    """Put the chunks side by side, the last one filled up with zeros as zarr does."""
    step = _chunk_rows(len(values))

    def put(first: int) -> None:
        block = values[first : first + step]
        if len(block) < step:
            block = np.concatenate([block, np.zeros((step - len(block), *values.shape[1:]), dtype=values.dtype)])
        data = flat_bytes(block)
        path = f"{folder}/c/{first // step}" + "/0" * (values.ndim - 1)
        storage.put(path, data.data, checksum(data).to_bytes(CRC_BYTES, "little"))

    for _ in concurrently(put, range(0, len(values), step), storage.threads):
        pass


def _chunk_rows(rows: int) -> int:
    return min(CHUNK_ROWS, max(rows, 1))


def _claim_number(storage: Storage) -> tuple[int, str]:
    """Take the next free number; of two processes at once at most one keeps it, the other takes a later one."""
    while True:
        taken = [number for number, _ in _numbered(storage)]
        number = 1 + max(taken, default=0)
        claim = f"{FOLDER}/{number}.{uuid.uuid4().hex}{CLAIM}"
        storage.put(claim, b"")
        rivals = [name for found, name in _numbered(storage) if found >= number]
        if rivals == [claim.rpartition("/")[2]]:
            return number, claim
        storage.delete(claim)
        time.sleep(random.uniform(0.01, 0.2))  # noqa: S311 - so that two processes do not meet again in step


def _numbered(storage: Storage) -> list[tuple[int, str]]:
    """List what belongs to a snapshot, or claims one, with its number; what else lies there is nobody's."""
    parts = [(name.partition(".")[0], name) for name in storage.list_names(FOLDER)]
    return [(int(number), name) for number, name in parts if number.isdecimal() and number.isascii()]
