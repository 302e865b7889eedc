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
from extract.errors import RefusedScan
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
    gaps = missing_numbers([info.key.rpartition("/")[2] for info in ref.members])
    notes = volume.notes & ~Note.SLICES_MISSING | (Note.SLICES_MISSING if gaps else Note.NONE)
    notes |= Note.SLICES_UNSEEN if fetched.unseen else Note.NONE
    return replace(volume, frame_numbers=np.array(fetched.frames), frame_count=fetched.count, notes=notes)


def _read_stack(objects: Sequence[tuple[int, ObjectInfo, Fetched]], ref: VolumeRef) -> Volume:
    files = [ScanFile(f"{place:08d}/{info.key.rpartition('/')[2]}", got.data) for place, info, got in objects]
    return read_scan(files, ref=ref, options=read_options(ref.reading))


def read_options(reading: Reading) -> ReadOptions:
    """Give what a layout says of its files in the words of the readers."""
    return ReadOptions(reading.array, reading.axes, "luma" if reading.to_grey else "refuse")
