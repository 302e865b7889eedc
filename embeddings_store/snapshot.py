"""Snapshots: what training reads. Immutable, in large chunks, and always said where the numbers came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from embeddings_store.encoder_source import NOT_RECORDED, EncoderSource, read_encoder_source
from embeddings_store.encoding_cost import EncodingCost, read_encoding_cost
from embeddings_store.errors import StoreError
from embeddings_store.frame import Labels, make_frame
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

Origin = Literal["snapshot", "new snapshot", "live rows"]


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """All committed rows at one moment.

    ``index`` has one line a row of ``pooled``: INDEX_COLUMNS, ``site``, and FACT_COLUMNS (the file's own eye code as
    ``eye_in_file``: 0 unknown, 1 left, 2 right); and, where any row has them, the texts of Kind. ``number`` is None for
    live rows; ``note`` says why in words. ``encoder``: where the vectors come from, None where the store does not say.
    ``thumbnails``: one per row of ``pooled``, None where no row has any. ``md5``: of each volume's object, in hex
    digits; those that are not known, and all of an older snapshot, are not in it. ``cost``: what it took to encode the
    store's volumes, None where no run recorded it.

    >>> import octprobe
    >>> found = octprobe.read_snapshot("store")
    >>> right = found.where((found.index["eye"] == "R").to_numpy())
    >>> found.pooled.shape, right.pooled.shape
    ((96, 1, 3, 192), (48, 1, 3, 192))
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
    cost: EncodingCost | None = None

    def __repr__(self) -> str:
        """Say in four lines how much there is, of which space, in which form, and by which encoder."""
        rows, space = len(self.index), self.space
        preset = space.preset.get("name", "of its own")
        encoder = self.encoder.describe() if self.encoder else NOT_RECORDED
        return (
            f"Snapshot of {rows:,} volumes of {self.index['participant'].nunique():,} participants: {self.note}\n"
            f"space {space.id}: {space.family}, width {space.width}, {space.precision}, preset {preset}\n"
            f"pooled {self.pooled.dtype} {list(self.pooled.shape)}: layers {', '.join(self.layers)}; "
            f"pools {', '.join(self.pools)}\n"
            f"encoder: {encoder}"
        )

    @property
    def space_id(self) -> str:
        """Short name of the space."""
        return self.space.id

    def where(self, here: Bool[np.ndarray, " n"]) -> "Snapshot":
        """Keep the rows of a mask."""
        thumbnails = None if self.thumbnails is None else self.thumbnails.take(here)
        index = self.index[here].reset_index(drop=True)
        return replace(self, pooled=self.pooled[here], index=index, thumbnails=thumbnails)

    def frame(self, layer: str | None = None, pool: str | None = None, *, labels: Labels | None = None) -> pd.DataFrame:
        """Return one layer and pool as a table, one line a volume: ids, labels, then features such as last_mean_000.

        layer, pool: None: the last layer, and the mean where it is stored. labels: a table of text (participants.tsv)
        or a DataFrame, joined by its column volume, or participant_id (and eye, where it has one); a volume without
        labels has NaN. The features are raw: a head of classify, fitted on standardised ones, refuses them, and
        load_run(folder).predict takes the snapshot itself.
        Raises UsageError for a layer or pool that is not stored, or labels that do not belong to the store.
        """
        return make_frame(self, layer, pool, labels)


def write_snapshot(url: str, *, endpoint_url: str | None = None, progress: Progress = no_progress) -> int:
    """Copy all committed rows, checked against their commits, into a new snapshot; give its number.

    Raises StoreError when a row is damaged or the store cannot be written; LATEST then stays as it was.
    """
    reader = open_reader(url, endpoint_url=endpoint_url)
    return put_snapshot(reader.storage, _gather(reader, progress))


def read_snapshot(url: str, number: int | None = None, *, endpoint_url: str | None = None) -> Snapshot:
    """Read one snapshot, the newest by default, or the live rows of a store without any; nothing is written.

    ``note`` says which, and how many rows are newer than the snapshot. Raises StoreError when that number is not there.

    >>> import octprobe
    >>> found = octprobe.read_snapshot("store")
    >>> table = found.frame(labels="participants.tsv")
    >>> list(table.columns[:6]), table["study_group"].nunique(), table.columns[-1]
    (['volume', 'participant', 'eye', 'device', 'protocol', 'site'], 4, 'last_mean_191')
    """
    reader = open_reader(url, endpoint_url=endpoint_url)
    chosen = latest_number(reader.storage) if number is None else number
    if chosen is None:
        return _snapshot(reader, _gather(reader), None, "live rows", "live rows: the store has no snapshot yet")
    files, note = get_snapshot(reader.storage, chosen), f"snapshot {chosen}"
    if number is None and (newer := len(_committed_rows(reader)) - len(files.table)) > 0:
        note += f"; {newer:,} rows are newer: `extract-embeddings snapshot` makes one with them"
    return _snapshot(reader, files, chosen, "snapshot", note)


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
        files.pooled, index, space, number, files.layers, files.pools, origin, note, encoder, files.thumbnails, md5,
        read_encoding_cost(reader.storage),
    )  # fmt: skip
