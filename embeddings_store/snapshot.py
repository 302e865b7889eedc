"""Snapshots: what training reads. Immutable, in large chunks, and always said where the numbers came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from embeddings_store.encoder_source import EncoderSource, read_encoder_source
from embeddings_store.errors import StoreError
from embeddings_store.index import read_settled, settled_segments
from embeddings_store.kinds import read_kinds
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.snapshot_files import SnapshotFiles, latest_number, put_snapshot
from embeddings_store.snapshot_reading import get_snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.terminal.progress import Progress, no_progress
from embeddings_store.thumbnails import Thumbnails, join_thumbnails

BLOCK_ROWS = 1024
MD5 = "md5"
FEATURES, RAW, LAYER, POOL, SPACE = "features", "raw", "layer", "pool", "space"
"""What the attrs of a snapshot's frame say of its numbers."""

Origin = Literal["snapshot", "new snapshot", "live rows"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All committed rows at one moment.

    ``index`` has one line a row of ``pooled``: INDEX_COLUMNS, ``site``, and FACT_COLUMNS (the file's own eye code as
    ``eye_in_file``: 0 unknown, 1 left, 2 right); and, where any row has them, the texts of Kind. ``number`` is None for
    live rows; ``note`` says why in words. ``encoder``: where the vectors come from, None where the store does not say.
    ``thumbnails``: one per row of ``pooled``, None where no row has any. ``md5``: of each volume's object, in hex
    digits; those that are not known, and all of an older snapshot, are not in it.
    """

    pooled: Float32[np.ndarray, "n L P C"]
    index: pd.DataFrame
    space: EmbeddingSpace
    number: int | None
    layers: tuple[str, ...]
    pools: tuple[str, ...]
    origin: Origin
    note: str
    encoder: EncoderSource | None = None
    thumbnails: Thumbnails | None = None
    md5: Mapping[str, str] = field(default_factory=dict)

    @property
    def space_id(self) -> str:
        """Short name of the space."""
        return self.space.id

    def where(self, here: Bool[np.ndarray, " n"]) -> "Snapshot":
        """Keep the rows of a mask."""
        thumbnails = None if self.thumbnails is None else self.thumbnails.take(here)
        index = self.index[here].reset_index(drop=True)
        return replace(self, pooled=self.pooled[here], index=index, thumbnails=thumbnails)

    def frame(self, layer: str, pool: str) -> pd.DataFrame:
        """Return one layer and pool as a table: a row a volume, a column a channel, ``index`` as its index.

        Its attrs say that the numbers are raw, which layer, pool and space they are of: a head of classify, which was
        fitted on standardised ones, refuses them, and Run.predict takes them.
        Raises StoreError for a layer or pool that is not stored.
        """
        for kind, name, known in (("layer", layer, self.layers), ("pool", pool, self.pools)):
            if name not in known:
                raise StoreError(f"{kind} {name!r}: expected one of {', '.join(known)}")
        vectors = self.pooled[:, self.layers.index(layer), self.pools.index(pool)]
        table = pd.DataFrame(vectors, index=pd.MultiIndex.from_frame(self.index))
        table.attrs |= {FEATURES: RAW, LAYER: layer, POOL: pool, SPACE: self.space.to_dict()}
        return table


def write_snapshot(url: str, *, endpoint_url: str | None = None, progress: Progress = no_progress) -> int:
    """Copy all committed rows, checked against their commits, into a new snapshot; give its number.

    Raises StoreError when a row is damaged or the store cannot be written; LATEST then stays as it was.
    """
    reader = open_reader(url, endpoint_url=endpoint_url)
    return put_snapshot(reader.storage, _gather(reader, progress))


def read_snapshot(url: str, number: int | None = None, *, endpoint_url: str | None = None) -> Snapshot:
    """Read one snapshot, the newest by default. Raises StoreError when there is none."""
    reader = open_reader(url, endpoint_url=endpoint_url)
    chosen = latest_number(reader.storage) if number is None else number
    if chosen is None:
        raise StoreError(f"{reader.storage.url} has no snapshot; make one with `extract-embeddings snapshot`")
    return _snapshot(reader, get_snapshot(reader.storage, chosen), chosen, "snapshot", f"snapshot {chosen}")


def read_features_source(url: str, *, endpoint_url: str | None = None) -> Snapshot:
    """Return all committed rows in the cheapest way, and say which (``origin``, ``note``).

    The newest snapshot when it holds exactly the committed rows; else a new one; live rows where none can be written.
    """
    reader = open_reader(url, endpoint_url=endpoint_url)
    newest = latest_number(reader.storage)
    if newest is not None:
        files = get_snapshot(reader.storage, newest)
        if files.attributes["fingerprint"] == _fingerprint(_committed_rows(reader), settled_segments(reader.storage)):
            return _snapshot(reader, files, newest, "snapshot", f"snapshot {newest}")
    files = _gather(reader)
    try:
        made = put_snapshot(reader.storage, files)
    except StoreError as error:
        return _snapshot(reader, files, None, "live rows", f"live rows, because no snapshot could be made: {error}")
    return _snapshot(reader, files, made, "new snapshot", f"snapshot {made}, made now because rows were newer")


def _gather(reader: StoreReader, progress: Progress = no_progress) -> SnapshotFiles:
    """Read every committed row with its line of the index and its facts."""
    segments, index = read_settled(reader.storage)
    rows = [row for row in _committed_rows(reader) if row < len(index)]
    pooled = np.empty((len(rows), *reader.arrays.pooled.row_shape), dtype=np.float32)
    facts, pictures, md5 = [reader.facts([])], list[Thumbnails](), list[str]()
    for first in range(0, len(rows), BLOCK_ROWS):
        block = rows[first : first + BLOCK_ROWS]
        pooled[first : first + len(block)], found, seen, commits = reader.whole_rows(block)
        facts.append(found)
        pictures.append(seen)
        md5 += [commit.source_md5.hex() if any(commit.source_md5) else "" for commit in commits]
        progress(first + len(block), len(rows))
    whole = pd.concat(facts).rename(columns={"eye": "eye_in_file"}).reset_index(drop=True)
    kinds = read_kinds(reader.storage, rows).reset_index(drop=True)
    digests = pd.Series(md5, dtype="str", name=MD5)
    table = pd.concat([index.iloc[rows].reset_index(drop=True), whole, kinds, digests], axis=1)
    attributes: dict[str, Any] = {
        "space": reader.space.to_dict(),
        "space_id": reader.space_id,
        "fingerprint": _fingerprint(rows, segments),
        "columns": list(table.columns),
    }
    return SnapshotFiles(pooled, table, reader.space.layers, reader.space.pools, attributes, join_thumbnails(pictures))


def _committed_rows(reader: StoreReader) -> list[int]:
    return sorted(reader.arrays.commit.written_rows(reader.storage))


def _fingerprint(rows: list[int], segments: list[str]) -> str:
    """Name a state of the store: which rows exist, and which index segments (a replaced object makes a new one)."""
    return sha256(f"{rows} {segments}".encode()).hexdigest()


def _snapshot(reader: StoreReader, files: SnapshotFiles, number: int | None, origin: Origin, note: str) -> Snapshot:
    space = EmbeddingSpace.from_dict(files.attributes["space"])
    encoder = read_encoder_source(reader.storage, space)
    index, md5 = files.table.drop(columns=MD5, errors="ignore"), dict[str, str]()
    if MD5 in files.table:
        md5 = {volume: told for volume, told in zip(index["volume"], files.table[MD5], strict=True) if told}
    return Snapshot(
        files.pooled, index, space, number, files.layers, files.pools, origin, note, encoder, files.thumbnails, md5
    )
