"""From what was fetched of a scan to its volume, whatever kind of files it is made of."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from embeddings_store.schema import AI_READI_FOLDER, Note, ObjectInfo, Reading, VolumeRef
from extract.bucket.members import FetchedMembers
from extract.bucket.source import Fetched, PartlyFetched
from extract.dicom.frame_decoder import FrameDecoder, decode_here
from extract.dicom.reader import FrameChooser, read_dicom
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import ScanFile
from extract.readers.natural import missing_numbers
from extract.readers.open import read_scan
from extract.readers.read_options import ReadOptions
from extract.volume import Volume

AnyFetched: TypeAlias = Fetched | PartlyFetched | FetchedMembers


def read_fetched(
    fetched: AnyFetched,
    ref: VolumeRef,
    frames: FrameChooser | None,
    *,
    others: Sequence[Fetched] = (),
    decode: FrameDecoder = decode_here,
    allowed: frozenset[str] = frozenset(),
) -> Volume:
    """Read a volume; others: further parts of a concatenation. Raises: a ScanError."""
    if isinstance(fetched, FetchedMembers):
        return _read_members(fetched, ref, frames, decode, allowed)
    data = [fetched.data, *(other.data for other in others)]
    if others or isinstance(fetched, PartlyFetched) or ref.key.startswith(AI_READI_FOLDER):
        return read_dicom(data, ref=ref, frames=frames, decode=decode, allowed=allowed)
    files = [ScanFile(ref.key, fetched.data)]
    return _read_files(files, ref, frames, decode, allowed)


def _read_files(
    files: Sequence[ScanFile],
    ref: VolumeRef,
    frames: FrameChooser | None,
    decode: FrameDecoder,
    allowed: frozenset[str],
) -> Volume:
    number = None if ref.reading.volume is None else ref.reading.volume - 1
    options = read_options(ref.reading)
    return read_scan(files, ref=ref, frames=frames, options=options, decode=decode, allowed=allowed, number=number)


def _read_members(
    fetched: FetchedMembers,
    ref: VolumeRef,
    frames: FrameChooser | None,
    decode: FrameDecoder,
    allowed: frozenset[str],
) -> Volume:
    """Read files; pictures keep the order of the layout, whatever the order of their names would be."""
    if fetched.frames is None:
        files = [ScanFile(info.key, got.data) for _, info, got in fetched.objects]
        return _read_files(files, ref, frames, decode, allowed)
    if fetched.odd:  # refused as a whole read would refuse it, else only looked at
        _read_stack((*fetched.objects, *fetched.odd), ref)
    volume = _read_stack(fetched.objects, ref)
    count = len(fetched.objects)
    if volume.frame_count != count:
        raise RefusedScan(f"{ref.volume}: expected one frame a picture, got {volume.frame_count} in {count} files")
    left_out = fetched.count < len(ref.members)
    gaps = left_out or missing_numbers([info.key.rpartition("/")[2] for info in ref.members])
    notes = volume.notes & ~Note.SLICES_MISSING | (Note.SLICES_MISSING if gaps else Note.NONE)
    notes |= Note.SLICES_UNSEEN if fetched.unseen else Note.NONE
    return replace(volume, frame_numbers=np.array(fetched.frames), frame_count=fetched.count, notes=notes)


def _read_stack(objects: Sequence[tuple[int, ObjectInfo, Fetched]], ref: VolumeRef) -> Volume:
    files = [ScanFile(f"{place:08d}/{info.key.rpartition('/')[2]}", got.data) for place, info, got in objects]
    return read_scan(files, ref=ref, options=read_options(ref.reading))


def read_options(reading: Reading) -> ReadOptions:
    """Give what a layout says of its files in the words of the readers."""
    return ReadOptions(reading.array, reading.axes, "luma" if reading.to_grey else "refuse")


def can_leave_out(fetched: FetchedMembers, ref: VolumeRef) -> bool:
    """Return whether pictures of a stack that do not open may be left out, as is known of a public dataset."""
    return ref.reading.leave_out and fetched.frames is not None


def without_unreadable(
    fetched: FetchedMembers, ref: VolumeRef
) -> tuple[FetchedMembers, tuple[tuple[str, DamagedScan], ...]]:
    """Try each picture of a whole stack alone, and leave out those that do not open.

    Gives what is left, and the others by key. Raises: ScanError where it is none of them, or all, or one is refused.
    """
    kept, unreadable = [], []
    for place, info, got in fetched.objects:
        one = FetchedMembers(((place, info, got),), info.size, info.etag, got.md5, (0,), 1)
        try:
            read_fetched(one, replace(ref, members=(info,)), None)
            kept.append((place, info, got))
        except DamagedScan as error:
            unreadable.append((info.key, error))
    again = replace(fetched, objects=tuple(kept), frames=tuple(range(len(kept))), count=len(kept))
    if not kept or not unreadable:
        read_fetched(fetched, ref, None)
    return again, tuple(unreadable)
