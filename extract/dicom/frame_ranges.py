"""Which bytes of a file hold the frames that are needed, told by its beginning alone."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Int
from pydicom.uid import DeflatedExplicitVRLittleEndian

from embeddings_store.errors import VolumeError
from extract.dicom.concatenation import read_part
from extract.dicom.header import FileBytes, Header, quiet_pydicom, read_file_meta, read_header
from extract.dicom.items import DELIMITER, ITEM, likely_tables
from extract.dicom.layout import SampleLayout, check_size, read_layout
from extract.dicom.native import is_exact
from extract.dicom.reader import FrameChooser

Span: TypeAlias = tuple[int, int]
"""Bytes of a file from the first number up to the second."""

SOURCE: Final = "file"  # these errors are never shown
GROWTH: Final = 4
ITEM_HEAD_BYTES: Final = 8
TRAILER_BYTES: Final = 1 << 16  # what may follow the last frame and still is fetched with it


@dataclass(frozen=True)
class FrameRanges:
    """Where the needed frames lie: their numbers, and their bytes, ascending.

    items: of compressed frames, the spans that have to be made of whole items. tail: the last frame, needed or not, and
    what follows, which has to close the chain of items. fillers: heads of items that stand for the frames that are not
    needed, and where each belongs: a file with holes still is such a chain.
    """

    frames: Int[np.ndarray, "k"]
    spans: tuple[Span, ...]
    items: tuple[Span, ...] = ()
    tail: Span | None = None
    fillers: tuple[tuple[int, bytes], ...] = ()

    def hold(self, data: FileBytes) -> bool:
        """Tell whether the frames that came are where the offset table said, in a file with its fillers."""
        inside = all(_walk(data, span) == (span[1], False) for span in self.items)
        return inside and (self.tail is None or _walk(data, self.tail)[1])


def find_ranges(head: bytes, size: int, frames: FrameChooser) -> FrameRanges | int | None:
    """Tell where the needed frames lie; or how long a beginning it takes to tell; or None: read the file whole.

    head: the first bytes of a file of ``size`` bytes. None stands for whatever is not plainly sound, and for syntaxes
    without ranges: what is wrong with a file, if anything, is told by those who read all of it.
    """
    try:
        syntax = read_file_meta(head, SOURCE).syntax
    except VolumeError:
        return None
    if syntax == DeflatedExplicitVRLittleEndian:
        return None
    try:
        header = read_header(head, SOURCE, size=size)
    except VolumeError:  # broken, or only longer than what is there
        return GROWTH * len(head)
    try:
        with quiet_pydicom():
            layout = read_layout(header.elements, SOURCE, header.plain_bytes)
            if read_part(header.elements) is not None:  # which frames are needed the whole volume tells
                return None
        return _among_items(header, layout, head, frames) if header.encapsulated else _plain(header, layout, frames)
    except VolumeError:
        return None


def merge_spans(spans: Iterable[Span], gap_bytes: int) -> list[Span]:
    """Join ascending spans that have at most so many bytes between them."""
    merged: list[Span] = []
    for start, stop in spans:
        if merged and start - merged[-1][1] <= gap_bytes:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _plain(header: Header, layout: SampleLayout, frames: FrameChooser) -> FrameRanges | None:
    """Compute the places of uncompressed frames; of 8-bit samples in words, in whole words."""
    first, stop = header.pixel_span
    if not is_exact(layout, stop - first):  # more frames, or padding: their bytes tell
        return None
    count = layout.frames
    numbers, word = np.asarray(frames(count)), 2 if header.byte_swapped else 1
    offsets = ((int(n) * layout.frame_bytes, (int(n) + 1) * layout.frame_bytes) for n in numbers)
    spans = ((first + a - a % word, min(first + b + b % word, stop)) for a, b in offsets)
    return FrameRanges(numbers, tuple(spans))


def _among_items(header: Header, layout: SampleLayout, head: bytes, frames: FrameChooser) -> FrameRanges | int | None:
    """Look the places of compressed frames up in the offset table."""
    start, stop = header.pixel_span
    value = header.pixel_data
    if len(value) < ITEM_HEAD_BYTES:
        return len(head) + ITEM_HEAD_BYTES
    group, element, length = struct.unpack_from("<HHL", value)
    first: int = start + ITEM_HEAD_BYTES + length
    if group << 16 | element != ITEM or first > stop:
        return None
    if first > len(head):
        return first
    tables = likely_tables(header, value[ITEM_HEAD_BYTES : ITEM_HEAD_BYTES + length], layout.frames)
    if not tables or len(tables[0]) != layout.frames:  # more entries than frames: a fragment each, or a wrong count
        return None
    return _at_offsets([first + offset for offset in tables[0]], stop, layout, frames)


def _at_offsets(starts: list[int], stop: int, layout: SampleLayout, frames: FrameChooser) -> FrameRanges | None:
    check_size(layout, len(starts), SOURCE)
    all_but_last = list(pairwise(starts))
    tail = (starts[-1], stop)
    longest = max(b - a for a, b in all_but_last)
    if not ITEM_HEAD_BYTES < stop - starts[-1] <= 2 * longest + TRAILER_BYTES:
        return None
    numbers = np.asarray(frames(len(starts)))
    needed = set(numbers.tolist())
    items = tuple(span for number, span in enumerate(all_but_last) if number in needed)
    fillers = tuple(_filler(span) for number, span in enumerate(all_but_last) if number not in needed)
    return FrameRanges(numbers, (*items, tail), items, tail, fillers)


def _filler(span: Span) -> tuple[int, bytes]:
    start, stop = span
    return start, struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, max(0, stop - start - ITEM_HEAD_BYTES))


def _walk(data: FileBytes, span: Span) -> tuple[int, bool]:
    """Go from item to item; tell where that ends, and whether at the delimiter, after one item or more."""
    position, stop = span
    while position + ITEM_HEAD_BYTES <= stop:
        group, element, length = struct.unpack_from("<HHL", data, position)
        tag = group << 16 | element
        if tag != ITEM:
            return position, tag == DELIMITER and position > span[0]
        position += ITEM_HEAD_BYTES + length
    return position, False
