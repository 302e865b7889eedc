"""Encapsulated pixel data: which items make which frame (DICOM PS3.5, A.4)."""

import struct
from itertools import pairwise
from typing import TypeAlias

from pydicom.uid import RLELossless

from extract.dicom.header import Header
from extract.errors import ShortPixelData, UndecodablePixels

Fragment: TypeAlias = tuple[int, memoryview]
"""Where an item starts, in bytes from the first one after the Basic Offset Table, and its value."""

ITEM, DELIMITER = 0xFFFEE000, 0xFFFEE0DD
END_OF_IMAGE = b"\xff\xd9"  # closes a JPEG, JPEG-LS and JPEG 2000 code stream


def find_frames(header: Header, declared: int, source: str) -> list[list[memoryview]]:
    """Group the items into frames, by offset table where a sound one exists; may give more than were declared.

    Raises: ShortPixelData when the items break off or make fewer frames than declared; UndecodablePixels.
    """
    items = _read_items(header.pixel_data, source)
    fragments = [(start - items[1][0], value) for start, value in items[1:]] if len(items) > 1 else []
    starts = [start for start, _ in fragments]
    for table in likely_tables(header, items[0][1], declared):
        if set(table) <= set(starts):
            return _split_at(fragments, table)
    frames = _split_without_table(fragments, declared, one_item_a_frame=header.syntax == RLELossless)
    if len(frames) < declared:
        raise ShortPixelData(f"{source}: {declared} frames declared, encapsulated items for {len(frames)} found")
    return frames


def _read_items(value: memoryview, source: str) -> list[Fragment]:
    """List all items, the Basic Offset Table first; the sequence delimiter must close them."""
    items: list[Fragment] = []
    position = 0
    while position + 8 <= len(value):
        group, element, length = struct.unpack_from("<HHL", value, position)
        tag = group << 16 | element
        if tag == DELIMITER and items:
            return items
        if tag != ITEM:
            raise UndecodablePixels(f"{source}: expected an item in the encapsulated PixelData, got ({tag:08X})")
        if position + 8 + length > len(value):
            break
        items.append((position, value[position + 8 : position + 8 + length]))
        position += 8 + length
    raise ShortPixelData(f"{source}: the encapsulated PixelData breaks off after {max(0, len(items) - 1)} whole items")


def likely_tables(header: Header, basic: memoryview, declared: int) -> list[list[int]]:
    """Give the offset tables that rise and cover the declared frames; to be believed, one must name items only.

    Offsets are in bytes from the first item after the Basic Offset Table, whose value is ``basic``.
    """
    return [table for table in (_extended_offsets(header), _basic_offsets(basic)) if _is_likely(table, declared)]


def _basic_offsets(value: memoryview) -> list[int]:
    count = len(value) // 4
    return list(struct.unpack_from(f"<{count}L", value))


def _extended_offsets(header: Header) -> list[int]:
    value = header.elements.get("ExtendedOffsetTable")
    if not isinstance(value, bytes):
        return []
    return list(struct.unpack_from(f"<{len(value) // 8}Q", value))


def _is_likely(table: list[int], declared: int) -> bool:
    rising = all(a < b for a, b in pairwise(table))
    return len(table) >= declared and table[0] == 0 and rising


def _split_at(fragments: list[Fragment], table: list[int]) -> list[list[memoryview]]:
    first = set(table)
    frames: list[list[memoryview]] = []
    for start, value in fragments:
        if start in first:
            frames.append([])
        frames[-1].append(value)
    return frames


def _split_without_table(fragments: list[Fragment], declared: int, *, one_item_a_frame: bool) -> list[list[memoryview]]:
    """One item a frame where the numbers agree (always for RLE), else a frame ends where a code stream ends."""
    values = [value for _, value in fragments]
    if one_item_a_frame or len(values) <= declared:
        return [[value] for value in values]
    frames: list[list[memoryview]] = [[]]
    for value in values:
        frames[-1].append(value)
        if END_OF_IMAGE in bytes(value[-10:]):
            frames.append([])
    return [frame for frame in frames if frame]
