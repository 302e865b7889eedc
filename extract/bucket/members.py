"""Scans of several objects: only those are fetched whose slices are looked at."""

from dataclasses import dataclass
from hashlib import md5

import numpy as np

from embeddings_store.schema import ABSENT_SIZE, ObjectInfo, VolumeRef
from extract.bucket.source import Fetched, Source
from extract.dicom.reader import FrameChooser
from extract.errors import FetchError
from extract.layouts.contract import PICTURES


@dataclass(frozen=True)
class FetchedMembers:
    """Objects of one scan, each with its place among all of them. size, etag: of the scan, as in its reference.

    frames: each object is one frame, and only those of these numbers came; None: the objects are one file in parts.
    md5: over the md5 of each; zeros where not all came.
    """

    objects: tuple[tuple[int, ObjectInfo, Fetched], ...]
    size: int
    etag: str
    md5: bytes
    frames: tuple[int, ...] | None
    count: int


def fetch_members(source: Source, ref: VolumeRef, frames: FrameChooser | None) -> FetchedMembers:
    """Fetch the objects of a scan, or of a stack of pictures only the slices that are chosen. Raises: FetchError."""
    count = len(ref.members)
    stacked = all(info.key.lower().endswith(PICTURES) for info in ref.members)
    numbers = tuple(range(count)) if frames is None or not stacked else tuple(np.asarray(frames(count)).tolist())
    found = tuple((number, ref.members[number], source.fetch(ref.members[number])) for number in numbers)
    digest = md5(usedforsecurity=False)
    for _, _, fetched in found:
        digest.update(fetched.md5)
    whole = digest.digest() if len(found) == count else bytes(16)
    return FetchedMembers(found, ref.size, ref.etag, whole, numbers if stacked else None, count)


def fetch_scan(source: Source, ref: VolumeRef, frames: FrameChooser | None) -> Fetched | FetchedMembers:
    """Fetch the one object of a scan, or its members. Raises: FetchError."""
    require_present(ref)
    return fetch_members(source, ref, frames) if ref.members else source.fetch(ref)


def require_present(ref: VolumeRef) -> None:
    """Refuse a scan of which the bucket has no object. Raises: FetchError."""
    if ref.size == ABSENT_SIZE:
        raise FetchError(
            f"{ref.volume}: no object of the bucket is what the table names for this scan; correct its line, or put "
            "the files there"
        )
