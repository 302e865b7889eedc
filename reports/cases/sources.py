"""The stored volumes of a case, read from the bucket again: pictures need pixels, which a store does not keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from jaxtyping import Int64, Shaped

from embeddings_store.schema import AI_READI_FOLDER, Eye, ParticipantId, VolumeId, VolumeRef
from extract.bucket.catalogue import list_volumes
from extract.bucket.members import fetch_members, require_present
from extract.bucket.source import Source
from extract.dicom.kind import ANY_CLASS
from extract.errors import IncompleteConcatenation
from extract.parts import PartFinder
from extract.scan import read_fetched
from extract.volume import Volume

FRAMES_SHOWN = 24

Frames: TypeAlias = Int64[np.ndarray, " k"]


@dataclass(frozen=True)
class FetchedScan:
    """A volume with some frames decoded, and its DICOM file, or first part, for those who must name it as their source.

    data: b"" where it is no DICOM file. numbers: of the frames that a page shows, from 0.
    """

    volume: Volume
    data: bytes
    numbers: Frames

    @property
    def shown(self) -> tuple[Shaped[np.ndarray, "n rows columns"], Frames]:
        """Give the frames that a page shows, and their numbers from 0."""
        return self._voxels(self.numbers), self.numbers

    @property
    def spread(self) -> Shaped[np.ndarray, "n rows columns"]:
        """Give frames that are spread evenly over the whole scan."""
        return self._voxels(spread_evenly(self.volume.frame_count))

    def _voxels(self, numbers: Frames) -> Shaped[np.ndarray, "n rows columns"]:
        return self.volume.voxels[np.searchsorted(self.volume.frame_numbers, numbers)]


def ref_of(line: pd.Series) -> VolumeRef:
    """Give the reference of one line of a snapshot's index."""
    return VolumeRef(
        key=str(line["key"]),
        size=int(line["size"]),
        etag=str(line["etag"]),
        volume=VolumeId(str(line["volume"])),
        participant=ParticipantId(str(line["participant"])),
        eye=Eye(str(line["eye"])),
        device=str(line["device"]),
        protocol=str(line["protocol"]),
    )


def fetch_scan(
    source: Source, ref: VolumeRef, *, shown: Frames | None = None, also: Callable[[int], Frames] | None = None
) -> FetchedScan:
    """Fetch one volume and decode the frames that a page shows, and those that an encoder needs beside them.

    shown: numbers, from 0, of the frames of the page; None: evenly spread ones, which are decoded in any case.
    also: from the number of stored frames to the numbers, from 0, of the others.
    Raises: BucketError, FetchError, DicomError.
    """

    def choose(count: int) -> Frames:
        others = [part for part in (shown, None if also is None else also(count)) if part is not None]
        return np.unique(np.concatenate([spread_evenly(count), *others])).astype(np.int64)

    volume, data = _read(source, ref, choose)
    return FetchedScan(volume, data, spread_evenly(volume.frame_count) if shown is None else shown)


def _read(source: Source, ref: VolumeRef, choose: Callable[[int], Frames]) -> tuple[Volume, bytes]:
    ref = _as_listed(source, ref)
    require_present(ref)
    if ref.members:
        return read_fetched(fetch_members(source, ref, choose), ref, choose, allowed=ANY_CLASS), b""
    fetched = source.fetch(ref)
    data = fetched.data if fetched.data[128:132] == b"DICM" else b""
    try:
        return read_fetched(fetched, ref, choose, allowed=ANY_CLASS), data
    except IncompleteConcatenation:
        others = PartFinder(source).gather(ref, fetched)
        return read_fetched(fetched, ref, choose, others=others, allowed=ANY_CLASS), data


def _as_listed(source: Source, ref: VolumeRef) -> VolumeRef:
    """Add what an index does not keep: the objects of a scan of several, and how they are read. Raises: BucketError."""
    if ref.members or ref.key.startswith(AI_READI_FOLDER):
        return ref
    if source not in _LISTED:
        _LISTED[source] = {one.key: one for one in list_volumes(source).refs}
    return _LISTED[source].get(ref.key, ref)


_LISTED: WeakKeyDictionary[Source, dict[str, VolumeRef]] = WeakKeyDictionary()
"""The scans of each source that lies outside AI-READI, listed once."""


def spread_evenly(count: int, wanted: int = FRAMES_SHOWN) -> Frames:
    """Choose at most that many frames: the middles of equal parts, so that the ends are left out alike."""
    shown = min(wanted, count)
    return np.asarray(((np.arange(shown) + 0.5) * count / shown).astype(np.int64))
