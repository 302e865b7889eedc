"""How much room rows take, and whether the disk has it: asked before a run, not found out at row 20,000."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from obstore.store import LocalStore

from embeddings_store.arrays import arrays_of
from embeddings_store.errors import StoreError
from embeddings_store.layout import load_layout
from embeddings_store.places import expand_home, is_folder
from embeddings_store.reader import reader_on
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import open_storage

BLOCK_BYTES = 4096
# A line of the index and of a snapshot's table, uncompressed: key, etag, ids and facts.
LINE_BYTES = 600
PROJECTED_ROWS = (25_000, 250_000)


def row_bytes(space: EmbeddingSpace) -> dict[str, int]:
    """Return the bytes of one row in each array, checksums included, and in a snapshot with its index."""
    arrays = arrays_of(space)
    found = {array.name: array.row_bytes for array in arrays.all}
    return found | {"snapshot": arrays.pooled.row_bytes + arrays.thumbnail.row_bytes + LINE_BYTES}


def row_files(space: EmbeddingSpace) -> int:
    """Count the files of one row, each an inode: a chunk of every array."""
    return len(arrays_of(space).all)


def disk_bytes(space: EmbeddingSpace, rows: int, block_bytes: int = BLOCK_BYTES) -> int:
    """Compute what rows take on a disk that gives out whole blocks: every chunk is a file, and so is a row's kind.

    One snapshot is included.
    """
    sizes = row_bytes(space)
    snapshot = sizes.pop("snapshot")
    return rows * (snapshot + block_bytes + sum(-(-size // block_bytes) * block_bytes for size in sizes.values()))


def account(space: EmbeddingSpace) -> dict[str, Any]:
    """Return row_bytes by array, their sum, and the bytes of 25,000 and 250,000 volumes."""
    sizes = row_bytes(space)
    return {
        "row_bytes": sizes,
        "row_bytes_in_all": sum(sizes.values()),
        "projected_bytes": {str(rows): disk_bytes(space, rows) for rows in PROJECTED_ROWS},
    }


def require_room(url: str, space: EmbeddingSpace, keys: Iterable[str]) -> None:
    """Refuse a run whose rows would not fit on the local disk, in bytes or in files; rows that are there need no more.

    Writes nothing. Places behind S3 tell no free space and are not judged. Raises StoreError.
    """
    if not url.startswith("file://") and "://" in url:
        return
    folder = expand_home(url.removeprefix("file://")).absolute()
    nearest = next(path for path in (folder, *folder.parents) if is_folder(path))
    rows = len(set(keys) - _settled_keys(folder))
    disk = os.statvfs(nearest)
    needed, free = disk_bytes(space, rows, disk.f_frsize), shutil.disk_usage(nearest).free
    if needed > free:
        raise StoreError(_too_small(folder, space, rows, needed, free))
    files = rows * row_files(space)
    if disk.f_files and files > disk.f_favail:  # f_files is 0 where a file system makes inodes as it needs them
        raise StoreError(_too_few_inodes(folder, rows, files, disk.f_favail))


def _settled_keys(folder: Path) -> set[str]:
    """List the keys that have a row or an error record."""
    if not is_folder(folder):
        return set()
    storage = open_storage(str(folder), create=False)
    if not isinstance(storage.objects, LocalStore) or load_layout(storage) is None:
        return set()
    reader = reader_on(storage)
    index = reader.index()
    settled = reader.committed_among(len(index))
    settled[[record.row for record in reader.quarantined() if record.row < len(index)]] = True
    return set(index["key"][settled])


def _too_few_inodes(folder: Path, rows: int, files: int, free: int) -> str:
    return (
        f"the disk of {folder} has too few inodes: {rows:,} rows are {files:,} files, {free:,} more can be made there "
        f"(df -i shows them); name another place with --store, or take --limit {rows * free // files}"
    )


def _too_small(folder: Path, space: EmbeddingSpace, rows: int, needed: int, free: int) -> str:
    fits = int(rows * free / needed)
    smaller = "fewer pools"
    if space.token_grid:
        smaller = "int8 tokens (--token-dtype int8), a coarser grid (--tokens 4x6x6) or none (--tokens none)"
    return (
        f"the disk of {folder} is too small: {rows:,} rows need {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free; "
        f"store {smaller}, name another place with --store, or take --limit {fits}"
    )
