"""The stored volumes of a case, read from the bucket again: pictures need pixels, which a store does not keep."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from embeddings_store.schema import Eye, ParticipantId, VolumeId, VolumeRef
from extract.bucket.source import Source
from extract.dicom.reader import read_dicom
from extract.volume import Volume

FRAMES_SHOWN = 24


@dataclass(frozen=True)
class FetchedScan:
    """A volume with some frames decoded, and the whole file for those who must name it as their source."""

    volume: Volume
    data: bytes


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


def fetch_scan(source: Source, ref: VolumeRef, *, frames: int = FRAMES_SHOWN) -> FetchedScan:
    """Fetch one volume and decode frames spread evenly over it. Raises: BucketError, FetchError, DicomError."""
    fetched = source.fetch(ref)
    return FetchedScan(read_dicom(fetched.data, ref=ref, frames=spread_evenly(frames)), fetched.data)


def spread_evenly(wanted: int) -> Callable[[int], Int64[np.ndarray, " k"]]:
    """Choose at most that many frames: the middles of equal parts, so that the ends are left out alike."""

    def choose(count: int) -> Int64[np.ndarray, " k"]:
        shown = min(wanted, count)
        return np.asarray(((np.arange(shown) + 0.5) * count / shown).astype(np.int64))

    return choose
