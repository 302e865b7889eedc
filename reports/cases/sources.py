"""The stored volumes of a case, read from the bucket again: pictures need pixels, which a store does not keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Int64, Shaped

from embeddings_store.schema import Eye, ParticipantId, VolumeId, VolumeRef
from extract.bucket.source import Source
from extract.dicom.kind import ANY_CLASS
from extract.dicom.reader import read_dicom
from extract.errors import IncompleteConcatenation
from extract.parts import PartFinder
from extract.volume import Volume

FRAMES_SHOWN = 24

Frames: TypeAlias = Int64[np.ndarray, " k"]


@dataclass(frozen=True)
class FetchedScan:
    """A volume with some frames decoded, and its file, or first part, for those who must name it as their source."""

    volume: Volume
    data: bytes

    @property
    def shown(self) -> tuple[Shaped[np.ndarray, "n rows columns"], Frames]:
        """Give the frames that a page shows, and their numbers from 0."""
        numbers = spread_evenly(self.volume.frame_count)
        return self.volume.voxels[np.searchsorted(self.volume.frame_numbers, numbers)], numbers


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


def fetch_scan(source: Source, ref: VolumeRef, *, also: Callable[[int], Frames] | None = None) -> FetchedScan:
    """Fetch one volume and decode the frames that a page shows, and those that an encoder needs beside them.

    also: from the number of stored frames to the numbers, from 0, of the others.
    Raises: BucketError, FetchError, DicomError.
    """

    def choose(count: int) -> Frames:
        shown = spread_evenly(count)
        return shown if also is None else np.union1d(shown, also(count)).astype(np.int64)

    fetched = source.fetch(ref)
    try:
        volume = read_dicom(fetched.data, ref=ref, frames=choose, allowed=ANY_CLASS)
    except IncompleteConcatenation:
        data = [fetched.data, *(other.data for other in PartFinder(source).gather(ref, fetched))]
        volume = read_dicom(data, ref=ref, frames=choose, allowed=ANY_CLASS)
    return FetchedScan(volume, fetched.data)


def spread_evenly(count: int, wanted: int = FRAMES_SHOWN) -> Frames:
    """Choose at most that many frames: the middles of equal parts, so that the ends are left out alike."""
    shown = min(wanted, count)
    return np.asarray(((np.arange(shown) + 0.5) * count / shown).astype(np.int64))
