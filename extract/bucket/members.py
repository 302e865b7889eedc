"""Scans of several objects: only those are fetched whose slices are looked at."""

from dataclasses import dataclass, replace
from hashlib import md5

import numpy as np

from embeddings_store.schema import ABSENT_SIZE, ObjectInfo, VolumeRef
from extract.bucket.source import Fetched, RangeRefused, RangeSource, Source
from extract.dicom.reader import FrameChooser
from extract.errors import FetchError
from extract.layouts.contract import PICTURES
from extract.readers.picture_kind import head_bytes, kind_of


@dataclass(frozen=True)
class FetchedMembers:
    """Objects of one scan, each with its place among all of them. size, etag: of the scan, as in its reference.

    frames: each object is one frame, and only those of these numbers came; None: the objects are one file in parts.
    md5: over the md5 of each; zeros where not all came. odd: slices that were not chosen, whole, as they are of another
    size, depth or colour than those that were. unseen: how many of the others do not tell by their first bytes.
    """

    objects: tuple[tuple[int, ObjectInfo, Fetched], ...]
    size: int
    etag: str
    md5: bytes
    frames: tuple[int, ...] | None
    count: int
    odd: tuple[tuple[int, ObjectInfo, Fetched], ...] = ()
    unseen: int = 0


def fetch_members(source: Source, ref: VolumeRef, frames: FrameChooser | None, *, look: bool = False) -> FetchedMembers:
    """Fetch the objects of a scan, or of a stack of pictures only the slices that are chosen. Raises: FetchError.

    look: at the first bytes of the other slices, too: a fundus picture among them would shift all that follow.
    """
    count = len(ref.members)
    stacked = all(info.key.lower().endswith(PICTURES) for info in ref.members)
    numbers = tuple(range(count)) if frames is None or not stacked else tuple(np.asarray(frames(count)).tolist())
    found = tuple((number, ref.members[number], source.fetch(ref.members[number])) for number in numbers)
    digest = md5(usedforsecurity=False)
    for _, _, fetched in found:
        digest.update(fetched.md5)
    whole = digest.digest() if len(found) == count else bytes(16)
    members = FetchedMembers(found, ref.size, ref.etag, whole, numbers if stacked else None, count)
    return _look_at_others(source, ref, members) if look and 0 < len(found) < count else members


def _look_at_others(source: Source, ref: VolumeRef, members: FetchedMembers) -> FetchedMembers:
    """Fetch whole what is of another kind than the first slice that was chosen: the reader judges it."""
    usual = kind_of(members.objects[0][2].data)
    odd, unseen = list[tuple[int, ObjectInfo, Fetched]](), 0
    chosen = {number for number, _, _ in members.objects}
    for number, info in enumerate(ref.members):
        if number not in chosen:
            kind = kind_of(_beginning(source, info))
            unseen += kind is None
            if kind is not None and kind != usual:
                odd.append((number, info, source.fetch(info)))
    return replace(members, odd=tuple(odd), unseen=unseen)


def _beginning(source: Source, info: ObjectInfo) -> bytes:
    if isinstance(source, RangeSource):
        try:
            return source.fetch_range(info, 0, min(head_bytes(info.key), info.size)).data
        except RangeRefused:
            pass
    return b""


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
